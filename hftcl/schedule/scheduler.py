"""The scheduler: does each job when it is due, once, and says what happened.

A loop in the foreground. The clock, the sleep and the work itself are passed in, so that a year can be played in a
second; what is due is decided by `schedule`, what was done is kept by `archive.occurrences`.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from hftcl import logs
from hftcl.alerts import Alert, Kind
from hftcl.errors import ConfigError, HftclError, LockHeldError, NewerVersionError
from hftcl.events import Event, Level, hold_signals_by
from hftcl.formats import format_moment
from hftcl.learning.alert_texts import build_error_alert
from hftcl.plug_ins import name_plug_ins
from hftcl.schedule.claims import Claim, OccurrenceRecord, Occurrences, State
from hftcl.schedule.interfaces import JobFunction, JobResult, Observer, Teller
from hftcl.schedule.rules import Job, Occurrence, Rule, find_due, list_upcoming
from hftcl.schedule.stop import Stop, StopRequest
from hftcl.systemd import Notifier

log = logging.getLogger(__name__)

TICK_S: Final = 15.0
"""Longest sleep: a host that was suspended, or whose clock was put, is noticed within it."""
BEHIND: Final = timedelta(hours=1)
"""A job that begins later than this is told: the host slept, was down, or has too much to do."""


@dataclass(slots=True)
class _Unrecorded:
    """A job that is done and could not be recorded as such yet; its claim is held until it is."""

    claim: Claim
    state: State
    outcome: str


class Scheduler:
    """Does what `rules` say by the `jobs`, one job at a time. Times are UTC.

    clock: returns the time. sleep: waits so many seconds. by: who claims, such as host and process. stop: what ends it.
    publish: called with the time when there is news, such as to write a file for a monitor; may raise HftclError.
    is_replaced: whether the code on the disk is another one by now; then `run` ends before the next job, to be started
    again.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        occurrences: Occurrences,
        jobs: Mapping[Job, JobFunction],
        *,
        clock: Callable[[], datetime],
        sleep: Callable[[float], None],
        by: str,
        stop: Stop,
        alerts: Teller,
        notifier: Notifier,
        observer: Observer,
        publish: Callable[[datetime], None] = lambda now: None,
        is_replaced: Callable[[], bool] = lambda: False,
        tick_s: float = TICK_S,
    ) -> None:
        self._rules = rules
        self._occurrences = occurrences
        self._jobs = jobs
        self._clock = clock
        self._sleep = sleep
        self._by = by
        self._stop = stop
        self._alerts = alerts
        self._notifier = notifier
        self._observer = observer
        self._publish = publish
        self._is_replaced = is_replaced
        self._tick_s = tick_s
        self._unrecorded: list[_Unrecorded] = []
        self._last_fault = ""
        self._late_told = False
        self._progress: tuple[str, int, str] = ("", -1, "")

    def run(self) -> None:
        """Do every job in its time until `stop` is asked. Raises HftclError for what no waiting mends (status 78)."""
        self._notifier.tell_ready()
        try:
            while True:
                self._rest(self._run_round())
        except StopRequest:
            log.info("stopping")
        finally:
            self._notifier.tell_stopping()
            self._observer.hear_stop()

    def run_once(self) -> tuple[OccurrenceRecord, ...]:
        """Do what is due now, and return what became of it. Raises HftclError where the registry fails, Stopped."""
        records: list[OccurrenceRecord] = []
        while (done := self._run_next_job(records)) is not None:
            if not done:  # another scheduler is at it
                break
        self._record_waiting(records)
        self._deliver()
        self._publish_state()
        return tuple(records)

    def _run_round(self) -> Occurrence | None:
        """Do what is due; return what comes next, None where that is to be asked again soon."""
        try:
            while (done := self._run_next_job([])) is not None:
                if not done:
                    return None
            following = next(list_upcoming(self._rules, self._clock(), self._occurrences.list_known()), None)
        except (ConfigError, NewerVersionError):  # no later round can mend these, nor a restart of the unit
            raise
        except HftclError as fault:
            self._tell_trouble(fault)
            return None
        self._last_fault, self._late_told = "", False
        self._publish_state()
        return following

    def _run_next_job(self, records: list[OccurrenceRecord]) -> bool | None:
        """Do the job that is due first, and add to `records` what became of it and of what was passed over.

        Returns None where nothing is due, False where it was left: another process has it, or it is not recorded yet.
        """
        self._record_waiting(records)
        now = self._clock()
        for lost in self._occurrences.fail_abandoned(now=self._clock):
            self._report_end(lost, records)
            self._tell(Kind.ERROR, f"{lost.job} of {lost.local_date} was interrupted", _describe_interruption(lost))
        decided = find_due(self._rules, now, self._occurrences.list_known())
        self._record_passed_over(decided.before, "skipped", now)
        self._tell_missed(self._record_passed_over(decided.missed, "missed", now), records)
        for skipped in self._record_passed_over(decided.skipped, "skipped", now):
            self._report_end(skipped, records)
        if not decided.run:
            return None
        if self._is_replaced():
            log.warning(
                "hftcl was replaced on the disk since this began: it ends before the next job, and is started again"
            )
            raise StopRequest
        occurrence = decided.run[0]
        claim = self._occurrences.claim(
            occurrence.job, occurrence.local_date, occurrence.due_at, by=self._by, now=self._clock()
        )
        if claim is None:
            return False
        with logs.bind_fields(job=str(occurrence.job)):
            self._run_job(claim, occurrence, records)
        self._deliver()
        if not self._unrecorded and records[-1].state != "failed":
            with self._stop.permit_interrupts():
                self._alerts.send_heartbeat(_HEARTBEAT_S)
        return not self._unrecorded

    def _run_job(self, claim: Claim, occurrence: Occurrence, records: list[OccurrenceRecord]) -> None:
        now = claim.occurred.claimed_at
        log.info("job begins local_date=%s due=%s", occurrence.local_date, occurrence.due_at.isoformat())
        if now - occurrence.due_at > BEHIND:
            late = f"It was due at {format_moment(occurrence.due_at)} UTC and began at {format_moment(now)} UTC."
            self._tell_late(f"{occurrence.job} began late", late)
        self._observer.hear_begin(occurrence)
        self._notifier.tell_status(f"at work: {occurrence.job} of {occurrence.local_date}")
        try:
            with self._observer.surround(), self._stop.permit_interrupts(), hold_signals_by(self._stop.hold):
                done = self._do(occurrence)
        except StopRequest:
            self._give_back(claim)
            raise
        except LockHeldError as busy:
            self._conclude(claim, "skipped", JobResult(str(busy)), records)
        except HftclError as error:
            self._conclude(claim, "failed", self._build_fault(error, occurrence), records)
        except Exception as error:
            log.exception("job failed unexpectedly")
            self._conclude(claim, "failed", self._build_fault(error, occurrence), records)
        else:
            self._conclude(claim, "done", done, records)

    def _do(self, occurrence: Occurrence) -> JobResult:
        with name_plug_ins():
            return self._jobs[occurrence.job](occurrence, self._hear)

    def _build_fault(self, error: Exception, occurrence: Occurrence) -> JobResult:
        alert = build_error_alert(error, f"the {occurrence.job} of {occurrence.local_date}", self._clock())
        return JobResult(alert.text.partition("\n")[0], (alert,))

    def _give_back(self, claim: Claim) -> None:
        try:
            claim.give_back()
        except HftclError as fault:  # then it counts as interrupted
            log.warning("job stopped, and could not be given back: %s", fault)
        else:
            log.info("job stopped and given back: it is due again after the restart")

    def _conclude(self, claim: Claim, state: State, done: JobResult, records: list[OccurrenceRecord]) -> None:
        """Tell and record what a job came to."""
        for alert in done.alerts:
            self._alerts.tell(alert)
        self._unrecorded.append(_Unrecorded(claim, state, done.outcome))
        try:
            self._record_waiting(records)
        except HftclError as fault:
            self._tell_trouble(fault)

    def _record_waiting(self, records: list[OccurrenceRecord]) -> None:
        """Record what is done. What cannot be recorded now, as on a full disk, is kept and tried again."""
        while self._unrecorded:
            first = self._unrecorded[0]
            occurred = first.claim.finish(first.state, first.outcome, now=self._clock)
            self._unrecorded.pop(0)
            self._last_fault = ""
            self._report_end(occurred, records)

    def _record_passed_over(
        self, occurrences: Sequence[tuple[Occurrence, str]], state: State, now: datetime
    ) -> tuple[OccurrenceRecord, ...]:
        """Record what is not done, with the reason; return what was not accounted for already."""
        rows = [
            OccurrenceRecord(
                job=occurrence.job,
                local_date=occurrence.local_date,
                due_at=occurrence.due_at,
                state=state,
                by=self._by,
                claimed_at=now,
                finished_at=now,
                outcome=why,
            )
            for occurrence, why in occurrences
        ]
        return self._occurrences.pass_over(rows, now=self._clock)

    def _tell_missed(self, rows: Sequence[OccurrenceRecord], records: list[OccurrenceRecord]) -> None:
        """Tell what was missed, a line a job: a clock that is put a year ahead misses hundreds."""
        records += rows
        lines = []
        for job in dict.fromkeys(row.job for row in rows):
            days = [row.local_date for row in rows if row.job == job]
            span = f"{days[0]}" if len(days) == 1 else f"{len(days)} times, {days[0]} to {days[-1]}"
            log.warning("jobs missed name=%s: %s", job, span)
            lines.append(f"{job} was missed: {span}.")
        if lines:
            self._tell_late("jobs were missed", "\n".join([*lines, "Of each the newest runs now."]))

    def _tell_late(self, subject: str, text: str) -> None:
        """Tell that the scheduler is behind, once until it has caught up."""
        if not self._late_told:
            self._late_told = True
            self._tell(Kind.BEHIND, subject, f"{text}\n{_WHY_LATE}")

    def _report_end(self, occurred: OccurrenceRecord, records: list[OccurrenceRecord]) -> None:
        records.append(occurred)
        level = logging.WARNING if occurred.state == "failed" else logging.INFO
        fields = (occurred.job, occurred.local_date, occurred.state, occurred.outcome)
        log.log(level, "job ended name=%s local_date=%s state=%s: %s", *fields)
        self._observer.hear_end(occurred)

    def _hear(self, event: Event) -> None:
        """Pass on what a job reports; the watchdog hears of what is new in it."""
        self._observer.hear_event(event)
        if event.level is not Level.PROGRESS:
            log.log(
                logging.WARNING if event.level is Level.WARNING else logging.INFO, "%s: %s", event.stage, event.text
            )
            return
        progress = (event.stage, event.done, event.text)
        if progress != self._progress:
            self._progress = progress
            self._notifier.tell_alive()

    def _rest(self, following: Occurrence | None) -> None:
        """Sleep until `following` is due, looking up every few seconds; return early where the clock was put back."""
        if following is not None:
            at = f"{format_moment(following.due_at)} UTC"
            log.info("waiting next=%s local_date=%s due=%s", following.job, following.local_date, at)
            self._notifier.tell_status(f"next: {following.job} at {at}")
        last = self._clock()
        while True:
            self._observer.hear_wait(following, last)
            left = (following.due_at - last).total_seconds() if following else self._tick_s
            with self._stop.permit_interrupts():
                self._sleep(min(self._tick_s, max(left, 0.0)))
            self._notifier.tell_alive()  # the loop turns: there is nothing else to do
            self._deliver()
            now = self._clock()
            if following is None or now >= following.due_at or now < last:
                return
            last = now

    def _deliver(self) -> None:
        with self._stop.permit_interrupts():  # what waits in the outbox waits on
            self._alerts.deliver(self._clock(), timeout_s=_DELIVERY_S)

    def _publish_state(self) -> None:
        try:
            self._publish(self._clock())
        except HftclError as fault:
            log.warning("the state was not published: %s", fault)

    def _tell_trouble(self, fault: HftclError) -> None:
        """Tell what keeps the scheduler from its work, once; it tries again after a moment."""
        if str(fault) != self._last_fault:
            self._last_fault = str(fault)
            log.error("the scheduler cannot work: %s", fault)
            self._tell(Kind.ERROR, "the scheduler cannot work", str(fault))

    def _tell(self, kind: Kind, subject: str, text: str) -> None:
        self._alerts.tell(Alert(kind, subject, text, self._clock()))


_DELIVERY_S: Final = 20.0  # for a slow mail server; what is left waits in the outbox, and the next job is not held up
_HEARTBEAT_S: Final = 10.0  # one small GET; a monitor that misses one waits for the next before it cries
# The causes that there are: which one it was cannot be told afterwards.
_WHY_LATE: Final = "The host was asleep or down, its clock was put, the scheduler did not run, or a job took long."


def _describe_interruption(lost: OccurrenceRecord) -> str:
    return (
        f"{lost.job} of {lost.local_date}, begun {format_moment(lost.claimed_at)} UTC by {lost.by}, was cut off: its "
        "process was killed, or the host went down. It is not repeated; the next one runs in its time."
    )
