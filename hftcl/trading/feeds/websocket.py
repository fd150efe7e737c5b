"""Minutes as they are made, over one websocket that mends itself; a vendor's way to speak is plugged in as a `Speech`.

What was missed while it was down, or before it was up, is asked for over REST and comes as late bars. Where the
connection does not hold, because another program uses the key or the service is down, REST brings the minutes too.
"""

import contextlib
import json
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Generic, Protocol, TypeVar

from hftcl.errors import SourceError
from hftcl.formats import format_clock
from hftcl.market.bars import MINUTE
from hftcl.market.hours import Hours
from hftcl.market.sources.vendor_time import VendorTime
from hftcl.trading.feeds import Delivery, Morning
from hftcl.trading.feeds.intake import Intake, RawBar
from hftcl.waiting import DaemonThreads

log = logging.getLogger(__name__)

K = TypeVar("K")

Begin = Callable[[Hours, datetime], Morning]
Backfill = Callable[[tuple[str, ...], datetime, datetime], list[RawBar]]
"""(tickers, from, to) -> their bars of those minutes, over REST."""

_OPEN_S: Final = 10.0  # the default of websockets
_SILENT_S: Final = 20.0  # the default of websockets for pings: a dead line is noticed before the minute is over
_PATIENCE_S: Final = 10.0  # of the minute that waits for its bars; what takes longer comes with a later one
_SILENT_MINUTES: Final = 2  # one minute without any trade of a watchlist can happen, two in regular hours hardly
_SILENT_EVERY: Final = 10
"""Regular minutes without any message, after which it connects again, and then again: it may be the market."""
_WAITS_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)  # the first save the minute, the last are gentle
_HELD_S: Final = 60.0
"""A connection that lived this long was a good one: the wait before the next begins small again. A log-in alone proves
nothing: two programs on one key throw each other out after each."""
_THROWN_OUT: Final = 3
"""So many short lives in a row, and a person is told that the key is used elsewhere."""
_DELAY_S: Final = 300.0
"""Bars that come later than this after their minute's end are those of a delayed plan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Halt:
    """That a ticker is halted since `at`, or trades again: then `why` is "" ."""

    ticker: str
    at: datetime
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaction:
    """What a message means: what to `send`, a bar, that the subscription stands, what the service complains of, or a
    halt.
    """

    send: tuple[dict[str, Any], ...] = ()
    row: RawBar | None = None
    up: bool = False
    complaint: str = ""
    halt: Halt | None = None


class Speech(Protocol):
    """How one vendor's socket talks."""

    def redact(self, text: str) -> str:
        """Return `text` as one short line without any secret."""
        ...

    def open(self) -> tuple[dict[str, Any], ...]:
        """Return what is said as soon as the connection stands; a new conversation begins."""
        ...

    def hear(self, message: dict[str, Any], tickers: tuple[str, ...]) -> Reaction:
        """Return what to do about `message`. Raises SourceError where the conversation is at its end."""
        ...


