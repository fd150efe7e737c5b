"""The judge: is it the cost, the horizon or the model? What a trade may cost, and how a signal's worth fades. Pure.

It decides nothing: a person who reads it chooses another horizon, another broker or another model, and the next exam
is another try.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from hftcl.exam.student import compute_t_quantile
from hftcl.formats import count
from hftcl.strategy.costs import BASIS_POINT

Fault = Literal["none", "cost", "horizon", "model", "no signal"]
FloatArray = npt.NDArray[np.float64]

MINUTES: Final = (1, 5, 15, 30, 60, 120)  # from the next bar to a third of a session; the model's own stands beside
_BY_CHANCE: Final = 0.05  # the share of worthless models that stand out at any of the horizons
TRADES: Final = 2  # a signal is opened and closed
_DAY_MINUTES: Final = 24 * 60  # no session is longer


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What the signals of an exam would have earned on average, each held for `minutes` by itself, before cost.

    signals: those whose session was long enough; sessions: that had one. earned_bps: the mean, in basis points of the
    value that a signal trades; error_bps: its standard error, from session to session, None with one session.
    """

    minutes: int
    signals: int
    sessions: int
    earned_bps: float
    error_bps: float | None

    @property
    def break_even_bps(self) -> float:
        """What each of a signal's two trades may cost, in basis points of the traded value."""
        return self.earned_bps / TRADES


@dataclass(frozen=True, slots=True, kw_only=True)
class Worth:
    """What stands between predictions and a profit.

    break_even_bps: what trading may cost, per turnover, until nothing is left of the exam's gross P&L; None without a
    trade. fades: by minutes held. conclusion: one sentence, whose case is `fault`.
    """

    break_even_bps: float | None
    fades: tuple[Held, ...]
    fault: Fault
    conclusion: str


def measure_worth(
    bars: pl.DataFrame,
    signals: npt.NDArray[np.int64],
    *,
    gross: float,
    turnover: float,
    cost_bps: float,
    horizon_minutes: int,
    above: int | None = None,
    near: int | None = None,
) -> Worth:
    """Return what an exam of this gross P&L and turnover lacked.

    bars: ticker, ts, session, minute, open; sorted by ticker and ts; one row a bar. signals: -1, 0 or 1, row for row.
    A signal is filled at the open of the ticker's first bar at or after the next minute, and given up at that of the
    first at or after `minutes` later, both in its session, as a target is (`model.target`).
    above: predictions above the entry threshold, near: those of them that are near to the training; None for as many
    as there are signals.
    """
    sums = FadeSums(horizon_minutes)
    sums.add(bars, signals)
    return sums.judge(gross=gross, turnover=turnover, cost_bps=cost_bps, above=above, near=near)


class FadeSums:
    """Collects what signals earned, part by part; each part has all the bars of its tickers."""

    def __init__(self, horizon_minutes: int) -> None:
        """Begin without a signal."""
        self._horizon_minutes = horizon_minutes
        self._signals = 0
        minutes = sorted({*MINUTES, horizon_minutes})
        self._earned: dict[int, list[tuple[FloatArray, npt.NDArray[np.int32]]]] = {held: [] for held in minutes}

    def add(self, bars: pl.DataFrame, signals: npt.NDArray[np.int64]) -> None:
        """Collect what the signals of a part earned; as `measure_worth` has them."""
        self._signals += int(np.count_nonzero(signals))
        if not signals.any():
            return
        part = bars.select(pl.struct("ticker", "session").rle_id()).to_series().to_numpy().astype(np.int64)
        at = part * (2 * _DAY_MINUTES) + bars["minute"].to_numpy()  # of two sessions never the same, and in order
        opens, chosen = bars["open"].to_numpy(), np.flatnonzero(signals)
        day = bars["session"].to_physical().to_numpy()[chosen]
        entry = np.searchsorted(at, at[chosen] + 1)
        for held, parts in self._earned.items():
            leave = np.searchsorted(at, at[chosen] + 1 + held)
            known = (leave < len(at)) & (part[np.minimum(leave, len(at) - 1)] == part[chosen])
            move = opens[leave[known]] / opens[entry[known]] - 1
            if move.size:
                parts.append((signals[chosen[known]] * move / BASIS_POINT, day[known]))

    def judge(
        self, *, gross: float, turnover: float, cost_bps: float, above: int | None = None, near: int | None = None
    ) -> Worth:
        """Return what `measure_worth` does of all that was added."""
        break_even = gross / turnover / BASIS_POINT if turnover > 0 else None
        fades = tuple(_average(held, parts) for held, parts in self._earned.items() if parts)
        if break_even is None or not fades:
            near = self._signals if near is None else near
            told = _explain_silence(near if above is None else above, near, self._signals)
            return Worth(break_even_bps=break_even, fades=fades, fault="no signal", conclusion=told)
        fault, conclusion = _conclude(break_even, fades, cost_bps, self._horizon_minutes)
        return Worth(break_even_bps=break_even, fades=fades, fault=fault, conclusion=conclusion)


