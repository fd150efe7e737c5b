"""The file `models/registry.sqlite`: its schema and version, how it is opened, and what its faults are called.

Only the standard library is imported.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hftcl import durable
from hftcl.errors import HftclError, IntegrityError, LockHeldError, NewerVersionError, StorageError
from hftcl.sqlite import transaction

# 2 added `occurrences`: raise it with any change to SCHEMA, with a step that brings older files to it.
SCHEMA_VERSION: Final = 2
# Apart from SCHEMA: version 1 lacks it and is given it here; a reader of version 1 sees an empty one.
_OCCURRENCES: Final = """TABLE occurrences (
    job TEXT NOT NULL, local_date TEXT NOT NULL, due_at TEXT NOT NULL, state TEXT NOT NULL, by TEXT NOT NULL,
    claimed_at TEXT NOT NULL, finished_at TEXT, outcome TEXT, PRIMARY KEY (job, local_date)) STRICT"""
# Times are ISO 8601 texts in UTC and reports JSON: a person can read the registry with sqlite3 alone.
SCHEMA: Final = f"""
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
CREATE {_OCCURRENCES};
"""
# A write takes milliseconds, on a disk that is busy with a training up to seconds; then a person is told.
_BUSY_S = 10.0


@contextlib.contextmanager
def faults(doing: str) -> Iterator[None]:
    """Turn what the disk and SQLite may raise while `doing` into one HftclError with the remedy."""
    try:
        with durable.convert_storage_faults(doing):
            yield
    except sqlite3.Error as error:
        raise _build_fault(doing, error) from error


def _build_fault(doing: str, error: sqlite3.Error) -> HftclError:
    primary = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    if primary in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return LockHeldError("program with the model registry open", None, None)
    if primary in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}:
        return StorageError(
            f"{doing[:1].upper()}{doing[1:]} failed: models/registry.sqlite: {error}. "
            "Check the space, the owner and the health of the disk under [paths] home, and run it again."
        )
    return IntegrityError(
        f"models/registry.sqlite is damaged or not a registry of hftcl ({error}). Restore it from a backup; or move it "
        "away: hftcl then begins a new one, and the model files stay."
    )


@contextlib.contextmanager
def open_to_read(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the registry at `path` to read: nothing is created, and where there is none it reads as empty."""
    # mode=rw, not ro: it creates nothing either, opens a read-only file too, and after a crash can undo the
    # transaction that was cut off, which ro refuses to.
    there = path.exists()
    with contextlib.closing(_connect(f"{path.absolute().as_uri()}?mode=rw" if there else ":memory:")) as db:
        if there and (version := schema_version(db)):
            if version < 2:  # read as it will be once something changes it, and left as it is
                db.execute("PRAGMA temp_store = MEMORY")
                db.execute(f"CREATE TEMP {_OCCURRENCES}")
            db.execute("PRAGMA query_only = ON")
            yield db
        else:
            with contextlib.closing(_connect(":memory:")) as empty:
                empty.executescript(SCHEMA)
                yield empty


def schema_version(db: sqlite3.Connection) -> int:
    """Return the version of the schema, 0 for an empty file. Raises NewerVersionError for one of a newer hftcl."""
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version > SCHEMA_VERSION:
        raise NewerVersionError(
            f"models/registry.sqlite has version {version}, written by a newer hftcl; this one knows up to version "
            f"{SCHEMA_VERSION}. Upgrade hftcl, or point [paths] home to another folder."
        )
    if version == 0 and db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        raise sqlite3.DatabaseError("it holds tables of another program")
    return version


def _connect(name: str) -> sqlite3.Connection:
    db = sqlite3.connect(name, timeout=_BUSY_S, isolation_level=None, uri=True)
    db.row_factory = sqlite3.Row
    return db


@contextlib.contextmanager
def open_to_change(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the registry at `path`, created where it is missing, so that what is committed survives a power cut."""
    with contextlib.closing(_connect(path.absolute().as_uri())) as db:
        db.execute("PRAGMA journal_mode = DELETE")
        db.execute("PRAGMA synchronous = EXTRA")
        db.execute("PRAGMA foreign_keys = ON")
        if schema_version(db) < SCHEMA_VERSION:
            with transaction(db):
                _bring_up_to_date(db)
        yield db


def _bring_up_to_date(db: sqlite3.Connection) -> None:
    """Create what is missing, in the transaction that is open; nothing happens where somebody else was faster."""
    version = schema_version(db)
    if version == 0:
        for statement in SCHEMA.split(";"):
            db.execute(statement)
    elif version < 2:  # what the scheduler has claimed
        db.execute(f"CREATE {_OCCURRENCES}")
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
