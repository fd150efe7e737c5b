"""What `schedule --preview` and `schedule --once` return: the values of their tables and of their JSON."""

from collections.abc import Iterable, Sequence
from datetime import date, datetime, tzinfo
from itertools import islice

from hftcl.schedule.claims import OccurrenceRecord
from hftcl.schedule.rules import Accounted, Rule, list_upcoming
from hftcl.values import Value, value_class


@value_class(frozen=True, slots=True, kw_only=True)
class ComingReport(Value):
    """One occurrence that comes. local: in the zone of the schedule. note: what is odd about its time."""

    job: str
    local: datetime
    utc: datetime
    note: str


@value_class(frozen=True, slots=True, kw_only=True)
class RanReport(Value):
    """What became of one occurrence: `state` "done", "failed", "skipped" or "missed", and `outcome` in words.

    local, utc: when it was due.
    """

    job: str
    local: datetime
    utc: datetime
    state: str
    outcome: str


def preview(
    rules: Sequence[Rule], zone: tzinfo, now: datetime, accounted: Iterable[Accounted], count: int
) -> tuple[ComingReport, ...]:
    """Return the next `count` occurrences, earliest first; fewer where the exchange calendar is all that is left."""
    return tuple(
        ComingReport(
            job=str(occurrence.job),
            local=occurrence.due_at.astimezone(zone),
            utc=occurrence.due_at,
            note=occurrence.note,
        )
        for occurrence in islice(list_upcoming(rules, now, accounted), count)
    )


def report_ran(occurred: Iterable[OccurrenceRecord], zone: tzinfo) -> tuple[RanReport, ...]:
    """Return what became of occurrences, in their order."""
    return tuple(
        RanReport(
            job=record.job,
            local=record.due_at.astimezone(zone),
            utc=record.due_at,
            state=record.state,
            outcome=record.outcome or "",
        )
        for record in occurred
    )


def describe_days(days: Sequence[date]) -> str:
    """Return the one day, or how many there are and from when to when; days: oldest first, at least one."""
    return f"{days[0]}" if len(days) == 1 else f"{len(days)} times, {days[0]} to {days[-1]}"
