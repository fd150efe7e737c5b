"""The table of occurrences: claimed once whoever asks, settled when a holder dies, there in an older registry too."""

import contextlib
import multiprocessing
import os
import shutil
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from hftcl.archive import record
from hftcl.archive.registry import Registry
from hftcl.errors import StorageError
from hftcl.schedule.claims import INTERRUPTED, Claim, OccurrenceRecord, Occurrences
from tests.archive.sample_models import T0, archive_in, deployed
from tests.processes import wait_until_ended

MONDAY = date(2026, 1, 5)
DAY = timedelta(days=1)
VERSION_1 = """
CREATE TABLE models (
    model_id TEXT PRIMARY KEY, trained_at TEXT NOT NULL, sha256 TEXT NOT NULL UNIQUE, pkl_sha256 TEXT NOT NULL,
    outcome TEXT NOT NULL, reason TEXT NOT NULL, source TEXT NOT NULL, synthetic INTEGER NOT NULL, family TEXT NOT NULL,
    rows INTEGER NOT NULL, sessions INTEGER NOT NULL, tickers TEXT NOT NULL, trained_from TEXT NOT NULL,
    trained_to TEXT NOT NULL, label_end TEXT NOT NULL, exam_from TEXT, exam_to TEXT, val_sharpe REAL,
    report TEXT NOT NULL, kept INTEGER NOT NULL DEFAULT 1) STRICT;
CREATE TABLE deployments (
    number INTEGER PRIMARY KEY AUTOINCREMENT, model_id TEXT NOT NULL REFERENCES models, replaced TEXT, at TEXT NOT NULL,
    kind TEXT NOT NULL, reason TEXT NOT NULL, by TEXT NOT NULL, pending INTEGER NOT NULL, unpinned_at TEXT) STRICT;
CREATE TABLE attempts (
    number INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, kind TEXT NOT NULL, outcome TEXT NOT NULL,
    reason TEXT NOT NULL, model_id TEXT) STRICT;
CREATE TABLE record (
    session TEXT NOT NULL, net REAL NOT NULL, gross REAL NOT NULL, turnover REAL NOT NULL, model_id TEXT NOT NULL,
    kind TEXT NOT NULL, source TEXT NOT NULL, synthetic INTEGER NOT NULL, settings_digest TEXT NOT NULL,
    PRIMARY KEY (synthetic, session)) STRICT;
PRAGMA user_version = 1;
"""
"""The schema as release 0.1.0 wrote it; it never changes again."""


def claim(home: Path, *, day: date = MONDAY, by: str = "a test", days_late: float = 0) -> Claim | None:
    due = T0 + (day - MONDAY)
    return Occurrences(home).claim("check", day, due, by=by, now=due + days_late * DAY)


def held(found: Claim | None) -> Claim:
    assert found is not None
    return found


def passed_over(state: str, day: date, at: datetime = T0) -> OccurrenceRecord:
    """Return what is recorded, at a time `at`, about the check of `day` that was not done."""
    due = T0 + (day - MONDAY)
    return OccurrenceRecord(
        job="check",
        local_date=day,
        due_at=due,
        state=state,  # type: ignore[arg-type]
        by="a test",
        claimed_at=at,
        finished_at=at,
        outcome="why",
    )


def test_a_claim_is_recorded_before_the_work_and_its_outcome_after_it(tmp_path: Path) -> None:
    found = held(claim(tmp_path))
    (before,) = Occurrences(tmp_path).list_known()
    assert (before.state, before.claimed_at, before.finished_at, before.outcome) == ("claimed", T0, None, None)
    after = found.finish("done", "not due", now=T0 + DAY)
    assert Occurrences(tmp_path).list_known() == (after,)
    assert (after.state, after.outcome, after.finished_at, after.by) == ("done", "not due", T0 + DAY, "a test")


@pytest.mark.parametrize("state", ["done", "failed", "skipped"])
def test_what_is_accounted_for_is_not_claimed_again(tmp_path: Path, state: str) -> None:
    held(claim(tmp_path)).finish(state, "", now=T0)  # type: ignore[arg-type]
    assert claim(tmp_path) is None
    assert claim(tmp_path, days_late=400) is None


def test_a_claim_that_is_given_back_is_there_for_the_next(tmp_path: Path) -> None:
    held(claim(tmp_path)).give_back()
    assert Occurrences(tmp_path).list_known() == ()
    held(claim(tmp_path, by="the next")).finish("done", "", now=T0)


