"""A model file: written whole, checked before anything in it is believed, served.

The file is an ONNX model that describes itself: one metadata entry holds a `ModelMeta` as JSON, the last entry the
SHA-256 of every byte before it; between them there is a signature where a key is set. The last entry is the file's
tail, at a fixed place, so a foreign or damaged file is refused before it is parsed. Nothing is ever unpickled, and no
code runs on loading.
"""

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from platform import python_version
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from hftcl import __version__
from hftcl.archive import signing
from hftcl.archive.feature_set import FeatureSet, list_our_features, require_columns, require_features
from hftcl.archive.known_graph import check_graph, parse_graph, require_known
from hftcl.archive.looks import Look
from hftcl.archive.model_meta import FORMAT, FORMAT_OF_HAND, FORMAT_PER_TICKER, ModelMeta, decode_meta
from hftcl.entry_points import find_loaded_version
from hftcl.errors import IntegrityError, StorageError
from hftcl.exam.slices import Slice
from hftcl.model.file_size import MAX_BYTES, require_small
from hftcl.model.serving import Predictor

# With what a caller needs beside a file: the features that it must read, and the check of a graph before there is one.
__all__ = [
    "CANARY_TOLERANCE",
    "FORMAT",
    "FORMAT_OF_HAND",
    "FORMAT_PER_TICKER",
    "MAX_BYTES",
    "FeatureSet",
    "Model",
    "ModelMeta",
    "add_exam",
    "build",
    "check_graph",
    "complete",
    "describe",
    "digest_data",
    "find_library_versions",
    "finish_exam",
    "list_changed_versions",
    "list_our_features",
    "load",
    "open_trained",
    "pick_canary_rows",
]

# Float32 has 7 digits: runtimes of other versions differ by less, another model by far more.
CANARY_TOLERANCE: Final = 1e-6
# 5 extremes and 11 training rows: another forest hardly agrees on all; a few KB in the file, one call to check.
_CANARY_ROWS: Final = 16
_LARGE: Final = 1e30  # beyond any threshold of a tree, and finite in float32, whose largest is 3.4e38
_META_KEY: Final = "hftcl"  # the package's own name: other tools' metadata_props, such as skl2onnx's, have other keys
_DIGEST_KEY: Final = "hftcl.sha256"  # last in the file: it covers every byte before it, so it cannot stand within
_SIGNATURE_KEY: Final = "hftcl.signed"  # as long as the other: both tails have one form
# A tail as protobuf: field 14 of ModelProto (metadata_props), whose field 1 is the key and field 2 the 64 digits.
_TAIL_HEAD: Final = b"\x72\x50\x0a\x0c" + _DIGEST_KEY.encode() + b"\x12\x40"
_SIGNED_HEAD: Final = b"\x72\x50\x0a\x0c" + _SIGNATURE_KEY.encode() + b"\x12\x40"  # as _TAIL_HEAD, for the signature
_TAIL_BYTES: Final = len(_TAIL_HEAD) + 64  # 64 hexadecimal digits of SHA-256 end it
# Their versions go into the metadata: what may change a fitted model or what a graph predicts.
_PACKAGES: Final = ("numpy", "scikit-learn", "onnx", "onnxruntime", "polars")


