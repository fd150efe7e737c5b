"""How every SQLite file of hftcl is described, opened, changed, sealed, and what its faults are called.

Only the standard library is imported.
"""

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from hftcl import durable
from hftcl.errors import HftclError, IntegrityError, LockHeldError, NewerVersionError, StorageError

_BUSY_S: Final = 10.0  # a minute's write takes milliseconds and a backup seconds; the bot has its minute to wait in
# The database, its write-ahead log and its index, https://www.sqlite.org/wal.html: none without the others.
_SUFFIXES: Final = ("", "-wal", "-shm")
_SHOWN: Final = 160  # characters of what SQLite or a row says: enough to find the place, too few to flood a terminal

Journal = Literal["DELETE", "WAL"]
"""DELETE: one file between two changes, fit for a backup by copying. WAL: a reader never waits for the writer, nor the
writer for it, and a commit costs one sync."""

Sync = Literal["EXTRA", "FULL", "NORMAL", "OFF"]
"""What a commit waits for. All survive the end of the process, however sudden; FULL survives a power cut, and with it
whatever was committed before; EXTRA also when the journal is a file that is deleted; after NORMAL a power cut may
forget commits, after OFF it may damage the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """One kind of file: what it is called, what stands in it, how it is written, and what its loss means.

    kind: with an article, such as "a ledger". schema: of the newest version. upgrades: for each older version the
    statements that lead to the next one. remedy: what a person does about a damaged file, and what is lost by it.
    """

    kind: str
    version: int
    schema: str
    journal: Journal
    sync: Sync
    remedy: str
    upgrades: Mapping[int, Sequence[str]] = field(default_factory=dict)

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables of the newest version."""
        statements = (statement.split() for statement in self.schema.split(";"))
        return tuple(words[2] for words in statements if words[:2] == ["CREATE", "TABLE"])


@contextlib.contextmanager
def faults(doing: str, path: Path, database: Database) -> Iterator[None]:
    """Turn what the disk and SQLite may raise while `doing` something with `path` into one HftclError."""
    try:
        with durable.convert_storage_faults(doing):
            yield
    except sqlite3.Error as error:
        raise _build_fault(doing, path, database, error) from error
    except UnicodeDecodeError as error:  # a flipped bit in a name or a text
        raise build_damage_error(path, database, str(error)) from error


@contextlib.contextmanager
def guard_rows(path: Path, database: Database, *others: type[Exception]) -> Iterator[None]:
    """Tell a row that cannot be what was written as the damage to `path` that it is. others: of the frames' library."""
    damage: tuple[type[Exception], ...] = (ValueError, TypeError, OverflowError, *others)
    try:
        yield
    except damage as error:
        first, *_ = str(error).splitlines() or [type(error).__name__]
        raise build_damage_error(path, database, f"a row cannot be read: {first}") from error


def _build_fault(doing: str, path: Path, database: Database, error: sqlite3.Error) -> HftclError:
    primary = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    if primary in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return LockHeldError(f"program with {path} open", None, None)
    if primary in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}:
        return StorageError(
            f"{doing[:1].upper()}{doing[1:]} failed: {path}: {error}. "
            "Check the space, the owner and the health of the disk under [paths] home, and run it again."
        )
    if primary == sqlite3.SQLITE_CONSTRAINT:
        return IntegrityError(f"{doing[:1].upper()}{doing[1:]} failed: a row cannot be kept in {path}: {error}.")
    return build_damage_error(path, database, str(error))


def build_damage_error(path: Path, database: Database, how: str) -> IntegrityError:
    """Return the error of a file, or of a row in it, that is not what was written."""
    # SQLite and rows are quoted as they are found: line ends, control characters and great lengths are not to be shown.
    flat = "".join(c if c.isprintable() else " " for c in " ".join(how.split()))
    shown = flat if len(flat) <= _SHOWN else f"{flat[:_SHOWN]}..."
    return IntegrityError(f"{path} is damaged or not {database.kind} of hftcl ({shown}). {database.remedy}")


def open_to_write(path: Path, database: Database, *, sync: Sync | None = None) -> sqlite3.Connection:
    """Open the file at `path`, created where it is missing, brought up to date where it is old.

    sync: what a commit waits for, where that is not the database's own. Raises sqlite3.Error, NewerVersionError,
    StorageError, OSError.
    """
    durable.make_folder(path.parent)
    _require_file(path)
    db = _connect(path.absolute().as_uri())
    try:
        known = _read_version(db, path, database)
        db.execute(f"PRAGMA journal_mode = {database.journal}")
        set_sync(db, sync or database.sync)
        db.execute("PRAGMA foreign_keys = ON")
        if known < database.version:
            with transaction(db):
                _bring_up_to_date(db, path, database)
            if known == 0 and sync != "OFF":
                durable.sync_folder(path.parent)
        _require_tables(db, database)
    except BaseException:
        db.close()
        raise
    return db


