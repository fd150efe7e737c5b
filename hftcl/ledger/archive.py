"""The decisions of ended sessions: from the ledger's table into one Parquet file a month, and back to who asks.

`archive_decisions` moves them, so that a kill at any step loses none and doubles none: first the ledger notes the
digest of the file to come, then the file takes the old one's place, then its decisions leave the table. A digest in a
sealed row tells damage to a file, of which Parquet itself would notice a part only. Touches the ledger and its folder
`decisions`; pyarrow writes, group by group, and polars reads, both imported where they are used.
"""

import hashlib
import io
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hftcl import durable, sqlite
from hftcl.errors import IntegrityError
from hftcl.home import locate_decisions, locate_month
from hftcl.ledger.rows import BOOKS, LedgerEvent, MonthFile
from hftcl.ledger.schema import ARCHIVES, DECIDED, DECISIONS, EVENTS, LEDGER, LedgerTable, to_microseconds, to_moment
from hftcl.sqlite import Sync, transaction

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

_HOUR_US: Final = 3_600_000_000  # an hour, in the ledger's unit of time
_FOR_EVER: Final = 2**62  # microseconds: after every month
_DIGEST_BYTES: Final = 16  # two files are never alike by chance
_GROUP_ROWS: Final = 100_000  # of one row group: some MB in memory, and a minute is found without reading the month
_LEVEL: Final = 3  # zstd's own default; 10 saves 0.3 bytes of 4.4 a decision
_SHRINK_BYTES: Final = 64 << 20  # free pages worth rewriting the ledger for; a session of 500 tickers has 30 MB
_KEY: Final = ", ".join(DECISIONS.key)
_IN_MONTH: Final = f"book IN {BOOKS} AND ts >= ? AND ts < ?"  # the books, so that the primary key is used
_ARCHIVE: Final = f"{ARCHIVES.insert} ON CONFLICT DO UPDATE SET digest = excluded.digest, pending = excluded.pending"
_COUNT: Final = (
    f"INSERT INTO decided ({DECIDED.names}) SELECT book, ts - ts % {_HOUR_US}, coalesce(model_id, ''), code, "  # noqa: S608
    f"min(ts), max(ts), count(*) FROM decisions WHERE {_IN_MONTH} GROUP BY 1, 2, 3, 4 ON CONFLICT DO UPDATE SET "
    "first = min(first, excluded.first), last = max(last, excluded.last), decisions = decisions + excluded.decisions"
)
Key = tuple[str, int, str]
"""Book, ts in microseconds, ticker."""


def archive_decisions(path: Path, before: datetime, *, sync: Sync | None = None) -> int:
    """Move the decisions on bars before `before` out of the ledger at `path`; return how many were moved.

    No other process may write decisions on such bars meanwhile; anything else may be written. Done again after a kill
    it goes on where it was. Raises IntegrityError for a damaged file or row, StorageError, LockHeldError: then what is
    not moved yet stays where it is.
    """
    folder = locate_decisions(path)
    with (
        sqlite.faults("archiving decisions", path, LEDGER),
        closing(sqlite.open_to_write(path, LEDGER, sync=sync)) as db,
    ):
        durable.make_folder(folder)
        durable.sweep_temporary(folder, ["*.parquet"])
        end, moved = to_microseconds(before), 0
        while (first := _find_first(db, end)) is not None:
            moved += _archive_month(db, path, f"{to_moment(first):%Y-%m}", end)
        _shrink(db)
        return moved


def delete_archive(path: Path) -> None:
    """Delete what was archived of the ledger at `path`. Raises OSError."""
    folder = locate_decisions(path)
    durable.sweep_temporary(folder, ["*.parquet"])
    for file in sorted(folder.glob("*.parquet")) if folder.is_dir() else []:
        file.unlink()


def require_ledger(path: Path) -> None:
    """Raise IntegrityError where there is no ledger at `path`, but decisions that one archived."""
    if not path.exists() and (months := list_files(path)):
        folder = locate_decisions(path)
        raise IntegrityError(
            f"{path} is missing, and its decisions of {', '.join(months)} are in {folder}. Restore both from one "
            "backup; or move that folder away, and hftcl begins a new ledger: positions that the broker still holds "
            "then have to be closed there."
        )


def list_files(path: Path) -> list[str]:
    """Return the months, YYYY-MM, of which a file lies beside the ledger at `path`, oldest first."""
    return sorted(file.stem for file in locate_decisions(path).glob("[0-9][0-9][0-9][0-9]-[0-9][0-9].parquet"))


def compute_digest(data: bytes) -> str:
    """Return what tells that a month's file is what was written."""
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).hexdigest()


def list_months(rows: Iterable[MonthFile], first: datetime | None, last: datetime | None) -> list[MonthFile]:
    """Return those of `rows`, oldest first, whose month holds something from `first` to `last`."""
    low, high = (f"{first:%Y-%m}" if first else ""), (f"{last:%Y-%m}" if last else "~")
    return sorted((row for row in rows if low <= row.month <= high), key=lambda row: row.month)


