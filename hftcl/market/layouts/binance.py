"""Binance public data, spot.

No header; milliseconds until the end of 2024, microseconds since ("for SPOT Data from January 1st 2025 onwards"), the
start of the minute, UTC.
https://github.com/binance/binance-public-data
"""

from typing import Final

from hftcl.market.layouts import Layout

LAYOUT: Final = Layout(
    name="binance",
    title="Binance public data, spot",
    page="https://github.com/binance/binance-public-data",
    checked="the vendor's page",
    order=("ts", "open", "high", "low", "close", "volume", "", "", "", "", "", ""),
    shape=r"^\d{13,16}\|[\d.]+\|[\d.]+\|[\d.]+\|[\d.]+\|[\d.]+\|\d{13,16}\|",
    files=r"^(?P<ticker>[A-Z0-9]+)-1m-\d{4}",
    label="start",
)
