"""What a feature is: a column of the model's input, said by an expression over the minute grid. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from hftcl.model.grid import GRID_COLUMNS, TRAINING_COLUMNS


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Feature:
    """One column of the model's input.

    expr: polars expression over one part (a ticker's session) of the minute grid. It reads the bar's row and at most
        `lookback` rows before it, or 30: the bot evaluates it on no more of them. Further numbers of the bars, which
        `[market] columns` names, are read as `pl.col("vwap")`.
    lookback: minutes before the bar that must exist in this session; the feature is null in the first `lookback`
        minutes after the ticker's first bar.
    sessions: earlier sessions that it reads, and so crosses a session boundary, which its name then says.
    across: "" for the expression's value itself; "rank" or "zscore" for its place among the tickers of the watchlist
        that have a bar and a value at that minute, see `model.across`; null where no other has.
    source: of one that stands in a user's file: SHA-256 of that file; "" for ours. `own_features` fills it in.

    >>> body = Feature(name="body", group="mine", expr=pl.col("close") - pl.col("open"), lookback=0, formula="c - o",
    ...     reason="An example.")
    >>> body.columns
    ()
    """

    name: str
    group: str
    expr: pl.Expr
    lookback: int
    formula: str
    reason: str
    sessions: int = 0
    across: str = ""
    source: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """What it reads beside the columns of the grid that the bot has too, sorted."""
        return tuple(sorted({*self.expr.meta.root_names()} - (GRID_COLUMNS - TRAINING_COLUMNS)))


def list_columns(table: Sequence[Feature]) -> tuple[str, ...]:
    """Return what the features read beside the columns of the grid, each once, sorted.

    >>> list_columns([])
    ()
    """
    return tuple(sorted({column for feature in table for column in feature.columns}))


def build_value(feature: Feature) -> pl.Expr:
    """Return the feature's expression, Float32, null where its look-back reaches before the ticker's first bar."""
    return pl.when(pl.col("age") >= feature.lookback).then(feature.expr).cast(pl.Float32)
