"""What a ticker's session has come to since its first bar, one step a minute. Pure: arrays in, arrays out.

Both run these same steps in the same order of addition, so that the bot finds the bits that training saw.
"""

from collections.abc import Callable
from itertools import pairwise
from math import inf, log, nan
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

Array = npt.NDArray[Any]
IntArray = npt.NDArray[np.int64]
Step = Callable[[Array, Array], Array]
"""Takes the values of the minute before and what this minute brings, and returns the values of this minute."""
Fold = Callable[[str, Array, Step], Array]
"""Takes a column's name, what each minute brings to it, and its step; returns the column. A first minute's value is
what that minute brings."""

_PARTS_AT_A_TIME = 512  # 390 minutes of them stay within a processor's cache
_FEW: Final = 500  # values: polars' call takes 0.1 ms of a processor, `math.log` 0.16 us a value
SINCE_OPEN = (
    "first_open",
    "first_close",
    "session_low",
    "session_high",
    "session_volume",
    "session_turnover",
    "since_first",
    "ema_12",
    "ema_26",
    "macd",
    "macd_signal",
)
"""The columns that `compute_since_open` makes; `model.grid` says what they are."""


def compute_since_open(minutes: dict[str, Array], fold: Fold) -> dict[str, Array]:
    """Return the columns SINCE_OPEN of minutes without a hole: open, high, low, close, v and turnover."""
    close = minutes["close"]
    first_close = fold("first_close", close, _keep)
    # Times the reciprocal, as polars divides a column by one number, and polars' logarithm: to the bit what
    # `close / close.first()` gave when the first models were fitted.
    since_first = compute_logs(close * (1 / first_close))
    ema_12, ema_26 = (fold(f"ema_{span}", since_first, _build_ema(span)) for span in (12, 26))
    macd = ema_12 - ema_26
    return {
        "first_open": fold("first_open", minutes["open"], _keep),
        "first_close": first_close,
        "session_low": fold("session_low", minutes["low"], np.minimum),
        "session_high": fold("session_high", minutes["high"], np.maximum),
        "session_volume": fold("session_volume", minutes["v"], np.add),
        "session_turnover": fold("session_turnover", minutes["turnover"], np.add),
        "since_first": since_first,
        "ema_12": ema_12,
        "ema_26": ema_26,
        "macd": macd,
        "macd_signal": fold("macd_signal", macd, _build_ema(9)),
    }


def compute_logs(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return natural logarithms as polars finds them, whose last bits are not NumPy's. values: one dimension.

    Polars asks the C library, as `math` does: of a few numbers by itself, for polars plans and hands on each call.
    """
    if values.size > _FEW:
        logs: npt.NDArray[np.float64] = pl.Series(values).log().to_numpy()
        return logs
    return np.array([_log(value) for value in values.tolist()], dtype=np.float64)


def _log(value: float) -> float:
    if value > 0:
        return log(value)
    return -inf if value == 0 else nan


def _keep(before: Array, now: Array) -> Array:
    return before


def _build_ema(span: int) -> Step:
    alpha = 2 / (span + 1)
    return lambda before, now: before + alpha * (now - before)


def fold_down_parts(part: IntArray, age: IntArray) -> Fold:
    """Fold all minutes of all parts; the rows are sorted by part, then age, which counts from 0 in each part."""
    if part.size == 0:
        return lambda _name, now, _step: now
    starts = np.flatnonzero(age == 0)
    cuts = [*starts[::_PARTS_AT_A_TIME].tolist(), part.size]
    blocks = [slice(begin, end) for begin, end in pairwise(cuts)]

    def fold(_name: str, now: Array, step: Step) -> Array:
        out = np.empty_like(now)
        for block in blocks:
            cell = age[block], part[block] - part[block][0]
            # A row of the table is a minute of all parts; what it holds after a part's end is never read.
            table = np.zeros((int(cell[0].max()) + 1, int(cell[1][-1]) + 1), dtype=now.dtype)
            table[cell] = now[block]
            out[block] = _walk_down(table, step)[cell]
        return out

    return fold


def _walk_down(table: Array, step: Step) -> Array:
    """Return the table with each row stepped on from the row before it. May change `table`."""
    if step is _keep:
        return np.broadcast_to(table[0], table.shape)
    if isinstance(step, np.ufunc):  # adds one row after the other too
        return np.asarray(step.accumulate(table, axis=0))
    for minute in range(1, table.shape[0]):
        table[minute] = step(table[minute - 1], table[minute])
    return table
