"""Doubts a miracle: figures on real bars that are nearly always an error in them, and where that error may lie."""

from collections.abc import Sequence
from datetime import date

import numpy as np
import numpy.typing as npt
import polars as pl

from hftcl.archive.registry import Registry
from hftcl.exam import metrics
from hftcl.exam.plausibility import list_miracles
from hftcl.formats import count
from hftcl.learning.dataset import Dataset
from hftcl.learning.reports import ScoreReport
from hftcl.learning.score import ExamResult, run_late
from hftcl.market.doubts import LATER, SMOOTH, correlate, find_interval, name_interval
from hftcl.market.sessions import Calendar
from hftcl.settings import Settings

REMEDY = (
    "Look at the bars; where they are right all the same, `hftcl rollback MODEL_ID --reason TEXT` lets it serve and "
    "confirms such figures for this policy"
)


def find_miracles(score: ScoreReport, *, synthetic: bool, limit: float, sessions_per_year: int) -> tuple[str, ...]:
    """Return which figures of an exam are too good to be true, as phrases; none for bars that are invented."""
    if synthetic:
        return ()
    return list_miracles(
        sessions=len(score.pnl_by_session),
        sharpe=score.sharpe,
        gross_sharpe=score.gross_sharpe,
        information_coefficient=score.information_coefficient,
        hit_rate=score.hit_rate,
        trades=score.trades,
        limit=limit,
        sessions_per_year=sessions_per_year,
    )


def find_record_miracles(
    net: npt.NDArray[np.float64], *, synthetic: bool, limit: float, sessions_per_year: int
) -> tuple[str, ...]:
    """Return the same of a policy's record. net: float64, P&L of its sessions."""
    if synthetic:
        return ()
    return list_miracles(
        sessions=net.size,
        sharpe=metrics.compute_sharpe_or_none(net, sessions_per_year=sessions_per_year),
        limit=limit,
        sessions_per_year=sessions_per_year,
    )


def is_confirmed(registry: Registry, policy: str) -> bool:
    """Whether a person let a model of `policy` serve, with a reason, although its figures were doubted."""
    doubted = {
        model.model_id
        for model in registry.list_models()
        if model.judgement.implausible and model.judgement.policy_digest == policy
    }
    return any(
        change.kind == "rollback" and change.reason.strip() and change.model_id in doubted
        for change in registry.list_deployments()
    )


def examine_causes(result: ExamResult, data: Dataset, days: Sequence[date], settings: Settings) -> tuple[str, ...]:
    """Return what the bars say of each likely cause, as phrases: seen or not."""
    frame = data.frame
    parts = {ticker: rows for (ticker,), rows in frame.partition_by("ticker", as_dict=True).items()}
    intervals = {ticker: found for ticker, rows in parts.items() if (found := find_interval(rows["ts"]))}
    mixed = "; ".join(f"{ticker}: {name_interval(found[0])}" for ticker, found in intervals.items())
    later, smooth = find_correlations(frame)
    delayed = run_late(
        result.model,
        result.predicted,
        frame,
        days,
        cost_bps=settings.strategy.cost_bps,
        watchlist=settings.market.watchlist,
    )
    a_year = Calendar(result.model.meta.calendar).sessions_per_year
    late = metrics.compute_sharpe_or_none(delayed.net, sessions_per_year=a_year)
    label = sum(finding.reason == "label" for finding in data.findings)
    suspected = f"suspected in {count(label, 'ticker')}" if label else "not seen"
    sharpe = "is not defined" if late is None else f"is {late:.1f}"
    return (
        f"intervals: {mixed or 'all of one minute'}",
        f"closes that know the next minute, or stale opens: correlation {_format_most(later)}, honest below "
        f"{LATER:.2f}",
        f"smoothed prices: correlation {_format_most(smooth)}, honest below {SMOOTH:.2f}",
        f"stamps at the minute's end: {suspected}",
        f"decided one minute later, the net Sharpe ratio {sharpe}: one that is gone then was in stamps or prices",
    )


def find_correlations(frame: pl.DataFrame) -> tuple[float | None, float | None]:
    """Return the largest of each correlation of `market.doubts.correlate` over the tickers; None where undefined."""
    pairs = [correlate(rows.filter("regular")) for _, rows in frame.group_by("ticker", maintain_order=True)]
    later = max((one for one, _ in pairs if one is not None), default=None)
    return later, max((other for _, other in pairs if other is not None), default=None)


def _format_most(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.2f} at most"
