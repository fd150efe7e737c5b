"""The promises of what a model is made of: `check_family` and `check_feature`, on small problems of their own."""

import io
import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from hftcl.archive import artifact
from hftcl.archive.artifact import ModelMeta, check_graph
from hftcl.contracts.findings import Findings
from hftcl.contracts.offers import Problem, build_sampler, build_weights, check_offers
from hftcl.errors import HftclError, IntegrityError, TrainingError, UsageError
from hftcl.model.families import Family, FamilyOffers, Fitted, complete, find_finish, find_grower
from hftcl.model.feature import Feature
from hftcl.model.feature_check import find_faults
from hftcl.model.features import FEATURES
from hftcl.model.sampling import Sampler
from hftcl.model.serving import Predictor
from hftcl.settings import Model

# A forest fits them in well under a second; a family that swaps two features is found by any number from 2.
_ROWS, _FEATURES = 400, 5
_INNER_ROWS: Final = 300  # as in a training: the first fit, which sets the threshold, sees a part of the rows
_ALONE: Final = 20  # rows that are predicted alone, as the bot does each minute
_LARGEST_SEED: Final = 2**32 - 1  # what [model] seed allows
_SAME = 1e-4  # float32 against a library's float64 is 1e-6 apart on targets near 1; another model is 1e-2 or more
_SUM_TOLERANCE: Final = 1e-6  # shares of hundreds of features, each rounded to float32 at worst
_LEARNT: Final = 0.5  # correlation; a forest of the default settings comes to 0.9 here, and one that mixes rows up to 0
_ABSENT: Final = object()
_NO_NUMBERS: Final = ("no such value", float("nan"))  # of which no family's number can be one

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Trial:
    """One fit: what came out of it, opened, and the steps that it told."""

    fitted: Fitted
    predictor: Predictor
    steps: tuple[tuple[int, int], ...]


class _RefusedGraphError(Exception):
    """The graph is none that a model file may hold, so that onnxruntime is not to meet it."""


def check_family(family: Family) -> tuple[str, ...]:
    """Return the promises that `family` breaks on a small problem that holds something to learn.

    What it asks is what `retrain` and the bot will ask: parameters that survive the way into the child process, two
    fits one after the other on arrays that cannot be written to, a graph that a model file may hold and that is built,
    loaded and asked as a model is, facts that JSON knows, an estimator that joblib can store; and each keyword, method
    and number that the family says it has, see `Family`: once alone, and the keywords together. A family that passes
    here is not refused after a training.

    >>> from hftcl.model.families.ridge import Ridge
    >>> check_family(Ridge())
    ()
    """
    findings = Findings()
    if findings.check_calls(family, Family, (FamilyOffers,)):
        with findings.hear(family):
            _check_family(findings, family)
    return tuple(findings.broken)


def _check_family(findings: Findings, family: Family) -> None:
    findings.check(bool(family.name), "it has a name")
    findings.check_section(family)
    _check_prepare(findings, family)
    params = _check_parameters(findings, family)
    X, y = _build_problem()
    try:
        inner = _fit(family, X[:_INNER_ROWS], y[:_INNER_ROWS], params, seed=_LARGEST_SEED, jobs=1)
        one = _fit(family, X, y, params, seed=3, jobs=1)
        two = _fit(family, X, y, params, seed=3, jobs=2)
        if getattr(family, "tells_brief", False):
            brief = _fit(family, X[:_INNER_ROWS], y[:_INNER_ROWS], params, seed=_LARGEST_SEED, jobs=1, brief=True)
            findings.check(
                _predict_alike(brief, inner, X), "a brief fit() gives a graph that predicts the same, to the bit"
            )
            _check_finish(findings, family, one, params, X, y)
    except _RefusedGraphError as error:
        findings.check(False, f"the graph may go into a model file: {error}")
        return
    except Exception as error:  # noqa: BLE001  whatever a stranger's code raises is the finding
        findings.check(False, f"fit() fits: it raised {type(error).__name__}: {error}")
        return
    _check_facts(findings, one, inner)
    _check_predictions(findings, one, two, X, y)
    _check_file(findings, family, one, params, X)
    _check_estimator(findings, one, X)
    _check_growing(findings, family, params, X, y)
    if findings.broken:  # of which the fits for what it offers would be an echo
        return

    def fit(X: FloatArray, y: FloatArray, params: Mapping[str, object], **options: Any) -> Fitted:
        return _fit(family, X, y, params, seed=3, jobs=1, **options).fitted

    problem = Problem(X=X, y=y, params=params, fit=fit, fitted=_INNER_ROWS, inner=inner.fitted, whole=one.fitted)
    check_offers(findings, family, problem)


