"""How every SQLite file of hftcl is described, opened, changed, sealed, and what its faults are called.

A row of a sealed table carries a hash over its other columns. SQLite has no checksums: a flipped bit in a page is
another number to it, and its own integrity check says "ok". Only the standard library is imported.
"""

import contextlib
import hashlib
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from functools import lru_cache
from pathlib import Path
from types import CodeType
from typing import Final, Literal, TypeVar

from hftcl import durable
from hftcl.errors import HftclError, IntegrityError, LockHeldError, NewerVersionError, StorageError
from hftcl.interrupts import raise_lost
from hftcl.values import Value, value_class

_BUSY_S: Final = 10.0  # a minute's write takes milliseconds and a backup seconds; the bot has its minute to wait in
# The database, its write-ahead log and its index, https://www.sqlite.org/wal.html: none without the others.
_SUFFIXES: Final = ("", "-wal", "-shm")
_SEAL_BYTES: Final = 8  # one SQLite integer: by chance it fits a damaged row once in 2**64
_CREATE: Final = "CREATE TABLE "
_SHOWN: Final = 160  # characters of what SQLite or a row says: enough to find the place, too few to flood a terminal


_T = TypeVar("_T")


class _Met(threading.local):
    """The row that a query of this thread met last whose seal does not fit: SQLite keeps no text of it."""

    row = ""


_met: Final = _Met()
_CALLED: Final[set[CodeType]] = set()  # what SQLite calls, and in which a signal handler may raise

Journal = Literal["DELETE", "WAL"]
"""DELETE: one file between two changes, fit for a backup by copying. WAL: a reader never waits for the writer, nor the
writer for it, and a commit costs one sync."""

Sync = Literal["EXTRA", "FULL", "NORMAL", "OFF"]
"""What a commit waits for. All survive the end of the process, however sudden; FULL survives a power cut, and with it
whatever was committed before; EXTRA also when the journal is a file that is deleted; after NORMAL a power cut may
forget commits, after OFF it may damage the file."""


@value_class(frozen=True, slots=True, kw_only=True)
class Database(Value):
    """One kind of file: what it is called, what stands in it, how it is written, and what its loss means.

    kind: with an article, such as "a ledger". schema: of the newest version. upgrades: for each older version the
    statements that lead to the next one; `version` rises where `sealed` grows. remedy: what a person does about a
    damaged file, and what is lost by it.
    sealed: the tables whose rows carry a seal, for each the columns that name a row to a person.
    small: so small that each opening checks its whole structure.
    """

    kind: str
    version: int
    schema: str
    journal: Journal
    sync: Sync
    remedy: str
    upgrades: Mapping[int, Sequence[str]] = field(default_factory=dict)
    sealed: Mapping[str, Sequence[str]] = field(default_factory=dict)
    small: bool = False

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables of the newest version."""
        return _list_created(self.schema.split(";"))

    def list_later_tables(self, version: int) -> tuple[str, ...]:
        """Return the tables that a file of `version` cannot have yet."""
        return tuple(
            name for step in range(max(version, 1), self.version) for name in _list_created(self.upgrades.get(step, ()))
        )


def _list_created(statements: Iterable[str]) -> tuple[str, ...]:
    words = (statement.split() for statement in statements)
    return tuple(each[2] for each in words if each[:2] == ["CREATE", "TABLE"])


@contextlib.contextmanager
def faults(doing: str, path: Path, database: Database) -> Iterator[None]:
    """Turn what the disk and SQLite may raise while `doing` something with `path` into one HftclError."""
    try:
        with durable.convert_storage_faults(doing):
            yield
    except sqlite3.Error as error:
        raise_lost(_CALLED)
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
    row, _met.row = _met.row, ""
    if row and "user-defined function" in str(error):
        return build_damage_error(path, database, f"the row {row} is not what was written")
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
        _require_tables(db, database)
        _seal_changes(db, database)
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
        steps = [line for step in range(version, database.version) for line in database.upgrades.get(step, ())]
        additions = [line.replace(_CREATE, "CREATE TEMP TABLE ", 1) for line in steps if line.startswith(_CREATE)]
        if version and steps and (database.small or len(additions) < len(steps)):
            return _copy_upgraded(db, path, database)
        if version:
            _run(db, additions)  # empty ones of this connection: what only grows by tables is read where it lies
            _require_tables(db, database)
            _show_whole_rows(db, database)
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
        _show_whole_rows(copy, database)
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
    sealed = {table: columns for table in database.sealed if (columns := _list_columns(db, table))[1]}
    if version:
        for step in range(version, database.version):
            _run(db, database.upgrades.get(step, ()))
    for table in database.sealed:
        if sealed.get(table) != _list_columns(db, table):  # else a damaged row would get a seal that fits it
            _seal_table(db, table)
    db.execute(f"PRAGMA user_version = {database.version}")


def _run(db: sqlite3.Connection, statements: Iterable[str]) -> None:
    for statement in statements:
        db.execute(statement)


def compute_seal(*values: object) -> int:
    """Return the seal of a row: of its table's name and its columns, in the order of the table."""
    # Only of texts: to a cache 0.0 and -0.0 are the same, and to a seal they are not.
    return _seal_texts(values) if _CACHED_TYPES.issuperset(map(type, values)) else _seal(values)


