"""The story of `explain`: a bar, what the model saw in it, and what became of it. Changes nothing.

Bars that the cache lacks are fetched and not kept; what the bot decided is read from its ledger.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import polars as pl

from hftcl.archive import artifact
from hftcl.archive.artifact import FeatureSet, Model, list_our_features
from hftcl.archive.deployment import ModelArchive
from hftcl.archive.fitness import find_market_kind, load_archived
from hftcl.errors import NoDataError, UsageError
from hftcl.events import Event, OnEvent
from hftcl.exam.drift import locate
from hftcl.formats import format_clock, format_moment, name_some
from hftcl.home import Home
from hftcl.learning.dataset import add_features, find_warm_up
from hftcl.learning.score import decide_positions, predict_bars
from hftcl.learning.why_reports import DecidedOrderReport, DecidedReport, ExplainReport, ExplainRow
from hftcl.ledger.reader import LedgerReader
from hftcl.market.bars import MINUTE
from hftcl.market.hours import Hours, find_hours
from hftcl.market.sessions import Calendar
from hftcl.market.sources import BarSource
from hftcl.market.store import BarStore
from hftcl.market.window import find_as_of, open_market
from hftcl.model.context import attach_context
from hftcl.model.contributions import Explainers, find_explainers
from hftcl.model.feature import list_columns
from hftcl.model.feature_check import require_finite
from hftcl.model.features import build_matrix
from hftcl.model.inputs import Inputs
from hftcl.settings import Settings
from hftcl.strategy.positions import compute_signals

_LONGEST_BREAK: Final = timedelta(days=14)  # no exchange has rested longer between two sessions since 1914
_SIGNAL: Final = "_signal"  # a column that no feature of a user's can be called by
_SHOWN: Final = 5  # tickers in a line of text
_NOVEL: Final = "_novel"  # another
_PLACE: Final = "_place"  # a third
_PRICES: Final = ("open", "high", "low", "close", "volume")
_UNEXPLAINED: Final = (
    "the model's graph does not tell what each feature adds: it was written by an earlier hftcl, or is neither trees "
    "nor a weighted sum. A model that is trained now does, except of a stranger's family"
)
At = tuple[str, str] | None
"""Ticker and time of a bar; None: the newest bar of each ticker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Subject:
    """The model and the market that it is asked about."""

    settings: Settings
    model: Model
    explainers: Explainers
    known: FeatureSet
    source: BarSource
    calendar: Calendar


def explain(settings: Settings, model_id: str, at: At = None, *, now: datetime, on_event: OnEvent) -> ExplainReport:
    """Return what a model makes of one bar, or of the newest one of each ticker of the watchlist.

    at: a time is ISO 8601, by the exchange's clock where it names no offset; its minute is meant.
    Raises UsageError for a time that is none, lies in no session or has not come, ModelNotFoundError, and what
    `load_archived` and `BarStore.collect` raise; NoDataError where there is no such bar, FeatureError where a feature
    of the user's that the model reads is NaN there.
    """
    archive = ModelArchive(Home.of(settings).root)
    record = archive.find(model_id)
    source, calendar = open_market(settings)
    known = list_our_features(settings)
    model = load_archived(archive, record, replace(find_market_kind(settings), extended_hours=None), known)
    graph = artifact.read_graph(archive.locate_onnx(record.model_id))
    subject = _Subject(
        settings=settings,
        model=model,
        explainers=find_explainers(graph, model.meta.ticker_models),
        known=known,
        source=source,
        calendar=calendar,
    )
    asked = None if at is None else (at[0], _parse_time(at[1], calendar, now))
    known_until = find_as_of(source, calendar, settings, None, now).at if asked is None else asked[1]
    hours = _find_session(calendar, known_until, model.meta.extended_hours, exact=asked is not None)
    try:
        rows = _decide_session(subject, hours, None if asked is None else asked[0], now, on_event)
        chosen = _pick_rows(rows, asked, hours, settings.market.watchlist)
    except NoDataError:
        if asked is not None:
            _require_reached(subject.source, *asked, now)
        raise
    on_event(Event("explain", 0, 1))
    report = _build_report(subject, chosen, asked)
    on_event(Event("explain", 1, 1))
    return report


def _parse_time(text: str, calendar: Calendar, now: datetime) -> datetime:
    """Return the start of the minute, UTC. Raises UsageError."""
    try:
        at = datetime.fromisoformat(text)
        known = (at if at.tzinfo else at.replace(tzinfo=ZoneInfo(calendar.zone))).astimezone(UTC)
    except (ValueError, OverflowError):
        raise UsageError(
            f"--at: {text[:60]!r} is no time. Give ISO 8601 such as 2026-01-07T10:30, by the clock of {calendar.zone}, "
            "or with an offset such as 2026-01-07T15:30Z."
        ) from None
    if known + MINUTE > now:
        raise UsageError(f"--at: the minute {text} is not over. Give one before {format_moment(now)} UTC.")
    return known.replace(second=0, microsecond=0)


