"""What features read of tickers that are seen and not traded, as `features.ctx` names it. Pure.

Such a value is a further column of each traded ticker's bar, "SPY ret_5": what that feature of the other ticker was in
the same minute, and null where the other had no bar in it. Each context ticker is computed by itself, in batch and
live alike, so that the two agree to the bit.
"""

from collections.abc import Mapping, Sequence

import polars as pl

from hftcl.market.bars import BAR_SCHEMA, Finding
from hftcl.market.splits import name_parts
from hftcl.model.feature import Feature, list_columns
from hftcl.model.features import FEATURES, features

_KEYS = ("session", "ts")


def list_context(columns: Sequence[str]) -> dict[str, tuple[Feature, ...]]:
    """Return the context tickers that `columns` name, each with the features of it.

    >>> {ticker: [feature.name for feature in table] for ticker, table in list_context(["vwap", "SPY ret_5"]).items()}
    {'SPY': ['ret_5']}
    """
    known = {feature.name: feature for feature in FEATURES}
    reads: dict[str, tuple[Feature, ...]] = {}
    for column in columns:
        ticker, _, name = column.partition(" ")
        if name:
            reads[ticker] = (*reads.get(ticker, ()), known[name])
    return reads


def attach_context(
    bars: pl.DataFrame,
    columns: Sequence[str],
    context: Sequence[str],
    jumps: Sequence[Finding] = (),
    *,
    traded: Sequence[str] = (),
) -> pl.DataFrame:
    """Return the bars of all tickers but those of `context`, with what `columns` name of these behind them.

    traded: tickers whose bars stay although they are of `context` too: an older model may have traded one.

    bars: BAR_SCHEMA and further columns, of traded and context tickers, sessions whole up to the newest bar. A session
    is one to each of them, also to a context ticker without a bar in it. jumps: as `add_features` has them.
    """
    if not context:
        return bars
    around, days, values = bars.filter(pl.col("ticker").is_in(list(context))), bars["session"].unique(), {}
    aside = pl.col("ticker").is_in([ticker for ticker in context if ticker not in traded])
    for ticker, table in list_context(columns).items():
        rows = around.filter(pl.col("ticker") == ticker).select(BAR_SCHEMA.names())
        values[ticker] = rows.select(_KEYS).hstack(features(name_parts(rows, jumps), table, days))
    return join_context(bars.filter(~aside), values)


def join_context(bars: pl.DataFrame, values: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Return `bars` with what was computed of each context ticker: session, ts and its features; null where it lacks.

    Row for row; a column that is there already is replaced.
    """
    for ticker, rows in values.items():
        names = {name: f"{ticker} {name}" for name in rows.columns if name in _FEATURE_NAMES}
        further = rows.select(*_KEYS, *(pl.col(name).cast(pl.Float64).alias(ours) for name, ours in names.items()))
        bars = bars.drop(names.values(), strict=False).join(further, on=_KEYS, how="left", maintain_order="left")
    return bars


_FEATURE_NAMES = frozenset(feature.name for feature in FEATURES)


def find_waiting(seen: pl.DataFrame, names: Sequence[str], table: Sequence[Feature]) -> frozenset[str]:
    """Return the tickers of which a model's features lack nothing but what they read of context tickers.

    seen: ticker and the features of one minute's bars. names: of the features that the model reads. table: all that
    is computed.
    """
    read = [feature for feature in table if feature.name in names]
    around = [feature.name for feature in read if list_context(list_columns([feature]))]
    if not around:
        return frozenset()
    others = [feature.name for feature in read if feature.name not in around]
    lacks = pl.any_horizontal(pl.col(around).is_null()) & pl.all_horizontal(
        pl.lit(value=True), pl.col(others).is_not_null()
    )
    return frozenset(seen.filter(lacks)["ticker"].to_list())
