"""What each job of the scheduler does: it calls a story, and says in a line what came of it.

The scheduler knows nothing of models and markets, and the stories nothing of the scheduler: they meet here.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from hftcl.alerts import Alert, Kind
from hftcl.archive.deployment import ModelArchive
from hftcl.events import OnEvent
from hftcl.formats import READS_UNKNOWN, count, group_by_reason, name_some
from hftcl.home import Home
from hftcl.learning import alert_texts
from hftcl.learning.recent_bars import describe_recent_bars
from hftcl.learning.reports import RetrainReport
from hftcl.learning.stories.collect import Collection, collect
from hftcl.learning.stories.retrain import retrain
from hftcl.schedule.claims import OccurrenceRecord, Occurrences
from hftcl.schedule.interfaces import JobFunction, JobResult
from hftcl.schedule.reports import describe_days
from hftcl.schedule.rules import BEFORE_FIRST, Job, Occurrence
from hftcl.settings import Settings

_WEEK: Final = timedelta(days=7)  # what the first digest covers: it is weekly


def build_jobs(settings: Settings, *, clock: Callable[[], datetime]) -> Mapping[Job, JobFunction]:
    """Return what each job does. clock: returns the time, UTC."""

    def run_check(occurrence: Occurrence, on_event: OnEvent) -> JobResult:
        report = retrain(settings, clock=clock, on_event=on_event)
        return JobResult(_summarize_check(report), alert_texts.build_retrain_alerts(report, clock()))

    def run_forced(occurrence: Occurrence, on_event: OnEvent) -> JobResult:
        report = retrain(settings, force=True, clock=clock, on_event=on_event)
        return JobResult(_summarize_check(report), alert_texts.build_retrain_alerts(report, clock(), weekly=True))

    def run_collection(occurrence: Occurrence, on_event: OnEvent) -> JobResult:
        collection = collect(settings, now=clock, on_event=on_event)
        found = (*_find_holes(collection, clock()), *_find_corrections(collection, clock()))
        return JobResult(_summarize_collection(collection), found)

    def run_digest(occurrence: Occurrence, on_event: OnEvent) -> JobResult:
        home = Home.of(settings).root
        ModelArchive(home).await_change()  # what was dated before this digest was claimed, and is being written
        known = Occurrences(home).list_known()
        since, now = _find_span(known, occurrence, clock())
        ended = [record for record in known if record.finished_at and since <= record.finished_at < now]
        extra = (*describe_recent_bars(settings, since, now), *_list_jobs(ended))
        alert = alert_texts.build_digest(settings, since, now, extra)
        return JobResult(alert.subject, (alert,))

    return {Job.CHECK: run_check, Job.RETRAIN: run_forced, Job.COLLECT: run_collection, Job.DIGEST: run_digest}


def _summarize_check(report: RetrainReport) -> str:
    if report.outcome == "skipped":
        return f"not due: {report.reason}"
    return f"{report.outcome} {report.model_id}: {report.reason}"


def _summarize_collection(collection: Collection) -> str:
    summary = f"{count(len(collection.tickers), 'ticker')} up to {collection.session}"
    if collection.left_out:
        summary += f", {len(collection.left_out)} left out"
    if collection.problem:
        return f"{summary}; the record lacks sessions: {collection.problem}"
    return f"{summary}; {count(len(collection.recorded), 'session')} added to the record"


def _find_holes(collection: Collection, at: datetime) -> Iterator[Alert]:
    """Yield the alert about tickers without bars; none where each has some."""
    reasons = dict.fromkeys(collection.silent, f"no bar on {collection.session}")
    reasons |= {ticker: f"left out, {why}" for ticker, why in collection.left_out.items()}
    lines = [f"{names}: {why}" for names, _, why in group_by_reason(reasons)]
    around = dict.fromkeys(collection.context_silent, f"no bar on {collection.session}")
    around |= {ticker: f"left out, {why}" for ticker, why in collection.context_left_out.items()}
    lines += [f"{ticker}, a context ticker: {why}; {READS_UNKNOWN}" for ticker, why in around.items()]
    names = [*reasons, *around]
    if names:
        yield Alert(Kind.DATA_HOLE, f"Data hole: {name_some(names, 5)}", "\n".join(lines), at)


def _find_corrections(collection: Collection, at: datetime) -> Iterator[Alert]:
    """Yield the alert about recorded sessions whose bars were corrected; none where each is what it was."""
    days = collection.corrected
    if days:
        again = len({session.session for session in collection.recorded} & set(days))
        text = (
            f"The bars of {count(len(days), 'recorded session')} from {days[0]} to {days[-1]} are not those that were "
            f"scored. Scored again with the model of the day: {again}; dropped from the record: {len(days) - again}. "
            "Until the next retrain has judged it, the bot stands aside. `hftcl record` shows it."
        )
        yield Alert(Kind.DATA_HOLE, f"Bars of {count(len(days), 'recorded session')} were corrected", text, at)


def _find_span(known: Iterable[OccurrenceRecord], occurrence: Occurrence, now: datetime) -> tuple[datetime, datetime]:
    """Return the time that the digest `occurrence` covers, its end excluded: from the last one that was done.

    Both ends are the moments at which the digests were claimed, so that nothing is told twice or not at all, however
    late one runs. now: UTC, for a digest without a claim.
    """
    digests = [record for record in known if record.job == Job.DIGEST]
    own = (record for record in digests if record.state == "claimed" and record.local_date == occurrence.local_date)
    end = next((record.claimed_at for record in own), now)
    before = (record.claimed_at for record in digests if record.state == "done" and record.claimed_at < end)
    return max(before, default=end - _WEEK), end


def _list_jobs(ended: Sequence[OccurrenceRecord]) -> Iterator[tuple[str, str]]:
    """Yield what became of each job, counted, then each that failed, and in a line each job that was missed."""
    told = [record for record in ended if record.outcome != BEFORE_FIRST]
    for job in (record for record in Job if record is not Job.DIGEST):  # which is this very message
        yield f"job {job}", _count_states(record.state for record in told if record.job == job)
    for record in told:
        if record.state == "failed":
            yield f"{record.job} {record.local_date}", f"failed: {record.outcome}"
    for missed in Job:
        if days := [record.local_date for record in told if record.job == missed and record.state == "missed"]:
            yield f"{missed} missed", describe_days(days)


def _count_states(states: Iterable[str]) -> str:
    return ", ".join(f"{count} {state}" for state, count in Counter(states).items()) or "none"
