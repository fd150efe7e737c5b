"""The arithmetic of the judge: against papers, second implementations, and a market whose truth is known."""

import ast
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hftcl.errors import UndefinedStatisticError
from hftcl.exam import metrics
from hftcl.exam.detector import ShiryaevRoberts
from hftcl.exam.metrics import (
    autocorrelation,
    deflated_sharpe,
    expected_maximum,
    lo_annualisation,
    max_drawdown,
    min_track_record_from_moments,
    min_track_record_length,
    psr,
    psr_from_moments,
    sharpe,
    sharpe_difference,
    sharpe_interval,
    sharpe_per_session,
    sharpe_standard_error,
)
from hftcl.exam.moments import Moments, compute_moments
from hftcl.exam.posterior import compute_edge_posterior
from tests.exam.generator import pair, stream

FloatArray = npt.NDArray[np.float64]
YEAR = math.sqrt(252)
SESSIONS = np.array([0.011, -0.004, 0.008, 0.0, -0.019, 0.007, 0.012, 0.003, -0.002, 0.005])
HEDGE_FUND = Moments(n=24, sharpe_per_session=0.036 / 0.079, skewness=-2.448, kurtosis=10.164)

pnls = st.lists(st.floats(-1, 1), min_size=6, max_size=40).map(np.array).filter(lambda x: np.ptp(x) > 1e-3)


def test_the_sharpe_ratio_of_two_sessions_by_hand() -> None:
    # mean 2, deviation sqrt(2): 1.4142 a session
    assert sharpe_per_session([1.0, 3.0]) == pytest.approx(math.sqrt(2))
    assert sharpe([1.0, 3.0]) == pytest.approx(math.sqrt(2) * YEAR)
    assert sharpe([1.0, 3.0], sessions_per_year=365) == pytest.approx(math.sqrt(2 * 365))


def test_moments_agree_with_scipy() -> None:
    from scipy import stats  # here: each process that collects would wait a second for it

    found = compute_moments(SESSIONS)
    assert found.skewness == pytest.approx(stats.skew(SESSIONS))
    assert found.kurtosis == pytest.approx(stats.kurtosis(SESSIONS, fisher=False))


FIGURES = [
    sharpe,
    sharpe_per_session,
    compute_moments,
    psr,
    min_track_record_length,
    pytest.param(lambda pnl: sharpe_standard_error(pnl, sessions_per_year=252), id="sharpe_standard_error"),
    pytest.param(lambda pnl: sharpe_interval(pnl, sessions_per_year=252), id="sharpe_interval"),
    autocorrelation,
    pytest.param(lambda pnl: compute_edge_posterior(pnl, sessions_per_year=252), id="edge_posterior"),
    pytest.param(lambda pnl: deflated_sharpe(pnl, [1.0, 2.0]), id="deflated_sharpe"),
    pytest.param(lambda pnl: sharpe_difference(pnl, SESSIONS), id="of_challenger"),
    pytest.param(lambda pnl: sharpe_difference(SESSIONS, pnl), id="of_champion"),
]
UNDEFINED = [
    [],
    [0.01],
    [0.0] * 10,
    [0.1] * 10,
    [0.1, 0.1 + 1e-17, 0.30000000000000004 / 3] * 4,
    [0.01] * 9 + [float("nan")],
    [0.01] * 9 + [float("inf")],
]


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize("pnl", UNDEFINED)
def test_a_figure_that_these_sessions_do_not_define_is_an_error_and_not_a_number(
    figure: Callable[[Any], object], pnl: list[float]
) -> None:
    with pytest.raises(UndefinedStatisticError):
        figure(pnl)


@pytest.mark.parametrize("scale", [1e-200, 1e-3, 1e6, 1e200])
def test_capital_does_not_change_a_figure(scale: float) -> None:
    scaled = SESSIONS * scale
    assert sharpe(scaled) == pytest.approx(sharpe(SESSIONS), rel=1e-12)
    assert psr(scaled) == pytest.approx(psr(SESSIONS), rel=1e-12)
    assert compute_edge_posterior(scaled, sessions_per_year=252).p_edge == pytest.approx(
        compute_edge_posterior(SESSIONS, sessions_per_year=252).p_edge, rel=1e-12
    )
    assert sharpe_difference(scaled, SESSIONS).p_better == 0.5


