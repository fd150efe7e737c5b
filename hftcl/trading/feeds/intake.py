"""From what a vendor sends to what the bot may trade on: clean, of this minute, and told apart from corrections.

No clock, no network.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

import polars as pl

from hftcl.market.bars import BAR_SCHEMA, DROPPED, RAW_SCHEMA, Finding, clean
from hftcl.market.columns import extend_schema
from hftcl.market.hours import Hours
from hftcl.strategy.risk import Code
from hftcl.trading.feeds import Delivery

RawBar = tuple[str, datetime | None, *tuple[float | None, ...]]
"""A row of RAW_SCHEMA: ticker, ts (start of the minute, UTC), open, high, low, close, volume; then further columns."""

# What asking for the newest minutes brings along each time; the rest is told.
_NOT_A_FAULT = frozenset({"still_open", "duplicate", "outside_session"})


class Intake:
    """The bars of one session as they come in: which are new, which differ from what the bot has decided on."""

    def __init__(self, hours: Hours, tickers: Sequence[str], so_far: pl.DataFrame) -> None:
        """so_far: BAR_SCHEMA, what the bot knows of this session; behind it the columns that later bars have too."""
        self._hours = hours
        self._wanted = frozenset(tickers)
        self._columns = [name for name in so_far.columns if name not in BAR_SCHEMA]
        self._schema = extend_schema(RAW_SCHEMA, self._columns)
        self._none = extend_schema(BAR_SCHEMA, self._columns).to_frame()
        self._figures: dict[tuple[str, datetime], tuple[float | None, ...]] = {}
        self._first: dict[str, RawBar] = {}
        self._ahead: list[RawBar] = []
        for ticker, ts, *figures in so_far.select(self._schema.names()).sort("ts").iter_rows():
            self._keep(ticker, ts, tuple(figures))

    def deliver(
        self, rows: Iterable[RawBar], minute: datetime, now: datetime, *, delayed: frozenset[str] = frozenset()
    ) -> Delivery:
        """Return what `rows` bring for `minute`; what they hold of later minutes is kept for those.

        delayed: tickers whose bars come late by contract; they are known, and never traded on.
        """
        by_ticker: dict[str, list[RawBar]] = {}
        for row in [*self._ahead, *rows]:
            if row[0] in self._wanted:
                by_ticker.setdefault(row[0], []).append(row)
        self._ahead = []
        parts: list[pl.DataFrame] = []
        findings: list[Finding] = []
        codes = dict.fromkeys(sorted(delayed & self._wanted), Code.HOLD_DELAYED)
        for ticker, raw in by_ticker.items():
            bars, ticker_findings = self._clean(ticker, raw, minute, now)
            faults = [
                finding
                for finding in ticker_findings
                if finding.reason in DROPPED and finding.reason not in _NOT_A_FAULT
            ]
            findings += faults
            current = bars.filter(pl.col("ts") == minute)
            if current.is_empty() and any(finding.first == minute for finding in faults):
                codes.setdefault(ticker, Code.HOLD_BAD_PRICE)
            parts.append(bars)
        fresh = pl.concat([self._none, *parts])
        rows_of = fresh.select(self._schema.names()).iter_rows()
        changed = [self._keep(ticker, ts, tuple(figures)) for ticker, ts, *figures in rows_of]
        fresh = fresh.filter(pl.Series(changed, dtype=pl.Boolean))
        return Delivery(
            minute=minute,
            bars=fresh.filter(pl.col("ts") == minute).sort("ticker"),
            corrected=fresh.filter(pl.col("ts") < minute).sort("ticker", "ts"),
            codes=codes,
            findings=tuple(findings),
        )

    def _clean(
        self, ticker: str, raw: list[RawBar], minute: datetime, now: datetime
    ) -> tuple[pl.DataFrame, tuple[Finding, ...]]:
        """Clean one ticker's rows up to `minute`, against the first good bar of its session, as the store does."""
        self._ahead += [row for row in raw if row[1] is not None and row[1] > minute]
        upto = [row for row in raw if row[1] is None or row[1] <= minute]
        first = self._first.get(ticker)
        measure = [first] if first is not None and all(row[1] != first[1] for row in upto) else []
        frame = pl.DataFrame([*measure, *upto], schema=self._schema, orient="row")
        bars, findings = clean(frame, self._hours.table, ticker=ticker, as_of=now, columns=self._columns)
        hours = self._hours
        return bars.filter(pl.col("ts").is_between(hours.begins, hours.ends, closed="left")), findings

    def _keep(self, ticker: str, ts: datetime, figures: tuple[float | None, ...]) -> bool:
        """Remember a good bar; return whether it was unknown, or known otherwise."""
        if self._figures.get((ticker, ts)) == figures:
            return False
        self._figures[ticker, ts] = figures
        first = self._first.get(ticker)
        if first is None or first[1] is None or ts <= first[1]:
            self._first[ticker] = (ticker, ts, *figures)
        return True
