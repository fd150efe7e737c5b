"""What time it is at a service, by its newest answer, for as long as that is fresh.

Its age is told by a clock that cannot be set. To carry an answer on for hours by that one would be wrong: NTP slews it
as it slews the clock that is compared, and it stands still while a hypervisor holds the machine: an answer from before
this machine's clock was put says nothing.
"""

import time
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

_FRESH_S: Final = 15.0
"""Seconds in which an answer counts: who asks for the time again each ten finds what came meanwhile."""
LEAST_SET_S: Final = 3.0
"""Seconds by which a clock was put: what a person is told of a clock that is off. A slew by NTP moves the steady clock
too, and is none."""


def read_steady_clock() -> float:
    """Return seconds that only go forward, those in which the machine sleeps too; of no date."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)  # CLOCK_MONOTONIC stands still while it sleeps


class VendorTime:
    """clock: this machine's, Unix seconds. steady: as `read_steady_clock`."""

    def __init__(self, clock: Callable[[], float], steady: Callable[[], float] = read_steady_clock) -> None:
        self._clock = clock
        self._steady = steady
        self._noted: tuple[float, float, float] | None = None

    def note(self, date: str | None) -> None:
        """Take the header Date of an answer that has just come; one that tells no time changes nothing.

        It counts whole seconds (RFC 9110, section 6.6.1), and the way there takes a moment too.
        """
        try:
            theirs = parsedate_to_datetime(date) if date else None
        except (ValueError, OverflowError):
            return
        if theirs is not None:
            self._noted = theirs.replace(tzinfo=theirs.tzinfo or UTC).timestamp(), self._steady(), self._clock()

    @property
    def ahead_s(self) -> float | None:
        """Seconds by which this machine's clock is ahead of the service's now; None without a fresh answer from
        since it was put.

        >>> steady, ours = [5.0], [62.5]
        >>> there = VendorTime(lambda: ours[0], lambda: steady[0])
        >>> there.note("Thu, 01 Jan 1970 00:01:00 GMT")
        >>> there.ahead_s
        2.5
        >>> steady[0] += 5.0  # a pause of 90 s, after which ours is put right
        >>> ours[0] += 95.0
        >>> there.ahead_s is None
        True
        >>> there.note("Thu, 01 Jan 1970 00:02:35 GMT")
        >>> there.ahead_s
        2.5
        """
        if self._noted is None:
            return None
        theirs, at, ours = self._noted
        age_s, now = self._steady() - at, self._clock()
        was_put = abs(now - ours - age_s) > LEAST_SET_S
        return now - (theirs + age_s) if age_s < _FRESH_S and not was_put else None
