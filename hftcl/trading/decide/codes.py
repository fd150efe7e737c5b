"""What a ticker's bars allow in a minute, as a code. Pure."""

from collections.abc import Container, Iterable, Mapping
from typing import Final

from hftcl.strategy.risk import Code
from hftcl.trading.feeds import Delivery

SILENT: Final = frozenset(
    {
        Code.HOLD_STALE,
        Code.HOLD_BAD_PRICE,
        Code.HOLD_REVISED,
        Code.HOLD_NO_BAR,
        Code.HOLD_DELAYED,
        Code.HOLD_DISPUTED,
    }
)
"""Where a ticker has one of these, no order is sent for it this minute, at any target."""


def find_codes(
    tickers: Iterable[str],
    delivery: Delivery,
    ages: Mapping[str, float],
    stale_bars: float,
    *,
    alone: Container[str],
    revised: Container[str],
    suspect: Container[str],
) -> dict[str, Code]:
    """Say of each ticker what its data allow this minute; TRADE where nothing is wrong with them.

    ages: bars since each ticker's newest one. alone: those that are not traded. revised: those whose price of an
    earlier minute moved beyond the collar. suspect: those whose price is doubted.
    """
    delivered = set(delivery.bars["ticker"])
    codes: dict[str, Code] = {}
    for ticker in tickers:
        code = delivery.codes.get(ticker)
        if ticker in alone:
            codes[ticker] = Code.HOLD_DISPUTED
        elif code is not None:
            codes[ticker] = code
        elif not ages.get(ticker, stale_bars + 1) <= stale_bars:
            codes[ticker] = Code.HOLD_STALE
        elif ticker not in delivered:
            codes[ticker] = Code.HOLD_NO_BAR
        elif ticker in revised:
            codes[ticker] = Code.HOLD_REVISED
        elif ticker in suspect:
            codes[ticker] = Code.HOLD_BAD_PRICE
        else:
            codes[ticker] = Code.TRADE
    return codes
