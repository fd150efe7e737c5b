"""How far a row of features lies from those of the training: on what is like none of them, no model decides. Pure.

The distance is the Euclidean one of standardised features: a few operations a feature, where the prediction walks
through hundreds of trees.
"""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

_BLOCK_ROWS: Final = 1_024  # a quarter of a MB of 31 features in float64: it stays in the cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Novelty:
    """What is near: mean and deviation of each feature over the training rows, and the greatest squared distance.

    quantile: of the training rows' own distances, which is `limit`.
    """

    quantile: float
    limit: float
    mean: tuple[float, ...] = field(repr=False)
    deviation: tuple[float, ...] = field(repr=False)

    def find_novel(self, X: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
        """Return which rows lie farther away than `limit`; X: float32 (n, k), in the order of the features."""
        return np.asarray(_measure_distances(X, self.mean, self.deviation) > self.limit, dtype=np.bool_)


def measure_novelty(X: npt.NDArray[np.float32], quantile: float) -> Novelty | None:
    """Return what is near to the training rows `X`, float32 (n, k), finite; None where `quantile` is 0: everything."""
    if not quantile:
        return None
    columns = range(X.shape[1])  # one by one: a deviation of all at once would copy X, in float64
    means = tuple(float(X[:, column].mean(dtype=np.float64)) for column in columns)
    # a feature that never varied: its change counts in its own unit
    deviations = tuple(float(X[:, column].std(dtype=np.float64)) or 1.0 for column in columns)
    distances = _measure_distances(X, means, deviations)
    # one that occurs: so many of the training rows themselves are novel, and no more
    limit = float(np.quantile(distances, quantile, method="higher"))
    return Novelty(quantile=quantile, limit=limit, mean=means, deviation=deviations)


def _measure_distances(
    X: npt.NDArray[np.float32], mean: tuple[float, ...], deviation: tuple[float, ...]
) -> npt.NDArray[np.float64]:
    """Return the squared distances, float64 (n,); a row gives the same bits alone and in any batch."""
    centre, unit, total = np.array(mean), np.array(deviation), np.empty(len(X))
    for start in range(0, len(X), _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        steps = (X[block, : len(mean)].astype(np.float64) - centre) / unit
        # not `sum`, which adds a row alone in another order than one of many
        total[block] = np.cumsum(steps * steps, axis=1)[:, -1]
    return total
