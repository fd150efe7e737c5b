"""Figures are annual by the calendar's own sessions: a market that never closes has 365 a year, New York 252."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from hftcl import ContinuousLearning
from hftcl.archive.record import read_sessions
from hftcl.archive.registry import Registry
from hftcl.market.sessions import Calendar
from hftcl.settings import Settings
from tests.loop_cases import small

NOW = datetime(2026, 1, 9, 7, 0, tzinfo=UTC)
YEAR = np.sqrt(365)


def restless(home: Path) -> Settings:
    settings = small(home)
    return replace(
        settings,
        market=replace(settings.market, watchlist=("X:BTCUSD",), calendar="24/7", lookback_days=20),
        model=replace(settings.model, n_estimators=4, max_depth=4),
        exam=replace(settings.exam, sessions=8, min_sessions=5),
    )


def annual(pnl: dict[str, float]) -> float:
    """By hand: mean over deviation of the days, times the root of the days in a year."""
    days = np.array(list(pnl.values()))
    return float(days.mean() / days.std(ddof=1) * YEAR)


@pytest.mark.parametrize(("name", "sessions"), [("XNYS", 252), ("24/7", 365), ("XTKS", 244), ("XLON", 253)])
def test_a_calendar_counts_its_own_sessions_of_a_year(name: str, sessions: int) -> None:
    assert Calendar(name).sessions_per_year == sessions


def test_every_figure_of_a_market_that_never_closes_is_annual_by_365_days(tmp_path: Path) -> None:
    settings = restless(tmp_path)
    loop = ContinuousLearning(settings, clock=lambda: NOW)
    report = loop.retrain(force=True, as_of="2025-11-20")
    score = report.challenger
    assert score is not None
    assert score.sharpe == pytest.approx(annual(score.pnl_by_session))
    assert score.sharpe_interval is not None
    assert np.mean(score.sharpe_interval) == pytest.approx(score.sharpe)
    assert report.exam is not None
    assert report.exam.noise_deviation == pytest.approx(np.sqrt(365 / len(score.pnl_by_session)))
    rows = read_sessions(Registry(tmp_path), synthetic=True, policy=report.policy_digest or "")
    net = {str(row.session): row.gross - row.turnover * settings.strategy.cost_bps / 1e4 for row in rows}
    assert report.record_sharpe == pytest.approx(annual(net))

    assert report.model_id is not None
    days = loop.exam(report.model_id, "2025-11-22", "2025-12-01")
    assert days.sharpe == pytest.approx(annual(days.pnl_by_session))


def test_a_backtest_of_such_a_market_is_annual_by_365_days(tmp_path: Path) -> None:
    report = ContinuousLearning(restless(tmp_path), clock=lambda: NOW).backtest("2025-11-24", "2025-12-05")
    policy = report.policies["always newest"]
    assert policy.sharpe == pytest.approx(annual(policy.pnl_by_session))
    held = report.policies["buy and hold"]
    assert held.sharpe == pytest.approx(annual(held.pnl_by_session))
    assert report.sessions_per_year == 365
