"""The feed `polygon-websocket`: minute aggregates as they are made, over one connection that mends itself.

What was missed while it was down, or before it was up, is asked for over REST and comes as late bars.
"""

import contextlib
import json
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime
from typing import Any, Final

from hftcl.errors import SourceError
from hftcl.market.bars import MINUTE
from hftcl.market.hours import Hours
from hftcl.market.sources.polygon_rest import Key
from hftcl.trading.feeds import Delivery, Morning
from hftcl.trading.feeds.intake import Intake, RawBar
from hftcl.trading.feeds.polygon_rest import build_raw_bar

log = logging.getLogger(__name__)

Begin = Callable[[Hours, datetime], Morning]
Backfill = Callable[[tuple[str, ...], datetime, datetime], list[RawBar]]
"""(tickers, from, to) -> their bars of those minutes, over REST."""

# The default of websockets, https://websockets.readthedocs.io/en/stable/reference/sync/client.html
_OPEN_S: Final = 10.0
_SILENT_S: Final = 20.0  # the default of websockets for pings: a dead line is noticed before the minute is over
_PATIENCE_S: Final = 10.0  # of the minute that is waiting for its bars; what takes longer comes with a later one
_SILENT_MINUTES: Final = 2  # one minute without any trade of a watchlist can happen, two in regular hours hardly
_SILENT_EVERY: Final = 10
"""Regular minutes without any message, after which it connects again, and so on: it may be the market."""
# The first ones save the minute; the last is gentle to a service that is down for hours.
_WAITS_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_AT_ONCE: Final = 200
"""Tickers in one subscription message."""
# Statuses of its messages, https://massive.com/docs/websocket/quickstart; all else is a complaint.
_GOOD_NEWS: Final = frozenset({"connected", "auth_success", "success"})
_DELAY_S: Final = 300.0
"""Bars that come later than this after their minute's end are those of a delayed plan."""


