"""The moments of a P&L per session, from which the figures of merit follow. Pure.

pnl is as `exam.metrics` says, and UndefinedStatisticError is raised for what it names.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hftcl.errors import UndefinedStatisticError
from hftcl.formats import count

FloatArray = npt.NDArray[np.float64]


def check_pnl(pnl: npt.ArrayLike, *, at_least: int = 2) -> FloatArray:
    """Return `pnl` as float64 scaled by a power of two to about 1, or raise UndefinedStatisticError.

    Every figure here is free of scale but the drawdown, so the scaling changes no bit of it; it keeps the squares of
    very large and very small sessions within range.

    >>> check_pnl([0.1, -0.2]).tolist()
    [0.4, -0.8]
    """
    values = np.asarray(pnl, dtype=np.float64)
    if values.ndim != 1 or values.size < at_least:
        raise UndefinedStatisticError(f"This figure needs {at_least} or more sessions, got {values.size}.")
    if not np.isfinite(values).all():
        faulty = int(values.size - np.isfinite(values).sum())
        raise UndefinedStatisticError(f"{faulty} of {count(values.size, 'session')} have a P&L that is not finite.")
    largest = float(np.abs(values).max())
    values = np.ldexp(values, -math.frexp(largest)[1])
    # not std == 0: the deviation of a constant 0.1 is 1.7e-17, and sums of the same trades differ by their rounding
    if np.ptp(values) <= 1e-12:
        raise UndefinedStatisticError(f"No variation: each of {count(values.size, 'session')} made {largest:.6g}.")
    return values


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """What the formulae of the Sharpe ratio need of a P&L: population skewness and kurtosis (a normal has 3).

    >>> compute_moments([1.0, 2.0, 3.0]).n
    3
    """

    n: int
    sharpe_per_session: float
    skewness: float
    kurtosis: float

    def compute_spread(self, at: float | None = None) -> float:
        """Return n * Var of the Sharpe ratio per session, at its own value or at another one: Mertens (2002).

        1 - skewness * SR + (kurtosis - 1) / 4 * SR^2. Raises UndefinedStatisticError where it is not above 0, which
        only sessions of two different values can do.
        """
        ratio = self.sharpe_per_session if at is None else at
        spread = 1.0 - self.skewness * ratio + (self.kurtosis - 1.0) / 4.0 * ratio**2
        if not spread > 1e-12:
            raise UndefinedStatisticError("The sessions take two values only; the Sharpe ratio has no standard error.")
        return spread


def compute_moments(pnl: npt.ArrayLike) -> Moments:
    """Return the moments of `pnl`; the standard deviation in the Sharpe ratio has ddof=1."""
    x = check_pnl(pnl)
    centred = x - x.mean()
    variance = float((centred**2).mean())
    return Moments(
        n=x.size,
        sharpe_per_session=float(x.mean() / x.std(ddof=1)),
        skewness=float((centred**3).mean()) / variance**1.5,
        kurtosis=float((centred**4).mean()) / variance**2,
    )
