"""The rule from prediction to target position."""

import hashlib
import math
import struct
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from hftcl.errors import UndefinedStatisticError, UsageError
from hftcl.settings import Side
from hftcl.strategy.costs import compute_cost
from hftcl.strategy.positions import POSITION_SCHEMA, PositionBook, Weight, compute_target_positions, hash_positions

OPEN = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
NOTHING = float("nan"), float("inf"), float("-inf"), None


def rows(
    predictions: dict[int, float | None], *, ticker: str = "AAPL", day: int = 0, length: int = 390
) -> pl.DataFrame:
    """Return one session's predictions by minute."""
    start = OPEN + timedelta(days=day)
    return pl.DataFrame(
        {
            "ticker": [ticker] * len(predictions),
            "ts": [start + timedelta(minutes=minute) for minute in predictions],
            "session": [start.date()] * len(predictions),
            "minute": list(predictions),
            "session_minutes": [length] * len(predictions),
            "prediction": list(predictions.values()),
        },
        schema={
            "ticker": pl.String,
            "ts": pl.Datetime("us", "UTC"),
            "session": pl.Date,
            "minute": pl.Int32,
            "session_minutes": pl.Int32,
            "prediction": pl.Float32,
        },
    )


def decide(frame: pl.DataFrame, *, threshold: float = 1.0, horizon: int = 4, weight: float = 1.0) -> pl.DataFrame:
    return compute_target_positions(
        frame, threshold=threshold, horizon_minutes=horizon, weight=weight, flat_minutes_before_close=2
    )


sessions = st.dictionaries(
    st.integers(0, 39),
    st.one_of(st.none(), st.sampled_from([2.0, -2.0, 0.5, float("nan"), float("inf")]), st.floats(-3, 3, width=32)),
    min_size=1,
    max_size=40,
).map(lambda found: dict(sorted(found.items())))


def test_positions_of_a_session_worked_by_hand() -> None:
    frame = rows({0: 2.0, 1: 0.9, 2: -3.0, 3: 1.5, 5: 1.0, 6: 4.0})
    # signals: 1, 0, -1, 1, -, 0 (not above 1.0), 1; the last four minutes, then by 4 and a weight of one half
    expected = [1 / 8, 1 / 8, 0 / 8, 1 / 8, 0 / 8, 2 / 8]
    assert decide(frame, weight=0.5)["position"].to_list() == expected


def test_a_minute_without_a_bar_ends_a_hold_in_time_all_the_same() -> None:
    assert decide(rows({0: 2.0, 3: 0.0, 4: 0.0}))["position"].to_list() == [0.25, 0.25, 0.0]


def test_a_session_starts_from_nothing() -> None:
    both = pl.concat([rows({0: 2.0, 1: 2.0}), rows({0: 0.0, 1: -2.0}, day=1)])
    assert decide(both)["position"].to_list() == [0.25, 0.5, 0.0, -0.25]


def test_a_full_window_of_signals_is_exactly_the_weight() -> None:
    frame = rows(dict.fromkeys(range(60), -2.0))
    assert decide(frame, horizon=30, weight=1 / 7)["position"][59] == -1 / 7


