"""The family `forest`: a random forest of regression trees.

scikit-learn-intelex fits it where installed (450 s become 20 s), scikit-learn elsewhere. A regressor on purpose: the
intelex classifier exports trees whose leaves are 0 or 1, the regressor exports exactly.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from hftcl.errors import TrainingError
from hftcl.formats import count
from hftcl.free_memory import count_fitting, read_free_bytes
from hftcl.model.families import Fitted, OnStep
from hftcl.model.families.graph import pick_rows, require_same
from hftcl.model.families.hidden import hide
from hftcl.model.families.ranges import require_in_range
from hftcl.model.families.tree_graph import Tree, build_tree_graph, place_on_thresholds
from hftcl.model.file_size import count_tree_nodes
from hftcl.model.sampling import Sampler
from hftcl.settings import Model as ModelSettings
from hftcl.waiting import map_in_threads

# What a person may set of scikit-learn's forest; all else of it stays at its defaults.
_NAMES: Final = ("n_estimators", "max_depth", "min_samples_leaf", "min_samples_split", "max_features")
_PLAIN: Final = "scikit-learn"
Grown = tuple[Any, str]
"""A fitted forest of scikit-learn, and the package with its version that fitted it."""
_CHUNK_TREES: Final = 10  # trees between two reports of progress
# How many times the bytes of a sample are counted for a tree that grows beside others: what scikit-learn lays beside
# the rows is less than as much again, and the folds of a record, up to three, may begin while each sees the same as
# free. Chosen, not measured.
_TIMES_SAMPLE: Final = 6
# scikit-learn and its extension load it where it is installed, for tables that are no arrays: a quarter of the time.
_WRAPPED: Final = ("pandas",)


class Forest:
    """Random forest regression, bootstrap, squared error."""

    name = "forest"
    takes_weights = True
    tells_brief = True
    takes_samples = True

    def __init__(self, read_free: Callable[[], int | None] = read_free_bytes) -> None:
        """Take what tells how much memory is free."""
        self._read_free = read_free

    def parameters(self) -> Mapping[str, object]:
        """Return the names that `--param` may set, each with its default from the settings."""
        defaults = asdict(ModelSettings())
        return {name: defaults[name] for name in _NAMES}

    def check(self, params: Mapping[str, object]) -> Mapping[str, object]:
        """Return `params` as int, float and str; raises UsageError for a value outside its range in the settings."""
        return {name: require_in_range(ModelSettings, "model", name, value) for name, value in params.items()}

    def count_trees(self, params: Mapping[str, object]) -> int:
        """Return how many trees a fit grows."""
        return int(str(params["n_estimators"]))

    def count_nodes(self, params: Mapping[str, object], rows: int) -> int:
        """Return the most nodes that its trees have after a fit on so many rows."""
        return count_tree_nodes(params, rows)

    def prepare(self) -> None:
        """Load the libraries of `fit`, which takes seconds."""
        if find_spec("sklearnex"):
            import sklearnex.ensemble  # noqa: F401

    def prepare_child(self) -> None:
        """As `prepare`, in the process that does nothing else."""
        with hide(_WRAPPED):
            self.prepare()

    def fit(
        self,
        X: npt.NDArray[np.float32],
        y: npt.NDArray[np.float32],
        params: Mapping[str, object],
        *,
        seed: int,
        jobs: int,
        on_step: OnStep,
        weights: npt.NDArray[np.float32] | None = None,
        brief: bool = False,
        sampler: Sampler | None = None,
        grown: Sequence[Grown] | None = None,
    ) -> Fitted:
        """Fit a forest; the estimator of the result is plain scikit-learn whatever the engine.

        weights: float32 (n,), how much each row counts; with them scikit-learn's own engine fits, which is slower.

        X: float32 (n, k); y: float32 (n,); finite, n at least 1. Reports (trees done, trees). brief: see `Family`.
        sampler: each tree learns from a sample of its own. grown: what `grow_tree` made of these samples elsewhere.
        Raises TrainingError where the exported graph does not predict what the forest does, and where as many trees as
        the parameters want have not grown.
        """
        if grown is not None:
            total = self.count_trees(params)
            if len(grown) != total:
                raise TrainingError(f"{count(len(grown), 'tree')} came grown where the forest has {total}.")
            forest, engine = _join(grown, seed)
            on_step(total, total)  # so that the export and what follows are known to be at work
        elif sampler is None:
            forest, engine = self.grow(X, y, params, seed=seed, jobs=jobs, on_step=on_step, weights=weights)
        else:
            forest, engine = self._grow_each(X, y, params, sampler, jobs=jobs, on_step=on_step, weights=weights)
        fitted = Fitted(forest, to_onnx(forest, X.shape[1]), engine, None)
        return fitted if brief else _finish(fitted, X, jobs)

    def finish_brief(self, fitted: Fitted, X: npt.NDArray[np.float32], *, jobs: int) -> Fitted:
        """Return what a fit that was not brief returns. Raises TrainingError as `fit` does."""
        return _finish(fitted, X, jobs)

    def grow(
        self,
        X: npt.NDArray[np.float32],
        y: npt.NDArray[np.float32],
        params: Mapping[str, object],
        *,
        seed: int,
        jobs: int,
        on_step: OnStep,
        weights: npt.NDArray[np.float32] | None = None,
    ) -> Grown:
        """Return the fitted forest of scikit-learn, and what fitted it. See `fit`."""
        engine = _find_engine(weights)
        if engine == _PLAIN:
            forest = _fit_plain(X, y, dict(params), seed=seed, jobs=jobs, on_step=on_step, weights=weights)
        else:
            forest = _fit_intelex(X, y, dict(params), seed=seed, jobs=jobs, on_step=on_step)
        return forest, f"{engine} {version(engine)}"

    def grow_tree(
        self,
        X: npt.NDArray[np.float32],
        y: npt.NDArray[np.float32],
        params: Mapping[str, object],
        *,
        seed: int,
        jobs: int,
        on_step: OnStep,
        weights: npt.NDArray[np.float32] | None = None,
    ) -> Grown:
        """Return a forest of one tree, which learns from one sample, and what fitted it. See `grow`."""
        params = {**params, "n_estimators": 1}
        return self.grow(X, y, params, seed=seed, jobs=jobs, on_step=on_step, weights=weights)

    def _grow_each(
        self,
        X: npt.NDArray[np.float32],
        y: npt.NDArray[np.float32],
        params: Mapping[str, object],
        sampler: Sampler,
        *,
        jobs: int,
        on_step: OnStep,
        weights: npt.NDArray[np.float32] | None,
    ) -> Grown:
        """Return a forest each of whose trees comes from its own sample, with its own seed, and what fitted it.

        Where scikit-learn itself fits, a tree takes one core, and as many are grown at the same time as there are
        cores and as have room for their samples in the memory that is free. A tree of its extension takes all cores.
        """
        total = self.count_trees(params)
        sample_bytes = sampler.most * (X[:1].nbytes + 3 * y.itemsize)  # with y, the weights, and the number of each row
        room = count_fitting(jobs, _TIMES_SAMPLE * sample_bytes, self._read_free())
        at_once = room if _find_engine(weights) == _PLAIN else 1

        def grow(number: int) -> Grown:
            rows = sampler.draw(number)
            return self.grow_tree(
                X[rows],
                y[rows],
                params,
                seed=sampler.derive_seed(number),
                jobs=jobs if at_once == 1 else 1,
                on_step=lambda _done, _total: None,
                weights=None if weights is None else weights[rows],
            )

        grown: list[Grown] = []
        on_step(0, total)
        with ThreadPoolExecutor(at_once, "trees") as threads:
            for one in map(grow, range(total)) if at_once == 1 else map_in_threads(threads, grow, range(total)):
                grown.append(one)
                if len(grown) % _CHUNK_TREES == 0 or len(grown) == total:
                    on_step(len(grown), total)
        return _join(grown, sampler.seed)


def _join(grown: Sequence[Grown], seed: int) -> Grown:
    """Return the forest of all these trees, and what fitted the last one."""
    for one, _ in grown:
        _share_words(one)
    forest, fitted_by = grown[-1]
    forest.set_params(n_estimators=len(grown), random_state=seed)
    forest.estimators_ = [tree for one, _ in grown for tree in one.estimators_]
    return forest, fitted_by


def _share_words(value: Any) -> Any:
    """Return `value` with one object for each word, in a tuple, a list and an estimator too.

    A tree that came from another process brings its own, and the joblib file, which tells which are one, would differ.
    """
    if isinstance(value, str):
        return sys.intern(value)
    if isinstance(value, tuple | list):
        return type(value)(map(_share_words, value))
    if hasattr(value, "get_params") and not isinstance(value, type):
        # a new dictionary: Python keeps the names in the old one, which those of the class's other objects share
        value.__dict__ = {sys.intern(name): _share_words(part) for name, part in vars(value).items()}
    return value


def _finish(fitted: Fitted, X: npt.NDArray[np.float32], jobs: int) -> Fitted:
    forest = fitted.estimator
    clear_padding(forest)
    rows = pick_rows(X)  # and rows that sit on thresholds, where a rounding would show
    rows = np.vstack([rows, place_on_thresholds(list_trees(forest), rows)])
    require_same(fitted.onnx, forest.predict, rows, jobs=jobs)
    return replace(fitted, importances=tuple(float(share) for share in forest.feature_importances_))


def _find_engine(weights: npt.NDArray[np.float32] | None) -> str:
    """Return the package that fits: the fast one takes no weights, it would hand them on, and tell no progress."""
    return "scikit-learn-intelex" if find_spec("sklearnex") and weights is None else _PLAIN


def to_onnx(forest: Any, n_features: int) -> bytes:
    """Return a fitted forest of scikit-learn's regression trees as ONNX: see `build_tree_graph`.

    forest: RandomForestRegressor or ExtraTreesRegressor with one target, whose prediction is the trees' mean.
    """
    return build_tree_graph(list_trees(forest), n_features)


def list_trees(forest: Any) -> list[Tree]:
    """Return the trees of such a forest, whose leaves' sum is its prediction."""
    share = 1 / len(forest.estimators_)
    return [
        Tree(
            left=tree.children_left,
            right=tree.children_right,
            feature=tree.feature,
            threshold=tree.threshold,
            value=tree.value[:, 0, 0] * share,
            cover=tree.weighted_n_node_samples,  # as often as the bootstrap drew each row
        )
        for tree in (estimator.tree_ for estimator in forest.estimators_)
    ]