def _check_finish(
    findings: Findings, family: Family, whole: _Trial, params: Mapping[str, object], X: FloatArray, y: FloatArray
) -> None:
    """Finish a brief fit as a training does, and one whose graph is that of other targets."""
    finish = find_finish(family)
    if finish is None:
        return
    brief = _fit(family, X, y, params, seed=3, jobs=1, brief=True)
    other = _fit(family, X, -y, params, seed=3, jobs=1, brief=True)
    findings.check_refusal(
        lambda: finish(replace(brief.fitted, onnx=other.fitted.onnx), X, jobs=1),
        TrainingError,
        "finish_brief() refuses a graph that does not predict what was fitted",
    )
    try:
        done = _open(finish(brief.fitted, X, jobs=1))
    except Exception as error:  # noqa: BLE001  whatever a stranger's code raises is the finding
        findings.check(False, f"finish_brief() finishes a brief fit(): it raised {type(error).__name__}: {error}")
        return
    findings.check(
        _predict_alike(done, whole, X) and _is_told_alike(done.fitted, whole.fitted),
        "finish_brief() makes of a brief fit() what fit() gives otherwise",
    )
    _check_estimator(findings, done, X)


def _check_growing(
    findings: Findings, family: Family, params: Mapping[str, object], X: FloatArray, y: FloatArray
) -> None:
    """Grow each tree of samples by itself where a family offers that, as a cluster does, and have `fit` join them."""
    if find_grower(family) is None:
        return
    wants = "with grow_tree() it has count_trees() and takes_samples, and fit() takes sampler and grown"
    options: dict[str, Any] = {"jobs": 1, "on_step": lambda _done, _total: None}
    mine, others = (build_sampler(_ROWS, _ROWS, seed) for seed in (3, 4))
    if not findings.check(bool(getattr(family, "takes_samples", False)), wants):
        return
    weighted = options | {"weights": build_weights(_ROWS)} if getattr(family, "takes_weights", False) else options
    try:
        grown, foreign = (_grow_trees(family, sampler, params, X, y, options) for sampler in (mine, others))
        asked: dict[str, Any] = {"seed": 3, "sampler": mine}
        whole = _open(family.fit(X, y, params, **options, **asked))
        joined, mixed = (
            _open(family.fit(X, y, params, **options, **(asked | {"grown": trees}))) for trees in (grown, foreign)
        )
        if weighted is not options:
            counted = _grow_trees(family, mine, params, X, y, weighted)
            apart = _open(family.fit(X, y, params, **weighted, **(asked | {"grown": counted})))
            same = _predict_alike(apart, _open(family.fit(X, y, params, **weighted, **asked)), X)
            findings.check(same, "grow_tree() takes the weights of its rows, and grows the tree of fit() with them")
    except Exception as error:  # noqa: BLE001  whatever a stranger's code raises is the finding
        findings.check(False, f"{wants}: it raised {type(error).__name__}: {error}")
        return
    same = _predict_alike(joined, whole, X)
    findings.check(same, "trees that grow_tree() grew make a graph that predicts as that of fit(), to the bit")
    is_other = not _predict_alike(mixed, whole, X)
    findings.check(is_other, "fit() makes its graph of the trees that it is given as grown")


def _grow_trees(
    family: Any,
    sampler: Sampler,
    params: Mapping[str, object],
    X: FloatArray,
    y: FloatArray,
    options: Mapping[str, Any],
) -> list[Any]:
    """Return the tree of each sample, as it comes out of another process."""
    grown, weights = [], options.get("weights")
    for number in range(family.count_trees(params)):
        rows, seed = sampler.draw(number), sampler.derive_seed(number)
        own = {**options, "seed": seed, "weights": None if weights is None else weights[rows]}
        tree = family.grow_tree(X[rows], y[rows], params, **own)
        grown.append(pickle.loads(pickle.dumps(tree)))  # noqa: S301 - of this process
    return grown


def _check_prepare(findings: Findings, family: Family) -> None:
    """Call it where it is there, as a training does, which says nothing of what it raises."""
    for name in ("require_installed", "prepare", "prepare_child"):
        prepare = getattr(family, name, None)
        if prepare is None:
            continue
        try:
            prepare()
        except Exception as error:  # noqa: BLE001  whatever a stranger's code raises is the finding
            broken = f"{name}() takes nothing and raises nothing: it raised {type(error).__name__}: {error}"
            findings.check(False, broken)


