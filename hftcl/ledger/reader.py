"""Questions to the ledger.

A reader works while the bot writes, disturbs it never, and finds an empty ledger where there is no file.
"""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from datetime import date, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from hftcl import sqlite
from hftcl.ledger.account import DECIMALS, BookAccount, compute_account
from hftcl.ledger.meta import LedgerMeta
from hftcl.ledger.rows import STATED, WORKING, BookName, EquityRow, Latch, LedgerEvent, OrderRecord
from hftcl.ledger.schema import (
    CLOSES,
    DECISIONS,
    EQUITY,
    EVENTS,
    FILLS,
    LATCHES,
    LEDGER,
    ORDERS,
    Table,
    microseconds,
    moment,
)
from hftcl.sqlite import snapshot

if TYPE_CHECKING:
    import polars as pl

_T = TypeVar("_T")  # what a row is read into
_SMALL_BYTES: Final = 4 << 20  # to check as much took 0.4 s on a loaded box; `trade --status` is asked often
_FRAMED: Final = {table.name: table for table in (DECISIONS, ORDERS, FILLS, EQUITY, CLOSES)}


class LedgerQueries:
    """What can be asked of a ledger. Frames have the columns of the tables, times as UTC and sessions as dates."""

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

    def decisions(
        self, book: BookName = "production", first: datetime | None = None, last: datetime | None = None
    ) -> "pl.DataFrame":
        """Return the decisions on bars that start from `first` to `last`, both included, by ts and ticker."""
        return self._read_frame("decisions", book, first, last, "ts, ticker")

    def orders(
        self, book: BookName = "production", first: datetime | None = None, last: datetime | None = None
    ) -> "pl.DataFrame":
        """Return the orders that were decided on those bars, refused ones too, by ts and ticker."""
        return self._read_frame("orders", book, first, last, "ts, ticker")

    def fills(
        self, book: BookName = "production", first: datetime | None = None, last: datetime | None = None
    ) -> "pl.DataFrame":
        """Return the fills in those bars, in the order in which the ledger learnt of them."""
        return self._read_frame("fills", book, first, last, "number")

    def equity(
        self, book: BookName = "production", first: datetime | None = None, last: datetime | None = None
    ) -> "pl.DataFrame":
        """Return the account minute by minute."""
        return self._read_frame("equity", book, first, last, "ts")

    def closes(self) -> "pl.DataFrame":
        """Return each ticker's first open and last close, by session and ticker."""
        return self._read_frame("closes", None, None, None, "session, ticker")

    def find_last_decided(self, book: BookName = "production") -> datetime | None:
        """Return the start of the newest bar that was decided on."""
        return self._read_records("SELECT max(ts) FROM decisions WHERE book = ?", (book,), _parse_moment)[0]

    def find_decided_between(self, book: BookName, first: datetime, last: datetime) -> tuple[datetime, datetime] | None:
        """Return the start of the first and of the newest bar that was decided on from `first` to `last`, if any."""
        sql = "SELECT min(ts), max(ts) FROM decisions WHERE book = ? AND ts BETWEEN ? AND ?"
        ((low, high),) = self._read_records(
            sql, (book, microseconds(first), microseconds(last)), lambda *row: tuple(map(_parse_moment, row))
        )
        return None if low is None or high is None else (low, high)

    def last_equity(self, book: BookName = "production") -> "pl.DataFrame":
        """Return the newest row of `equity`; empty before the first one."""
        at = self._read_records("SELECT max(ts) FROM equity WHERE book = ?", (book,), _parse_moment)[0] or moment(0)
        return self.equity(book, at, at)

    def newest_equity(self, book: BookName = "production") -> EquityRow | None:
        """Return what `last_equity` does as one row, without the library of the frames; None before the first one."""
        sql = f"SELECT {EQUITY.names} FROM equity WHERE book = ? ORDER BY ts DESC LIMIT 1"  # noqa: S608 - our names
        rows: tuple[EquityRow, ...] = tuple(self._read_table(EQUITY, sql, (book,)))
        return rows[0] if rows else None

    def count_sent(self, book: BookName, first: datetime) -> int:
        """Return how many orders of bars from `first` on were not refused before they were sent."""
        sql = "SELECT count(*) FROM orders WHERE book = ? AND ts >= ? AND state <> 'refused'"
        return int(self._read_rows(sql, (book, microseconds(first)))[0][0])

    def count_fills(self, book: BookName, first: datetime) -> int:
        """Return how many fills there were in bars from `first` on."""
        return int(
            self._read_rows("SELECT count(*) FROM fills WHERE book = ? AND ts >= ?", (book, microseconds(first)))[0][0]
        )

    def positions(self, book: BookName = "production") -> dict[str, float]:
        """Return the shares held, which are the sum of the fills; - for short, without those of zero."""
        rows = self._read_rows(
            f"SELECT ticker, round(sum(quantity), {DECIMALS}) AS held FROM fills WHERE book = ? "  # noqa: S608
            "GROUP BY ticker HAVING held <> 0 ORDER BY ticker",
            (book,),
        )
        return dict(rows)

    def read_account(self, book: BookName = "production") -> BookAccount:
        """Return positions, average prices, realised P&L and what the fills took out of the cash."""
        return compute_account(
            self._read_rows(
                "SELECT ticker, quantity, price, commission FROM fills WHERE book = ? ORDER BY number", (book,)
            )
        )

    def cash(self, book: BookName = "production") -> float:
        """Return the capital less what the fills took, commissions included; before a capital is noted, from 0."""
        return (self.meta().number("capital") or 0.0) - self.read_account(book).paid

    def order(self, client_order_id: str) -> OrderRecord | None:
        """Return one order."""
        records = self._read_orders("client_order_id = ?", (client_order_id,))
        return records[0] if records else None

    def working_orders(self, book: BookName = "production") -> tuple[OrderRecord, ...]:
        """Return the orders that may still fill, those of unknown fate included, oldest first."""
        return self._read_orders(f"book = ? AND state IN {WORKING} ORDER BY ts, client_order_id", (book,))

    def sum_filled(self, client_order_id: str) -> float:
        """Return the shares of an order that filled, signed."""
        total = self._read_rows("SELECT sum(quantity) FROM fills WHERE client_order_id = ?", (client_order_id,))[0][0]
        return round(total or 0.0, DECIMALS)

    def broker_ids(self, since: datetime) -> dict[str, str]:
        """Return by the broker's order id ours, of the orders on bars from `since` on that have one."""
        sql = "SELECT broker_order_id, client_order_id FROM orders WHERE ts >= ? AND broker_order_id IS NOT NULL"
        return dict(self._read_rows(sql, (microseconds(since),)))

    def list_substituted(self, since: datetime) -> frozenset[str]:
        """Return the orders of which a fill in bars from `since` on was booked by what the broker said of the order."""
        rows = self._read_rows(
            "SELECT client_order_id FROM fills WHERE ts >= ? AND fill_id LIKE ?", (microseconds(since), f"{STATED}%")
        )
        return frozenset(name for (name,) in rows)

    def last_equities(self, book: BookName, sessions: int) -> list[tuple[date, float]]:
        """Return each session's last equity, USD, newest first."""
        rows = self._read_rows(
            "SELECT session, equity FROM equity WHERE book = ?1 AND ts IN (SELECT max(ts) FROM equity WHERE book = ?1 "
            "GROUP BY session ORDER BY session DESC LIMIT ?2) ORDER BY ts DESC",
            (book, sessions),
        )
        return [(date.fromisoformat(session), equity) for session, equity in rows]

    def list_known_ids(self, since: datetime) -> frozenset[str]:
        """Return the ids of the orders that were decided on bars from `since` on."""
        rows = self._read_rows("SELECT client_order_id FROM orders WHERE ts >= ?", (microseconds(since),))
        return frozenset(name for (name,) in rows)

    def list_sent_since(self, book: BookName, first: datetime) -> tuple[datetime, ...]:
        """Return when each order of bars from `first` on was handed to the broker, oldest first."""
        sql = "SELECT created_at FROM orders WHERE book = ? AND ts >= ? AND state <> 'refused' ORDER BY created_at"
        return tuple(self._read_records(sql, (book, microseconds(first)), moment))

    def count_refusals(self, book: BookName = "production", first: datetime | None = None) -> dict[str, int]:
        """Return how many orders were refused or rejected by code, of bars from `first` on."""
        rows = self._read_rows(
            "SELECT code, count(*) FROM orders WHERE book = ? AND ts >= ? AND state IN ('refused', 'rejected') "
            "GROUP BY code ORDER BY code",
            (book, microseconds(first) if first else 0),
        )
        return dict(rows)

    def codes(self, book: BookName, first: datetime) -> dict[str, int]:
        """Return how many decisions on bars from `first` on had each code."""
        rows = self._read_rows(
            "SELECT code, count(*) FROM decisions WHERE book = ? AND ts >= ? GROUP BY code ORDER BY code",
            (book, microseconds(first)),
        )
        return dict(rows)

    def latches(self) -> tuple[Latch, ...]:
        """Return what is latched now, oldest first."""
        return self._read_latches("WHERE cleared_at IS NULL")

    def is_latched(self, name: str) -> bool:
        """Whether `name` is latched now."""
        return any(latch.name == name for latch in self.latches())

    def list_all_latches(self) -> tuple[Latch, ...]:
        """Return every latch there ever was, oldest first."""
        return self._read_latches("")

    def events(self, last: int = 100) -> tuple[LedgerEvent, ...]:
        """Return the newest events, at most `last`, oldest first."""
        sql = f"SELECT {EVENTS.names} FROM events ORDER BY number DESC LIMIT ?"  # noqa: S608
        return tuple(self._read_table(EVENTS, sql, (last,))[::-1])

    def meta(self) -> LedgerMeta:
        """Return the facts that the bot keeps beside the tables."""
        return LedgerMeta(self.path, self._read_rows("SELECT key, value FROM meta ORDER BY key", ()))

    def _read_latches(self, where: str) -> tuple[Latch, ...]:
        sql = f"SELECT {LATCHES.names} FROM latches {where} ORDER BY since"  # noqa: S608
        return tuple(self._read_table(LATCHES, sql, ()))

    def _read_orders(self, where: str, values: tuple[Any, ...]) -> tuple[OrderRecord, ...]:
        return tuple(self._read_table(ORDERS, f"SELECT {ORDERS.names} FROM orders WHERE {where}", values))  # noqa: S608

    def _read_table(self, table: Table, sql: str, values: tuple[Any, ...]) -> list[Any]:
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
        self, table: str, book: BookName | None, first: datetime | None, last: datetime | None, order: str
    ) -> "pl.DataFrame":
        import polars as pl  # not at the top: --status asks for a few rows and shall not wait for it

        columns = _FRAMED[table].columns
        where, values = ["book = ?"] if book else ["true"], [book] if book else []
        for bound, sign in ((first, ">="), (last, "<=")):
            if bound is not None:
                where.append(f"ts {sign} ?")
                values.append(microseconds(bound))  # type: ignore[arg-type]
        rows = self._read_rows(
            f"SELECT {_FRAMED[table].names} FROM {table} WHERE {' AND '.join(where)} ORDER BY {order}",  # noqa: S608
            tuple(values),
        )
        types = {"time": pl.Int64, "session": pl.String, "number": pl.Float64, "text": pl.String}
        times = [column.name for column in columns if column.kind == "time"]
        sessions = [column.name for column in columns if column.kind == "session"]
        with sqlite.guard_rows(self.path, LEDGER, pl.exceptions.PolarsError):
            schema = pl.Schema({column.name: types[column.kind] for column in columns})
            return pl.DataFrame(rows, schema=schema, orient="row").with_columns(
                pl.col(times).cast(pl.Datetime("us", "UTC")), pl.col(sessions).str.to_date("%Y-%m-%d")
            )


