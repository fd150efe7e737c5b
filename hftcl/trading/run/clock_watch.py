"""The clock of this machine against the broker's and the vendor's: what is told of a difference, and when it stops."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from hftcl.errors import BrokerError
from hftcl.trading.feeds import Feed, VendorClock
from hftcl.trading.run.clock import LEAST_SET_S, Clock, MayBeSet

CLOCK_TOLD_S: Final = LEAST_SET_S  # a machine with NTP is off by milliseconds; a few seconds cost the grace of the bars
CLOCK_STOPS_S: Final = 60.0
"""Seconds by which clocks may differ before a person is told, and before nothing is opened any more: a minute's bars
would be taken for another's."""
_LOOKED_EACH: Final = timedelta(hours=1)  # a clock drifts by a second a day at worst
_ASKED_AGAIN: Final = timedelta(seconds=10)  # where no service says the time: few calls of a plan of 200 a minute


def measure_offsets(clock: Clock, their_time: Callable[[], datetime | None], feed: Feed) -> dict[str, float]:
    """Return the seconds by which this machine's clock is ahead of the broker's and the vendor's, as they say."""
    offsets: dict[str, float] = {}
    try:
        broker_time = their_time()
    except BrokerError:
        broker_time = None  # that it does not answer is told by the desk
    if broker_time is not None:
        offsets["broker"] = (clock.now() - broker_time).total_seconds()
    vendor_s = feed.clock_ahead_s() if isinstance(feed, VendorClock) else None
    if vendor_s is not None:
        offsets["vendor"] = vendor_s
    return offsets


@dataclass(slots=True)
class ClockWatch:
    """When the clocks were compared last, and what a person was told."""

    stops: str = ""
    """Why nothing may be opened, "" where it may."""
    _looked: datetime | None = None
    _asked: datetime | None = None
    _told: bool = False

    def notice(self, clock: Clock) -> bool:
        """Return whether the clock was put since this was asked last; then they are compared again."""
        was_put = isinstance(clock, MayBeSet) and clock.was_set()
        if was_put:
            self._looked = self._asked = None
        return was_put

    def is_due(self, clock: Clock) -> bool:
        """Whether to compare: at the start, each hour, where it was put, and until some service answers."""
        now = clock.now()
        if _is_within(_LOOKED_EACH, self._looked, now) or _is_within(_ASKED_AGAIN, self._asked, now):
            return False
        self._asked = now
        return True

    def judge(self, offsets: Mapping[str, float]) -> str:
        """Take what was measured; return what to tell a person of the greatest difference, "" for nothing new.

        Where no service said the time, what was known of the clock holds, and they are asked again.
        """
        if not offsets:
            return ""
        self._looked = self._asked
        stopped, self.stops = self.stops, ""
        whose, ahead_s = max(offsets.items(), key=lambda item: abs(item[1]))
        before, self._told = self._told, abs(ahead_s) > CLOCK_TOLD_S
        if not self._told:
            return ""
        text = (
            f"This machine's clock is {abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} the {whose}'s. "
            "Set it by NTP (`timedatectl`)."
        )
        if abs(ahead_s) > CLOCK_STOPS_S:
            self.stops = f"{text} Nothing is opened while it is more than {CLOCK_STOPS_S:g} s off."
        return (self.stops or text) if not before or (self.stops and not stopped) else ""


def _is_within(span: timedelta, since: datetime | None, now: datetime) -> bool:
    return since is not None and timedelta(0) <= now - since < span
