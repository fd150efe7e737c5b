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
    ) -> Fitted:
        """Solve for the weights. seed and jobs change nothing: nothing is drawn, and one core does it in a moment.

        X: float32 (n, k); y: float32 (n,); finite, n at least 1.
        Raises TrainingError where the graph does not predict what the sum does.
        """
        on_step(0, 1)
        model = _solve(X, y, float(str(params["alpha"])))
        onnx = _build_graph(model)
        rows = pick_rows(X)
        require_same(onnx, model.predict, rows, _find_greatest_term(model, rows))
        on_step(1, 1)
        size = np.abs(model.weights)
        shares = size / size.sum() if size.any() else np.full(len(size), 1 / len(size))
        return Fitted(model, onnx, f"hftcl, numpy {np.__version__}", tuple(shares.tolist()))


def _solve(X: npt.NDArray[np.float32], y: npt.NDArray[np.float32], alpha: float) -> RidgeModel:
    """Return w = (Z'Z + alpha I)^-1 Z'(y - mean(y)) of the standardised features Z, in float64."""
    k = X.shape[1]
    mean, intercept = X.mean(axis=0, dtype=np.float64), float(y.mean(dtype=np.float64))
    squares, products = np.zeros((k, k)), np.zeros(k)
    for start in range(0, len(X), _BLOCK_ROWS):
        centred = X[start : start + _BLOCK_ROWS] - mean
        # einsum adds in one order on one core; the products of BLAS differ by the number of its threads.
        squares += np.einsum("ni,nj->ij", centred, centred)
        products += np.einsum("ni,n->i", centred, y[start : start + _BLOCK_ROWS] - intercept)
    scale = np.sqrt(np.diag(squares) / len(X))
    unchanged = scale == 0
    scale[unchanged] = 1
    standardised = squares / np.outer(scale, scale) + alpha * np.eye(k)
    weights = np.linalg.lstsq(standardised, products / scale)[0]  # at alpha 0 two features may say the same
    weights[unchanged] = 0
    return RidgeModel(mean, scale, weights, intercept)


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
