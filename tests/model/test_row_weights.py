"""How much each row counts, in each family that takes weights."""

from importlib.util import find_spec

import numpy as np
import numpy.typing as npt
import pytest

from hftcl.model.families import Fitted, complete, find_family
from hftcl.model.families.ridge import Ridge
from hftcl.model.serving import Predictor

Rows = npt.NDArray[np.float32]
SMALL: dict[str, object] = {"n_estimators": 6, "max_depth": 3, "min_samples_leaf": 20, "max_features": 1.0}
BOOSTED: dict[str, object] = {**SMALL, "learning_rate": 0.5}
VOTE: dict[str, object] = {**SMALL, "boosting_n_estimators": 6, "boosting_learning_rate": 0.5}
CASES: list[tuple[str, dict[str, object]]] = [
    ("ridge", {}),
    ("forest", SMALL),
    ("lightgbm", BOOSTED),
    ("xgboost", BOOSTED),
    ("vote", VOTE),
]


def fit(name: str, chosen: dict[str, object], X: Rows, y: Rows, weights: Rows | None, jobs: int = 1) -> Fitted:
    family = find_family(name)
    given = {} if weights is None else {"weights": weights}
    params = complete(family, chosen)
    return family.fit(X, y, params, seed=3, jobs=jobs, on_step=lambda done, total: None, **given)


def turned_half_way() -> tuple[Rows, Rows]:
    """Return rows of which the older half says that the target follows the feature, the newer one the opposite."""
    X = np.random.default_rng(5).normal(size=(800, 2)).astype(np.float32)
    return X, np.where(np.arange(800) < 400, X[:, 0], -X[:, 0]).astype(np.float32)


@pytest.mark.parametrize(("name", "chosen"), CASES)
def test_what_the_heavy_rows_tell_is_learnt_and_not_what_the_light_ones_do(
    name: str, chosen: dict[str, object]
) -> None:
    if name in {"lightgbm", "xgboost", "vote"} and not find_spec("lightgbm"):
        pytest.skip("the extra hftcl[boosting] is not installed")
    X, y = turned_half_way()
    for heavy, sign in ((slice(0, 400), 1.0), (slice(400, 800), -1.0)):
        weights = np.full(800, 0.02, dtype=np.float32)
        weights[heavy] = 1.98
        onnx = fit(name, chosen, X, y, weights).onnx
        assert np.corrcoef(Predictor(onnx, 2).predict(X), sign * X[:, 0])[0, 1] > 0.8
        assert fit(name, chosen, X, y, weights, jobs=2).onnx == onnx, "the cores change no bit"


def test_each_member_of_a_vote_learns_what_the_heavy_rows_tell() -> None:
    """One that did not would be outvoted, and the mean would hide it."""
    pytest.importorskip("lightgbm")
    X, y = turned_half_way()
    weights = np.where(np.arange(800) < 400, 0.02, 1.98).astype(np.float32)
    for predicted in fit("vote", VOTE, X, y, weights).estimator.predict_each(X).T:
        assert np.corrcoef(predicted, -X[:, 0])[0, 1] > 0.8


def test_a_weight_of_two_is_the_row_twice() -> None:
    """A second way to the same sum: the rows themselves, repeated."""
    X = np.random.default_rng(6).normal(size=(300, 3)).astype(np.float32)
    y = (X[:, 0] - 2 * X[:, 1]).astype(np.float32) + np.random.default_rng(7).normal(size=300).astype(np.float32)
    times = np.where(np.arange(300) < 100, 2, 1)
    weights = (times / times.mean()).astype(np.float32)
    weighted = Predictor(fit("ridge", {"alpha": 0.0}, X, y, weights).onnx, 3).predict(X)
    twice = fit("ridge", {"alpha": 0.0}, np.repeat(X, times, axis=0), np.repeat(y, times), None)
    repeated = Predictor(twice.onnx, 3)
    assert weighted == pytest.approx(repeated.predict(X), abs=1e-5)


def test_equal_weights_change_nothing_but_the_last_bits() -> None:
    X = np.random.default_rng(8).normal(size=(300, 3)).astype(np.float32)
    y = X[:, 0].copy()
    step = {"seed": 1, "jobs": 1, "on_step": lambda done, total: None}
    plain = Ridge().fit(X, y, {"alpha": 10.0}, **step).estimator  # type: ignore[arg-type]
    equal = Ridge().fit(X, y, {"alpha": 10.0}, weights=np.ones(300, dtype=np.float32), **step).estimator  # type: ignore[arg-type]
    assert equal.weights == pytest.approx(plain.weights, rel=1e-9)
    assert equal.intercept == pytest.approx(plain.intercept, abs=1e-9)
