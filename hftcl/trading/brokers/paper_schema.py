"""The file `paper.sqlite`: its tables and version, and how orders and fills become rows."""

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Final

from hftcl.ledger.account import DECIMALS
from hftcl.ledger.schema import to_microseconds, to_moment
from hftcl.sqlite import Database, as_real, seal_row, seal_rows
from hftcl.trading.brokers import Fill, Order, Status

SCHEMA_VERSION: Final = 2  # 2 added the seals: raise it with any change to SCHEMA, with a step to it
SCHEMA: Final = """
CREATE TABLE orders (
    number INTEGER PRIMARY KEY, client_order_id TEXT NOT NULL UNIQUE, ticker TEXT NOT NULL, quantity REAL NOT NULL,
    ts INTEGER NOT NULL, session TEXT NOT NULL, reference_price REAL NOT NULL, status TEXT NOT NULL,
    reason TEXT NOT NULL) STRICT;
CREATE INDEX orders_working ON orders (status) WHERE status IN ('open', 'partially_filled');
CREATE TABLE fills (
    number INTEGER PRIMARY KEY, fill_id TEXT NOT NULL UNIQUE, client_order_id TEXT NOT NULL, ticker TEXT NOT NULL,
    quantity REAL NOT NULL, price REAL NOT NULL, commission REAL NOT NULL, ts INTEGER NOT NULL, at INTEGER NOT NULL)
    STRICT;
CREATE INDEX fills_by_order ON fills (client_order_id);
CREATE TABLE marks (ticker TEXT PRIMARY KEY, close REAL NOT NULL) STRICT;
CREATE TABLE opening (cash REAL NOT NULL) STRICT;
"""

PAPER: Final = Database(
    kind="a paper account",
    version=SCHEMA_VERSION,
    schema=SCHEMA,
    journal="WAL",
    sync="NORMAL",  # the minute's own commit waits for the disk; orders in between may be forgotten with the power
    sealed={
        "orders": ("client_order_id",),
        "fills": ("fill_id",),
        "marks": ("ticker",),
        "opening": ("cash",),
    },  # since 2
    comes_sealed={"orders": ("INSERT", "UPDATE"), "fills": ("INSERT",), "marks": ("INSERT", "UPDATE")},
    remedy="Restore it from a backup; or move it and the ledger away: the account then begins again with [paper] cash.",
)

