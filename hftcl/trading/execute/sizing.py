"""From what positions shall be to the shares that are missing. Values only: nothing is sent here."""

import math
from collections.abc import Container, Mapping
from dataclasses import dataclass, field

from hftcl.trading.execute.minute import DesiredPosition
from hftcl.trading.execute.orders import compute_desired_quantity, compute_order_quantity, cut_to_side
from hftcl.trading.execute.working import WorkingOrder


@dataclass(slots=True, kw_only=True)
class Sizing:
    """How one book's targets become shares at its broker. capital: USD that targets are fractions of.

    fractional: whether parts of a share are traded; fractional_shorts: also on the short side. turns: whether one order
    may lead from long to short. unshortable: tickers that the broker does not sell short.
    """

    capital: float
    fractional: bool
    fractional_shorts: bool
    turns: bool
    unshortable: Container[str]
    small: set[str] = field(default_factory=set)
    """Tickers whose target is less than one share."""

    def compute_missing(
        self,
        wishes: Mapping[str, DesiredPosition],
        positions: Mapping[str, float],
        working: Mapping[str, list[WorkingOrder]],
    ) -> dict[str, float]:
        """Return by how many shares holding and orders miss each wish; a ticker with none is not there."""
        quantities = {}
        for ticker, wish in wishes.items():
            held, under_way = positions.get(ticker, 0.0), math.fsum(work.left for work in working.get(ticker, ()))
            desired = self._compute_desired(ticker, wish)
            quantity = compute_order_quantity(
                desired,
                position=held,
                working=under_way,
                price=wish.price,
                fractional=self.fractional and (self.fractional_shorts or not desired < 0),
                unchanged=wish.unchanged,
            )
            if not self.turns:
                quantity = cut_to_side(quantity, held=held, working=under_way)
            if quantity:
                quantities[ticker] = quantity
        return quantities

    def _compute_desired(self, ticker: str, wish: DesiredPosition) -> float:
        """Return the shares of a wish: whole ones where no parts are sold short, none where nothing is."""
        fractional = self.fractional and (self.fractional_shorts or not wish.target < 0)
        shares = compute_desired_quantity(wish.target, capital=self.capital, price=wish.price, fractional=fractional)
        if wish.target and shares == 0:
            self.small.add(ticker)
        elif shares:
            self.small.discard(ticker)
        return 0.0 if shares < 0 and ticker in self.unshortable else shares
