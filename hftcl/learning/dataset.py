"""From bars to rows that a model learns from and is examined on: collect, features, target, in one frame.

Knows what "now" means for a source: after `as_of`, no bar is known.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING

import polars as pl

from hftcl.archive.artifact import FeatureSet, list_our_features
from hftcl.compute import Engine
from hftcl.compute.crew import count_cores
from hftcl.events import Event, Level, OnEvent, Stopwatch
from hftcl.formats import count, describe_left_out
from hftcl.home import Home
from hftcl.learning.feature_tasks import STAGE, ClusterLooks, spreads_features
from hftcl.mapped import FrameFiles
from hftcl.market.bars import Finding
from hftcl.market.received import TickerCoverage
from hftcl.market.sessions import Calendar, HorizonError
from hftcl.market.sources import BarSource
from hftcl.market.splits import name_parts
from hftcl.market.store import BarStore, Collected
from hftcl.market.ticker_blocks import cut_runs
from hftcl.market.window import AsOf, find_as_of, list_window, open_market
from hftcl.model.by_ticker import add_features_by_ticker
from hftcl.model.context import attach_context
from hftcl.model.feature import Feature, list_columns
from hftcl.model.feature_check import require_sound, require_values
from hftcl.model.features import FEATURES, WARMUP_SESSIONS, evaluate, features
from hftcl.model.grid import build_grid
from hftcl.model.target import compute_targets, evaluate_target
from hftcl.settings import Settings

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """The window's bars with features, target and label_end: one row a bar, sorted by ticker and ts.

    Columns: `market.bars.BAR_SCHEMA`, those of `[market] columns` and context, the features (Float32), target
    (Float32), label_end (UTC); null where undefined.
    left_out: tickers of the watchlist, with the reason; context_left_out: context tickers.
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
    context_left_out: dict[str, str] = field(default_factory=dict)
    coverage: tuple[TickerCoverage, ...] = ()
    jumps: tuple[Finding, ...] = ()


