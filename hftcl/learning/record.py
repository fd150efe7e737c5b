"""The policy's own out-of-sample record: begun by a walk-forward, continued by each retrain, judged for an edge.

A policy is the whole procedure: what it trains, what it promotes, what then serves. So each session counts once, with
the model that was current on that day, and no later choice changes it.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime
from itertools import groupby
from typing import Final

import numpy as np
import numpy.typing as npt

from hftcl.archive import artifact
from hftcl.archive.fitness import find_market_kind, load_archived
from hftcl.archive.record import Kind, RecordedSession, read_sessions
from hftcl.archive.records import ModelRecord
from hftcl.archive.registry import Registry
from hftcl.errors import HftclError, NoDataError
from hftcl.events import Event, Level, OnEvent
from hftcl.exam.edge import Edge, EdgeState, judge_edge
from hftcl.exam.split import ExamSplit, Session, find_unseen, list_sessions, split
from hftcl.learning.candidate import Candidate, train_candidate
from hftcl.learning.dataset import Dataset
from hftcl.learning.score import examine
from hftcl.model.training import TrainingPool
from hftcl.settings import Settings
from hftcl.strategy.costs import cost

FloatArray = npt.NDArray[np.float64]
STAGE: Final = "record"  # the name by which a view shows progress
FOLDS: Final = 4  # each costs a training at the first retrain: one for each week of an exam of 20 sessions
FOLD_SESSIONS: Final = 5  # a week: as often as a retrain is due


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The policy's record as of one moment: what was there, and what this retrain adds. `cost_bps`: as now set."""

    recorded_sessions: tuple[RecordedSession, ...]
    added: tuple[RecordedSession, ...]
    cost_bps: float
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
        return np.asarray(gross - cost(turnover, cost_bps=self.cost_bps), dtype=np.float64)


def extend_record(
    archive: Registry,
    data: Dataset,
    division: ExamSplit,
    candidate: Candidate,
    settings: Settings,
    *,
    params: Mapping[str, object],
    pool: TrainingPool,
    on_event: OnEvent,
) -> Record:
    """Return the record up to the last session of `data`; writes nothing.

    Where there is none on bars of this kind, it begins with the walk-forward over the sessions of the exam; else the
    sessions since its last one are scored with the model that was then current. What lies after `data` is not known.
    """
    recorded_sessions = tuple(
        session
        for session in read_sessions(archive, synthetic=data.synthetic)
        if not data.sessions or session.session <= data.sessions[-1]
    )
    story = _RecordScorer(archive, data, settings, params, on_event)
    try:
        added, problem = (
            story.score_since(recorded_sessions[-1].session)
            if recorded_sessions
            else (story.walk_forward(division, candidate, pool), None)
        )
    except NoDataError as error:  # a fold without a row to train on: the candidate itself had some
        added, problem = (), f"the walk-forward could not be done: {error}"
    if problem is not None:
        on_event(Event(STAGE, text=f"the record lacks sessions: {problem}", level=Level.WARNING))
    return Record(
        recorded_sessions=recorded_sessions, added=added, cost_bps=settings.strategy.cost_bps, problem=problem
    )


def catch_up(
    archive: Registry, data: Dataset, settings: Settings, *, params: Mapping[str, object], on_event: OnEvent
) -> Record:
    """Return the record with the sessions since its last one, as a retrain would score them; writes nothing.

    Where there is none on bars of this kind it stays empty: the first retrain begins it. Where a session cannot be
    scored, `problem` says why, and nothing is added: what is passed over now no later retrain would make up for.
    """
    recorded_sessions = read_sessions(archive, synthetic=data.synthetic)
    story = _RecordScorer(archive, data, settings, params, on_event)
    added, problem = story.score_since(recorded_sessions[-1].session) if recorded_sessions else ((), None)
    return Record(
        recorded_sessions=recorded_sessions,
        added=() if problem else added,
        cost_bps=settings.strategy.cost_bps,
        problem=problem,
    )


