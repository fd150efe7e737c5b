"""The closes by which what is held is valued where no bars can be had, and since when it is held."""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Final

import polars as pl

from hftcl.ledger.account import SAME
from hftcl.ledger.rows import ADOPTED, BookName
from hftcl.ledger.writer import Ledger
from hftcl.market.hours import Hours

_MOVED: Final = pl.col("quantity").sum()


def read_closes_before(ledger: Ledger, hours: Hours, ratios: Mapping[str, float]) -> dict[str, float]:
    """Return the last close of what is held, USD, in today's shares, however old: what it cost is older still.

    None of before the position was begun, which may be of before a split that was never booked; and none of what
    production only began to hold in this session. ratios: by ticker new shares for an old one, of today's splits.
    """
    moved = ledger.read_fills("production", hours.begins).group_by("ticker").agg(_MOVED)
    held = ledger.read_positions()
    begun = {ticker for ticker, shares in moved.iter_rows() if abs(held.get(ticker, 0.0) - shares) <= SAME}
    since = {ticker: find_begin(ledger, "production", ticker, hours.begins) for ticker in held}
    closes = ledger.read_last_closes(hours.session, ratios, since)
    return {ticker: close for ticker, close in closes.items() if ticker not in begun}


def find_begin(ledger: Ledger, book: BookName, ticker: str, before: datetime | None = None) -> date:
    """Return the session in which what is held, or was held `before` then, was begun.

    Shares bought since a split are new ones. So are those that a person let the bot take over from the broker, which
    had met what came before.
    """
    begun, held = date.min, 0.0
    for row in ledger.read_fills(book).filter(ticker=ticker).iter_rows(named=True):
        if before is not None and row["ts"] >= before:
            break
        if abs(held) <= SAME or row["client_order_id"] == ADOPTED:
            order = ledger.order(row["client_order_id"])
            begun = order.session if order is not None else row["ts"].date()
        held += row["quantity"]
    return begun
