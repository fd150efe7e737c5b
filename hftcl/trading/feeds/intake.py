"""From what a vendor sends to what the bot may trade on: clean, of this minute, and told apart from corrections.

No clock, no network.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
import polars as pl

from hftcl.market.bars import BAR_SCHEMA, DROPPED, RAW_SCHEMA, Finding, clean, find_faults, is_wild, label
from hftcl.market.columns import extend_schema
from hftcl.market.hours import Hours
from hftcl.strategy.risk import Code
from hftcl.trading.feeds import Delivery
from hftcl.trading.feeds.known_bars import (
    CLOSE,
    HIGH,
    LOW,
    NEVER,
    Flags,
    FloatArray,
    IntArray,
    KnownBars,
    are_equal,
)

RawBar = tuple[str, datetime | None, *tuple[float | None, ...]]
"""A row of RAW_SCHEMA: ticker, ts (start of the minute, UTC), open, high, low, close, volume; then further columns."""

# What asking for the newest minutes brings along each time; the rest is told.
_NOT_A_FAULT = frozenset({"still_open", "duplicate", "outside_session"})
_QUIET: Final = [
    number for number, reason in enumerate(DROPPED, 1) if reason in _NOT_A_FAULT
]  # as `find_faults` has it


class Intake:
    """The bars of one session as they come in: which are new, which differ from what the bot has decided on."""

    def __init__(self, hours: Hours, tickers: Sequence[str], so_far: pl.DataFrame) -> None:
        """so_far: BAR_SCHEMA, what the bot knows of this session; behind it the columns that later bars have too."""
        self._hours = hours
        self._columns = [name for name in so_far.columns if name not in BAR_SCHEMA]
        self._schema = extend_schema(RAW_SCHEMA, self._columns)
        self._none = extend_schema(BAR_SCHEMA, self._columns).to_frame()
        self._places = {ticker: place for place, ticker in enumerate(dict.fromkeys(tickers))}
        self._known = KnownBars(len(self._places), len(self._schema) - len(("ticker", "ts")))
        self._ahead: list[RawBar] = []
        self._keep(so_far.filter(pl.col("ticker").is_in(list(self._places))))

    def deliver(
        self, rows: Iterable[RawBar], minute: datetime, now: datetime, *, delayed: frozenset[str] = frozenset()
    ) -> Delivery:
        """Return what `rows` bring for `minute`; what they hold of later minutes is kept for those.

        delayed: tickers whose bars come late by contract; they are known, and never traded on.
        """
        raw = [row for row in (*self._ahead, *rows) if row[0] in self._places]
        self._ahead = [row for row in raw if row[1] is not None and row[1] > minute]
        upto = [row for row in raw if row[1] is None or row[1] <= minute] if self._ahead else raw
        came = {ticker: nth for nth, ticker in enumerate(dict.fromkeys(row[0] for row in raw))}
        self._ahead.sort(key=lambda row: came[row[0]])
        frame = pl.DataFrame(upto, schema=self._schema, orient="row")
        plain, odd_rows = self._sift(frame, now)
        parts = [self._none, self._label(frame.filter(plain))]
        findings: list[Finding] = []
        codes = dict.fromkeys(sorted(delayed & self._places.keys()), Code.HOLD_DELAYED)
        for ticker, odd in self._group(upto, odd_rows, came).items():
            bars, ticker_findings = self._clean(ticker, odd, now)
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
        fresh = pl.concat(parts)
        fresh = fresh.filter(self._keep(fresh))
        return Delivery(
            minute=minute,
            bars=fresh.filter(pl.col("ts") == minute).sort("ticker"),
            corrected=fresh.filter(pl.col("ts") < minute).sort("ticker", "ts"),
            codes=codes,
            findings=tuple(findings),
        )

    def _sift(self, frame: pl.DataFrame, now: datetime) -> tuple[Flags, Flags]:
        """Return which rows are good bars of these hours, and which are of tickers that are to be cleaned each by
        itself, for a fault in them is told. One pass for all tickers: a frame for each would take a millisecond.
        """
        places, stamps, figures = self._read(frame)
        figures[~np.isfinite(figures)] = np.nan  # a further number that is not finite is as one that is not there
        hours, first = self._hours, self._known.first
        faults = find_faults(frame, hours.table, now)
        odd = np.zeros(len(self._places), dtype=np.bool_)
        told = (faults > 0) & ~np.isin(faults, _QUIET)
        # Whatever comes of the minute of the first bar stands in for it, and here it is none.
        odd[places[told | ((faults > 0) & (stamps == first[places]))]] = True
        good = np.flatnonzero(faults == 0)
        good = good[np.lexsort((stamps[good], places[good]))]  # rows of one minute stay in the order in which they came
        again = (places[good][1:] == places[good][:-1]) & (stamps[good][1:] == stamps[good][:-1])
        odd[places[good][1:][again & ~are_equal(figures[good][1:], figures[good][:-1])]] = True
        is_last = np.ones(good.size, dtype=np.bool_)
        is_last[:-1] = ~again
        good = good[is_last]
        odd[self._find_wild(places[good], stamps[good], figures[good])] = True
        within = frame["ts"].is_between(hours.begins, hours.ends, closed="left").fill_null(value=False).to_numpy()
        plain = np.zeros(places.size, dtype=np.bool_)
        plain[good] = within[good] & ~odd[places[good]]
        return plain, odd[places]

    def _find_wild(self, places: IntArray, stamps: IntArray, figures: FloatArray) -> IntArray:
        """Return the tickers of which a bar is wildly off the close of the first, be that known or among these.

        The bars are sorted by ticker and minute, each the only one of its minute. Those of the session that lie outside
        the hours are with them: no bars for the bot, and yet the measure of those that are.
        """
        first, known = self._known.first, self._known.first_figures
        leads = np.ones(places.size, dtype=np.bool_)
        leads[1:] = places[1:] != places[:-1]
        leads &= stamps <= first[places]
        measure = known[:, CLOSE].copy()
        measure[places[leads]] = figures[leads, CLOSE]
        behind = places[leads & (stamps < first[places]) & (first[places] != NEVER)]  # the known first is no longer it
        places, figures = np.concatenate([places, behind]), np.concatenate([figures, known[behind]])
        high, low, close = (pl.Series(column) for column in (figures[:, HIGH], figures[:, LOW], measure[places]))
        wild: IntArray = places[is_wild(high, low, close).to_numpy()]
        return wild

    def _group(self, upto: Sequence[RawBar], odd_rows: Flags, came: Iterable[str]) -> dict[str, list[RawBar]]:
        """Return by ticker the rows that are to be cleaned. came: the tickers in the order in which they came."""
        odd = [row for row, is_odd in zip(upto, odd_rows.tolist(), strict=True) if is_odd]
        tickers = {row[0] for row in odd}
        groups: dict[str, list[RawBar]] = {ticker: [] for ticker in came if ticker in tickers}
        for row in odd:
            groups[row[0]].append(row)
        return groups

    def _label(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return good rows as BAR_SCHEMA, as `clean` gives them; a further number that is not finite is null."""
        finite = [pl.when(pl.col(name).is_finite()).then(name) for name in self._columns]
        return label(rows.with_columns(finite) if finite else rows, self._hours.table, self._columns)

    def _clean(self, ticker: str, rows: list[RawBar], now: datetime) -> tuple[pl.DataFrame, tuple[Finding, ...]]:
        """Clean one ticker's rows, against the first good bar of its session, as the store does."""
        hours, place = self._hours, self._places[ticker]
        measure: list[RawBar] = []
        if self._known.first[place] != NEVER:
            first = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=int(self._known.first[place]))
            if all(row[1] != first for row in rows):
                measure = [(ticker, first, *self._known.first_figures[place].tolist())]
        frame = pl.DataFrame([*measure, *rows], schema=self._schema, orient="row")
        bars, findings = clean(frame, hours.table, ticker=ticker, as_of=now, columns=self._columns)
        return bars.filter(pl.col("ts").is_between(hours.begins, hours.ends, closed="left")), findings

    def _keep(self, bars: pl.DataFrame) -> Flags:
        """Remember good bars; return which were unknown, or known otherwise."""
        return self._known.take(*self._read(bars))

    def _read(self, bars: pl.DataFrame) -> tuple[IntArray, IntArray, FloatArray]:
        """Return ticker, minute and figures of bars as `KnownBars` has them; no time is before every time."""
        places = np.array([self._places[ticker] for ticker in bars["ticker"].to_list()], dtype=np.int64)
        stamps = bars["ts"].to_physical().fill_null(-NEVER).to_numpy()
        names = self._schema.names()[len(("ticker", "ts")) :]
        return places, stamps, np.column_stack([bars[name].to_numpy().astype(np.float64) for name in names])
