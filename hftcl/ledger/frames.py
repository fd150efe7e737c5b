"""Rows of a ledger as polars frames, each row checked against its seal. polars is imported where it is used."""

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hftcl import sqlite
from hftcl.ledger.schema import LEDGER, Table

if TYPE_CHECKING:
    import polars as pl

_FRAME_ROWS: Final = 20_000  # a few MB at a time


def read_frame(
    db: sqlite3.Connection, path: Path, tables: Sequence[Table], rest: str, values: Sequence[object]
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
    db: sqlite3.Connection, path: Path, tables: Sequence[Table], rest: str, values: Sequence[object]
) -> "Iterator[pl.DataFrame]":
    """Yield a frame without rows, then some rows at a time, for as tuples they take room."""
    import polars as pl

    types = {"time": pl.Int64, "session": pl.String, "number": pl.Float64, "text": pl.String, "count": pl.Int64}
    kinds = {"number": "count"} if tables[0].numbered else {}
    kinds |= {column.name: column.kind for table in tables for column in table.columns}
    whole = [sqlite.WholeRows.of(db, table.name) for table in tables]
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
