"""What a broker tells of one book's orders and fills, booked as it comes.

A fill is booked whatever its time. An order ends here only once its fills are booked, or at the close by what the
broker says of the order itself.
"""

from collections.abc import Collection, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from hftcl.alerts import Kind
from hftcl.errors import BrokerError
from hftcl.ledger.rows import WORKING, BookName, FillRecord, LedgerEvent, OrderRecord, OrderUpdate
from hftcl.ledger.writer import Ledger
from hftcl.strategy.risk import Code
from hftcl.trading.brokers import (
    Broker,
    Fill,
    OrderState,
    describe_contradiction,
)
from hftcl.trading.execute.bookable import note_refused, sort_fills
from hftcl.trading.execute.faults import BrokerFaults, Tell
from hftcl.trading.execute.fill_opens import FillOpens
from hftcl.trading.execute.reconciliation import build_stated_fill, fill_record, name_fills_cursor, order_update
from hftcl.trading.execute.working import WorkingOrder, WorkingOrders

_LINGERS_S: Final = 90.0
"""An order that has not filled by then is asked for by its id: it may have ended, or never arrived."""
_UNHEARD_S: Final = 45.0
"""The same where the broker never answered to it: a request ends within [alpaca] timeout_s, so by then it has arrived
or never will."""
_KEPT_FILLS: Final = 50_000  # ids of fills that were told again and again, so that each is looked up once


def take_state(work: WorkingOrder, state: OrderState, update: OrderUpdate, faults: BrokerFaults, now: datetime) -> bool:
    """Let `work` take what the broker says of it, unless that cannot be true, which is told; return whether it has."""
    contradiction = describe_contradiction(state, work.record.quantity)
    if contradiction:
        faults.tell_strange(state.client_order_id, contradiction, now)
        return False
    work.take(state, update)
    return True