class Model:
    """A verified model file, ready to predict. Safe to share between threads."""

    __slots__ = ("_predictor", "meta", "sha256")

    def __init__(self, meta: ModelMeta, sha256: str, predictor: Predictor) -> None:
        """Only `load`, `finish_exam`, `open_trained` and `complete` make one."""
        self.meta = meta
        self.sha256 = sha256
        self._predictor = predictor

    def __repr__(self) -> str:
        """Return a line: what it is, and on what it was trained."""
        meta = self.meta
        bars = "SYNTHETIC" if meta.synthetic else meta.source
        return f"Model({meta.model_id}, {meta.family}, {len(meta.feature_names)} features, {bars} bars)"

    def predict(self, X: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return float32 predictions, shape (n,), in units of the target (trailing volatilities), row for row.

        X: float32, shape (n, n_features), in the order of `meta.feature_names`, finite; where there is a model a
        ticker, with one more column, see `meta.inputs`. A row gives the same bits alone and in any batch. Raises
        ValueError for anything else: leave rows that are not known yet out.
        """
        return self._predictor.predict(X)

    def find_novel(self, X: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
        """Return, row for row of such an `X`, whether it lies too far from the training for a signal."""
        novelty = self.meta.novelty
        return np.zeros(len(X), dtype=np.bool_) if novelty is None else novelty.find_novel(X)


def find_library_versions(engine: str, trained: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the versions that a prediction may depend on: of what this process has loaded, or would load.

    engine: the text of the training. trained: by package, what another process trained with, see `Begun`.
    """
    versions = {"hftcl": __version__, "python": python_version(), "engine": engine}
    return versions | {package: find_loaded_version(package) for package in _PACKAGES} | dict(trained or {})


def digest_data(X: npt.NDArray[np.float32], y: npt.NDArray[np.float32]) -> str:
    """Return the SHA-256, hexadecimal, of the training rows, in their order: shapes, then values, then targets."""
    digest = hashlib.sha256(f"{X.dtype} {X.shape} {y.dtype} {y.shape}".encode())
    digest.update(np.ascontiguousarray(X).data)
    digest.update(np.ascontiguousarray(y).data)
    return digest.hexdigest()


def pick_canary_rows(X: npt.NDArray[np.float32], *, numbered: bool = False) -> npt.NDArray[np.float32]:
    """Return 16 rows, float32 (16, k), to tell one model from another: training rows, and extremes around them.

    numbered: the last column is no feature but the number of a ticker, which is one of those of X in each row.
    """
    extremes = [X.min(axis=0), X.max(axis=0), np.zeros(X.shape[1]), np.full(X.shape[1], _LARGE)]
    extremes.append(-extremes[-1])
    chosen = np.linspace(0, len(X) - 1, _CANARY_ROWS - len(extremes)).astype(np.int64)
    rows = np.vstack([X[chosen], *extremes]).astype(np.float32)
    if numbered:
        rows[:, -1] = rows[:, -1].clip(X[:, -1].min(), X[:, -1].max())
    return rows


def build(onnx: bytes, meta: ModelMeta, canaries: npt.NDArray[np.float32]) -> bytes:
    """Return the bytes of a model file: the graph, `meta` completed by the canaries' predictions, and the digest.

    canaries: float32 (m, k), m at least 1, finite. Raises IntegrityError for a graph that `load` would refuse,
    TrainingError for one that is too large.
    """
    opened, graph = open_trained(onnx, meta)
    return complete(opened, graph, meta, canaries)[0]


def complete(opened: Model, graph: bytes, meta: ModelMeta, canaries: npt.NDArray[np.float32]) -> tuple[bytes, Model]:
    """Return what `build` does, and the model of that file: `opened`, whose session goes on serving.

    opened, graph: as `open_trained` returned them. meta: what the file says, of the same graph. Raises as `build`.
    """
    predictions = opened.predict(canaries)
    data, whole = _serialize(
        graph,
        replace(
            meta,
            canary_rows=tuple(tuple(row) for row in canaries.tolist()),
            canary_predictions=tuple(predictions.tolist()),
        ),
    )
    return data, Model(whole, hashlib.sha256(data).hexdigest(), opened._predictor)


def add_exam(data: bytes, slices: Mapping[str, tuple[Slice, ...]], look: Look | None) -> bytes:
    """Return the model file `data` with what its exam said beside its metadata: the slices, and the look that it was.

    Graph and canaries are those of `data`, so what was examined is what is archived. Raises as `build` does.
    """
    model, meta = _open_verified("The examined model", data)
    del model.metadata_props[:]
    graph = bytes(model.SerializeToString(deterministic=True))
    return _serialize(graph, replace(meta, exam_slices=dict(slices), exam_look=look))[0]


def finish_exam(
    examined: Model, data: bytes, slices: Mapping[str, tuple[Slice, ...]], look: Look | None
) -> tuple[bytes, Model]:
    """Return what `add_exam` does, and the model of it: `examined`, that of `data`, whose session goes on serving.

    examined: of a file that this hftcl wrote. The graph is the same to the byte, so that nothing is parsed or opened
    again. Raises as `build` does, and IntegrityError where `examined` is the model of another file.
    """
    body = _cut_signature(data[:-_TAIL_BYTES])
    entry = _write_entry(examined.meta)
    if examined.sha256 != hashlib.sha256(data).hexdigest() or not body.endswith(entry):
        raise IntegrityError(f"Model {examined.meta.model_id} was examined, and this is another file. Train it again.")
    graph = body[: -len(entry)]
    onnx, meta = _serialize(graph, replace(examined.meta, exam_slices=dict(slices), exam_look=look))
    return onnx, Model(meta, hashlib.sha256(onnx).hexdigest(), examined._predictor)


def _serialize(graph: bytes, meta: ModelMeta) -> tuple[bytes, ModelMeta]:
    """Return the bytes of a graph without metadata, then of `meta` and the digest of it all; and `meta` as read back.

    Of an onnx.ModelProto metadata are the last field, in the order of their numbers, that any graph of ours has.
    """
    whole = decode_meta(_encode(meta), "The new model")  # a NaN among them would be found by nobody before deployment
    body = _add_signature(graph + _write_entry(whole))  # as read back: an int that a float may be is written as one
    require_small(len(body) + _TAIL_BYTES, per_ticker=bool(meta.ticker_models))
    return _add_digest(body), whole


def _write_entry(meta: ModelMeta) -> bytes:
    """Return `meta` as the bytes of an entry of metadata in a model file."""
    import onnx

    return bytes(onnx.ModelProto(metadata_props=[{"key": _META_KEY, "value": _encode(meta)}]).SerializeToString())


def _encode(meta: ModelMeta) -> str:
    return msgspec.json.encode(meta).decode()


def sign(data: bytes) -> bytes:
    """Return a model file that was built where the key is not, signed; without a signature where no key is set.

    One that it has is cut off, for a worker's own key would make a file that is refused here for ever. Raises
    IntegrityError for what is no whole model file.
    """
    body = data[:-_TAIL_BYTES]
    if data != _add_digest(body):
        raise IntegrityError("The model was altered on its way here. Train it again.")
    return _add_digest(_add_signature(_cut_signature(body)))


def _cut_signature(body: bytes) -> bytes:
    """Return what is before the last tail, without the signature that may end it."""
    return body[:-_TAIL_BYTES] if body[-_TAIL_BYTES:].startswith(_SIGNED_HEAD) else body


def _add_signature(body: bytes) -> bytes:
    key = signing.read_key()
    return body if key is None else body + _SIGNED_HEAD + signing.sign_data(key, body).encode()


def _add_digest(body: bytes) -> bytes:
    return body + _TAIL_HEAD + hashlib.sha256(body).hexdigest().encode()


def load(
    source: Path | bytes, *, expected_sha256: str | None = None, expected_features: FeatureSet | None = None
) -> Model:
    """Verify a model file and return it ready to predict.

    In this order: a regular file of bounded size; the SHA-256, where one is expected; the digest in its own tail; the
    signature, where a key is set; a graph of known operators, one float32 input and output; complete metadata; features
    among those that `expected_features` computes, where given; canary predictions within 1e-6.
    Raises IntegrityError saying which failed, NewerVersionError for a file of a newer hftcl, StorageError where the
    file cannot be read.
    """
    name, data = _read_source(source)
    sha256 = hashlib.sha256(data).hexdigest()
    if expected_sha256 is not None and sha256 != expected_sha256:
        raise IntegrityError(
            f"{name} is not the one that was registered: its SHA-256 begins {sha256[:12]}, not {expected_sha256[:12]}."
        )
    model, meta = _open_verified(name, data)
    if expected_features is not None:
        require_computed(meta, expected_features, name)
    del model.metadata_props[:]  # onnxruntime gets the graph alone
    try:
        predictor = Predictor(model.SerializeToString(), meta.inputs.width)
    except IntegrityError as error:
        raise IntegrityError(f"{name} cannot be served: {error}") from error
    _require_canaries(meta, predictor, name)
    return Model(meta, sha256, predictor)


def open_trained(onnx: bytes, meta: ModelMeta) -> tuple[Model, bytes]:
    """Return a model that was just trained, and its graph as its file will hold it, without what its writer noted.

    The model is ready to be scored; it has no file, no canaries, and must not serve: see `complete`. Raises
    IntegrityError for a graph that `load` would refuse.
    """
    model = parse_graph(onnx, "The trained graph")
    del model.metadata_props[:]
    _require_known(model, meta, "The trained graph")
    graph = bytes(model.SerializeToString(deterministic=True))
    return Model(meta, "", Predictor(graph, meta.inputs.width)), graph


def require_computed(meta: ModelMeta, features: FeatureSet, name: str) -> None:
    """Raise IntegrityError where the model `name` reads features, or columns, that `features` does not compute."""
    require_columns(meta.features, features, name)
    require_features(meta.features, features.narrow(meta.feature_names), name)


def describe(source: Path | bytes) -> ModelMeta:
    """Return what a model file says about itself: verified as by `load`, but no session is opened, no canary asked."""
    return _open_verified(*_read_source(source))[1]


def read_graph(source: Path | bytes) -> bytes:
    """Return the graph of a model file without its metadata, verified as by `describe`: the same graph, the same bytes.

    For who reads it, and for who compares two; to predict, `load` it.
    """
    model, _ = _open_verified(*_read_source(source))
    return strip(model.SerializeToString())


def strip(onnx: bytes) -> bytes:
    """Return a graph as `read_graph` does: of a training, without what its writer noted beside it."""
    model = parse_graph(onnx, "The graph")
    del model.metadata_props[:]
    return bytes(model.SerializeToString(deterministic=True))


def _read_source(source: Path | bytes) -> tuple[str, bytes]:
    if isinstance(source, bytes):
        _require_bounded("The model", len(source))
        return "The model", source
    return f"The model file {source}", _read(source)


def _require_bounded(name: str, size: int) -> None:
    if size > MAX_BYTES:
        raise IntegrityError(f"{name} has {size} bytes, and a model file may have {MAX_BYTES}. It is not a model.")


def _read(path: Path) -> bytes:
    name = f"The model file {path}"
    try:
        # O_NONBLOCK: a pipe in its place must not hang us; a regular file does not mind.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise IntegrityError(f"{name} is not a regular file.")
            _require_bounded(name, status.st_size)
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                return file.read(MAX_BYTES)
        finally:
            os.close(descriptor)
    except FileNotFoundError as error:
        raise IntegrityError(f"{name} is missing.") from error
    except OSError as error:
        reason = error.strerror or error
        remedy = "Let this user read it, or restore it from a backup."
        raise StorageError(f"{name} cannot be read: {reason}. {remedy}") from error


def _open_verified(name: str, data: bytes) -> tuple[Any, ModelMeta]:
    """Return the graph (onnx.ModelProto) and the metadata of a file that passes every check that needs no session."""
    body, tail = data[:-_TAIL_BYTES], data[-_TAIL_BYTES:]
    if not tail.startswith(_TAIL_HEAD):
        raise IntegrityError(f"{name} was not written by hftcl, or is cut short.")
    if tail[len(_TAIL_HEAD) :] != hashlib.sha256(body).hexdigest().encode():
        raise IntegrityError(f"{name} was altered after it was written: its own digest does not fit.")
    signed = body[-_TAIL_BYTES:] if body[-_TAIL_BYTES:].startswith(_SIGNED_HEAD) else b""
    signature = signed[len(_SIGNED_HEAD) :].decode("ascii", "replace") if signed else None
    signing.require(name, body[: len(body) - len(signed)], signature)
    model = parse_graph(data, name)
    expected = [_META_KEY, *([_SIGNATURE_KEY] if signed else []), _DIGEST_KEY]
    if [entry.key for entry in model.metadata_props] != expected:
        raise IntegrityError(f"{name} does not hold exactly the metadata that hftcl writes.")
    meta = decode_meta(model.metadata_props[0].value, name)
    _require_known(model, meta, name)
    return model, meta


def _require_known(model: Any, meta: ModelMeta, name: str) -> None:
    require_known(model, len(meta.feature_names), name, routed=bool(meta.ticker_models))


def _require_canaries(meta: ModelMeta, predictor: Predictor, name: str) -> None:
    rows = np.asarray(meta.canary_rows, dtype=np.float32)
    if not np.isfinite(rows).all():
        raise IntegrityError(f"{name} has canary rows that are not finite.")
    apart = float(np.abs(predictor.predict(rows).astype(np.float64) - np.asarray(meta.canary_predictions)).max())
    if not apart <= CANARY_TOLERANCE:
        raise IntegrityError(
            f"{name} predicts otherwise than when it was trained, by {apart:.2g}{_describe_change(meta.versions)}. "
            "Retrain, or go back to those versions."
        )


def list_changed_versions(then: Mapping[str, str]) -> list[str]:
    """Return what of the `versions` of a model is another one now, such as "polars 1.30.0, now 1.31.0"."""
    now = find_library_versions(then.get("engine", ""))
    return [f"{name} {then[name]}, now {now[name]}" for name in then if name in now and then[name] != now[name]]


def _describe_change(then: Mapping[str, str]) -> str:
    changed = list_changed_versions(then)
    return f" (trained with {'; '.join(changed)})" if changed else ""
