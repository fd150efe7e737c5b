"""The scheduler with a clock that the test moves: real registry, real locks, the work replaced by a script."""

import contextlib
import gc
import os
import random
import resource
import socket
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from hftcl.alerts import Alert, Kind
from hftcl.errors import HftclError, LockHeldError, NewerVersionError, SourceError, StorageError, SupersededError
from hftcl.events import Event, OnEvent, critical
from hftcl.schedule.claims import Occurrences
from hftcl.schedule.interfaces import JobFunction, JobResult
from hftcl.schedule.rules import Job, Occurrence
from hftcl.schedule.stop import Stop, StopRequest
from hftcl.systemd import Notifier
from tests.schedule.schedule_cases import NEW_YORK, START, Box, Clock, all_jobs, done_in, scheduler

DAY = timedelta(days=1)
SIGTERM = 15


def states(home: Path) -> list[tuple[str, str, str]]:
    """Return what is accounted for, but for what lies before the first start."""
    rows = [each for each in Occurrences(home).list_known() if each.outcome != "before the scheduler first ran"]
    return [(each.job, str(each.local_date), each.state) for each in rows]


def run_until(
    moment: datetime,
    home: Path,
    clock: Clock,
    jobs: Mapping[Job, JobFunction],
    *,
    stop: Stop | None = None,
    **more: object,
) -> None:
    """Run the loop in the foreground until SIGTERM comes at `moment`."""
    stop = stop or Stop()
    clock.at(moment, lambda: stop.ask(SIGTERM))
    scheduler(home, clock, jobs, stop=stop, **more).run()  # type: ignore[arg-type]
    assert clock.true >= moment


def test_each_job_is_done_once_in_its_time_and_the_loop_looks_up_every_fifteen_seconds(tmp_path: Path) -> None:
    clock, log = Clock(), list[Occurrence]()
    begun: list[datetime] = []

    def work(occurrence: Occurrence, on_event: OnEvent) -> JobResult:
        begun.append(clock())
        return done_in(clock, log, minutes=1)(occurrence, on_event)

    run_until(START + 4 * DAY + timedelta(hours=2), tmp_path, clock, dict.fromkeys(Job, work), rules=all_jobs())
    assert [(each.job, str(each.local_date)) for each in log] == [
        ("collect", "2026-01-07"),
        ("check", "2026-01-08"),
        ("collect", "2026-01-08"),
        ("check", "2026-01-09"),
        ("collect", "2026-01-09"),
        ("check", "2026-01-10"),
        ("retrain", "2026-01-11"),
        ("check", "2026-01-11"),
        ("digest", "2026-01-11"),
    ]
    assert [each.due_at for each in log] == begun
    assert clock.longest_sleep == 15
    assert {state for _, _, state in states(tmp_path)} == {"done"}


