"""Which of the fills that a broker tells can be booked, and what to say of the others, once."""

import json
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from hftcl.ledger.account import SAME
from hftcl.ledger.meta import Fact
from hftcl.ledger.reader import LedgerQueries
from hftcl.ledger.rows import OrderRecord
from hftcl.ledger.writer import Ledger
from hftcl.trading.brokers import Fill, describe_implausible, is_plausible
from hftcl.trading.execute.orders import is_ours

_KEPT_REFUSED: Final = 1000  # ids, 50 KB: far more than a week of corrections, which is as far as a broker looks back


@dataclass(frozen=True, slots=True)
class Sorted:
    """bookable: fills that can be booked, those that are booked already among them. refused: what to say of the others,
    by their ids.
    """

    bookable: list[Fill] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


def sort_fills(
    ledger: LedgerQueries,
    fills: Sequence[Fill],
    orders: Mapping[str, OrderRecord | None],
    sum_filled: Callable[[str], float],
) -> Sorted:
    """Return which of `fills` can be true, by themselves and by the orders that they fill.

    orders: by their ids, None for others'. sum_filled: (id) -> shares of an order that are booked, signed. One order's
    fills never add up to more than it asked for: what is told beyond that was told before, under another id.
    """
    known = ledger.list_known_fills([fill.fill_id for fill in fills])
    sums: dict[str, float] = {}
    result = Sorted()
    for fill in fills:
        name, order = fill.client_order_id, orders.get(fill.client_order_id)
        if fill.fill_id in known:
            result.bookable.append(fill)
        elif not is_plausible(fill):
            result.refused[fill.fill_id] = describe_implausible(fill)
        elif order is None:
            result.bookable.append(fill)
        else:
            total = sums.get(name, sum_filled(name) if name not in sums else 0.0) + fill.quantity
            if abs(total) > abs(order.quantity) + SAME:
                result.refused[fill.fill_id] = _describe_too_much(fill, order)
            else:
                sums[name] = total
                result.bookable.append(fill)
    return result


def _describe_too_much(fill: Fill, order: OrderRecord) -> str:
    return (
        f"a fill that makes more than its order and is not booked: {fill.quantity:g} shares of {fill.ticker} at "
        f"{fill.price:g} USD, of the order {order.client_order_id} of {order.quantity:g}"
    )


def note_refused(
    ledger: Ledger, fills: Sequence[Fill], refused: Mapping[str, str], hands_off: Container[str]
) -> list[str]:
    """Return what is still to be told of fills that are not booked, and remember that it was.

    A broker tells a fill again and again, over a restart too. Those of a person's tickers, and of orders that are not
    ours, are not told: where they moved shares, the shares differ.
    """
    told = json.loads(ledger.open_meta().get(Fact.REFUSED_FILLS) or "[]")
    new = {
        fill.fill_id: refused[fill.fill_id]
        for fill in fills
        if fill.fill_id in refused.keys() - set(told)
        and fill.ticker not in hands_off
        and (is_ours(fill.client_order_id) or ledger.order(fill.client_order_id) is not None)
    }
    if new:
        ledger.set_meta(**{Fact.REFUSED_FILLS: json.dumps([*told, *new][-_KEPT_REFUSED:])})
    return list(new.values())
