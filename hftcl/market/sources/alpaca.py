"""The source `alpaca`: minute bars and splits from Alpaca's market data service, many tickers with one call.

Sources: https://docs.alpaca.markets/reference/stockbars (limit counts the bars of all symbols; sorted by symbol, then
time; `t` is the START of the minute; `asof` follows renamed symbols) and
https://docs.alpaca.markets/reference/corporateactions-1 (forward and reverse splits by ex_date).
"""

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any, Final
from zoneinfo import ZoneInfo

import polars as pl

from hftcl.formats import format_moment, name_some
from hftcl.market.bars import RAW_SCHEMA, TS
from hftcl.market.columns import choose_columns, extend_schema
from hftcl.market.sources import Question, Split, build_split
from hftcl.market.sources.alpaca_rest import DataService, Keys, build_untrusted_error, find_keys
from hftcl.market.sources.transport import TRIES, parse_figure, quote_ticker
from hftcl.settings import Settings

MOST_BARS: Final = 10_000
"""Of a page, all symbols together."""
_MOST_SYMBOLS: Final = 100  # chosen: a request line of 100 tickers stays below the 2,000 characters that proxies take
_MOST_HELD: Final = 200_000
"""Bars that one batch may bring: 10 MB that wait for those who asked."""
_FRESH_S: Final = 3600.0  # seconds: corporate actions change daily, not within an hour
_NEW_YORK: Final = ZoneInfo("America/New_York")
_FIGURES: Final = {"open": "o", "high": "h", "low": "l", "close": "c", "volume": "v"}
FURTHER: Final = {"vwap": "vw", "trades": "n"}
"""Further numbers of a bar by our names; the stream has them too, docs/real-time-stock-pricing-data."""
_FIRST_ACTIONS: Final = date(2000, 1, 1)  # before all bars of the service, which begin in 2016


