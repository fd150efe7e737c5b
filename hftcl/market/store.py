"""The cache of bars: fetches what is missing, keeps it so that a kill or a flipped bit cannot hurt, gives out a window.

One file per ticker and month, AAPL/2026-01.parquet: unadjusted clean bars, extended hours included; see `month_files`.
What the source delivers beside prices and volume, its `columns`, is kept with them.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from pathlib import Path
from typing import Final

import polars as pl

from hftcl.durable import convert_storage_faults, lock, make_folder
from hftcl.errors import HftclError, NoDataError, UsageError
from hftcl.events import Event, OnEvent, ignore
from hftcl.formats import format_moment, group_by_reason
from hftcl.home import locate_collection_lock, locate_synthetic
from hftcl.mapped import FrameFiles
from hftcl.market import bars as market
from hftcl.market.bars import Finding
from hftcl.market.collect_window import CollectWindow
from hftcl.market.collection import CollectionRun, load_shelf
from hftcl.market.judgement import TickerShare, build_implausible_error, join_refusals, sum_dropped
from hftcl.market.month_files import MonthFiles
from hftcl.market.received import TickerCoverage, count_received
from hftcl.market.sessions import Calendar
from hftcl.market.shelf import build_findings
from hftcl.market.sources import BarSource, as_local

_REASONS: Final = 2  # in an error, which stays a line or two: of most failures there is one


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """The bars of a window, what was found in them, and which tickers are not among them.

    bars: BAR_SCHEMA sorted by ticker and ts, adjusted for splits; the source's columns behind it. left_out: ticker ->
    reason; context_left_out the same of context tickers. fetched_sessions: how many sessions, summed over the tickers,
    the source was asked for; 0 where the cache had all. jumps: the unannounced splits of the tickers that are not left
    out, one each, as `find_unannounced_splits` gives them.
    """

    bars: pl.DataFrame
    findings: tuple[Finding, ...]
    left_out: dict[str, str]
    source: str
    synthetic: bool
    fetched_sessions: int
    context_left_out: dict[str, str] = field(default_factory=dict)
    coverage: tuple[TickerCoverage, ...] = ()
    jumps: tuple[Finding, ...] = ()


class BarStore:
    """The bars of one source under `folder`; those of a synthetic source lie apart, in the folder `synthetic`."""

    def __init__(self, folder: Path, source: BarSource, calendar: Calendar) -> None:
        self._folder = locate_synthetic(folder) if source.synthetic else folder
        self._source = source
        self._calendar = calendar
        self._columns = tuple(getattr(source, "columns", ()))
        self._files = MonthFiles(self._folder, source.name, calendar.name, self._columns)

    def collect(
        self,
        tickers: Sequence[str],
        first: date,
        last: date,
        *,
        as_of: datetime,
        extended_hours: bool,
        min_coverage: float,
        context: Sequence[str] = (),
        save: bool = True,
        keep_past: bool = False,
        mapped: bool = False,
        on_event: OnEvent = ignore,
    ) -> Collected:
        """Return the bars of the sessions `first` to `last` (both included) that were known at `as_of` (UTC).

        Asks the source only for sessions that the cache lacks, and again for the last two. A session is kept once its
        extended hours are over; `save=False` changes nothing on disk. A ticker with bars in a smaller share of the
        sessions than `min_coverage` is left out, and so is one whose bars cannot be true or be read: one bad ticker
        never sinks the others. Bars before an unannounced split are left out; keep_past: they stay, for a span of many
        windows, each of which leaves out its own. context: tickers that are collected too, and are never enough alone.
        mapped: the bars lie in unnamed files, see `mapped.FrameFiles`, so that memory hardly grows with the tickers.
        Raises NoDataError, RefusedBarsError or ImplausibleBarsError where none of `tickers` is left,
        SourceError where the source fails (what came before is stored), LockHeldError where another process collects,
        StorageError for the disk, HorizonError where the calendar ends.
        """
        if not tickers:
            raise UsageError("No ticker to collect bars of. Name some in [market] watchlist.")
        wanted = tuple(dict.fromkeys((*tickers, *context)))
        window = self._build_window(wanted, first, last, as_of, extended_hours, min_coverage, keep_past=keep_past)
        with self._hold_lock() if save else contextlib.nullcontext():
            collection = CollectionRun(self._source, self._calendar, self._files, window, save=save)
            collection.announce(wanted, first)
            parts = collection.collect(wanted, on_event, FrameFiles() if mapped else None)
        on_event(Event("collect", len(wanted), len(wanted)))
        if save and (local := as_local(self._source)):
            local.remember()
        traded = frozenset(tickers)
        left_out = self._explain_left_out(parts)
        if left_out.keys() >= traded:
            span = f"from {first} to {last}, known by {format_moment(as_of)} UTC"
            raise self._build_lack_error({t: part for t, part in parts.items() if t in traded}, left_out, span)
        return self._summarize(parts, left_out, traded)

    def read_held(self, ticker: str) -> tuple[frozenset[date], tuple[Finding, ...], int]:
        """Return the sessions with bars that the cache holds of `ticker`, what cannot be trusted, its size in bytes.

        Every hash is checked; the source is asked for no bar. A finding names the file. Raises StorageError.
        """
        fingerprint = self._source.fingerprint(ticker)
        days: set[date] = set()
        findings: list[Finding] = []
        with convert_storage_faults(f"reading the stored bars of {ticker}"):
            folder = self._files.find_path(ticker, "").parent
            files = [path for path in folder.glob("????-??.*") if path.suffix in {".parquet", ".json"}]
            for month in sorted({path.stem for path in files}):
                month_file = self._files.read(ticker, month, fingerprint)
                if isinstance(month_file, Finding):
                    findings.append(month_file)
                elif month_file:  # a session without a bar is not held: it may be a hole
                    days |= set(month_file[0]) & set(month_file[1]["session"].unique())
            size = sum(path.stat().st_size for path in files)
        return frozenset(days), tuple(findings), size

    def read_session(self, ticker: str, day: date) -> tuple[pl.DataFrame, tuple[Finding, ...]]:
        """Return the bars that the cache holds of a session, as `bars.label` gives them, and what cannot be trusted.

        The source is asked for no bar. Raises RefusedBarsError where a local source refuses the ticker, StorageError.
        """
        return self.read_sessions(ticker, (day,))

    def read_sessions(self, ticker: str, days: Sequence[date]) -> tuple[pl.DataFrame, tuple[Finding, ...]]:
        """Return what the cache holds of the sessions `days`, oldest first, as `read_session` does of one."""
        fingerprint = self._source.fingerprint(ticker)
        with convert_storage_faults(f"reading the stored bars of {ticker}"):
            shelf, findings = load_shelf(self._files, ticker, fingerprint, days, sweep=False)
        held = shelf.bars.filter(pl.col("session").is_in(list(days))).select(market.RAW_SCHEMA.names())
        return market.label(held.sort("ts"), self._calendar.list_sessions(days[0], days[-1])), tuple(findings)

    def read_coverage(self, ticker: str, days: Sequence[date]) -> TickerCoverage:
        """Return what the cache holds of the sessions `days`, oldest first. The source is asked for no bar.

        Raises RefusedBarsError where a local source refuses the ticker, StorageError for the disk.
        """
        fingerprint = self._source.fingerprint(ticker)
        with convert_storage_faults(f"reading the stored bars of {ticker}"):
            shelf, _ = load_shelf(self._files, ticker, fingerprint, days, sweep=False)
        sessions = self._calendar.list_sessions(days[0], days[-1]).filter(pl.col("session").is_in(list(days)))
        bars = market.label(shelf.bars.select(market.RAW_SCHEMA.names()).sort("ts"), sessions)
        notes = [note for day in days if day in shelf.held for note in build_findings(ticker, day, shelf.held[day])]
        return count_received(
            bars, sessions, ticker=ticker, quarantined=sum_dropped(notes),
            revised={day: held.revisions for day, held in shelf.held.items()},
        )  # fmt: skip

    def _build_window(
        self,
        tickers: tuple[str, ...],
        first: date,
        last: date,
        as_of: datetime,
        extended_hours: bool,
        share: float,
        *,
        keep_past: bool,
    ) -> CollectWindow:
        begun = self._calendar.list_sessions(first, last).filter(pl.col("extended_open") < as_of)
        known_until = self._source.known_until(tickers, as_of)
        # what a source of this fingerprint had by the end of a session is all that it will ever have of it
        steady = bool(known_until) and getattr(self._source, "unchanging", False)
        hours = begun.with_columns(pl.lit(min(known_until, as_of) if known_until else None, market.TS).alias("known"))
        return CollectWindow(
            sessions=begun,
            closed=begun.filter(hours["close"] <= hours["known"]),
            over=frozenset(hours.filter(pl.col("extended_close") <= (as_of if steady else pl.col("known")))["session"]),
            as_of=as_of,
            extended_hours=extended_hours,
            min_coverage=share,
            keep_past=keep_past,
        )

    @contextlib.contextmanager
    def _hold_lock(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            with convert_storage_faults("preparing the folder of bars"):
                make_folder(self._folder)
                stack.enter_context(lock(locate_collection_lock(self._folder), "collection of bars"))
            yield

    def _explain_absence(self, ticker: str) -> str:
        local = as_local(self._source)
        return f"no bars; {local.explain_absence(ticker)}" if local else "no bars"

    def _explain_left_out(self, parts: Mapping[str, TickerShare]) -> dict[str, str]:
        """Return why a ticker is left out, for each that is."""
        return {
            ticker: part.left_out or self._explain_absence(ticker)
            for ticker, part in parts.items()
            if part.left_out or part.bars.is_empty()
        }

    def _build_lack_error(self, parts: Mapping[str, TickerShare], left_out: Mapping[str, str], span: str) -> HftclError:
        """Return why nothing came of `parts`, each of which is left out: untrue bars, refused ones, or too few."""
        if fatal := [finding for part in parts.values() for finding in part.fatal]:
            return build_implausible_error(fatal)
        if refused := [part.refused for part in parts.values() if part.refused]:
            return join_refusals(refused)
        reasons = group_by_reason({ticker: left_out[ticker] for ticker in parts}, _REASONS)
        why = "; ".join(f"{names}: {reason}" for names, _, reason in reasons)
        return NoDataError(
            f"The source {self._source.name!r} has too few bars {span} ({why}). "
            "Check [market] source, watchlist and the dates."
        )

    def _summarize(
        self, parts: Mapping[str, TickerShare], left_out: Mapping[str, str], traded: frozenset[str]
    ) -> Collected:
        """Return what the tickers' parts are together; traded: those of them that are no context."""
        kept = [parts[ticker] for ticker in sorted(parts) if ticker not in left_out]
        return Collected(
            bars=pl.concat(part.bars for part in kept),
            findings=market.merge_findings(finding for part in parts.values() for finding in part.findings),
            left_out={t: why for t, why in left_out.items() if t in traded},
            context_left_out={t: why for t, why in left_out.items() if t not in traded},
            source=self._source.name,
            synthetic=self._source.synthetic,
            fetched_sessions=sum(part.fetched for part in parts.values()),
            jumps=tuple(jump for part in kept for jump in part.jumps),
            coverage=tuple(
                replace(
                    part.covered,
                    left_out=left_out.get(ticker, ""),
                    refused=bool(part.refused or part.fatal),
                    context=ticker not in traded,
                )
                for ticker, part in parts.items()
            ),
        )
