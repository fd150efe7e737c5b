"""Why a model predicted what it did: what each feature adds, read from the graph alone. Pure: bytes and arrays in.

Of trees these are the Shapley values of Lundberg, Erion and Lee (2018), "Consistent individualized feature attribution
for tree ensembles", arXiv:1802.03888, path-dependent: a feature that is not known goes both ways of a split, by the
share of training rows that did. Of a weighted sum they are each feature's term. Base and contributions add up to the
prediction, but for the rounding of float32.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from hftcl.model.families.per_ticker import split_graph
from hftcl.model.families.tree_graph import Tree

FloatArray = npt.NDArray[np.float64]
_LEAF: Final = -1  # as `Tree` has it
_ROUNDING: Final = 1e-5  # relative: covers are float32, and a parent's is the sum of two that were rounded
_BLOCK_ROWS: Final = 32  # of a tree with 1,000 leaves of 12 features 3 MB an array, which a cache holds


@dataclass(frozen=True, slots=True)
class Contributions:
    """What each feature adds, float64, in units of the target: prediction = base + the sum of a row's `values`.

    base: the mean prediction over the training rows, one number. values: shape (n, n_features).
    """

    base: float
    values: FloatArray


class Explainer(Protocol):
    """A graph that can say what each feature adds."""

    def explain(self, X: npt.NDArray[np.float32]) -> Contributions:
        """Return the contributions of each row of X, float32 (n, n_features), finite."""
        ...


@dataclass(frozen=True, slots=True)
class WeightedSum:
    """((X - mean) * per_scale) @ weights + intercept, each float64 (k,) or one number: the family `ridge`."""

    mean: FloatArray
    per_scale: FloatArray
    weights: FloatArray
    intercept: float

    def explain(self, X: npt.NDArray[np.float32]) -> Contributions:
        """Return the terms of the sum. The base is what it says of the mean training row."""
        return Contributions(self.intercept, (X - self.mean) * self.per_scale * self.weights)


@dataclass(frozen=True, slots=True)
class TreeSum:
    """Trees whose leaves add up, each with its covers, and a constant."""

    trees: tuple[Tree, ...]
    constant: float

    def explain(self, X: npt.NDArray[np.float32]) -> Contributions:
        """Return the Shapley values; a tree's time grows with leaves x depth x depth / 2 a row."""
        values = np.zeros(X.shape, dtype=np.float64)
        base = self.constant
        for tree in self.trees:
            boxes = _list_boxes(tree)
            base += float(boxes.value @ boxes.share.prod(axis=1))
            for start in range(0, len(X), _BLOCK_ROWS):
                block = slice(start, start + _BLOCK_ROWS)
                values[block] += _attribute(boxes, X[block])
        return Contributions(base, values)


@dataclass(frozen=True, slots=True)
class _Boxes:
    """The leaves of a tree, one row each: the d features that its path asks, each once, and what it asks of them.

    A value x of `feature` agrees where low < x <= high. share: of the training rows that came to the path's splits on
    that feature, the part that went its way, multiplied. An unused place has feature 0, bounds that all agree with,
    and share 1.
    """

    feature: npt.NDArray[np.int64]
    low: npt.NDArray[np.float32]
    high: npt.NDArray[np.float32]
    share: FloatArray
    value: FloatArray

    def take(self, rows: npt.NDArray[Any]) -> "_Boxes":
        return _Boxes(self.feature[rows], self.low[rows], self.high[rows], self.share[rows], self.value[rows])


def _list_boxes(tree: Tree) -> _Boxes:
    """Walk the tree level by level, all nodes of a level at once."""
    assert tree.cover is not None  # noqa: S101 - `find_explainer` makes no TreeSum without
    nodes = np.zeros(1, dtype=np.int64)
    none = np.zeros((1, 0))
    level = _Boxes(none.astype(np.int64), none.astype(np.float32), none.astype(np.float32), none, np.zeros(1))
    ends: list[_Boxes] = []
    while nodes.size:
        leaf = tree.left[nodes] == _LEAF
        found = level.take(leaf)
        ends.append(_Boxes(found.feature, found.low, found.high, found.share, tree.value[nodes[leaf]]))
        splits, level = nodes[~leaf], _widen(level.take(~leaf))
        place = _find_places(level, tree.feature[splits])
        sides = [_narrow(level, place, tree, splits, tree.left), _narrow(level, place, tree, splits, tree.right)]
        nodes = np.concatenate([tree.left[splits], tree.right[splits]])
        level = _join(sides)
    width = max(part.feature.shape[1] for part in ends)
    return _join([_pad(part, width) for part in ends])


