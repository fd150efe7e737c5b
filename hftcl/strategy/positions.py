"""The hand: from prediction to target position. Pure.

One truth for exam, backtest and bot: `learning.loop` calls `compute_target_positions` before the exam, and the bot
pushes the predictions of each minute into a `PositionBook`, which finds the same positions.
"""

import hashlib
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from hftcl.errors import UndefinedStatisticError, UsageError
from hftcl.market.bars import TS
from hftcl.settings import Side

POSITION_SCHEMA: Final = pl.Schema([("ticker", pl.String), ("ts", TS), ("position", pl.Float64)])
"""Target positions: a signed fraction of capital, decided on the bar that starts at `ts`."""

Weight = float | Mapping[str, float]
"""The greatest position of a ticker as a share of capital: of each, or by ticker."""

# The least and the greatest signal of each side.
_SIGNALS: Final[Mapping[str, tuple[float, float]]] = {"both": (-1.0, 1.0), "long": (0.0, 1.0), "short": (-1.0, 0.0)}

# Little-endian, whatever the machine: the same positions have the same hash everywhere.
_HASHED_ROW: Final = np.dtype([("ts", "<i8"), ("position", "<f8")])


def compute_target_positions(
    predictions: pl.DataFrame,
    *,
    threshold: float,
    horizon_minutes: int,
    weight: Weight,
    flat_minutes_before_close: int,
    side: Side = "both",
) -> pl.DataFrame:
    """Return the target position of each bar, row for row with `predictions`, as `POSITION_SCHEMA`.

    predictions: ticker, ts (UTC, start of the minute), session, minute (0 at the session's open), session_minutes,
        prediction (float; null or not finite where the model could not decide). Any row order; one row a bar.
    weight: of every ticker, or by ticker; one that is not named there has none.
    side: "long" or "short" where a signal to the other side counts as none.
    The signal of a bar is the sign of its prediction where |prediction| > threshold, else 0. The position is
        weight * (sum of the signals of the last `horizon_minutes` minutes, this one included) / horizon_minutes,
    by time and not by rows: a minute without a bar has no signal. A session starts from nothing. The position is 0
    where the order, which fills at the open of minute + 1, would fill `flat_minutes_before_close` before the close or
    later. |position| <= weight, so that N tickers with weight 1/N never exceed a gross of 1.
    The signals are summed as integers: the bars known so far give the same bits as the whole session does later.
    Raises UsageError for a threshold that is negative or not finite, or a horizon below one minute.
    Source: overlapping holding periods after Jegadeesh and Titman (1993), "Returns to Buying Winners and Selling
    Losers", J. Finance 48(1).

    >>> from datetime import UTC, datetime, timedelta
    >>> rows = pl.DataFrame({
    ...     "ticker": ["AAPL"] * 3,
    ...     "ts": [datetime(2026, 1, 5, 14, 30, tzinfo=UTC) + timedelta(minutes=n) for n in range(3)],
    ...     "session": [date(2026, 1, 5)] * 3,
    ...     "minute": [0, 1, 2],
    ...     "session_minutes": [390] * 3,
    ...     "prediction": [0.9, -0.1, 0.8],
    ... })
    >>> sized = compute_target_positions(
    ...     rows, threshold=0.5, horizon_minutes=2, weight=0.5, flat_minutes_before_close=2
    ... )
    >>> sized["position"].to_list()
    [0.25, 0.25, 0.25]
    """
    _refuse(threshold, horizon_minutes)
    minute = pl.col("minute").cast(pl.Int64)
    held = (
        _compute_signal(threshold, side)
        .rolling_sum_by(minute, window_size=f"{horizon_minutes}i")
        .over("ticker", "session")
    )
    position = _compute_position(held, horizon_minutes, _name_weight(weight), flat_minutes_before_close)
    return predictions.select("ticker", "ts", position.alias("position"))


