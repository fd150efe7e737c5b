"""The entry threshold that pays, and none where none does; figures worked by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hftcl.exam.entry import NEVER, EntryTry, HorizonTry, choose_entry, choose_horizon, sum_up


def tried(quantile: float, net: float, error: float) -> EntryTry:
    return EntryTry(quantile=quantile, threshold=quantile, net=net, standard_error=error, turnover=1.0, traded=5)


def test_mean_and_standard_error_are_those_of_the_sessions() -> None:
    one = sum_up(0.9, 0.5, np.array([0.01, 0.03, 0.02]), np.array([2.0, 4.0, 3.0]))
    assert (one.net, one.turnover) == pytest.approx((0.02, 3.0))
    assert one.standard_error == pytest.approx(0.01 / math.sqrt(3))
    assert one.pays()
    assert not one.pays(errors=4.0)


def test_one_session_alone_has_no_standard_error_and_never_pays() -> None:
    assert not sum_up(0.9, 0.5, np.array([0.05]), np.array([1.0])).pays()


@pytest.mark.parametrize("sessions", range(2, 12))
@pytest.mark.parametrize("earned", [0.01, 0.03, 0.0137])
def test_what_was_earned_in_one_session_alone_never_pays_however_it_is_rounded(sessions: int, earned: float) -> None:
    """Of one win in n sessions mean and standard error are the same number, a/n."""
    net = np.zeros(sessions)
    net[-1] = earned
    one = sum_up(0.995, 0.5, net, net * 10)
    assert one.net == pytest.approx(one.standard_error)
    assert one.traded == 1
    assert not one.pays()
    assert choose_entry([one], sessions=sessions, cost_bps=1.0).reason.endswith("a session, and traded in 1 session")
    assert not replace(one, net=2 * one.net).pays()


def test_of_those_that_pay_the_one_that_earned_most_is_taken_and_not_the_greatest_that_may_be_luck() -> None:
    choice = choose_entry(
        [tried(0.5, 0.03, 0.04), tried(0.8, 0.01, 0.005), tried(0.9, 0.02, 0.01)], sessions=5, cost_bps=1.0
    )
    assert (choice.quantile, choice.threshold) == (0.9, 0.9)
    assert choice.reason == (
        "quantile 0.9 earned most of 3 thresholds on 5 held-out sessions at 1 bp: +2.000% +- 1.000% a session"
    )


def test_where_none_earned_more_than_its_standard_error_none_is_taken_and_the_best_is_told() -> None:
    choice = choose_entry([tried(0.5, -0.03, 0.04), tried(0.9, 0.004, 0.005)], sessions=5, cost_bps=2.5)
    assert (choice.quantile, choice.threshold) == (None, NEVER)
    assert choice.reason == (
        "none of 2 thresholds earned more than its standard error on 5 held-out sessions at 2.5 bp; the best, quantile "
        "0.9, +0.400% +- 0.500% a session"
    )


def test_the_best_of_four_horizons_must_earn_more_than_that_of_one() -> None:
    """1.03 deviations is what the best of four normal draws shows on average (Harter 1961: 1.029)."""
    at_two = [tried(0.9, 0.02, 0.01)]
    assert choose_entry(at_two, sessions=5, cost_bps=1.0).quantile == 0.9
    choice = choose_entry(at_two, sessions=5, cost_bps=1.0, horizons=4)
    assert choice.errors == pytest.approx(2.03, abs=0.05)
    assert (choice.quantile, choice.trials) == (None, 4)
    assert "more than 2.0" in choice.reason
    assert choice.reason.count("standard errors (the best of 4 horizons)") == 1


def test_of_two_that_earned_the_same_the_one_that_trades_less_is_taken() -> None:
    assert choose_entry([tried(0.9, 0.02, 0.0), tried(0.5, 0.02, 0.0)], sessions=5, cost_bps=1.0).quantile == 0.9


def test_the_horizon_that_earned_most_is_taken_and_of_two_that_earned_the_same_the_longer_one() -> None:
    def at(horizon: int, net: float) -> HorizonTry:
        return HorizonTry(horizon_minutes=horizon, best=tried(0.9, net, 0.001))

    choice = choose_horizon([at(10, 0.01), at(20, 0.02), at(60, 0.02)], sessions=4, cost_bps=1.0)
    assert choice.horizon_minutes == 60
    assert choice.reason == (
        "60 minutes earned most of 3 horizons on 4 held-out sessions at 1 bp: +2.000% +- 0.100% a session"
    )


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_no_prediction_lies_above_the_threshold_of_none(prediction: float) -> None:
    assert not abs(np.float32(prediction)) > NEVER
    assert math.isfinite(NEVER), "it is written into a model file as JSON"
