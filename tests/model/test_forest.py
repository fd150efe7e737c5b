"""The forest fits the same way every time, and its ONNX graph predicts what it does."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import numpy.typing as npt
import onnx
import pytest

from hftcl.errors import TrainingError, UsageError
from hftcl.model.families import complete, forest
from hftcl.model.families.forest import Forest, to_onnx
from hftcl.model.families.tree_graph import place_on_thresholds
from hftcl.model.serving import Predictor
from hftcl.settings import Model as ModelSettings

Rows = npt.NDArray[np.float32]
PARAMS = {"n_estimators": 20, "max_depth": 10, "min_samples_leaf": 5, "min_samples_split": 2, "max_features": "sqrt"}


def market(rows: int = 3000, seed: int = 1) -> tuple[Rows, Rows]:
    """31 features, of which the first two matter."""
    random = np.random.default_rng(seed)
    X = random.normal(size=(rows, 31)).astype(np.float32)
    y = (np.sin(X[:, 0]) + X[:, 1] * (X[:, 0] > 0) + random.normal(size=rows)).astype(np.float32)
    return X, y


def fit(X: Rows, y: Rows, *, jobs: int = 1, seed: int = 7, **params: object) -> Any:
    return Forest().fit(X, y, {**PARAMS, **params}, seed=seed, jobs=jobs, on_step=lambda done, total: None)


@pytest.fixture(params=["intelex", "plain"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both engines: without the intelex package the forest is scikit-learn's own."""
    if request.param == "plain":
        monkeypatch.setattr(forest, "find_spec", lambda name: None)
    else:
        pytest.importorskip("sklearnex")
    return str(request.param)


def test_the_graph_predicts_what_the_forest_does_even_where_a_value_sits_on_a_threshold(engine: str) -> None:
    X, y = market()
    fitted = fit(X, y)
    on_and_above = place_on_thresholds(forest.list_trees(fitted.estimator), X)
    below = np.nextafter(on_and_above, -np.float32("inf"))
    for rows in (X, on_and_above, below):
        np.testing.assert_allclose(
            Predictor(fitted.onnx, 31).predict(rows), fitted.estimator.predict(rows), rtol=0, atol=1e-6
        )


def test_the_forest_learns_what_is_there_to_be_learnt(engine: str) -> None:
    fitted = fit(*market())
    X, y = market(seed=2)
    explained = 1 - np.var(y - Predictor(fitted.onnx, 31).predict(X)) / np.var(y)
    assert explained > 0.2  # of 0.53 that is not noise
    assert set(np.argsort(fitted.importances)[-2:]) == {0, 1}
    assert sum(fitted.importances) == pytest.approx(1)


def test_a_refit_gives_the_same_graph_to_the_byte_whatever_the_number_of_cores(engine: str) -> None:
    X, y = market()
    first = fit(X, y, jobs=1)
    assert [fit(X, y, jobs=jobs).onnx == first.onnx for jobs in (1, 2, 3)] == [True] * 3
    assert fit(X, y, seed=8).onnx != first.onnx


