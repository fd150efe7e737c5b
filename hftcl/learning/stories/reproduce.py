"""The story of `reproduce`: an archived model, trained again from the bars that it names. Archives and deploys nothing.

All that its file tells is taken from there: sessions, tickers, horizon, family, parameters, seed. What it does not tell
is taken from the configuration. Bars that the cache lacks are fetched and not kept.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Final

import numpy as np

from hftcl.archive import artifact
from hftcl.archive.artifact import FeatureSet, ModelMeta
from hftcl.archive.deployment import ModelArchive
from hftcl.archive.fitness import find_market_kind, require_same_kind
from hftcl.archive.records import ModelRecord
from hftcl.errors import IntegrityError
from hftcl.events import OnEvent, Stopwatch
from hftcl.exam.split import list_sessions, split_as_trained
from hftcl.formats import name_some
from hftcl.home import Home
from hftcl.learning.candidate import Candidate, merge_params, train_candidate
from hftcl.learning.dataset import Dataset, Window
from hftcl.learning.why_reports import ModelDifference, ReproduceReport
from hftcl.market.window import AsOf, open_market
from hftcl.model.training import TrainingPool
from hftcl.settings import Settings

_SHOWN: Final = 6  # sessions or tickers of a line: more than a handful is a vendor's new history, not a correction
_DIGITS: Final = 12  # of a SHA-256, as elsewhere: enough to see that two differ


def reproduce(settings: Settings, model_id: str, *, now: datetime, on_event: OnEvent) -> ReproduceReport:
    """Train an archived model again, and return whether it is the same to the bit, else what differs and why.

    Raises ModelNotFoundError, IntegrityError for a file that is damaged or was pruned, and what collecting and
    training raise: then nothing is known.
    """
    archive = ModelArchive(Home.of(settings).root)
    record = archive.find(model_id)
    path = archive.locate_onnx(record.model_id)
    if not record.kept:
        raise IntegrityError(f"The file of model {record.model_id} was deleted by [archive] keep. Nothing to compare.")
    meta, graph = artifact.describe(path), artifact.read_graph(path)
    kind = find_market_kind(settings)
    require_same_kind(meta.model_id, trained_synthetic=meta.synthetic, synthetic=kind.synthetic)
    adopted = adopt_settings(settings, meta)
    data = _open_window(adopted, meta, record, on_event).assemble()
    features = data.features.narrow(meta.feature_names)
    changed = tuple(_compare_features(meta.features, features))
    if features.names != meta.feature_names:  # one is gone: there is nothing to train on
        return _build_report(meta, data, changed, rows=0, seconds=0.0)
    watch = Stopwatch()
    with watch("fit"), TrainingPool() as pool:
        candidate = train_candidate(
            data.frame,
            split_as_trained(list_sessions(data.frame), meta.trained_from, meta.trained_to),
            adopted,
            model_id=meta.model_id,
            params=merge_params(adopted, meta.params),
            features=features,
            source=data.source,
            synthetic=data.synthetic,
            pool=pool,
            coverage=data.coverage,
            on_event=on_event,
            horizons=len(meta.horizon.tried) if meta.horizon else 1,  # the best of several had to earn more
        )
    differences = tuple(_compare(meta, graph, candidate))
    if differences:
        differences += changed + list_causes(meta, candidate.model.meta, data.left_out)
        if len(differences) == 1:  # the threshold alone: what chose the rows that set it is not in the file
            days = str(adopted.exam.embargo_sessions)
            differences += (ModelDifference(what="[exam] embargo_sessions", was="not kept", is_=days),)
    return _build_report(meta, data, differences, rows=candidate.rows, seconds=watch.list_timings()["fit"])


def adopt_settings(settings: Settings, meta: ModelMeta) -> Settings:
    """Return the settings with all that the file of a model tells of its making."""
    return replace(
        settings,
        market=replace(
            settings.market,
            watchlist=meta.tickers,
            calendar=meta.calendar,
            extended_hours=meta.extended_hours,
        ),
        model=replace(
            settings.model,
            family=meta.family,
            seed=meta.seed,
            horizon_minutes=meta.horizon_minutes,
            half_life_days=meta.half_life_days,
            max_rows=meta.max_rows,
            novelty=meta.novelty.quantile if meta.novelty else 0.0,
            per=meta.per,
        ),
        features=replace(settings.features, drop_below="off"),  # the file names those that stayed
        strategy=replace(
            settings.strategy,
            entry="quantile" if meta.entry is None else "net",
            side=meta.side,
            weighting="equal" if meta.volatility is None else "inverse_volatility",
            entry_quantile=meta.entry_quantile,
            cost_bps=meta.cost_bps,
            flat_minutes_before_close=meta.flat_minutes_before_close,
        ),
    )


def _open_window(settings: Settings, meta: ModelMeta, record: ModelRecord, on_event: OnEvent) -> Window:
    """Open the market as it was known then, from the first session that was trained on."""
    source, calendar = open_market(settings)
    known_end = AsOf(at=record.known_until, note="as the model knew it", explicit=True)
    days = (calendar.find_last_complete(known_end.at) - meta.trained_from).days + 1
    return Window(
        settings=replace(settings, market=replace(settings.market, lookback_days=days)),
        source=source,
        calendar=calendar,
        known_end=known_end,
        save=False,
        on_event=on_event,
    )


def _compare(meta: ModelMeta, graph: bytes, candidate: Candidate) -> Iterator[ModelDifference]:
    """Yield what makes another model: its graph, its threshold."""
    new = candidate.model.meta
    if artifact.strip(candidate.trained.onnx) != graph:
        was = np.asarray(meta.canary_predictions)
        now = candidate.model.predict(np.asarray(meta.canary_rows, dtype=np.float32)).astype(np.float64)
        row = int(np.abs(now - was).argmax())
        yield ModelDifference(
            what="the trees, or weights",
            was=f"canary row {row + 1}: {was[row]:+.6f}",
            is_=f"{now[row]:+.6f}" if now[row] != was[row] else "the same there, of other bytes",
        )
    if new.threshold != meta.threshold:
        yield ModelDifference(what="the entry threshold", was=repr(meta.threshold), is_=repr(new.threshold))


def _compare_features(was: FeatureSet, now: FeatureSet) -> Iterator[ModelDifference]:
    """Yield the features that mean something else than then, or are gone."""
    formulae, files = dict(zip(now.names, now.formulae, strict=False)), dict(zip(now.names, now.sources, strict=False))
    for place, name in enumerate(was.names):
        formula = was.formulae[place] if was.formulae else ""
        if name not in now.names:
            yield ModelDifference(what=f"the feature {name}", was=formula, is_="gone")
        elif formulae.get(name, formula) != formula:
            yield ModelDifference(what=f"the feature {name}", was=formula, is_=formulae[name])
    changed: dict[tuple[str, str], list[str]] = {}
    for name, digest in zip(was.names, was.sources, strict=False):
        if name in now.names and files.get(name, "") != digest:
            changed.setdefault((digest, files.get(name, "")), []).append(name)
    for (then, present), names in changed.items():
        yield ModelDifference(
            what=f"the file of {name_some(names, _SHOWN)}",
            was=then[:_DIGITS] or "one of hftcl's own",
            is_=present[:_DIGITS] or "one of hftcl's own",
        )
    if was.definitions_hash != now.definitions_hash and not changed and was.names == now.names:
        yield ModelDifference(
            what="what the features mean", was=was.definitions_hash[:_DIGITS], is_=now.definitions_hash[:_DIGITS]
        )


def list_causes(was: ModelMeta, now: ModelMeta, left_out: Mapping[str, str]) -> tuple[ModelDifference, ...]:
    """Return what else of two models is otherwise: rows, the bars that they come from, parameters, libraries.

    left_out: tickers that could not be trained on now, with the reason.
    """
    return tuple(_find_causes(was, now, left_out))


def _find_causes(was: ModelMeta, now: ModelMeta, left_out: Mapping[str, str]) -> Iterator[ModelDifference]:
    for ticker, why in left_out.items():
        yield ModelDifference(what=f"the bars of {ticker}", was="trained on", is_=f"left out: {why}")
    if was.data_digest != now.data_digest:
        yield ModelDifference(
            what="the training rows",
            was=f"{was.rows:,}, {was.data_digest[:_DIGITS]}",
            is_=f"{now.rows:,}, {now.data_digest[:_DIGITS]}",
        )
        yield from _compare_bars(was, now, left_out)
    if was.source != now.source:
        yield ModelDifference(what="[market] source", was=was.source, is_=now.source)
    for name in sorted({*was.params, *now.params}):
        if was.params.get(name) != now.params.get(name):
            yield ModelDifference(
                what=f"the parameter {name}", was=str(was.params.get(name)), is_=str(now.params.get(name))
            )
    for name in sorted({*was.versions, *now.versions}):
        then, present = was.versions.get(name, "absent"), now.versions.get(name, "absent")
        if then != present:
            yield ModelDifference(what=f"the version of {name}", was=then, is_=present)


def _compare_bars(was: ModelMeta, now: ModelMeta, left_out: Mapping[str, str]) -> Iterator[ModelDifference]:
    """Yield the sessions and tickers whose bars are others; where none are, what the features read before them."""
    if was.bars_by_session is None or was.bars_by_ticker is None:
        yield ModelDifference(what="which bars", was="not kept by the hftcl that trained it", is_="cannot be told")
        return
    tickers = _list_changed(was.bars_by_ticker, now.bars_by_ticker or {})
    if left_out:  # without them every session is another one
        tickers = [ticker for ticker in tickers if ticker not in left_out]
        if tickers:
            yield ModelDifference(
                what=f"the bars of {name_some(tickers, _SHOWN)}", was="others", is_="revised, lost or new"
            )
        return
    sessions = _list_changed(was.bars_by_session, now.bars_by_session or {})
    if sessions or tickers:
        yield ModelDifference(
            what=f"the bars of {name_some(tickers, _SHOWN)}",
            was=f"those of {name_some(sessions, _SHOWN)}",
            is_="revised, lost or new",
        )
    elif was.features_hash == now.features_hash:
        yield ModelDifference(
            what="the bars of the sessions that were trained on", was="the same", is_="the same; look at those before"
        )


def _list_changed(was: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    return sorted(name for name in {*was, *now} if was.get(name) != now.get(name))


def _build_report(
    meta: ModelMeta, data: Dataset, differences: tuple[ModelDifference, ...], *, rows: int, seconds: float
) -> ReproduceReport:
    return ReproduceReport(
        model_id=meta.model_id,
        equal=not differences,
        differences=differences,
        rows=rows,
        was_rows=meta.rows,
        seconds=seconds,
        source=data.source,
        synthetic=data.synthetic,
    )
