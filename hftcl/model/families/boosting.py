"""The families `lightgbm` and `xgboost`: boosted trees, from the extra `hftcl[boosting]`.

Their trees go through the same writer as a forest's. Each library compares in its own way, and a row that sits on a
split has to go the way that it goes there: LightGBM asks x <= threshold in float64, XGBoost x < threshold in float32.
"""

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.util import find_spec
from math import log2, sqrt
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from hftcl.errors import TrainingError, UsageError
from hftcl.model.families import Fitted, OnStep
from hftcl.model.families.graph import pick_rows, require_same
from hftcl.model.families.hidden import hide
from hftcl.model.families.ranges import require_in_range
from hftcl.model.families.tree_graph import Tree, build_tree_graph, place_on_thresholds
from hftcl.model.file_size import count_tree_nodes
from hftcl.settings import LightGBM as LightGBMSettings
from hftcl.settings import Model as ModelSettings
from hftcl.settings import XGBoost as XGBoostSettings

if TYPE_CHECKING:
    pass

Rows = npt.NDArray[np.float32]

_LARGEST_SEED: Final = 2**31 - 1  # both libraries keep it in 32 bits with a sign; [model] seed has 32 without
_PLAIN_SPLITS: Final = frozenset({0, 2})  # LightGBM's decision_type: a number, no category; 2 says where a missing goes
# LightGBM imports these where they are installed, for its scikit-learn classes and other kinds of tables: of 1.4 s that
# takes 1.1. XGBoost's own class, which is fitted here, is such a class: https://github.com/microsoft/LightGBM/blob/master/python-package/lightgbm/compat.py
_WRAPPED: Final = ("sklearn", "pandas", "dask", "matplotlib", "pyarrow")
_LEAF_DEPTH: Final = 10  # 1,024 leaves: with more of them one of LightGBM's trees learns rows by heart
_LEAF: Final = -1  # the child of a leaf, as `Tree` and XGBoost have it
_ZERO: Final = np.float32(1e-35)  # kZeroThreshold of LightGBM's include/LightGBM/meta.h


@dataclass(frozen=True, slots=True)
class Boosted:
    """A fitted ensemble: the library's own model, its trees, and how much each feature gained."""

    model: Any
    trees: tuple[Tree, ...]
    gains: npt.NDArray[np.float64]


class _Boosting(ABC):
    """What both share: the names that a forest has, and how a graph comes of them."""

    name: str
    takes_weights = True
    tells_brief = True
    SETTINGS: type[LightGBMSettings | XGBoostSettings]

    def parameters(self) -> Mapping[str, object]:
        """Return the names that `--param` may set, each with its default from the settings."""
        return {**asdict(self.SETTINGS()), "min_samples_split": ModelSettings().min_samples_split}

    def check(self, params: Mapping[str, object]) -> Mapping[str, object]:
        """Return `params` as int, float and str; raises UsageError for a value outside its range in the settings."""
        own = {name for name in self.parameters() if name != "min_samples_split"}
        checked = {
            name: require_in_range(
                self.SETTINGS if name in own else ModelSettings, self.name if name in own else "model", name, value
            )
            for name, value in params.items()
        }
        require_no_split_rule(self.name, checked)
        return checked

    def count_nodes(self, params: Mapping[str, object], rows: int) -> int:
        """Return the most nodes that its trees have after a fit on so many rows."""
        return count_tree_nodes(params, rows)

    def require_installed(self) -> None:
        """Raise TrainingError where the extra is not installed; loads nothing."""
        require_library(self.name)

    def prepare(self) -> None:
        """Load the library, which takes a second. Raises TrainingError where it is missing or cannot be loaded."""
        load_library(self.name)

    def fit(
        self,
        X: Rows,
        y: Rows,
        params: Mapping[str, object],
        *,
        seed: int,
        jobs: int,
        on_step: OnStep,
        weights: Rows | None = None,
        brief: bool = False,
    ) -> Fitted:
        """Boost trees on the squared error, each row's times its weight.

        X: float32 (n, k); y: float32 (n,); finite, n at least 1. Reports (trees done, trees). brief: see `Family`.
        Raises TrainingError where the library is not installed, or the graph does not predict what it does.
        """
        load_library(self.name)
        boosted = self.boost(X, y, params, seed=seed, jobs=jobs, on_step=on_step, weights=weights)
        onnx = build_tree_graph(boosted.trees, X.shape[1])
        engine = f"{self.name} {find_version(self.name)}"
        if brief:
            return Fitted(boosted.model, onnx, engine, None)
        rows = pick_rows(X)
        require_same(onnx, boosted.model.predict, np.vstack([rows, place_on_thresholds(boosted.trees, rows)]))
        return Fitted(boosted.model, onnx, engine, compute_shares(boosted.gains))

    @abstractmethod
    def boost(
        self,
        X: Rows,
        y: Rows,
        params: Mapping[str, object],
        *,
        seed: int,
        jobs: int,
        on_step: OnStep,
        weights: Rows | None = None,
    ) -> Boosted:
        """Fit, and read the trees out of the library's own text. See `fit`."""


