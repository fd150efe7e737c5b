"""The source `polygon`: minute bars and splits from Polygon's REST service, also named Massive.

Pages are followed and checked one by one: what comes back is the whole range, or a SourceError. Calls are dear on the
small plans: a range of 60 days is one, the splits of a whole watchlist are one, and what was asked for a moment ago is
not asked for again.
"""

import itertools
import logging
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any, Final

import polars as pl

from hftcl.errors import ConfigError, SourceError
from hftcl.home import Home
from hftcl.market.bars import RAW_SCHEMA
from hftcl.market.columns import choose_columns, extend_schema
from hftcl.market.sources import Question, Split, build_split
from hftcl.market.sources.ahead import Ahead
from hftcl.market.sources.polygon_bars import (
    FURTHER,
    Bar,
    Bars,
    build_frame,
    decode_page,
)
from hftcl.market.sources.polygon_memory import REMEMBERED
from hftcl.market.sources.polygon_names import Names, fetch_names
from hftcl.market.sources.polygon_rest import TRIES, Key, Rest, is_same_path, quote_ticker
from hftcl.market.sources.rate_limit import RateLimiter
from hftcl.market.sources.transport import decode, is_number, parse_figure
from hftcl.market.sources.vendor_time import read_steady_clock
from hftcl.settings import Settings

log = logging.getLogger(__name__)

# One vendor, its old name first: keys stay valid, https://massive.com/blog/announcing-docs-v2
KEY_VARIABLES: Final = ("POLYGON_API_KEY", "MASSIVE_API_KEY")
# The most that one answer holds,
# https://massive.com/knowledge-base/article/what-is-the-function-of-the-limit-parameter-in-massives-aggregate-endpoint
MOST_BARS: Final = 50_000
# No share splits twice alike within a month, but a day of execution is corrected by days.
_SAME_SPLIT: Final = timedelta(days=31)
_FRESH_S: Final = 3600.0
"""How long a split table serves: a bot that runs for weeks hears of a new split the same morning."""
_DAYS_A_PAGE: Final = 150
"""Days of the whole market's splits that surely fit into a page of 1,000 (it has some 2,000 a year)."""
_BUSY_PLAN: Final = 60
"""Calls a minute from which on several at once save time."""
_THREADS, _WAITING = 4, 8  # four calls at once hide the latency of each; eight answers waiting are 40 MB
_NEW_NAME_DAYS: Final = 7
"""Calendar days without a bar at the start of a range after which it may have traded under another name: no run of
holidays is as long."""
_Object = dict[str, Any]
_Rows = Bars | list[_Object]