def _check_parameters(findings: Findings, family: Family) -> dict[str, object]:
    params = complete(family, {})
    findings.check(set(params) == set(family.parameters()), "check() keeps the parameters that it is given")
    findings.check_refusal(
        lambda: complete(family, {"no such parameter": 1}), UsageError, "a parameter that it does not know is refused"
    )
    findings.check(
        all(_is_plain(value) for value in params.values()),
        "parameters are finite numbers, texts, true, false or None, as JSON has them",
    )
    findings.check(complete(family, params) == params, "check() leaves what it has checked as it is")
    _check_configured(findings, family)
    for name, default in params.items():
        if isinstance(default, int | float) and not isinstance(default, bool):
            for value in _NO_NUMBERS:
                findings.check_refusal(
                    lambda name=name, value=value: complete(family, {name: value}),  # type: ignore[misc]
                    UsageError,
                    f"check() refuses {value!r} for the number {name}",
                )
    return params


def _check_configured(findings: Findings, family: Family) -> None:
    """Offer what a configuration without a line holds: values of its section and of [model] go before its defaults."""
    section = getattr(family, "SETTINGS", None)
    for where, kind in (("SETTINGS", section), ("[model]", Model)):
        values = {} if kind is None else {name: getattr(kind(), name, _ABSENT) for name in family.parameters()}
        if where == "[model]" and section is not None:
            values = {name: value for name, value in values.items() if not hasattr(section(), name)}
        try:
            complete(family, {name: value for name, value in values.items() if value is not _ABSENT})
        except Exception as error:  # noqa: BLE001  whatever a stranger's code raises is the finding
            findings.check(False, f"check() takes the defaults of {where}, which go before its own: {error}")


def _is_plain(value: object) -> bool:
    return value is None or type(value) in (bool, int, str) or (type(value) is float and bool(np.isfinite(value)))


def _build_problem() -> tuple[FloatArray, FloatArray]:
    """Return rows whose first feature tells the target, and whose last is always 0, as on a watchlist of one ticker.

    Neither can be written to: a training hands over rows that are mapped from a file.
    """
    chance = np.random.default_rng(5)
    X = chance.normal(size=(_ROWS, _FEATURES)).astype(np.float32)
    y = (X[:, 0] + 0.1 * chance.normal(size=_ROWS)).astype(np.float32)
    X[:, -1] = 0
    X.flags.writeable = y.flags.writeable = False
    return X, y


def _fit(
    family: Family,
    X: FloatArray,
    y: FloatArray,
    params: Mapping[str, object],
    *,
    seed: int,
    jobs: int,
    **options: Any,
) -> _Trial:
    """Fit as the child process of a training does: the parameters come out of JSON."""
    steps: list[tuple[int, int]] = []
    arrived = json.loads(json.dumps(params, default=str))
    fitted = family.fit(
        X, y, arrived, seed=seed, jobs=jobs, on_step=lambda done, total: steps.append((done, total)), **options
    )
    return _open(fitted, steps)


def _open(fitted: Fitted, steps: Sequence[tuple[int, int]] = ()) -> _Trial:
    try:
        check_graph(fitted.onnx, _FEATURES)  # first: onnxruntime meets only what a model file may hold
        predictor = Predictor(fitted.onnx, _FEATURES)
    except IntegrityError as error:
        raise _RefusedGraphError(error) from error
    return _Trial(fitted, predictor, tuple(steps))


def _predict_alike(one: _Trial, other: _Trial, X: FloatArray) -> bool:
    """Whether two graphs predict the same, to the bit: their bytes may differ, as by a random name."""
    return np.array_equal(one.predictor.predict(X), other.predictor.predict(X), equal_nan=True)


def _is_told_alike(one: Fitted, other: Fitted) -> bool:
    """Whether the engine is the same, and the importances are but for their rounding."""
    if one.importances is None or other.importances is None:
        return one.engine == other.engine and one.importances is other.importances
    same = len(one.importances) == len(other.importances)
    return (
        one.engine == other.engine
        and same
        and bool(np.allclose(one.importances, other.importances, rtol=0, atol=_SAME))
    )


def _check_facts(findings: Findings, trial: _Trial, inner: _Trial) -> None:
    shares = trial.fitted.importances
    findings.check(shares is None or len(shares) == _FEATURES, "importances are one for each feature, or None")
    if shares is not None and findings.check(
        all(_is_plain(float(share)) and isinstance(share, float) and share >= 0 for share in shares),
        "importances are finite floats, none below 0",
    ):
        findings.check(abs(sum(shares) - 1) <= _SUM_TOLERANCE, "importances add up to 1")
    engine = trial.fitted.engine
    findings.check(isinstance(engine, str) and bool(engine), "engine is a text that names what fitted it")
    for steps in (inner.steps, trial.steps):
        findings.check(bool(steps) and steps[-1][0] == steps[-1][1], "on_step() is told the end")
        findings.check(
            all(type(done) is type(total) is int and 0 <= done <= total > 0 for done, total in steps),
            "on_step() is told whole numbers, from 0 to the total",
        )
        findings.check(list(steps) == sorted(steps), "on_step() is told what is done, and that never falls")


