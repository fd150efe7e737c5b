"""The hash by which a model file knows its features: hazard 20."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from hftcl.model.definitions import DEFINITIONS_VERSION
from hftcl.model.features import FEATURE_NAMES, FEATURES, Feature, features, hash_definitions
from tests.model.feature_cases import one_session


@pytest.mark.hazard(20)
@pytest.mark.parametrize(
    "table",
    [
        (FEATURES[1], FEATURES[0], *FEATURES[2:]),
        FEATURES[:-1],
        (replace(FEATURES[0], name="return_1"), *FEATURES[1:]),
        (replace(FEATURES[0], formula="ln(c[t] / o[t]) / vol_30"), *FEATURES[1:]),
        (replace(FEATURES[0], lookback=31), *FEATURES[1:]),
    ],
    ids=["order", "number", "name", "formula", "look-back"],
)
def test_the_hash_changes_with_the_order_number_name_formula_or_lookback(table: tuple[Feature, ...]) -> None:
    assert hash_definitions(table) != hash_definitions()


def test_the_hash_is_the_same_in_another_process() -> None:
    command = "from hftcl.model.features import hash_definitions; print(hash_definitions())"
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", command],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == hash_definitions()


@pytest.mark.hazard(20)
def test_whoever_changes_what_a_feature_means_raises_the_version() -> None:
    """A change detector, not a proof: the sums below are this version's own, over bars that never change.

    When it fails and the change is meant, raise DEFINITIONS_VERSION and put the new sums here: models fitted to the old
    meaning must be refused.
    """
    values = features(pl.concat([_unchanging(0.0), _unchanging(1.0)]))
    sums = {name: float(values[name].cast(pl.Float64).sum()) for name in FEATURE_NAMES}
    version, recorded = RECORDED
    assert version == DEFINITIONS_VERSION
    assert sums == pytest.approx(recorded, rel=1e-4, abs=1e-4)


def _unchanging(phase: float) -> pl.DataFrame:
    """Two sessions of one ticker without chance: a gap, uneven volumes, wicks."""
    bars = one_session([100 + 3 * np.sin(m / 5 + phase) + m % 4 / 8 for m in range(90)], ticker=f"P{phase}")
    bars = bars.with_columns(volume=100.0 + pl.col("minute") * 7 % 31, high=pl.col("high") * 1.0003)
    later = bars.with_columns(
        pl.col("ts").dt.offset_by("1d"),
        pl.col("session").dt.offset_by("1d"),
        pl.col("open", "high", "low", "close") * 1.01,
        volume=pl.col("volume") + pl.col("minute") % 7,
    )
    return pl.concat([bars, later])


RECORDED: tuple[int, dict[str, float]] = (
    1,
    {
        "ret_1": -11.84,
        "ret_5": -21.3633,
        "ret_15": 2.76676,
        "ret_30": 3.36204,
        "ret_since_open": -98.0405,
        "vol_30": 1.14022,
        "vol_ratio_5_30": 231.059,
        "garman_klass_20": 0.553305,
        "atr_14": 220.627,
        "vol_vs_previous_session": 1.01552,
        "ma_dist_10": -11.4851,
        "ma_dist_30": 1.7381,
        "vwap_dist": -21.1067,
        "macd_12_26": -6.63887,
        "macd_histogram_9": 3.91965,
        "rsi_14": 13390,
        "bollinger_20": -37.5717,
        "stochastic_14": 131.413,
        "range_position": 159.111,
        "volume_vs_earlier_sessions": 4.05864,
        "volume_burst_5_30": 243.988,
        "pressure_5": -36.7273,
        "pressure_30": -4.41918,
        "money_flow_20": -49.9648,
        "candle_body": -19.9086,
        "candle_wick": 48.2915,
        "time_of_session": 41.0769,
        "gap_overnight": 6.31309,
        "watchlist_ret_15": 2.76676,
        "ret_5_vs_watchlist": 0,
        "ret_30_vs_watchlist": 0,
    },
)
