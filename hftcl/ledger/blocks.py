"""The fills of ended sessions in blocks: what a report reads of them, in columns and under one seal.

A fill's row stays where it is; a block repeats a part of it, so that a report of years looks at hundreds of seals and
not at a million. A block that is not there, or no longer what its fills say, is missed by nothing: their rows are read.
Touches the ledger; polars is imported where it is used.
"""

import io
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hftcl import sqlite
from hftcl.ledger.frames import WholeRows, read_frame
from hftcl.ledger.rows import BOOKS, UNORDERED, BookName, FillBlock
from hftcl.ledger.schema import BLOCKS, FILLS, LEDGER, OPENS, to_microseconds, to_moment
from hftcl.sqlite import Sync, transaction

if TYPE_CHECKING:
    import polars as pl

COLUMNS: Final = ("ts", "ticker", "model_id", "quantity", "price", "commission", "reference_price", "open")
"""What is kept of a fill beside its number, as `FillRecord` has it. open: of its bar, null where it is not known."""

_BLOCK_ROWS: Final = 20_000  # of an older ledger's fills: half a second each; a session of 500 tickers has 4,000
_FOR_EVER: Final = 2**62  # above every number of a fill
_JOIN: Final = "LEFT JOIN {opens} ON o.fill_id = f.fill_id WHERE"
_COVERS: Final = "blocks.number >= fills.number AND blocks.after < fills.number"
_OF_FILL: Final = (
    "DELETE FROM blocks WHERE (book, number) IN (SELECT blocks.book, blocks.number FROM fills JOIN blocks "  # noqa: S608
    f"ON blocks.book = fills.book AND {_COVERS} WHERE fills.fill_id = ?)"
)
_OF_FOREIGN: Final = (
    "DELETE FROM blocks WHERE book IN ('production', 'foreign') AND EXISTS (SELECT 1 FROM fills "  # noqa: S608
    f"WHERE fills.book = 'foreign' AND fills.ticker = ? AND {_COVERS})"
)


def write_blocks(path: Path, before: datetime, *, sync: Sync | None = None) -> int:
    """Put the fills in bars before `before` that are in no block yet into blocks; return how many blocks these are.

    Other processes may write meanwhile, and wait for one block at most. Raises IntegrityError for a row that is not
    what was written, StorageError, LockHeldError: then the blocks up to there stay.
    """
    with (
        sqlite.faults("archiving fills", path, LEDGER),
        closing(sqlite.open_to_write(path, LEDGER, sync=sync)) as db,
    ):
        return sum(_write_book(db, path, book, before) for book in BOOKS)


def read_fills(db: sqlite3.Connection, path: Path, book: BookName, first: datetime | None = None) -> "pl.DataFrame":
    """Return COLUMNS of the book's fills in bars from `first` on, by ts, and in one bar as the ledger learnt of them.

    `ordered`: whether an order traded them; else they are of `UNORDERED`, as the shares that a split made of others.
    Raises IntegrityError for a block or a row that is not what was written.
    """
    import polars as pl

    blocks = _list_blocks(db, path, book, to_microseconds(first) if first else 0)
    since = to_moment(0) if first is None else first
    parts = [pl.read_parquet(io.BytesIO(block.content)).filter(pl.col("ts") >= since) for block in blocks]
    where, values = ["f.book = ?", "f.ts >= ?"], [book, to_microseconds(since)]
    for after, number in _join_spans([(block.after, block.number) for block in blocks]):
        where.append("NOT (f.number > ? AND f.number <= ?)")  # of the index: the rows of blocks are not looked at
        values += [after, number]
    rows = read_frame(db, path, (FILLS, OPENS), f"{_JOIN} {' AND '.join(where)}", values)
    fills = pl.concat([rows.select("number", *COLUMNS), *parts]).sort("ts", "number")
    unordered = _list_unordered(db, path, book)
    return fills.select(*COLUMNS, ordered=~pl.col("number").is_in(unordered))


