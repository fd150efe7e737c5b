"""What came of what was to be expected, per ticker and session: the calendar decides what must be there. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:  # a model file tells of coverage, and `history` does not load the library of numbers for it
    import polars as pl

_WHOLE: Final = 0.9  # of a session's minutes: with fewer bars it is told by itself


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
