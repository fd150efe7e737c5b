"""Which sessions lack bars, on hand-made ones: the calendar and the ticker's other sessions decide."""

from datetime import date

import polars as pl

from hftcl.market.holes import find_holes
from hftcl.market.sessions import Calendar

SESSIONS = Calendar("XNYS").list_sessions(date(2026, 1, 5), date(2026, 1, 9))
DAYS = SESSIONS["session"].to_list()


def each_minute(*, extended: bool = False) -> pl.DataFrame:
    """Return a bar for each regular minute, or each of the extended day, of the five sessions."""
    first, last = ("extended_open", "extended_close") if extended else ("open", "close")
    stamps = pl.datetime_ranges(pl.col(first), pl.col(last), "1m", closed="left", time_unit="us", time_zone="UTC")
    return SESSIONS.select("session", stamps.alias("ts")).explode("ts", empty_as_null=False)


def holes(bars: pl.DataFrame, *, astray: bool = False) -> dict[date, str]:
    return find_holes(bars, SESSIONS, broken={}, taken_back=(), astray=astray)


def without(bars: pl.DataFrame, day: date, first: int, last: int) -> pl.DataFrame:
    """Return `bars` without the minutes `first` to `last` after the open of `day`, both included."""
    start = SESSIONS.filter(pl.col("session") == day)["open"][0]
    minute = (pl.col("ts") - start).dt.total_minutes()
    return bars.filter(~((pl.col("session") == day) & minute.is_between(first, last)))


def test_whole_sessions_have_no_hole() -> None:
    assert holes(each_minute()) == holes(each_minute(extended=True)) == {}


def test_a_session_without_a_regular_bar_is_a_hole_also_where_extended_bars_came() -> None:
    assert holes(without(each_minute(extended=True), DAYS[2], 0, 389)) == {DAYS[2]: "no bar in regular hours"}


def test_ten_minutes_without_a_bar_are_a_hole_and_nine_are_none_wherever_in_the_session_they_lie() -> None:
    for first in (0, 100, 380):
        assert holes(without(each_minute(), DAYS[1], first, first + 9)) == {DAYS[1]: "no bar for 10 minutes"}
        assert holes(without(each_minute(), DAYS[1], first + 1, first + 9)) == {}


def test_minutes_before_the_open_do_not_hide_that_the_first_regular_ones_lack() -> None:
    assert holes(without(each_minute(extended=True), DAYS[1], 0, 11)) == {DAYS[1]: "no bar for 12 minutes"}


def test_a_thin_ticker_may_lack_minutes_but_not_more_than_half_of_its_usual_ones() -> None:
    thin = each_minute().filter(pl.col("ts").dt.minute() % 20 == 0)
    assert holes(thin) == {}
    assert holes(without(thin, DAYS[4], 0, 210)) == {DAYS[4]: "8 bars, usual are 19"}


def test_an_hour_before_the_open_that_lacks_on_one_day_is_a_hole() -> None:
    assert holes(without(each_minute(extended=True), DAYS[3], -330, -271)) == {
        DAYS[3]: "1 hours without a bar that usually have some"
    }


def test_broken_bars_lost_ones_and_bars_of_no_session_leave_a_session_in_doubt() -> None:
    bars = without(each_minute(), DAYS[0], 5, 5)
    assert holes(bars, astray=True) == {DAYS[0]: "389 of 390 minutes, while bars of no session came"}
    found = find_holes(bars, SESSIONS, broken={DAYS[1]: 3, DAYS[2]: 0}, taken_back={DAYS[4]})
    assert found == {DAYS[1]: "3 bars that came broken", DAYS[4]: "the newest answer lacked bars that are held"}


def test_the_order_of_the_bars_does_not_matter() -> None:
    bars = without(each_minute(), DAYS[1], 50, 70)
    assert holes(bars.sample(fraction=1.0, shuffle=True, seed=1)) == holes(bars) != {}
