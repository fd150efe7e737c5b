"""The hand: what a trade costs. Pure."""

from typing import Final

import numpy as np
import numpy.typing as npt

BASIS_POINT: Final = 1e-4  # a hundredth of a per cent, as a fraction


def compute_cost(turnover: npt.NDArray[np.float64], *, cost_bps: float) -> npt.NDArray[np.float64]:
    """Return what trading `turnover` takes, as a fraction of capital: turnover * cost_bps / 10,000.

    turnover: float64, any shape, >= 0; traded value as a fraction of capital. A move from +0.1 to -0.1 is 0.2.
    cost_bps: basis points of the traded value, >= 0: half a spread, commission and slippage together.
    Linear: no market impact. An order of many per cent of a minute's volume costs more than this.

    >>> compute_cost(np.array([0.2, 1.0]), cost_bps=1.0).tolist()
    [2e-05, 0.0001]
    """
    return turnover * (cost_bps * BASIS_POINT)