def compute_signals(predictions: pl.Series, *, threshold: float, side: Side = "both") -> pl.Series:
    """Return the signal of each prediction, Int64 -1, 0 or 1, as `compute_target_positions` counts it.

    >>> compute_signals(pl.Series([0.9, -0.1, -0.8, None]), threshold=0.5).to_list()
    [1, 0, -1, 0]
    """
    return (
        predictions.alias("prediction").to_frame().select(_compute_signal(threshold, side)).to_series().alias("signal")
    )


@dataclass(slots=True)
class _Signals:
    """One ticker's signals that still count, oldest first, and their sum."""

    newest: tuple[date, int]
    counted: deque[tuple[int, int]] = field(default_factory=deque)
    total: int = 0


class PositionBook:
    """`compute_target_positions` as the minutes come: each row gets, to the bit, what the session so far would give it.

    The arguments are those of `compute_target_positions`, which says what they mean. Not for several threads at once.
    """

    def __init__(
        self,
        *,
        threshold: float,
        horizon_minutes: int,
        weight: Weight,
        flat_minutes_before_close: int,
        side: Side = "both",
    ) -> None:
        _refuse(threshold, horizon_minutes)
        self._horizon_minutes = horizon_minutes
        self._least, self._most = _SIGNALS[side]
        self._threshold, self._weight, self._flat_minutes = threshold, weight, flat_minutes_before_close
        self._signals: dict[str, _Signals] = {}

    def push(self, predictions: pl.DataFrame) -> pl.DataFrame:
        """Return the target positions of these rows, row for row, as `POSITION_SCHEMA`.

        predictions: the columns of `compute_target_positions`, for one minute; or, to catch up, for several, each
            ticker's rows in order of time. A ticker without a bar may have a row with a null prediction: its position
            then runs off.
        Raises ValueError for a row that is not later than the ticker's rows before: build a new book from all of them.
        """
        # By NumPy, with the operations of `_compute_signal` and `_compute_position`: for a minute's rows their
        # expressions take longer to build than to compute.
        minute, session_minutes = (
            predictions[name].to_numpy().astype(np.int64) for name in ("minute", "session_minutes")
        )
        prediction = predictions["prediction"].cast(pl.Float64).to_numpy()
        with np.errstate(invalid="ignore"):
            decided = np.isfinite(prediction) & (np.abs(prediction) > self._threshold)
        signals = np.where(decided, np.sign(prediction), 0.0).clip(self._least, self._most).astype(np.int64).tolist()
        tickers = predictions["ticker"].to_list()
        keys = (tickers, predictions["session"].to_list(), minute.tolist(), signals)
        held = np.array([self._hold(*row) for row in zip(*keys, strict=True)], dtype=np.int64)
        position = held.astype(np.float64) * (1 / self._horizon_minutes) * self._find_weights(tickers)
        fills_in_time = minute + 1 < session_minutes - self._flat_minutes
        named = pl.Series("position", np.where(fills_in_time, position, 0.0), dtype=pl.Float64)
        return pl.DataFrame([predictions["ticker"], predictions["ts"], named])

    def _find_weights(self, tickers: list[str]) -> float | npt.NDArray[np.float64]:
        weight = self._weight
        if isinstance(weight, Mapping):
            return np.array([weight.get(ticker, 0.0) for ticker in tickers], dtype=np.float64)
        return weight

    def _hold(self, ticker: str, session: date, minute: int, signal: int) -> int:
        """Count the signal and return the sum of those within the horizon."""
        signals = self._signals.get(ticker)
        if signals is not None and (session, minute) <= signals.newest:
            raise ValueError(f"{ticker} has a prediction for minute {minute} of {session} that comes late, or twice.")
        if signals is None or session > signals.newest[0]:
            signals = self._signals[ticker] = _Signals(newest=(session, minute))
        signals.newest = session, minute
        signals.counted.append((minute, signal))
        signals.total += signal
        while signals.counted[0][0] <= minute - self._horizon_minutes:
            signals.total -= signals.counted.popleft()[1]
        return signals.total


