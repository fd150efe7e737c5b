"""A feature against the other tickers of the watchlist at the same minute: its rank, or its z-score. Pure.

One function works on one minute's values, in batch and live alike, and sorts them first: neither the order of the
tickers nor the number of processors changes a bit.
"""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def compare_across(values: FloatArray, how: str) -> FloatArray:
    """Return each ticker's place among those that have a value at one minute; NaN where it has none, or is alone.

    values: one a ticker, NaN where not known. how: a key of ACROSS.

    >>> compare_across(np.array([3.0, 1.0, np.nan, 2.0]), "rank").round(3).tolist()
    [0.833, 0.167, nan, 0.5]
    """
    known = ~np.isnan(values)
    places = np.full(values.size, np.nan)
    if known.sum() > 1:
        places[known] = ACROSS[how](values[known])
    return places


def compare_minutes(values: FloatArray, minute: IntArray, how: str) -> FloatArray:
    """Return the same for many minutes at once. minute: a number for each value, the same for those of one minute."""
    order = np.argsort(minute, kind="stable")
    bounds = np.flatnonzero(np.diff(minute[order])) + 1
    places = np.empty(values.size)
    for rows in np.split(order, bounds):
        places[rows] = compare_across(values[rows], how)
    return places


def _rank(values: FloatArray) -> FloatArray:
    """Return the middle of each value's ranks, from 0 to 1: equal values have one place."""
    ordered = np.sort(values)
    below, upto = np.searchsorted(ordered, values, side="left"), np.searchsorted(ordered, values, side="right")
    places: FloatArray = (below + upto) / (2 * values.size)
    return places


def _compute_zscore(values: FloatArray) -> FloatArray:
    """Return the distance from the mean in standard deviations (ddof 0); 0 where all are equal."""
    ordered = np.sort(values)
    if ordered[0] == ordered[-1]:
        return np.zeros(values.size)
    scores: FloatArray = (values - ordered.mean()) / ordered.std()
    return scores


ACROSS: Final[Mapping[str, Callable[[FloatArray], FloatArray]]] = {"rank": _rank, "zscore": _compute_zscore}
"""Ways to compare the tickers of a minute, by the word that `features.Feature.across` has."""
