"""Who tries again and again on one exam of a market without edge does not wear the judge down."""

from datetime import date, timedelta
from itertools import permutations

import numpy as np
import pytest

from hftcl import settings
from hftcl.exam import trials
from hftcl.exam.edge import EdgeState, judge_edge
from hftcl.exam.metrics import compute_best_luck, expected_maximum, sharpe
from hftcl.exam.trials import Trial, build_trial, find_least_confidence
from hftcl.exam.verdict import Outcome, judge
from tests.exam.universe import EXAM, scored

TRIES, MARKETS = 10, 200
MARGIN = 0.14  # the margin of a share of 0.44 in 50 markets: two standard errors


def deploy_at_least_once(rng: np.random.Generator, *, alike: float, count_tries: bool = True) -> list[bool]:
    """Return, try by try, whether one has deployed so far: models of one exam, whose P&L correlates by `alike`."""
    common, sharpes, so_far = rng.normal(size=EXAM), list[float](), [False]
    for _ in range(TRIES):
        net = 0.01 * (np.sqrt(alike) * common + np.sqrt(1 - alike) * rng.normal(size=EXAM))
        tried = tuple(Trial(sharpe=one) for one in sharpes) if count_tries else ()
        if not so_far[-1]:
            decided = judge(
                scored(net, "candidate"), None, promote=settings.Promote(), exam=settings.Exam(), tried=tried
            )
            so_far.append(decided.outcome is Outcome.DEPLOYED)
        else:
            so_far.append(True)
        sharpes.append(sharpe(net))
    return so_far[1:]


def share(alike: float, *, count_tries: bool = True) -> tuple[float, float]:
    """Return the share of markets without edge that deployed after one try, and after ten."""
    markets = [
        deploy_at_least_once(np.random.default_rng([77, each]), alike=alike, count_tries=count_tries)
        for each in range(MARKETS)
    ]
    so_far = np.mean(markets, axis=0)
    return float(so_far[0]), float(so_far[-1])


@pytest.mark.parametrize("alike", [0.2, 0.5, 0.9])
def test_ten_tries_on_one_exam_deploy_hardly_more_noise_than_one(alike: float) -> None:
    """Forests of other seeds and depths on the same bars correlate by 0.2 to 0.8."""
    once, ten = share(alike)
    assert ten <= once + MARGIN