def open_to_read(path: Path, database: Database) -> sqlite3.Connection:
    """Open the file at `path` to read: nothing is created, and where there is none it reads as empty.

    Works while another process writes. A file of an older version is read as it will be once something changes it.
    Raises sqlite3.Error, NewerVersionError, StorageError.
    """
    if not path.exists():
        return _open_empty(database)
    _require_file(path)
    # mode=rw, not ro: it creates no database either, opens one that may not be written, and can read one whose writer
    # was killed; with neither log nor leave to make one, nobody writes, and the file is all there is.
    alone = database.journal == "WAL" and not path.with_name(path.name + "-wal").exists()
    try:
        return _open_as(path, database, "mode=rw")
    except sqlite3.OperationalError:
        if not alone:
            raise
        return _open_as(path, database, "immutable=1")


def _open_as(path: Path, database: Database, mode: str) -> sqlite3.Connection:
    db = _connect(f"{path.absolute().as_uri()}?{mode}")
    try:
        version = _read_version(db, path, database)
        if version and any(database.upgrades.get(step) for step in range(version, database.version)):
            return _copy_upgraded(db, path, database)
        if version:
            _require_tables(db, database)
            db.execute("PRAGMA query_only = ON")
            return db
    except BaseException:
        db.close()
        raise
    db.close()
    return _open_empty(database)


def _copy_upgraded(db: sqlite3.Connection, path: Path, database: Database) -> sqlite3.Connection:
    """Return a copy in memory with the upgrades in it; the file stays as it is."""
    copy = _connect(":memory:")
    try:
        with contextlib.closing(db):
            db.backup(copy)
        with transaction(copy):
            _bring_up_to_date(copy, path, database)
        copy.execute("PRAGMA query_only = ON")
    except BaseException:
        copy.close()
        raise
    return copy


def _open_empty(database: Database) -> sqlite3.Connection:
    empty = _connect(":memory:")
    empty.executescript(database.schema)
    return empty


def _require_file(path: Path) -> None:
    """Raise StorageError for a pipe, socket or device in the place of a file: to open one can wait for ever."""
    for suffix in (*_SUFFIXES, "-journal"):
        name = path.with_name(path.name + suffix)
        durable.require_regular(name)


def set_sync(db: sqlite3.Connection, sync: Sync) -> None:
    """Choose what commits wait for from now on."""
    db.execute(f"PRAGMA synchronous = {sync}")


def _bring_up_to_date(db: sqlite3.Connection, path: Path, database: Database) -> None:
    """Create or upgrade, in the transaction that is open; nothing happens where another process was faster."""
    version = _read_version(db, path, database)
    if version == database.version:
        return
    if version == 0:
        _run(db, database.schema.split(";"))
    else:
        for step in range(version, database.version):
            _run(db, database.upgrades.get(step, ()))
    db.execute(f"PRAGMA user_version = {database.version}")


def _run(db: sqlite3.Connection, statements: Iterable[str]) -> None:
    for statement in statements:
        db.execute(statement)


def _require_tables(db: sqlite3.Connection, database: Database) -> None:
    there = {name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    if missing := [name for name in database.tables if name not in there]:
        raise sqlite3.DatabaseError(f"it has no table {missing[0]} any more")


def remove(path: Path) -> None:
    """Delete the database at `path` and its logs; nothing happens where it is missing. Raises OSError."""
    for suffix in reversed(_SUFFIXES):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _read_version(db: sqlite3.Connection, path: Path, database: Database) -> int:
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version > database.version:
        raise NewerVersionError(
            f"{path} has version {version}, written by a newer hftcl; this one knows up to version {database.version}. "
            "Upgrade hftcl, or point [paths] home to another folder."
        )
    if version <= 0 and db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        raise sqlite3.DatabaseError("it holds tables of another program")
    return max(version, 0)


def _connect(name: str) -> sqlite3.Connection:
    return sqlite3.connect(name, timeout=_BUSY_S, isolation_level=None, uri=True)


@contextlib.contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All of it or nothing; begins with the write lock, so that no read inside it can grow old."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # a full disk makes SQLite roll back by itself
            db.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def snapshot(db: sqlite3.Connection) -> Iterator[None]:
    """Every SELECT sees the same moment; nested in a transaction it changes nothing."""
    if db.in_transaction:
        yield
        return
    db.execute("BEGIN")
    try:
        yield
    finally:
        db.execute("ROLLBACK")
