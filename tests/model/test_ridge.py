"""The family ridge is the regression of the textbook, and its graph predicts what it does."""

from pathlib import Path
from typing import Any

import joblib
import numpy as np
import numpy.typing as npt
import pytest

from hftcl.archive.artifact import load
from hftcl.contracts import check_family
from hftcl.errors import TrainingError, UsageError
from hftcl.model.families import complete, find_family, ridge
from hftcl.model.families.ridge import Ridge
from hftcl.model.serving import Predictor
from tests.in_process import answer_here
from tests.loop_cases import QUICK_TOML, RETRAIN

Rows = npt.NDArray[np.float32]


def market(rows: int = 3000, seed: int = 1) -> tuple[Rows, Rows]:
    """Five features of very different size, one of them constant, of which the first two matter."""
    random = np.random.default_rng(seed)
    X = (random.normal(size=(rows, 5)) * [1, 100, 1e-4, 0, 1] + [0, 1e4, 0, 3, 0]).astype(np.float32)
    y = (X[:, 0] - X[:, 1] / 200 + random.normal(size=rows)).astype(np.float32)
    return X, y


def fit(X: Rows, y: Rows, *, jobs: int = 1, seed: int = 7, alpha: float = 100.0) -> Any:
    return Ridge().fit(X, y, {"alpha": alpha}, seed=seed, jobs=jobs, on_step=lambda done, total: None)


@pytest.mark.parametrize("alpha", [0.0, 100.0, 1e6])
def test_it_is_ridge_regression_on_standardised_features(alpha: float) -> None:
    from sklearn.linear_model import Ridge as KnownRidge  # here: each process that collects would wait a second for it

    X, y = market()
    moving = X[:, [0, 1, 2, 4]].astype(np.float64)
    standardised = (moving - moving.mean(axis=0)) / moving.std(axis=0)
    known = KnownRidge(alpha=alpha).fit(standardised, y.astype(np.float64))
    fitted = fit(X, y, alpha=alpha)
    np.testing.assert_allclose(fitted.estimator.predict(X), known.predict(standardised), atol=1e-9)
    np.testing.assert_allclose(Predictor(fitted.onnx, 5).predict(X), known.predict(standardised), atol=1e-4)
    assert fitted.importances is not None
    assert fitted.importances[3] == 0
    assert sum(fitted.importances) == pytest.approx(1)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_feature_that_never_changes_has_no_part_in_any_prediction(weighted: bool) -> None:
    """Also where its mean is rounded: divided by what the rounding left, a large value was no number."""
    X, y = market(20_001)
    X[:, 3] = 0.1
    weights = np.random.default_rng(2).uniform(0.5, 1.5, len(X)).astype(np.float32) if weighted else None
    fitted = Ridge().fit(X, y, {"alpha": 100.0}, seed=7, jobs=1, on_step=lambda done, total: None, weights=weights)
    far = X[:9].copy()
    far[:, 3] = 1e30
    predictor = Predictor(fitted.onnx, 5)
    np.testing.assert_array_equal(predictor.predict(far), predictor.predict(X[:9]))
    assert fitted.importances is not None
    assert fitted.importances[3] == 0


def test_a_feature_that_is_nothing_but_rounding_has_no_part_in_any_prediction() -> None:
    """A wick that is the same above and below, 1e-13 of rounding: a large value of it was no number in float32."""
    X, y = market()
    X[:, 2] = np.random.default_rng(2).normal(scale=1e-13, size=len(X))
    fitted = fit(X, y)
    far = X[:9].copy()
    far[:, 2] = 1e30
    predictor = Predictor(fitted.onnx, 5)
    assert np.isfinite(predictor.predict(far)).all()
    np.testing.assert_array_equal(predictor.predict(far), predictor.predict(X[:9]))
    assert fitted.importances[2] == 0


def test_a_feature_of_a_small_spread_that_float32_can_tell_counts() -> None:
    X, y = market()
    X[:, 0] *= 1e-8
    far = np.full((1, 5), 1e30, dtype=np.float32)
    fitted = fit(X, y)
    assert fitted.importances[0] > 0.1
    assert np.isfinite(Predictor(fitted.onnx, 5).predict(far)).all()


def test_seed_cores_and_the_size_of_a_block_change_no_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = market()
    assert fit(X, y, jobs=3, seed=9).onnx == fit(X, y).onnx
    monkeypatch.setattr("hftcl.model.families.ridge._BLOCK_ROWS", 700)
    np.testing.assert_allclose(fit(X, y).estimator.weights, fit(X[::-1], y[::-1]).estimator.weights, atol=1e-9)


def test_a_row_gives_the_same_bits_alone_and_in_a_batch_of_any_size() -> None:
    X, y = market()
    predictor = Predictor(fit(X, y).onnx, 5)
    whole = predictor.predict(X)
    assert len(np.unique(whole)) > 1000
    for size in (1, 2, 3, 5, 31, 64, 500, 2999):
        pieces = [predictor.predict(X[start : start + size]) for start in range(0, len(X), size)]
        assert (np.concatenate(pieces) == whole).all()


def test_a_graph_that_predicts_otherwise_than_its_sum_is_not_handed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = market(500)
    other = fit(X, y, alpha=0.0).onnx
    monkeypatch.setattr(ridge, "_build_graph", lambda model: other)
    with pytest.raises(TrainingError, match="predicts otherwise than the one that was fitted"):
        fit(X, y)


@pytest.mark.parametrize("rows", [1, 2, 60])
def test_few_rows_or_a_constant_target_give_a_model_that_says_the_same_of_every_row(rows: int) -> None:
    X, _ = market(rows)
    fitted = fit(X, np.full(rows, 0.25, dtype=np.float32))
    assert (Predictor(fitted.onnx, 5).predict(X) == np.float32(0.25)).all()
    assert sum(fitted.importances) == pytest.approx(1)


def test_it_keeps_what_a_family_promises_and_refuses_what_is_no_penalty() -> None:
    assert check_family(Ridge()) == ()
    assert find_family("ridge").name == "ridge"
    with pytest.raises(UsageError, match=r"alpha cannot be -1.0; it must be"):
        complete(Ridge(), {"alpha": -1.0})
    with pytest.raises(UsageError, match=r"no parameter 'n_estimators'"):
        complete(Ridge(), {"n_estimators": 3})


@pytest.mark.usefixtures("warm_trainers")
def test_a_retrain_with_it_deploys_a_model_that_the_section_ridge_sets(tmp_path: Path) -> None:
    (tmp_path / "hftcl.toml").write_text(QUICK_TOML + "[ridge]\nalpha = 7\n")
    assert answer_here(tmp_path, *RETRAIN)["outcome"] == "deployed"
    assert answer_here(tmp_path, *RETRAIN, "--param", "alpha=9")["outcome"] == "deployed"
    rows = answer_here(tmp_path, "history")
    metas = [load(tmp_path / "models" / f"model_{row['model_id']}.onnx").meta for row in rows]
    assert sorted((meta.family, meta.params["alpha"]) for meta in metas) == [("ridge", 7.0), ("ridge", 9.0)]
    opened = joblib.load(tmp_path / "trained_stock_model.pkl")
    assert opened.predict(np.zeros((2, len(opened.mean)))).shape == (2,)
