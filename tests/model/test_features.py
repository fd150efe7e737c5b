"""The features: what they are, by a second implementation, and that none of them sees the future."""

from collections.abc import Callable
from datetime import date, datetime
from functools import cache
from time import perf_counter

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from hftcl.model import features as module
from hftcl.model.features import FEATURE_NAMES, FEATURES, WARMUP_SESSIONS, Feature, evaluate, features
from hftcl.model.grid import build_grid
from tests.model.feature_cases import Values, market, one_session, reference
from tests.shared_data import REAL_BARS, needs_real_bars

Compute = Callable[[pl.DataFrame], pl.DataFrame]
QUIET = settings(max_examples=40)


def differences_when_cut(bars: pl.DataFrame, now: datetime, compute: Compute = features) -> int:
    """Count the values up to `now` that are not the same, to the bit, without the bars after it."""
    known = bars["ts"] <= now
    before, after = compute(bars.filter(known)), compute(bars).filter(known)
    return sum((~before[name].eq_missing(after[name])).arg_true().len() for name in before.columns)


def planted(expr: pl.Expr) -> Compute:
    leak = Feature(name="leak", group="", expr=expr, lookback=0, formula="", reason="")
    return lambda bars: evaluate(build_grid(bars), (leak,))


@cache
def eight_sessions() -> tuple[pl.DataFrame, pl.DataFrame, list[Values]]:
    bars = market(1, sessions=8, minutes=(60, 60, 35, 60, 60, 60, 45, 60))  # two half days
    return bars, features(bars), reference(bars)


@cache
def real_bars() -> pl.DataFrame:
    """Read the ten real tickers in regular hours, and on half days what follows the close."""
    bars = pl.concat(pl.read_parquet(path) for path in sorted(REAL_BARS.glob("*.parquet")))
    local = pl.col("ts").dt.convert_time_zone("America/New_York")
    bars = bars.with_columns(
        session=local.dt.date(), minute=local.dt.hour().cast(pl.Int32) * 60 + local.dt.minute() - 570
    )
    return bars.filter(pl.col("minute").is_between(0, 389)).sort("ticker", "ts")


# What they are


def test_there_are_31_features_with_their_own_names_formulae_and_reasons() -> None:
    assert len(FEATURES) == 31
    assert (
        len({f.name for f in FEATURES}) == len({f.formula for f in FEATURES}) == len({f.reason for f in FEATURES}) == 31
    )
    assert features(eight_sessions()[0]).schema == pl.Schema(dict.fromkeys(FEATURE_NAMES, pl.Float32))


@pytest.mark.parametrize("name", FEATURE_NAMES)
def test_each_feature_is_what_a_second_implementation_computes(name: str) -> None:
    bars, computed, expected = eight_sessions()
    got = computed[name].to_list()
    want = [values.get(name) for values in expected]
    assert [x is None for x in got] == [x is None for x in want]
    known = [(x, y) for x, y in zip(got, want, strict=True) if x is not None and y is not None]
    assert len(known) > bars.height / 4
    small = name in {"vol_30", "garman_klass_20", "gap_overnight"}
    assert [x for x, _ in known] == pytest.approx([y for _, y in known], rel=1e-5, abs=1e-8 if small else 3e-6)


def test_hand_calculated_values_of_a_price_that_swings_by_one_per_cent() -> None:
    closes = [100.0 if minute % 2 == 0 else 101.0 for minute in range(31)]
    last = features(one_session(closes)).row(30, named=True)
    move = 0.00995033  # ln 1.01
    expected = {
        "vol_30": move,
        "ret_1": -1.0,  # down by one usual move
        "ret_5": -0.4472136,  # -1 / sqrt 5
        "ret_30": 0.0,
        "vol_ratio_5_30": 1.0,
        "atr_14": 1.0,
        "garman_klass_20": 0.0033699,  # (0.5 - 0.3862944) under the root, times ln 1.01
        "ma_dist_10": -0.1581139,  # half a move below the mean, / sqrt 10
        "rsi_14": 50.0,
        "bollinger_20": -1.0,
        "stochastic_14": 0.0,
        "pressure_5": -0.2,  # three falls, two rises
        "pressure_30": 0.0,
        "money_flow_20": 0.0,
        "volume_burst_5_30": 1.0,
        "candle_body": -1.0,
        "candle_wick": 0.0,
        "time_of_session": 0.0769231,  # 30 / 390
        "watchlist_ret_15": 0.0,
        "ret_5_vs_watchlist": 0.0,
        "ret_30_vs_watchlist": 0.0,
    }
    expected["garman_klass_20"] = 0.3371581 * move
    assert {name: last[name] for name in expected} == pytest.approx(expected, abs=2e-6)
    unknown = {"gap_overnight", "volume_vs_earlier_sessions", "vol_vs_previous_session"}
    assert {name for name, value in last.items() if value is None} == unknown


