"""One choice inside the training window: a walk-forward over its newer half, by the code of every training and exam.

Bars and features are those of all trials; each trial is a task, which runs where `[compute]` says.
"""

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta

import numpy as np
import polars as pl

from hftcl.archive.artifact import FeatureSet, list_our_features
from hftcl.archive.policy import hash_policy
from hftcl.compute import Bench, Rows, Table, Task, Team
from hftcl.errors import ConfigError, NoDataError, TrainingError, UsageError
from hftcl.exam.metrics import compute_sharpe_or_none
from hftcl.exam.split import ExamSplit, Session, list_sessions, split_for_exam, split_walk_forward
from hftcl.learning.candidate import merge_params, require_unchanged, train_unarchived
from hftcl.learning.dataset import Dataset
from hftcl.learning.orders import TaskOrder, select_settings
from hftcl.learning.score import run_model
from hftcl.learning.search.reports import InnerReport
from hftcl.learning.search.space import Choice, apply_choice
from hftcl.learning.search.trials import FinishedTrial
from hftcl.market.bars import BAR_SCHEMA
from hftcl.market.sessions import Calendar
from hftcl.model.target import compute_targets
from hftcl.settings import Settings
from hftcl.strategy.positions import hash_positions


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialOrder(TaskOrder):
    """What a trial is told. parts: each trained and scored for itself."""

    parts: tuple[ExamSplit, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Walked:
    """What a choice earned on the parts, by session; positions: SHA-256 of those that it held."""

    net: dict[date, float]
    turnover: float
    trades: int
    positions: str


@dataclass(slots=True)
class InnerExam:
    """The sessions inside the training window, and what a choice earns on them. Safe for several threads.

    data: see `dataset.Dataset`, of the longest window that is tried.
    """

    settings: Settings
    data: Dataset
    training: tuple[Session, ...] = field(init=False)
    table: Table = field(init=False, repr=False)
    """The rows of the training window, without a target, for each horizon has another one."""

    def __post_init__(self) -> None:
        """Leave the exam out. Raises NoDataError where too few sessions are left."""
        self.training = split_for_exam(list_sessions(self.data.frame), self.settings.exam).train
        inside = pl.col("session") <= self.training[-1].day
        rows = self.data.frame.filter(inside).drop("target", "label_end").rechunk()  # once, not in each trial
        self.table = Table(lambda: rows)
        self.split_folds(self.settings.market.lookback_days)

    @property
    def days(self) -> tuple[date, ...]:
        """The sessions on which each choice is scored, oldest first."""
        return tuple(day for part in self.split_folds(self.settings.market.lookback_days) for day in part.exam_days)

    def report(self) -> InnerReport:
        """Return which sessions these are."""
        return InnerReport(
            from_=self.days[0],
            to=self.days[-1],
            sessions=len(self.days),
            folds=len(self.split_folds(self.settings.market.lookback_days)),
            training_sessions=len(self.training),
        )

    def split_folds(self, lookback_days: int) -> tuple[ExamSplit, ...]:
        """Return the parts: scored on the same sessions whatever the window, and fitted on as many as it would hold."""
        sessions, last = list_sessions(self.data.frame), self.data.sessions[-1]
        window = [session for session in sessions if session.day > last - timedelta(days=lookback_days)]
        return split_walk_forward(
            self.training,
            folds=self.settings.search.folds,
            embargo_sessions=self.settings.exam.embargo_sessions,
            longest=len(split_for_exam(window, self.settings.exam).train),
        )

    @property
    def rows_bytes(self) -> int:
        """How many bytes of this process the rows of one trial take, about: they are cut and handed over."""
        return int(2 * self.table.read().estimated_size())

    def try_choice(
        self, number: int, choice: Choice, team: Team, require_going: Callable[[], None] = lambda: None
    ) -> FinishedTrial:
        """Return what a choice earned; one that cannot be trained, for lack of rows or memory or time, says why.

        So does one that is no valid configuration. require_going: see `compute.Team`. Raises FeatureError where a file
        of features was changed since the rows were computed, ConfigError where it cannot be read any more, StorageError
        where there is no room for the rows: no trial is at fault. ComputeError where the cluster cannot go on.
        """
        began = time.monotonic()
        require_unchanged(self.settings, self.data.features)
        chosen = apply_choice(self.settings, choice)
        try:
            params, features = merge_params(chosen), list_our_features(chosen)
            order = self._build_order(f"trial_{number}", chosen, params, features)
            task = Task(name=order.model_id, function=walk_parts, rows=Rows(table=self.table), order=order)
            walked = team.call(task, require_going)
        except (NoDataError, UsageError, ConfigError, TrainingError) as fault:
            # the loop would have had no candidate either
            why = " ".join(str(fault).splitlines())
            return FinishedTrial(number=number, choice=choice, fault=why, seconds=time.monotonic() - began)
        return FinishedTrial(
            number=number,
            choice=choice,
            policy=hash_policy(chosen, params, features=features),
            sharpe=self.compute_sharpe(walked.net),
            net=walked.net,
            turnover=walked.turnover,
            trades=walked.trades,
            positions=walked.positions,
            seconds=time.monotonic() - began,
        )

    def _build_order(
        self, model_id: str, chosen: Settings, params: Mapping[str, object], features: FeatureSet
    ) -> TrialOrder:
        return TrialOrder(
            model_id=model_id,
            parts=self.split_folds(chosen.market.lookback_days),
            settings=select_settings(chosen),
            params=params,
            features=features.describe(),
            source=self.data.source,
            synthetic=self.data.synthetic,
        )

    def compute_sharpe(self, net: Mapping[date, float]) -> float | None:
        """Return the annual Sharpe ratio of net P&L by session, None where it is not defined."""
        values, a_year = np.array(list(net.values())), Calendar(self.settings.market.calendar).sessions_per_year
        return compute_sharpe_or_none(values, sessions_per_year=a_year)


def add_target(rows: pl.DataFrame, horizon_minutes: int) -> pl.DataFrame:
    """Return rows with the target of a horizon; it reads one session alone."""
    return pl.concat([rows, compute_targets(rows.select(BAR_SCHEMA.names()), horizon_minutes)], how="horizontal")


def walk_parts(rows: pl.DataFrame, order: TrialOrder, bench: Bench) -> Walked:
    """Return what a choice earned, each part with a model of the sessions before it. Raises as `train_unarchived`."""
    settings = replace(order.settings, compute=replace(order.settings.compute, jobs=bench.jobs))
    frame = add_target(rows, settings.model.target_minutes)
    net: dict[date, float] = {}
    turnover, trades, held = 0.0, 0, hashlib.sha256()
    for part in order.parts:
        days = (*part.train_days, *(session.day for session in part.embargoed), *part.exam_days)
        inside = frame.filter(pl.col("session").is_in(days))
        model = train_unarchived(
            inside,
            part,
            settings,
            model_id=order.model_id,
            params=order.params,
            features=order.features,
            source=order.source,
            synthetic=order.synthetic,
            pool=bench.pool,
            on_event=bench.on_event,
            has_files=False,
            require_going=bench.require_going,
        ).open()
        run = run_model(
            model,
            inside,
            part.exam_days,
            cost_bps=settings.strategy.cost_bps,
            watchlist=settings.market.watchlist,
            jobs=bench.jobs,
        )
        earned = run.simulation
        net |= dict(zip(earned.sessions, earned.net.tolist(), strict=True))
        turnover += float(earned.turnover.sum())
        trades += earned.trades
        held.update(hash_positions(run.positions).encode())
    return Walked(net=net, turnover=turnover, trades=trades, positions=held.hexdigest())
