"""Ledger and broker made to agree after a stop: what happened meanwhile is taken over; the unexplained halts."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from hftcl.ledger.account import DECIMALS
from hftcl.ledger.rows import BookName, FillRecord, LedgerEvent, OrderRecord, OrderUpdate, State
from hftcl.ledger.schema import microseconds
from hftcl.ledger.writer import Ledger
from hftcl.trading.brokers import Account, Broker, Fill, OrderState

LATCH: Final = "reconciliation"  # the name of its latch in the ledger, shown by `trade --status`
_REMEDY: Final = (  # what only a person can decide: whether the broker or our books are right
    "Look at the account and its trades, and cancel what others left open there; to clear this is to take the broker's "
    "side."
)
_SAME: Final = 1e-6
"""Shares: brokers and we count in multiples of 1e-9."""
_UNEXPLAINED: Final = "unexplained_shares"  # in the ledger's meta: what a person is asked to look at
_LOOKS: Final = 3  # an order may fill between two questions; what differs is looked at again before it halts the bot


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """What a start found. `resolved`: orders whose fate was open; `foreign`: fills of orders that we never sent.

    `adopted`: differences that a person had seen and cleared, so that the broker's side became the ledger's.
    """

    book: BookName
    fills: int
    resolved: tuple[OrderUpdate, ...]
    foreign: tuple[str, ...]
    adopted: tuple[str, ...]
    differences: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        """Whether positions and open orders are the same on both sides."""
        return not self.differences

    @property
    def text(self) -> str:
        """Say it in a sentence or two."""
        told = f"{self.fills} fills taken over, {len(self.resolved)} orders resolved"
        if self.foreign:
            told += f"; traded by others: {', '.join(self.foreign)}"
        if self.adopted:
            told += f"; taken over as a person allowed: {'; '.join(self.adopted)}"
        if self.differences:
            told += f"; unexplained: {'; '.join(self.differences)}"
        return told


def fills_cursor(book: BookName) -> str:
    """Return under which name the ledger's meta holds up to where the broker's fills were taken over."""
    return f"fills_cursor_{book}"


def fill_record(fill: Fill, order: OrderRecord | None, book: BookName) -> FillRecord:
    """Return the row of a fill; of an order that is not ours it has no model, and its own price as reference."""
    return FillRecord(
        fill_id=fill.fill_id,
        client_order_id=fill.client_order_id,
        book=book,
        ts=fill.ts,
        ticker=fill.ticker,
        model_id=order.model_id if order else None,
        quantity=fill.quantity,
        price=fill.price,
        commission=fill.commission,
        reference_price=order.reference_price if order else fill.price,
        filled_at=fill.at,
    )


def order_update(found: OrderState | None, client_order_id: str, at: datetime) -> OrderUpdate:
    """Return the news about an order that was asked for; one that the broker has never seen will not be sent late."""
    if found is None:
        reason = "the broker does not know it: it was never sent, or was lost on the way"
        return OrderUpdate(client_order_id=client_order_id, state="canceled", at=at, reason=reason)
    state: State = "submitted" if found.status == "open" else found.status
    return OrderUpdate(
        client_order_id=client_order_id,
        state=state,
        at=at,
        reason=found.reason,
        broker_order_id=found.broker_order_id,
    )


def reconcile(ledger: Ledger, broker: Broker, now: datetime, *, book: BookName = "production") -> Reconciliation:
    """Bring the ledger up to what the broker knows, and compare positions and open orders.

    Fills since the last that the ledger took are taken over; each order that may still fill, and each whose fate is
    unknown because the stop came while it was sent, is asked for by its id. At the very first start, older fills of
    the account are none of the ledger's. A difference that remains is latched as `LATCH` for the production book. A
    person who clears that latch takes the broker's side: the same difference, met again, becomes a fill of no model.
    Killed anywhere, it may simply be run again. Raises BrokerError where the broker does not answer: then nothing is
    assumed.
    """
    taken, foreign = 0, []
    resolved: dict[str, OrderUpdate] = {}
    for _ in range(_LOOKS):
        new, strange = _take_fills(ledger, broker, book)
        taken += new
        foreign += strange
        found, unfilled = _ask_orders(ledger, broker, now, book)
        resolved |= {update.client_order_id: update for update in found}
        gap = _compare(ledger, broker, book, unfilled)
        if not gap.texts:
            break
    adopted = _adopt(ledger, gap, now, book) if _is_cleared(ledger, gap, book) else ()
    told = Reconciliation(
        book=book,
        fills=taken,
        resolved=tuple(resolved.values()),
        foreign=tuple(foreign),
        adopted=adopted,
        differences=gap.strangers if adopted else gap.texts,
    )
    if book == "production":
        ledger.set_meta(**{_UNEXPLAINED: "" if told.agrees or adopted else json.dumps(gap.shares, sort_keys=True)})
        if told.differences:
            ledger.latch(LATCH, f"{'; '.join(told.differences)}. {_REMEDY}", now)
    ledger.write_event(LedgerEvent(at=now, kind="reconciled" if told.agrees else "error", text=f"{book}: {told.text}"))
    return told


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gap:
    """What differs. `shares`: the broker's less the ledger's; `unfilled`: news of orders whose fills never came."""

    account: Account
    ours: Mapping[str, float]
    shares: dict[str, float]
    unfilled: Mapping[str, OrderUpdate] = field(default_factory=dict)
    strangers: tuple[str, ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        theirs = self.account.positions
        held = (
            f"{ticker}: {theirs.get(ticker, 0.0):g} shares at the broker, {self.ours.get(ticker, 0.0):g} in the ledger"
            for ticker in self.shares
        )
        return (*held, *self.unfilled, *self.strangers)


def _take_fills(ledger: Ledger, broker: Broker, book: BookName) -> tuple[int, list[str]]:
    name = fills_cursor(book)
    since = ledger.meta().get(name)
    fills, cursor = broker.fills(since)
    orders = {fill.client_order_id: ledger.order(fill.client_order_id) for fill in fills}
    # Before the first start others may have traded in the account; what they left shows as a difference.
    ours = [fill for fill in fills if since is not None or orders[fill.client_order_id]]
    new = ledger.write_outcomes(
        fills=[fill_record(fill, orders[fill.client_order_id], book) for fill in ours], meta={name: cursor}
    )
    strange = [f"{fill.quantity:g} {fill.ticker} at {fill.price:g}" for fill in new if not orders[fill.client_order_id]]
    return len(new), strange


def _ask_orders(
    ledger: Ledger, broker: Broker, now: datetime, book: BookName
) -> tuple[list[OrderUpdate], dict[str, OrderUpdate]]:
    """Ask for each order that may still fill; return the news, and that of orders that filled more than fills tell."""
    updates, unfilled = [], {}
    for order in ledger.working_orders(book):
        name = order.client_order_id
        found = broker.find(name)
        update = order_update(found, name, now)
        filled = ledger.sum_filled(name)
        if found is not None and abs(found.filled - filled) > _SAME:
            unfilled[f"of {name} {found.filled:g} shares filled, but the fills tell {filled:g}"] = update
        elif update.state != order.state:
            updates.append(update)
    ledger.write_outcomes(updates=updates)
    return updates, unfilled


def _compare(ledger: Ledger, broker: Broker, book: BookName, unfilled: Mapping[str, OrderUpdate]) -> _Gap:
    account, ours = broker.account(), ledger.positions(book)
    shares = {
        ticker: round(account.positions.get(ticker, 0.0) - ours.get(ticker, 0.0), DECIMALS)
        for ticker in sorted(ours.keys() | account.positions.keys())
    }
    known = {order.client_order_id for order in ledger.working_orders(book)}
    strangers = tuple(
        f"the order {state.client_order_id} is open at the broker, and not in the ledger"
        for state in broker.open_orders()
        if state.client_order_id not in known
    )
    apart = {ticker: difference for ticker, difference in shares.items() if abs(difference) > _SAME}
    return _Gap(account=account, ours=ours, shares=apart, unfilled=unfilled, strangers=strangers)


def _is_cleared(ledger: Ledger, gap: _Gap, book: BookName) -> bool:
    """Whether a person was shown these very shares and cleared the latch, which nothing has set again."""
    shown = ledger.meta().get(_UNEXPLAINED)
    latched = ledger.is_latched(LATCH)
    return book == "production" and bool(gap.shares) and not latched and shown == json.dumps(gap.shares, sort_keys=True)


def _adopt(ledger: Ledger, gap: _Gap, now: datetime, book: BookName) -> tuple[str, ...]:
    """Let the ledger hold what the broker holds, at its price, or where it holds none at what ours had cost."""
    cost = ledger.read_account(book).average_price
    fills = []
    for ticker, shares in gap.shares.items():
        price = gap.account.marks.get(ticker) or cost[ticker]
        fill = Fill(
            fill_id=f"adopted-{microseconds(now)}-{ticker}",
            client_order_id="adopted",
            ticker=ticker,
            quantity=shares,
            price=price,
            commission=0.0,
            ts=now.replace(second=0, microsecond=0),
            at=now,
        )
        fills.append(fill_record(fill, None, book))
    ledger.write_outcomes(fills=fills, updates=gap.unfilled.values())
    return tuple(text for text in gap.texts if text not in gap.strangers)
