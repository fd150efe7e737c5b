"""The policy's record: begun by a walk-forward, continued with what was current, never rewritten."""

import contextlib
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from hftcl import ContinuousLearning
from hftcl.archive.policy import hash_policy
from hftcl.archive.record import RecordedSession, find_edge_in_force, read_all
from hftcl.archive.registry import Registry
from hftcl.archive.schema import open_to_change
from hftcl.errors import StorageError, UsageError
from hftcl.events import Event, Level, ignore
from hftcl.exam.split import Session, split
from hftcl.learning import score
from hftcl.learning.bars_digest import format_bars, holds
from hftcl.learning.record import Record
from hftcl.learning.record_scoring import split_folds
from hftcl.learning.record_timeline import Timeline
from hftcl.learning.reports import RetrainReport
from hftcl.learning.stories.collect import collect
from hftcl.learning.stories.record import begin_over, list_record
from hftcl.model import by_ticker
from hftcl.schedule.jobs import build_jobs
from hftcl.schedule.rules import Job, Occurrence
from hftcl.settings import Settings
from tests import loop_cases
from tests.archive.sample_models import T0, added, archive_in, deployed
from tests.loop_cases import NOW, first_retrain
from tests.threads import note_threads
from tests.trained import Homes

WEEK = timedelta(days=7)
CHOSEN: dict[str, dict[str, object]] = {
    "synthetic": {"edge": 1.0},
    "exam": {"sessions": 20},
    "promote": {"min_sharpe": -100},
}


def small(home: Path, **sections: dict[str, object]) -> Settings:
    """Return the small market with the default edge and an exam of twenty sessions, of which its window holds 15."""
    return loop_cases.small(home, **{**CHOSEN, **sections})


def record_of(home: Path, *, synthetic: bool = True) -> tuple[RecordedSession, ...]:
    """Return the record of every policy, oldest first."""
    return tuple(row for row, current in read_all(Registry(home), synthetic=synthetic) if current)


