"""Tiingo, IEX intraday. The volume comes only where the request names it.

https://www.tiingo.com/documentation/iex
"""

from typing import Final

from hftcl.market.layouts import Layout

_ORDER = ("date", "close", "high", "low", "open")

# The numbers in it are those of the vendor's documents, named above.
LAYOUT: Final = Layout(
    name="tiingo",
    title="Tiingo, IEX intraday",
    page="https://www.tiingo.com/documentation/iex",
    marks=frozenset({"date", "close", "high", "low", "open"}),
    columns={"ts": ("date",)},
    applies=lambda sheet: bool(sheet.header) and sheet.header[0] in (_ORDER, (*_ORDER, "volume")),
    label="start",
    advice="Ask Tiingo for it: columns=open,high,low,close,volume in the request.",
)
