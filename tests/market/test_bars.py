import math
from collections import Counter
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from hftcl.errors import SourceError
from hftcl.market.bars import (
    BAR_SCHEMA,
    DROPPED,
    NOTED,
    RAW_SCHEMA,
    Finding,
    clean,
    find_label_doubt,
    label,
    merge_findings,
)
from hftcl.market.coverage import measure_coverage
from hftcl.market.sessions import Calendar
from hftcl.market.sources import Split
from hftcl.market.splits import adjust_for_splits, find_unannounced_splits
from tests.market.exchange import quiet_bars

FRIDAY, MONDAY, TUESDAY = date(2026, 1, 9), date(2026, 1, 12), date(2026, 1, 13)
SESSIONS = Calendar("XNYS").list_sessions(FRIDAY, TUESDAY)
OPEN = datetime(2026, 1, 9, 14, 30, tzinfo=UTC)
Row = tuple[str | None, datetime | None, float | None, float | None, float | None, float | None, float | None]


def frame(*rows: Row) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=RAW_SCHEMA, orient="row")


def bar(minute: int, price: float = 100.0, **changed: object) -> Row:
    values = {
        "ticker": "A",
        "ts": OPEN + timedelta(minutes=minute),
        "open": price,
        "high": price + 1,
        "low": price - 1,
        "close": price + 0.5,
        "volume": 50.0,
    }
    return tuple((values | changed).values())  # type: ignore[return-value]


