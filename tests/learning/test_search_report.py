"""Which trial of a search is the best, and of how many: trials by hand, without a market."""

from collections.abc import Sequence
from datetime import date, timedelta

import numpy as np
import pytest

from hftcl.exam.metrics import compute_best_luck, deflated_sharpe
from hftcl.exam.trials import Trial
from hftcl.learning.search.report import compute_luck, find_winner, list_distinct, report_winner, weigh_trials
from hftcl.learning.search.trials import FinishedTrial

DAYS = tuple(date(2026, 1, 5) + timedelta(days=n) for n in range(10))
NET = np.random.default_rng(4).normal(0.001, 0.01, len(DAYS)).tolist()


def tried(number: int, sharpe: float | None, positions: str = "", days: Sequence[date] = DAYS) -> FinishedTrial:
    return FinishedTrial(
        number=number,
        choice={},
        sharpe=sharpe,
        net=dict(zip(days, np.resize(NET, len(days)).tolist(), strict=True)),
        positions=positions or f"held by {number}",
    )


def test_the_winner_is_the_best_and_of_equals_the_earliest_and_none_where_none_earned_its_cost() -> None:
    best = find_winner([tried(0, 1.0), tried(1, None), tried(2, 3.0), tried(3, 3.0), tried(4, -9.0)])
    assert best is not None
    assert best.number == 2
    assert find_winner([tried(0, 0.0), tried(1, None), tried(2, -1.0)]) is None


def test_what_the_sampler_learns_of_a_trial_without_a_trade_is_that_it_earned_nothing() -> None:
    assert (tried(0, None).worth, tried(0, -2.0).worth) == (0.0, -2.0)
    assert FinishedTrial(number=0, choice={}, fault="no rows").worth is None


def test_trials_that_held_the_same_positions_count_as_one() -> None:
    assert list_distinct([tried(0, 1.0, "a"), tried(1, 1.0, "a"), tried(2, 2.0, "b"), tried(3, None, "c")]) == [
        1.0,
        2.0,
    ]


def test_trials_of_other_searches_count_once_by_the_share_of_these_sessions_on_which_they_were_scored() -> None:
    own = [tried(0, 1.0, "a"), tried(1, 2.0, "b")]
    longer = [DAYS[0] - timedelta(days=n) for n in range(1, 31)]
    others = [
        tried(0, 1.0, "a"),  # what ours held too
        tried(1, 3.0, "c", (*longer, *DAYS[:4])),
        tried(2, 3.0, "c", DAYS[:4]),  # twice
        tried(3, 4.0, "d", longer),  # elsewhere
        tried(4, None, "e"),
    ]
    counted = weigh_trials(own, others, DAYS)
    assert counted == (Trial(sharpe=1.0), Trial(sharpe=2.0), Trial(sharpe=3.0, weight=0.4))


def test_luck_and_deflated_sharpe_ratio_are_those_of_the_weighted_trials() -> None:
    counted = (Trial(sharpe=1.0), Trial(sharpe=2.0), Trial(sharpe=-5.0, weight=0.3))
    sharpes, weights = [1.0, 2.0, -5.0], [1.0, 1.0, 0.3]
    assert compute_best_luck(sharpes, weights) != pytest.approx(compute_best_luck(sharpes))
    assert compute_luck(counted, 2) == compute_best_luck(sharpes, weights)
    winner = report_winner(tried(1, 2.0), 2.0, counted, 252)
    assert winner.dsr == deflated_sharpe(NET, sharpes, weights)
    assert compute_luck((Trial(sharpe=1.0), Trial(sharpe=2.0, weight=0.9)), 1) is None, "no best of several"
    assert compute_luck((Trial(sharpe=1.0), Trial(sharpe=2.0)), 0) is None, "none of them is of this search"
