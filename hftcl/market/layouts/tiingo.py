"""Tiingo, IEX intraday. The volume comes only where the request names it; stamps are UTC, of the start.

https://www.tiingo.com/documentation/iex; a recorded answer (order of the columns, stamps, no volume; the session's
first is its open): https://github.com/hydrosquall/tiingo-python/blob/master/tests/fixtures/intraday_price.yaml
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
    checked="a recorded answer in public code",
)
