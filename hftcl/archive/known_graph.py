"""What a model file may hold as its graph: trees and arithmetic on one input, so that onnxruntime meets nothing else.

Pure: bytes in, an error out.
"""

from typing import Any, Final

import numpy as np

from hftcl.errors import IntegrityError
from hftcl.model.serving import INPUT

# Of onnx.AttributeProto.AttributeType: a number, a text, a tensor, and lists of numbers and texts; no graphs.
_PLAIN_ATTRIBUTES: Final = frozenset({1, 2, 3, 4, 6, 7, 8})
# What trees, a weighted sum or a vote over them needs. None of these can read a file, loop or call anything.
_OPERATORS: Final = {
    "ai.onnx.ml": frozenset({"TreeEnsembleRegressor"}),
    "": frozenset(
        ["Add", "Cast", "Concat", "Constant", "Div", "Identity", "MatMul", "Mean", "Mul", "Reshape", "Sub", "Sum"]
    ),
}
# What brings each row to the model of its ticker, and the answer back: see `families.per_ticker`.
_ROUTING: Final = frozenset({"Equal", "Gather", "NonZero", "ScatterND"})


def check_graph(onnx: bytes, n_features: int) -> None:
    """Raise IntegrityError for a graph that no model file may hold: the check of `build` and `load`, on its own."""
    require_known(parse_graph(onnx, "The graph"), n_features, "The graph")


def parse_graph(data: bytes, name: str) -> Any:
    """Return an onnx.ModelProto. Raises IntegrityError for bytes that are none."""
    import onnx

    try:
        return onnx.ModelProto.FromString(data)
    except Exception as error:  # the DecodeError of whichever protobuf onnx brings
        raise IntegrityError(f"{name} is not an ONNX model.") from error


def require_known(model: Any, n_features: int, name: str, *, routed: bool = False) -> None:
    """Refuse whatever is more than trees and arithmetic on one input, so that onnxruntime meets nothing else.

    routed: a model a ticker, whose number is one more column of the input.
    """
    graph = model.graph
    if model.functions or model.training_info or graph.sparse_initializer or graph.quantization_annotation:
        raise IntegrityError(f"{name} holds more than a graph.")
    operators = {**_OPERATORS, "": _OPERATORS[""] | _ROUTING} if routed else _OPERATORS
    unknown = [node.op_type for node in graph.node if node.op_type not in operators.get(node.domain, ())]
    if unknown or not graph.node:
        raise IntegrityError(f"{name} holds operators that no model of hftcl has: {', '.join(unknown) or 'none'}.")
    attributes = [attribute for node in graph.node for attribute in node.attribute]
    if any(attribute.type not in _PLAIN_ATTRIBUTES for attribute in attributes):
        raise IntegrityError(f"{name} holds a graph within its graph.")
    tensors = [*graph.initializer, *(attribute.t for attribute in attributes)]
    if any(tensor.external_data or tensor.data_location for tensor in tensors):
        raise IntegrityError(f"{name} points to data outside of itself.")
    shapes = [_read_shape(value) for value in (*graph.input, *graph.output)]
    columns = n_features + routed
    if shapes != [("float32", 0, columns), ("float32", 0, 1)] or graph.input[0].name != INPUT:
        raise IntegrityError(f"{name} does not take {INPUT}[rows, {columns}] float32 to one float32: {shapes}.")
    for node in graph.node:
        _require_splits_within(node, n_features, name)


def _read_shape(value: Any) -> tuple[str, int, int]:
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
