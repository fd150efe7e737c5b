"""The file `models/registry.sqlite`: its schema and version, how it is opened, and what its faults are called.

Only the standard library is imported.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hftcl import sqlite

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
REGISTRY: Final = sqlite.Database(
    kind="a registry",
    version=SCHEMA_VERSION,
    schema=SCHEMA,
    journal="DELETE",  # one file, which a backup copies whole
    sync="EXTRA",  # what was deployed must be known after a power cut
    upgrades={1: [f"CREATE {_OCCURRENCES}"]},
    remedy="Restore it from a backup; or move it away: hftcl then begins a new one, and the model files stay.",
)
_SHOWN: Final = Path("models/registry.sqlite")


@contextlib.contextmanager
def faults(doing: str) -> Iterator[None]:
    """Turn what the disk and SQLite may raise while `doing` into one HftclError with the remedy."""
    with sqlite.faults(doing, _SHOWN, REGISTRY):
        yield


@contextlib.contextmanager
def open_to_read(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the registry at `path` to read: nothing is created, and where there is none it reads as empty."""
    with contextlib.closing(sqlite.open_to_read(path, REGISTRY)) as db:
        db.row_factory = sqlite3.Row
        yield db


@contextlib.contextmanager
def open_to_change(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the registry at `path`, created where it is missing, so that what is committed survives a power cut."""
    with contextlib.closing(sqlite.open_to_write(path, REGISTRY)) as db:
        db.row_factory = sqlite3.Row
        yield db
