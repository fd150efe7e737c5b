"""How sessions are earned for the record: the walk-forward, and each later session with the model of its day."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property
from itertools import groupby
from typing import Final

import numpy as np
import polars as pl

from hftcl.archive import artifact
from hftcl.archive.fitness import find_market_kind, load_archived
from hftcl.archive.policy import hash_policy, is_made_by
from hftcl.archive.record import Kind, RecordedSession, read_all
from hftcl.archive.records import ModelRecord
from hftcl.archive.registry import Registry
from hftcl.compute import Engine
from hftcl.compute.crew import count_cores
from hftcl.errors import HftclError, NoDataError, StorageError
from hftcl.events import Event, Level, OnEvent
from hftcl.exam.split import ExamSplit, Session, find_unseen, list_sessions, split
from hftcl.learning import folds
from hftcl.learning.bars_digest import compute_bars_digests, format_bars, holds
from hftcl.learning.candidate import Candidate
from hftcl.learning.dataset import Dataset
from hftcl.learning.folds import FoldProgress, FoldTrainer, require_unseen
from hftcl.learning.inside import count_trainings
from hftcl.learning.record_timeline import Timeline
from hftcl.learning.score import examine
from hftcl.settings import Settings

STAGE: Final = folds.STAGE  # the name by which a view shows progress
FOLDS: Final = 4  # each costs a training at the first retrain: one for each week of an exam of 20 sessions
FOLD_SESSIONS: Final = 5  # a week: as often as a retrain is due


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredSessions:
    """Sessions that were scored, and why others were not.

    problem: why sessions cannot be scored at all. unread: session -> why the file of its model cannot be read now; that
    says nothing of the session, which waits.
    """

    sessions: tuple[RecordedSession, ...] = ()
    problem: str | None = None
    unread: Mapping[date, str] = field(default_factory=dict)

    @property
    def reason(self) -> str | None:
        """Why sessions that belong into the record are missing."""
        return self.problem or next(iter(self.unread.values()), None)


@dataclass(frozen=True)  # without slots: what is computed once is kept in it
class RecordScorer:
    """The way in which a retrain, and between two of them the daily collection, earns sessions for the record.

    compute_rows: returns the rows from a session on, where those of `data` lack features and target: see
    `dataset.Window.assemble_bars`. None where they have them. may_keep: folds that came back, see `KeptFolds`.
    """

    archive: Registry
    data: Dataset
    settings: Settings
    params: Mapping[str, object]
    on_event: OnEvent
    compute_rows: Callable[[date], pl.DataFrame] | None = None
    may_keep: bool = False
    _computed: dict[date, pl.DataFrame] = field(default_factory=dict, init=False, repr=False)
    _unread: dict[str, StorageError] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def policy(self) -> str:
        """Digest of the policy whose record this is."""
        return hash_policy(self.settings, self.params, features=self.data.features)

    @cached_property
    def bars(self) -> dict[date, dict[str, str]]:
        """Digest of each ticker's bars, by session."""
        return compute_bars_digests(self.data.frame, self.data.features.columns)

    @cached_property
    def rows(self) -> tuple[tuple[RecordedSession, bool], ...]:
        """Every recorded session on bars of this kind, of all policies, and whether its beginning is the last one."""
        return read_all(self.archive, synthetic=self.data.synthetic)

    def list_rows(self) -> tuple[RecordedSession, ...]:
        """Return the record of this policy up to `data`, oldest first, whether or not its bars are the same still."""
        last = self.data.sessions[-1] if self.data.sessions else date.max
        return tuple(row for row, current in self.rows if current and row.policy == self.policy and row.session <= last)

    def list_holding(self) -> tuple[RecordedSession, ...]:
        """Return the rows of it whose bars are the same still."""
        return tuple(row for row in self.list_rows() if holds(row.bars, self.bars.get(row.session, {})))

    def begin(self, division: ExamSplit, candidate: Candidate, engine: Engine) -> ScoredSessions:
        """Return the sessions with which a record begins."""
        scored = self.score(list_sessions(self.data.frame))
        have = {session.session for session in scored.sessions}
        if all(day in have for day in division.exam_days):
            return scored
        walked = self.walk_forward(division, candidate, engine)
        others = (session for session in walked if session.session not in have)
        return replace(scored, sessions=(*scored.sessions, *others))

    def walk_forward(self, division: ExamSplit, candidate: Candidate, engine: Engine) -> tuple[RecordedSession, ...]:
        """Train on each fold's window and score on its weeks; the first fold's model is the candidate.

        The others train at the same time, where `engine` does. Raises IntegrityError where a model has seen what it
        would be scored on, and as `FoldTrainer.train`.
        """
        parts = split_folds(
            list_sessions(self.data.frame), division, embargo_sessions=self.settings.exam.embargo_sessions
        )
        lacking = [part for part in parts if part.train != division.train]
        progress = FoldProgress(
            on_event=self.on_event,
            folds=len(parts),
            done=len(parts) - len(lacking),
            trainings=count_trainings(self.settings),
        )
        progress.begin()
        models = dict.fromkeys(parts, candidate.model)
        if lacking:
            trainer = FoldTrainer(
                data=self.data,
                settings=self.settings,
                params=self.params,
                model_id=candidate.model.meta.model_id,
                may_keep=self.may_keep,
            )
            models |= trainer.train(lacking, engine, progress)
        scored_sessions: list[RecordedSession] = []
        for part in parts:
            require_unseen(models[part], part)
            rows = self._read_rows(part.exam_days[0])
            scored_sessions += self._score(models[part], rows, part.exam_days, "walk-forward")
        progress.end()
        return tuple(scored_sessions)

    def score_lacking(self) -> ScoredSessions:
        """Score the sessions after the last row again, and those whose bars were corrected.

        `problem` is of sessions after the last row. A corrected one that cannot be scored is dropped, and why is told;
        one whose model cannot be read now stays as it is. What follows a later one of these waits with it: the record
        never goes back to a session that it passed. Raises as `score`.
        """
        rows, holding = self.list_rows(), {row.session for row in self.list_holding()}
        last, corrected = rows[-1].session, {row.session for row in rows} - holding
        sessions = list_sessions(self.data.frame)
        self.on_event(Event(STAGE, 0, 1, text="scoring"))
        again = self._score_unseen([session for session in sessions if session.day in corrected])
        if again.problem is not None:
            text = f"sessions whose bars were corrected are not scored again: {again.problem}"
            self.on_event(Event(STAGE, text=text, level=Level.WARNING))
        later = self._score_unseen([session for session in sessions if session.day > last])
        self.on_event(Event(STAGE, 1, 1, text="scoring"))
        waiting = min(later.unread, default=date.max)
        return ScoredSessions(
            sessions=(*again.sessions, *(row for row in later.sessions if row.session < waiting)),
            problem=later.problem,
            unread={**again.unread, **later.unread},
        )

    def score(self, sessions: Sequence[Session]) -> ScoredSessions:
        """Score `sessions`, oldest first, each with the model that was then current.

        Sessions on which no model of this policy was current, or that it had seen, are no one's and left out. Raises
        as `compute_rows`, with StorageError where the rows have no place: that says nothing of a session, and the
        record would never have it back.
        """
        self.on_event(Event(STAGE, 0, 1, text="scoring"))
        scored = self._score_unseen(sessions)
        self.on_event(Event(STAGE, 1, 1, text="scoring"))
        return scored

    def _score_unseen(self, sessions: Sequence[Session]) -> ScoredSessions:
        current = Timeline.from_archive(self.archive, synthetic=self.data.synthetic, is_ours=self._is_ours)
        scored_sessions: list[RecordedSession] = []
        problem = None
        unread: dict[date, str] = {}
        for owner, days_of_owner in groupby(sessions, key=lambda session: current.find_at(session.start)):
            if owner is None:
                continue
            group = tuple(days_of_owner)
            try:
                examined = self.archive.find_examined(owner)
                days = self._list_unseen(examined, group)
                if not days:
                    continue
                model = self._load(owner, examined)
            except StorageError as fault:
                remedy = "They wait; where it is lost, delete what is in its place, to go on without them."
                why = f"{_describe_problem(owner, group, fault)} {remedy}"
                unread |= dict.fromkeys((session.day for session in group), why)
                continue
            except HftclError as fault:
                problem = _describe_problem(owner, group, fault)
                continue
            rows = self._read_rows(days[0])  # outside of both: what fails here is not the model's fault
            try:
                scored_sessions += self._score(model, rows, days, "scored")
            except HftclError as fault:
                problem = _describe_problem(owner, group, fault)
        return ScoredSessions(sessions=tuple(scored_sessions), problem=problem, unread=unread)

    def _load(self, owner: ModelRecord, examined: ModelRecord) -> artifact.Model:
        """Load the file of `examined`. Raises StorageError also where it could not be read whose model `owner` is."""
        if owner.model_id in self._unread:
            raise self._unread[owner.model_id]
        return load_archived(self.archive, examined, find_market_kind(self.settings), self.data.features)

    def _is_ours(self, model: ModelRecord) -> bool:
        """Whether a model was made by this policy; of one of an earlier hftcl its file tells."""
        stated = model.judgement.policy_digest
        if stated is not None:
            return stated == self.policy
        try:
            meta = artifact.describe(self.archive.locate_onnx(model.model_id))
        except StorageError as fault:  # that makes it no other policy's: what it may have been current on waits
            self._unread[model.model_id] = fault
            return True
        except HftclError:  # pruned or damaged: it cannot be scored either
            return False
        return is_made_by(meta, self.settings, self.params, features=self.data.features)

    def _list_unseen(self, owner: ModelRecord, group: tuple[Session, ...]) -> tuple[date, ...]:
        embargo = self.settings.exam.embargo_sessions
        free = set(find_unseen(list_sessions(self.data.frame), owner.label_end, embargo_sessions=embargo))
        return tuple(session.day for session in group if session in free)

    def _read_rows(self, since: date) -> pl.DataFrame:
        """Return rows with their features: those of the sessions from `since` on, and maybe more."""
        if self.compute_rows is None:
            return self.data.frame
        begun = max((first for first in self._computed if first <= since), default=None)
        if begun is None:  # sessions are scored oldest first, so that the next ones are among these
            begun, self._computed[since] = since, self.compute_rows(since)
        return self._computed[begun]

    def _score(
        self, model: artifact.Model, rows: pl.DataFrame, days: tuple[date, ...], kind: Kind
    ) -> list[RecordedSession]:
        settings = self.settings
        earned = examine(
            model,
            rows,
            days,
            cost_bps=settings.strategy.cost_bps,
            watchlist=settings.market.watchlist,
            jobs=count_cores(settings),
        ).simulation
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
                policy=self.policy,
                bars=format_bars(self.bars.get(day, {})),
            )
            for day, net, gross, turnover in zip(
                days, earned.net.tolist(), earned.gross.tolist(), earned.turnover.tolist(), strict=True
            )
        ]


def _describe_problem(owner: ModelRecord, group: Sequence[Session], fault: HftclError) -> str:
    return f"model {owner.model_id} was current on {len(group)} of them and cannot be scored: {fault}"
