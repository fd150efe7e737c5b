"""What is told of a broker, once: outages, refusals in a row, refusals of the account.

Pure: it is handed `now`, and says what to tell.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from hftcl.formats import format_clock
from hftcl.trading.brokers.refusals import BY_CODE, OTHER, Refusal

CALM: Final = timedelta(minutes=10)
"""An outage is over when nothing has failed for so long: one that comes and goes is one alert, not sixty."""
LASTS_MINUTES: Final = 3
"""Minutes in a row with a failing call from which on a person is told; one lost answer is made up for in the next."""
IN_A_ROW: Final = 5
"""Refusals without an order that was taken between them: more than a ticker that cannot be sold short."""


@dataclass(slots=True)
class Outages:
    """When a broker last failed, for how many minutes in a row, and whether a person knows."""

    count: int = 0
    _since: datetime | None = None
    _last: datetime | None = None
    _minutes: int = 0
    _told: bool = False

    def begin(self, now: datetime) -> bool:
        """Note a failure; return whether to tell a person: once an outage, when it has lasted for minutes."""
        minute, last = now.replace(second=0, microsecond=0), self._last
        if last is None or now - last > CALM:
            self._since, self.count, self._told, self._minutes = now, 0, False, 0
            last = None
        before = last.replace(second=0, microsecond=0) if last else None
        if before != minute:
            self._minutes = self._minutes + 1 if before == minute - timedelta(minutes=1) else 1
        self._last = now
        self.count += 1
        news = self._minutes >= LASTS_MINUTES and not self._told
        self._told = self._told or news
        return news

    def end(self, now: datetime) -> str:
        """Note that all is well; return what to note of an outage that is over with this, "" for nothing."""
        if self._last is None or self._since is None or now - self._last <= CALM:
            return ""
        first, last = format_clock(self._since), format_clock(self._last)
        text = f"it answers again; {self.count} calls failed from {first} to {last} UTC"
        self._last = self._since = None
        return text


@dataclass(slots=True)
class Refusals:
    """What the broker refused since it last took an order."""

    _row: Counter[str] = field(default_factory=Counter)
    _told: bool = False
    unshortable: set[str] = field(default_factory=set)
    """Tickers that it does not sell short; for the session."""
    unclosed: dict[str, str] = field(default_factory=dict)
    """By ticker why the newest order that would have closed it was refused; for the session."""

    def note(self, code: str, ticker: str) -> str:
        """Note one; return what to tell a person where they have become many, "" otherwise."""
        self._row[code] += 1
        if code == "not_shortable":
            self.unshortable.add(ticker)
        if self._told or self._row.total() < IN_A_ROW:
            return ""
        self._told = True
        return self.text

    def note_acceptance(self) -> str:
        """Note that an order was taken; return how many were refused before it, where a person was told of them."""
        text = f"the broker takes orders again; before, it refused {self._row.total()}" if self._told else ""
        self._row.clear()
        self._told = False
        return text

    def begin_session(self) -> None:
        """Forget what was of one session."""
        self._row.clear()
        self._told = False
        self.unshortable.clear()
        self.unclosed.clear()

    @property
    def text(self) -> str:
        """Say what was refused, how often, and what to do."""
        parts = [f"{count} x {code} ({BY_CODE.get(code, OTHER).meaning})" for code, count in self._row.most_common()]
        code, _ = self._row.most_common(1)[0]
        return f"{self._row.total()} orders in a row were refused: {', '.join(parts)}. {find_remedy(code)}"


def find_remedy(code: str) -> str:
    """Return what a person may do about refusals of that code."""
    return BY_CODE.get(code, OTHER).remedy


def explain_bar(refusal: Refusal, reason: str) -> str:
    """Say that the account refuses, so that nothing is opened."""
    return (
        f"The account may not trade as it should: {refusal.meaning} ({reason}). Nothing is opened in this session; "
        f"what is held is closed as far as the broker allows. {refusal.remedy} `hftcl trade --clear` lets it open "
        "again."
    )
