"""What a vendor's answer changes in what is held, when a session in doubt is asked for again, and what came of it."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from hftcl.market.bars import Finding, label
from hftcl.market.month_files import FILE_SCHEMA, HeldSession, StoredFinding
from hftcl.market.received import count_received
from hftcl.market.sessions import Calendar
from hftcl.market.shelf import (
    Shelf,
    count_askings,
    find_doubtful,
    is_astray,
    is_due,
    note_doubts,
    put,
    sort_bars,
)

SESSIONS = Calendar("XNYS").list_sessions(date(2026, 1, 29), date(2026, 2, 3))
DAYS = SESSIONS["session"].to_list()  # Thursday, Friday, Monday, Tuesday: two months
ASKED = datetime(2026, 2, 4, 12, tzinfo=UTC)


def bars(day: date, minutes: range = range(390), *, price: float = 100.0) -> pl.DataFrame:
    """Return what a month's file holds of a session: one bar of a regular minute each."""
    opens = SESSIONS.filter(session=day)["open"][0]
    return pl.DataFrame(
        {
            "ticker": ["A"] * len(minutes),
            "ts": [opens + timedelta(minutes=n) for n in minutes],
            **dict.fromkeys(("open", "high", "low", "close"), [price] * len(minutes)),
            "volume": [10.0] * len(minutes),
            "session": [day] * len(minutes),
        },
        schema=FILE_SCHEMA,
    )


def shelf_of(*days: date) -> Shelf:
    return Shelf(held={day: HeldSession() for day in days}, bars=pl.concat(bars(day) for day in days))


def doubtful(count: int, first: datetime | None = ASKED) -> HeldSession:
    return HeldSession(notes=(StoredFinding(reason="doubtful", count=count, first=first, detail="few"),))


@pytest.mark.parametrize(
    ("answers", "hours"), [(1, 0), (2, 0), (3, 6), (4, 24), (5, 72), (6, 168), (7, 336), (8, 720), (30, 720)]
)
def test_the_pause_before_a_session_in_doubt_is_asked_for_again_grows_to_a_month(answers: int, hours: int) -> None:
    held = doubtful(answers)
    assert is_due(held, ASKED + timedelta(hours=hours))
    assert is_due(held, ASKED + timedelta(hours=hours, seconds=-1)) is (hours == 0)


def test_a_session_in_doubt_of_which_nothing_says_when_it_was_asked_for_is_asked_for_at_once() -> None:
    assert is_due(HeldSession(), ASKED)
    assert is_due(doubtful(9, None), ASKED)


def test_answers_that_left_a_session_in_doubt_are_counted_and_forgotten_once_it_is_whole() -> None:
    thursday, friday = DAYS[:2]
    shelf = shelf_of(thursday, friday)
    shelf.bars = pl.concat([bars(thursday, range(20)), bars(friday)])
    note_doubts(shelf, {thursday: 3, friday: 0}, SESSIONS, ASKED, astray=False)
    (note,) = shelf.held[thursday].notes
    assert (note.reason, note.count, note.first, note.detail) == ("doubtful", 4, ASKED, "20 bars, usual are 390")
    assert (count_askings(shelf.held[thursday]), count_askings(shelf.held[friday]), count_askings(None)) == (4, 0, 0)
    assert shelf.changed == {"2026-01"}
    shelf.changed.clear()
    shelf.bars = pl.concat([bars(thursday), bars(friday)])
    note_doubts(shelf, {thursday: 4}, SESSIONS, ASKED, astray=False)
    assert shelf.held[thursday] == HeldSession()
    assert shelf.changed == {"2026-01"}, "what was in doubt is written again as whole"


def test_a_session_that_is_as_whole_as_before_is_not_written_again() -> None:
    shelf = shelf_of(*DAYS)
    note_doubts(shelf, dict.fromkeys(DAYS, 0), SESSIONS, ASKED, astray=False)
    assert put(shelf, "A", DAYS, pl.concat(bars(day) for day in DAYS), ()) == []
    assert shelf.changed == set()


def test_broken_bars_and_bars_taken_back_leave_their_session_in_doubt_and_others_do_not() -> None:
    shelf = shelf_of(*DAYS)
    for day, reason, count in (
        (DAYS[0], "not_finite", 2),
        (DAYS[0], "off_minute", 3),
        (DAYS[1], "taken_back", 1),
        (DAYS[2], "duplicate", 9),
    ):
        note = StoredFinding(reason=reason, count=count, first=None, detail="")
        shelf.held[day] = HeldSession(notes=(*shelf.held[day].notes, note))
    assert find_doubtful(shelf, SESSIONS) == {
        DAYS[0]: "5 bars that came broken",
        DAYS[1]: "the newest answer lacked bars that are held",
    }
    assert find_doubtful(Shelf(), SESSIONS) == {}, "what was never fetched is no doubt: it is asked for anyway"


def test_bars_without_a_time_or_more_than_a_day_from_what_was_asked_for_are_astray() -> None:
    asked = SESSIONS.head(2)
    begin, end = asked["extended_open"][0], asked["extended_close"][-1]
    day, second = timedelta(days=1), timedelta(seconds=1)
    assert is_astray([Finding("A", "no_timestamp", 1)], asked)
    for first, astray in (
        (begin - day, False),
        (begin - day - second, True),
        (end + day, False),
        (end + day + second, True),
    ):
        assert is_astray([Finding("A", "outside_session", 1, first)], asked) is astray
    assert is_astray([Finding("A", "gap", 1, begin), Finding("A", "foreign_ticker", 1, end + 2 * day)], asked)
    assert not is_astray([Finding("A", "zero_volume", 1, end + 2 * day)], asked), "it has its own session"
    assert not is_astray([], asked)


