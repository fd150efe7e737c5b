"""The embedded broker `paper`: fills at the next bar's open, pays spread, slippage and commission, moves no money.

It is a party of its own: its state is its file `paper.sqlite`, not the bot's ledger, and outlives the bot's death.
"""

import contextlib
import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hftcl import sqlite
from hftcl.errors import OrderRefusedError, UsageError
from hftcl.home import locate_paper
from hftcl.ledger.account import DECIMALS, compute_account
from hftcl.settings import Settings
from hftcl.sqlite import transaction
from hftcl.strategy.costs import BASIS_POINT
from hftcl.strategy.risk import is_price
from hftcl.trading.brokers import Account, Fill, Order, OrderState, Status
from hftcl.trading.brokers.paper_schema import (
    INSERT_FILL,
    INSERT_NEW_ORDER,
    INSERT_ORDER,
    PAPER,
    SET_MARK,
    SET_STATUS,
    PaperWorkingOrder,
    build_fill_rows,
    build_mark_rows,
    build_order_row,
    build_status_row,
    read_fills_after,
    read_newest_bar,
    read_newest_number,
    read_working_orders,
)
from hftcl.trading.brokers.portion import compute_portion

if TYPE_CHECKING:
    import polars as pl

_ON_REQUEST: Final = "canceled on request"  # told of an order before and after it is in the file
_SPLIT: Final = "split-"  # begins the id of the order that stands for a split


