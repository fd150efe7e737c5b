"""From a window of rows to a candidate that is trained but not yet judged.

Knows which rows train: those that `exam.split` lets, with every feature and the target known.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import numpy.typing as npt
import polars as pl

from hftcl.archive import artifact
from hftcl.archive.artifact import FeatureSet, Model, ModelMeta
from hftcl.archive.fitness import load_fit
from hftcl.archive.policy import complete_params
from hftcl.errors import FeatureError, NoDataError, UsageError
from hftcl.events import OnEvent
from hftcl.exam.drift import feature_bins
from hftcl.exam.slices import Slice
from hftcl.exam.split import ExamSplit, list_sessions, split_inner
from hftcl.market.received import TickerCoverage
from hftcl.model.families import Family, find_family
from hftcl.model.features import build_matrix, definitions_hash, is_known
from hftcl.model.training import Trained, TrainingPool, TrainingTask
from hftcl.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A trained model, as its file holds it, with the joblib file for a researcher."""

    model: Model
    onnx: bytes
    pkl: bytes
    trained: Trained
    rows: int
    sessions: int

    def with_slices(self, slices: Mapping[str, tuple[Slice, ...]]) -> "Candidate":
        """Return the candidate whose file keeps the slices of its exam; it predicts as before, by the same graph."""
        onnx = artifact.add_slices(self.onnx, slices)
        return replace(self, onnx=onnx, model=artifact.load(onnx, expected_features=self.model.meta.features))


Parameters = Mapping[str, object] | Sequence[str] | None
"""Of a model family: by name, or as texts K=V."""


def merge_params(settings: Settings, chosen: Parameters = None) -> dict[str, object]:
    """Return the parameters of the configured family: `chosen` before the settings before the family's defaults.

    Raises UsageError for a name that the family does not know, or a value out of its range; TrainingError where a
    library that it needs is not installed.
    """
    family = find_family(settings.model.family)
    require_installed = getattr(family, "require_installed", None)
    if require_installed is not None:
        require_installed()
    if chosen is not None and not isinstance(chosen, Mapping):
        chosen = _parse_parameters(family, chosen)
    return complete_params(settings, chosen)


def _parse_parameters(family: Family, texts: Sequence[str]) -> dict[str, object]:
    """Return the parameters given as K=V; a value is an int, a float or a text. Raises UsageError for another form."""
    parsed: dict[str, object] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            names = ", ".join(family.parameters())
            raise UsageError(f"--param {text!r} is not K=V, such as n_estimators=300. The parameters are: {names}.")
        parsed[name.strip()] = _parse_value(value.strip())
    return parsed


def _parse_value(text: str) -> object:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def require_unchanged(settings: Settings, features: FeatureSet) -> None:
    """Raise FeatureError where the files of `[features] modules` are not those any more whose values `features` names.

    A model of values that no file stands for would be refused by the bot.
    """
    now = artifact.our_features(settings)
    if definitions_hash(now.table) != definitions_hash(features.table):
        files = ", ".join(settings.features.modules)
        raise FeatureError(
            f"[features] modules: a file was changed while this ran ({files}). Nothing was trained on what stands "
            "there now. Run it again."
        )


def train_candidate(
    frame: pl.DataFrame,
    split: ExamSplit,
    settings: Settings,
    *,
    model_id: str,
    params: Mapping[str, object],
    features: FeatureSet,
    source: str,
    synthetic: bool,
    pool: TrainingPool,
    on_event: OnEvent,
    coverage: tuple[TickerCoverage, ...] | None = None,
) -> Candidate:
    """Train on the rows that `split` lets, and return the candidate as the verified model of its own file's bytes.

    frame, features, coverage: see `dataset.Dataset`. params: complete, as `merge_params` returns them.
    Raises NoDataError where no row is left, TrainingError where the training process fails, FeatureError where a file
    of features was changed since `frame` was computed.
    """
    require_unchanged(settings, features)
    names = features.names
    rows = frame.filter(split.mask_training(frame)).filter(is_known(names) & pl.col("target").is_not_null())
    if rows.is_empty():
        raise NoDataError(
            f"None of the {frame.height} bars in {len(split.train)} training sessions has all features and a target. "
            f"Features need half an hour of bars in a session, and {settings.market.lookback_days} days may be few: "
            "raise [market] lookback_days, or look at the findings (-v)."
        )
    X, y = build_matrix(rows, names), rows["target"].to_numpy().astype(np.float32)
    inner = split_inner(list_sessions(rows), embargo_sessions=settings.exam.embargo_sessions)
    trained = pool.train(
        TrainingTask(
            X=X,
            y=y,
            fitted=inner.mask_training(rows).to_numpy(),
            held_out=inner.mask_exam(rows).to_numpy(),
            family=settings.model.family,
            params=params,
            seed=settings.model.seed,
            jobs=settings.compute.jobs,
            entry_quantile=settings.strategy.entry_quantile,
        ),
        on_event,
        timeout_s=3600 * settings.compute.max_training_hours,
    )
    meta = _describe_model(
        rows,
        X,
        y,
        trained,
        split,
        settings,
        feature_set=features,
        model_id=model_id,
        source=source,
        synthetic=synthetic,
        tickers=tuple(frame["ticker"].unique().sort().to_list()),
        coverage=coverage,
    )
    onnx = artifact.build(trained.onnx, meta, artifact.pick_canary_rows(X))
    return Candidate(
        model=load_fit(onnx, sha256=None, market=None, features=features),
        onnx=onnx,
        pkl=trained.pkl,
        trained=trained,
        rows=rows.height,
        sessions=rows["session"].n_unique(),
    )


def _describe_model(
    rows: pl.DataFrame,
    X: npt.NDArray[np.float32],
    y: npt.NDArray[np.float32],
    trained: Trained,
    split: ExamSplit,
    settings: Settings,
    *,
    feature_set: FeatureSet,
    model_id: str,
    source: str,
    synthetic: bool,
    tickers: tuple[str, ...],
    coverage: tuple[TickerCoverage, ...] | None,
) -> ModelMeta:
    """Return what the model's file will say about it; `rows` are those that it was trained on, X and y their values."""
    label_end: datetime = rows["label_end"].max()  # type: ignore[assignment]
    exam_days = split.exam_days
    return ModelMeta(
        model_id=model_id,
        feature_names=feature_set.names,
        feature_formulae=feature_set.formulae,
        features_hash=feature_set.definitions_hash,
        target="return from the open of bar t+1 to the open of bar t+1+horizon, over trailing volatility",
        horizon_minutes=settings.model.horizon_minutes,
        threshold=trained.threshold,
        entry_quantile=settings.strategy.entry_quantile,
        cost_bps=settings.strategy.cost_bps,
        flat_minutes_before_close=settings.strategy.flat_minutes_before_close,
        tickers=tickers,
        calendar=settings.market.calendar,
        extended_hours=settings.market.extended_hours,
        trained_from=rows["session"].min(),  # type: ignore[arg-type]
        trained_to=rows["session"].max(),  # type: ignore[arg-type]
        label_end=label_end,
        exam_from=exam_days[0] if exam_days else None,
        exam_to=exam_days[-1] if exam_days else None,
        rows=rows.height,
        data_digest=artifact.digest_data(X, y),
        family=settings.model.family,
        params=trained.params,
        seed=settings.model.seed,
        versions=artifact.library_versions(trained.engine),
        source=source,
        synthetic=synthetic,
        importances=trained.importances,
        feature_sources=feature_set.sources,
        feature_bins=feature_bins(X),
        coverage=coverage,
    )