class PolygonSource:
    """Polygon as a `BarSource`: unadjusted prices, the whole extended day, at the pace that the plan allows."""

    name = "polygon"
    synthetic = False
    label_known = True

    def __init__(
        self,
        settings: Settings,
        *,
        key: str | None = None,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        tries: int = TRIES,
        steady: Callable[[], float] = read_steady_clock,
    ) -> None:
        """Find the key; nothing is sent yet. Raises ConfigError where there is none, or the address is not one.

        key: instead of the one in the environment or the .env file. clock (Unix seconds), sleep and steady: for tests.
        tries: of one call, where it is not answered.
        """
        options = settings.polygon
        counted = Home.of(settings).polygon_calls
        self._clock = clock
        self._pace = options.calls_per_minute
        self.columns = choose_columns(settings.market.columns, tuple(FURTHER), f"the source {self.name!r}")
        self._place = f"{options.base_url} {self.columns}"
        self._ahead: Ahead | None = None
        self._remembers = False
        self._oldest: date | None = None
        self._watched: frozenset[str] = frozenset()
        self._tables: dict[str, tuple[float, date | None, tuple[Split, ...]]] = {}
        self._names: dict[str, Names] = {}
        self._rest = Rest(
            options.base_url,
            _find_key(settings) if key is None else Key(KEY_VARIABLES[0], key),
            timeout_s=options.timeout_s,
            limiter=RateLimiter(counted, options.calls_per_minute, clock=clock, sleep=sleep),
            clock=clock,
            sleep=sleep,
            tries=tries,
            steady=steady,
        )

    def fingerprint(self, ticker: str) -> str:
        """Return what identifies these bars: the service and how it was asked, whichever host answered."""
        return "polygon 1/minute adjusted=false"

    def minutes(self, ticker: str, first: date, last: date) -> pl.DataFrame:
        """Return raw bars of the days `first` to `last`, both included, as RAW_SCHEMA and the columns.

        A day is New York's for shares, UTC's for a market that never closes. A figure that is missing or no number is
        null, as is a stamp that no calendar knows; `bars.clean` counts them. Raises SourceError where a page is missing
        or not what was asked for, and where key or plan do not suffice.
        """
        question = Question(ticker, first, last)
        if (known := REMEMBERED.take(self._place, question, self._clock())) is not None:
            return known
        try:
            bars = self._ahead.take(question) if self._ahead else None
        except SourceError:
            self._stop_ahead()
            raise
        bars = self._fetch_whole(question) if bars is None else bars
        if self._remembers:
            REMEMBERED.put(self._place, question, bars, self._clock())
        return bars

    def expect(self, tickers: tuple[str, ...], first: date, questions: tuple[Question, ...], *, kept: bool) -> None:
        """Hear what comes: splits are then asked for once for all `tickers`, and bars ahead where the plan allows.

        Answers that are not kept are remembered for a while: the retrain that follows a check asks the same again.
        """
        self._stop_ahead()
        self._remembers = not kept
        questions = tuple(q for q in questions if not REMEMBERED.has(self._place, q, self._clock()))
        self._watched = frozenset(tickers)
        self._oldest = first if self._oldest is None else min(first, self._oldest)
        if self._pace >= _BUSY_PLAN and len(questions) > 1:
            self._ahead = Ahead(self._fetch_whole, questions, threads=_THREADS, most=_WAITING)

    def report_steps(self, on_step: Callable[[str], None] | None) -> None:
        """Call `on_step` with the name of each page that is asked for."""
        self._rest.transport.report_steps(on_step)

    def _stop_ahead(self) -> None:
        if self._ahead is not None:
            self._ahead.stop()
            self._ahead = None

    def _fetch_whole(self, question: Question) -> pl.DataFrame:
        """Return the raw bars of a question, those under an earlier name of the ticker included."""
        ticker, first, last = question.ticker, question.first, question.last
        bars = self._fetch_named(ticker, ticker, first, last)
        oldest = bars["ts"].min()
        begins = oldest.date() if isinstance(oldest, datetime) else last
        if ":" in ticker or (begins - first).days < _NEW_NAME_DAYS:
            return bars
        parts = []
        for name, since, until in self._fetch_names(ticker).iterate_within(first, last):
            if name != ticker:
                log.info("bars under an earlier name ticker=%r name=%r first=%s last=%s", ticker, name, since, until)
                parts.append(self._fetch_named(ticker, name, since, until))
        return pl.concat([*parts, bars]) if parts else bars

    def _fetch_named(self, ticker: str, name: str, first: date, last: date) -> pl.DataFrame:
        """Return the bars that the service has under `name`, as those of `ticker`."""
        windows = _divide_into_windows(name, first, last)
        pages = (page for begin, end in windows for page in self._fetch_window(name, begin, end))
        parts = [build_frame(ticker, rows, self.columns) for rows in pages]
        return pl.concat(parts, rechunk=True) if parts else extend_schema(RAW_SCHEMA, self.columns).to_frame()

    def _fetch_names(self, ticker: str) -> Names:
        """Return the names that `ticker` had; where the service does not say, that it always had this one."""
        if ticker not in self._names:
            self._names[ticker] = fetch_names(self._rest, ticker)
        return self._names[ticker]

    def splits(self, ticker: str) -> tuple[Split, ...]:
        """Return the known splits of `ticker`, oldest first, each once.

        The vendor lists some twice, under two days less than a month apart: the later one is kept, with a warning.
        Raises SourceError as `minutes` does.
        """
        quote_ticker(ticker)  # refuses what cannot be a ticker
        oldest = self._oldest
        pages = 1 + (datetime.fromtimestamp(self._clock(), UTC).date() - oldest).days // _DAYS_A_PAGE if oldest else 0
        if oldest is None or ticker not in self._watched or pages >= len(self._watched):
            query = {"ticker": ticker, "limit": "1000", "sort": "execution_date", "order": "asc"}
            return self._split_table(ticker, query, f"the splits of {ticker}", None)
        query = {"execution_date.gte": str(oldest), "limit": "1000", "sort": "execution_date", "order": "asc"}
        table = self._split_table("", query, f"the splits since {oldest}", oldest)
        return tuple(split for split in table if split.ticker == ticker)

    def _split_table(self, ticker: str, query: dict[str, str], what: str, since: date | None) -> tuple[Split, ...]:
        """Return the splits of `ticker`, of all watched ones where it is "", asked for once an hour."""
        now = self._clock()
        known = self._tables.get(ticker)
        if known is not None and 0 <= now - known[0] < _FRESH_S and known[1] == since:
            return known[2]
        wanted = {ticker} if ticker else self._watched
        found: set[Split] = set()
        for part, _, rows in self._fetch_pages("/v3/reference/splits", query, what):
            found |= {_parse_split(row, part) for row in rows if isinstance(row, dict) and row.get("ticker") in wanted}
        by_ticker: dict[str, list[Split]] = {}
        for split in sorted(found, key=lambda s: (s.ticker, s.execution_date, s.ratio, s.split_from)):
            by_ticker.setdefault(split.ticker, []).append(split)
        table = tuple(split for splits in by_ticker.values() for split in _drop_repeats(splits))
        self._tables[ticker] = now, since, table
        return table

    def known_until(self, tickers: tuple[str, ...], now: datetime) -> datetime | None:
        """Return `now`: the market goes on, and each call may bring a newer bar."""
        return now

    def clock_ahead_s(self) -> float | None:
        """Return the seconds by which this clock is ahead of the service's, by its newest answer; None before one."""
        return self._rest.transport.clock_ahead_s

    def _fetch_window(self, ticker: str, begin: date, end: date) -> list[_Rows]:
        """Return the pages of one window as delivered, each checked against the question."""
        what = f"{ticker} {begin}" if begin == end else f"{ticker} {begin} to {end}"
        path = f"/v2/aggs/ticker/{quote_ticker(ticker)}/range/1/minute/{begin}/{end}"
        query = {"adjusted": "false", "sort": "asc", "limit": str(MOST_BARS)}
        pages: list[_Rows] = []
        adjusted = delayed = False
        for part, page, rows in self._fetch_pages(path, query, what):
            if page.get("ticker", ticker) != ticker:
                raise _build_untrusted_error(part, "holds the bars of another ticker")
            if not isinstance(rows, Bars) and not all(is_number(row.get("t")) for row in rows):
                raise _build_untrusted_error(part, "holds a bar without a time")
            pages.append(rows)
            adjusted = adjusted or bool(page.get("adjusted"))
            delayed = delayed or page["status"] == "DELAYED"
        if adjusted and any(split.execution_date > begin for split in self.splits(ticker)):
            # Without a split since, adjusted and unadjusted bars are the same.
            raise _build_untrusted_error(what, "came adjusted for splits, although unadjusted bars were asked for")
        if delayed:
            log.info("bars are delayed ticker=%r first=%s last=%s", ticker, begin, end)
        return pages

    def _fetch_pages(self, path: str, query: dict[str, str], what: str) -> Iterator[tuple[str, _Object, _Rows]]:
        """Yield (name, page, its rows) until a page names no next one; each page after the first must bring news.

        Raises SourceError for a next page that was read before, or that answers another question.
        """
        asked: set[tuple[str, str]] = set()
        seen: set[str] = set()
        part = f"page 1 of {what}"
        page = self._rest.get(path, query, part, decode_body=self._choose_decoder(path))
        unadjusted = page.get("adjusted") is False
        for n in itertools.count(2):
            rows = _read_results(page, part)
            alone = not seen and not page.get("next_url")  # the usual answer; to compare 50,000 rows takes its time
            news = set() if alone else {_identify(row) for row in rows} - seen
            if seen and not news and (rows or page.get("next_url")):
                raise _build_untrusted_error(part, "holds nothing that the pages before did not hold")
            yield part, page, rows
            if not page.get("next_url"):
                return
            seen |= news
            target = self._rest.parse_next_url(page["next_url"], part)
            if not is_same_path(_strip_range(target[0]), _strip_range(path)):
                raise _build_untrusted_error(part, "names a next page that answers another question")
            if target in asked:
                raise _build_untrusted_error(part, "names a next page that was read before")
            asked.add(target)
            part = f"page {n} of {what}"
            page = self._fetch_next(*target, part, unadjusted=unadjusted)

    def _choose_decoder(self, path: str) -> Callable[[bytes], _Object | None]:
        """Return what reads the answers of a path: those with bars have a quick way."""
        return partial(decode_page, columns=self.columns) if path.startswith("/v2/aggs/") else decode

    def _fetch_next(self, path: str, cursor: str, part: str, *, unadjusted: bool) -> _Object:
        """Return the page behind a next_url; ask again where the cursor forgot that prices are wanted unadjusted."""
        page = self._rest.get(f"{path}?{cursor}", {}, part, decode_body=self._choose_decoder(path))
        if unadjusted and page.get("adjusted") and "adjusted=" not in cursor:
            page = self._rest.get(f"{path}?{cursor}&adjusted=false", {}, part, decode_body=self._choose_decoder(path))
        return page


