"""The closes by which what is held is valued where no bars can be had."""

from collections.abc import Mapping
from typing import Final

import polars as pl

from hftcl.ledger.account import SAME
from hftcl.ledger.writer import Ledger
from hftcl.market.hours import Hours

_MOVED: Final = pl.col("quantity").sum()


def read_closes_before(ledger: Ledger, hours: Hours, ratios: Mapping[str, float]) -> dict[str, float]:
    """Return the closes of the session before, USD, in today's shares, and those of today where they are known.

    An older one may be of before a split that was never booked, and so may one of what production only began to hold
    in this session: a bot that was killed left none. ratios: by ticker new shares for an old one, of today's splits.
    """
    closes = ledger.read_last_closes(hours.session, ratios, hours.before)
    moved = ledger.fills("production", hours.begins).group_by("ticker").agg(_MOVED)
    held = ledger.positions()
    begun = {ticker for ticker, shares in moved.iter_rows() if abs(held.get(ticker, 0.0) - shares) <= SAME}
    return {ticker: close for ticker, close in closes.items() if ticker not in begun}
