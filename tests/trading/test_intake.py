"""What a vendor sends becomes bars of a minute, corrections of earlier ones, or a code; sessions and splits too."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from hftcl.market.bars import BAR_SCHEMA, MINUTE
from hftcl.market.hours import find_hours, find_next_hours
from hftcl.market.sessions import Calendar, HorizonError
from hftcl.market.sources import Split
from hftcl.strategy.risk import Code
from hftcl.trading.feeds import Delivery
from hftcl.trading.feeds.history import convert_to_todays_shares
from hftcl.trading.feeds.intake import Intake, RawBar
from hftcl.trading.feeds.replay import StoredFeed
from tests.trading.bot_stand import CALENDAR, DAY, bars_of, some_minutes

HOURS = find_hours(CALENDAR, DAY, extended_hours=False)
MINUTES = some_minutes(60, 12)
EMPTY = BAR_SCHEMA.to_frame()


def raw(ticker: str, minute: datetime, price: float = 100.0, volume: float = 500.0) -> RawBar:
    return ticker, minute, price, price * 1.001, price * 0.999, price, volume


def intake(so_far: pl.DataFrame = EMPTY) -> Intake:
    return Intake(HOURS, ("AAPL", "AMD"), so_far)


def deliver(taken: Intake, minute: datetime, *rows: RawBar, delayed: frozenset[str] = frozenset()) -> Delivery:
    return taken.deliver(rows, minute, minute + MINUTE + timedelta(seconds=3), delayed=delayed)


def test_a_good_bar_is_delivered_once_and_labelled_with_its_session() -> None:
    taken = intake()
    found = deliver(taken, MINUTES[0], raw("AAPL", MINUTES[0]), raw("MSFT", MINUTES[0]))
    assert found.bars.schema == BAR_SCHEMA
    assert found.bars.select("ticker", "minute", "session").rows() == [("AAPL", 60, DAY)]
    again = deliver(taken, MINUTES[1], raw("AAPL", MINUTES[0]), raw("AAPL", MINUTES[1]))
    assert again.bars["ts"].to_list() == [MINUTES[1]]
    assert again.corrected is not None
    assert again.corrected.is_empty()


@pytest.mark.parametrize(
    "stale", [raw("AAPL", MINUTES[0] - timedelta(days=1)), raw("AAPL", MINUTES[0] - timedelta(days=3))]
)
def test_the_bar_of_another_day_is_no_bar_of_this_minute(stale: RawBar) -> None:
    found = deliver(intake(), MINUTES[0], stale)
    assert found.bars.is_empty()
    assert found.corrected is not None
    assert found.corrected.is_empty()


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (("AAPL", MINUTES[1], 1000.0, 1001.0, 999.0, 1000.0, 5.0), "bad_tick"),
        (("AAPL", MINUTES[1], float("nan"), 1.0, 1.0, 1.0, 5.0), "not_finite"),
        (("AAPL", MINUTES[1], None, 100.0, 100.0, 100.0, 5.0), "not_finite"),
        (("AAPL", MINUTES[1], 100.0, 99.0, 101.0, 100.0, 5.0), "high_below_low"),
        (("AAPL", MINUTES[1], -1.0, 100.0, -1.0, 100.0, 5.0), "not_positive"),
        (("AAPL", MINUTES[1], 100.0, 100.0, 100.0, 100.0, 0.0), "zero_volume"),
    ],
)
def test_a_faulty_bar_is_dropped_with_a_finding_and_a_code(row: RawBar, reason: str) -> None:
    taken = intake()
    deliver(taken, MINUTES[0], raw("AAPL", MINUTES[0]))
    found = deliver(taken, MINUTES[1], row, raw("AMD", MINUTES[1]))
    assert found.bars["ticker"].to_list() == ["AMD"]
    assert found.codes == {"AAPL": Code.HOLD_BAD_PRICE}
    assert [finding.reason for finding in found.findings] == [reason]


def test_a_revised_bar_and_a_late_one_are_corrections_and_each_is_told_once() -> None:
    taken = intake()
    deliver(taken, MINUTES[0], raw("AAPL", MINUTES[0]))
    revised, late = raw("AAPL", MINUTES[0], 101.0), raw("AMD", MINUTES[0])
    found = deliver(taken, MINUTES[1], revised, late, raw("AAPL", MINUTES[1]))
    assert found.corrected is not None
    assert found.corrected.select("ticker", "close").rows() == [("AAPL", 101.0), ("AMD", 100.0)]
    again = deliver(taken, MINUTES[2], revised, late)
    assert again.corrected is not None
    assert again.corrected.is_empty()


def test_a_bar_that_comes_ahead_of_its_minute_waits_for_it() -> None:
    taken = intake()
    first = taken.deliver([raw("AAPL", MINUTES[1])], MINUTES[0], MINUTES[1] + MINUTE)
    assert first.bars.is_empty()
    assert deliver(taken, MINUTES[1]).bars["ts"].to_list() == [MINUTES[1]]


def test_what_was_known_in_the_morning_is_no_news() -> None:
    known = bars_of(DAY).filter((pl.col("ts") == MINUTES[0]) & (pl.col("ticker") == "AAPL"))
    row = known.select("ticker", "ts", "open", "high", "low", "close", "volume").row(0)
    found = deliver(intake(known), MINUTES[1], row)
    assert found.corrected is not None
    assert found.corrected.is_empty()


@pytest.mark.hazard(30)
def test_a_delayed_ticker_has_its_code_whatever_it_brings() -> None:
    found = deliver(intake(), MINUTES[0], raw("AAPL", MINUTES[0]), delayed=frozenset({"AAPL", "MSFT"}))
    assert found.codes == {"AAPL": Code.HOLD_DELAYED}


# ---- the calendar ----------------------------------------------------------------------------------------------------


def test_the_session_that_trades_now_or_the_next_one_is_found() -> None:
    noon = datetime(2025, 7, 3, 16, 0, tzinfo=UTC)
    assert find_next_hours(CALENDAR, noon, extended_hours=False).session == date(2025, 7, 3)
    after = datetime(2025, 7, 3, 17, 0, tzinfo=UTC)  # 13:00 in New York: the half day has closed
    assert find_next_hours(CALENDAR, after, extended_hours=False).session == date(2025, 7, 7)
    assert find_next_hours(CALENDAR, after - MINUTE, extended_hours=False).closes == after
    assert find_next_hours(CALENDAR, after, extended_hours=True).session == date(2025, 7, 3), "until 17:00 New York"
    around = find_next_hours(Calendar("24/7"), noon, extended_hours=False)
    assert (around.session, len(around.list_minutes(around.begins))) == (date(2025, 7, 3), 1440)


@pytest.mark.hazard(54)
def test_where_the_calendar_ends_there_is_no_next_session() -> None:
    with pytest.raises(HorizonError):
        find_next_hours(CALENDAR, datetime(2099, 1, 1, tzinfo=UTC), extended_hours=False)


def test_minutes_begin_with_the_first_that_is_asked_for() -> None:
    assert HOURS.list_minutes(MINUTES[0])[0] == MINUTES[0]
    assert len(HOURS.list_minutes(HOURS.begins)) == 390
    assert HOURS.list_minutes(HOURS.begins - timedelta(hours=3))[0] == HOURS.begins
    assert HOURS.list_minutes(HOURS.ends) == []
    assert HOURS.count_minutes_to_close(HOURS.closes - 2 * MINUTE) == 2.0


# ---- splits ----------------------------------------------------------------------------------------------------------


class Splitting:
    def __init__(self, *splits: Split) -> None:
        self.asked: list[str] = []
        self._splits = splits

    def splits(self, ticker: str) -> tuple[Split, ...]:
        self.asked.append(ticker)
        return tuple(split for split in self._splits if split.ticker == ticker)


@pytest.mark.hazard(35)
def test_a_split_of_this_morning_is_applied_before_the_first_bar_of_the_day() -> None:
    yesterday = bars_of(DAY).filter(pl.col("session") < DAY)
    source: Any = Splitting(
        Split("AAPL", DAY, 1.0, 4.0),
        Split("AMD", date(2025, 5, 28), 1.0, 2.0),
        Split("TSLA", date(2025, 6, 3), 1.0, 2.0),
    )
    found = convert_to_todays_shares(yesterday, source, DAY)
    ratio = (yesterday["close"] / found["close"]).alias("ratio")
    by_ticker = pl.DataFrame([yesterday["ticker"], ratio]).group_by("ticker").agg(pl.col("ratio").unique())
    assert dict(by_ticker.iter_rows()) == {"AAPL": [4.0], "AMD": [1.0], "TSLA": [1.0]}
    assert found.height == yesterday.height
    today = bars_of(DAY).filter(pl.col("ts") < MINUTES[0])
    assert convert_to_todays_shares(today, source, DAY).equals(today), "with bars of today the store has applied it"


# ---- stored bars -----------------------------------------------------------------------------------------------------


def test_stored_bars_are_handed_out_as_they_would_have_become_known() -> None:
    feed = StoredFeed(bars_of(DAY), ("AAPL", "AMD", "TSLA"))
    morning = feed.begin(HOURS, MINUTES[0])
    assert morning.earlier["session"].n_unique() == 5
    assert morning.so_far["ts"].max() == MINUTES[0] - MINUTE
    first = feed.minute(MINUTES[0], MINUTES[1]).bars
    assert first["ts"].unique().to_list() == [MINUTES[0]]
    assert first.height == bars_of(DAY).filter(pl.col("ts") == MINUTES[0]).height