def test_another_date_of_a_job_waits_until_the_first_is_done(tmp_path: Path) -> None:
    first = held(claim(tmp_path))
    assert claim(tmp_path, day=MONDAY + DAY) is None
    assert len(Occurrences(tmp_path).list_known()) == 1
    first.finish("done", "", now=T0)
    held(claim(tmp_path, day=MONDAY + DAY)).finish("done", "", now=T0)


def test_reading_creates_nothing_and_an_empty_home_has_no_occurrence(tmp_path: Path) -> None:
    assert Occurrences(tmp_path).list_known() == ()
    assert Occurrences(tmp_path).fail_abandoned(now=T0) == ()
    assert list(tmp_path.iterdir()) == []


def test_of_many_that_claim_at_once_one_has_it(tmp_path: Path) -> None:
    def attempt(n: int) -> Claim | None:
        return claim(tmp_path, by=f"thread {n}")

    with ThreadPoolExecutor(8) as pool:
        found = [each for each in pool.map(attempt, range(8)) if each is not None]
    assert len(found) == 1
    assert [each.by for each in Occurrences(tmp_path).list_known()] == [found[0].occurred.by]
    found[0].give_back()


def _claim_and_say_so(home: str, said: Connection) -> None:
    with contextlib.suppress(BaseException):
        found = held(claim(Path(home), by="the child"))
        said.send("claimed")
        time.sleep(600)
        found.give_back()


