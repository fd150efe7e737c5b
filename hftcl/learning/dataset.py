"""From bars to rows that a model learns from and is examined on: collect, features, target, in one frame.

Knows what "now" means for a source: after `as_of`, no bar is known.
"""

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import polars as pl

from hftcl.events import Event, Level, OnEvent, Stopwatch
from hftcl.home import Home
from hftcl.market.bars import Finding
from hftcl.market.received import TickerCoverage
from hftcl.market.sessions import Calendar, HorizonError
from hftcl.market.sources import BarSource
from hftcl.market.store import BarStore, Collected
from hftcl.market.window import AsOf, list_window
from hftcl.model.features import FEATURE_NAMES, WARMUP_SESSIONS, features
from hftcl.model.target import targets
from hftcl.settings import Settings

if TYPE_CHECKING:
    import pandas as pd


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
    coverage: tuple[TickerCoverage, ...] = ()


def collect_window(
    settings: Settings,
    source: BarSource,
    calendar: Calendar,
    days: tuple[date, ...],
    as_of: AsOf,
    *,
    save: bool,
    on_event: OnEvent,
) -> Collected:
    """Collect the bars of `days` and of the sessions before them that features read. Raises as `BarStore.collect`."""
    return BarStore(Home.of(settings).bars, source, calendar).collect(
        settings.market.watchlist,
        _find_warm_up(calendar, days[0]),
        days[-1],
        as_of=as_of.at,
        extended_hours=settings.market.extended_hours,
        min_coverage=settings.market.min_coverage,
        save=save,
        on_event=on_event,
    )


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
    days = list_window(calendar, settings, as_of)
    with watch("collect"):
        collected = collect_window(settings, source, calendar, days, as_of, save=save, on_event=on_event)
    for doubt in (finding for finding in collected.findings if finding.reason == "label"):
        on_event(Event("collect", text=f"LOOK-AHEAD? {doubt.ticker}: {doubt.detail}", level=Level.WARNING))
    with watch("features"):
        on_event(Event("features", 0, 1))
        frame = add_features(collected.bars, settings.model.horizon_minutes)
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
        coverage=collected.coverage,
    )


def add_features(bars: pl.DataFrame, horizon_minutes: int) -> pl.DataFrame:
    """Return `bars` with the features, the target and label_end beside them, row for row."""
    return pl.concat([bars, features(bars), targets(bars, horizon_minutes)], how="horizontal")


def _find_warm_up(calendar: Calendar, first: date) -> date:
    try:
        return calendar.find_previous_session(first, WARMUP_SESSIONS)
    except HorizonError:
        return first  # the exchange's first sessions: features that read earlier ones are null there


def is_ready() -> pl.Expr:
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
