"""The last good price of each ticker, and which price is too far off to be believed. No I/O."""

from datetime import date, datetime

import polars as pl

from hftcl.ledger.rows import CloseRow


class LastPrices:
    """What the bars of a session have said about prices so far.

    A close further than `collar` (a fraction) from the last good one is doubted, and not taken for a price, until the
    ticker's next bar agrees with it: one wrong print never counts, and a real jump costs one minute.
    """

    def __init__(self, collar: float) -> None:
        self._collar = collar
        self._doubted: dict[str, float] = {}
        self._first: dict[str, float] = {}
        self.prices: dict[str, float] = {}
        """Last good close, USD."""
        self.last: dict[str, datetime] = {}
        """Start of the newest bar of the session."""

    def start(self, earlier: pl.DataFrame) -> None:
        """Take the last closes before the session."""
        newest = earlier.sort("ts").group_by("ticker", maintain_order=True).agg(pl.col("close").last())
        self.prices = dict(newest.iter_rows())

    @property
    def newest(self) -> datetime | None:
        """Start of the newest bar of any ticker."""
        return max(self.last.values(), default=None)

    def take(self, bars: pl.DataFrame) -> frozenset[str]:
        """Take one minute's bars; return the tickers whose price is doubted."""
        doubted = set()
        columns = [bars[name].to_list() for name in ("ticker", "ts", "open", "close")]
        for ticker, ts, first, close in zip(*columns, strict=True):
            self.last[ticker] = ts
            before = self.prices.get(ticker)
            if before is None or self._is_near(close, before) or self._is_near(close, self._doubted.get(ticker)):
                self._first.setdefault(ticker, first)
                self.prices[ticker] = close
                self._doubted.pop(ticker, None)
            else:
                self._doubted[ticker] = close
                doubted.add(ticker)
        return frozenset(doubted)

    def catch_up(self, bars: pl.DataFrame) -> pl.DataFrame:
        """Take those bars of earlier minutes that are news, and return them: a late feed still says what is lost."""
        rows = bars.select("ticker", "ts").iter_rows()
        news = bars[[row for row, (ticker, ts) in enumerate(rows) if ticker not in self.last or ts > self.last[ticker]]]
        if news.height:
            news = news.sort("ts")
        self.take(news)
        return news

    def _is_near(self, close: float, other: float | None) -> bool:
        return other is not None and abs(close / other - 1.0) <= self._collar

    def list_closes(self, session: date) -> list[CloseRow]:
        """Return each ticker's first open and last good close of the session."""
        return [
            CloseRow(session=session, ticker=ticker, ts=self.last[ticker], open=first, close=self.prices[ticker])
            for ticker, first in sorted(self._first.items())
        ]
