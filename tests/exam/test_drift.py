"""How far features have moved from those of the training: the population stability index."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hftcl.errors import UndefinedStatisticError
from hftcl.exam.drift import FeatureBins, build_feature_bins, compute_population_stability

F32 = npt.NDArray[np.float32]


def normal(rows: int, columns: int = 1, *, seed: int = 0, mean: float = 0.0, scale: float = 1.0) -> F32:
    return np.random.default_rng(seed).normal(mean, scale, (rows, columns)).astype(np.float32)


def test_ten_bins_of_a_continuous_feature_hold_a_tenth_each() -> None:
    (bins,) = build_feature_bins(normal(10_000))
    assert len(bins.edges) == 9
    assert bins.shares == pytest.approx([0.1] * 10, abs=2e-4)
    assert bins.edges[4] == pytest.approx(0.0, abs=0.04)


def test_the_index_is_that_of_the_formula() -> None:
    """By hand: half below the edge then, a quarter now; (q - p) ln(q / p) for both bins, each with half a row more."""
    bins = FeatureBins(edges=(0.0,), shares=(0.5, 0.5))
    now = np.array([[-1.0], [1.0], [1.0], [1.0]], dtype=np.float32)
    low = (0.25 * 4 + 0.5) / (4 + 1)
    expected = (low - 0.5) * math.log(low / 0.5) + (0.5 - low) * math.log((1 - low) / 0.5)
    assert compute_population_stability([bins], now, observations=4).tolist() == [pytest.approx(expected, rel=1e-12)]


def test_many_observations_come_to_the_textbook_index() -> None:
    """Two normals a standard deviation apart: the divergence, known in closed form, is 1; ten bins see most of it."""
    bins = build_feature_bins(normal(200_000))
    moved = compute_population_stability(bins, normal(200_000, seed=1, mean=1.0), observations=200_000)
    assert 0.85 < moved[0] < 1.0


@settings(max_examples=50)
@given(seed=st.integers(0, 1000), rows=st.integers(1, 200), observations=st.integers(1, 1000))
def test_the_index_is_never_negative_and_never_infinite(seed: int, rows: int, observations: int) -> None:
    bins = build_feature_bins(normal(rows, 3, seed=seed))
    found = compute_population_stability(bins, normal(7, 3, seed=seed + 1, mean=100.0), observations=observations)
    assert np.isfinite(found).all()
    assert (found >= 0).all()


@settings(max_examples=50)
@given(
    values=st.lists(st.sampled_from([-1.0, 0.0, 0.5, 3.0]), min_size=1, max_size=60), observations=st.integers(1, 99)
)
def test_the_training_rows_themselves_have_not_moved(values: list[float], observations: int) -> None:
    X = np.array(values, dtype=np.float32)[:, None]
    assert compute_population_stability(build_feature_bins(X), X, observations=observations).tolist() == [
        pytest.approx(0, abs=1e-12)
    ]


def test_a_feature_that_became_constant_is_seen_even_in_ten_sessions_of_one_ticker() -> None:
    bins = build_feature_bins(normal(8_000))
    assert compute_population_stability(bins, np.zeros((3_900, 1), dtype=np.float32), observations=10)[0] > 1.5


def test_a_feature_that_never_varied_and_then_does_is_seen() -> None:
    (bins,) = build_feature_bins(np.full((100, 1), 0.5, dtype=np.float32))
    assert sum(bins.shares) == pytest.approx(1.0)
    assert compute_population_stability([bins], np.zeros((50, 1), dtype=np.float32), observations=50)[0] > 1.5


def test_one_value_a_session_is_not_taken_for_390_of_them() -> None:
    """Twenty sessions' overnight gaps, each on 390 rows, from the very distribution of the training."""
    bins = build_feature_bins(np.repeat(normal(2_000), 4, axis=0))
    gaps = [np.repeat(normal(20, seed=seed), 390, axis=0) for seed in range(1, 101)]
    by_sessions = [compute_population_stability(bins, gap, observations=20)[0] for gap in gaps]
    by_rows = [compute_population_stability(bins, gap, observations=20 * 390)[0] for gap in gaps]
    assert np.mean(np.array(by_sessions) > 1.5) == 0
    assert np.mean(np.array(by_rows) > 1.5) > 0.3


@pytest.mark.parametrize("X", [np.empty((0, 2)), np.array([[0.0, np.nan]]), np.array([[np.inf, 0.0]])])
def test_rows_that_are_missing_or_not_finite_are_an_error(X: npt.NDArray[np.float64]) -> None:
    with pytest.raises(UndefinedStatisticError, match="Drift needs rows"):
        build_feature_bins(X.astype(np.float32))
    with pytest.raises(UndefinedStatisticError, match="Drift needs rows"):
        compute_population_stability(build_feature_bins(normal(5, 2)), X.astype(np.float32), observations=5)
