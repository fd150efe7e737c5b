"""Figures of merit against a second implementation, and what a verdict says where a champion cannot be compared."""

import math
from dataclasses import replace

import numpy as np
import pytest

from hftcl import settings
from hftcl.errors import UndefinedStatisticError
from hftcl.exam.detector import ShiryaevRoberts
from hftcl.exam.edge import EdgeState
from hftcl.exam.metrics import autocorrelation, lo_annualisation, sharpe_interval, sharpe_standard_error
from hftcl.exam.moments import compute_moments
from hftcl.exam.plausibility import list_miracles
from hftcl.exam.posterior import compute_edge_posterior
from hftcl.exam.verdict import Outcome, judge
from tests.exam.generator import stream
from tests.exam.test_edge import decided, with_sharpe
from tests.exam.test_verdict import EXAM, GUARDED, SEED, scored
from tests.exam.test_verdict import with_sharpe as with_noise

TRENDING = stream(np.random.default_rng(3), 1, 400, ar=0.3)[0] + 0.1
CALM = stream(np.random.default_rng(8), 1, 60, sharpe=3.0)[0]


def raw_autocorrelation(pnl: np.ndarray) -> float:
    return float(np.correlate(pnl[1:] - pnl.mean(), pnl[:-1] - pnl.mean())[0] / ((pnl - pnl.mean()) ** 2).sum())


def test_the_autocorrelation_is_moved_by_one_standard_error_and_cut_at_both_ends() -> None:
    raw = raw_autocorrelation(TRENDING) + 1 / 400
    assert autocorrelation(TRENDING) == pytest.approx(raw - 1 / 20)
    assert 0.1 < autocorrelation(TRENDING) < 0.5, "not cut"
    swinging = -np.cumsum(np.ones(100)) % 2 + np.linspace(0, 0.01, 100)
    assert raw_autocorrelation(swinging) < -0.9
    assert autocorrelation(swinging) == -0.3
    assert autocorrelation(np.arange(100.0)) == 0.5


def test_the_standard_error_of_trending_sessions_is_that_of_the_paper() -> None:
    """Lopez de Prado, Lipton and Zoonekynd (2025), the sums over the lags of an AR(1) written out to the 200th."""
    r, m = autocorrelation(TRENDING), compute_moments(TRENDING)
    lags = np.arange(1, 201)
    a = 1 + 2 * (r**lags).sum()
    b = 1 + (r**lags).sum() + (r ** (2 * lags)).sum()
    c = 1 + 2 * (r ** (2 * lags)).sum()
    ratio = m.sharpe_per_session
    variance = a - b * m.skewness * ratio + c * (m.kurtosis - 1) / 4 * ratio**2
    error = sharpe_standard_error(TRENDING, form="ar1", sessions_per_year=365)
    assert error == pytest.approx(math.sqrt(variance * 365 / 400))


@pytest.mark.parametrize("level", [0.5, 0.9, 0.99])
def test_the_interval_of_a_sharpe_ratio_is_student_s_about_the_larger_error(level: float) -> None:
    from scipy import stats  # here: each process that collects would wait a second for it

    for pnl in (CALM, TRENDING, with_sharpe(9.0, 40)):
        r = max(autocorrelation(pnl), 0.0)
        errors = [sharpe_standard_error(pnl, form=form, sessions_per_year=365) for form in ("lo", "mertens")]
        half = stats.t.ppf(0.5 + level / 2, pnl.size - 1) * max(errors) * math.sqrt((1 + r) / (1 - r))
        found = sharpe_interval(pnl, level=level, sessions_per_year=365)
        centre = pnl.mean() / pnl.std(ddof=1) * math.sqrt(365)
        assert (found.low, found.high) == pytest.approx((centre - half, centre + half))
        assert found.width == pytest.approx(2 * half)


def test_an_annual_figure_of_no_period_or_of_periods_without_variance_is_not_defined() -> None:
    assert lo_annualisation(1, 0.3) == 1.0
    for periods, rho in ((0, 0.0), (4, -1.0), (3, [-1.0, -1.0])):
        with pytest.raises(UndefinedStatisticError, match=f"No {periods}-period variance"):
            lo_annualisation(periods, rho)


