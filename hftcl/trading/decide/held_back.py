"""Which tickers are held back again and again, whatever the code, so that a person hears of it. Pure."""

from collections import Counter, deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from hftcl.strategy.risk import Code

WINDOW: Final = 15
"""Minutes that are looked at: half a horizon, in which half of the signals come or go."""
MOST: Final = 10
"""Minutes of them in which a ticker may be held back before a person is told."""
_QUIET: Final = 3  # it trades again: as many minutes as a thin ticker may lack
_TOLD_OTHERWISE: Final = frozenset(
    {Code.HOLD_HALTED, Code.HOLD_NO_MODEL, Code.HOLD_MODEL_OLD, Code.HOLD_STAND_ASIDE, Code.HOLD_CALENDAR}
)
"""Codes of the whole book, each of which is an alert of its own."""
_SILENCE: Final = frozenset({Code.HOLD_NO_BAR, Code.HOLD_STALE})
_FREE: Final = frozenset({Code.TRADE, Code.HOLD_WARMUP})


@dataclass(slots=True)
class HeldBack:
    """The newest codes of each ticker of a session."""

    _codes: dict[str, deque[Code]] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)

    def note(self, codes: Mapping[str, Code], held: Collection[str] = ()) -> str:
        """Take a minute's codes; return what to tell of tickers that have been held back for long, "" for nothing.

        held: tickers in which there is a position. Their silence, and that of all tickers at once, is told by itself.
        """
        news: list[str] = []
        silent = all(code in _SILENCE for code in codes.values())
        for ticker, code in codes.items():
            if code in _TOLD_OTHERWISE or (code in _SILENCE and (silent or ticker in held)):
                continue
            newest = self._codes.setdefault(ticker, deque(maxlen=WINDOW))
            newest.append(code)
            held_back = [code for code in newest if code not in _FREE]
            if len(held_back) >= MOST and ticker not in self._told:
                self._told.add(ticker)
                shares = ", ".join(f"{count} x {code}" for code, count in Counter(held_back).most_common())
                news.append(f"{ticker} ({shares})")
            elif len(held_back) <= _QUIET:
                self._told.discard(ticker)
        if not news:
            return ""
        return (
            f"Held back in at least {MOST} of the last {WINDOW} minutes: {', '.join(sorted(news))}. Nothing is "
            "opened in them meanwhile. What each code means is in docs/trading.md; `hftcl trade --status` counts them."
        )
