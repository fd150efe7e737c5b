"""One book's orders handed to its broker, and the answers: what it took, refused, or left open."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from hftcl.alerts import Kind
from hftcl.ledger.rows import BookName, LedgerEvent, OrderRecord, OrderUpdate
from hftcl.ledger.writer import Ledger
from hftcl.strategy.risk import Order, Ruling
from hftcl.trading.brokers import Broker, OrderState
from hftcl.trading.brokers.refusals import BY_CODE, OTHER
from hftcl.trading.execute.dispatch import Sent, send
from hftcl.trading.execute.faults import BrokerFaults, Tell
from hftcl.trading.execute.news import take_state
from hftcl.trading.execute.reconciliation import order_update
from hftcl.trading.execute.trouble import Refusals, explain_bar
from hftcl.trading.execute.working import WorkingOrder, WorkingOrders

# The setting is called max_orders_per_minute; any 60 s, not minutes of the clock.
_RATE_WINDOW: Final = timedelta(seconds=60)


def build_intended(order: Order, ruling: Ruling, book: BookName, model_id: str | None, now: datetime) -> OrderRecord:
    """Return the row of an order that is about to be sent, or that risk has refused. model_id: whose it is."""
    return OrderRecord(
        client_order_id=order.client_order_id,
        book=book,
        ts=order.ts,
        session=order.session,
        ticker=order.ticker,
        model_id=model_id,
        quantity=order.quantity,
        reference_price=order.reference_price,
        state="intended" if ruling.allowed else "refused",
        code=ruling.code or "",
        reason=ruling.text,
        created_at=now,
        updated_at=now,
    )


@dataclass(slots=True, kw_only=True)
class Handover:
    """bar: opens nothing for the rest of the session, and says why. ids: those that were used before."""

    book: BookName
    broker: Broker
    ledger: Ledger
    tell: Tell
    faults: BrokerFaults
    working: WorkingOrders
    bar: Callable[[str, datetime], None]
    ids: set[str] = field(default_factory=set)
    refusals: Refusals = field(default_factory=Refusals)
    _recent: deque[datetime] = field(default_factory=deque)
    _closing: set[str] = field(default_factory=set)

    def take_up(self, begins: datetime) -> None:
        """Read which ids were used, and what was sent, in the session that began then."""
        self.ids = set(self.ledger.list_known_ids(begins - timedelta(days=1)))
        self._recent = deque(self.ledger.list_sent_since(self.book, begins))

    def count_recent(self, now: datetime) -> int:
        """Return how many orders were sent in the last 60 seconds."""
        while self._recent and now - self._recent[0] >= _RATE_WINDOW:
            self._recent.popleft()
        return len(self._recent)

    def send(
        self, going: Mapping[str, tuple[Order, OrderRecord]], held: Mapping[str, float], now: datetime
    ) -> list[Sent]:
        """Hand the orders over; the ledger knows of each before it leaves. held: shares by ticker."""
        if not going:
            return []
        closes = self._closing = {
            name for name, (order, _) in going.items() if held.get(order.ticker, 0.0) * order.quantity < 0
        }
        for name, (_, record) in going.items():
            self.ids.add(name)
            self.working.add(WorkingOrder(record, 0.0))
            self._recent.append(now)
        return send(self.broker, [order for order, _ in going.values()], closes)

    def read_answer(self, sent: Sent, now: datetime) -> OrderUpdate | None:
        """Return what the broker says of an order; None where it is not known, until it is asked for again."""
        name = sent.order.client_order_id
        if sent.fault is not None:
            self.faults.note(sent.fault, now)
        if sent.unsent:
            reason = f"not sent: {BY_CODE[sent.code].meaning}; the next minute makes up for it"
            return OrderUpdate(client_order_id=name, state="canceled", at=now, code=sent.code, reason=reason)
        if sent.refused is not None:
            return self._record_refusal(sent, sent.refused.code, sent.refused.reason, now)
        return None if sent.state is None else self._record_acceptance(sent.state, name, now)

    def _record_acceptance(self, state: OrderState, name: str, now: datetime) -> OrderUpdate | None:
        over = self.refusals.note_acceptance()
        if name in self._closing and (work := self.working.get(name)) is not None:
            self.refusals.unclosed.pop(work.record.ticker, None)
        if over:
            self.ledger.write_event(LedgerEvent(at=now, kind="broker", text=over))
        update = order_update(state, name, now)
        work = self.working.get(name)
        if work is None:
            return update
        work.heard = True
        if state.working:
            return update
        if not take_state(work, state, update, self.faults, now):
            return None
        return None if work.untold else update  # its fills are still to be booked

    def _record_refusal(self, sent: Sent, code: str, reason: str, now: datetime) -> OrderUpdate:
        refusal = BY_CODE.get(code, OTHER)
        if refusal.kind == "account":
            self.bar(explain_bar(refusal, reason), now)
        if sent.order.client_order_id in self._closing:
            self.refusals.unclosed[sent.order.ticker] = f"{reason}. {refusal.remedy}"
        many = self.refusals.note(code, sent.order.ticker)
        if many and self.book == "production":
            self.tell(Kind.ERROR, "the broker refuses order after order", many, now)
        return OrderUpdate(
            client_order_id=sent.order.client_order_id, state="rejected", at=now, code=code, reason=reason
        )
