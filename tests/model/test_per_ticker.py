"""A model a ticker, of any family, is one graph, and each row is answered by the model of its ticker to the bit."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import helper, numpy_helper

from hftcl.archive.known_graph import check_graph, parse_graph, require_known
from hftcl.errors import IntegrityError, TrainingError
from hftcl.model.families import complete, find_family, per_ticker
from hftcl.model.families.graph import write_graph
from hftcl.model.families.per_ticker import PerTicker, join_graphs, split_graph
from hftcl.model.families.ridge import Ridge
from hftcl.model.families.tree_graph import Tree, build_tree_graph
from hftcl.model.serving import Predictor

Rows = npt.NDArray[np.float32]
TICKERS, N_FEATURES = ("AAA", "BBB", "CCC"), 4
SMALL: Mapping[str, dict[str, object]] = {
    "ridge": {},
    "forest": {"n_estimators": 6, "max_depth": 4},
    "lightgbm": {"n_estimators": 6, "max_depth": 4},
    "xgboost": {"n_estimators": 6, "max_depth": 4},
    "vote": {"n_estimators": 6, "max_depth": 4, "boosting_n_estimators": 6, "boosting_max_depth": 4},
}


def market(rows: int = 1500) -> tuple[Rows, Rows]:
    """Rows of three tickers in turn; each ticker follows another feature, the third against its sign."""
    random = np.random.default_rng(11)
    X = random.normal(size=(rows, N_FEATURES)).astype(np.float32)
    number = np.arange(rows) % 3
    y = np.choose(number, [X[:, 0], X[:, 1], -X[:, 0]]) + 0.2 * random.normal(size=rows)
    return np.column_stack([X, number]).astype(np.float32), y.astype(np.float32)


def fit(family: Any, X: Rows, y: Rows, params: Mapping[str, object], **more: Any) -> Any:
    return family.fit(X, y, params, seed=3, jobs=1, on_step=more.pop("on_step", lambda done, total: None), **more)


@pytest.mark.parametrize("name", SMALL)
def test_each_row_is_answered_by_its_ticker_s_own_model_to_the_bit(name: str) -> None:
    family, (X, y) = find_family(name), market()
    params = complete(family, SMALL[name])
    steps: list[tuple[int, int]] = []
    joined = fit(PerTicker(family, TICKERS), X, y, params, on_step=lambda *step: steps.append(step))
    predictor = Predictor(joined.onnx, N_FEATURES + 1)
    together = predictor.predict(X)
    for number in range(3):
        own = X[:, -1] == number
        alone = fit(find_family(name), np.ascontiguousarray(X[own, :-1]), y[own], params)
        np.testing.assert_array_equal(together[own], Predictor(alone.onnx, N_FEATURES).predict(X[own, :-1]))
    np.testing.assert_allclose(together, joined.estimator.predict(X), rtol=0, atol=1e-5)
    one_by_one = np.concatenate([predictor.predict(X[row : row + 1]) for row in range(60)])
    np.testing.assert_array_equal(one_by_one, together[:60])
    assert steps == sorted(steps)
    assert steps[-1][0] == steps[-1][1]
    assert joined.importances is None or sum(joined.importances) == pytest.approx(1)


def test_a_ticker_of_an_unknown_number_is_answered_by_nothing() -> None:
    X, y = market()
    onnx_file = fit(PerTicker(Ridge(), TICKERS), X, y, {"alpha": 1.0}).onnx
    rows = X[:4].copy()
    rows[:, -1] = [0, 3, -1, 0.5]
    answers = Predictor(onnx_file, N_FEATURES + 1).predict(rows)
    assert np.isnan(answers).tolist() == [False, True, True, True]


def test_the_weights_of_rows_count_for_each_ticker_as_they_do_alone() -> None:
    X, y = market()
    weights = np.where(X[:, -1] == 0, 10.0, 0.5).astype(np.float32) * np.linspace(0.5, 1.5, len(X), dtype=np.float32)
    joined = fit(PerTicker(Ridge(), TICKERS), X, y, {"alpha": 500.0}, weights=weights)
    own = X[:, -1] == 1
    shares = (weights[own] / weights[own].mean(dtype=np.float64)).astype(np.float32)
    alone = fit(Ridge(), np.ascontiguousarray(X[own, :-1]), y[own], {"alpha": 500.0}, weights=shares)
    np.testing.assert_array_equal(joined.estimator.models[1].weights, alone.estimator.weights)


def test_the_importances_are_the_mean_over_the_rows_and_not_over_the_tickers() -> None:
    X, y = market()
    few = np.concatenate([np.flatnonzero(X[:, -1] == 0), np.flatnonzero(X[:, -1] == 1)[:100]])
    X, y = X[few], y[few]
    params = complete(find_family("lightgbm"), SMALL["lightgbm"])
    joined = fit(PerTicker(find_family("lightgbm"), TICKERS[:2]), X, y, params)
    alone = [
        fit(find_family("lightgbm"), np.ascontiguousarray(X[own, :-1]), y[own], params).importances
        for own in (X[:, -1] == 0, X[:, -1] == 1)
    ]
    by_hand = (500 * np.array(alone[0]) + 100 * np.array(alone[1])) / 600
    assert joined.importances == pytest.approx(by_hand)
    assert by_hand[0] > by_hand[1] > 0.02, "each ticker follows another feature"


def test_the_weights_of_a_vote_are_fitted_for_each_ticker_and_kept_for_the_fit_on_all_rows() -> None:
    vote, (X, y) = find_family("vote"), market()
    params = complete(vote, {**SMALL["vote"], "fit_weights": True})
    family = PerTicker(vote, TICKERS)
    inner = fit(family, X[:1000], y[:1000], params)
    settled, same = family.settle(inner, X[1000:], y[1000:], params)
    assert same == params
    weights = [model.weights for model in settled.estimator.models]
    assert len(set(weights)) == 3
    final = fit(family, X, y, params)
    assert [model.weights for model in final.estimator.models] == weights
    assert settled.onnx != inner.onnx


def strangers_graph(scale: float, version: int = 13) -> bytes:
    """Return a graph with names, an output and a version of operators that are not ours."""
    nodes = [
        helper.make_node("MatMul", ["X", "w"], ["y"], name="product"),
        helper.make_node("Reshape", ["y", "shape"], ["score"]),
    ]
    values = [
        numpy_helper.from_array(np.full((N_FEATURES, 1), scale, dtype=np.float32), "w"),
        numpy_helper.from_array(np.array([-1, 1], dtype=np.int64), "shape"),
    ]
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["rows", columns])
        for name, columns in (("X", N_FEATURES), ("score", 1))
    ]
    graph = helper.make_graph(nodes, "stranger", ends[:1], ends[1:], values)
    opsets = [helper.make_opsetid("", version)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=7).SerializeToString())


def test_graphs_of_a_stranger_are_joined_and_come_apart_as_they_were() -> None:
    graphs = [strangers_graph(scale) for scale in (1.0, -2.0, 0.5)]
    joined = join_graphs(graphs, N_FEATURES)
    assert joined == join_graphs(graphs, N_FEATURES), "the same bytes"
    X, _ = market(90)
    expected = X[:, :-1].sum(axis=1) * np.array([1.0, -2.0, 0.5])[X[:, -1].astype(int)]
    predictor = Predictor(joined, N_FEATURES + 1)
    np.testing.assert_allclose(predictor.predict(X), expected, rtol=1e-5, atol=1e-5)
    only = X[X[:, -1] == 1]  # the others are asked about no row
    np.testing.assert_array_equal(predictor.predict(only), predictor.predict(X)[X[:, -1] == 1])
    for number, part in enumerate(split_graph(joined)):
        names = {value.name for value in onnx.ModelProto.FromString(part).graph.initializer}
        assert names == {"w", "shape"}
        own = X[X[:, -1] == number][:, :-1]
        np.testing.assert_array_equal(
            Predictor(part, N_FEATURES).predict(own), Predictor(graphs[number], N_FEATURES).predict(own)
        )


def test_graphs_of_two_versions_of_the_operators_are_joined_by_the_newer_one() -> None:
    joined = join_graphs([strangers_graph(1.0, version=21), strangers_graph(2.0, version=20)], N_FEATURES)
    assert [entry.version for entry in onnx.ModelProto.FromString(joined).opset_import if not entry.domain] == [21]


def test_a_graph_that_routes_is_refused_where_no_model_a_ticker_is_said_to_be() -> None:
    joined = join_graphs([strangers_graph(1.0), strangers_graph(2.0)], N_FEATURES)
    model = parse_graph(joined, "It")
    require_known(model, N_FEATURES, "It", routed=True)
    with pytest.raises(IntegrityError, match="operators that no model of hftcl has: Gather"):
        check_graph(joined, N_FEATURES + 1)
    with pytest.raises(IntegrityError, match=r"does not take X\[rows, 4\]"):
        require_known(parse_graph(write_graph("plain", _identity(), 5), "It"), 3, "It", routed=True)


def test_a_tree_that_splits_on_the_number_of_the_ticker_is_refused() -> None:
    """Its input has the features alone: onnxruntime would read beyond the row."""
    tree = Tree(
        left=np.array([1, -1, -1]),
        right=np.array([2, -1, -1]),
        feature=np.array([N_FEATURES, 0, 0]),
        threshold=np.zeros(3),
        value=np.array([0.0, 1.0, 2.0]),
    )
    joined = join_graphs([build_tree_graph([tree], N_FEATURES + 1)], N_FEATURES)
    with pytest.raises(IntegrityError, match="splits on a feature that it does not have"):
        require_known(parse_graph(joined, "It"), N_FEATURES, "It", routed=True)


def _identity() -> list[Any]:
    return [helper.make_node("MatMul", ["X", "X"], ["prediction"])]


def test_a_joined_graph_that_says_otherwise_than_a_ticker_s_own_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    join = join_graphs
    monkeypatch.setattr(per_ticker, "join_graphs", lambda parts, columns: join(parts[::-1], columns))
    X, y = market()
    with pytest.raises(TrainingError, match="predicts otherwise than that of ticker 1"):
        fit(PerTicker(Ridge(), TICKERS), X, y, {"alpha": 1.0})
