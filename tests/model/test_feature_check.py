"""A feature of a user's own that looks ahead is found before it trains, however it is dressed; an honest one is not."""

from collections.abc import Iterator
from itertools import islice

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from hftcl.errors import FeatureError
from hftcl.market.bars import NO_BARS
from hftcl.model.feature_check import (
    cut_grid,
    find_faults,
    find_faults_on,
    is_computable,
    require_sound,
    require_values,
)
from hftcl.model.features import Feature
from hftcl.model.grid import build_grid, count_whole, divide_by_volatility
from hftcl.model.peers import LOG_UNIT
from tests.model.feature_cases import market

FUTURE = "a value never changes when later bars arrive"
LEAKS = 100
close, high, low, volume, minute = (pl.col(name) for name in ("close", "high", "low", "v", "minute"))
moves = (close / close.shift(1)).log()


def a_feature(name: str, expr: pl.Expr, lookback: int = 30) -> Feature:
    return Feature(name=name, group="own", expr=expr, lookback=lookback, formula=name, reason="r", source="0" * 64)


def leak(chance: np.random.Generator) -> Iterator[tuple[str, pl.Expr]]:
    """Yield leaks without end, each with what it does: from plain ones to those that hide."""
    columns = {"close": close, "high": high, "low": low, "volume": volume.cast(pl.Float64), "move": moves.abs()}
    while True:
        ahead, wide = int(chance.integers(1, 61)), int(chance.integers(3, 41))
        name = str(chance.choice(list(columns)))
        column, later = columns[name], (close.shift(-ahead) / close).log()
        seldom = minute >= int(chance.integers(100, 300))
        yield from {
            f"the close {ahead} minutes ahead": later,
            f"the close {ahead} minutes ahead, 0 at the end": later.fill_null(0.0),
            f"the sign of the move over {ahead} minutes": later.sign(),
            f"a trace of the move over {ahead} minutes": divide_by_volatility(moves) + 1e-3 * later.fill_null(0.0),
            f"the move over {ahead} minutes, late in the day": pl.when(seldom)
            .then(later.fill_null(0.0))
            .otherwise(moves),
            f"{name} by a centred mean of {wide}": column / column.rolling_mean(wide, center=True),
            f"{name} by a centred mean of {wide}, of what is there": column
            / column.rolling_mean(wide, min_samples=1, center=True),
            f"{name} as a z-score of the day": (column - column.mean()) / column.std(),
            f"{name} from 0 to 1 over the day": (column - column.min()) / (column.max() - column.min()),
            f"the rank of {name} over the day": column.rank() / pl.len(),
            f"{name} each {wide} minutes, filled backwards": pl.when(minute % wide == 0).then(column).backward_fill()
            / column.last(),
            f"{name} each {wide} minutes, drawn straight between": pl.when(minute % wide == 0).then(close).interpolate()
            / close,
            f"the greatest {name} from here on": column.reverse().cum_max().reverse() / column.max(),
            f"{name} minus its median of the day": (column - column.median()) / column.max(),
            "the day's last close": (close.last() / close).log(),
            f"the volume of the next {wide} minutes": volume.shift(-wide).rolling_sum(wide) / volume.rolling_sum(wide),
        }.items()


def test_a_hundred_leaks_are_found_in_a_hundred() -> None:
    planted = list(islice(leak(np.random.default_rng(18)), LEAKS))
    features = [a_feature(f"leak_{number}", expr) for number, (_, expr) in enumerate(planted)]
    found = {fault.feature for fault in find_faults(features) if fault.promise == FUTURE}
    missed = [told for (told, _), feature in zip(planted, features, strict=True) if feature.name not in found]
    assert missed == []


def test_what_looks_back_only_has_no_fault() -> None:
    honest = [  # one look-back for all: the bot's minutes are played once for each
        a_feature("ret_60", divide_by_volatility((close / close.shift(60)).log(), 60), lookback=60),
        a_feature("high_45", (close / high.rolling_max(45)).log(), lookback=60),
        a_feature("rank_30", close.rolling_rank(30) / 30, lookback=60),
        a_feature("steady_20", count_whole(moves.abs(), LOG_UNIT).rolling_sum(20) * LOG_UNIT, lookback=60),
        a_feature("late", pl.when(minute >= 70).then(moves).otherwise(0.0), lookback=60),
    ]
    assert find_faults(honest) == ()


def test_a_look_back_beyond_80_minutes_has_values_to_look_at_and_one_of_a_day_is_told_the_limit() -> None:
    far = a_feature("ret_85", divide_by_volatility((close / close.shift(85)).log(), 85), lookback=85)
    assert find_faults([far]) == ()
    assert [str(fault) for fault in find_faults([a_feature("ret_901", far.expr, lookback=901)])] == [
        "it reads 0 to 900 minutes, and 0 to 5 earlier sessions"
    ]


def test_a_grid_that_is_cut_at_a_minute_is_the_one_of_the_bars_until_then() -> None:
    bars = market(1, tickers=["AAA", "BBB", "CCC"], sessions=7, missing=0.3).sort("ticker", "ts")
    whole, newest = build_grid(bars), bars["session"].max()
    moments = bars.filter(pl.col("session") == newest).select("ts", "minute").unique().sort("ts")
    for stamp, minute in (moments.row(at) for at in (0, 1, 17, moments.height - 2)):
        known = bars["ts"] <= stamp
        cut, built = cut_grid(whole, known, minute), build_grid(bars.filter(known))
        assert cut.rows.tolist() == built.rows.tolist()
        parts = [grid.frame["part"].rle_id() for grid in (cut, built)]  # a ticker that begins later has none yet
        assert parts[0].equals(parts[1])
        assert_frame_equal(cut.frame.drop("part"), built.frame.drop("part"), check_exact=True)


