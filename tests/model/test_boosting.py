"""lightgbm, xgboost and vote: each graph predicts what the library does, on split thresholds too."""

import os
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pytest

from hftcl.contracts import check_family
from hftcl.errors import UsageError
from hftcl.model.families import Family, Fitted, complete, find_family
from hftcl.model.families.boosting import LightGBM, XGBoost, read_lightgbm, read_xgboost
from hftcl.model.families.tree_graph import Tree, place_on_thresholds
from hftcl.model.families.vote import Vote
from hftcl.model.serving import Predictor
from hftcl.model.training import TrainingPool, TrainingTask

Rows = npt.NDArray[np.float32]
NAMES: Final = ("lightgbm", "xgboost", "vote")
FEW: Final = {"n_estimators": 12, "min_samples_leaf": 20, "boosting_n_estimators": 12}
ROWS: Final = 100_000
ZERO: Final = np.float32(1e-35)  # below it LightGBM takes a value for 0


@cache
def problem() -> tuple[Rows, Rows]:
    """Return 4,000 rows: a rounded column that meets its own thresholds, one with zeros, one without variation."""
    chance = np.random.default_rng(11)
    X = chance.normal(size=(4000, 6)).astype(np.float32)
    X[:, 1] = np.round(X[:, 1], 1)
    X[:, 2] *= chance.uniform(size=4000) < 0.5
    X[:, 5] = 1
    y = X[:, 0] * (X[:, 1] > 0.3) + np.sign(X[:, 2]) + 0.3 * chance.normal(size=4000)
    return X, y.astype(np.float32)


def params_of(family: Family, **changes: object) -> dict[str, object]:
    known = family.parameters()
    return complete(family, {name: value for name, value in {**FEW, **changes}.items() if name in known})


@cache
def fitted(name: str, jobs: int = 1) -> Fitted:
    family = find_family(name)
    X, y = problem()
    return family.fit(X, y, params_of(family), seed=2**32 - 1, jobs=jobs, on_step=lambda _done, _total: None)


def list_trees(name: str, estimator: Any) -> Any:
    if name == "lightgbm":
        return read_lightgbm(estimator.model_to_string())
    if name == "xgboost":
        return read_xgboost(bytes(estimator.get_booster().save_raw("json")))
    return [tree for trees in estimator.trees for tree in trees]


