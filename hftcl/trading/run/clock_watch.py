"""The clock of this machine against the broker's and the vendor's: what is told of a difference, and when it stops."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from hftcl.errors import BrokerError
from hftcl.market.sources.vendor_time import LEAST_SET_S
from hftcl.trading.feeds import Feed, VendorClock
from hftcl.trading.run.clock import Clock, MayBeSet

CLOCK_TOLD_S: Final = LEAST_SET_S  # a machine with NTP is off by milliseconds; a few seconds cost the grace of the bars
CLOCK_STOPS_S: Final = 60.0
"""Seconds by which clocks may differ before a person is told, and before nothing is opened any more: a minute's bars
would be taken for another's."""
_LOOKED_EACH: Final = timedelta(hours=1)  # a clock drifts by a second a day at worst
_LOOKED_EACH_STOPPED: Final = timedelta(minutes=1)  # a clock that is slewed right, or was right all along, bars no hour
_ASKED_AGAIN: Final = timedelta(seconds=10)  # where no service says the time: few calls of a plan of 200 a minute


Offsets = Mapping[str, float | None]
"""By service the seconds by which this machine's clock is ahead of its own; None where it has not answered yet."""


def measure_offsets(clock: Clock, their_time: Callable[[], datetime | None], feed: Feed) -> Offsets:
    """Return what broker and vendor say of this machine's clock; who never says the time is left out."""
    offsets: dict[str, float | None] = {}
    try:
        broker_time = their_time()
    except BrokerError:
        offsets["broker"] = None  # that it does not answer is told by the desk
    else:
        if broker_time is not None:
            offsets["broker"] = (clock.now() - broker_time).total_seconds()
    return {**offsets, **measure_by_vendor(feed)}


def measure_by_vendor(feed: Feed) -> Offsets:
    """Return what the vendor says; no answer is waited for."""
    return {"vendor": feed.clock_ahead_s()} if isinstance(feed, VendorClock) else {}


@dataclass(slots=True)
class ClockWatch:
    """When the clocks were compared last, and what a person was told."""

    stops: str = ""
    """Why nothing may be opened, "" where it may."""
    is_unknown: bool = False
    """Whether the clock was put and no service has said the time since."""
    _known: dict[str, float] = field(default_factory=dict)  # else one that answers now and then would be told each time
    _looked: datetime | None = None
    _asked: datetime | None = None
    _once_more: bool = False
    _told: bool = False

    def notice(self, clock: Clock) -> bool:
        """Return whether the clock was put since this was asked last; then they are compared again."""
        was_put = isinstance(clock, MayBeSet) and clock.was_set()
        if was_put:
            self._looked = self._asked = None
            self._known, self.is_unknown, self._once_more = {}, True, False
        return was_put

    def is_due(self, clock: Clock) -> bool:
        """Whether to compare: at the start, each hour, each minute while it stops the bot, where the clock was put, and
        until some service answers.
        """
        now, each = clock.now(), _LOOKED_EACH_STOPPED if self.stops else _LOOKED_EACH
        if _is_within(each, self._looked, now) or _is_within(_ASKED_AGAIN, self._asked, now):
            return False
        self._asked = now
        return True

    def judge(self, offsets: Offsets) -> str:
        """Take what was measured; return what to tell a person of the greatest difference, "" for nothing new.

        A service that has not answered is asked once more, for an answer may be on its way; until then what it said
        last holds.
        """
        answers = {whose: ahead_s for whose, ahead_s in offsets.items() if ahead_s is not None}
        if not answers:
            return ""
        self._once_more = len(answers) < len(offsets) and not self._once_more
        self._looked = None if self._once_more else self._asked
        self._known |= answers
        self.is_unknown = False
        stopped, self.stops = self.stops, ""
        whose, ahead_s = max(self._known.items(), key=lambda item: abs(item[1]))
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
