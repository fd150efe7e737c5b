"""A frame of many tickers, a few at a time: what is computed of all bars need not be held of all of them. Pure."""

from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

_LOOK_ROWS: Final = 1_000_000  # 16 MB of names: what is compared with its neighbours at a time


def cut_by_ticker(frame: pl.DataFrame, rows: int) -> list[slice]:
    """Return slices of `frame` that hold whole tickers: those that begin in the same `rows` rows. None for no row.

    So one has fewer than `rows` rows before its last ticker. frame: sorted by ticker; one that is not is one slice.

    >>> [(cut.start, cut.stop) for cut in cut_by_ticker(pl.DataFrame({"ticker": list("AAABBC")}), rows=2)]
    [(0, 3), (3, 5), (5, 6)]
    """
    begins = find_begins(frame["ticker"])
    names = frame["ticker"].gather(begins)
    if names.n_unique() < names.len() or not names.is_sorted():
        return [slice(0, frame.height)]
    # the first ticker at or after each full block begins the next one
    starts = np.unique(np.searchsorted(begins, np.arange(0, frame.height, rows)))
    cuts = [*begins[starts[starts < begins.size]].tolist(), frame.height]
    return [slice(begin, end) for begin, end in pairwise(cuts)]


def find_begins(tickers: pl.Series) -> npt.NDArray[np.int64]:
    """Return the rows on which another ticker begins than that of the row before, the first one among them.

    >>> find_begins(pl.Series(["A", "A", "B"])).tolist()
    [0, 2]
    """
    begins = []
    for start in range(0, tickers.len(), _LOOK_ROWS):
        some = tickers.slice(max(start - 1, 0), _LOOK_ROWS + (start > 0))
        other = some.ne_missing(some.shift())
        begins.append(other.arg_true().to_numpy().astype(np.int64) + max(start - 1, 0))
        if start:
            begins[-1] = begins[-1][begins[-1] >= start]
    return np.concatenate([np.zeros(0, dtype=np.int64), *begins])


def cut_runs(frame: pl.DataFrame, kept: npt.NDArray[np.bool_]) -> list[pl.DataFrame]:
    """Return the rows that are kept, in order and without a copy: a frame for each run of them.

    >>> [run["n"].to_list() for run in cut_runs(pl.DataFrame({"n": [1, 2, 3]}), np.array([True, False, True]))]
    [[1], [3]]
    """
    edges = np.flatnonzero(np.diff(kept, prepend=False, append=False))
    return [frame.slice(int(begin), int(end - begin)) for begin, end in edges.reshape(-1, 2)]
