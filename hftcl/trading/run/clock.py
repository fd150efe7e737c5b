"""The time as the bot knows it: the system's live, a simulated one in a replay.

The bot itself never reads a clock: it is handed `now`.
"""

import os
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol, runtime_checkable

from hftcl.market.sources.vendor_time import LEAST_SET_S, read_steady_clock
from hftcl.waiting import wait_until_readable

_GLANCE_S = 1.0  # how long a clock that was put, or a switched-off bot, can stay unnoticed


class Clock(Protocol):
    """Tells the time, UTC, and waits for it."""

    def now(self) -> datetime:
        """Return the time."""
        ...

    def wait_until(self, moment: datetime) -> bool:
        """Wait until `moment`, or less: False where it has not come yet and the caller should look around first."""
        ...


@runtime_checkable
class MayBeSet(Protocol):
    """A clock that a person or NTP may put."""

    def was_set(self) -> bool:
        """Whether it was put by more than `LEAST_SET_S` since this was asked last."""
        ...


class SystemClock:
    """The clock of this machine. A wait is cut into seconds, and cut short by `wake`, which a signal handler may call.

    Each piece measures again, so a clock that is set, or a machine that sleeps, changes no wait.
    """

    def __init__(self) -> None:
        # a pipe, not an Event: setting an Event in a handler can meet the lock that the interrupted wait holds
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._lead_s = time.time() - read_steady_clock()

    def now(self) -> datetime:
        """Return the time."""
        return datetime.fromtimestamp(time.time(), UTC)

    def wait_until(self, moment: datetime) -> bool:
        """Wait at most a second; return whether `moment` has come."""
        left = (moment - self.now()).total_seconds()
        if left > 0 and wait_until_readable(self._read, min(left, _GLANCE_S)):
            os.read(self._read, 4096)
        return self.now() >= moment

    def was_set(self) -> bool:
        """Whether it was put by more than `LEAST_SET_S` since this was asked last."""
        lead_s = time.time() - read_steady_clock()
        moved = abs(lead_s - self._lead_s) > LEAST_SET_S  # smaller ones add up until they are seen
        self._lead_s = lead_s if moved else self._lead_s
        return moved

    def wake(self) -> None:
        """End the wait that is under way. May be called from a signal handler."""
        try:
            os.write(self._write, b".")
        except BlockingIOError:
            return  # the pipe is full of earlier calls: it wakes anyway

    def close(self) -> None:
        """Give the pipe back."""
        os.close(self._read)
        os.close(self._write)


class SimulatedClock:
    """A clock that jumps to whatever is waited for."""

    def __init__(self, start: datetime) -> None:
        self._now = start

    def now(self) -> datetime:
        """Return the simulated time."""
        return self._now

    def wait_until(self, moment: datetime) -> bool:
        """Make it `moment`, where that lies ahead."""
        self._now = max(self._now, moment)
        return True

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now += timedelta(seconds=seconds)
