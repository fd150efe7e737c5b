"""The bot's ledger: every decision, order and fill, written so that a kill at any moment loses nothing and doubles
nothing.

What must be known after a kill goes first: fills once they are told, and a minute's decisions and orders before the
first order is sent. What became of the orders follows when they are with the broker, as do decisions without orders.
"""

from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Final

from hftcl import sqlite
from hftcl.ledger.account import BookAccount, build_snapshot
from hftcl.ledger.archive import archive_decisions, require_ledger
from hftcl.ledger.blocks import delete_block_of, delete_blocks_of_foreign, write_blocks
from hftcl.ledger.meta import require_known
from hftcl.ledger.reader import LedgerQueries
from hftcl.ledger.rows import (
    BOOKS,
    RANKS,
    WORKING,
    BookName,
    CashRow,
    CloseRow,
    Decision,
    EquityRow,
    FillOpen,
    FillRecord,
    Latch,
    LedgerEvent,
    OrderRecord,
    OrderUpdate,
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
    to_microseconds,
    to_moment,
)
from hftcl.sqlite import transaction

__all__ = ["Ledger"]

_DECISION: Final = f"{DECISIONS.insert_sealed} ON CONFLICT DO NOTHING"
_ORDER: Final = f"{ORDERS.insert_sealed} ON CONFLICT DO NOTHING"
_FILL: Final = f"{FILLS.insert_sealed} ON CONFLICT DO NOTHING"
_EQUITY: Final = f"{EQUITY.insert_sealed} ON CONFLICT DO NOTHING"
_CLOSE: Final = (
    f"{CLOSES.insert} ON CONFLICT DO UPDATE SET ts = excluded.ts, close = excluded.close WHERE excluded.ts > closes.ts"
)
_OPEN: Final = f"{OPENS.insert_sealed} ON CONFLICT DO NOTHING"
_CASH: Final = f"{CASH.insert} ON CONFLICT DO NOTHING"
_SNAPSHOT: Final = f"{SNAPSHOTS.insert} ON CONFLICT DO NOTHING"
_LATCH: Final = f"{LATCHES.insert} ON CONFLICT DO NOTHING"
_NEWEST_FILL: Final = "SELECT coalesce(max(number), 0) FROM fills"
_META: Final = "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value"
_RANK: Final = f"CASE state {' '.join(f'WHEN {name!r} THEN {rank}' for name, rank in RANKS.items())} END"
_UPDATE: Final = (
    "UPDATE orders SET state = ?, updated_at = ?, code = coalesce(?, code), reason = coalesce(?, reason), "  # noqa: S608
    f"broker_order_id = coalesce(?, broker_order_id) WHERE client_order_id = ? AND {_RANK} < ?"
)
_ORDERS: Final = f"SELECT rowid FROM main.orders WHERE book IN {BOOKS} AND"  # noqa: S608 - each by its index
_GOES_ON_FROM: Final = timedelta(days=9)
"""How old an order may be that trading goes on from: the broker is asked about eight days."""