_FILL: Final = "fill_id, client_order_id, ticker, quantity, price, commission, ts, at"
INSERT_ORDER: Final = (
    "INSERT INTO orders (number, client_order_id, ticker, quantity, ts, session, reference_price, status, reason, "
    "seal) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
INSERT_NEW_ORDER: Final = f"{INSERT_ORDER} ON CONFLICT (client_order_id) DO NOTHING"
INSERT_FILL: Final = f"INSERT INTO fills (number, {_FILL}, seal) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
SET_MARK: Final = (
    "INSERT INTO marks (ticker, close, seal) VALUES (?, ?, ?) "
    "ON CONFLICT DO UPDATE SET close = excluded.close, seal = excluded.seal"
)
SET_STATUS: Final = "UPDATE orders SET status = ?, reason = ?, seal = ? WHERE number = ?"


@dataclass(slots=True)
class PaperWorkingOrder:
    """An order that may still fill. `last_ts`: of the bar on which it was decided, or in which it filled last."""

    order: Order
    last_ts: datetime
    number: int
    filled: float = 0.0
    fills: int = 0
    left: float = field(init=False)
    """Shares still to fill, signed; kept, for it is asked for much more often than it changes."""

    def __post_init__(self) -> None:
        self.left = round(self.order.quantity - self.filled, DECIMALS)

    def add(self, shares: float, ts: datetime) -> None:
        """Take a fill in the bar of `ts`."""
        self.fills, self.last_ts, self.filled = self.fills + 1, ts, round(self.filled + shares, DECIMALS)
        self.left = round(self.order.quantity - self.filled, DECIMALS)

    @property
    def status(self) -> Status:
        """What a broker calls it."""
        return "partially_filled" if self.filled else "open"


def read_working_orders(db: sqlite3.Connection) -> Iterator[PaperWorkingOrder]:
    """Return the orders that may still fill, in the order in which they came."""
    for number, name, ticker, quantity, ts, session, price in db.execute(
        "SELECT number, client_order_id, ticker, quantity, ts, session, reference_price FROM orders "
        "WHERE status IN ('open', 'partially_filled') ORDER BY number"
    ).fetchall():
        count, filled, last = db.execute(
            "SELECT count(*), sum(quantity), max(ts) FROM fills WHERE client_order_id = ?", (name,)
        ).fetchone()
        order = Order(
            client_order_id=name,
            ticker=ticker,
            quantity=quantity,
            ts=to_moment(ts),
            reference_price=price,
            session=date.fromisoformat(session),
        )
        yield PaperWorkingOrder(order, to_moment(last or ts), number, round(filled or 0.0, DECIMALS), count)


def read_newest_number(db: sqlite3.Connection, table: str) -> int:
    """Return the number of the newest row of `orders` or `fills`, 0 where there is none."""
    return int(db.execute(f"SELECT coalesce(max(number), 0) FROM {table}").fetchone()[0])  # noqa: S608 - our names


def read_newest_bar(db: sqlite3.Connection) -> datetime:
    """Return the start of the newest bar that an order was decided on, the first of times where there is none."""
    return to_moment(db.execute("SELECT coalesce(max(ts), 0) FROM orders").fetchone()[0])


def build_order_row(number: int, order: Order, status: Status, reason: str) -> tuple[object, ...]:
    """Return the values of `INSERT_ORDER`, the seal with them."""
    return seal_row(
        "orders",
        (
            number,
            order.client_order_id,
            order.ticker,
            as_real(order.quantity),
            to_microseconds(order.ts),
            order.session.isoformat(),
            as_real(order.reference_price),
            status,
            reason,
        ),
    )


def build_status_row(work: PaperWorkingOrder, status: Status, reason: str) -> tuple[object, ...]:
    """Return the values of `SET_STATUS`."""
    return status, reason, build_order_row(work.number, work.order, status, reason)[-1], work.number


def build_fill_rows(newest: int, fills: Iterable[Fill]) -> list[tuple[object, ...]]:
    """Return the values of `INSERT_FILL` for each; newest: number of the newest fill that is kept already."""
    return seal_rows(
        "fills",
        (
            (
                number,
                fill.fill_id,
                fill.client_order_id,
                fill.ticker,
                as_real(fill.quantity),
                as_real(fill.price),
                as_real(fill.commission),
                to_microseconds(fill.ts),
                to_microseconds(fill.at),
            )
            for number, fill in enumerate(fills, newest + 1)
        ),
    )


def build_mark_rows(closes: Iterable[tuple[str, float]]) -> list[tuple[object, ...]]:
    """Return the values of `SET_MARK` for each ticker and its close."""
    return seal_rows("marks", ((ticker, as_real(close)) for ticker, close in closes))


def read_fills_after(db: sqlite3.Connection, number: int) -> tuple[tuple[Fill, ...], int]:
    """Return the fills after the one of that number, oldest first, and the number of the last."""
    rows = db.execute(
        f"SELECT number, {_FILL} FROM fills WHERE number > ? ORDER BY number",  # noqa: S608 - our names
        (number,),
    ).fetchall()
    fills = tuple(
        Fill(
            fill_id=fill_id,
            client_order_id=name,
            ticker=ticker,
            quantity=quantity,
            price=price,
            commission=commission,
            ts=to_moment(ts),
            at=to_moment(at),
        )
        for _, fill_id, name, ticker, quantity, price, commission, ts, at in rows
    )
    return fills, int(rows[-1][0]) if rows else number