def test_the_hedge_fund_of_the_paper() -> None:
    # Lopez de Prado, Lipton and Zoonekynd (2025), numerical example
    assert math.sqrt(HEDGE_FUND.compute_spread() / 24) == pytest.approx(0.3286, abs=5e-5)
    assert psr_from_moments(HEDGE_FUND) == pytest.approx(0.9127, abs=5e-5)
    assert psr_from_moments(HEDGE_FUND, form="null") == pytest.approx(0.9872, abs=5e-5)
    assert min_track_record_from_moments(HEDGE_FUND) == pytest.approx(34.76, abs=5e-3)
    assert min_track_record_from_moments(HEDGE_FUND, form="null") == pytest.approx(13.029, abs=5e-4)


@pytest.mark.parametrize(("trials", "confidence"), [(100, 0.9004), (46, 0.9505)])
def test_the_deflated_sharpe_ratio_of_the_paper(trials: int, confidence: float) -> None:
    # Bailey and Lopez de Prado (2014), numerical example
    benchmark = math.sqrt(0.5 / 250) * expected_maximum(trials)
    found = Moments(n=1250, sharpe_per_session=2.5 / math.sqrt(250), skewness=-3, kurtosis=10)
    assert psr_from_moments(found, benchmark) == pytest.approx(confidence, abs=5e-5)
    if trials == 100:
        assert benchmark == pytest.approx(0.1132, abs=5e-5)


def test_lo_annualisation_of_the_paper() -> None:
    # Lo (2002), table 2 and equation 20
    assert lo_annualisation(12, 0.2) == pytest.approx(2.8788, abs=5e-5)
    assert lo_annualisation(252, 0.1) == pytest.approx(14.36, abs=5e-3)
    assert lo_annualisation(252, -0.1) == pytest.approx(17.54, abs=5e-3)
    assert lo_annualisation(252, 0.0) == pytest.approx(YEAR)
    assert lo_annualisation(12, [0.2**k for k in range(1, 12)]) == pytest.approx(lo_annualisation(12, 0.2))
    assert lo_annualisation(12, [0.2]) == pytest.approx(12 / math.sqrt(12 + 2 * 11 * 0.2))
    with pytest.raises(UndefinedStatisticError):
        lo_annualisation(3, [-0.9])


@pytest.mark.parametrize(("annual", "needed"), [(1, 681), (2, 170), (3, 75), (5, 27)])
def test_how_long_a_record_must_be_by_rule_of_thumb(annual: float, needed: int) -> None:
    normal = Moments(n=100, sharpe_per_session=annual / YEAR, skewness=0, kurtosis=3)
    assert min_track_record_from_moments(normal, form="null") == pytest.approx(needed, abs=1)


def test_series_and_moments_give_the_same_confidence() -> None:
    from scipy import stats

    found = compute_moments(SESSIONS)
    assert psr(SESSIONS, benchmark=1.5, form="null") == psr_from_moments(found, 1.5 / YEAR, "null")
    assert psr(SESSIONS, form="null") == pytest.approx(stats.norm.cdf(found.sharpe_per_session * math.sqrt(10)))


def test_a_record_of_the_minimum_length_shows_just_that_confidence() -> None:
    for form, alpha in (("2012", 0.05), ("null", 0.2)):
        needed = min_track_record_length(SESSIONS, 0.5, alpha, form)  # type: ignore[arg-type]
        found = compute_moments(SESSIONS)
        longer = Moments(
            n=needed,  # type: ignore[arg-type]
            sharpe_per_session=found.sharpe_per_session,
            skewness=found.skewness,
            kurtosis=found.kurtosis,
        )
        assert psr_from_moments(longer, 0.5 / YEAR, form) == pytest.approx(1 - alpha)  # type: ignore[arg-type]


def test_no_length_shows_a_sharpe_ratio_above_one_that_it_is_below_of() -> None:
    with pytest.raises(UndefinedStatisticError, match="never shows"):
        min_track_record_length(-SESSIONS)
    with pytest.raises(UndefinedStatisticError, match="never shows"):
        min_track_record_length(SESSIONS, benchmark=sharpe(SESSIONS))


def test_one_trial_deflates_nothing_and_more_trials_deflate_more() -> None:
    assert deflated_sharpe(SESSIONS, [sharpe(SESSIONS)]) == psr(SESSIONS)
    few, many = deflated_sharpe(SESSIONS, [0.0, 2.0]), deflated_sharpe(SESSIONS, [0.0, 2.0] * 10)
    assert psr(SESSIONS) > few > many
    assert few == pytest.approx(psr(SESSIONS, benchmark=math.sqrt(2) * expected_maximum(2)))  # deviation of 0 and 2
    for faulty in ([], [1.0, float("nan")]):
        with pytest.raises(UndefinedStatisticError, match="finite trials"):
            deflated_sharpe(SESSIONS, faulty)


