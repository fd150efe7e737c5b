"""Further numbers of a bar, `[market] columns`: what each is, by its name, and the schemas of bars with them. Pure.

A column is a Float64 beside the prices and the volume. Its name says what a split does to it, and what it is in a
minute without a trade; a number that a vendor leaves out, or that is none, is null, and its bar is kept.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import polars as pl

from hftcl.errors import ConfigError


class Nature(StrEnum):
    """What a column counts.

    >>> find_nature("vwap"), find_nature("bid_price"), find_nature("trades"), find_nature("imbalance")
    (<Nature.PRICE: 'price'>, <Nature.PRICE: 'price'>, <Nature.COUNT: 'count'>, <Nature.NUMBER: 'number'>)
    """

    PRICE = "price"
    """Divided by a split; the last close in a minute without a trade."""
    VOLUME = "volume"
    """Shares: multiplied by a split; 0 in a minute without a trade."""
    COUNT = "count"
    """Of whatever a split leaves as it is; 0 in a minute without a trade."""
    NUMBER = "number"
    """All else: left as it is, and null in a minute without a trade."""


_USUAL: Final = frozenset(
    ["ticker", "ts", "session", "minute", "session_minutes", "regular", "open", "high", "low", "close", "volume"]
)
# The two that vendors deliver by other names; what is not in the table goes by the end of its name.
_BY_NAME: Final = {"vwap": Nature.PRICE, "trades": Nature.COUNT}
_BY_END: Final = {"_price": Nature.PRICE, "_volume": Nature.VOLUME, "_count": Nature.COUNT}


def find_nature(column: str) -> Nature:
    """Return what a column counts: "vwap" or "..._price", "..._volume", "trades" or "..._count", or a plain number."""
    by_end = (nature for end, nature in _BY_END.items() if column.endswith(end))
    return _BY_NAME.get(column) or next(by_end, Nature.NUMBER)


def extend_schema(schema: pl.Schema, columns: Sequence[str]) -> pl.Schema:
    """Return `schema` with the columns behind its own.

    >>> extend_schema(pl.Schema({"close": pl.Float64()}), ["vwap"]).names()
    ['close', 'vwap']
    """
    return pl.Schema({**schema, **dict.fromkeys(columns, pl.Float64())})


def choose_columns(wanted: Sequence[str], offered: Sequence[str], who: str) -> tuple[str, ...]:
    """Return the columns that are wanted, where all of them are offered; for a source or feed, when it is made.

    who: such as 'the source "acme"'. Raises ConfigError naming those that it cannot deliver, or that every bar has.

    >>> choose_columns(["vwap"], ["vwap", "trades"], 'the source "acme"')
    ('vwap',)
    """
    if usual := [column for column in wanted if column in _USUAL]:
        raise ConfigError(f"[market] columns: {usual[0]} is a column of every bar. Name further ones only.")
    lacking = [column for column in wanted if column not in offered]
    if lacking:
        able = f"it delivers {', '.join(offered)}" if offered else "it delivers open, high, low, close and volume alone"
        raise ConfigError(
            f"[market] columns: {who} cannot deliver {', '.join(lacking)}; {able}. Leave "
            f"{_choose_pronoun(lacking)} out, or take "
            "another one."
        )
    return tuple(wanted)


def _choose_pronoun(names: Sequence[str]) -> str:
    return "it" if len(names) == 1 else "them"
