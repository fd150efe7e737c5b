"""Interactive Brokers, the TWS API's own BarData.

Stamps such as "20250512 09:30:00" are in the zone of TWS; newer versions name it: "20250512 09:30:00 US/Eastern".

https://interactivebrokers.github.io/tws-api/historical_bars.html
"""

from typing import Final

from hftcl.market.layouts import Layout

LAYOUT: Final = Layout(
    name="interactive_brokers_api",
    title="Interactive Brokers, the TWS API's own BarData",
    page="https://interactivebrokers.github.io/tws-api/historical_bars.html",
    marks=frozenset({"date", "open", "high", "low", "close", "volume", "wap"}),
    columns={"ts": ("date",)},
    label="start",
)
