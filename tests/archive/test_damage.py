"""A registry with a flipped bit, emptied or lost: told by its row, trusted no further, rebuilt from what is whole."""

import contextlib
import random
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from hftcl.archive.looks import read_looks
from hftcl.archive.rebuild import rebuild
from hftcl.archive.record import read_all
from hftcl.archive.registry import Registry
from hftcl.errors import HftclError, IntegrityError, StorageError
from hftcl.schedule.claims import Occurrences
from tests.archive.sample_models import T0, a_model, added, archive_in, deployed

LATER = T0 + timedelta(weeks=8)
VERSION_2 = """
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
CREATE TABLE occurrences (
    job TEXT NOT NULL, local_date TEXT NOT NULL, due_at TEXT NOT NULL, state TEXT NOT NULL, by TEXT NOT NULL,
    claimed_at TEXT NOT NULL, finished_at TEXT, outcome TEXT, PRIMARY KEY (job, local_date)) STRICT;
PRAGMA user_version = 2;
"""
"""The registry of release 0.1.0's last schema, without seals."""


def damage(path: Path, old: bytes, new: bytes) -> None:
    """Overwrite the one place in the file where `old` stands, as a disk that rots does."""
    content = path.read_bytes()
    assert (content.count(old) > 0, len(old)) == (True, len(new))
    path.write_bytes(content.replace(old, new, 1))


