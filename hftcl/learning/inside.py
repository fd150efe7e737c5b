"""What is chosen inside the training window, on the sessions that the inner split holds out.

The exam never sees any of it: it judges the one model that came out.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from hftcl.archive.artifact import FeatureSet
from hftcl.compute.crew import count_cores
from hftcl.events import Event, Level, OnEvent, RequireGoing, go_on
from hftcl.exam.entry import (
    QUANTILES,
    EntryChoice,
    EntryTry,
    HorizonChoice,
    HorizonTry,
    choose_entry,
    choose_horizon,
    sum_up,
)
from hftcl.exam.importance import Selection, measure_importance, select
from hftcl.exam.simulation import compute_accounts
from hftcl.exam.split import ExamSplit
from hftcl.exam.sums import add_by_place
from hftcl.formats import count, name_some
from hftcl.learning.training_rows import TrainingRows
from hftcl.market.bars import BAR_SCHEMA
from hftcl.market.ticker_blocks import cut_by_ticker
from hftcl.model.deadline import Deadline
from hftcl.model.families import find_family
from hftcl.model.file_size import describe_bound
from hftcl.model.grid import build_grid
from hftcl.model.novelty import Novelty, measure_novelty
from hftcl.model.serving import Predictor
from hftcl.model.target import evaluate_target
from hftcl.model.training import Begun, Trained, Trainer
from hftcl.settings import Settings
from hftcl.strategy.positions import Weight, compute_target_positions
from hftcl.strategy.weights import measure_volatility, weigh
from hftcl.waiting import map_in_threads

# Each feature is exchanged three times and predicted again: so many rows keep that below the time of a training.
_MOST_ROWS: Final = 6_000
_PART_ROWS: Final = 160_000  # ten tickers of 60 days
_GRID_BYTES: Final = 300  # a bar
_TARGET_BYTES: Final = 13  # a bar and horizon: a float32, a time, which are known; twice while parts become a whole
_SHOWN: Final = 5  # tickers in a line of text


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What was chosen inside the training window; None where the settings say it.

    volatility: of a session, by ticker, by which the capital is divided.
    """

    volatility: dict[str, float] | None = field(default=None, repr=False)
    horizon: HorizonChoice | None = None
    selection: Selection | None = None
    entry: EntryChoice | None = None
    novelty: Novelty | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What all trainings of one candidate share: the settings, the parameters of the family, the processes.

    with_pkl: its estimator is kept for a researcher, see `training.TrainingTask`. horizons: how many were tried on the
    held-out sessions, the settings' one among them. require_going: is asked before each block of work.
    """

    settings: Settings
    params: Mapping[str, object] = field(repr=False)
    pool: Trainer = field(repr=False)
    on_event: OnEvent = field(repr=False)
    with_pkl: bool = True
    horizons: int = 1
    require_going: RequireGoing = field(default=go_on, repr=False)

    def train(self, rows: TrainingRows, *, keep_inner: bool, only_inner: bool = False) -> Trained:
        """Train on `rows`; see `training.TrainingTask`. Raises as `TrainingPool.train`."""
        with self.begin(rows, keep_inner=keep_inner, only_inner=only_inner) as begun:
            return begun.finish()

    def begin(self, rows: TrainingRows, *, keep_inner: bool, only_inner: bool = False) -> AbstractContextManager[Begun]:
        """Train on `rows`, and give the graph as soon as it stands: see `TrainingPool.begin`, as what it raises."""
        task = rows.build_task(
            self.settings, self.params, keep_inner=keep_inner, only_inner=only_inner, with_pkl=self.with_pkl
        )
        deadline = Deadline(3600 * self.settings.compute.max_training_hours)
        return self.pool.begin(task, self.on_event, deadline=deadline)

    def fix_horizon(self, horizon_minutes: int) -> "Training":
        """Return it with that horizon."""
        return replace(self, settings=fix_horizon(self.settings, horizon_minutes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """A model whose graph stands, the rows and features that it comes from, and what was chosen on the way.

    settings: with the horizon that was chosen.
    """

    rows: TrainingRows = field(repr=False)
    features: FeatureSet
    settings: Settings
    begun: Begun
    choices: Choices


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The rows that a model learns from, and what was chosen before it does. frame: with the chosen target.

    training: with the chosen horizon. weight: of a ticker, by `volatility`.
    """

    frame: pl.DataFrame = field(repr=False)
    rows: TrainingRows = field(repr=False)
    features: FeatureSet
    training: Training
    weight: Weight = field(repr=False)
    volatility: dict[str, float] | None = field(repr=False)
    horizon: HorizonChoice | None
    selection: Selection | None

    def learn(self) -> Learnt:
        """Train on the rows to the end. Raises as `TrainingPool.train`."""
        with self.begin() as learnt:
            learnt.begun.finish()
            return learnt

    @contextmanager
    def begin(self) -> Iterator[Learnt]:
        """Train on the rows, and give what was learnt as soon as the graph stands: see `TrainingPool.begin`."""
        rows, settings, entry = self.rows, self.training.settings, None
        by_net = settings.strategy.entry == "net"
        with self.training.begin(rows, keep_inner=by_net) as begun:
            novelty = measure_novelty(rows.features, settings.model.novelty)
            if by_net:
                tried = len(self.horizon.tried) if self.horizon else self.training.horizons
                entry = choose_net_entry(
                    self.frame,
                    rows,
                    begun.inner_onnx,
                    settings,
                    weight=self.weight,
                    novelty=novelty,
                    horizons=tried,
                    require_going=self.training.require_going,
                )
            choices = Choices(
                volatility=self.volatility, horizon=self.horizon, selection=self.selection, entry=entry, novelty=novelty
            )
            yield Learnt(rows=rows, features=self.features, settings=settings, begun=begun, choices=choices)


