"""What is told of bars that do not come: of tickers left out, of a whole market, of one ticker that is held."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from hftcl.formats import group_by_reason, name_some
from hftcl.market.hours import Hours
from hftcl.trading.feeds import Delivery, Morning

SILENCE_MINUTES: Final = 5
"""Regular minutes without a bar of any ticker after which a person is told."""
HELD_SILENCE_MINUTES: Final = 15
"""The same of one ticker that is held, while others trade: it may be halted, or its feed broken."""
_NAMED: Final = 5  # tickers in the subject of an alert: the text has the others


@dataclass(slots=True, kw_only=True)
class Silence:
    """tell: (subject, text). count_held: (minute) -> for each ticker that is held the minutes without its bars."""

    tell: Callable[[str, str], None]
    count_held: Callable[[datetime], Mapping[str, int]]
    _left_out: frozenset[str] = frozenset()
    _silent: int = 0
    _stuck: set[str] = field(default_factory=set)

    def note_left_out(self, morning: Morning) -> None:
        """Name the tickers that are left out of a session, and the weight that the others keep."""
        left_out = frozenset(morning.left_out)
        if left_out - self._left_out:
            reasons = group_by_reason({ticker: morning.left_out[ticker] for ticker in sorted(left_out)})
            whom = "; ".join(f"{names}: {why}" for names, _, why in reasons)
            count = len(morning.tickers)
            text = (
                f"Not traded in this session: {whom}. Each of the other {count} keeps its weight, "
                f"1/{count + len(left_out)} of the capital, as in the exam. A ticker that is delisted or has a new "
                "name belongs out of [market] watchlist."
            )
            self.tell(f"left out: {name_some(sorted(left_out), _NAMED)}", text)
        self._left_out = left_out

    def note(self, delivery: Delivery, hours: Hours) -> None:
        """Tell once of a market in which no ticker trades any more: a feed may fail and find nothing wrong with it."""
        regular = hours.opens <= delivery.minute < hours.closes
        if not regular or delivery.bars.height:
            self._silent = 0
            if regular:
                self._tell_stuck(delivery.minute)
            return
        self._silent += 1
        if self._silent == SILENCE_MINUTES:
            text = (
                f"No ticker has had a bar for {SILENCE_MINUTES} minutes, and the session is open: nothing is traded, "
                "and what is held stays until bars come or the close is near. Look at the vendor, or for a halt."
            )
            self.tell("no bars of any ticker", text)

    def _tell_stuck(self, minute: datetime) -> None:
        """Tell once of a ticker that is held and has fallen silent alone."""
        silent = {ticker for ticker, n in self.count_held(minute).items() if n >= HELD_SILENCE_MINUTES}
        for ticker in sorted(silent - self._stuck):
            text = (
                f"{ticker} is held and has had no bar for {HELD_SILENCE_MINUTES} minutes, while others trade: it is "
                "not traded, and stays until its bars come or the close is near. Look at the vendor, or for a halt."
            )
            self.tell(f"no bars of {ticker}, which is held", text)
        self._stuck = silent
