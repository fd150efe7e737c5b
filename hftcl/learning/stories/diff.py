"""The story of `diff`: two archived models side by side, by what registry and model files tell. Changes nothing."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from hftcl.archive.artifact import ModelMeta, describe
from hftcl.archive.records import ModelRecord
from hftcl.archive.registry import Registry
from hftcl.errors import UsageError
from hftcl.exam.metrics import compute_or_none, compute_sharpe_or_none, sharpe_difference
from hftcl.market.sessions import Calendar

_SETTINGS: Final = (
    "family", "target", "horizon_minutes", "threshold", "entry_quantile", "side", "weighting", "half_life_days",
    "cost_bps", "flat_minutes_before_close", "seed", "source", "synthetic", "calendar", "extended_hours", "columns",
    "trained_from", "trained_to", "rows", "max_rows", "data_digest", "versions",
)  # fmt: skip
# What was chosen inside the training: by the field of the model file that tells it, the setting and its value.
_CHOSEN: Final[Mapping[str, tuple[str, Callable[[ModelMeta], Any]]]] = {
    "ticker_models": ("per", lambda meta: "ticker" if meta.ticker_models else "watchlist"),
    "entry": ("entry", lambda meta: "net" if meta.entry else "quantile"),
    "horizon": ("horizon", lambda meta: "auto" if meta.horizon else "fixed"),
    "novelty": ("novelty", lambda meta: meta.novelty.quantile if meta.novelty else 0.0),
    "selection": ("drop_below", lambda meta: meta.selection.drop_below if meta.selection else None),
}
# Told in another way (features, parameters, tickers, exam), or what a training makes of what is compared.
_LEFT_OUT: Final = frozenset({
    "model_id", "format", "feature_names", "feature_formulae", "features_hash", "feature_sources", "params", "tickers",
    "exam_from", "exam_to", "exam_slices", "exam_look", "label_end", "importances", "feature_bins", "coverage",
    "bars_by_session", "bars_by_ticker", "volatility", "canary_rows", "canary_predictions",
})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldDifference:
    """One thing in which two models differ, with both values. kind: "exam", "feature", "parameter" or "setting"."""

    kind: str
    what: str
    a: Any
    b: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedExam:
    """Both models on the sessions that were in the exam of either: annual net Sharpe ratios, None where undefined.

    difference: of `a` less `b`; standard_error and p_better are of it.
    """

    sessions: int
    from_: str
    to: str
    sharpe_a: float | None
    sharpe_b: float | None
    pnl_a: float
    pnl_b: float
    difference: float | None
    standard_error: float | None
    p_better: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffReport:
    """The values of `diff --json`. shared: None where no session was in both exams."""

    a: str
    b: str
    shared: SharedExam | None
    differences: tuple[FieldDifference, ...]


def diff(home: Path, a: str, b: str) -> DiffReport:
    """Return in what the archived models `a` and `b` differ.

    Raises UsageError where both are one, ModelNotFoundError for an unknown id, IntegrityError for a file that is
    damaged or was pruned, and for a row of the registry that was damaged.
    """
    registry = Registry(home)
    one, other = registry.find(a), registry.find(b)
    if one.model_id == other.model_id:
        raise UsageError(f"Both are the model {one.model_id}. Name two; `hftcl history` lists them.")
    metas = describe(registry.locate_onnx(one.model_id)), describe(registry.locate_onnx(other.model_id))
    return DiffReport(
        a=one.model_id,
        b=other.model_id,
        shared=_compare_exams(one, other, Calendar(metas[0].calendar).sessions_per_year),
        differences=(*_list_exam(one, other), *_list_features(*metas), *_list_values(*metas)),
    )


def _compare_exams(a: ModelRecord, b: ModelRecord, sessions_per_year: int) -> SharedExam | None:
    pnl_a, pnl_b = (record.judgement.exam_pnl for record in (a, b))
    days = sorted(set(pnl_a) & set(pnl_b))
    if not days or a.synthetic != b.synthetic:
        return None
    x, y = (np.array([pnl[day] for day in days], dtype=np.float64) for pnl in (pnl_a, pnl_b))
    compared = compute_or_none(lambda: sharpe_difference(x, y, sessions_per_year=sessions_per_year))
    return SharedExam(
        sessions=len(days),
        from_=days[0],
        to=days[-1],
        sharpe_a=compute_sharpe_or_none(x, sessions_per_year=sessions_per_year),
        sharpe_b=compute_sharpe_or_none(y, sessions_per_year=sessions_per_year),
        pnl_a=float(x.sum()),
        pnl_b=float(y.sum()),
        difference=compared.difference if compared else None,
        standard_error=compared.standard_error if compared else None,
        p_better=compared.p_better if compared else None,
    )


def _list_exam(a: ModelRecord, b: ModelRecord) -> Iterator[FieldDifference]:
    for what in ("outcome", "reason", "exam_from", "exam_to", "val_sharpe"):
        one, other = getattr(a, what), getattr(b, what)
        if one != other:
            yield FieldDifference(kind="exam", what=what, a=one, b=other)


def _list_features(a: ModelMeta, b: ModelMeta) -> Iterator[FieldDifference]:
    """Yield each feature that one alone reads, or that was computed otherwise."""
    formulae_a, formulae_b = (dict(zip(m.feature_names, m.feature_formulae, strict=True)) for m in (a, b))
    for name in dict.fromkeys((*a.feature_names, *b.feature_names)):
        one, other = formulae_a.get(name), formulae_b.get(name)
        if one != other:
            yield FieldDifference(kind="feature", what=name, a=one, b=other)


def _list_values(a: ModelMeta, b: ModelMeta) -> Iterator[FieldDifference]:
    for name in dict.fromkeys((*a.params, *b.params)):
        if a.params.get(name) != b.params.get(name):
            yield FieldDifference(kind="parameter", what=name, a=a.params.get(name), b=b.params.get(name))
    yield from _list_apart("tickers of one alone", a.tickers, b.tickers)
    if a.ticker_models and b.ticker_models:
        yield from _list_apart("tickers with a model in one alone", a.ticker_models, b.ticker_models)
    for what, read in _CHOSEN.values():
        if read(a) != read(b):
            yield FieldDifference(kind="setting", what=what, a=read(a), b=read(b))
    for name in _SETTINGS:
        if getattr(a, name) != getattr(b, name):
            yield FieldDifference(kind="setting", what=name, a=getattr(a, name), b=getattr(b, name))


def _list_apart(what: str, a: tuple[str, ...], b: tuple[str, ...]) -> Iterator[FieldDifference]:
    gone, came = (sorted(set(x) - set(y)) for x, y in ((a, b), (b, a)))
    if gone or came:
        yield FieldDifference(kind="setting", what=what, a=gone, b=came)
