"""Rows of a ledger, each checked against its seal, and as polars frames. polars is imported where it is used."""

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from hftcl import sqlite
from hftcl.ledger.schema import LEDGER, LedgerTable
from hftcl.values import Value, value_class

if TYPE_CHECKING:
    import polars as pl

_FRAME_ROWS: Final = 20_000  # a few MB at a time
_T = TypeVar("_T")


@value_class(frozen=True, slots=True)
class WholeRows(Value):
    """How to read all of a table's rows: Python looks at their seals, many at a time, in half of the time of the views.

    columns: without the seal, in the order of the file. A file of before the seals is read as it is.
    """

    table: str
    columns: tuple[str, ...]
    is_sealed: bool

    @classmethod
    def from_table(cls, db: sqlite3.Connection, table: str) -> "WholeRows":
        """Look at the table of an open database."""
        columns, is_sealed = sqlite.list_columns(db, table)
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

    def require_seals(self, path: Path, database: sqlite.Database, rows: Iterable[tuple[object, ...]]) -> None:
        """Raise IntegrityError naming the first of `rows`, as `list_names` asks for them, that is not what was written.

        Columns that are all NULL are no row: so an outer join leaves them where there is none.
        """
        blake2b, from_bytes, size = hashlib.blake2b, int.from_bytes, sqlite.SEAL_BYTES
        for row in rows if self.is_sealed else ():
            # as `_seal`, of which a call takes time: a year of 500 tickers has two million rows
            digest = blake2b(repr(row[:-1]).encode("utf-8", "surrogatepass"), digest_size=size).digest()
            if row[-1] != from_bytes(digest, "big", signed=True) and any(value is not None for value in row[1:]):
                values = dict(zip(self.columns, row[1:-1], strict=True))
                key = ["?" if values[name] is None else str(values[name]) for name in database.sealed[self.table]]
                raise sqlite.build_damage_error(
                    path, database, f"the row {' '.join([self.table, *key])} is not what was written"
                )


def read_frame(
    db: sqlite3.Connection, path: Path, tables: Sequence[LedgerTable], rest: str, values: Sequence[object]
) -> "pl.DataFrame":
    """Return the rows of the first of `tables` that `rest` selects, with the columns that the others add to it.

    rest: what follows the first table; another one stands in it as {name}. The alias of each is its first letter.
    Times are UTC, sessions dates; a numbered table begins with its `number`. Raises IntegrityError for a row that is
    not what was written, StorageError.
    """
    import polars as pl

    with (
        sqlite.faults("reading the ledger", path, LEDGER),
        sqlite.guard_rows(path, LEDGER, pl.exceptions.PolarsError),
    ):
        return pl.concat(_iterate_frames(db, path, tables, rest, values))


def _iterate_frames(
    db: sqlite3.Connection, path: Path, tables: Sequence[LedgerTable], rest: str, values: Sequence[object]
) -> "Iterator[pl.DataFrame]":
    """Yield a frame without rows, then some rows at a time, for as tuples they take room."""
    import polars as pl

    types = {"time": pl.Int64, "session": pl.String, "number": pl.Float64, "text": pl.String, "count": pl.Int64}
    kinds = {"number": "count"} if tables[0].numbered else {}
    kinds |= {column.name: column.kind for table in tables for column in table.columns}
    whole = [WholeRows.from_table(db, table.name) for table in tables]
    names = [name for part in whole for name in part.list_names(part.table[0])]
    source, *joined = (part.get_source(part.table[0]) for part in whole)
    tail = rest.format(**{part.table: name for part, name in zip(whole[1:], joined, strict=True)})
    found = db.execute(f"SELECT {', '.join(names)} FROM {source} {tail}", values)  # noqa: S608 - our names
    times, sessions = ([name for name, kind in kinds.items() if kind == what] for what in ("time", "session"))
    rows: list[tuple[Any, ...]] = []
    while True:
        left: list[tuple[Any, ...]] = list(zip(*rows, strict=True)) or [()] * len(names)
        columns: dict[str, tuple[Any, ...]] = {}
        for part in reversed(whole):
            width = len(part.list_names(""))
            mine, left = left[-width:], left[:-width]
            part.require_seals(path, LEDGER, zip(*mine, strict=True))
            columns |= part.take_columns(mine)
        yield pl.DataFrame(
            [pl.Series(name, columns[name], dtype=types[kind]) for name, kind in kinds.items()]
        ).with_columns(pl.col(times).cast(pl.Datetime("us", "UTC")), pl.col(sessions).str.to_date("%Y-%m-%d"))
        rows = found.fetchmany(_FRAME_ROWS)
        if not rows:
            return
