"""What the models of a backtest earned: on its exam each at once, and on later sessions those that serve, when asked.

By the code that `retrain` examines with. A model trades the tickers that it was trained on, each with 1/N.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Final

import polars as pl

from hftcl.archive.artifact import Model, ModelMeta
from hftcl.archive.fitness import load_fit
from hftcl.compute.crew import count_cores
from hftcl.events import Event, OnEvent
from hftcl.exam.policies import SessionPnl
from hftcl.exam.verdict import find_prediction_fault
from hftcl.learning.backtest.trainings import UnitTraining
from hftcl.learning.score import ModelRun, run_model
from hftcl.waiting import yield_done

# A week, for which a model serves at least: what scoring a session costs beside its predictions is shared by five.
_ASKED: Final = 5
# A month: more at a time is not faster, and of a year's sessions the rows alone take as much memory as the whole span.
_AT_ONCE: Final = 20
# Champion, challenger, and champions that gave way; the next gate asks for the same. A forest takes 20 MB.
_MODELS: Final = 4


class Marks(Mapping[date, SessionPnl]):
    """What one model earned by session: on its exam, and on later ones, which are scored when they are asked for.

    A session is worth the same to the bit whatever others are scored with it. earned: what is known already. later:
    all others that may be asked for, oldest first. To ask for one may read the model's file, and raises IntegrityError
    where that is gone. Not for several threads at once.
    """

    def __init__(
        self, scorer: "_Scorer", task: UnitTraining, earned: Mapping[date, SessionPnl], later: Sequence[date]
    ) -> None:
        self._scorer, self._task, self._earned = scorer, task, dict(earned)
        self._later = tuple(later)

    def __getitem__(self, day: date) -> SessionPnl:
        """Return what it earned on `day`. Raises KeyError for a session that it may not be scored on."""
        if day not in self._earned and day in self._later:
            lacking = [one for one in self._later if one >= day and one not in self._earned][:_ASKED]
            self._earned |= self._scorer.score_later(self._task, lacking)
        return self._earned[day]

    def __contains__(self, day: object) -> bool:
        """Return whether it may be scored on `day`, without doing so."""
        return day in self._earned or day in self._later

    def __iter__(self) -> Iterator[date]:
        """Yield each session that may be asked for, oldest first."""
        return iter(sorted({*self._earned, *self._later}))

    def __len__(self) -> int:
        """Return how many there are."""
        return len({*self._earned, *self._later})


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One model on its exam's sessions and on later ones; `fault`: of the exam, by `verdict.find_prediction_fault`."""

    meta: ModelMeta
    marks: Mapping[date, SessionPnl]
    fault: str | None


def score_all(tasks: Sequence[UnitTraining], later: Sequence[date], on_event: OnEvent) -> dict[str, Score]:
    """Score each task's model on the exam of its split; on the sessions of `later` after its window when they are asked
    for. tasks: oldest first.

    At once too: what is asked for whatever the gates say, of each model until the next one, of the first all.
    """
    if not tasks:
        return {}
    scorer = _Scorer(cores=count_cores(tasks[0].shop.settings))
    spans = []
    for place, task in enumerate(tasks):
        after = [day for day in later if day > task.unit.window[-1].day]
        until = tasks[place + 1].unit.window[-1].day if 0 < place < len(tasks) - 1 else date.max
        spans.append((after, [day for day in after if day <= until]))
    scores: dict[str, Score] = {}
    on_event(Event("score", 0, len(tasks)))
    with ThreadPoolExecutor(scorer.cores, "score") as threads:
        begun = [threads.submit(scorer.begin, task, *span) for task, span in zip(tasks, spans, strict=True)]
        try:
            for done in yield_done(begun):
                model_id, score = done.result(0)
                scores[model_id] = score
                on_event(Event("score", len(scores), len(tasks), model_id))
        finally:
            for future in begun:
                future.cancel()
    return scores


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scorer:
    """Reads models from their files, and lets them earn. cores: for one that is scored by itself."""

    cores: int
    _models: dict[Path, Model] = field(default_factory=dict, repr=False)

    def begin(self, task: UnitTraining, later: Sequence[date], at_once: Sequence[date]) -> tuple[str, Score]:
        """Return the model's id and its score; of `later` what is scored `at_once` already."""
        unit, shop = task.unit, task.shop
        model = _load(task)
        earned: dict[date, SessionPnl] = {}
        fault = None
        if unit.split.exam_days:
            rows = unit.cut_window(shop.frame, shop.settings, shop.features)
            run = _run(model, task, rows, unit.split.exam_days, jobs=1)
            earned, fault = _list_marks(run), find_prediction_fault(run.predictions)
        for begin in range(0, len(at_once), _AT_ONCE):
            days = at_once[begin : begin + _AT_ONCE]
            earned |= _list_marks(_run(model, task, _cut_later(task, days), days, jobs=1))
        return unit.model_id, Score(meta=model.meta, marks=Marks(self, task, earned, later), fault=fault)

    def score_later(self, task: UnitTraining, days: Sequence[date]) -> dict[date, SessionPnl]:
        """Return what a model earned on `days`, oldest first, on all cores."""
        return _list_marks(_run(self._find_model(task), task, _cut_later(task, days), days, jobs=self.cores))

    def _find_model(self, task: UnitTraining) -> Model:
        self._models[task.path] = model = self._models.pop(task.path, None) or _load(task)
        if len(self._models) > _MODELS:
            del self._models[next(iter(self._models))]  # that which was asked for longest ago
        return model


def _load(task: UnitTraining) -> Model:
    return load_fit(task.path, sha256=None, market=None, features=task.shop.features)


def _cut_later(task: UnitTraining, days: Sequence[date]) -> pl.DataFrame:
    """Return the rows of the unit's tickers from the first to the last of `days`."""
    inside = pl.col("session").is_between(days[0], days[-1]) & pl.col("ticker").is_in(task.unit.tickers)
    return task.shop.frame.filter(inside)


def _run(model: Model, task: UnitTraining, rows: pl.DataFrame, days: Sequence[date], *, jobs: int) -> ModelRun:
    settings = task.shop.settings
    cost_bps, watchlist = settings.strategy.cost_bps, settings.market.watchlist
    return run_model(model, rows, days, cost_bps=cost_bps, watchlist=watchlist, jobs=jobs)


def _list_marks(run: ModelRun) -> dict[date, SessionPnl]:
    earned = run.simulation
    columns = zip(earned.sessions, earned.gross.tolist(), earned.net.tolist(), earned.turnover.tolist(), strict=True)
    return {day: SessionPnl(gross=gross, net=net, turnover=turnover) for day, gross, net, turnover in columns}