def test_an_answer_that_lacks_a_bar_or_two_takes_them_back_only_when_the_next_one_lacks_them_too() -> None:
    day = DAYS[0]
    shelf, short = shelf_of(day), bars(day, range(388))
    assert put(shelf, "A", [day], short, ()) == []
    assert shelf.bars.height == 390
    (note,) = shelf.held[day].notes
    assert (note.reason, note.count, note.first) == ("taken_back", 2, bars(day)["ts"][388])
    assert shelf.held[day].revisions == 0
    (finding,) = put(shelf, "A", [day], short, ())
    assert (finding.reason, finding.count, finding.first, finding.session) == ("revised", 2, note.first, day)
    assert shelf.bars.height == 388
    assert shelf.held[day] == HeldSession(revisions=2)


@pytest.mark.parametrize(
    ("there", "lost", "vanished"), [(390, 7, False), (390, 8, True), (20, 2, False), (20, 3, True)]
)
def test_an_answer_that_lacks_more_than_two_bars_and_a_fiftieth_was_cut_short(
    there: int, lost: int, vanished: bool
) -> None:
    day = DAYS[0]
    shelf = Shelf(held={day: HeldSession()}, bars=bars(day, range(there)))
    findings = put(shelf, "A", [day], bars(day, range(lost, there), price=7.0), ())
    assert [f.reason for f in findings] == (["vanished_session"] if vanished else ["revised"])
    assert findings[0].count == (lost if vanished else there - lost)
    assert shelf.bars.height == there
    assert set(shelf.bars["close"]) == ({100.0} if vanished else {100.0, 7.0})


def test_corrected_bars_replace_what_is_held_and_are_counted_once_for_each_minute() -> None:
    thursday, monday = DAYS[0], DAYS[2]
    shelf = shelf_of(thursday, monday)
    news = pl.concat([bars(thursday, range(389)), bars(thursday, range(389, 390), price=99.0), bars(monday)])
    (finding,) = put(shelf, "A", [thursday, monday], news, ())
    assert (finding.reason, finding.count, finding.session) == ("revised", 1, thursday)
    assert finding.first == bars(thursday)["ts"][389]
    assert (shelf.held[thursday].revisions, shelf.held[monday].revisions) == (1, 0)
    assert shelf.changed == {"2026-01"}, "February came as it was"
    assert shelf.bars["ts"].is_sorted()
    put(shelf, "A", [thursday], bars(thursday), ())
    assert shelf.held[thursday].revisions == 2


def test_what_cleaning_found_is_kept_with_its_own_session_and_bars_of_no_asked_session_are_not() -> None:
    thursday, friday = DAYS[:2]
    shelf = Shelf()
    findings = [Finding("A", "bad_tick", 2, ASKED, friday, "x"), Finding("A", "no_timestamp", 1)]
    assert put(shelf, "A", [thursday, friday], pl.concat([bars(thursday), bars(friday), bars(DAYS[2])]), findings) == []
    assert shelf.held == {
        thursday: HeldSession(),
        friday: HeldSession(notes=(StoredFinding(reason="bad_tick", count=2, first=ASKED, detail="x"),)),
    }
    assert set(shelf.bars["session"]) == {thursday, friday}
    assert shelf.changed == {"2026-01"}


def test_bars_out_of_order_are_put_in_order() -> None:
    mixed = pl.concat([bars(DAYS[1], range(3)), bars(DAYS[0], range(3))])
    assert sort_bars(mixed)["session"].to_list() == [DAYS[0]] * 3 + [DAYS[1]] * 3


def test_received_minutes_are_regular_ones_and_a_session_is_told_of_where_there_is_something_to_tell() -> None:
    whole, few, noted, none = DAYS
    early = bars(few, range(-5, 0))
    raw = pl.concat([bars(whole, range(351)), early, bars(few, range(350)), bars(noted, range(390))])
    got = count_received(
        label(raw.drop("session"), SESSIONS), SESSIONS, ticker="A", quarantined={noted: 4}, revised={whole: 0, none: 2}
    )
    assert (got.sessions, got.expected, got.received, got.missing) == (4, 1560, 351 + 350 + 390, 1560 - 1091)
    assert (got.quarantined, got.revised) == (4, 2)
    assert [(day.session, day.received, day.missing) for day in got.incomplete] == [
        (few, 350, 40),
        (noted, 390, 0),
        (none, 0, 390),
    ], "351 of 390 minutes are nine tenths"


def test_a_ticker_is_silent_on_a_session_only_where_it_has_bars_on_others_and_is_traded() -> None:
    raw = label(bars(DAYS[0]).drop("session"), SESSIONS)
    got = count_received(raw, SESSIONS, ticker="A", quarantined={}, revised={})
    assert [got.is_silent_on(day) for day in DAYS] == [False, True, True, True]
    assert not got.is_silent_on(date(2026, 2, 4)), "a session that is not over yet"
    gone = count_received(raw.clear(), SESSIONS, ticker="A", quarantined={}, revised={})
    assert not any(gone.is_silent_on(day) for day in DAYS), "of one without any bar another text tells"
