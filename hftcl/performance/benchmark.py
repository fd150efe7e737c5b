"""What doing nothing clever would have made: the watchlist in equal amounts, bought once and held. Pure."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date
from typing import NamedTuple

import numpy as np
import polars as pl

from hftcl.exam import metrics
from hftcl.exam.compare import compare, compute_worth_of_holding
from hftcl.market.splits import looks_like_split
from hftcl.performance.figures import FloatArray
from hftcl.performance.reports import BenchmarkFigures

_FEW = 2  # sessions without which there is no spread


class Close(NamedTuple):
    """One ticker's session: its first open and its last close, in the shares of that day."""

    session: date
    ticker: str
    open: float
    close: float


_Prices = Mapping[tuple[date, str], tuple[float, float]]


def compute_benchmark(
    rows: Sequence[Close],
    sessions: Sequence[date],
    net: FloatArray,
    *,
    cost_bps: float,
    sessions_per_year: int,
) -> BenchmarkFigures | None:
    """Return the buy-and-hold of the tickers that have an open in the first of `sessions` with any; None without one.

    net: the bot's P&L over the same sessions, to be compared in pairs. Bought at that session's open, held over night,
    without dividends; a session's P&L is the change of what the holding is worth, a fraction of what was paid for it.
    Sessions before it count 0. The ledger knows no splits: a night whose jump looks like one counts as no return.
    """
    span = set(sessions)
    prices = {(row.session, row.ticker): (row.open, row.close) for row in rows if row.session in span}
    if not prices:
        return None
    bought = min(session for session, _ in prices)
    tickers = tuple(sorted(ticker for session, ticker in prices if session == bought))
    whole, split = _adjust_to_first_session(prices, tickers)
    held = _compute_holding_pnl(whole, tickers, sessions, bought, cost_bps)
    difference = compare(net, held, sessions_per_year=sessions_per_year)
    share = _find_equal_risk_share(net, held)
    notes = [
        f"bought on {bought}, the first session with prices" if bought > sessions[0] else "",
        f"nights that look like a split count as no return: {', '.join(split)}" if split else "",
    ]
    return BenchmarkFigures(
        tickers=tickers,
        sharpe=metrics.compute_sharpe_or_none(held, sessions_per_year=sessions_per_year),
        sharpe_interval=metrics.compute_sharpe_interval(held, sessions_per_year),
        pnl=float(held.sum()),
        max_drawdown=metrics.max_drawdown(held),
        difference=difference.difference,
        difference_interval=difference.interval,
        pnl_by_session={day.isoformat(): pnl for day, pnl in zip(sessions, held.tolist(), strict=True)},
        note="; ".join(filter(None, notes)),
        equal_risk_share=share,
        equal_risk_pnl=None if share is None else share * float(held.sum()),
    )


def _find_equal_risk_share(net: FloatArray, held: FloatArray) -> float | None:
    """Return how much of the holding moves as much from session to session as `net` does: known only afterwards."""
    if net.size < _FEW or np.ptp(net) == 0 or np.ptp(held) == 0:
        return None
    return float(net.std(ddof=1) / held.std(ddof=1))


def _compute_holding_pnl(
    prices: _Prices, tickers: Sequence[str], sessions: Sequence[date], bought: date, cost_bps: float
) -> FloatArray:
    """Return each session's P&L, as a fraction of capital, of equal amounts bought at the open of `bought`."""
    days = [session for session in sessions if session >= bought]
    closes = np.full((1 + len(days), len(tickers)), np.nan)
    for column, ticker in enumerate(tickers):
        closes[0, column] = prices[bought, ticker][0]
        for row, session in enumerate(days, start=1):
            closes[row, column] = prices.get((session, ticker), (np.nan, np.nan))[1]
    worth = compute_worth_of_holding(closes)
    assert worth is not None  # noqa: S101 - every one of the tickers has an open on that day
    changes = np.diff(worth)
    changes[0] -= cost_bps / 1e4
    return np.concatenate([np.zeros(len(sessions) - len(days)), changes])


def _adjust_to_first_session(
    prices: _Prices, tickers: Sequence[str]
) -> tuple[dict[tuple[date, str], tuple[float, float]], list[str]]:
    """Return the prices in the shares of the first session, and the nights that were taken for a split."""
    nights = _find_split_nights(prices)
    days: dict[str, list[date]] = defaultdict(list)
    for session, ticker in sorted(prices):
        days[ticker].append(session)
    adjusted_prices, notes = {}, []
    for ticker in tickers:
        factor, before = 1.0, 0.0
        for session in days[ticker]:
            first, last = prices[session, ticker]
            if (session, ticker) in nights:
                factor *= before / first
                notes.append(f"{ticker} before {session}")
            adjusted_prices[session, ticker] = (first * factor, last * factor)
            before = last
    return adjusted_prices, notes


def _find_split_nights(prices: _Prices) -> set[tuple[date, str]]:
    """Return the sessions before which a ticker's price changed as in a split, from the last close to the open."""
    rows = [(session, ticker, first, last) for (session, ticker), (first, last) in prices.items()]
    frame = pl.DataFrame(rows, schema=["session", "ticker", "open", "close"], orient="row").sort("ticker", "session")
    ratio = (pl.col("close").shift(1) / pl.col("open")).over("ticker")
    return set(frame.filter(looks_like_split(ratio)).select("session", "ticker").iter_rows())
