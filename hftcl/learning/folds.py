"""The folds of the walk-forward that begins a record: each trains on its own window, as a task that runs anywhere.

Which sessions a fold has is for the caller to say, and what its model earned there.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, Self

import polars as pl

from hftcl.archive.artifact import Model
from hftcl.compute import Bench, Engine, Rows, Table, Task, Team, Wanted, open_engine
from hftcl.compute.crew import count_cores
from hftcl.errors import HftclError, IntegrityError, NoDataError
from hftcl.events import Event, Level, OnEvent
from hftcl.exam.split import ExamSplit
from hftcl.learning.candidate import Unarchived, require_unchanged, train_unarchived
from hftcl.learning.dataset import Dataset
from hftcl.learning.inside import measure_targets
from hftcl.learning.kept_folds import KeptFolds
from hftcl.learning.orders import TaskOrder, select_settings
from hftcl.model.families import find_family
from hftcl.model.training import TrainingPool
from hftcl.settings import Settings

STAGE: Final = "record"  # the name by which a view shows progress
# A core. A child that fitted LightGBM to 740,000 and to a million rows, 60 trees each, on two cores: 8.4 s of processor
# time in its main thread and 7.3 in the other one, and a second of the difference was its start.
_FULL_ROWS: Final = 500_000


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldOrder(TaskOrder):
    """What the training of a fold is told."""

    split: ExamSplit


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldResult:
    """The model of a fold, or why it has none; warnings: what a person should know of its training."""

    trained: Unarchived | None = None
    problem: str = ""
    warnings: tuple[Event, ...] = ()


def train_fold(rows: pl.DataFrame, order: FoldOrder, bench: Bench) -> FoldResult:
    """Train on the rows that the split of a fold lets. Raises as `TrainingPool.train`."""
    warnings: list[Event] = []

    def listen(event: Event) -> None:
        if event.level is not Level.PROGRESS:
            warnings.append(event)
        bench.on_event(event)

    try:
        trained = train_unarchived(
            rows,
            order.split,
            replace(order.settings, compute=replace(order.settings.compute, jobs=bench.jobs)),
            model_id=order.model_id,
            params=order.params,
            features=order.features,
            source=order.source,
            synthetic=order.synthetic,
            pool=bench.pool,
            on_event=listen,
            has_files=False,
            require_going=bench.require_going,
        )
    except NoDataError as error:  # a result as well: which fold is told does not hang on which one ends first
        return FoldResult(problem=str(error), warnings=tuple(warnings))
    return FoldResult(trained=trained, warnings=tuple(warnings))


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldTrainer:
    """What the folds of one record share. data: the rows of the whole window; params: complete.

    may_keep: whether the caller holds the lock of the retrain, see `KeptFolds`.
    """

    data: Dataset = field(repr=False)
    settings: Settings
    params: Mapping[str, object]
    model_id: str
    may_keep: bool = False

    def train(self, parts: Sequence[ExamSplit], engine: Engine, progress: "FoldProgress") -> dict[ExamSplit, Model]:
        """Return the model of each part. Where one fails, those that came back are kept for the next time, if we may.

        Raises NoDataError where one has too few rows, FeatureError where a file of features was changed since the rows
        were computed, ComputeError where the cluster cannot go on, IntegrityError where the model that came back is
        that of another part, and as `TrainingPool.train`.
        """
        kept = KeptFolds(
            data=self.data,
            settings=self.settings,
            params=self.params,
            model_id=self.model_id,
            may_change=self.may_keep,
        )
        found = kept.find(parts)
        progress.skip(len(found))
        lacking = [part for part in parts if part not in found]
        results: dict[int, FoldResult] = {}
        try:
            if lacking:
                self._train(lacking, engine, progress, results)
                require_unchanged(self.settings, self.data.features)
            models = found | {part: _open(results[number], part) for number, part in enumerate(lacking)}
        except BaseException:
            returned = {lacking[number]: result.trained for number, result in results.items()}
            right = {part: one for part, one in returned.items() if one and one.meta.exam_from == part.exam_days[0]}
            with _tell_fault("the folds that are trained are not kept", progress):  # what ended the others is raised
                kept.keep(right, found)
            raise
        with _tell_fault("the folds that were kept are still there", progress):  # no reason to lose the models
            kept.delete()
        return models

    def _train(
        self, parts: Sequence[ExamSplit], engine: Engine, progress: "FoldProgress", results: dict[int, FoldResult]
    ) -> None:
        """Train each part, and put what came of it into `results`, by its number. Raises as `train`."""
        wanted = Wanted(
            tasks=len(parts),
            rows_bytes=self._measure_rows(parts),
            stage=STAGE,
            uses_all_cores=True,
            fills_cores=self._keeps_cores_busy(parts),
        )
        table = Table(lambda: self.data.frame)
        tasks = [self._build_task(part, table) for part in parts]
        try:
            for number, result in engine.gather(wanted).run(tasks, progress.hear):
                results[number] = result
                progress.finish(number)
        finally:  # also where one of them failed: what they warned of may be why
            for number in range(len(parts)):
                told = progress.warnings.get(number, {})
                for warning in results[number].warnings if number in results else told:
                    progress.on_event(warning)

    def _build_task(self, part: ExamSplit, table: Table) -> Task[FoldResult]:
        order = FoldOrder(
            model_id=self.model_id,
            split=part,
            settings=select_settings(self.settings),
            params=dict(self.params),
            features=self.data.features.describe(),
            source=self.data.source,
            synthetic=self.data.synthetic,
        )
        days = part.train_days
        rows = Rows(table=table, first=days[0], last=days[-1], uncut=True)
        return Task(name=f"the fold before {part.exam_days[0]}", function=train_fold, rows=rows, order=order)

    def _measure_rows(self, parts: Sequence[ExamSplit]) -> int:
        """Return how many bytes of this process the rows of one part take, about: each column once more.

        And the targets of each horizon that is tried, which are of the whole window.
        """
        frame = self.data.frame
        share = _find_share(frame, parts)
        return int(share * frame.estimated_size()) + measure_targets(frame.height, self.settings)

    def _keeps_cores_busy(self, parts: Sequence[ExamSplit]) -> bool:
        """Whether the training of one part keeps all cores busy by itself."""
        model, frame = self.settings.model, self.data.frame
        if model.per == "ticker" or not getattr(find_family(model.family), "fills_cores", False):
            return False
        rows = _find_share(frame, parts) * frame.height
        return min(rows, model.max_rows or rows) > _FULL_ROWS * count_cores(self.settings)


@contextmanager
def _tell_fault(what: str, progress: "FoldProgress") -> Iterator[None]:
    """Tell an error of ours that is raised within as a warning, and go on."""
    try:
        yield
    except HftclError as fault:
        progress.on_event(Event(STAGE, text=f"{what}: {fault}", level=Level.WARNING))


def _find_share(frame: pl.DataFrame, parts: Sequence[ExamSplit]) -> float:
    """Return which share of the sessions the largest of the parts trains on."""
    return max(len(part.train) for part in parts) / frame["session"].n_unique()


def _open(result: FoldResult, part: ExamSplit) -> Model:
    if result.trained is None:
        raise NoDataError(result.problem)
    begins = result.trained.meta.exam_from
    if begins != part.exam_days[0]:  # that of another fold, with other sessions behind it: a worker may answer anything
        raise IntegrityError(
            f"The fold before {part.exam_days[0]} came back with the model of the fold before {begins}. Nothing is "
            "recorded: run it again."
        )
    return result.trained.open()


def require_unseen(model: Model, part: ExamSplit) -> None:
    """Raise IntegrityError where a model knows more than the split of its fold lets it: it would be scored on that."""
    meta = model.meta
    if meta.label_end >= part.cut or meta.trained_to > part.train_days[-1]:
        raise IntegrityError(
            f"A model that was trained up to {meta.trained_to} is not to be scored from {part.exam_days[0]} on: its "
            f"training may go up to {part.train_days[-1]}. Nothing is recorded: run it again."
        )


@dataclass(slots=True, kw_only=True)
class FoldProgress:
    """Tells the progress of several trainings as one. folds: of the walk-forward; done: those with a model already.

    trainings: of each fold, one after the other. warnings: what was heard of each fold, by its number; one that came to
    its end has them in its result.
    """

    on_event: OnEvent
    folds: int
    done: int = 0
    trainings: int = 1
    warnings: dict[int, dict[Event, None]] = field(default_factory=dict, init=False)
    _shares: dict[int, float] = field(default_factory=dict, init=False)
    _steps: dict[int, float] = field(default_factory=dict, init=False)  # of the training that runs
    _trained: dict[int, int] = field(default_factory=dict, init=False)
    _told: Event = field(default=Event(STAGE), init=False)

    def begin(self) -> None:
        """Tell that it begins."""
        self._tell(0, self.folds)

    def hear(self, number: int, event: Event) -> None:
        """Tell how far fold `number` is, or that it waits; its warnings are told when all are done, in their order."""
        if event.level is not Level.PROGRESS:
            self.warnings.setdefault(number, {})[event] = None  # once, where the fold is begun again
            return
        if not event.total:
            self._tell(self._told.done, self._told.total, event.text)
            return
        step = event.done / event.total
        if step < self._steps.get(number, 0.0):  # its next training, or the same once more
            self._trained[number] = min(self._trained.get(number, 0) + 1, self.trainings - 1)
        self._steps[number] = step
        share = (self._trained.get(number, 0) + step) / self.trainings
        self._shares[number] = max(self._shares.get(number, 0.0), share)
        whole = self.folds * self.trainings * event.total
        done = int((self.done + sum(self._shares.values())) * self.trainings * event.total)
        done = min(done, whole - 1)  # the last tree of the last fold is not yet the end of its exam
        if done * self._told.total < self._told.done * whole:  # in other units, rounded
            done, whole = self._told.done, self._told.total
        self._tell(done, whole, event.text)

    def _tell(self, done: int, total: int, text: str = "") -> None:
        self._told = Event(STAGE, done, total, text=f"walk-forward, {text}" if text else "walk-forward")
        self.on_event(self._told)

    def skip(self, folds: int) -> None:
        """Count so many more as done: their models are here already."""
        self.done += folds
        if folds:
            self._tell(self.done, self.folds)

    def finish(self, number: int) -> None:
        """Count fold `number` as trained, whatever it has told."""
        self._shares[number] = 1.0

    def end(self) -> None:
        """Tell that every session is scored."""
        self._tell(self.folds, self.folds)


class EngineOnDemand:
    """Opens an engine when it is first needed; a context, which ends it. See `open_engine`, as what `gather` raises."""

    def __init__(self, settings: Settings, on_event: OnEvent, pool: TrainingPool) -> None:
        """Open nothing yet. pool: whose processes train on this machine."""
        self._open = partial(open_engine, settings, on_event, pool)
        self._stack = ExitStack()
        self._engine: Engine | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def open(self) -> Engine:
        """Open it now, so that a cluster that cannot work is told before anything is done. Raises ComputeError."""
        if self._engine is None:
            self._engine = self._stack.enter_context(self._open())
        return self._engine

    def gather(self, wanted: Wanted) -> Team:
        """Return who runs tasks of one kind. Raises ComputeError."""
        return self.open().gather(wanted)