class PolygonWebsocketFeed:
    """Minutes as they come in. A thread receives; `minute` takes what is there."""

    name = "polygon-websocket"

    def __init__(
        self,
        begin: Begin,
        url: str,
        key: Key,
        backfill: Backfill,
        *,
        stop: threading.Event | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """begin: prepares a session. url: such as wss://socket.polygon.io/stocks. clock: Unix seconds.

        stop: ends the waits of `backfill` when it is set, which `close` does.
        """
        self._stop = stop
        self._begin = begin
        self._url = url
        self._key = key
        self._backfill = backfill
        self._clock = clock
        self._lock = threading.Lock()
        self._rows: list[RawBar] = []
        self._delayed: set[str] = set()
        self._fault = "it is not connected yet"
        self._complaint = ""
        self._lost: datetime | None = None
        self._filler = ThreadPoolExecutor(1, "gap")
        self._filling: tuple[datetime, Future[list[RawBar]]] | None = None
        self._quiet = 0
        self._hang_up = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._tickers: tuple[str, ...] = ()
        self._intake: Intake | None = None
        self._hours: Hours | None = None

    def begin(self, hours: Hours, now: datetime) -> Morning:
        """Collect the earlier sessions and today's bars so far, and connect."""
        found = self._begin(hours, now)
        self._filling = None  # what comes of an earlier session is nobody's any more
        self._hours, self._intake = hours, Intake(hours, found.tickers, found.so_far)
        self._quiet = -1  # it may have connected after the first minute's bars were sent
        with self._lock:
            self._rows, self._lost = [], now
        if self._tickers != found.tickers:
            self._disconnect()
            self._tickers = found.tickers
        if self._thread is None:
            self._stopping.clear()
            self._thread = threading.Thread(target=self._receive, name="polygon-websocket", daemon=True)
            self._thread.start()
        return found

    def minute(self, minute: datetime, now: datetime) -> Delivery:
        """Return what has come of the minute; after a gap, with what REST knows of the minutes that were missed."""
        if self._intake is None:
            raise AssertionError("begin comes first")
        with self._lock:
            rows, self._rows = self._rows, []
            lost, fault, delayed = self._lost, self._fault, frozenset(self._delayed)
            if not fault:
                self._lost = None
        if self._note_silence(minute, heard=bool(rows or fault)):
            since = minute - (self._quiet - 1) * MINUTE
            lost = min(lost or since, since)
            self._hang_up.set()
        if lost is not None and not fault:
            rows = [*self._fetch_gap(lost, minute), *rows]
        elif self._filling is not None:
            rows = [*self._fetch_gap(minute, minute), *rows]
        return self._intake.deliver(rows, minute, now, delayed=delayed)

    def _fetch_gap(self, lost: datetime, minute: datetime) -> list[RawBar]:
        """Return what REST knows of the gap since `lost`, where it says so in time; else it comes with a later minute.

        One question at a time: a plan of few calls, or a service that hangs, must not keep the bot from its minute.
        """
        if self._filling is None:
            self._filling = lost, self._filler.submit(self._backfill, self._tickers, lost, minute)
        elif lost < minute:
            self._keep_lost(lost)  # another gap: asked for when this one is filled
        since, future = self._filling
        done, _ = wait([future], timeout=_PATIENCE_S)
        if not done:
            return []
        self._filling = None
        try:
            return future.result()
        except SourceError as error:
            log.warning("the gap was not filled from=%s error=%s", since.isoformat(), error)
            self._keep_lost(since)
            return []

    def _keep_lost(self, since: datetime) -> None:
        with self._lock:
            self._lost = min(self._lost or since, since)

    def _note_silence(self, minute: datetime, *, heard: bool) -> bool:
        """Whether a connection that seems well has brought nothing for so long that it is to be made again."""
        assert self._hours is not None  # noqa: S101 - begin comes first
        regular = self._hours.opens <= minute < self._hours.closes
        self._quiet = self._quiet + 1 if regular and not heard else 0
        return self._quiet % _SILENT_EVERY == _SILENT_MINUTES

    def problem(self) -> str:
        """Say that it is not connected, or that the bars are delayed."""
        with self._lock:
            if self._delayed:
                return "the plan of the key delivers delayed bars; nothing is traded on them"
            said = f"the service says: {self._complaint}" if self._complaint else ""
            if self._fault:
                return f"the websocket is down: {self._fault}{f' ({said})' if said else ''}"
            return said

    def close(self) -> None:
        """End the connection."""
        if self._stop is not None:
            self._stop.set()
        self._disconnect()
        self._filler.shutdown(wait=False, cancel_futures=True)

    def _disconnect(self) -> None:
        if self._thread is not None:
            self._stopping.set()
            self._thread.join(_OPEN_S + 5.0)
            self._thread = None

    # --- the thread -------------------------------------------------------------------------------------------------

    def _receive(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            try:
                self._converse()
            except Exception as error:  # noqa: BLE001 - whatever the library, TLS or the network raise ends in a new connection
                if self._note_down(self._key.redact(f"{type(error).__name__}: {error}")):
                    failures = 0  # it had been up: the drops of a year do not add up
            self._stopping.wait(_WAITS_S[min(failures, len(_WAITS_S) - 1)])
            failures += 1

    def _note_down(self, why: str) -> bool:
        """Note that it is down, and return whether it was up before."""
        with self._lock:
            was_up = not self._fault
            if was_up:
                log.warning("the websocket was lost url=%s why=%s", self._url, why)
                now = datetime.fromtimestamp(self._clock(), UTC).replace(second=0, microsecond=0)
                self._lost = self._lost or now - MINUTE  # whose bar may not have come; or of a gap that is still open
            self._fault = why
            return was_up

    def _converse(self) -> None:
        """Connect, authenticate, subscribe, and take messages until the connection ends or `close` is called."""
        from websockets.sync.client import connect

        with connect(
            self._url, open_timeout=_OPEN_S, ping_interval=_SILENT_S, ping_timeout=_SILENT_S, max_size=16 * 2**20
        ) as socket:
            socket.send(json.dumps({"action": "auth", "params": self._key.value}))
            subscribed = False
            self._hang_up.clear()
            while not self._stopping.is_set():
                if self._hang_up.is_set():
                    raise SourceError("it was connected, and brought nothing")
                try:
                    text = socket.recv(timeout=0.5)
                except TimeoutError:
                    continue
                for message in _parse_messages(text):
                    if message.get("ev") == "status":
                        subscribed = self._handle_status(socket, message, subscribed=subscribed)
                    elif message.get("ev") == "AM":
                        self._take(message)
            with contextlib.suppress(OSError):
                socket.close()

    def _handle_status(self, socket: Any, message: dict[str, Any], *, subscribed: bool) -> bool:
        """Subscribe once the key was taken; return whether that is done. Raises SourceError where it was not taken."""
        status, text = message.get("status"), self._key.redact(str(message.get("message", "")))
        if status == "auth_failed":
            raise SourceError(f"the key in {self._key.variable} was refused: {text}")
        if status not in _GOOD_NEWS:  # of a subscription, or of too many connections, after which it hangs up
            log.warning("the websocket complains status=%r message=%r", status, text)
            with self._lock:
                self._complaint = f"{status}: {text}"
        if status != "auth_success" or subscribed:
            return subscribed
        for place in range(0, len(self._tickers), _AT_ONCE):
            topics = ",".join(f"AM.{ticker}" for ticker in self._tickers[place : place + _AT_ONCE])
            socket.send(json.dumps({"action": "subscribe", "params": topics}))
        with self._lock:
            self._fault = self._complaint = ""
        log.info("the websocket is connected url=%s tickers=%d", self._url, len(self._tickers))
        return True

    def _take(self, message: dict[str, Any]) -> None:
        ticker = str(message.get("sym", ""))
        row = build_raw_bar(ticker, message, "s")
        late_s = self._clock() - row[1].timestamp() - 60.0 if row[1] is not None else 0.0
        with self._lock:
            self._rows.append(row)
            (self._delayed.add if late_s > _DELAY_S else self._delayed.discard)(ticker)


def _parse_messages(text: str | bytes) -> list[dict[str, Any]]:
    """Return the messages of a frame; what is not JSON of that form holds none."""
    try:
        found = json.loads(text)
    except ValueError:
        log.warning("the websocket sent something else than JSON bytes=%d", len(text))
        return []
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