def test_a_record_of_two_sessions_has_no_autocorrelation_and_one_that_rises_is_worth_a_third_for_it() -> None:
    two = compute_edge_posterior([0.01, 0.03], sessions_per_year=252)
    weights = np.array([0.5 ** (1 / 120), 1.0])
    assert two.effective_sessions == pytest.approx(weights.sum() ** 2 / (weights**2).sum())
    rising = np.arange(30.0)
    weights = 0.5 ** (np.arange(29, -1, -1) / 120)
    effective = weights.sum() ** 2 / (weights**2).sum()
    assert compute_edge_posterior(rising, sessions_per_year=252).effective_sessions == pytest.approx(effective / 3), (
        "r is 0.5"
    )


def follow(pnl: np.ndarray, floor: float) -> float:
    """Return the detector's mean of R: the recursion of the paper, bet by bet, as it stands there."""
    bets, r = np.array([0.03, 0.06, 0.12, 0.2]), np.zeros(4)
    traded: list[float] = []
    for value in pnl[pnl != 0.0]:
        if len(traded) >= 10:
            age = np.arange(len(traded) - 1, -1, -1)
            deviation = math.sqrt(np.average(np.square(traded), weights=0.5 ** (age / 20)))
            z = min(max(value / deviation, -4.0), 4.0)
            r = (1 + r) * (1 + bets * (floor / math.sqrt(252) - z))
        traded.append(value)
    return float(r.mean())


@pytest.mark.parametrize("floor", [0.0, 0.3, 2.0])
def test_the_detector_follows_its_recursion_session_by_session(floor: float) -> None:
    pnl = np.concatenate([CALM, [0.0, -30.0, 30.0], -CALM[:20]])
    detector = ShiryaevRoberts(sessions_per_year=252, floor=floor, alarm_at=1e9)
    for value in pnl:
        detector = detector.update(float(value))
    assert detector.statistic == pytest.approx(follow(pnl, floor))
    assert detector.sessions == 82, "one of 83 traded nothing"
    assert not detector.alarmed
    assert replace(detector, alarm_at=detector.statistic).alarmed, "at the bound it rings"
    assert not replace(detector, alarm_at=math.nextafter(detector.statistic, 1e9)).alarmed


def miracles(limit: float = 8.0, sessions: int = 60, **figures: float) -> tuple[str, ...]:
    return list_miracles(**{"sharpe": None, **figures}, sessions=sessions, limit=limit, sessions_per_year=252)  # type: ignore[arg-type]


def test_what_is_too_good_moves_with_the_limit_that_was_set() -> None:
    from scipy import stats

    assert miracles(sharpe=8.0) == miracles(gross_sharpe=12.0) == miracles(information_coefficient=0.15) == ()
    assert miracles(gross_sharpe=12.1) == ("gross Sharpe 12.1",)
    assert miracles(16.0, gross_sharpe=23.9) == ()
    assert miracles(16.0, gross_sharpe=24.1) == ("gross Sharpe 24.1",)
    assert miracles(4.0, information_coefficient=0.08) == ("information coefficient 0.08",)
    assert miracles(16.0, information_coefficient=0.29) == ()
    assert miracles(hit_rate=0.61, trades=1000) == ("61% of 1,000 trades earn",)
    assert miracles(hit_rate=0.61, trades=999) == miracles(16.0, hit_rate=0.69, trades=1000) == ()
    assert miracles(4.0, hit_rate=0.56, trades=1000) == ("56% of 1,000 trades earn",)
    (told,) = miracles(sharpe=9.0)
    assert (
        told == f"net Sharpe 9.0 over 60 sessions, by chance once in {1 / stats.t.sf(9 * math.sqrt(60 / 252), 59):,.0f}"
    )
    assert miracles(sharpe=9.0, sessions=20) == (), "over twenty sessions luck does that"


GOOD = with_noise(12.0, n=40)


def test_a_candidate_beside_a_pinned_model_is_rejected_and_waits_for_no_person() -> None:
    held = judge(scored(GOOD), None, promote=GUARDED, exam=EXAM, champion_problem="its file is gone", pinned=True)
    assert (held.outcome, held.waits, held.reason) == (Outcome.REJECTED, False, "pinned")


