"""What a book is worth at given prices. Values only."""

import math
from collections.abc import Mapping
from datetime import date, datetime

from hftcl.ledger.account import BookAccount
from hftcl.ledger.rows import BookName, EquityRow


def value_account(
    account: BookAccount,
    in_new: Mapping[str, float],
    prices: Mapping[str, float],
    capital: float,
    charges: float,
    *,
    book: BookName,
    session: date,
    minute: datetime,
) -> EquityRow:
    """Return the account after a minute, in USD; a share without a price is worth what it cost.

    in_new: the positions in the shares in which prices are. capital: USD before the first fill. charges: USD that
    came beside fills.
    """
    values = [
        in_new[ticker] * prices[ticker] if ticker in prices else held * account.average_price[ticker]
        for ticker, held in account.positions.items()
    ]
    cash, net = capital - account.paid + charges, math.fsum(values)
    return EquityRow(
        book=book,
        ts=minute,
        session=session,
        equity=cash + net,
        cash=cash,
        gross=math.fsum(map(abs, values)),
        net=net,
        realised=account.realised,
    )