def counts(findings: tuple[Finding, ...]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for finding in findings:
        total[finding.reason] += finding.count
    return dict(total)


def test_a_clean_bar_knows_its_session_its_minute_and_whether_it_is_regular() -> None:
    raw = frame(bar(-330), bar(0), bar(389), bar(390), bar(629))
    bars, findings = clean(raw, SESSIONS, ticker="A")
    assert findings == ()
    assert bars.schema == BAR_SCHEMA
    assert bars.select("session", "minute", "session_minutes", "regular").rows() == [
        (FRIDAY, -330, 390, False),
        (FRIDAY, 0, 390, True),
        (FRIDAY, 389, 390, True),
        (FRIDAY, 390, 390, False),
        (FRIDAY, 629, 390, False),
    ]


@pytest.mark.hazard(32)
@pytest.mark.parametrize(
    ("reason", "row"),
    [
        ("foreign_ticker", bar(5, ticker="AX")),
        ("foreign_ticker", bar(5, ticker=None)),
        ("no_timestamp", bar(5, ts=None)),
        ("off_minute", bar(5, ts=OPEN + timedelta(minutes=5, seconds=30))),
        ("future", bar(5, ts=datetime(2126, 1, 9, 15, tzinfo=UTC))),
        ("still_open", bar(90)),
        ("outside_session", bar(60 * 24 + 5)),
        ("outside_session", bar(630)),
        ("outside_session", bar(-331)),
        ("not_finite", bar(5, close=math.nan)),
        ("not_finite", bar(5, high=math.inf)),
        ("not_finite", bar(5, open=None)),
        ("not_finite", bar(5, volume=None)),
        ("not_positive", bar(5, low=0.0)),
        ("not_positive", bar(5, open=-100.0)),
        ("negative_volume", bar(5, volume=-1.0)),
        ("zero_volume", bar(5, volume=0.0)),
        ("high_below_low", bar(5, high=99.0, low=101.0)),
        ("open_or_close_outside_range", bar(5, close=125.0)),
        ("open_or_close_outside_range", bar(5, open=98.9)),
        ("bad_tick", bar(5, low=0.01)),
        ("bad_tick", bar(5, 1000.0)),
        ("bad_tick", bar(5, 10.0)),
    ],
)
def test_each_fault_is_dropped_under_its_own_reason(reason: str, row: Row) -> None:
    as_of = None if reason == "outside_session" else OPEN + timedelta(minutes=90, seconds=59)
    bars, findings = clean(frame(bar(4), row, bar(6)), SESSIONS, ticker="A", as_of=as_of)
    assert counts(findings) == {reason: 1}
    assert bars["minute"].to_list() == [4, 6]


def test_disorder_is_put_right_and_fractional_volume_is_legal() -> None:
    bars, findings = clean(frame(bar(7, volume=0.25), bar(3), bar(5)), SESSIONS, ticker="A")
    assert (bars["minute"].to_list(), bars["volume"].to_list(), findings) == ([3, 5, 7], [50.0, 50.0, 0.25], ())


def test_one_of_two_equal_bars_is_kept() -> None:
    bars, findings = clean(frame(bar(3), bar(4), bar(3)), SESSIONS, ticker="A")
    assert (bars["minute"].to_list(), counts(findings)) == ([3, 4], {"duplicate": 1})


def test_of_two_different_bars_of_a_minute_the_last_delivered_is_kept() -> None:
    raw = frame(bar(3, volume=1.0), bar(4), bar(3, volume=3.0), bar(3, volume=2.0), bar(3, volume=3.0))
    bars, findings = clean(raw, SESSIONS, ticker="A")
    assert bars["volume"].to_list() == [3.0, 50.0]
    assert counts(findings) == {"duplicate": 1, "conflicting_duplicate": 2}


def test_a_good_bar_survives_a_faulty_bar_of_its_minute_whatever_came_last() -> None:
    bars, findings = clean(frame(bar(3), bar(3, close=math.nan)), SESSIONS, ticker="A")
    assert (bars["minute"].to_list(), counts(findings)) == ([3], {"not_finite": 1})


def test_a_late_print_20_percent_off_and_a_day_that_doubles_are_real() -> None:
    raw = frame(bar(-90, 100.0), bar(-89, 120.0), bar(-88, 100.0), bar(30, 150.0), bar(60, 210.0), bar(61, 300.0))
    bars, findings = clean(raw, SESSIONS, ticker="A")
    assert (bars.height, findings) == (6, ())


def test_a_weekend_bar_is_told_under_the_session_that_it_follows() -> None:
    _, findings = clean(frame(bar(0), bar(60 * 24)), SESSIONS, ticker="A")
    saturday = OPEN + timedelta(days=1)
    assert findings == (Finding("A", "outside_session", 1, saturday, FRIDAY),)


def test_a_price_that_stands_still_for_25_minutes_is_noted_and_kept() -> None:
    flat = [bar(minute, high=100.0, low=100.0, close=100.0) for minute in range(10, 35)]
    bars, findings = clean(frame(bar(9), *flat, bar(35)), SESSIONS, ticker="A")
    assert bars.height == 27
    assert findings == (Finding("A", "stuck_price", 25, OPEN + timedelta(minutes=10), FRIDAY, "at 100"),)


def test_every_reason_is_explained() -> None:
    assert not set(DROPPED) & set(NOTED)
    assert all(DROPPED.values())
    assert all(NOTED.values())


# A market of few minutes and few values, so that duplicates, faults and neighbours meet.
minutes = st.one_of(st.integers(-400, 900), st.integers(0, 6), st.integers(5_600, 5_800))
stamps = st.one_of(
    st.none(),
    minutes.map(lambda m: OPEN + timedelta(minutes=m)),
    st.integers(-50, 50).map(lambda s: OPEN + timedelta(seconds=30 * s)),
)
prices = st.one_of(
    st.none(),
    st.sampled_from([99.0, 100.0, 101.0, 1000.0, 10.0, 0.01, 0.0, -1.0, math.nan, math.inf]),
    st.floats(90, 110),
    st.floats(),
)
volumes = st.one_of(st.none(), st.sampled_from([0.0, -5.0, 0.5, 100.0, math.nan]))
tickers = st.sampled_from(["A", "A", "A", "A", "a", " A", "AX", None])
sound = st.one_of(st.floats(95, 105), st.sampled_from([10.0, 100.0, 1000.0]))  # sound alone, not beside each other
sane = st.tuples(minutes, sound, st.sampled_from([1.0, 2.5])).map(lambda t: bar(t[0], t[1], volume=t[2]))
rows = st.lists(st.one_of(sane, st.tuples(tickers, stamps, prices, prices, prices, prices, volumes)), max_size=40)


@pytest.mark.hazard(32)
@settings(max_examples=100)
@given(rows=rows, known=st.one_of(st.none(), minutes))
def test_no_bar_is_dropped_silently_and_none_that_is_kept_is_faulty(rows: list[Row], known: int | None) -> None:
    as_of = None if known is None else OPEN + timedelta(minutes=known)
    bars, findings = clean(frame(*rows), SESSIONS, ticker="A", as_of=as_of)
    assert bars.height + sum(f.count for f in findings if f.reason in DROPPED) == len(rows)
    assert {f.reason for f in findings} <= set(DROPPED) | set(NOTED)
    assert bars["ts"].is_sorted()
    assert bars["ts"].is_unique().all()
    for row in bars.iter_rows(named=True):
        assert row["ticker"] == "A"
        assert 0 < row["low"] <= min(row["open"], row["close"]) <= max(row["open"], row["close"]) <= row["high"]
        assert math.isfinite(row["high"])
        assert 0 < row["volume"] < math.inf
        assert as_of is None or row["ts"] + timedelta(minutes=1) <= as_of


@settings(max_examples=100)
@given(rows=rows)
def test_cleaning_twice_changes_nothing(rows: list[Row]) -> None:
    once, findings = clean(frame(*rows), SESSIONS, ticker="A")
    twice, again = clean(once.select(RAW_SCHEMA.names()), SESSIONS, ticker="A")
    assert_frame_equal(once, twice, check_exact=True)
    assert [f for f in again if f.reason in DROPPED] == []
    assert [f for f in again if f.reason in NOTED] == [f for f in findings if f.reason in NOTED]


@settings(max_examples=100)
@given(rows=rows, now=st.integers(-400, 900))
def test_cleaning_a_bar_never_depends_on_later_bars(rows: list[Row], now: int) -> None:
    moment = OPEN + timedelta(minutes=now)
    everything, _ = clean(frame(*rows), SESSIONS, ticker="A")
    known = [row for row in rows if row[1] is not None and row[1] + timedelta(minutes=1) <= moment]
    then, _ = clean(frame(*known), SESSIONS, ticker="A", as_of=moment)
    assert_frame_equal(everything.filter(pl.col("ts") + timedelta(minutes=1) <= moment), then, check_exact=True)


@settings(max_examples=60)
@given(rows=rows, cut=st.sampled_from([1, 2]))
def test_sessions_fetched_apart_clean_to_the_same_bars_as_fetched_at_once(rows: list[Row], cut: int) -> None:
    at_once, _ = clean(frame(*rows), SESSIONS, ticker="A")
    halves = [clean(frame(*rows), part, ticker="A")[0] for part in (SESSIONS[:cut], SESSIONS[cut:])]
    assert_frame_equal(at_once, pl.concat(halves), check_exact=True)


def test_without_bars_or_sessions_cleaning_gives_an_empty_frame_of_the_schema() -> None:
    bars, findings = clean(RAW_SCHEMA.to_frame(), SESSIONS, ticker="A")
    assert (bars.schema, bars.height, findings) == (BAR_SCHEMA, 0, ())
    bars, findings = clean(frame(bar(1)), SESSIONS.clear(), ticker="A")
    assert (bars.schema, bars.height, counts(findings)) == (BAR_SCHEMA, 0, {"outside_session": 1})


def two_sessions(before: float, after: float, ticker: str = "A") -> pl.DataFrame:
    rows = [bar(m, before, ticker=ticker) for m in range(10)]
    rows += [bar(m, after, ticker=ticker, ts=OPEN + timedelta(days=3, minutes=m)) for m in range(10)]
    return label(frame(*rows), SESSIONS)


def test_a_split_divides_earlier_prices_and_multiplies_earlier_volumes() -> None:
    bars = two_sessions(400.0, 100.0)
    adjusted = adjust_for_splits(bars, (Split("A", MONDAY, 1, 4),))
    assert adjusted["open"].to_list() == [100.0] * 20
    assert adjusted["volume"].to_list() == [200.0] * 10 + [50.0] * 10
    assert adjusted.drop("open", "high", "low", "close", "volume").equals(
        bars.drop("open", "high", "low", "close", "volume")
    )


def test_two_splits_multiply_another_tickers_split_and_a_later_one_do_nothing() -> None:
    splits = (
        Split("A", TUESDAY, 1, 2),
        Split("A", MONDAY, 1, 3),
        Split("B", MONDAY, 1, 7),
        Split("A", date(2026, 1, 14), 1, 5),
    )
    rows = [bar(1, 600.0), bar(1, 200.0, ts=OPEN + timedelta(days=3)), bar(1, 100.0, ts=OPEN + timedelta(days=4))]
    adjusted = adjust_for_splits(label(frame(*rows), SESSIONS), splits)
    assert adjusted["open"].to_list() == [100.0, 100.0, 100.0]


def test_tickers_are_adjusted_each_by_its_own_splits_and_keep_their_order() -> None:
    bars = pl.concat([two_sessions(300.0, 100.0, "B"), two_sessions(50.0, 100.0, "A")])
    adjusted = adjust_for_splits(bars, (Split("B", MONDAY, 1, 3), Split("A", MONDAY, 2, 1)))
    assert adjusted["ticker"].to_list() == bars["ticker"].to_list()
    assert adjusted["open"].to_list() == [100.0] * 40


def test_a_split_table_with_a_ratio_of_zero_is_refused() -> None:
    with pytest.raises(SourceError, match="makes 0 shares of one"):
        adjust_for_splits(two_sessions(1.0, 1.0), (Split("A", MONDAY, 1, 0),))


@pytest.mark.hazard(35)
@pytest.mark.parametrize("ratio", [2, 3, 4, 5, 8, 10, 15, 20, 1 / 2, 1 / 10, 1 / 50])
def test_a_jump_like_a_split_is_found_both_ways_and_a_known_split_is_not(ratio: float) -> None:
    bars = two_sessions(300.0 * ratio, 310.0)
    (finding,) = find_unannounced_splits(bars, ())
    assert (finding.reason, finding.session, finding.count) == ("unannounced_split", MONDAY, 10)
    assert find_unannounced_splits(bars, (Split("A", MONDAY, 1, ratio),)) == ()


@pytest.mark.parametrize("change", [-0.42, -0.3, -0.2, 0.2, 0.3, 0.6])
def test_bad_or_good_news_overnight_is_a_return_and_no_split(change: float) -> None:
    assert find_unannounced_splits(two_sessions(300.0, 300.0 * (1 + change)), ()) == ()


def test_one_wrong_bar_at_the_open_makes_no_split() -> None:
    rows = [bar(m) for m in range(10)] + [bar(m, ts=OPEN + timedelta(days=3, minutes=m)) for m in range(1, 10)]
    opening = bar(0, 200.0, ts=OPEN + timedelta(days=3))
    assert find_unannounced_splits(label(frame(*rows, opening), SESSIONS).sort("ts"), ()) == ()


@pytest.mark.hazard(37)
def test_coverage_tells_missing_sessions_and_long_gaps_and_counts_minutes() -> None:
    raw = quiet_bars("A", first=FRIDAY, last=TUESDAY, extended=False)
    monday = pl.col("ts").dt.date() == MONDAY
    gap = pl.col("ts").is_between(OPEN + timedelta(minutes=100), OPEN + timedelta(minutes=136))
    late = pl.col("ts") < OPEN + timedelta(days=4, minutes=12)
    bars, _ = clean(raw.filter(~monday & ~gap & ~(late & (pl.col("ts").dt.date() == TUESDAY))), SESSIONS, ticker="A")
    got = measure_coverage(bars, SESSIONS, ticker="A")
    assert (got.sessions, got.expected_sessions, got.missing) == (2, 3, (MONDAY,))
    assert (got.minutes, got.expected_minutes) == (390 - 37 + 390 - 12, 3 * 390)
    assert [(f.reason, f.count, f.detail) for f in got.findings] == [
        ("missing_session", 1, "2026-01-12"),
        ("gap", 37, "37 minutes from 2026-01-09 16:10 UTC"),
        ("gap", 12, "12 minutes from 2026-01-13 14:30 UTC"),
    ]


def test_the_calendar_decides_that_a_holiday_is_no_hole() -> None:
    first, last = date(2025, 1, 8), date(2025, 1, 10)
    sessions = Calendar("XNYS").list_sessions(first, last)
    bars, _ = clean(quiet_bars("A", first=first, last=last), sessions, ticker="A")
    got = measure_coverage(bars, sessions, ticker="A")
    assert (got.share, got.findings, got.minutes) == (1.0, (), 780)


def test_findings_of_many_sessions_merge_into_one_line_per_ticker_and_reason() -> None:
    merged = merge_findings(
        [
            Finding("B", "gap", 3, OPEN, FRIDAY, "x"),
            Finding("A", "duplicate", 2, OPEN + timedelta(days=3), MONDAY),
            Finding("A", "duplicate", 1, OPEN, FRIDAY),
        ]
    )
    assert merged == (
        Finding("A", "duplicate", 3, OPEN, FRIDAY, "in 2 sessions"),
        Finding("B", "gap", 3, OPEN, FRIDAY, "x"),
    )


@pytest.mark.parametrize("sessions", [1, 4, 5, 9])
@pytest.mark.parametrize("busy", [-1, 0, 1, None])
def test_a_label_is_doubted_where_the_opening_minute_stands_beside_the_open(sessions: int, busy: int | None) -> None:
    """`busy` is the minute that trades most; None for the same volume in all, which tells nothing."""
    days = Calendar("XNYS").list_sessions(date(2026, 1, 5), date(2026, 1, 31)).head(sessions)
    rows = [
        ("A", start + timedelta(minutes=k), 10.0, 11.0, 9.0, 10.0, 900.0 if k == busy else 100.0)
        for start in days["open"]
        for k in range(-3, 4)
    ]
    bars = label(pl.DataFrame(rows, schema=RAW_SCHEMA, orient="row"), days)
    doubts = find_label_doubt(bars, ticker="A")
    wanted = [(sessions, {-1: "start", 1: "end"}[busy])] if busy and sessions >= 5 else []
    assert [(doubt.count, doubt.detail.split()[4]) for doubt in doubts] == wanted
