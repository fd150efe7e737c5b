"""When something is to happen: "02:00", "Sun 01:00" or cron syntax, read as one minute of certain days. Pure.

No time zone here: these are dates and times as a clock on the wall shows them.
"""

import calendar
import re
from collections.abc import Iterator
from datetime import MAXYEAR, date, datetime, time, timedelta
from functools import lru_cache
from itertools import takewhile
from typing import Final

from cronsim import CronSim, CronSimError

from hftcl.values import Value, value_class

# The two forms that need no cron: "09:30" and "Sun 01:00".
_SIMPLE: Final = re.compile(r"(?:(?P<day>[A-Z][a-z]{2}) )?(?P<hour>\d\d):(?P<minute>\d\d)")
_BEFORE: Final = timedelta(minutes=1)  # CronSim begins after the moment that it is given


@value_class(frozen=True, slots=True)
class Times(Value):
    """One minute, `at`, of the days that `cron` (five fields) names; without a time zone."""

    cron: str
    at: time

    def iterate_dates(self, first: date) -> Iterator[date]:
        """Yield the days from `first` on, it included, oldest first, without end."""
        year, month = first.year, first.month
        while year < MAXYEAR:
            yield from (day for day in _list_days(self.cron, year, month) if day >= first)
            year, month = (year, month + 1) if month < 12 else (year + 1, 1)


@lru_cache(maxsize=4096)
def _list_days(cron: str, year: int, month: int) -> tuple[date, ...]:
    """Return the days of one month. Kept, because the scheduler asks for the same few again and again."""
    begin = datetime(year, month, 1)  # noqa: DTZ001 - a date of the wall calendar
    end = begin + timedelta(days=calendar.monthrange(year, month)[1])
    moments = takewhile(lambda moment: moment < end, CronSim(cron, begin - _BEFORE))
    return tuple(moment.date() for moment in moments)


@lru_cache(maxsize=32)
def parse(text: str) -> Times:
    """Return what `text` means. Raises ValueError, whose message ends a line such as `schedule.check = "x": `."""
    simple = _SIMPLE.fullmatch(text)
    cron = f"{simple['minute']} {simple['hour']} * * {simple['day'] or '*'}" if simple else text
    try:
        schedule = CronSim(cron, datetime(2000, 1, 1))  # noqa: DTZ001
    except CronSimError as error:
        raise ValueError(f"cron knows no such time: {str(error)[:1].lower()}{str(error)[1:]}.") from None
    if len(cron.split()) != 5:
        raise ValueError('cron syntax has five fields here: minute, hour, day, month, weekday, such as "0 2 * * *".')
    if len(schedule.minutes) > 1 or len(schedule.hours) > 1:
        raise ValueError('name one minute of the day, such as "0 2 * * *": a job runs at most once a day.')
    if next(schedule, None) is None:
        raise ValueError("there is no such day.")
    (hour,), (minute,) = schedule.hours, schedule.minutes
    return Times(cron=cron, at=time(hour, minute))