_CACHED_TYPES: Final = frozenset({str, type(None)})


def seal_row(table: str, values: Sequence[object]) -> tuple[object, ...]:
    """Return a row, all its columns in the order of the table, with its seal after them, which costs a third of what a
    trigger does.

    values: as SQLite gives them back: for REAL a float as of `as_real`, for NULL None.
    """
    return (*values, _seal((table, *values)))


def as_real(value: float | None) -> float | None:
    """Return a number as SQLite gives it back from a REAL column: NULL for NaN, and no zero below zero.

    >>> as_real(3), as_real(-0.0), as_real(float("nan"))
    (3.0, 0.0, None)
    """
    return None if value is None or value != value else float(value) + 0.0  # NaN alone is not itself


def _seal(values: tuple[object, ...]) -> int:
    digest = hashlib.blake2b(repr(values).encode("utf-8", "surrogatepass"), digest_size=_SEAL_BYTES).digest()
    return int.from_bytes(digest, "big", signed=True)


# The scheduler looks at the same rows at each of its rounds: a year of them are some hundreds.
_seal_texts = lru_cache(maxsize=4096)(_seal)


def _list_columns(db: sqlite3.Connection, table: str) -> tuple[list[str], bool]:
    """Return the columns of a table but its seal, and whether it has one."""
    names = [str(row[1]) for row in db.execute(f"PRAGMA main.table_info({table})")]
    return [name for name in names if name != "seal"], "seal" in names


def _seal_expression(table: str, columns: Sequence[str]) -> str:
    return f"hftcl_seal('{table}', {', '.join(columns)})"


def _seal_table(db: sqlite3.Connection, table: str) -> None:
    """Seal the rows of a table that has had no seals, or other columns, so far."""
    columns, sealed = _list_columns(db, table)
    if not sealed:
        db.execute(f"ALTER TABLE {table} ADD COLUMN seal INTEGER")
    _make_function(db)
    db.execute(f"UPDATE {table} SET seal = {_seal_expression(table, columns)}")  # noqa: S608 - our names


def _make_function(db: sqlite3.Connection) -> None:
    db.create_function("hftcl_seal", -1, compute_seal, deterministic=True)
    _CALLED.add(compute_seal.__code__)


