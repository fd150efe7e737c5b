"""May this model serve this market? The one answer.

A model may serve where its file is whole, it reads the features that this program computes, and it was trained on bars
of the same kind (real or synthetic) and on the same sessions (calendar and hours). It may be scored on what it has not
seen. Reads model files, changes nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Final

from hftcl.archive import artifact
from hftcl.archive.artifact import FeatureSet, Model, ModelMeta
from hftcl.archive.records import ModelRecord
from hftcl.archive.registry import Registry, RegistryState
from hftcl.errors import ConfigError, HftclError, IntegrityError, StorageError, UnfitModelError
from hftcl.formats import name_kind, name_some
from hftcl.home import Home
from hftcl.market.sessions import Calendar
from hftcl.market.sources import find_source, make_source
from hftcl.settings import Settings

_SHOWN_TICKERS: Final = 10  # one line of a terminal; of a watchlist of 500 the number says more than the names


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketKind:
    """The market that a model is asked to serve: the kind of its bars, and its sessions.

    extended_hours: whether sessions have them; None where that is the model's own choice.

    >>> MarketKind(calendar='XNYS', synthetic=True)
    MarketKind(calendar='XNYS', synthetic=True, extended_hours=None)
    """

    calendar: str
    synthetic: bool
    extended_hours: bool | None = None


def find_market_kind(settings: Settings) -> MarketKind:
    """Return the market that `settings` name. Raises ConfigError for a source that is not installed.

    >>> find_market_kind(Settings())
    MarketKind(calendar='XNYS', synthetic=True, extended_hours=False)
    """
    factory = find_source(settings.market.source)
    declared_synthetic = getattr(
        factory, "synthetic", None
    )  # a class says it without being made: one may ask for a key
    synthetic = declared_synthetic if isinstance(declared_synthetic, bool) else make_source(settings).synthetic
    market = settings.market
    return MarketKind(calendar=market.calendar, synthetic=synthetic, extended_hours=market.extended_hours)


def require_same_kind(model_id: str, *, trained_synthetic: bool, synthetic: bool) -> None:
    """Raise UnfitModelError where a model was trained on synthetic bars and these are real, or the reverse.

    >>> try:
    ...     require_same_kind("20260102_060000", trained_synthetic=True, synthetic=False)
    ... except UnfitModelError as unfit:
    ...     print(str(unfit).partition(",")[0])
    Model 20260102_060000 was trained on synthetic bars
    """
    if trained_synthetic != synthetic:
        model_kind, bars_kind = name_kind(synthetic=trained_synthetic), name_kind(synthetic=synthetic)
        # where a model of real bars serves, a retrain on synthetic ones is refused
        other = "give these a [paths] home of their own" if synthetic else "`hftcl retrain` on these"
        raise UnfitModelError(
            f"Model {model_id} was trained on {model_kind} bars, and these are {bars_kind} ones: what one market "
            f"taught says nothing about the other. Set [market] source to one of {model_kind} bars, or {other}."
        )


def require_fitness(meta: ModelMeta, market: MarketKind) -> None:
    """Raise UnfitModelError, saying why and what to do, where the model of `meta` may not serve `market`.

    Its features count minutes from the open of its sessions and its labels end at their close: on other sessions the
    figures would mean nothing.
    """
    require_same_kind(meta.model_id, trained_synthetic=meta.synthetic, synthetic=market.synthetic)
    if meta.calendar != market.calendar:
        raise UnfitModelError(
            f"Model {meta.model_id} was trained on sessions of {meta.calendar}, and [market] calendar is "
            f"{market.calendar}. Set it to {meta.calendar}, retrain, or let another model serve: "
            "`hftcl rollback MODEL_ID`."
        )
    if market.extended_hours is not None and meta.extended_hours != market.extended_hours:
        model_word, bars_word = ("with", "without") if meta.extended_hours else ("without", "with")
        raise UnfitModelError(
            f"Model {meta.model_id} was trained {model_word} extended hours, and these sessions are "
            f"{bars_word} them. Set "
            f"[market] extended_hours = {str(meta.extended_hours).lower()}, retrain, or let another model serve: "
            "`hftcl rollback MODEL_ID`."
        )


def find_unfit(registry: Registry, market: MarketKind, features: FeatureSet | None = None) -> str | None:
    """Return why what is deployed may not serve `market`, or reads what is not among `features`; None where it may.

    None too where nothing is deployed, and for a file that cannot be read: what is damaged is told where it is scored.
    """
    if registry.find_live() is None:
        return None
    try:
        meta = artifact.describe(registry.production)
    except HftclError:
        return None
    try:
        require_fitness(meta, market)
        if features is not None:
            artifact.require_computed(meta, features, f"Model {meta.model_id}")
    except (UnfitModelError, IntegrityError) as unfit:
        return str(unfit)
    return None


def find_unfit_here(settings: Settings) -> str | None:
    """Return what `find_unfit` does of the configured market and features, or why these cannot be told."""
    try:
        market, features = find_market_kind(settings), artifact.list_our_features(settings)
    except (ConfigError, StorageError) as fault:
        return str(fault)
    return find_unfit(Registry(Home.of(settings).root), market, features)


def is_about(registry: Registry, model: ModelRecord, market: MarketKind) -> bool:
    """Whether what was judged of `model` was judged of `market`; of one of an earlier hftcl its file tells, if any."""
    judgement = model.judgement
    if model.synthetic != market.synthetic:
        return False
    if judgement.calendar is not None:
        return judgement.calendar == market.calendar and market.extended_hours in {None, judgement.extended_hours}
    try:
        meta = artifact.describe(registry.locate_onnx(model.model_id))
    except HftclError:  # pruned or damaged: its bars are of this kind, and no more is known
        return True
    return meta.calendar == market.calendar and market.extended_hours in {None, meta.extended_hours}


def find_first_unseen(calendar: Calendar, last_label: datetime, *, embargo_sessions: int) -> date:
    """Return the first session that a model may be scored on whose last label ends at `last_label` (UTC).

    The first of those that `exam.split.find_unseen` leaves of all that the calendar has, however long the exchange
    rests. Raises HorizonError where the calendar does not know it.

    >>> from datetime import UTC
    >>> str(find_first_unseen(Calendar("XNYS"), datetime(2026, 7, 2, 20, tzinfo=UTC), embargo_sessions=1))
    '2026-07-07'
    """
    return calendar.find_next_to_open(last_label, embargo_sessions + 1)


def find_untrained(registry: Registry, model: ModelRecord, watchlist: Iterable[str]) -> str | None:
    """Return what `describe_untrained` does of an archived model.

    Of a file that cannot be read its record tells; what is wrong with it is for others to say.
    """
    file = registry.production if model.is_deployed else registry.locate_onnx(model.model_id)
    try:
        return describe_untrained_of(artifact.describe(file), watchlist)
    except HftclError:
        return describe_untrained(model.model_id, model.tickers, watchlist)


def describe_untrained_of(meta: ModelMeta, watchlist: Iterable[str]) -> str | None:
    """Return what `describe_untrained` does of the model whose file says `meta`."""
    trained = meta.ticker_models or meta.tickers
    return describe_untrained(meta.model_id, trained, watchlist, per_ticker=bool(meta.ticker_models))


def describe_untrained(
    model_id: str, trained: Iterable[str], watchlist: Iterable[str], *, per_ticker: bool = False
) -> str | None:
    """Return what to tell where the watchlist has tickers that a model was not trained on; None where it has none.

    It may serve them all the same: what it reads is scaled by each ticker's own volatility. Not so where it holds a
    model a ticker.

    >>> describe_untrained("20260102_060000", ["AAPL", "AMD"], ["AMD", "TSLA"]).partition(":")[0]
    'Model 20260102_060000 was trained without TSLA'
    >>> describe_untrained("20260102_060000", ["AAPL"], ["AAPL"]) is None
    True
    """
    others = sorted(set(watchlist) - set(trained))
    if not others:
        return None
    shown = name_some(others, _SHOWN_TICKERS)
    them = "it" if len(others) == 1 else "them"
    if per_ticker:
        return (
            f"Model {model_id} holds no model of {shown}: nothing is opened in {them}. `hftcl retrain --force` trains "
            f"on {them}, where there are bars enough."
        )
    return (
        f"Model {model_id} was trained without {shown}: what it says of {them} is untried. `hftcl retrain --force` "
        f"trains on {them}."
    )


def load_fit(source: Path | bytes, *, sha256: str | None, market: MarketKind | None, features: FeatureSet) -> Model:
    """Load a model file that may serve: whole, with features of ours, and made for `market` (None: for any).

    features: what this program computes, see `artifact.list_our_features`. Raises IntegrityError for a file that is not
    whole or has other features, UnfitModelError for one of another market.
    """
    model = artifact.load(source, expected_sha256=sha256, expected_features=features)
    if market is not None:
        require_fitness(model.meta, market)
    return model


def load_archived(registry: Registry, record: ModelRecord, market: MarketKind | None, features: FeatureSet) -> Model:
    """Load the archived file of `record` as `load_fit` does. Raises IntegrityError for one that was pruned, too."""
    if not record.kept:
        raise IntegrityError(
            f"The file of model {record.model_id} was deleted by [archive] keep. "
            "`hftcl history --json` tells which are kept."
        )
    return load_fit(registry.locate_onnx(record.model_id), sha256=record.sha256, market=market, features=features)


def require_rollback_target(registry: Registry, target: ModelRecord, market: MarketKind, features: FeatureSet) -> None:
    """Raise UnfitModelError where the bot would refuse `target`, naming the nearest model before it that may serve."""
    try:
        load_archived(registry, target, market, features)
    except HftclError as fault:
        other = find_fit_ancestor(registry, registry.read_state(), target.model_id, market, features)
        remedy = (
            f"`hftcl rollback {other}` names one that may serve." if other else "No model before it may serve: retrain."
        )
        raise UnfitModelError(f"Nothing was rolled back. {fault} {remedy}") from fault


def find_fit_ancestor(
    registry: Registry, state: RegistryState, model_id: str, market: MarketKind, features: FeatureSet
) -> str | None:
    """Return the nearest model before `model_id` that may serve `market` and does not yet; None where there is none."""
    for ancestor in state.list_ancestors(model_id):
        if ancestor == state.live_id:
            continue
        try:
            load_archived(registry, state.find_record(ancestor), market, features)
        except HftclError:  # the next one may
            continue
        return ancestor
    return None
