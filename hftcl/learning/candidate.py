"""From a window of rows to a candidate that is trained but not yet judged.

Knows which rows train: those that `exam.split` lets, with every feature and the target known.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import numpy as np
import polars as pl

from hftcl.archive import artifact
from hftcl.archive.artifact import FeatureSet, Model, ModelMeta
from hftcl.archive.looks import Look
from hftcl.archive.policy import complete_params
from hftcl.errors import ConfigError, FeatureError, UsageError
from hftcl.events import FINISH, Event, OnEvent, RequireGoing, go_on
from hftcl.exam.drift import build_feature_bins
from hftcl.exam.slices import Slice
from hftcl.exam.split import ExamSplit
from hftcl.learning.bars_digest import compute_bars_digests, sum_up_digests
from hftcl.learning.inside import Chosen, Learnt, Training, choose
from hftcl.market.received import TickerCoverage
from hftcl.model.families import Family, find_family
from hftcl.model.features import hash_definitions
from hftcl.model.training import Trained, Trainer
from hftcl.settings import Settings
from hftcl.waiting import wait_for_result


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A trained model, as its file holds it, with the joblib file for a researcher."""

    model: Model
    onnx: bytes
    pkl: bytes
    trained: Trained
    rows: int
    sessions: int

    def with_exam(self, slices: Mapping[str, tuple[Slice, ...]], look: Look | None) -> "Candidate":
        """Return the candidate whose file keeps what its exam said; it predicts as before, by the same graph."""
        onnx, model = artifact.finish_exam(self.model, self.onnx, slices, look)
        return replace(self, onnx=onnx, model=model)


Parameters = Mapping[str, object] | Sequence[str] | None
"""Of a model family: by name, or as texts K=V."""


def merge_params(settings: Settings, chosen: Parameters = None) -> dict[str, object]:
    """Return the parameters of the configured family: `chosen` before the settings before the family's defaults.

    Raises UsageError for a name that the family does not know, or a value out of its range; TrainingError where a
    library that it needs is not installed; ConfigError where rows are to be weighted and it takes no weights.
    """
    family = find_family(settings.model.family)
    require_installed = getattr(family, "require_installed", None)
    if require_installed is not None:
        require_installed()
    if settings.model.half_life_days and not getattr(family, "takes_weights", False):
        raise ConfigError(
            f"[model] half_life_days: the family {family.name} takes no weights of rows. Set it to 0, or choose "
            "another family."
        )
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
    now = artifact.list_our_features(settings)
    if hash_definitions(now.table) != hash_definitions(features.table):
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
    pool: Trainer,
    on_event: OnEvent,
    coverage: tuple[TickerCoverage, ...] | None = None,
    has_files: bool = True,
    horizons: int = 1,
    with_pkl: bool = True,
    on_model: Callable[[Model], None] = lambda model: None,
    require_going: RequireGoing = go_on,
) -> Candidate:
    """Train on the rows that `split` lets, and return the candidate with the model that its own file holds.

    frame, features, coverage: see `dataset.Dataset`. params: complete, as `merge_params` returns them. has_files:
    whether the files of the user's features are on this machine; where not, who keeps it asks `require_unchanged`.
    horizons, require_going: see `inside.Training`. with_pkl: false for one that is scored and never archived: it has no
    estimator's file, and its own tells no importances, bins of the features or digests of the bars. on_model: gets the
    model as soon as its graph stands, to examine it while the rest is made: it predicts and decides as the candidate
    does, but that its graph predicts what was fitted is known only when this returns. Before, nothing may be told of
    it.
    Raises NoDataError where no row is left, TrainingError where the training process fails, FeatureError where a file
    of features was changed since `frame` was computed.
    """
    if has_files:
        require_unchanged(settings, features)
    training = Training(
        settings=settings,
        params=params,
        pool=pool,
        on_event=on_event,
        horizons=horizons,
        with_pkl=with_pkl,
        require_going=require_going,
    )
    chosen = choose(frame, split, features, training)

    def describe(learnt: Learnt) -> ModelMeta:
        return replace(
            _describe_model(learnt, split),
            model_id=model_id,
            source=source,
            synthetic=synthetic,
            tickers=tuple(frame["ticker"].unique().sort().to_list()),
            coverage=coverage,
        )

    candidate = _train_and_describe(frame, chosen, describe, on_model)
    artifact.require_computed(candidate.model.meta, features, "The new model")
    return candidate


def _train_and_describe(
    frame: pl.DataFrame, chosen: Chosen, describe: Callable[[Learnt], ModelMeta], on_model: Callable[[Model], None]
) -> Candidate:
    """Train on the chosen rows; beside it, find out what the model's file will say of the rows."""
    rows = chosen.rows
    with ThreadPoolExecutor(1, "rows") as beside:  # of a training parts run on one core, and the rows are known
        facts = _submit_facts(beside, frame, chosen)
        try:
            with chosen.begin() as learnt:
                opened, graph = artifact.open_trained(learnt.begun.onnx, describe(learnt))
                on_model(opened)
                chosen.training.on_event(Event(FINISH, 0, 1))
                trained = learnt.begun.finish()
                chosen.training.on_event(Event(FINISH, 1, 1))
            described = {name: wait() for name, wait in facts.items()}
        except BaseException:  # a Ctrl-C waits for one of them, not for all: of millions of rows all bins take long
            beside.shutdown(wait=False, cancel_futures=True)
            raise
    meta = replace(opened.meta, importances=trained.importances, **described)
    canaries = artifact.pick_canary_rows(rows.X, numbered=bool(meta.ticker_models))
    onnx, model = artifact.complete(opened, graph, meta, canaries)
    return Candidate(
        model=model,
        onnx=onnx,
        pkl=trained.pkl,
        trained=trained,
        rows=rows.frame.height,
        sessions=rows.frame["session"].n_unique(),
    )