class WebsocketFeed(Generic[K]):
    """Minutes as they come in. A thread receives; `minute` takes what is there."""

    name = "websocket"
    speech: Callable[[K, tuple[str, ...]], Speech]
    """How the vendor's socket talks, by the keys and the further columns."""

    def __init__(
        self,
        begin: Begin,
        url: str,
        keys: K,
        backfill: Backfill,
        *,
        stop: threading.Event | None = None,
        clock: Callable[[], float] = time.time,
        vendor_time: VendorTime | None = None,
        ask_time: Callable[[], None] | None = None,
        columns: tuple[str, ...] = (),
    ) -> None:
        """begin: prepares a session. url: such as wss://host/path. clock: Unix seconds. columns: further ones.

        stop: ends the waits of `backfill` when it is set, which `close` does. vendor_time: to which the service's
        REST answers are noted too. ask_time: has REST answer, see `clock_ahead_s`.
        """
        self._stop = stop
        self._begin = begin
        self._url = url
        self._speech = type(self).speech(keys, columns)
        self.columns = columns
        self._backfill = backfill
        self._clock = clock
        self._ask_time = ask_time
        self._asking: threading.Thread | None = None
        self._lock = threading.Lock()
        self._rows: list[RawBar] = []
        self._newest: dict[str, datetime] = {}
        self._delayed: set[str] = set()
        self._fault = "it is not connected yet"
        self._complaint = ""
        self._halts: dict[str, Halt] = {}
        self._time = vendor_time or VendorTime(clock)
        self._up_at: float | None = None
        self._short_lives = 0
        self._lost: datetime | None = None
        self._filler = DaemonThreads(1, "gap")
        self._filling: tuple[datetime, Future[list[RawBar]]] | None = None
        self._quiet = 0
        self._again: datetime | None = None
        self._hang_up = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._tickers: tuple[str, ...] = ()
        self._intake: Intake | None = None
        self._hours: Hours | None = None

    def begin(self, hours: Hours, now: datetime) -> Morning:
        """Collect the earlier sessions and today's bars so far, and connect."""
        morning = self._begin(hours, now)
        self._filling = None  # what comes of an earlier session is nobody's any more
        self._hours, self._intake = hours, Intake(hours, morning.tickers, morning.so_far)
        self._quiet = -1  # it may have connected after the first minute's bars were sent
        with self._lock:
            self._rows, self._lost = [], now
        if self._tickers != morning.tickers:
            self._disconnect()
            self._tickers = morning.tickers
        if self._thread is None:
            self._stopping.clear()
            thread = threading.Thread(target=self._receive, name=self.name, daemon=True)
            thread.start()  # where none can be, the next `begin` tries again
            self._thread = thread
        return morning

    def minute(self, minute: datetime, now: datetime) -> Delivery:
        """Return what has come of the minute; after a gap, with what REST knows of the minutes that were missed."""
        if self._intake is None:
            raise AssertionError("begin comes first")
        with self._lock:
            rows, self._rows = self._rows, []
            lost, fault, delayed = self._lost, self._fault, frozenset(self._delayed)
            over_rest = bool(fault) and self._short_lives >= _THROWN_OUT
            if not fault:
                self._lost = None
            elif over_rest:
                self._lost = minute  # asked for once more with the next one: a late bar of it may come
        if self._falls_silent(minute, heard=bool(rows or fault)):
            since = minute - (self._quiet - 1) * MINUTE
            lost = min(lost or since, since)
            self._hang_up.set()
        if over_rest or (lost is not None and not fault):
            rows = [*self._fill_gap(lost or minute, minute), *rows]
            self._look_again(rows, minute)
        elif self._filling is not None:
            rows = [*self._fill_gap(minute, minute), *rows]
        return self._intake.deliver(rows, minute, now, delayed=delayed)

    def clock_ahead_s(self) -> float | None:
        """Return the seconds by which this clock is ahead of the service's now; None without a fresh answer.

        Then it is asked for one, and not waited for. A connection that stands says nothing of the time for hours.
        """
        ahead_s = self._time.ahead_s
        if ahead_s is None and self._ask_time is not None and not (self._asking and self._asking.is_alive()):
            self._asking = threading.Thread(target=self._refresh_time, args=(self._ask_time,), daemon=True)
            self._asking.start()
        return ahead_s

    def _refresh_time(self, ask_time: Callable[[], None]) -> None:
        try:
            ask_time()
        except SourceError as error:
            log.warning("the service does not say what time it is why=%s", error)

    def _fill_gap(self, lost: datetime, minute: datetime) -> list[RawBar]:
        """Return what REST knows of the gap since `lost`, where it says so in time; else it comes with a later minute.

        One question at a time: a plan of few calls, or a service that hangs, must not keep the bot from its minute.
        """
        if self._filling is None:
            self._filling = lost, self._filler.submit(self._backfill, self._tickers, lost, minute)
        elif lost < minute:
            self._note_lost(lost)  # another gap: asked for when this one is filled
        since, future = self._filling
        done, _ = wait([future], timeout=_PATIENCE_S)
        if not done:
            return []
        self._filling = None
        try:
            return future.result(0)
        except SourceError as error:
            log.warning("the gap was not filled from=%s error=%s", since.isoformat(), error)
            self._note_lost(since)
            return []

    def _look_again(self, rows: list[RawBar], minute: datetime) -> None:
        """Have a gap's newest minute asked for once more, where no bar of it came: REST may not know them yet."""
        if self._filling is None and self._again != minute - MINUTE and all(row[1] != minute for row in rows):
            self._again = minute  # once: it may be a minute without a trade
            self._note_lost(minute)

    def _note_lost(self, since: datetime) -> None:
        with self._lock:
            self._lost = min(self._lost or since, since)

    def _falls_silent(self, minute: datetime, *, heard: bool) -> bool:
        """Whether a connection that seems well has brought nothing for so long that it is to be made again."""
        assert self._hours is not None  # noqa: S101 - begin comes first
        regular = self._hours.opens <= minute < self._hours.closes
        self._quiet = self._quiet + 1 if regular and not heard else 0
        return self._quiet % _SILENT_EVERY == _SILENT_MINUTES

    def problem(self) -> str:
        """Say that it is not connected, that another program has the key, that bars are delayed, or what is halted."""
        with self._lock:
            if self._delayed:
                return "the plan of the key delivers delayed bars; nothing is traded on them"
            halts = [
                f"{name} is halted since {format_clock(halt.at)} UTC: {halt.why}" for name, halt in self._halts.items()
            ]
            said = "; ".join([*([f"the service says: {self._complaint}"] if self._complaint else []), *halts])
            if not self._fault:
                return said
            why = f"the websocket is down: {self._fault}{f' ({said})' if said else ''}"
            if self._short_lives >= _THROWN_OUT:
                why += (
                    f"; it was lost {self._short_lives} times in a row within a minute, as when another program uses "
                    "the same key. End that one, or give it a key of its own. Bars are asked for over REST meanwhile"
                )
            return why

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
                if self._note_down(self._speech.redact(f"{type(error).__name__}: {error}")):
                    failures = 0  # it had held: the drops of a year do not add up
            self._stopping.wait(_WAITS_S[min(failures, len(_WAITS_S) - 1)])
            failures += 1

    def _note_down(self, why: str) -> bool:
        """Note that it is down, and return whether the connection had held for a while."""
        with self._lock:
            up_at, self._up_at = self._up_at, None
            held = up_at is not None and self._clock() - up_at >= _HELD_S
            if held:
                self._short_lives = 0
            elif up_at is not None:
                self._short_lives += 1
            if not self._fault:
                log.warning("the websocket was lost url=%s why=%s", self._url, why)
                now = datetime.fromtimestamp(self._clock(), UTC).replace(second=0, microsecond=0)
                self._lost = self._lost or now - MINUTE  # whose bar may not have come; or of a gap that is still open
            self._fault = why
            return held

    def _converse(self) -> None:
        """Connect, authenticate, subscribe, and take messages until the connection ends or `close` is called."""
        from websockets.sync.client import connect

        with connect(
            self._url, open_timeout=_OPEN_S, ping_interval=_SILENT_S, ping_timeout=_SILENT_S, max_size=16 * 2**20
        ) as socket:
            if socket.response is not None:
                self._time.note(socket.response.headers.get("Date"))
            with self._lock:
                self._halts = {}  # the end of one may have been missed
            for words in self._speech.open():
                socket.send(json.dumps(words))
            self._hang_up.clear()
            while not self._stopping.is_set():
                if self._hang_up.is_set():
                    raise SourceError("it was connected, and brought nothing")
                try:
                    text = socket.recv(timeout=0.5)
                except TimeoutError:
                    continue
                for message in _parse_messages(text):
                    self._react(socket, self._speech.hear(message, self._tickers))
            with contextlib.suppress(OSError):
                socket.close()

    def _react(self, socket: Any, reaction: Reaction) -> None:
        for words in reaction.send:
            socket.send(json.dumps(words))
        if reaction.complaint:
            log.warning("the websocket complains message=%r", reaction.complaint)
            with self._lock:
                self._complaint = reaction.complaint
        if reaction.up:
            with self._lock:
                self._fault = self._complaint = ""
                self._up_at = self._clock()
            log.info("the websocket is connected url=%s tickers=%d", self._url, len(self._tickers))
        if reaction.row is not None:
            self._take(reaction.row)
        if (halt := reaction.halt) is not None:
            with self._lock:
                self._halts = {name: known for name, known in self._halts.items() if name != halt.ticker}
                self._halts |= {halt.ticker: halt} if halt.why else {}

    def _take(self, row: RawBar) -> None:
        """Keep a bar; only the age of a ticker's newest one tells of a delayed plan, for old ones are sent again."""
        ticker, ts = row[0], row[1]
        with self._lock:
            self._rows.append(row)
            if ts is None or ts < self._newest.get(ticker, ts):
                return
            self._newest[ticker] = ts
            if ticker in self._halts and ts > self._halts[ticker].at:
                del self._halts[ticker]  # it trades
            late_s = self._clock() - ts.timestamp() - 60.0
            (self._delayed.add if late_s > _DELAY_S else self._delayed.discard)(ticker)


def _parse_messages(text: str | bytes) -> list[dict[str, Any]]:
    """Return the messages of a frame; what is not JSON of that form holds none."""
    try:
        found = json.loads(text)
    except ValueError:
        log.warning("the websocket sent something else than JSON bytes=%d", len(text))
        return []
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
