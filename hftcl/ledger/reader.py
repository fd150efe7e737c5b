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
from hftcl.ledger.schema import SCHEMA, SCHEMA_VERSION, microseconds, moment
from hftcl.sqlite import snapshot

if TYPE_CHECKING:
    import polars as pl

_T = TypeVar("_T")  # what a row is read into
# Kept as whole microseconds: they become UTC times in a frame.
_TIMES: Final = frozenset({"ts", "decided_at", "created_at", "updated_at", "filled_at", "at"})
_COLUMNS: Final = {  # named, not *: a column that a later version adds must not shift those of a reader
    "decisions": "book, ts, ticker, model_id, features_hash, prediction, target, code, decided_at",
    "orders": "client_order_id, book, ts, session, ticker, model_id, quantity, reference_price, state, code, reason, "
    "broker_order_id, created_at, updated_at",
    "fills": "fill_id, client_order_id, book, ts, ticker, model_id, quantity, price, commission, reference_price, "
    "filled_at",
    "equity": "book, ts, session, equity, cash, gross, net, realised",
    "closes": "session, ticker, ts, open, close",
}
_NUMBERS: Final = frozenset(  # a column of NULLs alone would otherwise have no type; what is in neither set is text
    {"prediction", "target", "quantity", "reference_price", "price", "commission", "equity", "cash", "gross", "net"}
    | {"realised", "open", "close"}
)


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
        with sqlite.faults("reading the ledger", self.path), snapshot(self._db):
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
        sql = f"SELECT {_COLUMNS['equity']} FROM equity WHERE book = ? ORDER BY ts DESC LIMIT 1"  # noqa: S608
        found = self._read_records(sql, (book,), _equity)
        return found[0] if found else None

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
        found = self._read_orders("client_order_id = ?", (client_order_id,))
        return found[0] if found else None

    def working_orders(self, book: BookName = "production") -> tuple[OrderRecord, ...]:
        """Return the orders that may still fill, those of unknown fate included, oldest first."""
        return self._read_orders(f"book = ? AND state IN {WORKING} ORDER BY ts, client_order_id", (book,))

    def sum_filled(self, client_order_id: str) -> float:
        """Return the shares of an order that filled, signed."""
        found = self._read_rows("SELECT sum(quantity) FROM fills WHERE client_order_id = ?", (client_order_id,))[0][0]
        return round(found or 0.0, DECIMALS)

    def broker_ids(self, since: datetime) -> dict[str, str]:
        """Return by the broker's order id ours, of the orders on bars from `since` on that have one."""
        sql = "SELECT broker_order_id, client_order_id FROM orders WHERE ts >= ? AND broker_order_id IS NOT NULL"
        return dict(self._read_rows(sql, (microseconds(since),)))

    def substituted(self, since: datetime) -> frozenset[str]:
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
        sql = "SELECT at, kind, text, model_id FROM events ORDER BY number DESC LIMIT ?"
        return tuple(self._read_records(sql, (last,), _read_event)[::-1])

    def meta(self) -> LedgerMeta:
        """Return the facts that the bot keeps beside the tables."""
        return LedgerMeta(self.path, self._read_rows("SELECT key, value FROM meta ORDER BY key", ()))

    def _read_latches(self, where: str) -> tuple[Latch, ...]:
        sql = f"SELECT name, since, reason, cleared_at, cleared_by FROM latches {where} ORDER BY since"  # noqa: S608
        return tuple(self._read_records(sql, (), _read_latch))

    def _read_orders(self, where: str, values: tuple[Any, ...]) -> tuple[OrderRecord, ...]:
        sql = f"SELECT {_COLUMNS['orders']} FROM orders WHERE {where}"  # noqa: S608
        return tuple(self._read_records(sql, values, _read_order))

    def _read_records(self, sql: str, values: tuple[Any, ...], read: Callable[..., _T]) -> list[_T]:
        """Return what `read` makes of each row's columns."""
        rows = self._read_rows(sql, values)
        with sqlite.guard_rows(self.path):
            return [read(*row) for row in rows]

    def _read_rows(self, sql: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        with sqlite.faults("reading the ledger", self.path), sqlite.guard_rows(self.path):
            return self._db.execute(sql, values).fetchall()

    def _read_frame(
        self, table: str, book: BookName | None, first: datetime | None, last: datetime | None, order: str
    ) -> "pl.DataFrame":
        import polars as pl  # not at the top: --status asks for a few rows and shall not wait for it

        names = _COLUMNS[table].split(", ")
        where, values = ["book = ?"] if book else ["true"], [book] if book else []
        for bound, sign in ((first, ">="), (last, "<=")):
            if bound is not None:
                where.append(f"ts {sign} ?")
                values.append(microseconds(bound))  # type: ignore[arg-type]
        rows = self._read_rows(
            f"SELECT {_COLUMNS[table]} FROM {table} WHERE {' AND '.join(where)} ORDER BY {order}",  # noqa: S608
            tuple(values),
        )
        kinds = {name: pl.Int64 if name in _TIMES else pl.Float64 if name in _NUMBERS else pl.String for name in names}
        with sqlite.guard_rows(self.path, pl.exceptions.PolarsError):
            frame = pl.DataFrame(rows, schema=pl.Schema(kinds), orient="row")
            return frame.with_columns(
                pl.col(sorted(_TIMES.intersection(names))).cast(pl.Datetime("us", "UTC")),
                *([pl.col("session").str.to_date("%Y-%m-%d")] if "session" in names else []),
            )


class LedgerReader(LedgerQueries):
    """The ledger at `path`, to read."""

    def __init__(self, path: Path) -> None:
        """Open it; raises IntegrityError, StorageError, and NewerVersionError for one of a newer hftcl."""
        with sqlite.faults("opening the ledger", path):
            super().__init__(path, sqlite.open_to_read(path, SCHEMA, SCHEMA_VERSION))


def _parse_moment(at: int | None) -> datetime | None:
    return None if at is None else moment(at)


def _equity(*columns: Any) -> EquityRow:
    row = dict(zip(_COLUMNS["equity"].split(", "), columns, strict=True))
    return EquityRow(**row | {"ts": moment(row["ts"]), "session": date.fromisoformat(row["session"])})


def _read_event(at: int, kind: Any, text: str, model_id: str | None) -> LedgerEvent:
    return LedgerEvent(at=moment(at), kind=kind, text=text, model_id=model_id)


def _read_latch(name: str, since: int, reason: str, cleared_at: int | None, cleared_by: str | None) -> Latch:
    return Latch(
        name=name, since=moment(since), reason=reason, cleared_at=_parse_moment(cleared_at), cleared_by=cleared_by
    )


def _read_order(*columns: Any) -> OrderRecord:
    row = dict(zip(_COLUMNS["orders"].split(", "), columns, strict=True))
    nothing = float("nan")  # SQLite keeps no NaN, and only a refused order has one
    return OrderRecord(
        **row
        | {name: moment(row[name]) for name in ("ts", "created_at", "updated_at")}
        | {name: nothing if row[name] is None else row[name] for name in ("quantity", "reference_price")}
        | {"session": date.fromisoformat(row["session"])}
    )
