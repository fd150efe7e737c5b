"""Interactive Brokers, the TWS API's own BarData.

Stamps such as "20250512 09:30:00" are "in the time zone chosen in TWS on the login screen", so it is asked for; newer
versions name it: "20250512 09:30:00 US/Eastern". A bar bears its start time:
http://www.interactivebrokers.com/php/apiUsersGuide/apiguide/activexexcel/historical_data_page_query_specification_fields.htm

https://interactivebrokers.github.io/tws-api/historical_bars.html
"""

from typing import Final

from hftcl.market.layouts import Layout

LAYOUT: Final = Layout(
    name="interactive_brokers_api",
    title="Interactive Brokers, the TWS API's own BarData",
    page="https://interactivebrokers.github.io/tws-api/historical_bars.html",
    checked="the vendor's page",
    marks=frozenset({"date", "open", "high", "low", "close", "volume", "wap"}),
    columns={"ts": ("date",)},
    label="start",
)
