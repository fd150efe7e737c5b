"""How the capital is divided among the tickers. Pure."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Final

import numpy as np
import polars as pl

from hftcl.strategy.positions import Weight

# Of an equal weight: what a price moves while it is held stays below twice, the default of [risk] max_position_share.
_MOST: Final = 1.5


def measure_volatility(bars: pl.DataFrame) -> dict[str, float]:
    """Return each ticker's volatility of a session: the root of the mean over its sessions of the squared returns' sum.

    bars: ticker, ts, session, close. The returns are from bar to bar within a session, in logs; no night is in them. A
    ticker whose price never moved is left out. In the order of their names.
    """
    returns = pl.col("close").log().diff().over("ticker", "session", order_by="ts")
    squares = bars.select("ticker", "session", "ts", square=returns**2).sort("ticker", "ts")
    by_ticker = squares.group_by("ticker", maintain_order=True).agg(
        "square", pl.col("session").n_unique().alias("sessions")
    )
    # NumPy adds in one order: a parallel sum would differ in the last bit from one run to the next
    measured = {
        ticker: float(np.sqrt(np.nansum(np.array(values, dtype=np.float64)) / sessions))
        for ticker, values, sessions in by_ticker.iter_rows()
    }
    return {ticker: volatility for ticker, volatility in measured.items() if volatility > 0}


def weigh(watchlist: Sequence[str], volatility: Mapping[str, float] | None) -> Weight:
    """Return what each ticker of the watchlist weighs, as shares of capital that never add up to more than 1.

    volatility: by ticker, where the weights go by its inverse; None: each ticker has 1/N. A ticker without one weighs
    what the others do on average. No weight is above 1.5/N, and what that cuts off is not given to the others.

    >>> weigh(["AAPL", "AMD"], None)
    0.5
    >>> weigh(["AAPL", "AMD"], {"AAPL": 0.01, "AMD": 0.02})
    {'AAPL': 0.6666666666666666, 'AMD': 0.3333333333333333}
    """
    equal = 1.0 / max(len(watchlist), 1)
    tickers = sorted(watchlist)  # one order of adding, however the watchlist is written
    known = [1.0 / volatility[ticker] for ticker in tickers if ticker in volatility] if volatility else []
    if not volatility or not known:
        return equal
    usual = fmean(known)
    parts = {ticker: 1.0 / volatility[ticker] if ticker in volatility else usual for ticker in tickers}
    total = sum(parts.values())
    return {ticker: min(part / total, _MOST / len(tickers)) for ticker, part in parts.items()}
