"""The judge's arithmetic: net P&L per session in, figures of merit out. Pure: no file, no clock, no environment.

In every function:

pnl: float64, shape (n_sessions,), oldest first; a fraction of capital or USD, costs deducted, 0.0 for a session without
    a trade. A session is a trading day of the exchange. Not minutes: overlapping holds correlate those, and sampling
    the mean more finely adds no information about it (Merton 1980), so n is always the number of sessions.
sessions_per_year: how many sessions the exchange's calendar has in a year, see `market.sessions.Calendar`. 252 (New
    York) where it may be left out, which is for the notebook: code of ours always says it.
Sharpe ratios are annual unless a name ends in `_per_session`. UndefinedStatisticError is raised for too few sessions, a
value that is not finite, and sessions that are all alike.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from hftcl.errors import UndefinedStatisticError
from hftcl.exam.moments import FloatArray, Moments, check_pnl, compute_moments
from hftcl.exam.student import compute_t_quantile
from hftcl.formats import count

Form = Literal["2012", "null"]
_Statistic = TypeVar("_Statistic")

# Of US exchanges, 365 less weekends and holidays: 250 to 253; their Sharpe ratios are quoted with 252.
SESSIONS_PER_YEAR: Final = 252
EULER_GAMMA: Final = 0.5772156649015329  # Euler-Mascheroni, to the last digit of a float64: https://oeis.org/A001620
NORMAL: Final = NormalDist()  # standard: mean 0, deviation 1


def sharpe_per_session(pnl: npt.ArrayLike) -> float:
    """Return mean / standard deviation (ddof=1), not annualised.

    >>> sharpe_per_session([1.0, 2.0, 3.0])
    2.0
    """
    return compute_moments(pnl).sharpe_per_session


def sharpe(pnl: npt.ArrayLike, *, sessions_per_year: int = SESSIONS_PER_YEAR) -> float:
    """Return the annual Sharpe ratio of net P&L: mean / standard deviation (ddof=1) * sqrt(sessions a year); no unit.

    Source: Lo (2002), "The Statistics of Sharpe Ratios", FAJ 58(4). The root holds for uncorrelated sessions.

    >>> sharpe([1.0, 2.0, 3.0], sessions_per_year=4)
    4.0
    """
    return sharpe_per_session(pnl) * math.sqrt(sessions_per_year)


def compute_or_none(statistic: Callable[[], _Statistic]) -> _Statistic | None:
    """Return `statistic()`, or None where these numbers do not define it.

    >>> compute_or_none(lambda: psr([1.0, -1.0, 1.0, -1.0])), compute_or_none(lambda: psr([1.0]))
    (0.5, None)
    """
    try:
        return statistic()
    except UndefinedStatisticError:
        return None


def compute_sharpe_or_none(pnl: npt.ArrayLike, *, sessions_per_year: int) -> float | None:
    """Return what `sharpe` does, or None where these numbers do not define it.

    >>> compute_sharpe_or_none([1.0, 2.0, 3.0], sessions_per_year=4), compute_sharpe_or_none([1.0], sessions_per_year=4)
    (4.0, None)
    """
    return compute_or_none(lambda: sharpe(pnl, sessions_per_year=sessions_per_year))


def max_drawdown(pnl: npt.ArrayLike) -> float:
    """Return the deepest fall of the cumulative P&L below its running maximum (0 before the first session), >= 0.

    In the unit of `pnl`; sums, not compounded. 0.0 for no sessions; NaN where a session is NaN.

    >>> max_drawdown([1.0, -2.0, 3.0])
    2.0
    """
    wealth = np.concatenate(([0.0], np.cumsum(np.asarray(pnl, dtype=np.float64))))
    return float(np.max(np.maximum.accumulate(wealth) - wealth))


def noise_deviation(n: int, *, sessions_per_year: int) -> float:
    """Return the standard deviation of the annual Sharpe ratio that `n` sessions of a worthless model show.

    >>> round(noise_deviation(252, sessions_per_year=252), 2)
    1.0
    """
    return math.sqrt(sessions_per_year / n)


def autocorrelation(pnl: npt.ArrayLike) -> float:
    """Return the lag-1 autocorrelation of `pnl`, shrunk: the raw one of 20 sessions is noise.

    1/n is added, since it is biased by -1/n; it is moved towards 0 by one standard error (1 / sqrt(n)) and cut to
    [-0.3, 0.5]. Source of the bias: Marriott and Pope (1954), Biometrika 41; the rest is soft thresholding.

    >>> round(autocorrelation([1.0, -1.0, 1.0, -1.0, 2.0]), 2)
    -0.01
    """
    x = check_pnl(pnl, at_least=3)
    centred = x - x.mean()
    raw = float((centred[1:] * centred[:-1]).sum() / (centred**2).sum()) + 1.0 / x.size
    shrunk = math.copysign(max(abs(raw) - 1.0 / math.sqrt(x.size), 0.0), raw)
    return min(max(shrunk, -0.3), 0.5)


def lo_annualisation(q: int, rho: float | Sequence[float]) -> float:
    """Return eta(q), by which the Sharpe ratio of one period is multiplied for that of q periods.

    q / sqrt(q + 2 * sum over k < q of (q - k) * rho_k). rho: the lag-1 autocorrelation of an AR(1), so that rho_k =
    rho^k, or the sequence rho_1, rho_2, ..., 0 beyond its end. sqrt(q) without autocorrelation.
    Source: Lo (2002), equation 20.

    >>> round(lo_annualisation(4, 0.0), 6)
    2.0
    """
    lags = np.arange(1, q, dtype=np.float64)
    if isinstance(rho, int | float):
        correlations = float(rho) ** lags
    else:
        correlations = np.zeros(lags.size)
        given_rho = np.asarray(rho, dtype=np.float64)[: lags.size]
        correlations[: given_rho.size] = given_rho
    variance = q + 2.0 * float(((q - lags) * correlations).sum())
    if q < 1 or not variance > 0:
        raise UndefinedStatisticError(f"No {q}-period variance follows from the autocorrelation {rho}.")
    return q / math.sqrt(variance)


def sharpe_standard_error(
    pnl: npt.ArrayLike,
    *,
    form: Literal["lo", "mertens", "ar1"] = "mertens",
    sessions_per_year: int,
) -> float:
    """Return the standard error of the annual Sharpe ratio.

    "lo": independent normal sessions, n Var(SR) = 1 + SR^2 / 2 (Lo 2002). "mertens": with skewness and kurtosis
    (Mertens 2002). "ar1": with the shrunk autocorrelation r as well: n Var(SR) = a - b g3 SR + c (g4 - 1) / 4 SR^2,
    a = 1 + 2r/(1-r), b = 1 + r/(1-r) + r^2/(1-r^2), c = 1 + 2r^2/(1-r^2) (Lopez de Prado, Lipton and Zoonekynd 2025,
    "How to Use the Sharpe Ratio"). At a Sharpe ratio near 0 and without autocorrelation all are sqrt(252 / n).

    >>> round(sharpe_standard_error([1.0, -0.5, 0.7, -0.2] * 5, sessions_per_year=252), 2)
    3.56
    """
    m = compute_moments(pnl)
    if form == "lo":
        spread = 1.0 + m.sharpe_per_session**2 / 2.0
    elif form == "mertens":
        spread = m.compute_spread()
    else:
        r = autocorrelation(pnl)
        a, b = 1.0 + 2.0 * r / (1.0 - r), 1.0 + r / (1.0 - r) + r**2 / (1.0 - r**2)
        c = 1.0 + 2.0 * r**2 / (1.0 - r**2)
        ratio = m.sharpe_per_session
        spread = max(a - b * m.skewness * ratio + c * (m.kurtosis - 1.0) / 4.0 * ratio**2, 0.0)
    return math.sqrt(spread / m.n * sessions_per_year)


@dataclass(frozen=True, slots=True)
class Interval:
    """Two bounds, low first.

    >>> sharpe_interval([1.0, -0.5, 0.7, -0.2] * 5, sessions_per_year=252).low < 0
    True
    """

    low: float
    high: float

    @property
    def width(self) -> float:
        """Distance of the bounds."""
        return self.high - self.low


def sharpe_interval(pnl: npt.ArrayLike, *, level: float = 0.90, sessions_per_year: int) -> Interval:
    """Return a two-sided confidence interval of the annual Sharpe ratio; 13 wide for 20 sessions: print it.

    Sharpe +- t(n - 1) * the larger of the Lo and Mertens standard errors, times sqrt((1 + r) / (1 - r)) where the
    shrunk autocorrelation r is positive. Measured coverage at 0.90 with fat tails and clustered volatility: 0.91.

    >>> sharpe_interval([1.0, -0.5, 0.7, -0.2] * 5, sessions_per_year=252).width > 0
    True
    """
    r = max(autocorrelation(pnl), 0.0)
    centre = sharpe(pnl, sessions_per_year=sessions_per_year)
    lo = sharpe_standard_error(pnl, form="lo", sessions_per_year=sessions_per_year)
    n = np.asarray(pnl).size
    error = max(lo, sharpe_standard_error(pnl, sessions_per_year=sessions_per_year)) * math.sqrt((1.0 + r) / (1.0 - r))
    half = compute_t_quantile(n - 1, 0.5 + level / 2.0) * error
    return Interval(centre - half, centre + half)


def compute_sharpe_interval(pnl: npt.ArrayLike, sessions_per_year: int) -> tuple[float, float] | None:
    """Return the bounds of the 90 % interval of `sharpe_interval`, or None where these numbers do not define it.

    >>> compute_sharpe_interval([1.0], 252) is None
    True
    """
    interval = compute_or_none(lambda: sharpe_interval(pnl, sessions_per_year=sessions_per_year))
    return None if interval is None else (interval.low, interval.high)


def compute_psr(pnl: npt.ArrayLike, sessions_per_year: int) -> float | None:
    """Return what `psr` does, or None where these numbers do not define it, or are too few for `sharpe_interval`.

    Of sessions that are too few for an interval it would be next to certain: 0.999 of any two good days.

    >>> compute_psr([0.010, 0.011], 252) is None
    True
    """
    if compute_sharpe_interval(pnl, sessions_per_year) is None:
        return None
    return compute_or_none(lambda: psr(pnl))


def psr_from_moments(m: Moments, benchmark_per_session: float = 0.0, form: Form = "2012") -> float:
    """Return the probabilistic Sharpe ratio: P(true Sharpe > benchmark). See `psr`.

    >>> round(psr_from_moments(compute_moments([1.0, -0.5, 0.7, -0.2] * 5)), 2)
    0.96
    """
    distance = m.sharpe_per_session - benchmark_per_session
    if form == "2012":
        return NORMAL.cdf(distance * math.sqrt(m.n - 1) / math.sqrt(m.compute_spread()))
    return NORMAL.cdf(distance * math.sqrt(m.n) / math.sqrt(m.compute_spread(benchmark_per_session)))


def psr(
    pnl: npt.ArrayLike, benchmark: float = 0.0, form: Form = "2012", *, sessions_per_year: int = SESSIONS_PER_YEAR
) -> float:
    """Return the probabilistic Sharpe ratio, a confidence in [0, 1] that the true annual Sharpe exceeds `benchmark`.

    "2012": Phi((SR - SR0) sqrt(n - 1) / sqrt(1 - g3 SR + (g4 - 1) / 4 SR^2)), Bailey and Lopez de Prado (2012), "The
    Sharpe Ratio Efficient Frontier". "null": the variance at the benchmark and n for n - 1, Lopez de Prado, Lipton and
    Zoonekynd (2025); with a benchmark of 0 it is Phi(SR sqrt(n)).

    >>> round(psr([1.0, -1.0, 1.0, -1.0]), 2)
    0.5
    """
    return psr_from_moments(compute_moments(pnl), benchmark / math.sqrt(sessions_per_year), form)


def min_track_record_from_moments(
    m: Moments, benchmark_per_session: float = 0.0, alpha: float = 0.05, form: Form = "2012"
) -> float:
    """Return the sessions after which `psr_from_moments` reaches 1 - alpha. See `min_track_record_length`.

    >>> min_track_record_from_moments(compute_moments([1.0, -0.5, 0.7, -0.2] * 5))
    18.579183598221526
    """
    distance = m.sharpe_per_session - benchmark_per_session
    if not distance > 0:
        raise UndefinedStatisticError("A Sharpe ratio at or below the benchmark never shows to be above it.")
    ratio = (NORMAL.inv_cdf(1.0 - alpha) / distance) ** 2
    return 1.0 + m.compute_spread() * ratio if form == "2012" else m.compute_spread(benchmark_per_session) * ratio


def min_track_record_length(
    pnl: npt.ArrayLike,
    benchmark: float = 0.0,
    alpha: float = 0.05,
    form: Form = "2012",
    *,
    sessions_per_year: int = SESSIONS_PER_YEAR,
) -> float:
    """Return how many sessions like these show with confidence 1 - alpha that the annual Sharpe exceeds `benchmark`.

    Raises UndefinedStatisticError where the Sharpe ratio is at or below the benchmark: no length shows it.
    Source: Bailey and Lopez de Prado (2012); the forms are those of `psr`.

    >>> min_track_record_length([1.0, -0.5, 0.7, -0.2] * 5) > 2
    True
    """
    return min_track_record_from_moments(compute_moments(pnl), benchmark / math.sqrt(sessions_per_year), alpha, form)


def expected_maximum(trials: float) -> float:
    """Return about how many standard deviations the best of `trials` independent normal draws lies above their mean.

    (1 - g) Phi^-1(1 - 1/N) + g Phi^-1(1 - 1/(N e)), g = 0.5772; 0 below two. N need not be whole: trials that share
    only a part of their sessions count by that part. Source: Bailey and Lopez de Prado (2014).

    >>> expected_maximum(10) < expected_maximum(100)
    True
    """
    if trials < 2:
        return 0.0
    first, second = NORMAL.inv_cdf(1.0 - 1.0 / trials), NORMAL.inv_cdf(1.0 - 1.0 / (trials * math.e))
    return (1.0 - EULER_GAMMA) * first + EULER_GAMMA * second


def compute_best_luck(trial_sharpes: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> float:
    """Return the annual Sharpe ratio that the best of several worthless trials shows; see `deflated_sharpe`.

    0 below two weighted trials. Raises UndefinedStatisticError for none, or one that is not finite.

    >>> round(compute_best_luck([0.4, -0.3, 1.1, 0.2, -0.8]), 2), compute_best_luck([0.4])
    (0.86, 0.0)
    """
    trials = np.asarray(trial_sharpes, dtype=np.float64)
    if trials.size < 1 or not np.isfinite(trials).all():
        raise UndefinedStatisticError(f"A deflated Sharpe ratio needs finite trials, got {trials.tolist()}.")
    shares = np.ones(trials.size) if weights is None else np.asarray(weights, dtype=np.float64)
    count = float(shares.sum())
    squares = float((shares * (trials - np.average(trials, weights=shares)) ** 2).sum())
    freedom = count - float((shares**2).sum()) / count  # count - 1 where each counts whole, as for any variance
    deviation = math.sqrt(squares / freedom) if freedom > 0.0 else 0.0
    return deviation * expected_maximum(count)


def deflated_sharpe(
    pnl: npt.ArrayLike,
    trial_sharpes: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
    *,
    sessions_per_year: int = SESSIONS_PER_YEAR,
) -> float:
    """Return the deflated Sharpe ratio: the confidence that the best of several trials is better than luck.

    `psr` (form "2012") against the Sharpe ratio that the best of N worthless trials shows. trial_sharpes: annual, of
    ALL configurations that were scored on these sessions, the chosen one included; with one it is `psr(pnl)`.
    weights: of each trial, above 0 and at most 1, such as the share of its sessions that are these; 1 where left out.
    N is their sum, and the deviation is weighted by them.
    Conservative where the trials are correlated. Raises UndefinedStatisticError for none, or one that is not finite.
    Source: Bailey and Lopez de Prado (2014), "The Deflated Sharpe Ratio".

    >>> deflated_sharpe([1.0, -0.5, 0.7, -0.2] * 5, [0.1, 0.5, 0.9]) < psr([1.0, -0.5, 0.7, -0.2] * 5)
    True
    """
    return psr(pnl, benchmark=compute_best_luck(trial_sharpes, weights), sessions_per_year=sessions_per_year)


@dataclass(frozen=True, slots=True, kw_only=True)
class SharpeDifference:
    """Challenger minus champion, annual, on the same sessions.

    >>> round(sharpe_difference([2.0, -1.0, 1.5, 0.2] * 5, [1.0, -1.0, 0.5, 0.1] * 5).difference, 2)
    5.78
    """

    difference: float
    standard_error: float
    correlation: float

    @property
    def p_better(self) -> float:
        """P(challenger's true Sharpe ratio > champion's), normal; 0.5 where nothing tells them apart."""
        return NORMAL.cdf(self.difference / self.standard_error) if self.standard_error > 0 else 0.5


def sharpe_difference(
    challenger: npt.ArrayLike,
    champion: npt.ArrayLike,
    *,
    lags: int = 0,
    sessions_per_year: int = SESSIONS_PER_YEAR,
) -> SharpeDifference:
    """Return the difference of two annual Sharpe ratios on the same sessions, with its standard error.

    The delta method on the means and second moments, v = (m1, m2, q1, q2), with the small-sample factor n / (n - 4);
    measured size of a nominal 5 % test with 20 fat-tailed sessions: 5 %, where a bootstrap has 9 %. lags: with more
    than 0, Parzen weights on that many autocovariances. Equal P&L, or one a multiple of the other: 0 +- 0.
    Raises UndefinedStatisticError as the module says, for fewer than 5 sessions, or for two lengths.
    Source: Ledoit and Wolf (2008), "Robust Performance Hypothesis Testing with the Sharpe Ratio", JEF 15(5).

    >>> sharpe_difference([2.0, -1.0, 1.5, 0.2] * 5, [1.0, -1.0, 0.5, 0.1] * 5).p_better > 0.5
    True
    """
    x, y = check_pnl(challenger, at_least=5), check_pnl(champion, at_least=5)
    if x.size != y.size:
        raise UndefinedStatisticError(
            f"{count(x.size, 'session')} cannot be compared with {y.size}: score both on the same."
        )
    influence = _compute_influence(x) - _compute_influence(y)
    n = x.size
    variance = float((influence**2).mean())
    for lag in range(1, lags + 1):
        variance += 2.0 * _weigh_parzen(lag / (lags + 1)) * float((influence[lag:] * influence[:-lag]).sum()) / n
    error = math.sqrt(max(variance, 0.0) / (n - 4))
    annual = math.sqrt(sessions_per_year)
    difference = float(x.mean() / x.std(ddof=1) - y.mean() / y.std(ddof=1))
    if error < 1e-9:  # the same P&L up to scale: what is left is rounding, and its quotient would decide by chance
        difference = error = 0.0
    return SharpeDifference(
        difference=difference * annual,
        standard_error=error * annual,
        correlation=float(np.corrcoef(x, y)[0, 1]),
    )


def sharpe_against_flat(pnl: npt.ArrayLike, *, sessions_per_year: int) -> SharpeDifference:
    """Return the annual Sharpe ratio of `pnl` less that of a book that never traded, which is 0 and certain.

    So the standard error is that of `pnl` alone, with the factor n / (n - 4) of `sharpe_difference`. Raises as it does.

    >>> round(sharpe_against_flat([1.0, -0.5, 0.7, -0.2] * 5, sessions_per_year=252).p_better, 2)
    0.94
    """
    n = check_pnl(pnl, at_least=5).size
    error = sharpe_standard_error(pnl, sessions_per_year=sessions_per_year) * math.sqrt(n / (n - 4))
    difference = sharpe(pnl, sessions_per_year=sessions_per_year)
    return SharpeDifference(difference=difference, standard_error=error, correlation=0.0)


def _compute_influence(x: FloatArray) -> FloatArray:
    """Return what each session adds to the Sharpe ratio per session: the gradient times (x - m, x^2 - q)."""
    mean, second = float(x.mean()), float((x**2).mean())
    cubed = (second - mean**2) ** 1.5
    return np.asarray((second * (x - mean) - mean / 2.0 * (x**2 - second)) / cubed, dtype=np.float64)


def _weigh_parzen(share: float) -> float:
    return 1.0 - 6.0 * share**2 + 6.0 * share**3 if share <= 0.5 else 2.0 * (1.0 - share) ** 3
