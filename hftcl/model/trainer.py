"""The child process of a training: `python -m hftcl.model.trainer PARENT`, with a Unix socket as its stdin.

Each packet there is an order, JSON with the descriptors of its files: it reads the rows from them and writes the models
back. On stdout it sends one line of JSON per step, one when the graph stands and one with the last facts; what the
libraries say goes to stderr.
"""

import contextlib
import gc
import io
import json
import os
import pickle
import socket
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from hftcl.entry_points import find_loaded_version
from hftcl.errors import HftclError, StorageError
from hftcl.free_memory import give_back
from hftcl.interrupts import die_with
from hftcl.mapped import build_no_room_error, create_array
from hftcl.model.families import Family, Fitted, OnStep, find_family, find_finish
from hftcl.model.families.per_ticker import PerTicker
from hftcl.model.file_size import require_small
from hftcl.model.sampling import Sampler, scale_weights
from hftcl.model.serving import Predictor, load_runtime
from hftcl.plug_ins import find_plug_in_fault

_ORDER_BYTES: Final = 1 << 20  # parameters and paths take a few thousand
_BLOCK_ROWS: Final = 65_536  # 8 MB of 31 features: what is copied at a time
_ORDER_FILES: Final = 16  # eleven are used
# What makes a model, as it is loaded here: the process that asked may be at work since before an upgrade.
_PACKAGES: Final = ("numpy", "scikit-learn", "onnx")


def main() -> None:
    """Do what the orders say until there is none any more. Exits 1 after a failure, whose reason it says."""
    die_with(int(sys.argv[1]))
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
            facts = _grow(order, files, say) if "grow" in order else _train(order, files, say)
            say({"facts": facts, "is_last": True})
        except StorageError as error:  # no fault of the training: the caller's search must not keep it as one
            say({"no_room": str(error)})
            sys.exit(1)
        except HftclError as error:
            say({"failed": f"gave up: {str(error).rstrip('.')}"})
            sys.exit(1)
        except MemoryError:
            say({"failed": "ran out of memory; use fewer tickers, days or trees"})
            sys.exit(1)
        except (Exception, SystemExit) as error:
            fault = find_plug_in_fault(error)
            if fault is None:
                raise
            traceback.print_exc()
            say({"failed": f"gave up: {str(fault).rstrip('.')}"})
            sys.exit(1)
        finally:
            for file in files.values():
                with contextlib.suppress(OSError):  # what the disk had no room for is told already
                    file.close()
        give_back()


@lru_cache
def _prepare(name: str) -> None:
    """Load what a family needs, once; what goes wrong here is told by the training."""
    with contextlib.suppress(Exception), _keep_all():
        load_runtime()
        for library in ("onnx", "joblib"):  # of every family too
            import_module(library)
        family = find_family(name)
        prepare = getattr(family, "prepare_child", None) or getattr(family, "prepare", None)
        if prepare is not None:
            prepare()


@contextlib.contextmanager
def _keep_all() -> Iterator[None]:
    """Look for no garbage in what is loaded within, now or later: it stays, and looking took a tenth of the time."""
    if gc.get_freeze_count():  # of another family: what its training left does not stay
        gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


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
    weights = np.asarray(np.memmap(files["weights"], np.float32, "r", shape=(len(y),))) if "weights" in files else None
    _prepare(order["family"])  # nothing where it was done while bars were collected
    family: Family = find_family(order["family"])
    if order["tickers"]:
        family = PerTicker(family, order["tickers"])
    began = time.monotonic()
    rows = _Rows(X=X, y=y, weights=weights, groups=_map_groups(order, files))
    stepper = _build_stepper(say, "entry threshold", half=0)
    brief = not (order["keep_inner"] or order["only_inner"])  # then its graph goes nowhere but into the threshold
    inner = _fit(family, rows, order, stepper, part=fitted_rows, brief=brief, grown=files.get("inner_grown"))
    require_small(len(inner.onnx), per_ticker=bool(order["tickers"]))  # that of all rows is seldom smaller
    settle = getattr(family, "settle", None)
    if settle is not None:
        inner, order["params"] = settle(inner, X[held_out], y[held_out], order["params"])
    predictions = _predict(Predictor(inner.onnx, X.shape[1]), X, np.flatnonzero(held_out), order["jobs"])
    threshold = float(np.float32(np.quantile(np.abs(predictions), order["entry_quantile"])))
    if order["keep_inner"]:
        _write(files["inner_onnx"], inner.onnx)
    halfway = time.monotonic()
    final, fitted = inner, halfway
    if not order["only_inner"]:
        del inner, final
        give_back()
        # one that is scored here and now and never archived needs no check of its export and no importances either
        stepper, finish = _build_stepper(say, "all rows", half=1), find_finish(family)
        brief = not order["with_pkl"] or finish is not None
        final = _fit(family, rows, order, stepper, brief=brief, grown=files.get("grown"))
        fitted = time.monotonic()
        require_small(len(final.onnx), per_ticker=bool(order["tickers"]))  # a trial that no file may hold wins nothing
        _write(files["onnx"], final.onnx)
    versions = {package: find_loaded_version(package) for package in _PACKAGES}
    facts = {"threshold": threshold, "engine": final.engine, "versions": versions, "params": order["params"]}
    say({"facts": facts, "is_last": False})
    if order["with_pkl"] and not order["only_inner"]:  # the parent examines the graph meanwhile
        if finish is not None:
            final = finish(final, X, jobs=order["jobs"])
        _write_pkl(final.estimator, files["pkl"])
    return {
        "importances": final.importances,
        "seconds": {"inner_fit": halfway - began, "fit": fitted - halfway, "export": time.monotonic() - fitted},
    }


