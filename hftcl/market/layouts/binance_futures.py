"""Binance public data, futures. With a header; open_time is the start of the minute, UTC.

https://github.com/binance/binance-public-data
"""

from typing import Final

from hftcl.market.layouts import Layout

LAYOUT: Final = Layout(
    name="binance_futures",
    title="Binance public data, futures",
    page="https://github.com/binance/binance-public-data",
    checked="the vendor's page",
    marks=frozenset({"open_time", "open", "high", "low", "close", "volume", "close_time"}),
    files=r"^(?P<ticker>[A-Z0-9]+)-1m-\d{4}",
    columns={"ts": ("open_time",)},
    label="start",
)