def choose(frame: pl.DataFrame, split: ExamSplit, features: FeatureSet, training: Training) -> Chosen:
    """Choose what the settings leave open before the training on the rows that `split` lets.

    frame: see `dataset.Dataset`. features: with their table. Raises as `TrainingRows.gather` and `TrainingPool.train`.
    """
    volatility = _measure_volatility(frame, split, training.settings)
    weight = weigh(training.settings.market.watchlist, volatility)
    horizon, selection = None, None
    if training.settings.model.horizon_minutes == "auto":
        frame, horizon = choose_net_horizon(frame, split, training, names=features.names, weight=weight)
        training = training.fix_horizon(horizon.horizon_minutes)
    settings = training.settings
    rows = TrainingRows.gather(frame, split, settings, features.names, training.require_going)
    _tell_large(rows, training)
    if settings.features.drop_below != "off":
        features, selection = choose_features(rows, features, training, drop_below=float(settings.features.drop_below))
        rows = TrainingRows.gather(frame, split, settings, features.names, training.require_going)
    _tell_thin(rows, training.on_event)
    return Chosen(
        frame=frame,
        rows=rows,
        features=features,
        training=training,
        weight=weight,
        volatility=volatility,
        horizon=horizon,
        selection=selection,
    )


def count_trainings(settings: Settings) -> int:
    """Return how often a candidate trains, what is chosen before its own training among it.

    >>> from hftcl.settings import Features, Model
    >>> count_trainings(Settings()), count_trainings(Settings(model=Model(horizon_minutes="auto", horizons=(10, 30))))
    (1, 3)
    >>> count_trainings(Settings(features=Features(drop_below=0.0)))
    2
    """
    tried = len(settings.model.horizons) if settings.model.horizon_minutes == "auto" else 0
    return 1 + tried + (settings.features.drop_below != "off")


def _tell_large(rows: TrainingRows, training: Training) -> None:
    """Say before hours of training that what comes of it may be too large for a model's file."""
    per_ticker = bool(rows.inputs.tickers)
    whole = min(rows.frame.height, rows.max_rows or rows.frame.height)  # no tree learns from more
    counts = rows.frame["ticker"].value_counts()["count"].to_list() if per_ticker else [whole]
    family = find_family(training.settings.model.family)
    text = describe_bound(family, training.params, counts, per_ticker=per_ticker)
    if text:
        training.on_event(Event("fit", text=text, level=Level.WARNING))


def _tell_thin(rows: TrainingRows, on_event: OnEvent) -> None:
    if rows.thin:
        shown = name_some([f"{ticker} ({count(number, 'row')})" for ticker, number in rows.thin.items()], _SHOWN)
        text = f"too few rows for a model of its own, so no position is opened in it: {shown}"
        on_event(Event("fit", text=text, level=Level.WARNING))


def _measure_volatility(frame: pl.DataFrame, split: ExamSplit, settings: Settings) -> dict[str, float] | None:
    """Return each ticker's volatility in the training sessions, None where weights are equal."""
    if settings.strategy.weighting == "equal":
        return None
    return measure_volatility(frame.filter(pl.col("session").is_in(split.train_days)))