@pytest.mark.parametrize("name", NAMES)
def test_the_graph_predicts_what_the_library_does_on_100_000_rows_that_sit_on_splits(name: str) -> None:
    model, (X, _) = fitted(name), problem()
    rows = np.resize(X, (ROWS // 2, X.shape[1])).astype(np.float32)
    rows = place_on_thresholds(list_trees(name, model.estimator), rows[np.random.default_rng(0).permutation(len(rows))])
    near_zero = np.array([-2, -1, 0, 1, 2], dtype=np.float32) * ZERO
    rows[::7, 2] = np.resize(near_zero, len(rows[::7]))
    ours, theirs = Predictor(model.onnx, X.shape[1]).predict(rows), np.asarray(model.estimator.predict(rows))
    assert float(np.abs(ours - theirs).max()) <= 1e-5
    threshold = float(np.float32(np.quantile(np.abs(Predictor(model.onnx, X.shape[1]).predict(X)), 0.9))) + 1e-4
    signals = [np.sign(one) * (np.abs(one) > threshold) for one in (ours, theirs)]
    assert int((signals[0] != signals[1]).sum()) == 0
    assert len(np.unique(signals[0])) > 1, "some rows have a signal, else nothing was compared"


def test_a_value_that_lightgbm_takes_for_zero_goes_the_way_of_zero() -> None:
    model, (X, _) = fitted("lightgbm"), problem()
    splits = np.concatenate([tree.threshold[tree.feature == 2] for tree in list_trees("lightgbm", model.estimator)])
    assert (np.abs(np.abs(splits) - float(ZERO)) < 1e-36).any(), "there is a split at the edge of zero, or no trap"
    rows = np.resize(X, (64, X.shape[1])).astype(np.float32)
    by_value = []
    for value in (-ZERO, np.float32(0), ZERO):
        rows[:, 2] = value
        by_value.append(Predictor(model.onnx, X.shape[1]).predict(rows))
    assert np.array_equal(by_value[0], by_value[1])
    assert np.array_equal(by_value[1], by_value[2])


@pytest.mark.parametrize("name", NAMES)
def test_the_same_rows_give_the_same_bytes_on_one_core_and_on_two(name: str) -> None:
    fitted.cache_clear()
    assert fitted(name, 1).onnx == fitted(name, 2).onnx


class QuickLightGBM(LightGBM):
    def parameters(self) -> Mapping[str, object]:
        return {**super().parameters(), "n_estimators": 30, "learning_rate": 0.3}


class QuickXGBoost(XGBoost):
    def parameters(self) -> Mapping[str, object]:
        return {**super().parameters(), "n_estimators": 30, "learning_rate": 0.3}


class QuickVote(Vote):
    def parameters(self) -> Mapping[str, object]:
        quick = {"n_estimators": 10, "boosting_n_estimators": 20, "boosting_learning_rate": 0.3}
        return {**super().parameters(), **quick}


@pytest.mark.parametrize("family", [QuickLightGBM, QuickXGBoost, QuickVote])
def test_each_keeps_the_promises_of_a_family(family: type[Family]) -> None:
    assert check_family(family()) == ()


@pytest.mark.parametrize("name", NAMES)
def test_a_rule_that_the_library_lacks_is_told_with_what_to_use(name: str) -> None:
    family = find_family(name)
    assert complete(family, {"min_samples_split": 10, "min_samples_leaf": 5})["min_samples_split"] == 10
    with pytest.raises(UsageError, match=r"has no such rule, and 500 is more .* Use min_samples_leaf=250"):
        complete(family, {"min_samples_split": 500, "min_samples_leaf": 100})


def measure_depth(tree: Tree, node: int = 0) -> int:
    if tree.left[node] < 0:
        return 0
    return 1 + max(measure_depth(tree, tree.left[node]), measure_depth(tree, tree.right[node]))


@pytest.mark.parametrize("family", [LightGBM(), XGBoost()])
def test_each_parameter_and_the_seed_act_as_the_page_says(family: LightGBM | XGBoost) -> None:
    X, y = problem()

    def grow(seed: int = 5, **changes: object) -> list[Tree]:
        given = {"n_estimators": 4, "min_samples_leaf": 20, "max_depth": 7, "max_features": 1.0, **changes}
        boosted = family.boost(X, y, complete(family, given), seed=seed, jobs=1, on_step=lambda _done, _total: None)
        return [tree for tree in boosted.trees if len(tree.left) > 1]  # XGBoost's base score is a leaf

    def spread(tree: Tree) -> float:
        return float(np.ptp(tree.value[tree.left < 0]))

    trees = grow()
    assert len(trees) == 4
    assert max(measure_depth(tree) for tree in trees) == 7
    assert max((tree.left < 0).sum() for tree in trees) > 31, "as many leaves as the depth allows, not a default"
    for least in (20, 300):
        covers = [tree.cover[tree.left < 0].min() for tree in grow(min_samples_leaf=least) if tree.cover is not None]
        assert least <= min(covers) < 2 * least
    assert spread(grow(learning_rate=0.1)[0]) == pytest.approx(2 * spread(grow(learning_rate=0.05)[0]), rel=1e-4)
    one_each = grow(max_features=1 / 6)
    assert any(len(np.unique(tree.feature[tree.left >= 0])) > 1 for tree in one_each), "drawn for a split, not a tree"
    values = [np.concatenate([tree.value for tree in grow(seed, max_features=0.5)]) for seed in (5, 5, 6)]
    assert np.array_equal(values[0], values[1])
    assert not np.array_equal(values[0], values[2])


def test_a_missing_extra_is_one_sentence_with_the_command_that_installs_it() -> None:
    code = (
        "import sys; sys.modules['lightgbm'] = None; sys.modules['xgboost'] = None\n"
        "from dataclasses import replace\n"
        "from hftcl.errors import TrainingError\n"
        "from hftcl.learning.candidate import merge_params\n"
        "from hftcl.settings import Settings\n"
        "for name in ('lightgbm', 'xgboost', 'vote'):\n"
        "    try: merge_params(replace(Settings(), model=replace(Settings().model, family=name)))\n"
        "    except TrainingError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [
        f'The library {name} is not installed. It is an extra: pip install "hftcl[boosting]".'
        for name in ("lightgbm", "xgboost", "lightgbm")
    ], done.stderr


@pytest.mark.parametrize("family", [LightGBM, XGBoost])
def test_a_library_that_is_installed_and_cannot_be_loaded_is_one_sentence(
    family: type[LightGBM] | type[XGBoost], tmp_path: Path
) -> None:
    (tmp_path / f"{family.name}.py").write_text('raise OSError("libgomp.so.1: cannot open shared object file")\n')
    code = (
        f"from hftcl.model.families.boosting import {family.__name__}\n"
        "from hftcl.errors import TrainingError\n"
        f"try: {family.__name__}().prepare()\n"
        "except TrainingError as error: print(error)\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}"},
    )
    assert told.stdout.startswith(
        f"The library {family.name} is installed and cannot be loaded: OSError: libgomp.so.1: cannot open shared object"
    ), told.stderr


def test_a_vote_is_the_weighted_mean_of_its_members() -> None:
    model, (X, y) = fitted("vote").estimator, problem()
    each = model.predict_each(X)
    assert np.allclose(model.predict(X), each.mean(axis=1), rtol=0, atol=1e-9)
    family = Vote()
    params = params_of(family, weight_forest=3.0, weight_xgboost=0.0)
    other = family.fit(X, y, params, seed=2**32 - 1, jobs=1, on_step=lambda _done, _total: None)
    expected = 0.75 * each[:, 0] + 0.25 * each[:, 1]
    assert np.abs(Predictor(other.onnx, X.shape[1]).predict(X) - expected).max() <= 1e-5
    shares = np.array(other.estimator.shares)
    assert other.importances == pytest.approx(0.75 * shares[0] + 0.25 * shares[1])
    with pytest.raises(UsageError, match="the weights of vote are all 0"):
        params_of(family, weight_forest=0, weight_lightgbm=0, weight_xgboost=0)


def test_weights_are_fitted_on_rows_that_the_members_have_not_seen_and_told() -> None:
    X, y = problem()
    first = np.arange(len(X)) < 3000
    rows: dict[str, Any] = {"X": X, "y": y, "fitted": first, "held_out": ~first}
    params = params_of(Vote())
    with TrainingPool() as pool:  # one child, whose libraries take seconds to load
        given = pool.train(TrainingTask(**rows, family="vote", params=params, seed=5, jobs=1))
        fitting = {**params, "fit_weights": True}
        chosen = pool.train(TrainingTask(**rows, family="vote", params=fitting, seed=5, jobs=1))
    assert [given.params[f"weight_{name}"] for name in ("forest", "lightgbm", "xgboost")] == [1.0, 1.0, 1.0]
    weights = [chosen.params[f"weight_{name}"] for name in ("forest", "lightgbm", "xgboost")]
    assert sum(weights) == pytest.approx(1)
    assert min(weights) >= 0
    assert weights != [1 / 3] * 3
    assert chosen.threshold != given.threshold
    assert chosen.onnx != given.onnx


@pytest.mark.parametrize(
    ("family", "wrapped", "with_stranger"),
    [
        ("boosting.LightGBM", "sklearn", False),
        ("boosting.LightGBM", "sklearn", True),
        ("forest.Forest", "pandas", False),
        pytest.param("forest.Forest", "pandas", True, marks=pytest.mark.slow),  # that it is asked is in the other ones
    ],
)
def test_a_training_process_hides_what_a_library_wraps_only_where_no_stranger_s_family_may_need_it(
    tmp_path: Path, family: str, wrapped: str, *, with_stranger: bool
) -> None:
    if with_stranger:
        info = tmp_path / "acme-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[hftcl.families]\nacme = acme:Acme\n")
    module, _, name = family.partition(".")
    code = (
        f"from hftcl.model.families.{module} import {name}; {name}().prepare_child(); "
        "import inspect, sys; print('bias : ' in getattr(sys.modules.get('scipy.stats'), 'skew', print).__doc__); "
        f"print('{wrapped}' in sys.modules); import {wrapped}; print({wrapped}.__name__); "
        "print(bool(inspect.getdoc(inspect)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    texts_are_read = is_loaded = str(with_stranger)  # the texts of its own functions, by scipy
    assert done.stdout.split() == [texts_are_read, is_loaded, wrapped, "True"]
