"""Dukascopy, historical data export.

`Gmt time` is dd.mm.yyyy in GMT, the start of the minute; `Local time` names its offset, such as GMT+0200.
Volumes are in millions, so hardly ever whole: those of shares are refused as another unit.
https://www.dukascopy.com/swiss/english/marketwatch/historical/
"""

import re
from typing import Final

from hftcl.market.layouts import Layout
from hftcl.market.layouts.sheet import Sheet

_FILE: Final = re.compile(r"^(?P<ticker>[A-Za-z0-9.]+?)(?:\.USUSD)?_Candlestick_1_M_")
_FIGURES: Final = frozenset({"open", "high", "low", "close", "volume"})


def _is_export(sheet: Sheet) -> bool:
    """Whether the columns are theirs; "Local time" is, where the file's name is theirs too."""
    cells = {cell.strip().lower() for cell in sheet.header[0]} if sheet.header else set()
    is_named = _FILE.search(sheet.inner or sheet.path.name) is not None
    return cells >= _FIGURES and ("gmt time" in cells or ("local time" in cells and is_named))


LAYOUT: Final = Layout(
    name="dukascopy",
    title="Dukascopy, historical data export",
    page="https://www.dukascopy.com/swiss/english/marketwatch/historical/",
    checked="files in public code",
    files=_FILE.pattern,
    applies=_is_export,
    columns={"ts": ("gmt time", "local time")},
    zone="UTC",
    label="start",
    date_order="dmy",
)