@pytest.mark.hazard(86)
def test_a_flipped_byte_in_a_row_is_one_error_that_names_the_row_and_a_whole_model_can_still_be_chosen(
    tmp_path: Path,
) -> None:
    archive = archive_in(tmp_path)
    first, second, third = deployed(archive, 3)
    content = archive.database.read_bytes()
    at = content.index(b'{"challenger"', content.index(third.encode()) if third.encode() in content else 0)
    archive.database.write_bytes(content[:at] + b"[" + content[at + 1 :])
    with contextlib.closing(sqlite3.connect(archive.database)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",), "SQLite itself sees nothing"
    with pytest.raises(IntegrityError, match=r"registry\.sqlite is damaged.*models 2026.*doctor --repair") as caught:
        archive.list_models()
    (broken,) = (each for each in (first, second, third) if f"models {each}" in str(caught.value))
    for change in (
        lambda: archive.claim_id(LATER),
        lambda: archive.recover(LATER),
        lambda: archive.record_attempt(LATER, kind="check", outcome="skipped", reason=""),
    ):
        with pytest.raises(IntegrityError, match=broken):
            change()
    with pytest.raises(IntegrityError, match=broken):
        archive.rollback(broken, now=LATER, reason="a test")
    whole = next(each for each in (first, second) if each != broken)
    archive.rollback(whole, now=LATER, reason="a test")
    assert archive.production.read_bytes() == archive.locate_onnx(whole).read_bytes()


def test_repair_keeps_the_damaged_registry_and_every_whole_row(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    first, second = deployed(archive, 2)
    archive.rollback(first, now=LATER)
    damage(archive.database, b"cleared every bar", b"cleared every baz")
    notes = rebuild(archive, LATER)
    assert sum("the row models 2026" in note for note in notes) == 1
    assert len(list(archive.folder.glob("registry.*.damaged"))) == 1
    assert rebuild(archive, LATER) == (), "once is enough"
    # These files are no real models, so the one whose row is lost is left out, and that is said.
    assert sum("was left out" in note for note in notes) == 1
    assert {record.model_id for record in archive.list_models()} < {first, second}
    assert archive.read_state().deployments


def test_repair_has_the_same_models_serve_one_after_the_other_though_one_served_for_no_time(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    first, second = deployed(archive, 2)
    archive.rollback(first, now=LATER - timedelta(days=1))
    archive.rollback(second, now=LATER, reason="again")  # it serves from LATER to LATER
    archive.rollback(first, now=LATER, reason="again")
    before = [(model.model_id, model.served) for model in archive.list_models()]
    with contextlib.closing(sqlite3.connect(archive.database)) as db:
        db.execute("DROP TABLE deployments")
    assert any("was rebuilt" in note for note in rebuild(archive, LATER))
    assert [(model.model_id, model.served) for model in archive.list_models()] == before


@pytest.mark.hazard(2)
def test_a_repair_that_cannot_read_a_model_file_changes_nothing(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    deployed(archive, 2)
    damage(archive.database, b"cleared every bar", b"cleared every baz")
    content = archive.database.read_bytes()
    for path in archive.folder.glob("model_*.onnx"):
        path.unlink()
        path.symlink_to(path)  # ELOOP: a fault of the disk's that root meets too
    with pytest.raises(StorageError, match="cannot be read"):
        rebuild(archive, LATER)
    assert archive.database.read_bytes() == content


def delete_rows(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("DELETE FROM deployments")
        db.execute("DELETE FROM models")


LOSSES: tuple[Callable[[Path], object], ...] = (
    lambda path: path.unlink(),
    lambda path: path.write_bytes(b""),
    delete_rows,
)
READERS: dict[str, Callable[[Registry], object]] = {
    "models": Registry.list_models,
    "live": Registry.find_live,
    "production": Registry.read_production,
    "pin": Registry.find_pin,
    "deployments": Registry.list_deployments,
    "lineage": Registry.trace_lineage,
    "attempts": Registry.list_attempts,
    "adopted": Registry.list_adopted,
    "rollback": Registry.plan_rollback,
    "record": lambda registry: read_all(registry, synthetic=True),
    "looks": lambda registry: read_looks(registry, synthetic=True),
    "schedule": lambda registry: Occurrences(registry.home).list_known(),
}


@pytest.mark.hazard(87)
@pytest.mark.parametrize("lose", LOSSES, ids=["lost", "emptied", "deleted"])
def test_whatever_reads_a_lost_registry_says_so_and_takes_it_for_no_fresh_start(
    tmp_path: Path, lose: Callable[[Path], object]
) -> None:
    fresh = Registry(tmp_path / "fresh")
    archive = archive_in(tmp_path / "used")
    deployed(archive, 1)
    lose(archive.database)
    for name, read in READERS.items():
        if name not in {"rollback", "production"}:
            assert not read(fresh), f"{name}: a home that never had a model"
        with pytest.raises(IntegrityError, match=r"knows no model.*tells of some.*doctor --repair"):
            raise AssertionError(f"{name} answered {read(Registry(archive.home))}")


def test_a_first_model_that_is_archived_while_a_reader_looks_is_no_lost_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = archive_in(tmp_path)
    deployed(archive, 1)
    aside = archive.database.rename(tmp_path / "aside")
    opened = Path.open

    def open_meanwhile(path: Path, *arguments: Any, **options: Any) -> Any:
        if path == archive.csv and aside.exists():
            aside.rename(archive.database)  # the other process is done, between the reader's two looks
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", open_meanwhile)
    assert len(archive.list_attempts()) == 0
    assert not aside.exists()
    assert len(archive.list_models()) == 1


@pytest.mark.hazard(87)
@pytest.mark.parametrize("lose", LOSSES, ids=["lost", "emptied", "deleted"])
def test_a_lost_registry_beside_model_files_changes_nothing(tmp_path: Path, lose: Callable[[Path], object]) -> None:
    archive = archive_in(tmp_path)
    deployed(archive, 2)
    serving, csv = archive.production.read_bytes(), archive.csv.read_bytes()
    lose(archive.database)
    left = archive.database.read_bytes() if archive.database.exists() else None
    again = archive_in(tmp_path)
    for change in (
        lambda: again.claim_id(LATER),
        lambda: again.recover(LATER),
        lambda: again.prune(1, now=LATER),
        again.plan_rollback,
    ):
        with pytest.raises(IntegrityError, match=r"lost or emptied.*doctor --repair"):
            change()
    assert (archive.production.read_bytes(), archive.csv.read_bytes()) == (serving, csv)
    assert (archive.database.read_bytes() if archive.database.exists() else None) == left


def test_a_dropped_table_is_told_by_whatever_looks(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    deployed(archive, 1)
    with contextlib.closing(sqlite3.connect(archive.database)) as db:
        db.execute("DROP TABLE record")
    with pytest.raises(IntegrityError, match="no table record any more"):
        archive.recover(LATER)
    with pytest.raises(IntegrityError, match="no table record any more"):
        archive.list_models()


def test_a_registry_without_seals_is_read_as_it_is_and_sealed_by_the_first_change(tmp_path: Path) -> None:
    made = archive_in(tmp_path / "made")
    deployed(made, 2)
    archive = archive_in(tmp_path / "made")
    with contextlib.closing(sqlite3.connect(archive.database)) as new:
        rows = {
            table: [row[:-1] for row in new.execute(f"SELECT * FROM {table}")]  # noqa: S608 - but the seal
            for table in ("models", "deployments")
        }
    archive.database.unlink()
    with contextlib.closing(sqlite3.connect(archive.database)) as old:
        old.executescript(VERSION_2)
        for table, content in rows.items():
            places = ", ".join("?" * len(content[0]))
            old.executemany(f"INSERT INTO {table} VALUES ({places})", content)  # noqa: S608 - our names
        old.commit()
    before = archive.database.read_bytes()
    models = archive.list_models()
    assert len(models) == 2
    assert archive.database.read_bytes() == before
    archive.record_attempt(LATER, kind="check", outcome="skipped", reason="")
    assert archive.list_models() == models
    damage(archive.database, b"cleared every bar", b"cleared every baz")
    with pytest.raises(IntegrityError, match="models 2026"):
        archive.list_models()


@pytest.mark.hazard(86)
def test_a_flipped_bit_in_the_name_of_a_column_is_damage_and_no_raw_error(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    deployed(archive, 1)
    damage(archive.database, b"unpinned_at TEXT", b"unpinnee_at TEXT")
    with pytest.raises(IntegrityError, match="has no column unpinned_at any more"):
        archive.list_models()
    with pytest.raises(IntegrityError, match="has no column unpinned_at any more"):
        archive.recover(LATER)


def mutate_registry(home: Path, seeds: range) -> None:
    """Flip one byte in a copy of the registry for each seed: an error of ours, or the very same answers."""
    archive = archive_in(home)
    deployed(archive, 3)
    archive.record_attempt(LATER, kind="check", outcome="skipped", reason="nothing was due")
    archive.rollback(now=LATER, reason="a test")
    registry = Registry(home)
    content, expected = archive.database.read_bytes(), ask(registry)
    for seed in seeds:
        chance = random.Random(seed)  # noqa: S311
        at, value = chance.randrange(len(content)), chance.randrange(1, 256)
        flipped = bytearray(content)
        flipped[at] ^= value
        archive.database.write_bytes(bytes(flipped))
        try:
            answers = ask(registry)
        except HftclError as error:
            assert "\n" not in str(error), seed  # noqa: PT017
            continue
        assert answers == expected, f"seed {seed}: byte {at} ^ {value} changed an answer silently"
    archive.database.write_bytes(content)


def ask(registry: Registry) -> tuple[object, ...]:
    return (
        registry.list_models(),
        registry.list_deployments(),
        registry.list_attempts(),
        registry.read_state().pin,
        registry.read_production(),
        registry.trace_lineage(),
    )


@pytest.mark.hazard(86)
def test_no_flipped_byte_of_a_registry_is_a_raw_error_or_another_answer(tmp_path: Path) -> None:
    mutate_registry(tmp_path, range(100))


@pytest.mark.slow
@pytest.mark.hazard(86)
def test_no_flipped_byte_of_a_registry_in_two_thousand(tmp_path: Path) -> None:
    mutate_registry(tmp_path, range(1000, 3000))


def test_a_model_that_is_being_archived_is_no_sign_of_a_lost_registry(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    model_id = archive.claim_id(T0)
    archive.locate_onnx(model_id).write_bytes(b"half")
    other = archive_in(tmp_path)
    assert added(other, LATER).model_id
    assert a_model(model_id).model_id == model_id


def make_version_3(database: Path) -> None:
    """Take from a registry what later versions added."""
    with contextlib.closing(sqlite3.connect(database)) as db, db:
        for table in ("policy_record", "beginnings", "looks", "adopted", "notes"):
            db.execute(f"DROP TABLE {table}")
        db.execute("PRAGMA user_version = 3")


def test_a_whole_registry_of_version_3_is_not_rebuilt_and_is_brought_up_to_date_with_its_seals(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    ids = deployed(archive, 2)
    make_version_3(archive.database)
    assert rebuild(archive, LATER) == ()
    assert [model.model_id for model in archive.list_models()] == ids[::-1]
    archive.record_attempt(LATER, kind="check", outcome="skipped", reason="")
    with contextlib.closing(sqlite3.connect(archive.database)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (6,)
        names = [row[1] for row in db.execute("PRAGMA table_info(policy_record)")]
    assert names[-1] == "seal"


def test_a_row_that_was_damaged_before_an_upgrade_is_not_sealed_as_if_it_were_whole(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    deployed(archive, 2)
    make_version_3(archive.database)
    damage(archive.database, b'{"challenger"', b'["challenger"')
    with pytest.raises(IntegrityError, match="row models 2026"):
        archive.list_models()
    with pytest.raises(IntegrityError, match="row models 2026"):
        archive.record_attempt(LATER, kind="check", outcome="skipped", reason="")
    with pytest.raises(IntegrityError, match="row models 2026"):
        archive.list_models()
    assert any("was rebuilt" in note for note in rebuild(archive, LATER))


def damage_index(path: Path, *, page: bool) -> None:
    """Flip a bit of the index by which SQLite finds a model's hash: no row has it. page: in the head of its page."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        (size,) = db.execute("PRAGMA page_size").fetchone()
        (number,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'sqlite_autoindex_models_2'").fetchone()
        (digest,) = db.execute("SELECT sha256 FROM models ORDER BY sha256").fetchone()
    content, begin = bytearray(path.read_bytes()), (number - 1) * size
    at = begin if page else content.index(digest.encode(), begin, begin + size) + len(digest) - 1
    content[at] ^= 1
    path.write_bytes(content)


@pytest.mark.hazard(86)
@pytest.mark.parametrize("page", [False, True], ids=["key", "page"])
def test_a_damaged_index_is_told_and_the_registry_built_again_with_every_row(tmp_path: Path, page: bool) -> None:
    archive = archive_in(tmp_path)
    deployed(archive, 3)
    before = archive.list_models()
    damage_index(archive.database, page=page)
    for look in (archive.list_models, lambda: archive.recover(LATER), lambda: archive.claim_id(LATER)):
        with pytest.raises(IntegrityError, match=r"registry\.sqlite is damaged.*doctor --repair"):
            look()
    notes = rebuild(archive, LATER)
    assert len(list(archive.folder.glob("registry.*.damaged"))) == 1, notes
    assert archive.list_models() == before
    assert archive.recover(LATER) == ()
    assert rebuild(archive, LATER) == (), "once is enough"


@pytest.mark.parametrize("page", [False, True], ids=["key", "page"])
def test_a_damaged_index_in_a_registry_of_an_earlier_release_is_told_though_it_is_read_in_a_copy(
    tmp_path: Path, page: bool
) -> None:
    archive = archive_in(tmp_path)
    deployed(archive, 3)
    with contextlib.closing(sqlite3.connect(archive.database)) as db, db:
        db.execute("DROP TABLE notes")
        db.execute("PRAGMA user_version = 5")
    assert len(archive.list_models()) == 3
    damage_index(archive.database, page=page)
    with pytest.raises(IntegrityError, match=r"registry\.sqlite is damaged.*doctor --repair"):
        archive.list_models()
