"""The open of a fill's bar, told with the fill, after it, or to a bot that has started again."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from hftcl.ledger.rows import FillOpen
from hftcl.trading.execute.fill_opens import FillOpens

BAR = datetime(2025, 6, 2, 14, tzinfo=UTC)


def bars(at: datetime = BAR, ticker: str = "AAPL") -> pl.DataFrame:
    return pl.DataFrame({"ts": [at], "ticker": [ticker], "open": [99.0]})


@pytest.mark.parametrize("late", [1, 59, 62, 300])
def test_a_fill_that_is_waited_for_gets_its_open_however_late_its_bar_is_told(late: int) -> None:
    opens = FillOpens()
    opens.expect({"a": ("AAPL", BAR), "b": ("AMD", BAR)})
    assert opens.note(bars(), BAR + timedelta(minutes=late)) == [FillOpen(fill_id="a", open=99.0)]
    assert opens.note(bars(), BAR + timedelta(minutes=late)) == [], "told once"


def test_bars_and_fills_of_more_than_an_hour_ago_leave_the_memory() -> None:
    opens = FillOpens()
    opens.expect({"a": ("AMD", BAR)})
    opens.note(bars(), BAR)
    opens.note(bars(BAR + timedelta(minutes=61), "TSLA"), BAR + timedelta(minutes=61))
    assert opens.note(bars(ticker="AMD"), BAR + timedelta(minutes=62)) == []
