"""What a model loses without a feature: its values are exchanged among the rows that the model has not seen. Pure.

Breiman (2001), "Random Forests", Machine Learning 45(1), section 10; here the loss is one of the information
coefficient, session by session, because minutes of one session are no independent observations.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from hftcl.formats import count

SEEDS: Final = 3  # with one, a feature near the bound comes and goes by the draw
Predict = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureWorth:
    """How far the information coefficient falls without a feature: mean over sessions, with its standard error."""

    name: str
    importance: float
    standard_error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which features stayed, and which left because their importance lay below `drop_below`; the greatest first."""

    drop_below: float
    sessions: int
    seeds: int
    kept: tuple[FeatureWorth, ...]
    dropped: tuple[FeatureWorth, ...]

    @property
    def reason(self) -> str:
        """What was measured, in a sentence without its full stop."""
        each = "it" if len(self.dropped) == 1 else "any of them"
        return (
            f"{len(self.dropped)} of {count(len(self.kept) + len(self.dropped), 'feature')} left out: without {each} "
            f"the information coefficient on {count(self.sessions, 'held-out session')} falls by less than "
            f"{self.drop_below:g}"
        )


def measure_importance(
    predict: Predict,
    X: npt.NDArray[np.float32],
    y: FloatArray,
    session: npt.NDArray[np.intp],
    column: int,
    *,
    seed: int,
) -> FloatArray:
    """Return by how much each session's information coefficient falls when `column` of X is exchanged among its rows.

    X: float32 (n, k); y: the target; session: the place of each row's session, 0 to m - 1. Returns float64 (m,), the
    mean over a few draws: the values of all rows are exchanged, so that the hour or the day, which are alike within a
    session, are exchanged too. The same seed gives the same draws for every column.
    """
    whole = compute_coefficients(predict(X), y, session)
    falls = []
    for draw in range(SEEDS):
        order = np.random.default_rng([seed, draw]).permutation(len(X))
        exchanged = X.copy()
        exchanged[:, column] = X[order, column]
        falls.append(whole - compute_coefficients(predict(exchanged), y, session))
    return np.asarray(np.mean(falls, axis=0), dtype=np.float64)


def compute_coefficients(predictions: npt.ArrayLike, y: FloatArray, session: npt.NDArray[np.intp]) -> FloatArray:
    """Return Pearson's correlation of prediction and target in each session, float64; 0 where it is not defined."""
    values = np.asarray(predictions, dtype=np.float64)
    rows = np.bincount(session)

    def sum_up(numbers: FloatArray) -> FloatArray:
        return np.asarray(np.bincount(session, numbers), dtype=np.float64)

    a, b = values - (sum_up(values) / rows)[session], y - (sum_up(y) / rows)[session]
    scale = np.sqrt(sum_up(a * a) * sum_up(b * b))
    return np.divide(sum_up(a * b), scale, out=np.zeros_like(scale), where=scale > 0)


def select(names: Sequence[str], falls: Sequence[FloatArray], *, drop_below: float) -> Selection:
    """Return which features stay: those whose mean fall is `drop_below` or more, and the best one in any case.

    falls: by feature, in the order of `names`, as `measure_importance` returns them.
    """
    sessions = len(falls[0])
    worths = [
        FeatureWorth(
            name=name,
            importance=float(fall.mean()),
            # one session has no standard error; JSON knows no infinity
            standard_error=float(fall.std(ddof=1) / np.sqrt(sessions)) if sessions > 1 else 0.0,
        )
        for name, fall in zip(names, falls, strict=True)
    ]
    ranked = sorted(worths, key=lambda worth: (-worth.importance, worth.name))
    kept = tuple(worth for place, worth in enumerate(ranked) if place == 0 or worth.importance >= drop_below)
    return Selection(
        drop_below=drop_below,
        sessions=sessions,
        seeds=SEEDS,
        kept=kept,
        dropped=tuple(worth for worth in ranked if worth not in kept),
    )