def test_ten_tries_that_count_for_nothing_or_pass_each_by_itself_wear_the_judge_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the test above is able to see: both ways to judge them deploy far more noise."""
    once, free = share(0.5, count_tries=False)
    assert free > once + 2 * MARGIN
    monkeypatch.setattr(trials, "find_least_confidence", lambda effective, confidence: confidence)
    once, each = share(0.2)
    assert each > once + MARGIN


def test_after_ten_tries_noise_seldom_may_trade() -> None:
    """Each try is another policy, whose record is its own; the best of ten such records is told as luck."""
    live = []
    for market in range(MARKETS):
        rng = np.random.default_rng([78, market])
        common = rng.normal(size=EXAM)
        records = [0.01 * (np.sqrt(0.5) * common + np.sqrt(0.5) * rng.normal(size=EXAM)) for _ in range(TRIES)]
        luck = compute_best_luck([sharpe(record) for record in records])
        edge = judge_edge(
            records[-1], EdgeState.STAND_ASIDE, rule=settings.Edge(), policy="guarded", luck=luck, sessions_per_year=252
        )
        live.append(edge.state is EdgeState.LIVE)
    assert np.mean(live) <= 0.10


@pytest.mark.parametrize(("annual", "low", "high"), [(0.0, -1.0, 0.02), (8.0, -0.1, 0.15)])
def test_the_best_of_ten_policies_may_trade_about_as_often_as_one_alone(annual: float, low: float, high: float) -> None:
    """Worthless ones no more often; good ones no more seldom: luck is taken off what is seen, once."""
    alone, best = list[bool](), list[bool]()
    for market in range(MARKETS):
        rng = np.random.default_rng([79, market])
        common, own = rng.normal(size=EXAM), rng.normal(size=(TRIES, EXAM))
        records = 0.01 * (np.sqrt(0.5) * (common + own) + annual / np.sqrt(252))
        shown = [sharpe(record) for record in records]
        for found, record, luck in (
            (alone, records[0], 0.0),
            (best, records[int(np.argmax(shown))], compute_best_luck(shown)),
        ):
            edge = judge_edge(
                record, EdgeState.STAND_ASIDE, rule=settings.Edge(), policy="guarded", luck=luck, sessions_per_year=252
            )
            found.append(edge.state is EdgeState.LIVE)
    assert low <= np.mean(best) - np.mean(alone) <= high


@pytest.mark.parametrize("shares", [(1.0,) * 10, (1.0, 0.75, 0.5, 0.25), (1.0,) + (0.2,) * 10, (1.0,) + (0.05,) * 40])
def test_trials_that_count_in_part_make_no_more_luck_than_as_many_whole_ones(shares: tuple[float, ...]) -> None:
    """Of trials that are alike but for luck the mean squared luck tells their variance, however they are weighted."""
    rng = np.random.default_rng(80)
    trials_of = rng.normal(size=(2000, len(shares)))
    found = [compute_best_luck(shown, shares) / expected_maximum(sum(shares)) for shown in trials_of]
    assert np.mean(np.square(found)) == pytest.approx(1.0, abs=0.07)


def test_exams_of_other_lengths_tell_of_as_much_luck_as_one_of_our_length() -> None:
    """The exams of the four weeks after a deployment, of worthless models; the first ones have few sessions."""
    rng, days = np.random.default_rng(81), [date(2026, 1, 1) + timedelta(days=n) for n in range(40)]
    assert build_trial(1.0, days[20:], days[:20]) is None
    for sessions in (10, 14, 40):
        found = [build_trial(sharpe(rng.normal(size=sessions)), days[:sessions], days[:20]) for _ in range(3000)]
        shown = [trial.sharpe for trial in found if trial is not None]
        by_t = (sessions - 1) / (sessions - 3)  # the deviation is that of as few sessions
        assert np.mean(np.square(shown)) == pytest.approx(252 / 20 * by_t, rel=0.1)
        assert {trial.weight for trial in found if trial is not None} == {min(sessions / 20, 1.0)}


def test_no_confidence_asked_for_stays_none_however_many_try() -> None:
    assert find_least_confidence(10.0, 0.0) == 0.0
    assert find_least_confidence(2.0, 0.6) == 0.6


def test_the_number_of_weighted_looks_does_not_depend_on_their_order() -> None:
    tried = [Trial(sharpe=0.0, weight=weight) for weight in (0.1, 0.2, 0.3, 0.4)]
    # A plain sum is 2.0000000000000004 in some of these orders, and two are the number from which on it decides.
    assert {trials.count_effective(tuple(order)) for order in permutations(tried)} == {2.0}


def show_best(groups: int, alike: float) -> tuple[float, float]:
    """Return what the best of 24 worthless trials showed on average, and what it was said to show.

    On 20 sessions; those of a group correlate by `alike`.
    """
    rng, best, luck = np.random.default_rng(1), list[float](), list[float]()
    for _ in range(MARKETS):
        common = rng.normal(size=(groups, 20))[np.arange(24) % groups]
        shown = [sharpe(net) for net in np.sqrt(alike) * common + np.sqrt(1 - alike) * rng.normal(size=(24, 20))]
        best.append(max(shown))
        luck.append(compute_best_luck(shown))
    return float(np.mean(best)), float(np.mean(luck))


@pytest.mark.parametrize(("groups", "alike"), [(24, 0.0), (1, 0.5), (1, 0.9)])
def test_the_best_of_worthless_trials_shows_what_it_is_said_to_where_all_are_alike_to_one_degree(
    groups: int, alike: float
) -> None:
    best, luck = show_best(groups, alike)
    assert luck == pytest.approx(best, rel=0.12)


def test_where_trials_are_alike_in_groups_too_much_is_asked_of_the_best_and_never_too_little() -> None:
    best, luck = show_best(4, 0.9)
    assert 1.05 * best < luck < 1.4 * best
