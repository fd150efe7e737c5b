"""The hand: from prediction to target position. Pure.

One truth for exam, backtest and bot: called by `learning.loop` before the exam and by the bot once a minute.
"""

import hashlib
import math
from typing import Final

import numpy as np
import polars as pl

from hftcl.errors import UndefinedStatisticError, UsageError
from hftcl.market.bars import TS

POSITION_SCHEMA: Final = pl.Schema([("ticker", pl.String), ("ts", TS), ("position", pl.Float64)])
"""Target positions: a signed fraction of capital, decided on the bar that starts at `ts`."""

_HASHED_ROW: Final = np.dtype([("ts", "<i8"), ("position", "<f8")])


def target_positions(
    predictions: pl.DataFrame,
    *,
    threshold: float,
    horizon_minutes: int,
    weight: float,
    flat_minutes_before_close: int,
) -> pl.DataFrame:
    """Return the target position of each bar, row for row with `predictions`, as `POSITION_SCHEMA`.

    predictions: ticker, ts (UTC, start of the minute), session, minute (0 at the session's open), session_minutes,
        prediction (float; null or not finite where the model could not decide). Any row order; one row a bar.
    The signal of a bar is the sign of its prediction where |prediction| > threshold, else 0. The position is
        weight * (sum of the signals of the last `horizon_minutes` minutes, this one included) / horizon_minutes,
    by time and not by rows: a minute without a bar has no signal. A session starts from nothing. The position is 0
    where the order, which fills at the open of minute + 1, would fill `flat_minutes_before_close` before the close or
    later. |position| <= weight, so that N tickers with weight 1/N never exceed a gross of 1.
    The signals are summed as integers: the bars known so far give the same bits as the whole session does later.
    Raises UsageError for a threshold that is negative or not finite, or a horizon below one minute.
    Source: overlapping holding periods after Jegadeesh and Titman (1993), "Returns to Buying Winners and Selling
    Losers", J. Finance 48(1).
    """
    if not (math.isfinite(threshold) and threshold >= 0 and horizon_minutes >= 1):
        raise UsageError(
            f"A position needs a finite threshold of 0 or more and a horizon of 1 minute or more, got a threshold of "
            f"{threshold} and a horizon of {horizon_minutes}."
        )
    prediction = pl.col("prediction").cast(pl.Float64)
    decided = prediction.is_finite() & (prediction.abs() > threshold)
    signal = pl.when(decided).then(prediction.sign()).otherwise(0.0).cast(pl.Int64)
    held = signal.rolling_sum_by(pl.col("minute").cast(pl.Int64), window_size=f"{horizon_minutes}i")
    share = held.over("ticker", "session").cast(pl.Float64) / horizon_minutes
    fills_in_time = pl.col("minute") + 1 < pl.col("session_minutes") - flat_minutes_before_close
    position = pl.when(fills_in_time).then(share * weight).otherwise(0.0)
    return predictions.select("ticker", "ts", position.alias("position"))


def positions_sha256(positions: pl.DataFrame) -> str:
    """Return the SHA-256, in hexadecimal, of target positions in any row order.

    positions: ticker, ts (UTC microseconds), position. The rows are sorted by ticker (bytes of its UTF-8), then ts.
    What is hashed, for each ticker in that order: its UTF-8 bytes, one zero byte, the number of its rows as a
    little-endian int64, then for each row ts as a little-endian int64 (microseconds since 1970-01-01 UTC) and the
    position as a little-endian IEEE 754 double. -0.0 is hashed as 0.0. No rows: the SHA-256 of nothing.
    Raises UndefinedStatisticError where a position is missing or not finite: such a hash would compare nothing.
    """
    rows = positions.select("ticker", "ts", pl.col("position").cast(pl.Float64)).sort("ticker", "ts")
    if not rows["position"].is_finite().fill_null(value=False).all():
        raise UndefinedStatisticError("Positions that are missing or not finite have no hash. Score the model again.")
    digest = hashlib.sha256()
    for (ticker,), part in rows.group_by("ticker", maintain_order=True):
        block = np.empty(part.height, dtype=_HASHED_ROW)
        block["ts"] = part["ts"].dt.epoch("us").to_numpy()
        block["position"] = part["position"].to_numpy() + 0.0  # -0.0 + 0.0 is 0.0: a flat book has one hash
        digest.update(str(ticker).encode() + b"\0" + part.height.to_bytes(8, "little") + block.tobytes())
    return digest.hexdigest()
