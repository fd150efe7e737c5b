"""From bars to rows that a model learns from and is examined on: collect, features, target, in one frame.

Called by the stories of `loop`. Knows what "now" means for a source: after `as_of`, no bar is known.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from hftcl.errors import NoDataError, UsageError
from hftcl.events import Event, Level, OnEvent
from hftcl.learning.timing import Stopwatch
from hftcl.market.bars import Finding
from hftcl.market.sessions import Calendar, HorizonError
from hftcl.market.sources import BarSource, find_source
from hftcl.market.store import BarStore
from hftcl.model.features import FEATURE_NAMES, WARMUP_SESSIONS, features
from hftcl.model.target import targets
from hftcl.settings import Settings

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True)
class AsOf:
    """The end of what is known: no bar after `at` (UTC) exists for the program. `note` says where that came from."""

    at: datetime
    note: str
    explicit: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """The window's bars with features, target and label_end: one row a bar, sorted by ticker and ts.

    Columns: `market.bars.BAR_SCHEMA`, the features (Float32), target (Float32), label_end (UTC); null where undefined.
    """

    frame: pl.DataFrame
    sessions: tuple[date, ...]
    tickers: tuple[str, ...]
    findings: tuple[Finding, ...]
    left_out: dict[str, str]
    source: str
    synthetic: bool
    as_of: AsOf


def find_as_of(source: BarSource, calendar: Calendar, settings: Settings, as_of: str | None, now: datetime) -> AsOf:
    """Return the end of what is known: what the caller said, else the last complete session that the source has.

    as_of: ISO 8601 with time (UTC where it names no zone), or a date, which means the close of its session or, on a
        day without one, of the last before. A live source knows everything up to `now`.
    Raises UsageError for a text that is neither, and NoDataError where the source has no bar at all.
    """
    if as_of is not None:
        return AsOf(at=_parse_as_of(as_of, calendar), note="as asked", explicit=True)
    known = source.known_until(settings.market.watchlist, now)
    if known is None:
        raise NoDataError(
            f"The source {source.name!r} has no bar of {', '.join(settings.market.watchlist)}. "
            f"Check [market] watchlist and the section [{source.name}] of the configuration."
        )
    last = calendar.last_complete(min(known, now))
    closed = _close(calendar, last)
    if known >= now and not source.synthetic:
        return AsOf(at=now, note="now", explicit=False)
    return AsOf(at=closed, note=f"the last complete session, {last}", explicit=False)


def _parse_as_of(text: str, calendar: Calendar) -> datetime:
    try:
        if len(text) == len("2026-01-31"):
            day = date.fromisoformat(text)
            end = datetime.combine(day + timedelta(days=1), time(), UTC)
            return _close(calendar, calendar.last_complete(end))
        at = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"--as-of {text!r} is no time. Give a date such as 2026-01-31, or ISO 8601 such as 2026-01-31T21:00:00Z."
        ) from None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def parse_day(option: str, text: date | str) -> date:
    """Return the date that `option` was given. Raises UsageError for a text that is none."""
    try:
        return date.fromisoformat(text) if isinstance(text, str) else text
    except ValueError:
        raise UsageError(f"{option} {text!r} is no date. Give one such as 2026-01-31.") from None


def known_up_to(
    source: BarSource, calendar: Calendar, settings: Settings, begin: date, end: date, now: datetime
) -> AsOf:
    """Return the close of the last session up to `end` that the source has: no later bar exists for the caller.

    `explicit` is False where the bars end before `end`. Raises NoDataError where they end before `begin`.
    """
    asked = find_as_of(source, calendar, settings, end.isoformat(), now)
    there = find_as_of(source, calendar, settings, None, now)
    last = calendar.last_complete(min(asked.at, there.at))
    if last < begin:
        raise NoDataError(
            f"No session from {begin} to {end} is complete in the bars of {source.name!r}; the last one that is ended "
            f"on {calendar.last_complete(there.at)}. Ask for other dates."
        )
    whole = there.at >= asked.at
    return AsOf(at=_close(calendar, last), note="as asked" if whole else f"the bars end on {last}", explicit=whole)


def _close(calendar: Calendar, session: date) -> datetime:
    close: datetime = calendar.sessions(session, session)["close"][0]
    return close


def open_market(settings: Settings) -> tuple[BarSource, Calendar]:
    """Return the configured source and calendar."""
    return find_source(settings.market.source)(settings), Calendar(settings.market.calendar)


def window(calendar: Calendar, settings: Settings, as_of: AsOf) -> tuple[date, ...]:
    """Return the complete sessions of the last `[market] lookback_days` calendar days before `as_of`."""
    last = calendar.last_complete(as_of.at)
    first = last - timedelta(days=settings.market.lookback_days - 1)
    return tuple(calendar.sessions(first, last)["session"].to_list())


def assemble(
    settings: Settings,
    source: BarSource,
    calendar: Calendar,
    as_of: AsOf,
    *,
    save: bool,
    on_event: OnEvent,
    watch: Stopwatch,
) -> Dataset:
    """Collect the window's bars, with the sessions before it that features read, and compute features and target."""
    days = window(calendar, settings, as_of)
    store = BarStore(Path(settings.paths.home) / "bars", source, calendar)
    with watch("collect"):
        collected = store.collect(
            settings.market.watchlist,
            _warm_up(calendar, days[0]),
            days[-1],
            as_of=as_of.at,
            extended_hours=settings.market.extended_hours,
            min_coverage=settings.market.min_coverage,
            save=save,
            on_event=on_event,
        )
    for doubt in (finding for finding in collected.findings if finding.reason == "label"):
        on_event(Event("collect", text=f"LOOK-AHEAD? {doubt.ticker}: {doubt.detail}", level=Level.WARNING))
    with watch("features"):
        on_event(Event("features", 0, 1))
        frame = with_features(collected.bars, settings.model.horizon_minutes)
        frame = frame.filter(pl.col("session").is_between(days[0], days[-1]))
        on_event(Event("features", 1, 1))
    return Dataset(
        frame=frame,
        sessions=days,
        tickers=tuple(frame["ticker"].unique().sort().to_list()),
        findings=collected.findings,
        left_out=dict(collected.left_out),
        source=collected.source,
        synthetic=collected.synthetic,
        as_of=as_of,
    )


