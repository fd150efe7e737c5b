"""Contributions are Shapley values: by enumeration, by LightGBM and XGBoost themselves, and by the shap library."""

import json
from collections.abc import Callable
from itertools import combinations
from math import factorial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from hftcl.model.contributions import TreeSum, find_explainer
from hftcl.model.families import complete, find_family
from hftcl.model.families.forest import list_trees, to_onnx
from hftcl.model.families.tree_graph import Tree, build_tree_graph
from hftcl.model.serving import Predictor

Rows = npt.NDArray[np.float32]
N_FEATURES = 5
ROWS = 40
SMALL: dict[str, dict[str, object]] = {
    "forest": {"n_estimators": 9, "max_depth": 6, "min_samples_leaf": 8},
    "lightgbm": {"n_estimators": 12, "max_depth": 5, "min_samples_leaf": 8},
    "xgboost": {"n_estimators": 12, "max_depth": 5, "min_samples_leaf": 8},
    "vote": {"n_estimators": 6, "boosting_n_estimators": 7, "min_samples_leaf": 8, "weight_xgboost": 2.0},
    "ridge": {},
}


def make_rows() -> tuple[Rows, Rows]:
    random = np.random.default_rng(5)
    X = random.normal(size=(1500, N_FEATURES)).astype(np.float32)
    noise = random.normal(size=len(X))
    return X, (X[:, 0] * X[:, 1] + np.abs(X[:, 2]) + 0.1 * noise).astype(np.float32)


def fit(name: str) -> tuple[Any, Rows]:
    """Return a small fitted model of the family, and rows to explain."""
    X, y = make_rows()
    family = find_family(name)
    params = complete(family, SMALL[name])
    return family.fit(X, y, params, seed=3, jobs=1, on_step=lambda done, total: None), X[:ROWS]


def explain(graph: bytes, X: Rows) -> npt.NDArray[np.float64]:
    """Return base and contributions of each row, (n, 1 + n_features)."""
    explainer = find_explainer(graph)
    assert explainer is not None
    answer = explainer.explain(X)
    return np.column_stack([np.full(len(X), answer.base), answer.values])


def expect(tree: Tree, x: Rows, known: frozenset[int], node: int = 0) -> float:
    """Return what the tree predicts where only some features are known: Algorithm 1 of Lundberg et al. (2018)."""
    assert tree.cover is not None
    left, right = int(tree.left[node]), int(tree.right[node])
    if left < 0:
        return float(tree.value[node])
    if int(tree.feature[node]) in known:
        return expect(tree, x, known, left if x[tree.feature[node]] <= tree.threshold[node] else right)
    sides = (tree.cover[child] * expect(tree, x, known, child) for child in (left, right))
    return float(sum(sides) / tree.cover[node])


def enumerate_shapley(value: Callable[[frozenset[int]], float], k: int) -> list[float]:
    """Return the Shapley values of a game of k players by their definition, over all coalitions."""
    values = []
    for player in range(k):
        others = [other for other in range(k) if other != player]
        total = 0.0
        for size in range(k):
            weight = factorial(size) * factorial(k - 1 - size) / factorial(k)
            for chosen in map(frozenset, combinations(others, size)):
                total += weight * (value(chosen | {player}) - value(chosen))
        values.append(total)
    return values


@pytest.mark.parametrize("name", sorted(SMALL))
def test_base_and_contributions_add_up_to_the_prediction(name: str) -> None:
    fitted, X = fit(name)
    parts = explain(fitted.onnx, X)
    assert np.ptp(parts[:, 1:], axis=0).min() > 0, "every feature says something"
    assert parts.sum(axis=1) == pytest.approx(Predictor(fitted.onnx, N_FEATURES).predict(X), abs=1e-5)


def test_a_forest_s_contributions_are_shapley_values_by_their_definition() -> None:
    fitted, X = fit("forest")
    parts, trees = explain(fitted.onnx, X), list_trees(fitted.estimator)
    for x, row in zip(X[:4], parts, strict=False):
        values = enumerate_shapley(lambda known, x=x: sum(expect(tree, x, known) for tree in trees), N_FEATURES)  # type: ignore[misc]
        assert row[1:] == pytest.approx(values, abs=1e-6)
        assert row[0] == pytest.approx(sum(expect(tree, x, frozenset()) for tree in trees), abs=1e-6)


@pytest.mark.parametrize("name", ["lightgbm", "xgboost"])
def test_a_boosted_model_s_contributions_are_those_of_its_own_library(name: str) -> None:
    fitted, X = fit(name)
    if name == "lightgbm":
        theirs = fitted.estimator.predict(X, pred_contrib=True)
    else:
        import xgboost

        theirs = fitted.estimator.get_booster().predict(xgboost.DMatrix(X), pred_contribs=True)
    parts = explain(fitted.onnx, X)
    assert parts[:, 1:] == pytest.approx(theirs[:, :-1], abs=1e-6 if name == "lightgbm" else 1e-5)  # theirs is float32
    assert parts[:, 0] == pytest.approx(theirs[:, -1], abs=1e-5)