def test_a_scheduler_whose_code_was_replaced_ends_before_the_next_job_and_leaves_it_to_the_next_process(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock, log = Clock(), list[Occurrence]()
    jobs = {Job.CHECK: done_in(clock, log, minutes=1)}
    scheduler(tmp_path, clock, jobs, is_replaced=lambda: len(log) == 2).run()
    assert [str(each.local_date) for each in log] == ["2026-01-08", "2026-01-09"]
    assert "hftcl was replaced on the disk since this began" in caplog.text
    assert len(scheduler(tmp_path, clock, jobs, by="the next process").run_once()) == 1


def test_a_second_scheduler_and_a_restart_find_nothing_left_to_do(tmp_path: Path) -> None:
    clock, log = Clock(), list[Occurrence]()
    jobs = {Job.CHECK: done_in(clock, log, minutes=1)}
    run_until(START + 3 * DAY, tmp_path, clock, jobs)
    assert len(log) == 3
    assert scheduler(tmp_path, clock, jobs, by="another").run_once() == ()
    assert len(log) == 3


@pytest.mark.hazard(42)
def test_a_host_that_sleeps_for_days_does_the_newest_once_and_tells(tmp_path: Path) -> None:
    clock, log, box = Clock(), list[Occurrence](), Box()
    clock.at(START + DAY, lambda: clock.pass_by(days=4))  # time.sleep does not count what a host sleeps
    run_until(START + 6 * DAY, tmp_path, clock, {Job.CHECK: done_in(clock, log, minutes=1)}, box=box)
    assert [str(each.local_date) for each in log] == ["2026-01-08", "2026-01-12", "2026-01-13"]
    assert Counter(state for _, _, state in states(tmp_path)) == {"done": 3, "missed": 3}
    (alert,) = (each for each in box.told if each.kind is Kind.BEHIND)
    assert "check was missed: 3 times, 2026-01-09 to 2026-01-11." in alert.text


def test_a_job_that_begins_hours_late_is_told_although_none_was_missed(tmp_path: Path) -> None:
    clock, log, box = Clock(), list[Occurrence](), Box()
    clock.at(START + timedelta(hours=10), lambda: clock.pass_by(hours=9))
    run_until(START + DAY, tmp_path, clock, {Job.CHECK: done_in(clock, log, minutes=1)}, box=box)
    assert [(each.kind, each.subject) for each in box.told] == [(Kind.BEHIND, "check began late")]
    assert "due at 2026-01-08 07:00 UTC and began at 2026-01-08 12:00 UTC" in box.told[0].text


@pytest.mark.hazard(43)
def test_a_clock_that_is_put_back_while_the_loop_waits_has_its_days_too(tmp_path: Path) -> None:
    clock, log = Clock(), list[Occurrence]()
    clock.at(START + timedelta(hours=1), lambda: clock.put(-3 * DAY))
    run_until(START + 4 * DAY, tmp_path, clock, {Job.CHECK: done_in(clock, log, minutes=1)})
    assert [str(each.local_date) for each in log] == ["2026-01-05", "2026-01-06", "2026-01-07", "2026-01-08"]


@pytest.mark.hazard(44)
def test_a_retrain_that_takes_two_hours_lets_the_check_be_skipped_and_collection_come_late(tmp_path: Path) -> None:
    clock, log = Clock(START + 3 * DAY), list[Occurrence]()
    jobs = {Job.CHECK: done_in(clock, log, minutes=1), Job.RETRAIN: done_in(clock, log, hours=2)}
    run_until(START + 5 * DAY, tmp_path, clock, jobs)
    assert [(each.job, str(each.local_date)) for each in log] == [("retrain", "2026-01-11"), ("check", "2026-01-12")]
    assert ("check", "2026-01-11", "skipped") in states(tmp_path)


# --- work that fails --------------------------------------------------------------------------------------------------


def failing(error: Exception) -> JobFunction:
    def work(occurrence: Occurrence, on_event: OnEvent) -> JobResult:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "state", "told"),
    [
        (SourceError("the source is down"), "failed", "the source is down"),
        (StorageError("the disk is full"), "failed", "the disk is full"),
        (ZeroDivisionError("a bug"), "failed", "unexpected ZeroDivisionError: a bug"),
        (LockHeldError("retrain", 17, START), "skipped", "Another retrain has been running"),
        (SupersededError("another model serves meanwhile"), "failed", "another model serves meanwhile"),
    ],
)
def test_work_that_fails_is_recorded_and_told_and_the_next_one_runs(
    tmp_path: Path, error: Exception, state: str, told: str
) -> None:
    clock, log, box = Clock(), list[Occurrence](), Box()
    jobs = {Job.CHECK: failing(error), Job.COLLECT: done_in(clock, log, minutes=1)}
    run_until(START + DAY, tmp_path, clock, jobs, rules=all_jobs(), box=box)
    (row,) = (each for each in Occurrences(tmp_path).list_known() if each.job == "check" and each.local_date.day == 8)
    assert row.state == state
    assert told in str(row.outcome)
    assert [each.kind for each in box.told] == ([Kind.ERROR] if state == "failed" else [])
    assert all(told in each.text for each in box.told)
    assert len(log) == 1
    assert box.heartbeats == (1 if state == "failed" else 2), "a failure is no sign of health"


def test_a_registry_of_a_newer_hftcl_ends_the_loop_with_the_status_that_is_not_restarted(tmp_path: Path) -> None:
    clock = Clock()
    scheduler(tmp_path, clock, {Job.CHECK: done_in(clock, [], minutes=1)}).run_once()
    with contextlib.closing(sqlite3.connect(tmp_path / "models" / "registry.sqlite")) as db:
        db.execute("PRAGMA user_version = 7")
    with pytest.raises(NewerVersionError) as caught:
        scheduler(tmp_path, clock, {Job.CHECK: done_in(clock, [], minutes=1)}).run()
    assert caught.value.exit_code == 78


