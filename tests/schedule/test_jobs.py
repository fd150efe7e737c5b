"""What each job of the scheduler does, with real stories on a small synthetic market, and when the jobs come due."""

import json
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hftcl import ContinuousLearning
from hftcl.alerts import Kind
from hftcl.archive.deployment import ModelArchive
from hftcl.archive.record import RecordedSession, read_all
from hftcl.archive.registry import Registry
from hftcl.events import Event, ignore
from hftcl.learning.candidate import merge_params
from hftcl.learning.dataset import open_window
from hftcl.learning.record import catch_up
from hftcl.learning.stories.collect import Collection, collect
from hftcl.market.sources.synthetic import SyntheticSource
from hftcl.schedule.claims import OccurrenceRecord, Occurrences, State
from hftcl.schedule.interfaces import JobResult
from hftcl.schedule.jobs import _find_holes, build_jobs
from hftcl.schedule.plan import build_rules
from hftcl.schedule.rules import BEFORE_FIRST, Job, Occurrence, list_upcoming
from hftcl.settings import Settings
from tests import loop_cases
from tests.loop_cases import NOW, first_retrain
from tests.schedule.schedule_cases import NEW_YORK
from tests.trained import Homes

DAY = timedelta(days=1)


CHOSEN: dict[str, dict[str, object]] = {
    "model": {"n_estimators": 8},
    "exam": {"sessions": 5, "min_sessions": 5},
    "promote": {"min_sharpe": -100},
}


def small(home: Path, **sections: dict[str, object]) -> Settings:
    return loop_cases.small(home, **{**CHOSEN, **sections})