def test_a_flat_price_without_volume_gives_stated_neutral_values_or_nulls_and_no_nan() -> None:
    last = features(one_session([50.0] * 60, volume=0.0)).row(59, named=True)
    assert {name: value for name, value in last.items() if value is not None} == pytest.approx(
        {
            "vol_30": 0.0,
            "garman_klass_20": 0.0,
            "rsi_14": 50.0,
            "bollinger_20": 0.0,
            "stochastic_14": 0.5,
            "range_position": 0.5,
            "volume_burst_5_30": 1.0,
            "pressure_5": 0.0,
            "pressure_30": 0.0,
            "money_flow_20": 0.0,
            "candle_body": 0.0,
            "candle_wick": 0.0,
            "time_of_session": 59 / 390,
            "watchlist_ret_15": 0.0,
        }
    )


def test_a_feature_is_null_in_exactly_the_first_lookback_minutes_of_a_session() -> None:
    bars = market(3, tickers=("AAA", "BBB"), sessions=WARMUP_SESSIONS + 1, missing=0, latest_start=0)
    newest = bars["session"] == bars["session"].max()
    for feature in FEATURES:
        values = features(bars).filter(newest)[feature.name].to_list()
        for ticker in (values[:60], values[60:]):
            assert [v is None for v in ticker] == [m < feature.lookback for m in range(60)], feature.name


@pytest.mark.hazard(37)
def test_a_missing_minute_counts_as_a_minute_and_gets_no_row_of_its_own() -> None:
    bars = one_session([100.0 + minute**2 % 7 for minute in range(60)])
    gap = bars.filter(~pl.col("minute").is_in([51, 52, 53]))
    last = features(gap)
    assert last.height == 57
    # Minute 55 looks back to minute 50, which is 2 bars ago.
    closes = gap["close"].to_list()
    c55, c50, c54 = closes[-5], closes[-7], closes[-6]
    row = last.row(-5, named=True)
    assert row["ret_5"] / row["ret_1"] == pytest.approx(np.log(c55 / c50) / np.log(c55 / c54) / 5**0.5, rel=1e-5)
    carried = gap.filter(pl.col("minute") == 50).with_columns(
        pl.col("open", "high", "low").replace_strict({}, default=pl.col("close")), volume=pl.lit(0.0)
    )
    filled = pl.concat(
        [
            gap,
            *(carried.with_columns(pl.col("ts").dt.offset_by(f"{n}m"), minute=pl.col("minute") + n) for n in (1, 2, 3)),
        ]
    )
    assert_frame_equal(last, features(filled).head(57), check_exact=True)


def test_volume_is_compared_only_with_earlier_sessions_that_had_the_minute() -> None:
    bars = market(4, tickers=("AAA",), sessions=3, minutes=(60, 20, 60), missing=0, latest_start=0)
    without_half_day = bars.filter(pl.col("session") != date(2025, 3, 4))
    half = features(bars).tail(60)["volume_vs_earlier_sessions"]
    # After the half day's close the usual volume is that of the first session alone; only the floor knows the half day.
    first, last = (
        bars.filter(pl.col("session") == day)["volume"].to_numpy() for day in bars["session"].unique().sort()[::2]
    )
    floor = bars.head(80)["volume"].sum() / 80 / 2
    expected = np.log((last[46:51].sum() + floor) / (first[46:51].sum() + floor))
    assert half[50] == pytest.approx(expected, rel=1e-5)
    assert features(without_half_day).tail(60)["volume_vs_earlier_sessions"][50] != half[50]


# No look-ahead


@QUIET
@given(closes=st.lists(st.floats(1, 1000), min_size=40, max_size=80), now=st.integers(1, 40))
def test_a_feature_never_changes_when_later_bars_arrive(closes: list[float], now: int) -> None:
    bars = one_session(closes)
    assert_frame_equal(features(bars.head(now)), features(bars).head(now), check_exact=True)


@QUIET
@given(seed=st.integers(0, 10**6), cut=st.floats(0, 1), missing=st.sampled_from([0.0, 0.1, 0.6]))
def test_nor_with_several_tickers_gaps_late_starts_and_sessions(seed: int, cut: float, missing: float) -> None:
    bars = market(seed, sessions=3, minutes=(50, 30, 50), missing=missing, latest_start=35)
    minutes = bars["ts"].unique().sort()
    assert differences_when_cut(bars, minutes[int(cut * (minutes.len() - 1))]) == 0