def test_standard_errors_agree_where_they_must() -> None:
    pnl = stream(np.random.default_rng(4), 1, 120, sharpe=4.0)[0]
    found = compute_moments(pnl)
    ratio, skew, kurt = found.sharpe_per_session, found.skewness, found.kurtosis
    assert sharpe_standard_error(pnl, form="lo", sessions_per_year=252) == pytest.approx(
        math.sqrt(252 * (1 + ratio**2 / 2) / 120)
    )
    mertens = math.sqrt(252 * (1 - skew * ratio + (kurt - 1) / 4 * ratio**2) / 120)
    assert sharpe_standard_error(pnl, sessions_per_year=252) == pytest.approx(mertens)
    alternating = np.array([0.02, 0.01, -0.01, 0.0] * 30)  # its lag-1 autocorrelation is within one standard error of 0
    assert autocorrelation(alternating) == 0.0
    assert sharpe_standard_error(alternating, form="ar1", sessions_per_year=252) == pytest.approx(
        sharpe_standard_error(alternating, sessions_per_year=252)
    )
    trending = stream(np.random.default_rng(3), 1, 400, ar=0.6)[0]
    assert autocorrelation(trending) > 0.4
    assert sharpe_standard_error(trending, form="ar1", sessions_per_year=252) > 1.5 * sharpe_standard_error(
        trending, sessions_per_year=252
    )


def test_drawdown_by_hand() -> None:
    assert max_drawdown([1.0, -3.0, 1.0, -2.0, 5.0]) == 4.0
    assert max_drawdown([-1.0, -1.0]) == 2.0
    assert max_drawdown([1.0, 2.0]) == max_drawdown([]) == 0.0


@settings(max_examples=80)
@given(x=pnls, seed=st.integers(0, 99))
def test_a_difference_turns_round_with_its_sides(x: FloatArray, seed: int) -> None:
    y = x[np.random.default_rng(seed).permutation(x.size)] + np.linspace(0, 0.1, x.size)
    there, back = sharpe_difference(x, y), sharpe_difference(y, x)
    assert there.difference == pytest.approx(-back.difference, abs=1e-9)
    assert there.standard_error == pytest.approx(back.standard_error, rel=1e-9)
    assert there.p_better == pytest.approx(1 - back.p_better, abs=1e-9)
    if there.standard_error > 0:
        assert there.difference == pytest.approx(sharpe(x) - sharpe(y), abs=1e-9)
        assert (there.p_better > 0.5) == (there.difference > 0)


def test_the_difference_of_normal_sessions_has_the_error_of_memmel() -> None:
    rng, n, rho = np.random.default_rng(5), 200_000, 0.7
    common = rng.normal(size=n)
    x, y = (m + math.sqrt(rho) * common + math.sqrt(1 - rho) * rng.normal(size=n) for m in (0.3, 0.1))
    memmel = 2 * (1 - rho) + (0.3**2 + 0.1**2 - 2 * 0.3 * 0.1 * rho**2) / 2
    found = sharpe_difference(x, y)
    assert found.standard_error == pytest.approx(math.sqrt(252 * memmel / n), rel=0.01)
    assert found.correlation == pytest.approx(rho, abs=0.01)


def test_the_delta_method_agrees_with_a_numerical_gradient() -> None:
    x, y = (one[0] for one in pair(np.random.default_rng(8), 1, 30, sharpes=(3.0, -1.0)))
    rows = np.column_stack([x, y, x**2, y**2])
    at = rows.mean(axis=0)

    def ratio_difference(v: FloatArray) -> float:
        return float(v[0] / math.sqrt(v[2] - v[0] ** 2) - v[1] / math.sqrt(v[3] - v[1] ** 2))

    gradient = [(ratio_difference(at + e) - ratio_difference(at - e)) / 2e-6 for e in np.eye(4) * 1e-6]
    influence = (rows - at) @ np.array(gradient)
    expected = math.sqrt(252 * (influence**2).mean() / (30 - 4))
    assert sharpe_difference(x, y).standard_error == pytest.approx(expected, rel=1e-6)
    # with a lag: the weights of Parzen at 1/2
    lagged = (influence**2).mean() + 2 * 0.25 * (influence[1:] * influence[:-1]).sum() / 30
    assert sharpe_difference(x, y, lags=1).standard_error == pytest.approx(math.sqrt(252 * lagged / 26), rel=1e-6)


@settings(max_examples=60)
@given(x=pnls, factor=st.sampled_from([1.0, 1 / 3, 1e-9, 7.7]))
def test_a_model_against_itself_is_a_coin(x: FloatArray, factor: float) -> None:
    found = sharpe_difference(x, x * factor)
    assert (found.difference, found.standard_error, found.p_better) == (0.0, 0.0, 0.5)


