"""Ten forced retrains of one day on markets without edge: other seeds, other parameters, the real loop each time.

Twenty minutes of processor time: two tickers and forests of eight trees, as the size of a forest does not change how
often a worthless one looks good; and the processes that train are kept from one retrain to the next, because to start
them takes half of the time.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from hftcl import ContinuousLearning
from hftcl.learning.stories import retrain as story
from hftcl.model.training import TrainingPool
from hftcl.settings import Settings

MARKETS = 50
DAY, NOW = "2025-12-30", datetime(2026, 1, 9, 7, 0, tzinfo=UTC)
FORESTS = ((8, 50), (6, 50), (10, 50), (8, 100), (5, 30), (12, 50), (7, 70), (8, 30), (4, 50), (9, 80))  # depth, leaf


@dataclass(frozen=True)
class Try:
    """One retrain: whether it deployed, whether the bot might then trade, and what its exam showed."""

    deployed: bool
    live: bool
    pnl: tuple[float, ...]


def settings_of(home: Path, market: int, number: int) -> Settings:
    """Return two tickers without edge and without cost, so that half of all worthless candidates look good."""
    settings = Settings()
    depth, leaf = FORESTS[number]
    return replace(
        settings,
        paths=replace(settings.paths, home=str(home)),
        market=replace(settings.market, watchlist=("AAPL", "AMD")),
        synthetic=replace(settings.synthetic, edge=0.0, seed=2000 + market),
        strategy=replace(settings.strategy, cost_bps=0.0),
        model=replace(settings.model, n_estimators=8, max_depth=depth, min_samples_leaf=leaf, seed=number),
    )


@contextmanager
def keep_processes() -> Iterator[None]:
    """Let the retrains in this context share their training processes."""
    with pytest.MonkeyPatch.context() as patch, TrainingPool() as pool:
        patch.setattr(story, "TrainingPool", lambda: nullcontext(pool))
        yield


def retrain_ten_times(home: Path, market: int) -> list[Try]:
    """Return what ten forced retrains of one day did."""
    tries = []
    for number in range(len(FORESTS)):
        at = (NOW + timedelta(minutes=number)).timestamp()
        loop = ContinuousLearning(settings_of(home, market, number), clock=partial(datetime.fromtimestamp, at, UTC))
        report = loop.retrain(force=True, as_of=DAY)
        assert report.challenger is not None
        pnl = tuple(report.challenger.pnl_by_session.values())
        tries.append(Try(report.outcome == "deployed", report.edge == "live", pnl))
    return tries


def describe(markets: list[list[Try]]) -> tuple[float, float, float, str]:
    """Return the shares of markets that deployed after one try and ever, that are live at the end, and a line."""
    once = float(np.mean([tries[0].deployed for tries in markets]))
    ever = float(np.mean([any(each.deployed for each in tries) for tries in markets]))
    live = float(np.mean([tries[-1].live for tries in markets]))
    alike = np.mean([np.corrcoef([each.pnl for each in tries])[np.triu_indices(len(tries), 1)] for tries in markets])
    return (
        once,
        ever,
        live,
        (
            f"{len(markets)} markets without edge, ten retrains of one day: deployed after one {once:.2f}, after ten "
            f"{ever:.2f}; live at the end {live:.2f}; P&L of two of them correlates by {alike:.2f}"
        ),
    )


@pytest.mark.slow
@pytest.mark.bench
def test_ten_retrains_of_one_day_deploy_and_trade_no_more_noise_than_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    markets = [retrain_ten_times(tmp_path / str(market), market) for market in range(MARKETS)]
    once, ever, live, line = describe(markets)
    with capsys.disabled():
        sys.stdout.write(f"\n{line}\n")
    assert ever <= once + 2 * np.sqrt(once * (1 - once) / MARKETS)
    assert live <= 0.10
