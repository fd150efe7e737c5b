"""Twelve Data, time series as CSV.

Apart by semicolons, as its own client reads them (https://github.com/twelvedata/twelvedata-python), newest first; local
to the exchange unless the request names a zone, so it is asked for.
https://twelvedata.com/docs#time-series
"""

from typing import Final

from hftcl.market.layouts import Layout

_ORDER = ("datetime", "open", "high", "low", "close", "volume")

# The numbers in it are those of the vendor's documents, named above.
LAYOUT: Final = Layout(
    name="twelve_data",
    title="Twelve Data, time series as CSV",
    page="https://twelvedata.com/docs#time-series",
    checked="the vendor's client",
    marks=frozenset({"datetime", "open", "high", "low", "close", "volume"}),
    columns={"ts": ("datetime",)},
    applies=lambda sheet: sheet.separator == ";" and bool(sheet.header) and sheet.header[0] == _ORDER,
    label="start",
)
