"""The policy's own out-of-sample record: begun by a walk-forward, continued by each retrain, judged for an edge.

A policy is the whole procedure: what it trains, what it promotes, what then serves. So each session counts once, with
the model that was current on that day, and no later choice changes it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import numpy.typing as npt
import polars as pl

from hftcl.archive.record import RecordedSession, hash_record, read_all
from hftcl.archive.registry import Registry
from hftcl.compute import Engine
from hftcl.errors import NoDataError
from hftcl.events import Event, Level, OnEvent
from hftcl.exam.split import ExamSplit
from hftcl.formats import count
from hftcl.learning.candidate import Candidate
from hftcl.learning.dataset import Dataset
from hftcl.learning.gaps import describe_holes, find_holes
from hftcl.learning.record_scoring import STAGE, RecordScorer, ScoredSessions
from hftcl.market.sessions import Calendar
from hftcl.settings import Settings
from hftcl.strategy.costs import compute_cost

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The policy's record as of one moment: what was there and holds, and what this retrain adds.

    dropped: rows that were there and hold no more, because their bars were corrected; `added` has those of them that
    could be scored again. One whose model cannot be read now is in none of the three. cost_bps: as now set.
    """

    recorded_sessions: tuple[RecordedSession, ...]
    added: tuple[RecordedSession, ...]
    cost_bps: float
    dropped: tuple[RecordedSession, ...] = ()
    problem: str | None = None
    """Why sessions that belong into it are missing."""

    @property
    def sessions(self) -> tuple[RecordedSession, ...]:
        """Every session, oldest first."""
        return tuple(sorted((*self.recorded_sessions, *self.added), key=lambda session: session.session))

    @property
    def net(self) -> FloatArray:
        """Net P&L per session, oldest first, all at the present cost: a dearer broker makes the past dearer too."""
        gross = np.array([session.gross for session in self.sessions], dtype=np.float64)
        turnover = np.array([session.turnover for session in self.sessions], dtype=np.float64)
        return np.asarray(gross - compute_cost(turnover, cost_bps=self.cost_bps), dtype=np.float64)

    @property
    def digest(self) -> str:
        """Of the sessions and of their bars: what a verdict on the edge stands on."""
        return hash_record(self.sessions)


def extend_record(
    archive: Registry,
    data: Dataset,
    division: ExamSplit,
    candidate: Candidate,
    settings: Settings,
    params: Mapping[str, object],
    engine: Engine,
    on_event: OnEvent,
    *,
    may_keep: bool,
) -> Record:
    """Return the record of this policy up to the last session of `data`; writes none of it.

    Where this policy has none on bars of this kind, it begins with the sessions for which one of its models is
    archived, and the walk-forward over those of the exam that are left; else the sessions since its last one are scored
    with the model that was then current, and those whose bars were corrected again. Where the file of such a model
    cannot be read now, what it would score waits, and `problem` tells. What lies after `data` is not known.
    engine: where the walk-forward trains. may_keep: folds of it that came back, see `KeptFolds`.
    """
    scorer = RecordScorer(archive, data, settings, params, on_event, may_keep=may_keep)
    rows = scorer.list_rows()
    try:
        scored = scorer.score_lacking() if scorer.list_holding() else scorer.begin(division, candidate, engine)
    except NoDataError as error:  # a fold without a row to train on: the candidate itself had some
        scored = ScoredSessions(problem=f"the walk-forward could not be done: {error}")
    if not rows:
        _tell_other_policies(scorer)
    if scored.reason is not None:
        on_event(Event(STAGE, text=f"the record lacks sessions: {scored.reason}", level=Level.WARNING))
    return _build_record(scorer, scored)


def has_rows(archive: Registry, policy: str, *, synthetic: bool) -> bool:
    """Return whether this policy has a record on bars of this kind, whatever came of those bars since."""
    return any(current and row.policy == policy for row, current in read_all(archive, synthetic=synthetic))


def catch_up(
    archive: Registry,
    data: Dataset,
    settings: Settings,
    *,
    params: Mapping[str, object],
    on_event: OnEvent,
    compute_rows: Callable[[date], pl.DataFrame] | None = None,
) -> Record:
    """Return the record with the sessions since its last one, as a retrain would score them; writes nothing.

    Where this policy has none on bars of this kind it stays empty: the first retrain begins it. Where a session cannot
    be scored, `problem` says why, and none is added that the record had not yet: what is passed over now no later
    retrain would make up for. One whose model cannot be read now waits, see `extend_record`. compute_rows: see
    `RecordScorer`.
    """
    scorer = RecordScorer(archive, data, settings, params, on_event, compute_rows)
    rows = scorer.list_rows()
    scored = scorer.score_lacking() if rows else ScoredSessions()
    if scored.problem is not None:
        known = tuple(session for session in scored.sessions if session.session <= rows[-1].session)
        scored = replace(scored, sessions=known)
    return _build_record(scorer, scored)


def _build_record(scorer: RecordScorer, scored: ScoredSessions) -> Record:
    """Return the record with what is added, and tell of rows that hold no more."""
    holding, added = scorer.list_holding(), scored.sessions
    kept, scored_days = {row.session for row in holding}, {session.session for session in added}
    waiting = scored.unread.keys() - scored_days
    dropped = tuple(row for row in scorer.list_rows() if row.session not in kept | waiting)
    if dropped:
        again = scored_days & {row.session for row in dropped}
        text = (
            f"{count(len(dropped), 'recorded session')} from {dropped[0].session} to {dropped[-1].session}: the "
            "bars have been corrected since, and what was earned on them does not count. Scored again with the "
            f"model of the day: {len(again)}; dropped: {len(dropped) - len(again)}"
        )
        scorer.on_event(Event(STAGE, text=text, level=Level.WARNING))
    days = sorted(kept | scored_days | waiting)  # what waits is told with its own reason
    hole = describe_holes(find_holes(days, Calendar(scorer.settings.market.calendar)))
    if hole:
        scorer.on_event(Event(STAGE, text=hole, level=Level.WARNING))
    return Record(
        recorded_sessions=holding,
        added=added,
        dropped=dropped,
        cost_bps=scorer.settings.strategy.cost_bps,
        problem=scored.reason,
    )


def _tell_other_policies(scorer: RecordScorer) -> None:
    """Tell, where this policy has no record yet, that others have one: it does not count for this one."""
    others = [row for row, _ in scorer.rows if row.policy != scorer.policy]
    if others:
        text = (
            f"{count(len(others), 'recorded session')} of another policy: not counted for this one. A record is of "
            "one watchlist, source, horizon, model, strategy, cost, exam and promotion rule, and of "
            "this one there is none yet"
        )
        scorer.on_event(Event(STAGE, text=text, level=Level.WARNING))
