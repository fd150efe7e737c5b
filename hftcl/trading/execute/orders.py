"""From target to order: how many shares, under which id. Pure."""

import hashlib
import math
import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from hftcl.ledger.account import DECIMALS
from hftcl.ledger.rows import BookName

# The most that Alpaca took by its reference of 2023, https://docs.alpaca.markets/reference/createorderforaccount
LONGEST_ID: Final = 48
LEAST_NOTIONAL: Final = 1.0
"""USD: the least value of an order for a part of a share, as brokers ask for."""
DRIFT: Final = 0.02
"""How far position and open orders may be from an unchanged target, as a share of it, before they are trued up."""

_DIGEST: Final = 12  # hexadecimal digits, 48 bits: of a thousand such tickers two are alike with a chance of 2e-9
_OURS: Final = "hftcl-"


def build_client_order_id(book: BookName, ts: datetime, ticker: str, purpose: str = "r", generation: int = 0) -> str:
    """Return the id of the order that `book` decided for `ticker` on the bar `ts`: the same one whenever it is asked.

    purpose: one or two lower-case letters, such as "r" to rebalance and "f" to flatten. generation: counts the orders
    of one bar and purpose, where there are several. At most 48 characters of A-Z a-z 0-9 - _ and the dot; different
    arguments give different ids, whatever characters a ticker holds.
    """
    when, tail = _write_moment(ts.astimezone(UTC)), f"-{purpose}{generation or ''}"
    head = f"{_OURS}{'' if book == 'production' else 's-'}{when}-"
    return head + _encode_ticker(ticker, LONGEST_ID - len(head) - len(tail)) + tail


def is_ours(client_order_id: str) -> bool:
    """Whether the bot gave this id: others' orders have ids of the broker's, or of another program's."""
    return client_order_id.startswith(_OURS)


@lru_cache(maxsize=16)  # the orders of one minute, between bar and broker
def _write_moment(at: datetime) -> str:
    return at.strftime("%Y%m%dT%H%M" if at.second == 0 else "%Y%m%dT%H%M%S")


@lru_cache(maxsize=16_384)  # the widest watchlist, 5,000, three times: one that is larger than the cache finds nothing
def _encode_ticker(ticker: str, room: int) -> str:
    """Return `ticker` with each byte that is not a capital, a digit or a dot as _ and two hexadecimal digits."""
    text = "".join(chr(byte) if re.match(rb"[A-Z0-9.]", bytes([byte])) else f"_{byte:02x}" for byte in ticker.encode())
    if text and len(text) <= room:
        return text
    return "__" + hashlib.sha256(ticker.encode()).hexdigest()[:_DIGEST]  # no encoding of a ticker begins like this


def compute_desired_quantity(target: float, *, capital: float, price: float, fractional: bool) -> float:
    """Return the shares, - for short, that `target` (a signed fraction of `capital` USD) is at `price`.

    Whole shares, or multiples of 1e-9 where `fractional`; rounded toward zero. NaN where an argument is not finite or
    the price is not positive: risk refuses what comes of it.
    """
    if not (math.isfinite(target) and math.isfinite(capital) and math.isfinite(price) and price > 0):
        return math.nan
    return _round_toward_zero(target * capital / price, fractional=fractional)


def compute_order_quantity(
    desired: float, *, position: float, working: float, price: float, fractional: bool, unchanged: bool = False
) -> float:
    """Return the shares to order, + to buy, so that `position` becomes `desired`; 0.0 for no order.

    working: what open orders may still add, signed; where they are of both signs, cancel them first.
    unchanged: the target is the one that was decided a minute ago. Then a price that drifts asks for nothing, up to
        `DRIFT` of the desired position or one share: the exam does not trade on drift either.
    No order is below one share, or where `fractional` below `LEAST_NOTIONAL`, unless it closes the position.
    """
    missing = desired - (position + working)
    if not math.isfinite(missing):
        return missing
    if unchanged and desired and abs(missing) <= max(DRIFT * abs(desired), 0.0 if fractional else 1.0):
        return 0.0
    quantity = _round_toward_zero(missing, fractional=fractional)
    if desired == 0:
        return quantity
    return 0.0 if fractional and abs(quantity) * price < LEAST_NOTIONAL else quantity


def cut_to_side(quantity: float, *, held: float, working: float) -> float:
    """Return `quantity`, cut to what closes the position where it would turn it: the rest is for when that has filled.

    For a broker that takes no order which leads from long to short or back. working: what open orders may still add.
    """
    if not held * quantity < 0:  # NaN passes, for risk to refuse
        return quantity
    closes = -(held + working) if (held + working) * held > 0 else 0.0
    return closes if abs(quantity) > abs(closes) else quantity


def _round_toward_zero(shares: float, *, fractional: bool) -> float:
    scale = 10.0**DECIMALS if fractional else 1.0
    scaled = shares * scale
    # 29.999999999999996 is thirty shares that went through a division
    nearest = round(scaled)
    close = math.isclose(scaled, nearest, rel_tol=1e-12)
    return (nearest if close else math.trunc(scaled)) / scale
