"""What the policy's record is worth: whether it may trade, and how much of the record may be luck."""

from collections.abc import Mapping
from datetime import datetime

import numpy as np

from hftcl.archive.policy import hash_policy
from hftcl.archive.record import find_edge_in_force
from hftcl.archive.registry import Registry
from hftcl.exam.edge import Edge, EdgeState, judge_edge
from hftcl.learning.dataset import Dataset
from hftcl.learning.miracle import find_record_miracles, is_confirmed
from hftcl.learning.record import Record
from hftcl.learning.trials import compute_luck
from hftcl.market.sessions import Calendar
from hftcl.settings import Settings


def decide_edge(
    record: Record,
    archive: Registry,
    data: Dataset,
    settings: Settings,
    *,
    params: Mapping[str, object],
    obstacle: str | None,
) -> Edge:
    """Return whether the policy may trade. obstacle: what keeps it aside whatever the record says."""
    obstacles = [why for why in (obstacle, record.problem and f"the record lacks sessions: {record.problem}") if why]
    policy = hash_policy(settings, params, features=data.features)
    a_year = Calendar(settings.market.calendar).sessions_per_year
    miracles = find_record_miracles(
        record.net, synthetic=data.synthetic, limit=settings.exam.plausible_sharpe, sessions_per_year=a_year
    )
    if miracles and not is_confirmed(archive, policy):
        obstacles.append(f"the record is nearly always an error in the bars: {'; '.join(miracles)}")
    return judge_edge(
        record.net,
        _find_previous(record, archive, data, policy),
        rule=settings.edge,
        policy=settings.promote.policy,
        obstacles=obstacles,
        luck=compute_record_luck(record, archive, policy, synthetic=data.synthetic, sessions_per_year=a_year),
        sessions_per_year=a_year,
    )


def compute_record_luck(
    record: Record, archive: Registry, policy: str, *, synthetic: bool, sessions_per_year: int
) -> float:
    """Return how much of the record may be the luck of the best of several policies that were tried.

    Only the walk-forward with which a record begins can have been chosen so: what came later was scored as it came. As
    those sessions become a smaller part of the record, so does their luck. What was tried after it was written is of a
    later choice.
    """
    chosen = np.array([session.kind == "walk-forward" for session in record.sessions], dtype=np.bool_)
    if not chosen.any():
        return 0.0
    days = [session.session for session in record.sessions if session.kind == "walk-forward"]
    luck = compute_luck(
        archive,
        record.net[chosen],
        days,
        policy=policy,
        synthetic=synthetic,
        sessions_per_year=sessions_per_year,
        until=_find_begun(record, archive),
    )
    return luck * float(chosen.mean())


def _find_begun(record: Record, archive: Registry) -> datetime | None:
    """Return when the walk-forward was first written, with the model that began it; None where it begins now."""
    began = {row.model_id for row in record.recorded_sessions if row.kind == "walk-forward"}
    return min((model.trained_at for model in archive.list_models() if model.model_id in began), default=None)


def _find_previous(record: Record, archive: Registry, data: Dataset, policy: str) -> EdgeState:
    """Return what was in force when this retrain began: what is no more is to be earned again."""
    in_force = find_edge_in_force(
        archive, synthetic=data.synthetic, policy=policy, known_until=data.as_of.at, sessions=record.sessions
    )
    return EdgeState.LIVE if in_force.edge == EdgeState.LIVE else EdgeState.STAND_ASIDE