def _average(minutes: int, parts: Sequence[tuple[FloatArray, npt.NDArray[np.int32]]]) -> Held:
    """Return the mean with its error, by which the sessions differ: signals of one session overlap, and move alike."""
    earned, days = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    mean = float(earned.mean())
    _, place = np.unique(days, return_inverse=True)
    sums = np.bincount(place, earned - mean)
    error = float(np.sqrt(sums.size / (sums.size - 1) * (sums**2).sum())) / earned.size if sums.size > 1 else None
    return Held(minutes=minutes, signals=earned.size, sessions=sums.size, earned_bps=mean, error_bps=error)


def _stands_out(held: Held, looks: int) -> bool:
    """Whether the mean is more above 0 than chance makes it at one of so many horizons: Bonferroni's bound."""
    if held.error_bps is None:
        return False
    return held.earned_bps > compute_t_quantile(held.sessions - 1, 1 - _BY_CHANCE / looks) * held.error_bps


def _explain_silence(above: int, near: int, signals: int) -> str:
    """Return what kept the predictions above the threshold, and those near to the training, from being trades."""
    if not above:
        return "No prediction was above the entry threshold: the model trades nothing."
    kept = {
        "lie too far from the training ([model] novelty)": above - near,
        "are to the side that is not traded ([strategy] side)": near - signals,
        "came too late in their session": signals,
    }
    why = ", ".join(f"{n} {name}" for name, n in kept.items() if n)
    return f"The model trades nothing: of {count(above, 'prediction')} above the entry threshold, {why}."


def _conclude(break_even: float, fades: Sequence[Held], cost_bps: float, horizon_minutes: int) -> tuple[Fault, str]:
    strong = [held for held in fades if _stands_out(held, len(fades))]
    best = max(strong or fades, key=lambda held: held.earned_bps)
    own = next((held for held in fades if held.minutes == horizon_minutes), None)
    price = f"{cost_bps:.2g} bp a trade"
    if not strong:
        return "model", (
            f"The model: at no horizon do its signals stand out from chance; the best, held for {_name(best)}, earn "
            f"{_describe(best)} before cost, and two trades cost {TRADES * cost_bps:.2g} bp."
        )
    if break_even > cost_bps:
        return "none", f"It earns its cost: a trade may cost up to {break_even:.1f} bp, and {price} was reckoned."
    if best is not own and best.break_even_bps > cost_bps:
        there = "too few sessions are long enough" if own is None else f"only {_describe(own)}"
        return "horizon", (
            f"The horizon: held for {_name(best)} a signal earns {_describe(best)} before cost, for the "
            f"{horizon_minutes} of this model {there}; two trades cost {TRADES * cost_bps:.2g} bp."
        )
    return "cost", (
        f"The cost: its signals foretell something, at best {_describe(best)} when held for {_name(best)}, but a trade "
        f"may cost no more than {max(break_even, 0.0):.2f} bp, and {price} was reckoned."
    )


def _name(held: Held) -> str:
    return f"{held.minutes} minute{'s' if held.minutes > 1 else ''}"


def _describe(held: Held) -> str:
    error = "" if held.error_bps is None else f" +- {held.error_bps:.1f}"
    return f"{held.earned_bps:.1f}{error} bp"
