"""The bar schema, and what turns raw bars into clean ones with findings. Pure.

Called by `store`; the other rooms know the schema from here.
"""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

import polars as pl

TS: Final = pl.Datetime("us", "UTC")

RAW_SCHEMA: Final = pl.Schema(
    {
        "ticker": pl.String,
        "ts": TS,
        "open": pl.Float64,
        "high": pl.Float64,
        "low": pl.Float64,
        "close": pl.Float64,
        "volume": pl.Float64,
    }
)
"""Bars as a source delivers them: `ts` is the START of the minute, UTC."""

BAR_SCHEMA: Final = pl.Schema(
    {
        "ticker": pl.String,
        "ts": TS,
        "session": pl.Date,
        "minute": pl.Int32,
        "session_minutes": pl.Int32,
        "regular": pl.Boolean,
        "open": pl.Float64,
        "high": pl.Float64,
        "low": pl.Float64,
        "close": pl.Float64,
        "volume": pl.Float64,
    }
)
"""Clean bars, sorted by ticker and ts: `minute` counts from the session's open, which is minute 0, and
`session_minutes` is the session's length (390 on a full day, 210 on a half day). Prices as traded, or adjusted for
splits where a function says so."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Bars that were dropped, merged or suspected, and why: `count` bars of `ticker`, the first at `first` (UTC)."""

    ticker: str
    reason: str
    count: int
    first: datetime | None = None
    session: date | None = None
    detail: str = ""