def _refuse(threshold: float, horizon_minutes: int) -> None:
    if not (math.isfinite(threshold) and threshold >= 0 and horizon_minutes >= 1):
        raise UsageError(
            f"A position needs a finite threshold of 0 or more and a horizon of 1 minute or more, got a threshold of "
            f"{threshold} and a horizon of {horizon_minutes}."
        )


def _compute_signal(threshold: float, side: Side) -> pl.Expr:
    prediction = pl.col("prediction").cast(pl.Float64)
    decided = prediction.is_finite() & (prediction.abs() > threshold)
    return pl.when(decided).then(prediction.sign()).otherwise(0.0).clip(*_SIGNALS[side]).cast(pl.Int64)


def _name_weight(weight: Weight) -> float | pl.Expr:
    if isinstance(weight, Mapping):
        return pl.col("ticker").replace_strict(dict(weight), default=0.0, return_dtype=pl.Float64)
    return weight


def _compute_position(
    held: pl.Expr, horizon_minutes: int, weight: float | pl.Expr, flat_minutes_before_close: int
) -> pl.Expr:
    fills_in_time = pl.col("minute") + 1 < pl.col("session_minutes") - flat_minutes_before_close
    # Times the reciprocal: polars divides by a number so, but not in a frame of one row, which a bot's minute may be.
    share = held.cast(pl.Float64) * (1 / horizon_minutes)
    return pl.when(fills_in_time).then(share * weight).otherwise(0.0)


def hash_positions(positions: pl.DataFrame) -> str:
    """Return the SHA-256, in hexadecimal, of target positions in any row order.

    positions: ticker, ts (UTC microseconds), position. The rows are sorted by ticker (bytes of its UTF-8), then ts.
    What is hashed, for each ticker in that order: its UTF-8 bytes, one zero byte, the number of its rows as a
    little-endian int64, then for each row ts as a little-endian int64 (microseconds since 1970-01-01 UTC) and the
    position as a little-endian IEEE 754 double. -0.0 is hashed as 0.0. No rows: the SHA-256 of nothing.
    Raises UndefinedStatisticError where a position is missing or not finite: such a hash would compare nothing.

    >>> from datetime import UTC, datetime
    >>> ts = datetime(2025, 6, 2, 14, 0, tzinfo=UTC)
    >>> frame = pl.DataFrame({'ticker': ['AAPL'], 'ts': [ts], 'position': [0.5]})
    >>> hash_positions(frame)[:16]
    'f050c4e9eacf2d2b'
    """
    digest = PositionsDigest()
    digest.add(positions)
    return digest.hexdigest()


class PositionsDigest:
    """`positions_sha256` of positions that come in parts: each has all rows of its tickers, in the order of tickers."""

    def __init__(self) -> None:
        """Begin without a row."""
        self._digest = hashlib.sha256()

    def add(self, positions: pl.DataFrame) -> None:
        """Hash a part; its rows in any order. Raises as `positions_sha256`."""
        rows = positions.select("ticker", "ts", pl.col("position").cast(pl.Float64)).sort("ticker", "ts")
        if not rows["position"].is_finite().fill_null(value=False).all():
            raise UndefinedStatisticError(
                "Positions that are missing or not finite have no hash. Score the model again."
            )
        for (ticker,), part in rows.group_by("ticker", maintain_order=True):
            block = np.empty(part.height, dtype=_HASHED_ROW)
            block["ts"] = part["ts"].dt.epoch("us").to_numpy()
            block["position"] = part["position"].to_numpy() + 0.0  # -0.0 + 0.0 is 0.0: a flat book has one hash
            self._digest.update(str(ticker).encode() + b"\0" + part.height.to_bytes(8, "little") + block.tobytes())

    def hexdigest(self) -> str:
        """Return the SHA-256 of all parts."""
        return self._digest.hexdigest()