class LightGBM(_Boosting):
    """Microsoft's gradient boosting: histograms, leaf by leaf, the same to the bit on any number of cores.

    https://lightgbm.readthedocs.io/en/latest/Parameters.html
    """

    name = "lightgbm"
    fills_cores = True
    SETTINGS = LightGBMSettings

    def count_nodes(self, params: Mapping[str, object], rows: int) -> int:
        """Return the most nodes that its trees have, whose leaves are as many as a depth of 10 allows, or fewer."""
        depth = min(int(str(params["max_depth"])), _LEAF_DEPTH)
        return super().count_nodes({**params, "max_depth": depth}, rows)

    def prepare_child(self) -> None:
        """Load the library without what it offers other programs, in a fifth of the time. Raises as `prepare`."""
        with hide(_WRAPPED):
            load_library(self.name)

    def boost(
        self,
        X: Rows,
        y: Rows,
        params: Mapping[str, object],
        *,
        seed: int,
        jobs: int,
        on_step: OnStep,
        weights: Rows | None = None,
    ) -> Boosted:
        import lightgbm

        trees, depth = int(str(params["n_estimators"])), int(str(params["max_depth"]))
        options = {
            "objective": "regression",
            "learning_rate": params["learning_rate"],
            "max_depth": depth,
            "num_leaves": 2 ** min(depth, _LEAF_DEPTH),  # what the depth allows
            "min_data_in_leaf": params["min_samples_leaf"],
            "feature_fraction_bynode": find_share(params["max_features"], X.shape[1]),
            "use_missing": False,  # every value is known; else a 0 may be taken for a missing one
            "seed": seed % _LARGEST_SEED,
            "deterministic": True,  # whatever the cores, with the next line: so its documentation
            "force_row_wise": True,
            "num_threads": jobs,
            "verbosity": -1,
        }
        on_step(0, trees)
        model = lightgbm.train(
            options,
            lightgbm.Dataset(X, y, weight=weights, params={"verbosity": -1, "use_missing": False}, free_raw_data=True),
            num_boost_round=trees,
            callbacks=[lambda moment: on_step(moment.iteration + 1, trees)],
        )
        if model.num_trees() < trees:  # it stops where no split is left that gains anything
            on_step(trees, trees)
        text = model.model_to_string(importance_type="gain")
        gains = np.asarray(model.feature_importance(importance_type="gain"), dtype=np.float64)
        return Boosted(model, read_lightgbm(text), gains)


class XGBoost(_Boosting):
    """XGBoost's histograms, depth by depth; on one core, because the sums of more are added in another order.

    https://xgboost.readthedocs.io/en/stable/parameter.html
    """

    name = "xgboost"
    SETTINGS = XGBoostSettings

    def boost(
        self,
        X: Rows,
        y: Rows,
        params: Mapping[str, object],
        *,
        seed: int,
        jobs: int,
        on_step: OnStep,
        weights: Rows | None = None,
    ) -> Boosted:
        import xgboost

        trees = int(str(params["n_estimators"]))
        model = xgboost.XGBRegressor(
            n_estimators=trees,
            learning_rate=params["learning_rate"],
            max_depth=params["max_depth"],
            min_child_weight=params["min_samples_leaf"],  # of the squared error each row weighs 1
            colsample_bynode=find_share(params["max_features"], X.shape[1]),
            tree_method="hist",
            random_state=seed % _LARGEST_SEED,
            n_jobs=1,
            verbosity=0,
        )
        on_step(0, trees)
        model.set_params(callbacks=[_build_callback(on_step, trees)])
        model.fit(X, y, sample_weight=weights)
        model.set_params(callbacks=None)  # it goes into a pickle, which holds no lock and no pipe
        on_step(trees, trees)
        booster = model.get_booster()
        scores = booster.get_score(importance_type="total_gain")
        gains = np.array([scores.get(f"f{number}", 0.0) for number in range(X.shape[1])], dtype=np.float64)
        return Boosted(model, read_xgboost(bytes(booster.save_raw("json"))), gains)


def _build_callback(on_step: OnStep, trees: int) -> Any:
    from xgboost.callback import TrainingCallback

    class Steps(TrainingCallback):
        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            on_step(epoch + 1, trees)
            return False

    return Steps()


def read_lightgbm(text: str) -> tuple[Tree, ...]:
    """Return the trees of LightGBM's text format, whose numbers have 17 digits, so that a float64 is whole.

    A child that is negative is a leaf: ~child is its number. Raises TrainingError for a split on a category.
    """
    trees = []
    for part in text.split("\nTree=")[1:]:
        fields = dict(line.partition("=")[::2] for line in part.splitlines())
        value = np.array(fields["leaf_value"].split(), dtype=np.float64)
        splits = len(value) - 1
        if not splits:
            trees.append(_build_leaf(float(value[0])))
            continue
        if not {int(kind) for kind in fields["decision_type"].split()} <= _PLAIN_SPLITS:
            raise TrainingError("LightGBM split on a category, which no model file can hold.")
        children = (np.array(fields[name].split(), dtype=np.int64) for name in ("left_child", "right_child"))
        left, right = (np.where(child < 0, splits + ~child, child) for child in children)
        trees.append(
            Tree(
                left=_add_leaves(left, len(value), _LEAF),
                right=_add_leaves(right, len(value), _LEAF),
                feature=_add_leaves(np.array(fields["split_feature"].split(), dtype=np.int64), len(value), 0),
                threshold=_add_leaves(_move_off_zero(fields["threshold"].split()), len(value), 0),
                value=np.concatenate([np.zeros(splits), value]),
                cover=np.array([*fields["internal_count"].split(), *fields["leaf_count"].split()], dtype=np.float64),
            )
        )
    return tuple(trees)


