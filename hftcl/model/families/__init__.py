"""What a model family is, and how one is found by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Protocol, cast

from hftcl.errors import UsageError
from hftcl.plug_ins import find_point, make_plug_in

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float32]

OnStep = Callable[[int, int], None]
"""Called with (done, total) trees while a family fits; a family that cannot tell calls it at the start and the end."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """One fitted model: the estimator for a researcher's .pkl, the same model as an ONNX graph, and what made it."""

    estimator: Any
    onnx: bytes
    engine: str
    importances: tuple[float, ...] | None


class Family(Protocol):
    """A kind of regression model that ends as one ONNX graph: float32 `X[rows, n_features]` in, one float32 out."""

    name: str

    def parameters(self) -> Mapping[str, object]:
        """Return the names that `--param` may set, each with its default. Cheap: no learning library is loaded."""
        ...

    def check(self, params: Mapping[str, object]) -> Mapping[str, object]:
        """Return `params` in the types that `fit` takes; raises UsageError naming one whose value is not possible."""
        ...

    def fit(
        self,
        X: "FloatArray",
        y: "FloatArray",
        params: Mapping[str, object],
        *,
        seed: int,
        jobs: int,
        on_step: OnStep,
    ) -> Fitted:
        """Fit rows of finite features to finite targets. The same input gives predictions equal to the bit.

        params: every parameter, as `complete` returned them. jobs: processor cores, 1 or more; changes no result.
        """
        ...

    # A family may also have `settle(fitted, X, y, params) -> (fitted, params)`: what is chosen on the rows that the
    # inner split holds out, before they set the entry threshold; the fit on all rows gets the params that it returns.
    # And `takes_weights = True`, with which `fit` takes a keyword `weights`, float32 (n,), of mean 1: how much each row
    # counts; only where `[model] half_life_days` is set.
    # And `tells_brief = True`, with which `fit` takes a keyword `brief`: true for a model that only sets the threshold,
    # or is scored once and thrown away: no file will hold it, so that neither its graph is compared nor its importances
    # are computed.
    # And then `finish_brief(fitted, X, *, jobs) -> Fitted`: makes of a brief fit on the rows X what `fit` returns
    # otherwise, and raises TrainingError where the graph does not predict what was fitted. Where a family has it, its
    # graph is examined while it is compared, and nothing is said of the exam before both: see `find_finish`.
    # And `takes_samples = True`, with which `fit` takes a keyword `sampler`, see `model.sampling`: where there are more
    # rows than `[model] max_rows`, each tree learns from a sample of its own; another family gets one sample of them.
    # And, beside these samples, `count_trees(params)` and `grow_tree(X, y, params, *, seed, jobs, on_step, weights)`:
    # then each of so many trees may grow in another process, by seed and rows that the sampler gives for its number;
    # what `grow_tree` returns can be pickled, and `fit` takes a keyword `grown`: what it returned, in their order.
    # And `count_nodes(params, rows) -> int`, of trees: the most nodes that a fit on so many rows gives, so that a file
    # too large to be kept is foreseen.
    # And `prepare()`, which loads what `fit` needs; `prepare_child()` goes before it in the process that does nothing
    # else, where a library may load without what it offers beside its own work.
    # And `fills_cores = True`, where a fit of many rows keeps its `jobs` cores busy from the first tree to the last:
    # then no other one is trained beside it on one machine, which would take memory and save no time.
    # And `require_installed()`, which raises TrainingError where a library is missing: before bars are collected.


class FamilyOffers(Protocol):
    """How the methods that a family may have, which are described above, are called.

    Not those that belong to the `fit` beside them, and mean something else elsewhere: see `_find_beside_fit`.
    """

    def settle(
        self, fitted: Fitted, X: "FloatArray", y: "FloatArray", params: Mapping[str, object]
    ) -> tuple[Fitted, Mapping[str, object]]: ...

    def count_nodes(self, params: Mapping[str, object], rows: int) -> int: ...

    def prepare(self) -> None: ...

    def prepare_child(self) -> None: ...

    def require_installed(self) -> None: ...


def find_finish(family: Family) -> Callable[..., Fitted] | None:
    """Return the `finish_brief` beside the `fit` of the family, None where there is none: see `_find_beside_fit`."""
    return _find_beside_fit(family, "finish_brief") if getattr(family, "tells_brief", False) else None


def find_grower(family: Family) -> Callable[..., Any] | None:
    """Return the `grow_tree` beside the `fit` of the family, None where there is none: see `_find_beside_fit`."""
    return _find_beside_fit(family, "grow_tree")


def _find_beside_fit(family: Family, name: str) -> Callable[..., Any] | None:
    """Return that method, where it belongs to the `fit` of the family.

    One that is inherited belongs to the `fit` beside it: a class that has a `fit` of its own may fit something else, or
    check more, and needs its own.
    """
    for names in (getattr(family, "__dict__", {}), *map(vars, type(family).__mro__)):
        if name in names:
            return cast("Callable[..., Any]", getattr(family, name))
        if "fit" in names:
            return None
    return None


def find_family(name: str) -> Family:
    """Return the family registered as `name` in the entry-point group `hftcl.families`; no other one is imported.

    >>> find_family("forest").parameters()["n_estimators"]
    200
    """
    return cast("Family", make_plug_in(find_point("hftcl.families", name), Family, (FamilyOffers,)))


def complete(family: Family, params: Mapping[str, object]) -> dict[str, object]:
    """Return every parameter of `family`, its defaults replaced by `params`.

    Raises UsageError for a name that the family does not know or a value that it cannot use.

    >>> complete(find_family("forest"), {"max_depth": 8})["max_depth"]
    8
    """
    defaults = family.parameters()
    for name in params:
        if name not in defaults:
            close = get_close_matches(name, defaults, n=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            names = ", ".join(defaults)
            raise UsageError(f"The model family {family.name} has no parameter {name!r}.{hint} It knows: {names}.")
    return dict(family.check({**defaults, **params}))
