"""What a family offers beside what each must do: every offer is tried once, as a training relies on it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from hftcl.contracts.findings import Findings
from hftcl.model.families import Family, Fitted, complete
from hftcl.model.families.per_ticker import join_graphs
from hftcl.model.sampling import Sampler, scale_weights
from hftcl.model.serving import Predictor

_GROUPS: Final = 20  # of rows that stay together, so that samples of half of them differ
_NODES: Final = "nodes_nodeids"  # the attribute of a tree operator that has an entry for each node

FloatArray = npt.NDArray[np.float32]
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Rows X, float32 (n, k), with targets y, and what came of the fits on them.

    fit: fits rows, targets and parameters with the keywords given, with the seed of `whole`; raises where the graph may
    not go into a model file. inner: fitted to the first `fitted` rows, as the threshold's own model is; whole: to all.
    """

    X: FloatArray = field(repr=False)  # the field's name for the features
    y: FloatArray = field(repr=False)
    params: Mapping[str, object]
    fit: Callable[..., Fitted]
    fitted: int
    inner: Fitted
    whole: Fitted

    def predict(self, fitted: Fitted) -> FloatArray:
        """Return what a graph predicts for all rows: its bytes may differ where that is equal, as by a random name."""
        return Predictor(fitted.onnx, self.X.shape[1]).predict(self.X)


def build_sampler(rows: int, fitted: int, seed: int) -> Sampler:
    """Return what draws half of the first `fitted` rows of a matrix of so many, in groups of a twentieth of it."""
    groups = np.repeat(np.arange(_GROUPS, dtype=np.int32), rows // _GROUPS)
    return Sampler(groups, np.arange(fitted), fitted // 2, seed)


def build_weights(rows: int) -> FloatArray:
    """Return how much each row counts: the last one ten times as much as the first, 1 in the mean."""
    return scale_weights(np.linspace(0.2, 2.0, rows, dtype=np.float32))


def check_offers(findings: Findings, family: Family, problem: Problem) -> None:
    """Fit with each keyword that the family says it takes, and with all of them, and call what else it offers."""
    options: dict[str, Any] = {}
    if getattr(family, "takes_weights", False) and _check_weights(findings, problem):
        options["weights"] = build_weights(len(problem.y))
    sampled = _check_samples(findings, problem) if getattr(family, "takes_samples", False) else None
    if sampled is not None:
        options["sampler"] = build_sampler(len(problem.y), problem.fitted, seed=3)
    if getattr(family, "tells_brief", False):
        options["brief"] = True
    if len(options) > 1:
        wanted = f"fit() takes {', '.join(options)} together"
        both = _try_to(findings, wanted, lambda: problem.fit(problem.X, problem.y, problem.params, **options))
        if both is not None and sampled is not None and "weights" in options:
            is_other = not np.array_equal(problem.predict(both), sampled)
            findings.check(is_other, "fit() makes another model of samples whose rows count otherwise")
    _check_settling(findings, family, problem)
    _check_nodes(findings, family, problem)
    _check_joining(findings, problem)


def _try_to(findings: Findings, promise: str, act: Callable[[], Made]) -> Made | None:
    """Return what `act` makes; where it raises, the promise is broken, and None comes back."""
    try:
        return act()
    except Exception as error:  # noqa: BLE001  whatever a stranger's code raises is the finding
        findings.check(False, f"{promise}: it raised {type(error).__name__}: {error}")
        return None


def _check_weights(findings: Findings, problem: Problem) -> bool:
    """Return whether weights are taken."""
    weights = build_weights(len(problem.y))
    weighted = _try_to(
        findings,
        "with takes_weights fit() takes weights",
        lambda: problem.fit(problem.X, problem.y, problem.params, weights=weights),
    )
    if weighted is not None:
        is_other = not np.array_equal(problem.predict(weighted), problem.predict(problem.whole))
        findings.check(is_other, "fit() makes another model of rows that count otherwise")
    return weighted is not None


def _check_samples(findings: Findings, problem: Problem) -> FloatArray | None:
    """Fit samples, also with other targets of the rows that none is drawn from; return what is predicted, or None."""
    sampler, other = build_sampler(len(problem.y), problem.fitted, seed=3), problem.y.copy()
    other[problem.fitted :] *= -1
    other.flags.writeable = False
    predictions = _try_to(
        findings,
        "with takes_samples fit() takes a sampler",
        lambda: [
            problem.predict(problem.fit(problem.X, y, problem.params, sampler=sampler)) for y in (problem.y, other)
        ],
    )
    if predictions is None:
        return None
    first, second = predictions
    findings.check(np.array_equal(first, second), "fit() with a sampler learns from no row but those that it draws")
    return first


def _check_settling(findings: Findings, family: Family, problem: Problem) -> None:
    """Settle on the rows that are held out, and fit with what was chosen.

    As in a training: after a brief fit where the family tells brief ones, and on copies, which may be written to.
    """
    settle = getattr(family, "settle", None)
    if settle is None:
        return
    inner, held_out, known = problem.inner, problem.X[problem.fitted :], problem.y[problem.fitted :]
    if getattr(family, "tells_brief", False):
        inner = problem.fit(problem.X[: problem.fitted], problem.y[: problem.fitted], problem.params, brief=True)

    def choose() -> dict[str, object]:
        arrived = json.loads(json.dumps(problem.params, default=str))
        model, chosen = settle(inner, held_out.copy(), known.copy(), arrived)
        Predictor(model.onnx, held_out.shape[1]).predict(held_out)
        answered: dict[str, object] = json.loads(json.dumps(chosen))  # as they go back to who asked for the training
        if complete(family, answered) != answered:
            raise ValueError("check() changes what settle() chose, or misses a parameter")
        problem.fit(problem.X, problem.y, answered)
        return answered

    _try_to(findings, "settle() returns a fitted model, and all parameters as check() leaves and fit() takes", choose)


def _check_nodes(findings: Findings, family: Family, problem: Problem) -> None:
    import onnx

    count_nodes = getattr(family, "count_nodes", None)
    if count_nodes is None:
        return
    most = _try_to(
        findings,
        "count_nodes() takes parameters and a number of rows",
        lambda: int(count_nodes(problem.params, len(problem.y))),
    )
    if most is not None:
        graph = onnx.ModelProto.FromString(problem.whole.onnx).graph
        nodes = sum(len(entry.ints) for node in graph.node for entry in node.attribute if entry.name == _NODES)
        findings.check(nodes <= most, "count_nodes() tells the most nodes that the trees can have")


def _check_joining(findings: Findings, problem: Problem) -> None:
    """Join two graphs as `[model] per = "ticker"` does, and ask each about all rows, so the other about none."""
    promise = 'with [model] per = "ticker" its graph predicts as alone beside that of another, where it has no row too'
    parts = [problem.inner.onnx, problem.whole.onnx]
    width = problem.X.shape[1]

    def ask() -> list[FloatArray]:
        joined = Predictor(join_graphs(parts, width), width + 1)
        numbers = [np.full(len(problem.X), number, dtype=np.float32) for number in range(len(parts))]
        return [joined.predict(np.column_stack([problem.X, number])) for number in numbers]

    together = _try_to(findings, promise, ask)
    if together is not None:
        alone = [Predictor(part, width).predict(problem.X) for part in parts]
        findings.check(all(map(np.array_equal, together, alone)), promise)
