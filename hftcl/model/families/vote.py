"""The family `vote`: a random forest, LightGBM and XGBoost, whose predictions are averaged; one graph of all trees.

The weights are given, or fitted on the rows that the inner split holds out.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hftcl.errors import UsageError
from hftcl.model.families import Fitted, OnStep
from hftcl.model.families.boosting import LightGBM, Rows, XGBoost, compute_shares, find_version, require_no_split_rule
from hftcl.model.families.forest import Forest, clear_padding, list_trees
from hftcl.model.families.graph import pick_rows, require_same
from hftcl.model.families.ranges import require_in_range
from hftcl.model.families.tree_graph import Tree, build_tree_graph, place_on_thresholds
from hftcl.model.file_size import count_tree_nodes
from hftcl.settings import Model as ModelSettings
from hftcl.settings import Vote as VoteSettings

_MEMBERS: Final = ("forest", "lightgbm", "xgboost")
_BOOSTING: Final = "boosting_"  # what the names of both boosted members begin with, in [vote]


@dataclass(frozen=True, slots=True)
class VoteModel:
    """The members and their weights, which add up to 1; `predict` gives the weighted mean."""

    members: tuple[Any, ...]
    trees: tuple[tuple[Tree, ...], ...]
    shares: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]

    def predict(self, X: Rows) -> npt.NDArray[np.float64]:
        """Return one float64 prediction per row of X, shape (n, k), in units of the target."""
        return np.asarray(self.predict_each(X) @ np.array(self.weights))

    def predict_each(self, X: Rows) -> npt.NDArray[np.float64]:
        """Return the members' predictions, shape (n, 3)."""
        return np.column_stack([np.asarray(member.predict(X), dtype=np.float64) for member in self.members])


class Vote:
    """Three kinds of trees, which err at different places."""

    name = "vote"
    takes_weights = True
    tells_brief = True
    SETTINGS = VoteSettings

    def parameters(self) -> Mapping[str, object]:
        """Return the names that `--param` may set, each with its default from the settings."""
        return {**Forest().parameters(), **asdict(VoteSettings())}

    def check(self, params: Mapping[str, object]) -> Mapping[str, object]:
        """Return `params` in their types; raises UsageError for a value out of range, or weights that are all 0."""
        own = asdict(VoteSettings())
        checked = {
            name: require_in_range(
                VoteSettings if name in own else ModelSettings, self.name if name in own else "model", name, value
            )
            for name, value in params.items()
        }
        require_no_split_rule(self.name, checked)
        if not any(float(str(checked.get(f"weight_{name}", 1.0))) for name in _MEMBERS):
            raise UsageError("--param weight_...: the weights of vote are all 0. Give one member a weight.")
        return checked

    def count_nodes(self, params: Mapping[str, object], rows: int) -> int:
        """Return the most nodes that the trees of the three have after a fit on so many rows."""
        boosted = {**params, **_pick_boosting(params)}
        return count_tree_nodes(params, rows) + sum(each.count_nodes(boosted, rows) for each in (LightGBM(), XGBoost()))

    def require_installed(self) -> None:
        """Raise TrainingError where the extra is not installed; loads nothing."""
        for family in (LightGBM(), XGBoost()):
            family.require_installed()

    def prepare(self) -> None:
        """Load the libraries of `fit`. Raises TrainingError where the extra is not installed."""
        for family in (LightGBM(), XGBoost(), Forest()):
            family.prepare()

    def prepare_child(self) -> None:
        """As `prepare`, in the process that does nothing else: LightGBM first, without scikit-learn."""
        LightGBM().prepare_child()
        Forest().prepare_child()
        XGBoost().prepare()

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
        """Fit the three one after the other.

        X: float32 (n, k); y: float32 (n,); finite, n at least 1. Reports (trees done, trees). brief: see `Family`.
        Raises TrainingError where a library is missing, or a graph does not predict what its members do.
        """
        for family in (LightGBM(), XGBoost()):
            family.prepare()
        boosted = _pick_boosting(params)
        shared = {name: params[name] for name in Forest().parameters()}
        trees_of = [int(str(part["n_estimators"])) for part in (shared, boosted, boosted)]
        total, before = sum(trees_of), np.cumsum([0, *trees_of])

        def count_from(member: int) -> OnStep:
            return lambda done, _: on_step(int(before[member]) + done, total)

        forest, engine = Forest().grow(X, y, shared, seed=seed, jobs=jobs, on_step=count_from(0), weights=weights)
        clear_padding(forest)
        others = [
            family.boost(X, y, {**shared, **boosted}, seed=seed, jobs=jobs, on_step=count_from(number), weights=weights)
            for number, family in ((1, LightGBM()), (2, XGBoost()))
        ]
        model = VoteModel(
            members=(forest, *(other.model for other in others)),
            trees=(tuple(list_trees(forest)), *(other.trees for other in others)),
            shares=(
                tuple(float(share) for share in forest.feature_importances_),
                *(compute_shares(other.gains) for other in others),
            ),
            weights=_normalise([float(str(params[f"weight_{name}"])) for name in _MEMBERS]),
        )
        return _finish(model, X, engine, brief=brief)

    def settle(
        self, fitted: Fitted, X: Rows, y: Rows, params: Mapping[str, object]
    ) -> tuple[Fitted, Mapping[str, object]]:
        """Return the model with the weights that predict the held-out rows best, and the parameters that say so.

        X, y: rows that `fitted` has not seen. Least squares, no weight below 0, then made to add up to 1. As they are
        where `fit_weights` is false.
        """
        if not params["fit_weights"]:
            return fitted, params
        from scipy.optimize import nnls

        model: VoteModel = fitted.estimator
        found, _ = nnls(model.predict_each(X), y.astype(np.float64))
        if not found.any():  # none foretells anything: as given
            return fitted, params
        weights = _normalise(found.tolist())
        chosen = {f"weight_{name}": weight for name, weight in zip(_MEMBERS, weights, strict=True)}
        return _finish(replace(model, weights=weights), X, fitted.engine), {**params, **chosen}


def _normalise(weights: list[float]) -> tuple[float, ...]:
    total = sum(weights)
    return tuple(weight / total for weight in weights)


def _finish(model: VoteModel, X: Rows, forest_engine: str, *, brief: bool = False) -> Fitted:
    """Write all trees as one graph, each leaf times its member's weight."""
    trees = [
        replace(tree, value=tree.value * weight)
        for trees, weight in zip(model.trees, model.weights, strict=True)
        for tree in trees
    ]
    onnx = build_tree_graph(trees, X.shape[1])
    if not brief:
        rows = pick_rows(X)
        require_same(onnx, model.predict, np.vstack([rows, place_on_thresholds(trees, rows)]))
    engine = f"{forest_engine}, lightgbm {find_version('lightgbm')}, xgboost {find_version('xgboost')}"
    shares = np.array(model.weights) @ np.array(model.shares)
    return Fitted(model, onnx, engine, tuple(shares.tolist()))


def _pick_boosting(params: Mapping[str, object]) -> dict[str, object]:
    """Return the parameters of both boosted members, by the names that a forest has."""
    return {name.removeprefix(_BOOSTING): value for name, value in params.items() if name.startswith(_BOOSTING)}
