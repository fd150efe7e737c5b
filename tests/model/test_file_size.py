"""A model that no file may hold is foreseen: told before the training, and ended as soon as it is certain."""

import gc
from collections.abc import Mapping
from contextlib import ExitStack

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from hftcl.errors import TrainingError
from hftcl.mapped import open_unnamed_file
from hftcl.model import file_size, trainer
from hftcl.model.families import Fitted, OnStep, complete, find_family
from hftcl.model.families.per_ticker import PerTicker
from hftcl.model.families.ridge import Ridge
from hftcl.model.file_size import (
    MAX_BYTES,
    count_most_bytes,
    count_tree_nodes,
    describe_bound,
    require_room,
    require_small,
)

MIB = 2**20
REFUSED = "The model takes 0 MiB"
TREES: Mapping[str, object] = {"n_estimators": 7, "max_depth": 12, "min_samples_leaf": 30}
BOOSTED: Mapping[str, object] = {"boosting_n_estimators": 5, "boosting_max_depth": 12}


@pytest.mark.parametrize("name", ["forest", "lightgbm", "xgboost", "vote"])
@pytest.mark.parametrize("changes", [{}, {"max_depth": 3, "min_samples_leaf": 1}], ids=["rows limit", "depth limits"])
def test_no_fit_takes_more_than_what_is_foretold(name: str, changes: Mapping[str, object]) -> None:
    family, random = find_family(name), np.random.default_rng(5)
    X = random.normal(size=(1500, 6)).astype(np.float32)
    y = (X[:, 0] + random.normal(size=1500)).astype(np.float32)
    own = {**TREES, **(BOOSTED if name == "vote" else {}), **changes}
    params = complete(family, own)
    graph = family.fit(X, y, params, seed=1, jobs=1, on_step=lambda done, total: None).onnx
    most = count_most_bytes(family, params, [len(X)])
    head = 2_000  # bytes of what a graph holds beside its trees
    assert len(graph) - head <= most <= 8 * len(graph), "a bound that says something"


def test_the_bound_counts_the_leaves_that_rows_or_depth_allow() -> None:
    """By hand: 6,000 rows in leaves of 50 are 120 leaves and 119 splits; a depth of 3 allows 8 and 7."""
    assert count_tree_nodes({"n_estimators": 200, "max_depth": 12, "min_samples_leaf": 50}, 6_000) == 200 * 239
    assert count_tree_nodes({"n_estimators": 2, "max_depth": 3, "min_samples_leaf": 50}, 6_000) == 2 * 15
    assert count_tree_nodes({"n_estimators": 2, "max_depth": 3, "min_samples_leaf": 50}, 20) == 2


def test_the_bound_of_lightgbm_knows_that_a_tree_has_no_more_than_1024_leaves() -> None:
    """By hand: 2**14 leaves by depth, 100,000 // 10 by rows, 1,024 by LightGBM; so a vote has 1,024 in one of three."""
    params = {"n_estimators": 3, "max_depth": 14, "min_samples_leaf": 10}
    assert find_family("xgboost").count_nodes(params, 100_000) == 3 * (2 * 10_000 - 1)  # type: ignore[attr-defined]
    assert find_family("lightgbm").count_nodes(params, 100_000) == 3 * (2 * 1_024 - 1)  # type: ignore[attr-defined]
    vote = find_family("vote")
    voted = complete(vote, {**params, "boosting_n_estimators": 3, "boosting_max_depth": 14})
    assert vote.count_nodes(voted, 100_000) == 3 * (2 * (10_000 + 1_024 + 10_000) - 3)  # type: ignore[attr-defined]


def test_a_training_whose_file_may_be_too_large_is_told_with_the_remedy_and_another_is_not() -> None:
    forest = find_family("forest")
    params = complete(forest, {})
    assert describe_bound(forest, params, [6_000] * 20, per_ticker=True) == ""
    told = describe_bound(forest, params, [6_000] * 500, per_ticker=True)
    assert "may take up to 843 MiB, and a file may have 256 MiB" in told
    assert 'or one model for all: [model] per = "watchlist"' in told
    assert describe_bound(Ridge(), {"alpha": 1.0}, [10**9] * 500, per_ticker=True) == "", "a family without trees"


