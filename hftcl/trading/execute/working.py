"""Orders that may still fill, or whose fills are still to be told, as a desk knows them. Values only."""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from hftcl.ledger.account import DECIMALS
from hftcl.ledger.rows import WORKING, OrderRecord, OrderUpdate
from hftcl.trading.brokers import OrderState


@dataclass(slots=True)
class WorkingOrder:
    """filled: what the ledger has booked. stated: what the broker says of the order itself, fills told or not.

    ended: how it ended, once the broker has said so; it stays here until its fills are booked.
    """

    record: OrderRecord
    filled: float
    stated: float = 0.0
    price: float | None = None
    """USD a share of what the broker says has filled."""
    ended: OrderUpdate | None = None
    heard: bool = False
    """Whether the broker has answered to it."""
    left: float = field(init=False)
    """Shares that may still fill, signed."""
    untold: float = field(init=False)
    """Shares that the broker says have filled, and of which no fill has been told yet; signed."""

    def __post_init__(self) -> None:
        self._count()

    def _count(self) -> None:
        """Find what is left and what is untold; kept, for it is asked for much more often than it changes."""
        done = self.stated if abs(self.stated) > abs(self.filled) else self.filled
        self.left = 0.0 if self.ended is not None else round(self.record.quantity - done, DECIMALS)
        missing = round(self.stated - self.filled, DECIMALS)
        self.untold = missing if missing * self.record.quantity > 0 else 0.0

    def add_fill(self, quantity: float) -> None:
        """Take a fill that the ledger has booked."""
        self.filled = round(self.filled + quantity, DECIMALS)
        self._count()

    def take_as_stated(self) -> None:
        """Take what the broker says of the order for what has filled."""
        self.filled = self.stated
        self._count()

    def take(self, state: OrderState, update: OrderUpdate) -> None:
        """Take what the broker says of the order itself."""
        self.stated, self.price, self.heard = state.filled, state.average_price, True
        if not state.working:
            self.ended = update
        self._count()

    def knows(self, state: OrderState) -> bool:
        """Whether the broker said just this of it before, and it still works."""
        return self.heard and state.working and (state.filled, state.average_price) == (self.stated, self.price)

    def take_over(self, before: "WorkingOrder") -> None:
        """Take what was known of the same order before the ledger was read again."""
        self.stated, self.price, self.ended = before.stated, before.price, before.ended
        self._count()

    def lingers(self, now: datetime) -> float:
        """Return for how many seconds it has been on its way."""
        return (now - self.record.created_at).total_seconds()


@dataclass(slots=True)
class WorkingOrders:
    """Those of one book, by their ids."""

    _orders: dict[str, WorkingOrder] = field(default_factory=dict)

    def __iter__(self) -> Iterator[WorkingOrder]:
        return iter(self._orders.values())

    def __len__(self) -> int:
        return len(self._orders)

    def get(self, name: str) -> WorkingOrder | None:
        """Return one by its id, None where it does not work any more."""
        return self._orders.get(name)

    @property
    def names(self) -> Collection[str]:
        """Their ids."""
        return self._orders.keys()

    def replace(self, orders: Iterable[WorkingOrder]) -> None:
        """Put these in the place of all, with what was known of them before."""
        before, self._orders = self._orders, {order.record.client_order_id: order for order in orders}
        for name, order in self._orders.items():
            if name in before:
                order.take_over(before[name])

    def add(self, order: WorkingOrder) -> None:
        """Take one that is about to be sent."""
        self._orders[order.record.client_order_id] = order

    def forget(self, updates: Iterable[OrderUpdate]) -> None:
        """Let those go that have ended."""
        for update in updates:
            if update.state not in WORKING:
                self._orders.pop(update.client_order_id, None)

    def list_untold(self) -> list[WorkingOrder]:
        """Return those whose fills are still to be told."""
        return [order for order in self if order.untold]

    def group_by_ticker(self) -> dict[str, list[WorkingOrder]]:
        """Return them by ticker."""
        groups: dict[str, list[WorkingOrder]] = {}
        for order in self:
            groups.setdefault(order.record.ticker, []).append(order)
        return groups

    def sum_open_quantities(self) -> dict[str, tuple[float, float]]:
        """Return by ticker the shares that may still be bought, and those that may still be sold (<= 0)."""
        return {
            ticker: (math.fsum(max(o.left, 0.0) for o in orders), math.fsum(min(o.left, 0.0) for o in orders))
            for ticker, orders in self.group_by_ticker().items()
        }

    def add_untold(self, positions: Mapping[str, float]) -> Mapping[str, float]:
        """Return `positions` with those shares of which only the order says that they have filled."""
        untold = self.list_untold()
        if not untold:
            return positions
        holdings = dict(positions)
        for order in untold:
            held = round(holdings.get(order.record.ticker, 0.0) + order.untold, DECIMALS)
            holdings[order.record.ticker] = held
        return {ticker: held for ticker, held in holdings.items() if held}
