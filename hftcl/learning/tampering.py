"""Ways in which the bars after a cut may differ, for the proof that nothing before it reads them. Pure."""

from collections.abc import Callable
from typing import Final

import numpy as np
import polars as pl

from hftcl.market.bars import BAR_SCHEMA, RAW_SCHEMA, clean
from hftcl.market.sessions import Calendar

_HUGE: Final = 1000.0  # a price that no honest feature could hide: whatever reads a later bar moves far beyond rounding

Tampering = Callable[[pl.DataFrame, np.random.Generator, Calendar], pl.DataFrame]
"""Takes the bars after a cut, and returns what stands in their place; no bar at all is allowed."""


def _remove_later(bars: pl.DataFrame, random: np.random.Generator, calendar: Calendar) -> pl.DataFrame:
    return bars.clear()


def _make_huge(bars: pl.DataFrame, random: np.random.Generator, calendar: Calendar) -> pl.DataFrame:
    return bars.with_columns(pl.col(_list_figures(bars)) * _HUGE)


def _list_figures(bars: pl.DataFrame) -> list[str]:
    """Return the numbers of a bar: prices, volume, and further columns."""
    return [*RAW_SCHEMA.names()[2:], *(name for name in bars.columns if name not in BAR_SCHEMA)]


def _shuffle_later(bars: pl.DataFrame, random: np.random.Generator, calendar: Calendar) -> pl.DataFrame:
    """Deal the bars of each ticker out again over its minutes, scaled so that none stays as it was."""
    values = _list_figures(bars)
    parts = []
    for part in bars.partition_by("ticker"):
        dealt = part.select(pl.col(values) * 1.01)[random.permutation(part.height).tolist()]
        parts.append(part.with_columns(*(dealt[name] for name in values)))
    return pl.concat(parts) if parts else bars


def _make_nan(bars: pl.DataFrame, random: np.random.Generator, calendar: Calendar) -> pl.DataFrame:
    """Make every later price NaN and pass the bars through the cleaning, as a source's NaN would go."""
    parts = []
    for part in bars.partition_by("ticker"):
        faulty = part.with_columns(pl.lit(float("nan")).alias(name) for name in _list_figures(part) if name != "volume")
        sessions = calendar.list_sessions(part["session"].min(), part["session"].max())  # type: ignore[arg-type]
        columns = [name for name in part.columns if name not in BAR_SCHEMA]
        cleaned, _ = clean(faulty, sessions, ticker=str(part["ticker"][0]), columns=columns)
        parts.append(cleaned)
    return pl.concat(parts) if parts else bars


TAMPERINGS: Final[dict[str, Tampering]] = {  # ways in which the future may differ; the names stand in the report
    "nan": _make_nan,
    "huge": _make_huge,
    "shuffled": _shuffle_later,
    "removed": _remove_later,
}