def _widen(boxes: _Boxes) -> _Boxes:
    """Add one unused place, for the feature of the next split."""
    return _pad(boxes, boxes.feature.shape[1] + 1)


def _pad(boxes: _Boxes, width: int) -> _Boxes:
    more = ((0, 0), (0, width - boxes.feature.shape[1]))
    return _Boxes(
        feature=np.pad(boxes.feature, more, constant_values=-1),
        low=np.pad(boxes.low, more, constant_values=-np.inf),
        high=np.pad(boxes.high, more, constant_values=np.inf),
        share=np.pad(boxes.share, more, constant_values=1.0),
        value=boxes.value,
    )


def _find_places(boxes: _Boxes, feature: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return for each box the place where it has that feature already, else its first unused one."""
    same = boxes.feature == feature[:, np.newaxis]
    return np.asarray(np.where(same.any(axis=1), same.argmax(axis=1), (boxes.feature < 0).argmax(axis=1)))


def _narrow(
    boxes: _Boxes,
    place: npt.NDArray[np.int64],
    tree: Tree,
    splits: npt.NDArray[np.int64],
    side: npt.NDArray[np.int64],
) -> _Boxes:
    """Return the boxes of the children on one side of `splits`."""
    assert tree.cover is not None  # noqa: S101 - as in `_list_boxes`
    at = np.arange(len(splits)), place
    feature, low, high, share = boxes.feature.copy(), boxes.low.copy(), boxes.high.copy(), boxes.share.copy()
    threshold = tree.threshold[splits].astype(np.float32)
    feature[at] = tree.feature[splits]
    if side is tree.left:
        high[at] = np.minimum(high[at], threshold)
    else:
        low[at] = np.maximum(low[at], threshold)
    share[at] *= tree.cover[side[splits]] / tree.cover[splits]
    return _Boxes(feature, low, high, share, boxes.value)


def _join(parts: Sequence[_Boxes]) -> _Boxes:
    names = (item.name for item in fields(_Boxes))
    return _Boxes(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _attribute(boxes: _Boxes, X: npt.NDArray[np.float32]) -> FloatArray:
    """Return the Shapley values of one tree, (n, n_features).

    Where each feature is known with probability t, on its own, a leaf is reached with probability
    prod_j g_j(t), g_j = t * agrees_j + (1 - t) * share_j. The Shapley value of feature i is the integral over t from 0
    to 1 of value * (agrees_i - share_i) * prod_{j != i} g_j(t): Owen (1972), "Multilinear extensions of games",
    Management Science 18(5). The product is a polynomial of degree d - 1, which Gauss and Legendre's rule integrates
    exactly with d / 2 points.
    """
    rows, (_, width) = len(X), boxes.feature.shape
    values = np.zeros(X.shape, dtype=np.float64)
    if not width:  # a single leaf depends on nothing
        return values
    x = X[:, boxes.feature]  # an unused place has -1: the last column, which agrees with everything
    agrees = ((x > boxes.low) & (x <= boxes.high)).astype(np.float64)
    total = np.zeros(agrees.shape)
    for point, weight in zip(*np.polynomial.legendre.leggauss((width + 1) // 2), strict=True):
        t = (point + 1) / 2
        g = t * agrees + (1 - t) * boxes.share  # above 0: no leaf is without a training row, and t below 1
        total += weight / 2 * g.prod(axis=2, keepdims=True) / g
    total *= (agrees - boxes.share) * boxes.value[:, np.newaxis]
    for row in range(rows):
        values[row] = np.bincount(boxes.feature.clip(0).ravel(), total[row].ravel(), X.shape[1])
    return values


@dataclass(frozen=True, slots=True)
class Explainers:
    """What explains a model file's predictions. by_ticker: of a model a ticker; for_all: where one is for all.

    None where a graph cannot be explained.
    """

    for_all: Explainer | None
    by_ticker: Mapping[str, Explainer | None]

    @property
    def complete(self) -> bool:
        """Whether each prediction can be explained."""
        return all(self.by_ticker.values()) if self.by_ticker else self.for_all is not None

    def group(self, tickers: Sequence[str]) -> list[tuple[Explainer, list[str]]]:
        """Return each explainer with those of `tickers` whose predictions it explains; without those of none."""
        if not self.by_ticker:
            return [(self.for_all, list(tickers))] if self.for_all and tickers else []
        known = {ticker: self.by_ticker.get(ticker) for ticker in tickers}
        return [(explainer, [ticker]) for ticker, explainer in known.items() if explainer]


def find_explainers(graph: bytes, ticker_models: Sequence[str]) -> Explainers:
    """Return what explains the predictions of a model file's graph; see `find_explainer`.

    ticker_models: those that have a model of their own in it, in order; empty where one is for all.
    """
    if not ticker_models:
        return Explainers(find_explainer(graph), {})
    parts = map(find_explainer, split_graph(graph))
    return Explainers(None, dict(zip(ticker_models, parts, strict=True)))


def find_explainer(graph: bytes) -> Explainer | None:
    """Return what explains the predictions of an ONNX graph; None for one that cannot be explained exactly.

    That are trees of `build_tree_graph` with their covers, alone, and the family `ridge`; not the trees of an earlier
    hftcl, whose files say nothing of the training rows, nor a stranger's arithmetic.
    """
    import onnx

    model = onnx.ModelProto.FromString(graph)
    nodes = list(model.graph.node)
    if len(nodes) == 1 and nodes[0].op_type == "TreeEnsembleRegressor":
        return _read_trees({item.name: onnx.helper.get_attribute_value(item) for item in nodes[0].attribute})
    arrays = {item.name: onnx.numpy_helper.to_array(item).astype(np.float64) for item in model.graph.initializer}
    is_sum = [node.op_type for node in nodes] == ["Sub", "Mul", "MatMul", "Add"]
    if not is_sum or arrays.keys() != {"mean", "per_scale", "weights", "intercept"}:
        return None
    return WeightedSum(
        mean=arrays["mean"],
        per_scale=arrays["per_scale"],
        weights=arrays["weights"][:, 0],
        intercept=float(arrays["intercept"][0]),
    )


def _read_trees(attributes: dict[str, Any]) -> TreeSum | None:
    """Return the trees that `build_tree_graph` wrote; None where they act otherwise, or say nothing of their rows."""
    modes = np.asarray(attributes["nodes_modes"])
    plain = (
        attributes.get("aggregate_function", b"SUM") == b"SUM"
        and attributes.get("post_transform", b"NONE") == b"NONE"
        and set(modes.tolist()) <= {b"BRANCH_LEQ", b"LEAF"}
        and "nodes_hitrates" in attributes
    )
    if not plain:
        return None
    leaf = modes == b"LEAF"
    ids = np.asarray(attributes["nodes_treeids"])
    value = np.zeros(len(modes))
    order = {key: place for place, key in enumerate(zip(ids.tolist(), attributes["nodes_nodeids"], strict=True))}
    targets = zip(attributes["target_treeids"], attributes["target_nodeids"], strict=True)
    np.add.at(value, [order[key] for key in targets], np.asarray(attributes["target_weights"], dtype=np.float64))
    begins = np.flatnonzero(np.diff(ids, prepend=ids[0] - 1))
    columns = {
        "left": np.where(leaf, _LEAF, attributes["nodes_truenodeids"]),
        "right": np.where(leaf, _LEAF, attributes["nodes_falsenodeids"]),
        "feature": np.asarray(attributes["nodes_featureids"]),
        "threshold": np.asarray(attributes["nodes_values"], dtype=np.float64),
        "value": value,
        "cover": np.asarray(attributes["nodes_hitrates"], dtype=np.float64),
    }
    parts = {name: np.split(column, begins[1:]) for name, column in columns.items()}
    trees = tuple(Tree(*columns) for columns in zip(*parts.values(), strict=True))
    in_order = np.concatenate([np.arange(len(tree.left)) for tree in trees])
    if not np.array_equal(attributes["nodes_nodeids"], in_order) or not all(_adds_up(tree) for tree in trees):
        return None
    return TreeSum(trees, float(sum(attributes.get("base_values", [0.0]))))


def _adds_up(tree: Tree) -> bool:
    """Whether the covers are those of rows: above 0, and a split's the sum of its children's."""
    assert tree.cover is not None  # noqa: S101 - `_read_trees` gives it
    split = np.flatnonzero(tree.left != _LEAF)
    children = tree.cover[tree.left[split]] + tree.cover[tree.right[split]]
    return bool((tree.cover > 0).all() and np.allclose(tree.cover[split], children, rtol=_ROUNDING, atol=0))
