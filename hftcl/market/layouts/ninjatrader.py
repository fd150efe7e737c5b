"""NinjaTrader 8, exported historical data: always in UTC. A bar bears the end of its minute.

https://ninjatrader.com/support/helpGuides/nt8/en-us/importing.htm
"""

from typing import Final

from hftcl.market.layouts import Layout

LAYOUT: Final = Layout(
    name="ninjatrader",
    title="NinjaTrader 8, exported historical data",
    page="https://ninjatrader.com/support/helpGuides/nt8/en-us/importing.htm",
    checked="the vendor's page",
    order=("ts", "open", "high", "low", "close", "volume"),
    shape=r"^\d{8} \d{6}\|",
    files=r"^(?P<ticker>.+?)\.(?:Last|Bid|Ask)\.(?:txt|csv)",
    needs_name=True,
    zone="UTC",
    label="end",
)