def choose_features(
    rows: TrainingRows, features: FeatureSet, training: Training, *, drop_below: float
) -> tuple[FeatureSet, Selection]:
    """Return the features without which a model of the fitted sessions foretells less of those held out.

    The others leave: see `exam.importance`. features: with their table. Raises as `TrainingPool.train`.
    """
    settings = training.settings
    trained = training.train(rows, keep_inner=True, only_inner=True)
    predictor = Predictor(trained.inner_onnx, rows.inputs.width)
    held_out = np.flatnonzero(rows.held_out)
    some = held_out[np.linspace(0, held_out.size - 1, min(held_out.size, _MOST_ROWS)).astype(np.int64)]
    X, y = rows.X[some], rows.y[some].astype(np.float64)
    _, session = np.unique(rows.frame["session"].to_numpy()[some], return_inverse=True)

    def measure(column: int) -> npt.NDArray[np.float64]:
        training.require_going()
        return measure_importance(predictor.predict, X, y, session, column, seed=settings.model.seed)

    # threads: a prediction runs outside of the interpreter's lock, on one core, so their number changes no bit
    with ThreadPoolExecutor(count_cores(settings)) as threads:
        falls = list(map_in_threads(threads, measure, range(len(rows.inputs.names))))
    chosen = select(rows.inputs.names, falls, drop_below=drop_below)
    kept = {worth.name for worth in chosen.kept}
    return features.narrow([name for name in rows.inputs.names if name in kept]), chosen


def choose_net_horizon(
    frame: pl.DataFrame, split: ExamSplit, training: Training, *, names: tuple[str, ...], weight: Weight
) -> tuple[pl.DataFrame, HorizonChoice]:
    """Return the horizon that earned most after cost on the held-out sessions, and `frame` with its target.

    For each of `[model] horizons` a model of the fitted sessions; the threshold is that of `[strategy] entry`.
    """
    settings, entry = training.settings, training.settings.strategy
    targets = _compute_targets(frame, settings.model.horizons, training.require_going)
    quantiles = QUANTILES if entry.entry == "net" else (entry.entry_quantile,)
    frames, tried, sessions = {}, [], 0
    for horizon in settings.model.horizons:
        aimed = frame.with_columns(targets[horizon])
        aimed_training = training.fix_horizon(horizon)
        given = aimed_training.settings
        rows = TrainingRows.gather(aimed, split, given, names, training.require_going)
        novelty = measure_novelty(rows.features, settings.model.novelty)
        trained = aimed_training.train(rows, keep_inner=True, only_inner=True)
        tries = _try_entries(aimed, rows, trained.inner_onnx, given, quantiles, weight, novelty, training.require_going)
        best = max(tries, key=lambda one: (one.net, one.quantile))
        tried.append(HorizonTry(horizon_minutes=horizon, best=best))
        frames[horizon], sessions = aimed, len(rows.inner.exam_days)
        del rows  # else they stay while those of the next horizon are gathered
    chosen = choose_horizon(tried, sessions=sessions, cost_bps=entry.cost_bps)
    return frames[chosen.horizon_minutes], chosen


def set_target(frame: pl.DataFrame, horizon_minutes: int) -> pl.DataFrame:
    """Return `frame`, see `dataset.Dataset`, with the target of that horizon in the place of its own."""
    return frame.with_columns(_compute_targets(frame, (horizon_minutes,), go_on)[horizon_minutes])


def _compute_targets(
    frame: pl.DataFrame, horizons: Sequence[int], require_going: RequireGoing
) -> dict[int, pl.DataFrame]:
    """Return target and label_end of each horizon, row for row; a few tickers at a time, for no target reads another's.

    See `measure_targets` for what they take.
    """
    parts: dict[int, list[pl.DataFrame]] = {horizon: [] for horizon in horizons}
    for cut in cut_by_ticker(frame, _PART_ROWS) or [slice(0, 0)]:
        grid = build_grid(frame[cut].select(BAR_SCHEMA.names()))
        for horizon, of_horizon in parts.items():
            require_going()
            of_horizon.append(evaluate_target(grid, horizon))
    return {horizon: pl.concat(of_horizon, rechunk=True) for horizon, of_horizon in parts.items()}


