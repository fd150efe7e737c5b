"""From bars to the columns of a model's input. Pure: a frame in, a frame out.

What a feature is stands in `model.feature`, the 31 that are ours in `model.definitions`. A user's own features stand
beside them in a `FeatureTable`.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from hftcl.model.across import compare_minutes
from hftcl.model.definitions import DEFINITIONS_VERSION, FEATURES
from hftcl.model.feature import Feature, build_value, list_columns
from hftcl.model.grid import MOST_MINUTES, VOLATILITY_MINUTES, MinuteGrid, build_grid
from hftcl.model.peers import LOG_UNIT

# With what a user's file and a script from outside import from here, as the documentation shows.
__all__ = [
    "FEATURES",
    "FEATURE_NAMES",
    "OUR_TABLE",
    "WARMUP_SESSIONS",
    "Feature",
    "FeatureTable",
    "build_documentation",
    "build_matrix",
    "ctx",
    "evaluate",
    "features",
    "hash_definitions",
    "is_known",
]

_CHUNK_ROWS: Final = 1_000_000  # bounds the memory of intermediate columns; 10 tickers x 60 sessions are one chunk

# Drawn from the table: their order is that of a model's columns.
FEATURE_NAMES: Final = tuple(feature.name for feature in FEATURES)
WARMUP_SESSIONS: Final = max(feature.sessions for feature in FEATURES)
"""Whole sessions before a bar that `features` must be given to find the same values as from all history."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureTable:
    """The features in force. chosen: what a model is trained on, in its order. known: what is computed for each bar.

    Ours are always known, and those of the user's files too that are dropped, so that a model of before serves on, and
    defends itself, while a new set is tried.
    """

    chosen: tuple[Feature, ...] = FEATURES
    known: tuple[Feature, ...] = FEATURES

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the chosen ones."""
        return tuple(feature.name for feature in self.chosen)


def ctx(ticker: str, feature: str) -> pl.Expr:
    """Return what one of our features was of a context ticker in the same minute, for the expression of a feature.

    ticker: one of `[market] context`. The value is null in a minute in which that ticker has no bar, and there a bot
    opens nothing. Raises ValueError for a feature that is not ours, or that reads other tickers itself.

    >>> ctx("SPY", "ret_5").meta.root_names()
    ['SPY ret_5']
    """
    alone = [known.name for known in FEATURES if known.group != "watchlist"]
    if feature not in alone:
        raise ValueError(f"ctx({ticker!r}, {feature!r}): of a context ticker these can be read: {', '.join(alone)}.")
    return pl.col(f"{ticker} {feature}")


OUR_TABLE: Final = FeatureTable()
"""What is in force where no setting says otherwise."""


def features(bars: pl.DataFrame, table: tuple[Feature, ...] = FEATURES, days: Iterable[date] = ()) -> pl.DataFrame:
    """One Float32 column per feature, in the order of `table`, row for row with `bars` in the order they came.

    bars: clean bars of any number of tickers and sessions, split-adjusted, in any order: ticker, ts (start of the
        minute, UTC), session, open, high, low, close, volume, and `minute` (from the session's open); without it,
        minutes are counted from the session's first bar of any ticker. Sessions must be whole up to the newest bar.
        Beside them what the features read, `list_columns`.
    days: sessions that count as such though none of these tickers had a bar in them.
    A value uses no bar after its own, so later bars never change it, to the bit. Null where it is not known: in the
    first `lookback` minutes of a ticker's session, without the earlier sessions it reads, or for a division by a
    volatility of 0. Never NaN or infinite. Raises ValueError for bars that are not clean (see `grid.build_grid`).

    >>> from datetime import UTC, date, datetime, timedelta
    >>> bars = pl.DataFrame({
    ...     "ticker": ["AAPL"] * 3,
    ...     "ts": [datetime(2026, 1, 5, 14, 30, tzinfo=UTC) + timedelta(minutes=n) for n in range(3)],
    ...     "session": [date(2026, 1, 5)] * 3,
    ...     "minute": [0, 1, 2],
    ...     "open": [100.0, 101.0, 102.0],
    ...     "high": [101.0, 102.0, 103.0],
    ...     "low": [100.0, 101.0, 102.0],
    ...     "close": [101.0, 102.0, 103.0],
    ...     "volume": [1000.0, 1000.0, 1000.0],
    ... })
    >>> features(bars).shape, features(bars).columns[0]
    ((3, 31), 'ret_1')
    """
    if bars.is_empty():
        return pl.DataFrame(schema={feature.name: pl.Float32 for feature in table})
    return evaluate(build_grid(bars, list_columns(table), days), table)


def evaluate(grid: MinuteGrid, table: tuple[Feature, ...]) -> pl.DataFrame:
    """Return the columns of `table` for the grid's bars, in the order of the bars; `prove` also plants a leak here."""
    return _put_in_order(_place_across(_evaluate_seen(grid, table), table), grid)


def evaluate_expressions(grid: MinuteGrid, table: Sequence[Feature]) -> pl.DataFrame:
    """Return the same without comparing tickers: of a feature across them, what is to be compared."""
    return _put_in_order(_evaluate_seen(grid, table), grid)


_KEYS: Final = ("seen", "session_no", "minute")


def _evaluate_seen(grid: MinuteGrid, table: Sequence[Feature]) -> pl.DataFrame:
    columns = [build_value(feature).over("part").alias(feature.name) for feature in table]
    return pl.concat([chunk.select(*_KEYS, *columns).filter("seen") for chunk in _cut_chunks(grid.frame)])


def _put_in_order(by_row: pl.DataFrame, grid: MinuteGrid) -> pl.DataFrame:
    """Return the rows of minutes with a bar in the order of the bars, without the keys."""
    by_row = by_row.drop(_KEYS)
    if (np.diff(grid.rows) > 0).all():
        return by_row
    place = np.empty(grid.rows.size, dtype=np.int64)
    place[np.argsort(grid.rows)] = np.arange(grid.rows.size)
    return by_row.select(pl.all().gather(pl.Series(place)))


def _place_across(rows: pl.DataFrame, table: tuple[Feature, ...]) -> pl.DataFrame:
    """Put each feature that is one across tickers in the place of its expression's value."""
    crossing = [feature for feature in table if feature.across]
    if not crossing:
        return rows
    at = rows.select(pl.col("session_no").cast(pl.Int64) * MOST_MINUTES + pl.col("minute")).to_series().to_numpy()
    return rows.with_columns(
        pl.Series(
            feature.name,
            compare_minutes(rows[feature.name].to_numpy().astype(np.float64), at, feature.across).astype(np.float32),
            nan_to_null=True,
        )
        for feature in crossing
    )


def _cut_chunks(frame: pl.DataFrame) -> list[pl.DataFrame]:
    """Cut between parts, so that no window is cut."""
    starts = frame.select((pl.col("age") == 0).arg_true()).to_series().to_numpy()
    after = np.searchsorted(starts, np.arange(_CHUNK_ROWS, frame.height, _CHUNK_ROWS))
    cuts = sorted({0, *(int(starts[i]) for i in after if i < starts.size), frame.height})
    return [frame.slice(begin, end - begin) for begin, end in pairwise(cuts)]


def hash_definitions(table: tuple[Feature, ...] = FEATURES) -> str:
    """SHA-256, hexadecimal, over what the columns mean: names, order, look-backs, formulae, version and units.

    The formula's text, not polars' form of the expression, which changes with polars: what a new polars does to the
    values is for the model's canary rows to tell.

    >>> len(hash_definitions())
    64
    """
    meaning = {
        "version": DEFINITIONS_VERSION,
        "log_unit": LOG_UNIT,
        "volatility_minutes": VOLATILITY_MINUTES,
        # The formula of a user's feature is what its author says it is; the file itself cannot be wrong about that.
        "features": [[f.name, f.lookback, f.sessions, f.formula, *filter(None, [f.across, f.source])] for f in table],
    }
    return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()


def build_documentation() -> str:
    """Return the table of docs/features.md, as Markdown; docs/features.md says how to put it there."""
    head = ["| # | name | formula | look-back | reason |", "| --- | --- | --- | --- | --- |"]
    return (
        "\n".join([*head, *(_describe_feature(number, feature) for number, feature in enumerate(FEATURES, 1))]) + "\n"
    )


def _describe_feature(number: int, feature: Feature) -> str:
    sessions = {0: "", 1: ", previous session"}.get(feature.sessions, f", {feature.sessions} earlier sessions")
    formula = feature.formula.replace("|", "\\|")
    return f"| {number} | `{feature.name}` | {formula} | {feature.lookback} min{sessions} | {feature.reason} |"


def build_matrix(rows: pl.DataFrame, names: Sequence[str] = FEATURE_NAMES) -> npt.NDArray[np.float32]:
    """Return the features `names` of `rows` as a C-ordered float32 array, shape (n, k), in the order of the names."""
    # Not by `select`, whose query takes longer than a minute's rows.
    return np.ascontiguousarray(rows[list(names)].to_numpy(), dtype=np.float32)


def is_known(names: Sequence[str] = FEATURE_NAMES) -> pl.Expr:
    """Whether every one of these features of a row is known: only there a model is trained or decides."""
    return pl.all_horizontal(pl.col(name).is_not_null() for name in names)
