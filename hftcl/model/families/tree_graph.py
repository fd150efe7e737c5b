"""Decision trees as one ONNX graph, written straight from their arrays.

The operator and its attributes: https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsembleRegressor.html. A converter
does the same by a call for each node, and loads all of scikit-learn for it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hftcl.model.families.graph import write_graph
from hftcl.model.serving import INPUT, OUTPUT

_LEAF: Final = -1  # scikit-learn's TREE_LEAF: the child of a node that has none


@dataclass(frozen=True, slots=True)
class Tree:
    """One tree of n nodes, node 0 its root. A row goes to `left` where its float32 value is <= `threshold`.

    left, right: int (n,), the children's numbers, -1 in a leaf. feature: int (n,). threshold: float64 (n,).
    value: float64 (n,), what a leaf adds to the prediction. In a leaf feature and threshold mean nothing, elsewhere
    value. cover: float64 (n,), the weight of the training rows that reached a node, a split's the sum of its
    children's; None where it is not known, and then no prediction can be explained.
    """

    left: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]
    feature: npt.NDArray[np.int64]
    threshold: npt.NDArray[np.float64]
    value: npt.NDArray[np.float64]
    cover: npt.NDArray[np.float64] | None = None


def build_tree_graph(trees: Sequence[Tree], n_features: int) -> bytes:
    """Return the sum of the trees' leaves as ONNX: `X`, float32 [rows, n_features], to `prediction`, [rows, 1].

    The same trees give the same bytes. Each float32 value goes the way it goes in the tree, see `round_down`; a leaf's
    value is rounded to float32.
    """
    import onnx

    node = onnx.NodeProto(
        op_type="TreeEnsembleRegressor", domain="ai.onnx.ml", name="trees", input=[INPUT], output=[OUTPUT]
    )
    node.attribute.extend(_write_attribute(name, values) for name, values in sorted(_build_attributes(trees).items()))
    return write_graph("trees", [node], n_features)


def round_down(threshold: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Return the largest float32 that is not above each threshold: for float32 x, x <= it exactly where x <= threshold.

    >>> float(round_down(np.array([0.1]))[0]) <= 0.1 < float(np.float32(0.1))
    True
    """
    nearest = threshold.astype(np.float32)
    return np.where(nearest > threshold, np.nextafter(nearest, np.float32(-np.inf)), nearest)


def place_on_thresholds(trees: Sequence[Tree], rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return `rows` twice: with values moved onto split thresholds, and just above them, where a rounding would show.

    rows: float32 (n, k); the answer is float32 (2 n, k). Columns without a split stay as they are.
    """
    inner = [tree.left != _LEAF for tree in trees]
    split_on = np.concatenate([tree.feature[mask] for tree, mask in zip(trees, inner, strict=True)])
    at = round_down(np.concatenate([tree.threshold[mask] for tree, mask in zip(trees, inner, strict=True)]))
    on, above = rows.copy(), rows.copy()
    for feature in np.unique(split_on):
        thresholds = np.resize(at[split_on == feature], len(rows))
        on[:, feature], above[:, feature] = thresholds, np.nextafter(thresholds, np.float32(np.inf))
    return np.vstack([on, above])


def _build_attributes(trees: Sequence[Tree]) -> dict[str, Any]:
    """Return the operator's attributes: nodes of all trees one after the other, then the leaves' values."""
    sizes = np.array([len(tree.left) for tree in trees])
    tree_ids = np.repeat(np.arange(len(trees)), sizes)
    node_ids = np.concatenate([np.arange(size) for size in sizes])
    left = np.concatenate([tree.left for tree in trees])
    leaf = left == _LEAF
    right = np.concatenate([tree.right for tree in trees])
    feature = np.concatenate([tree.feature for tree in trees])
    threshold = round_down(np.concatenate([tree.threshold for tree in trees]))
    value = np.concatenate([tree.value for tree in trees]).astype(np.float32)
    branch, end = b"BRANCH_LEQ", b"LEAF"
    covers = [tree.cover for tree in trees if tree.cover is not None]
    # What the operator calls popularity: it changes no prediction, and `model.contributions` reads it.
    hits = {"nodes_hitrates": np.concatenate(covers).astype(np.float32)} if len(covers) == len(trees) else {}
    return {
        **hits,
        "n_targets": 1,
        "nodes_falsenodeids": np.where(leaf, 0, right),
        "nodes_featureids": np.where(leaf, 0, feature),
        "nodes_modes": [end if is_leaf else branch for is_leaf in leaf.tolist()],
        "nodes_nodeids": node_ids,
        "nodes_treeids": tree_ids,
        "nodes_truenodeids": np.where(leaf, 0, left),
        "nodes_values": np.where(leaf, np.float32(0), threshold),
        "target_ids": np.zeros(int(leaf.sum()), dtype=np.int64),
        "target_nodeids": node_ids[leaf],
        "target_treeids": tree_ids[leaf],
        "target_weights": value[leaf],
    }


def _write_attribute(name: str, values: Any) -> Any:
    """Fill the message by hand: onnx.helper looks at each of millions of values to learn their type."""
    import onnx

    kinds = onnx.AttributeProto
    if isinstance(values, int):
        return kinds(name=name, type=kinds.INT, i=values)
    if isinstance(values, list):
        return kinds(name=name, type=kinds.STRINGS, strings=values)
    numbers: Iterable[Any] = values.tolist()
    if values.dtype == np.float32:
        return kinds(name=name, type=kinds.FLOATS, floats=numbers)
    return kinds(name=name, type=kinds.INTS, ints=numbers)
