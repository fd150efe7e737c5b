"""The child process of a training: `python -m hftcl.model.trainer PARENT`, with a Unix socket as its stdin.

Each packet there is an order, JSON with the descriptors of its files: it reads the rows from them and writes the models
back; on stdout it sends one line of JSON per step and one with the facts, on stderr what the libraries say.
"""

import contextlib
import ctypes
import io
import json
import os
import signal
import socket
import sys
import time
import warnings
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from hftcl.errors import HftclError
from hftcl.model.families import Family, Fitted, OnStep, find_family
from hftcl.model.serving import Predictor

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_ORDER_BYTES: Final = 1 << 20  # parameters and paths take a few thousand
_ORDER_FILES: Final = 16  # six are used


def main() -> None:
    """Do what the orders say until there is none any more. Exits 1 after a failure, whose reason it says."""
    _die_with(int(sys.argv[1]))
    orders = socket.socket(fileno=os.dup(0))
    say = _open_channel()
    warnings.simplefilter("ignore")
    while True:
        packet, descriptors, _, _ = socket.recv_fds(orders, _ORDER_BYTES, _ORDER_FILES)
        if not packet:  # the parent has closed its end
            return
        order = json.loads(packet)
        sys.path.extend(entry for entry in order["sys_path"] if entry not in sys.path)  # a family may live there
        if "prepare" in order:
            _prepare(order["prepare"])
            continue
        files: dict[str, IO[bytes]] = {
            name: os.fdopen(number, "r+b") for name, number in zip(order["files"], descriptors, strict=True)
        }
        try:
            say({"facts": _train(order, files, say)})
        except HftclError as error:
            say({"failed": f"gave up: {str(error).rstrip('.')}"})
            sys.exit(1)
        except MemoryError:
            say({"failed": "ran out of memory; use fewer tickers, days or trees"})
            sys.exit(1)
        finally:
            for file in files.values():
                file.close()


def _prepare(name: str) -> None:
    """Load what a family needs; what goes wrong here is told by the training."""
    with contextlib.suppress(Exception):
        prepare = getattr(find_family(name), "prepare", None)
        if prepare is not None:
            prepare()


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when the parent ends, however it ends.

    A thread that waits for the end of stdin would not do: a fit holds the GIL to its end [20 s measured].
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was gone before the kernel knew
        sys.exit(1)


def _open_channel() -> Any:
    """Return what sends one message to the parent; from now on, what a library prints goes to stderr."""
    channel: IO[str] = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr  # or Python would hold it back until after the traceback

    def say(message: dict[str, object]) -> None:
        channel.write(json.dumps(message) + "\n")
        channel.flush()

    return say


def _train(order: dict[str, Any], files: dict[str, IO[bytes]], say: Any) -> dict[str, object]:
    X, y, fitted_rows, held_out = _map_rows(order, files)
    family = find_family(order["family"])
    began = time.monotonic()
    inner = _fit(family, X[fitted_rows], y[fitted_rows], order, _build_stepper(say, "entry threshold", half=0))
    settle = getattr(family, "settle", None)
    if settle is not None:
        inner, order["params"] = settle(inner, X[held_out], y[held_out], order["params"])
    predictions = Predictor(inner.onnx, X.shape[1]).predict(X[held_out])
    threshold = float(np.float32(np.quantile(np.abs(predictions), order["entry_quantile"])))
    del inner
    halfway = time.monotonic()
    final = _fit(family, X, y, order, _build_stepper(say, "all rows", half=1))
    fitted = time.monotonic()
    _export(final, files)
    return {
        "threshold": threshold,
        "engine": final.engine,
        "importances": final.importances,
        "params": order["params"],
        "seconds": {"inner_fit": halfway - began, "fit": fitted - halfway, "export": time.monotonic() - fitted},
    }


def _map_rows(
    order: dict[str, Any], files: dict[str, IO[bytes]]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Map X, y, and the masks `fitted` and `held_out`, which the parent wrote, without copying them."""
    n, k = order["shape"]
    X = np.asarray(np.memmap(files["X"], np.float32, "r", shape=(n, k)))
    y = np.asarray(np.memmap(files["y"], np.float32, "r", shape=(n,)))
    fitted = np.asarray(np.memmap(files["fitted"], np.bool_, "r", shape=(n,)))
    held_out = np.asarray(np.memmap(files["held_out"], np.bool_, "r", shape=(n,)))
    return X, y, fitted, held_out


def _fit(
    family: Family, X: npt.NDArray[np.float32], y: npt.NDArray[np.float32], order: dict[str, Any], on_step: OnStep
) -> Fitted:
    return family.fit(X, y, order["params"], seed=order["seed"], jobs=order["jobs"], on_step=on_step)


def _build_stepper(say: Any, text: str, *, half: int) -> OnStep:
    """Count the two fits as one run of steps: the second starts where the first ended."""

    def on_step(done: int, total: int) -> None:
        say({"done": half * total + done, "total": 2 * total, "text": text})

    return on_step


def _export(final: Fitted, files: dict[str, IO[bytes]]) -> None:
    import joblib

    buffer = io.BytesIO()
    joblib.dump(final.estimator, buffer, compress=3)
    for name, data in (("onnx", final.onnx), ("pkl", buffer.getvalue())):
        files[name].write(data)
        files[name].flush()


if __name__ == "__main__":
    main()