@pytest.mark.parametrize(("promote", "against"), [(GUARDED, " and is better than no position"), (SEED, "")])
def test_a_candidate_that_waits_is_told_with_what_lets_it_serve(promote: settings.Promote, against: str) -> None:
    waiting = judge(scored(GOOD), None, promote=promote, exam=EXAM, champion_problem="its file is gone.")
    assert (waiting.outcome, waiting.waits) == (Outcome.INCONCLUSIVE, True)
    assert waiting.evidence[1].name == "champion", "told right after the number of sessions"
    assert waiting.reason == (
        f"the champion cannot be compared: its file is gone. The candidate clears the threshold{against}: "
        "`hftcl rollback MODEL_ID --reason TEXT` lets it serve, and [promote] when_champion_cannot_be_scored = "
        '"deploy" does so without a person'
    )


def test_without_a_person_the_missing_champion_is_told_and_decides_nothing() -> None:
    promote = replace(GUARDED, when_champion_cannot_be_scored="deploy")
    went = judge(scored(GOOD), None, promote=promote, exam=EXAM, champion_problem="its file is gone")
    assert (went.outcome, went.reason) == (Outcome.DEPLOYED, "met every condition")
    assert not went.evidence[1].decides
    weak = judge(scored(with_noise(-3.0)), None, promote=promote, exam=EXAM, champion_problem="its file is gone")
    assert (weak.outcome, weak.waits) == (Outcome.REJECTED, False)
    assert "champion cannot be compared" not in weak.reason


def test_a_champion_that_does_not_defend_is_told_as_a_fact_that_has_passed() -> None:
    other = replace(scored(GOOD, "champion"), synthetic=True)
    excused = judge(scored(GOOD), other, promote=GUARDED, exam=EXAM)
    alone = judge(scored(GOOD), None, promote=GUARDED, exam=EXAM)
    idle = judge(scored(GOOD), scored([0.0] * 40, "champion", trades=0), promote=GUARDED, exam=EXAM)
    for verdict, told in (
        (excused, "champion champion does not defend: it was trained on synthetic bars, the challenger on real ones"),
        (alone, "there is no model to beat"),
        (idle, "the champion made no trade: it scores 0"),
    ):
        (fact,) = (fact for fact in verdict.evidence if fact.name == "champion")
        assert (str(fact), fact.passed, fact.decides) == (told, True, False)
        assert verdict.outcome is Outcome.DEPLOYED


def test_a_champion_of_other_sessions_or_with_a_fault_of_its_own_cannot_be_compared() -> None:
    short = scored(GOOD[:39], "champion")
    faulty = replace(scored(GOOD, "champion"), fault="it predicted nothing")
    for champion, why in ((short, "it was not scored on the same sessions"), (faulty, "it predicted nothing")):
        verdict = judge(scored(GOOD), champion, promote=GUARDED, exam=EXAM)
        assert (verdict.outcome, verdict.champion_sharpe) == (Outcome.INCONCLUSIVE, None)
        assert f"the champion cannot be compared: {why}. The candidate clears" in verdict.reason


def test_a_candidate_within_the_tolerance_is_promoted_by_a_concession_and_one_above_the_champion_by_its_own() -> None:
    net = with_noise(3.0)
    one = judge(scored(with_noise(2.9)), scored(net, "champion"), promote=replace(SEED, tolerance=0.1), exam=EXAM)
    assert (one.outcome, one.conceded) == (Outcome.DEPLOYED, True)
    better = judge(scored(with_noise(3.1)), scored(net, "champion"), promote=SEED, exam=EXAM)
    assert (better.outcome, better.conceded) == (Outcome.DEPLOYED, False)


def test_a_record_that_only_just_holds_stays_live_and_is_not_foretold_anything() -> None:
    edge = decided(with_sharpe(1.0, 60), EdgeState.LIVE)
    assert decided(with_sharpe(1.0, 60)).state is EdgeState.STAND_ASIDE, "it would not go live with it"
    assert (edge.state, edge.sessions_missing) == (EdgeState.LIVE, 0)
    assert not [fact for fact in edge.evidence if fact.name == "sessions missing"]