class LedgerReader(LedgerQueries):
    """The ledger at `path`, to read."""

    def __init__(self, path: Path) -> None:
        """Open it; raises IntegrityError, StorageError, and NewerVersionError for one of a newer hftcl."""
        with sqlite.faults("opening the ledger", path, LEDGER):
            super().__init__(path, sqlite.open_to_read(path, LEDGER))
            try:
                if path.is_file() and path.stat().st_size <= _SMALL_BYTES:
                    self.check_structure()
            except BaseException:
                self.close()
                raise

    def check_structure(self) -> None:
        """Check pages and indexes, where a flipped bit hides rows and no seal tells. Raises IntegrityError.

        Takes time in proportion to the file, so a large one is checked only by those who read all of it.
        """
        with sqlite.faults("checking the ledger", self.path, LEDGER):
            found = str(self._db.execute("PRAGMA integrity_check(1)").fetchone()[0])
            if found != "ok":
                raise sqlite.build_damage_error(self.path, LEDGER, found.splitlines()[-1])

    def check_rows(self) -> None:
        """Check the seal of every row. Raises IntegrityError naming the first that is not what was written."""
        with sqlite.faults("checking the ledger", self.path, LEDGER):
            sqlite.require_whole(self._db, self.path, LEDGER)


def _parse_moment(at: int | None) -> datetime | None:
    return None if at is None else moment(at)