def retrained(settings: Settings, now: datetime, **options: object) -> RetrainReport:
    learning = ContinuousLearning(settings, clock=lambda: now, on_event=options.pop("on_event", lambda event: None))  # type: ignore[arg-type]
    return learning.retrain(force=True, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def first(homes: Homes, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RetrainReport]:
    """Return a home after its first retrain, which deployed, and the report."""
    home = tmp_path_factory.mktemp("first") / "home"
    return home, homes.copy(home, first_retrain, **CHOSEN)


@pytest.fixture
def home(first: tuple[Path, RetrainReport], tmp_path: Path) -> Path:
    """Return a copy of it, for one test to change."""
    return Path(shutil.copytree(first[0], tmp_path / "home"))


# --- pure parts -------------------------------------------------------------------------------------------------------


def window(n: int) -> list[Session]:
    return [
        Session(start=datetime(2026, 1, 5, 14, 30, tzinfo=UTC) + timedelta(days=i), day=date(2026, 1, 5) + timedelta(i))
        for i in range(n)
    ]


@limits(max_examples=100)
@given(n=st.integers(4, 150), exam=st.integers(1, 90), embargo=st.integers(1, 3))
def test_the_folds_cover_the_exam_once_and_train_on_as_much_as_the_candidate(n: int, exam: int, embargo: int) -> None:
    if n < 2 + embargo:
        return
    sessions = window(n)
    division = split(sessions, exam_sessions=exam, embargo_sessions=embargo)
    parts = split_folds(sessions, division, embargo_sessions=embargo)
    assert len(parts) <= 4
    assert [day for part in parts for day in part.exam_days] == list(division.exam_days)
    for part in parts:
        assert len(part.train) == len(division.train)
        assert len(part.embargoed) == embargo
        assert part.train_days[-1] < part.exam_days[0] - timedelta(days=embargo)
        assert part.withheld == ()
    assert parts[0].train == division.train


def test_an_exam_of_twenty_sessions_is_four_weeks() -> None:
    sessions = window(41)
    parts = split_folds(sessions, split(sessions, exam_sessions=20, embargo_sessions=1), embargo_sessions=1)
    assert [len(part.exam) for part in parts] == [5, 5, 5, 5]


def recorded(day: int, gross: float, turnover: float) -> RecordedSession:
    return RecordedSession(
        session=date(2026, 1, day),
        net=gross,
        gross=gross,
        turnover=turnover,
        model_id="20260105_020000",
        kind="scored",
        source="files",
        synthetic=False,
    )


def test_the_past_is_counted_at_the_present_cost() -> None:
    """By hand: 1 % gross and a turnover of 20 capitals at 2 bp a unit: 1 % - 0.4 %."""
    record = Record(recorded_sessions=(recorded(5, 0.01, 20.0),), added=(recorded(6, 0.0, 0.0),), cost_bps=2.0)
    assert record.net.tolist() == pytest.approx([0.006, 0.0])


def test_the_current_model_is_the_one_that_served_and_a_rollback_does_not_rewrite_it(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    a, b = deployed(archive, 2)
    archive.rollback(now=T0 + timedelta(days=10), reason="it loses")
    current = Timeline.from_archive(archive, synthetic=True)
    days = (1, 8, 9, 11, 40)
    found = [current.find_at(T0 + timedelta(days=day)) for day in days]
    assert [each.model_id for each in found if each] == [a, b, b, a, a]
    assert current.find_at(T0 - timedelta(days=1)) is None
    assert Timeline.from_archive(archive, synthetic=False).find_at(T0 + timedelta(days=40)) is None


def test_before_any_model_served_the_last_candidate_is_current(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    one = added(archive, T0, "rejected").model_id
    two = added(archive, T0 + WEEK, "rejected").model_id
    current = Timeline.from_archive(archive, synthetic=True)
    found = [current.find_at(T0 + timedelta(days=day)) for day in (1, 6, 8)]
    assert [each.model_id for each in found if each] == [one, one, two]


def test_the_digest_tells_what_the_policy_is_and_not_where_it_lies(tmp_path: Path) -> None:
    """What makes another procedure makes another record; where it lies, how it is judged and what is drawn does not."""
    base = Settings()
    known = hash_policy(base)
    others = [
        replace(base, market=replace(base.market, watchlist=(*base.market.watchlist, "ZZZ"))),
        replace(base, market=replace(base.market, source="files")),
        replace(base, model=replace(base.model, horizon_minutes=15)),
        replace(base, strategy=replace(base.strategy, cost_bps=3.0)),
        replace(base, strategy=replace(base.strategy, entry_quantile=0.5)),
        replace(base, promote=replace(base.promote, min_sharpe=1.0)),
    ]
    assert len({known, *map(hash_policy, others)}) == 1 + len(others)
    assert hash_policy(base, {"n_estimators": 300}) != known
    same = [
        replace(base, paths=replace(base.paths, home=str(tmp_path))),
        replace(base, edge=replace(base.edge, min_p_edge=0.9)),
        replace(base, model=replace(base.model, seed=7)),
        replace(base, market=replace(base.market, watchlist=base.market.watchlist[::-1])),
    ]
    assert {hash_policy(settings) for settings in same} == {known}


@pytest.mark.hazard(85)
def test_a_record_row_stands_while_its_bars_do() -> None:
    kept = format_bars({"AMD": "1" * 12, "AAPL": "0" * 12})
    assert holds(kept, {"AAPL": "0" * 12, "AMD": "1" * 12})
    assert holds(kept, {"AAPL": "0" * 12}), "what is not there tells nothing"
    assert not holds(kept, {"AAPL": "0" * 12, "AMD": "2" * 12}), "corrected"
    assert not holds(kept, {"AAPL": "0" * 12, "AMD": "1" * 12, "TSLA": "3" * 12}), "more bars have come since"


# --- the loop ---------------------------------------------------------------------------------------------------------


def test_the_first_retrain_begins_the_record_with_the_sessions_of_its_exam(first: tuple[Path, RetrainReport]) -> None:
    home, report = first
    record = record_of(home)
    assert report.challenger is not None
    exam = report.challenger.pnl_by_session
    assert [each.session.isoformat() for each in record] == list(exam)
    assert report.record_sessions == len(record) == 15
    assert {each.kind for each in record} == {"walk-forward"}
    assert all(each.gross - each.net == pytest.approx(each.turnover * 1e-4) for each in record)
    ours = {each.session.isoformat(): each.net for each in record}
    same = [ours[day] == exam[day] for day in exam]
    assert same[:5] == [True] * 5, "the first fold trains on the very sessions of the candidate"
    assert not all(same[5:]), "later folds were trained anew"
    assert record_of(home, synthetic=False) == ()


def test_both_decisions_are_reported_with_their_evidence(first: tuple[Path, RetrainReport]) -> None:
    home, report = first
    assert (report.edge, report.policy) == ("stand aside", "guarded")
    assert report.edge_reason.startswith("a record of 15 sessions, needs 20")
    assert {fact.name for fact in report.edge_evidence} >= {"record sessions", "P(edge)", "PSR of the record"}
    assert report.p_edge is not None
    assert 0 < report.p_edge < 1
    stored = Registry(home).list_models()[0].report
    assert (stored["edge"], stored["p_edge"]) == (report.edge, report.p_edge)
    assert report.exam is not None
    assert report.exam.noise_deviation == pytest.approx(np.sqrt(252 / 15))


def test_a_week_later_the_record_grows_by_what_the_champion_made(home: Path) -> None:
    before = record_of(home)
    champion = Registry(home).find_live()
    report = retrained(small(home), NOW + WEEK)
    after = record_of(home)
    assert champion is not None
    assert report.champion is not None
    new = after[len(before) :]
    assert after[: len(before)] == before, "no session is rewritten"
    assert (len(new), {each.kind for each in new}) == (5, {"scored"})
    assert {each.model_id for each in new} == {champion.model_id}
    assert [each.net for each in new] == [report.champion.pnl_by_session[each.session.isoformat()] for each in new]
    assert report.record_sessions == 20
    again = retrained(small(home), NOW + WEEK + timedelta(hours=1), dry_run=True)
    assert again.record_sessions == 20, "the newest session is not scored twice"
    assert new[0].session > before[-1].session


def test_the_daily_collection_takes_no_more_cores_than_compute_jobs_says(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = note_threads(monkeypatch)
    monkeypatch.setattr(score, "_BLOCK_ROWS", 50)
    monkeypatch.setattr(by_ticker, "_BLOCK_BARS", 1)
    collection = collect(small(home, compute={"jobs": 1}), now=NOW + WEEK, on_event=ignore)
    assert len(collection.recorded) == 5
    assert [name for name in begun if name.startswith(("features", "exam"))] == ["features_0", "exam_0"]


def test_a_pause_longer_than_the_window_leaves_a_hole_that_check_and_retrain_tell(tmp_path: Path) -> None:
    """Begun as of 2025-08-29 and next looked at in January: a window of 46 days does not reach back to it."""
    told: list[str] = []
    loop = ContinuousLearning(small(tmp_path), clock=lambda: NOW, on_event=lambda event: told.append(event.text))
    loop.retrain(force=True, as_of="2025-08-29")
    assert not any("lacks" in text for text in told)
    loop.check()
    assert any("the record of this policy lacks 2025-09-02 to 2025-1" in text for text in told)
    told.clear()
    loop.retrain(force=True, dry_run=True)
    assert any("the record of this policy lacks 2025-09-02 to 2025-1" in text for text in told)


def test_the_same_bars_again_add_nothing_and_a_dry_run_stores_nothing(home: Path) -> None:
    before = record_of(home)
    again = retrained(small(home), NOW + timedelta(hours=1))
    assert again.record_sessions == len(before)
    dry = retrained(small(home), NOW + WEEK, dry_run=True)
    assert dry.record_sessions == len(before) + 5
    assert record_of(home) == before


def test_what_lies_after_as_of_is_not_known_to_the_record(home: Path) -> None:
    report = retrained(small(home), NOW + timedelta(hours=1), as_of="2025-12-31", dry_run=True)
    assert report.record_to is not None
    assert report.record_to <= date(2025, 12, 31)
    assert report.record_sessions < 15


def test_where_none_served_the_last_candidate_earns_the_record(tmp_path: Path) -> None:
    refusing = small(tmp_path, promote={"min_sharpe": 100})
    one = retrained(refusing, NOW)
    two = retrained(refusing, NOW + WEEK)
    assert (one.outcome, two.outcome) == ("rejected", "rejected")
    new = [each for each in record_of(tmp_path) if each.kind == "scored"]
    assert {each.model_id for each in new} == {one.model_id}
    assert len(new) == 5
    assert two.edge == "stand aside"
    assert "no model serves" in two.edge_reason


def test_a_retrain_that_is_stopped_before_its_end_leaves_no_half_record(tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def stop(event: Event) -> None:
        if event.stage == "deploy":
            raise StopError

    with pytest.raises(StopError):
        retrained(small(tmp_path), NOW, on_event=stop)
    assert record_of(tmp_path) == ()


def test_an_edge_is_kept_by_the_policy_that_earned_it_and_by_no_other(home: Path) -> None:
    """A record of few sessions is enough here; what is asked of one that is live is P(edge) >= 0 only."""
    lenient: dict[str, object] = {"min_p_edge": 0.0, "min_psr": 0.0, "stand_down_below": 0.0, "min_sessions": 5}
    strict = {**lenient, "min_sessions": 1000}
    live = retrained(small(home, edge=lenient), NOW + timedelta(hours=1))
    kept = retrained(small(home, edge=strict), NOW + timedelta(hours=2))
    other = retrained(small(home, edge=strict, promote={"policy": "balanced"}), NOW + timedelta(hours=3))
    assert [report.edge for report in (live, kept, other)] == ["live", "live", "stand aside"]


def test_a_current_model_that_cannot_be_scored_stands_aside_and_says_so(home: Path) -> None:
    live = Registry(home).find_live()
    assert live is not None
    archived = home / "models" / f"model_{live.model_id}.onnx"
    archived.write_bytes(archived.read_bytes()[:-1])
    told: list[Event] = []
    report = retrained(small(home), NOW + WEEK, dry_run=True, on_event=told.append)
    assert report.edge == "stand aside"
    assert f"model {live.model_id} was current on 5 of them and cannot be scored" in report.edge_reason
    assert any("the record lacks sessions" in event.text for event in told)
    progress = [(event.done, event.total) for event in told if (event.stage, event.level) == ("record", Level.PROGRESS)]
    assert progress == [(0, 1), (1, 1)], "corrected and later sessions are one piece of work"


# --- of what it is ----------------------------------------------------------------------------------------------------


def edge_in_force(settings: Settings, home: Path) -> str:
    found = find_edge_in_force(Registry(home), synthetic=True, policy=hash_policy(settings))
    return str(found.edge) if found.edge == "live" else f"{found.edge}: {found.reason}"


LENIENT: dict[str, object] = {"min_p_edge": 0.0, "min_psr": 0.0, "stand_down_below": 0.0, "min_sessions": 5}
"""A record of few sessions is enough."""


def test_another_cost_begins_another_record_and_the_bot_stands_aside_until_it_is_judged(home: Path) -> None:
    """The digest was written and never read: a record of one policy let every other one trade."""
    live, dearer = small(home, edge=LENIENT), small(home, edge=LENIENT, strategy={"cost_bps": 2.0})
    assert retrained(live, NOW + timedelta(hours=1)).edge == "live"
    assert edge_in_force(live, home) == "live"
    assert "another policy" in edge_in_force(dearer, home)
    before, told = record_of(home), list[Event]()
    other = retrained(dearer, NOW + timedelta(hours=2), on_event=told.append)
    rows = record_of(home)
    assert [row for row in rows if row.policy == hash_policy(live)] == list(before), "the other one is untouched"
    assert other.record_sessions == len([row for row in rows if row.policy == other.policy_digest])
    assert other.policy_digest == hash_policy(dearer)
    (other_policy,) = [event.text for event in told if "of another policy: not counted" in event.text]
    assert other_policy.endswith("exam and promotion rule, and of this one there is none yet")
    again = list[Event]()
    retrained(dearer, NOW + timedelta(hours=3), on_event=again.append)
    assert not [event for event in again if "of another policy: not counted" in event.text], "told once"


def test_a_record_that_begins_over_counts_for_nothing_and_is_shown_with_the_reason(home: Path) -> None:
    settings = small(home, edge=LENIENT)
    assert retrained(settings, NOW + timedelta(hours=1)).edge == "live"
    assert [row.counts for row in list_record(settings)] == [True] * 15
    with pytest.raises(UsageError, match="--reason"):
        begin_over(settings, reason=" ", now=NOW)
    rows = begin_over(settings, reason="the opens were stale", now=NOW + timedelta(hours=2))
    assert [row.counts for row in rows] == [False] * 15
    assert {row.why for row in rows} == {"before the record began over (the opens were stale)"}
    assert "began over" in edge_in_force(settings, home)
    strict = small(home, edge={**LENIENT, "min_sessions": 1000})
    assert retrained(strict, NOW + timedelta(hours=3)).edge == "stand aside", "what was allowed before is not kept"


def correct_bars(home: Path, where: str = "true") -> None:
    """Let the record say that its rows were scored on other bars than there are now."""
    with open_to_change(home / "models" / "registry.sqlite") as db:
        db.execute(f"UPDATE policy_record SET bars = replace(bars, ':', ':f'), net = 9, gross = 9 WHERE {where}")  # noqa: S608


@pytest.mark.hazard(78)
def test_sessions_whose_bars_were_corrected_are_scored_again_or_dropped_told_once_and_the_bot_stands_aside(
    home: Path,
) -> None:
    """Stale opens once earned a record that the right bars never took back."""
    settings, strict = small(home, edge=LENIENT), small(home, edge={**LENIENT, "min_sessions": 1000})
    assert retrained(settings, NOW + WEEK).edge == "live"
    later = NOW + WEEK + timedelta(hours=1)
    assert retrained(strict, later, dry_run=True).edge == "live", "what was allowed is kept"
    right = record_of(home)
    scored = [row for row in right if row.kind == "scored"]
    assert (len(right), len(scored)) == (20, 5)
    correct_bars(home, f"session >= '{right[14].session}'")
    assert retrained(strict, later, dry_run=True).edge == "stand aside", "what stood on other bars is earned again"
    told: list[Event] = []
    collection = collect(settings, now=later, on_event=told.append)
    assert len(collection.corrected) == 6
    text = "6 recorded sessions from"
    assert len([event for event in told if text in event.text]) == 1
    assert record_of(home) == (*right[:14], *scored), "one was of the walk-forward, which no archived model made"
    assert any("lacks" in event.text and "corrected later" in event.text for event in told), "why it is not there"
    assert "corrected since the verdict" in edge_in_force(settings, home)
    again = collect(settings, now=NOW + WEEK + timedelta(hours=2), on_event=ignore)
    assert again.corrected == (), "told once"
    assert retrained(strict, later, dry_run=True).edge == "stand aside", "also where it was collected before"
    assert retrained(settings, NOW + WEEK + timedelta(hours=3)).edge == "live"
    assert edge_in_force(settings, home) == "live"


@contextlib.contextmanager
def unreadable(path: Path) -> Iterator[None]:
    """Put a link that leads to itself in the place of a file: whoever asks, there is one, and it cannot be read."""
    kept = path.read_bytes()
    path.unlink()
    path.symlink_to(path.name)
    yield
    path.unlink()
    path.write_bytes(kept)


def find_archived(home: Path) -> Path:
    """Return the file of the model of the first retrain."""
    return min((home / "models").glob("model_*.onnx"))


def test_rows_without_a_place_for_them_fail_the_job_and_cost_the_record_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next collection scores them: what was dropped would be gone for good."""
    settings, later = small(home), NOW + WEEK + timedelta(hours=1)
    collect(settings, now=NOW + WEEK, on_event=ignore)
    right = record_of(home)
    correct_bars(home, f"session >= '{right[15].session}'")
    before = record_of(home)
    job = build_jobs(settings, clock=lambda: later)[Job.COLLECT]
    occurrence = Occurrence(Job.COLLECT, later.date(), later)
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "tempdir", "/proc")  # which takes no file, whoever runs this
        with pytest.raises(StorageError, match=r"training rows .* /proc"):
            job(occurrence, ignore)
    assert record_of(home) == before
    assert "5 sessions added" in job(occurrence, ignore).outcome
    assert record_of(home) == right


@pytest.mark.parametrize("stated", [True, False], ids=["of today", "of an earlier release"])
def test_sessions_whose_model_cannot_be_read_now_wait_and_the_collection_goes_on(home: Path, stated: bool) -> None:
    """Of a model of an earlier release its file alone tells whose it is."""
    if not stated:
        with open_to_change(home / "models" / "registry.sqlite") as db:
            db.execute("UPDATE models SET report = json_remove(report, '$.policy_digest')")
    settings, later = small(home), NOW + 2 * WEEK
    collect(settings, now=NOW + WEEK, on_event=ignore)
    right = record_of(home)
    assert len(right) == 20
    correct_bars(home, f"session >= '{right[17].session}'")
    before = record_of(home)
    job = build_jobs(settings, clock=lambda: later)[Job.COLLECT]
    occurrence = Occurrence(Job.COLLECT, later.date(), later)
    archived = find_archived(home)
    with unreadable(archived):
        outcome = job(occurrence, ignore).outcome
    assert f"{archived.name} cannot be read: Too many levels of symbolic links. Let this user read it" in outcome
    assert "delete what is in its place" in outcome
    assert record_of(home) == before, "neither dropped nor passed over"
    assert "7 sessions added" in job(occurrence, ignore).outcome
    after = record_of(home)
    assert (len(after), after[:20]) == (24, right)


def test_an_old_model_that_cannot_be_read_stops_no_retrain_and_its_sessions_wait(home: Path) -> None:
    settings, later = small(home, edge=LENIENT), NOW + 2 * WEEK
    old = find_archived(home)
    assert retrained(settings, NOW + WEEK).outcome == "deployed"
    right = record_of(home)
    correct_bars(home, f"session BETWEEN '{right[16].session}' AND '{right[18].session}'")
    before = record_of(home)
    told: list[str] = []
    with unreadable(old):
        report = retrained(settings, later, on_event=lambda event: told.append(event.text))
    assert Registry(home).find(str(report.model_id)).outcome == report.outcome, "it went on to its verdict"
    assert (report.edge, report.record_sessions) == ("stand aside", 21), "those on other bars do not count"
    assert "cannot be read" in report.edge_reason
    assert len([text for text in told if "the record lacks sessions" in text]) == 1
    never = "dropped", "not scored later"
    assert not [text for text in told if any(words in text for words in never)], "they are, when it can be read"
    after = record_of(home)
    assert (len(after), after[:20]) == (24, before)
    assert len(collect(settings, now=later + timedelta(hours=1), on_event=ignore).recorded) == 3
    assert record_of(home) == (*right, *after[20:])


def test_what_follows_a_session_that_waits_waits_with_it(home: Path) -> None:
    """Of two models the older one's file cannot be read: the record would never go back to what it passed."""
    settings, later = small(home, edge=LENIENT), NOW + 2 * WEEK
    old, of_old = find_archived(home), record_of(home)[-1].model_id
    assert retrained(settings, NOW + WEEK).outcome == "deployed"
    collect(settings, now=later, on_event=ignore)
    right = record_of(home)
    by_old = [row for row in right if row.model_id == of_old]
    assert by_old[-1].session < right[-1].session, "the newer one was current afterwards"
    with open_to_change(home / "models" / "registry.sqlite") as db:
        db.execute("DELETE FROM policy_record WHERE session >= ?", (by_old[-1].session.isoformat(),))
    before = record_of(home)
    with unreadable(old):
        assert collect(settings, now=later + timedelta(hours=1), on_event=ignore).recorded == ()
    assert record_of(home) == before
    collect(settings, now=later + timedelta(hours=2), on_event=ignore)
    assert record_of(home) == right


def test_why_a_corrected_session_is_dropped_is_told(home: Path) -> None:
    collect(small(home), now=NOW + WEEK, on_event=ignore)
    right = record_of(home)
    correct_bars(home, f"session >= '{right[15].session}'")
    archived = find_archived(home)
    archived.write_bytes(archived.read_bytes()[:-1])
    told: list[str] = []
    collection = collect(
        small(home), now=NOW + WEEK + timedelta(hours=1), on_event=lambda event: told.append(event.text)
    )
    assert len(collection.corrected) == 5
    assert record_of(home) == right[:15]
    reason = f"corrected are not scored again: model {right[15].model_id} was current on 5 of them and cannot be scored"
    assert [text for text in told if reason in text], told


def test_where_all_bars_were_corrected_the_record_begins_again_on_those_of_now(home: Path) -> None:
    right = record_of(home)
    correct_bars(home)
    report = retrained(small(home), NOW + timedelta(hours=1))
    assert report.record_sessions == 15
    assert [(row.session, row.net, row.bars) for row in record_of(home)] == [
        (row.session, row.net, row.bars) for row in right
    ]


def test_a_registry_of_version_3_keeps_its_record_and_counts_none_of_it(home: Path) -> None:
    names = "session, net, gross, turnover, model_id, kind, source, synthetic"
    with open_to_change(home / "models" / "registry.sqlite") as db:
        db.execute(f"INSERT INTO record ({names}, settings_digest) SELECT {names}, 'old' FROM policy_record")  # noqa: S608
    with contextlib.closing(sqlite3.connect(home / "models" / "registry.sqlite")) as db, db:
        for table in ("policy_record", "beginnings", "looks", "adopted", "notes"):
            db.execute(f"DROP TABLE {table}")
        db.execute("PRAGMA user_version = 3")
    rows = list_record(small(home))
    assert (len(rows), {row.counts for row in rows}, {row.policy for row in rows}) == (15, {False}, {None})
    assert {row.why for row in rows} == {"of an unknown policy: an earlier hftcl recorded it"}
    report = retrained(small(home), NOW + WEEK)
    after = list_record(small(home))
    assert report.record_sessions == 15, "scored again: five with the archived model, the others by the walk-forward"
    assert len([row for row in record_of(home) if row.kind == "scored"]) == 5
    assert len([row for row in after if row.policy is None]) == 15
    assert len([row for row in after if row.counts]) == report.record_sessions
