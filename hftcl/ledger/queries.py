"""How a question is asked of a ledger: of one moment, and with damage told as what it is."""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from hftcl import sqlite
from hftcl.ledger.frames import read_frame
from hftcl.ledger.rows import BookName
from hftcl.ledger.schema import (
    CLOSES,
    DECISIONS,
    EQUITY,
    FILLS,
    LEDGER,
    OPENS,
    ORDERS,
    LedgerTable,
    to_microseconds,
    to_moment,
)
from hftcl.sqlite import snapshot

if TYPE_CHECKING:
    import polars as pl

_T = TypeVar("_T")  # what a row is read into
_FRAMED: Final = {table.name: table for table in (DECISIONS, ORDERS, FILLS, EQUITY, CLOSES, OPENS)}


class Queries:
    """An open ledger. Frames have the columns of the tables, times as UTC and sessions as dates."""

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        """Ask the open database `db`, which is the file at `path`."""
        self.path = path
        self._db = db

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let every question see the same moment, however much is written meanwhile."""
        with sqlite.faults("reading the ledger", self.path, LEDGER), snapshot(self._db):
            yield

    def _read_table(self, table: LedgerTable, sql: str, values: tuple[Any, ...]) -> list[Any]:
        """Return the rows of `table` that `sql` selects with all their columns."""
        return self._read_records(sql, values, lambda *columns: table.read(columns))

    def _read_records(self, sql: str, values: tuple[Any, ...], read: Callable[..., _T]) -> list[_T]:
        """Return what `read` makes of each row's columns."""
        rows = self._read_rows(sql, values)
        with sqlite.guard_rows(self.path, LEDGER):
            return [read(*row) for row in rows]

    def _read_rows(self, sql: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        with sqlite.faults("reading the ledger", self.path, LEDGER), sqlite.guard_rows(self.path, LEDGER):
            return self._db.execute(sql, values).fetchall()

    def _read_frame(
        self,
        table: str,
        book: BookName | None,
        first: datetime | None,
        last: datetime | None,
        order: str,
        *,
        ticker: str | None = None,
    ) -> "pl.DataFrame":
        where, values = ["book = ?"] if book else ["true"], [book] if book else []
        for bound, sign in ((first, ">="), (last, "<=")):
            if bound is not None:
                where.append(f"ts {sign} ?")
                values.append(to_microseconds(bound))  # type: ignore[arg-type]
        if ticker is not None:
            where.append("ticker = ?")
            values.append(ticker)  # type: ignore[arg-type]
        rest = f"WHERE {' AND '.join(where)} ORDER BY {order}"
        frame = read_frame(self._db, self.path, (_FRAMED[table],), rest, values)
        return frame.select(column.name for column in _FRAMED[table].columns)


def parse_moment(at: int | None) -> datetime | None:
    """Return the time that the ledger keeps as `at`, if any."""
    return None if at is None else to_moment(at)
