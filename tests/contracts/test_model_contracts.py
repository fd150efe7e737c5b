"""Each promise of a family and of a feature is looked at: one that breaks it is told which."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
import polars as pl
import pytest
from sklearn.dummy import DummyRegressor

from hftcl.contracts import check_family, check_feature
from hftcl.errors import TrainingError, UsageError
from hftcl.model.families import Fitted, find_finish, find_grower
from hftcl.model.families.forest import Forest
from hftcl.model.feature_check import find_faults
from hftcl.model.features import FEATURES, Feature
from hftcl.settings import setting


class Quick(Forest):
    """A forest of eight trees, which keeps every promise; those below break one."""

    def parameters(self) -> Mapping[str, object]:
        return {**super().parameters(), "n_estimators": 8, "min_samples_leaf": 5}

    def fit(self, X: Any, y: Any, params: Any, *, seed: int, jobs: int, on_step: Any, **others: Any) -> Fitted:
        others.pop("brief", None)  # it leaves nothing out
        return self.change(super().fit(X, y, params, seed=seed, jobs=jobs, on_step=on_step, **others))

    def change(self, fitted: Fitted) -> Fitted:
        return fitted


def test_a_family_that_keeps_its_promises_is_told_nothing() -> None:
    assert check_family(Quick()) == ()
    assert check_family(ChoosesDepth()) == ()
    assert check_family(ScalesHeldOut()) == ()
    assert check_family(WithRandomName()) == ()
    assert check_family(WithRandomNameThroughout()) == ()


def test_a_finish_or_a_tree_is_taken_for_no_fit_but_that_beside_it() -> None:
    """A class whose `fit` fits something else, or checks more, would lose that to an inherited one."""

    class WithHelper(Quick):
        def finish_brief(self, text: str) -> str:  # type: ignore[override]
            return text

    class OfNoBriefFit(WithHelper):
        tells_brief = False

    class Checked(Forest):
        """Has another `finish_brief` on top of the `fit` that it inherits."""

        def finish_brief(self, fitted: Fitted, X: Any, *, jobs: int) -> Fitted:
            return super().finish_brief(fitted, X, jobs=jobs)

    patched = Forest()
    patched.fit = Quick().fit  # type: ignore[method-assign]
    forest, checked = Forest(), Checked()
    assert find_finish(forest) == forest.finish_brief
    assert find_finish(checked) == checked.finish_brief
    assert [find_finish(family) for family in (Quick(), OfNoBriefFit(), patched)] == [None, None, None]
    assert [find_grower(family) for family in (forest, checked)] == [forest.grow_tree, checked.grow_tree]
    assert [find_grower(family) for family in (Quick(), patched)] == [None, None]


class WithoutName(Quick):
    name = ""


class WithNumberForName(Quick):
    name = 7  # type: ignore[assignment]


class WithOpenSection(Quick):
    @dataclass
    class SETTINGS:
        """Not frozen."""


class WithFailingPrepare(Quick):
    def prepare(self) -> None:
        raise ImportError("no such library")


class WithListParameter(Quick):
    def parameters(self) -> Mapping[str, object]:
        return {**super().parameters(), "layers": (8, 8)}

    def check(self, params: Mapping[str, object]) -> Mapping[str, object]:
        return {**super().check({k: v for k, v in params.items() if k != "layers"}), "layers": params["layers"]}

    def fit(self, X: Any, y: Any, params: Any, **rest: Any) -> Fitted:
        return super().fit(X, y, {k: v for k, v in params.items() if k != "layers"}, **rest)


class WithForgottenParameter(Quick):
    def check(self, params: Mapping[str, object]) -> Mapping[str, object]:
        return {name: value for name, value in super().check(params).items() if name != "max_depth"}


class WithDriftingParameter(Quick):
    def check(self, params: Mapping[str, object]) -> Mapping[str, object]:
        checked = super().check(params)
        return {**checked, "max_depth": int(str(checked["max_depth"])) + 1}


class WithoutRange(Quick):
    def check(self, params: Mapping[str, object]) -> Mapping[str, object]:
        return params


class WithWrongError(Quick):
    def check(self, params: Mapping[str, object]) -> Mapping[str, object]:
        try:
            return super().check(params)
        except UsageError as error:
            raise ValueError from error


class WithShallowTrees(Quick):
    """Has a parameter of the name of one in [model], whose default it does not take."""

    def check(self, params: Mapping[str, object]) -> Mapping[str, object]:
        if params["max_depth"] == 12:
            raise UsageError("--param max_depth: 12 is too deep.")
        return super().check(params)

    def parameters(self) -> Mapping[str, object]:
        return {**super().parameters(), "max_depth": 6}


class WithUnfitSection(Quick):
    @dataclass(frozen=True)
    class SETTINGS:
        """A section whose own default the family refuses."""

        max_depth: Annotated[int, setting("Levels.", ge=0, le=9)] = 0


class WithFailingFit(Quick):
    def fit(self, X: Any, y: Any, params: Any, **rest: Any) -> Fitted:
        raise RuntimeError("no memory on the card")


class WithWriting(Quick):
    def fit(self, X: Any, y: Any, params: Any, **rest: Any) -> Fitted:
        X -= X.mean(axis=0)
        return super().fit(X, y, params, **rest)


class WithDivisionByDeviation(Quick):
    """Refuses a feature that is the same on every row."""

    def fit(self, X: Any, y: Any, params: Any, **rest: Any) -> Fitted:
        if not (X.std(axis=0) > 0).all():
            raise ZeroDivisionError("a feature without variation")
        return super().fit(X, y, params, **rest)


class WithSmallSeed(Quick):
    def fit(self, X: Any, y: Any, params: Any, *, seed: int, **rest: Any) -> Fitted:
        if seed >= 2**31:
            raise OverflowError("seed")
        return super().fit(X, y, params, seed=seed, **rest)


class WithMemory(Quick):
    """Goes on from its last fit."""

    fits = 0

    def fit(self, X: Any, y: Any, params: Any, *, seed: int, **rest: Any) -> Fitted:
        self.fits += 1
        return super().fit(X, y, params, seed=seed + self.fits if seed < 9 else seed, **rest)


class WithFallingSteps(Quick):
    def fit(self, X: Any, y: Any, params: Any, *, on_step: Any, **rest: Any) -> Fitted:
        on_step(5, 9)
        return super().fit(X, y, params, on_step=lambda done, total: on_step(done, 9 if done < total else done), **rest)


class WithForeignSteps(Quick):
    def fit(self, X: Any, y: Any, params: Any, *, on_step: Any, **rest: Any) -> Fitted:
        return super().fit(X, y, params, on_step=lambda done, total: on_step(np.int64(done), total), **rest)


class WithOneImportance(Quick):
    def change(self, fitted: Fitted) -> Fitted:
        return replace(fitted, importances=(1.0,))


class WithForeignImportances(Quick):
    def change(self, fitted: Fitted) -> Fitted:
        return replace(fitted, importances=tuple(np.full(5, 0.2, dtype=np.float32)))


class WithLargeImportances(Quick):
    def change(self, fitted: Fitted) -> Fitted:
        return replace(fitted, importances=(1.0,) * 5)


class WithForgetfulFinish(Quick):
    def finish_brief(self, fitted: Fitted, X: Any, *, jobs: int) -> Fitted:
        return replace(super().finish_brief(fitted, X, jobs=jobs), importances=None)


class WithCarelessFinish(Quick):
    """Compares nothing."""

    def finish_brief(self, fitted: Fitted, X: Any, *, jobs: int) -> Fitted:
        return fitted


class WithForeignFinish(Quick):
    """Gives another estimator than that which was fitted, and compared."""

    def finish_brief(self, fitted: Fitted, X: Any, *, jobs: int) -> Fitted:
        done = super().finish_brief(fitted, X, jobs=jobs)
        return replace(done, estimator=DummyRegressor().fit(X, np.zeros(len(X))))


class WithoutGrown(Quick):
    grow_tree = Forest.grow_tree

    def fit(self, X: Any, y: Any, params: Any, *, sampler: Any = None, brief: bool = False, **others: Any) -> Fitted:
        if "grown" in others:
            raise TypeError("fit() got an unexpected keyword argument 'grown'")
        return super().fit(X, y, params, sampler=sampler, **others)


class WithTreesGrownTwice(Quick):
    grow_tree = Forest.grow_tree

    def fit(self, X: Any, y: Any, params: Any, **others: Any) -> Fitted:
        return super().fit(X, y, params, **{name: given for name, given in others.items() if name != "grown"})


class WithOtherTrees(Quick):
    grow_tree = Forest.grow_tree

    def fit(self, X: Any, y: Any, params: Any, *, grown: Any = None, **others: Any) -> Fitted:
        return super().fit(X, y, params, grown=None if grown is None else grown[::-1], **others)


class WithoutSamples(Quick):
    grow_tree = Forest.grow_tree
    takes_samples = False


class ChoosesDepth(Quick):
    """Settles on what it held already, and says how many nodes it has: keeps every promise."""

    def settle(self, fitted: Fitted, X: Any, y: Any, params: Any) -> Any:
        return fitted, {**params, "max_depth": 9}

    def require_installed(self) -> None:
        """All is installed."""


class ScalesHeldOut(ChoosesDepth):
    """Writes to the rows that it settles on: in a training they are copies."""

    def settle(self, fitted: Fitted, X: Any, y: Any, params: Any) -> Any:
        X /= 2
        y -= 1
        return super().settle(fitted, X, y, params)


class ByImportance(Forest):
    """Settles by what a brief fit does not tell."""

    def parameters(self) -> Mapping[str, object]:
        return {**super().parameters(), "n_estimators": 8, "min_samples_leaf": 5}

    def settle(self, fitted: Fitted, X: Any, y: Any, params: Any) -> Any:
        assert fitted.importances is not None
        return fitted, {**params, "max_depth": 9 if max(fitted.importances) > 0.5 else 5}


class Named(Forest):
    """Names each graph otherwise, as exporters do; predicts the same."""

    tells_brief = False

    def parameters(self) -> Mapping[str, object]:
        return {**super().parameters(), "n_estimators": 8, "min_samples_leaf": 5}

    def fit(self, X: Any, y: Any, params: Any, **others: Any) -> Fitted:
        return self.rename(super().fit(X, y, params, **others))

    def rename(self, fitted: Fitted) -> Fitted:
        import onnx

        model = onnx.ModelProto.FromString(fitted.onnx)
        model.graph.name = uuid.uuid4().hex
        return replace(fitted, onnx=model.SerializeToString())


class WithRandomName(Named):
    """Keeps every promise."""


class WithRandomNameThroughout(Named):
    """Names each graph otherwise, tells brief fits, finishes them and joins trees: keeps every promise."""

    tells_brief = True
    grow_tree = Forest.grow_tree

    def fit(self, X: Any, y: Any, params: Any, **others: Any) -> Fitted:
        return super().fit(X, y, params, **others)

    def finish_brief(self, fitted: Fitted, X: Any, *, jobs: int) -> Fitted:
        return self.rename(super().finish_brief(fitted, X, jobs=jobs))


class WithRandomNameAndTreesGrownTwice(Named):
    """Takes no notice of what has grown, which the bytes of a graph with a random name do not show."""

    grow_tree = Forest.grow_tree

    def fit(self, X: Any, y: Any, params: Any, **others: Any) -> Fitted:
        return super().fit(X, y, params, **{name: given for name, given in others.items() if name != "grown"})


class WithOtherBrief(Quick):
    def fit(self, X: Any, y: Any, params: Any, *, seed: int, brief: bool = False, **others: Any) -> Fitted:
        return super().fit(X, y, params, seed=seed - 1 if brief else seed, **others)


class WithUnfinished(Quick):
    def fit(self, X: Any, y: Any, params: Any, **others: Any) -> Fitted:
        return super().fit(X, y, params, **others)

    def finish_brief(self, fitted: Fitted) -> Fitted:  # type: ignore[override]
        return fitted


class WithoutCheck:
    name = "acme"
    parameters, fit = Quick.parameters, Quick.fit


class WithOtherSettle(Quick):
    def settle(self, fitted: Fitted, X: Any, y: Any, params: Any, more: Any) -> Any:
        return fitted, params


class WithEagerPrepare(Quick):
    def prepare(self, jobs: int) -> None:  # type: ignore[override]
        """Load for so many cores."""


class WithFailingParameters(Quick):
    def parameters(self) -> Mapping[str, object]:
        raise ValueError("not today")


class Refusing:
    def predict(self, X: Any) -> Any:
        raise RuntimeError("no such rows")


class WithFailingEstimator(Quick):
    tells_brief = False

    def change(self, fitted: Fitted) -> Fitted:
        return replace(fitted, estimator=Refusing())


class WithRandomNameAndIdleWeights(Named):
    def fit(self, X: Any, y: Any, params: Any, *, weights: Any = None, **others: Any) -> Fitted:
        return super().fit(X, y, params, **others)


class WithRandomNameAndUnweightedSamples(Named):
    def fit(self, X: Any, y: Any, params: Any, *, weights: Any = None, sampler: Any = None, **others: Any) -> Fitted:
        given = {"weights": weights} if sampler is None else {"sampler": sampler}
        return super().fit(X, y, params, **given, **others)


class WithoutWeights(Quick):
    """Says that it takes weights, as `Forest` does, and does not."""

    def fit(self, X: Any, y: Any, params: Any, *, seed: int, jobs: int, on_step: Any, sampler: Any = None) -> Fitted:  # type: ignore[override]
        return super().fit(X, y, params, seed=seed, jobs=jobs, on_step=on_step, sampler=sampler)

    tells_brief = False


class WithIdleWeights(Quick):
    def fit(self, X: Any, y: Any, params: Any, *, weights: Any = None, **others: Any) -> Fitted:
        return super().fit(X, y, params, **others)


class WithoutSampler(Quick):
    def fit(self, X: Any, y: Any, params: Any, *, seed: int, jobs: int, on_step: Any, weights: Any = None) -> Fitted:  # type: ignore[override]
        return super().fit(X, y, params, seed=seed, jobs=jobs, on_step=on_step, weights=weights)

    tells_brief = False


class WithIdleSampler(Quick):
    def fit(self, X: Any, y: Any, params: Any, *, sampler: Any = None, **others: Any) -> Fitted:
        return super().fit(X, y, params, **others)


class WithOneKeyword(Quick):
    def fit(self, X: Any, y: Any, params: Any, *, weights: Any = None, sampler: Any = None, **others: Any) -> Fitted:
        if weights is not None and sampler is not None:
            raise ValueError("weights of a sample")
        given = {"weights": weights} if sampler is None else {"sampler": sampler}
        return super().fit(X, y, params, **given, **others)


class WithUnweightedSamples(Quick):
    def fit(self, X: Any, y: Any, params: Any, *, weights: Any = None, sampler: Any = None, **others: Any) -> Fitted:
        given = {"weights": weights} if sampler is None else {"sampler": sampler}
        return super().fit(X, y, params, **given, **others)


class WithUnweightedTrees(Quick):
    def fit(self, X: Any, y: Any, params: Any, **others: Any) -> Fitted:
        return Quick().fit(X, y, params, **others)

    def grow_tree(self, X: Any, y: Any, params: Any, **options: Any) -> Any:
        return super().grow_tree(X, y, params, **{**options, "weights": None})


class WithOneAnswer(ChoosesDepth):
    def settle(self, fitted: Fitted, X: Any, y: Any, params: Any) -> Any:
        return fitted


class WithForgottenChoice(ChoosesDepth):
    def settle(self, fitted: Fitted, X: Any, y: Any, params: Any) -> Any:
        return fitted, {"max_depth": 9}


class WithForeignChoice(ChoosesDepth):
    def settle(self, fitted: Fitted, X: Any, y: Any, params: Any) -> Any:
        return fitted, {**params, "max_depth": np.int64(9)}


class WithImpossibleChoice(ChoosesDepth):
    def settle(self, fitted: Fitted, X: Any, y: Any, params: Any) -> Any:
        return fitted, {**params, "max_depth": 10_000}


class WithFewNodes(Quick):
    def count_nodes(self, params: Any, rows: int) -> int:
        return 7


class WithUncountedNodes(Quick):
    def count_nodes(self, params: Any) -> int:  # type: ignore[override]
        return 7


class WithoutLibrary(Quick):
    def require_installed(self) -> None:
        raise TrainingError("pip install acme")


class WithNeedOfRows(Quick):
    """Has a graph that answers for no fewer than a row."""

    def change(self, fitted: Fitted) -> Fitted:
        import onnx

        model = onnx.ModelProto.FromString(end_with(fitted, "Reshape", factor=0.0).onnx)
        shape = onnx.helper.make_tensor("factor", onnx.TensorProto.INT64, [2], [0, -1])  # -1 of no rows can be anything
        model.graph.node[-2].attribute[0].t.CopyFrom(shape)
        return replace(fitted, onnx=model.SerializeToString(), estimator=None)


class WithoutEngine(Quick):
    def change(self, fitted: Fitted) -> Fitted:
        return replace(fitted, engine="")


class WithLock(Quick):
    def change(self, fitted: Fitted) -> Fitted:
        return replace(fitted, estimator=lambda rows: rows)


class WithNoGraph(Quick):
    def change(self, fitted: Fitted) -> Fitted:
        return replace(fitted, onnx=b"no graph")


def end_with(fitted: Fitted, operator: str, **attributes: Any) -> Fitted:
    """Return the model whose graph ends in one more operator."""
    import onnx

    model = onnx.ModelProto.FromString(fitted.onnx)
    last = model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = ["before" if name == last else name for name in node.output]
    constant = onnx.helper.make_tensor("factor", onnx.TensorProto.FLOAT, [], [attributes["factor"]])
    model.graph.node.append(onnx.helper.make_node("Constant", [], ["factor"], value=constant))
    model.graph.node.append(onnx.helper.make_node(operator, ["before", "factor"], [last]))
    return replace(fitted, onnx=model.SerializeToString(), estimator=None)


class WithZeroDivision(Quick):
    def change(self, fitted: Fitted) -> Fitted:
        return end_with(fitted, "Div", factor=0.0)


class WithNothingLearnt(Quick):
    def change(self, fitted: Fitted) -> Fitted:
        return end_with(fitted, "Mul", factor=0.0)


class WithOverflow(Quick):
    """Adds a tree of one split, far from every row that it was fitted to, behind which float32 ends."""

    def change(self, fitted: Fitted) -> Fitted:
        import onnx

        tree: dict[str, Any] = {
            "nodes_treeids": [0, 0, 0],
            "nodes_nodeids": [0, 1, 2],
            "nodes_featureids": [0, 0, 0],
            "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
            "nodes_values": [1e20, 0.0, 0.0],
            "nodes_truenodeids": [1, 0, 0],
            "nodes_falsenodeids": [2, 0, 0],
            "target_treeids": [0, 0],
            "target_nodeids": [1, 2],
            "target_ids": [0, 0],
            "target_weights": [0.0, float("inf")],
            "n_targets": 1,
        }
        model = onnx.ModelProto.FromString(end_with(fitted, "Mul", factor=1.0).onnx)
        model.graph.node[-1].input[1] = "far"
        model.graph.node[-1].op_type = "Add"
        far = onnx.helper.make_node("TreeEnsembleRegressor", ["X"], ["far"], domain="ai.onnx.ml", **tree)
        model.graph.node.insert(0, far)
        return replace(fitted, onnx=model.SerializeToString(), estimator=None)


GRAPH = "the graph may go into a model file: "
SETTLES = "settle() returns a fitted model, and all parameters as check() leaves and fit() takes: "
GROWS = "with grow_tree() it has count_trees() and takes_samples, and fit() takes sampler and grown"


@pytest.mark.parametrize(
    ("family", "promise"),
    [
        (WithoutName, "it has a name"),
        (WithNumberForName, "a model file can be built and loaded: The new model has incomplete metadata: "),
        (WithOpenSection, "its SETTINGS are a section: SETTINGS must be a frozen dataclass"),
        (WithFailingPrepare, "prepare() takes nothing and raises nothing: it raised ImportError"),
        (WithListParameter, "parameters are finite numbers, texts, true, false or None, as JSON has them"),
        (WithForgottenParameter, "check() keeps the parameters that it is given"),
        (WithDriftingParameter, "check() leaves what it has checked as it is"),
        (WithoutRange, "check() refuses nan for the number n_estimators"),
        (WithWrongError, "check() refuses 'no such value' for the number n_estimators: it raised ValueError instead"),
        (WithShallowTrees, "check() takes the defaults of [model], which go before its own: --param max_depth: 12 is"),
        (WithUnfitSection, "check() takes the defaults of SETTINGS, which go before its own: --param max_depth: "),
        (WithFailingFit, "fit() fits: it raised RuntimeError: no memory on the card"),
        (WithWriting, "fit() fits: it raised ValueError: output array is read-only"),
        (WithDivisionByDeviation, "fit() fits: it raised ZeroDivisionError: a feature without variation"),
        (WithSmallSeed, "fit() fits: it raised OverflowError: seed"),
        (WithMemory, "the same rows and seed give the same model, whatever the cores"),
        (WithFallingSteps, "on_step() is told what is done, and that never falls"),
        (WithForeignSteps, "on_step() is told whole numbers, from 0 to the total"),
        (WithOneImportance, "importances are one for each feature, or None"),
        (WithForeignImportances, "importances are finite floats, none below 0"),
        (WithLargeImportances, "importances add up to 1"),
        (WithForgetfulFinish, "finish_brief() makes of a brief fit() what fit() gives otherwise"),
        (WithCarelessFinish, "finish_brief() refuses a graph that does not predict what was fitted"),
        (WithForeignFinish, "the graph predicts what the estimator does"),
        (WithoutGrown, GROWS + ": it raised TypeError: fit() got an unexpected keyword argument 'grown'"),
        (WithoutSamples, GROWS),
        (WithTreesGrownTwice, "fit() makes its graph of the trees that it is given as grown"),
        (WithOtherTrees, "trees that grow_tree() grew make a graph that predicts as that of fit(), to the bit"),
        (WithRandomNameAndTreesGrownTwice, "fit() makes its graph of the trees that it is given as grown"),
        (WithOtherBrief, "a brief fit() gives a graph that predicts the same, to the bit"),
        (WithUnfinished, "finish_brief() finishes a brief fit(): it raised TypeError: "),
        (WithoutCheck, "there is no check()"),
        (WithOtherSettle, "settle(fitted, X, y, params) cannot be called so: missing a required argument: 'more'"),
        (WithEagerPrepare, "prepare() cannot be called so: missing a required argument: 'jobs'"),
        (WithFailingParameters, "parameters() answers: it raised ValueError: not today"),
        (WithFailingEstimator, "predict() answers: it raised RuntimeError: no such rows"),
        (WithoutWeights, "with takes_weights fit() takes weights: it raised TypeError"),
        (WithIdleWeights, "fit() makes another model of rows that count otherwise"),
        (WithRandomNameAndIdleWeights, "fit() makes another model of rows that count otherwise"),
        (WithRandomNameAndUnweightedSamples, "fit() makes another model of samples whose rows count otherwise"),
        (ByImportance, SETTLES + "it raised AssertionError"),
        (WithoutSampler, "with takes_samples fit() takes a sampler: it raised TypeError"),
        (WithIdleSampler, "fit() with a sampler learns from no row but those that it draws"),
        (WithOneKeyword, "fit() takes weights, sampler, brief together: it raised ValueError: weights of a sample"),
        (WithUnweightedSamples, "fit() makes another model of samples whose rows count otherwise"),
        (WithUnweightedTrees, "grow_tree() takes the weights of its rows, and grows the tree of fit() with them"),
        (WithOneAnswer, SETTLES + "it raised TypeError"),
        (WithForgottenChoice, SETTLES + "it raised ValueError: check() changes what settle() chose, or misses"),
        (WithForeignChoice, SETTLES + "it raised TypeError: Object of type int64 is not JSON serializable"),
        (WithImpossibleChoice, SETTLES + "it raised UsageError: "),
        (WithFewNodes, "count_nodes() tells the most nodes that the trees can have"),
        (WithUncountedNodes, "count_nodes(params, rows) cannot be called so: too many positional arguments"),
        (WithoutLibrary, "require_installed() takes nothing and raises nothing: it raised TrainingError: pip"),
        (
            WithNeedOfRows,
            'with [model] per = "ticker" its graph predicts as alone beside that of another, where it has no row too',
        ),
        (WithoutEngine, "engine is a text that names what fitted it"),
        (WithLock, "joblib can store the estimator and read it back: "),
        (WithNoGraph, GRAPH + "The graph is not an ONNX model."),
        (WithZeroDivision, "the graph gives finite numbers"),
        (WithOverflow, "the graph gives finite numbers far from what it was fitted to, too"),
        (WithNothingLearnt, "what the first feature tells is learnt"),
    ],
)
def test_a_family_that_breaks_one_promise_is_told_which(family: type[Forest], promise: str) -> None:
    assert any(line.startswith(promise) for line in check_family(family())), check_family(family())


# ---- features --------------------------------------------------------------------------------------------------------


def a_feature(expr: pl.Expr, **changes: Any) -> Feature:
    given = {"name": "mine", "group": "momentum", "lookback": 30, "formula": "f", "reason": "r", **changes}
    return Feature(expr=expr, **given)


close, volume, log_return = pl.col("close"), pl.col("v"), pl.col("r")


def test_our_features_keep_their_promises() -> None:
    """One by one `check_feature` asks the same: its example is one of ours."""
    names = {"ret_1", "volume_vs_earlier_sessions", "watchlist_ret_15", "gap_overnight"}
    features = [feature for feature in FEATURES if feature.name in names]
    others = [feature.name for feature in FEATURES if feature.name not in names]
    assert (len(features), find_faults(features, taken=others)) == (4, ())


@pytest.mark.parametrize(
    ("expr", "changes", "promise"),
    [
        # by a look-back of more than a day, which it is told too, nothing is computed of it
        (log_return, {"name": "rsi_14", "lookback": 901}, "its name is its own, in small letters, digits and _"),
        (
            log_return,
            {"formula": " ", "lookback": 901},
            "it has a group, a formula, which a model's hash covers, and a reason",
        ),
        (close / close.shift(45), {}, "the bot, which sees the last 30 minutes named in `lookback`, finds the same"),
        (pl.col("no_such_column"), {}, "its expression can be computed: ColumnNotFoundError"),
    ],
)
def test_a_feature_that_breaks_one_promise_is_told_which(expr: pl.Expr, changes: Any, promise: str) -> None:
    broken = check_feature(a_feature(expr, **changes))
    assert any(line.startswith(promise) for line in broken), broken


def test_of_features_that_break_different_promises_each_is_told_its_own() -> None:
    """All at once: the made-up markets are built for all of them."""
    breaking: list[tuple[pl.Expr, int, str]] = [
        (log_return, 6, "it reads 0 to 900 minutes, and 0 to 5 earlier sessions"),
        (pl.lit(1.0), 0, "it has values, and not one and the same everywhere"),
        (close.log() / volume, 0, "it is null where it has no value, and never NaN or infinite"),
        (close.shift(-1) / close, 0, "a value never changes when later bars arrive"),
        (close / close.max(), 0, "a value never changes when later bars arrive"),
        (close / pl.col("previous_close"), 0, "it reads no more than the 0 earlier sessions that it names"),
        (close, 0, "the unit of prices and volumes is no matter"),
    ]
    features = [
        a_feature(expr, name=f"mine_{at}", sessions=sessions) for at, (expr, sessions, _) in enumerate(breaking)
    ]
    faults = find_faults(features)
    for feature, (_, _, promise) in zip(features, breaking, strict=True):
        broken = [str(fault) for fault in faults if fault.feature == feature.name]
        assert any(line.startswith(promise) for line in broken), broken


def test_a_feature_that_says_how_far_it_reads_may_read_that_far() -> None:
    far = a_feature(close / close.shift(45), lookback=45)
    over_night = a_feature(close / pl.col("previous_close"), name="over_night", sessions=1)
    assert find_faults([far, over_night]) == ()