@pytest.fixture(scope="module")
def trained(homes: Homes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a home after its first retrain, which deployed and began the record."""
    home = tmp_path_factory.mktemp("trained") / "home"
    homes.copy(home, first_retrain, **CHOSEN)
    return home


@pytest.fixture
def home(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "home"))


def do(job: Job, settings: Settings, now: datetime, *, clock: datetime | None = None) -> JobResult:
    work = build_jobs(settings, clock=lambda: clock or now)[job]
    return work(Occurrence(job, now.date(), now), ignore)


def recorded(home: Path) -> Sequence[RecordedSession]:
    return tuple(row for row, current in read_all(Registry(home), synthetic=True) if current)


# --- when -------------------------------------------------------------------------------------------------------------


def test_bars_are_collected_after_the_extended_hours_of_each_session_and_on_no_holiday(tmp_path: Path) -> None:
    (rule,) = (rule for rule in build_rules(small(tmp_path)) if rule.job is Job.COLLECT)
    found = islice(rule.iterate_after(datetime(2025, 11, 25, 20, tzinfo=UTC)), 4)
    assert [each.due_at.astimezone(NEW_YORK).isoformat() for each in found] == [
        "2025-11-25T20:20:00-05:00",
        "2025-11-26T20:20:00-05:00",
        "2025-11-28T17:20:00-05:00",  # after Thanksgiving, a half day
        "2025-12-01T20:20:00-05:00",
    ]


def test_the_collection_ends_where_the_calendar_does_and_the_other_jobs_go_on(tmp_path: Path) -> None:
    far = datetime(2060, 1, 1, tzinfo=UTC)
    assert {each.job for each in islice(list_upcoming(build_rules(small(tmp_path)), far, ()), 40)} == set(Job) - {
        Job.COLLECT
    }
    before_the_calendar = datetime(1970, 1, 1, tzinfo=UTC)
    coming = islice(list_upcoming(build_rules(small(tmp_path)), before_the_calendar, ()), 40)
    assert {each.job for each in coming} == set(Job) - {Job.COLLECT}


# --- collection -------------------------------------------------------------------------------------------------------


def test_collected_day_by_day_the_record_is_what_a_retrain_would_have_made_of_it(home: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(home, tmp_path / "other"))
    known = recorded(home)
    for day in range(1, 5):
        done = do(Job.COLLECT, small(home), NOW - timedelta(hours=5) + day * DAY)
        assert done.alerts == ()
    assert "3 tickers up to 2026-01-12; 0 sessions added" not in done.outcome
    added = recorded(home)[len(known) :]
    assert [str(each.session) for each in added] == ["2026-01-09", "2026-01-12"]
    assert {each.model_id for each in added} == {"20260109_070000"}
    ContinuousLearning(small(other), clock=lambda: NOW + 4 * DAY).retrain(force=True)
    assert recorded(other) == recorded(home)


def test_sessions_are_scored_on_rows_computed_for_them_alone_as_on_those_of_the_whole_window(home: Path) -> None:
    settings, asked = small(home), list[date]()
    window = open_window(settings, as_of=None, now=NOW + 4 * DAY, save=False, on_event=ignore)
    params = merge_params(settings)

    def compute_rows(since: date) -> pl.DataFrame:
        asked.append(since)
        return window.compute_rows(since)

    catch = partial(catch_up, Registry(home), settings=settings, params=params, on_event=ignore)
    found = catch(window.assemble_bars(), compute_rows=compute_rows)
    assert [str(each.session) for each in found.added] == ["2026-01-09", "2026-01-12"]
    assert asked == [date(2026, 1, 9)], "features of a session that is not scored"
    assert found == catch(window.assemble())


def test_bars_are_in_the_store_before_a_retrain_asks_for_them(home: Path) -> None:
    month = home / "bars" / "synthetic" / "AAPL" / "2026-01.json"
    assert "2026-01-09" not in json.loads(month.read_text())["sessions"]
    collect(small(home), now=NOW + timedelta(days=4, hours=1), on_event=ignore)
    # the synthetic market ends with Monday's close, so of Monday the extended hours are not over
    assert "2026-01-09" in json.loads(month.read_text())["sessions"]


def test_without_a_record_bars_are_collected_and_nothing_is_scored(tmp_path: Path) -> None:
    heard: list[Event] = []
    found = collect(small(tmp_path), now=NOW, on_event=heard.append)
    assert (found.recorded, found.problem, str(found.session)) == ((), None, "2026-01-08")
    assert {event.stage for event in heard if event.total} == {"collect"}, "features that nothing reads"
    assert list(tmp_path.glob("bars/synthetic/*/*.parquet"))
    assert not (tmp_path / "models").exists(), "no registry for nothing"


def test_a_session_that_cannot_be_scored_is_told_and_left_for_the_retrain(home: Path) -> None:
    for file in home.glob("models/model_*.onnx"):
        file.write_bytes(b"not a model")
    before = recorded(home)
    heard: list[Event] = []
    found = collect(small(home), now=NOW + DAY, on_event=heard.append)
    assert found.recorded == ()
    assert "cannot be scored" in str(found.problem)
    assert recorded(home) == before


def test_a_ticker_without_bars_in_the_last_session_is_told_as_a_hole(tmp_path: Path) -> None:
    source = SyntheticSource(small(tmp_path))
    folder = tmp_path / "data"
    folder.mkdir()
    first, last = date(2025, 12, 1), date(2026, 1, 8)
    for ticker, until in (("AAPL", last), ("AMD", last - DAY)):
        source.minutes(ticker, first, until).select("ts", "open", "high", "low", "close", "volume").write_parquet(
            folder / f"{ticker}.parquet"
        )
    settings = small(tmp_path, market={"source": "files"}, files={"folder": str(folder)})
    done = do(Job.COLLECT, replace(settings, market=replace(settings.market, lookback_days=30)), NOW)
    (alert,) = done.alerts
    assert (alert.kind, alert.subject) == (Kind.DATA_HOLE, "Data hole: AMD")
    assert alert.text == "AMD: no bar on 2026-01-08"


def test_the_digest_counts_the_week_s_sessions_that_lack_bars_or_were_corrected_and_says_where(tmp_path: Path) -> None:
    settings = small(
        tmp_path, market={"source": "files", "lookback_days": 30}, files={"folder": str(tmp_path / "data")}
    )
    assert [name for name, _ in do(Job.DIGEST, settings, NOW).alerts[0].facts if "session" in name] == []
    source = SyntheticSource(small(tmp_path))
    (tmp_path / "data").mkdir()
    bars = {
        ticker: source.minutes(ticker, date(2025, 12, 1), date(2026, 1, 8)).select(
            "ts", "open", "high", "low", "close", "volume"
        )
        for ticker in ("AAPL", "AMD")
    }
    quiet = pl.col("ts").dt.date() != date(2026, 1, 6)
    bars["AMD"].filter(quiet).write_parquet(tmp_path / "data" / "AMD.parquet")
    bars["AAPL"].write_parquet(tmp_path / "data" / "AAPL.parquet")
    do(Job.COLLECT, settings, NOW)
    facts = dict(do(Job.DIGEST, settings, NOW).alerts[0].facts)
    assert facts["sessions with holes"] == "1 of 5 sessions: AMD no bar on 2026-01-06"
    assert facts["corrected sessions"] == "none of 5 sessions"
    late = pl.col("ts") == datetime(2026, 1, 7, 15, 30, tzinfo=UTC)
    volume = pl.when(late).then(pl.lit(777.0)).otherwise("volume").alias("volume")
    bars["AAPL"].with_columns(volume).write_parquet(tmp_path / "data" / "AAPL.parquet")
    do(Job.COLLECT, settings, NOW)
    facts = dict(do(Job.DIGEST, settings, NOW).alerts[0].facts)
    assert facts["corrected sessions"] == "1 of 5 sessions: AAPL 1 bar of 2026-01-07"


def test_a_hole_of_five_hundred_tickers_is_a_line_a_reason_with_how_many_there_are() -> None:
    names = tuple(f"T{number:03}" for number in range(500))
    coverage = {name: f"coverage {number} of 33 sessions" for number, name in enumerate(names[400:])}
    collection = Collection(
        session=date(2026, 1, 8),
        tickers=(),
        silent=names[:300],
        left_out=dict.fromkeys(names[300:400], "no bars") | coverage,
        context_left_out={"SPY": "no bars"},
        context_silent=(),
        recorded=(),
        problem=None,
    )
    (alert,) = _find_holes(collection, NOW)
    assert alert.subject == "Data hole: T000, T001, T002, T003, T004 and 496 more"
    lines = alert.text.splitlines()
    assert lines[:2] == [
        "T000, T001, T002, T003, T004 and 295 more: no bar on 2026-01-08",
        "T300, T301, T302, T303, T304 and 95 more: left out, no bars",
    ]
    assert lines[-2:] == [
        "92 others: for 92 other reasons",
        "SPY, a context ticker: left out, no bars; what reads it is not known",
    ]
    assert len(lines) == 12


# --- retrains and the digest ------------------------------------------------------------------------------------------


def test_the_daily_check_says_why_nothing_is_due_and_alerts_nobody(home: Path) -> None:
    done = do(Job.CHECK, small(home), NOW + DAY)
    assert done.outcome.startswith("not due: ")
    assert done.alerts == ()


def test_the_weekly_retrain_is_told_with_its_verdict_and_that_it_was_completed(home: Path) -> None:
    done = do(Job.RETRAIN, small(home, promote={"min_sharpe": 100}), NOW + 2 * DAY)
    assert done.outcome.startswith("rejected 20260111_070000: Sharpe ")
    assert [alert.kind for alert in done.alerts] == [Kind.REJECTED, Kind.RETRAINED]
    assert "needs more than 100" in done.alerts[0].text, "the failing condition is in it"


def test_the_digest_counts_the_week_of_jobs_and_names_what_failed(home: Path) -> None:
    occurrences = Occurrences(home)
    states = ["done", "done", "failed", "missed"]
    rows = [
        OccurrenceRecord(
            job="check",
            local_date=NOW.date() - n * DAY,
            due_at=NOW - n * DAY,
            state=state,  # type: ignore[arg-type]
            by="a test",
            claimed_at=NOW - n * DAY,
            finished_at=NOW - n * DAY - timedelta(minutes=1),
            outcome="the source is down",
        )
        for n, state in enumerate([*states, "done", "done", "done", "failed"])
    ]
    occurrences.pass_over(rows)
    (alert,) = do(Job.DIGEST, small(home), NOW).alerts
    facts = dict(alert.facts)
    assert alert.kind is Kind.DIGEST
    assert facts["job check"] == "5 done, 1 missed, 1 failed", "the eighth day is not of this week"
    assert facts["check 2026-01-07"] == "failed: the source is down"
    assert facts["serving model"].startswith("20260109_070000, 0.0 days old")


def test_the_digest_tells_missed_jobs_in_a_line_and_none_of_before_the_first_start(home: Path) -> None:
    def passed(job: str, state: State, days: int, outcome: str) -> OccurrenceRecord:
        due_at = NOW - days * DAY
        return OccurrenceRecord(
            job=job, local_date=due_at.date(), due_at=due_at, state=state, by="a test", claimed_at=NOW - DAY,
            finished_at=NOW - DAY, outcome=outcome,
        )  # fmt: skip

    rows = [passed("check", "missed", days, "no scheduler ran in its time") for days in range(40, 0, -1)]
    rows += [passed("digest", "missed", 7, "no scheduler ran in its time")]
    rows += [passed(job, "skipped", 50, BEFORE_FIRST) for job in ("retrain", "check", "collect")]
    Occurrences(home).pass_over(rows)
    (alert,) = do(Job.DIGEST, small(home), NOW).alerts
    of_jobs = [(name, text) for name, text in alert.facts if name.split()[0] in {"job", *Job}]
    assert of_jobs == [
        ("job retrain", "none"),
        ("job check", "40 missed"),
        ("job collect", "none"),
        ("check missed", f"40 times, {rows[0].local_date} to {rows[39].local_date}"),
        ("digest missed", f"{rows[40].local_date}"),
    ]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    digests=st.lists(st.integers(1, 60), min_size=1, max_size=5, unique=True).map(sorted),
    events=st.lists(st.integers(1, 60), max_size=6, unique=True).map(sorted),
)
def test_what_happened_is_told_in_one_digest_and_in_no_other_however_late_or_early_they_run(
    digests: list[int], events: list[int], tmp_path: Path
) -> None:
    home, told = Path(tempfile.mkdtemp(dir=tmp_path)), list[str]()
    archive, occurrences = ModelArchive(home), Occurrences(home)
    waiting = list(events)
    for day in digests:
        while waiting and waiting[0] <= day:  # what happens at that very moment is for the next one
            at = NOW + waiting.pop(0) * DAY
            archive.record_attempt(at, kind="retrain", outcome="rejected", reason=f"R{at:%m%d}")
            # due long before, as where the machine was off: it is told when it ended
            record = OccurrenceRecord(
                job="check", local_date=at.date(), due_at=NOW - DAY, state="failed", by="a test", claimed_at=at,
                finished_at=at, outcome=f"C{at:%m%d}",
            )  # fmt: skip
            occurrences.pass_over([record])
        now = NOW + day * DAY
        claim = occurrences.claim("digest", now.date(), now, by="a test", now=now)
        assert claim is not None
        (alert,) = do(Job.DIGEST, small(home), now, clock=now + timedelta(minutes=1)).alerts
        claim.finish("done", alert.subject, now=now + timedelta(minutes=2))
        told += [word for _, text in alert.facts for word in text.split() if word[0] in "RC" and word[1:].isdigit()]
    first = max(digests[0] - 7, 0)  # the first digest is of a week
    days = [f"{NOW + day * DAY:%m%d}" for day in events if first <= day < digests[-1]]
    assert sorted(told) == sorted(letter + day for day in days for letter in "RC")


def test_an_attempt_that_is_being_written_while_a_digest_is_claimed_is_in_one_of_the_two_digests(
    tmp_path: Path,
) -> None:
    """It is dated before the digest's end, and there after the digest has begun to read."""
    archive, occurrences, told = ModelArchive(tmp_path), Occurrences(tmp_path), list[str]()
    reads_clock, begun = threading.Event(), threading.Event()

    def write_digest(day: int) -> None:
        now = NOW + day * DAY
        claim = occurrences.claim("digest", now.date(), now, by="a test", now=now)
        assert claim is not None
        (alert,) = do(Job.DIGEST, small(tmp_path), now).alerts
        claim.finish("done", alert.subject, now=now + timedelta(minutes=2))
        told.extend(text for _, text in alert.facts if text == "failed: the attempt")

    first = threading.Thread(target=write_digest, args=(7,))

    def read_slowly() -> datetime:
        reads_clock.set()
        begun.wait()
        first.join(0.5)  # the digest waits for us, or has been written by then
        return NOW + 7 * DAY - timedelta(seconds=1)

    attempt = {"kind": "retrain", "outcome": "failed", "reason": "the attempt"}
    writing = threading.Thread(target=archive.record_attempt, args=(read_slowly,), kwargs=attempt)
    writing.start()
    reads_clock.wait()
    first.start()
    begun.set()
    writing.join()
    first.join()
    write_digest(14)
    assert told == ["failed: the attempt"]


def test_a_digest_that_failed_told_nothing_so_that_the_next_one_begins_where_it_did(tmp_path: Path) -> None:
    occurrences = Occurrences(tmp_path)
    for day, state in ((0, "done"), (7, "failed"), (14, "done")):
        now = NOW + day * DAY
        claim = occurrences.claim("digest", now.date(), now, by="a test", now=now)
        assert claim is not None
        (alert,) = do(Job.DIGEST, small(tmp_path), now).alerts
        claim.finish(state, "", now=now)  # type: ignore[arg-type]
    assert alert.subject == "The last 14 days: no retrain"
    assert alert.text == "Time: 2026-01-09 07:00 to 2026-01-23 07:00 UTC."


def test_a_damaged_registry_fails_the_digest_in_one_line(home: Path) -> None:
    with closing(sqlite3.connect(home / "models" / "registry.sqlite")) as db:
        db.execute("DROP TABLE attempts")
    with pytest.raises(Exception, match=r"models/registry\.sqlite is damaged"):
        do(Job.DIGEST, small(home), NOW)