@contextlib.contextmanager
def a_full_disk() -> Iterator[Callable[[], None]]:
    """Yield what makes every write of this process fail, as on a full disk; afterwards they succeed again."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_on_a_full_disk_no_work_begins_without_its_claim_and_what_was_done_is_recorded_later(tmp_path: Path) -> None:
    clock, log, box = Clock(), list[Occurrence](), Box()
    with a_full_disk() as fill:
        free = resource.getrlimit(resource.RLIMIT_FSIZE)

        def work(occurrence: Occurrence, on_event: OnEvent) -> JobResult:
            log.append(occurrence)
            fill()
            return JobResult("did it")

        clock.at(START + 2 * DAY, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, free))
        run_until(START + 2 * DAY + timedelta(hours=1), tmp_path, clock, {Job.CHECK: work}, box=box, tick_s=900)
    assert [str(each.local_date) for each in log] == ["2026-01-08", "2026-01-09"], "the second as soon as it could"
    assert states(tmp_path)[0] == ("check", "2026-01-08", "done")
    troubles = [each for each in box.told if each.kind is Kind.ERROR]
    assert len(troubles) == 2, "told once each time, not with each try"
    assert all("disk" in each.text for each in troubles)


# --- a stop -----------------------------------------------------------------------------------------------------------


@pytest.mark.hazard(45)
def test_work_that_a_stop_cuts_off_is_given_back_and_done_after_the_restart(tmp_path: Path) -> None:
    clock, log, stop = Clock(START + 3 * DAY), list[Occurrence](), Stop()

    def interrupted(occurrence: Occurrence, on_event: OnEvent) -> JobResult:
        on_event(Event("fit", 3, 10))
        stop.ask(SIGTERM)
        raise AssertionError("the signal came in the middle")

    scheduler(tmp_path, clock, {Job.RETRAIN: interrupted}, stop=stop).run()
    assert states(tmp_path) == []
    restarted = scheduler(tmp_path, clock, {Job.RETRAIN: done_in(clock, log, minutes=1)})
    clock.pass_by(minutes=3)
    assert [each.state for each in restarted.run_once()] == ["done"]
    assert [str(each.local_date) for each in log] == ["2026-01-11"]


@pytest.mark.hazard(45)
def test_a_stop_does_not_cut_through_a_deployment_but_ends_the_loop_right_after_it(tmp_path: Path) -> None:
    clock, stop = Clock(START), Stop()
    reached: list[str] = []

    def deploying(occurrence: Occurrence, on_event: OnEvent) -> JobResult:
        with critical(last=True):
            stop.ask(SIGTERM)
            on_event(Event("deploy", 1, 1))
            reached.append("the end of the deployment")
        return JobResult("deployed")

    scheduler(tmp_path, clock, {Job.CHECK: deploying}, stop=stop).run()
    assert reached == ["the end of the deployment"]
    assert states(tmp_path) == [("check", "2026-01-08", "done")]


def test_a_refit_after_the_first_archiving_may_be_interrupted_again(tmp_path: Path) -> None:
    clock, stop = Clock(START), Stop()
    archived: list[str] = []

    def refitting(occurrence: Occurrence, on_event: OnEvent) -> JobResult:
        with critical():
            stop.ask(SIGTERM)
            archived.append("the examined model")
        raise AssertionError("a refit takes long")

    scheduler(tmp_path, clock, {Job.CHECK: refitting}, stop=stop).run()
    assert archived == ["the examined model"]
    assert states(tmp_path) == []


def test_a_progress_text_alone_keeps_no_stop_away(tmp_path: Path) -> None:
    clock, stop = Clock(START), Stop()

    def training(occurrence: Occurrence, on_event: OnEvent) -> JobResult:
        on_event(Event("deploy", 0, 1))
        stop.ask(SIGTERM)
        raise AssertionError("the signal came in the middle")

    scheduler(tmp_path, clock, {Job.CHECK: training}, stop=stop).run()
    assert states(tmp_path) == []


# --- the watchdog -----------------------------------------------------------------------------------------------------


@dataclass
class Supervisor:
    """systemd's end of the socket."""

    address: str
    socket: socket.socket
    said: Counter[str] = field(default_factory=Counter)

    def read(self) -> Counter[str]:
        """Return how often each thing was said since the last look."""
        found: Counter[str] = Counter()
        with contextlib.suppress(BlockingIOError):
            while True:
                found[self.socket.recv(1024).decode().partition("=")[0]] += 1
        return found


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(address)
        receiver.setblocking(False)
        yield Supervisor(address, receiver)


