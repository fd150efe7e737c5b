"""A clock that a test moves and the scheduler that lives by it: see test_schedule and test_scheduling."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from hftcl.alerts import Alert, SendResult
from hftcl.config.times import parse
from hftcl.events import OnEvent
from hftcl.schedule.claims import OccurrenceRecord, Occurrences, State
from hftcl.schedule.interfaces import JobFunction, JobResult, Observer
from hftcl.schedule.rules import Job, Occurrence, Rule, SessionsRule, TimesRule
from hftcl.schedule.scheduler import Scheduler
from hftcl.schedule.stop import Stop
from hftcl.systemd import Notifier

NEW_YORK = ZoneInfo("America/New_York")
START = datetime(2026, 1, 7, 17, 0, tzinfo=UTC)
"""A Wednesday noon in New York."""


def daily_and_weekly(zone: ZoneInfo = NEW_YORK, check: str = "02:00", retrain: str = "Sun 01:00") -> list[Rule]:
    return [TimesRule(Job.RETRAIN, parse(retrain), zone), TimesRule(Job.CHECK, parse(check), zone)]


def weekdays(first: date) -> Iterable[tuple[date, datetime]]:
    """Yield sessions from Monday to Friday, each ending at 21:00 UTC."""
    while True:
        if first.weekday() < 5:
            yield first, datetime(first.year, first.month, first.day, 21, tzinfo=UTC)
        first += timedelta(days=1)


def all_jobs(zone: ZoneInfo = NEW_YORK) -> list[Rule]:
    return [
        *daily_and_weekly(zone),
        SessionsRule(Job.COLLECT, weekdays, timedelta(minutes=20)),
        TimesRule(Job.DIGEST, parse("Sun 08:00"), zone),
    ]


def row(
    occurrence: Occurrence, state: State = "done", *, at: datetime, until: datetime | None = None
) -> OccurrenceRecord:
    """Return what the registry would say of `occurrence`, claimed at `at`."""
    ended = None if state == "claimed" else until or at
    return OccurrenceRecord(
        job=occurrence.job,
        local_date=occurrence.local_date,
        due_at=occurrence.due_at,
        state=state,
        by="a test",
        claimed_at=at,
        finished_at=ended,
    )


@dataclass
class Clock:
    """The time as a test has it: what it shows is `offset` from the true time. Sleeping moves it.

    plans: what happens at which true time; a plan may raise, as a signal does.
    """

    true: datetime = START
    offset: timedelta = timedelta()
    plans: list[tuple[datetime, Callable[[], object]]] = field(default_factory=list)
    longest_sleep: float = 0.0

    def __call__(self) -> datetime:
        return self.true + self.offset

    def sleep(self, seconds: float) -> None:
        self.longest_sleep = max(self.longest_sleep, seconds)
        self.pass_by(seconds=seconds)

    def pass_by(self, **span: float) -> None:
        self.true += timedelta(**span)
        while ripe := [each for each in self.plans if each[0] <= self.true]:
            first = min(ripe, key=lambda each: each[0])
            self.plans.remove(first)
            first[1]()

    def at(self, moment: datetime, plan: Callable[[], object]) -> None:
        self.plans.append((moment, plan))

    def put(self, step: timedelta) -> None:
        self.offset += step


@dataclass
class Box:
    """Takes alerts and counts heartbeats, where the product has its outbox."""

    told: list[Alert] = field(default_factory=list)
    heartbeats: int = 0

    def tell(self, alert: Alert) -> None:
        self.told.append(alert)

    def deliver(self, now: datetime, timeout_s: float) -> SendResult:
        return SendResult()

    def send_heartbeat(self, timeout_s: float) -> bool:
        self.heartbeats += 1
        return True


def done_in(clock: Clock, log: list[Occurrence], **span: float) -> JobFunction:
    """Return a job that takes so long and writes what it did to `log`."""

    def work(occurrence: Occurrence, on_event: OnEvent) -> JobResult:
        log.append(occurrence)
        clock.pass_by(**span)
        return JobResult("did it")

    return work


def scheduler(
    home: Path,
    clock: Clock,
    jobs: Mapping[Job, JobFunction],
    *,
    rules: Sequence[Rule] | None = None,
    box: Box | None = None,
    stop: Stop | None = None,
    notifier: Notifier | None = None,
    observer: Observer | None = None,
    by: str = "a test",
    tick_s: float = 15.0,
    is_replaced: Callable[[], bool] = lambda: False,
) -> Scheduler:
    return Scheduler(
        [rule for rule in rules or daily_and_weekly() if rule.job in jobs],
        Occurrences(home),
        jobs,
        clock=clock,
        sleep=clock.sleep,
        by=by,
        stop=stop or Stop(),
        alerts=box or Box(),
        notifier=notifier or Notifier(),
        observer=observer or Observer(),
        tick_s=tick_s,
        is_replaced=is_replaced,
    )
