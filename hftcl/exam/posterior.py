"""What a record of out-of-sample sessions tells of the policy's true Sharpe ratio. Pure.

`pnl` and `sessions_per_year` are those of `exam.metrics`.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from hftcl.exam.metrics import NORMAL, autocorrelation
from hftcl.exam.moments import check_pnl

# Chosen, not fitted: half a year, in which an edge may fade; a long record is worth 346 sessions.
HALF_LIFE_SESSIONS: Final = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgePosterior:
    """What a record tells of the true annual Sharpe ratio: a normal with this mean and deviation.

    >>> round(compute_edge_posterior([0.001, -0.0005, 0.0007, -0.0002] * 20, sessions_per_year=252).p_edge, 2)
    1.0
    """

    mean: float
    deviation: float
    effective_sessions: float

    @property
    def p_edge(self) -> float:
        """P(true net Sharpe > 0)."""
        return NORMAL.cdf(self.mean / self.deviation)


def compute_edge_posterior(
    record: npt.ArrayLike,
    *,
    half_life: float = HALF_LIFE_SESSIONS,
    prior_mean: float = 0.0,
    prior_deviation: float = 2.0,
    luck: float = 0.0,
    sessions_per_year: int,
) -> EdgePosterior:
    """Return the posterior of the annual net Sharpe ratio of a policy, from its own out-of-sample record.

    record: a `pnl`, each calendar day once. Weights 2^(-age / half_life); n_e = (sum w)^2 / sum w^2 sessions, times
    (1 - r) / (1 + r) where the shrunk autocorrelation r is positive; precision = n_e / 252 + 1 / prior_deviation^2;
    mean = ((S_w - luck) n_e / 252 + prior_mean / prior_deviation^2) / precision. A constant record is undefined.
    luck: by how much the record's Sharpe ratio is too high because it is the best of several, annual.
    Source: conjugate normal updating with Var(S) = 252 / n (Lo 2002 at a Sharpe ratio near 0).

    >>> round(compute_edge_posterior([0.001, -0.0005, 0.0007, -0.0002] * 20, sessions_per_year=252).mean, 2)
    3.52
    """
    x = check_pnl(record)
    weights = 2.0 ** (-np.arange(x.size - 1, -1, -1) / half_life)
    weights /= weights.sum()
    effective = 1.0 / float((weights**2).sum())
    mean = float((weights * x).sum())
    deviation = math.sqrt(float((weights * (x - mean) ** 2).sum()) * effective / (effective - 1.0))
    r = max(autocorrelation(x), 0.0) if x.size > 2 else 0.0
    effective *= (1.0 - r) / (1.0 + r)
    information = effective / sessions_per_year
    precision = information + prior_deviation**-2
    seen = mean / deviation * math.sqrt(sessions_per_year) - luck
    posterior = (seen * information + prior_mean * prior_deviation**-2) / precision
    return EdgePosterior(mean=posterior, deviation=precision**-0.5, effective_sessions=effective)
