"""Where there are more rows than a fit may hold, each tree learns from whole sessions of tickers that a seed draws."""

import threading
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hftcl.model.families.forest import Forest
from hftcl.model.sampling import Sampler
from hftcl.model.serving import Predictor
from hftcl.model.training import TrainingPool, TrainingTask

PARAMS = {"n_estimators": 12, "max_depth": 4, "min_samples_leaf": 5}


def number_groups(sizes: list[int]) -> npt.NDArray[np.int32]:
    return np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)


@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=30),
    most=st.integers(1, 300),
    seed=st.integers(0, 2**32 - 1),
    number=st.integers(0, 500),
    data=st.data(),
)
def test_a_sample_is_whole_groups_in_order_and_no_more_than_it_may_hold(
    sizes: list[int], most: int, seed: int, number: int, data: st.DataObject
) -> None:
    groups = number_groups(sizes)
    kept = data.draw(st.lists(st.booleans(), min_size=groups.size, max_size=groups.size).filter(any))
    rows = np.flatnonzero(kept)
    sampler = Sampler(groups, rows, most, seed)
    drawn = sampler.draw(number)
    assert (np.diff(drawn) > 0).all()
    of_drawn = np.unique(groups[drawn])
    assert drawn.tolist() == rows[np.isin(groups[rows], of_drawn)].tolist(), "whole"
    assert drawn.size <= most or of_drawn.size == 1
    sizes_left = [int((groups[rows] == one).sum()) for one in np.unique(groups[rows]) if one not in of_drawn]
    assert not sizes_left or drawn.size + max(sizes_left) > most, "no room is left for all that is not drawn"
    assert sampler.draw(number).tolist() == drawn.tolist()


def test_samples_differ_by_number_and_by_seed_and_each_group_has_its_turn() -> None:
    groups = number_groups([10] * 40)
    rows = np.arange(groups.size)
    drawn = [frozenset(groups[Sampler(groups, rows, 100, 7).draw(number)].tolist()) for number in range(200)]
    assert len(set(drawn)) > 190
    assert drawn[0] != frozenset(groups[Sampler(groups, rows, 100, 8).draw(0)].tolist())
    times = np.bincount([one for sample in drawn for one in sample], minlength=40)
    assert times.sum() == 200 * 10
    assert (abs(times - 50) < 6 * np.sqrt(200 * 0.25 * 0.75)).all(), "a hypergeometric count, six deviations at most"


def rows_to_learn_from(groups: int = 60, size: int = 20) -> tuple[Any, Any, Any]:
    random = np.random.default_rng(3)
    X = random.normal(size=(groups * size, 4)).astype(np.float32)
    y = (X[:, 0] + 0.3 * random.normal(size=len(X))).astype(np.float32)
    return X, y, number_groups([size] * groups)


def build_task(family: str = "forest", *, max_rows: int, with_groups: bool = True, **changes: Any) -> TrainingTask:
    X, y, groups = rows_to_learn_from()
    place = np.arange(len(X))
    params = PARAMS if family == "forest" else {}
    return TrainingTask(
        X=X, y=y, fitted=place < 800, held_out=place >= 900, family=family, params=params,
        groups=groups if with_groups else None, max_rows=max_rows, **changes,
    )  # fmt: skip