def _find_key(settings: Settings) -> Key:
    from hftcl.config import read_secret

    for variable in KEY_VARIABLES:
        if value := (read_secret(variable, settings, os.environ) or "").strip():
            return Key(variable, value)
    raise ConfigError(
        f'[market] source = "polygon" needs a key: set {KEY_VARIABLES[0]} in the environment or in the file '
        f"{settings.paths.env_file}, or take another source."
    )


def _divide_into_windows(ticker: str, first: date, last: date) -> Iterator[tuple[date, date]]:
    """Yield (first, last) of the stretches whose every possible minute fits into one page, in order.

    A US share can have 960 minutes on a weekday; what carries a prefix (X:BTCUSD, C:EURUSD) trades around the clock.
    """
    always = ":" in ticker
    begin, room, day = first, MOST_BARS, first
    while day <= last:
        need = 1440 if always else 960 if day.weekday() < 5 else 0
        if need > room:
            yield begin, day - timedelta(days=1)
            begin, room = day, MOST_BARS
        room -= need
        day += timedelta(days=1)
    if begin <= last:
        yield begin, last


def _strip_range(path: str) -> str:
    """Return `path` without the range of time at its end, whose start a next_url moves."""
    return path.rsplit("/", 2)[0] if path.startswith("/v2/aggs/") else path