def measure_targets(rows: int, settings: Settings) -> int:
    """Return how many bytes the targets of so many rows take while a horizon is chosen, about; 0 for a fixed one.

    >>> from hftcl.settings import Model
    >>> measure_targets(1000, Settings(model=Model(horizon_minutes="auto", horizons=(10, 30))))
    352000
    """
    if settings.model.horizon_minutes != "auto":
        return 0
    return _GRID_BYTES * min(rows, _PART_ROWS) + 2 * _TARGET_BYTES * rows * len(settings.model.horizons)


def fix_horizon(settings: Settings, horizon_minutes: int) -> Settings:
    """Return the settings with that horizon."""
    return replace(settings, model=replace(settings.model, horizon_minutes=horizon_minutes))


def choose_net_entry(
    frame: pl.DataFrame,
    rows: TrainingRows,
    inner_onnx: bytes,
    settings: Settings,
    *,
    weight: Weight,
    novelty: Novelty | None,
    horizons: int = 1,
    require_going: RequireGoing,
) -> EntryChoice:
    """Return the threshold that earned most after cost on the sessions that the inner split holds out.

    frame: see `dataset.Dataset`. inner_onnx: of the model that has not seen those sessions. The quantiles are those of
    |prediction| of their rows that have a label, as for `[strategy] entry = "quantile"`; positions, fills and cost
    those of an exam, and the choice that of `exam.entry`. horizons: how many were tried.
    """
    tried = _try_entries(frame, rows, inner_onnx, settings, QUANTILES, weight, novelty, require_going)
    sessions, cost_bps = len(rows.inner.exam_days), settings.strategy.cost_bps
    return choose_entry(tried, sessions=sessions, cost_bps=cost_bps, horizons=horizons)


def _try_entries(
    frame: pl.DataFrame,
    rows: TrainingRows,
    inner_onnx: bytes,
    settings: Settings,
    quantiles: Sequence[float],
    weight: Weight,
    novelty: Novelty | None,
    require_going: RequireGoing,
) -> list[EntryTry]:
    """Return what each threshold earns on the held-out sessions."""
    inner = rows.inner
    predictor = Predictor(inner_onnx, rows.inputs.width)
    sizes = np.abs(predictor.predict(rows.X[rows.held_out]))
    thresholds = [float(np.float32(np.quantile(sizes, quantile))) for quantile in quantiles]
    days = np.array(sorted(inner.exam_days), dtype="datetime64[D]")
    sums = [[np.zeros(days.size) for _ in range(3)] for _ in thresholds]  # gross, cost and turnover by session
    for cut in cut_by_ticker(frame, _PART_ROWS):
        require_going()
        bars = frame[cut].filter(pl.col("session").is_in(inner.exam_days))
        predicted = _predict_near(bars, rows, predictor, novelty)
        for number, threshold in enumerate(thresholds):
            positions = compute_target_positions(
                predicted,
                threshold=threshold,
                horizon_minutes=settings.model.target_minutes,
                weight=weight,
                flat_minutes_before_close=settings.strategy.flat_minutes_before_close,
                side=settings.strategy.side,
            )
            booked = compute_accounts(bars, positions, cost_bps=settings.strategy.cost_bps)
            place = np.searchsorted(days, booked["session"].to_numpy())
            columns = (booked[name].to_numpy() for name in ("gross", "cost", "turnover"))
            sums[number] = [add_by_place(one, place, column) for one, column in zip(sums[number], columns, strict=True)]
    return [
        sum_up(quantile, threshold, gross - cost, turnover)
        for quantile, threshold, (gross, cost, turnover) in zip(quantiles, thresholds, sums, strict=True)
    ]


def _predict_near(
    bars: pl.DataFrame, rows: TrainingRows, predictor: Predictor, novelty: Novelty | None
) -> pl.DataFrame:
    """Return the predictions of `bars` for `compute_target_positions`, null where features lack or lie too far away."""
    has_features = bars.select(rows.inputs.is_known()).to_series()
    values = np.full(bars.height, np.nan, dtype=np.float32)
    X = rows.inputs.build_matrix(bars.filter(has_features))
    near = np.ones(len(X), dtype=np.bool_) if novelty is None else ~novelty.find_novel(X)
    values[has_features.to_numpy()] = np.where(near, predictor.predict(X), np.float32(np.nan))
    return bars.select(
        "ticker", "ts", "session", "minute", "session_minutes", pl.Series("prediction", values, nan_to_null=True)
    )
