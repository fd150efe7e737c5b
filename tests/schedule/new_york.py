"""Writes the shipped table of New York's sessions as the installed exchange_calendars tells them.

`python -m tests.schedule.new_york`, after another version of it was installed.
"""

import json
import warnings
from datetime import date, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from hftcl.schedule.new_york import TABLE

FIRST: Final = date(2025, 1, 1)
LAST: Final = date(2035, 12, 31)
FULL_CLOSE_HOUR: Final = 16
_LIBRARY: Final = "exchange_calendars"


def write_table(folder: Path) -> Path:
    """Write the table of the installed library, of whichever version that is, for tests of what is done with one."""
    file = folder / "new_york.json"
    file.write_text(json.dumps(build_table()))
    return file


def build_table() -> dict[str, Any]:
    """Return what the file holds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library meets deprecations of pandas
        from exchange_calendars import get_calendar
        from exchange_calendars.calendar_utils import get_calendar_names, resolve_alias

        calendar = get_calendar("XNYS", start=FIRST.isoformat(), end=LAST.isoformat())
        closes = calendar.closes.dt.tz_convert("America/New_York")
        names = sorted(name for name in get_calendar_names() if resolve_alias(name) == "XNYS")
    sessions = {close.date(): close.hour for close in closes}
    days = (FIRST + timedelta(days=n) for n in range((LAST - FIRST).days + 1))
    return {
        "version": version(_LIBRARY),
        "calendars": names,
        "first": FIRST.isoformat(),
        "last": LAST.isoformat(),
        "closed": [day.isoformat() for day in days if day.weekday() <= 4 and day not in sessions],
        "short": [day.isoformat() for day, hour in sessions.items() if hour < FULL_CLOSE_HOUR],
    }


if __name__ == "__main__":
    TABLE.write_text(json.dumps(build_table(), indent=1) + "\n")