def read_month(path: Path, row: MonthFile) -> bytes | None:
    """Return the content of a month's file of the ledger at `path`, None where there is none yet.

    Raises IntegrityError where it is not what `row` says.
    """
    file = locate_month(locate_decisions(path), row.month)
    try:
        data = durable.read_file(file)
    except FileNotFoundError:
        data = b""
    if (compute_digest(data) if data else "") not in {row.digest, row.pending} or (not data and row.digest):
        what = "is missing" if not data else "is damaged, or of another ledger"
        raise IntegrityError(
            f"{file} {what}: the decisions of that month are not to be trusted. Orders, fills and what was earned are "
            f"in {path}, and are not touched by it, unless that is an older copy. Restore both from one backup."
        )
    return data or None


def build_month_frame(
    data: bytes, book: str, first: datetime | None, last: datetime | None, ticker: str | None = None
) -> "pl.DataFrame":
    """Return a book's decisions in a month's file on bars from `first` to `last`, as the ledger's frames are.

    ticker: of this one alone; None for all.
    """
    import polars as pl

    span = [pl.col("book") == book]
    if first is not None:
        span.append(pl.col("ts") >= first)
    if last is not None:
        span.append(pl.col("ts") <= last)
    if ticker is not None:
        span.append(pl.col("ticker") == ticker)
    names = [column.name for column in DECISIONS.columns]
    return pl.scan_parquet(io.BytesIO(data)).filter(*span).select(names).collect()


def _find_first(db: sqlite3.Connection, end: int) -> int | None:
    """Return the ts of the oldest decision, None where there is none before `end`."""
    each = [db.execute("SELECT min(ts) FROM decisions WHERE book = ?", (book,)).fetchone()[0] for book in BOOKS]
    first = min((ts for ts in each if ts is not None), default=end)
    return first if first < end else None


def _archive_month(db: sqlite3.Connection, path: Path, month: str, end: int) -> int:
    bounds, file = _find_bounds(month, end), locate_month(locate_decisions(path), month)
    row = _take_up_month(db, month, file)
    old = read_month(path, row)
    newest = db.execute("SELECT max(last) FROM decided WHERE hour >= ? AND hour < ?", bounds).fetchone()[0]
    low, count = db.execute(f"SELECT min(ts), count(*) FROM decisions WHERE {_IN_MONTH}", bounds).fetchone()  # noqa: S608
    # a kill between the file's coming and the rows' going, or a clock that was set back
    is_met_again = bool(row.pending) or (newest is not None and low <= newest)
    known = _read_keys(old, low) if old and is_met_again else frozenset()
    content = old or b""
    keys = db.execute(f"SELECT {_KEY} FROM decisions WHERE {_IN_MONTH}", bounds)  # noqa: S608 - our names
    if any(key not in known for key in keys):
        content = _write_month(old, _read_groups(db, path, bounds, known))
        before = compute_digest(old) if old else ""
        with transaction(db):
            db.execute(_ARCHIVE, {"month": month, "digest": before, "pending": compute_digest(content)})
        durable.write_atomically(file, content)
    with transaction(db):
        if is_met_again:
            _count_again(db, content, low, month)
        else:
            db.execute(_COUNT, bounds)
        db.execute(f"DELETE FROM decisions WHERE {_IN_MONTH}", bounds)  # noqa: S608 - our names
        db.execute(_ARCHIVE, {"month": month, "digest": compute_digest(content), "pending": ""})
    return int(count)


def _take_up_month(db: sqlite3.Connection, month: str, file: Path) -> MonthFile:
    """Return what is to be found in a month's file; one that a person took away is noted, and begun again."""
    stored = db.execute(f"SELECT {ARCHIVES.names} FROM archives WHERE month = ?", (month,)).fetchone()  # noqa: S608
    row: MonthFile = ARCHIVES.read(stored) if stored else MonthFile(month=month, digest="")
    if not row.digest or file.exists():
        return row
    last = db.execute("SELECT max(ts) FROM decisions").fetchone()[0]
    event = LedgerEvent(at=to_moment(last), kind="error", text=f"{file} is gone, and is begun again with what is left")
    with transaction(db):
        db.execute(EVENTS.insert, EVENTS.list_values(event))
        db.execute(_ARCHIVE, {"month": month, "digest": "", "pending": ""})
    return MonthFile(month=month, digest="")


def _find_bounds(month: str, end: int) -> tuple[int, int]:
    """Return from and to which microsecond, this not included, decisions of a month are to be archived."""
    first = datetime.fromisoformat(f"{month}-01T00:00:00+00:00")
    following = (first + timedelta(days=32)).replace(day=1)
    return to_microseconds(first), min(to_microseconds(following), end)


def _read_keys(data: bytes, low: int) -> frozenset[Key]:
    """Return the keys of the archived decisions on bars from `low` on."""
    import polars as pl

    keys = pl.scan_parquet(io.BytesIO(data)).filter(pl.col("ts") >= to_moment(low)).select(DECISIONS.key).collect()
    return frozenset(keys.with_columns(pl.col("ts").to_physical()).iter_rows())


