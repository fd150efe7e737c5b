"""The price of each ticker that was traded, minute by minute, with its trades on it: what a page draws.

Reads the stored bars, and asks no source for one. Changes nothing.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

import polars as pl

from hftcl.errors import HftclError
from hftcl.home import Home
from hftcl.market.sessions import Calendar
from hftcl.market.sources import open_source
from hftcl.market.store import BarStore
from hftcl.performance.book import choose_bounds
from hftcl.performance.reports import PerformanceReport, TradeRow
from hftcl.settings import Settings

_TICKERS_SHOWN: Final = 8  # charts: a page that is still read to its end, and some 60 kB of it
_POINTS: Final = 240  # of each line: one for every fourth unit of a chart
_DAY: Final = timedelta(days=1)  # by which a session's own day and UTC's may differ


@dataclass(frozen=True, slots=True, kw_only=True)
class PricePoint:
    """A price in USD at `ts`, UTC. place: in sessions since the first one's open; 0.5 is the middle of the first."""

    place: float
    ts: datetime
    price: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TradedPrices:
    """A ticker over the sessions of its trades. points: closes of bars, or what was paid where no bars are stored."""

    ticker: str
    sessions: tuple[date, ...]
    points: tuple[PricePoint, ...]
    entries: tuple[tuple[PricePoint, TradeRow], ...]
    exits: tuple[tuple[PricePoint, TradeRow], ...]
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceCharts:
    """The tickers that were traded most often, and how many others were traded."""

    charts: tuple[TradedPrices, ...] = ()
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Clock:
    """Where a moment stands in a row of sessions. hours: session, open and close of each, UTC."""

    hours: Sequence[tuple[date, datetime, datetime]]

    def place(self, ts: datetime) -> float:
        """Return the session's number and the share of it that has passed; a moment between two is the later's open."""
        for number, (_, begin, end) in enumerate(self.hours):
            if ts < end:
                return number + max((ts - begin) / (end - begin), 0.0)
        return float(len(self.hours))


def read_prices(settings: Settings, report: PerformanceReport) -> PriceCharts:
    """Return the prices of the tickers of the trades that `report` lists. What cannot be read is told in a note."""
    counts = Counter(trade.ticker for trade in report.trades)
    ranked = sorted(counts, key=lambda ticker: (-counts[ticker], ticker))
    if not ranked:
        return PriceCharts()
    store, why = _open_store(settings, report)
    calendar = Calendar(settings.market.calendar)
    charts = []
    for ticker in ranked[:_TICKERS_SHOWN]:
        trades = [trade for trade in report.trades if trade.ticker == ticker]
        charts.append(_build_chart(settings, calendar, store, why, trades))
    return PriceCharts(charts=tuple(charts), left_out=tuple(ranked[_TICKERS_SHOWN:]))


def _open_store(settings: Settings, report: PerformanceReport) -> tuple[BarStore | None, str]:
    """Return the bars of the market that was traded, or why there are none: another source's would mislead."""
    try:
        source = open_source(settings)
    except HftclError as fault:
        return None, str(fault)
    if source.name != report.source:
        return None, f"the bars of {report.source} are not those that hftcl.toml names"
    return BarStore(Home.of(settings).bars, source, Calendar(settings.market.calendar)), ""


def _build_chart(
    settings: Settings, calendar: Calendar, store: BarStore | None, why: str, trades: Sequence[TradeRow]
) -> TradedPrices:
    first, last = min(trade.opened for trade in trades), max(trade.closed for trade in trades)
    begins, ends = choose_bounds(settings)
    around = calendar.list_sessions(first.date() - _DAY, last.date() + _DAY)  # a session may begin on the day before
    table = around.filter((pl.col(ends) > first) & (pl.col(begins) <= last))
    clock = _Clock(table.select("session", begins, ends).rows())
    ticker, days = trades[0].ticker, tuple(table["session"].to_list())
    points, note = _read_points(store, ticker, table.select("session", begin=begins, end=ends), clock)
    if not points:
        paid = sorted({(at, price) for trade in trades for at, price in _list_prices(trade)})
        points = tuple(PricePoint(place=clock.place(at), ts=at, price=price) for at, price in paid)
        note = f"what was paid and got, and no bars: {why or note}"
    return TradedPrices(
        ticker=ticker,
        sessions=days,
        points=points,
        entries=tuple((_mark(clock, trade.opened, trade.entry), trade) for trade in trades),
        exits=tuple((_mark(clock, trade.closed, trade.exit), trade) for trade in trades),
        note=note,
    )


def _list_prices(trade: TradeRow) -> tuple[tuple[datetime, float], tuple[datetime, float]]:
    return (trade.opened, trade.entry), (trade.closed, trade.exit)


def _mark(clock: _Clock, ts: datetime, price: float) -> PricePoint:
    return PricePoint(place=clock.place(ts), ts=ts, price=price)


def _read_points(
    store: BarStore | None, ticker: str, hours: pl.DataFrame, clock: _Clock
) -> tuple[tuple[PricePoint, ...], str]:
    """Return the closes of the stored bars within the hours of trading, evenly thinned, and what is to be said."""
    if hours.is_empty():  # traded while the hours that count were longer
        return (), "every trade lies outside the hours of trading"
    if store is None:
        return (), ""
    try:
        bars, findings = store.read_sessions(ticker, hours["session"].to_list())
    except HftclError as fault:
        return (), str(fault)
    bars = bars.join(hours, on="session").filter(pl.col("ts").is_between("begin", "end", closed="left")).sort("ts")
    if bars.is_empty():
        return (), "; ".join(f"{finding.reason}: {finding.detail}" for finding in findings) or "none are stored"
    step = -(-bars.height // _POINTS)
    places = [*range(step - 1, bars.height, step)]
    kept = bars.gather(places).select("ts", "close").rows()
    note = f"a point every {step} minutes" if step > 1 else ""
    return tuple(_mark(clock, ts, close) for ts, close in kept), note
