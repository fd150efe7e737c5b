"""What is known as of when: no bar after it exists for the program. And what is said of bars that are too few."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from hftcl.errors import NoDataError, RefusedBarsError, UsageError
from hftcl.market.bars import RAW_SCHEMA, Finding
from hftcl.market.judgement import build_implausible_error, join_refusals, sum_dropped
from hftcl.market.sessions import Calendar, HorizonError
from hftcl.market.store import BarStore
from hftcl.market.window import AsOf, find_as_of, find_known_end, list_window, parse_day
from hftcl.settings import Settings
from tests.market.exchange import Exchange, quiet_bars

NYSE = Calendar("XNYS")
NOW = datetime(2026, 1, 20, 18, tzinfo=UTC)  # Tuesday, within the session
FRIDAY_CLOSE = datetime(2026, 1, 16, 21, tzinfo=UTC)  # Monday 19 January is a holiday
NOTHING = RAW_SCHEMA.to_frame()


class Empty(Exchange):
    def known_until(self, tickers: tuple[str, ...], now: datetime) -> datetime | None:
        return None


def as_of(text: str | None, source: Exchange | None = None) -> AsOf:
    return find_as_of(source or Exchange(NOTHING), NYSE, Settings(), text, NOW)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-01-16", FRIDAY_CLOSE),
        ("2026-01-18", FRIDAY_CLOSE),
        ("2026-01-15", FRIDAY_CLOSE - timedelta(days=1)),
        ("2025-11-28", datetime(2025, 11, 28, 18, tzinfo=UTC)),
        ("2026-01-16T15:00", datetime(2026, 1, 16, 15, tzinfo=UTC)),
        ("2026-01-16T15:00:30-05:00", datetime(2026, 1, 16, 20, 0, 30, tzinfo=UTC)),
    ],
)
def test_a_date_means_the_close_of_its_session_or_of_the_last_before_and_a_time_itself(text: str, at: datetime) -> None:
    assert as_of(text) == AsOf(at=at, note="as asked", explicit=True)


@pytest.mark.parametrize(
    "text", ["yesterday", "2026-02-30", "2026-1-16", "16.01.2026", "9" * 5000, "0001-01-01T00:00+14:00"]
)
def test_a_text_that_is_no_time_is_refused_with_what_is_one(text: str) -> None:
    with pytest.raises(UsageError, match=r"is no time\. Give a date such as 2026-01-31") as caught:
        as_of(text)
    assert len(str(caught.value)) < 200


def test_a_time_that_the_calendar_does_not_reach_is_in_the_future_or_too_long_ago() -> None:
    with pytest.raises(
        UsageError, match=r"--as-of 2099-01-01 lies in the future\. Give a time up to now, 2026-01-20 18:00"
    ):
        as_of("2099-01-01")
    with pytest.raises(HorizonError, match="reaches from 1990-01-02"):
        as_of("1901-01-01")
    with pytest.raises(UsageError, match="--to 9999-12-31 lies in the future"):
        find_as_of(Exchange(NOTHING), NYSE, Settings(), "9999-12-31", NOW, option="--to")


def test_without_a_time_a_live_source_knows_all_up_to_now_and_others_their_last_complete_session() -> None:
    assert as_of(None) == AsOf(at=NOW, note="now", explicit=False)
    friday = AsOf(at=FRIDAY_CLOSE, note="the last complete session, 2026-01-16", explicit=False)
    assert as_of(None, Exchange(NOTHING, synthetic=True)) == friday
    assert as_of(None, Exchange(NOTHING, knows_until=FRIDAY_CLOSE + timedelta(hours=1))) == friday
    earlier = as_of(None, Exchange(NOTHING, knows_until=FRIDAY_CLOSE - timedelta(minutes=1)))
    assert earlier.at == FRIDAY_CLOSE - timedelta(days=1), "Friday is not complete in its bars"


def test_a_source_without_any_bar_says_which_tickers_and_which_section_to_look_at() -> None:
    with pytest.raises(
        NoDataError,
        match=r"The source 'exchange' has no bar of .*Check \[market\] watchlist and the section \[exchange\]",
    ):
        as_of(None, Empty(NOTHING))
    assert as_of("2026-01-16", Empty(NOTHING)).at == FRIDAY_CLOSE, "a time that was asked for needs no bar"


def test_the_end_of_a_span_is_the_last_session_that_the_source_has_up_to_it() -> None:
    def end(until: datetime | None, first: int = 5, last: int = 16) -> AsOf:
        span = date(2026, 1, first), date(2026, 1, last)
        return find_known_end(Exchange(NOTHING, knows_until=until), NYSE, Settings(), *span, NOW)

    assert end(None) == AsOf(at=FRIDAY_CLOSE, note="as asked", explicit=True)
    thursday = FRIDAY_CLOSE - timedelta(days=1)
    assert end(thursday) == AsOf(at=thursday, note="the bars end on 2026-01-15", explicit=False)
    assert end(thursday, last=15) == AsOf(at=thursday, note="as asked", explicit=True)
    with pytest.raises(
        NoDataError, match=r"No session from 2026-01-16 to 2026-01-16 is complete in .*ended on 2026-01-15\."
    ):
        end(thursday, first=16)


def test_a_window_holds_the_sessions_of_the_last_calendar_days_the_newest_included() -> None:
    settings = Settings()
    short = replace(settings, market=replace(settings.market, lookback_days=8))
    days = list_window(NYSE, short, AsOf(at=NOW, note="now", explicit=False))
    assert [day.day for day in days] == [9, 12, 13, 14, 15, 16], "from Friday to Friday"
    (one,) = list_window(NYSE, replace(settings, market=replace(settings.market, lookback_days=1)), as_of("2026-01-16"))
    assert one == date(2026, 1, 16)


def test_a_date_is_read_or_refused_by_the_option_that_it_came_with() -> None:
    assert parse_day("--from", "2026-01-31") == parse_day("--from", date(2026, 1, 31)) == date(2026, 1, 31)
    with pytest.raises(UsageError, match=r"--from '2026-13-01' is no date\. Give one such as 2026-01-31\."):
        parse_day("--from", "2026-13-01")


def collect(folder: Path, bars: pl.DataFrame, *, keep: float = 0.9, first: date = date(2026, 1, 5)) -> str:
    """Return why AAA is left out of a collection beside BBB, which is whole; "" where it is not."""
    whole = quiet_bars("BBB", first=date(2026, 1, 5), last=date(2026, 1, 16), step=30)
    store = BarStore(folder, Exchange(pl.concat([bars, whole])), NYSE)
    got = store.collect(
        ("AAA", "BBB"), first, date(2026, 1, 16), as_of=NOW, extended_hours=False, min_coverage=keep, save=False
    )
    return got.left_out.get("AAA", "")


def test_a_ticker_whose_bars_begin_late_is_told_which_window_it_would_fill(tmp_path: Path) -> None:
    late = quiet_bars("AAA", first=date(2026, 1, 13), last=date(2026, 1, 16), step=30)
    assert collect(tmp_path, late) == (
        "coverage 4 of 10 sessions, and [market] min_coverage asks for 90% of them; they begin on 2026-01-13: set "
        "[market] lookback_days = 4 or less"
    )
    assert collect(tmp_path, late, keep=0.4) == "", "just enough is enough"
    soon = quiet_bars("AAA", first=date(2026, 1, 12), last=date(2026, 1, 15), step=30)
    assert collect(tmp_path, soon).endswith("asks for 90% of them"), "a week late is no beginning to speak of"


def test_a_ticker_of_which_no_bar_is_left_is_told_why_the_commonest_reason_first(tmp_path: Path) -> None:
    bars = quiet_bars("AAA", first=date(2026, 1, 5), last=date(2026, 1, 5), step=30, extended=False)
    minute = pl.int_range(pl.len())
    bad = bars.with_columns(
        pl.when(minute < 4).then(-1.0).otherwise("volume").alias("volume"),
        pl.when(minute >= 4).then(float("nan")).otherwise("close").alias("close"),
    )
    assert collect(tmp_path, bad) == (
        "no bars were left: 13 were dropped (9 because a price or the volume is missing, NaN or infinite; 4 because "
        "the volume is negative, the first at 2026-01-05 16:30:00 UTC)"
    )


def test_only_rows_that_a_session_lost_by_the_vendors_fault_count_as_dropped() -> None:
    monday, tuesday = date(2026, 1, 5), date(2026, 1, 6)
    dropped = sum_dropped(
        [
            Finding("A", "bad_tick", 2, None, monday),
            Finding("A", "duplicate", 3, None, monday),
            Finding("A", "still_open", 1, None, tuesday),
            Finding("A", "future", 9, None, tuesday),
            Finding("A", "gap", 30, None, tuesday),
            Finding("A", "no_timestamp", 4),
        ]
    )
    assert dropped == {monday: 5}


def test_a_window_without_any_ticker_left_is_told_by_the_first_reasons_and_the_number_of_the_others() -> None:
    fatal = [Finding(f"T{n}", "unit", 1, detail=f"why {n}") for n in range(5)]
    assert "trained on them: T0: why 0; T1: why 1; T2: why 2; 2 more findings. Correct" in str(
        build_implausible_error(fatal)
    )
    assert "T2: why 2. Correct" in str(build_implausible_error(fatal[:3]))
    refused = [RefusedBarsError(f"Reason {n}.") for n in (0, 0, 1, 2, 3)]
    assert str(join_refusals(refused)) == "Reason 0. Reason 1. 2 more are refused like it."
    assert str(join_refusals(refused[:3])) == "Reason 0. Reason 1."
