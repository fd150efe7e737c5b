"""Polygon (Massive) flat files, minute aggregates.

Nanoseconds since 1970, the start of the minute; not adjusted. Tickers are case-sensitive: TpC is not TPC.
https://massive.com/docs/flat-files/stocks/minute-aggregates
"""

from typing import Final

from hftcl.market.layouts import Layout

LAYOUT: Final = Layout(
    name="polygon_flat",
    title="Polygon (Massive) flat files, minute aggregates",
    page="https://massive.com/docs/flat-files/stocks/minute-aggregates",
    checked="the vendor's page",
    marks=frozenset({"ticker", "volume", "open", "close", "high", "low", "window_start", "transactions"}),
    columns={"ts": ("window_start",)},
    label="start",
    adjusted=False,
)
