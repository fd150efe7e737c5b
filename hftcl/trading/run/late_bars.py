"""How long to wait for a minute's bars: longer where they keep coming late, shorter again where they do not. Pure."""

from collections import deque
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from hftcl.market.bars import MINUTE
from hftcl.trading.feeds import Delivery

LONGEST: Final = timedelta(seconds=20)
"""Most grace: with it a third of the minute is left for orders."""
_STEP: Final = timedelta(seconds=1)  # a second more or less a minute follows a feed within a few minutes
_LOOKED_AT: Final = 5  # minutes
_LATE: Final = 3  # of them, in which half of what came of a minute, or its context, came after its decision
_CALM: Final = 60  # minutes without late bars after which the bot waits a second less


@dataclass(slots=True)
class LateBars:
    """Which of the newest minutes' bars came after the decision."""

    start: timedelta | None = None
    """The grace that is asked for; never less."""
    _late: deque[bool] = field(default_factory=lambda: deque(maxlen=_LOOKED_AT))
    _before: int = 0
    _calm: int = 0

    def note(self, delivery: Delivery, grace: timedelta) -> timedelta:
        """Take a minute; return the grace for the next one. `grace` of zero is a replay's and stays."""
        self.start = grace if self.start is None else self.start
        came = delivery.corrected
        late = 0 if came is None else came.filter(came["ts"] == delivery.minute - MINUTE).height
        # without the context nothing that reads it is known, however much of the minute came in time
        is_blind = delivery.late_context == delivery.minute - MINUTE
        self._late.append(is_blind or late > self._before)  # more of it came after its decision than before it
        self._before = delivery.bars.height
        self._calm = 0 if late or is_blind else self._calm + 1
        if not self.start:
            return grace
        if sum(self._late) >= _LATE:
            self._late.clear()
            return max(grace, min(LONGEST, grace + _STEP))
        if self._calm >= _CALM and grace > self.start:
            self._calm = 0
            return max(self.start, grace - _STEP)
        return grace