def decide_edge(record: Record, archive: Registry, data: Dataset, settings: Settings, *, obstacle: str | None) -> Edge:
    """Return whether the policy may trade. obstacle: what keeps it aside whatever the record says."""
    obstacles = [why for why in (obstacle, record.problem and f"the record lacks sessions: {record.problem}") if why]
    policy = settings.promote.policy
    previous = _find_previous(archive, data, policy)
    return judge_edge(record.net, previous, rule=settings.edge, policy=policy, obstacles=obstacles)


def _find_previous(archive: Registry, data: Dataset, policy: str) -> EdgeState:
    """Return what the last retrain decided on bars of this kind; what another policy allowed is to be earned again."""
    for model in archive.models():
        if model.synthetic == data.synthetic and model.known_until <= data.as_of.at:
            same = model.judgement.policy == policy
            return EdgeState.LIVE if same and model.judgement.edge == EdgeState.LIVE else EdgeState.STAND_ASIDE
    return EdgeState.STAND_ASIDE


def hash_policy(settings: Settings, params: Mapping[str, object]) -> str:
    """Return a hash of the settings that decide what the policy trains and trades, not of cost, paths or schedule."""
    market, strategy = settings.market, settings.strategy
    parts = {
        "market": [sorted(market.watchlist), market.calendar, market.lookback_days, market.extended_hours],
        "model": {**asdict(settings.model), **params},
        "strategy": [strategy.entry_quantile, strategy.flat_minutes_before_close],
        "exam": [settings.exam.sessions, settings.exam.embargo_sessions],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def split_folds(sessions: Sequence[Session], division: ExamSplit, *, embargo_sessions: int) -> tuple[ExamSplit, ...]:
    """Divide the exam's span into a few weeks, each with a training window before it as long as the candidate's.

    sessions: those of the window that `division` divides. At most 4 folds of at least 5 sessions (the last may have
    fewer). The first trains on the very sessions of the candidate.
    """
    first = len(division.train) + len(division.embargoed)
    held = len(sessions) - first
    size = max(FOLD_SESSIONS, -(-held // FOLDS))
    return tuple(
        split(
            sessions[start : first + min(start + size, held)],
            exam_sessions=min(size, held - start),
            embargo_sessions=embargo_sessions,
        )
        for start in range(0, held, size)
    )


@dataclass(frozen=True, slots=True)
class _RecordScorer:
    """The way in which a retrain, and between two of them the daily collection, earns sessions for the record."""

    archive: Registry
    data: Dataset
    settings: Settings
    params: Mapping[str, object]
    on_event: OnEvent

    def walk_forward(
        self, division: ExamSplit, candidate: Candidate, pool: TrainingPool
    ) -> tuple[RecordedSession, ...]:
        """Train on each fold's window and score on its weeks; the first fold's model is the candidate."""
        parts = split_folds(
            list_sessions(self.data.frame), division, embargo_sessions=self.settings.exam.embargo_sessions
        )
        taken = {session.session for session in read_sessions(self.archive, synthetic=self.data.synthetic)}
        scored_sessions: list[RecordedSession] = []
        for index, part in enumerate(parts):
            self.on_event(Event(STAGE, index, len(parts), text="walk-forward"))
            if part.train == division.train:
                model = candidate.model
            else:
                model = self._train(part, candidate, pool, _scale_progress(self.on_event, index, len(parts)))
            scored_sessions += self._score(model, part.exam_days, "walk-forward")
        self.on_event(Event(STAGE, len(parts), len(parts), text="walk-forward"))
        return tuple(session for session in scored_sessions if session.session not in taken)

    def _train(self, part: ExamSplit, candidate: Candidate, pool: TrainingPool, on_event: OnEvent) -> artifact.Model:
        return train_candidate(
            self.data.frame,
            part,
            self.settings,
            model_id=candidate.model.meta.model_id,
            params=self.params,
            source=self.data.source,
            synthetic=self.data.synthetic,
            pool=pool,
            on_event=on_event,
        ).model

    def score_since(self, last: date) -> tuple[tuple[RecordedSession, ...], str | None]:
        """Score the sessions after `last`, each with the model that was then current; and say what could not be.

        Sessions on which no model was current, or that it had seen, are no one's and left out.
        """
        current = _Timeline.from_archive(self.archive, synthetic=self.data.synthetic)
        later = [session for session in list_sessions(self.data.frame) if session.day > last]
        scored_sessions: list[RecordedSession] = []
        problem = None
        self.on_event(Event(STAGE, 0, 1, text="scoring"))
        for owner, days_of_owner in groupby(later, key=lambda session: current.find_at(session.start)):
            if owner is None:
                continue
            group = tuple(days_of_owner)
            try:
                examined = self.archive.find_examined(owner)
                days = self._list_unseen(examined, group)
                model = load_archived(self.archive, examined, find_market_kind(self.settings))
                scored_sessions += self._score(model, days, "scored")
            except HftclError as fault:
                problem = f"model {owner.model_id} was current on {len(group)} of them and cannot be scored: {fault}"
        self.on_event(Event(STAGE, 1, 1, text="scoring"))
        return tuple(scored_sessions), problem

    def _list_unseen(self, owner: ModelRecord, group: tuple[Session, ...]) -> tuple[date, ...]:
        embargo = self.settings.exam.embargo_sessions
        free = set(find_unseen(list_sessions(self.data.frame), owner.label_end, embargo_sessions=embargo))
        return tuple(session.day for session in group if session in free)

    def _score(self, model: artifact.Model, days: tuple[date, ...], kind: Kind) -> list[RecordedSession]:
        if not days:
            return []
        earned = examine(model, self.data.frame, days, cost_bps=self.settings.strategy.cost_bps).simulation
        if not (np.isfinite(earned.gross).all() and np.isfinite(earned.turnover).all()):
            raise NoDataError(f"The P&L of model {model.meta.model_id} is not finite in {days[0]} to {days[-1]}.")
        return [
            RecordedSession(
                session=day,
                net=net,
                gross=gross,
                turnover=turnover,
                model_id=model.meta.model_id,
                kind=kind,
                source=self.data.source,
                synthetic=self.data.synthetic,
                settings_digest=hash_policy(self.settings, self.params),
            )
            for day, net, gross, turnover in zip(
                days, earned.net.tolist(), earned.gross.tolist(), earned.turnover.tolist(), strict=True
            )
        ]


@dataclass(frozen=True, slots=True)
class _Timeline:
    """Which model was current when: the one that served, and before any did, the last candidate."""

    served: tuple[tuple[datetime, ModelRecord], ...]
    tried: tuple[tuple[datetime, ModelRecord], ...]

    @classmethod
    def from_archive(cls, archive: Registry, *, synthetic: bool) -> "_Timeline":
        """Return it for models of one kind of bars.

        A model that was promoted is current from the end of the bars by which it was judged, so that a loop replayed
        with --as-of is dated as it would have been; a rollback, from the moment a person made it.
        """
        models = {model.model_id: model for model in archive.models() if model.synthetic == synthetic}
        changes = [change for change in archive.deployments() if change.model_id in models]
        return cls(
            served=tuple(
                (models[change.model_id].known_until if change.kind == "deploy" else change.at, models[change.model_id])
                for change in changes
            ),
            tried=tuple((model.known_until, model) for model in reversed(models.values())),
        )

    def find_at(self, start: datetime) -> ModelRecord | None:
        """Return the model that was current when a session began."""
        for since, model in (*reversed(self.served), *reversed(self.tried)):
            if since < start:
                return model
        return None


def _scale_progress(on_event: OnEvent, index: int, count: int) -> OnEvent:
    """Return a listener that tells a training's progress as a part of the walk-forward's."""

    def tell(event: Event) -> None:
        if event.level is Level.PROGRESS and event.total:
            share = replace(event, stage=STAGE, done=index * event.total + event.done, total=count * event.total)
            # the last tree of the last fold is not yet the end of its exam
            on_event(replace(share, done=min(share.done, share.total - 1), text=f"walk-forward, {event.text}"))
        elif event.level is not Level.PROGRESS:
            on_event(event)

    return tell
