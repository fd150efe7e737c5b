"""QuantConnect LEAN, minute trades of US shares: a zip a day, milliseconds since midnight, prices in 1/10,000 dollar.

https://www.quantconnect.com/docs/v2/lean-engine/data-format/us-equity
"""

import re
from dataclasses import replace
from typing import Final

import polars as pl

from hftcl.market.layouts import Layout
from hftcl.market.layouts.sheet import OVERFLOW, Sheet

_FILE: Final = re.compile(r"(?P<day>\d{8})_(?P<ticker>[a-z0-9.\-]+)_minute_trade\.csv$", re.IGNORECASE)


def _reshape(sheet: Sheet) -> Sheet:
    """Put the day, which only the file's name tells, into every row."""
    match = _FILE.search(sheet.inner or sheet.path.name)
    day = pl.lit(match["day"] if match else "").str.to_datetime("%Y%m%d", strict=False, time_unit="us")
    stamp = day + pl.duration(milliseconds=pl.col(sheet.columns[0]).cast(pl.Int64, strict=False))
    names = ("ts", "open", "high", "low", "close", "volume")
    cells = [pl.col(column).alias(name) for column, name in zip(sheet.columns[1:], names[1:], strict=False)]
    frame = sheet.frame.select(stamp.alias("ts"), *cells, pl.col(OVERFLOW))
    return replace(sheet, frame=frame, columns=names, header=(names,))


# The numbers in it are those of the vendor's documents, named above.
LAYOUT: Final = Layout(
    name="lean",
    title="QuantConnect LEAN, minute trades",
    page="https://www.quantconnect.com/docs/v2/lean-engine/data-format/us-equity",
    checked="the vendor's page",
    files=_FILE.pattern,
    applies=lambda sheet: len(sheet.columns) == 6 and _FILE.search(sheet.inner or sheet.path.name) is not None,
    reshape=_reshape,
    zone="America/New_York",
    label="start",
    price_divisor=1e4,
)
