"""Questions to the ledger.

A reader works while the bot writes, disturbs it never, and finds an empty ledger where there is no file.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from hftcl import sqlite
from hftcl.errors import IntegrityError
from hftcl.ledger import blocks
from hftcl.ledger.account import DECIMALS, BookAccount, compute_account, take_up
from hftcl.ledger.archive import require_ledger
from hftcl.ledger.decisions import DecisionQueries
from hftcl.ledger.meta import LedgerMeta
from hftcl.ledger.queries import parse_moment
from hftcl.ledger.rows import (
    BOOKS,
    STATED,
    TRANSFERS,
    UNORDERED,
    WORKING,
    BookName,
    CashRow,
    EquityRow,
    Latch,
    LedgerEvent,
    OrderRecord,
    Snapshot,
)
from hftcl.ledger.schema import (
    CASH,
    CLOSES,
    DECISIONS,
    EQUITY,
    EVENTS,
    FILLS,
    LATCHES,
    LEDGER,
    OPENS,
    ORDERS,
    SNAPSHOTS,
    TABLES,
    LedgerTable,
    to_microseconds,
    to_moment,
)

if TYPE_CHECKING:
    import polars as pl

_T = TypeVar("_T")  # what a row is read into
_FOR_EVER: Final = 2**62  # microseconds: after every time that a datetime can be
_FRAME_ROWS: Final = 20_000  # a few MB at a time
_DAY_US: Final = 86_400_000_000  # a day, in the ledger's unit of time
_SMALL_BYTES: Final = 4 << 20  # to check as much took 0.4 s on a loaded box; `trade --status` is asked often
_FRAMED: Final = {table.name: table for table in (DECISIONS, ORDERS, FILLS, EQUITY, CLOSES, OPENS)}


class FillCost(NamedTuple):
    """Of some fills, USD: the money moved; what was paid beyond the opens of their bars; the way from the reference
    price of the decision to these opens, + where it was to our loss.
    """

    traded: float
    cost: float
    timing: float


class LedgerQueries(DecisionQueries):
    """What can be asked of a ledger. Frames have the columns of the tables, times as UTC and sessions as dates."""

    def read_orders(
        self,
        book: BookName = "production",
        first: datetime | None = None,
        last: datetime | None = None,
        *,
        ticker: str | None = None,
    ) -> "pl.DataFrame":
        """Return the orders that were decided on those bars, refused ones too, by ts and ticker; of one, or of all."""
        return self._read_frame("orders", book, first, last, "ts, ticker", ticker=ticker)

    def read_fills(
        self,
        book: BookName = "production",
        first: datetime | None = None,
        last: datetime | None = None,
        *,
        ticker: str | None = None,
    ) -> "pl.DataFrame":
        """Return the fills in those bars, in the order in which the ledger learnt of them; of one ticker, or of all."""
        return self._read_frame("fills", book, first, last, "number", ticker=ticker)

    def read_fills_by_order(
        self,
        book: BookName = "production",
        first: datetime | None = None,
        last: datetime | None = None,
        *,
        ticker: str | None = None,
    ) -> "pl.DataFrame":
        """Return those of `fills` that an order traded, see `UNORDERED`."""
        fills = self.read_fills(book, first, last, ticker=ticker)
        return fills.filter(~fills["client_order_id"].is_in(UNORDERED))

    def read_opens(self) -> "pl.DataFrame":
        """Return the opens of the bars in which fills were, as far as they are known."""
        return self._read_frame("opens", None, None, None, "fill_id")

    def read_fills_with_opens(self, book: BookName, first: datetime | None = None) -> "pl.DataFrame":
        """Return what a report reads of the fills in bars from `first` on, by ts: what `blocks.read_fills` gives."""
        with self.snapshot():
            return blocks.read_fills(self._db, self.path, book, first)

    def read_equity(
        self, book: BookName = "production", first: datetime | None = None, last: datetime | None = None
    ) -> "pl.DataFrame":
        """Return the account minute by minute."""
        return self._read_frame("equity", book, first, last, "ts")

    def read_closes(self) -> "pl.DataFrame":
        """Return each ticker's first open and last close, by session and ticker."""
        return self._read_frame("closes", None, None, None, "session, ticker")

    def list_closed_sessions(self) -> tuple[date, ...]:
        """Return the sessions that have a close of any ticker, oldest first; by the index, so no seal is looked at."""
        sql = "SELECT DISTINCT session FROM main.closes ORDER BY session"
        return tuple(self._read_records(sql, (), date.fromisoformat))

    def read_last_closes(
        self,
        session: date | None = None,
        ratios: Mapping[str, float] | None = None,
        since: Mapping[str, date] | None = None,
    ) -> dict[str, float]:
        """Return each ticker's last known close, USD; of a year of sessions only those rows are read and checked.

        ratios: by ticker new shares for an old one, of splits of `session`: a close of before it is told in new shares.
        since: by ticker the oldest session whose close counts.
        """
        newest = "SELECT ticker, max(session) AS session FROM main.closes GROUP BY ticker"
        sql = f"SELECT ticker, close, session FROM closes JOIN ({newest}) USING (ticker, session)"  # noqa: S608 - our names
        rows = self._read_records(sql, (), lambda ticker, close, day: (str(ticker), float(close), str(day)))
        of_today = session.isoformat() if session else ""
        oldest = {name: day.isoformat() for name, day in (since or {}).items()}
        split = ratios or {}
        return {
            name: close if day >= of_today else close / split.get(name, 1.0)
            for name, close, day in rows
            if day >= oldest.get(name, "")
        }

    def read_last_equity(self, book: BookName = "production") -> "pl.DataFrame":
        """Return the newest row of `equity`; empty before the first one."""
        at = self._read_records("SELECT max(ts) FROM equity WHERE book = ?", (book,), parse_moment)[0] or to_moment(0)
        return self.read_equity(book, at, at)

    def read_newest_equity(self, book: BookName = "production") -> EquityRow | None:
        """Return what `read_last_equity` does as one row, without the library of frames; None before the first."""
        sql = f"SELECT {EQUITY.names} FROM equity WHERE book = ? ORDER BY ts DESC LIMIT 1"  # noqa: S608 - our names
        rows: tuple[EquityRow, ...] = tuple(self._read_table(EQUITY, sql, (book,)))
        return rows[0] if rows else None

    def count_sent(self, book: BookName, first: datetime) -> int:
        """Return how many orders of bars from `first` on were not refused before they were sent."""
        sql = "SELECT count(*) FROM orders WHERE book = ? AND ts >= ? AND state <> 'refused'"
        return int(self._read_rows(sql, (book, to_microseconds(first)))[0][0])

    def count_fills(self, book: BookName, first: datetime) -> int:
        """Return how many fills that an order traded there were in bars from `first` on."""
        sql = f"SELECT count(*) FROM fills WHERE book = ? AND ts >= ? AND client_order_id NOT IN {UNORDERED}"  # noqa: S608 - our names
        return int(self._read_rows(sql, (book, to_microseconds(first)))[0][0])

    def read_positions(self, book: BookName = "production") -> dict[str, float]:
        """Return the shares held, which are the sum of the fills; - for short, without those of zero."""
        return dict(sorted(self.read_account(book).positions.items()))

    def read_account(self, book: BookName = "production") -> BookAccount:
        """Return positions, average prices, realised P&L and what the fills took out of the cash."""
        snapshot = self.find_snapshot(book)
        # + keeps SQLite from the index of the book, whose whole history it would walk
        sql = "SELECT ticker, quantity, price, commission FROM fills WHERE +book = ? AND number > ? ORDER BY number"
        fills = self._read_rows(sql, (book, snapshot.number if snapshot else 0))
        with sqlite.guard_rows(self.path, LEDGER):
            return compute_account(fills, take_up(snapshot) if snapshot else None)

    def find_snapshot(self, book: BookName, before: datetime | None = None, *, flat: bool = False) -> Snapshot | None:
        """Return what the fills added up to at the newest close before `before`; flat: one with nothing held.

        Every fill in a bar after its `at` has a number above its `number`, and no other has.
        """
        holding = " AND holdings = '{}'" if flat else ""
        sql = (
            f"SELECT {SNAPSHOTS.names} FROM snapshots WHERE book = ? AND at < ?{holding} "  # noqa: S608 - our names
            "ORDER BY number DESC, at DESC LIMIT 1"
        )
        until = to_microseconds(before) if before else _FOR_EVER
        rows: list[Snapshot] = self._read_table(SNAPSHOTS, sql, (book, until))
        return rows[0] if rows else None

    def read_cash(self, book: BookName = "production") -> float:
        """Return the capital less what the fills took, and charges; from 0 before a capital is noted.

        Without what a person transferred, which is none of the bot's.
        """
        charges = self.sum_charges() if book == "production" else 0.0
        return (self.open_meta().number("capital") or 0.0) - self.read_account(book).paid + charges

    def sum_charges(self) -> float:
        """Return what fees, borrow, dividends and interest have brought production, USD; - for what they took."""
        sql = f"SELECT coalesce(sum(amount), 0.0) FROM cash WHERE kind NOT IN {TRANSFERS}"  # noqa: S608 - our names
        return float(self._read_rows(sql, ())[0][0])

    def list_cash(self) -> tuple[CashRow, ...]:
        """Return what moved the account's cash beside fills, oldest first."""
        sql = f"SELECT {CASH.names} FROM cash ORDER BY session, activity_id"  # noqa: S608 - our names
        return tuple(self._read_table(CASH, sql, ()))

    def measure_fills(self, book: BookName, first: datetime) -> FillCost:
        """Return what the fills in bars from `first` on cost, of those of which the bar's open is known."""
        sql = (
            "SELECT coalesce(sum(abs(f.quantity) * f.price), 0.0), "
            "coalesce(sum(f.quantity * (f.price - o.open)), 0.0), "
            "coalesce(sum(f.quantity * (o.open - f.reference_price)), 0.0) FROM fills AS f "
            "JOIN opens AS o ON o.fill_id = f.fill_id WHERE f.book = ? AND f.ts >= ?"
        )
        return FillCost(*self._read_rows(sql, (book, to_microseconds(first)))[0])

    def order(self, client_order_id: str) -> OrderRecord | None:
        """Return one order."""
        records = self._read_orders("client_order_id = ?", (client_order_id,))
        return records[0] if records else None

    def read_working_orders(self, book: BookName = "production") -> tuple[OrderRecord, ...]:
        """Return the orders that may still fill, those of unknown fate included, oldest first."""
        return self._read_orders(f"book = ? AND state IN {WORKING} ORDER BY ts, client_order_id", (book,))

    def sum_filled(self, client_order_id: str) -> float:
        """Return the shares of an order that filled, signed."""
        sql = (  # from a day before it on, by the index: the clock of a broker may be behind
            "SELECT sum(f.quantity) FROM orders AS o JOIN fills AS f ON f.book = o.book AND f.ts >= o.ts - ? AND "
            "f.client_order_id = o.client_order_id WHERE o.client_order_id = ?"
        )
        total = self._read_rows(sql, (_DAY_US, client_order_id))[0][0]
        return round(total or 0.0, DECIMALS)

    def list_known_fills(self, ids: Sequence[str]) -> frozenset[str]:
        """Return those of `ids` that are fills of this ledger."""
        import json  # here: what only shows the ledger has no use for it

        sql = "SELECT fill_id FROM fills WHERE fill_id IN (SELECT value FROM json_each(?))"
        return frozenset(name for (name,) in self._read_rows(sql, (json.dumps(list(ids)),)))

    def list_unopened(self, book: BookName, first: datetime) -> dict[str, tuple[str, datetime]]:
        """Return by its id ticker and bar of each fill of an order in bars from `first` on, whose bar's open is not
        known: one that was told again after a kill.
        """
        rows = self._read_rows(
            "SELECT f.fill_id, f.ticker, f.ts FROM fills AS f "
            "JOIN orders AS o ON o.client_order_id = f.client_order_id LEFT JOIN opens AS p ON p.fill_id = f.fill_id "
            "WHERE f.book = ? AND f.ts >= ? AND p.fill_id IS NULL AND f.fill_id NOT LIKE ?",
            (book, to_microseconds(first), f"{STATED}%"),
        )
        return {name: (ticker, to_moment(ts)) for name, ticker, ts in rows}

    def read_broker_ids(self, since: datetime) -> dict[str, str]:
        """Return by the broker's order id ours, of the orders on bars from `since` on that have one."""
        sql = "SELECT broker_order_id, client_order_id FROM orders WHERE ts >= ? AND broker_order_id IS NOT NULL"
        return dict(self._read_rows(sql, (to_microseconds(since),)))

    def list_substituted(self, since: datetime) -> frozenset[str]:
        """Return the orders of which a fill in bars from `since` on was booked by what the broker said of the order."""
        rows = self._read_rows(
            "SELECT client_order_id FROM fills WHERE ts >= ? AND fill_id LIKE ?", (to_microseconds(since), f"{STATED}%")
        )
        return frozenset(name for (name,) in rows)

    def read_last_equities(self, book: BookName, sessions: int) -> list[tuple[date, float]]:
        """Return each session's last equity, USD, newest first."""
        rows = self._read_rows(
            "SELECT session, equity FROM equity WHERE book = ?1 AND ts IN (SELECT max(ts) FROM equity WHERE book = ?1 "
            "GROUP BY session ORDER BY session DESC LIMIT ?2) ORDER BY ts DESC",
            (book, sessions),
        )
        return [(date.fromisoformat(session), equity) for session, equity in rows]

    def list_filled_minutes(self, book: BookName) -> tuple[datetime, ...]:
        """Return the bars in which something was filled, oldest first; by the index, so no seal is looked at."""
        sql = "SELECT DISTINCT ts FROM main.fills WHERE book = ? ORDER BY ts"
        return tuple(self._read_records(sql, (book,), to_moment))

    def list_sessions(self, book: BookName) -> tuple[date, ...]:
        """Return the sessions in which the account was noted, oldest first."""
        sql = "SELECT DISTINCT session FROM equity WHERE book = ? ORDER BY session"
        return tuple(self._read_records(sql, (book,), date.fromisoformat))

    def list_known_ids(self, since: datetime) -> frozenset[str]:
        """Return the ids of the orders that were decided on bars from `since` on."""
        rows = self._read_rows("SELECT client_order_id FROM orders WHERE ts >= ?", (to_microseconds(since),))
        return frozenset(name for (name,) in rows)

    def list_sent_since(self, book: BookName, first: datetime) -> tuple[datetime, ...]:
        """Return when each order of bars from `first` on was handed to the broker, oldest first."""
        sql = "SELECT created_at FROM orders WHERE book = ? AND ts >= ? AND state <> 'refused' ORDER BY created_at"
        return tuple(self._read_records(sql, (book, to_microseconds(first)), to_moment))

    def count_refusals(self, book: BookName = "production", first: datetime | None = None) -> dict[str, int]:
        """Return how many orders were refused or rejected by code, of bars from `first` on."""
        rows = self._read_rows(
            "SELECT code, count(*) FROM orders WHERE book = ? AND ts >= ? AND state IN ('refused', 'rejected') "
            "GROUP BY code ORDER BY code",
            (book, to_microseconds(first) if first else 0),
        )
        return dict(rows)

    def read_latches(self) -> tuple[Latch, ...]:
        """Return what is latched now, oldest first."""
        return self._read_latches("WHERE cleared_at IS NULL")

    def is_latched(self, name: str) -> bool:
        """Whether `name` is latched now."""
        return any(latch.name == name for latch in self.read_latches())

    def list_all_latches(self) -> tuple[Latch, ...]:
        """Return every latch there ever was, oldest first."""
        return self._read_latches("")

    def read_events(self, last: int = 100) -> tuple[LedgerEvent, ...]:
        """Return the newest events, at most `last`, oldest first."""
        sql = f"SELECT {EVENTS.names} FROM events ORDER BY number DESC LIMIT ?"  # noqa: S608
        return tuple(self._read_table(EVENTS, sql, (last,))[::-1])

    def open_meta(self) -> LedgerMeta:
        """Return the facts that the bot keeps beside the tables."""
        return LedgerMeta(self.path, self._read_rows("SELECT key, value FROM meta ORDER BY key", ()))

    def _read_latches(self, where: str) -> tuple[Latch, ...]:
        sql = f"SELECT {LATCHES.names} FROM latches {where} ORDER BY since"  # noqa: S608
        return tuple(self._read_table(LATCHES, sql, ()))

    def _read_orders(self, where: str, values: tuple[Any, ...]) -> tuple[OrderRecord, ...]:
        return tuple(self._read_table(ORDERS, f"SELECT {ORDERS.names} FROM orders WHERE {where}", values))  # noqa: S608


