"""What is due. Pure: rules, the time and what is accounted for already in, occurrences out.

An occurrence is one job on one local date: whatever the clock does, that date is claimed once. Nothing here reads a
clock or a file.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from enum import StrEnum
from functools import lru_cache
from itertools import takewhile
from typing import Final, Protocol

from hftcl.config.times import Times
from hftcl.formats import format_clock
from hftcl.values import Value, value_class

BEFORE_FIRST: Final = "before the scheduler first ran"
"""Why an occurrence was passed over that no person waited for: a mark from which the later ones count."""
FIRST_GRACE: Final = timedelta(hours=1)
"""What came due this long before the scheduler was first started is still due: a timer may call it at five past."""
MOST_MISSED: Final = 366
"""Of each job, how many are recorded as missed at a time: ten years of them are no downtime but a clock put wrong."""
_LOOKBACK: Final = timedelta(days=400)  # a year and a month: a job that comes once a year has come in it
_LONGEST: Final = timedelta(days=1)
"""A retrain that seems to have taken longer is one in which the clock was put; it may not swallow a year's checks."""
_REACH: Final = timedelta(days=3)  # a date can begin 26 hours apart on Earth, and a zone can leave out a whole day
_MINUTE: Final = timedelta(minutes=1)  # schedules have no seconds, nor have changes of the clock today


class Job(StrEnum):
    """What the scheduler does; of two that are due at the same moment, the one named first here goes first."""

    # Stored in the registry: under a new spelling, what is done would be due again.
    RETRAIN = "retrain"
    CHECK = "check"
    COLLECT = "collect"
    DIGEST = "digest"


_ORDER: Final = {job: place for place, job in enumerate(Job)}  # the order of `Job`: said once


@value_class(frozen=True, slots=True)
class Occurrence(Value):
    """One job on one date of its zone: (job, local_date) is its id. due_at: UTC. note: what is odd about its time."""

    job: Job
    local_date: date
    due_at: datetime
    note: str = ""


class Accounted(Protocol):
    """An occurrence as the registry knows it; times UTC, `finished_at` None while it runs."""

    @property
    def job(self) -> str: ...
    @property
    def local_date(self) -> date: ...
    @property
    def due_at(self) -> datetime: ...
    @property
    def state(self) -> str: ...
    @property
    def claimed_at(self) -> datetime: ...
    @property
    def finished_at(self) -> datetime | None: ...


class Rule(Protocol):
    """When one job comes due."""

    @property
    def job(self) -> Job: ...

    def iterate_after(self, moment: datetime) -> Iterator[Occurrence]:
        """Yield the occurrences that come due later than `moment` (UTC), earliest first; endless where time is."""


@value_class(frozen=True, slots=True)
class TimesRule(Value):
    """A job at one minute of certain days, as a clock on the wall of `zone` shows it."""

    job: Job
    times: Times
    zone: tzinfo

    def iterate_after(self, moment: datetime) -> Iterator[Occurrence]:
        """Yield an occurrence for each day named."""
        first = (moment - _REACH).astimezone(self.zone).date()
        for day in self.times.iterate_dates(first):
            due_at, note = resolve(datetime.combine(day, self.times.at), self.zone)  # the zone is what is found out
            if due_at > moment:
                yield Occurrence(self.job, day, due_at, note)


@value_class(frozen=True, slots=True)
class SessionsRule(Value):
    """A job after each session of an exchange. list_sessions: the sessions from a date on, each with its end, UTC."""

    job: Job
    list_sessions: Callable[[date], Iterable[tuple[date, datetime]]]
    delay: timedelta

    def iterate_after(self, moment: datetime) -> Iterator[Occurrence]:
        """Yield an occurrence for each session that the calendar knows."""
        for session, close in self.list_sessions((moment - self.delay - _REACH).date()):
            if close + self.delay > moment:
                yield Occurrence(self.job, session, close + self.delay)


@lru_cache(maxsize=256)
def resolve(wall: datetime, zone: tzinfo) -> tuple[datetime, str]:
    """Return the moment (UTC) at which a clock on the wall of `zone` shows `wall`, and what is odd about it.

    A minute that is left out becomes the next that exists; of two equal ones the first counts.
    """
    early = wall.replace(tzinfo=zone, fold=0)
    moment = early.astimezone(UTC)
    if moment.astimezone(zone).replace(tzinfo=None) == wall:
        twice = wall.replace(tzinfo=zone, fold=1).astimezone(UTC) > moment
        return moment, f"{format_clock(wall)} comes twice on this day: the first" if twice else ""
    # Left out: the offset before the change puts `moment` after it, the offset after the change puts `low` before it.
    low = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    before = early.utcoffset()
    while moment - low > _MINUTE:
        middle = low + (moment - low) // 2 // _MINUTE * _MINUTE
        low, moment = (middle, moment) if middle.astimezone(zone).utcoffset() == before else (low, middle)
    return moment, f"{format_clock(wall)} does not exist on this day: the next minute that does"


