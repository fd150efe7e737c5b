"""A model a ticker of any family, as one graph: each row goes to the model of its ticker, and to no other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hftcl.errors import TrainingError
from hftcl.model.families import Family, Fitted, OnStep
from hftcl.model.families.graph import pick_rows, write_graph
from hftcl.model.file_size import require_room
from hftcl.model.serving import INPUT, OUTPUT, Predictor

Rows = npt.NDArray[np.float32]
_ROUTE: Final = "route"  # what brings a row to its model, and the answer back
_MODEL: Final = "model"  # what the names of a model's own parts begin with, and its number


@dataclass(frozen=True, slots=True)
class TickerModels:
    """The estimators, one a ticker, in the order of the numbers that are the last column of what `predict` takes."""

    tickers: tuple[str, ...]
    models: tuple[Any, ...] = field(repr=False)

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return one float64 prediction per row of X, shape (n, k + 1); NaN for a number that no ticker has."""
        rows = np.asarray(X)
        predictions = np.full(len(rows), np.nan)
        for number, model in enumerate(self.models):
            is_own = rows[:, -1] == number
            if is_own.any():
                predictions[is_own] = np.asarray(model.predict(rows[is_own, :-1])).reshape(-1)
        return predictions


class PerTicker:
    """One family, fitted to each ticker's rows alone. The last column of X is the number of a row's ticker."""

    def __init__(self, family: Family, tickers: Sequence[str]) -> None:
        """tickers: in the order of their numbers."""
        self.name = family.name
        self._family, self._tickers = family, tuple(tickers)
        self._settled: dict[int, Mapping[str, object]] = {}

    def parameters(self) -> Mapping[str, object]:
        """Return those of the family."""
        return self._family.parameters()

    def check(self, params: Mapping[str, object]) -> Mapping[str, object]:
        """Return `params` as the family checks them."""
        return self._family.check(params)

    def fit(
        self,
        X: Rows,
        y: Rows,
        params: Mapping[str, object],
        *,
        seed: int,
        jobs: int,
        on_step: OnStep,
        weights: Rows | None = None,
    ) -> Fitted:
        """Fit each ticker's rows, with the parameters that `settle` chose for it before.

        X: float32 (n, k + 1), each ticker with a row. The importances are the mean over the rows. Raises TrainingError
        where the graph of all predicts otherwise than that of a ticker in any bit, as soon as it is certain to be too
        large for a file, and as the family does.
        """
        parts: list[Fitted] = []
        counts = [int(np.count_nonzero(X[:, -1] == number)) for number in range(len(self._tickers))]
        for number in range(len(self._tickers)):
            own = X[:, -1] == number
            # of mean 1 for each ticker: a penalty or the least weight of a leaf means what it does without them
            shares = {} if weights is None else {"weights": weights[own] / weights[own].mean(dtype=np.float64)}
            parts.append(
                self._family.fit(
                    np.ascontiguousarray(X[own, :-1]),
                    y[own],
                    self._settled.get(number, params),
                    seed=seed,
                    jobs=jobs,
                    on_step=_count_from(number, len(self._tickers), on_step),
                    **{name: values.astype(np.float32) for name, values in shares.items()},
                )
            )
            require_room([len(part.onnx) for part in parts], counts)
        return self._join(parts, X)

    def settle(
        self, fitted: Fitted, X: Rows, y: Rows, params: Mapping[str, object]
    ) -> tuple[Fitted, Mapping[str, object]]:
        """Let the family choose for each ticker on its held-out rows; `params` stay, for what is chosen differs."""
        choose = getattr(self._family, "settle", None)
        if choose is None:
            return fitted, params
        parts: list[Fitted] = []
        graphs = split_graph(fitted.onnx)
        for number, estimator in enumerate(fitted.estimator.models):
            own = X[:, -1] == number
            alone = Fitted(estimator, graphs[number], fitted.engine, fitted.importances)
            part, self._settled[number] = choose(alone, np.ascontiguousarray(X[own, :-1]), y[own], params)
            parts.append(part)
        return self._join(parts, X), params

    def _join(self, parts: Sequence[Fitted], X: Rows) -> Fitted:
        onnx = join_graphs([part.onnx for part in parts], X.shape[1] - 1)
        _require_equal(onnx, [part.onnx for part in parts], pick_rows(X))
        shares = [part.importances for part in parts if part.importances is not None]
        counts = [np.count_nonzero(X[:, -1] == number) for number in range(len(parts))]
        mean = tuple(np.average(shares, axis=0, weights=counts).tolist()) if len(shares) == len(parts) else None
        models = TickerModels(self._tickers, tuple(part.estimator for part in parts))
        return Fitted(models, onnx, parts[0].engine, mean)


def _count_from(number: int, tickers: int, on_step: OnStep) -> OnStep:
    return lambda done, total: on_step(number * total + done, tickers * total)


def _require_equal(onnx: bytes, parts: Sequence[bytes], rows: Rows) -> None:
    """Raise TrainingError where the joined graph says otherwise than a ticker's own, among others or alone."""
    joined = Predictor(onnx, rows.shape[1])
    together = joined.predict(rows)
    for number, part in enumerate(parts):
        own = rows[:, -1] == number
        expected = Predictor(part, rows.shape[1] - 1).predict(np.ascontiguousarray(rows[own, :-1]))
        for answer in (together[own], joined.predict(rows[own])):
            if not np.array_equal(answer, expected):
                raise TrainingError(f"The graph of all tickers predicts otherwise than that of ticker {number + 1}.")


