"""When has a policy lost its edge? A detector that hears each session's P&L once. Pure."""

import math
from dataclasses import dataclass, replace
from typing import Final, Self

from hftcl.errors import UndefinedStatisticError

# About doubled: small ones see a slow decay first, large ones a collapse. 1 + 0.2 * (0.02 - 4) stays above 0.
_BETS: Final = (0.03, 0.06, 0.12, 0.2)
# Half-life 20 sessions, a month: as long as a calm or a storm may last; chosen.
_MEMORY: Final = 0.5 ** (1.0 / 20.0)
# The deviation from ten sessions is off by about a quarter; from fewer, z would mean little.
_WARM_UP_SESSIONS: Final = 10
_CLIP: Final = 4.0  # standard deviations: one wild session is not to decide, and no factor of R may become negative


@dataclass(frozen=True, slots=True, kw_only=True)
class ShiryaevRoberts:
    """A detector of a fallen Sharpe ratio, session by session. Immutable: `update` returns the next state.

    R = (1 + R) * (1 + bet * (floor / sqrt(252) - z)), averaged over several bets; an alarm when the mean reaches
    `alarm_at`, and then it starts from 0. z is the session's P&L in standard deviations known before it (exponential,
    half-life 20 sessions), cut to +-4. While the true Sharpe ratio is at or above `floor`, alarms are at least
    `alarm_at` sessions apart on average, whatever the distribution within 4 deviations: R - t is a supermartingale.
    Feed it the policy's P&L and do not begin again at a promotion. A session of exactly 0.0 (nothing traded) leaves it
    as it was.
    Source: Shin, Ramdas and Rinaldo (2024), "E-detectors", NEJSDS, doi 10.51387/23-NEJSDS51.

    >>> detector = ShiryaevRoberts(sessions_per_year=252, floor=0.3)
    >>> for pnl in (0.001, -0.002, 0.0005):
    ...     detector = detector.update(pnl)
    >>> detector.sessions
    3
    """

    sessions_per_year: int
    floor: float = 0.3
    alarm_at: float = 126.0
    r: tuple[float, ...] = (0.0,) * len(_BETS)
    squares: float = 0.0
    weights: float = 0.0
    sessions: int = 0

    @property
    def statistic(self) -> float:
        """Mean of R over the bets: the evidence so far."""
        return sum(self.r) / len(self.r)

    @property
    def alarmed(self) -> bool:
        """Whether the last session brought the alarm."""
        return self.statistic >= self.alarm_at

    def update(self, pnl: float) -> Self:
        """Return the state after a session with net P&L `pnl`, in the unit of all others.

        The first 10 sessions only teach the standard deviation. Raises UndefinedStatisticError if it is not finite.
        """
        if not math.isfinite(pnl):
            raise UndefinedStatisticError(f"The detector cannot take a P&L of {pnl}.")
        if pnl == 0.0:
            return self
        r = (0.0,) * len(_BETS) if self.alarmed else self.r
        if self.sessions >= _WARM_UP_SESSIONS:
            z = min(max(pnl / math.sqrt(self.squares / self.weights), -_CLIP), _CLIP)
            shortfall = self.floor / math.sqrt(self.sessions_per_year) - z
            r = tuple((1.0 + old) * (1.0 + bet * shortfall) for old, bet in zip(r, _BETS, strict=True))
        return replace(
            self,
            r=r,
            squares=_MEMORY * self.squares + pnl**2,
            weights=_MEMORY * self.weights + 1.0,
            sessions=self.sessions + 1,
        )