def test_the_graph_takes_any_number_of_rows_of_x_to_one_float() -> None:
    graph = onnx.load_model_from_string(fit(*market(200)).onnx).graph
    ends = [*graph.input, *graph.output]
    assert [value.name for value in ends] == ["X", "prediction"]
    assert [value.type.tensor_type.elem_type for value in ends] == [onnx.TensorProto.FLOAT] * 2
    shapes = [[dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in ends]
    assert shapes == [["rows", 31], ["rows", 1]]


def test_the_estimator_is_plain_scikit_learn_so_that_it_opens_without_intelex(tmp_path: Path) -> None:
    X, y = market(500)
    fitted = fit(X, y)
    joblib.dump(fitted.estimator, tmp_path / "forest.pkl")
    np.save(tmp_path / "X.npy", X)
    script = (
        "import sys; sys.modules['sklearnex'] = sys.modules['daal4py'] = sys.modules['onedal'] = None\n"
        "import joblib, numpy as np\n"
        "forest = joblib.load('forest.pkl'); X = np.load('X.npy')\n"
        "np.save('predicted.npy', forest.predict(X)); print(type(forest).__module__, forest.feature_importances_.size)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout.split(), done.stderr) == (["sklearn.ensemble._forest", "31"], "")
    assert (np.load(tmp_path / "predicted.npy") == fitted.estimator.predict(X)).all()


@pytest.mark.parametrize("grow", [Forest().grow, Forest().grow_tree])
def test_a_word_that_growing_does_not_know_is_an_error(grow: Callable[..., object]) -> None:
    X, y = np.zeros((2, 1), np.float32), np.zeros(2, np.float32)
    with pytest.raises(TypeError, match="'weight'"):
        grow(X, y, {"n_estimators": 1}, seed=1, jobs=1, on_step=lambda done, total: None, weight=y)


def test_growing_a_plain_forest_in_steps_is_growing_it_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.ensemble import RandomForestRegressor  # here: each process that collects would wait a second for it

    monkeypatch.setattr(forest, "find_spec", lambda name: None)
    X, y = market(500)
    steps: list[tuple[int, int]] = []
    params = {**PARAMS, "n_estimators": 25}
    grown = Forest().fit(X, y, params, seed=7, jobs=2, on_step=lambda done, total: steps.append((done, total)))
    at_once = RandomForestRegressor(**params, random_state=7).fit(X, y)
    assert to_onnx(at_once, 31) == grown.onnx
    assert steps == [(0, 25), (10, 25), (20, 25), (25, 25)]


@pytest.mark.parametrize("rows", [1, 2, 60])
def test_few_rows_or_a_constant_target_give_a_model_that_says_the_same_of_every_row(engine: str, rows: int) -> None:
    X, _ = market(rows)
    fitted = fit(X, np.full(rows, 0.25, dtype=np.float32), min_samples_leaf=50)
    predictions = Predictor(fitted.onnx, 31).predict(X)
    np.testing.assert_allclose(predictions, 0.25, rtol=0, atol=1e-6)
    assert np.unique(predictions).size == 1


def test_a_row_gives_the_same_bits_alone_and_in_a_batch_of_any_size() -> None:
    X, y = market()
    predictor = Predictor(fit(X, y, n_estimators=150).onnx, 31)
    whole = predictor.predict(X)
    assert len(np.unique(whole)) > 1000
    for size in (1, 2, 3, 31, 64, 500, 2999):
        some = min(len(X), 500 * size)
        pieces = [predictor.predict(X[start : start + size]) for start in range(0, some, size)]
        assert (np.concatenate(pieces)[:some] == whole[:some]).all()
    assert all((predictor.predict(X) == whole).all() for _ in range(30))
    for jobs in (1, 2, 5):
        assert (predictor.predict_parts(np.array_split(X, 7), jobs) == whole).all(), "also in threads"


@pytest.mark.parametrize(
    "rows",
    [
        np.zeros((2, 31)),
        np.zeros((2, 30), dtype=np.float32),
        np.zeros(31, dtype=np.float32),
        np.full((2, 31), np.nan, dtype=np.float32),
        np.full((2, 31), np.inf, dtype=np.float32),
    ],
    ids=["float64", "30 columns", "one dimension", "NaN", "infinite"],
)
def test_a_model_refuses_rows_that_are_not_finite_float32_of_its_width(rows: Any) -> None:
    predictor = Predictor(fit(*market(100)).onnx, 31)
    with pytest.raises(ValueError, match=r"float32 rows of 31 features|2 of 2 rows hold a value that is not finite"):
        predictor.predict(rows)
    assert predictor.predict(np.empty((0, 31), dtype=np.float32)).shape == (0,)


def test_a_graph_that_predicts_otherwise_than_its_forest_is_not_handed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = market(500)
    other = fit(X, y, seed=8).onnx
    monkeypatch.setattr(forest, "to_onnx", lambda fitted, n_features: other)
    with pytest.raises(TrainingError, match="predicts otherwise than the one that was fitted"):
        fit(X, y)


def test_the_defaults_are_the_settings_and_an_unknown_or_impossible_parameter_is_named() -> None:
    settings = ModelSettings()
    assert complete(Forest(), {"n_estimators": np.int64(300), "max_features": 1}) == {
        "n_estimators": 300,
        "max_depth": settings.max_depth,
        "min_samples_leaf": settings.min_samples_leaf,
        "min_samples_split": settings.min_samples_split,
        "max_features": 1.0,  # a share: not scikit-learn's "1 feature", which an int would be
    }
    with pytest.raises(UsageError, match=r"no parameter 'n_estimator'\. Did you mean n_estimators"):
        complete(Forest(), {"n_estimator": 300})
    for name, value in (("n_estimators", 0), ("max_depth", None), ("max_features", "all"), ("min_samples_leaf", 2.5)):
        with pytest.raises(UsageError, match=f"parameter {name} cannot be {value!r}"):
            complete(Forest(), {name: value})


def test_naming_the_parameters_loads_no_learning_library() -> None:
    script = (
        "import sys; from hftcl.model.families import complete; from hftcl.model.families.forest import Forest\n"
        "complete(Forest(), {'n_estimators': 3})\n"
        "print(*sorted({'sklearn', 'sklearnex', 'onnx', 'onnxruntime', 'polars'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("", "")
