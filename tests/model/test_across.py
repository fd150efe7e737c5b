"""Features across the watchlist at one minute: rank and z-score, in batch and stream the same to the bit."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from hftcl.errors import ConfigError
from hftcl.model.across import compare_across
from hftcl.model.feature_check import find_faults, find_faults_on
from hftcl.model.features import FEATURES, features, hash_definitions
from hftcl.model.grid import divide_by_volatility
from hftcl.model.own_features import find_features
from hftcl.settings import Settings
from tests.model.feature_cases import market
from tests.model.test_feature_check import FUTURE, a_feature
from tests.model.test_streaming import complete, streamed

close = pl.col("close")
move = divide_by_volatility((close / close.shift(5)).log(), 5)
TABLE = (
    FEATURES[1],
    replace(a_feature("ret_rank", move), across="rank"),
    replace(a_feature("ret_z", move), across="zscore"),
    replace(a_feature("body_rank", (close - pl.col("open")) / close, lookback=0), across="rank"),
)
CROSSING = TABLE[1:]


@pytest.fixture(scope="module")
def scipy_stats() -> Any:
    """Return SciPy's statistics; at the top of the file each process that collects would load them for two seconds."""
    from scipy import stats

    return stats


@given(values=st.lists(st.one_of(st.just(float("nan")), st.integers(-5, 5).map(float)), min_size=1, max_size=9))
def test_rank_and_z_score_are_those_of_scipy_and_the_order_is_no_matter(scipy_stats: Any, values: list[float]) -> None:
    array = np.array(values)
    known = array[~np.isnan(array)]
    rank, score = (compare_across(array, how) for how in ("rank", "zscore"))
    if known.size < 2:
        assert np.isnan(rank).all()
        return
    expected = (scipy_stats.rankdata(known) - 0.5) / known.size
    assert rank[~np.isnan(array)].tolist() == pytest.approx(expected.tolist())
    if np.ptp(known):
        assert score[~np.isnan(array)].tolist() == pytest.approx(scipy_stats.zscore(known).tolist())
    else:
        assert not score[~np.isnan(array)].any()
    assert np.isnan(rank).tolist() == np.isnan(array).tolist()
    backwards = compare_across(array[::-1].copy(), "zscore")[::-1]
    assert backwards.tobytes() == score.tobytes()


@settings(max_examples=4)
@given(seed=st.integers(0, 10**6), missing=st.sampled_from([0.0, 0.3, 0.8]), warm=st.integers(0, 1))
def test_what_is_compared_is_the_same_to_the_bit_minute_by_minute(seed: int, missing: float, warm: int) -> None:
    tickers = ["A", "B", "C", "D", "E"]
    bars = complete(market(seed, tickers=tickers, sessions=2, minutes=45, missing=missing)).sort("ticker", "ts")
    days = bars["session"].unique().sort().to_list()
    live = streamed(bars, warm, table=TABLE).sort("ticker", "ts")
    batch = bars.select("session").hstack(features(bars, TABLE)).filter(pl.col("session").is_in(days[warm:]))
    assert_frame_equal(live.select(feature.name for feature in TABLE), batch.drop("session"), check_exact=True)


def test_the_tickers_of_one_minute_are_compared_and_no_others() -> None:
    bars = market(5, tickers=["A", "B", "C"], sessions=2, missing=0.3)
    values = (
        bars.select("ts")
        .hstack(features(bars, (FEATURES[1], *CROSSING)))
        .with_columns(features(bars, (a_feature("own", move),)))
    )
    by_minute = values.filter(pl.col("own").is_not_null())
    expected = by_minute.with_columns(
        (pl.col("own").rank().over("ts") - 0.5) / pl.len().over("ts"), several=pl.len().over("ts") > 1
    )
    assert (
        expected.filter("several")["own"].cast(pl.Float32).to_list() == expected.filter("several")["ret_rank"].to_list()
    )
    assert expected.filter(~pl.col("several"))["ret_rank"].null_count() == (~expected["several"]).sum() > 0


def test_it_keeps_every_promise_and_one_that_looks_ahead_is_found() -> None:
    assert find_faults(CROSSING[:2]) == ()
    ahead = replace(a_feature("ahead", close.shift(-1) / close), across="rank")
    assert [fault.promise for fault in find_faults([ahead])] == [FUTURE]
    bars = market(1, sessions=7).with_columns(session_minutes=pl.lit(390, pl.Int16))
    assert find_faults_on(CROSSING, bars) == ()
    (found,) = find_faults_on([ahead], bars)
    assert found.promise == FUTURE


def test_another_comparison_is_another_meaning_and_an_unknown_one_is_refused(tmp_path: Path) -> None:
    assert len({hash_definitions((replace(CROSSING[0], across=how),)) for how in ("", "rank", "zscore")}) == 3
    file = tmp_path / "own.py"
    file.write_text(
        "import polars as pl\nfrom hftcl.model.features import Feature\nFEATURES = (Feature(name='a', group='g', "
        "expr=pl.col('close'), lookback=0, formula='f', reason='r', across='median'),)\n"
    )
    base = Settings()
    with pytest.raises(ConfigError, match=r"across of the feature a is 'median'; it can be 'rank' or 'zscore'"):
        find_features(replace(base, features=replace(base.features, modules=(str(file),))))
