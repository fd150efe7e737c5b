"""What a minute asks of a desk, and what an order meets in it. Values only."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

REBALANCE: Final = "r"  # a letter in the order's id, so that both may be sent on one bar
FLATTEN: Final = "f"
"""Purposes of an order, a part of its id: to follow the model, and to close whatever is held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredPosition:
    """What a position shall be: a signed fraction of capital at `price`. unchanged: as it was a minute before."""

    target: float
    price: float
    unchanged: bool = False
    purpose: str = REBALANCE


@dataclass(frozen=True, slots=True, kw_only=True)
class MinuteContext:
    """What an order meets in this minute, the same for every desk. minute: start of the bar that was decided on.

    prices: last good close of each ticker, USD. ages: bars since each ticker's newest one.
    """

    session: date
    minute: datetime
    now: datetime
    prices: Mapping[str, float]
    ages: Mapping[str, float]
    minutes_to_close: float
    market_open: bool = True
    barred: str = ""
    """Why nothing may be opened, "" where it may."""