def test_a_leak_that_shows_after_jumps_alone_is_found_on_made_up_bars() -> None:
    later = (close.shift(-1) / close).log().fill_null(0.0)
    after_jumps = a_feature("after_jumps", pl.when(moves.abs() > 4 * pl.col("vol")).then(later).otherwise(moves))
    assert [fault.promise for fault in find_faults([after_jumps])] == [FUTURE]


def test_a_leak_at_one_minute_of_the_day_is_found_on_the_users_bars() -> None:
    bars = market(1, sessions=7).with_columns(session_minutes=pl.lit(390, pl.Int16))
    at = sorted(bars.filter(pl.col("session") == bars["session"].max())["minute"].unique())[17]
    later = pl.when(minute == at).then(close.shift(-1) / close - 1).otherwise(0.0)
    (fault,) = find_faults_on([a_feature("rare", later, lookback=0)], bars)
    assert fault.promise == FUTURE
    honest = pl.when(minute == at).then(moves).otherwise(0.0)
    assert find_faults_on([a_feature("honest", honest, lookback=1)], bars) == ()


def test_what_is_no_expression_or_reads_no_column_of_the_grid_is_a_fault_of_its_own() -> None:
    """And keeps no fault of another feature from being told."""
    reasons = {
        "text": ("close", "AttributeError: 'str' object has no attribute 'meta'"),
        "number": (5, "AttributeError: 'int' object has no attribute 'meta'"),
        "nothing": (None, "AttributeError: 'NoneType' object has no attribute 'meta'"),
        "traded": (pl.col("volume"), 'ColumnNotFoundError: unable to find column "volume"'),  # of bars; the grid has v
        "timed": (pl.col("ts").dt.hour(), "the bot has no column ts"),
        "counted": (pl.col("session_no") - pl.col("first"), "the bot has no column first, session_no"),
        "absent": (pl.col("nowhere"), 'ColumnNotFoundError: unable to find column "nowhere"'),
    }
    lame = [a_feature(name, expr) for name, (expr, _) in reasons.items()]  # type: ignore[arg-type]
    told = {fault.feature: fault.promise for fault in find_faults(lame)}
    assert list(told) == list(reasons)
    for name, (_, reason) in reasons.items():
        assert told[name].startswith(f"its expression can be computed: {reason}")
    with pytest.raises(FeatureError, match="The feature text breaks a promise") as error:
        require_sound(lame, NO_BARS)
    assert str(error.value).count("Nothing was trained") == len(lame)
    assert [is_computable(feature) for feature in (*lame, a_feature("fine", close))] == [False] * len(lame) + [True]


def test_a_fault_names_the_feature_and_the_first_bar() -> None:
    bars = market(1, sessions=7)
    later = a_feature("tomorrow", (close.shift(-1) / close).log(), lookback=0)
    with pytest.raises(FeatureError) as fault:
        require_sound([later], bars)
    assert str(fault.value).startswith(f"The feature tomorrow breaks a promise: {FUTURE}; first broken at the made-up ")
    (found,) = find_faults_on([later], bars)
    first = bars.filter(pl.col("session") == bars["session"].max()).sort("ts", "ticker")
    assert found.where.startswith(f"{first['ticker'][0]} {first['ts'][0]:%Y-%m-%d %H:%M} UTC (")


def test_a_feature_that_remembers_longer_than_it_says_is_told_how_to_be_mended() -> None:
    average = a_feature("average", moves.ewm_mean(span=10))
    with pytest.raises(FeatureError, match=r"average breaks a promise: the bot, .* Raise its lookback, or sum whole"):
        require_sound([average], market(1, sessions=7))


def test_a_fault_that_only_the_users_bars_show_is_found_on_them() -> None:
    bars = market(1, sessions=7)
    dear = float(bars["close"].max() or 0) * 0.999  # type: ignore[arg-type]
    rare = a_feature("rare", pl.when(close >= dear).then(1 / (close - close)).otherwise(moves))
    rows = bars.with_columns(pl.when(pl.col("close") >= dear).then(float("inf")).otherwise(0.1).alias("rare"))
    with pytest.raises(FeatureError, match=r"rare breaks a promise: it is null where it has no value, .* \(inf\)"):
        require_values([rare], rows)
    with pytest.raises(FeatureError, match="rare is null for each of"):
        require_values([rare], rows.with_columns(rare=pl.lit(None, pl.Float32)))


def test_a_feature_found_sound_without_values_of_its_column_is_looked_at_again_once_there_are_some() -> None:
    bars = market(1, sessions=7).with_columns(sent=pl.lit(None, pl.Float64))
    root = a_feature("root", pl.col("sent").sqrt(), lookback=0)
    require_sound([root], bars)
    values = pl.Series(np.random.default_rng(7).normal(size=bars.height))
    with pytest.raises(FeatureError, match=r"root breaks a promise: .* at the made-up bar "):
        require_sound([root], bars.with_columns(sent=values))