def test_the_first_tickers_foretell_what_all_take_and_the_training_ends_there() -> None:
    rows = [6_000] * 500
    with pytest.raises(TrainingError, match="of 1 of 500 tickers take 1 MiB: all would take some 500 MiB"):
        require_room([MIB], rows)
    require_room([MIB // 2], rows)  # 250 MiB
    require_room([MIB], [6_000, *[10] * 499])  # a ticker with most of the rows says little of the others
    require_room([MIB] * 256, [6_000] * 257)
    with pytest.raises(TrainingError, match="of 257 of 258 tickers take 257 MiB"):
        require_room([MIB] * 257, [6_000] * 258)
    require_room([], rows)


class Large:
    """A family whose graph is as large as it is told, and that counts its fits."""

    name = "large"
    fits = 0

    def parameters(self) -> Mapping[str, object]:
        return {}

    def check(self, params: Mapping[str, object]) -> Mapping[str, object]:
        return params

    def fit(
        self,
        X: npt.NDArray[np.float32],
        y: npt.NDArray[np.float32],
        params: Mapping[str, object],
        *,
        seed: int,
        jobs: int,
        on_step: OnStep,
    ) -> Fitted:
        self.fits += 1
        plain = Ridge().fit(X, y, {"alpha": 1.0}, seed=seed, jobs=jobs, on_step=on_step)
        model = onnx.ModelProto.FromString(plain.onnx)
        model.doc_string = "x" * MIB
        return Fitted(plain.estimator, bytes(model.SerializeToString()), "large", None)


def test_a_training_of_too_many_tickers_ends_with_the_first_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_size, "MAX_BYTES", 2 * MIB)
    random, family = np.random.default_rng(2), Large()
    number = np.repeat(np.arange(4), 50)
    X = np.column_stack([random.normal(size=(200, 3)), number]).astype(np.float32)
    with pytest.raises(TrainingError, match=r"1 of 4 tickers take 1 MiB.*Use fewer or shallower trees"):
        PerTicker(family, ("A", "B", "C", "D")).fit(X, X[:, 0], {}, seed=1, jobs=1, on_step=lambda done, total: None)
    assert family.fits == 1


def test_a_model_that_no_file_may_hold_is_refused_with_the_remedy() -> None:
    require_small(MAX_BYTES)
    with pytest.raises(TrainingError, match=r"takes 257 MiB.*Use fewer or shallower trees, or a larger min_s\w+\.$"):
        require_small(257 * MIB)


def _train(
    monkeypatch: pytest.MonkeyPatch, fitted: int, limit: int, family: str, params: Mapping[str, object]
) -> set[object]:
    """Train on 300 rows, after a fit on the first `fitted`, where a file may have `limit` bytes.

    Returns the fits that were told, and why it ended where it did.
    """
    random = np.random.default_rng(3)
    X = random.normal(size=(300, 3)).astype(np.float32)
    row = np.arange(300)
    arrays = {"X": X, "y": X[:, 0].copy(), "fitted": row < fitted, "held_out": row >= 250}
    order: dict[str, object] = {"shape": X.shape, "family": family, "params": params, "seed": 1, "jobs": 1}
    order |= {"max_rows": 300, "entry_quantile": 0.9, "keep_inner": False, "only_inner": False}
    order |= {"tickers": (), "with_pkl": False}
    said: list[dict[str, object]] = []
    with ExitStack() as stack:
        names = (*arrays, "onnx", "pkl", "inner_onnx")
        files = {name: stack.enter_context(open_unnamed_file()) for name in names}
        for name, array in arrays.items():
            files[name].write(np.ascontiguousarray(array).tobytes())
            files[name].flush()
        monkeypatch.setattr(file_size, "MAX_BYTES", limit)
        try:
            trainer._train(order, files, said.append)
        except TrainingError as error:
            said.append({"text": str(error).partition(",")[0]})
        finally:
            gc.unfreeze()  # the process of a training ends soon, that of the tests does not
    return {message["text"] for message in said if "text" in message}


def test_a_training_ends_half_way_where_the_model_of_fewer_rows_is_too_large_already(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two fits: the one that sets the threshold comes first, and the one of all rows is no smaller."""
    assert _train(monkeypatch, 200, 100, "ridge", {"alpha": 1.0}) == {"entry threshold", REFUSED}


def test_a_training_whose_model_of_all_rows_alone_is_too_large_is_refused_though_no_file_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a trial of a search: what cannot be archived must not win it. 20 rows make 39 nodes a tree, 300 up to 599."""
    params = complete(find_family("forest"), {"n_estimators": 10, "max_depth": 12, "min_samples_leaf": 1})
    both = {"entry threshold", "all rows"}
    assert _train(monkeypatch, 20, 60_000, "forest", params) == both | {REFUSED}
    assert _train(monkeypatch, 20, 600_000, "forest", params) == both
