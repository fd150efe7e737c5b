"""When each job comes due, as the settings say: the rules, and the ends of the sessions that one of them follows.

Reads the exchange's calendar where the table that is shipped does not tell, and keeps what it needs of it in a small
file of the home: to load exchange_calendars and pandas takes longer than all the rest of `hftcl schedule --preview`.
"""

import contextlib
import json
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from hftcl import durable
from hftcl.config import times
from hftcl.entry_points import find_version
from hftcl.home import Home
from hftcl.schedule.new_york import ShippedSessions, read_shipped
from hftcl.schedule.rules import Job, Rule, SessionsRule, TimesRule
from hftcl.settings import Settings

_LIBRARY: Final = "exchange_calendars"
_BEFORE: Final = timedelta(days=40)  # kept before the first day that was asked for: a host that was down looks back
_AHEAD: Final = timedelta(days=120)  # a preview shows some weeks; who asks for more waits for the library again


def build_rules(settings: Settings, *, writes: bool = True) -> tuple[Rule, ...]:
    """Return when each job comes due, as the settings say. Raises ConfigError for a calendar that does not exist.

    writes: whether what was asked of the calendar may be kept in the home.
    """
    rule, zone = settings.schedule, ZoneInfo(settings.schedule.timezone)
    ends = SessionEnds(Home.of(settings), settings.market.calendar, writes=writes)
    delay = timedelta(minutes=rule.collect_delay_minutes)
    return (
        TimesRule(Job.RETRAIN, times.parse(rule.retrain), zone),
        TimesRule(Job.CHECK, times.parse(rule.check), zone),
        SessionsRule(Job.COLLECT, ends.list_from, delay),
        TimesRule(Job.DIGEST, times.parse(rule.digest), zone),
    )


class SessionEnds:
    """The end (UTC) of each session's extended hours, of the calendar `name`.

    From the table that is shipped, from what was kept in `home`, or from the calendar. Both the table and what was kept
    hold for the version of the library that they came from: the calendar alone is the truth.
    """

    def __init__(self, home: Home, name: str, *, writes: bool = True) -> None:
        self._writes = writes
        self._home, self._path, self._name = home, home.session_ends, name
        self._ends: dict[date, datetime] = {}
        self._span: tuple[date, date] | None = None
        self._shipped = self._find_shipped()
        self._read()

    def list_from(self, first: date) -> Iterator[tuple[date, datetime]]:
        """Yield (session, end) from the day `first` on, oldest first, as far as the calendar reaches."""
        while self._require(first, first):
            for day, end in sorted(self._ends.items()):
                if day >= first:
                    yield day, end
            assert self._span is not None  # noqa: S101 - `_require` has set it
            first = self._span[1] + timedelta(days=1)

    def _require(self, first: date, last: date) -> bool:
        """Know the sessions of `first` to `last`; False where the calendar does not reach that far."""
        if self._span is not None and self._span[0] <= first and last <= self._span[1]:
            return True
        return self._look_up(first) or self._load(first)

    def _find_shipped(self) -> ShippedSessions | None:
        shipped = read_shipped()
        told = self._name in shipped.calendars and shipped.version == find_version(_LIBRARY)
        return shipped if told else None

    def _look_up(self, first: date) -> bool:
        """Take from the shipped table what `_load` takes from the calendar; False where that does not have `first`."""
        table = self._shipped
        if table is None or not table.first <= first <= table.last:
            return False
        self._span = max(first - _BEFORE, table.first), min(first + _AHEAD, table.last)
        self._ends = table.list_ends(*self._span)
        return True

    def _load(self, first: date) -> bool:
        """Ask the calendar, from some weeks before `first` to some months after it, or to its end; keep the answer."""
        from hftcl.market.sessions import Calendar, HorizonError

        calendar = Calendar(self._name)
        try:
            calendar.list_sessions(first, first)
        except HorizonError:
            return False
        begin, end = max(first - _BEFORE, calendar.reach[0]), min(first + _AHEAD, calendar.reach[1])
        table = calendar.list_sessions(begin, end)
        self._ends = dict(zip(table["session"].to_list(), table["extended_close"].to_list(), strict=True))
        self._span = (begin, end)
        self._write()
        return True

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # missing or damaged: the calendar is asked
            kept = json.loads(durable.read_file(self._path))
            if (kept["calendar"], kept["version"]) == (self._name, find_version(_LIBRARY)):
                ends = {date.fromisoformat(day): datetime.fromisoformat(end) for day, end in kept["ends"].items()}
                self._span = (date.fromisoformat(kept["from"]), date.fromisoformat(kept["to"]))
                self._ends = ends

    def _write(self) -> None:
        if self._span is None or not self._writes or not self._home.models.is_dir():
            return  # a preview makes nothing in a folder that is no home
        kept = {
            "calendar": self._name,
            "version": find_version(_LIBRARY),
            "from": self._span[0].isoformat(),
            "to": self._span[1].isoformat(),
            "ends": {day.isoformat(): end.isoformat() for day, end in self._ends.items()},
        }
        with contextlib.suppress(OSError):  # a home that may not be written: the calendar is asked again next time
            durable.write_atomically(self._path, json.dumps(kept).encode())
