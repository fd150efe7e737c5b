"""What the graphs of our families share: how one is written, and how it is compared with what was fitted."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hftcl.errors import TrainingError
from hftcl.model.serving import INPUT, OUTPUT, Predictor
from hftcl.waiting import wait_for_result

# Not the newest, which an older onnxruntime cannot open: those of onnx 1.14 (2023) hold all that our models need, and
# each later onnxruntime reads them: https://onnxruntime.ai/docs/reference/compatibility.html
_OPSETS: Final = {"": 19, "ai.onnx.ml": 1}
_IR_VERSION: Final = 9  # the file format of that onnx: https://github.com/onnx/onnx/blob/main/docs/Versioning.md
# Relative: a float32 has 7 digits, and a sum over hundreds of trees, or dozens of features, loses one or two of them.
_TOLERANCE: Final = 1e-5
# Chosen: evenly from all training rows, so that most leaves are reached, in a moment.
_CHECKED_ROWS: Final = 4096


def write_graph(
    name: str,
    nodes: Sequence[Any],
    n_features: int,
    initializers: Sequence[Any] = (),
    opsets: Mapping[str, int] | None = None,
) -> bytes:
    """Return nodes of ONNX from `X`, float32 [rows, n_features], to `prediction`, [rows, 1], as a model.

    The same nodes give the same bytes. opsets: at least which the nodes need, beyond our own.
    """
    import onnx
    from onnx import helper

    float32 = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(INPUT, float32, ["rows", n_features])],
        [helper.make_tensor_value_info(OUTPUT, float32, ["rows", 1])],
        initializers,
    )
    least = {domain: max(number, _OPSETS.get(domain, 0)) for domain, number in (opsets or {}).items()}
    imports = [helper.make_opsetid(domain, number) for domain, number in (_OPSETS | least).items()]
    model = helper.make_model(graph, producer_name="hftcl", opset_imports=imports, ir_version=_IR_VERSION)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def pick_rows(X: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return rows of X, shape (n, k), on which a graph is compared: at most 4,096, evenly from all."""
    return X[np.linspace(0, len(X) - 1, min(len(X), _CHECKED_ROWS)).astype(np.int64)]


def require_same(
    onnx: bytes,
    predict: Callable[[npt.NDArray[np.float32]], Any],
    rows: npt.NDArray[np.float32],
    size: float = 1.0,
    *,
    jobs: int = 1,
) -> None:
    """Raise TrainingError where the graph does not predict on `rows` what `predict` does.

    size: of the greatest number that is added up on the way, in units of the target, where that is above 1.
    jobs: processor cores for it.
    """
    with ThreadPoolExecutor(1) as beside:  # both run outside of the interpreter's lock
        expecting = beside.submit(predict, rows)
        predicted = Predictor(onnx, rows.shape[1]).predict_parts(np.array_split(rows, jobs), jobs)
        expected = np.asarray(wait_for_result(expecting))
    apart = float(np.abs(predicted - expected).max())
    if not apart <= _TOLERANCE * max(1.0, size, float(np.abs(expected).max())):
        raise TrainingError(f"The exported model predicts otherwise than the one that was fitted, by {apart:.2g}.")
