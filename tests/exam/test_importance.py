"""What a model loses without a feature, session by session."""

import numpy as np
import numpy.typing as npt
import pytest

from hftcl.exam.importance import SEEDS, compute_parts, measure_importance, select

SESSIONS, ROWS = 5, 400
SESSION = np.repeat(np.arange(SESSIONS), ROWS)


def rows() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """Return three features, of which the first tells the target, the second is noise, the third is the session's."""
    X = np.random.default_rng(11).normal(size=(SESSIONS * ROWS, 3)).astype(np.float32)
    X[:, 2] = SESSION
    return X, X[:, 0] + np.random.default_rng(12).normal(size=len(X))


def predict(X: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return X[:, 0].copy()


def test_the_mean_of_the_sessions_parts_is_pearson_s_correlation_over_all_rows() -> None:
    X, y = rows()
    lengths = np.repeat(np.arange(4), [100, 900, 600, 400])
    for session in (SESSION, lengths):
        assert compute_parts(X[:, 0], y, session).mean() == pytest.approx(np.corrcoef(X[:, 0], y)[0, 1], abs=1e-7)


def test_what_does_not_vary_has_no_correlation_and_counts_as_none() -> None:
    assert compute_parts(np.ones(4), np.arange(4.0), np.array([0, 0, 1, 1])).tolist() == [0.0, 0.0]
    assert compute_parts(np.arange(4.0), np.ones(4), np.array([0, 0, 1, 1])).tolist() == [0.0, 0.0]


def test_where_the_price_stands_in_its_session_foretells_no_walk_at_random() -> None:
    """Beside the session's own mean it would: 30 minutes ahead of 390 with a correlation of -0.3 or less."""
    steps = np.random.default_rng(7).normal(size=(400, 390))
    price = steps.cumsum(axis=1)
    y = (price[:, 30:] - price[:, :-30]).ravel()
    values, session = price[:, :-30].ravel(), np.repeat(np.arange(400), 360)
    within = np.mean([np.corrcoef(values[one == session], y[one == session])[0, 1] for one in range(400)])
    parts = compute_parts(values, y, session)
    assert within < -0.3
    assert abs(parts.mean()) < 3 * parts.std(ddof=1) / np.sqrt(parts.size), "chance"
    assert abs(parts.mean()) < 0.05


def test_without_the_feature_that_tells_all_is_lost_and_without_one_that_is_not_read_nothing() -> None:
    X, y = rows()
    whole = compute_parts(predict(X), y, SESSION)
    told = measure_importance(predict, X, y, SESSION, 0, seed=1)
    assert told == pytest.approx(whole, abs=0.1), "what is left is chance"
    assert measure_importance(predict, X, y, SESSION, 1, seed=1).tolist() == [0.0] * SESSIONS
    assert measure_importance(predict, X, y, SESSION, 0, seed=1).tolist() == told.tolist()
    assert measure_importance(predict, X, y, SESSION, 0, seed=2).tolist() != told.tolist()


def test_each_draw_exchanges_the_rows_otherwise_and_all_columns_by_the_same_draws() -> None:
    X, y = rows()
    X[:, 1] = X[:, 0]
    given: list[list[bytes]] = []
    for column in (0, 1):
        asked: list[bytes] = []

        def watch(
            seen: npt.NDArray[np.float32], column: int = column, asked: list[bytes] = asked
        ) -> npt.NDArray[np.float32]:
            asked.append(seen[:, column].tobytes())
            return predict(seen)

        measure_importance(watch, X, y, SESSION, column, seed=1)
        given.append(asked)
    assert len(set(given[0])) == 1 + SEEDS, "as they are, and once a draw"
    assert given[0] == given[1]


def test_a_feature_that_is_alike_within_each_session_is_exchanged_too() -> None:
    X, _ = rows()
    odd = (SESSION % 2).astype(np.float64)
    y = np.where(odd > 0, X[:, 0], -X[:, 0])

    def by_session(rows_: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return np.where(rows_[:, 2] % 2 > 0, rows_[:, 0], -rows_[:, 0]).astype(np.float32)

    assert measure_importance(by_session, X, y, SESSION, 2, seed=1).min() > 0.5


def test_those_below_leave_the_greatest_first_and_one_stays_whatever_it_is_worth() -> None:
    falls = [np.array([0.01, 0.03]), np.array([-0.01, 0.01]), np.array([0.001, 0.001])]
    chosen = select(["a", "b", "c"], falls, drop_below=0.0005)
    assert [worth.name for worth in chosen.kept] == ["a", "c"]
    assert [(worth.name, worth.importance) for worth in chosen.dropped] == [("b", 0.0)]
    assert chosen.kept[0].standard_error == pytest.approx(0.01)
    assert chosen.reason == (
        "1 of 3 features left out: without it the information coefficient on 2 held-out sessions falls by less than "
        "0.0005"
    )
    assert [worth.name for worth in select(["a", "b", "c"], falls, drop_below=1.0).kept] == ["a"]