def _read_groups(
    db: sqlite3.Connection, path: Path, bounds: tuple[int, int], known: frozenset[Key]
) -> Iterator["pa.Table"]:
    """Yield the decisions within `bounds` that are not `known`, a group at a time.

    Raises IntegrityError for one that is not what was written.
    """
    import pyarrow as pa

    schema, columns = _build_schema(DECISIONS), DECISIONS.columns
    sql = f"SELECT {DECISIONS.names}, seal FROM decisions WHERE {_IN_MONTH} ORDER BY {_KEY}"  # noqa: S608
    rows = db.execute(sql, bounds)
    place = [column.name for column in columns].index
    book, ts, ticker = place("book"), place("ts"), place("ticker")
    while group := rows.fetchmany(_GROUP_ROWS):
        for *values, seal in group:
            if seal != sqlite.compute_seal(DECISIONS.name, *values):
                name = f"{DECISIONS.name} {values[book]} {values[ts]} {values[ticker]}"
                raise sqlite.build_damage_error(path, LEDGER, f"the row {name} is not what was written")
        new = [row for row in group if (row[book], row[ts], row[ticker]) not in known]
        arrays = [
            _build_array([row[at] for row in new], column.kind).cast(field.type)
            for at, (column, field) in enumerate(zip(columns, schema, strict=True))
        ]
        yield pa.Table.from_arrays(arrays, schema=schema)


def _build_array(values: list[Any], kind: str) -> "pa.Array":
    """Return the values as an array, by polars: `pa.array` of a list loads pandas to ask whether it is one of its."""
    import polars as pl

    types: dict[str, Any] = {"time": pl.Int64, "number": pl.Float64, "text": pl.String}
    if kind == "number":
        values = [None if value is None else float(value) for value in values]
    return pl.Series(values, dtype=types[kind]).to_arrow()


def _build_schema(table: LedgerTable) -> "pa.Schema":
    import pyarrow as pa

    types = {"time": pa.timestamp("us", tz="UTC"), "number": pa.float64(), "text": pa.large_string()}
    return pa.schema([pa.field(column.name, types[column.kind]) for column in table.columns])


def _write_month(old: bytes | None, groups: Iterable["pa.Table"]) -> bytes:
    """Return the file `old` with `groups` after it."""
    import pyarrow.parquet as pq

    schema, out = _build_schema(DECISIONS), io.BytesIO()
    numbers = ["prediction"]  # float32 in a float64: byte by byte the empty ones are nothing; a target repeats itself
    texts = [name for name in schema.names if name not in numbers]
    with pq.ParquetWriter(
        out,
        schema,
        compression="zstd",
        compression_level=_LEVEL,
        use_dictionary=texts,
        use_byte_stream_split=numbers,
        store_schema=False,
    ) as writer:
        for table in _join_small(_iterate_tables(old, groups, schema)):
            writer.write_table(table)
    return out.getvalue()


def _iterate_tables(old: bytes | None, groups: Iterable["pa.Table"], schema: "pa.Schema") -> Iterator["pa.Table"]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if old:
        with pq.ParquetFile(pa.BufferReader(old)) as file:
            for number in range(file.num_row_groups):
                yield file.read_row_group(number).cast(schema)
    yield from groups


def _join_small(tables: Iterable["pa.Table"]) -> Iterator["pa.Table"]:
    """Yield `tables` one after the other, small ones joined: the head of a row group takes some hundred bytes."""
    import pyarrow as pa

    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if sum(part.num_rows for part in waiting) >= _GROUP_ROWS:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def _count_again(db: sqlite3.Connection, data: bytes, low: int, month: str) -> None:
    """Count the hours of a month's file again, from that of `low` on."""
    import polars as pl

    hour = low - low % _HOUR_US
    db.execute("DELETE FROM decided WHERE hour >= ? AND hour < ?", (hour, _find_bounds(month, _FOR_EVER)[1]))
    ts = pl.col("ts").to_physical()
    counts = (
        pl.scan_parquet(io.BytesIO(data))
        .filter(pl.col("ts") >= to_moment(hour))
        .group_by("book", (ts - ts % _HOUR_US).alias("hour"), pl.col("model_id").fill_null(""), "code")
        .agg(ts.min().alias("first"), ts.max().alias("last"), pl.len().alias("decisions"))
        .collect()
    )
    db.executemany(DECIDED.insert, list(counts.iter_rows(named=True)))


def _shrink(db: sqlite3.Connection) -> None:
    """Give free pages back to the disk, where there are more of them than of others: after years in one file."""
    pragmas = ("freelist_count", "page_count", "page_size")
    free, pages, size = (int(db.execute(f"PRAGMA {name}").fetchone()[0]) for name in pragmas)
    if free * size > _SHRINK_BYTES and free > pages // 2:
        db.execute("VACUUM")
