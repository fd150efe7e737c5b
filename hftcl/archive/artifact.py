"""A model file: written whole, checked before anything in it is believed, served.

The file is an ONNX model that describes itself: one metadata entry holds a `ModelMeta` as JSON, the last entry the
SHA-256 of every byte before it; between them there is a signature where a key is set. The last entry is the file's
tail, at a fixed place, so a foreign or damaged file is refused before it is parsed. Nothing is ever unpickled, and no
code runs on loading.
"""

import hashlib
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from hftcl import __version__
from hftcl.archive import signing
from hftcl.errors import IntegrityError, NewerVersionError, StorageError, TrainingError
from hftcl.exam.drift import FeatureBins
from hftcl.exam.slices import Slice
from hftcl.market.received import TickerCoverage
from hftcl.model.serving import INPUT, Predictor
from hftcl.settings import Settings

if TYPE_CHECKING:
    from hftcl.model.features import Feature

FORMAT: Final = 1  # the first: raise it when a reader of today would misread the file
# A model is read whole into memory, by bot and doctor too; 50 times the 5 MB that the doctor reckons with.
MAX_BYTES: Final = 256 * 2**20
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
# Of onnx.AttributeProto.AttributeType: a number, a text, a tensor, and lists of numbers and texts; no graphs.
_PLAIN_ATTRIBUTES: Final = frozenset({1, 2, 3, 4, 6, 7, 8})
# What trees, a weighted sum or a vote over them needs. None of these can read a file, loop or call anything.
_OPERATORS: Final = {
    "ai.onnx.ml": frozenset({"TreeEnsembleRegressor"}),
    "": frozenset(
        ["Add", "Cast", "Concat", "Constant", "Div", "Identity", "MatMul", "Mean", "Mul", "Reshape", "Sub", "Sum"]
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSet:
    """The features of a model or of this program: names in order, SHA-256 of what they mean, and their formulae.

    sources: SHA-256 of the user's file that each stands in, "" for ours; empty where none is the user's. table: all
    that this program computes, of which a model may read some; empty for a model's.
    """

    names: tuple[str, ...]
    definitions_hash: str
    formulae: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    table: "tuple[Feature, ...]" = field(default=(), repr=False, compare=False)

    @property
    def own(self) -> "tuple[Feature, ...]":
        """Those of the user's files among `names`; none where there is no table."""
        return tuple(feature for feature in self.table if feature.source and feature.name in self.names)

    def narrow(self, names: Sequence[str]) -> "FeatureSet":
        """Return those of the table that are among `names`, in that order; itself where it has no table."""
        if not self.table:
            return self
        known = {feature.name: feature for feature in self.table}
        return _describe_features(tuple(known[name] for name in names if name in known), self.table)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelMeta:
    """What a model file says about itself. Dates are sessions, times UTC; the target's unit is trailing volatility.

    threshold: on |prediction|, from the `entry_quantile` of an inner split. label_end: when the last label that was
    trained on was known; no bar up to it may examine this model. data_digest: SHA-256 of the training rows.
    feature_sources: SHA-256 of the user's file of each feature, "" for ours; empty where all are ours. Never the code.
    feature_bins: how each feature was distributed over the training rows; None in a file of an earlier hftcl.
    exam_slices: where the P&L of its first exam came from, see `exam.slices`; None before it, or of an earlier hftcl.
    coverage: what of the window's bars had come, by ticker, those that are left out too; None of an earlier hftcl.
    canary_*: rows, float32, and the predictions that this file must give for them on every machine; `build`
    fills them in.
    """

    model_id: str
    feature_names: tuple[str, ...]
    feature_formulae: tuple[str, ...] = field(repr=False)
    features_hash: str
    target: str
    horizon_minutes: int
    threshold: float
    entry_quantile: float
    cost_bps: float
    flat_minutes_before_close: int
    tickers: tuple[str, ...]
    calendar: str
    extended_hours: bool
    trained_from: date
    trained_to: date
    label_end: Annotated[datetime, Meta(tz=True)]
    exam_from: date | None
    exam_to: date | None
    rows: int
    data_digest: str
    family: str
    params: dict[str, str | int | float | bool | None]
    seed: int
    versions: dict[str, str]
    source: str
    synthetic: bool
    importances: tuple[float, ...] | None = field(repr=False)
    feature_sources: tuple[str, ...] = field(default=(), repr=False)
    feature_bins: tuple[FeatureBins, ...] | None = field(default=None, repr=False)
    exam_slices: dict[str, tuple[Slice, ...]] | None = field(default=None, repr=False)
    coverage: tuple[TickerCoverage, ...] | None = field(default=None, repr=False)
    canary_rows: tuple[tuple[float, ...], ...] = field(default=(), repr=False)
    canary_predictions: tuple[float, ...] = field(default=(), repr=False)
    format: int = FORMAT

    @property
    def features(self) -> FeatureSet:
        """The features that the model reads."""
        return FeatureSet(
            names=self.feature_names,
            definitions_hash=self.features_hash,
            formulae=self.feature_formulae,
            sources=self.feature_sources,
        )


class Model:
    """A verified model file, ready to predict. Safe to share between threads."""

    __slots__ = ("_predictor", "meta", "sha256")

    def __init__(self, meta: ModelMeta, sha256: str, predictor: Predictor) -> None:
        """Only `load` makes one."""
        self.meta = meta
        self.sha256 = sha256
        self._predictor = predictor

    def predict(self, X: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return float32 predictions, shape (n,), in units of the target (trailing volatilities), row for row.

        X: float32, shape (n, n_features), in the order of `meta.feature_names`, finite. A row gives the same bits
        alone and in any batch. Raises ValueError for anything else: leave rows that are not known yet out.
        """
        return self._predictor.predict(X)


def our_features(settings: Settings | None = None) -> FeatureSet:
    """Return the features that a model is trained on, and, in its table, all that this program computes.

    settings: None for ours alone. Raises ConfigError as `own_features.find_features` does.
    """
    from hftcl.model.features import OUR_TABLE
    from hftcl.model.own_features import find_features

    table = OUR_TABLE if settings is None else find_features(settings)
    return _describe_features(table.chosen, table.known)


def _describe_features(features: "tuple[Feature, ...]", table: "tuple[Feature, ...]") -> FeatureSet:
    from hftcl.model.features import definitions_hash

    sources = tuple(feature.source for feature in features)
    return FeatureSet(
        names=tuple(feature.name for feature in features),
        definitions_hash=definitions_hash(features),
        formulae=tuple(feature.formula for feature in features),
        sources=sources if any(sources) else (),
        table=table,
    )


def library_versions(engine: str) -> dict[str, str]:
    """Return the versions that a prediction may depend on; `engine` is the text of the training."""
    versions = {"hftcl": __version__, "python": python_version(), "engine": engine}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "absent"
    return versions


def digest_data(X: npt.NDArray[np.float32], y: npt.NDArray[np.float32]) -> str:
    """Return the SHA-256, hexadecimal, of the training rows, in their order: shapes, then values, then targets."""
    digest = hashlib.sha256(f"{X.dtype} {X.shape} {y.dtype} {y.shape}".encode())
    digest.update(np.ascontiguousarray(X).data)
    digest.update(np.ascontiguousarray(y).data)
    return digest.hexdigest()


def pick_canary_rows(X: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return 16 rows, float32 (16, k), to tell one model from another: training rows, and extremes around them."""
    extremes = [X.min(axis=0), X.max(axis=0), np.zeros(X.shape[1]), np.full(X.shape[1], _LARGE)]
    extremes.append(-extremes[-1])
    chosen = np.linspace(0, len(X) - 1, _CANARY_ROWS - len(extremes)).astype(np.int64)
    return np.vstack([X[chosen], *extremes]).astype(np.float32)


def build(onnx: bytes, meta: ModelMeta, canaries: npt.NDArray[np.float32]) -> bytes:
    """Return the bytes of a model file: the graph, `meta` completed by the canaries' predictions, and the digest.

    canaries: float32 (m, k), m at least 1, finite. Raises IntegrityError for a graph that `load` would refuse,
    TrainingError for one that is too large.
    """
    model = _parse_graph(onnx, "The trained graph")
    del model.metadata_props[:]
    _require_known_graph(model, len(meta.feature_names), "The trained graph")
    predictions = Predictor(model.SerializeToString(), len(meta.feature_names)).predict(canaries)
    whole = replace(
        meta,
        canary_rows=tuple(tuple(row) for row in canaries.tolist()),
        canary_predictions=tuple(predictions.tolist()),
    )
    return _serialize(model, whole)


def add_slices(data: bytes, slices: Mapping[str, tuple[Slice, ...]]) -> bytes:
    """Return the model file `data` with the slices of its exam beside its metadata.

    Graph and canaries are those of `data`, so what was examined is what is archived. Raises as `build` does.
    """
    model, meta = _open_verified("The examined model", data)
    del model.metadata_props[:]
    return _serialize(model, replace(meta, exam_slices=dict(slices)))


def _serialize(model: Any, meta: ModelMeta) -> bytes:
    """Return the bytes of a graph (onnx.ModelProto without metadata) with `meta` and the digest of it all."""
    text = msgspec.json.encode(meta).decode()
    _decode_meta(text, "The new model")  # a NaN among the metadata would be found by nobody before the deployment
    model.metadata_props.add(key=_META_KEY, value=text)
    body = bytes(model.SerializeToString(deterministic=True))
    key = signing.read_key()
    if key is not None:
        body += _SIGNED_HEAD + signing.sign_data(key, body).encode()
    if len(body) + _TAIL_BYTES > MAX_BYTES:
        raise TrainingError(
            f"The model takes {len(body) / 2**20:.0f} MiB, and a model file may have {MAX_BYTES / 2**20:.0f}. "
            "Use fewer or shallower trees, or a larger min_samples_leaf."
        )
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
        _require_features(meta.features, expected_features.narrow(meta.feature_names), name)
    del model.metadata_props[:]  # onnxruntime gets the graph alone
    try:
        predictor = Predictor(model.SerializeToString(), len(meta.feature_names))
    except IntegrityError as error:
        raise IntegrityError(f"{name} cannot be served: {error}") from error
    _require_canaries(meta, predictor, name)
    return Model(meta, sha256, predictor)


def describe(source: Path | bytes) -> ModelMeta:
    """Return what a model file says about itself: verified as by `load`, but no session is opened, no canary asked."""
    return _open_verified(*_read_source(source))[1]


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
        raise StorageError(f"{name} cannot be read: {error.strerror or error}.") from error


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
    model = _parse_graph(data, name)
    expected = [_META_KEY, *([_SIGNATURE_KEY] if signed else []), _DIGEST_KEY]
    if [entry.key for entry in model.metadata_props] != expected:
        raise IntegrityError(f"{name} does not hold exactly the metadata that hftcl writes.")
    meta = _decode_meta(model.metadata_props[0].value, name)
    _require_known_graph(model, len(meta.feature_names), name)
    return model, meta


def check_graph(onnx: bytes, n_features: int) -> None:
    """Raise IntegrityError for a graph that no model file may hold: the check of `build` and `load`, on its own."""
    _require_known_graph(_parse_graph(onnx, "The graph"), n_features, "The graph")


def _parse_graph(data: bytes, name: str) -> Any:
    import onnx

    try:
        return onnx.ModelProto.FromString(data)
    except Exception as error:  # the DecodeError of whichever protobuf onnx brings
        raise IntegrityError(f"{name} is not an ONNX model.") from error


def _decode_meta(text: str, name: str) -> ModelMeta:
    try:
        stated = msgspec.json.decode(text, type=dict[str, Any]).get("format")
        if isinstance(stated, int) and stated > FORMAT:
            raise NewerVersionError(
                f"{name} has format {stated}; this hftcl {__version__} reads up to {FORMAT}. Upgrade hftcl."
            )
        meta = msgspec.json.decode(text, type=ModelMeta)
    except msgspec.DecodeError as error:  # ValidationError is one of them
        raise IntegrityError(f"{name} has incomplete metadata: {error}.") from error
    width = len(meta.feature_names)
    rows_fit = all(len(row) == width for row in meta.canary_rows)
    if not meta.canary_rows or len(meta.canary_predictions) != len(meta.canary_rows) or not rows_fit:
        raise IntegrityError(f"{name} has incomplete metadata: no canary rows of {width} features with predictions.")
    bins = meta.feature_bins
    if bins is not None and (len(bins) != width or any(len(one.shares) != len(one.edges) + 1 for one in bins)):
        raise IntegrityError(f"{name} has incomplete metadata: its bins are not those of {width} features.")
    return meta


def _require_known_graph(model: Any, n_features: int, name: str) -> None:
    """Refuse whatever is more than trees and arithmetic on one input, so that onnxruntime meets nothing else."""
    graph = model.graph
    if model.functions or model.training_info or graph.sparse_initializer or graph.quantization_annotation:
        raise IntegrityError(f"{name} holds more than a graph.")
    unknown = [node.op_type for node in graph.node if node.op_type not in _OPERATORS.get(node.domain, ())]
    if unknown or not graph.node:
        raise IntegrityError(f"{name} holds operators that no model of hftcl has: {', '.join(unknown) or 'none'}.")
    attributes = [attribute for node in graph.node for attribute in node.attribute]
    if any(attribute.type not in _PLAIN_ATTRIBUTES for attribute in attributes):
        raise IntegrityError(f"{name} holds a graph within its graph.")
    tensors = [*graph.initializer, *(attribute.t for attribute in attributes)]
    if any(tensor.external_data or tensor.data_location for tensor in tensors):
        raise IntegrityError(f"{name} points to data outside of itself.")
    shapes = [_shape(value) for value in (*graph.input, *graph.output)]
    if shapes != [("float32", 0, n_features), ("float32", 0, 1)] or graph.input[0].name != INPUT:
        raise IntegrityError(f"{name} does not take {INPUT}[rows, {n_features}] float32 to one float32: {shapes}.")
    for node in graph.node:
        _require_splits_within(node, n_features, name)


def _shape(value: Any) -> tuple[str, int, int]:
    """Return (type, rows, columns) of a graph's input or output; 0 rows stand for any number of them."""
    tensor = value.type.tensor_type
    dims = [dim.dim_value for dim in tensor.shape.dim]
    rows, columns = dims if len(dims) == 2 else (-1, -1)
    return "float32" if tensor.elem_type == 1 else f"type {tensor.elem_type}", rows, columns


def _require_splits_within(node: Any, n_features: int, name: str) -> None:
    """Refuse a tree that splits on a column that is not there: onnxruntime would read beyond the row."""
    if node.op_type != "TreeEnsembleRegressor":
        return
    for attribute in node.attribute:
        if attribute.name == "nodes_featureids":
            columns = np.asarray(attribute.ints)
            if columns.size and not (columns.min() >= 0 and columns.max() < n_features):
                raise IntegrityError(f"{name} splits on a feature that it does not have.")


def _require_features(trained_set: FeatureSet, current_set: FeatureSet, name: str) -> None:
    if trained_set.names == current_set.names and trained_set.definitions_hash == current_set.definitions_hash:
        return
    raise IntegrityError(
        f"{name} was trained on other features than this hftcl computes: "
        f"{_describe_difference(trained_set, current_set)}. "
        f"{_advise(trained_set)}"
    )


def _advise(trained_set: FeatureSet) -> str:
    if any(trained_set.sources):
        return "Retrain, or put [features] and the files that it names back as they were; a bot that runs starts again."
    return "Retrain, or go back to the hftcl that trained it."


def _describe_difference(trained_set: FeatureSet, current_set: FeatureSet) -> str:
    said = [f"{name} is gone" for name in trained_set.names if name not in current_set.names]
    said += [f"{name} is new" for name in current_set.names if name not in trained_set.names]
    if not said and trained_set.names != current_set.names:
        return "their order changed"
    then, now = (dict(zip(part.names, part.formulae, strict=False)) for part in (trained_set, current_set))
    said += [f"{name} is defined otherwise" for name in then if name in now and then[name] != now[name]]
    then, now = (dict(zip(part.names, part.sources, strict=False)) for part in (trained_set, current_set))
    shared = [name for name in trained_set.names if name in current_set.names]
    changed = [name for name in shared if then.get(name, "") != now.get(name, "")]
    said += [f"the file of {', '.join(changed)} was changed since"] if changed else []
    return "; ".join(said) or "what they share changed (their version, units, look-backs)"


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


def _describe_change(then: Mapping[str, str]) -> str:
    now = library_versions(then.get("engine", ""))
    changed = [f"{name} {then[name]}, now {now[name]}" for name in then if name in now and then[name] != now[name]]
    return f" (trained with {'; '.join(changed)})" if changed else ""
