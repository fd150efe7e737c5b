"""Session P&L that looks like a trading policy's: fat tails, clustered volatility, a known true Sharpe ratio."""

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
_PHI, _LOG_DEVIATION, _DEGREES = 0.97, 0.30, 6


def scales(rng: np.random.Generator, streams: int, n: int) -> FloatArray:
    """Return the volatility of each session, shape (streams, n), mean square 1: log-AR(1) times Student-t6 mixing."""
    shocks = rng.normal(size=(streams, n))
    log = np.empty((streams, n))
    log[:, 0] = shocks[:, 0]
    for t in range(1, n):
        log[:, t] = _PHI * log[:, t - 1] + np.sqrt(1 - _PHI**2) * shocks[:, t]
    clustered = np.exp(_LOG_DEVIATION * log - _LOG_DEVIATION**2)
    mixing = np.sqrt((_DEGREES - 2) / rng.chisquare(_DEGREES, size=(streams, n)))
    return np.asarray(clustered * mixing, dtype=np.float64)


def stream(rng: np.random.Generator, streams: int, n: int, *, sharpe: float = 0.0, ar: float = 0.0) -> FloatArray:
    """Return P&L of shape (streams, n), of unit variance and true annual Sharpe ratio `sharpe`; lag-1 correlation `ar`.

    With `ar` the Sharpe ratio is still mean / deviation of a session times sqrt(252).
    """
    noise = rng.normal(size=(streams, n))
    for t in range(1, n):
        noise[:, t] = ar * noise[:, t - 1] + np.sqrt(1 - ar**2) * noise[:, t]
    return np.asarray(sharpe / np.sqrt(252) + scales(rng, streams, n) * noise, dtype=np.float64)


def pair(
    rng: np.random.Generator, streams: int, n: int, *, sharpes: tuple[float, float] = (0.0, 0.0), rho: float = 0.7
) -> tuple[FloatArray, FloatArray]:
    """Return two P&Ls on the same sessions: common volatility, and a common factor that correlates them by `rho`."""
    scale, common = scales(rng, streams, n), rng.normal(size=(streams, n))
    one, two = (
        sharpe / np.sqrt(252) + scale * (np.sqrt(rho) * common + np.sqrt(1 - rho) * rng.normal(size=(streams, n)))
        for sharpe in sharpes
    )
    return one, two
