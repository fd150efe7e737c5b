"""How one kind of SQLite file is described, and what its faults are called."""

import contextlib
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from pathlib import Path
from types import CodeType
from typing import Final, Literal

from hftcl import durable
from hftcl.errors import HftclError, IntegrityError, LockHeldError, StorageError, fold_line
from hftcl.interrupts import raise_lost
from hftcl.values import Value, value_class

_SHOWN: Final = 160  # characters of what SQLite or a row says: enough to find the place, too few to flood a terminal


class _Met(threading.local):
    """The row that a query of this thread met last whose seal does not fit: SQLite keeps no text of it."""

    row = ""


met: Final = _Met()
CALLED: Final[set[CodeType]] = set()  # what SQLite calls, and in which a signal handler may raise


Journal = Literal["DELETE", "WAL"]
"""DELETE: one file between two changes, fit for a backup by copying. WAL: a reader never waits for the writer, nor the
writer for it, and a commit costs one sync."""

Sync = Literal["EXTRA", "FULL", "NORMAL", "OFF"]
"""What a commit waits for. All survive the end of the process, however sudden; FULL survives a power cut, and with it
whatever was committed before; EXTRA also when the journal is a file that is deleted; after NORMAL a power cut may
forget commits, after OFF it may damage the file."""

Change = Literal["INSERT", "UPDATE"]


@value_class(frozen=True, slots=True, kw_only=True)
class Database(Value):
    """One kind of file: what it is called, what stands in it, how it is written, and what its loss means.

    kind: with an article, such as "a ledger". schema: of the newest version. upgrades: for each older version the
    statements that lead to the next one; `version` rises where `sealed` grows. remedy: what a person does about a
    damaged file, and what is lost by it.
    sealed: the tables whose rows carry a seal, for each the columns that name a row to a person.
    comes_sealed: for some of them the changes that always bring the row's seal, as of `seal_row`: of these no trigger
    looks for rows without one, which takes half as long as the change itself.
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
    comes_sealed: Mapping[str, Sequence[Change]] = field(default_factory=dict)
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
        raise_lost(CALLED)
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
    row, met.row = met.row, ""
    if row and "user-defined function" in str(error):
        return build_damage_error(path, database, f"the row {row} is not what was written")
    if primary == sqlite3.SQLITE_CONSTRAINT:
        return IntegrityError(f"{doing[:1].upper()}{doing[1:]} failed: a row cannot be kept in {path}: {error}.")
    return build_damage_error(path, database, str(error))


def build_damage_error(path: Path, database: Database, how: str) -> IntegrityError:
    """Return the error of a file, or of a row in it, that is not what was written."""
    # SQLite and rows are quoted as they are found: line ends, control characters and great lengths are not to be shown.
    flat = fold_line(how)
    shown = flat if len(flat) <= _SHOWN else f"{flat[:_SHOWN]}..."
    return IntegrityError(f"{path} is damaged or not {database.kind} of hftcl ({shown}). {database.remedy}")