def clear_padding(forest: Any) -> None:
    """Put zeros between the fields of the trees' nodes, where scikit-learn leaves what the memory held before.

    With it no two pickles of one forest had the same bytes.
    """
    for estimator in forest.estimators_:
        state = estimator.tree_.__getstate__()
        clean = np.zeros(state["nodes"].shape, state["nodes"].dtype)  # zeros_like leaves what lies between the fields
        for name in clean.dtype.names:
            clean[name] = state["nodes"][name]
        estimator.tree_.__setstate__({**state, "nodes": clean})


def _fit_intelex(
    X: npt.NDArray[np.float32],
    y: npt.NDArray[np.float32],
    params: dict[str, Any],
    *,
    seed: int,
    jobs: int,
    on_step: OnStep,
) -> Any:
    from sklearn.ensemble import RandomForestRegressor
    from sklearnex.ensemble import RandomForestRegressor as IntelexForest

    trees = int(params["n_estimators"])
    on_step(0, trees)
    # in one go, holding the GIL all the time
    fast = IntelexForest(**params, random_state=seed, n_jobs=jobs).fit(X, y)
    plain = RandomForestRegressor(**params, random_state=seed)  # the class that any user has
    plain.estimators_ = fast.estimators_
    plain.n_features_in_ = X.shape[1]
    plain.n_outputs_ = 1
    on_step(trees, trees)
    return plain


def _fit_plain(
    X: npt.NDArray[np.float32],
    y: npt.NDArray[np.float32],
    params: dict[str, Any],
    *,
    seed: int,
    jobs: int,
    on_step: OnStep,
    weights: npt.NDArray[np.float32] | None,
) -> Any:
    from sklearn.ensemble import RandomForestRegressor

    trees, chunk = int(params["n_estimators"]), max(_CHUNK_TREES, jobs)
    forest = RandomForestRegressor(**params, random_state=seed, n_jobs=jobs, warm_start=True)
    on_step(0, trees)
    for done in [*range(chunk, trees, chunk), trees]:  # grown in steps it is the same forest as in one go
        forest.set_params(n_estimators=done).fit(X, y, sample_weight=weights)
        on_step(done, trees)
    return forest.set_params(n_jobs=None, warm_start=False)
