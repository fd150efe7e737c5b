"""Fills in; positions, cash, average prices and realised P&L out. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from hftcl.ledger.rows import BookName, Snapshot

DECIMALS: Final = 9
"""Shares are counted in multiples of 1e-9, as brokers do: 0.1 + 0.2 - 0.3 shares are none."""
SAME: Final = 1e-6
"""Shares: two amounts that differ by less are the same, for a broker may round otherwise."""


@dataclass(slots=True)
class BookAccount:
    """What the fills of one book add up to. USD; shares, - for short; tickers without a position are not in it."""

    paid: float = 0.0
    """What all fills took out of the cash, commissions included; cash is the capital less this."""
    realised: float = 0.0
    """P&L of the shares that were closed, by average price, less every commission: the capital's change when flat."""
    positions: dict[str, float] = field(default_factory=dict)
    average_price: dict[str, float] = field(default_factory=dict)

    def add(self, ticker: str, quantity: float, price: float, commission: float) -> None:
        """Take one fill; fills of a ticker come in the order in which they traded."""
        held, average = self.positions.get(ticker, 0.0), self.average_price.get(ticker, 0.0)
        self.paid += quantity * price + commission
        self.realised -= commission
        if held * quantity >= 0:
            average = (
                (abs(held) * average + abs(quantity) * price) / (abs(held) + abs(quantity)) if quantity else average
            )
        else:
            closed = min(abs(held), abs(quantity))
            self.realised += (price - average) * (closed if held > 0 else -closed)
            average = price if abs(quantity) > abs(held) else average
        after = round(held + quantity, DECIMALS)
        if after:
            self.positions[ticker], self.average_price[ticker] = after, average
        else:
            self.positions.pop(ticker, None)
            self.average_price.pop(ticker, None)


def build_snapshot(account: BookAccount, book: BookName, number: int, at: datetime) -> Snapshot:
    """Return `account`, which the fills of `book` up to `number` and `at` add up to, as the ledger keeps it."""
    import json

    holdings = {ticker: [shares, account.average_price[ticker]] for ticker, shares in sorted(account.positions.items())}
    return Snapshot(
        book=book,
        number=number,
        at=at,
        paid=account.paid,
        realised=account.realised,
        holdings=json.dumps(holdings),  # repr of a float comes back equal, to the bit
    )


def take_up(snapshot: Snapshot) -> BookAccount:
    """Return the account that `build_snapshot` kept. Raises ValueError, TypeError for damage."""
    import json  # not at the top: a ledger without a closed session has no snapshot, and its status is read quickly

    holdings: dict[str, list[float]] = json.loads(snapshot.holdings)
    return BookAccount(
        paid=snapshot.paid,
        realised=snapshot.realised,
        positions={ticker: shares for ticker, (shares, _) in holdings.items()},
        average_price={ticker: price for ticker, (_, price) in holdings.items()},
    )


def compute_account(
    fills: Iterable[tuple[str, float, float, float]], account: BookAccount | None = None
) -> BookAccount:
    """Return what `fills` (ticker, quantity, price, commission), oldest first, add to `account`, or to none."""
    account = account or BookAccount()
    for fill in fills:
        account.add(*fill)
    return account