@value_class(frozen=True, slots=True)
class Due(Value):
    """What to do now, in order, and what to record without doing it, each with the reason.

    before: of each job that has never been accounted for, the newest occurrence that lies before the first start.
    """

    run: tuple[Occurrence, ...]
    missed: tuple[tuple[Occurrence, str], ...]
    skipped: tuple[tuple[Occurrence, str], ...]
    before: tuple[tuple[Occurrence, str], ...]


def find_due(rules: Sequence[Rule], now: datetime, accounted: Iterable[Accounted]) -> Due:
    """Return what is due at `now` (UTC) and not accounted for.

    Of each job the newest occurrence runs; the older ones, of a time in which none ran, are missed. A check that
    came due while a retrain ran is skipped. Nothing that was ever claimed is due again, even at a clock set back; what
    was recorded as missed by a clock that ran ahead comes due in its time.
    """
    believed_records = [record for record in accounted if not _is_premature(record, now)]
    retrains = [record for record in believed_records if record.job == Job.RETRAIN]
    run: list[Occurrence] = []
    missed: list[tuple[Occurrence, str]] = []
    skipped: list[tuple[Occurrence, str]] = []
    before: list[tuple[Occurrence, str]] = []
    for rule in rules:
        job_records = [record for record in believed_records if record.job == rule.job]
        since = max((record.due_at for record in job_records if record.due_at <= now), default=None)
        if since is None:
            first = _find_before_first(rule, now)
            before += [(first, BEFORE_FIRST)] if first else []
            since = first.due_at if first else now - FIRST_GRACE
        taken = {record.local_date for record in job_records}
        due_occurrences = [
            occurrence
            for occurrence in takewhile(lambda o: o.due_at <= now, rule.iterate_after(since))
            if occurrence.local_date not in taken
        ]
        if not due_occurrences:
            continue
        newest, older = due_occurrences[-1], due_occurrences[-1 - MOST_MISSED : -1]
        missed += [
            (occurrence, f"no scheduler ran in its time; {newest.local_date} runs instead") for occurrence in older
        ]
        running = _find_running(newest.due_at, retrains) if rule.job is Job.CHECK else None
        if running is not None:
            skipped.append((newest, f"the retrain of {running.local_date} was still running"))
        else:
            run.append(newest)
    return Due(tuple(sorted(run, key=_order_key)), tuple(missed), tuple(skipped), tuple(before))


def list_upcoming(rules: Sequence[Rule], now: datetime, accounted: Iterable[Accounted]) -> Iterator[Occurrence]:
    """Yield what comes due later than `now` and is not claimed, in the order in which it runs."""
    taken = {(record.job, record.local_date) for record in accounted if not _is_premature(record, now)}
    for occurrence in heapq.merge(*(rule.iterate_after(now) for rule in rules), key=_order_key):
        if (occurrence.job, occurrence.local_date) not in taken:
            yield occurrence


def _is_premature(record: Accounted, now: datetime) -> bool:
    """Whether it was passed over by a clock that ran ahead: what was said at a time to come counts for nothing."""
    return record.state in {"missed", "skipped"} and record.claimed_at > now


def _find_before_first(rule: Rule, now: datetime) -> Occurrence | None:
    """Return the newest occurrence that lies before the first start: later ones count."""
    last = None
    for occurrence in takewhile(lambda o: o.due_at <= now - FIRST_GRACE, rule.iterate_after(now - _LOOKBACK)):
        last = occurrence
    return last


def _find_running(moment: datetime, retrains: Iterable[Accounted]) -> Accounted | None:
    for retrain in retrains:
        ended = (
            moment + _MINUTE if retrain.finished_at is None else min(retrain.finished_at, retrain.claimed_at + _LONGEST)
        )
        if retrain.claimed_at <= moment < ended:
            return retrain
    return None


def _order_key(occurrence: Occurrence) -> tuple[datetime, int]:
    return occurrence.due_at, _ORDER[occurrence.job]
