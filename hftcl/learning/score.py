"""One model on the bars of an exam: predictions, positions, P&L and the figures of merit."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from hftcl.archive.artifact import Model
from hftcl.errors import UndefinedStatisticError
from hftcl.exam import metrics
from hftcl.exam.simulation import Simulation, accounts, list_trades, simulate
from hftcl.exam.slices import Slice, compute_slices
from hftcl.exam.verdict import Scored
from hftcl.exam.worth import measure_worth
from hftcl.learning.reports import ScoreReport, SliceReport, WorthReport
from hftcl.market.bars import BAR_SCHEMA, MINUTE
from hftcl.market.sessions import Calendar
from hftcl.model.target import targets
from hftcl.strategy.positions import compute_signals, positions_sha256, target_positions
from hftcl.strategy.weights import weigh
from hftcl.waiting import map_in_threads

_BLOCK_ROWS: Final = 65_536  # 8 MB of 31 features: what is copied at a time
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRun:
    """What one model earned, and with which positions; `predictions` are those of the bars with complete features.

    predicted: what each bar may act on, see `predict_bars`.
    """

    simulation: Simulation
    positions: pl.DataFrame = field(repr=False)
    predicted: pl.Series = field(repr=False)
    predictions: npt.NDArray[np.float32] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExamResult:
    """What one model did on the bars of an exam; `predictions` are those of the bars with complete features.

    predicted: what each bar of the exam may act on, see `predict_bars`.
    """

    model: Model
    simulation: Simulation
    predicted: pl.Series = field(repr=False)
    predictions: npt.NDArray[np.float32]
    slices: dict[str, tuple[Slice, ...]]
    report: ScoreReport

    def build_scored(self) -> Scored:
        """Return what the verdict needs."""
        meta = self.model.meta
        return Scored.from_simulation(
            self.simulation,
            self.predictions,
            model_id=meta.model_id,
            synthetic=meta.synthetic,
            idle=meta.idle,
            sessions_per_year=Calendar(meta.calendar).sessions_per_year,
        )


def examine(
    model: Model,
    frame: pl.DataFrame,
    days: Sequence[date],
    *,
    cost_bps: float,
    watchlist: Sequence[str],
    jobs: int = 1,
) -> ExamResult:
    """Score `model` on the sessions `days` of `frame` (see `dataset.Dataset`), with its own threshold and horizon.

    Each ticker of the watchlist has the weight that the bot gives it, see `strategy.weights`: one without bars earns 0
    and does not raise the others. A bar whose features are not complete has no prediction: no signal.
    jobs: processor cores for the predictions, see `crew.count_cores`; one where models are examined beside one another.
    Changes no bit.
    """
    inside = frame["session"].is_in(list(days))
    predicted, predictions, novel = _predict_inside(model, frame, inside, jobs)
    rows = frame.drop(model.meta.feature_names).filter(inside)  # nothing but a prediction reads features
    positions = decide_positions(model, rows, predicted, watchlist=watchlist)
    simulation = simulate(rows, positions, cost_bps=cost_bps, sessions=days)
    booked = accounts(rows, positions, cost_bps=cost_bps)
    zone = Calendar(model.meta.calendar).zone
    parts = compute_slices(booked, list_trades(booked, cost_bps), rows, cost_bps=cost_bps, zone=zone)
    return ExamResult(
        model=model,
        simulation=simulation,
        predicted=predicted,
        predictions=predictions,
        slices=parts,
        report=_build_report(model, simulation, parts, positions, predicted, rows, predictions, novel),
    )


def run_model(
    model: Model,
    frame: pl.DataFrame,
    days: Sequence[date],
    *,
    cost_bps: float,
    watchlist: Sequence[str],
    jobs: int = 1,
) -> ModelRun:
    """Return what `examine` finds a model to earn, to the bit, with what it predicted and held, and no more of it.

    What a session earned is the same whatever other sessions are scored with it. jobs: see `examine`.
    """
    inside = frame["session"].is_in(list(days))
    predicted, predictions, _ = _predict_inside(model, frame, inside, jobs)
    rows = frame.drop(model.meta.feature_names).filter(inside)
    positions = decide_positions(model, rows, predicted, watchlist=watchlist)
    simulation = simulate(rows, positions, cost_bps=cost_bps, sessions=days)
    return ModelRun(simulation=simulation, positions=positions, predicted=predicted, predictions=predictions)


def run_late(
    model: Model,
    predicted: pl.Series,
    frame: pl.DataFrame,
    days: Sequence[date],
    *,
    cost_bps: float,
    watchlist: Sequence[str],
) -> Simulation:
    """Return what a model earns where each decision is made one bar late; an edge that does not bear that is none.

    predicted: of an `examine` or `run_model` on the same rows and sessions; nothing is predicted again.
    """
    rows = frame.drop(model.meta.feature_names).filter(pl.col("session").is_in(list(days)))
    late = pl.col("prediction").shift(1).over("ticker", "session")
    delayed = rows.select("ticker", "session", predicted).select(late).to_series()
    positions = decide_positions(model, rows, delayed, watchlist=watchlist)
    return simulate(rows, positions, cost_bps=cost_bps, sessions=days)


def _predict_inside(
    model: Model, frame: pl.DataFrame, inside: pl.Series, jobs: int
) -> tuple[pl.Series, npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Return what `predict_bars` does of the rows `inside`, without a copy of all their features."""
    step = max(1, min(_BLOCK_ROWS, -(-frame.height // jobs)))  # no core waits where there are few rows
    blocks = [slice(begin, begin + step) for begin in range(0, frame.height, step)] or [slice(0)]
    # threads: a prediction runs outside of the interpreter's lock, on one core, so their number changes no bit
    with ThreadPoolExecutor(min(len(blocks), jobs), "exam") as threads:
        parts = list(
            map_in_threads(threads, lambda block: predict_bars(model, frame[block].filter(inside[block])), blocks)
        )
    predicted, predictions, novel = zip(*parts, strict=True)
    # in one piece, for where its pieces end must change nothing
    return pl.concat(predicted, rechunk=True), np.concatenate(predictions), np.concatenate(novel)


def predict_bars(model: Model, rows: pl.DataFrame) -> tuple[pl.Series, npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Return the prediction that each row may act on, then the predictions of the rows whose features are all known,
    and which of those rows lie too far from the training for a signal.

    The first is null where a feature is not known, and for a row too far from the training.
    """
    inputs = model.meta.inputs
    has_features = rows.select(inputs.is_known()).to_series()
    X = inputs.build_matrix(rows.filter(has_features))
    predictions, novel = model.predict(X), model.find_novel(X)
    values = np.full(rows.height, np.nan, dtype=np.float32)
    values[has_features.to_numpy()] = np.where(novel, np.float32(np.nan), predictions)
    return pl.Series("prediction", values, nan_to_null=True), predictions, novel


def decide_positions(
    model: Model, rows: pl.DataFrame, predicted: pl.Series, *, watchlist: Sequence[str]
) -> pl.DataFrame:
    """Return the target position of each row, see `target_positions`; weights as of `strategy.weights`."""
    return target_positions(
        rows.select("ticker", "ts", "session", "minute", "session_minutes", predicted),
        threshold=model.meta.threshold,
        horizon_minutes=model.meta.horizon_minutes,
        weight=weigh(watchlist, model.meta.volatility),
        flat_minutes_before_close=model.meta.flat_minutes_before_close,
        side=model.meta.side,
    )


def compute_or_none(statistic: object) -> float | None:
    """Return `statistic()`, or None where these numbers do not define it."""
    try:
        return float(statistic())  # type: ignore[operator]
    except UndefinedStatisticError:
        return None


def _build_report(
    model: Model,
    simulation: Simulation,
    parts: Mapping[str, tuple[Slice, ...]],
    positions: pl.DataFrame,
    predicted: pl.Series,
    rows: pl.DataFrame,
    predictions: npt.NDArray[np.float32],
    novel: npt.NDArray[np.bool_],
) -> ScoreReport:
    net, a_year = simulation.net, Calendar(model.meta.calendar).sessions_per_year
    threshold = model.meta.threshold
    near = np.count_nonzero(compute_signals(predicted, threshold=threshold).to_numpy())
    worth = measure_worth(
        rows,
        compute_signals(predicted, threshold=threshold, side=model.meta.side).to_numpy(),
        gross=float(simulation.gross.sum()),
        turnover=float(simulation.turnover.sum()),
        cost_bps=simulation.cost_bps,
        horizon_minutes=model.meta.horizon_minutes,
        above=int(near + np.count_nonzero(np.abs(predictions[novel]) > threshold)),
        near=int(near),
    )
    return ScoreReport(
        model_id=model.meta.model_id,
        sharpe=compute_or_none(lambda: metrics.sharpe(net, sessions_per_year=a_year)),
        sharpe_interval=compute_sharpe_interval(net, a_year),
        gross_sharpe=compute_or_none(lambda: metrics.sharpe(simulation.gross, sessions_per_year=a_year)),
        psr=compute_or_none(lambda: metrics.psr(net)),
        pnl=float(net.sum()),
        gross_pnl=float(simulation.gross.sum()),
        cost=float(simulation.cost.sum()),
        turnover=float(simulation.turnover.sum()),
        trades=simulation.trades,
        hit_rate=simulation.hit_rate,
        max_drawdown=float(simulation.max_drawdown),
        exposure=simulation.exposure,
        information_coefficient=_compute_information_coefficient(predicted, _evaluate_own_target(model, rows)),
        pnl_by_session=simulation.pnl_by_session,
        pnl_by_ticker={result.ticker: result.net for result in simulation.tickers},
        slices={by: tuple(SliceReport.from_slice(part) for part in slices) for by, slices in parts.items()},
        worth=WorthReport.from_worth(worth),
        positions_sha256=positions_sha256(positions),
        novel_share=float(novel.mean()) if model.meta.novelty and novel.size else None,
    )


def _evaluate_own_target(model: Model, rows: pl.DataFrame) -> pl.Series:
    """Return the target of the model's own horizon; that of the frame may be of another one."""
    # the label of a bar is known a minute and the horizon later, or with the ticker's next bar
    ahead = rows.select((pl.col("label_end") - pl.col("ts")).min()).item()
    if ahead == MINUTE * (1 + model.meta.horizon_minutes):
        return rows["target"]
    return targets(rows.select(BAR_SCHEMA.names()), model.meta.horizon_minutes)["target"]


def compute_sharpe_interval(net: FloatArray, sessions_per_year: int) -> tuple[float, float] | None:
    """Return the 90 % interval of the annual Sharpe ratio, or None where these numbers do not define it."""
    try:
        interval = metrics.sharpe_interval(net, sessions_per_year=sessions_per_year)
    except UndefinedStatisticError:
        return None
    return interval.low, interval.high


def _compute_information_coefficient(predicted: pl.Series, target: pl.Series) -> float | None:
    """Return Pearson's correlation of prediction and target over the bars that have both; None where undefined."""
    both = pl.DataFrame({"prediction": predicted, "target": target}).drop_nulls().cast(pl.Float64)
    if both.height < 3 or both["prediction"].n_unique() < 2 or both["target"].n_unique() < 2:
        return None
    return float(np.corrcoef(both["prediction"].to_numpy(), both["target"].to_numpy())[0, 1])
