"""Databento, OHLCV of one minute as CSV: ts_event is the start of the minute in UTC, prices perhaps in units of 1e-9.

https://databento.com/docs/schemas/ohlcv
"""

from typing import Final

import polars as pl

from hftcl.market.layouts import Layout
from hftcl.market.layouts.sheet import Sheet

_MARKS: Final = frozenset(
    {"ts_event", "rtype", "publisher_id", "instrument_id", "open", "high", "low", "close", "volume"}
)
_FIXED: Final = r"^-?\d{6,}$"  # fixed prices are whole numbers of 1e-9: even a hundredth of a cent has six digits
_PAGE: Final = "https://databento.com/docs/schemas/ohlcv"


def _has_fixed_prices(sheet: Sheet) -> bool:
    """Whether all prices are whole and large; pretty ones have a point."""
    if not sheet.header or not {cell.lower() for cell in sheet.header[0]} >= _MARKS:
        return False
    prices = sheet.frame.select("open", "high", "low", "close")
    if not sheet.text:
        return all(dtype.is_integer() for dtype in prices.collect_schema().dtypes())
    whole = prices.select(pl.all().drop_nulls().str.contains(_FIXED).mean()).collect()
    return all((share or 0.0) > 0.99 for share in whole.row(0))


# Prices in units of 1e-9, https://databento.com/docs/conventions/common-fields-enums-types
FIXED: Final = Layout(
    name="databento_fixed",
    title="Databento, fixed prices in units of 1e-9",
    page=_PAGE,
    checked="the vendor's page",
    marks=_MARKS,
    columns={"ts": ("ts_event",), "ticker": ("symbol",)},
    applies=_has_fixed_prices,
    label="start",
    price_divisor=1e9,
    adjusted=False,
)
PRETTY: Final = Layout(
    name="databento",
    title="Databento, pretty prices",
    page=_PAGE,
    checked="the vendor's page",
    marks=_MARKS,
    columns={"ts": ("ts_event",), "ticker": ("symbol",)},
    label="start",
    adjusted=False,
)
