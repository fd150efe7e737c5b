"""The bars of Polygon's answers: from JSON to a frame, quickly where every figure is a number. Pure.

A page of 50,000 bars is read into one object a bar, without a dict and its names; whatever does not fit that form, a
figure that lacks or is no number, is read bar by bar, and what is wrong with it becomes null.
Source: https://massive.com/docs/rest/stocks/aggregates/custom-bars
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import polars as pl

from hftcl.market.bars import TS
from hftcl.market.sources.transport import decode, parse_figure

# Its names of a bar's values, https://massive.com/docs/rest/stocks/aggregates/custom-bars
_FIGURES: Final = {"open": "o", "high": "h", "low": "l", "close": "c", "volume": "v"}
FURTHER: Final = {"vwap": "vw", "trades": "n"}
"""Further numbers of a bar by our names, on the same page: the volume weighted average price, and how many trades."""
_LAST_MS: Final = 253_402_300_799_999  # the end of the year 9999; what lies behind it is no time that Python knows


class Bar(msgspec.Struct, gc=False, frozen=True):
    """One bar whose every figure is a number; `t` is the START of the minute in Unix milliseconds.

    In the vendor's order: a field is looked for first behind the one before it.
    """

    v: float
    o: float
    c: float
    h: float
    l: float  # noqa: E741 - the vendor's name of the low
    t: int


class WideBar(Bar, gc=False, frozen=True):
    """One bar with its further numbers."""

    vw: float
    n: float


class Bars(list[Bar]):
    """The rows of a page, all of them a `Bar`, or all of them a `WideBar`."""


class _Page(msgspec.Struct):
    """What an answer with bars says; `extra` names are not looked at."""

    results: list[Bar]
    status: Any = msgspec.UNSET
    ticker: Any = msgspec.UNSET
    adjusted: Any = msgspec.UNSET
    next_url: Any = msgspec.UNSET
    resultsCount: Any = msgspec.UNSET  # noqa: N815 - the vendor's name
    count: Any = msgspec.UNSET
    error: Any = msgspec.UNSET
    message: Any = msgspec.UNSET
    request_id: Any = msgspec.UNSET


class _WidePage(_Page):
    """The same where further numbers are wanted."""

    results: list[WideBar]  # type: ignore[assignment]


_DECODER: Final = msgspec.json.Decoder(_Page)
_WIDE_DECODER: Final = msgspec.json.Decoder(_WidePage)


def decode_page(body: bytes, columns: Sequence[str] = ()) -> dict[str, Any] | None:
    """Return the JSON object that `body` is, its `results` as `Bars` where they are; None for no object.

    columns: of FURTHER, those that are wanted.
    """
    try:
        page = _WIDE_DECODER.decode(body) if columns else _DECODER.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return decode(body)
    found = {name: getattr(page, name) for name in _Page.__struct_fields__[1:]}
    known = {name: value for name, value in found.items() if value is not msgspec.UNSET}
    return {**known, "results": Bars(page.results)}


def build_frame(ticker: str, rows: Sequence[Any], columns: Sequence[str] = ()) -> pl.DataFrame:
    """Return rows of a page (Bars, or dicts with a number `t`) as RAW_SCHEMA and the columns: t becomes ts."""
    theirs = {**_FIGURES, **{name: FURTHER[name] for name in columns}}
    if isinstance(rows, Bars):
        stamps = [bar.t for bar in rows]
        figures = {
            "open": pl.Series([bar.o for bar in rows], dtype=pl.Float64),
            "high": pl.Series([bar.h for bar in rows], dtype=pl.Float64),
            "low": pl.Series([bar.l for bar in rows], dtype=pl.Float64),
            "close": pl.Series([bar.c for bar in rows], dtype=pl.Float64),
            "volume": pl.Series([bar.v for bar in rows], dtype=pl.Float64),
            **{name: pl.Series([getattr(bar, theirs[name]) for bar in rows], dtype=pl.Float64) for name in columns},
        }
        if not stamps or (min(stamps) >= 0 and max(stamps) <= _LAST_MS):
            ts = (pl.Series(stamps, dtype=pl.Int64) * 1000).cast(TS)
            return _build_frame(ticker, ts, figures)
    else:
        stamps = [row["t"] for row in rows]
        figures = {column: _parse_figures([row.get(name) for row in rows]) for column, name in theirs.items()}
    known = [int(stamp) * 1000 if 0 <= stamp <= _LAST_MS else None for stamp in stamps]
    return _build_frame(ticker, pl.Series(known, dtype=pl.Int64).cast(TS), figures)


def _build_frame(ticker: str, ts: pl.Series, figures: dict[str, pl.Series]) -> pl.DataFrame:
    name = pl.repeat(ticker, len(ts), dtype=pl.String, eager=True)
    return pl.DataFrame({"ticker": name, "ts": ts, **figures})


def _parse_figures(values: list[Any]) -> pl.Series:
    """Return a column as Float64; what is no number is null."""
    if set(map(type, values)) <= {int, float}:
        try:
            return pl.Series(values, dtype=pl.Float64, strict=False)
        except OverflowError:
            return pl.Series([parse_figure(value) for value in values], dtype=pl.Float64)
    return pl.Series([parse_figure(value) for value in values], dtype=pl.Float64)