@contextlib.contextmanager
def a_holder(home: Path) -> Iterator[int]:
    """Have another process claim, and yield its id."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    child = context.Process(target=_claim_and_say_so, args=(str(home), there))
    child.start()
    try:
        assert here.recv() == "claimed"
        assert child.pid is not None
        yield child.pid
    finally:
        child.kill()
        child.join()


@pytest.mark.hazard(41)
def test_work_that_was_cut_off_is_recorded_as_interrupted_and_not_while_its_process_lives(tmp_path: Path) -> None:
    with a_holder(tmp_path) as pid:
        assert Occurrences(tmp_path).fail_abandoned(now=T0) == ()
        assert claim(tmp_path) is None
        os.kill(pid, signal.SIGKILL)
        wait_until_ended(pid)
        lost = Occurrences(tmp_path).fail_abandoned(now=T0 + DAY)
    assert [(each.state, each.by, each.outcome) for each in lost] == [("failed", "the child", INTERRUPTED)]
    assert Occurrences(tmp_path).list_known() == lost
    assert claim(tmp_path) is None, "it is not repeated"
    assert Occurrences(tmp_path).fail_abandoned(now=T0) == ()


def test_what_was_passed_over_is_recorded_once_and_the_first_word_stands(tmp_path: Path) -> None:
    occurrences = Occurrences(tmp_path)
    held(claim(tmp_path)).finish("done", "", now=T0)
    wanted = [passed_over("missed", MONDAY + n * DAY) for n in range(3)]
    assert occurrences.pass_over(wanted) == tuple(wanted[1:])
    assert occurrences.pass_over(wanted) == ()
    assert [each.state for each in occurrences.list_known()] == ["done", "missed", "missed"]


@pytest.mark.hazard(43)
def test_what_a_clock_that_ran_ahead_passed_over_comes_in_its_time_and_what_it_did_does_not(tmp_path: Path) -> None:
    occurrences = Occurrences(tmp_path)
    ahead = T0 + 3653 * DAY
    occurrences.pass_over([passed_over("missed", MONDAY + n * DAY, ahead) for n in range(1, 3653)])
    held(claim(tmp_path, day=MONDAY + 3653 * DAY)).finish("done", "ran ahead", now=ahead)
    held(claim(tmp_path, day=MONDAY + DAY)).finish("done", "in its time", now=T0 + DAY)
    told = [each.outcome for each in occurrences.list_known()]
    assert (told[0], told[-1], set(told[1:-1])) == ("in its time", "ran ahead", {"why"})
    assert claim(tmp_path, day=MONDAY + 3653 * DAY) is None


@pytest.fixture
def version_1(tmp_path: Path) -> Path:
    """Return a home whose registry is of release 0.1.0, with two models and a session of the record."""
    made = archive_in(tmp_path / "made")
    deployed(made, 2)
    home = tmp_path / "home"
    shutil.copytree(made.home, home)
    database = home / "models" / "registry.sqlite"
    with contextlib.closing(sqlite3.connect(database)) as new:
        rows = {
            table: [row[:-1] for row in new.execute(f"SELECT * FROM {table}")]  # noqa: S608 - the seal is of version 3
            for table in ("models", "deployments")
        }
    database.unlink()
    with contextlib.closing(sqlite3.connect(database)) as old:
        old.executescript(VERSION_1)
        for table, content in rows.items():
            old.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(content[0]))})", content)  # noqa: S608
        old.execute("INSERT INTO record VALUES ('2026-01-05', 1e-3, 2e-3, 1.0, 'm', 'scored', 'files', 0, 'd')")
        old.commit()
    return home


@pytest.mark.hazard(13)
def test_a_registry_of_the_first_release_is_read_as_it_is_and_brought_up_to_date_by_the_first_change(
    version_1: Path,
) -> None:
    database = version_1 / "models" / "registry.sqlite"
    before = database.read_bytes()
    assert Occurrences(version_1).list_known() == ()
    models = Registry(version_1).list_models()
    assert len(models) == 2
    assert database.read_bytes() == before, "who reads changes nothing"
    held(claim(version_1)).finish("done", "", now=T0)
    assert [each.state for each in Occurrences(version_1).list_known()] == ["done"]
    assert Registry(version_1).list_models() == models
    ((row, counts),) = record.read_all(Registry(version_1), synthetic=False)
    assert (row.policy, counts) == ("", False), "kept, and of an unknown policy"
    with contextlib.closing(sqlite3.connect(database)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (6,)
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_of_many_that_bring_a_registry_up_to_date_at_once_each_finds_it_whole(version_1: Path) -> None:
    def attempt(n: int) -> tuple[OccurrenceRecord, ...]:
        return Occurrences(version_1).pass_over([passed_over("missed", MONDAY + n * DAY)])

    with ThreadPoolExecutor(8) as pool:
        assert [len(each) for each in pool.map(attempt, range(8))] == [1] * 8
    assert len(Occurrences(version_1).list_known()) == 8


@pytest.mark.parametrize("ends", ["finish", "pass_over"])
def test_an_end_that_waits_for_another_writer_is_dated_by_when_it_was_its_turn(ends: str, tmp_path: Path) -> None:
    found = held(claim(tmp_path))
    times = [T0]

    def end() -> None:
        if ends == "finish":
            found.finish("done", "it worked", now=lambda: times[-1])
        else:
            rows = [passed_over("missed", MONDAY - DAY)]
            Occurrences(tmp_path).pass_over(rows, now=lambda: times[-1])

    waits = threading.Thread(target=end)
    with contextlib.closing(sqlite3.connect(tmp_path / "models" / "registry.sqlite", isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        waits.start()
        time.sleep(0.1)  # it waits by now; where the machine is too slow for that, this shows less
        times.append(T0 + DAY)
        db.execute("COMMIT")
    waits.join()
    ended = [record.finished_at for record in Occurrences(tmp_path).list_known() if record.finished_at]
    assert ended == times[-1:]
    found.give_back()


def test_a_disk_that_refuses_the_outcome_leaves_the_claim_held_for_another_try(tmp_path: Path) -> None:
    found = held(claim(tmp_path))
    database = tmp_path / "models" / "registry.sqlite"
    away = database.rename(database.with_suffix(".away"))
    database.mkdir()  # whoever runs the tests, root included, cannot write there
    with pytest.raises(StorageError):
        found.finish("done", "it worked", now=T0)
    database.rmdir()
    away.rename(database)
    assert Occurrences(tmp_path).fail_abandoned(now=T0) == (), "the holder lives"
    assert found.finish("done", "it worked", now=T0).state == "done"
    held(claim(tmp_path, day=MONDAY + DAY)).give_back()


def test_a_job_of_a_fresh_home_leaves_nothing_that_the_archive_would_warn_of(tmp_path: Path) -> None:
    occurrences = Occurrences(tmp_path)
    claim = occurrences.claim("check", T0.date(), T0, by="a test", now=T0)
    assert claim is not None
    claim.finish("done", "nothing was due", now=T0)
    archive = archive_in(tmp_path)
    assert archive.recover(T0) == ()
    deployed(archive, 1)
    assert archive.recover(T0) == ()
    assert len(archive.csv.read_text().splitlines()) == 2