def _require_reached(source: BarSource, ticker: str, ts: datetime, now: datetime) -> None:
    """Raise NoDataError where the ticker's bars end before the minute `ts`; one that has none at all is told later."""
    ended = source.known_until((ticker,), now)
    if ended is not None and ended <= ts:
        raise NoDataError(
            f"The bars of {ticker} in the source {source.name!r} end at {format_moment(ended)} UTC, before "
            f"{format_moment(ts)} UTC. Ask about a minute before that."
        )


def _find_session(calendar: Calendar, at: datetime, extended_hours: bool, *, exact: bool) -> Hours:
    """Return the session of the moment `at`, or, where it need not be exact, the last one that had begun."""
    last = min(at.date() + timedelta(days=1), calendar.reach[1])  # far in the East it begins on the UTC day before
    days = calendar.list_sessions(max(calendar.reach[0], at.date() - _LONGEST_BREAK), last)["session"].to_list()
    sessions = [find_hours(calendar, day, extended_hours=extended_hours) for day in days[-3 if exact else -20 :]]
    begun = [hours for hours in sessions if (hours.begins <= at if exact else hours.begins < at)]
    if not begun or (exact and at >= begun[-1].ends):
        zone = ZoneInfo(calendar.zone)
        nearest = begun[-1] if begun else sessions[0]
        raise UsageError(
            f"--at: {format_moment(at.astimezone(zone))} lies in no session of {calendar.name}. The one of "
            f"{nearest.session} is from {format_clock(nearest.begins.astimezone(zone))} to "
            f"{format_clock(nearest.ends.astimezone(zone))} by the clock of {calendar.zone}."
        )
    return begun[-1]


def _decide_session(
    subject: _Subject, hours: Hours, ticker: str | None, now: datetime, on_event: OnEvent
) -> pl.DataFrame:
    """Return the session's bars with features, prediction, signal and position, as exam and bot have them."""
    settings, meta = subject.settings, subject.model.meta
    watchlist = settings.market.watchlist
    context = settings.market.context
    if ticker in context:
        raise UsageError(
            f"{ticker} is a context ticker, which features read and no model decides on. {_name_watchlist(watchlist)}"
        )
    tickers = watchlist if ticker is None or ticker in watchlist else (*watchlist, ticker)
    collected = BarStore(Home.of(settings).bars, subject.source, subject.calendar).collect(
        tickers,
        find_warm_up(subject.calendar, hours.session),
        hours.session,
        as_of=now,
        extended_hours=meta.extended_hours,
        context=context,
        min_coverage=0.0,  # what is asked about is looked at, however little there is of it
        save=False,
        on_event=on_event,
    )
    table = subject.known.table
    bars = attach_context(collected.bars, list_columns(table), context, collected.jumps)
    frame = add_features(bars, meta.horizon_minutes, collected.jumps, table=table)
    rows = frame.filter(pl.col("session") == hours.session)
    require_finite(subject.known.narrow(meta.feature_names).own, rows)
    predicted, predictions, novel = predict_bars(subject.model, rows)
    positions = decide_positions(subject.model, rows, predicted, watchlist=watchlist)
    signals = compute_signals(predicted, threshold=meta.threshold, side=meta.side)
    told = _spread_predictions(rows, meta.inputs, predictions, novel)
    return rows.with_columns(*told, signals.alias(_SIGNAL), positions["position"])


def _name_watchlist(watchlist: Sequence[str]) -> str:
    return f"Ask about one of [market] watchlist: {name_some(watchlist, _SHOWN)}."


def _spread_predictions(
    rows: pl.DataFrame, inputs: Inputs, predictions: npt.NDArray[np.float32], novel: npt.NDArray[np.bool_]
) -> list[pl.Series]:
    """Return the prediction of each row, null where a feature is not known, and whether it is too far for a signal."""
    known = rows.select(inputs.is_known()).to_series().to_numpy()
    values, far = np.full(rows.height, np.nan, dtype=np.float32), np.zeros(rows.height, dtype=np.bool_)
    values[known], far[known] = predictions, novel
    return [pl.Series("prediction", values, nan_to_null=True), pl.Series(_NOVEL, far)]


def _pick_rows(
    rows: pl.DataFrame, asked: tuple[str, datetime] | None, hours: Hours, watchlist: Sequence[str]
) -> pl.DataFrame:
    if asked is None:
        return rows.group_by("ticker", maintain_order=True).last().select(rows.columns)
    ticker, ts = asked
    of_ticker = rows.filter(pl.col("ticker") == ticker)
    chosen = of_ticker.filter(pl.col("ts") == ts)
    if of_ticker.is_empty() and ticker not in watchlist:
        raise NoDataError(
            f"{ticker} has no bar in the session of {hours.session}, and is not in [market] watchlist. "
            f"{_name_watchlist(watchlist)}"
        )
    if chosen.is_empty():
        before = of_ticker.filter(pl.col("ts") < ts)
        near = (
            f"The last one before it began at {format_clock(before['ts'][-1])} UTC"
            if before.height
            else f"It has none before in the session of {hours.session}"
        )
        raise NoDataError(f"{ticker} has no bar at {format_moment(ts)} UTC: a minute without a trade has none. {near}.")
    return chosen


