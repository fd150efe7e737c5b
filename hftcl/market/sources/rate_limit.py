"""At most so many calls a minute, by all processes together: a small file counts them.

The file is locked while it is read and written, and never deleted; the clock and the sleep are arguments.
"""

import fcntl
import json
import logging
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from hftcl.errors import SourceError

log = logging.getLogger(__name__)

# A second more than the minute: the oldest call may have reached the server a second later than it was counted here.
WINDOW_S: Final = 61.0
_LOUD_S: Final = 5.0  # seconds after which a person at the terminal wonders; shorter waits would fill the log


def compute_wait_s(calls: Iterable[float], now: float, *, most: int, window_s: float = WINDOW_S) -> float:
    """Seconds to wait at `now` until one more call leaves at most `most` calls in any `window_s` seconds.

    calls: Unix seconds of earlier calls, in any order. One later than `now` (the clock was set back) counts as made
    now, so that the wait never exceeds `window_s`.
    """
    recent = sorted(min(call, now) for call in calls if now - call < window_s)
    return 0.0 if len(recent) < most else recent[-most] + window_s - now


class RateLimiter:
    """Lets a call pass when the last minute has room for it, whichever process of this home made the others."""

    def __init__(
        self,
        path: Path,
        most: int,
        *,
        window_s: float = WINDOW_S,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Count in the file `path`, whose folder is made on the first call; `most` calls in `window_s` seconds."""
        self._path = path
        self._most = most
        self._window_s = window_s
        self._clock = clock
        self._sleep = sleep

    def acquire(self) -> None:
        """Wait until a call is allowed, and count it. Raises SourceError where the count cannot be kept."""
        while (wait := self._count_or_wait()) > 0:
            if wait > _LOUD_S:
                log.info("waiting for the rate limit calls_per_minute=%d wait_s=%.0f", self._most, wait)
            self._sleep(wait)

    def _count_or_wait(self) -> float:
        """Count a call made now and return 0, or leave it uncounted and return the seconds to wait."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)  # the kernel drops it when the descriptor closes or the process dies
                return self._count_or_wait_locked(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise SourceError(
                f"The calls to the source polygon cannot be counted in {self._path}: {error.strerror}. "
                "Make the folder of [paths] home writable."
            ) from error

    def _count_or_wait_locked(self, fd: int) -> float:
        now = self._clock()
        # Stamps of the future are pulled back in the file too: else each look would see them as made just now.
        calls = [min(call, now) for call in self._read(fd, now) if now - call < self._window_s]
        wait = compute_wait_s(calls, now, most=self._most, window_s=self._window_s)
        if wait <= 0:
            calls.append(now)
        # One short write, the rest cut off afterwards: a kill between the two leaves a list with a tail, which
        # _read ignores.
        os.pwrite(fd, data := (json.dumps(calls) + "\n").encode(), 0)
        os.ftruncate(fd, len(data))
        return max(wait, 0.0)

    def _read(self, fd: int, now: float) -> list[float]:
        """Return the stamps of the file; what is not a list of numbers counts as a full minute, not as an empty one."""
        text = os.pread(fd, os.fstat(fd).st_size, 0).decode(errors="replace")
        if not text.strip():
            return []
        try:
            calls, _ = json.JSONDecoder().raw_decode(text)
            return [float(call) for call in calls]
        except (ValueError, TypeError):
            log.warning("the count of calls is unreadable, waiting a minute path=%s", self._path)
            return [now] * self._most
