"""How many tries a candidate is the best of: every other one that was examined on some of its exam's sessions."""

from collections.abc import Sequence
from datetime import date, datetime

import numpy as np
import numpy.typing as npt

from hftcl.archive.deployment import ModelArchive
from hftcl.archive.looks import Look, read_looks
from hftcl.archive.records import Moment
from hftcl.archive.registry import Registry
from hftcl.errors import LockHeldError, StorageError
from hftcl.events import Event, Level, OnEvent
from hftcl.exam.metrics import compute_best_luck, compute_or_none, sharpe
from hftcl.exam.trials import Trial, build_trial
from hftcl.learning.reports import ScoreReport


def find_trials(
    registry: Registry, challenger: ScoreReport, *, synthetic: bool, positions: str | None = None
) -> tuple[Trial, ...]:
    """Return each other candidate that was examined on sessions of `challenger`, the greatest share first.

    positions: which candidate it is, see `archive.looks`, where this is not the exam of its own training.

    weight: 0.95 for the exam of the day before, which shares 19 of 20 sessions. The same configuration on the same bars
    holds the same positions: one trial, however often it is run.
    """
    days = {date.fromisoformat(day) for day in challenger.pnl_by_session}
    trials = [
        build_trial(look.sharpe, look.sessions, days)
        for look in read_looks(registry, synthetic=synthetic)
        if look.positions not in {positions, challenger.positions_sha256}
    ]
    return tuple(sorted(filter(None, trials), key=lambda trial: (-trial.weight, trial.sharpe)))


def compute_luck(
    registry: Registry,
    own: npt.NDArray[np.float64],
    days: Sequence[date],
    *,
    policy: str,
    synthetic: bool,
    sessions_per_year: int,
    until: datetime | None = None,
) -> float:
    """Return the annual Sharpe ratio that the best of the policies tried on `days` would show if all were worthless.

    own: net P&L of `policy` on `days`. Each other policy that was examined on some of them is one try, by the share of
    its exam that shares most; 0 where there are fewer than two, or where it is not defined. until: when `policy` was
    chosen at the latest, so that what was tried afterwards cannot have chosen it; None counts all.
    """
    rivals: dict[str, Trial] = {}
    for look in read_looks(registry, synthetic=synthetic, until=until):
        trial, known = build_trial(look.sharpe, look.sessions, days), rivals.get(look.policy)
        if look.policy not in {"", policy} and trial and (known is None or trial.weight > known.weight):
            rivals[look.policy] = trial
    sharpes, weights = [trial.sharpe for trial in rivals.values()], [trial.weight for trial in rivals.values()]
    return (
        compute_or_none(
            lambda: compute_best_luck([sharpe(own, sessions_per_year=sessions_per_year), *sharpes], [1.0, *weights])
        )
        or 0.0
    )


def build_look(score: ScoreReport, *, policy: str, positions: str | None = None) -> Look | None:
    """Return the look that an exam was, None where it gave no figure; positions: as for `find_trials`."""
    positions = positions or score.positions_sha256
    if score.sharpe is None or positions is None:
        return None
    days = tuple(date.fromisoformat(day) for day in score.pnl_by_session)
    return Look(policy=policy, positions=positions, sharpe=score.sharpe, sessions=days)


def record_look(
    archive: ModelArchive,
    score: ScoreReport,
    *,
    policy: str,
    synthetic: bool,
    now: Moment,
    on_event: OnEvent,
    positions: str | None = None,
) -> None:
    """Write down that a candidate of `policy` was examined. Where the home may not be written, that is told.

    positions: as for `find_trials`.
    """
    look = build_look(score, policy=policy, positions=positions)
    if look is None:
        return
    try:
        archive.record_look(look, synthetic=synthetic, now=now)
    except (StorageError, LockHeldError) as fault:
        on_event(Event("exam", text=f"this look at the exam could not be counted: {fault}", level=Level.WARNING))
