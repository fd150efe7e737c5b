"""The judge: have the features moved away from those that a model was trained on? Pure; arrays in, numbers out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from hftcl.errors import UndefinedStatisticError
from hftcl.formats import count

BINS: Final = 10  # deciles: the usual thresholds of the PSI, 0.1 and 0.25, are meant for them


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureBins:
    """One feature over the training rows: inner edges, ascending, and the share of rows in each of the bins between.

    A value that equals an edge lies above it. There is one bin more than there are edges; the shares add up to 1.
    """

    edges: tuple[float, ...]
    shares: tuple[float, ...]


def build_feature_bins(X: npt.NDArray[np.float32], *, bins: int = BINS) -> tuple[FeatureBins, ...]:
    """Return the bins of each column of `X`: its quantiles 1/bins, 2/bins, ..., each value that repeats once.

    X: float32, shape (n, k), finite, n at least 1. A feature of few values, such as one that is 0 in half of the rows,
    has fewer bins of unequal shares; one that never varies has a single bin or an empty one beside it.
    Raises UndefinedStatisticError for no row, or a value that is not finite.

    >>> X = np.arange(100, dtype=np.float32).reshape(100, 1)
    >>> build_feature_bins(X, bins=4)[0]
    FeatureBins(edges=(25.0, 50.0, 75.0), shares=(0.25, 0.25, 0.25, 0.25))
    """
    _require_rows(X)
    levels = np.arange(1, bins) / bins
    bins_by_column = []
    for column in X.T:  # one at a time: to sort all at once takes a copy of all
        values = np.ascontiguousarray(column)
        # each edge a value that occurs: between two of them float32 and float64 could disagree
        inner = np.unique(np.quantile(values, levels, method="higher"))
        shares = _count(values, inner) / len(values)
        bins_by_column.append(FeatureBins(edges=tuple(inner.tolist()), shares=tuple(shares.tolist())))
    return tuple(bins_by_column)


def compute_population_stability(
    bins: Sequence[FeatureBins], X: npt.NDArray[np.float32], *, observations: int
) -> npt.NDArray[np.float64]:
    """Return the population stability index of each column of `X` against its bins: float64, shape (k,), from 0 up.

    PSI = sum over bins of (q - p) ln(q / p), p the share of the training rows, q that of `X`; the symmetric
    Kullback-Leibler divergence of the two. It is an effect size, not a test, and 0 where nothing moved.
    observations: how many of the rows count as independent, for the learning story the sessions of each ticker (an
        overnight gap has one value in each, a volatility hardly more). Half an observation is added to every bin, so
        that an empty one weighs as much as so many observations can say, and is never infinite.
    X: float32, shape (n, k), finite, n at least 1. Raises UndefinedStatisticError otherwise.
    Source: Siddiqi (2006), "Credit Risk Scorecards"; the half is Jeffreys's prior.

    >>> X = np.arange(100, dtype=np.float32).reshape(100, 1)
    >>> bins = build_feature_bins(X)
    >>> [round(float(compute_population_stability(bins, X + moved, observations=100)[0]), 2) for moved in (0, 30)]
    [0.0, 1.26]
    """
    _require_rows(X)
    return compute_stability(bins, count_in_bins(bins, X), observations=observations)


def count_in_bins(bins: Sequence[FeatureBins], X: npt.NDArray[np.float32]) -> tuple[tuple[int, ...], ...]:
    """Return how many values of each column of `X` lie in each of its bins; of several parts these add up.

    >>> bins = build_feature_bins(np.arange(100, dtype=np.float32).reshape(100, 1), bins=4)
    >>> count_in_bins(bins, np.array([[7.0], [30.0], [31.0]], dtype=np.float32))
    ((1, 2, 0, 0),)
    """
    return tuple(
        tuple(_count(values, np.asarray(column_bins.edges)).tolist())
        for column_bins, values in zip(bins, X.T, strict=True)
    )


def compute_stability(
    bins: Sequence[FeatureBins], counts: Sequence[Sequence[int]], *, observations: int
) -> npt.NDArray[np.float64]:
    """Return what `compute_population_stability` does of the rows whose values `counts` counts, one row or more."""
    indices = []
    for column_bins, column_counts in zip(bins, counts, strict=True):
        counted = np.asarray(column_counts, dtype=np.int64)
        p = _smooth(np.asarray(column_bins.shares), observations)
        q = _smooth(counted / int(counted.sum()), observations)
        indices.append(float(((q - p) * np.log(q / p)).sum()))
    return np.asarray(indices, dtype=np.float64)


def locate(bins: FeatureBins, value: float) -> tuple[float, float]:
    """Return the shares of the training rows between which `value` lies: (below its bin, up to the end of its bin).

    >>> bins = build_feature_bins(np.arange(100, dtype=np.float32).reshape(100, 1), bins=4)[0]
    >>> locate(bins, 30.0), locate(bins, -7.0)
    ((0.25, 0.5), (0.0, 0.25))
    """
    place = int(np.searchsorted(np.asarray(bins.edges), value, side="right"))
    below = float(sum(bins.shares[:place]))
    return round(below, 6), round(below + bins.shares[place], 6)


def _smooth(shares: npt.NDArray[np.float64], observations: int) -> npt.NDArray[np.float64]:
    return np.asarray((shares * observations + 0.5) / (observations + 0.5 * shares.size), dtype=np.float64)


def _count(values: npt.NDArray[np.float32], edges: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    return np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)


def _require_rows(X: npt.NDArray[np.float32]) -> None:
    if not len(X) or not np.isfinite([X.min(initial=0), X.max(initial=0)]).all():  # a NaN is the least and the greatest
        raise UndefinedStatisticError(
            f"Drift needs rows whose features are all known and finite; got {count(len(X), 'row')}, "
            f"{int((~np.isfinite(X)).sum())} values not finite."
        )
