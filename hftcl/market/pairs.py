"""Names of pairs of currencies: BTC/USD in Alpaca's orders and fills, BTCUSD in its positions. Pure.

A person may write either: "our API has made proper changes to support the legacy convention as well", says
https://docs.alpaca.markets/docs/crypto-trading .
"""

from collections.abc import Iterable
from typing import Final

_QUOTED_IN: Final = ("USDT", "USDC", "USD", "BTC")
"""In which a pair is quoted; the same page. The longest first where one ends as another does."""


def name_pair(symbol: str) -> str:
    """Return a pair as orders name it, BTC/USD for BTCUSD; `symbol` itself where it ends as no pair does."""
    if "/" not in symbol:
        for quoted in _QUOTED_IN:
            if symbol.endswith(quoted) and symbol != quoted:
                return f"{symbol.removesuffix(quoted)}/{quoted}"
    return symbol


def spell(names: Iterable[str]) -> frozenset[str]:
    """Return `names` with the other spelling of each that may be a pair: a share such as AUSD loses nothing by it."""
    given = frozenset(names)
    return given | {name_pair(name) for name in given} | {name.replace("/", "") for name in given}