def _seal_changes(db: sqlite3.Connection, database: Database) -> None:
    """Let this connection seal each row that it writes, unless it comes with its seal, as of `seal_row`.

    The triggers are its own: the file knows nothing of them.
    """
    if not database.sealed:
        return
    _make_function(db)
    db.execute("PRAGMA temp_store = MEMORY")
    for table in database.sealed:
        columns, _ = _list_columns(db, table)
        key = _list_key(db, table)
        where = " AND ".join(f"{name} = new.{name}" for name in key) or "true"
        seal = f"UPDATE {table} SET seal = {_seal_expression(table, columns)} WHERE {where}"  # noqa: S608 - our names
        for event, unsealed in (
            ("INSERT", "new.seal IS NULL"),
            (f"UPDATE OF {', '.join(columns)}", "new.seal IS old.seal"),
        ):
            name = f"seal_{event.split()[0].lower()}_{table}"
            db.execute(f"CREATE TEMP TRIGGER {name} AFTER {event} ON main.{table} WHEN {unsealed} BEGIN {seal}; END")


def _list_key(db: sqlite3.Connection, table: str) -> list[str]:
    rows = db.execute(f"PRAGMA main.table_info({table})").fetchall()
    return [str(row[1]) for row in rows if row[5]]


def _show_whole_rows(db: sqlite3.Connection, database: Database) -> None:
    """Put a view before each sealed table: a row whose seal does not fit ends the query, and no seal is to be seen.

    A file of before the seals is read as it is.
    """
    places: dict[object, list[int]] = {}

    def require_seal(seal: int | None, *values: object) -> int:
        if seal != compute_seal(*values):
            table, *row = values
            _met.row = " ".join([str(table), *("?" if row[at] is None else str(row[at]) for at in places[table])])
            raise ValueError(_met.row)
        return 1

    db.create_function("hftcl_whole", -1, require_seal)
    _CALLED.add(require_seal.__code__)
    for table, key in database.sealed.items():
        columns, sealed = _list_columns(db, table)
        if sealed:
            names = ", ".join(columns)
            # In a SELECT of its own: SQLite writes the constant of `WHERE state = 'open'` into the rest of the WHERE.
            check = f"(SELECT hftcl_whole(seal, '{table}', {names}))"
            places[table] = [columns.index(name) for name in key]
            db.execute(f"CREATE TEMP VIEW {table} AS SELECT {names} FROM main.{table} WHERE {check}")  # noqa: S608


@value_class(frozen=True, slots=True)
class WholeRows(Value):
    """How to read all of a table's rows: Python looks at their seals, many at a time, in half of the time of the views.

    columns: without the seal, in the order of the file. A file of before the seals is read as it is.
    """

    table: str
    columns: tuple[str, ...]
    is_sealed: bool

    @classmethod
    def of(cls, db: sqlite3.Connection, table: str) -> "WholeRows":
        """Look at the table of an open database."""
        columns, is_sealed = _list_columns(db, table)
        if not is_sealed:  # of this connection alone, as `open_to_read` adds those of a newer version
            columns = [str(row[1]) for row in db.execute(f"PRAGMA table_info({table})")]
        return cls(table, tuple(columns), is_sealed)

    def list_names(self, alias: str) -> list[str]:
        """Return what a SELECT asks for: the columns, and about them what the seal is over and is."""
        names = [f"{alias}.{name}" for name in self.columns]
        return [f"'{self.table}'", *names, f"{alias}.seal"] if self.is_sealed else names

    def get_source(self, alias: str) -> str:
        """Return what a FROM or a JOIN names."""
        return f"{'main.' if self.is_sealed else ''}{self.table} AS {alias}"

    def take_columns(self, values: Sequence[_T]) -> dict[str, _T]:
        """Return by column what stands in the places of `list_names`."""
        return dict(zip(self.columns, values[1:-1] if self.is_sealed else values, strict=True))

    def require_seals(self, path: Path, database: Database, rows: Iterable[tuple[object, ...]]) -> None:
        """Raise IntegrityError naming the first of `rows`, as `list_names` asks for them, that is not what was written.

        Columns that are all NULL are no row: so an outer join leaves them where there is none.
        """
        blake2b, from_bytes = hashlib.blake2b, int.from_bytes
        for row in rows if self.is_sealed else ():
            # as `_seal`, of which a call takes time: a year of 500 tickers has two million rows
            digest = blake2b(repr(row[:-1]).encode("utf-8", "surrogatepass"), digest_size=_SEAL_BYTES).digest()
            if row[-1] != from_bytes(digest, "big", signed=True) and any(value is not None for value in row[1:]):
                values = dict(zip(self.columns, row[1:-1], strict=True))
                key = ["?" if values[name] is None else str(values[name]) for name in database.sealed[self.table]]
                raise build_damage_error(
                    path, database, f"the row {' '.join([self.table, *key])} is not what was written"
                )


