"""The file `models/registry.sqlite`: its schema and version, how it is opened, and what its faults are called.

Only the standard library is imported.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hftcl import sqlite
from hftcl.errors import HftclError, IntegrityError
from hftcl.home import MODELS, Home

# 2 added `occurrences`, 3 the seals, 4 the record by policy and bars, and the looks, 5 what was adopted, 6 the notes:
# raise it with any change to SCHEMA
SCHEMA_VERSION: Final = 6
_OCCURRENCES: Final = """TABLE occurrences (
    job TEXT NOT NULL, local_date TEXT NOT NULL, due_at TEXT NOT NULL, state TEXT NOT NULL, by TEXT NOT NULL,
    claimed_at TEXT NOT NULL, finished_at TEXT, outcome TEXT, PRIMARY KEY (job, local_date)) STRICT"""
# Beside `record`, whose rows do not say of which policy and bars they are: those are kept and shown, and never count.
_POLICY_RECORD: Final = """TABLE policy_record (
    session TEXT NOT NULL, policy TEXT NOT NULL, beginning INTEGER NOT NULL, bars TEXT NOT NULL, net REAL NOT NULL,
    gross REAL NOT NULL, turnover REAL NOT NULL, model_id TEXT NOT NULL, kind TEXT NOT NULL, source TEXT NOT NULL,
    synthetic INTEGER NOT NULL, PRIMARY KEY (synthetic, policy, beginning, session)) STRICT"""
_BEGINNINGS: Final = """TABLE beginnings (
    number INTEGER PRIMARY KEY, at TEXT NOT NULL, synthetic INTEGER NOT NULL, reason TEXT NOT NULL,
    after_model INTEGER NOT NULL) STRICT"""
_LOOKS: Final = """TABLE looks (
    number INTEGER PRIMARY KEY, at TEXT NOT NULL, synthetic INTEGER NOT NULL, policy TEXT NOT NULL,
    positions TEXT NOT NULL, sharpe REAL NOT NULL, sessions TEXT NOT NULL) STRICT"""
# The lines of another program's list of models; `told` is the whole line as JSON, because each program has its columns.
_ADOPTED: Final = """TABLE adopted (
    number INTEGER PRIMARY KEY, adopted_at TEXT NOT NULL, name TEXT NOT NULL, trained_at TEXT, val_sharpe REAL,
    was_deployed INTEGER NOT NULL, rows INTEGER NOT NULL, family TEXT NOT NULL, told TEXT NOT NULL) STRICT"""
# What a person wrote; kind: "note", "tag", "untag".
_NOTES: Final = """TABLE notes (
    number INTEGER PRIMARY KEY, model_id TEXT NOT NULL, at TEXT NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL)
    STRICT"""
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
CREATE {_POLICY_RECORD};
CREATE {_BEGINNINGS};
CREATE {_LOOKS};
CREATE {_ADOPTED};
CREATE {_NOTES};
"""
REGISTRY: Final = sqlite.Database(
    kind="a registry",
    version=SCHEMA_VERSION,
    schema=SCHEMA,
    journal="DELETE",  # one file, which a backup copies whole
    sync="EXTRA",  # what was deployed must be known after a power cut
    upgrades={
        1: [f"CREATE {_OCCURRENCES}"],
        3: [f"CREATE {_POLICY_RECORD}", f"CREATE {_BEGINNINGS}", f"CREATE {_LOOKS}"],
        4: [f"CREATE {_ADOPTED}"],
        5: [f"CREATE {_NOTES}"],
    },
    remedy="`hftcl doctor --repair` rebuilds it from the model files; or restore it from a backup.",
    sealed={
        "models": ("model_id",),
        "deployments": ("number", "model_id"),
        "attempts": ("number", "at"),
        "record": ("session",),
        "occurrences": ("job", "local_date"),
        "policy_record": ("session", "policy"),
        "beginnings": ("number", "at"),
        "looks": ("number", "at"),
        "adopted": ("number", "name"),
        "notes": ("number", "model_id"),
    },  # since version 3
    small=True,
)
_SHOWN: Final = Home(Path()).registry
_CSV_HEAD: Final = b"model_id,trained_date,val_sharpe,is_deployed,outcome,"  # of our export; a user's own has another
_TAIL_BYTES: Final = 82  # a model file's last entry: 18 bytes of head and key's frame, 64 of the digest


@contextlib.contextmanager
def faults(doing: str) -> Iterator[None]:
    """Turn what the disk and SQLite may raise while `doing` into one HftclError with the remedy."""
    with sqlite.faults(doing, _SHOWN, REGISTRY):
        yield


def build_damage_error(how: str) -> IntegrityError:
    """Return the error of a registry, or of a row in it, that is not what was written."""
    return sqlite.build_damage_error(_SHOWN, REGISTRY, how)


def _build_loss_error(path: Path, witness: Path) -> IntegrityError:
    """Return the error of a registry that knows no model, beside a file that tells of one.

    To take it for a fresh start would deploy without a champion, and forget pin and record.
    """
    return IntegrityError(
        f"{path} knows no model, and {witness} tells of some: it was lost or emptied, and nothing is changed. Run "
        "`hftcl doctor --repair`, which rebuilds it from the model files; or restore it from a backup."
    )


def _knows_models(db: sqlite3.Connection) -> bool:
    return bool(db.execute("SELECT EXISTS (SELECT 1 FROM main.models)").fetchone()[0])


def find_witness(home: Home) -> Path | None:
    """Return a file of hftcl that tells of an archived model, None where there is none."""
    for path in sorted(home.models.glob(MODELS)):
        being_archived = home.claim(path.stem.removeprefix("model_")).exists()
        if not being_archived and path.is_file() and _is_ours(path):  # a model of another program tells of no registry
            return path
    if home.csv.is_file() and _lists_models(home.csv):
        return home.csv
    return home.production if home.production.is_file() and _is_ours(home.production) else None


def _lists_models(path: Path) -> bool:
    with path.open("rb") as file:
        head, first = file.readline(), file.readline()
    return head.startswith(_CSV_HEAD) and bool(first.strip())


def _is_ours(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        return b"hftcl.sha256" in file.read(_TAIL_BYTES)


@contextlib.contextmanager
def open_to_read(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the registry at `path` to read: nothing is created, and where no model ever was it reads as empty.

    Raises IntegrityError where it was emptied or lost.
    """
    with contextlib.ExitStack() as stack:
        db = stack.enter_context(contextlib.closing(sqlite.open_to_read(path, REGISTRY)))
        if not _knows_models(db) and (witness := find_witness(Home(path.parent.parent))) is not None:
            # Opened again: another process may have made it, and archived its first model, between the two looks.
            db = stack.enter_context(contextlib.closing(sqlite.open_to_read(path, REGISTRY)))
            if not _knows_models(db):
                raise _build_loss_error(path, witness)
        db.row_factory = sqlite3.Row
        yield db


def find_fault(path: Path) -> str | None:
    """Return what keeps the registry at `path` from being believed, with the remedy; None where it may be read."""
    try:
        with faults("reading the model registry"), open_to_read(path):
            return None
    except HftclError as fault:
        return str(fault)


@contextlib.contextmanager
def open_to_change(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the registry at `path`, created where it is missing, so that what is committed survives a power cut.

    Raises IntegrityError where it was emptied or lost.
    """
    with open_to_read(path):  # before anything is created
        pass
    with contextlib.closing(sqlite.open_to_write(path, REGISTRY)) as db:
        db.row_factory = sqlite3.Row
        yield db
