"""The family `ridge`: a weighted sum of the features, its weights held small. The baseline that a forest must beat.

Hoerl and Kennard (1970), "Ridge regression: biased estimation for nonorthogonal problems", Technometrics 12(1).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from hftcl.model.families import Fitted, OnStep
from hftcl.model.families.graph import pick_rows, require_same, write_graph
from hftcl.model.families.ranges import require_in_range
from hftcl.model.serving import INPUT, OUTPUT
from hftcl.settings import Ridge as RidgeSettings

_BLOCK_ROWS: Final = 65_536  # 16 MB of 31 features in float64, whatever the number of rows
# Of a mean: sums in float64 lose 1e-16 of it, and a float32 that differs in one row of ten million moves it by 2e-11.
_ROUNDING: Final = 1e-13
# Around zero nothing tells by how much float64 rounded; ours are logs and ratios, of 1e-5 and more. Divided by less
# than this, a value as large as a canary's 1e30 is no number any more in float32. A forest takes what differs by less
# than 1e-7 for the same (FEATURE_THRESHOLD of scikit-learn).
_LEAST_SPREAD: Final = 3e-9


@dataclass(frozen=True, slots=True)
class RidgeModel:
    """The fitted sum: `predict` gives ((X - mean) / scale) @ weights + intercept. Each float64, (k,) or one number."""

    mean: npt.NDArray[np.float64]
    scale: npt.NDArray[np.float64]
    weights: npt.NDArray[np.float64]
    intercept: float

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return one float64 prediction per row of X, shape (n, k), in units of the target."""
        rows = np.asarray(X, dtype=np.float64)
        predictions: npt.NDArray[np.float64] = ((rows - self.mean) / self.scale) @ self.weights + self.intercept
        return predictions


class Ridge:
    """Linear regression on standardised features with the squared weights as a penalty, in closed form."""

    name = "ridge"
    takes_weights = True
    tells_brief = True
    SETTINGS = RidgeSettings

    def parameters(self) -> Mapping[str, object]:
        """Return the names that `--param` may set, each with its default from the settings."""
        return asdict(RidgeSettings())

    def check(self, params: Mapping[str, object]) -> Mapping[str, object]:
        """Return `params` as float; raises UsageError for a value outside its range in the settings."""
        return {name: require_in_range(RidgeSettings, self.name, name, value) for name, value in params.items()}

    def fit(
        self,
        X: npt.NDArray[np.float32],
        y: npt.NDArray[np.float32],
        params: Mapping[str, object],
        *,
        seed: int,
        jobs: int,
        on_step: OnStep,
        weights: npt.NDArray[np.float32] | None = None,
        brief: bool = False,
    ) -> Fitted:
        """Solve for the weights. seed and jobs change nothing: nothing is drawn, and one core does it in a moment.

        X: float32 (n, k); y: float32 (n,); finite, n at least 1. weights: float32 (n,), how much each row counts.
        A feature whose standard deviation is 3e-9 or less is taken for rounding: it has no part in any prediction.
        brief: see `Family`. Raises TrainingError where the graph does not predict what the sum does.
        """
        on_step(0, 1)
        model = _solve(X, y, float(str(params["alpha"])), weights)
        onnx = _build_graph(model)
        on_step(1, 1)
        engine = f"hftcl, numpy {np.__version__}"
        if brief:
            return Fitted(model, onnx, engine, None)
        rows = pick_rows(X)
        require_same(onnx, model.predict, rows, _find_greatest_term(model, rows))
        size = np.abs(model.weights)
        shares = size / size.sum() if size.any() else np.full(len(size), 1 / len(size))
        return Fitted(model, onnx, engine, tuple(shares.tolist()))


def _solve(
    X: npt.NDArray[np.float32], y: npt.NDArray[np.float32], alpha: float, counts: npt.NDArray[np.float32] | None
) -> RidgeModel:
    """Return w = (Z'Z + alpha I)^-1 Z'(y - mean(y)) of the standardised features Z, in float64.

    counts: how much each row counts, of mean 1; then means and sums are weighted ones.
    """
    k = X.shape[1]
    mean, intercept = _find_means(X, y, counts)
    squares, products = np.zeros((k, k)), np.zeros(k)
    for start in range(0, len(X), _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        centred, left = X[block] - mean, y[block] - intercept
        weighted = centred if counts is None else centred * counts[block, np.newaxis]
        # einsum adds in one order on one core; the products of BLAS differ by the number of its threads.
        squares += np.einsum("ni,nj->ij", weighted, centred)
        products += np.einsum("ni,n->i", weighted, left)
    scale = np.sqrt(np.diag(squares) / len(X))
    # not == 0: the mean of many times 0.1 is not exactly 0.1
    unchanged = scale <= np.maximum(_ROUNDING * np.abs(mean), _LEAST_SPREAD)
    scale[unchanged] = 1
    standardised = squares / np.outer(scale, scale) + alpha * np.eye(k)
    weights = np.linalg.lstsq(standardised, products / scale)[0]  # at alpha 0 two features may say the same
    weights[unchanged] = 0
    return RidgeModel(mean, scale, weights, intercept)


def _find_means(
    X: npt.NDArray[np.float32], y: npt.NDArray[np.float32], counts: npt.NDArray[np.float32] | None
) -> tuple[npt.NDArray[np.float64], float]:
    if counts is None:
        return X.mean(axis=0, dtype=np.float64), float(y.mean(dtype=np.float64))
    total, sums = float(counts.sum(dtype=np.float64)), np.zeros(X.shape[1])
    for start in range(0, len(X), _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        sums += np.einsum("ni,n->i", X[block].astype(np.float64), counts[block].astype(np.float64))
    return sums / total, float(np.einsum("n,n->", y.astype(np.float64), counts.astype(np.float64)) / total)


def _build_graph(model: RidgeModel) -> bytes:
    """Return the sum as ONNX: `X`, float32 [rows, k], to `prediction`, [rows, 1]."""
    from onnx import helper, numpy_helper

    arrays = {
        "mean": model.mean,
        "per_scale": 1 / model.scale,
        "weights": model.weights[:, np.newaxis],
        "intercept": np.array([model.intercept]),
    }
    nodes = [
        helper.make_node("Sub", [INPUT, "mean"], ["centred"]),
        helper.make_node("Mul", ["centred", "per_scale"], ["standardised"]),
        helper.make_node("MatMul", ["standardised", "weights"], ["sum"]),
        helper.make_node("Add", ["sum", "intercept"], [OUTPUT]),
    ]
    initializers = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()]
    return write_graph("ridge", nodes, len(model.mean), initializers)


def _find_greatest_term(model: RidgeModel, rows: npt.NDArray[np.float32]) -> float:
    """Return the size of the greatest term that is added up, which float32 rounds."""
    return float(np.abs((rows - model.mean) / model.scale * model.weights).max(initial=0.0))
