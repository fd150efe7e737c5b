"""The trainings of a backtest: independent units of work, each kept on disk as the file of its model.

A unit that was trained before, with the same settings, code and bars, is read and not trained again: a backtest that
was killed goes on where it was. The units run under joblib, in threads, because each trains in a process of its own;
`joblib.parallel_config` sends them elsewhere.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import polars as pl

import hftcl
from hftcl import durable
from hftcl.archive import artifact
from hftcl.archive.artifact import FeatureSet
from hftcl.archive.fitness import load_fit
from hftcl.errors import IntegrityError, NewerVersionError, NoDataError
from hftcl.events import Event, Level, OnEvent, ignore
from hftcl.exam.policies import SessionPnl
from hftcl.exam.split import ExamSplit, Session
from hftcl.exam.verdict import prediction_fault
from hftcl.home import Home
from hftcl.learning.candidate import train_candidate
from hftcl.learning.dataset import add_features
from hftcl.learning.score import examine
from hftcl.market.bars import BAR_SCHEMA, Finding
from hftcl.market.splits import drop_past
from hftcl.model.training import TrainingPool
from hftcl.settings import Settings

# What a prediction may depend on; xgboost-cpu is the same library under another name.
_LIBRARIES: Final = (
    "numpy",
    "polars",
    "scikit-learn",
    "onnx",
    "onnxruntime",
    "lightgbm",
    "xgboost",
    "xgboost-cpu",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One training: its window's rows by session and ticker, divided by `split`. `key`: of the rows' values.

    warm_up: the first session that features of the window read. jumps: unannounced splits from there on up to the
    window's end; the rows before one are left out, as at every retrain.
    """

    model_id: str
    window: tuple[Session, ...]
    tickers: tuple[str, ...]
    split: ExamSplit
    key: str
    warm_up: date
    jumps: tuple[Finding, ...] = ()

    def cut_window(self, frame: pl.DataFrame, settings: Settings, features: FeatureSet) -> pl.DataFrame:
        """Return the rows of its window, as `retrain` would have had them at its end. frame: of the whole span."""
        mine = pl.col("ticker").is_in(self.tickers)
        inside = pl.col("session").is_between(self.window[0].day, self.window[-1].day)
        if not self.jumps:
            return frame.filter(inside & mine)
        # what is left out is no peer of the others either: their features are computed again
        known = frame.filter(pl.col("session").is_between(self.warm_up, self.window[-1].day))
        bars = drop_past(known.filter(mine).select(BAR_SCHEMA.names()), self.jumps)
        return add_features(bars, settings.model.horizon_minutes, table=features.table).filter(inside)

    @property
    def file(self) -> str:
        """Name of its file in the cache."""
        return f"{self.model_id}-{self.key[:16]}.onnx"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """Where and by what the units are trained. frame, features: see `dataset.Dataset`; params: complete."""

    settings: Settings
    frame: pl.DataFrame = field(repr=False)
    params: Mapping[str, object]
    features: FeatureSet
    source: str
    synthetic: bool

    @property
    def folder(self) -> Path:
        """The cache of these settings, this code and this source; others lie beside it."""
        return cache_folder(self.settings) / self._compute_digest()[:16]

    def _compute_digest(self) -> str:
        settings = self.settings
        parts = {
            "market": asdict(settings.market),
            "model": {**asdict(settings.model), **self.params},
            "strategy": asdict(settings.strategy),
            "exam": asdict(settings.exam),
            "features": self.features.definitions_hash,
            "source": self.source,
            "code": _hash_code(),
            "libraries": {name: _find_version(name) for name in _LIBRARIES},
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _find_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # an extra
        return "absent"


def cache_folder(settings: Settings) -> Path:
    """Return the folder of all caches; it may be deleted at any time."""
    return Home.of(settings).backtest


def _hash_code() -> str:
    """Return a hash of the whole package: a list of the files that matter is wrong one day, and an old model lives."""
    package = Path(hftcl.__file__).parent
    digest = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        digest.update(f"{file.relative_to(package)}\n".encode() + file.read_bytes())
    return digest.hexdigest()


def train_all(units: Sequence[Unit], shop: Workshop, on_event: OnEvent) -> tuple[dict[str, Path], dict[str, str], int]:
    """Train what the cache lacks. Return the files by model id, why some units have no model, and how many were there.

    A file is written when its unit is done. Raises TrainingError where a training fails, StorageError for the disk.
    """
    folder = shop.folder
    with durable.convert_storage_faults("preparing the folder of the backtest"):
        durable.make_folder(folder)
        durable.sweep_temporary(folder, ("*.onnx",))
    files = {unit.model_id: folder / unit.file for unit in units}
    lacking = [unit for unit in units if not _is_cached(files[unit.model_id], shop.features, on_event)]
    done, failed = len(units) - len(lacking), {}
    on_event(Event("train", done, len(units)))
    for model_id, trained in _train_units(lacking, shop):
        if isinstance(trained, str):
            failed[model_id] = trained
            on_event(Event("train", text=f"{model_id} has no model: {trained}", level=Level.WARNING))
        else:
            with durable.convert_storage_faults("keeping a model of the backtest"):
                durable.write_atomically(files[model_id], trained)
        done += 1
        on_event(Event("train", done, len(units), model_id))
    return {name: path for name, path in files.items() if name not in failed}, failed, len(units) - len(lacking)


def _is_cached(path: Path, features: FeatureSet, on_event: OnEvent) -> bool:
    if not path.is_file():
        return False
    try:
        load_fit(path, sha256=None, market=None, features=features)
    except (IntegrityError, NewerVersionError) as fault:
        on_event(Event("train", text=f"{fault} It is trained again.", level=Level.WARNING))
        return False
    return True


def _train_units(units: Sequence[Unit], shop: Workshop) -> Iterator[tuple[str, bytes | str]]:
    """Yield (model id, file or why there is none) as they are done: one training a core, each on one core.

    Two trainings on a core each are as fast as one on two, and the seconds in which a child starts overlap.
    """
    if not units:
        return
    import joblib

    at_once = min(_count_cores(shop.settings), len(units))
    settings = replace(
        shop.settings, compute=replace(shop.settings.compute, jobs=max(1, _count_cores(shop.settings) // at_once))
    )
    with TrainingPool() as pool:
        tasks = (
            joblib.delayed(_train)(
                unit.cut_window(shop.frame, shop.settings, shop.features),
                unit,
                settings,
                shop.params,
                shop.features,
                shop.source,
                shop.synthetic,
                pool,
            )
            for unit in units
        )
        yield from joblib.Parallel(n_jobs=at_once, prefer="threads", return_as="generator_unordered")(tasks)


def _count_cores(settings: Settings) -> int:
    import joblib

    return settings.compute.jobs or int(joblib.cpu_count())


def _train(
    rows: pl.DataFrame,
    unit: Unit,
    settings: Settings,
    params: Mapping[str, object],
    features: FeatureSet,
    source: str,
    synthetic: bool,
    pool: TrainingPool,
) -> tuple[str, bytes | str]:
    try:
        candidate = train_candidate(
            rows,
            unit.split,
            settings,
            model_id=unit.model_id,
            params=params,
            features=features,
            source=source,
            synthetic=synthetic,
            pool=pool,
            on_event=ignore,
        )
    except NoDataError as error:  # a week of which too little is known: the loop would have had no candidate either
        return unit.model_id, str(error)
    return unit.model_id, candidate.onnx


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One model on its exam's sessions and on later ones; `fault` as `verdict.prediction_fault` says of the exam."""

    meta: artifact.ModelMeta
    marks: dict[date, SessionPnl]
    fault: str | None


def score_all(
    units: Sequence[Unit], files: Mapping[str, Path], shop: Workshop, later: Sequence[date], on_event: OnEvent
) -> dict[str, Score]:
    """Score each unit's model on the exam of its split, and on the sessions of `later` after its window.

    By the code that `retrain` examines with. A model trades the tickers that it was trained on, each with 1/N.
    """
    import joblib

    tasks = (
        joblib.delayed(_score)(
            files[unit.model_id].read_bytes(),
            unit,
            shop.frame,
            tuple(day for day in later if day > unit.window[-1].day),
            shop.settings,
            shop.features,
        )
        for unit in units
    )
    scores: dict[str, Score] = {}
    on_event(Event("score", 0, len(units)))
    parallel = joblib.Parallel(n_jobs=_count_cores(shop.settings), prefer="threads", return_as="generator_unordered")
    for model_id, score in parallel(tasks):
        scores[model_id] = score
        on_event(Event("score", len(scores), len(units), model_id))
    return scores


def _score(
    onnx: bytes, unit: Unit, frame: pl.DataFrame, later: tuple[date, ...], settings: Settings, features: FeatureSet
) -> tuple[str, Score]:
    model = load_fit(onnx, sha256=None, market=None, features=features)
    marks: dict[date, SessionPnl] = {}
    fault = None
    after = frame.filter(pl.col("ticker").is_in(unit.tickers))
    for days, rows in (
        (unit.split.exam_days, unit.cut_window(frame, settings, features)),
        (later, after),
    ):
        if not days:
            continue
        examined = examine(model, rows, days, cost_bps=settings.strategy.cost_bps, watchlist=settings.market.watchlist)
        simulation = examined.simulation
        for day, gross, net, turnover in zip(
            simulation.sessions,
            simulation.gross.tolist(),
            simulation.net.tolist(),
            simulation.turnover.tolist(),
            strict=True,
        ):
            marks[day] = SessionPnl(gross=gross, net=net, turnover=turnover)
        if days == unit.split.exam_days:
            fault = prediction_fault(examined.predictions)
    return unit.model_id, Score(meta=model.meta, marks=marks, fault=fault)