def test_sessions_that_are_not_the_same_are_not_compared() -> None:
    with pytest.raises(UndefinedStatisticError, match="score both on the same"):
        sharpe_difference(SESSIONS, SESSIONS[1:])
    with pytest.raises(UndefinedStatisticError, match="5 or more"):
        sharpe_difference(SESSIONS[:4], SESSIONS[3:7])


@pytest.mark.parametrize(("n", "z"), [(20, 1.72), (40, 1.35), (60, 1.21), (120, 1.05), (280, 0.95)])
def test_the_edge_needs_less_of_a_longer_record(n: int, z: float) -> None:
    # the boundary of P_edge = 0.80: mean such that z = S sqrt(n_e / 252)
    plain = np.tile([1.0, -1.0, -1.0, 1.0], n // 4 + 1)[:n]
    spread = plain - np.average(plain, weights=2.0 ** (-np.arange(n)[::-1] / 120))

    def p_edge(mean: float) -> float:
        return compute_edge_posterior(spread + mean, sessions_per_year=252).p_edge

    low, high = 0.0, 5.0
    for _ in range(60):
        low, high = ((low + high) / 2, high) if p_edge((low + high) / 2) < 0.8 else (low, (low + high) / 2)
    found = compute_edge_posterior(spread + low, sessions_per_year=252)
    weights = 2.0 ** (-np.arange(n) / 120)
    assert found.effective_sessions == pytest.approx(weights.sum() ** 2 / (weights**2).sum())
    seen = found.mean / found.deviation**2 * 252 / found.effective_sessions
    assert seen * math.sqrt(found.effective_sessions / 252) == pytest.approx(z, abs=0.011)


def test_old_sessions_count_for_less_and_trending_ones_too() -> None:
    good_then_bad = np.concatenate([SESSIONS + 0.01] * 12 + [SESSIONS - 0.01] * 12)
    assert (
        compute_edge_posterior(good_then_bad, sessions_per_year=252).p_edge
        < 0.5
        < compute_edge_posterior(good_then_bad[::-1], sessions_per_year=252).p_edge
    )
    trending = stream(np.random.default_rng(3), 1, 120, ar=0.6, sharpe=2.0)[0]
    mixed = np.random.default_rng(1).permutation(trending)
    assert (
        compute_edge_posterior(trending, sessions_per_year=252).effective_sessions
        < 0.6 * compute_edge_posterior(mixed, sessions_per_year=252).effective_sessions
    )


def test_no_record_to_speak_of_leaves_the_prior() -> None:
    found = compute_edge_posterior([0.01, -0.01], prior_mean=0.5, sessions_per_year=252)
    assert found.mean == pytest.approx(0.5, abs=0.05)
    assert found.deviation == pytest.approx(2.0, abs=0.05)


def test_row_b1_noise_passes_a_confidence_of_95_per_cent_about_one_time_in_twenty() -> None:
    noise = stream(np.random.default_rng(11), 2000, 20)
    share = np.mean([psr(one) > 0.95 for one in noise])
    assert 0.04 <= share <= 0.075


def test_row_b2_two_worthless_models_differ_about_one_time_in_twenty() -> None:
    one, two = pair(np.random.default_rng(12), 2000, 20)
    found = [sharpe_difference(a, b) for a, b in zip(one, two, strict=True)]
    assert 0.035 <= np.mean([d.difference / d.standard_error > 1.645 for d in found]) <= 0.07


@pytest.mark.parametrize(("n", "ar", "least", "most"), [(20, 0, 0.88, 0.95), (41, 0, 0.88, 0.95), (20, 0.15, 0.85, 1)])
def test_row_b3_the_printed_interval_covers_the_truth(n: int, ar: float, least: float, most: float) -> None:
    truth = 2.0
    intervals = [
        sharpe_interval(one, sessions_per_year=252)
        for one in stream(np.random.default_rng(13), 2000, n, sharpe=truth, ar=ar)
    ]
    assert least <= np.mean([i.low <= truth <= i.high for i in intervals]) <= most
    if n == 20:
        assert np.mean([i.width for i in intervals]) == pytest.approx(13, abs=1.5)


def first_alarm(pnl: FloatArray) -> int:
    """Return after how many sessions the detector first alarms; all of them if it does not."""
    detector = ShiryaevRoberts(sessions_per_year=252)
    for n, value in enumerate(pnl.tolist(), start=1):
        detector = detector.update(value)
        if detector.alarmed:
            return n
    return pnl.size


@pytest.mark.parametrize(("true", "least"), [(0.3, 115), (2.0, 220), (3.0, 380)])
def test_row_g1_a_model_at_its_floor_or_above_is_left_alone_for_long(true: float, least: float) -> None:
    pnl = stream(np.random.default_rng(21), 300, 4000, sharpe=true)
    assert np.mean([first_alarm(one) for one in pnl]) >= least


def alarms(pnl: FloatArray) -> list[int]:
    detector, found = ShiryaevRoberts(sessions_per_year=252), []
    for n, value in enumerate(pnl.tolist()):
        detector = detector.update(value)
        if detector.alarmed:
            found.append(n)
    return found


def weak_windows(pnl: FloatArray, window: int = 20) -> int:
    """Return how often "the Sharpe ratio of the last 20 sessions is below 0.3" becomes true."""
    view = np.lib.stride_tricks.sliding_window_view(pnl, window)
    weak = view.mean(axis=1) / view.std(axis=1, ddof=1) * YEAR < 0.3
    return int((weak[1:] & ~weak[:-1]).sum())


@pytest.mark.parametrize("true", [2.0, 3.0])
def test_row_g2_a_healthy_model_raises_less_than_one_alarm_a_year(true: float) -> None:
    pnl = stream(np.random.default_rng(22), 200, 504, sharpe=true)
    ours = np.mean([sum(n >= 252 for n in alarms(one)) for one in pnl])
    rule_of_the_guide = np.mean([weak_windows(one[252 - 20 :]) for one in pnl])
    assert ours <= 1.0
    assert rule_of_the_guide >= 3.5


def test_row_g3_a_model_that_turns_is_found_within_two_months() -> None:
    rng = np.random.default_rng(23)
    pnl = np.concatenate([stream(rng, 300, 252, sharpe=3.0), stream(rng, 300, 500, sharpe=-3.0)], axis=1)
    delays = [next((n - 251 for n in alarms(one) if n >= 252), 500) for one in pnl]
    assert np.median(delays) <= 40


def test_a_session_without_a_trade_tells_the_detector_nothing() -> None:
    detector = ShiryaevRoberts(sessions_per_year=252)
    for value in SESSIONS[SESSIONS != 0]:
        detector = detector.update(float(value)).update(0.0)
    alone = ShiryaevRoberts(sessions_per_year=252)
    for value in SESSIONS[SESSIONS != 0]:
        alone = alone.update(float(value))
    assert detector == alone


def test_the_detector_refuses_what_is_not_a_number() -> None:
    with pytest.raises(UndefinedStatisticError, match="nan"):
        ShiryaevRoberts(sessions_per_year=252).update(float("nan"))


def test_the_detector_starts_from_nothing_after_an_alarm() -> None:
    detector = ShiryaevRoberts(sessions_per_year=252, alarm_at=3.0)
    while not detector.alarmed:
        detector = detector.update(0.01 if detector.sessions % 2 else -0.013)
    following = detector.update(-0.01)
    assert following.statistic < 1.5 < 3.0 <= detector.statistic


def test_the_names_that_scripts_rely_on_take_plain_lists() -> None:
    plain = SESSIONS.tolist()
    assert metrics.psr(plain, benchmark=0.0, form="2012") == psr(SESSIONS)
    assert metrics.min_track_record_length(plain, benchmark=0.0, alpha=0.05, form="null") > 0
    assert metrics.deflated_sharpe(plain, trial_sharpes=[1.0, 2.0]) < psr(SESSIONS)
    assert metrics.sharpe_difference(plain, plain).p_better == 0.5


def test_code_of_ours_always_says_how_many_sessions_a_year_has() -> None:
    """Names that scripts rely on have 252 where it is left out: right for New York, and wrong by 20 % for 24/7."""
    free_of_it = {"psr": 1, "min_track_record_length": 1}  # against a benchmark of 0 it does not matter
    named = {"sharpe", "sharpe_difference", "deflated_sharpe", *free_of_it}
    forgotten = []
    for path in sorted(Path(metrics.__file__).parent.parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            name = getattr(node, "func", None)
            called = name.attr if isinstance(name, ast.Attribute) else name.id if isinstance(name, ast.Name) else ""
            if not isinstance(node, ast.Call) or called not in named:
                continue
            said = any(keyword.arg == "sessions_per_year" for keyword in node.keywords)
            if not said and len(node.args) + len(node.keywords) > free_of_it.get(called, 0):
                forgotten.append(f"{path.name}:{node.lineno} {called}")
    assert forgotten == []