def _move_off_zero(texts: list[str]) -> npt.NDArray[np.float64]:
    """Return the thresholds as they act: before LightGBM compares, it takes a value within 1e-35 of 0 for 0."""
    threshold = np.array(texts, dtype=np.float64)
    near = np.abs(threshold) <= float(_ZERO)
    act = np.where(threshold >= 0, _ZERO, np.nextafter(-_ZERO, np.float32(-np.inf)))
    return np.where(near, act.astype(np.float64), threshold)


def _add_leaves(of_splits: npt.NDArray[Any], leaves: int, value: float) -> npt.NDArray[Any]:
    return np.concatenate([of_splits, np.full(leaves, value, dtype=of_splits.dtype)])


def read_xgboost(document: bytes) -> tuple[Tree, ...]:
    """Return the trees of XGBoost's JSON, and one more that is a single leaf: the base score.

    A row goes left where its float32 value is below the threshold: at most the float32 before it. A leaf's value stands
    where another node has its threshold. https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html
    """
    learner = json.loads(document)["learner"]
    base = float(learner["learner_model_param"]["base_score"].strip("[]"))
    trees = [_build_leaf(base)]
    for tree in learner["gradient_booster"]["model"]["trees"]:
        left = np.array(tree["left_children"], dtype=np.int64)
        condition = np.array(tree["split_conditions"], dtype=np.float32)
        below = np.nextafter(condition, np.float32(-np.inf))
        trees.append(
            Tree(
                left=left,
                right=np.array(tree["right_children"], dtype=np.int64),
                feature=np.array(tree["split_indices"], dtype=np.int64),
                threshold=below.astype(np.float64),
                value=condition.astype(np.float64),
                cover=np.array(tree["sum_hessian"], dtype=np.float64),
            )
        )
    return tuple(trees)


def _build_leaf(value: float) -> Tree:
    end = np.array([_LEAF], dtype=np.int64)
    return Tree(
        left=end,
        right=end,
        feature=np.zeros(1, np.int64),
        threshold=np.zeros(1),
        value=np.array([value]),
        cover=np.ones(1),
    )


def find_share(max_features: object, n_features: int) -> float:
    """Return the share of features that are tried per split, as a forest counts them: at least one.

    >>> find_share("sqrt", 36), find_share(0.5, 36)
    (0.16666666666666666, 0.5)
    """
    counted: dict[object, Callable[[float], float]] = {"sqrt": sqrt, "log2": log2}
    tried = counted[max_features](n_features) if max_features in counted else float(str(max_features)) * n_features
    return max(1, int(tried)) / n_features


def require_no_split_rule(family: str, params: Mapping[str, object]) -> None:
    """Raise UsageError for a `min_samples_split` that would change something: neither library has such a rule."""
    split, leaf = (int(str(params.get(name, 0))) for name in ("min_samples_split", "min_samples_leaf"))
    if split > 2 * leaf:
        raise UsageError(
            f"--param min_samples_split: the family {family} has no such rule, and {split} is more than twice "
            f"min_samples_leaf, {leaf}. Use min_samples_leaf={-(-split // 2)}, which keeps smaller nodes whole too."
        )


def require_library(name: str) -> None:
    """Raise TrainingError, with the command that installs it, where the library `name` is missing."""
    if find_spec(name) is None:
        raise TrainingError(f'The library {name} is not installed. It is an extra: pip install "hftcl[boosting]".')


def load_library(name: str) -> None:
    """Load the library `name`. Raises TrainingError where it is missing, or where something that it needs is."""
    require_library(name)
    # Threads that wait for each other in a loop take the processor from those that work: 36 s of it in place of 6
    # where other programs ran too. Read when the library is loaded: https://gcc.gnu.org/onlinedocs/libgomp/
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        import_module(name)
    except Exception as error:  # a shared library that is missing is an OSError, and xgboost has an error of its own
        first = str(error).strip().partition("\n")[0]
        raise TrainingError(
            f"The library {name} is installed and cannot be loaded: {type(error).__name__}: {first} Install what it "
            "lacks (often libgomp1), or choose another [model] family."
        ) from error


def find_version(name: str) -> str:
    """Return the version of the library `name`; XGBoost's has two packages, so that it is asked itself."""
    return str(import_module(name).__version__)


def compute_shares(gains: npt.NDArray[np.float64]) -> tuple[float, ...]:
    """Return the gains as shares of 1; equal ones where nothing was gained."""
    total = float(gains.sum())
    shares = gains / total if total > 0 else np.full(len(gains), 1 / len(gains))
    return tuple(shares.tolist())
