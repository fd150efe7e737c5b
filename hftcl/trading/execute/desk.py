"""One book's trading: fills in, wishes to orders, risk, broker, ledger.

Production and shadow are two desks over one ledger. A minute is: `book_minute` what filled at the opens of its bars,
then `trade` towards what was decided on them.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Final

import polars as pl

from hftcl.errors import BrokerError, BrokerTimeoutError, OrderRefusedError
from hftcl.ledger.account import DECIMALS
from hftcl.ledger.rows import WORKING, BookName, Decision, EquityRow, OrderRecord, OrderUpdate
from hftcl.ledger.writer import Ledger
from hftcl.strategy.risk import Code, Limits, Order, RiskBook, Ruling, review
from hftcl.trading.brokers import Broker, Fill
from hftcl.trading.execute.minute import DesiredPosition, MinuteContext
from hftcl.trading.execute.orders import client_order_id, compute_desired_quantity, compute_order_quantity, cut_to_side
from hftcl.trading.execute.reconciliation import fill_record, fills_cursor, order_update

# The setting is called max_orders_per_minute; any 60 s, not minutes of the clock.
_RATE_WINDOW: Final = timedelta(seconds=60)
_LINGERS: Final = timedelta(seconds=90)
"""An order that has not filled by then is asked for by its id: it may have ended, or never arrived."""


@dataclass(slots=True)
class _Working:
    """An order that may still fill, as this desk knows it."""

    record: OrderRecord
    filled: float

    @property
    def left(self) -> float:
        return round(self.record.quantity - self.filled, DECIMALS)


@dataclass(slots=True, kw_only=True)
class Desk:
    """A book and its broker. capital: USD that targets are fractions of. model_id: whose orders the next ones are.

    handed_at: `stopwatch` when the last minute's orders had been handed to the broker, before their fate was written.
    """

    book: BookName
    broker: Broker
    ledger: Ledger
    capital: float
    fractional: bool
    limits: Limits
    on_fault: Callable[[str, datetime], None]
    stopwatch: Callable[[], float] = time.perf_counter
    model_id: str | None = None
    equity_at_open: float = 0.0
    handed_at: float = 0.0
    _cursor: str | None = None
    _working: dict[str, _Working] = field(default_factory=dict)
    _ids: set[str] = field(default_factory=set)
    _recent: deque[datetime] = field(default_factory=deque)

    # --- the session ------------------------------------------------------------------------------------------------

    def open(self, session: date, begins: datetime, prices: Mapping[str, float]) -> None:
        """Take up a session: what is working, which ids were used, and the equity before its first order."""
        meta = self.ledger.meta()
        self._cursor = meta.get(fills_cursor(self.book))
        self._working = {
            record.client_order_id: _Working(record, self.ledger.sum_filled(record.client_order_id))
            for record in self.ledger.working_orders(self.book)
        }
        self._ids = set(self.ledger.list_known_ids(begins - timedelta(days=1)))
        self._recent = deque(self.ledger.list_sent_since(self.book, begins))
        day, at_open = meta.read_open(self.book)
        if day == session.isoformat() and at_open is not None:
            self.equity_at_open = at_open  # started again: the session's loss is counted on
        else:
            self.equity_at_open = self.value_book(session, begins, prices).equity
            self.ledger.set_meta(**{f"equity_at_open_{self.book}": f"{session.isoformat()} {self.equity_at_open!r}"})

    def close_session(self, scene: MinuteContext) -> None:
        """Cancel what is still open, for every order is for the day, and book how it ended."""
        try:
            self.broker.end_of_session(scene.session)
        except BrokerError as error:
            self.on_fault(str(error), scene.now)
        self.ledger.write_outcomes(updates=self._collect(scene, asked=frozenset(self._working)))

    @property
    def positions(self) -> Mapping[str, float]:
        """Shares held, - for short: the sum of the fills."""
        return self.ledger.read_account(self.book).positions

    def list_touched(self) -> list[str]:
        """Return the tickers that are held, or may be before long."""
        return sorted(self.positions.keys() | {work.record.ticker for work in self._working.values()})

    # --- what filled ------------------------------------------------------------------------------------------------

    def book_minute(self, bars: pl.DataFrame, scene: MinuteContext, meta: Mapping[str, str] | None = None) -> EquityRow:
        """Let the broker see the minute's bars; book what filled or ended, and the account after it, which it returns.

        meta: facts to keep in the ledger with it.
        """
        try:
            self.broker.on_bars(bars, scene.now)
        except BrokerError as error:
            self.on_fault(str(error), scene.now)
        updates = self._collect(scene)
        row = self.value_book(scene.session, scene.minute, scene.prices)
        self.ledger.write_outcomes(updates=updates, equity=[row], meta=meta)
        return row

    def _collect(self, scene: MinuteContext, *, asked: Container[str] = frozenset()) -> list[OrderUpdate]:
        """Book the fills that are new; return what became of the orders that they, or the broker, ended.

        asked: orders of which the broker is asked at once, for they were canceled.
        """
        try:
            fills, cursor = self.broker.fills(self._cursor)
            if cursor != self._cursor:
                self._book(fills, cursor)
            news = (self._fetch_news(work, scene.now, at_once=name in asked) for name, work in self._working.items())
            updates = [update for update in news if update is not None]
        except BrokerError as error:
            self.on_fault(str(error), scene.now)
            return []
        self._forget(updates)
        return updates

    def _book(self, fills: Sequence[Fill], cursor: str) -> None:
        records = []
        for fill in fills:
            work = self._working.get(fill.client_order_id)
            order = work.record if work else self.ledger.order(fill.client_order_id)
            records.append(fill_record(fill, order, self.book))
        for record in self.ledger.write_outcomes(fills=records, meta={fills_cursor(self.book): cursor}):
            if work := self._working.get(record.client_order_id):
                work.filled = round(work.filled + record.quantity, DECIMALS)
        self._cursor = cursor

    def _fetch_news(self, work: _Working, now: datetime, *, at_once: bool) -> OrderUpdate | None:
        """Return what is new about an order. One that lingers, or whose fate is unknown, is asked for by its id."""
        name, young = work.record.client_order_id, now - work.record.created_at < _LINGERS
        if not work.left:
            return OrderUpdate(client_order_id=name, state="filled", at=now)
        if young and not at_once:
            return OrderUpdate(client_order_id=name, state="partially_filled", at=now) if work.filled else None
        found = self.broker.find(name)
        if found is None and young:
            return None  # it may still be on its way
        if found is not None and (found.working or round(found.filled - work.filled, DECIMALS)):
            return None  # the fills that it tells of are still to come
        return order_update(found, name, now)

    def _forget(self, updates: Sequence[OrderUpdate]) -> None:
        for update in updates:
            if update.state not in WORKING:
                self._working.pop(update.client_order_id, None)

    def value_book(self, session: date, minute: datetime, prices: Mapping[str, float]) -> EquityRow:
        """Return the book's account, its shares valued at `prices`."""
        account = self.ledger.read_account(self.book)
        values = [
            held * prices.get(ticker, account.average_price[ticker]) for ticker, held in account.positions.items()
        ]
        cash, net = self.capital - account.paid, math.fsum(values)
        return EquityRow(
            book=self.book,
            ts=minute,
            session=session,
            equity=cash + net,
            cash=cash,
            gross=math.fsum(map(abs, values)),
            net=net,
            realised=account.realised,
        )

    # --- what is wanted ---------------------------------------------------------------------------------------------

    def trade(
        self,
        decisions: Sequence[Decision],
        wishes: Mapping[str, DesiredPosition],
        scene: MinuteContext,
        equity: EquityRow,
    ) -> tuple[OrderRecord, ...]:
        """Write the minute's decisions down, and send the orders that lead to `wishes` and that risk allows.

        Returns the orders, refused ones too, as they were decided.
        """
        wanted = self._plan_orders(wishes, scene)
        rulings = self._review_orders(wanted, scene, equity)
        wanted = [
            order if ruling.quantity is None else replace(order, quantity=ruling.quantity)
            for order, ruling in zip(wanted, rulings, strict=True)
        ]
        records = [
            self._build_intended(order, ruling, scene.now) for order, ruling in zip(wanted, rulings, strict=True)
        ]
        self.ledger.write_decisions(decisions, records)
        updates = [
            self._send(order, record, scene.now)
            for order, record in zip(wanted, records, strict=True)
            if record.state == "intended"
        ]
        self.handed_at = self.stopwatch()
        known = [update for update in updates if update is not None]
        if known:
            self.ledger.write_outcomes(updates=known)
            self._forget(known)
        return tuple(records)

    def _plan_orders(self, wishes: Mapping[str, DesiredPosition], scene: MinuteContext) -> list[Order]:
        """Return the orders that lead to `wishes`; what is on its way the other way is taken back first."""
        missing = self._compute_missing(wishes)
        working = self._group_by_ticker()
        against = {
            work.record.client_order_id
            for ticker, quantity in missing.items()
            for work in working.get(ticker, ())
            if work.left * quantity < 0
        }
        if against:
            for name in sorted(against):
                self._cancel(name, scene.now)
            self.ledger.write_outcomes(updates=self._collect(scene, asked=against))
            still = {work.record.ticker for name, work in self._working.items() if name in against}
            missing = {
                ticker: quantity for ticker, quantity in self._compute_missing(wishes).items() if ticker not in still
            }
        orders = []
        for ticker, quantity in missing.items():
            name = client_order_id(self.book, scene.minute, ticker, wishes[ticker].purpose)
            if name not in self._ids:  # else it was decided in this minute before a restart, and is done with
                orders.append(
                    Order(
                        client_order_id=name,
                        ticker=ticker,
                        quantity=quantity,
                        ts=scene.minute,
                        reference_price=wishes[ticker].price,
                        session=scene.session,
                    )
                )
        return orders

    def _compute_missing(self, wishes: Mapping[str, DesiredPosition]) -> dict[str, float]:
        """Return the shares by which position and open orders fall short of each wish, without those of none."""
        positions, working = self.positions, self._group_by_ticker()
        found = {}
        for ticker, wish in wishes.items():
            held, under_way = positions.get(ticker, 0.0), math.fsum(work.left for work in working.get(ticker, ()))
            quantity = compute_order_quantity(
                compute_desired_quantity(
                    wish.target, capital=self.capital, price=wish.price, fractional=self.fractional
                ),
                position=held,
                working=under_way,
                price=wish.price,
                fractional=self.fractional,
                unchanged=wish.unchanged,
            )
            if not self.broker.turns:
                quantity = cut_to_side(quantity, held=held, working=under_way)
            if quantity:
                found[ticker] = quantity
        return found

    def _group_by_ticker(self) -> dict[str, list[_Working]]:
        found: dict[str, list[_Working]] = {}
        for work in self._working.values():
            found.setdefault(work.record.ticker, []).append(work)
        return found

    def _cancel(self, name: str, now: datetime) -> None:
        try:
            self.broker.cancel(name)
        except BrokerError as error:
            self.on_fault(str(error), now)

    def _review_orders(self, orders: Sequence[Order], scene: MinuteContext, equity: EquityRow) -> tuple[Ruling, ...]:
        if not orders:
            return ()
        try:
            power = self.broker.account().buying_power
        except BrokerError as error:
            self.on_fault(str(error), scene.now)
            power = 0.0  # what is not known is not spent; what reduces a position passes
        while self._recent and scene.now - self._recent[0] >= _RATE_WINDOW:
            self._recent.popleft()
        book = RiskBook(
            positions=self.positions,
            prices=scene.prices,
            open_quantities=self._sum_open_quantities(),
            ages=scene.ages,
            equity=equity.equity,
            equity_at_open=self.equity_at_open,
            buying_power=power,
            recent_orders=len(self._recent),
            known_ids=self._ids,
            latches=frozenset(latch.name for latch in self.ledger.latches()),
            market_open=scene.market_open,
            minutes_to_close=scene.minutes_to_close,
        )
        return review(orders, book, self.limits)

    def _sum_open_quantities(self) -> dict[str, tuple[float, float]]:
        return {
            ticker: (math.fsum(max(work.left, 0.0) for work in part), math.fsum(min(work.left, 0.0) for work in part))
            for ticker, part in self._group_by_ticker().items()
        }

    def _build_intended(self, order: Order, ruling: Ruling, now: datetime) -> OrderRecord:
        return OrderRecord(
            client_order_id=order.client_order_id,
            book=self.book,
            ts=order.ts,
            session=order.session,
            ticker=order.ticker,
            model_id=self.model_id,
            quantity=order.quantity,
            reference_price=order.reference_price,
            state="intended" if ruling.allowed else "refused",
            code=ruling.code or "",
            reason=ruling.text,
            created_at=now,
            updated_at=now,
        )

    def _send(self, order: Order, record: OrderRecord, now: datetime) -> OrderUpdate | None:
        """Hand an order over, and return what the broker says; None where nobody can tell, until it is asked again."""
        self._ids.add(order.client_order_id)
        self._working[order.client_order_id] = _Working(record, 0.0)
        self._recent.append(now)
        try:
            try:
                return order_update(self.broker.submit(order), order.client_order_id, now)
            except BrokerTimeoutError:
                # The very same order again: had the first arrived, its id is known there and this asks for its state.
                return order_update(self.broker.submit(order), order.client_order_id, now)
        except OrderRefusedError as error:
            return OrderUpdate(
                client_order_id=order.client_order_id, state="rejected", at=now, code=Code.BROKER, reason=error.reason
            )
        except BrokerError as error:
            self.on_fault(str(error), now)
            return None
