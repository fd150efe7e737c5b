"""Trees written as ONNX say what a well-known converter says of them, number for number."""

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hftcl.model.families.forest import to_onnx
from hftcl.model.families.tree_graph import Tree, build_tree_graph, round_down
from hftcl.model.serving import Predictor


def read_attributes(graph: bytes) -> dict[str, Any]:
    (node,) = onnx.load_model_from_string(graph).graph.node
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


@pytest.mark.parametrize("kind", ["RandomForestRegressor", "ExtraTreesRegressor"])
def test_each_number_of_the_graph_is_the_one_that_skl2onnx_writes(kind: str) -> None:
    from skl2onnx import convert_sklearn  # here: each process that collects would wait a second for it
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn import ensemble

    random = np.random.default_rng(3)
    X = random.normal(size=(800, 6)).astype(np.float32)
    forest = getattr(ensemble, kind)(12, max_depth=9, random_state=2).fit(
        X, X[:, 0] * X[:, 1] + random.normal(size=800)
    )
    known = convert_sklearn(
        forest, initial_types=[("X", FloatTensorType([None, 6]))], target_opset={"": 19, "ai.onnx.ml": 3}
    )
    ours, theirs = read_attributes(to_onnx(forest, 6)), read_attributes(known.SerializeToString())
    # Theirs are the operator's defaults: no value is missing, no function on the sum, nothing was measured.
    assert set(theirs) - set(ours) == {"nodes_missing_value_tracks_true", "post_transform"}
    covers = np.concatenate([tree.tree_.weighted_n_node_samples for tree in forest.estimators_])
    assert ours.pop("nodes_hitrates") == covers.tolist()
    for name, values in ours.items():
        assert np.array_equal(values, theirs[name]), name


@given(st.floats(-1e30, 1e30), st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_no_float32_goes_another_way_at_a_rounded_threshold(threshold: float, value: float) -> None:
    rounded = round_down(np.array([threshold]))[0]
    nearest = np.float32(threshold)
    neighbours = (np.nextafter(nearest, np.float32(np.inf)), np.nextafter(nearest, np.float32(-np.inf)))
    for x in (np.float32(value), nearest, *neighbours):
        assert (x <= rounded) == (float(x) <= threshold)


def test_a_tree_of_one_leaf_and_a_deeper_one_add_up() -> None:
    leaf = Tree(np.array([-1]), np.array([-1]), np.array([-2]), np.array([-2.0]), np.array([0.5]))
    split = Tree(
        np.array([1, -1, -1]),
        np.array([2, -1, -1]),
        np.array([1, -2, -2]),
        np.array([0.25, -2, -2]),
        np.array([9, 1, 2]),
    )
    rows = np.array([[7, 0.25], [7, 0.26]], dtype=np.float32)
    assert Predictor(build_tree_graph([leaf, split], 2), 2).predict(rows).tolist() == [1.5, 2.5]
