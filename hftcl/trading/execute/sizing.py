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
        desired_positions: Mapping[str, DesiredPosition],
        positions: Mapping[str, float],
        working: Mapping[str, list[WorkingOrder]],
    ) -> dict[str, float]:
        """Return by how many shares holding and orders miss each desired position; a ticker with none is not there."""
        quantities = {}
        for ticker, desired_position in desired_positions.items():
            held, orders = positions.get(ticker, 0.0), working.get(ticker)
            under_way = math.fsum(work.left for work in orders) if orders else 0.0
            desired = self._compute_desired(ticker, desired_position)
            quantity = compute_order_quantity(
                desired,
                position=held,
                working=under_way,
                price=desired_position.price,
                fractional=self.fractional and (self.fractional_shorts or not desired < 0),
                unchanged=desired_position.unchanged,
            )
            if not self.turns:
                quantity = cut_to_side(quantity, held=held, working=under_way)
            if quantity:
                quantities[ticker] = quantity
        return quantities

    def _compute_desired(self, ticker: str, desired_position: DesiredPosition) -> float:
        """Return the shares of a desired position: whole ones where no parts are sold short, none where nothing is."""
        fractional = self.fractional and (self.fractional_shorts or not desired_position.target < 0)
        shares = compute_desired_quantity(
            desired_position.target, capital=self.capital, price=desired_position.price, fractional=fractional
        )
        if desired_position.target and shares == 0:
            self.small.add(ticker)
        elif shares:
            self.small.discard(ticker)
        return 0.0 if shares < 0 and ticker in self.unshortable else shares
