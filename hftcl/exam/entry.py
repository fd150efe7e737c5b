"""The entry threshold that earns most after cost on the sessions that the inner split holds out; or none at all. Pure.

A model that finds nothing worth its cost trades nothing. It is the newest sessions of the training that decide, never
those of the exam.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from hftcl.exam.metrics import expected_maximum
from hftcl.formats import count

FloatArray = npt.NDArray[np.float64]
# From half of all minutes to one in 200: below, a position never rests; above, five sessions hold too few signals.
QUANTILES: Final = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.975, 0.99, 0.995)
# The greatest float32: no prediction lies above it, so exam, replay and bot trade nothing without a rule of their own.
NEVER: Final = float(np.finfo(np.float32).max)
# A threshold that traded in one of n sessions has the mean and the standard error a/n: rounding would decide.
_LEAST_TRADED: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryTry:
    """One threshold on the held-out sessions. net: mean per session, a fraction of capital; with its standard error.

    turnover: mean per session, in capitals. traded: sessions with a turnover.
    """

    quantile: float
    threshold: float
    net: float
    standard_error: float
    turnover: float
    traded: int = 0

    def pays(self, errors: float = 1.0) -> bool:
        """Whether it traded in two sessions or more, and earned more than so many standard errors."""
        return self.traded >= _LEAST_TRADED and self.net > errors * self.standard_error


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryChoice:
    """Which threshold was taken, and what each of `tried` earned on `sessions` held-out sessions.

    quantile: of |prediction| on these sessions; None where none paid, and the model trades nothing. errors: how many
    standard errors it had to earn. trials: thresholds, times the horizons that were tried on these sessions before.
    """

    quantile: float | None
    threshold: float
    sessions: int
    errors: float
    trials: int
    tried: tuple[EntryTry, ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HorizonTry:
    """One horizon on the held-out sessions, with the best threshold that its model had there."""

    horizon_minutes: int
    best: EntryTry


@dataclass(frozen=True, slots=True, kw_only=True)
class HorizonChoice:
    """Which horizon was taken, and what each of `tried` earned on `sessions` held-out sessions."""

    horizon_minutes: int
    sessions: int
    tried: tuple[HorizonTry, ...]
    reason: str


def choose_horizon(tried: Sequence[HorizonTry], *, sessions: int, cost_bps: float) -> HorizonChoice:
    """Return the horizon of greatest net P&L; of two that earned the same, the longer one, which trades less.

    Whether it pays at all is for the entry threshold to say.
    """
    chosen = max(tried, key=lambda one: (one.best.net, one.horizon_minutes))
    return HorizonChoice(
        horizon_minutes=chosen.horizon_minutes,
        sessions=sessions,
        tried=tuple(tried),
        reason=(
            f"{count(chosen.horizon_minutes, 'minute')} earned most of {count(len(tried), 'horizon')} on "
            f"{count(sessions, 'held-out session')} at {cost_bps:g} bp: {_describe(chosen.best)} a session"
        ),
    )


def sum_up(quantile: float, threshold: float, net: FloatArray, turnover: FloatArray) -> EntryTry:
    """Return what a threshold earned. net, turnover: float64, one value a held-out session, at least one."""
    # one session has no standard error: then nothing is above it
    error = float(net.std(ddof=1) / np.sqrt(net.size)) if net.size > 1 else float(abs(net[0]))
    return EntryTry(
        quantile=quantile,
        threshold=threshold,
        net=float(net.mean()),
        standard_error=error,
        turnover=float(turnover.mean()),
        traded=int(np.count_nonzero(turnover)),
    )


def choose_entry(tried: Sequence[EntryTry], *, sessions: int, cost_bps: float, horizons: int = 1) -> EntryChoice:
    """Return the threshold of greatest net P&L among those that earned more than their standard error; else none.

    Of two that earned the same, the one that trades less. horizons: how many were tried on these sessions; the best of
    several worthless ones is good by luck, so that what it must earn is higher by what the best of them shows.
    """
    errors = 1.0 + expected_maximum(horizons)
    chosen = max((one for one in tried if one.pays(errors)), key=lambda one: (one.net, one.quantile), default=None)
    held_out = f"on {count(sessions, 'held-out session')} at {cost_bps:g} bp"
    if chosen is None:
        best = max(tried, key=lambda one: (one.net, one.quantile))
        bar = (
            "its standard error" if horizons == 1 else f"{errors:.2f} standard errors (the best of {horizons} horizons)"
        )
        reason = (
            f"none of {len(tried)} thresholds earned more than {bar} {held_out}; the best, quantile {best.quantile:g}, "
            f"{_describe(best)} a session"
        )
        if best.traded < _LEAST_TRADED:
            reason += f", and traded in {count(best.traded, 'session')}"
    else:
        reason = (
            f"quantile {chosen.quantile:g} earned most of {len(tried)} thresholds {held_out}: {_describe(chosen)} a "
            "session"
        )
    return EntryChoice(
        quantile=chosen.quantile if chosen else None,
        threshold=chosen.threshold if chosen else NEVER,
        sessions=sessions,
        errors=errors,
        trials=len(tried) * horizons,
        tried=tuple(tried),
        reason=reason,
    )


def _describe(one: EntryTry) -> str:
    return f"{one.net:+.3%} +- {one.standard_error:.3%}"
