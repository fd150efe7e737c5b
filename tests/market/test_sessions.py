from datetime import UTC, date, datetime, timedelta

import pytest

from hftcl.errors import ConfigError
from hftcl.market.sessions import Calendar, HorizonError


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def hours(name: str, day: date) -> tuple[datetime, ...]:
    row = Calendar(name).list_sessions(day, day).row(0)
    assert row[0] == day
    return tuple(row[1:])


def test_new_york_trades_from_half_past_nine_to_four_and_extended_from_four_to_eight_in_winter_and_summer() -> None:
    winter = [at(f"2026-01-05 {t}") for t in ("14:30", "21:00", "09:00")] + [at("2026-01-06 01:00")]
    summer = [at(f"2025-07-07 {t}") for t in ("13:30", "20:00", "08:00")] + [at("2025-07-08 00:00")]
    assert hours("XNYS", date(2026, 1, 5)) == tuple(winter)
    assert hours("XNYS", date(2025, 7, 7)) == tuple(summer)


@pytest.mark.parametrize("day", [date(2024, 11, 29), date(2024, 12, 24)])
def test_a_half_day_ends_at_one_and_its_extended_hours_at_five(day: date) -> None:
    expected = tuple(at(f"{day} {t}") for t in ("14:30", "18:00", "09:00", "22:00"))
    assert hours("XNYS", day) == expected


def test_thanksgiving_a_weekend_and_the_unscheduled_closure_of_9_january_2025_are_no_sessions() -> None:
    calendar = Calendar("XNYS")
    assert calendar.list_sessions(date(2024, 11, 28), date(2024, 11, 28)).is_empty()
    assert calendar.list_sessions(date(2024, 11, 30), date(2024, 12, 1)).is_empty()
    assert calendar.list_sessions(date(2025, 1, 8), date(2025, 1, 10))["session"].to_list() == [
        date(2025, 1, 8),
        date(2025, 1, 10),
    ]


def test_a_market_that_never_closes_has_a_session_of_1440_minutes_each_utc_day() -> None:
    days = Calendar("24/7").list_sessions(date(2026, 2, 27), date(2026, 3, 2))
    assert days["session"].to_list() == [date(2026, 2, 27), date(2026, 2, 28), date(2026, 3, 1), date(2026, 3, 2)]
    assert set(days["close"] - days["open"]) == {timedelta(minutes=1440)}
    assert days["open"].to_list() == [at(f"{day} 00:00") for day in days["session"]]
    assert days["extended_close"].to_list() == days["close"].to_list()


def test_london_has_no_extended_hours() -> None:
    assert hours("XLON", date(2026, 1, 5)) == tuple(at(f"2026-01-05 {t}") for t in ("08:00", "16:30", "08:00", "16:30"))


def test_nasdaq_keeps_new_yorks_hours() -> None:
    assert hours("XNAS", date(2026, 1, 5)) == hours("XNYS", date(2026, 1, 5))


def test_the_newest_complete_session_is_the_one_whose_close_is_known() -> None:
    calendar = Calendar("XNYS")
    assert calendar.find_last_complete(at("2025-01-10 20:59")) == date(2025, 1, 8)
    assert calendar.find_last_complete(at("2025-01-10 21:00")) == date(2025, 1, 10)
    assert calendar.find_last_complete(at("2025-01-12 12:00")) == date(2025, 1, 10)


def test_counting_in_sessions_steps_over_weekends_and_closures() -> None:
    calendar = Calendar("XNYS")
    assert calendar.find_next_session(date(2025, 1, 8)) == date(2025, 1, 10)
    assert calendar.find_previous_session(date(2025, 1, 13), n=2) == date(2025, 1, 8)


@pytest.mark.parametrize("day", [date(1901, 1, 1), date(2300, 1, 1)])
def test_beyond_its_horizon_the_calendar_refuses_instead_of_guessing(day: date) -> None:
    calendar = Calendar("XNYS")
    for asking in (lambda: calendar.list_sessions(day, day), lambda: calendar.find_next_session(day)):
        with pytest.raises(HorizonError, match=rf"XNYS reaches from 1990-01-02 to .*{day}"):
            asking()


def test_an_unknown_calendar_is_a_fault_of_the_configuration() -> None:
    with pytest.raises(ConfigError, match="'NYSEE' is not an exchange calendar"):
        Calendar("NYSEE")
