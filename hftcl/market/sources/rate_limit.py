"""At most so many calls a minute, by all processes together: a small file counts them.

A call counts from the moment at which it may have reached the service, not from the moment at which it was planned: a
slow connection would else bring six calls into one minute there. The file is locked while it is read and written, and
never deleted; the clock and the sleep are arguments.
"""

import fcntl
import itertools
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hftcl.errors import SourceError

log = logging.getLogger(__name__)

# A second more than the minute: clocks differ, and a minute there may be a little longer than here.
WINDOW_S: Final = 61.0
_LOUD_S: Final = 5.0  # seconds after which a person at the terminal wonders; shorter waits would fill the log


def compute_wait_s(calls: Iterable[float], now: float, *, most: int, window_s: float = WINDOW_S) -> float:
    """Seconds to wait at `now` until one more call leaves at most `most` calls in any `window_s` seconds.

    calls: Unix seconds of earlier calls, in any order. One later than `now` (the clock was set back) counts as made
    now, so that the wait never exceeds `window_s`.
    """
    recent = sorted(min(call, now) for call in calls if now - call < window_s)
    return 0.0 if len(recent) < most else recent[-most] + window_s - now


@dataclass(frozen=True, slots=True)
class _Call:
    """One call: planned at `planned`, and at the service by `until` at the latest, Unix seconds.

    While it is under way `until` lies ahead: the end of its deadline, which also holds where its process was killed.
    """

    ident: str
    planned: float
    until: float

    def move_to(self, now: float) -> "_Call":
        """Return the call as it stands at `now`; where the clock was set back, it counts as made now."""
        return self if self.planned <= now else _Call(self.ident, now, now)


class RateLimiter:
    """Lets a call pass when the last minute has room for it, whichever process of this home made the others."""

    _numbers = itertools.count()

    def __init__(
        self,
        path: Path,
        most: int,
        *,
        name: str = "polygon",
        window_s: float = WINDOW_S,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Count in the file `path`, whose folder is made on the first call; `most` calls in `window_s` seconds.

        name: of the source, for messages.
        """
        self._path = path
        self._most = most
        self._name = name
        self._window_s = window_s
        self._clock = clock
        self._sleep = sleep

    def acquire(self, lease_s: float = 0.0) -> str:
        """Wait until a call is allowed, count it, and return what `note_arrival` is to be told.

        It counts as under way for `lease_s` seconds, its deadline, or until `note_arrival` says that it has arrived.
        Raises SourceError where the count cannot be kept.
        """
        ident = f"{os.getpid()}-{threading.get_native_id()}-{next(self._numbers)}"
        while (wait := self._change_calls(lambda calls, now: self._count_or_wait(calls, now, ident, lease_s))) > 0:
            if wait > _LOUD_S:
                log.info(
                    "waiting for the rate limit source=%s calls_per_minute=%d wait_s=%.0f", self._name, self._most, wait
                )
            self._sleep(wait)
        return ident

    def note_arrival(self, ident: str) -> None:
        """Count the call `ident` as made now: it has arrived by this moment, or never will."""

        def find_arrival(calls: list[_Call], now: float) -> float:
            calls[:] = [_Call(ident, min(call.planned, now), now) if call.ident == ident else call for call in calls]
            return 0.0

        self._change_calls(find_arrival)

    def _count_or_wait(self, calls: list[_Call], now: float, ident: str, lease_s: float) -> float:
        """Count a call made now and return 0, or leave it uncounted and return the seconds to wait."""
        wait = compute_wait_s([call.until for call in calls], now, most=self._most, window_s=self._window_s)
        if wait <= 0:
            calls.append(_Call(ident, now, now + lease_s))
        return max(wait, 0.0)

    def _change_calls(self, change: Callable[[list[_Call], float], float]) -> float:
        """Read the calls of the last minute, let `change` change them, keep them, and return what it says."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)  # the kernel drops it when the descriptor closes or the process dies
                now = self._clock()
                calls = [call.move_to(now) for call in self._read(fd, now)]
                calls = [call for call in calls if now - call.until < self._window_s]
                answer = change(calls, now)
                self._write(fd, calls)
                return answer
            finally:
                os.close(fd)
        except OSError as error:
            raise SourceError(
                f"The calls to the source {self._name} cannot be counted in {self._path}: {error.strerror}. "
                "Make the folder of [paths] home writable."
            ) from error

    def _write(self, fd: int, calls: list[_Call]) -> None:
        # One short write, the rest cut off afterwards: a kill between the two leaves a list with a tail, which
        # _read ignores.
        data = (json.dumps([[call.ident, call.planned, call.until] for call in calls]) + "\n").encode()
        os.pwrite(fd, data, 0)
        os.ftruncate(fd, len(data))

    def _read(self, fd: int, now: float) -> list[_Call]:
        """Return the calls of the file; what is none counts as a full minute, not as an empty one.

        A bare number is a call that an earlier version counted.
        """
        text = os.pread(fd, os.fstat(fd).st_size, 0).decode(errors="replace")
        if not text.strip():
            return []
        try:
            found, _ = json.JSONDecoder().raw_decode(text)
            calls = [entry if isinstance(entry, list) else ["", entry, entry] for entry in found]
            return [_Call(str(ident), float(planned), float(until)) for ident, planned, until in calls]
        except (ValueError, TypeError):
            log.warning("the count of calls is unreadable, waiting a minute path=%s", self._path)
            return [_Call("", now, now)] * self._most
