"""The feed `polygon-rest`: once a minute, one call for each ticker, at the pace that the plan allows."""

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from hftcl.errors import ConfigError, SourceError
from hftcl.formats import count, format_clock, name_some
from hftcl.market.bars import MINUTE
from hftcl.market.hours import Hours
from hftcl.market.sources.polygon_bars import FURTHER
from hftcl.market.sources.polygon_rest import CONNECTIONS, Rest, quote_ticker
from hftcl.market.sources.transport import parse_figure
from hftcl.settings import Settings
from hftcl.trading.feeds import Delivery, Morning
from hftcl.trading.feeds.intake import Intake, RawBar
from hftcl.waiting import DaemonThreads

log = logging.getLogger(__name__)

_BACK: Final = 5
"""Minutes before the one asked for that are asked for again: late bars and corrections come with them."""
_PATIENCE_S: Final = 20.0  # a third of the minute: what is decided later would meet another price than the open
_FIGURES: Final = ("o", "h", "l", "c", "v")  # in the order of RAW_SCHEMA
_LAST_MS: Final = 253_402_300_799_999  # the end of the year 9999; what lies behind it is no time that Python knows

Begin = Callable[[Hours, datetime], Morning]


class PolygonRestFeed:
    """Minutes by asking. A ticker whose answer is late or wrong has no bar this minute; its bar comes as a late one."""

    name = "polygon-rest"

    def __init__(
        self,
        begin: Begin,
        rest: Rest,
        stop: threading.Event,
        *,
        patience_s: float = _PATIENCE_S,
        columns: tuple[str, ...] = (),
    ) -> None:
        """begin: prepares a session. stop: ends the waits of `rest`, whose `sleep` must be `stop.wait`.

        columns: further numbers of a bar, of `polygon_bars.FURTHER`, as the bars of `begin` have them.
        """
        self.columns = columns
        self._begin = begin
        self._rest = rest
        self._stop = stop
        self._patience_s = patience_s
        self._threads = DaemonThreads(CONNECTIONS, "polygon")
        self._asked: dict[Future[tuple[list[RawBar], bool]], tuple[str, datetime]] = {}
        self._delayed: set[str] = set()
        self._failed: dict[str, str] = {}
        self._answered: dict[str, datetime] = {}
        self._intake: Intake | None = None
        self._tickers: tuple[str, ...] = ()

    def begin(self, hours: Hours, now: datetime) -> Morning:
        """Collect the earlier sessions and today's bars so far."""
        morning = self._begin(hours, now)
        self._tickers = morning.tickers
        self._intake = Intake(hours, morning.tickers, morning.so_far)
        self._delayed.clear()
        self._answered = dict.fromkeys(morning.tickers, now - MINUTE)
        return morning

    def minute(self, minute: datetime, now: datetime) -> Delivery:
        """Ask for the minute and a few before it, after a gap for all of it; what is late is left to the next one."""
        if self._intake is None:
            raise AssertionError("begin comes first")
        waiting = {ticker for ticker, _ in self._asked.values()}
        for ticker in self._tickers:
            if ticker not in waiting:  # one question a ticker: a service that hangs is not asked ever more
                first = min(minute - _BACK * MINUTE, self._answered[ticker])
                self._asked[self._ask(ticker, first, minute)] = ticker, minute
        done, _ = wait(self._asked, timeout=self._patience_s)
        rows: list[RawBar] = []
        for future in done:
            ticker, upto = self._asked.pop(future)
            try:
                bars, delayed = future.result(0)
            except SourceError as error:
                if self._failed.get(ticker) != str(error):
                    log.warning("no bar ticker=%r minute=%s error=%s", ticker, minute.isoformat(), error)
                self._failed[ticker] = str(error)
                continue
            self._failed.pop(ticker, None)
            self._answered[ticker] = max(upto, self._answered.get(ticker, upto))
            rows += bars
            (self._delayed.add if delayed else self._delayed.discard)(ticker)
        return self._intake.deliver(rows, minute, now, delayed=frozenset(self._delayed))

    def _ask(self, ticker: str, first: datetime, last: datetime) -> Future[tuple[list[RawBar], bool]]:
        return self._threads.submit(fetch_minutes, self._rest, ticker, first, last, self.columns)

    def problem(self) -> str:
        """Say which tickers are delayed or could not be had."""
        if self._delayed:
            return (
                f"the plan of the key delivers delayed bars ({name_some(sorted(self._delayed), 3)}); nothing is traded "
                "on them. Real-time bars need a larger plan"
            )
        if self._failed:
            ticker, why = next(iter(self._failed.items()))
            return f"{len(self._failed)} of {count(len(self._tickers), 'ticker')} could not be had, {ticker}: {why}"
        return ""

    def clock_ahead_s(self) -> float | None:
        """Return the seconds by which this clock is ahead of the service's, by its newest answer; None before one."""
        return self._rest.transport.clock_ahead_s

    def close(self) -> None:
        """End the calls that wait."""
        self._stop.set()
        self._threads.shutdown(wait=False, cancel_futures=True)


def require_pace(settings: Settings) -> None:
    """Raise ConfigError for a watchlist that cannot be asked for once a minute."""
    tickers, calls = len(settings.market.watchlist), settings.polygon.calls_per_minute
    if tickers > calls:
        raise ConfigError(
            f'[trade] feed = "polygon-rest" takes one call a minute for each of {count(tickers, "ticker")}, and '
            f"[polygon] calls_per_minute is {calls}. Shorten [market] watchlist, raise calls_per_minute to what the "
            'plan allows, or set feed = "polygon-websocket".'
        )


def fetch_minutes(
    rest: Rest, ticker: str, first: datetime, last: datetime, columns: Sequence[str] = ()
) -> tuple[list[RawBar], bool]:
    """Return the bars of the minutes `first` to `last`, and whether the service calls them delayed. One call.

    Raises SourceError as `Rest.get` does, and for an answer about something else.
    """
    begin, end = (int(at.timestamp() * 1000) for at in (first, last))
    path = f"/v2/aggs/ticker/{quote_ticker(ticker)}/range/1/minute/{begin}/{end}"
    query = {"adjusted": "false", "sort": "asc", "limit": "50000"}
    page = rest.get(path, query, f"the minutes {format_clock(first)} to {format_clock(last)} UTC of {ticker}")
    rows = page.get("results") or []
    if page.get("ticker", ticker) != ticker or not isinstance(rows, list):
        raise SourceError(f"Polygon answered {ticker} with something else. The minutes are not used; they come later.")
    bars = [build_raw_bar(ticker, row, "t", columns) for row in rows if isinstance(row, dict)]
    return bars, page["status"] == "DELAYED"


def build_raw_bar(ticker: str, row: dict[str, Any], start: str, columns: Sequence[str] = ()) -> RawBar:
    """Return a vendor's aggregate as a row of RAW_SCHEMA and the columns.

    start: the name of the field with the minute's start, Unix ms.

    What is no number is null, for `bars.clean` to drop and count.
    """
    at = row.get(start)
    ts = None
    if type(at) in (int, float) and 0 <= at <= _LAST_MS:  # type: ignore[operator]
        ts = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=int(at))  # type: ignore[arg-type]
    names = (*_FIGURES, *(FURTHER[name] for name in columns))
    return ticker, ts, *(parse_figure(row.get(name)) for name in names)
