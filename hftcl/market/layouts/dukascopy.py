"""Dukascopy, historical data export. `Gmt time` is dd.mm.yyyy in GMT, the start of the minute.

https://www.dukascopy.com/swiss/english/marketwatch/historical/
"""

from typing import Final

from hftcl.market.layouts import Layout

LAYOUT: Final = Layout(
    name="dukascopy",
    title="Dukascopy, historical data export",
    page="https://www.dukascopy.com/swiss/english/marketwatch/historical/",
    marks=frozenset({"gmt time", "open", "high", "low", "close", "volume"}),
    files=r"^(?P<ticker>[A-Za-z0-9.]+?)(?:\.USUSD)?_Candlestick_1_M_",
    columns={"ts": ("gmt time",)},
    zone="UTC",
    label="start",
    date_order="dmy",
)