def _check_predictions(findings: Findings, one: _Trial, two: _Trial, X: FloatArray, y: FloatArray) -> None:
    predictions = one.predictor.predict(X)
    if not findings.check(
        predictions.dtype == np.float32 and predictions.shape == (_ROWS,), "the graph gives one float32 for each row"
    ):
        return
    if not findings.check(bool(np.isfinite(predictions).all()), "the graph gives finite numbers"):
        return
    canaries = artifact.pick_canary_rows(X)
    far = one.predictor.predict(canaries)
    findings.check(bool(np.isfinite(far).all()), "the graph gives finite numbers far from what it was fitted to, too")
    findings.check(
        np.array_equal(predictions, two.predictor.predict(X)),
        "the same rows and seed give the same model, whatever the cores",
    )
    rows, among = np.vstack([X[:_ALONE], canaries]), np.concatenate([predictions[:_ALONE], far])
    alone = np.concatenate([one.predictor.predict(rows[n : n + 1]) for n in range(len(rows))])
    findings.check(
        np.array_equal(alone, among, equal_nan=True), "a row alone is predicted as it is among others, to the bit"
    )
    learnt = bool(np.ptp(predictions) > 0) and float(np.corrcoef(predictions, y)[0, 1]) > _LEARNT
    findings.check(learnt, "what the first feature tells is learnt")


def _check_file(findings: Findings, family: Family, trial: _Trial, params: Mapping[str, object], X: FloatArray) -> None:
    """Build the model file, and load it, as a training and a bot do."""
    if findings.broken:  # of which the file's refusal would be an echo
        return
    try:
        meta = _describe_problem(family, trial.fitted, params)
        artifact.load(artifact.build(trial.fitted.onnx, meta, artifact.pick_canary_rows(X)))
    except HftclError as error:
        findings.check(False, f"a model file can be built and loaded: {error}")


def _describe_problem(family: Family, fitted: Fitted, params: Mapping[str, object]) -> ModelMeta:
    day, names = date(2025, 6, 2), tuple(f"x{n}" for n in range(_FEATURES))
    return ModelMeta(
        model_id="check",
        feature_names=names,
        feature_formulae=names,
        features_hash="0" * 64,
        target="the first feature, and chance",
        horizon_minutes=1,
        threshold=0.0,
        entry_quantile=0.0,
        cost_bps=0.0,
        flat_minutes_before_close=0,
        tickers=("AAA",),
        calendar="XNYS",
        extended_hours=False,
        trained_from=day,
        trained_to=day,
        label_end=datetime(2025, 6, 2, 20, tzinfo=UTC),
        exam_from=None,
        exam_to=None,
        rows=_ROWS,
        data_digest="0" * 64,
        family=family.name,
        params=msgspec.convert(dict(params), dict[str, str | int | float | bool | None]),
        seed=3,
        versions=artifact.find_library_versions(fitted.engine),
        source="check",
        synthetic=True,
        importances=fitted.importances,
    )


def _check_estimator(findings: Findings, trial: _Trial, X: FloatArray) -> None:
    import joblib

    estimator = trial.fitted.estimator
    try:
        buffer = io.BytesIO()
        joblib.dump(estimator, buffer, compress=3)
        buffer.seek(0)
        estimator = joblib.load(buffer)
    except Exception as error:  # noqa: BLE001  pickling runs a stranger's code, which may raise anything
        findings.check(False, f"joblib can store the estimator and read it back: {type(error).__name__}: {error}")
        return
    if hasattr(estimator, "predict"):
        expected = np.asarray(estimator.predict(X)).reshape(-1)
        findings.check(
            expected.shape == (_ROWS,) and bool(np.allclose(trial.predictor.predict(X), expected, rtol=0, atol=_SAME)),
            "the graph predicts what the estimator does",
        )


# ---- features --------------------------------------------------------------------------------------------------------


def check_feature(feature: Feature, columns: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the promises that `feature` breaks on small made-up markets with gaps, late starts and still prices.

    It proves that no value is NaN or infinite; that none changes, to the bit, when later bars arrive; that the bot,
    which sees `lookback` minutes and `sessions` earlier sessions, finds the bits of the training; that neither the
    order of the bars nor the unit of prices and volumes matters. It does not prove that the feature is of use. The same
    is asked of the user's own features before each training: see `model.feature_check`. columns: further numbers that
    the bars have, as `[market] columns` names them.

    >>> from dataclasses import replace
    >>> check_feature(replace(FEATURES[0], name="another_name"))
    ()
    """
    taken = frozenset(other.name for other in FEATURES if other is not feature)
    return tuple(
        str(fault) for fault in find_faults((feature,), taken=taken, samples=tuple((name, ()) for name in columns))
    )