def _name_row(table: str, key: Sequence[str]) -> str:
    """Return the SQL that names a row for a person."""
    parts = " || ' ' || ".join(f"coalesce({name}, '?')" for name in key)
    return f"'{table} ' || {parts}"


def list_damage(db: sqlite3.Connection, database: Database, tables: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Return each row of the sealed `tables`, by default of all, whose seal does not fit, as "table key".

    tables: names, each with the condition on the rows that are looked at.
    """
    found: list[str] = []
    for table, where in (dict.fromkeys(database.sealed, "true") if tables is None else tables).items():
        columns, sealed = _list_columns(db, table)
        if not sealed:
            continue
        rows = db.execute(
            f"SELECT {_name_row(table, database.sealed[table])}, seal, {', '.join(columns)} "  # noqa: S608
            f"FROM main.{table} WHERE {where}"
        )
        found += [str(name) for name, seal, *values in rows if seal != compute_seal(table, *values)]
    return tuple(found)


def read_rows(
    db: sqlite3.Connection, database: Database, table: str, order: str
) -> tuple[list[sqlite3.Row], list[str]]:
    """Return the whole rows of a table, with their seal, and the names of those that are not what was written."""
    columns, sealed = _list_columns(db, table)
    rows = db.execute(f"SELECT * FROM main.{table} ORDER BY {order}").fetchall()  # noqa: S608 - our names
    whole, damage = [], []
    for row in rows:
        if sealed and row["seal"] != compute_seal(table, *(row[name] for name in columns)):
            damage.append(" ".join([table, *(str(row[name]) for name in database.sealed[table])]))
        else:
            whole.append(row)
    return whole, damage


def require_whole(
    db: sqlite3.Connection, path: Path, database: Database, tables: Mapping[str, str] | None = None
) -> None:
    """Raise IntegrityError naming the first row of `tables`, as in `list_damage`, that is not what was written."""
    if damage := list_damage(db, database, tables):
        raise build_damage_error(path, database, f"the row {damage[0]} is not what was written")


def _require_tables(db: sqlite3.Connection, database: Database) -> None:
    schemas = "SELECT name, type FROM sqlite_schema UNION ALL SELECT name, type FROM sqlite_temp_schema"
    tables = {name for name, kind in db.execute(schemas) if kind == "table"}
    if missing := [name for name in database.tables if name not in tables]:
        raise sqlite3.DatabaseError(f"it has no table {missing[0]} any more")
    for table, columns in _read_columns(database.schema).items():  # a flipped bit in a name is another column to SQLite
        if lost := columns - {str(row[1]) for row in db.execute(f"PRAGMA table_info({table})")}:
            raise sqlite3.DatabaseError(f"its table {table} has no column {min(lost)} any more")
    if database.small and (told := str(db.execute("PRAGMA integrity_check(1)").fetchone()[0])) != "ok":
        raise sqlite3.DatabaseError(told.splitlines()[-1])


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


def remove(path: Path) -> None:
    """Delete the database at `path` and its logs; nothing happens where it is missing. Raises OSError."""
    for suffix in reversed(_SUFFIXES):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _read_version(db: sqlite3.Connection, path: Path, database: Database) -> int:
    version = _ask_version(db)
    if version <= 0 and db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        version = _ask_version(db)  # another process made it between the two looks: tables and version are one commit
        if version <= 0:
            raise sqlite3.DatabaseError("it holds tables of another program")
    if version > database.version:
        raise NewerVersionError(
            f"{path} has version {version}, written by a newer hftcl; this one knows up to version {database.version}. "
            "Upgrade hftcl, or point [paths] home to another folder."
        )
    return max(version, 0)


def _ask_version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


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
