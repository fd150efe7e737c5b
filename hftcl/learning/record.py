"""The policy's own out-of-sample record: begun by a walk-forward, continued by each retrain, judged for an edge.

A policy is the whole procedure: what it trains, what it promotes, what then serves. So each session counts once, with
the model that was current on that day, and no later choice changes it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import cached_property
from itertools import groupby
from typing import Final

import numpy as np
import numpy.typing as npt

from hftcl.archive import artifact
from hftcl.archive.fitness import find_market_kind, load_archived
from hftcl.archive.policy import hash_policy, is_made_by
from hftcl.archive.record import Kind, RecordedSession, hash_record, read_all, read_beginning
from hftcl.archive.records import ModelRecord
from hftcl.archive.registry import Registry
from hftcl.errors import HftclError, NoDataError
from hftcl.events import Event, Level, OnEvent
from hftcl.exam.edge import Edge, EdgeState, judge_edge
from hftcl.exam.split import ExamSplit, Session, find_unseen, list_sessions, split
from hftcl.formats import count
from hftcl.learning.bars_digest import compute_bars_digests, format_bars, holds
from hftcl.learning.candidate import Candidate, train_candidate
from hftcl.learning.dataset import Dataset
from hftcl.learning.gaps import describe_holes, find_holes
from hftcl.learning.miracle import find_record_miracles, is_confirmed
from hftcl.learning.score import examine
from hftcl.learning.trials import compute_luck
from hftcl.market.sessions import Calendar
from hftcl.model.training import TrainingPool
from hftcl.settings import Settings
from hftcl.strategy.costs import cost

FloatArray = npt.NDArray[np.float64]
STAGE: Final = "record"  # the name by which a view shows progress
FOLDS: Final = 4  # each costs a training at the first retrain: one for each week of an exam of 20 sessions
FOLD_SESSIONS: Final = 5  # a week: as often as a retrain is due


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The policy's record as of one moment: what was there and holds, and what this retrain adds.

    dropped: rows that were there and hold no more, because their bars were corrected; `added` has those of them that
    could be scored again. cost_bps: as now set.
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
        return np.asarray(gross - cost(turnover, cost_bps=self.cost_bps), dtype=np.float64)

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
    *,
    params: Mapping[str, object],
    pool: TrainingPool,
    on_event: OnEvent,
) -> Record:
    """Return the record of this policy up to the last session of `data`; writes nothing.

    Where this policy has none on bars of this kind, it begins with the sessions for which one of its models is
    archived, and the walk-forward over those of the exam that are left; else the sessions since its last one are scored
    with the model that was then current, and those whose bars were corrected again. What lies after `data` is not
    known.
    """
    scorer = _RecordScorer(archive, data, settings, params, on_event)
    rows = scorer.list_rows()
    try:
        added, problem = scorer.score_lacking() if scorer.list_holding() else scorer.begin(division, candidate, pool)
    except NoDataError as error:  # a fold without a row to train on: the candidate itself had some
        added, problem = (), f"the walk-forward could not be done: {error}"
    if not rows:
        scorer.tell_other_policies()
    if problem is not None:
        on_event(Event(STAGE, text=f"the record lacks sessions: {problem}", level=Level.WARNING))
    return scorer.build_record(added, problem)


def catch_up(
    archive: Registry, data: Dataset, settings: Settings, *, params: Mapping[str, object], on_event: OnEvent
) -> Record:
    """Return the record with the sessions since its last one, as a retrain would score them; writes nothing.

    Where this policy has none on bars of this kind it stays empty: the first retrain begins it. Where a session cannot
    be scored, `problem` says why, and none is added that the record had not yet: what is passed over now no later
    retrain would make up for.
    """
    scorer = _RecordScorer(archive, data, settings, params, on_event)
    rows = scorer.list_rows()
    added, problem = scorer.score_lacking() if rows else ((), None)
    if problem is not None:
        added = tuple(session for session in added if session.session <= rows[-1].session)
    return scorer.build_record(added, problem)


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
        _find_previous(archive, data, policy),
        rule=settings.edge,
        policy=settings.promote.policy,
        obstacles=obstacles,
        luck=_compute_luck(record, archive, policy, synthetic=data.synthetic, sessions_per_year=a_year),
        sessions_per_year=a_year,
    )


def _compute_luck(record: Record, archive: Registry, policy: str, *, synthetic: bool, sessions_per_year: int) -> float:
    """Return how much of the record may be the luck of the best of several policies that were tried.

    Only the walk-forward with which a record begins can have been chosen so: what came later was scored as it came. As
    those sessions become a smaller part of the record, so does their luck.
    """
    chosen = np.array([session.kind == "walk-forward" for session in record.sessions], dtype=np.bool_)
    if not chosen.any():
        return 0.0
    days = [session.session for session in record.sessions if session.kind == "walk-forward"]
    luck = compute_luck(
        archive, record.net[chosen], days, policy=policy, synthetic=synthetic, sessions_per_year=sessions_per_year
    )
    return luck * float(chosen.mean())


def _find_previous(archive: Registry, data: Dataset, policy: str) -> EdgeState:
    """Return what the last retrain decided on bars of this kind; what another policy allowed is to be earned again."""
    beginning = read_beginning(archive, synthetic=data.synthetic)
    models = archive.models()
    for model in models[: len(models) - beginning.after_model] if beginning else models:
        if model.synthetic == data.synthetic and model.known_until <= data.as_of.at:
            same = model.judgement.policy_digest == policy
            return EdgeState.LIVE if same and model.judgement.edge == EdgeState.LIVE else EdgeState.STAND_ASIDE
    return EdgeState.STAND_ASIDE


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


@dataclass(frozen=True)  # without slots: what is computed once is kept in it
class _RecordScorer:
    """The way in which a retrain, and between two of them the daily collection, earns sessions for the record."""

    archive: Registry
    data: Dataset
    settings: Settings
    params: Mapping[str, object]
    on_event: OnEvent

    @cached_property
    def policy(self) -> str:
        """Digest of the policy whose record this is."""
        return hash_policy(self.settings, self.params, features=self.data.features)

    @cached_property
    def bars(self) -> dict[date, dict[str, str]]:
        """Digest of each ticker's bars, by session."""
        return compute_bars_digests(self.data.frame)

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

    def build_record(self, added: tuple[RecordedSession, ...], problem: str | None) -> Record:
        """Return the record with what is added, and tell of rows that hold no more."""
        holding = self.list_holding()
        kept = {row.session for row in holding}
        dropped = tuple(row for row in self.list_rows() if row.session not in kept)
        if dropped:
            again = {session.session for session in added} & {row.session for row in dropped}
            text = (
                f"{count(len(dropped), 'recorded session')} from {dropped[0].session} to {dropped[-1].session}: the "
                "bars have been corrected since, and what was earned on them does not count. Scored again with the "
                f"model of the day: {len(again)}; dropped: {len(dropped) - len(again)}"
            )
            self.on_event(Event(STAGE, text=text, level=Level.WARNING))
        days = sorted({*kept, *(session.session for session in added)})
        hole = describe_holes(find_holes(days, Calendar(self.settings.market.calendar)))
        if hole:
            self.on_event(Event(STAGE, text=hole, level=Level.WARNING))
        return Record(
            recorded_sessions=holding,
            added=added,
            dropped=dropped,
            cost_bps=self.settings.strategy.cost_bps,
            problem=problem,
        )

    def tell_other_policies(self) -> None:
        """Tell, where this policy has no record yet, that others have one: it does not count for this one."""
        others = [row for row, _ in self.rows if row.policy != self.policy]
        if others:
            text = (
                f"{count(len(others), 'recorded session')} of another policy: not counted for this one. A record is of "
                "one watchlist, source, horizon, model, strategy, cost, exam and promotion rule, and begins with this"
            )
            self.on_event(Event(STAGE, text=text, level=Level.WARNING))

    def begin(
        self, division: ExamSplit, candidate: Candidate, pool: TrainingPool
    ) -> tuple[tuple[RecordedSession, ...], str | None]:
        """Return the sessions with which a record begins, and why some could not be scored."""
        scored, problem = self.score(list_sessions(self.data.frame))
        have = {session.session for session in scored}
        if all(day in have for day in division.exam_days):
            return scored, problem
        walked = self.walk_forward(division, candidate, pool)
        return (*scored, *(session for session in walked if session.session not in have)), problem

    def walk_forward(
        self, division: ExamSplit, candidate: Candidate, pool: TrainingPool
    ) -> tuple[RecordedSession, ...]:
        """Train on each fold's window and score on its weeks; the first fold's model is the candidate."""
        parts = split_folds(
            list_sessions(self.data.frame), division, embargo_sessions=self.settings.exam.embargo_sessions
        )
        scored_sessions: list[RecordedSession] = []
        for index, part in enumerate(parts):
            self.on_event(Event(STAGE, index, len(parts), text="walk-forward"))
            if part.train == division.train:
                model = candidate.model
            else:
                model = self._train(part, candidate, pool, _scale_progress(self.on_event, index, len(parts)))
            scored_sessions += self._score(model, part.exam_days, "walk-forward")
        self.on_event(Event(STAGE, len(parts), len(parts), text="walk-forward"))
        return tuple(scored_sessions)

    def _train(self, part: ExamSplit, candidate: Candidate, pool: TrainingPool, on_event: OnEvent) -> artifact.Model:
        return train_candidate(
            self.data.frame,
            part,
            self.settings,
            model_id=candidate.model.meta.model_id,
            params=self.params,
            features=self.data.features,
            source=self.data.source,
            synthetic=self.data.synthetic,
            pool=pool,
            on_event=on_event,
        ).model

    def score_lacking(self) -> tuple[tuple[RecordedSession, ...], str | None]:
        """Score the sessions after the last row again, and those whose bars were corrected.

        Says why sessions after the last row could not be scored; a corrected one that cannot is dropped.
        """
        rows, holding = self.list_rows(), {row.session for row in self.list_holding()}
        last, corrected = rows[-1].session, {row.session for row in rows} - holding
        sessions = list_sessions(self.data.frame)
        again, _ = self.score([session for session in sessions if session.day in corrected])
        later, problem = self.score([session for session in sessions if session.day > last])
        return (*again, *later), problem

    def score(self, sessions: Sequence[Session]) -> tuple[tuple[RecordedSession, ...], str | None]:
        """Score `sessions`, oldest first, each with the model that was then current; and say what could not be.

        Sessions on which no model of this policy was current, or that it had seen, are no one's and left out.
        """
        current = _Timeline.from_archive(self.archive, synthetic=self.data.synthetic, is_ours=self._is_ours)
        scored_sessions: list[RecordedSession] = []
        problem = None
        self.on_event(Event(STAGE, 0, 1, text="scoring"))
        for owner, days_of_owner in groupby(sessions, key=lambda session: current.find_at(session.start)):
            if owner is None:
                continue
            group = tuple(days_of_owner)
            try:
                examined = self.archive.find_examined(owner)
                days = self._list_unseen(examined, group)
                if not days:
                    continue
                market = find_market_kind(self.settings)
                model = load_archived(self.archive, examined, market, self.data.features)
                scored_sessions += self._score(model, days, "scored")
            except HftclError as fault:
                problem = f"model {owner.model_id} was current on {len(group)} of them and cannot be scored: {fault}"
        self.on_event(Event(STAGE, 1, 1, text="scoring"))
        return tuple(scored_sessions), problem

    def _is_ours(self, model: ModelRecord) -> bool:
        """Whether a model was made by this policy; of one of an earlier hftcl its file tells."""
        stated = model.judgement.policy_digest
        if stated is not None:
            return stated == self.policy
        try:
            meta = artifact.describe(self.archive.onnx_path(model.model_id))
        except HftclError:  # pruned or damaged: it cannot be scored either
            return False
        return is_made_by(meta, self.settings, self.params, features=self.data.features)

    def _list_unseen(self, owner: ModelRecord, group: tuple[Session, ...]) -> tuple[date, ...]:
        embargo = self.settings.exam.embargo_sessions
        free = set(find_unseen(list_sessions(self.data.frame), owner.label_end, embargo_sessions=embargo))
        return tuple(session.day for session in group if session in free)

    def _score(self, model: artifact.Model, days: tuple[date, ...], kind: Kind) -> list[RecordedSession]:
        if not days:
            return []
        settings = self.settings
        earned = examine(
            model, self.data.frame, days, cost_bps=settings.strategy.cost_bps, watchlist=settings.market.watchlist
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


@dataclass(frozen=True, slots=True)
class _Timeline:
    """Which model was current when: the one that served, and before any did, the last candidate."""

    served: tuple[tuple[datetime, ModelRecord], ...]
    tried: tuple[tuple[datetime, ModelRecord], ...]

    @classmethod
    def from_archive(
        cls, archive: Registry, *, synthetic: bool, is_ours: Callable[[ModelRecord], bool] = lambda model: True
    ) -> "_Timeline":
        """Return it for models of one kind of bars. is_ours: whether a model is of the policy in question.

        A model that was promoted is current from the end of the bars by which it was judged, so that a loop replayed
        with --as-of is dated as it would have been; a rollback, from the moment a person made it.
        """
        of_kind = (model for model in archive.models() if model.synthetic == synthetic)
        models = {model.model_id: model for model in of_kind if is_ours(model)}
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
