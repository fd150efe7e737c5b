"""The judge: sums that go on from one part of an exam to the next, as if all parts had come at once. Pure."""

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def add_by_place(sums: FloatArray, place: npt.NDArray[np.intp], values: npt.NDArray[np.generic]) -> FloatArray:
    """Return `sums` with each value added at its place, to the bit as if all that was added before came with it.

    >>> add_by_place(np.zeros(2), np.array([0, 1, 0]), np.array([1.0, 2.0, 3.0])).tolist()
    [4.0, 2.0]
    """
    # bincount adds in row order, a parallel group_by in any: the same bars give the same bits
    before = np.concatenate([np.arange(sums.size), place])
    return np.bincount(before, np.concatenate([sums, values]), sums.size).astype(np.float64)
