"""The bars and sessions of a replay: the very bars of the exam of the same span."""

from dataclasses import dataclass
from datetime import date, datetime

import polars as pl

from hftcl.archive.artifact import FeatureSet
from hftcl.archive.fitness import find_first_unseen
from hftcl.errors import NoDataError, UsageError
from hftcl.events import Event, Level, OnEvent
from hftcl.home import Home
from hftcl.market.bars import Finding
from hftcl.market.sessions import Calendar, HorizonError
from hftcl.market.sources import BarSource
from hftcl.market.store import BarStore
from hftcl.market.window import list_asked_sessions
from hftcl.model.context import attach_context
from hftcl.model.feature import list_columns
from hftcl.model.features import WARMUP_SESSIONS
from hftcl.settings import Settings
from hftcl.trading.decide.model_in_use import ModelInUse
from hftcl.trading.run import STAGE


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayWindow:
    """The bars of a replay, those that features read before them included, and the sessions that are played."""

    bars: pl.DataFrame
    days: tuple[date, ...]
    tickers: tuple[str, ...]
    left_out: dict[str, str]
    context_left_out: dict[str, str]
    findings: tuple[Finding, ...]


def parse_span(text: str) -> tuple[date, date]:
    """Return both ends of "2025-06-02..2025-06-06"; one date alone is a span of one day. Raises UsageError."""
    begin, _, end = text.partition("..")
    try:
        first, last = date.fromisoformat(begin), date.fromisoformat(end or begin)
    except ValueError:
        raise UsageError(f"--replay {text!r} is no span of days. Give one such as 2025-06-02..2025-06-06.") from None
    if first > last:
        raise UsageError(f"--replay {text}: {first} is after {last}. Exchange them.")
    return first, last


def collect_window(
    settings: Settings,
    in_use: ModelInUse,
    source: BarSource,
    calendar: Calendar,
    first: date,
    last: date,
    now: datetime,
    on_event: OnEvent,
    features: FeatureSet,
) -> ReplayWindow:
    """Collect the very bars that `exam --from first --to last` collects: same window, same end of what is known."""
    known_until = source.known_until(settings.market.watchlist, now)
    whole = None if known_until is None else calendar.find_last_complete(min(known_until, now))
    if whole is None or whole < first:
        extent = "has no bars" if whole is None else f"has none after {whole}"
        raise NoDataError(f"No session from {first} to {last} can be replayed: the source {source.name!r} {extent}.")
    if whole < last:
        on_event(Event(STAGE, text=f"the bars end on {whole}, before {last}; so does the replay", level=Level.WARNING))
    table = list_asked_sessions(calendar, first, min(last, whole))
    days = tuple(table["session"].to_list())
    try:
        warm_up = calendar.find_previous_session(days[0], WARMUP_SESSIONS)
    except HorizonError:
        warm_up = days[0]
    collection = BarStore(Home.of(settings).bars, source, calendar).collect(
        settings.market.watchlist,
        warm_up,
        days[-1],
        as_of=table["close"][-1],
        extended_hours=in_use.model.meta.extended_hours,
        min_coverage=settings.market.min_coverage,
        context=settings.market.context,
        save=False,
        on_event=on_event,
    )
    bars = attach_context(collection.bars, list_columns(features.table), settings.market.context)
    played = bars.filter(pl.col("session") >= days[0])
    if played.is_empty():
        raise NoDataError(f"The source {source.name!r} has no bar of the watchlist from {first} to {last}.")
    return ReplayWindow(
        bars=bars,
        days=days,
        tickers=tuple(played["ticker"].unique().sort().to_list()),
        left_out=dict(collection.left_out),
        context_left_out=dict(collection.context_left_out),
        findings=collection.findings,
    )


def is_unseen(in_use: ModelInUse, calendar: Calendar, begin: date, embargo_sessions: int) -> bool:
    """Return whether the sessions from `begin` on lie behind all that the model was trained on, and the embargo."""
    try:
        return begin >= find_first_unseen(calendar, in_use.model.meta.label_end, embargo_sessions=embargo_sessions)
    except HorizonError:
        return False