def _submit_facts(beside: Executor, frame: pl.DataFrame, chosen: Chosen) -> dict[str, Callable[[], Any]]:
    """Have found out what a model file says of the rows; return what waits for each of its fields."""
    rows = chosen.rows
    data_digest = beside.submit(artifact.digest_data, rows.X, rows.y)
    facts: dict[str, Callable[[], Any]] = {"data_digest": lambda: wait_for_result(data_digest)}
    if not chosen.training.with_pkl:  # it will not serve: no drift away from it is measured
        return facts
    bins = [beside.submit(build_feature_bins, column) for column in np.hsplit(rows.features, rows.features.shape[1])]
    bars = beside.submit(_digest_bars, frame, chosen)
    return facts | {
        "feature_bins": lambda: tuple(chain.from_iterable(map(wait_for_result, bins))),
        "bars_by_session": lambda: wait_for_result(bars)[0],
        "bars_by_ticker": lambda: wait_for_result(bars)[1],
    }


def _digest_bars(frame: pl.DataFrame, chosen: Chosen) -> tuple[dict[str, str], dict[str, str]]:
    """Return the digests of the bars of the sessions that train, by session and by ticker."""
    days = chosen.rows.frame["session"].unique().to_list()
    return sum_up_digests(compute_bars_digests(frame, chosen.features.columns, days=days))


@dataclass(frozen=True, slots=True, kw_only=True)
class Unarchived:
    """A model that was just trained, as it may travel: its graph, and what it is. See `artifact.open_trained`."""

    onnx: bytes = field(repr=False)
    meta: ModelMeta

    def open(self) -> Model:
        """Return it ready to be scored. Raises IntegrityError for a graph that no model file may hold."""
        return artifact.open_trained(self.onnx, self.meta)[0]


def train_unarchived(
    frame: pl.DataFrame,
    split: ExamSplit,
    settings: Settings,
    *,
    model_id: str,
    params: Mapping[str, object],
    features: FeatureSet,
    source: str,
    synthetic: bool,
    pool: Trainer,
    on_event: OnEvent,
    has_files: bool = True,
    require_going: RequireGoing = go_on,
) -> Unarchived:
    """Return the model that `train_candidate` would train, to be scored here and now and never archived.

    It predicts and decides as that one does; digests, bins and the estimator's file, which would go unread, are left
    out. has_files, require_going, and what it raises: as `train_candidate`.
    """
    if has_files:
        require_unchanged(settings, features)
    training = Training(
        settings=settings, params=params, pool=pool, on_event=on_event, with_pkl=False, require_going=require_going
    )
    learnt = choose(frame, split, features, training).learn()
    meta = replace(_describe_model(learnt, split), model_id=model_id, source=source, synthetic=synthetic)
    return Unarchived(onnx=learnt.begun.onnx, meta=meta)


def _describe_model(learnt: Learnt, split: ExamSplit) -> ModelMeta:
    """Return what the model's file will say about what it learnt; of its rows and where they come from nothing yet."""
    rows, trained, features, choices = learnt.rows, learnt.begun, learnt.features, learnt.choices
    strategy, model, market = learnt.settings.strategy, learnt.settings.model, learnt.settings.market
    exam_days = split.exam_days
    return ModelMeta(
        model_id="",
        feature_names=features.names,
        feature_formulae=features.formulae,
        features_hash=features.definitions_hash,
        target="return from the open of bar t+1 to the open of bar t+1+horizon, over trailing volatility",
        horizon_minutes=model.target_minutes,
        threshold=choices.entry.threshold if choices.entry else trained.threshold,
        entry_quantile=strategy.entry_quantile,
        cost_bps=strategy.cost_bps,
        flat_minutes_before_close=strategy.flat_minutes_before_close,
        tickers=(),
        calendar=market.calendar,
        extended_hours=market.extended_hours,
        trained_from=rows.first,
        trained_to=rows.last,
        label_end=rows.label_end,
        exam_from=exam_days[0] if exam_days else None,
        exam_to=exam_days[-1] if exam_days else None,
        rows=rows.frame.height,
        data_digest="",
        family=model.family,
        params=trained.params,
        seed=model.seed,
        versions=artifact.find_library_versions(trained.engine, trained.versions),
        source="",
        synthetic=False,
        importances=None,
        feature_sources=features.sources,
        columns=features.columns,
        side=strategy.side,
        volatility=choices.volatility,
        entry=choices.entry,
        half_life_days=model.half_life_days,
        max_rows=rows.max_rows,
        novelty=choices.novelty,
        horizon=choices.horizon,
        selection=choices.selection,
        ticker_models=rows.inputs.tickers,
        format=_find_format(learnt),
    )


def _find_format(learnt: Learnt) -> int:
    """Return the least format whose readers do what the file says."""
    choices = learnt.choices
    if learnt.rows.inputs.tickers:
        return artifact.FORMAT_PER_TICKER
    has_own_hand = choices.volatility is not None or choices.novelty is not None
    return artifact.FORMAT_OF_HAND if has_own_hand or learnt.settings.strategy.side != "both" else artifact.FORMAT