class Ledger(LedgerQueries):
    """The ledger at `path`, to write; there is one writer of decisions, orders and fills at a time.

    What is there already stays as it is, whatever is written again under its key. Latches and events may be written,
    and are seen, while another process has the ledger open.
    """

    def __init__(self, path: Path, *, durable: bool = True) -> None:
        """Open it, created where it is missing. durable: what is written survives a power cut, not only a kill.

        Raises IntegrityError, also where a lost one's archived decisions are left, StorageError, LockHeldError, and
        NewerVersionError for one of a newer hftcl.
        """
        with sqlite.faults("opening the ledger", path, LEDGER):
            require_ledger(path)
            db = sqlite.open_to_write(path, LEDGER, sync=None if durable else "OFF")
            super().__init__(path, db)
            self._sync: Final[sqlite.Sync | None] = None if durable else "OFF"
            try:  # what trading goes on from; a reader checks each row that it reads
                sqlite.require_whole(db, path, LEDGER, self._list_needed())
            except BaseException:
                self.close()
                raise
            self._accounts: dict[BookName, BookAccount] = {}

    def _list_needed(self) -> dict[str, str]:
        """Return the condition on the rows of each table that trading goes on from; older ones stay in peace."""
        each = [self._db.execute("SELECT max(ts) FROM orders WHERE book = ?", (book,)).fetchone()[0] for book in BOOKS]
        since = max((ts for ts in each if ts is not None), default=0) - _GOES_ON_FROM // timedelta(microseconds=1)
        summed = [
            self._db.execute("SELECT max(number) FROM snapshots WHERE book = ?", (book,)).fetchone()[0] or 0
            for book in BOOKS
            if self._db.execute("SELECT 1 FROM fills WHERE book = ? LIMIT 1", (book,)).fetchone()
        ]
        return {
            "orders": f"rowid IN ({_ORDERS} ts >= {since} UNION {_ORDERS} state IN {WORKING})",
            "fills": f"number > {min(summed, default=0)}",
            "latches": "true",
            "meta": "true",
            "snapshots": "true",
            "archives": "true",
            "cash": "true",
        }

    def read_account(self, book: BookName = "production") -> BookAccount:
        """Return what the book's fills add up to; kept from minute to minute. Not to be changed."""
        if book not in self._accounts:
            self._accounts[book] = super().read_account(book)
        return self._accounts[book]

    def write_decisions(self, decisions: Sequence[Decision], orders: Sequence[OrderRecord] = ()) -> None:
        """Write a minute's decisions and the orders about to be sent, or refused: all of them or none."""
        with sqlite.faults("writing the ledger", self.path, LEDGER), transaction(self._db):
            self._db.executemany(_DECISION, DECISIONS.seal(list(decisions)))
            self._db.executemany(_ORDER, ORDERS.seal(list(orders)))

    def write_outcomes(
        self,
        *,
        decisions: Iterable[Decision] = (),
        orders: Iterable[OrderRecord] = (),
        updates: Iterable[OrderUpdate] = (),
        fills: Iterable[FillRecord] = (),
        equity: Iterable[EquityRow] = (),
        opens: Iterable[FillOpen] = (),
        cash: Iterable[CashRow] = (),
        meta: Mapping[str, str] | None = None,
    ) -> tuple[FillRecord, ...]:
        """Write what became of orders, and what was decided: all of it or nothing. Returns the fills that were new.

        An order's state never goes back; see `records.RANKS`. Positions follow from the fills alone.
        """
        require_known(meta or {})
        with sqlite.faults("writing the ledger", self.path, LEDGER), transaction(self._db):
            self._db.executemany(_DECISION, DECISIONS.seal(list(decisions)))
            self._db.executemany(_ORDER, ORDERS.seal(list(orders)))
            new = self._insert_fills(list(fills))
            for book in {fill.book for fill in new}:  # one that is told after the close belongs to what was summed up
                first = to_microseconds(min(fill.ts for fill in new if fill.book == book))
                self._db.execute("DELETE FROM snapshots WHERE book = ? AND at >= ?", (book, first))
            self._db.executemany(_UPDATE, [_build_update_row(row) for row in updates])
            self._db.executemany(_EQUITY, EQUITY.seal(list(equity)))
            self._insert_opens(list(opens), {fill.fill_id for fill in new})
            self._db.executemany(_CASH, [CASH.list_values(row) for row in cash])
            self._db.executemany(_META, list((meta or {}).items()))
        for fill in new:  # what a reader of the file would add up too, and only once it is committed
            if fill.book in self._accounts:
                self._accounts[fill.book].add(fill.ticker, fill.quantity, fill.price, fill.commission)
        return tuple(new)

    def _insert_fills(self, fills: Sequence[FillRecord]) -> Sequence[FillRecord]:
        """Write those that are new, and return them."""
        number = int(self._db.execute(_NEWEST_FILL).fetchone()[0])
        self._db.execute("SAVEPOINT fills")
        rows = FILLS.seal(fills, first=number + 1)
        if not rows or self._db.executemany(_FILL, rows).rowcount == len(rows):
            return fills
        self._db.execute("ROLLBACK TO fills")  # one is known: the numbers are to have no gaps
        new: list[FillRecord] = []
        for fill in fills:
            if self._db.execute(_FILL, *FILLS.seal([fill], first=number + 1)).rowcount:
                new.append(fill)
                number += 1
        return new

    def _insert_opens(self, opens: Sequence[FillOpen], new: Container[str]) -> None:
        """Write the opens of fills; what stands in a block already of one that is not `new` is no longer whole."""
        self._db.executemany(_OPEN, OPENS.seal([row for row in opens if row.fill_id in new]))
        for row in opens:
            if row.fill_id not in new and self._db.execute(_OPEN, *OPENS.seal([row])).rowcount:
                delete_block_of(self._db, row.fill_id)

    def adopt_foreign(self, tickers: Collection[str]) -> bool:
        """Let what others traded in `tickers` be production's from now on; return whether there was anything."""
        with sqlite.faults("writing the ledger", self.path, LEDGER), transaction(self._db):
            for ticker in tickers:
                delete_blocks_of_foreign(self._db, ticker)
            done = sum(
                self._db.execute(
                    "UPDATE fills SET book = 'production' WHERE book = 'foreign' AND ticker = ?", (ticker,)
                ).rowcount
                for ticker in tickers
            )
            if done:
                self._db.execute("DELETE FROM snapshots WHERE book IN ('production', 'foreign')")
        self._accounts.clear()
        return bool(done)

    def write_snapshots(self, at: datetime) -> None:
        """Keep what the fills of each book add up to after the session that ended `at`: a start goes on from it."""
        with sqlite.faults("writing the ledger", self.path, LEDGER), transaction(self._db):
            number = int(self._db.execute(_NEWEST_FILL).fetchone()[0])
            for book in BOOKS:
                last = self._db.execute("SELECT max(ts) FROM fills WHERE book = ?", (book,)).fetchone()[0]
                if last is not None:
                    row = build_snapshot(self.read_account(book), book, number, max(at, to_moment(last)))
                    self._db.execute(_SNAPSHOT, SNAPSHOTS.list_values(row))

    def archive(self, before: datetime) -> int:
        """Move the decisions on bars before `before` into the months' files, and put the fills in such bars in blocks.

        Returns how many decisions were moved. May run in a thread of its own. Raises as `archive.archive_decisions` and
        `blocks.write_blocks` do.
        """
        moved = archive_decisions(self.path, before, sync=self._sync)
        write_blocks(self.path, before, sync=self._sync)
        return moved

    def note_closes(self, rows: Sequence[CloseRow]) -> None:
        """Keep each ticker's first open of the session, and the close of its newest bar."""
        with sqlite.faults("writing the ledger", self.path, LEDGER), transaction(self._db):
            self._db.executemany(_CLOSE, [CLOSES.list_values(row) for row in rows])

    def forget_closes(self, session: date) -> None:
        """Forget what a stop had noted of a session that goes on: until its end, nothing is its close."""
        with sqlite.faults("writing the ledger", self.path, LEDGER), transaction(self._db):
            self._db.execute("DELETE FROM closes WHERE session = ?", (session.isoformat(),))

    def correct_equity(self, row: EquityRow) -> None:
        """Write the account after a minute in the place of what stood there."""
        with sqlite.faults("writing the ledger", self.path, LEDGER), transaction(self._db):
            self._db.execute("DELETE FROM equity WHERE book = ? AND ts = ?", (row.book, to_microseconds(row.ts)))
            self._db.execute(_EQUITY, *EQUITY.seal([row]))

    def set_meta(self, **values: str) -> None:
        """Keep facts, each replacing the older one of its name."""
        self.write_outcomes(meta=values)

    def write_event(self, event: LedgerEvent) -> None:
        """Write an event."""
        with sqlite.faults("writing the ledger", self.path, LEDGER), transaction(self._db):
            self._insert_event(event)

    def latch(self, name: str, reason: str, at: datetime) -> bool:
        """Latch `name`, with an event. False, and nothing is written, where it is latched already."""
        with sqlite.faults("writing the ledger", self.path, LEDGER), transaction(self._db):
            done = self._db.execute(_LATCH, LATCHES.list_values(Latch(name=name, since=at, reason=reason)))
            if done.rowcount:
                self._insert_event(LedgerEvent(at=at, kind="halted", text=f"{name}: {reason}"))
            return bool(done.rowcount)

    def clear(self, name: str, by: str, at: datetime) -> bool:
        """Clear the latch `name` in the name of a person, with an event. False where it is not latched."""
        with sqlite.faults("writing the ledger", self.path, LEDGER), transaction(self._db):
            done = self._db.execute(
                "UPDATE latches SET cleared_at = ?, cleared_by = ? WHERE name = ? AND cleared_at IS NULL",
                (to_microseconds(at), by, name),
            )
            if done.rowcount:
                self._insert_event(LedgerEvent(at=at, kind="cleared", text=f"{name}, by {by}"))
            return bool(done.rowcount)

    def _insert_event(self, event: LedgerEvent) -> None:
        self._db.execute(EVENTS.insert, EVENTS.list_values(event))


def _build_update_row(row: OrderUpdate) -> tuple[object, ...]:
    rank = RANKS[row.state]
    at = to_microseconds(row.at)
    return row.state, at, str(row.code) or None, row.reason or None, row.broker_order_id, row.client_order_id, rank