def join_graphs(graphs: Sequence[bytes], n_features: int) -> bytes:
    """Return one graph of several: `X`, float32 [rows, n_features + 1], to `prediction`, [rows, 1].

    The last column of X is the number of the graph that a row is for, from 0; the answer is that graph's to the bit,
    and NaN where there is none of that number. A graph that no row is for is asked about none.
    """
    import onnx
    from onnx import helper

    parts = [onnx.ModelProto.FromString(graph) for graph in graphs]
    numbers = range(len(parts))
    nodes = [
        helper.make_node("Gather", [INPUT, f"{_ROUTE}/last"], [f"{_ROUTE}/number"], axis=1),
        helper.make_node("Gather", [INPUT, f"{_ROUTE}/columns"], [f"{_ROUTE}/features"], axis=1),
        helper.make_node("Mul", [f"{_ROUTE}/number", f"{_ROUTE}/nothing"], [f"{_ROUTE}/unknown"]),
        helper.make_node("Reshape", [f"{_ROUTE}/unknown", f"{_ROUTE}/column"], [f"{_ROUTE}/empty"]),
        *chain.from_iterable([*_route_rows(number), *_rename_nodes(parts[number], number)] for number in numbers),
        helper.make_node("Concat", [f"{_MODEL}/{number}/{OUTPUT}" for number in numbers], [f"{_ROUTE}/all"], axis=0),
        helper.make_node("Concat", [f"{_ROUTE}/{number}/rows" for number in numbers], [f"{_ROUTE}/order"], axis=0),
        helper.make_node("Reshape", [f"{_ROUTE}/order", f"{_ROUTE}/column"], [f"{_ROUTE}/places"]),
        helper.make_node("ScatterND", [f"{_ROUTE}/empty", f"{_ROUTE}/places", f"{_ROUTE}/all"], [OUTPUT]),
    ]
    constants = {
        "last": np.int64(n_features),
        "columns": np.arange(n_features, dtype=np.int64),
        "nothing": np.array([np.nan], dtype=np.float32),
        "flat": np.array([-1], dtype=np.int64),
        "column": np.array([-1, 1], dtype=np.int64),
        **{f"{number}/number": np.array([number], dtype=np.float32) for number in numbers},
    }
    values = [onnx.numpy_helper.from_array(np.asarray(array), f"{_ROUTE}/{name}") for name, array in constants.items()]
    values += chain.from_iterable(_rename_values(parts[number], number) for number in numbers)
    entries = sorted(chain.from_iterable(part.opset_import for part in parts), key=_read_version)
    opsets = {entry.domain: entry.version for entry in entries}  # the newest of each, for it comes last
    return write_graph("tickers", nodes, n_features + 1, values, opsets)


def split_graph(joined: bytes) -> tuple[bytes, ...]:
    """Return the graphs that `join_graphs` was given, in their order; the names of theirs are as they were."""
    import onnx

    model = onnx.ModelProto.FromString(joined)
    n_features = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value - 1
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    nodes: dict[int, list[Any]] = {}
    values: dict[int, list[Any]] = {}
    for node in model.graph.node:
        if node.output[0].startswith(f"{_MODEL}/"):
            number, node.name = int(node.output[0].split("/")[1]), _strip(node.name)
            node.input[:] = [INPUT if name == f"{_ROUTE}/{number}/{INPUT}" else _strip(name) for name in node.input]
            node.output[:] = [_strip(name) for name in node.output]
            nodes.setdefault(number, []).append(node)
    for value in model.graph.initializer:
        if value.name.startswith(f"{_MODEL}/"):
            number = int(value.name.split("/")[1])
            value.name = _strip(value.name)
            values.setdefault(number, []).append(value)
    return tuple(
        write_graph("ticker", nodes[number], n_features, values.get(number, []), opsets) for number in sorted(nodes)
    )


def _read_version(entry: Any) -> int:
    return int(entry.version)


def _route_rows(number: int) -> list[Any]:
    """Return the nodes that pick the rows of a model."""
    from onnx import helper

    own = f"{_ROUTE}/{number}"
    return [
        helper.make_node("Equal", [f"{_ROUTE}/number", f"{own}/number"], [f"{own}/is"]),
        helper.make_node("NonZero", [f"{own}/is"], [f"{own}/found"]),
        helper.make_node("Reshape", [f"{own}/found", f"{_ROUTE}/flat"], [f"{own}/rows"]),
        helper.make_node("Gather", [f"{_ROUTE}/features", f"{own}/rows"], [f"{own}/{INPUT}"], axis=0),
    ]


def _rename_nodes(part: Any, number: int) -> list[Any]:
    """Return the nodes of a model with names of their own."""
    output = part.graph.output[0].name
    nodes = []
    for node in part.graph.node:
        renamed = type(node)()
        renamed.CopyFrom(node)
        renamed.name = _rename(node.name, number, output)
        renamed.input[:] = [_rename(name, number, output) for name in node.input]
        renamed.output[:] = [_rename(name, number, output) for name in node.output]
        nodes.append(renamed)
    return nodes


def _rename_values(part: Any, number: int) -> list[Any]:
    values = []
    for value in part.graph.initializer:
        renamed = type(value)()
        renamed.CopyFrom(value)
        renamed.name = f"{_MODEL}/{number}/{value.name}"
        values.append(renamed)
    return values


def _rename(name: str, number: int, output: str) -> str:
    if not name:  # an input that an operator may do without
        return ""
    if name == INPUT:
        return f"{_ROUTE}/{number}/{INPUT}"
    return f"{_MODEL}/{number}/{OUTPUT if name == output else name}"


def _strip(name: str) -> str:
    return name.split("/", 2)[2] if name.startswith(f"{_MODEL}/") else name
