"""Splits of shares: bars in the shares of one day, and the splits that no table knows. Pure."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from hftcl.errors import SourceError
from hftcl.market.bars import BAR_SCHEMA, PRICES, Finding
from hftcl.market.columns import Nature, find_nature

if TYPE_CHECKING:
    from hftcl.market.sources import Split

# Whole numbers that boards choose; 3:2 and the like are within what a share moves in a night.
_SPLIT_RATIOS: Final = (2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 40, 50, 100)
_SPLIT_TOLERANCE: Final = 0.10  # the ordinary overnight return on top of a split; a move of 40 % is no 2:1 split
_LEAST_SPLIT: Final = 1.5  # below what looks like the smallest of them, 2 less the tolerance
_MOST_SHARES: Final = 1000  # for one; the largest known splits, either way, are of some hundreds
_EDGE_BARS: Final = 5  # the median of so many bars on each side of the night: one bad bar makes no split
_NO_EDGES: Final = pl.DataFrame(
    schema={
        **{name: BAR_SCHEMA[name] for name in ("ticker", "session", "ts")},
        "bars": pl.UInt32,
        "first": pl.Float64,
        "last": pl.Float64,
    }
)


def adjust_for_splits(bars: pl.DataFrame, splits: Sequence["Split"]) -> pl.DataFrame:
    """Return `bars` (BAR_SCHEMA) with prices and volumes in the shares of each ticker's last session.

    Before a split's execution date prices are divided by its ratio and volumes multiplied, also those of further
    columns (`market.columns`). A split after the ticker's last session changes nothing: it has not happened yet. Raises
    SourceError for a ratio outside 1/1000 to 1000.

    >>> adjust_for_splits(BAR_SCHEMA.to_frame(), ()).height
    0
    """
    if not splits:
        return bars
    names = ("ticker", "execution_date", "ratio")
    table = pl.DataFrame([(s.ticker, s.execution_date, s.ratio) for s in splits], schema=names, orient="row")
    table = table.cast({"ticker": pl.String, "execution_date": pl.Date, "ratio": pl.Float64}).unique()
    absurd = table.filter(~pl.col("ratio").is_between(1 / _MOST_SHARES, _MOST_SHARES))
    if absurd.height:
        row = absurd.row(0, named=True)
        raise SourceError(
            f"A split of {row['ticker']} on {row['execution_date']} makes {row['ratio']:g} shares of one, which no "
            f"company has done: 1/{_MOST_SHARES} to {_MOST_SHARES} is believed. Correct the split table of the source."
        )
    last = bars.group_by("ticker").agg(pl.col("session").max().alias("until"))
    table = table.join(last, on="ticker").filter(pl.col("execution_date") <= pl.col("until"))
    if table.is_empty():
        return bars
    later = pl.col("ratio").reverse().cum_prod().reverse().over("ticker")
    factors = table.sort("ticker", "execution_date").select("ticker", "execution_date", later.alias("_factor"))
    days = bars.select("ticker", "session").unique().sort("ticker", "session")
    factor_of_day = days.sort("session").join_asof(
        factors.sort("execution_date"),
        left_on="session",
        right_on="execution_date",
        by="ticker",
        strategy="forward",
        allow_exact_matches=False,
        check_sortedness=False,
    )
    factor_of_day = factor_of_day.select("ticker", "session", "_factor")  # no column of bars begins with a "_"
    adjusted = bars.join(factor_of_day, on=["ticker", "session"], how="left", maintain_order="left")
    factor = pl.col("_factor").fill_null(1.0)
    natures = {name: find_nature(name) for name in bars.columns if name not in BAR_SCHEMA}
    prices = (*PRICES, *(name for name, nature in natures.items() if nature is Nature.PRICE))
    volumes = ("volume", *(name for name, nature in natures.items() if nature is Nature.VOLUME))
    return adjusted.with_columns(pl.col(prices) / factor, pl.col(volumes) * factor).select(bars.columns)


def find_unannounced_splits(bars: pl.DataFrame, splits: Sequence["Split"]) -> tuple[Finding, ...]:
    """Return the overnight jumps near a whole ratio, either way, that remain after adjusting unadjusted `bars`.

    `session` of a finding is the first after the jump, `count` the bars of that ticker before it. Compared are the
    median closes of the last and the first five bars around each night. Ratios start at 2: news moves a share by a
    third, and such a move is a return.
    """
    adjusted = adjust_for_splits(bars, splits)
    in_order = adjusted["ts"].is_sorted() and _is_of_one(adjusted["ticker"])  # the usual case: to sort takes longer
    edges = find_edges(adjusted if in_order else adjusted.sort("ticker", "ts"))
    if not has_step(edges, _LEAST_SPLIT):  # the usual case: to compare with every ratio takes longer
        return ()
    nights = (
        edges.with_columns((pl.col("last").shift(1) / pl.col("first")).over("ticker").alias("ratio"))
        .with_columns((pl.col("bars").cum_sum() - pl.col("bars")).over("ticker").alias("before"))
        .filter(pl.max_horizontal("ratio", 1 / pl.col("ratio")) > _LEAST_SPLIT)
    )
    return tuple(
        Finding(
            row["ticker"],
            "unannounced_split",
            row["before"],
            row["ts"],
            row["session"],
            f"the price changed by a factor of {1 / row['ratio']:.3g} over the night before {row['session']}",
        )
        for row in nights.filter(looks_like_split(pl.col("ratio"))).iter_rows(named=True)
    )


def find_edges(bars: pl.DataFrame) -> pl.DataFrame:
    """Return a row for each ticker's session: ticker, session, ts of its first bar, bars, and medians `first`, `last`.

    The medians are those of its first and its last five closes. bars: BAR_SCHEMA, sorted by ticker and ts.

    >>> find_edges(BAR_SCHEMA.to_frame()).columns
    ['ticker', 'session', 'ts', 'bars', 'first', 'last']
    """
    if bars.is_empty():
        return _NO_EDGES
    days = bars["session"].cast(pl.Int64).to_numpy()
    begins = np.concatenate([[True], days[1:] != days[:-1]])
    if not _is_of_one(bars["ticker"]):
        begins |= (bars["ticker"] != bars["ticker"].shift(1)).fill_null(value=True).to_numpy()
    starts = np.flatnonzero(begins)
    ends = np.append(starts[1:], bars.height)
    closes = bars["close"].to_numpy()
    reach = np.arange(_EDGE_BARS)
    first = np.median(closes[np.minimum(starts[:, None] + reach, closes.size - 1)], axis=1)
    last = np.median(closes[np.maximum(ends[:, None] - 1 - reach, 0)], axis=1)
    for n in np.flatnonzero(ends - starts < _EDGE_BARS):  # a session with fewer bars has them all on both sides
        first[n] = last[n] = np.median(closes[starts[n] : ends[n]])
    return bars.select("ticker", "session", "ts")[starts].with_columns(
        pl.Series("bars", ends - starts, dtype=pl.UInt32), pl.Series("first", first), pl.Series("last", last)
    )


def _is_of_one(tickers: pl.Series) -> bool:
    """Whether all are the same."""
    return tickers.is_empty() or bool((tickers == tickers[0]).all())


def has_step(edges: pl.DataFrame, factor: float) -> bool:
    """Whether some night's price changed by more than `factor`, either way; also where two tickers meet. Quick.

    edges: as `find_edges` gives them.
    """
    first, last = edges["first"].to_numpy()[1:], edges["last"].to_numpy()[:-1]
    return bool(((first > factor * last) | (last > factor * first)).any())


def drop_past(bars: pl.DataFrame, jumps: Sequence[Finding]) -> pl.DataFrame:
    """Return the rows of `bars` (ticker, session) that lie before none of `jumps`, as `find_unannounced_splits` has."""
    for jump in jumps:
        bars = bars.filter((pl.col("ticker") != jump.ticker) | (pl.col("session") >= jump.session))
    return bars


def name_parts(bars: pl.DataFrame, jumps: Sequence[Finding]) -> pl.DataFrame:
    """Return `bars` with tickers of their own for what lies before each of `jumps`: nothing is read across one."""
    later = pl.sum_horizontal(
        pl.lit(0),
        *((pl.col("ticker") == jump.ticker) & (pl.col("session") < jump.session) for jump in jumps),
    )
    # a zero byte: a ticker has none, and the parts keep the ticker's place among the others
    name = pl.when(later > 0).then(pl.format("{}\0{}", "ticker", later)).otherwise("ticker")
    return bars.with_columns(name.alias("ticker")) if jumps else bars


def looks_like_split(ratio: pl.Expr) -> pl.Expr:
    """Whether `ratio`, of the price before a night to the one after it, is near a whole number from 2, either way.

    >>> pl.DataFrame({"ratio": [2.03, 0.1, 1.4]}).select(looks_like_split(pl.col("ratio"))).to_series().to_list()
    [True, True, False]
    """
    size = pl.max_horizontal(ratio, 1 / ratio)
    return pl.any_horizontal((size / whole).log().abs() < _SPLIT_TOLERANCE for whole in _SPLIT_RATIOS)
