"""thinkorswim, the report of a strategy that trades on every bar and names its orders after it.

The platform exports no bars, so people let a strategy write them: an order is named `OHLCV|open|high|low|close|volume`
and the report is exported ("Show Report"). Times are in the zone that the platform is set to, so it is asked for.
https://usethinkscript.com/threads/exporting-historical-data-from-thinkorswim-for-external-analysis.507/
"""

import re
from dataclasses import replace
from typing import Final

import polars as pl

from hftcl.market.layouts import Layout
from hftcl.market.layouts.sheet import OVERFLOW, Sheet

_MARKS: Final = frozenset({"id", "strategy", "side", "amount", "price", "date/time"})
_BAR: Final = re.compile(r"\((S?OHLC[VP]*)\|([^)]*)\)")  # "kg_EveryTickSOHLCP(SOHLCP|AAPL|1|2|1|2|1)"
_LETTERS: Final = {"O": "open", "H": "high", "L": "low", "C": "close", "V": "volume"}


def _find_key(sheet: Sheet) -> str:
    """Return which figures an order's name holds, "OHLCV" or another; "" where the sheet is no such report."""
    if not sheet.header or not {cell.strip().lower() for cell in sheet.header[0]} >= _MARKS:
        return ""
    return next((match[1] for row in sheet.sample for cell in row if (match := _BAR.search(cell))), "")


def _reshape(sheet: Sheet) -> Sheet:
    """Return one row a bar: the orders that are named after one; those that close, and the sums below, are none."""
    plain = {name.strip().lower(): name for name in sheet.columns}
    key = _find_key(sheet)
    bar = pl.col(plain["strategy"]).str.extract(_BAR.pattern, 2).str.split("|")
    figures = [bar.list.get(n, null_on_oob=True).alias(_LETTERS[c]) for n, c in enumerate(key) if c in _LETTERS]
    stamp = pl.col(plain["date/time"]).str.replace(",", "", literal=True).alias("ts")
    names = ("ts", *(_LETTERS[c] for c in key if c in _LETTERS))
    frame = sheet.frame.filter(bar.is_not_null()).select(stamp, *figures, pl.lit(None, pl.String).alias(OVERFLOW))
    return replace(sheet, frame=frame, columns=names, header=(names,))


LAYOUT: Final = Layout(
    name="thinkorswim",
    title="thinkorswim, report of a strategy that writes each bar",
    page="https://usethinkscript.com/threads/exporting-historical-data-from-thinkorswim-for-external-analysis.507/",
    checked="files in public code",
    files=r"^StrategyReports_(?P<ticker>[A-Za-z0-9.\-]+?)_\d",
    applies=lambda sheet: bool(_find_key(sheet)),
    reshape=_reshape,
    label="start",
    date_order="mdy",
    advice="Let the strategy name its orders OHLCV|open|high|low|close|volume, which has the volume too.",
)
