"""Who is examined on which bars."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hftcl.errors import NoDataError
from hftcl.exam.split import ExamSplit, Session, find_unseen, list_sessions, split, split_inner
from hftcl.market.bars import TS

FIRST = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)


def window(n: int) -> list[Session]:
    """Return `n` sessions, a calendar day apart, 14:30 to 21:00 UTC."""
    return [Session(FIRST + timedelta(days=day), (FIRST + timedelta(days=day)).date()) for day in range(n)]


def close(session: Session) -> datetime:
    return session.start + timedelta(minutes=390)


def labels(ends: list[tuple[date, datetime | None]]) -> pl.DataFrame:
    schema = pl.Schema([("session", pl.Date), ("label_end", TS)])
    return pl.DataFrame(ends, schema=schema, orient="row")


def divide(n: int, exam: int = 20, embargo: int = 1, champion_last_label: datetime | None = None) -> ExamSplit:
    return split(window(n), exam_sessions=exam, embargo_sessions=embargo, champion_last_label=champion_last_label)


@pytest.mark.parametrize(
    ("n", "embargo", "parts"),
    [
        (41, 1, (20, 1, 20)),
        (60, 1, (39, 1, 20)),
        (40, 1, (19, 1, 20)),
        (36, 1, (15, 1, 20)),
        (35, 1, (17, 1, 17)),
        (21, 1, (10, 1, 10)),
        (3, 1, (1, 1, 1)),
        (40, 5, (15, 5, 20)),
        (39, 5, (17, 5, 17)),
    ],
)
def test_the_exam_is_the_newest_sessions_and_training_keeps_three_quarters_as_many(
    n: int, embargo: int, parts: tuple[int, int, int]
) -> None:
    found = divide(n, embargo=embargo)
    assert (len(found.train), len(found.embargoed), len(found.exam)) == parts
    assert list(found.train + found.embargoed + found.exam) == window(n)


@pytest.mark.parametrize(("n", "told"), [(0, "0 sessions"), (1, "1 session "), (2, "2 sessions")])
def test_a_window_too_short_says_how_many_sessions_there_are_and_how_many_are_needed(n: int, told: str) -> None:
    with pytest.raises(NoDataError, match=f"{told}.*needs 3 or more: 1 to train, 1 embargoed, 1 to examine"):
        divide(n)


def test_sessions_out_of_order_or_twice_are_refused() -> None:
    for wrong in (window(5)[::-1], [*window(5), window(5)[-1]]):
        with pytest.raises(NoDataError, match="in order, each once"):
            split(wrong, exam_sessions=2, embargo_sessions=1)


def test_no_embargo_is_refused() -> None:
    with pytest.raises(NoDataError, match="embargo of 0"):
        divide(10, embargo=0)


def test_a_label_that_ends_in_the_embargo_or_at_its_first_bar_is_purged() -> None:
    found = divide(9, exam=4)
    last, cut = found.train[-1], found.embargoed[0].start
    rows = labels(
        [
            (last.day, close(last)),
            (last.day, cut - timedelta(microseconds=1)),
            (last.day, cut),
            (last.day, found.exam[0].start + timedelta(minutes=3)),
            (last.day, None),
            (found.embargoed[0].day, close(last)),
            (found.exam[0].day, close(last)),
        ]
    )
    assert found.cut == cut
    assert found.mask_training(rows).to_list() == [True, True, False, False, False, False, False]
    assert found.count_purged(rows) == 2


def test_a_champion_is_examined_only_after_its_own_last_label_and_embargo() -> None:
    sessions = window(41)
    knows = close(sessions[27])  # trained a week later than this challenger's training ends
    found = divide(41, champion_last_label=knows)
    assert found.exam == tuple(sessions[29:])
    assert found.withheld == tuple(sessions[21:29])
    assert len(found.train) == 20
    assert found.count_overlap(knows) == 0
    assert found.cut == sessions[20].start


def test_a_champion_trained_long_ago_is_examined_on_the_whole_exam() -> None:
    assert divide(41, champion_last_label=FIRST - timedelta(days=300)).exam == divide(41).exam


@pytest.mark.parametrize("sessions_left", [0, 1])
def test_a_champion_that_has_seen_everything_leaves_an_empty_exam(sessions_left: int) -> None:
    found = divide(41, champion_last_label=close(window(41)[40 - sessions_left]))
    assert found.exam == ()
    assert len(found.withheld) == 20


def test_an_overlap_is_counted_from_the_label_not_assumed() -> None:
    found = divide(41)
    assert found.count_overlap(close(found.train[-1])) == 0
    assert found.count_overlap(found.exam[0].start - timedelta(microseconds=1)) == 0
    assert found.count_overlap(found.exam[0].start) == 1
    assert found.count_overlap(close(found.exam[4])) == 5


def test_a_label_that_reaches_into_a_session_makes_all_of_it_seen() -> None:
    sessions = window(6)
    inside = sessions[2].start + timedelta(minutes=5)
    assert find_unseen(sessions, inside, embargo_sessions=1) == tuple(sessions[4:])
    assert find_unseen(sessions, sessions[2].start, embargo_sessions=1) == tuple(sessions[4:])
    assert find_unseen(sessions, sessions[2].start - timedelta(microseconds=1), embargo_sessions=1) == tuple(
        sessions[3:]
    )
    assert find_unseen(sessions, FIRST - timedelta(days=9), embargo_sessions=2) == tuple(sessions[2:])


def test_the_sessions_of_bars_start_with_the_first_bar_of_any_ticker() -> None:
    day = FIRST.date()
    bars = pl.DataFrame(
        {
            "ticker": ["B", "A", "A"],
            "session": [day + timedelta(days=1), day, day],
            "ts": [FIRST + timedelta(days=1), FIRST + timedelta(minutes=7), FIRST + timedelta(minutes=2)],
        }
    ).with_columns(pl.col("ts").cast(pl.Datetime("us", "UTC")))
    found = list_sessions(bars)
    assert [s.day for s in found] == [day, day + timedelta(days=1)]
    assert [s.start for s in found] == [FIRST + timedelta(minutes=2), FIRST + timedelta(days=1)]


@settings(max_examples=100)
@given(
    n=st.integers(3, 70),
    exam=st.integers(1, 40),
    embargo=st.integers(1, 5),
    champion_day=st.integers(-5, 80),
    minutes=st.integers(0, 390),
    reach=st.integers(0, 4000),
)
def test_no_model_is_ever_scored_on_what_it_has_seen(
    n: int, exam: int, embargo: int, champion_day: int, minutes: int, reach: int
) -> None:
    if n < 2 + embargo:
        return
    champion = FIRST + timedelta(days=champion_day, minutes=minutes)
    found = divide(n, exam, embargo, champion)
    rows = labels([(s.day, s.start + timedelta(minutes=reach)) for s in window(n)])
    trained_until = rows.filter(found.mask_training(rows))["label_end"].max()
    for session in found.exam:
        # at least `embargo` whole sessions lie between the last label of either model and each examined session
        for last in (champion, trained_until):
            if isinstance(last, datetime):
                between = [s for s in window(n) if last < s.start < session.start]
                assert len(between) >= embargo
    assert found.count_overlap(champion) == 0
    assert 4 * len(found.train) >= 3 * (len(found.exam) + len(found.withheld)) >= 3
    assert list(found.train + found.embargoed + found.withheld + found.exam) == window(n)


@pytest.mark.parametrize(
    ("n", "embargo", "parts"), [(4, 1, (2, 1, 1)), (8, 1, (5, 1, 2)), (40, 1, (29, 1, 10)), (20, 3, (12, 3, 5))]
)
def test_the_inner_split_holds_out_the_newest_quarter_and_leaves_the_embargo_between(
    n: int, embargo: int, parts: tuple[int, int, int]
) -> None:
    found = split_inner(window(n), embargo_sessions=embargo)
    assert (len(found.train), len(found.embargoed), len(found.exam)) == parts
    assert list(found.train + found.embargoed + found.exam) == window(n)


def test_the_masks_of_the_inner_split_purge_a_label_that_reaches_over_and_share_no_row() -> None:
    days = window(8)
    ends: list[tuple[date, datetime | None]] = [(session.day, close(session)) for session in days]
    ends.append((days[4].day, days[5].start))  # a label that would have seen the embargoed session
    rows = labels(ends)
    found = split_inner(days, embargo_sessions=1)
    assert found.mask_training(rows).to_list() == [True] * 5 + [False] * 4
    assert found.mask_exam(rows).to_list() == [False] * 6 + [True, True, False]


@pytest.mark.parametrize("n", [0, 1, 3])
def test_too_few_sessions_for_an_inner_split_say_how_many_are_needed_and_what_to_do(n: int) -> None:
    with pytest.raises(NoDataError, match=rf"4 or more sessions, got {n}.*lookback_days"):
        split_inner(window(n), embargo_sessions=1)
    with pytest.raises(
        NoDataError, match=r"end 1 session for the entry threshold, before that 3 sessions of embargo\."
    ):
        split_inner(window(n), embargo_sessions=3)


@given(n=st.integers(0, 60), embargo=st.integers(1, 30))
def test_the_sessions_that_an_inner_split_is_said_to_need_are_enough_and_one_fewer_is_not(n: int, embargo: int) -> None:
    try:
        split_inner(window(n), embargo_sessions=embargo)
    except NoDataError as error:
        needed = int(str(error).split("rows from ")[1].split()[0])
        assert split_inner(window(needed), embargo_sessions=embargo)
        with pytest.raises(NoDataError, match=f"rows from {needed} or more sessions, got {needed - 1}: "):
            split_inner(window(needed - 1), embargo_sessions=embargo)


@given(n=st.integers(0, 80), embargo=st.integers(1, 30), share=st.floats(0.05, 0.9))
def test_an_inner_split_is_whole_or_refused(n: int, embargo: int, share: float) -> None:
    try:
        found = split_inner(window(n), embargo_sessions=embargo, share=share)
    except NoDataError:
        return
    assert found.train
    assert found.exam
    assert len(found.embargoed) == embargo
    assert list(found.train + found.embargoed + found.exam) == window(n)
