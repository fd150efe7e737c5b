"""One ONNX graph, served by one thread: the only place that opens an onnxruntime session."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hftcl.errors import IntegrityError
from hftcl.formats import count
from hftcl.waiting import map_in_threads

INPUT: Final = "X"  # the field's name for the features, and the one that skl2onnx's `to_onnx` gives too
# Said once, for a reader of the graph; a predictor takes the first output whatever its name.
OUTPUT: Final = "prediction"
_LONGEST: Final = 200  # characters of its message: the rest quotes C++ templates
_FATAL_ONLY: Final = 4  # onnxruntime's scale, 3 are errors: it raises those too, and they are told once, by us


def load_runtime() -> Any:
    """Return the module onnxruntime, loaded so that it neither writes files nor calls its makers."""
    # From 1.29 on it writes files and calls a collector at each session, on Linux too; read when it is loaded:
    # https://github.com/microsoft/onnxruntime/pull/27379
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    onnxruntime.disable_telemetry_events()  # where a notebook has loaded it before us
    onnxruntime.set_default_logger_severity(_FATAL_ONLY)
    return onnxruntime


class Predictor:
    """A graph with one input `X`, float32 [rows, n_features], and one output, float32 [rows, 1]. Safe to share."""

    __slots__ = ("_session", "n_features")

    def __init__(self, onnx: bytes, n_features: int) -> None:
        """Open the graph. Raises IntegrityError where onnxruntime refuses it."""
        onnxruntime = load_runtime()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _FATAL_ONLY
        # More threads add the trees in another order: 5e-7 apart between a row alone and the same row in a batch.
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        try:
            self._session: Any = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors have no common base below this
            first_line = str(error).partition("\n")[0][:_LONGEST]
            raise IntegrityError(f"onnxruntime cannot open the model: {first_line}") from error
        self.n_features = n_features

    def predict(self, X: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return one float32 prediction per row, shape (n,), in units of the target.

        X: float32, shape (n, n_features), finite; rows that are not known yet must be left out by the caller.
        A row alone and the same row in any batch give the same bits. Raises ValueError for any other array.
        """
        if not isinstance(X, np.ndarray) or X.dtype != np.float32 or X.ndim != 2 or X.shape[1] != self.n_features:
            got = f"{X.dtype} {X.shape}" if isinstance(X, np.ndarray) else type(X).__name__
            raise ValueError(f"The model takes float32 rows of {self.n_features} features, got {got}.")
        if not np.isfinite(X).all():
            bad = int((~np.isfinite(X).all(axis=1)).sum())
            raise ValueError(f"{bad} of {count(len(X), 'row')} hold a value that is not finite; leave them out.")
        if len(X) == 0:
            return np.empty(0, dtype=np.float32)
        answer = self._session.run(None, {INPUT: np.ascontiguousarray(X)})[0]
        return np.asarray(answer, dtype=np.float32).reshape(-1)

    def predict_parts(self, parts: Sequence[npt.NDArray[np.float32]], jobs: int) -> npt.NDArray[np.float32]:
        """Return what `predict` does of all parts one after the other, to the bit; up to `jobs` of them at a time.

        A prediction runs outside of the interpreter's lock.
        """
        with ThreadPoolExecutor(jobs) as threads:
            return np.concatenate(list(map_in_threads(threads, self.predict, parts)))
