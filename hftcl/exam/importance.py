"""What a model loses without a feature: its values are exchanged among the rows that the model has not seen. Pure.

Breiman (2001), "Random Forests", Machine Learning 45(1), section 10; here the loss is one of the information
coefficient, of which each session has its part, because minutes of one session are no independent observations.
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
    """Return by how much each session's part in the information coefficient falls when `column` of X is exchanged.

    X: float32 (n, k); y: the target; session: the place of each row's session, 0 to m - 1. Returns float64 (m,), the
    mean over a few draws: the values of all rows are exchanged, so that the hour or the day, which are alike within a
    session, are exchanged too. The same seed gives the same draws for every column.
    """
    whole = compute_parts(predict(X), y, session)
    falls = []
    for draw in range(SEEDS):
        order = np.random.default_rng([seed, draw]).permutation(len(X))
        exchanged = X.copy()
        exchanged[:, column] = X[order, column]
        falls.append(whole - compute_parts(predict(exchanged), y, session))
    return np.asarray(np.mean(falls, axis=0), dtype=np.float64)


def compute_parts(values: npt.ArrayLike, y: FloatArray, session: npt.NDArray[np.intp]) -> FloatArray:
    """Return each session's part in Pearson's correlation of `values` and `y` over all rows, which is their mean.

        part of a session = m / n * sum over its rows of z(values) * z(y), z: less the mean, over the deviation, of all

    session: the place of each row's session, 0 to m - 1, n rows in all. Returns float64 (m,); zeros where one of both
    does not vary. The correlation within each session would be no measure: what is compared with the session's own
    mean knows how the session went on. Where the price stands in its session then foretells a walk at random, with
    -0.4 (Nickell (1981), "Biases in Dynamic Models with Fixed Effects", Econometrica 49(6)).
    """
    a, b = np.asarray(values, dtype=np.float64), y
    if not len(a) or np.ptp(a) == 0 or np.ptp(b) == 0:
        return np.zeros(int(session.max(initial=-1)) + 1)
    a, b = a - a.mean(), b - b.mean()
    parts = np.bincount(session, a * b)
    return np.asarray(parts * parts.size / np.sqrt((a @ a) * (b @ b)), dtype=np.float64)


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