class LedgerReader(LedgerQueries):
    """The ledger at `path`, to read."""

    def __init__(self, path: Path) -> None:
        """Open it; raises IntegrityError, StorageError, and NewerVersionError for one of a newer hftcl."""
        with sqlite.faults("opening the ledger", path, LEDGER):
            require_ledger(path)
            super().__init__(path, sqlite.open_to_read(path, LEDGER))
            try:
                if path.is_file() and path.stat().st_size <= _SMALL_BYTES:
                    self.check_structure()
            except BaseException:
                self.close()
                raise

    def check_structure(self, tables: Sequence[str] = ()) -> None:
        """Check pages and indexes, where a flipped bit hides rows and no seal tells. Raises IntegrityError.

        tables: those that are checked, or else the whole file. Takes time in proportion to their size, so of a large
        file it is checked only by those who read all of it.
        """
        with sqlite.faults("checking the ledger", self.path, LEDGER):
            there = self._db.execute("SELECT name FROM main.sqlite_schema WHERE type = 'table'").fetchall()
            for what in [name for (name,) in there if name in tables] if tables else ["1"]:  # 1: one fault is enough
                if fault := sqlite.find_page_fault(self._db, of=what):
                    raise sqlite.build_damage_error(self.path, LEDGER, fault)
            for table in TABLES:
                if table.key[:1] == ("book",) and (table.name,) in there and (not tables or table.name in tables):
                    self._require_known_books(table)
            if {("fills",), ("opens",)} <= {tuple(row) for row in there} and (not tables or "opens" in tables):
                self._require_fills_of_opens()

    def _require_known_books(self, table: LedgerTable) -> None:
        """Raise IntegrityError for a row of no book: no question finds it, and its place in the tree may still fit."""
        edges = ["", *sorted(BOOKS), b""]  # to SQLite each blob is above each text
        sql = f"SELECT 1 FROM main.{table.name} WHERE book > ? AND book < ? LIMIT 1"  # noqa: S608 - our names
        for span in pairwise(edges):
            if self._db.execute(sql, span).fetchone():
                raise sqlite.build_damage_error(self.path, LEDGER, f"a row of {table.name} is of no book")

    def _require_fills_of_opens(self) -> None:
        """Raise IntegrityError for an open of no fill: the join to the fills misses it, and no seal is asked."""
        sql = "SELECT 1 FROM main.opens WHERE fill_id NOT IN (SELECT fill_id FROM main.fills) LIMIT 1"
        if self._db.execute(sql).fetchone():
            raise sqlite.build_damage_error(self.path, LEDGER, "a row of opens is of no fill")

    def check_archive(self) -> int:
        """Check every month's file; return how many there are.

        Raises IntegrityError naming one that is damaged, missing, or not of this ledger.
        """
        months = self._list_archives()
        for month in months:
            self._read_month(month)
        if strange := self.list_strange_months(newest_only=True):
            raise IntegrityError(
                f"{self.path} knows nothing of the decisions of {', '.join(strange)} beside it: it may be an older "
                "copy, without its last sessions. Restore both from one backup."
            )
        return len(months)

    def check_rows(self) -> None:
        """Check the seal of every row. Raises IntegrityError naming the first that is not what was written."""
        with sqlite.faults("checking the ledger", self.path, LEDGER):
            sqlite.require_whole(self._db, self.path, LEDGER)
