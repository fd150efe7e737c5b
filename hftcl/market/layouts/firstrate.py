"""FirstRate Data. Stamps are US Eastern time and the start of the minute; the name tells adjusted from UNADJUSTED.

By the read-me in its archives: "DateTime (yyyy-MM-dd HH:mm:ss), Open, High, Low, Close, Volume", "Timezone is US
Eastern Time", "1min bars stamped 09:30 run from 09:30.00 to 09:30.59", minutes without a trade are left out. Files of a
subscription (AAPL_full_1min_adjsplit.txt, SPX_week_1min.txt) have no header; samples (SPY_1min_sample.csv) and free
files (SPY_1min_firstratedata.csv) have one.
https://firstratedata.com/_readme/stock.txt
"""

from typing import Final

from hftcl.market.layouts import Layout

LAYOUT: Final = Layout(
    name="firstrate",
    title="FirstRate Data",
    page="https://firstratedata.com/_readme/stock.txt",
    checked="the vendor's read-me",
    marks=frozenset({"timestamp", "open", "high", "low", "close", "volume"}),
    order=("ts", "open", "high", "low", "close", "volume"),
    shape=r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\|",
    files=(
        r"^(?P<ticker>[A-Za-z0-9.\-]+)_(?:(?:full|month|week|day|(?:first|last)\w*|\d+\w*)_\d+(?:min|hour|day)"
        r"|\d+(?:min|hour|day)_(?:sample|firstratedata)\.)"
    ),
    needs_name=True,
    zone="America/New_York",
    label="start",
)
