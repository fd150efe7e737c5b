"""Two policies on the same sessions: the difference of their Sharpe ratios, and what may be concluded. Pure."""

import math
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from hftcl.errors import UndefinedStatisticError
from hftcl.exam import metrics
from hftcl.exam.moments import FloatArray

Conclusion = Literal["paid", "not shown", "cost"]


_Z90: Final = 1.6448536269514722  # of a two-sided interval of 90 %


def compute_worth_of_holding(closes: npt.ArrayLike) -> FloatArray | None:
    """Return what equal amounts of each ticker of `closes`, as in `buy_and_hold`, are worth at each of its rows.

    float64, shape (1 + n_sessions,), from 1.0; None where the first row has no price at all.

    >>> compute_worth_of_holding([[100.0, 50.0], [110.0, 50.0], [120.0, float("nan")]]).tolist()
    [1.0, 1.05, 1.1]
    """
    prices = np.array(closes, dtype=np.float64)
    prices = prices[:, np.isfinite(prices[0])]
    if prices.shape[1] == 0:
        return None
    for row in range(1, prices.shape[0]):
        prices[row] = np.where(np.isfinite(prices[row]), prices[row], prices[row - 1])
    worth: FloatArray = (prices / prices[0]).mean(axis=1)
    return worth


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Sharpe ratio of one policy run less another's on the same sessions, annual; all None where it is not defined."""

    difference: float | None
    standard_error: float | None
    p_better: float | None
    interval: tuple[float, float] | None

    @property
    def conclusion(self) -> Conclusion:
        """Return "paid" where the 90 % interval lies above 0, "cost" where it lies below, else "not shown"."""
        low, high = self.interval or (-math.inf, math.inf)
        return "paid" if low > 0 else "cost" if high < 0 else "not shown"


def compare(mine: FloatArray, other: FloatArray, *, sessions_per_year: int) -> Difference:
    """Return the paired difference of two policy runs, with its 90 % interval: difference +- 1.645 standard errors.

    A run that never traded has a Sharpe ratio of 0, which is certain: see `metrics.sharpe_against_flat`.

    >>> mine = np.array([2.0, -1.0, 1.5, 0.2] * 10)
    >>> backwards = compare(mine, mine[::-1] * 0.5, sessions_per_year=252)
    >>> round(backwards.p_better, 3), compare(mine, mine, sessions_per_year=252).conclusion
    (0.5, 'not shown')
    """
    try:
        paired_difference = _compute_paired_difference(mine, other, sessions_per_year)
    except UndefinedStatisticError:
        return Difference(difference=None, standard_error=None, p_better=None, interval=None)
    half = _Z90 * paired_difference.standard_error
    return Difference(
        difference=paired_difference.difference,
        standard_error=paired_difference.standard_error,
        p_better=paired_difference.p_better,
        interval=(paired_difference.difference - half, paired_difference.difference + half),
    )


def _compute_paired_difference(mine: FloatArray, other: FloatArray, sessions_per_year: int) -> metrics.SharpeDifference:
    if not np.any(mine) and not np.any(other):
        return metrics.SharpeDifference(difference=0.0, standard_error=0.0, correlation=0.0)
    if not np.any(other):
        return metrics.sharpe_against_flat(mine, sessions_per_year=sessions_per_year)
    if not np.any(mine):
        against_flat = metrics.sharpe_against_flat(other, sessions_per_year=sessions_per_year)
        return replace(against_flat, difference=-against_flat.difference)
    return metrics.sharpe_difference(mine, other, sessions_per_year=sessions_per_year)