def with_features(bars: pl.DataFrame, horizon_minutes: int) -> pl.DataFrame:
    """Return `bars` with the features, the target and label_end beside them, row for row."""
    return pl.concat([bars, features(bars), targets(bars, horizon_minutes)], how="horizontal")


def _warm_up(calendar: Calendar, first: date) -> date:
    try:
        return calendar.previous_session(first, WARMUP_SESSIONS)
    except HorizonError:
        return first  # the exchange's first sessions: features that read earlier ones are null there


def ready() -> pl.Expr:
    """Whether every feature of a row is known: only there a model is trained or decides."""
    return pl.all_horizontal(pl.col(name).is_not_null() for name in FEATURE_NAMES)


def to_pandas(frame: pl.DataFrame) -> "pd.DataFrame":
    """Return the frame for a researcher: NaN where a feature or the target is not known."""
    import pandas as pd

    # Column by column through numpy: polars' own conversion asks for pyarrow, which nothing else here needs.
    columns = {}
    for name, dtype in frame.schema.items():
        values = frame[name]
        if dtype == pl.Datetime("us", "UTC"):
            columns[name] = pd.Series(pd.DatetimeIndex(values.dt.replace_time_zone(None).to_numpy()).tz_localize("UTC"))
        elif dtype == pl.Date:
            columns[name] = pd.Series(values.to_list(), dtype=object)
        elif dtype == pl.String:
            columns[name] = pd.Series(values.to_list(), dtype="str")
        else:
            columns[name] = pd.Series(values.to_numpy())
    return pd.DataFrame(columns)