@pytest.mark.parametrize("weighted", [False, True])
def test_each_tree_is_the_one_that_its_own_rows_seed_and_weights_give(*, weighted: bool) -> None:
    """A second way: each sample by hand, as a forest of one tree."""
    X, y, groups = rows_to_learn_from()
    sampler = Sampler(groups, np.arange(len(y)), 300, 42)
    options: dict[str, Any] = {"jobs": 1, "on_step": lambda _done, _total: None}
    weights = np.linspace(0.1, 1.9, len(y), dtype=np.float32) if weighted else None
    fitted = Forest().fit(
        X, y, {**Forest().parameters(), **PARAMS}, seed=42, sampler=sampler, weights=weights, **options
    )
    mean = np.zeros(len(X))
    for number in range(12):
        rows = sampler.draw(number)
        alone = {**Forest().parameters(), **PARAMS, "n_estimators": 1}
        own = None if weights is None else weights[rows]
        one, _ = Forest().grow(X[rows], y[rows], alone, seed=sampler.derive_seed(number), weights=own, **options)
        mean += one.predict(X) / 12
    found = Predictor(fitted.onnx, 4).predict(X)
    assert found == pytest.approx(mean, abs=1e-5)
    assert fitted.estimator.predict(X) == pytest.approx(mean, abs=1e-9)
    assert np.corrcoef(found, y)[0, 1] > 0.7, "a forest that has learnt"


@dataclass(frozen=True)
class Meeting(Sampler):
    """Draws no sample before another one is asked for."""

    barrier: threading.Barrier = field(default_factory=lambda: threading.Barrier(2))

    def draw(self, number: int) -> npt.NDArray[np.int64]:
        self.barrier.wait(60)
        return super().draw(number)


@dataclass(frozen=True)
class Threads(Sampler):
    """Notes which threads draw."""

    seen: set[str] = field(default_factory=set)

    def draw(self, number: int) -> npt.NDArray[np.int64]:
        self.seen.add(threading.current_thread().name)
        return super().draw(number)


def test_trees_that_take_one_core_are_grown_at_the_same_time_and_come_out_the_same() -> None:
    """With weights scikit-learn itself fits."""
    X, y, groups = rows_to_learn_from()
    weights = np.linspace(0.1, 1.9, len(y), dtype=np.float32)
    steps: list[tuple[int, int]] = []

    def note(done: int, total: int) -> None:
        steps.append((done, total))

    def fit(sampler: Sampler, jobs: int, free: int | None = None) -> bytes:
        params = {**Forest().parameters(), **PARAMS}
        options: dict[str, Any] = {"weights": weights, "sampler": sampler}
        return Forest(lambda: free).fit(X, y, params, seed=42, jobs=jobs, on_step=note, **options).onnx

    together = fit(Meeting(groups, np.arange(len(y)), 300, 42), 2)
    assert steps == [(0, 12), (10, 12), (12, 12)]
    assert together == fit(Sampler(groups, np.arange(len(y)), 300, 42), 1)
    alone = Threads(groups, np.arange(len(y)), 300, 42)
    assert together == fit(alone, 2, free=10_000)
    assert alone.seen == {threading.main_thread().name}, "where memory has no room for two samples, they are not held"


@pytest.mark.usefixtures("warm_trainers")
def test_with_no_more_rows_than_it_may_hold_the_model_is_the_same_to_the_byte() -> None:
    with TrainingPool() as pool:
        plain = pool.train(build_task(max_rows=0, with_groups=False))
        roomy = pool.train(build_task(max_rows=1200))
        tight = pool.train(build_task(max_rows=300))
        again = pool.train(build_task(max_rows=300, jobs=1))
    assert (roomy.onnx, roomy.threshold) == (plain.onnx, plain.threshold)
    assert tight.onnx != plain.onnx
    assert tight.threshold != plain.threshold, "the model of the threshold learns from samples too"
    assert (again.onnx, again.threshold, again.pkl) == (tight.onnx, tight.threshold, tight.pkl)


@pytest.mark.usefixtures("warm_trainers")
def test_a_model_that_no_file_will_hold_predicts_the_same_and_tells_less() -> None:
    with TrainingPool() as pool:
        kept = pool.train(build_task(max_rows=0, with_groups=False))
        brief = pool.train(build_task(max_rows=0, with_groups=False, with_pkl=False))
    assert (brief.onnx, brief.threshold) == (kept.onnx, kept.threshold)
    assert kept.importances is not None
    assert (brief.importances, brief.pkl) == (None, b"")