class PaperBroker:
    """The paper account in `folder`."""

    name = "paper"
    live_money = False
    turns = True
    extended_hours = True
    _newest_bar: datetime
    """Start of the newest bar that an order in the file was decided on."""

    def __init__(self, settings: Settings, *, folder: Path, durable: bool = True) -> None:
        """Open the account, or begin one with [paper] cash. durable: it survives a power cut, not only a kill.

        After a power cut the account is that of the last minute: orders handed over since are unknown to it.
        Raises IntegrityError, StorageError, LockHeldError, and NewerVersionError for one of a newer hftcl.
        """
        self._rules = settings.paper
        self._collar = settings.risk.price_collar
        self.shorting = settings.paper.shorting
        self._path = locate_paper(folder)
        self._durable = durable
        self._doubted: dict[str, float] = {}
        self._room: float | None = None
        self._is_together = False
        self._waiting: dict[str, tuple[tuple[object, ...], str]] = {}
        """By id the rows of `together` that are still to be written, with why an order was refused."""
        self._waiting_bars: set[datetime] = set()
        """Starts of the bars that these orders were decided on."""
        self._canceled: dict[str, tuple[tuple[object, ...], float]] = {}
        """By id the rows of `together` that say which orders were canceled, with what had filled of each."""
        self._newest_fills: tuple[int, tuple[Fill, ...]] | None = None
        """The fills of the last bars, and the number of the fill before them; None where they are to be read."""
        with sqlite.faults("opening the paper account", self._path, PAPER):
            self._db = sqlite.open_to_write(self._path, PAPER, sync=None if durable else "OFF")
            sqlite.require_whole(self._db, self._path, PAPER)
            self._load()

    def submit(self, order: Order) -> OrderState:
        """Take `order`, which fills from the bar after its own on; see `Broker.submit`."""
        name = order.client_order_id
        # An id belongs to one bar: that of a bar behind all that the file has orders of is not asked for there.
        is_new = order.ts > self._newest_bar and name not in self._waiting and name not in self._working
        state = None if is_new else self.find(name)
        if state is None:
            self._take(order)
            state = self.find(name)
        if state is None:
            raise AssertionError(f"{name} was just taken")
        if state.status == "rejected":
            raise OrderRefusedError(name, state.reason)
        return state

    def _take(self, order: Order) -> None:
        """Write an order down, as it is judged; where the file knows its id, the order that it is of stays."""
        if not (math.isfinite(order.quantity) and order.quantity and is_price(order.reference_price)):
            raise OrderRefusedError(
                order.client_order_id, f"{order.quantity} shares at {order.reference_price} are no order"
            )
        growth, refusal = self._judge(order)
        with contextlib.nullcontext() if self._is_together else self.together():
            self._newest_order += 1
            row = build_order_row(self._newest_order, order, "rejected" if refusal else "open", refusal)
            self._waiting[order.client_order_id] = row, refusal
            self._waiting_bars.add(order.ts)
            if not refusal:
                self._remember(PaperWorkingOrder(order, order.ts, self._newest_order))
                self._room = self._compute_buying_power() - growth

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Write the orders that are submitted or canceled within it in one transaction, at its end.

        One whose id turns out there to be that of an order of an earlier bar, which is over, is no order; until then it
        counts as open, and against the buying power of those behind it.
        """
        with self._write_together():
            self._is_together = True
            try:
                yield
                if self._waiting or self._canceled:
                    self._write_waiting()
            finally:
                self._is_together, self._waiting, self._canceled = False, {}, {}
                self._waiting_bars.clear()

    def _write_waiting(self) -> None:
        with transaction(self._db):
            self._db.executemany(SET_STATUS, [row for row, _ in self._canceled.values()])
            done = self._db.executemany(INSERT_NEW_ORDER, [row for row, _ in self._waiting.values()])
        self._newest_bar = max({self._newest_bar} | self._waiting_bars)
        if self._waiting and done.rowcount < len(self._waiting):
            self._load()

    def find(self, client_order_id: str) -> OrderState | None:
        """Return what became of an order."""
        if work := self._working.get(client_order_id):
            return _build_state(client_order_id, work.status, work.filled, "")
        if client_order_id in self._waiting:  # and does not work: it was refused
            return _build_state(client_order_id, "rejected", 0.0, self._waiting[client_order_id][1])
        if client_order_id in self._canceled:
            return _build_state(client_order_id, "canceled", self._canceled[client_order_id][1], _ON_REQUEST)
        with sqlite.faults("reading the paper account", self._path, PAPER):
            row = self._db.execute(
                "SELECT status, reason, (SELECT sum(quantity) FROM fills WHERE fills.client_order_id = ?1) FROM orders "
                "WHERE client_order_id = ?1",
                (client_order_id,),
            ).fetchone()
        return None if row is None else _build_state(client_order_id, row[0], round(row[2] or 0.0, DECIMALS), row[1])

    def open_orders(self) -> tuple[OrderState, ...]:
        """Return the orders that may still fill, oldest first."""
        return tuple(
            _build_state(name, work.status, work.filled, "", work.order.ticker) for name, work in self._working.items()
        )

    def cancel(self, client_order_id: str) -> None:
        """Cancel the rest of an order at once."""
        if self._is_together and client_order_id in self._waiting:
            raise UsageError(f"{client_order_id} is being submitted with others; cancel it once all of them are.")
        if work := self._working.get(client_order_id):
            with contextlib.nullcontext() if self._is_together else self.together():
                self._canceled[client_order_id] = build_status_row(work, "canceled", _ON_REQUEST), work.filled
                self._forget([client_order_id])

    def fills(self, since: str | None) -> tuple[tuple[Fill, ...], str]:
        """Return the fills after the cursor."""
        before, newest = self._newest_fills or (0, ())
        if self._newest_fills and int(since or 0) == before:
            return newest, str(before + len(newest))
        with sqlite.faults("reading the paper account", self._path, PAPER):
            fills, number = read_fills_after(self._db, int(since or 0))
        # a split is known to whoever told of it, and was not traded
        return tuple(fill for fill in fills if not fill.client_order_id.startswith(_SPLIT)), str(number)

    def account(self) -> Account:
        """Return the account, its shares valued at the last close of each ticker."""
        return Account(
            cash=self._opening - self._account.paid,
            equity=self._compute_equity(),
            buying_power=self._compute_buying_power(),
            positions=dict(sorted(self._account.positions.items())),
            marks={ticker: self._value_share(ticker) for ticker in sorted(self._account.positions)},
        )

    def on_bars(self, bars: "pl.DataFrame", now: datetime) -> None:
        """Fill what was decided before each bar at its open, within its share of the bar's volume.

        bars: ticker, ts, session, open, close, volume at least, of one or more minutes; a bar may be told again, and
            no order fills twice in it. An order fills in bars of its own session only; where one of a later session
            comes, it is canceled, as an order for the day is.
        """
        columns = [bars[name].to_list() for name in ("ts", "ticker", "session", "open", "close", "volume")]
        rows = sorted(zip(*columns, strict=True), key=itemgetter(0))
        if not rows:
            return
        with self._write_together():
            made: list[Fill] = []
            for ts, ticker, session, price, _, volume in rows:
                if ticker in self._by_ticker and is_price(price) and self._is_price_to_trade_at(ticker, price):
                    made += self._fill(self._by_ticker[ticker], ts, session, price, volume, now)
            newest: date = max(row[2] for row in rows)
            done = [name for name, work in self._working.items() if not work.left]
            expired = [name for name, work in self._working.items() if work.left and work.order.session < newest]
            marks = self._filter_prices((ticker, close) for _, ticker, _, _, close, _ in rows if is_price(close))
            self._commit_minute(made, done, expired, marks)
        for fill in made:
            self._account.add(fill.ticker, fill.quantity, fill.price, fill.commission)
        self._marks |= marks
        self._forget(done + expired)

    def split(self, ticker: str, ratio: float, at: datetime) -> None:
        """Make each share of `ticker` `ratio` shares, at a price that many times lower; once for each `at`."""
        held = self._account.positions.get(ticker, 0.0)
        name = f"{_SPLIT}{ticker}-{at:%Y%m%d}"
        if self.find(name) is not None:
            return
        mark = self._value_share(ticker)
        after = round(held * ratio, DECIMALS)
        made = [
            Fill(
                fill_id=f"{name}-{side}",
                client_order_id=name,
                ticker=ticker,
                quantity=quantity,
                price=price,
                commission=0.0,
                ts=at,
                at=at,
            )
            for side, quantity, price in (("out", -held, mark), ("in", after, mark / ratio))
            if quantity
        ]
        order = Order(
            client_order_id=name, ticker=ticker, quantity=after - held, ts=at, reference_price=mark, session=at.date()
        )
        with self._write_together(), transaction(self._db):
            self._newest_order += 1
            self._db.execute(INSERT_ORDER, build_order_row(self._newest_order, order, "canceled", "a split"))
            self._insert_fills(made)
            self._newest_fills = None  # these are not told
            self._newest_bar = max(self._newest_bar, at)
            self._db.executemany(SET_MARK, build_mark_rows([(ticker, mark / ratio)]))
        for fill in made:
            self._account.add(fill.ticker, fill.quantity, fill.price, fill.commission)
        self._marks[ticker] = mark / ratio
        self._room = None

    def _filter_prices(self, closes: Iterable[tuple[str, float]]) -> dict[str, float]:
        """Return the closes that are prices: near the last one, or near the one before that was doubted."""
        found: dict[str, float] = {}
        for ticker, close in closes:
            known = found.get(ticker) or self._marks.get(ticker)
            doubted = self._doubted.pop(ticker, None)
            if known is None or self._is_near(close, known) or (doubted and self._is_near(close, doubted)):
                found[ticker] = close
            else:
                self._doubted[ticker] = close
        return found

    def _is_price_to_trade_at(self, ticker: str, price: float) -> bool:
        """Whether a price is one to trade at: no further from the last close than [risk] price_collar.

        One wrong print would be a profit or a loss that no market pays.
        """
        mark = self._marks.get(ticker)
        return mark is None or self._is_near(price, mark)

    def _is_near(self, price: float, other: float) -> bool:
        return abs(price / other - 1.0) <= self._collar

    def end_of_session(self, session: date) -> None:
        """Cancel what is still open of `session` and of those before it."""
        names = [name for name, work in self._working.items() if work.order.session <= session]
        with self._write_together():
            self._commit_minute([], [], names, {})
        self._forget(names)

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    @contextlib.contextmanager
    def _write_together(self) -> Iterator[None]:
        """Change file and memory alike: where the disk refuses, the memory is what the file still is."""
        try:
            with sqlite.faults("writing the paper account", self._path, PAPER):
                yield
        except BaseException:
            self._load()
            raise

    def _load(self) -> None:
        with transaction(self._db):
            row = self._db.execute("SELECT cash FROM opening").fetchone()
            if row is None:
                self._db.execute("INSERT INTO opening (cash) VALUES (?)", (self._rules.cash,))
        self._opening = float(row[0]) if row else self._rules.cash
        self._account = compute_account(
            self._db.execute("SELECT ticker, quantity, price, commission FROM fills ORDER BY number")
        )
        self._marks: dict[str, float] = dict(self._db.execute("SELECT ticker, close FROM marks").fetchall())
        self._working: dict[str, PaperWorkingOrder] = {}
        self._by_ticker: dict[str, list[PaperWorkingOrder]] = {}
        self._room = None
        self._newest_order = read_newest_number(self._db, "orders")
        self._newest_bar = read_newest_bar(self._db)
        self._newest_fills = None
        for work in read_working_orders(self._db):
            self._remember(work)

    def _remember(self, work: PaperWorkingOrder) -> None:
        self._working[work.order.client_order_id] = work
        self._by_ticker.setdefault(work.order.ticker, []).append(work)

    def _forget(self, names: Iterable[str]) -> None:
        for name in names:
            work = self._working.pop(name)
            others = [other for other in self._by_ticker.pop(work.order.ticker) if other is not work]
            if others:
                self._by_ticker[work.order.ticker] = others
        self._room = None

    def _fill(
        self,
        waiting: Iterable[PaperWorkingOrder],
        ts: datetime,
        session: date,
        price: float,
        volume: float,
        now: datetime,
    ) -> list[Fill]:
        """Fill the orders of one ticker in one bar, the oldest first."""
        rules, made = self._rules, []
        available = rules.max_volume_share * volume if math.isfinite(volume) else 0.0
        for work in waiting:
            due = work.left and work.last_ts < ts and work.order.session == session
            shares = compute_portion(abs(work.left), available) if due else 0.0
            if not shares:
                continue
            side = 1.0 if work.left > 0 else -1.0
            paid = price * (1.0 + side * (rules.half_spread_bps + rules.slippage_bps) * BASIS_POINT)
            work.add(side * shares, ts)
            available -= shares
            made.append(
                Fill(
                    fill_id=f"{work.order.client_order_id}-{work.fills}",
                    client_order_id=work.order.client_order_id,
                    ticker=work.order.ticker,
                    quantity=side * shares,
                    price=paid,
                    commission=shares * (rules.commission_per_share + paid * rules.commission_bps * BASIS_POINT),
                    ts=ts,
                    at=now,
                )
            )
        return made

    def _commit_minute(self, fills: list[Fill], done: list[str], expired: list[str], marks: dict[str, float]) -> None:
        """Write a minute; with it, everything since the last one is on the disk."""
        partly = {fill.client_order_id for fill in fills}.difference(done, expired)
        if self._durable:
            sqlite.set_sync(self._db, "FULL")
        statuses: list[tuple[str, Status, str]] = [
            *((name, "filled", "") for name in done),
            *((name, "partially_filled", "") for name in sorted(partly)),
            *((name, "canceled", "the session ended") for name in expired),
        ]
        rows = [build_status_row(self._working[name], status, reason) for name, status, reason in statuses]
        with transaction(self._db):
            self._insert_fills(fills)
            self._db.executemany(SET_STATUS, rows)
            news = [(ticker, close) for ticker, close in marks.items() if self._marks.get(ticker) != close]
            self._db.executemany(SET_MARK, build_mark_rows(news))
        if self._durable:
            sqlite.set_sync(self._db, "NORMAL")

    def _insert_fills(self, fills: Sequence[Fill]) -> None:
        if fills:
            newest = read_newest_number(self._db, "fills")
            self._db.executemany(INSERT_FILL, build_fill_rows(newest, fills))
            self._newest_fills = newest, tuple(fills)

    def _judge(self, order: Order) -> tuple[float, str]:
        """Return by how much (USD) the order may enlarge the gross exposure, and why it is refused, "" if it is not."""
        low, high = self._compute_exposures(order.ticker)
        after_low, after_high = low + min(order.quantity, 0.0), high + max(order.quantity, 0.0)
        growth = max(0.0, _find_worst(after_low, after_high) - _find_worst(low, high)) * order.reference_price
        if after_low < min(low, 0.0) and not self.shorting:
            return growth, f"{-after_low:g} shares of {order.ticker} would be short, and [paper] shorting is off"
        room = self._compute_buying_power()
        if growth > room:
            return growth, f"it takes {growth:,.2f} USD of buying power, and {max(room, 0.0):,.2f} are left"
        return growth, ""

    def _compute_exposures(self, ticker: str) -> tuple[float, float]:
        """Return the position if only the open sells fill, and if only the open buys do."""
        low = high = self._account.positions.get(ticker, 0.0)
        for work in self._by_ticker.get(ticker, ()):
            low, high = low + min(work.left, 0.0), high + max(work.left, 0.0)
        return low, high

    def _compute_equity(self) -> float:
        marks, positions = self._marks, self._account.positions.items()
        values = (held * (marks.get(ticker) or self._value_share(ticker)) for ticker, held in positions)
        return self._opening - self._account.paid + math.fsum(values)

    def _value_share(self, ticker: str) -> float:
        """Return what a share is worth, in USD; before the first bar, what was asked or paid for it."""
        asked = self._by_ticker[ticker][0].order.reference_price if ticker in self._by_ticker else 0.0
        return self._marks.get(ticker) or self._account.average_price.get(ticker) or asked

    def _compute_buying_power(self) -> float:
        """Return it as of the last bars, less what the orders since then may take."""
        if self._room is None:
            used = math.fsum(self._list_used())
            self._room = self._rules.leverage * self._compute_equity() - used
        return self._room

    def _list_used(self) -> Iterator[float]:
        """Return the USD that each ticker takes; most that are held have no order, and are all of the watchlist."""
        marks, positions = self._marks, self._account.positions
        for ticker, held in positions.items():
            if ticker not in self._by_ticker:
                yield abs(held) * (marks.get(ticker) or self._value_share(ticker))
        for ticker in self._by_ticker:
            yield _find_worst(*self._compute_exposures(ticker)) * self._value_share(ticker)


def _find_worst(low: float, high: float) -> float:
    return max(abs(low), abs(high))


def _build_state(client_order_id: str, status: Status, filled: float, reason: str, ticker: str = "") -> OrderState:
    return OrderState(
        client_order_id=client_order_id,
        status=status,
        filled=filled,
        broker_order_id=client_order_id,
        reason=reason,
        ticker=ticker,
    )