def _grow(order: dict[str, Any], files: dict[str, IO[bytes]], say: Any) -> dict[str, object]:
    """Grow one tree of its sample, which is all the rows here."""
    n, k = order["shape"]
    X = np.asarray(np.memmap(files["X"], np.float32, "r", shape=(n, k)))
    y = np.asarray(np.memmap(files["y"], np.float32, "r", shape=(n,)))
    weights = np.asarray(np.memmap(files["weights"], np.float32, "r", shape=(n,))) if "weights" in files else None
    _prepare(order["family"])
    family: Any = find_family(order["family"])
    grown = family.grow_tree(
        X,
        y,
        order["grow"],
        seed=order["seed"],
        jobs=order["jobs"],
        on_step=_build_stepper(say, "a tree", halves=1),
        weights=weights,
    )
    _write(files["tree"], pickle.dumps(grown))
    return {}


def _load_grown(file: IO[bytes]) -> list[Any]:
    """Return what `_grow` wrote of each tree, one after the other."""
    grown: list[Any] = []
    file.seek(0)
    while True:
        try:
            grown.append(pickle.load(file))  # noqa: S301 - of this pool, or of a worker that is trusted with the model
        except EOFError:
            return grown


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


def _map_groups(order: dict[str, Any], files: dict[str, IO[bytes]]) -> npt.NDArray[np.int32] | None:
    if "groups" not in files:
        return None
    return np.asarray(np.memmap(files["groups"], np.int32, "r", shape=(order["shape"][0],)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """What all fits of one order learn from; see `training.TrainingTask`."""

    X: npt.NDArray[np.float32]
    y: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32] | None
    groups: npt.NDArray[np.int32] | None

    def take(self, part: npt.NDArray[np.bool_]) -> "_Rows":
        """Return a copy of some of them, without groups; that of X lies in an unnamed file, as X itself does."""
        rows = np.flatnonzero(part)
        X = create_array((rows.size, self.X.shape[1]), np.float32)
        for begin in range(0, rows.size, _BLOCK_ROWS):
            X[begin : begin + _BLOCK_ROWS] = self.X[rows[begin : begin + _BLOCK_ROWS]]
        weights = None if self.weights is None else self.weights[part]
        return _Rows(X=np.asarray(X), y=self.y[part], weights=weights, groups=None)


def _predict(
    predictor: Predictor, X: npt.NDArray[np.float32], rows: npt.NDArray[np.int64], jobs: int
) -> npt.NDArray[np.float32]:
    """Return what it predicts of `rows`, a part at a time: a copy of all of them would not fit."""
    parts = [rows[begin : begin + _BLOCK_ROWS] for begin in range(0, len(rows), _BLOCK_ROWS)]
    return np.concatenate([predictor.predict_parts(np.array_split(X[part], jobs), jobs) for part in parts])


def _fit(
    family: Family,
    rows: _Rows,
    order: dict[str, Any],
    on_step: OnStep,
    *,
    part: npt.NDArray[np.bool_] | None = None,
    brief: bool = False,
    grown: IO[bytes] | None = None,
) -> Fitted:
    """Fit on all rows, or on `part` of them; on samples where these are more than may be held.

    grown: trees of these samples that have grown already.
    """
    options: dict[str, Any] = {}
    size = len(rows.y) if part is None else int(np.count_nonzero(part))
    if rows.groups is not None and size > order["max_rows"]:
        among = np.arange(size) if part is None else np.flatnonzero(part)
        options["sampler"] = Sampler(rows.groups, among, order["max_rows"], order["seed"])
        if grown is not None:
            options["grown"] = _load_grown(grown)
    elif part is not None:
        rows = rows.take(part)
    if rows.weights is not None:
        options["weights"] = scale_weights(rows.weights)
    if brief and getattr(family, "tells_brief", False):
        options["brief"] = True
    return family.fit(
        rows.X, rows.y, order["params"], seed=order["seed"], jobs=order["jobs"], on_step=on_step, **options
    )


def _build_stepper(say: Any, text: str, *, half: int = 0, halves: int = 2) -> OnStep:
    """Count the two fits as one run of steps: the second starts where the first ended."""

    def tell_step(done: int, total: int) -> None:  # int: a family may count in numbers of numpy's, or in floats
        say({"done": int(half * total + done), "total": int(halves * total), "text": text})

    return tell_step


def _write_pkl(estimator: Any, file: IO[bytes]) -> None:
    import joblib

    buffer = io.BytesIO()
    joblib.dump(estimator, buffer, compress=3)
    _write(file, buffer.getvalue())


def _write(file: IO[bytes], data: bytes) -> None:
    try:
        file.write(data)
        file.flush()
    except OSError as error:
        raise build_no_room_error(error) from error


if __name__ == "__main__":
    main()
