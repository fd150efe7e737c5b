"""EODHD, intraday API. Timestamp is in seconds since 1970; Datetime says the same and is not needed.

https://eodhd.com/financial-apis/intraday-historical-data-api
"""

from typing import Final

from hftcl.market.layouts import Layout

LAYOUT: Final = Layout(
    name="eodhd",
    title="EODHD, intraday API",
    page="https://eodhd.com/financial-apis/intraday-historical-data-api",
    checked="the vendor's page",
    marks=frozenset({"timestamp", "gmtoffset", "datetime", "open", "high", "low", "close", "volume"}),
    files=r"^(?P<ticker>[A-Za-z0-9.\-]+?)\.(?:US|LSE|XETRA)\.",
    columns={"ts": ("timestamp",)},
    label="start",
)
