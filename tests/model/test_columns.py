"""Features of the user's that read a further column, or a ticker that is not traded: batch is stream, and no leak."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from hftcl.contracts import check_feature
from hftcl.errors import ConfigError, FeatureError
from hftcl.model.context import attach_context, find_waiting, list_context
from hftcl.model.feature import list_columns
from hftcl.model.feature_check import find_faults, find_faults_on, require_sound
from hftcl.model.features import FEATURES, ctx, features
from hftcl.model.grid import GRID_COLUMNS, build_grid, count_whole
from hftcl.model.own_features import find_features
from hftcl.model.peers import LOG_UNIT
from hftcl.settings import Settings
from tests.model.feature_cases import market
from tests.model.test_feature_check import FUTURE, LEAKS, a_feature
from tests.model.test_streaming import complete, streamed

close, vwap, trades, imbalance = (pl.col(name) for name in ("close", "vwap", "trades", "imbalance"))
whole = trades.cast(pl.Int64)  # sums of whole numbers are exact
HONEST = (
    a_feature("under_vwap", (close / vwap).log(), lookback=29),
    a_feature("busy", (1 + whole.rolling_sum(10)) / (1 + whole.rolling_sum(30)), lookback=29),
    a_feature("lean", imbalance, lookback=29),
    a_feature("turn", imbalance - imbalance.shift(1).fill_null(0.0), lookback=29),
    a_feature("lean_10", count_whole(imbalance.fill_null(0.0), LOG_UNIT).rolling_sum(10) * LOG_UNIT, lookback=29),
)


def carrying(bars: pl.DataFrame, seed: int = 1) -> pl.DataFrame:
    """Add three columns; a vendor leaves a vwap out now and then."""
    chance = np.random.default_rng(seed)
    middle = (pl.col("high") + pl.col("low")) / 2
    return bars.with_columns(
        vwap=pl.when(pl.Series(chance.uniform(size=bars.height) > 0.05)).then(middle),
        trades=pl.Series(chance.integers(1, 50, bars.height).astype(float)),
        imbalance=pl.Series(chance.uniform(-1, 1, bars.height)),
    )


def test_the_grid_has_the_columns_that_it_names_for_every_feature() -> None:
    assert set(build_grid(market(sessions=1)).frame.columns) == GRID_COLUMNS
    assert list_columns(FEATURES) == ()
    assert list_columns(HONEST) == ("imbalance", "trades", "vwap")


def test_in_a_minute_without_a_trade_a_price_stands_still_a_count_is_0_and_a_number_is_unknown() -> None:
    bars = carrying(market(2, tickers=["AAA"], sessions=1, missing=0.4)).with_columns(vwap=pl.col("low"))
    silent = build_grid(bars, ("vwap", "trades", "imbalance")).frame.filter(~pl.col("seen"))
    assert silent.height > 5
    assert silent["vwap"].equals(silent["close"].alias("vwap"))
    assert silent["trades"].unique().to_list() == [0.0]
    assert silent["imbalance"].null_count() == silent.height


@settings(max_examples=4)
@given(seed=st.integers(0, 10**6), missing=st.sampled_from([0.0, 0.3, 0.8]), warm=st.integers(0, 1))
def test_what_reads_columns_is_the_same_to_the_bit_minute_by_minute(seed: int, missing: float, warm: int) -> None:
    bars = complete(market(seed, sessions=2, minutes=45, missing=missing)).sort("ticker", "ts")
    bars = carrying(bars, seed)
    days = bars["session"].unique().sort().to_list()
    table = (*FEATURES[:2], *HONEST)
    live = streamed(bars, warm, table=table).sort("ticker", "ts")
    batch = bars.select("session").hstack(features(bars, table)).filter(pl.col("session").is_in(days[warm:]))
    assert_frame_equal(live.select(feature.name for feature in table), batch.drop("session"), check_exact=True)


def test_a_bar_without_the_column_is_told_and_not_guessed() -> None:
    with pytest.raises(ValueError, match=r"no column imbalance, which a feature reads. Name it in \[market\] columns"):
        features(market(sessions=1), (HONEST[2],))


# Looking ahead


def leak(chance: np.random.Generator) -> Iterator[tuple[str, pl.Expr]]:
    columns = {"vwap": vwap, "trades": trades, "imbalance": imbalance}
    while True:
        ahead, wide = int(chance.integers(1, 61)), int(chance.integers(3, 41))
        name = str(chance.choice(list(columns)))
        column = columns[name].fill_null(strategy="forward").fill_null(1.0)
        yield from {
            f"{name} {ahead} minutes ahead": column.shift(-ahead),
            f"{name} {ahead} minutes ahead, 0 at the end": column.shift(-ahead).fill_null(0.0),
            f"a trace of {name} {ahead} minutes ahead": (close / close.shift(1)).log() + 1e-3 * column.shift(-ahead),
            f"{name} by a centred mean of {wide}": column - column.rolling_mean(wide, min_samples=1, center=True),
            f"{name} as a z-score of the day": (column - column.mean()) / column.std(),
            f"the rank of {name} over the day": column.rank() / pl.len(),
            f"the greatest {name} from here on": column.reverse().cum_max().reverse(),
            f"{name} filled backwards": pl.when(pl.col("minute") % wide == 0).then(column).backward_fill(),
        }.items()


def test_a_hundred_leaks_of_columns_are_found_in_a_hundred() -> None:
    planted = list(islice(leak(np.random.default_rng(18)), LEAKS))
    table = [a_feature(f"leak_{number}", expr) for number, (_, expr) in enumerate(planted)]
    samples = tuple((name, ()) for name in ("imbalance", "trades", "vwap"))
    found = {fault.feature for fault in find_faults(table, samples=samples) if fault.promise == FUTURE}
    assert [told for (told, _), feature in zip(planted, table, strict=True) if feature.name not in found] == []


def test_what_reads_columns_and_looks_back_only_has_no_fault() -> None:
    bars = complete(market(1, sessions=7)).sort("ticker", "ts")
    require_sound(HONEST[:4], carrying(bars))
    dollars = a_feature("dollars", vwap, lookback=0)
    with pytest.raises(FeatureError, match="dollars breaks a promise: the unit of prices and volumes is no matter"):
        require_sound([dollars], carrying(bars))


def test_what_was_sound_is_looked_at_again_on_the_bars_alone_whatever_the_values_of_its_columns() -> None:
    """Else each week of a backtest would wait for the made-up markets again: its bars have other values."""
    computed: list[int] = []

    def count(values: pl.Series) -> pl.Series:
        computed.append(len(values))
        return values

    counted = a_feature("counted", imbalance.map_batches(count, return_dtype=pl.Float64), lookback=0)
    bars, later = (carrying(complete(market(1, sessions=7)).sort("ticker", "ts"), seed) for seed in (1, 2))
    require_sound([counted], bars)
    at_first = len(computed)
    computed.clear()
    require_sound([counted], later)
    again = len(computed)
    computed.clear()
    assert find_faults_on([counted], later) == ()
    assert at_first > again == len(computed) > 0


def test_made_up_values_of_a_column_are_drawn_from_the_users_own() -> None:
    bars = carrying(complete(market(1, sessions=7)).sort("ticker", "ts"))
    spread = bars.with_columns(imbalance=pl.col("imbalance").abs() * 300 + 40)
    wide = a_feature("wide", pl.when(imbalance > 50).then(1.0).otherwise(0.0), lookback=0)
    require_sound([wide], spread)
    assert check_feature(replace(wide, source=""), columns=("imbalance",)) == (
        "it has values, and not one and the same everywhere",
    )


# The settings


OWN = """\
import polars as pl
from hftcl.model.features import Feature, ctx
FEATURES = (Feature(name="lean", group="mine", expr={expr}, lookback=0, formula="f", reason="r"),)
"""


def ask(folder: Path, expr: str, *, columns: tuple[str, ...] = (), context: tuple[str, ...] = ()) -> Settings:
    file = folder / "my_features.py"
    file.write_text(OWN.format(expr=expr))
    base = Settings()
    return replace(
        base,
        market=replace(base.market, columns=columns, context=context),
        features=replace(base.features, modules=(str(file),)),
    )


@pytest.mark.parametrize(
    ("expr", "columns", "said"),
    [
        ('pl.col("imbalance")', (), "lean reads imbalance, which is no column of the grid"),
        ('pl.col("imbalence")', ("imbalance",), "Did you mean imbalance?"),
        ('pl.col("clsoe") / 2', (), "Did you mean close?"),
        ('pl.col("close")', ("ret_5",), r"\[market\] columns: the name ret_5 is taken"),
        ('pl.col("close")', ("vol",), r"\[market\] columns: the name vol is taken"),
        ('pl.col("close")', ("lean",), r"the name lean is one of \[market\] columns"),
        ('ctx("SPY", "ret_5")', (), r'lean reads SPY, which \[market\] context does not name. Set context = \["SPY"\]'),
        ('ctx("SPY", "watchlist_ret_15")', (), "of a context ticker these can be read: ret_1, "),
    ],
)
def test_what_a_feature_reads_and_no_setting_brings_is_refused_before_anything(
    tmp_path: Path, expr: str, columns: tuple[str, ...], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        find_features(ask(tmp_path, expr, columns=columns))


def test_a_dropped_feature_whose_column_is_gone_is_not_computed(tmp_path: Path) -> None:
    wanted = ask(tmp_path, 'pl.col("imbalance")', columns=("imbalance",))
    dropped = replace(wanted, features=replace(wanted.features, drop=("lean",)))
    assert [feature.name for feature in find_features(dropped).known][31:] == ["lean"]
    assert find_features(replace(dropped, market=Settings().market)).known == FEATURES


# Context


def test_a_context_ticker_is_no_peer_and_its_feature_stands_beside_each_bar_of_its_minute() -> None:
    bars = complete(market(3, tickers=["AAA", "BBB", "SPY"], sessions=3)).sort("ticker", "ts")
    table = (
        *FEATURES,
        a_feature("led", ctx("SPY", "ret_5")),
        a_feature("gap", ctx("SPY", "gap_overnight"), lookback=0),
    )
    columns = list_columns(table)
    assert {ticker: [one.name for one in of] for ticker, of in list_context(columns).items()} == {
        "SPY": ["gap_overnight", "ret_5"]
    }
    attached = attach_context(bars, columns, ["SPY"])
    traded, spy = bars.filter(pl.col("ticker") != "SPY"), bars.filter(pl.col("ticker") == "SPY")
    assert_frame_equal(attached.select(traded.columns), traded)
    values = features(attached, table)
    assert_frame_equal(values.select(one.name for one in FEATURES), features(traded))
    beside = spy.select("ts").hstack(features(spy)).select("ts", "ret_5")
    expected = traded.join(beside, on="ts", how="left", maintain_order="left")["ret_5"]
    known = values["led"].is_not_null()
    assert known.sum() > 50
    assert_frame_equal(values.filter(known)["led"].to_frame("x"), expected.filter(known).to_frame("x"))
    silent = ~traded["ts"].is_in(spy["ts"].implode())
    assert values.filter(silent)["led"].null_count() == silent.sum() > 5


def test_what_waits_for_the_context_alone_is_told_from_what_is_not_warm_yet() -> None:
    table = (a_feature("own", close), a_feature("led", ctx("SPY", "ret_5")))
    seen = pl.DataFrame(
        {"ticker": ["A", "B", "C"], "own": [1.0, None, 1.0], "led": [None, None, 2.0]},
        schema={"ticker": pl.String, "own": pl.Float32, "led": pl.Float32},
    )
    assert find_waiting(seen, ("own", "led"), table) == {"A"}
    assert find_waiting(seen, ("led",), table) == {"A", "B"}
    assert find_waiting(seen, ("own",), table) == frozenset()
