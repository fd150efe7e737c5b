"""Alpaca, as alpaca-py's `bars.df.to_csv()` writes it.

Stamps are UTC and the start of the minute ("labeled with the start time",
https://alpaca.markets/learn-api/stock-minute-bars; the docstring of alpaca-py's Bar says "closing", which it is not);
`symbol` tells the tickers apart.
https://docs.alpaca.markets/reference/stockbars
"""

from typing import Final

from hftcl.market.layouts import Layout

LAYOUT: Final = Layout(
    name="alpaca",
    title="Alpaca, as alpaca-py's `bars.df.to_csv()` writes it",
    page="https://docs.alpaca.markets/reference/stockbars",
    checked="the vendor's page",
    marks=frozenset({"symbol", "timestamp", "trade_count", "vwap"}),
    label="start",
)