@pytest.mark.parametrize(
    ("leak", "expr"),
    [
        ("the next close", pl.col("close").shift(-1) / pl.col("close")),
        ("the session's high", pl.col("high").max() / pl.col("close")),
        ("a centred average", pl.col("close").rolling_mean(5, center=True) / pl.col("close")),
        ("a share of the day's volume", pl.col("v").cum_sum() / pl.col("v").sum()),
        ("the last minute's number", pl.col("minute").max()),
        ("a deviation from the session's mean", pl.col("close") - pl.col("close").mean()),
    ],
)
def test_the_same_check_catches_a_feature_that_looks_ahead(leak: str, expr: pl.Expr) -> None:
    bars = market(5, sessions=2)
    minutes = bars["ts"].unique().sort()
    assert any(differences_when_cut(bars, minutes[i], planted(expr)) for i in range(100, 110)), leak


def test_a_minute_at_a_time_with_just_the_warm_up_sessions_equals_the_whole_history() -> None:
    bars = market(6, sessions=WARMUP_SESSIONS + 3, minutes=45, latest_start=20)
    batch = bars.select("ts", "ticker").hstack(features(bars)).sort("ts", "ticker")
    days = bars["session"].unique().sort()
    window = bars.filter(pl.col("session") >= days[-1 - WARMUP_SESSIONS]).sort("ts", "ticker")
    for now in window.filter(pl.col("session") == days[-1])["ts"].unique().sort():
        seen = window.filter(pl.col("ts") <= now)
        live = seen.select("ts", "ticker").hstack(features(seen)).filter(pl.col("ts") == now)
        assert_frame_equal(live, batch.filter(pl.col("ts") == now), check_exact=True)


def test_only_the_features_that_say_so_read_earlier_sessions() -> None:
    bars = market(7, sessions=WARMUP_SESSIONS + 1)
    newest = bars["session"] == bars["session"].max()
    other = bars.with_columns(
        pl.when(newest).then(pl.col(name)).otherwise(pl.col(name) * (1.5 + pl.col("minute") % 3)).alias(name)
        for name in ("open", "high", "low", "close", "volume")
    ).with_columns(
        high=pl.max_horizontal("open", "high", "low", "close"), low=pl.min_horizontal("open", "low", "close")
    )
    before, after = features(bars).filter(newest), features(other).filter(newest)
    changed = {name for name in FEATURE_NAMES if not before[name].equals(after[name], null_equal=True)}
    assert changed == {f.name for f in FEATURES if f.sessions}
    crosses = ("previous_session", "earlier_sessions", "overnight")
    assert changed == {name for name in FEATURE_NAMES if any(words in name for words in crosses)}


@needs_real_bars
def test_real_features_never_change_when_later_bars_arrive() -> None:
    check_random_cuts(cuts=4, seed=0)


@needs_real_bars
@pytest.mark.slow
def test_real_features_never_change_at_any_of_120_moments() -> None:
    check_random_cuts(cuts=120, seed=1)


