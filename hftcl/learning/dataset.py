"""From bars to rows that a model learns from and is examined on: collect, features, target, in one frame.

Knows what "now" means for a source: after `as_of`, no bar is known.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING

import polars as pl

from hftcl.archive.artifact import FeatureSet, our_features
from hftcl.events import Event, Level, OnEvent, Stopwatch
from hftcl.formats import count
from hftcl.home import Home
from hftcl.market.bars import Finding
from hftcl.market.received import TickerCoverage
from hftcl.market.sessions import Calendar, HorizonError
from hftcl.market.sources import BarSource
from hftcl.market.store import BarStore, Collected
from hftcl.market.window import AsOf, find_as_of, list_window, open_market
from hftcl.model.feature_check import require_sound, require_values
from hftcl.model.features import FEATURES, WARMUP_SESSIONS, Feature, evaluate, features
from hftcl.model.grid import build_grid
from hftcl.model.target import evaluate_target, targets
from hftcl.settings import Settings

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """The window's bars with features, target and label_end: one row a bar, sorted by ticker and ts.

    Columns: `market.bars.BAR_SCHEMA`, the features (Float32), target (Float32), label_end (UTC); null where undefined.
    jumps: unannounced splits, one a ticker and night; the rows before one are left out unless the window keeps them.
    features: those whose values these are; a file of the user's that is changed later is not what they came from.
    """

    frame: pl.DataFrame
    sessions: tuple[date, ...]
    tickers: tuple[str, ...]
    findings: tuple[Finding, ...]
    left_out: dict[str, str]
    source: str
    synthetic: bool
    as_of: AsOf
    features: FeatureSet
    coverage: tuple[TickerCoverage, ...] = ()
    jumps: tuple[Finding, ...] = ()


@dataclass(slots=True, kw_only=True)
class Window:
    """The market, opened once for a command: bars are collected once and rows computed once.

    save: keep the bars that the cache lacks. What failed is tried again when it is asked for again. keep_past: the rows
    before an unannounced split stay, and no feature reads across it: for a span of which many windows are cut.
    """

    settings: Settings
    source: BarSource
    calendar: Calendar
    known_end: AsOf
    save: bool
    keep_past: bool = False
    on_event: OnEvent
    watch: Stopwatch = field(default_factory=Stopwatch)
    _collected: Collected | None = field(default=None, repr=False)
    _dataset: Dataset | None = field(default=None, repr=False)

    def list_days(self) -> tuple[date, ...]:
        """Return the sessions of the window, oldest first."""
        return list_window(self.calendar, self.settings, self.known_end)

    def read_coverage(self) -> tuple[TickerCoverage, ...]:
        """Return what came of what was expected, by ticker; computes no row. Raises as `BarStore.collect`."""
        return self._dataset.coverage if self._dataset else self._collect().coverage

    def assemble(self) -> Dataset:
        """Return the window's bars with features and target. Raises as `BarStore.collect`."""
        if self._dataset is None:
            self._dataset = self._build(self._collect())
            self._collected = None  # the rows hold the bars from here on
        return self._dataset

    def _collect(self) -> Collected:
        """Return the bars of the window, and of the sessions before it that features read."""
        if self._collected is None:
            days, market = self.list_days(), self.settings.market
            with self.watch("collect"):
                self._collected = BarStore(Home.of(self.settings).bars, self.source, self.calendar).collect(
                    market.watchlist,
                    find_warm_up(self.calendar, days[0]),
                    days[-1],
                    as_of=self.known_end.at,
                    extended_hours=market.extended_hours,
                    min_coverage=market.min_coverage,
                    save=self.save,
                    keep_past=self.keep_past,
                    on_event=self.on_event,
                )
            self._ask_about_whole_prices(self._collected.findings)
        return self._collected

    def _ask_about_whole_prices(self, findings: Sequence[Finding]) -> None:
        """Ask once, for a folder in cents is so in every ticker."""
        whole = [finding for finding in findings if finding.reason == "whole_prices"]
        if whole:
            more = f" and {count(len(whole) - 1, 'more ticker')}" if len(whole) > 1 else ""
            self.on_event(Event("collect", text=f"{whole[0].ticker}{more}: {whole[0].detail}", level=Level.WARNING))

    def _build(self, collected: Collected) -> Dataset:
        for doubt in (finding for finding in collected.findings if finding.reason == "label"):
            text = f"LOOK-AHEAD? {doubt.ticker}: {doubt.detail}"
            self.on_event(Event("collect", text=text, level=Level.WARNING))
        for jump in () if self.keep_past else collected.jumps:
            text = (
                f"{jump.ticker}: {jump.detail}, near the ratio of a split that the source does not announce; its "
                f"{jump.count:,} bars before that night are left out"
            )
            self.on_event(Event("collect", text=text, level=Level.WARNING))
        for ticker, why in collected.left_out.items():
            self.on_event(Event("collect", text=f"{ticker} is left out: {why}", level=Level.WARNING))
        days = self.list_days()
        described, horizon = our_features(self.settings), self.settings.model.horizon_minutes
        with self.watch("features"):
            self.on_event(Event("features", 0, 1))
            require_sound(described.own, collected.bars)
            frame = add_features(collected.bars, horizon, collected.jumps, table=described.table)
            frame = frame.filter(pl.col("session").is_between(days[0], days[-1]))
            require_values(described.own, frame)
            self.on_event(Event("features", 1, 1))
        return Dataset(
            frame=frame,
            sessions=days,
            tickers=tuple(frame["ticker"].unique().sort().to_list()),
            findings=collected.findings,
            left_out=dict(collected.left_out),
            source=collected.source,
            synthetic=collected.synthetic,
            as_of=self.known_end,
            features=described,
            coverage=collected.coverage,
            jumps=collected.jumps,
        )


