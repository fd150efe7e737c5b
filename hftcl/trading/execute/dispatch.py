"""A minute's orders on their way: what closes before what opens, the largest first, within what the broker takes.

Nothing is written here: what became of each order goes back to the desk.
"""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Final

from hftcl.errors import BrokerBusyError, BrokerError, BrokerTimeoutError, HftclError, OrderRefusedError
from hftcl.trading.brokers import Broker, Order, OrderState, Paced, read_traits
from hftcl.trading.execute.patience import PatientBroker
from hftcl.trading.execute.together import act_together

RESERVE: Final = 20
"""Calls of a minute that are kept for questions: fills (a page a hundred), the account, a few orders by their ids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What became of one order. state: the broker's answer. unsent: it never left, and may be decided again.

    Where neither is so, it is not known: it is asked for by its id.
    """

    order: Order
    state: OrderState | None = None
    refused: OrderRefusedError | None = None
    fault: BrokerError | None = None
    unsent: bool = False
    code: str = "rate_limited"
    """Why it was not sent."""


def read_orders_per_minute(broker: Broker) -> int | None:
    """Return how many orders a broker takes in a minute, None for any number."""
    calls = read_traits(broker).calls_per_minute
    return None if calls is None else max(1, calls - RESERVE)


def count_minutes_to_send(count: int, broker: Broker) -> int:
    """Return how many minutes it takes to send `count` orders."""
    most = read_orders_per_minute(broker)
    return 0 if most is None or not count else -(-count // most)


def send(broker: Broker, orders: Sequence[Order], closes: Container[str]) -> list[Sent]:
    """Hand `orders` to the broker; closes: ids of those that reduce a position. Returns what became of each.

    After the first order without an answer, or refused for the moment, nothing is opened any more in this minute. What
    the plan has no room for is not sent. An order without an answer is sent once more under its id, for it may have
    been lost, where the broker is at hand or the order closes something. Where a broker that takes orders together
    fails at the end, those that it had answered to are without an answer.
    """
    ranked = sorted(
        orders,
        key=lambda order: (order.client_order_id not in closes, -abs(order.quantity * order.reference_price)),
    )
    room = max(0, broker.room() - RESERVE // 2) if isinstance(broker, Paced) else len(ranked)
    closing = [order for order in ranked if order.client_order_id in closes]
    opening = [order for order in ranked if order.client_order_id not in closes]
    done: list[Sent] = []

    def send_all() -> None:
        done.extend(_send_wave(broker, closing[:room], again=True))
        if all(sent.fault is None for sent in done):
            done.extend(_open(broker, opening[: max(room - len(done), 0)]))

    broken = act_together(broker, send_all)
    if broken is not None:
        done = [_describe_doubt(sent, broken) for sent in done]
    unheard = broken is not None or any(sent.fault is not None and not sent.unsent for sent in done)
    code = "no_answer" if unheard else "rate_limited"
    left = {order.client_order_id for order in ranked} - {sent.order.client_order_id for sent in done}
    fault = None if done else broken  # else those that it answered to tell it
    unsent = [order for order in ranked if order.client_order_id in left]
    return [*done, *(Sent(order=order, fault=fault, unsent=True, code=code) for order in unsent)]


def _describe_doubt(sent: Sent, broken: BrokerError) -> Sent:
    """Return what is known of an order where the broker took them together and that failed in the end.

    What it refused or had no room for it has not taken in any case.
    """
    return sent if sent.state is None else Sent(order=sent.order, fault=broken)


def _open(broker: Broker, orders: Sequence[Order]) -> list[Sent]:
    done: list[Sent] = []
    width, again = read_traits(broker).parallel, not read_traits(broker).remote
    for begin in range(0, len(orders), width):
        wave = _send_wave(broker, orders[begin : begin + width], again=again)
        done += wave
        if any(sent.fault is not None for sent in wave):
            break
    return done


def _send_wave(broker: Broker, orders: Sequence[Order], *, again: bool) -> list[Sent]:
    outcomes = _submit(broker, orders)
    lost = [order for order, outcome in zip(orders, outcomes, strict=True) if isinstance(outcome, BrokerTimeoutError)]
    if lost and again:
        # The very same orders: had the first arrived, its id is known there and this asks for its state.
        second = {
            order.client_order_id: outcome
            for order, outcome in zip(lost, _submit(broker, lost), strict=True)
            if not isinstance(outcome, BrokerBusyError)  # says nothing of the first one, which may have arrived
        }
        outcomes = [second.get(order.client_order_id, one) for order, one in zip(orders, outcomes, strict=True)]
    return [_build_sent(order, outcome) for order, outcome in zip(orders, outcomes, strict=True)]


def _submit(broker: Broker, orders: Sequence[Order]) -> list[OrderState | HftclError]:
    if isinstance(broker, PatientBroker):
        return broker.submit_all(orders)
    outcomes: list[OrderState | HftclError] = []
    for order in orders:
        try:
            outcomes.append(broker.submit(order))
        except BrokerError as error:
            outcomes.append(error)
    return outcomes


def _build_sent(order: Order, outcome: OrderState | HftclError) -> Sent:
    if not isinstance(outcome, HftclError):
        return Sent(order=order, state=outcome)
    if isinstance(outcome, OrderRefusedError):
        return Sent(order=order, refused=outcome)
    if isinstance(outcome, BrokerError):
        return Sent(order=order, fault=outcome, unsent=isinstance(outcome, BrokerBusyError))
    raise outcome
