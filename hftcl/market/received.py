"""What came of what was to be expected, per ticker and session: the calendar decides what must be there. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Final

from hftcl.formats import name_some

if TYPE_CHECKING:  # a model file tells of coverage, and `history` does not load the library of numbers for it
    import polars as pl

_WHOLE: Final = 0.9  # of a session's minutes: with fewer bars it is told by itself
_SHOWN: Final = 3  # sessions in a line of text; --json has all of them


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionCoverage:
    """Regular minutes of one session: expected by the calendar, received as good bars; rows that were quarantined
    (dropped with a reason, extended hours included); bars that the source corrected later.
    """

    session: date
    expected: int
    received: int
    quarantined: int
    revised: int

    @property
    def missing(self) -> int:
        return self.expected - self.received


@dataclass(frozen=True, slots=True, kw_only=True)
class TickerCoverage:
    """The sums over a window's sessions that are over; `incomplete` are those with something to tell of.

    left_out: why the ticker is not among the bars, "" where it is. refused: because its bars cannot be true or be read,
    not because there are too few. context: whether it is seen and not traded.
    """

    ticker: str
    sessions: int
    expected: int
    received: int
    missing: int
    quarantined: int
    revised: int
    incomplete: tuple[SessionCoverage, ...]
    left_out: str = ""
    refused: bool = False
    context: bool = False

    def is_silent_on(self, session: date) -> bool:
        """Whether it has bars, and none in this session."""
        lacking = any(day.session == session and not day.received for day in self.incomplete)
        return lacking and self.received > 0 and not self.left_out

    def list_holes(self, least: float) -> tuple[SessionCoverage, ...]:
        """Return the sessions without a bar, or with less than the share `least` of what the ticker usually has.

        Usually, not of all minutes: of a share that is thinly traded, half of the minutes are never there.
        """
        usual = self.received / self.expected if self.expected else 0.0
        return tuple(day for day in self.incomplete if not day.received or day.received < least * usual * day.expected)


def list_stored(covered: Sequence[TickerCoverage], days: tuple[date, ...]) -> tuple[date, ...]:
    """Return `days` without the newest that no ticker has a bar of: those are still to be collected, and no holes."""
    empty = (tuple(day.session for day in item.incomplete if not day.received) for item in covered)
    missing = frozenset.intersection(*map(frozenset, empty))
    return days[: next((len(days) - nth for nth, day in enumerate(reversed(days)) if day not in missing), 0)]


def describe_holes(holes: Sequence[SessionCoverage]) -> str:
    """Return which sessions have no bar and which have few, for a line of text: the newest few of each.

    >>> few = SessionCoverage(session=date(2026, 1, 6), expected=390, received=12, quarantined=0, revised=0)
    >>> describe_holes((few,))
    '12 of 390 minutes on 2026-01-06'
    """
    empty = [str(day.session) for day in reversed(holes) if not day.received]
    few = [f"{day.received} of {day.expected} minutes on {day.session}" for day in reversed(holes) if day.received]
    told = [f"no bar on {name_some(empty, _SHOWN)}"] if empty else []
    return "; ".join((*told, *([name_some(few, _SHOWN)] if few else [])))


def count_received(
    bars: "pl.DataFrame",
    sessions: "pl.DataFrame",
    *,
    ticker: str,
    quarantined: Mapping[date, int],
    revised: Mapping[date, int],
) -> TickerCoverage:
    """Return what `bars` (BAR_SCHEMA of one ticker) hold of `sessions`, which are those that are over."""
    counts = dict(bars["session"].filter(bars["regular"]).value_counts().iter_rows())
    lengths = (sessions["close"] - sessions["open"]).dt.total_minutes()
    days = [
        SessionCoverage(
            session=day,
            expected=int(length),
            received=int(counts.get(day, 0)),
            quarantined=quarantined.get(day, 0),
            revised=revised.get(day, 0),
        )
        for day, length in zip(sessions["session"].to_list(), lengths.to_list(), strict=True)
    ]
    return TickerCoverage(
        ticker=ticker,
        sessions=len(days),
        expected=sum(day.expected for day in days),
        received=sum(day.received for day in days),
        missing=sum(day.missing for day in days),
        quarantined=sum(day.quarantined for day in days),
        revised=sum(day.revised for day in days),
        incomplete=tuple(day for day in days if day.received < _WHOLE * day.expected or day.quarantined or day.revised),
    )