@dataclass(slots=True, kw_only=True)
class OrderNews:
    """hands_off: tickers that are a person's. opens: of the bars in which fills lie. foreign: shares that others traded
    in the account, kept up to date. stale: ids of orders that are taken back because no bars of their tickers come.
    """

    book: BookName
    broker: Broker
    ledger: Ledger
    tell: Tell
    faults: BrokerFaults
    working: WorkingOrders
    hands_off: frozenset[str] = frozenset()
    opens: FillOpens = field(default_factory=FillOpens)
    foreign: dict[str, float] = field(default_factory=dict)
    stale: set[str] = field(default_factory=set)
    _cursor: str | None = None
    _seen: dict[str, None] = field(default_factory=dict)
    _stated: set[str] = field(default_factory=set)

    def take_up(self, begins: datetime) -> None:
        """Read from the ledger what may still fill, and what was booked already, for the session that begins then."""
        self._cursor = self.ledger.open_meta().get(name_fills_cursor(self.book))
        self.working.replace(
            WorkingOrder(record, self.ledger.sum_filled(record.client_order_id), heard=record.state != "intended")
            for record in self.ledger.read_working_orders(self.book)
        )
        self.opens.expect(self.ledger.list_unopened(self.book, begins))
        self._stated = set(self.ledger.list_substituted(begins - timedelta(days=5)))
        self.foreign = dict(self.ledger.read_positions("foreign")) if self.book == "production" else {}

    def collect(self, now: datetime, *, asked: Container[str] = frozenset()) -> list[OrderUpdate]:
        """Book the fills that are new; return what became of the orders that they, or the broker, ended.

        asked: orders of which the broker is asked at once, for they were canceled.
        """
        updates: list[OrderUpdate] = []
        try:
            fills, cursor = self.broker.fills(self._cursor)
            self._book(fills, cursor, now)
        except BrokerError as error:
            self.faults.note(error, now)
        else:
            self.faults.end(now)
            self.opens.forget(now)  # only now: what a silent broker has still to tell may be of hours ago
        in_doubt = [work for work in self.working if self._is_in_doubt(work, now, asked)]
        names = {work.record.client_order_id for work in in_doubt}
        told = self._list_open(now) if len(in_doubt) > 1 else {}
        for work in list(self.working):
            try:
                update = self._fetch_news(work, now, told, is_asked=work.record.client_order_id in names)
            except BrokerError as error:
                self.faults.note(error, now)
                continue
            if update is not None:
                updates.append(self._give_code(update))
        self.working.forget(updates)
        return updates

    def _give_code(self, update: OrderUpdate) -> OrderUpdate:
        """Say why an order ended that was taken back; a broker may end it minutes after it was asked to."""
        if update.client_order_id not in self.stale or update.state in WORKING:
            return update
        self.stale.discard(update.client_order_id)
        text = "taken back: no bars have come of it since it was sent"
        return replace(update, code=Code.STALE, reason=text) if update.state == "canceled" else update

    def _list_open(self, now: datetime) -> dict[str, OrderState]:
        """Ask for all open orders by one call: what is not among them has ended, and is asked for alone."""
        try:
            return {state.client_order_id: state for state in self.broker.open_orders()}
        except BrokerError as error:  # then each is asked for by its id
            self.faults.note(error, now)
            return {}

    def _is_in_doubt(self, work: WorkingOrder, now: datetime, asked: Container[str]) -> bool:
        """Whether the broker is to be asked of an order: one that lingers, of unknown fate, or that is `asked`."""
        if work.filled == work.record.quantity or work.ended is not None:
            return False
        return work.record.client_order_id in asked or work.lingers(now) >= _get_patience_s(work)

    def _fetch_news(
        self, work: WorkingOrder, now: datetime, told: Mapping[str, OrderState], *, is_asked: bool
    ) -> OrderUpdate | None:
        """Return what is new about an order; where it is asked for, of `told`, or else by its id."""
        name = work.record.client_order_id
        if work.filled == work.record.quantity:
            return OrderUpdate(client_order_id=name, state="filled", at=now)
        if work.ended is not None:
            return None if work.untold else work.ended
        if not is_asked:
            return OrderUpdate(client_order_id=name, state="partially_filled", at=now) if work.filled else None
        state = told.get(name) or self.broker.find(name)
        if state is None and work.lingers(now) < _get_patience_s(work):
            return None  # it may still be on its way
        if state is not None and work.knows(state):
            return None  # as most that linger: of a hundred of them no update is made
        update = order_update(state, name, now)
        if state is None:
            return update
        if not take_state(work, state, update, self.faults, now):
            return None
        return None if state.working or work.untold else update

    def _book(self, fills: Sequence[Fill], cursor: str, now: datetime) -> None:
        """Book each fill that is told and new, whatever its time, before or after the cursor."""
        new = [fill for fill in fills if fill.fill_id not in self._seen]
        if not new and cursor == self._cursor:
            return
        # what is not among these was booked before, by what the broker said of the order
        told = [fill for fill in new if fill.client_order_id not in self._stated]
        orders = {name: self._find_order(name) for name in {fill.client_order_id for fill in told}}
        sorted_fills = sort_fills(self.ledger, told, orders, self._sum_filled)
        for text in note_refused(self.ledger, told, sorted_fills.refused, self.hands_off):
            self._tell_refused(text, now)
        records = [fill_record(fill, orders[fill.client_order_id], self.book) for fill in sorted_fills.bookable]
        booked = self.ledger.write_outcomes(
            fills=records, opens=self.opens.find(records), meta={name_fills_cursor(self.book): cursor}
        )
        for record in booked:
            if work := self.working.get(record.client_order_id):
                work.add_fill(record.quantity)
        self._cursor = cursor
        self._seen |= dict.fromkeys(fill.fill_id for fill in new)
        if len(self._seen) > 2 * _KEPT_FILLS:  # at once: to find the first one of a dict takes ever longer
            self._seen = dict.fromkeys(list(self._seen)[-_KEPT_FILLS:])
        self._tell_foreign([record for record in booked if record.book == "foreign"], now)

    def _find_order(self, name: str) -> OrderRecord | None:
        work = self.working.get(name)
        return work.record if work else self.ledger.order(name)

    def _sum_filled(self, name: str) -> float:
        work = self.working.get(name)
        return work.filled if work else self.ledger.sum_filled(name)

    def _tell_refused(self, refused: str, now: datetime) -> None:
        """Tell, once, of a fill that is not booked; the shares, if there are any, show where positions are compared."""
        what = f"{self.broker.name}: {refused}"
        self.ledger.write_event(LedgerEvent(at=now, kind="error", text=what))
        text = (
            f"The broker tells {what}. Compare its positions with `hftcl trade --status`: a difference stops what "
            "opens, and `hftcl trade --clear` takes the broker's side."
        )
        self.tell(Kind.HALTED, "the broker tells a fill that is not booked", text, now)

    def _tell_foreign(self, records: Sequence[FillRecord], now: datetime) -> None:
        if not records:
            return
        self.foreign = dict(self.ledger.read_positions("foreign"))
        strange = [record for record in records if record.ticker not in self.hands_off]
        if not strange:
            return
        names = ", ".join(f"{record.quantity:g} {record.ticker} at {record.price:g}" for record in strange)
        text = (
            f"Somebody else traded in the account: {names}. The bot leaves these tickers alone, and does not count "
            "what it did not trade, until a person says whose they are: `hftcl trade --clear` hands them to the bot, "
            "[trade] hands_off keeps a ticker out of its hands."
        )
        self.tell(Kind.HALTED, "somebody else traded in the account", text, now)

    def adopt_foreign(self, now: datetime) -> None:
        """Take what others traded into the book, but for what is a person's by [trade] hands_off."""
        tickers = sorted(self.foreign.keys() - self.hands_off)
        self.foreign = {ticker: held for ticker, held in self.foreign.items() if ticker in self.hands_off}
        if self.ledger.adopt_foreign(tickers):
            text = f"handed to the bot: {', '.join(tickers)}"
            self.ledger.write_event(LedgerEvent(at=now, kind="reconciled", text=text))

    def close_session(self, now: datetime) -> None:
        """Ask for all that may still fill. What the broker says has filled, and of which it never told a fill, is
        booked by its word on the order.
        """
        names: Collection[str] = frozenset(self.working.names)
        self.ledger.write_outcomes(updates=self.collect(now, asked=names))
        untold = self.working.list_untold()
        if untold:
            self._book_as_stated(untold, now)

    def _book_as_stated(self, untold: Sequence[WorkingOrder], now: datetime) -> None:
        fills = [build_stated_fill(work.record, work.untold, work.price, now) for work in untold]
        updates = [work.ended for work in untold if work.ended is not None]
        self.ledger.write_outcomes(fills=fills, updates=updates)
        for work in untold:
            self._stated.add(work.record.client_order_id)
            work.take_as_stated()
        self.working.forget(updates)
        names = ", ".join(f"{fill.quantity:g} {fill.ticker} at {fill.price:g}" for fill in fills)
        text = (
            f"The broker says that orders have filled, and never told the fills: {names}. They are booked at the price "
            "that it says of each order. Compare with the account's trades."
        )
        self.tell(Kind.ERROR, "fills that the broker never told", text, now)


def _get_patience_s(work: WorkingOrder) -> float:
    return _LINGERS_S if work.heard else _UNHEARD_S
