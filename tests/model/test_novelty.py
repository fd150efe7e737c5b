"""Which rows lie too far from the training to decide on."""

import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hftcl.model.novelty import measure_novelty

TRAINING = np.random.default_rng(3).normal(size=(5_000, 4)).astype(np.float32) * np.array(
    [1, 10, 0.1, 1], dtype=np.float32
)


def test_the_distance_is_that_of_the_features_in_their_own_deviations_worked_by_hand() -> None:
    X = np.array([[0, 0], [2, 20], [0, 20], [2, 0]], dtype=np.float32)  # mean (1, 10), deviations (1, 10)
    novelty = measure_novelty(X, 0.5)
    assert novelty is not None
    assert (novelty.mean, novelty.deviation, novelty.limit) == ((1.0, 10.0), (1.0, 10.0), 2.0)
    asked = np.array([[1, 10], [2, 20], [2.5, 10], [2.4, 10], [1, 25]], dtype=np.float32)
    assert novelty.find_novel(asked).tolist() == [False, False, True, False, True]


@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.99])
def test_so_many_of_the_training_rows_themselves_are_novel_and_no_more(quantile: float) -> None:
    novelty = measure_novelty(TRAINING, quantile)
    assert novelty is not None
    assert novelty.find_novel(TRAINING).mean() == pytest.approx(1 - quantile, abs=2 / len(TRAINING))


def test_the_limit_is_a_distance_that_occurs_so_that_never_more_than_asked_for_are_novel() -> None:
    X = np.arange(10, dtype=np.float32)[:, np.newaxis] ** 2
    novelty = measure_novelty(X, 0.85)
    assert novelty is not None
    assert novelty.find_novel(X).tolist() == [False] * 9 + [True], "one of ten; two would be more than 0.15"


def test_where_nothing_is_asked_for_everything_is_near() -> None:
    assert measure_novelty(TRAINING, 0.0) is None


def test_a_feature_that_never_varied_is_novel_when_it_does() -> None:
    X = np.column_stack([TRAINING[:, 0], np.full(len(TRAINING), 7, dtype=np.float32)])
    novelty = measure_novelty(X, 0.99)
    assert novelty is not None
    asked = np.array([[0, 7], [0, 7.5], [0, 700]], dtype=np.float32)
    assert novelty.find_novel(asked).tolist() == [False, False, True], "in its own unit: half of one is no rounding"


def test_measuring_takes_less_memory_than_the_rows_themselves() -> None:
    X = np.tile(TRAINING, (4, 8))
    tracemalloc.start()
    try:
        assert measure_novelty(X, 0.99) is not None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < X.nbytes


@given(rows=st.lists(st.integers(0, len(TRAINING) - 1), min_size=1, max_size=30))
def test_a_row_alone_and_in_any_batch_gives_the_same_answer(rows: list[int]) -> None:
    novelty = measure_novelty(TRAINING[:500], 0.9)
    assert novelty is not None
    batch = novelty.find_novel(TRAINING[rows]).tolist()
    assert batch == [bool(novelty.find_novel(TRAINING[row : row + 1])[0]) for row in rows]


@pytest.mark.bench
def test_it_costs_less_than_the_prediction_of_a_default_forest() -> None:
    """Twenty rows, as in a minute of twenty tickers, of 31 features; processor time."""
    from hftcl.model.families.forest import Forest
    from hftcl.model.serving import Predictor

    X = np.random.default_rng(4).normal(size=(20_000, 31)).astype(np.float32)
    fitted = Forest().fit(X, X[:, 0], Forest().parameters(), seed=1, jobs=2, on_step=lambda done, total: None)
    predictor, novelty = Predictor(fitted.onnx, 31), measure_novelty(X, 0.99)
    assert novelty is not None
    minute = X[:20]

    def measure(call: object) -> float:
        began = time.process_time()
        for _ in range(300):
            call(minute)  # type: ignore[operator]
        return (time.process_time() - began) / 300

    predicted, looked = measure(predictor.predict), measure(novelty.find_novel)
    print(f"\nprediction {predicted * 1e6:.0f} us, novelty {looked * 1e6:.0f} us", end="")  # noqa: T201
    assert looked < predicted
