"""How the SQLite files of the bot are opened, and what their faults are called.

Write-ahead logging: a reader never waits for the bot, nor the bot for it, and a minute costs one sync.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

from hftcl import durable
from hftcl.errors import HftclError, IntegrityError, LockHeldError, NewerVersionError, StorageError

_BUSY_S: Final = 10.0  # a minute's write takes milliseconds and a backup seconds; the bot has its minute to wait in
# The database, its write-ahead log and its index, https://www.sqlite.org/wal.html: none without the others.
_SUFFIXES: Final = ("", "-wal", "-shm")


@contextlib.contextmanager
def faults(doing: str, path: Path) -> Iterator[None]:
    """Turn what the disk and SQLite may raise while `doing` something with `path` into one HftclError."""
    try:
        with durable.convert_storage_faults(doing):
            yield
    except sqlite3.Error as error:
        raise _build_fault(doing, path, error) from error


@contextlib.contextmanager
def guard_rows(path: Path, *others: type[Exception]) -> Iterator[None]:
    """Tell a row that cannot be what was written as the damage to `path` that it is. others: of the frames' library."""
    damage: tuple[type[Exception], ...] = (ValueError, TypeError, OverflowError, *others)
    try:
        yield
    except damage as error:
        first, *_ = str(error).splitlines() or [type(error).__name__]
        raise _build_damage_error(path, f"a row cannot be read: {first}") from error


def _build_fault(doing: str, path: Path, error: sqlite3.Error) -> HftclError:
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
    return _build_damage_error(path, str(error))


def _build_damage_error(path: Path, how: str) -> IntegrityError:
    how = " ".join(how.split())  # SQLite quotes what it found, line breaks and all
    return IntegrityError(
        f"{path} is damaged or not a file of hftcl ({how}). Restore it from a backup; or move it away, and hftcl "
        "begins a new one: positions that the broker still holds then have to be closed there."
    )


Sync = Literal["FULL", "NORMAL", "OFF"]
"""What a commit waits for. All survive the end of the process, however sudden; FULL survives a power cut, and with it
whatever was committed before; after NORMAL a power cut may forget commits, after OFF it may damage the file."""


def open_to_write(path: Path, schema: str, version: int, *, sync: Sync) -> sqlite3.Connection:
    """Open the database at `path`, created where it is missing. Raises sqlite3.Error, NewerVersionError, OSError."""
    durable.make_folder(path.parent)
    db = _connect(path.absolute().as_uri())
    try:
        known = _read_version(db, path, version)
        db.execute("PRAGMA journal_mode = WAL")
        set_sync(db, sync)
        if known == 0:
            _create(db, path, schema, version)
            if sync != "OFF":
                durable.sync_folder(path.parent)
    except BaseException:
        db.close()
        raise
    return db


def set_sync(db: sqlite3.Connection, sync: Sync) -> None:
    """Choose what commits wait for from now on."""
    db.execute(f"PRAGMA synchronous = {sync}")


def _create(db: sqlite3.Connection, path: Path, schema: str, version: int) -> None:
    with transaction(db):
        if _read_version(db, path, version) == 0:  # nobody else was faster
            for statement in schema.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {version}")


def open_to_read(path: Path, schema: str, version: int) -> sqlite3.Connection:
    """Open the database at `path` to read: nothing is created, and where there is none it reads as empty.

    Works while another process writes. Raises sqlite3.Error, NewerVersionError.
    """
    if path.exists():
        # mode=rw, not ro: it creates no database either, opens one that may not be written, and can read one whose
        # writer was killed; with neither log nor leave to make one, nobody writes, and the file is all there is.
        alone = not path.with_name(path.name + "-wal").exists()
        for mode in ("mode=rw", "immutable=1") if alone else ("mode=rw",):
            db = _connect(f"{path.absolute().as_uri()}?{mode}")
            try:
                if _read_version(db, path, version):
                    db.execute("PRAGMA query_only = ON")
                    return db
                db.close()
                break
            except sqlite3.OperationalError:
                db.close()
                if mode != "mode=rw" or not alone:
                    raise
            except BaseException:
                db.close()
                raise
    empty = _connect(":memory:")
    empty.executescript(schema)
    return empty


def remove(path: Path) -> None:
    """Delete the database at `path` and its logs; nothing happens where it is missing. Raises OSError."""
    for suffix in reversed(_SUFFIXES):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _read_version(db: sqlite3.Connection, path: Path, known: int) -> int:
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version > known:
        raise NewerVersionError(
            f"{path} has version {version}, written by a newer hftcl; this one knows up to version {known}. "
            "Upgrade hftcl, or point [paths] home to another folder."
        )
    if version == 0 and db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        raise sqlite3.DatabaseError("it holds tables of another program")
    return version


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
