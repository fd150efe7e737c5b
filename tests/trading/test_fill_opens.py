"""The open of a fill's bar, told with the fill, after it, or to a bot that has started again."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from hftcl.ledger.rows import FillOpen, FillRecord
from hftcl.trading.execute.fill_opens import FillOpens

BAR = datetime(2025, 6, 2, 14, tzinfo=UTC)


def bars(at: datetime = BAR, ticker: str = "AAPL") -> pl.DataFrame:
    return pl.DataFrame({"ts": [at], "ticker": [ticker], "open": [99.0]})


@pytest.mark.parametrize("late", [1, 59, 62, 300])
def test_a_fill_that_is_waited_for_gets_its_open_however_late_its_bar_is_told(late: int) -> None:
    opens = FillOpens()
    opens.expect({"a": ("AAPL", BAR), "b": ("AMD", BAR)})
    assert opens.note(bars()) == [FillOpen(fill_id="a", open=99.0)]
    opens.forget(BAR + timedelta(minutes=late))
    assert opens.note(bars()) == [], "told once"


def test_bars_and_fills_of_more_than_an_hour_ago_leave_the_memory() -> None:
    opens = FillOpens()
    opens.expect({"a": ("AMD", BAR)})
    opens.note(bars())
    opens.forget(BAR + timedelta(minutes=61))
    assert opens.note(bars(ticker="AMD")) == []
    assert opens.find([fill("b")]) == [], "its bar has left"


def test_a_start_brings_the_opens_of_all_fills_in_the_session_so_far_those_that_are_told_after_it_too() -> None:
    opens = FillOpens()
    opens.expect({"a": ("AAPL", BAR)})
    so_far = pl.concat([bars(), bars(BAR + timedelta(minutes=100))])
    assert opens.begin(so_far) == [FillOpen(fill_id="a", open=99.0)]
    assert opens.find([fill("b")]) == [FillOpen(fill_id="b", open=99.0)], "hours ago, and told only now"
    opens.forget(BAR + timedelta(minutes=101))
    recent = fill("c", BAR + timedelta(minutes=100))
    assert opens.find([fill("d"), recent]) == [FillOpen(fill_id="c", open=99.0)]


def fill(name: str, ts: datetime = BAR) -> FillRecord:
    return FillRecord(
        fill_id=name, client_order_id=name, book="production", ts=ts, ticker="AAPL", model_id=None, quantity=1.0,
        price=99.5, commission=0.0, reference_price=99.0, filled_at=ts,
    )  # fmt: skip