@pytest.mark.hazard(47)
def test_the_watchdog_hears_of_new_progress_only(tmp_path: Path, supervisor: Supervisor) -> None:
    clock, stop = Clock(START), Stop()
    heard: list[Counter[str]] = []

    def work(occurrence: Occurrence, on_event: OnEvent) -> JobResult:
        supervisor.read()
        for done in (1, 2, 3):
            on_event(Event("fit", done, 10))
        heard.append(supervisor.read())
        for _ in range(50):  # as a story would that goes round in a circle
            on_event(Event("fit", 3, 10))
        heard.append(supervisor.read())
        stop.ask(SIGTERM)
        raise AssertionError

    notifier = Notifier.from_environment({"NOTIFY_SOCKET": supervisor.address})
    scheduler(tmp_path, clock, {Job.CHECK: work}, stop=stop, notifier=notifier, tick_s=3600).run()
    assert [each["WATCHDOG"] for each in heard] == [3, 0]
    assert supervisor.read() == {"STOPPING": 1}


@pytest.mark.hazard(47)
def test_while_nothing_is_due_each_turn_of_the_loop_is_a_sign_of_life(tmp_path: Path, supervisor: Supervisor) -> None:
    clock = Clock(START)
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": supervisor.address})
    run_until(START + timedelta(seconds=75), tmp_path, clock, {Job.CHECK: failing(HftclError())}, notifier=notifier)
    said = supervisor.read()
    assert said == {"READY": 1, "STATUS": 1, "WATCHDOG": 4, "STOPPING": 1}, "the fifth sleep was interrupted"


# --- a year -----------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The host lost its power: nothing more is written, and the kernel drops the locks."""


@dataclass
class Year:
    """A year in the life of one host: what befalls it, and what the script of each job did."""

    home: Path
    chance: random.Random
    clock: Clock
    begun: list[tuple[str, date]] = field(default_factory=list)
    ended: list[tuple[str, date]] = field(default_factory=list)
    given_back: set[tuple[str, date]] = field(default_factory=set)
    stop: Stop = field(default_factory=Stop)
    befell: Counter[str] = field(default_factory=Counter)

    def work(self, occurrence: Occurrence, on_event: OnEvent) -> JobResult:
        """Do what the script says, and note whether a stop cut it off."""
        key = (str(occurrence.job), occurrence.local_date)
        self.begun.append(key)
        try:
            return self._script(occurrence, on_event)
        except StopRequest:
            self.given_back.add(key)
            raise

    def _script(self, occurrence: Occurrence, on_event: OnEvent) -> JobResult:
        """Take some minutes, a retrain now and then hours; one time in ten something goes wrong."""
        on_event(Event("fit", 1, 10))
        long = occurrence.job is Job.RETRAIN and self.chance.random() < 0.3
        self.befell["long retrain"] += long
        self.clock.pass_by(minutes=self.chance.uniform(61, 150) if long else self.chance.uniform(1, 20))
        fate = self.chance.random()
        if fate < 0.03:
            self.befell["source down"] += 1
            raise SourceError("the source is down")
        if fate < 0.05:
            self.befell["busy"] += 1
            raise LockHeldError("retrain", 17, self.clock())
        if fate < 0.07:
            self.befell["killed at work"] += 1
            raise Killed
        if fate < 0.09:
            self.befell["stopped at work"] += 1
            self.stop.ask(SIGTERM)
        self.ended.append((str(occurrence.job), occurrence.local_date))
        outcome = "rejected" if self.chance.random() < 0.7 else "deployed"
        self.befell[outcome] += 1
        kind = Kind.REJECTED if outcome == "rejected" else Kind.DEPLOYED
        return JobResult(outcome, (Alert(kind, outcome, "why", self.clock()),))

    def kill(self) -> None:
        self.befell["killed at rest"] += 1
        raise Killed

    def plan(self, begin: datetime, days: int, full_disk: Callable[[bool], None]) -> None:
        """Spread over the year what befalls the host."""

        def sometime(margin_days: float = 5) -> datetime:
            return begin + timedelta(days=self.chance.uniform(3, days - margin_days))

        for _ in range(8):
            self.clock.at(sometime(), self.kill)
        for _ in range(8):
            self.clock.at(sometime(), lambda: self.stop.ask(SIGTERM))
        for hours in (1, 7, 30, 80):
            self.clock.at(sometime(), partial(self.clock.pass_by, hours=hours))
        spans = [timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), DAY, 30 * DAY, 365 * DAY, 3653 * DAY]
        for index, span in enumerate(spans):
            for sign in (-1, 1):
                # one wrong time after the other, each for up to two days; the last weeks have the right one
                at = begin + timedelta(days=10 + (2 * index + (sign + 1) / 2) * (days - 40) / (2 * len(spans)))
                self.clock.at(at, partial(self.clock.put, sign * span))
                until = at + timedelta(hours=self.chance.uniform(1, 48))
                self.clock.at(until, partial(self.clock.put, -sign * span))
        for _ in range(4):
            at = sometime()
            self.clock.at(at, partial(full_disk, True))
            self.clock.at(at + timedelta(hours=self.chance.uniform(1, 40)), partial(full_disk, False))

    def live(self, end: datetime) -> None:
        """Run schedulers, one after the other as a supervisor does, until `end`."""
        self.clock.at(end, lambda: self.stop.ask(SIGTERM))
        while self.clock.true < end:
            self.stop.asked = None
            jobs = dict.fromkeys(Job, self.work)
            with contextlib.suppress(Killed):
                scheduler(self.home, self.clock, jobs, rules=all_jobs(), stop=self.stop, tick_s=900).run()
            gc.collect()  # what a dead process held is free
            self.befell["starts"] += 1
            self.clock.pass_by(minutes=self.chance.uniform(0.2, 30))


