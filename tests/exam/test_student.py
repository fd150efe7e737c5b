"""Student's t, beside SciPy's."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hftcl.exam.student import compute_t_quantile, compute_t_tail


@given(st.integers(1, 3000), st.floats(0.501, 0.9999))
def test_a_quantile_is_that_of_scipy(df: int, probability: float) -> None:
    from scipy.special import stdtrit  # here: each process that collects would wait for it

    assert compute_t_quantile(df, probability) == pytest.approx(float(stdtrit(df, probability)), rel=1e-10)


@given(st.integers(1, 3000), st.floats(0.501, 0.9999))
def test_the_distribution_at_a_quantile_is_its_probability(df: int, probability: float) -> None:
    from scipy.special import stdtr

    assert float(stdtr(df, compute_t_quantile(df, probability))) == pytest.approx(probability, abs=1e-12)


@given(st.integers(1, 3000), st.floats(-40.0, 40.0))
def test_a_tail_is_that_of_scipy(df: int, value: float) -> None:
    from scipy.special import stdtr

    assert compute_t_tail(df, value) == pytest.approx(float(stdtr(df, -value)), rel=1e-6, abs=1e-13)


def test_many_degrees_of_freedom_come_near_to_the_normal_distribution() -> None:
    assert compute_t_quantile(100_000, 0.975) == pytest.approx(1.959964, abs=1e-4)


def test_no_degree_of_freedom_has_no_quantile() -> None:
    assert math.isnan(compute_t_quantile(0, 0.95))


@pytest.mark.parametrize("probability", [0.5, 1.0, -1.0, math.nan])
def test_a_probability_that_has_no_quantile_above_zero_is_refused(probability: float) -> None:
    with pytest.raises(ValueError, match=r"above 0\.5 and below 1"):
        compute_t_quantile(5, probability)