@dataclass(slots=True, kw_only=True)
class Window:
    """The market, opened once for a command: bars are collected once and rows computed once.

    save: keep the bars that the cache lacks. What failed is tried again when it is asked for again. keep_past: the rows
    before an unannounced split stay, and no feature reads across it: for a span of which many windows are cut.
    features: what the command has read already; see `read_features`.
    """

    settings: Settings
    source: BarSource
    calendar: Calendar
    known_end: AsOf
    save: bool
    keep_past: bool = False
    on_event: OnEvent
    watch: Stopwatch = field(default_factory=Stopwatch)
    features: FeatureSet | None = field(default=None, repr=False)
    _collected: Collected | None = field(default=None, repr=False)
    _dataset: Dataset | None = field(default=None, repr=False)
    _doubts_told: bool = field(default=False, repr=False)

    def list_days(self) -> tuple[date, ...]:
        """Return the sessions of the window, oldest first."""
        return list_window(self.calendar, self.settings, self.known_end)

    def count_minutes(self) -> int:
        """Return how many minutes its sessions have, of all tickers together: it has no more rows. Collects nothing."""
        days = self.list_days()
        begin, end = ("extended_open", "extended_close") if self.settings.market.extended_hours else ("open", "close")
        length = (pl.col(end) - pl.col(begin)).dt.total_minutes().sum()
        minutes: int = self.calendar.list_sessions(days[0], days[-1]).select(length).item()
        return len(self.settings.market.watchlist) * minutes

    def read_features(self) -> FeatureSet:
        """Return the features in force; the files that they stand in are read once a window.

        A file that is edited meanwhile is then not in force in one half of a command and another one in the other.
        Raises ConfigError, StorageError.
        """
        if self.features is None:
            self.features = list_our_features(self.settings)
        return self.features

    def read_coverage(self) -> tuple[TickerCoverage, ...]:
        """Return what came of what was expected, by ticker; computes no row. Raises as `BarStore.collect`."""
        return self._dataset.coverage if self._dataset else self._collect().coverage

    def read_bars(self) -> Collected:
        """Return the bars of the window and of the sessions before it that features read; computes no row.

        What is doubtful about them is told, as `assemble` does. Raises as `BarStore.collect`.
        """
        collected = self._collect()
        self._tell_doubts(collected)
        return collected

    def assemble(self, engine: Engine | None = None) -> Dataset:
        """Return the window's bars with features and target. Raises as `BarStore.collect`.

        engine: whose cluster computes what `spreads_features` says; what its tasks raise is raised here.
        """
        if self._dataset is None:
            self._dataset = self._build(self.read_bars(), engine)
            self._collected = None  # the rows hold the bars from here on
        return self._dataset

    def assemble_bars(self) -> Dataset:
        """Return what `assemble` does, its rows the bars alone: no feature and no target is computed.

        Raises as `BarStore.collect`.
        """
        collected = self.read_bars()
        kept = (collected.bars["session"] >= self.list_days()[0]).to_numpy()
        # in one piece, for where its pieces end changes the sum of a column
        bars = FrameFiles().put(collected.bars.clear(), *cut_runs(collected.bars, kept))
        return self._describe(collected, bars)

    @property
    def divisible(self) -> bool:
        """Whether the rows of some sessions can be computed without those of the others; see `compute_rows`.

        A feature of the user's is judged by all its values, and what it reads of context tickers reaches further back.
        """
        return not self.settings.market.context and not any(one.source for one in self.read_features().table)

    def compute_rows(self, since: date) -> pl.DataFrame:
        """Return the rows of `assemble` from session `since` on, to the bit, and compute no others.

        Only where `divisible`. Raises as `BarStore.collect`.
        """
        bars, days = self.read_bars().bars, self.list_days()
        before = bars.filter(pl.col("session") < since)["session"].unique().sort()
        first = before.tail(WARMUP_SESSIONS).min() or since
        return self._add_features(self.read_bars(), bars.filter(pl.col("session") >= first), max(since, days[0]))

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
                    context=market.context,
                    save=self.save,
                    keep_past=self.keep_past,
                    mapped=True,
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

    def _tell_doubts(self, collected: Collected) -> None:
        """Tell once a window what is doubtful about its bars, and which tickers are left out."""
        if self._doubts_told:
            return
        self._doubts_told = True
        for doubt in (finding for finding in collected.findings if finding.reason == "label"):
            text = f"LOOK-AHEAD? {doubt.ticker}: {doubt.detail}"
            self.on_event(Event("collect", text=text, level=Level.WARNING))
        for jump in () if self.keep_past else collected.jumps:
            text = (
                f"{jump.ticker}: {jump.detail}, near the ratio of a split that the source does not announce; its "
                f"{jump.count:,} bars before that night are left out"
            )
            self.on_event(Event("collect", text=text, level=Level.WARNING))
        for text in describe_left_out(collected.left_out, collected.context_left_out):
            self.on_event(Event("collect", text=text, level=Level.WARNING))

    def _add_features(
        self, collected: Collected, bars: pl.DataFrame, since: date, engine: Engine | None = None
    ) -> pl.DataFrame:
        """Return the rows of the sessions from `since` on. bars: those of `collected`, or enough of them."""
        described, market = self.read_features(), self.settings.market
        with self.watch("features"):
            bars = attach_context(
                bars,
                list_columns(described.table),
                market.context,
                collected.jumps,
                traded=market.watchlist,
            )
            require_sound(described.own, bars)
            frame = add_features_by_ticker(
                bars,
                self.settings.model.target_minutes,
                jumps=collected.jumps,
                table=described.table,
                own=described.own,
                since=since,
                jobs=count_cores(self.settings),
                on_block=lambda done, total: self.on_event(Event(STAGE, done, total)),
                elsewhere=self._choose_looks(bars, since, engine),
            )
            require_values(described.own, frame)
        return frame

    def _choose_looks(self, bars: pl.DataFrame, since: date, engine: Engine | None) -> ClusterLooks | None:
        """Return the cluster's, where it is to compute features."""
        answers = int((bars["session"] >= since).sum())
        if engine is None or not spreads_features(self.settings, self.read_features().table, answers):
            return None
        return ClusterLooks(engine, self.on_event)

    def _build(self, collected: Collected, engine: Engine | None) -> Dataset:
        return self._describe(collected, self._add_features(collected, collected.bars, self.list_days()[0], engine))

    def _describe(self, collected: Collected, frame: pl.DataFrame) -> Dataset:
        return Dataset(
            frame=frame,
            sessions=self.list_days(),
            tickers=tuple(frame["ticker"].unique().sort().to_list()),
            findings=collected.findings,
            left_out=dict(collected.left_out),
            context_left_out=dict(collected.context_left_out),
            source=collected.source,
            synthetic=collected.synthetic,
            as_of=self.known_end,
            features=self.read_features(),
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
        return pl.concat([bars, features(bars, table), compute_targets(bars, horizon_minutes)], how="horizontal")
    # a target reads one session, so the name of its ticker is all the same
    grid = build_grid(name_parts(bars, jumps), list_columns(table))
    columns = evaluate(grid, table), evaluate_target(grid, horizon_minutes)
    return pl.concat([bars, *columns], how="horizontal")


def find_warm_up(calendar: Calendar, first: date) -> date:
    """Return the session from which on features must be given bars to be known in session `first`."""
    try:
        return calendar.find_previous_session(first, WARMUP_SESSIONS)
    except HorizonError:
        return first  # the exchange's first sessions: features that read earlier ones are null there


def to_pandas(frame: pl.DataFrame) -> "pd.DataFrame":
    """Return the frame for a researcher: NaN where a feature or the target is not known."""
    import pandas as pd

    # Column by column: polars' own conversion makes a time of each date.
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
