"""One session as the bot sees it: when it may trade, and how far the close is."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import polars as pl

from hftcl.market.bars import MINUTE
from hftcl.market.sessions import Calendar, HorizonError


@dataclass(frozen=True, slots=True, kw_only=True)
class Hours:
    """A session of the exchange calendar, times UTC. begins, ends: of the trading, extended hours where they count.

    opens, closes: of the regular session, by which minutes are counted. `table` is its row of `Calendar.list_sessions`.
    """

    session: date
    opens: datetime
    closes: datetime
    begins: datetime
    ends: datetime
    table: pl.DataFrame
    before: date
    """The session before it; itself where the calendar knows none."""

    def count_minutes_to_close(self, moment: datetime) -> float:
        """Minutes from `moment` to the regular close; negative after it."""
        return (self.closes - moment) / MINUTE

    def list_minutes(self, first: datetime) -> "list[datetime]":
        """Return the start of each whole minute of trading from `first` on."""
        start = max(first, self.begins)
        count = max(0, -(-(self.ends - start) // MINUTE))
        return [start + n * MINUTE for n in range(count)]


def find_hours(calendar: Calendar, day: date, *, extended_hours: bool) -> Hours:
    """Return the hours of the session `day`. Raises HorizonError where the calendar does not reach it.

    >>> from datetime import date
    >>> hours = find_hours(Calendar("XNYS"), date(2026, 11, 27), extended_hours=False)
    >>> len(hours.list_minutes(hours.opens)), hours.count_minutes_to_close(hours.opens)
    (210, 210.0)
    """
    return _build_hours(calendar, calendar.list_sessions(day, day), extended_hours=extended_hours)


def find_next_hours(calendar: Calendar, now: datetime, *, extended_hours: bool) -> Hours:
    """Return the session that trades at `now`, else the next one. Raises HorizonError where the calendar ends."""
    day = now.date() - timedelta(days=1)  # around the clock, or in the far East, a session began the UTC day before
    while True:
        # Asked day by day, not as a span: a span that reaches beyond the calendar's end would fail a fortnight early.
        table = calendar.list_sessions(day, day)
        if not table.is_empty():
            hours = _build_hours(calendar, table, extended_hours=extended_hours)
            if hours.ends > now:
                return hours
        day += timedelta(days=1)


def _build_hours(calendar: Calendar, table: pl.DataFrame, *, extended_hours: bool) -> Hours:
    row: dict[str, Any] = table.row(0, named=True)
    try:
        before = calendar.find_previous_session(row["session"])
    except HorizonError:
        before = row["session"]
    return Hours(
        session=row["session"],
        opens=row["open"],
        closes=row["close"],
        begins=row["extended_open"] if extended_hours else row["open"],
        ends=row["extended_close"] if extended_hours else row["close"],
        table=table,
        before=before,
    )
