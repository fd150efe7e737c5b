"""yfinance, as `yf.download(...).to_csv()` writes it: a header of three lines, one column a price and ticker.

https://ranaroussi.github.io/yfinance/reference/api/yfinance.download.html
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import polars as pl

from hftcl.market.layouts import Layout
from hftcl.market.layouts.sheet import OVERFLOW, Sheet

_PRICES: Final = ("Open", "High", "Low", "Close", "Volume")
_PAIR: Final = re.compile(r"^\('([^']*)', '([^']*)'\)$")


def _find_pairs(sheet: Sheet) -> dict[str, tuple[str, str]]:
    """Return column -> (price, ticker); empty where the sheet is not of this form."""
    if not sheet.text:
        cells = {name: _PAIR.match(name) for name in sheet.columns}
        lines = {name: match.groups() for name, match in cells.items() if match}
    elif len(sheet.header) > 1:
        rows = [(*row, *[""] * (len(sheet.columns) - len(row))) for row in sheet.header[:2]]
        lines = {name: (rows[0][n], rows[1][n]) for n, name in enumerate(sheet.columns) if n}
    else:
        return {}
    pairs: dict[str, tuple[str, str]] = {}
    for name, (one, other) in lines.items():
        if one in _PRICES and other:
            pairs[name] = (one, other)
        elif other in _PRICES and one:
            pairs[name] = (other, one)
    return pairs if {price for price, _ in pairs.values()} >= set(_PRICES[:4]) else {}


def _reshape(sheet: Sheet) -> Sheet:
    """Return one row a bar and ticker; a minute in which a ticker has no cell has no bar of it."""
    pairs = _find_pairs(sheet)
    stamp = next(name for name in sheet.columns if name not in pairs)
    tickers = list(dict.fromkeys(ticker for _, ticker in pairs.values()))
    frames = [_select_ticker(sheet, stamp, ticker, pairs) for ticker in tickers]
    names = ("Ticker", "Datetime", *_PRICES)
    return replace(sheet, frame=pl.concat(frames), columns=names, header=(names,))


def _select_ticker(sheet: Sheet, stamp: str, ticker: str, pairs: dict[str, tuple[str, str]]) -> pl.LazyFrame:
    mine = {price: name for name, (price, owner) in pairs.items() if owner == ticker}
    values: Sequence[pl.Expr] = [
        (pl.col(mine[price]) if price in mine else pl.lit(None)).alias(price) for price in _PRICES
    ]
    rest = [pl.col(OVERFLOW)] if sheet.text else []
    rows = sheet.frame.select(pl.lit(ticker).alias("Ticker"), pl.col(stamp).alias("Datetime"), *values, *rest)
    return rows.filter(~pl.all_horizontal(pl.col(price).is_null() for price in _PRICES))


LAYOUT: Final = Layout(
    name="yfinance",
    title="yfinance, one or several tickers, grouped by column or by ticker",
    page="https://ranaroussi.github.io/yfinance/reference/api/yfinance.download.html",
    checked="the vendor's page",
    columns={"ts": ("datetime",), "ticker": ("ticker",)},
    applies=lambda sheet: bool(_find_pairs(sheet)),
    reshape=_reshape,
    label="start",
)
