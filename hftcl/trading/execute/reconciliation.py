"""Ledger and broker made to agree after a stop: what happened meanwhile is taken over; the unexplained halts."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from hftcl.formats import count
from hftcl.ledger.account import DECIMALS, SAME
from hftcl.ledger.rows import (
    ADOPTED,
    KEPT,
    SPLIT,
    STATED,
    BookName,
    FillRecord,
    LedgerEvent,
    OrderRecord,
    OrderUpdate,
    State,
)
from hftcl.ledger.schema import to_microseconds, to_moment
from hftcl.ledger.writer import Ledger
from hftcl.market.bars import MINUTE
from hftcl.trading.brokers import Account, Broker, Fill, KnowsIds, OrderState
from hftcl.trading.execute.bookable import note_refused, sort_fills
from hftcl.trading.execute.orders import is_ours

LATCH: Final = "reconciliation"  # the name of its latch in the ledger, shown by `trade --status`
HANDED: Final = "handed_over"  # in the ledger's meta: a person gave the bot what others had traded
_REMEDY: Final = (  # what only a person can decide: whether the broker or our books are right
    "Look at the account and its trades, and cancel what others left open there; to clear this is to take the broker's "
    "side."
)
_UNEXPLAINED: Final = "unexplained_shares"  # in the ledger's meta: what a person is asked to look at
_IDS_KEPT: Final = timedelta(days=8)  # a fill is asked for at most seven days back
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
        summary = f"{count(self.fills, 'fill')} taken over, {count(len(self.resolved), 'order')} resolved"
        if self.foreign:
            summary += f"; traded by others: {', '.join(self.foreign)}"
        if self.adopted:
            summary += f"; taken over as a person allowed: {'; '.join(self.adopted)}"
        if self.differences:
            summary += f"; unexplained: {'; '.join(self.differences)}"
        return summary


def name_fills_cursor(book: BookName) -> str:
    """Return under which name the ledger's meta holds up to where the broker's fills were taken over."""
    return f"fills_cursor_{book}"


def fill_record(fill: Fill, order: OrderRecord | None, book: BookName) -> FillRecord:
    """Return the row of a fill; of an order that is not ours it is of the book `foreign`, has no model, and its own
    price as reference. An order of ours that a lost ledger knew is ours.
    """
    is_own = order is not None or book != "production" or is_ours(fill.client_order_id)
    is_own = is_own or fill.client_order_id in (ADOPTED, SPLIT)
    return FillRecord(
        fill_id=fill.fill_id,
        client_order_id=fill.client_order_id,
        book=book if is_own else "foreign",
        ts=fill.ts,
        ticker=fill.ticker,
        model_id=order.model_id if order else None,
        quantity=fill.quantity,
        price=fill.price,
        commission=fill.commission,
        reference_price=order.reference_price if order else fill.price,
        filled_at=fill.at,
    )


def build_stated_fill(order: OrderRecord, quantity: float, price: float | None, now: datetime) -> FillRecord:
    """Return the fill that the broker never told: by what it says of the order, at that price or else the decided one.

    Its id follows from the order's, so that it is booked once; a fill of this order that is told after it is none.
    """
    return FillRecord(
        fill_id=f"{STATED}{order.client_order_id}",
        client_order_id=order.client_order_id,
        book=order.book,
        ts=now.replace(second=0, microsecond=0) - MINUTE,
        ticker=order.ticker,
        model_id=order.model_id,
        quantity=quantity,
        price=price if price is not None else order.reference_price,
        commission=0.0,
        reference_price=order.reference_price,
        filled_at=now,
    )


def order_update(order_state: OrderState | None, client_order_id: str, at: datetime) -> OrderUpdate:
    """Return the news about an order that was asked for; one that the broker has never seen will not be sent late."""
    if order_state is None:
        reason = "the broker does not know it: it was never sent, or was lost on the way"
        return OrderUpdate(client_order_id=client_order_id, state="canceled", at=at, reason=reason)
    state: State = "submitted" if order_state.status == "open" else order_state.status
    return OrderUpdate(
        client_order_id=client_order_id,
        state=state,
        at=at,
        reason=order_state.reason,
        broker_order_id=order_state.broker_order_id,
    )


def reconcile(
    ledger: Ledger,
    broker: Broker,
    now: datetime,
    *,
    book: BookName = "production",
    hands_off: frozenset[str] = frozenset(),
    settle: Callable[[Mapping[str, float]], bool] = lambda _: False,
) -> Reconciliation:
    """Bring the ledger up to what the broker knows, and compare positions and open orders.

    Fills since the last that the ledger took are taken over; each order that may still fill, and each whose fate is
    unknown because the stop came while it was sent, is asked for by its id. At the very first start, older fills of
    the account are none of the ledger's. A difference that remains is latched as `LATCH` for the production book. A
    person who clears that latch takes the broker's side: the same difference, met again, becomes a fill of no model.
    What others traded is kept apart, in the book `foreign`, until a person hands it over. An order that has filled more
    than its fills tell is no difference where the broker holds just that: its fills come late.
    settle: told what the broker holds where that differs, books what is known of it (a split), and says whether it did.
    hands_off: tickers that are a person's: neither their shares nor others' orders and trades in them are compared or
    told, and what the production book holds of them becomes the person's, at the price of now.
    Killed anywhere, it may simply be run again. Raises BrokerError where the broker does not answer: then nothing is
    assumed.
    """
    taken, foreign, refused = 0, list[str](), list[str]()
    _begin(ledger, broker, book, hands_off, now)
    resolved: dict[str, OrderUpdate] = {}
    for _ in range(_LOOKS):
        new, strange, untrue = _take_fills(ledger, broker, book, hands_off)
        taken += new
        foreign += strange
        refused += untrue
        updates, unfilled = _ask_orders(ledger, broker, now, book)
        resolved |= {update.client_order_id: update for update in updates}
        gap = _compare(ledger, broker, book, unfilled, hands_off)
        if gap.shares and settle(gap.account.positions):
            gap = _compare(ledger, broker, book, unfilled, hands_off)
        if not gap.texts:
            break
    if book == "production":
        _give_to_person(ledger, gap.account, hands_off, now)
    adopted = _adopt(ledger, gap, now, book) if _is_cleared(ledger, gap, book) else ()
    report = Reconciliation(
        book=book,
        fills=taken,
        resolved=tuple(resolved.values()),
        foreign=tuple(foreign),
        adopted=adopted,
        differences=(*(gap.strangers if adopted else gap.texts), *refused),
    )
    _write_report(ledger, report, gap, now)
    return report


def _write_report(ledger: Ledger, report: Reconciliation, gap: "_Gap", now: datetime) -> None:
    """Write what was found, and latch what a person has to look at."""
    if report.book == "production":
        settled = report.agrees or report.adopted
        ledger.set_meta(**{_UNEXPLAINED: "" if settled else json.dumps(gap.shares, sort_keys=True)})
        if report.differences:
            ledger.latch(LATCH, f"{'; '.join(report.differences)}. {_REMEDY}", now)
    ledger.write_event(
        LedgerEvent(at=now, kind="reconciled" if report.agrees else "error", text=f"{report.book}: {report.text}")
    )


def _begin(ledger: Ledger, broker: Broker, book: BookName, hands_off: frozenset[str], now: datetime) -> None:
    """Let the broker know our ids, and take over what a person has handed to the bot."""
    if isinstance(broker, KnowsIds):
        broker.learn(ledger.read_broker_ids(now - _IDS_KEPT))
    if book == "production" and ledger.open_meta().get(HANDED):
        ledger.adopt_foreign(ledger.read_positions("foreign").keys() - hands_off)
        ledger.set_meta(**{HANDED: ""})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gap:
    """What differs. `shares`: the broker's less the ledger's; `unfilled`: news of orders whose fills never came."""

    account: Account
    positions: Mapping[str, float]
    shares: dict[str, float]
    unfilled: Mapping[str, OrderUpdate] = field(default_factory=dict)
    strangers: tuple[str, ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        at_broker = self.account.positions
        held = (
            f"{ticker}: {at_broker.get(ticker, 0.0):g} shares at the broker, "
            f"{self.positions.get(ticker, 0.0):g} in the ledger"
            for ticker in self.shares
        )
        return (*held, *self.unfilled, *self.strangers)


def _take_fills(
    ledger: Ledger, broker: Broker, book: BookName, hands_off: frozenset[str]
) -> tuple[int, list[str], list[str]]:
    """Book the fills that are new; return how many, what others traded in tickers that are not theirs, and what cannot
    be true and is not booked.
    """
    name = name_fills_cursor(book)
    since = ledger.open_meta().get(name)
    fills, cursor = broker.fills(since)
    orders = {fill.client_order_id: ledger.order(fill.client_order_id) for fill in fills}
    # Before the first start others may have traded in the account; what they left shows as a difference.
    stated = ledger.list_substituted(_find_earliest(fills))
    own_fills = [
        fill
        for fill in fills
        if (since is not None or orders[fill.client_order_id]) and fill.client_order_id not in stated
    ]
    sorted_fills = sort_fills(ledger, own_fills, orders, ledger.sum_filled)
    new = ledger.write_outcomes(
        fills=[fill_record(fill, orders[fill.client_order_id], book) for fill in sorted_fills.bookable],
        meta={name: cursor},
    )
    strange = [
        f"{fill.quantity:g} {fill.ticker} at {fill.price:g}"
        for fill in new
        if not orders[fill.client_order_id] and fill.ticker not in hands_off
    ]
    return len(new), strange, note_refused(ledger, own_fills, sorted_fills.refused, hands_off)


def _find_earliest(fills: Sequence[Fill]) -> datetime:
    return min((fill.ts for fill in fills), default=to_moment(0)) - timedelta(days=1)


def _ask_orders(
    ledger: Ledger, broker: Broker, now: datetime, book: BookName
) -> tuple[list[OrderUpdate], "dict[str, _Untold]"]:
    """Ask for each order that may still fill; return the news, and of orders that filled more than fills tell by
    ticker how much, with what there is to say of it.
    """
    updates: list[OrderUpdate] = []
    unfilled: dict[str, _Untold] = {}
    for order in ledger.read_working_orders(book):
        name = order.client_order_id
        order_state = broker.find(name)
        update = order_update(order_state, name, now)
        filled = ledger.sum_filled(name)
        if order_state is not None and abs(order_state.filled - filled) > SAME:
            unfilled[name] = _Untold(
                ticker=order.ticker,
                shares=round(order_state.filled - filled, DECIMALS),
                text=f"of {name} {order_state.filled:g} shares filled, but the fills tell {filled:g}",
                update=update,
            )
        elif update.state != order.state:
            updates.append(update)
    ledger.write_outcomes(updates=updates)
    return updates, unfilled


def _compare(
    ledger: Ledger,
    broker: Broker,
    book: BookName,
    unfilled: "Mapping[str, _Untold]",
    hands_off: frozenset[str],
) -> _Gap:
    account, positions = broker.account(), ledger.read_positions(book)
    foreign = ledger.read_positions("foreign") if book == "production" else {}
    tickers = sorted((positions.keys() | account.positions.keys() | foreign.keys()) - hands_off)
    shares = {
        ticker: round(
            account.positions.get(ticker, 0.0) - positions.get(ticker, 0.0) - foreign.get(ticker, 0.0), DECIMALS
        )
        for ticker in tickers
    }
    expected: dict[str, float] = {}
    for untold in unfilled.values():
        expected[untold.ticker] = expected.get(untold.ticker, 0.0) + untold.shares
    working_ids = {order.client_order_id for order in ledger.read_working_orders(book)}
    strangers = tuple(
        f"the order {state.client_order_id} is open at the broker, and not in the ledger"
        for state in broker.open_orders()
        if state.client_order_id not in working_ids
        and (state.ticker not in hands_off or is_ours(state.client_order_id))  # one of ours is of a second bot
    )
    # what an order says has filled, and the account holds, is on its way as a fill
    late = {ticker for ticker, more in expected.items() if abs(shares.get(ticker, 0.0) - more) <= SAME}
    apart = {
        ticker: difference for ticker, difference in shares.items() if abs(difference) > SAME and ticker not in late
    }
    untold_updates = {
        untold.text: untold.update for untold in unfilled.values() if untold.ticker not in late | hands_off
    }
    return _Gap(account=account, positions=positions, shares=apart, unfilled=untold_updates, strangers=strangers)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Untold:
    """Shares of an order that the broker says have filled, and of which no fill tells."""

    ticker: str
    shares: float
    text: str
    update: OrderUpdate


def _is_cleared(ledger: Ledger, gap: _Gap, book: BookName) -> bool:
    """Whether a person was shown these very shares and cleared the latch, which nothing has set again."""
    shown = ledger.open_meta().get(_UNEXPLAINED)
    latched = ledger.is_latched(LATCH)
    return book == "production" and bool(gap.shares) and not latched and shown == json.dumps(gap.shares, sort_keys=True)


def _give_to_person(ledger: Ledger, account: Account, hands_off: frozenset[str], now: datetime) -> None:
    """Let what the bot holds of `hands_off` be the person's: out of its book and into that of others, as if it sold
    them to the person at the price of now, so that neither its profit nor its risk hangs on them any more.
    """
    held, cost = ledger.read_positions(), ledger.read_account().average_price
    kept = sorted(held.keys() & hands_off)
    sides: tuple[tuple[BookName, int], ...] = (("production", -1), ("foreign", 1))
    fills = [
        FillRecord(
            fill_id=f"{KEPT}-{to_microseconds(now)}-{ticker}-{book}",
            client_order_id=KEPT,
            book=book,
            ts=now.replace(second=0, microsecond=0),
            ticker=ticker,
            model_id=None,
            quantity=sign * held[ticker],
            price=(price := account.marks.get(ticker) or cost[ticker]),
            commission=0.0,
            reference_price=price,
            filled_at=now,
        )
        for ticker in kept
        for book, sign in sides
    ]
    if fills:
        ledger.write_outcomes(fills=fills)
        text = ", ".join(f"{held[ticker]:g} {ticker}" for ticker in kept)
        ledger.write_event(LedgerEvent(at=now, kind="reconciled", text=f"handed over to a person: {text}"))


def _adopt(ledger: Ledger, gap: _Gap, now: datetime, book: BookName) -> tuple[str, ...]:
    """Let the ledger hold what the broker holds, at its price, or where it holds none at what ours had cost."""
    cost = ledger.read_account(book).average_price
    fills = []
    for ticker, shares in gap.shares.items():
        price = gap.account.marks.get(ticker) or cost[ticker]
        fill = Fill(
            fill_id=f"{ADOPTED}-{to_microseconds(now)}-{ticker}",
            client_order_id=ADOPTED,
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
