"""What a minute has still to write down when its orders are with the broker. Touches the ledger that it is given."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hftcl.ledger.rows import Decision, EquityRow, FillOpen, OrderRecord, OrderUpdate
from hftcl.ledger.writer import Ledger


@dataclass(slots=True)
class Unwritten:
    """Rows that nothing is lost by after a kill: they follow from fills and orders, which are written before, or are
    the decisions and refused orders of a minute of which no order leaves; without them it does not count as decided.

    What the disk refuses stays here until it can be written.
    """

    _decisions: list[Decision] = field(default_factory=list)
    _orders: list[OrderRecord] = field(default_factory=list)
    _updates: list[OrderUpdate] = field(default_factory=list)
    _equity: list[EquityRow] = field(default_factory=list)
    _opens: list[FillOpen] = field(default_factory=list)
    _meta: dict[str, str] = field(default_factory=dict)

    def add(
        self,
        *,
        decisions: Sequence[Decision] = (),
        orders: Sequence[OrderRecord] = (),
        updates: Sequence[OrderUpdate] = (),
        equity: Sequence[EquityRow] = (),
        opens: Sequence[FillOpen] = (),
        meta: Mapping[str, str] | None = None,
    ) -> None:
        """Take rows to write; see `Ledger.write_outcomes`."""
        self._decisions += decisions
        self._orders += orders
        self._updates += updates
        self._equity += equity
        self._opens += opens
        self._meta |= meta or {}

    def write(self, ledger: Ledger, *, orders_only: bool = False) -> None:
        """Write all of it in one transaction. Raises as the ledger does; then nothing is forgotten.

        orders_only: only orders and what became of them; the rest waits on.
        """
        if self._orders or self._updates or (not orders_only and self._has_more()):
            more = not orders_only
            ledger.write_outcomes(
                decisions=self._decisions if more else (),
                orders=self._orders,
                updates=self._updates,
                equity=self._equity if more else (),
                opens=self._opens if more else (),
                meta=self._meta if more else None,
            )
        self._orders.clear()
        self._updates.clear()
        if not orders_only:
            for rows in (self._decisions, self._equity, self._opens):
                rows.clear()
            self._meta.clear()

    def _has_more(self) -> bool:
        return bool(self._decisions or self._equity or self._opens or self._meta)