def _build_report(subject: _Subject, chosen: pl.DataFrame, asked: tuple[str, datetime] | None) -> ExplainReport:
    meta = subject.model.meta
    explained = _explain_rows(subject, chosen)
    told = _read_ledger(subject.settings, chosen)
    rows = tuple(
        _build_row(subject, row, explained.get(place), told.get((row["ticker"], row["ts"]), (None, None)))
        for place, row in enumerate(chosen.iter_rows(named=True))
    )
    wanted = subject.settings.market.watchlist if asked is None else (asked[0],)
    return ExplainReport(
        model_id=meta.model_id,
        family=meta.family,
        threshold=meta.threshold,
        idle=meta.idle or None,
        horizon_minutes=meta.horizon_minutes,
        trained_from=meta.trained_from,
        trained_to=meta.trained_to,
        rows=rows,
        lacking=tuple(sorted(set(wanted) - set(chosen["ticker"]))),
        unexplained=None if subject.explainers.complete else _UNEXPLAINED,
        zone=subject.calendar.zone,
        source=subject.source.name,
        synthetic=subject.source.synthetic,
    )


def _explain_rows(subject: _Subject, chosen: pl.DataFrame) -> dict[int, tuple[float, npt.NDArray[np.float64]]]:
    """Return base and contributions by the place of a row, of those that have a prediction."""
    explained: dict[int, tuple[float, npt.NDArray[np.float64]]] = {}
    predicted = chosen.with_row_index(_PLACE).filter(pl.col("prediction").is_not_null())
    for explainer, tickers in subject.explainers.group(predicted["ticker"].unique(maintain_order=True).to_list()):
        rows = predicted.filter(pl.col("ticker").is_in(tickers))
        answer = explainer.explain(build_matrix(rows, subject.model.meta.feature_names))
        explained |= {place: (answer.base, values) for place, values in zip(rows[_PLACE], answer.values, strict=True)}
    return explained


def _build_row(
    subject: _Subject,
    row: Mapping[str, Any],
    explained: tuple[float, Any] | None,
    told: tuple[DecidedReport | None, DecidedOrderReport | None],
) -> ExplainRow:
    meta = subject.model.meta
    names, bins = meta.feature_names, meta.feature_bins or (None,) * len(meta.feature_names)
    values: dict[str, float | None] = {name: _read_known(row[name]) for name in names}
    places = {
        name: None if one is None or values[name] is None else locate(one, float(row[name]))
        for name, one in zip(names, bins, strict=True)
    }
    decided, order = told
    return ExplainRow(
        ticker=row["ticker"],
        ts=row["ts"],
        session=row["session"],
        bar={name: float(row[name]) for name in _PRICES},
        features=values,
        quantiles=places,
        prediction=_read_known(row["prediction"]),
        base=None if explained is None else explained[0],
        contributions=None if explained is None else dict(zip(names, map(float, explained[1]), strict=True)),
        novel=row[_NOVEL],
        signal=int(row[_SIGNAL]),
        target=float(row["position"]),
        code=None if decided is None else decided.code,
        decided=decided,
        order=order,
    )


def _read_known(value: float | None) -> float | None:
    """Return a number of polars or of the ledger, where what is not known may be null or NaN."""
    return None if value is None or math.isnan(value) else float(value)


Told = dict[tuple[str, datetime], tuple[DecidedReport | None, DecidedOrderReport | None]]


def _read_ledger(settings: Settings, chosen: pl.DataFrame) -> Told:
    """Return by ticker and bar what the bot decided and ordered; nothing where there is no ledger."""
    path = Home.of(settings).ledger
    if chosen.is_empty() or not path.exists():
        return {}
    first, last = chosen["ts"].min(), chosen["ts"].max()
    with LedgerReader(path) as ledger:
        decisions = ledger.read_decisions("production", first, last)  # type: ignore[arg-type]
        orders = ledger.read_orders("production", first, last)  # type: ignore[arg-type]
    sent = {
        (row["ticker"], row["ts"]): DecidedOrderReport(
            quantity=_read_known(row["quantity"]),
            reference_price=_read_known(row["reference_price"]),
            state=row["state"],
            code=row["code"],
            reason=row["reason"],
        )
        for row in orders.iter_rows(named=True)
    }
    return {
        (row["ticker"], row["ts"]): (
            DecidedReport(
                model_id=row["model_id"],
                prediction=_read_known(row["prediction"]),
                target=_read_known(row["target"]),
                code=row["code"],
                decided_at=row["decided_at"],
            ),
            sent.get((row["ticker"], row["ts"])),
        )
        for row in decisions.iter_rows(named=True)
    }