class AlpacaSource:
    """Alpaca as a `BarSource`: unadjusted prices of the exchange IEX or of all exchanges (SIP), as the plan allows."""

    name = "alpaca"
    synthetic = False
    label_known = True

    def __init__(
        self,
        settings: Settings,
        *,
        keys: Keys | None = None,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        tries: int = TRIES,
    ) -> None:
        """Find the keys; nothing is sent yet. Raises ConfigError where one is missing, or the address is not one."""
        self._service = DataService(settings, keys or find_keys(settings), clock=clock, sleep=sleep, tries=tries)
        self._feed = settings.alpaca.data_feed
        self.columns = choose_columns(settings.market.columns, tuple(FURTHER), f"the source {self.name!r}")
        self._clock = clock
        self._questions: tuple[Question, ...] = ()
        self._watched: tuple[str, ...] = ()
        self._waiting: dict[Question, pl.DataFrame] = {}
        self._table: tuple[float, frozenset[str], tuple[Split, ...]] | None = None

    def fingerprint(self, ticker: str) -> str:
        """Return what identifies these bars: bars of one exchange are others than those of all."""
        return f"alpaca 1Min raw {self._feed}"

    def expect(self, tickers: tuple[str, ...], first: date, questions: tuple[Question, ...], *, kept: bool) -> None:
        """Hear what comes: tickers of one range are then asked for together."""
        self._watched, self._questions = tickers, questions
        self._waiting.clear()

    def report_steps(self, on_step: Callable[[str], None] | None) -> None:
        """Call `on_step` with the name of each page that is asked for."""
        self._service.transport.report_steps(on_step)

    def minutes(self, ticker: str, first: date, last: date) -> pl.DataFrame:
        """Return raw bars of the New York days `first` to `last`, both included, as RAW_SCHEMA.

        A figure or stamp that is none is null; `bars.clean` counts them. Raises SourceError where a page is missing or
        not what was asked for, and where key or plan do not suffice.
        """
        question = Question(ticker, first, last)
        if question not in self._waiting:
            self._waiting |= self._fetch(self._batch(question))
        return self._waiting.pop(question)

    def splits(self, ticker: str) -> tuple[Split, ...]:
        """Return the known splits of `ticker`, oldest first, each once; those of a watchlist in one call an hour."""
        quote_ticker(ticker)  # refuses what cannot be a ticker
        wanted = frozenset((*self._watched, ticker))
        now = self._clock()
        if self._table is None or not 0 <= now - self._table[0] < _FRESH_S or not wanted <= self._table[1]:
            found: set[Split] = set()
            names = sorted(wanted)
            for place in range(0, len(names), _MOST_SYMBOLS):
                found |= set(self._fetch_splits_of(names[place : place + _MOST_SYMBOLS]))
            ordered = sorted(found, key=lambda split: (split.execution_date, split.ratio))
            self._table = now, wanted, tuple(ordered)
        return tuple(split for split in self._table[2] if split.ticker == ticker)

    def known_until(self, tickers: tuple[str, ...], now: datetime) -> datetime | None:
        """Return `now`: the market goes on, and each call may bring a newer bar."""
        return now

    def clock_ahead_s(self) -> float | None:
        """Return the seconds by which this clock is ahead of the service's, by its newest answer; None before one."""
        return self._service.transport.clock_ahead_s

    def _batch(self, question: Question) -> tuple[Question, ...]:
        """Return the questions that are asked with this one: those of the same days that come next, within bounds."""
        days = (question.last - question.first).days + 1
        most = min(_MOST_SYMBOLS, max(1, _MOST_HELD // (days * 960)))
        same = [q for q in self._questions if (q.first, q.last) == (question.first, question.last)]
        if question not in same:
            return (question,)
        place = same.index(question)
        return tuple(same[place : place + most])

    def _fetch(self, questions: tuple[Question, ...]) -> dict[Question, pl.DataFrame]:
        first, last = questions[0].first, questions[0].last
        tickers = [question.ticker for question in questions]
        for ticker in tickers:
            quote_ticker(ticker)
        begin, end = (
            datetime.combine(day, datetime.min.time(), _NEW_YORK) for day in (first, last + timedelta(days=1))
        )
        rows = ask_bars(self._service, self._feed, tickers, begin, end - timedelta(seconds=1))
        return {question: _build_frame(question.ticker, rows[question.ticker], self.columns) for question in questions}

    def _fetch_splits_of(self, tickers: list[str]) -> Iterator[Split]:
        today = datetime.fromtimestamp(self._clock(), UTC).date()
        query = {
            "symbols": ",".join(tickers),
            "types": "forward_split,reverse_split",
            "start": str(_FIRST_ACTIONS),
            "end": str(today + timedelta(days=30)),
            "limit": "1000",
        }
        for part, page in self._service.fetch_pages(
            "/v1/corporate-actions", query, f"the splits of {name_some(tickers, 3)}"
        ):
            actions = page.get("corporate_actions")
            if not isinstance(actions, dict):
                raise build_untrusted_error(part, "holds no corporate actions")
            for kind in ("forward_splits", "reverse_splits"):
                for row in actions.get(kind) or ():
                    yield _split(row, part)


def ask_bars(
    service: DataService, feed: str, tickers: list[str], begin: datetime, end: datetime
) -> dict[str, list[dict[str, Any]]]:
    """Return the vendor's rows of the minutes that begin from `begin` to `end`, both included, for each ticker.

    Raises SourceError for an answer about something else, or one whose pages do not follow each other.
    """
    query = {
        "symbols": ",".join(tickers),
        "timeframe": "1Min",
        "start": begin.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "end": end.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "limit": str(MOST_BARS),
        "adjustment": "raw",
        "feed": feed,
        "sort": "asc",
    }
    span = f"{format_moment(begin)} to {format_moment(end)}"
    rows: dict[str, list[dict[str, Any]]] = {ticker: [] for ticker in tickers}
    for part, page in service.fetch_pages("/v2/stocks/bars", query, f"{name_some(tickers, 3)} {span}"):
        bars = page.get("bars")
        if bars is None:
            bars = {}
        if not isinstance(bars, dict):
            raise build_untrusted_error(part, "holds no bars by symbol")
        if not any(bars.values()) and page["next_page_token"]:
            raise build_untrusted_error(part, "holds nothing and names a next page")
        for ticker, more in bars.items():
            if ticker not in rows:
                raise build_untrusted_error(part, "holds the bars of another ticker")
            if not isinstance(more, list) or not all(isinstance(row, dict) for row in more):
                raise build_untrusted_error(part, "holds bars that are not a list of objects")
            rows[ticker] += more
    return rows


def stamp(text: object) -> datetime | None:
    """Return the moment (UTC) of a stamp in RFC 3339, to the microsecond; None for what is none."""
    if not isinstance(text, str):
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at.astimezone(UTC) if at.tzinfo is not None else None


def _build_frame(ticker: str, rows: list[dict[str, Any]], columns: Sequence[str]) -> pl.DataFrame:
    stamps = pl.Series([stamp(row.get("t")) for row in rows], dtype=TS)
    figures = {
        ours: pl.Series([parse_figure(row.get(theirs)) for row in rows], dtype=pl.Float64)
        for ours, theirs in {**_FIGURES, **{name: FURTHER[name] for name in columns}}.items()
    }
    schema = extend_schema(RAW_SCHEMA, columns)
    return pl.DataFrame({"ticker": [ticker] * len(rows), "ts": stamps, **figures}, schema=schema)


def _split(row: Any, part: str) -> Split:
    try:
        day, ticker = date.fromisoformat(row["ex_date"]), row["symbol"]
        before, after = parse_figure(row["old_rate"]), parse_figure(row["new_rate"])
    except (KeyError, TypeError, ValueError):
        raise build_untrusted_error(part, "hold one without a date or rates") from None
    return build_split(str(ticker), day, before, after, partial(build_untrusted_error, part))