def _identify(row: _Object | Bar) -> str:
    """Return what tells a row from others of the same question: a bar's time, a split's day and ratio."""
    if isinstance(row, Bar):
        return str([row.t, None, None, None, None, None])
    return str([row.get(name) for name in ("t", "id", "ticker", "execution_date", "split_from", "split_to")])


def _read_results(page: _Object, what: str) -> _Rows:
    """Return the rows of a page; none where it has no `results`, which is how the service says "none"."""
    rows = page.get("results")
    rows = [] if rows is None else rows
    if not isinstance(rows, Bars) and not (isinstance(rows, list) and all(isinstance(row, dict) for row in rows)):
        raise _build_untrusted_error(what, "holds results that are not a list of objects")
    for name in ("resultsCount", "count"):
        if page.get(name, len(rows)) != len(rows):
            raise _build_untrusted_error(what, f"holds {len(rows)} results and claims {name} {page[name]!s:.20}")
    return rows


def _parse_split(row: _Object, what: str) -> Split:
    before, after = parse_figure(row.get("split_from")), parse_figure(row.get("split_to"))
    try:
        day = date.fromisoformat(row["execution_date"])
    except (KeyError, TypeError, ValueError):
        raise _build_untrusted_error(what, "hold one without a date") from None
    return build_split(row["ticker"], day, before, after, partial(_build_untrusted_error, what))


def _drop_repeats(splits: list[Split]) -> tuple[Split, ...]:
    """Drop each split that a later one within a month repeats: no share splits 10:1 twice in a week."""
    kept: list[Split] = []
    for split in splits:
        earlier = next(
            (k for k in kept if k.ratio == split.ratio and split.execution_date - k.execution_date <= _SAME_SPLIT), None
        )
        if earlier is not None:
            log.warning(
                "split listed twice, the later day is kept ticker=%r ratio=%g dropped=%s kept=%s",
                split.ticker,
                split.ratio,
                earlier.execution_date,
                split.execution_date,
            )
            kept.remove(earlier)
        elif any(k.execution_date == split.execution_date for k in kept):
            log.warning("two splits on one day, both applied ticker=%r day=%s", split.ticker, split.execution_date)
        kept.append(split)
    return tuple(kept)


def _build_untrusted_error(what: str, fault: str) -> SourceError:
    return SourceError(f"Polygon: {what} {fault}. The range is incomplete and is not used; try again later.")
