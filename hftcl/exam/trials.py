"""The best of many is good by luck: what it takes where several candidates were tried on the same sessions. Pure."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

import numpy.typing as npt

from hftcl import settings
from hftcl.exam.evidence import Evidence
from hftcl.exam.metrics import compute_or_none, deflated_sharpe

_TRIALS_THAT_DECIDE: Final = 2.0  # below two there is no best of several, and its expected luck is 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Another candidate that was examined: its net annual Sharpe ratio, and the share of our sessions it saw.

    sharpe: as over as many sessions as ours, see `build_trial`. weight: above 0 and at most 1.
    """

    sharpe: float
    weight: float = 1.0


def build_trial(sharpe: float, examined: Collection[date], ours: Collection[date]) -> Trial | None:
    """Return the trial that an exam on the sessions `examined` was for one on `ours`; None where they share none.

    sharpe: its net annual Sharpe ratio there. That of n sessions is luck with a deviation of sqrt(252 / n): it is
    scaled to as many as ours, or the four sessions after a deployment would tell of more luck than 19 have.
    """
    common = len(set(ours).intersection(examined))
    if not common:
        return None
    return Trial(sharpe=sharpe * math.sqrt(len(examined) / len(ours)), weight=common / len(ours))


def compute_deflated(
    net: npt.ArrayLike, own: float | None, tried: Sequence[Trial], *, sessions_per_year: int
) -> float | None:
    """Return the deflated Sharpe ratio of P&L `net`, the best of itself (`own`, annual) and those that were tried.

    None where `own` is None, or where it is undefined.
    """
    if own is None:
        return None
    sharpes, weights = [own, *(trial.sharpe for trial in tried)], [1.0, *(trial.weight for trial in tried)]
    return compute_or_none(lambda: deflated_sharpe(net, sharpes, weights, sessions_per_year=sessions_per_year))


def count_effective(tried: Sequence[Trial]) -> float:
    """Return the number of weighted trials, the one that is judged included."""
    return math.fsum((1.0, *(trial.weight for trial in tried)))  # of any order the same: two of it decide


def find_least_confidence(effective: float, confidence: float) -> float:
    """Return the deflated Sharpe ratio that the newest of `effective` weighted trials, two or more, needs.

    Of N trials on the same sessions the deflated Sharpe ratio judges all but the first, each as the best so far. That
    all N - 1 leave a worthless candidate out with probability `confidence`, each needs its (N - 1)th root (Sidak 1967,
    "Rectangular Confidence Regions", JASA 62): `confidence` itself for two, 0.94 of 0.60 for ten. With 0.60 each time,
    ten worthless candidates that are not alike deploy one of them in 74 % of the markets, where one look does in 44 %.

    >>> [round(find_least_confidence(n, 0.6), 2) for n in (2.0, 2.5, 5.0, 10.0)]
    [0.6, 0.71, 0.88, 0.94]
    """
    return confidence ** (1.0 / (effective - 1.0)) if effective > _TRIALS_THAT_DECIDE else confidence


def judge_trials(
    tried: Sequence[Trial], deflated: float | None, promote: settings.Promote, *, decides: bool
) -> Evidence:
    """Return how much of the figure is the luck of the best of several; it decides from two weighted trials on."""
    effective = count_effective(tried)
    decisive = decides and effective >= _TRIALS_THAT_DECIDE and promote.policy != "seed"
    least = find_least_confidence(effective, promote.min_p_better)
    figure = "not defined" if deflated is None else f"{deflated:.2f}"
    told = (
        f"one of {1 + len(tried)} candidates that were tried on these sessions "
        f"({effective:.2f} by the sessions in common): deflated Sharpe ratio {figure}"
    )
    return Evidence(
        name="trials",
        value=deflated,
        threshold=least if decisive else None,
        passed=not decisive or (deflated is not None and deflated >= least),
        detail=f"{told}, needs {least:.2f}" if decisive else told,
        decides=decisive,
    )