def test_an_order_that_would_fill_two_minutes_before_the_close_is_flat() -> None:
    full, half = rows(dict.fromkeys(range(390), 2.0)), rows(dict.fromkeys(range(210), 2.0), length=210)
    assert decide(full)["position"].to_list()[386:] == [1.0, 0.0, 0.0, 0.0]  # minute 386 fills at 387, 387 at 388
    assert decide(half)["position"].to_list()[206:] == [1.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("prediction", NOTHING)
def test_a_prediction_that_is_none_is_no_signal(prediction: float | None) -> None:
    assert decide(rows({0: 2.0, 1: prediction}))["position"].to_list() == [0.25, 0.25]


def test_a_threshold_of_zero_takes_every_sign_and_no_zero() -> None:
    assert decide(rows({0: 0.0, 1: 1e-30, 2: -1e-30}), threshold=0.0)["position"].to_list() == [0.0, 0.25, 0.0]


@pytest.mark.parametrize("threshold", [-0.1, float("nan"), float("inf")])
def test_a_threshold_that_is_none_is_refused(threshold: float) -> None:
    with pytest.raises(UsageError, match="finite threshold"):
        decide(rows({0: 2.0}), threshold=threshold)
    with pytest.raises(UsageError, match="finite threshold"):
        book(threshold=threshold)


@settings(max_examples=60)
@given(first=sessions, second=sessions, now=st.integers(0, 39), horizon=st.integers(1, 35))
def test_the_bars_known_so_far_give_the_same_bits_as_the_whole_session(
    first: dict[int, float | None], second: dict[int, float | None], now: int, horizon: int
) -> None:
    whole = pl.concat([rows(first, ticker="A", length=40), rows(second, ticker="B", length=40)])
    so_far = pl.col("minute") <= now
    batch = decide(whole, horizon=horizon, weight=1 / 3).filter(whole.select(so_far).to_series())
    streamed = decide(whole.filter(so_far), horizon=horizon, weight=1 / 3)
    assert_frame_equal(streamed, batch, check_exact=True)
    assert streamed.schema == POSITION_SCHEMA


@pytest.mark.parametrize(("side", "expected"), [("long", [1, 1, 1, 2, 1]), ("short", [0, -1, -1, -1, -1])])
def test_a_signal_to_the_side_that_is_not_traded_is_none(side: Side, expected: list[int]) -> None:
    frame = rows({0: 2.0, 1: -2.0, 2: 0.5, 3: 2.0, 4: 0.0})
    found = compute_target_positions(
        frame, threshold=1.0, horizon_minutes=4, weight=1.0, flat_minutes_before_close=2, side=side
    )
    assert found["position"].to_list() == [value / 4 for value in expected]


def book(*, threshold: float = 1.0, horizon: int = 4, weight: float = 1.0) -> PositionBook:
    return PositionBook(threshold=threshold, horizon_minutes=horizon, weight=weight, flat_minutes_before_close=2)


@settings(max_examples=60)
@given(days=st.lists(st.tuples(sessions, sessions), min_size=1, max_size=3), horizon=st.integers(1, 45))
def test_the_minutes_pushed_one_by_one_give_the_same_bits_as_all_at_once(
    days: list[tuple[dict[int, float | None], dict[int, float | None]]], horizon: int
) -> None:
    whole = pl.concat(
        rows(predictions, ticker=ticker, day=day, length=40)
        for day, both in enumerate(days)
        for ticker, predictions in zip("AB", both, strict=True)
    ).sort("ts", "ticker")
    streamed, at_once = book(horizon=horizon, weight=1 / 3), book(horizon=horizon, weight=1 / 3)
    pushed = pl.concat(streamed.push(minute) for minute in whole.partition_by("ts", maintain_order=True))
    expected = decide(whole, horizon=horizon, weight=1 / 3)
    assert_frame_equal(pushed, expected, check_exact=True)
    assert pushed.schema == POSITION_SCHEMA
    assert_frame_equal(at_once.push(whole), expected, check_exact=True)


@settings(max_examples=40)
@given(
    both=st.tuples(sessions, sessions),
    side=st.sampled_from(["both", "long", "short"]),
    weight=st.sampled_from([1 / 3, {"A": 0.1, "B": 0.7}, {"B": 1 / 7}]),
)
def test_minutes_one_by_one_and_all_at_once_agree_for_each_side_and_weight(
    both: tuple[dict[int, float | None], dict[int, float | None]], side: Side, weight: Weight
) -> None:
    parts = [rows(predictions, ticker=ticker, length=40) for ticker, predictions in zip("AB", both, strict=True)]
    whole = pl.concat(parts).sort("ts", "ticker")
    streamed = PositionBook(threshold=1.0, horizon_minutes=7, weight=weight, flat_minutes_before_close=2, side=side)
    pushed = pl.concat(streamed.push(minute) for minute in whole.partition_by("ts", maintain_order=True))
    expected = compute_target_positions(
        whole, threshold=1.0, horizon_minutes=7, weight=weight, flat_minutes_before_close=2, side=side
    )
    assert_frame_equal(pushed, expected, check_exact=True)
    assert hash_positions(pushed) == hash_positions(expected)
    found = expected["position"]
    assert side == "both" or bool(((found >= 0) if side == "long" else (found <= 0)).all())
    if weight == {"B": 1 / 7}:
        assert set(expected.filter(pl.col("ticker") == "A")["position"]) <= {0.0}, "without a weight it is not traded"


@pytest.mark.parametrize("horizon", [3, 5, 30, 49])
def test_a_watchlist_of_one_gets_the_same_bits_although_polars_divides_a_single_row_otherwise(horizon: int) -> None:
    whole = rows(dict.fromkeys(range(60), 2.0))
    streamed = book(horizon=horizon, weight=1 / 3)
    pushed = pl.concat(streamed.push(minute) for minute in whole.partition_by("ts", maintain_order=True))
    assert_frame_equal(pushed, decide(whole, horizon=horizon, weight=1 / 3), check_exact=True)


def test_a_book_starts_each_session_from_nothing_even_where_the_first_bar_is_late() -> None:
    streamed = book()
    streamed.push(rows({0: 2.0, 1: 2.0}))
    assert streamed.push(rows({2: -2.0}, day=1))["position"].to_list() == [-0.25]


def test_a_ticker_without_a_bar_runs_off_when_its_minute_is_pushed_without_a_prediction() -> None:
    streamed = book(horizon=2)
    found = [
        streamed.push(rows({minute: p}))["position"][0] for minute, p in ((0, 2.0), (1, 2.0), (2, None), (3, None))
    ]
    assert found == [0.5, 1.0, 0.5, 0.0]


@pytest.mark.parametrize("late", [{4: 1.0}, {5: 1.0}])
def test_a_prediction_that_comes_late_or_twice_is_refused(late: dict[int, float | None]) -> None:
    streamed = book()
    streamed.push(rows({5: 2.0}))
    with pytest.raises(ValueError, match=r"AAPL has a prediction for minute [45] of 2026-01-05"):
        streamed.push(rows(late))
    with pytest.raises(ValueError, match="comes late"):
        streamed.push(rows({30: 2.0}, day=-1))


@settings(max_examples=40)
@given(predictions=sessions, seed=st.integers(0, 9))
def test_the_order_of_rows_does_not_matter(predictions: dict[int, float | None], seed: int) -> None:
    frame = pl.concat([rows(predictions, day=day, length=40) for day in range(3)])
    shuffled = frame.sample(fraction=1.0, shuffle=True, seed=seed)
    assert_frame_equal(decide(shuffled).sort("ts"), decide(frame), check_exact=True)
    assert decide(shuffled)["ts"].to_list() == shuffled["ts"].to_list()
    assert hash_positions(decide(shuffled)) == hash_positions(decide(frame))


@settings(max_examples=40)
@given(predictions=st.lists(sessions, min_size=1, max_size=6), horizon=st.integers(1, 35))
def test_the_gross_position_never_exceeds_the_capital(predictions: list[dict[int, float | None]], horizon: int) -> None:
    frame = pl.concat([rows(one, ticker=f"T{n}", length=40) for n, one in enumerate(predictions)])
    found = decide(frame, threshold=0.0, horizon=horizon, weight=1 / len(predictions))
    gross = found.group_by("ts").agg(pl.col("position").abs().sum())["position"]
    assert gross.max() <= 1.0 + 1e-12  # type: ignore[operator]


def test_the_hash_is_over_the_documented_bytes() -> None:
    early, late = datetime(2026, 1, 5, 14, 30, tzinfo=UTC), datetime(2026, 1, 5, 14, 31, tzinfo=UTC)
    frame = pl.DataFrame(
        {"ticker": ["B", "A", "A"], "ts": [early, late, early], "position": [0.125, -0.0, -0.25]},
        schema=POSITION_SCHEMA,
    )
    stamp = [int(ts.timestamp()) * 1_000_000 for ts in (early, late)]
    a = b"A\0" + struct.pack("<qqdqd", 2, stamp[0], -0.25, stamp[1], 0.0)
    b = b"B\0" + struct.pack("<qqd", 1, stamp[0], 0.125)
    assert hash_positions(frame) == hashlib.sha256(a + b).hexdigest()


def test_the_hash_tells_every_part_of_a_position_apart() -> None:
    ts = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)
    seen = {
        hash_positions(pl.DataFrame({"ticker": [t], "ts": [when], "position": [p]}, schema=POSITION_SCHEMA))
        for t in ("A", "AB")
        for when in (ts, ts + timedelta(microseconds=1))
        for p in (0.1, math.nextafter(0.1, 1))
    }
    assert len(seen) == 8


@pytest.mark.parametrize("position", NOTHING)
def test_a_position_that_is_none_has_no_hash(position: float | None) -> None:
    frame = pl.DataFrame(
        {"ticker": ["A"], "ts": [datetime(2026, 1, 5, tzinfo=UTC)], "position": [position]}, schema=POSITION_SCHEMA
    )
    with pytest.raises(UndefinedStatisticError, match="no hash"):
        hash_positions(frame)


def test_no_positions_have_the_hash_of_nothing() -> None:
    assert hash_positions(pl.DataFrame(schema=POSITION_SCHEMA)) == hashlib.sha256(b"").hexdigest()


def test_a_basis_point_is_a_ten_thousandth_of_what_is_traded() -> None:
    turnover = pl.Series([0.0, 0.5, 2.0]).to_numpy()
    assert compute_cost(turnover, cost_bps=1.5).tolist() == pytest.approx([0.0, 0.000075, 0.0003])
