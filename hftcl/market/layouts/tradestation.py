"""TradeStation, bars as its charts and strategies export them: the volume is in two columns, Up and Down.

A bar bears its closing time, mm/dd/yyyy, in the time of the exchange, which is asked for.
https://help.tradestation.com/10_00/eng/tradestationhelp/symlist/ascii_3rd_party_data_guidelines.htm
"""

from dataclasses import replace
from typing import Final

import polars as pl

from hftcl.market.layouts import Layout
from hftcl.market.layouts.sheet import Sheet

_MARKS: Final = frozenset({"date", "time", "open", "high", "low", "close", "up", "down"})


def _reshape(sheet: Sheet) -> Sheet:
    """Return the sheet with the volume, which is the sum of what traded up and down."""
    plain = {name.strip().lower(): name for name in sheet.columns}
    up, down = (pl.col(plain[name]).cast(pl.Float64, strict=False) for name in ("up", "down"))
    names = (*sheet.columns, "Volume")
    return replace(sheet, frame=sheet.frame.with_columns((up + down).alias("Volume")), columns=names)


LAYOUT: Final = Layout(
    name="tradestation",
    title="TradeStation, exported bars",
    page="https://help.tradestation.com/10_00/eng/tradestationhelp/symlist/ascii_3rd_party_data_guidelines.htm",
    checked="the vendor's page",
    marks=_MARKS,
    reshape=_reshape,
    label="end",
    date_order="mdy",
)