def open_window(
    settings: Settings,
    *,
    as_of: str | None,
    now: datetime,
    save: bool,
    on_event: OnEvent,
    watch: Stopwatch | None = None,
) -> Window:
    """Open the configured market up to `as_of`, see `find_as_of`, as what this raises. Reads no bar yet."""
    source, calendar = open_market(settings)
    known_end = find_as_of(source, calendar, settings, as_of, now)
    return Window(
        settings=settings,
        source=source,
        calendar=calendar,
        known_end=known_end,
        save=save,
        on_event=on_event,
        watch=watch or Stopwatch(),
    )


def add_features(
    bars: pl.DataFrame,
    horizon_minutes: int,
    jumps: Sequence[Finding] = (),
    *,
    table: tuple[Feature, ...] = FEATURES,
) -> pl.DataFrame:
    """Return `bars` with the features, the target and label_end beside them, row for row.

    table: the features. jumps: nights that no feature reads across: what lies before and after one is as of two
    tickers.
    """
    if bars.is_empty():
        return pl.concat([bars, features(bars, table), targets(bars, horizon_minutes)], how="horizontal")
    grid = build_grid(_name_parts(bars, jumps))  # a target reads one session, so the name of its ticker is all the same
    columns = evaluate(grid, table), evaluate_target(grid, horizon_minutes)
    return pl.concat([bars, *columns], how="horizontal")


def _name_parts(bars: pl.DataFrame, jumps: Sequence[Finding]) -> pl.DataFrame:
    later = pl.sum_horizontal(
        pl.lit(0),
        *((pl.col("ticker") == jump.ticker) & (pl.col("session") < jump.session) for jump in jumps),
    )
    # a zero byte: a ticker has none, and the parts keep the ticker's place among the others
    name = pl.when(later > 0).then(pl.format("{}\0{}", "ticker", later)).otherwise("ticker")
    return bars.with_columns(name.alias("ticker")) if jumps else bars


def find_warm_up(calendar: Calendar, first: date) -> date:
    """Return the session from which on features must be given bars to be known in session `first`."""
    try:
        return calendar.find_previous_session(first, WARMUP_SESSIONS)
    except HorizonError:
        return first  # the exchange's first sessions: features that read earlier ones are null there


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
