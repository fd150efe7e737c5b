"""The sessions of New York for some years, from a table that is shipped: no library of calendars is loaded for them.

The table holds what exchange_calendars says, of the version that it names; `python -m tests.schedule.new_york` writes
it. Reads that one file.
"""

import json
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

TABLE: Final = Path(__file__).with_name("new_york.json")
_ZONE: Final = ZoneInfo("America/New_York")
_LAST_WEEKDAY: Final = 4  # Friday, as `date.weekday` counts
# New York, the ends of extended hours: of a day, and of a half day; held equal to the calendar's by a test.
_END, _HALF_DAY_END = time(20), time(17)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShippedSessions:
    """Every weekday from `first` to `last` is a session, but for those that are `closed`; `short` ones are half days.

    version: of exchange_calendars, which says so. calendars: the names that it has for this exchange.
    """

    version: str
    calendars: tuple[str, ...]
    first: date
    last: date
    closed: frozenset[date] = field(repr=False)
    short: frozenset[date] = field(repr=False)

    def list_ends(self, first: date, last: date) -> dict[date, datetime]:
        """Return by session, oldest first, when its extended hours end, UTC; both days included, within the table."""
        days = (first + timedelta(days=n) for n in range((last - first).days + 1))
        sessions = (day for day in days if day.weekday() <= _LAST_WEEKDAY and day not in self.closed)
        return {day: self._find_end(day) for day in sessions}

    def _find_end(self, day: date) -> datetime:
        return datetime.combine(day, _HALF_DAY_END if day in self.short else _END, _ZONE).astimezone(UTC)


def read_shipped() -> ShippedSessions:
    """Return the table as it is shipped.

    >>> read_shipped().list_ends(date(2026, 11, 26), date(2026, 11, 27))  # Thanksgiving, and a half day
    {datetime.date(2026, 11, 27): datetime.datetime(2026, 11, 27, 22, 0, tzinfo=datetime.timezone.utc)}
    """
    table = json.loads(TABLE.read_bytes())
    return ShippedSessions(
        version=table["version"],
        calendars=tuple(table["calendars"]),
        first=date.fromisoformat(table["first"]),
        last=date.fromisoformat(table["last"]),
        closed=frozenset(map(date.fromisoformat, table["closed"])),
        short=frozenset(map(date.fromisoformat, table["short"])),
    )
