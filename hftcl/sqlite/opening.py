"""How a file is opened, created, brought up to date and deleted."""

import contextlib
import sqlite3
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Final

from hftcl import durable
from hftcl.errors import NewerVersionError
from hftcl.sqlite.database import Database, Sync
from hftcl.sqlite.seals import list_columns, read_tables, seal_changes, seal_table, show_whole_rows
from hftcl.sqlite.transactions import transaction

_BUSY_S: Final = 10.0  # a minute's write takes milliseconds and a backup seconds; the bot has its minute to wait in
# The database, its write-ahead log and its index, https://www.sqlite.org/wal.html: none without the others.
_SUFFIXES: Final = ("", "-wal", "-shm")
_JOURNAL: Final = "-journal"  # what SQLite writes beside a database that has no log
_CREATE: Final = "CREATE TABLE "


def open_to_write(path: Path, database: Database, *, sync: Sync | None = None) -> sqlite3.Connection:
    """Open the file at `path`, created where it is missing, brought up to date where it is old.

    sync: what a commit waits for, where that is not the database's own. Each row that is written through the
    connection is sealed. Raises sqlite3.Error, NewerVersionError, StorageError, OSError.
    """
    durable.make_folder(path.parent)
    _require_file(path)
    db = _connect(path.absolute().as_uri())
    try:
        file_version = _read_version(db, path, database)
        db.execute(f"PRAGMA journal_mode = {database.journal}")
        set_sync(db, sync or database.sync)
        db.execute("PRAGMA foreign_keys = ON")
        if file_version < database.version:
            with transaction(db):
                _bring_up_to_date(db, path, database)
            if file_version == 0 and sync != "OFF":
                durable.sync_folder(path.parent)
        seal_changes(db, database, _require_tables(db, database))
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
    alone = database.journal == "WAL" and not locate_log(path).exists()
    try:
        return _open_as(path, database, "mode=rw")
    except sqlite3.OperationalError:
        if not alone:
            raise
        return _open_as(path, database, "immutable=1")


def open_to_salvage(path: Path) -> sqlite3.Connection:
    """Open a file that may be damaged as it lies there: nothing is asked of its version, tables or seals.

    Raises sqlite3.Error, StorageError.
    """
    _require_file(path)
    return _connect(f"{path.absolute().as_uri()}?mode=rw")


def _open_as(path: Path, database: Database, mode: str) -> sqlite3.Connection:
    db = _connect(f"{path.absolute().as_uri()}?{mode}")
    try:
        version = _read_version(db, path, database)
        steps = [line for step in range(version, database.version) for line in database.upgrades.get(step, ())]
        additions = [line.replace(_CREATE, "CREATE TEMP TABLE ", 1) for line in steps if line.startswith(_CREATE)]
        if version and steps and (database.small or len(additions) < len(steps)):
            return _copy_upgraded(db, path, database)
        if version:
            _run(db, additions)  # empty ones of this connection: what only grows by tables is read where it lies
            show_whole_rows(db, database, _require_tables(db, database))
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
        show_whole_rows(copy, database, _require_tables(copy, database))
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
    for suffix in (*_SUFFIXES, _JOURNAL):
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
    sealed = {table: columns for table in database.sealed if (columns := list_columns(db, table))[1]}
    if version:
        for step in range(version, database.version):
            _run(db, database.upgrades.get(step, ()))
    for table in database.sealed:
        if sealed.get(table) != list_columns(db, table):  # else a damaged row would get a seal that fits it
            seal_table(db, table)
    db.execute(f"PRAGMA user_version = {database.version}")


def _run(db: sqlite3.Connection, statements: Iterable[str]) -> None:
    for statement in statements:
        db.execute(statement)


def _require_tables(db: sqlite3.Connection, database: Database) -> dict[str, dict[str, int]]:
    """Return the tables of the file, as `read_tables` does; raise sqlite3.DatabaseError where something is missing."""
    of_file = read_tables(db)
    tables = of_file | read_tables(db, "temp")
    if missing := [name for name in database.tables if name not in tables]:
        raise sqlite3.DatabaseError(f"it has no table {missing[0]} any more")
    for table, columns in _read_columns(database.schema).items():  # a flipped bit in a name is another column to SQLite
        if lost := columns - tables.get(table, {}).keys():
            raise sqlite3.DatabaseError(f"its table {table} has no column {min(lost)} any more")
    if database.small and (fault := find_page_fault(db)):
        raise sqlite3.DatabaseError(fault)
    return of_file


def find_page_fault(db: sqlite3.Connection, *, of: str = "1") -> str | None:
    """Return what is wrong with the pages and indexes of the file, where no seal tells; None for nothing.

    of: the name of one table, or how many faults are enough.
    """
    row = db.execute(f"PRAGMA main.integrity_check({of})").fetchone()
    return None if row is None or row[0] == "ok" else str(row[0]).splitlines()[-1]


@lru_cache(maxsize=16)  # the kinds of files that there are
def _read_columns(schema: str) -> dict[str, frozenset[str]]:
    """Return the columns of each table that `schema` makes."""
    with contextlib.closing(_connect(":memory:")) as db:
        db.executescript(schema)
        tables = [str(row[0]) for row in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return {
            table: frozenset(str(row[1]) for row in db.execute(f"PRAGMA table_info({table})"))
            for table in tables
            if not table.startswith("sqlite_")
        }


def locate_log(path: Path) -> Path:
    """Return the log beside the database at `path`, which holds what was written last, where it has one."""
    return path.with_name(path.name + "-wal")


def remove(path: Path) -> None:
    """Delete the database at `path` and its logs; nothing happens where it is missing. Raises OSError."""
    for suffix in reversed(_SUFFIXES):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def remove_journal(path: Path) -> None:
    """Delete the rollback journal of the database at `path`, which would be played back into another one put there.

    Nothing happens where there is none. Raises OSError.
    """
    path.with_name(path.name + _JOURNAL).unlink(missing_ok=True)


def _read_version(db: sqlite3.Connection, path: Path, database: Database) -> int:
    version = ask_version(db)
    if version <= 0 and db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        version = ask_version(db)  # another process made it between the two looks: tables and version are one commit
        if version <= 0:
            raise sqlite3.DatabaseError("it holds tables of another program")
    if version > database.version:
        raise NewerVersionError(
            f"{path} has version {version}, written by a newer hftcl; this one knows up to version {database.version}. "
            "Upgrade hftcl, or point [paths] home to another folder."
        )
    return max(version, 0)


def ask_version(db: sqlite3.Connection) -> int:
    """Return the version that the file itself names, 0 where it names none. Raises sqlite3.Error."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _connect(name: str) -> sqlite3.Connection:
    return sqlite3.connect(name, timeout=_BUSY_S, isolation_level=None, uri=True)
