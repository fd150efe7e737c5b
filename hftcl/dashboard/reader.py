"""The one reader behind all tabs: it reads a part again when its files have changed, and only while somebody looks.

Two threads: one for what a page waits for, one for what takes seconds. A part that is expensive is read seldom, so that
a bot on the same machine does not notice: of a core it takes a fiftieth at most.
"""

import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from hftcl.dashboard.changes import Stamps, look
from hftcl.dashboard.contents import Content
from hftcl.dashboard.parts import PARTS, DashboardInputs, Part
from hftcl.doctor.row import build_fault, is_stop
from hftcl.durable import describe_storage_fault
from hftcl.errors import HftclError, NoDataError
from hftcl.logs import to_one_line

_LOOK_S: Final = 1.0  # between two looks at the files' times, which cost microseconds
_WATCHED_S: Final = 90.0  # after the last question of a page: one that reloads by itself asks more often
_SHARE: Final = 50  # a part that took a second is not read again for fifty
_STUCK_S: Final = 60.0  # no page's reading takes as long, on a disk that answers
_ASKED_KEPT: Final = 32  # pages of models and tickers, some 10 kB each


@dataclass(frozen=True, slots=True, kw_only=True)
class PartFault:
    """What a part shows where it could not be read. quiet: there is nothing to read yet, and nothing is broken."""

    lines: tuple[str, ...]
    quiet: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What was read last of a part. content: None while it is read for the first time; version: counts the readings."""

    content: Content | PartFault | None = None
    version: int = 0
    stamps: tuple[object, ...] = ()
    at: datetime | None = None
    begun_s: float = 0.0
    cost_s: float = 0.0


def read_safely(read: Callable[[], Content]) -> Content | PartFault:
    """Return what `read` does, or why it cannot, in the words of the commands: the page stays up."""
    try:
        return read()
    except NoDataError as nothing:
        return PartFault(lines=_clean(str(nothing)), quiet=True)
    except HftclError as error:
        return PartFault(lines=_clean(str(error)))
    except OSError as error:
        return PartFault(lines=_clean(describe_storage_fault("the reading", error)))
    except BaseException as error:  # what is damaged can make a library raise anything: a panic of polars
        if is_stop(error):
            raise
        row = build_fault("dashboard", error)
        return PartFault(lines=_clean(f"{row.detail} {row.remedy}"))


def _clean(message: str) -> tuple[str, ...]:
    return tuple(to_one_line(line) for line in message.splitlines())


class Reader:
    """Reads for every page. Start it once; `stop` it at the end. Any thread may ask."""

    def __init__(self, inputs: DashboardInputs, clock: Callable[[], datetime], on_change: Callable[[], None]) -> None:
        """Read what `inputs` shows, at the time of `clock`; call `on_change`, in a thread, when a part has changed."""
        self._inputs, self._clock, self._on_change = inputs, clock, on_change
        self._readings = {part.name: Reading() for part in PARTS}
        self._lock = threading.Lock()
        self._asked: OrderedDict[object, tuple[Stamps, Content | PartFault]] = OrderedDict()
        self._questions: queue.SimpleQueue[
            tuple[object, Callable[[DashboardInputs], Content], Future[Content | PartFault]] | None
        ]
        self._questions = queue.SimpleQueue()
        self._watched = self._turned = time.monotonic()
        self._first = threading.Event()
        self._stopped = threading.Event()
        self.looked_at = clock()
        """When the quick parts were looked at last, UTC: what is shown of them is of then."""
        self.reads = 0
        """How many readings there were: of all pages together."""

    def start(self) -> None:
        """Begin to read."""
        for work in (self._run_quick, self._run_slow):
            threading.Thread(
                target=work, name=work.__name__, daemon=True
            ).start()  # daemon: an end waits for no reading

    def stop(self) -> None:
        """Read no more."""
        self._stopped.set()
        self._questions.put(None)

    @property
    def version(self) -> int:
        """Counts every change of any part."""
        with self._lock:
            return sum(reading.version for reading in self._readings.values())

    @property
    def is_alive(self) -> bool:
        """Whether the thread that pages wait for gets on: it comes round every second, and answers in between."""
        return time.monotonic() - self._turned < _STUCK_S

    def watch(self) -> None:
        """Say that somebody looks."""
        self._watched = time.monotonic()

    def wait_first(self, seconds: float) -> bool:
        """Wait until the quick parts were read once; return whether they were."""
        return self._first.wait(seconds)

    def list_readings(self) -> Mapping[str, Reading]:
        """Return what was read last of each part."""
        self.watch()
        with self._lock:
            return dict(self._readings)

    def ask(self, key: object, read: Callable[[DashboardInputs], Content]) -> "Future[Content | PartFault]":
        """Read what only one page shows; the same question is answered from memory until a file has changed."""
        self.watch()
        answer: Future[Content | PartFault] = Future()
        self._questions.put((key, read, answer))
        return answer

    def _run_quick(self) -> None:
        parts = [part for part in PARTS if not part.slow]
        while not self._stopped.is_set():
            self._turned = time.monotonic()
            looked_at = self._clock()
            if self._read_due(parts):
                self.looked_at = looked_at  # only now: what is shown is of then
            self._first.set()
            self._answer_until(time.monotonic() + _LOOK_S)

    def _run_slow(self) -> None:
        parts = [part for part in PARTS if part.slow]
        self._first.wait()  # what a page waits for goes first
        while not self._stopped.wait(_LOOK_S):
            self._read_due(parts)

    def _read_due(self, parts: list[Part]) -> bool:
        """Read those whose files have changed; return whether all were looked at."""
        if self._first.is_set() and time.monotonic() - self._watched > _WATCHED_S:
            return False
        stamps = look(self._inputs.settings)
        for part in parts:
            if self._stopped.is_set():
                return False
            if self._is_due(part, stamps):
                self._read(part, stamps)
        return True

    def _is_due(self, part: Part, stamps: Stamps) -> bool:
        reading = self._readings[part.name]
        if reading.content is None:
            return True
        since = time.monotonic() - reading.begun_s
        if since < _SHARE * reading.cost_s:
            return False
        changed = reading.stamps != tuple(stamps[name] for name in part.watches)
        return changed or (part.at_least_s is not None and since >= part.at_least_s)

    def _read(self, part: Part, stamps: Stamps) -> None:
        begun = time.monotonic()
        inputs = replace(self._inputs, now=self._clock())
        content = read_safely(lambda: part.read(inputs))
        before = self._readings[part.name]
        reading = Reading(
            content=content,
            version=before.version + (content != before.content),
            stamps=tuple(stamps[name] for name in part.watches),
            at=inputs.now,
            begun_s=begun,
            cost_s=time.monotonic() - begun,
        )
        with self._lock:
            self._readings[part.name] = reading
            self.reads += 1
        if reading.version != before.version:
            self._on_change()

    def _answer_until(self, until: float) -> None:
        while not self._stopped.is_set() and (left := until - time.monotonic()) > 0:
            try:
                question = self._questions.get(timeout=left)
            except queue.Empty:
                return
            if question is None:
                continue
            key, read, answer = question
            if not answer.set_running_or_notify_cancel():
                continue  # who asked has gone
            try:
                answer.set_result(self._answer(key, read))
            except BaseException as error:
                answer.set_exception(error)
                raise

    def _answer(self, key: object, read: Callable[[DashboardInputs], Content]) -> Content | PartFault:
        stamps, kept = look(self._inputs.settings), self._asked.get(key)
        if kept is None or kept[0] != stamps:
            inputs = replace(self._inputs, now=self._clock())
            kept = stamps, read_safely(lambda: read(inputs))
            self._asked[key] = kept
            self.reads += 1
            while len(self._asked) > _ASKED_KEPT:
                self._asked.popitem(last=False)
        return kept[1]