def wanted(begin: datetime, end: datetime) -> Counter[tuple[str, date]]:
    """Return the ids of all that comes due from `begin` to `end`, by counting days."""
    found: Counter[tuple[str, date]] = Counter()
    first, last = begin.astimezone(NEW_YORK).date(), end.astimezone(NEW_YORK).date()
    for n in range(1, (last - first).days):  # neither the first day nor the last, which count in part
        day = first + timedelta(days=n)
        found["check", day] += 1
        found["collect", day] += day.weekday() < 5
        found["retrain", day] += day.weekday() == 6
        found["digest", day] += day.weekday() == 6
    return +found


@pytest.fixture
def quick_home(tmp_path: Path) -> Iterator[Path]:
    """Return a home in memory where there is some: a year of commits that reach the disk would take a minute."""
    memory = Path("/dev/shm")  # noqa: S108
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as home:
        yield Path(home)


@pytest.mark.slow
@pytest.mark.hazard(42)
@pytest.mark.hazard(43)
@pytest.mark.parametrize(("seed", "days"), [(1, 45), *((seed, 365) for seed in (1, 2, 3))])
def test_in_a_year_with_all_that_befalls_a_host_each_occurrence_is_accounted_for_once(
    quick_home: Path, seed: int, days: int, capsys: pytest.CaptureFixture[str]
) -> None:
    begin = datetime(2025, 1, 1, 12, tzinfo=UTC)
    end = begin + timedelta(days=days)
    free = resource.getrlimit(resource.RLIMIT_FSIZE)
    year = Year(quick_home, random.Random(seed), Clock(begin))  # noqa: S311

    def full_disk(full: bool) -> None:
        year.befell["disk full"] += full
        resource.setrlimit(resource.RLIMIT_FSIZE, (0 if full else free[0], free[1]))

    year.plan(begin, days, full_disk)
    try:
        year.live(end)
    finally:
        full_disk(False)

    rows = {(each.job, each.local_date): each for each in Occurrences(quick_home).list_known()}
    due = wanted(begin, end)
    assert [key for key in due if key not in rows] == [], "none is forgotten"
    count = Counter(rows[key].state for key in due)
    assert count["claimed"] == 0
    begun, ended = Counter(year.begun), Counter(year.ended)
    assert max(ended.values()) == 1, "no work is done twice"
    assert {key for key, times in begun.items() if times > 1} <= year.given_back, "none is begun twice but those"
    done = [key for key, row in rows.items() if row.state == "done"]
    assert set(done) <= set(ended)
    lost = {key for key in ended if rows[key].state != "done"}
    assert all(rows[key].outcome == "interrupted: its process ended before the work did" for key in lost)
    swallowed = [key for key in due if "still running" in str(rows[key].outcome)]
    assert len(swallowed) <= year.befell["long retrain"] + 2, "two for clocks that were put in the middle of one"
    assert not [key for key, row in rows.items() if row.state == "missed" and key in begun]
    assert min(year.befell.values()) > 0 or days < 365, "six weeks may be without a rare one"
    with capsys.disabled():
        told = ", ".join(f"{n} {name}" for name, n in year.befell.most_common())
        print(f"\n{sum(due.values())} occurrences: {dict(count)}; {told}")  # noqa: T201
    assert count["done"] > 0.6 * sum(due.values())
