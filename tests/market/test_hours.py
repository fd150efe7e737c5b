"""When a session may trade, and which sessions a collection asks for: by the exchange's calendar alone."""

from datetime import UTC, date, datetime, timedelta

import polars as pl

from hftcl.market.collect_window import CollectWindow, group_runs
from hftcl.market.hours import find_hours, find_next_hours
from hftcl.market.sessions import Calendar

NYSE = Calendar("XNYS")
DAY = date(2026, 1, 5)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def window(first: date, last: date, *, over: list[date]) -> CollectWindow:
    sessions = NYSE.list_sessions(first, last)
    return CollectWindow(
        sessions=sessions,
        closed=sessions,
        over=frozenset(over),
        as_of=at("2026-01-20T00:00"),
        extended_hours=False,
        min_coverage=0.5,
        keep_past=False,
    )


def spans(runs: list[pl.DataFrame]) -> list[tuple[date, date]]:
    return [(run["session"][0], run["session"][-1]) for run in runs]


def test_minutes_of_trading_are_those_of_the_regular_session_or_of_the_extended_hours() -> None:
    regular = find_hours(NYSE, DAY, extended_hours=False)
    extended = find_hours(NYSE, DAY, extended_hours=True)
    assert (regular.begins, regular.ends) == (at("2026-01-05T14:30"), at("2026-01-05T21:00"))
    assert (extended.begins, extended.ends) == (at("2026-01-05T09:00"), at("2026-01-06T01:00"))
    assert (extended.opens, extended.closes) == (regular.opens, regular.closes), "minutes count from the regular open"
    assert len(regular.list_minutes(at("2026-01-05T00:00"))) == 390
    assert len(extended.list_minutes(at("2026-01-05T00:00"))) == 16 * 60
    assert regular.before == date(2026, 1, 2)


def test_a_bot_that_starts_within_a_session_has_the_minutes_that_are_left_and_none_after_it() -> None:
    hours = find_hours(NYSE, DAY, extended_hours=False)
    left = hours.list_minutes(at("2026-01-05T20:57"))
    assert left == [at(f"2026-01-05T20:{minute}") for minute in (57, 58, 59)]
    assert hours.list_minutes(at("2026-01-05T21:00")) == hours.list_minutes(at("2026-01-06T09:00")) == []
    assert hours.list_minutes(at("2026-01-05T09:00"))[0] == hours.opens, "before the open there is nothing to trade"


def test_the_minutes_to_the_close_are_those_to_the_regular_one_and_negative_after_it() -> None:
    hours = find_hours(NYSE, DAY, extended_hours=True)
    moments = (at("2026-01-05T14:30"), at("2026-01-05T20:59:30"), at("2026-01-05T21:00"), at("2026-01-05T22:00"))
    assert [hours.count_minutes_to_close(moment) for moment in moments] == [390.0, 0.5, 0.0, -60.0]


def test_the_first_session_that_a_calendar_knows_has_itself_before_it() -> None:
    first, _ = NYSE.reach
    assert find_hours(NYSE, first, extended_hours=False).before == first
    second = NYSE.find_next_session(first)
    assert find_hours(NYSE, second, extended_hours=False).before == first


def test_after_midnight_utc_the_session_of_the_day_before_goes_on_in_its_extended_hours() -> None:
    evening = at("2026-01-06T00:30")  # 19:30 in New York, on 5 January
    assert find_next_hours(NYSE, evening, extended_hours=True).session == DAY
    assert find_next_hours(NYSE, evening, extended_hours=False).session == date(2026, 1, 6)


def test_in_sydney_a_session_begins_on_the_utc_day_before_its_own() -> None:
    hours = find_next_hours(Calendar("XASX"), at("2026-01-05T23:30"), extended_hours=False)
    assert hours.session == date(2026, 1, 6)
    assert hours.opens == at("2026-01-05T23:00")
    assert hours.count_minutes_to_close(at("2026-01-05T23:30")) == 330.0


def test_a_collection_wants_what_is_not_held_what_is_due_again_and_the_newest_sessions_that_are_over() -> None:
    days = NYSE.list_sessions(date(2026, 1, 5), date(2026, 1, 15))["session"].to_list()
    asking = window(days[0], days[-1], over=days[:-1])
    assert asking.list_wanted(days, (), 0) == []
    assert asking.list_wanted(days, (), 2) == [days[-3], days[-2]], "the newest one is not over, and so not held"
    assert asking.list_wanted(days[1:-1], (), 2) == [days[0], days[-3], days[-2], days[-1]]
    assert asking.list_wanted(days, (days[3], days[0]), 0) == [days[0], days[3]], "oldest first"
    assert asking.list_wanted((), (), 0) == days


def test_sessions_that_follow_each_other_are_one_question_also_over_a_weekend() -> None:
    sessions = NYSE.list_sessions(date(2026, 1, 5), date(2026, 1, 16))
    days = sessions["session"].to_list()
    assert group_runs(sessions, []) == []
    assert spans(group_runs(sessions, days)) == [(days[0], days[-1])]
    assert spans(group_runs(sessions, days[3:7])) == [(date(2026, 1, 8), date(2026, 1, 13))]
    assert spans(group_runs(sessions, [days[0], days[2], days[3], days[9]])) == [
        (days[0], days[0]),
        (days[2], days[3]),
        (days[9], days[9]),
    ]


def test_more_than_three_gaps_are_asked_for_as_one_range_that_reaches_no_further_than_what_is_wanted() -> None:
    sessions = NYSE.list_sessions(date(2026, 1, 5), date(2026, 1, 16))
    days = sessions["session"].to_list()
    (run,) = group_runs(sessions, [days[1], days[3], days[5], days[7]])
    assert run["session"].to_list() == days[1:8]


def test_a_calendar_is_asked_day_by_day_up_to_its_last_session() -> None:
    _, last = NYSE.reach
    for day in (last, NYSE.find_previous_session(last)):
        hours = find_hours(NYSE, day, extended_hours=False)
        assert find_next_hours(NYSE, hours.ends - timedelta(minutes=1), extended_hours=False).session == day
