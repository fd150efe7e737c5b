"""What doing nothing clever would have made: the watchlist in equal amounts, bought once and held. Pure.

Called by `trading.tracker` with the first open and the last close of each session, as the ledger holds them.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple

import numpy as np
import polars as pl

from hftcl.exam import metrics, replay
from hftcl.market.bars import unannounced_splits
from hftcl.trading.tracker_figures import FloatArray, defined, sharpe_interval
from hftcl.trading.tracker_reports import BenchmarkFigures


class Close(NamedTuple):
    """One ticker's session: its first open and its last close, in the shares of that day."""

    session: date
    ticker: str
    open: float
    close: float


def benchmark(
    rows: Sequence[Close], sessions: Sequence[date], net: FloatArray, *, cost_bps: float
) -> BenchmarkFigures | None:
    """Return the buy-and-hold of the tickers that have an open in the first of `sessions`; None where none has.

    net: the bot's P&L over the same sessions, to be compared in pairs. Bought at the first session's open, held over
    night, without dividends. The ledger knows no splits: a night whose jump looks like one counts as no return.
    """
    span = set(sessions)
    prices = {(row.session, row.ticker): (row.open, row.close) for row in rows if row.session in span}
    tickers = tuple(sorted(ticker for session, ticker in prices if session == sessions[0]))
    if not tickers:
        return None
    whole, split = _in_one_currency(prices, tickers)
    closes = np.full((1 + len(sessions), len(tickers)), np.nan)
    for column, ticker in enumerate(tickers):
        closes[0, column] = whole[sessions[0], ticker][0]
        for row, session in enumerate(sessions, start=1):
            closes[row, column] = whole.get((session, ticker), (np.nan, np.nan))[1]
    held = np.array([mark.net for mark in replay.buy_and_hold(closes, cost_bps=cost_bps)])
    difference = replay.compare(net, held)
    return BenchmarkFigures(
        tickers=tickers,
        sharpe=defined(lambda: metrics.sharpe(held)),
        sharpe_interval=sharpe_interval(held),
        pnl=float(held.sum()),
        max_drawdown=metrics.max_drawdown(held),
        difference=difference.difference,
        difference_interval=difference.interval,
        pnl_by_session={day.isoformat(): each for day, each in zip(sessions, held.tolist(), strict=True)},
        note=f"nights that look like a split count as no return: {', '.join(split)}" if split else "",
    )


def _in_one_currency(
    prices: Mapping[tuple[date, str], tuple[float, float]], tickers: Sequence[str]
) -> tuple[dict[tuple[date, str], tuple[float, float]], list[str]]:
    """Return the prices in the shares of the first session, and the nights that were taken for a split."""
    nights = {(finding.session, finding.ticker) for finding in unannounced_splits(_as_bars(prices), ())}
    found, told = {}, []
    for ticker in tickers:
        factor, before = 1.0, 0.0
        for session in sorted(day for day, name in prices if name == ticker):
            first, last = prices[session, ticker]
            if before and (session, ticker) in nights:
                factor *= before / first
                told.append(f"{ticker} before {session}")
            found[session, ticker] = (first * factor, last * factor)
            before = last
    return found, told


def _as_bars(prices: Mapping[tuple[date, str], tuple[float, float]]) -> pl.DataFrame:
    """Return two bars a session, at its open and its close, for the one rule that knows a split by its looks."""
    rows = []
    for (session, ticker), (first, last) in prices.items():
        noon = datetime.combine(session, time(12), UTC)
        rows += [(ticker, noon, session, first), (ticker, noon + timedelta(minutes=1), session, last)]
    return pl.DataFrame(rows, schema=["ticker", "ts", "session", "close"], orient="row")
