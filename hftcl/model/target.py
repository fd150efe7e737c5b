"""What the model learns to predict: the next minutes' return in units of volatility. Pure: a frame in, a frame out."""

import polars as pl

from hftcl.market.bars import TS
from hftcl.model.grid import MinuteGrid, build_grid


def compute_targets(bars: pl.DataFrame, horizon_minutes: int) -> pl.DataFrame:
    """Return [target Float32, label_end Datetime us UTC], row for row with `bars`; both null where undefined.

    exec(m) is the open of the ticker's first bar at or after minute m of the same session: an order that waits for a
    minute without trades fills at the next trade. With t the bar's minute and h the horizon,

        target(t) = (exec(t + 1 + h) / exec(t + 1) - 1) / (vol_30(t) * sqrt(h))

    so a decision on bar t trades at the next open, never at the close it was computed from, and one unit is what the
    ticker's own volatility (feature `vol_30`, known at t) leads one to expect over the horizon. `label_end` is the
    start of the bar that exec(t + 1 + h) opens: the moment at which the label is known.
    Null where either execution does not exist in the session, in the session's first 30 minutes, and where vol_30 is 0.
    Raises ValueError for a horizon below 1 or bars that are not clean. Source: docs/features.md.

    >>> from hftcl.market.bars import BAR_SCHEMA
    >>> compute_targets(BAR_SCHEMA.to_frame(), 15).columns
    ['target', 'label_end']
    """
    if horizon_minutes < 1:
        raise ValueError(f"A horizon needs at least 1 minute, got {horizon_minutes}.")
    if bars.is_empty():
        return pl.DataFrame(schema={"target": pl.Float32, "label_end": TS})
    return evaluate_target(build_grid(bars), horizon_minutes)


def evaluate_target(grid: MinuteGrid, horizon_minutes: int) -> pl.DataFrame:
    """Return what `targets` does, for the bars of a grid that there is already, in the order of those bars."""
    fills = pl.col("fill", "ts").backward_fill()
    frame = grid.frame.with_columns(fill=pl.when("seen").then("open")).select(
        "vol",
        fills.shift(-1).over("part").name.suffix("_entry"),
        fills.shift(-1 - horizon_minutes).over("part").name.suffix("_exit"),
    )
    move = pl.col("fill_exit") / pl.col("fill_entry") - 1
    scale = pl.col("vol") * horizon_minutes**0.5
    frame = frame.select(
        target=pl.when(pl.col("vol") > 0).then(move / scale).cast(pl.Float32), label_end=pl.col("ts_exit").cast(TS)
    ).with_columns(label_end=pl.when(pl.col("target").is_not_null()).then("label_end"))
    return frame.select(pl.all().gather(pl.Series(grid.rows)))