def _list_unordered(db: sqlite3.Connection, path: Path, book: BookName) -> list[int]:
    """Return the numbers of the book's fills of no order: few, and found by the index of the ids."""
    spans = [edge for name in UNORDERED for edge in (f"{name}-", f"{name}.")]  # the character after - is the dot
    ids = " OR ".join(["f.fill_id >= ? AND f.fill_id < ?"] * len(UNORDERED))
    rows = read_frame(db, path, (FILLS,), f"WHERE +f.book = ? AND ({ids})", (book, *spans))
    return list(rows.filter(rows["client_order_id"].is_in(UNORDERED))["number"])


def delete_block_of(db: sqlite3.Connection, fill_id: str) -> None:
    """Delete the block that holds a fill, where there is one, in the transaction that is open: its open has come."""
    db.execute(_OF_FILL, (fill_id,))


def delete_blocks_of_foreign(db: sqlite3.Connection, ticker: str) -> None:
    """Delete the blocks that others' fills in `ticker` leave and come into, in the transaction that is open."""
    db.execute(_OF_FOREIGN, (ticker,))


def _list_blocks(db: sqlite3.Connection, path: Path, book: BookName, since: int) -> list[FillBlock]:
    """Return the blocks with a fill in a bar from `since` on, each checked, by number."""
    whole = WholeRows.from_table(db, BLOCKS.name)
    names, source = ", ".join(whole.list_names("b")), whole.get_source("b")
    sql = f"SELECT {names} FROM {source} WHERE b.book = ? AND b.last >= ? ORDER BY b.number"  # noqa: S608 - our names
    rows = db.execute(sql, (book, since)).fetchall()
    whole.require_seals(path, LEDGER, rows)
    columns = [whole.take_columns(row) for row in rows]
    with sqlite.guard_rows(path, LEDGER):
        return [BLOCKS.read([row[column.name] for column in BLOCKS.columns]) for row in columns]


def _join_spans(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return `spans` (above, up to), sorted, with those that go on from one another as one."""
    joined: list[tuple[int, int]] = []
    for after, number in spans:
        if joined and joined[-1][1] == after:
            after = joined.pop()[0]
        joined.append((after, number))
    return joined


def _write_book(db: sqlite3.Connection, path: Path, book: BookName, before: datetime) -> int:
    """Write the blocks of one book; return how many."""
    sql = "SELECT min(number) FROM fills WHERE book = ? AND ts >= ?"
    newer = db.execute(sql, (book, to_microseconds(before))).fetchone()[0]
    end = (_FOR_EVER if newer is None else int(newer)) - 1
    spans = db.execute("SELECT after, number FROM blocks WHERE book = ? ORDER BY number", (book,)).fetchall()
    edges = [0, *(edge for span in _join_spans(spans) for edge in span), end]
    count = 0
    for after, until in zip(edges[::2], edges[1::2], strict=True):  # what lies between the blocks, and after them
        sql = "SELECT max(number) FROM fills WHERE book = ? AND number > ? AND number <= ?"  # by the index of the book
        newest, place = db.execute(sql, (book, after, until)).fetchone()[0] or 0, after
        while place < newest:
            place, count = _write_block(db, path, book, place, newest), count + 1
    return count


def _write_block(db: sqlite3.Connection, path: Path, book: BookName, after: int, until: int) -> int:
    """Write the block of the oldest fills numbered above `after`, up to `until`; return the number of its last one."""
    # + keeps SQLite from the index of the book, which it would sort
    rest = f"{_JOIN} +f.book = ? AND f.number > ? AND f.number <= ? ORDER BY f.number LIMIT {_BLOCK_ROWS}"
    with transaction(db):
        fills = read_frame(db, path, (FILLS, OPENS), rest, (book, after, until)).select("number", *COLUMNS)
        if fills.is_empty():  # a person has just handed them over to another book
            return until
        content, ts = io.BytesIO(), fills["ts"].sort()
        fills.write_parquet(content, statistics=False)
        block = FillBlock(
            book=book, number=fills["number"][-1], after=after, first=ts[0], last=ts[-1], content=content.getvalue()
        )
        db.execute(BLOCKS.insert, BLOCKS.list_values(block))
    return block.number
