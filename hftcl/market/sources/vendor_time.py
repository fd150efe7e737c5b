"""What time it is at a service, by its newest answer: carried on by a clock that is never set.

Between two answers hours may pass; a clock of this machine that is put meanwhile must show all the same.
"""

import time
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime


def read_steady_clock() -> float:
    """Return seconds that only go forward, those in which the machine sleeps too; of no date."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)  # CLOCK_MONOTONIC stands still while it sleeps


class VendorTime:
    """clock: this machine's, Unix seconds. steady: as `read_steady_clock`."""

    def __init__(self, clock: Callable[[], float], steady: Callable[[], float] = read_steady_clock) -> None:
        self._clock = clock
        self._steady = steady
        self._lead_s: float | None = None

    def note(self, date: str | None) -> None:
        """Take the header Date of an answer that has just come; one that tells no time changes nothing.

        It counts whole seconds (RFC 9110, section 6.6.1), and the way there takes a moment too.
        """
        try:
            theirs = parsedate_to_datetime(date) if date else None
        except (ValueError, OverflowError):
            return
        if theirs is not None:
            self._lead_s = theirs.replace(tzinfo=theirs.tzinfo or UTC).timestamp() - self._steady()

    @property
    def ahead_s(self) -> float | None:
        """Seconds by which this machine's clock is ahead of the service's now; None before an answer.

        >>> steady, ours = [5.0], [62.5]
        >>> there = VendorTime(lambda: ours[0], lambda: steady[0])
        >>> there.note("Thu, 01 Jan 1970 00:01:00 GMT")
        >>> there.ahead_s
        2.5
        >>> steady[0] += 10.0  # ten seconds later somebody has put ours back by an hour
        >>> ours[0] += 10.0 - 3600.0
        >>> there.ahead_s
        -3597.5
        """
        return None if self._lead_s is None else self._clock() - (self._lead_s + self._steady())
