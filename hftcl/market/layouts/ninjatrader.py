"""NinjaTrader 8, exported historical data. A bar bears the end of its minute, in the zone that the export was set to.

https://ninjatrader.com/support/helpGuides/nt8/importing.htm
"""

from typing import Final

from hftcl.market.layouts import Layout

LAYOUT: Final = Layout(
    name="ninjatrader",
    title="NinjaTrader 8, exported historical data",
    page="https://ninjatrader.com/support/helpGuides/nt8/importing.htm",
    order=("ts", "open", "high", "low", "close", "volume"),
    shape=r"^\d{8} \d{6}\|",
    files=r"^(?P<ticker>.+?)\.(?:Last|Bid|Ask)\.(?:txt|csv)",
    needs_name=True,
    label="end",
)
