"""One model on the bars of an exam: predictions, positions, P&L and the figures of merit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt
import polars as pl

from hftcl.archive.artifact import Model
from hftcl.errors import UndefinedStatisticError
from hftcl.exam import metrics
from hftcl.exam.simulation import Simulation, accounts, list_trades, simulate
from hftcl.exam.slices import Slice, compute_slices
from hftcl.exam.verdict import Scored
from hftcl.learning.reports import ScoreReport, SliceReport
from hftcl.market.sessions import Calendar
from hftcl.model.features import build_matrix, is_known
from hftcl.strategy.positions import positions_sha256, target_positions

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExamResult:
    """What one model did on the bars of an exam; `predictions` are those of the bars with complete features."""

    model: Model
    simulation: Simulation
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
            sessions_per_year=Calendar(meta.calendar).sessions_per_year,
        )


def examine(
    model: Model,
    frame: pl.DataFrame,
    days: Sequence[date],
    *,
    cost_bps: float,
    watchlist: Sequence[str],
    delay_bars: int = 0,
) -> ExamResult:
    """Score `model` on the sessions `days` of `frame` (see `dataset.Dataset`), with its own threshold and horizon.

    Each ticker of the watchlist has the weight 1/N, as the bot trades it: one without bars earns 0 and does not raise
    the others. A bar whose features are not complete has no prediction: no signal. delay_bars: how many bars late each
    decision is made; an edge that does not bear one is none.
    """
    rows = frame.filter(pl.col("session").is_in(list(days)))
    has_features = rows.select(is_known(model.meta.feature_names)).to_series()
    predictions = model.predict(build_matrix(rows.filter(has_features), model.meta.feature_names))
    values = np.full(rows.height, np.nan, dtype=np.float32)
    values[has_features.to_numpy()] = predictions
    predicted = pl.Series("prediction", values, nan_to_null=True)
    if delay_bars:
        late = pl.col("prediction").shift(delay_bars).over("ticker", "session")
        predicted = rows.select("ticker", "session", predicted).select(late).to_series()
    positions = target_positions(
        rows.select("ticker", "ts", "session", "minute", "session_minutes", predicted),
        threshold=model.meta.threshold,
        horizon_minutes=model.meta.horizon_minutes,
        weight=1.0 / max(len(watchlist), 1),
        flat_minutes_before_close=model.meta.flat_minutes_before_close,
    )
    simulation = simulate(rows, positions, cost_bps=cost_bps, sessions=days)
    booked = accounts(rows, positions, cost_bps=cost_bps)
    zone = Calendar(model.meta.calendar).zone
    parts = compute_slices(booked, list_trades(booked, cost_bps), rows, cost_bps=cost_bps, zone=zone)
    return ExamResult(
        model=model,
        simulation=simulation,
        predictions=predictions,
        slices=parts,
        report=_build_report(model, simulation, parts, positions, predicted, rows),
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
) -> ScoreReport:
    net, a_year = simulation.net, Calendar(model.meta.calendar).sessions_per_year
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
        information_coefficient=_compute_information_coefficient(predicted, rows["target"]),
        pnl_by_session=simulation.pnl_by_session,
        pnl_by_ticker={result.ticker: result.net for result in simulation.tickers},
        slices={by: tuple(SliceReport.from_slice(part) for part in slices) for by, slices in parts.items()},
        positions_sha256=positions_sha256(positions),
    )


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