@pytest.mark.parametrize("name", ["forest", "lightgbm", "xgboost"])
@pytest.mark.filterwarnings("ignore")
def test_contributions_are_those_of_the_shap_library(name: str) -> None:
    shap = pytest.importorskip("shap", reason="shap is not installed")
    fitted, X = fit(name)
    theirs = shap.TreeExplainer(fitted.estimator, feature_perturbation="tree_path_dependent").shap_values(X)
    assert explain(fitted.onnx, X)[:, 1:] == pytest.approx(theirs, abs=1e-6 if name != "xgboost" else 1e-5)


def test_contributions_are_what_the_shap_library_answered_when_it_was_asked() -> None:
    answers = json.loads(Path(__file__).with_name("shap_answers.json").read_text())  # written by record_shap.py
    assert answers["versions"]["shap"] == "0.51.0"
    trees = [Tree(**{name: np.array(values) for name, values in tree.items()}) for tree in answers["trees"]]
    parts = explain(build_tree_graph(trees, N_FEATURES), np.array(answers["rows"], dtype=np.float32))
    assert np.abs(parts[:, 1:]).max() > 0.1, "something is said"
    assert parts[:, 1:] == pytest.approx(np.array(answers["values"]), abs=1e-6)
    assert parts[:, 0] == pytest.approx(answers["base"], abs=1e-6)


def test_a_vote_is_explained_by_the_weighted_sum_of_its_members() -> None:
    fitted, X = fit("vote")
    model = fitted.estimator
    members = [explain(build_tree_graph(trees, N_FEATURES), X) for trees in model.trees]
    weighted = sum(weight * part for weight, part in zip(model.weights, members, strict=True))
    assert len(set(model.weights)) > 1
    assert explain(fitted.onnx, X) == pytest.approx(weighted, abs=1e-6)


def test_a_weighted_sum_is_explained_by_its_terms() -> None:
    fitted, X = fit("ridge")
    model = fitted.estimator
    terms = (X - model.mean) / model.scale * model.weights
    assert explain(fitted.onnx, X)[:, 1:] == pytest.approx(terms, abs=1e-6)
    assert explain(fitted.onnx, X)[:, 0] == pytest.approx(model.intercept, abs=1e-6)


def fit_forest(X: Rows, y: Rows, trees: int, **params: int) -> Any:
    """Return a forest of scikit-learn."""
    from sklearn.ensemble import RandomForestRegressor  # here: each process that collects would wait a second for it

    return RandomForestRegressor(trees, random_state=1, **params).fit(X, y)


def test_a_deep_forest_whose_paths_ask_a_feature_often_still_adds_up() -> None:
    X, y = make_rows()
    forest = fit_forest(X[:, :2], y, 4, min_samples_leaf=1)
    assert max(tree.tree_.max_depth for tree in forest.estimators_) > 12
    parts = explain(to_onnx(forest, 2), X[:ROWS, :2])
    assert parts.sum(axis=1) == pytest.approx(forest.predict(X[:ROWS, :2]), abs=1e-5)


def test_a_value_on_a_threshold_is_explained_by_the_side_that_it_goes() -> None:
    X, y = make_rows()
    forest = fit_forest(X, y, 3, max_depth=4)
    graph = to_onnx(forest, N_FEATURES)
    explainer = find_explainer(graph)
    assert isinstance(explainer, TreeSum)
    tree = explainer.trees[0]
    rows = X[:2].copy()
    rows[:, tree.feature[0]] = np.float32(tree.threshold[0])
    rows[1, tree.feature[0]] = np.nextafter(rows[1, tree.feature[0]], np.float32(np.inf))
    assert explain(graph, rows).sum(axis=1) == pytest.approx(Predictor(graph, N_FEATURES).predict(rows), abs=1e-6)


def test_trees_that_do_not_say_how_many_rows_went_where_are_not_explained() -> None:
    X, y = make_rows()
    forest = fit_forest(X, y, 3, max_depth=4)
    trees = list_trees(forest)
    without = [Tree(tree.left, tree.right, tree.feature, tree.threshold, tree.value) for tree in trees]
    ones = [Tree(t.left, t.right, t.feature, t.threshold, t.value, np.ones(len(t.left))) for t in trees]
    assert find_explainer(build_tree_graph(trees, N_FEATURES)) is not None
    assert find_explainer(build_tree_graph(without, N_FEATURES)) is None
    assert find_explainer(build_tree_graph(ones, N_FEATURES)) is None
