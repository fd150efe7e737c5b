"""TradingView, exported chart data.

The name is EXCHANGE_TICKER, INTERVAL, with " (1)" after it where a browser saved it a second time; time is in seconds
since 1970 or ISO with an offset.
https://www.tradingview.com/support/solutions/43000537255-how-to-export-chart-data/
"""

from typing import Final

from hftcl.market.layouts import Layout

LAYOUT: Final = Layout(
    name="tradingview",
    title="TradingView, exported chart data",
    page="https://www.tradingview.com/support/solutions/43000537255-how-to-export-chart-data/",
    marks=frozenset({"time", "open", "high", "low", "close"}),
    files=r"^(?:[A-Z0-9_]+?)_(?P<ticker>[A-Z0-9.\-!]+), \S+?(?:[ _][0-9a-f]{4,6})?(?: \(\d+\))?\.csv",
    needs_name=True,
    columns={"ts": ("time",)},
    label="start",
    checked="public code that reads them",
)
