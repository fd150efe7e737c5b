"""Which rows a fit learns from where there are more than it may hold: whole sessions of tickers, drawn by a seed. Pure.

Whole, because the rows of one session of one ticker overlap in what they tell: half of them say nearly as much.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


def scale_weights(weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return weights of mean 1, so that a penalty or the least weight of a leaf means what it does without."""
    scaled: npt.NDArray[np.float32] = (weights / weights.mean(dtype=np.float64)).astype(np.float32)
    return scaled


@dataclass(frozen=True, slots=True)
class Sampler:
    """Draws from `rows`, int64, ascending, of which those with the same number in `groups` stay together.

    groups: int32 (n,), of every row of the matrix; the rows of a group follow each other. most: rows of a sample.
    """

    groups: npt.NDArray[np.int32] = field(repr=False)
    rows: IntArray = field(repr=False)
    most: int
    seed: int

    def draw(self, number: int) -> IntArray:
        """Return the rows of sample `number`, ascending: as many groups as fit into `most`, and one at least.

        The same on every machine, whatever else was drawn before.

        >>> sampler = Sampler(np.repeat(np.arange(5, dtype=np.int32), 2), np.arange(10), most=5, seed=1)
        >>> [sampler.draw(number).tolist() for number in (0, 1)]
        [[0, 1, 8, 9], [2, 3, 8, 9]]
        """
        of_rows = self.groups[self.rows]
        begins = np.flatnonzero(np.diff(of_rows, prepend=of_rows[:1] - 1))
        sizes = np.diff(np.append(begins, of_rows.size))
        order = np.random.default_rng([self.seed, number]).permutation(sizes.size)
        taken = np.zeros(sizes.size, dtype=np.bool_)
        taken[order[: max(1, int(np.searchsorted(np.cumsum(sizes[order]), self.most, side="right")))]] = True
        return self.rows[np.repeat(taken, sizes)]

    def derive_seed(self, number: int) -> int:
        """Return the seed of the tree that learns from sample `number`."""
        return int(np.random.SeedSequence([self.seed, number, 1]).generate_state(1)[0])