def check_random_cuts(*, cuts: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    bars = real_bars()
    days = bars["session"].unique().sort()
    for _ in range(cuts):
        last = int(random.integers(WARMUP_SESSIONS + 1, days.len()))
        window = bars.filter(pl.col("session").is_between(days[last - WARMUP_SESSIONS - 1], days[last]))
        moments = window.filter(pl.col("session") == days[last])["ts"].unique().sort()
        now = moments[int(random.integers(0, moments.len()))]
        assert differences_when_cut(window, now) == 0, now


@needs_real_bars
@pytest.mark.slow
def test_real_bars_of_ten_months_and_all_hours_give_finite_values() -> None:
    bars = pl.concat(pl.read_parquet(path) for path in sorted(REAL_BARS.glob("*.parquet")))
    bars = bars.with_columns(session=pl.col("ts").dt.convert_time_zone("America/New_York").dt.date())
    assert bars.height > 1_300_000
    for values in (features(bars), features(real_bars())):
        assert values.select(pl.all_horizontal(pl.all().drop_nulls().is_finite().all())).item()


# Invariance


@QUIET
@given(seed=st.integers(0, 10**6), price=st.floats(0.01, 1000), volume=st.sampled_from([0.1, 0.25, 3, 7.7, 1000]))
def test_features_do_not_depend_on_the_unit_of_price_or_volume(seed: int, price: float, volume: float) -> None:
    bars = market(seed, tickers=("AAA", "BBB"), sessions=2, minutes=45)
    scaled = bars.with_columns(pl.col("open", "high", "low", "close") * price, volume=pl.col("volume") * volume)
    assert_frame_equal(features(bars), features(scaled), rel_tol=1e-4, abs_tol=1e-5)


@QUIET
@given(
    closes=st.lists(st.sampled_from([1e-6, 1e-3, 0.5, 1.0, 1.01, 100.0, 1e6]), min_size=1, max_size=70),
    volume=st.sampled_from([0.0, 1e-4, 1.0, 1e9, 1e15]),
)
def test_wild_prices_give_no_nan_and_no_infinity(closes: list[float], volume: float) -> None:
    values = features(pl.concat([one_session(closes, volume=volume), one_session(closes[::-1], ticker="BBB")]))
    assert all(values[name].drop_nulls().is_finite().all() for name in FEATURE_NAMES)


def test_rows_come_back_in_the_order_in_which_the_bars_came() -> None:
    bars, computed, _ = eight_sessions()
    order = np.random.default_rng(0).permutation(bars.height)
    assert_frame_equal(features(bars[order]), computed[order], check_exact=True)


def test_without_a_minute_column_minutes_count_from_the_sessions_first_bar() -> None:
    bars = market(8, latest_start=0)
    assert_frame_equal(features(bars.drop("minute")), features(bars), check_exact=True)


def test_large_frames_that_are_cut_into_chunks_give_the_same_values(monkeypatch: pytest.MonkeyPatch) -> None:
    bars, computed, _ = eight_sessions()
    for rows in (1, 61, 500):
        monkeypatch.setattr(module, "_CHUNK_ROWS", rows)
        assert_frame_equal(features(bars), computed, check_exact=True)


def test_a_ticker_without_others_has_no_market_to_compare_with() -> None:
    bars = market(9, tickers=("AAA", "BBB"), sessions=1, missing=0, latest_start=0)
    both, alone = features(bars).head(60), features(bars.filter(pl.col("ticker") == "AAA"))
    of_watchlist = [f.name for f in FEATURES if f.group == "watchlist"]
    assert alone.tail(30).select((pl.col(of_watchlist) == 0).all()).row(0) == (True, True, True)
    assert both.tail(30).select((pl.col(of_watchlist) == 0).any()).row(0) == (False, False, False)
    assert_frame_equal(both.drop(of_watchlist), alone.drop(of_watchlist), check_exact=True)


def test_the_other_tickers_count_by_their_values_and_not_by_their_order_or_names() -> None:
    bars = market(10, tickers=("AAA", "BBB", "CCC", "DDD"), sessions=2)
    renamed = bars.with_columns(pl.col("ticker").replace({"BBB": "ZZZ", "DDD": "BBB", "ZZZ": "DDD"}))
    mine = bars["ticker"] == "AAA"
    assert_frame_equal(features(renamed).filter(mine), features(bars).filter(mine), check_exact=True)


def test_no_bars_give_no_rows_of_the_31_columns() -> None:
    empty = features(market(0).clear())
    assert (empty.height, empty.columns) == (0, list(FEATURE_NAMES))


@pytest.mark.parametrize(
    ("column", "value"),
    [("close", float("nan")), ("open", 0.0), ("low", -1.0), ("high", float("inf")), ("volume", -1.0), ("close", None)],
)
def test_a_bar_that_cleaning_would_drop_is_refused_by_name(column: str, value: float | None) -> None:
    bars = one_session([100.0, 101.0]).with_columns(
        pl.when(pl.col("minute") == 1).then(pl.lit(value)).otherwise(column).cast(pl.Float64).alias(column)
    )
    with pytest.raises(ValueError, match="AAA at 2025-03-03 14:31"):
        features(bars)


def test_two_bars_of_one_minute_are_refused() -> None:
    bars = one_session([100.0, 101.0])
    with pytest.raises(ValueError, match="AAA has two bars for the minute 2025-03-03 14:31"):
        features(pl.concat([bars, bars.tail(1)]))


def test_a_session_of_many_days_is_refused_before_it_fills_the_memory() -> None:
    bars = one_session([100.0, 101.0]).with_columns(minute=pl.Series([0, 100_000_000], dtype=pl.Int32))
    with pytest.raises(ValueError, match="2025-03-03 span 100000001 minutes"):
        features(bars)


# Speed


@needs_real_bars
@pytest.mark.bench
def test_ten_tickers_of_sixty_sessions_take_about_a_second() -> None:
    bars = real_bars()
    bars = bars.filter(pl.col("session") >= bars["session"].unique().sort()[-60])
    features(bars.head(1000))
    began = perf_counter()
    features(bars)
    took = perf_counter() - began
    print(f"31 features of {bars.height} bars: {took:.2f} s")  # noqa: T201
    assert took < 2
