"""One model on the bars of an exam: predictions, positions, P&L and the figures of merit."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from hftcl.archive.artifact import Model
from hftcl.exam import metrics
from hftcl.exam.simulation import Simulation, SimulationSums, compute_accounts, list_trades
from hftcl.exam.slices import SessionMoves, Slice, SliceSums
from hftcl.exam.verdict import Scored
from hftcl.exam.worth import FadeSums
from hftcl.learning.reports import ScoreReport, SliceReport, WorthReport
from hftcl.market.bars import BAR_SCHEMA, MINUTE
from hftcl.market.sessions import Calendar
from hftcl.market.ticker_blocks import cut_by_ticker
from hftcl.model.target import compute_targets
from hftcl.strategy.positions import PositionsDigest, compute_signals, compute_target_positions
from hftcl.strategy.weights import weigh
from hftcl.waiting import map_in_threads

_BLOCK_ROWS: Final = 65_536  # 8 MB of 31 features: what is copied at a time
_PART_ROWS: Final = 160_000  # ten tickers of 60 days: fewer at a time cost more calls, more a hundred MB


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

    frame: sorted by ticker and ts; of rows in another order, P&L and positions are the same, but not `report.worth`.
    Each ticker of the watchlist has the weight that the bot gives it, see `strategy.weights`: one without bars earns 0
    and does not raise the others. A bar whose features are not complete has no prediction: no signal.
    jobs: processor cores for the predictions, see `crew.count_cores`; one where models are examined beside one another.
    Changes no bit.
    """
    inside = frame["session"].is_in(list(days))
    predicted, predictions, novel = _predict_inside(model, frame, inside, jobs)
    moves, ends = SessionMoves(), list[timedelta]()
    for rows in _read_parts(frame, inside, ("ticker", "ts", "session", "close", "label_end")):
        moves.add(rows)
        ends += rows.select((pl.col("label_end") - pl.col("ts")).min()).to_series().drop_nulls().to_list()
    sums = _ExamSums(model, days, moves, min(ends, default=None), cost_bps=cost_bps)
    for rows, part in _read_predicted(model, frame, inside, predicted):
        sums.add(rows, part, decide_positions(model, rows, part, watchlist=watchlist))
    return sums.build(predicted, predictions, novel)


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
    sums, held = SimulationSums(sorted(set(days)), cost_bps=cost_bps), []
    for rows, part in _read_predicted(model, frame, inside, predicted):
        held.append(decide_positions(model, rows, part, watchlist=watchlist))
        _add_run(sums, rows, held[-1], cost_bps)
    return ModelRun(simulation=sums.build(), positions=pl.concat(held), predicted=predicted, predictions=predictions)


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
    sums = SimulationSums(sorted(set(days)), cost_bps=cost_bps)
    late = pl.col("prediction").shift(1).over("ticker", "session")
    for rows, part in _read_predicted(model, frame, frame["session"].is_in(list(days)), predicted):
        delayed = rows.select("ticker", "session", part).select(late).to_series()
        _add_run(sums, rows, decide_positions(model, rows, delayed, watchlist=watchlist), cost_bps)
    return sums.build()


def _add_run(sums: SimulationSums, rows: pl.DataFrame, positions: pl.DataFrame, cost_bps: float) -> None:
    booked = compute_accounts(rows, positions, cost_bps=cost_bps)
    sums.add(booked, list_trades(booked, cost_bps))


def _read_predicted(
    model: Model, frame: pl.DataFrame, inside: pl.Series, predicted: pl.Series
) -> Iterator[tuple[pl.DataFrame, pl.Series]]:
    """Yield the rows `inside` in parts, each with its predictions; without features, which nothing else reads."""
    columns = [name for name in frame.columns if name not in model.meta.feature_names]
    done = 0
    for rows in _read_parts(frame, inside, columns):
        yield rows, predicted.slice(done, rows.height)
        done += rows.height


