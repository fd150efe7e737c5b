"""An order that may still fill, or whose fills are still to be told, as a desk knows it. Values only."""

from dataclasses import dataclass
from datetime import datetime

from hftcl.ledger.account import DECIMALS
from hftcl.ledger.rows import OrderRecord, OrderUpdate
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

    @property
    def left(self) -> float:
        """Shares that may still fill, signed."""
        if self.ended is not None:
            return 0.0
        done = self.stated if abs(self.stated) > abs(self.filled) else self.filled
        return round(self.record.quantity - done, DECIMALS)

    @property
    def untold(self) -> float:
        """Shares that the broker says have filled, and of which no fill has been told yet; signed."""
        missing = round(self.stated - self.filled, DECIMALS)
        return missing if missing * self.record.quantity > 0 else 0.0

    def take(self, state: OrderState, update: OrderUpdate) -> None:
        """Take what the broker says of the order itself."""
        self.stated, self.price, self.heard = state.filled, state.average_price, True
        if not state.working:
            self.ended = update

    def lingers(self, now: datetime) -> float:
        """Return for how many seconds it has been on its way."""
        return (now - self.record.created_at).total_seconds()
