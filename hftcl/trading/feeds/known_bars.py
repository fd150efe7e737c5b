"""The good bars of a session as figures, a table a minute: what a vendor sends is compared with them. Values only."""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

NEVER: Final = np.iinfo(np.int64).max
"""In the place of a ticker's first bar where it has none yet: after every time."""
HIGH, LOW, CLOSE = 1, 2, 3  # where they stand among the figures of a bar, as of RAW_SCHEMA


@dataclass(slots=True)
class KnownBars:
    """tickers: how many there are, numbered from 0. width: figures of a bar: open, high, low, close, volume, further.

    Of 5,000 tickers and 390 minutes it takes 80 MB; a row of Python's own for each bar would take ten times as much.
    """

    tickers: int
    width: int
    first: IntArray = field(init=False)
    """Start of each ticker's first bar of the session, microseconds since 1970; NEVER where it has none."""
    first_figures: FloatArray = field(init=False)
    """The figures of that bar, shape (tickers, width); NaN where there is none."""
    _minutes: dict[int, FloatArray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.first = np.full(self.tickers, NEVER, dtype=np.int64)
        self.first_figures = np.full((self.tickers, self.width), np.nan)

    def take(self, places: IntArray, stamps: IntArray, figures: FloatArray) -> Flags:
        """Remember good bars; return which of them were unknown, or known otherwise.

        places: numbers of tickers, shape (n,). stamps: starts of minutes, microseconds since 1970; no ticker has two
        bars of one. figures: shape (n, width), NaN for what a bar lacks.
        """
        changed = np.zeros(stamps.size, dtype=np.bool_)
        for stamp in np.unique(stamps).tolist():
            at = np.flatnonzero(stamps == stamp)
            changed[at] = self._take_minute(stamp, places[at], figures[at])
        return changed

    def _take_minute(self, stamp: int, places: IntArray, figures: FloatArray) -> Flags:
        table = self._minutes.setdefault(stamp, np.full((self.tickers, self.width), np.nan))
        changed = ~are_equal(table[places], figures)
        table[places] = figures
        is_first = stamp <= self.first[places]
        self.first[places[is_first]] = stamp
        self.first_figures[places[is_first]] = figures[is_first]
        return changed


def are_equal(one: FloatArray, other: FloatArray) -> Flags:
    """Return which bars have the same figures in both, shapes (n, width); what both lack is the same."""
    same: Flags = ((one == other) | (np.isnan(one) & np.isnan(other))).all(axis=1)
    return same