def _read_parts(frame: pl.DataFrame, inside: pl.Series, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
    """Yield the rows `inside`, a few tickers at a time; tickers that have none make an empty part.

    frame: sorted by ticker and ts; one whose tickers are not sorted is one part.
    """
    chosen = frame.select(columns)
    for cut in cut_by_ticker(frame, _PART_ROWS) or [slice(0, 0)]:
        yield chosen[cut].filter(inside[cut])


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
    """Return the target position of each row, see `compute_target_positions`; weights as of `strategy.weights`."""
    return compute_target_positions(
        rows.select("ticker", "ts", "session", "minute", "session_minutes", predicted),
        threshold=model.meta.threshold,
        horizon_minutes=model.meta.horizon_minutes,
        weight=weigh(watchlist, model.meta.volatility),
        flat_minutes_before_close=model.meta.flat_minutes_before_close,
        side=model.meta.side,
    )


class _ExamSums:
    """Adds up what a model did on the bars of an exam, a few tickers at a time, to the bit as all at once.

    Of each bar stay its share of the exposure, and its prediction with its target; of each signal what it earned.
    """

    def __init__(
        self,
        model: Model,
        days: Sequence[date],
        moves: SessionMoves,
        ahead: timedelta | None,
        *,
        cost_bps: float,
    ) -> None:
        """Begin without a bar. moves: of all bars; ahead: how long after a bar the soonest of their labels ends."""
        meta = model.meta
        self._model, self._ahead, self._cost_bps = model, ahead, cost_bps
        self._simulation = SimulationSums(sorted(set(days)), cost_bps=cost_bps)
        self._slices = SliceSums(moves, cost_bps=cost_bps, zone=Calendar(meta.calendar).zone)
        self._fades, self._digest = FadeSums(meta.horizon_minutes), PositionsDigest()
        self._near = 0
        self._pairs: list[npt.NDArray[np.float32]] = []

    def add(self, rows: pl.DataFrame, predicted: pl.Series, positions: pl.DataFrame) -> None:
        """Add the bars of a few tickers with what was predicted and decided on each."""
        meta, cost_bps = self._model.meta, self._cost_bps
        booked = compute_accounts(rows, positions, cost_bps=cost_bps)
        trades = list_trades(booked, cost_bps)
        self._simulation.add(booked, trades)
        self._slices.add(booked, trades, rows)
        self._near += int(np.count_nonzero(compute_signals(predicted, threshold=meta.threshold).to_numpy()))
        self._fades.add(rows, compute_signals(predicted, threshold=meta.threshold, side=meta.side).to_numpy())
        self._digest.add(positions)
        both = pl.DataFrame({"prediction": predicted, "target": self._evaluate_own_target(rows)})
        self._pairs.append(both.drop_nulls().cast(pl.Float32).to_numpy().T)

    def build(
        self, predicted: pl.Series, predictions: npt.NDArray[np.float32], novel: npt.NDArray[np.bool_]
    ) -> ExamResult:
        """Return the result of all that was added: see `ExamResult`. novel: which predictions may not be acted on."""
        model, simulation, slices = self._model, self._simulation.build(), self._slices.build()
        net, a_year = simulation.net, Calendar(model.meta.calendar).sessions_per_year
        worth = self._fades.judge(
            gross=float(simulation.gross.sum()),
            turnover=float(simulation.turnover.sum()),
            cost_bps=simulation.cost_bps,
            above=self._near + int(np.count_nonzero(np.abs(predictions[novel]) > model.meta.threshold)),
            near=self._near,
        )
        report = ScoreReport(
            model_id=model.meta.model_id,
            sharpe=metrics.compute_sharpe_or_none(net, sessions_per_year=a_year),
            sharpe_interval=metrics.compute_sharpe_interval(net, a_year),
            gross_sharpe=metrics.compute_sharpe_or_none(simulation.gross, sessions_per_year=a_year),
            psr=metrics.compute_psr(net, a_year),
            pnl=float(net.sum()),
            gross_pnl=float(simulation.gross.sum()),
            cost=float(simulation.cost.sum()),
            turnover=float(simulation.turnover.sum()),
            trades=simulation.trades,
            hit_rate=simulation.hit_rate,
            max_drawdown=float(simulation.max_drawdown),
            exposure=simulation.exposure,
            information_coefficient=compute_information_coefficient(self._pairs),
            pnl_by_session=simulation.pnl_by_session,
            pnl_by_ticker={result.ticker: result.net for result in simulation.tickers},
            slices={by: tuple(SliceReport.from_slice(part) for part in parts) for by, parts in slices.items()},
            worth=WorthReport.from_worth(worth),
            positions_sha256=self._digest.hexdigest(),
            novel_share=float(novel.mean()) if model.meta.novelty and novel.size else None,
        )
        return ExamResult(
            model=model,
            simulation=simulation,
            predicted=predicted,
            predictions=predictions,
            slices=slices,
            report=report,
        )

    def _evaluate_own_target(self, rows: pl.DataFrame) -> pl.Series:
        """Return the target of the model's own horizon; that of the frame may be of another one."""
        # the label of a bar is known a minute and the horizon later, or with the ticker's next bar
        if self._ahead == MINUTE * (1 + self._model.meta.horizon_minutes):
            return rows["target"]
        return compute_targets(rows.select(BAR_SCHEMA.names()), self._model.meta.horizon_minutes)["target"]


def compute_information_coefficient(pairs: list[npt.NDArray[np.float32]]) -> float | None:
    """Return Pearson's correlation of prediction and target over the bars that have both; None where undefined.

    pairs: float32 (2, n) each; emptied, so that both forms of them are never held. To the bit that of `np.corrcoef`,
    which takes a copy more: of 500 tickers and 20 sessions, 62 MB.
    """
    both = np.empty((2, sum(pair.shape[1] for pair in pairs)))  # a row after the other, as they are added up
    done = both.shape[1]
    while pairs:
        pair = pairs.pop()
        done -= pair.shape[1]
        both[:, done : done + pair.shape[1]] = pair
    if both.shape[1] < 3 or (both.min(axis=1) == both.max(axis=1)).any():
        return None
    both -= both.mean(axis=1)[:, None]
    covariances = np.dot(both, both.T) * np.true_divide(1, both.shape[1] - 1)
    deviations = np.sqrt(np.diag(covariances))
    correlations = covariances / deviations[:, None] / deviations[None, :]
    return float(np.clip(correlations, -1, 1)[0, 1])
