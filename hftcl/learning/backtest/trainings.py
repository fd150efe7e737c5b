"""The trainings of a backtest: independent units of work, each kept on disk as the file of its model.

A unit that was trained before, with the same settings, code and bars, is read and not trained again: a backtest that
was killed goes on where it was.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from pathlib import Path

import polars as pl

from hftcl import compute, durable
from hftcl.archive import artifact
from hftcl.archive.artifact import FeatureSet, list_our_features
from hftcl.archive.fitness import load_fit
from hftcl.compute import Bench, Engine, Rows, Table, Wanted
from hftcl.errors import IntegrityError, NewerVersionError, NoDataError
from hftcl.events import Event, Level, OnEvent
from hftcl.exam.split import ExamSplit, Session
from hftcl.home import Home
from hftcl.learning.candidate import require_unchanged, train_candidate
from hftcl.learning.dataset import Dataset, add_features
from hftcl.learning.orders import TaskOrder, select_settings
from hftcl.learning.training_digest import hash_training
from hftcl.market.bars import BAR_SCHEMA, Finding
from hftcl.market.splits import drop_past
from hftcl.model.feature import list_columns
from hftcl.model.feature_check import require_finite
from hftcl.model.target import compute_targets
from hftcl.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One training: its window's rows by session and ticker, divided by `split`. `key`: of the rows' values.

    warm_up: the first session that features of the window read. jumps: unannounced splits from there on up to the
    window's end; the rows before one are left out, as at every retrain. context_left_out: context tickers with bars in
    too few of these sessions; what reads them is not known.
    """

    model_id: str
    window: tuple[Session, ...]
    tickers: tuple[str, ...]
    split: ExamSplit
    key: str
    warm_up: date
    jumps: tuple[Finding, ...] = ()
    context_left_out: tuple[str, ...] = ()

    def cut_window(self, frame: pl.DataFrame, settings: Settings, features: FeatureSet) -> pl.DataFrame:
        """Return the rows of its window, as `retrain` would have had them at its end. frame: of the whole span."""
        inside = pl.col("session").is_between(self.window[0].day, self.window[-1].day)
        if self.is_plain(frame, features):
            return frame.filter(inside)
        mine = pl.col("ticker").is_in(self.tickers)
        known = frame.filter(self._is_known())
        # what is left out is no peer of the others either: their features are computed again
        bars = drop_past(known.filter(mine).select(*BAR_SCHEMA.names(), *list_columns(features.table)), self.jumps)
        silent = self._list_silent(features)
        bars = bars.with_columns(pl.lit(None, pl.Float64).alias(name) for name in silent)
        rows = add_features(bars, settings.model.target_minutes, table=features.table).filter(inside)
        require_finite(features.own, rows)
        return rows

    def is_plain(self, frame: pl.DataFrame, features: FeatureSet) -> bool:
        """Whether its rows are those of the whole span: nothing is left out that features of the window read."""
        others = self._is_known() & ~pl.col("ticker").is_in(self.tickers)
        return not self.jumps and not self._list_silent(features) and not frame.select(others.any()).item()

    def _list_silent(self, features: FeatureSet) -> list[str]:
        """Return the columns of the context tickers that are left out."""
        return [name for name in list_columns(features.table) if name.partition(" ")[0] in self.context_left_out]

    def _is_known(self) -> pl.Expr:
        return pl.col("session").is_between(self.warm_up, self.window[-1].day)

    @property
    def file(self) -> str:
        """Name of its file in the cache."""
        return f"{self.model_id}-{self.key[:16]}.onnx"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """Where and by what the units are trained. table, features: rows and features of a `Dataset`; params: complete."""

    settings: Settings
    table: Table = field(repr=False)
    params: Mapping[str, object]
    features: FeatureSet
    source: str
    synthetic: bool
    frame_minutes: int
    """Horizon of the target in `frame`; that of the settings may be another one."""

    @property
    def frame(self) -> pl.DataFrame:
        """The rows of the whole span."""
        return self.table.read()

    @property
    def folder(self) -> Path:
        """The cache of these settings, this code and this source; others lie beside it."""
        return (
            Home.of(self.settings).backtest / hash_training(self.settings, self.params, self.features, self.source)[:16]
        )

    def prepare(self, units: Sequence[Unit]) -> list["UnitTraining"]:
        """Return the units as tasks, each with the place of its file."""
        folder = self.folder
        return [UnitTraining(unit=unit, shop=self, path=folder / unit.file) for unit in units]

    def find_rows(self, unit: Unit) -> Rows:
        """Return the rows of a unit's window, with the target of `frame`."""
        if unit.is_plain(self.frame, self.features):
            return Rows(table=self.table, first=unit.window[0].day, last=unit.window[-1].day)
        return Rows(table=Table(partial(unit.cut_window, self.frame, self.settings, self.features)))

    def build_order(self, unit: Unit) -> "TrainingOrder":
        """Return what the training of a unit is told."""
        return TrainingOrder(
            model_id=unit.model_id,
            split=unit.split,
            settings=select_settings(self.settings),
            params=dict(self.params),
            features=self.features.describe(),
            source=self.source,
            synthetic=self.synthetic,
            is_other_target=self.settings.model.target_minutes != self.frame_minutes,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitTraining:
    """One unit, by what it is trained, and where its file is kept."""

    unit: Unit
    shop: Workshop
    path: Path


def build_shop(
    settings: Settings,
    data: Dataset,
    params: Mapping[str, object],
    *,
    table: Table | None = None,
    frame_minutes: int | None = None,
) -> Workshop:
    """Return where trainings by `settings` are made of the rows of `data`, whose target is of `frame_minutes`.

    table: of the same rows, where several shops share them. frame_minutes: the settings' own where that is left out,
    with the features that were read with the rows. Raises FeatureError where the files of the user's features are
    others than those whose values the rows hold.
    """
    require_unchanged(settings, data.features)
    return Workshop(
        settings=settings,
        table=table or Table(lambda: data.frame),
        params=params,
        features=data.features if frame_minutes is None else list_our_features(settings),
        source=data.source,
        synthetic=data.synthetic,
        frame_minutes=frame_minutes or settings.model.target_minutes,
    )


def train_all(tasks: Sequence[UnitTraining], engine: Engine, on_event: OnEvent) -> tuple[dict[str, str], int]:
    """Train what the cache lacks; return by model id why some tasks have no model, and how many were there.

    A file is written when its task is done. Raises TrainingError where a training fails, StorageError for the disk,
    ComputeError where the cluster cannot go on, FeatureError where a file of features was changed since the rows were
    computed.
    """
    with durable.convert_storage_faults("preparing the folder of the backtest"):
        for folder in {task.path.parent for task in tasks}:
            durable.make_folder(folder)
            durable.sweep_temporary(folder, ("*.onnx",))
    paths = {task.unit.model_id: task.path for task in tasks}
    lacking = [task for task in tasks if not _is_cached(task.path, task.shop.features, on_event)]
    done, failed = len(tasks) - len(lacking), {}
    on_event(Event("train", done, len(tasks)))
    for model_id, trained in _train_tasks(lacking, engine, on_event):
        if isinstance(trained, str):
            failed[model_id] = trained
            on_event(Event("train", text=f"{model_id} has no model: {trained}", level=Level.WARNING))
        else:
            with durable.convert_storage_faults("keeping a model of the backtest"):
                durable.write_atomically(paths[model_id], trained)
        done += 1
        on_event(Event("train", done, len(tasks), model_id))
    return failed, len(tasks) - len(lacking)


def _is_cached(path: Path, features: FeatureSet, on_event: OnEvent) -> bool:
    if not path.is_file():
        return False
    try:
        load_fit(path, sha256=None, market=None, features=features)
    except (IntegrityError, NewerVersionError) as fault:
        on_event(Event("train", text=f"{fault} It is trained again.", level=Level.WARNING))
        return False
    return True


def _train_tasks(tasks: Sequence[UnitTraining], engine: Engine, on_event: OnEvent) -> Iterator[tuple[str, bytes | str]]:
    """Yield (model id, file or why there is none) as they are done."""
    if not tasks:
        return
    wanted = Wanted(tasks=len(tasks), rows_bytes=max(map(_measure_rows, tasks)), stage="train")
    work = [
        compute.Task(
            name=task.unit.model_id,
            function=train_unit,
            rows=task.shop.find_rows(task.unit),
            order=task.shop.build_order(task.unit),
        )
        for task in tasks
    ]
    for number, trained in engine.gather(wanted).run(work):
        shop = tasks[number].shop
        require_unchanged(shop.settings, shop.features)
        # signed here: the key never leaves this machine
        yield tasks[number].unit.model_id, trained if isinstance(trained, str) else artifact.sign(trained)


def _measure_rows(task: UnitTraining) -> int:
    """Return how many bytes of this process the rows of a task take, about: they are cut and handed over."""
    frame = task.shop.frame
    return int(2 * frame.estimated_size() * len(task.unit.window) / frame["session"].n_unique())


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOrder(TaskOrder):
    """What a training of a backtest is told. is_other_target: the rows' target is not of the settings' horizon."""

    split: ExamSplit
    is_other_target: bool


def train_unit(rows: pl.DataFrame, order: TrainingOrder, bench: Bench) -> bytes | str:
    """Return the file of the model, or why there is none: a week of which too little is known had no candidate."""
    settings = replace(order.settings, compute=replace(order.settings.compute, jobs=bench.jobs))
    if order.is_other_target:
        plain = rows.drop("target", "label_end")  # which reads one session alone, so that the window's rows suffice
        columns = plain, compute_targets(plain.select(BAR_SCHEMA.names()), settings.model.target_minutes)
        rows = pl.concat(columns, how="horizontal")
    try:
        candidate = train_candidate(
            rows,
            order.split,
            settings,
            model_id=order.model_id,
            params=order.params,
            features=order.features,
            source=order.source,
            synthetic=order.synthetic,
            pool=bench.pool,
            on_event=bench.on_event,
            has_files=False,
            with_pkl=False,  # it is scored here and never archived
            require_going=bench.require_going,
        )
    except NoDataError as error:
        return str(error)
    return candidate.onnx
