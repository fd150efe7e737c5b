"""The cache of bars: fetches what is missing, keeps it so that a kill or a flipped bit cannot hurt, gives out a window.

One file per ticker and month, AAPL/2026-01.parquet: unadjusted clean bars, extended hours included; see `month_files`.
"""

import contextlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import Final

import polars as pl

from hftcl.durable import convert_storage_faults, lock, make_folder, sweep_temporary
from hftcl.errors import NoDataError, RefusedBarsError, SourceError, UsageError
from hftcl.events import Event, OnEvent, ignore
from hftcl.market import bars as market
from hftcl.market.bars import Finding
from hftcl.market.collect_window import CollectWindow, group_runs
from hftcl.market.judgement import BY_REQUEST, Part, join_refusals, judge_ticker, require_plausible, sum_dropped
from hftcl.market.month_files import FILE_SCHEMA, NO_ROWS, MonthFiles, folder_name, format_month
from hftcl.market.received import TickerCoverage, count_received
from hftcl.market.sessions import Calendar
from hftcl.market.shelf import (
    Shelf,
    build_findings,
    count_askings,
    find_doubtful,
    is_astray,
    is_due,
    note_doubts,
    put,
)
from hftcl.market.sources import BarSource, Foresight, Question, Stepwise, as_local

_LOCK: Final = ".collect.lock"  # beside the bars: two collections would write the same files and ask the vendor twice
_ASKED_AGAIN: Final = 2  # vendors correct bars for a day or two after a session
_MOST_WAITING: Final = 4  # tickers that were fetched and wait to be stored, 10 MB: so memory stays flat
_WRITERS: Final = 4  # threads: a write waits for the disk most of its time, four times for each month of a ticker


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """The bars of a window, what was found in them, and which tickers are not among them.

    bars: BAR_SCHEMA sorted by ticker and ts, adjusted for splits. left_out: ticker -> reason. fetched_sessions: how
    many sessions, summed over the tickers, the source was asked for; 0 where the cache had all. jumps: the
    unannounced splits of the tickers that are not left out, one each, as `find_unannounced_splits` gives them.
    """

    bars: pl.DataFrame
    findings: tuple[Finding, ...]
    left_out: dict[str, str]
    source: str
    synthetic: bool
    fetched_sessions: int
    coverage: tuple[TickerCoverage, ...] = ()
    jumps: tuple[Finding, ...] = ()


@dataclass(slots=True)
class _Progress:
    """How far a collection is: `done` of `total` tickers."""

    on_event: OnEvent
    total: int
    done: int = 0

    def tell(self, what: str) -> None:
        self.on_event(Event("collect", self.done, self.total, what))


@dataclass(frozen=True, slots=True)
class _Behind:
    """What works while the next ticker is fetched: `disk` stores some at once, `judge` has one after another."""

    disk: ThreadPoolExecutor
    judge: ThreadPoolExecutor


class BarStore:
    """The bars of one source under `folder`; those of a synthetic source lie apart, in the folder `synthetic`."""

    def __init__(self, folder: Path, source: BarSource, calendar: Calendar) -> None:
        self._folder = folder / "synthetic" if source.synthetic else folder
        self._source = source
        self._calendar = calendar
        self._files = MonthFiles(self._folder, source.name, calendar.name)

    def collect(
        self,
        tickers: Sequence[str],
        first: date,
        last: date,
        *,
        as_of: datetime,
        extended_hours: bool,
        min_coverage: float,
        save: bool = True,
        keep_past: bool = False,
        on_event: OnEvent = ignore,
    ) -> Collected:
        """Return the bars of the sessions `first` to `last` (both included) that were known at `as_of` (UTC).

        Asks the source only for sessions that the cache lacks, and again for the last two. A session is kept once its
        extended hours are over; `save=False` changes nothing on disk. A ticker with bars in a smaller share of the
        sessions than `min_coverage` is left out, and so is one whose bars cannot be true or be read: one bad ticker
        never sinks the others. Bars before an unannounced split are left out; keep_past: they stay, for a span of many
        windows, each of which leaves out its own.
        Raises NoDataError, RefusedBarsError or ImplausibleBarsError where no ticker is left,
        SourceError where the source fails (what came before is stored), LockHeldError where another process collects,
        StorageError for the disk, HorizonError where the calendar ends.
        """
        if not tickers:
            raise UsageError("No ticker to collect bars of. Name some in [market] watchlist.")
        wanted = tuple(dict.fromkeys(tickers))
        window = self._build_window(wanted, first, last, as_of, extended_hours, min_coverage, keep_past=keep_past)
        with self._hold_lock() if save else contextlib.nullcontext():
            self._announce(wanted, first, window, kept=save)
            parts = self._collect_all(wanted, window, save, on_event)
        on_event(Event("collect", len(wanted), len(wanted)))
        if save and (local := as_local(self._source)):
            local.remember()
        left_out = {
            ticker: part.left_out or self._explain_absence(ticker)
            for ticker, part in parts.items()
            if part.left_out or part.bars.is_empty()
        }
        if len(left_out) == len(wanted):
            require_plausible([finding for part in parts.values() for finding in part.fatal])
            refused = [part.refused for part in parts.values() if part.refused]
            if refused:
                raise join_refusals(refused)
            raise self._build_no_data_error(left_out, first, last, as_of)
        frames = [parts[ticker].bars for ticker in sorted(parts) if ticker not in left_out]
        return Collected(
            bars=pl.concat(frames),
            findings=market.merge_findings(finding for part in parts.values() for finding in part.findings),
            left_out=left_out,
            source=self._source.name,
            synthetic=self._source.synthetic,
            fetched_sessions=sum(part.fetched for part in parts.values()),
            jumps=tuple(jump for ticker in sorted(parts) if ticker not in left_out for jump in parts[ticker].jumps),
            coverage=tuple(
                replace(part.covered, left_out=left_out.get(ticker, ""), refused=bool(part.refused or part.fatal))
                for ticker, part in parts.items()
            ),
        )

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

    def read_coverage(self, ticker: str, days: Sequence[date]) -> TickerCoverage:
        """Return what the cache holds of the sessions `days`, oldest first. The source is asked for no bar.

        Raises RefusedBarsError where a local source refuses the ticker, StorageError for the disk.
        """
        fingerprint = self._source.fingerprint(ticker)
        with convert_storage_faults(f"reading the stored bars of {ticker}"):
            shelf, _ = self._load(ticker, fingerprint, days, sweep=False)
        sessions = self._calendar.sessions(days[0], days[-1]).filter(pl.col("session").is_in(list(days)))
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
        begun = self._calendar.sessions(first, last).filter(pl.col("extended_open") < as_of)
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
                stack.enter_context(lock(self._folder / _LOCK, "collection of bars"))
            yield

    def _build_no_data_error(self, left_out: dict[str, str], first: date, last: date, as_of: datetime) -> NoDataError:
        shown = [f"{ticker}: {reason}" for ticker, reason in list(left_out.items())[:5]]
        more = f"; {len(left_out) - 5} more" if len(left_out) > 5 else ""
        return NoDataError(
            f"The source {self._source.name!r} has too few bars from {first} to {last}, known by "
            f"{as_of:%Y-%m-%d %H:%M} UTC ({'; '.join(shown)}{more}). Check [market] source, watchlist and the dates."
        )

    def _announce(self, tickers: Sequence[str], first: date, window: CollectWindow, *, kept: bool) -> None:
        """Tell a source that looks ahead all that it will be asked, so that it needs the fewest calls."""
        if not isinstance(self._source, Foresight):
            return
        questions: list[Question] = []
        for ticker in tickers:
            try:
                fingerprint = self._source.fingerprint(ticker)
            except RefusedBarsError:  # told when it is collected
                continue
            with convert_storage_faults(f"reading the stored bars of {ticker}"):
                shelf, _ = self._load(ticker, fingerprint, window.days, sweep=False)
            runs = group_runs(window.sessions, self._list_wanted(shelf, window))
            questions += [Question(ticker, run["session"][0], run["session"][-1]) for run in runs]
        self._source.expect(tuple(tickers), first, tuple(questions), kept=kept)

    def _collect_all(
        self, tickers: Sequence[str], window: CollectWindow, save: bool, on_event: OnEvent
    ) -> dict[str, Part]:
        """Collect each ticker: one is stored and judged while the next is fetched; what came before a fault is stored.

        Each page is told: one ticker can take longer than a watchdog waits.
        """
        parts: dict[str, Part] = {}
        waiting: deque[tuple[str, Future[Part]]] = deque()
        with (
            ThreadPoolExecutor(_WRITERS, "store") as disk,
            ThreadPoolExecutor(1, "judge") as judge,
            self._report_steps(on_event, len(tickers)) as progress,
        ):
            behind = _Behind(disk, judge)
            for done, ticker in enumerate(tickers):
                progress.done = done
                progress.tell(ticker)
                waiting.append((ticker, self._collect_one(ticker, window, save, behind)))
                while waiting and (len(waiting) > _MOST_WAITING or waiting[0][1].done()):
                    name, part = waiting.popleft()
                    parts[name] = part.result()
            return parts | {name: part.result() for name, part in waiting}

    @contextlib.contextmanager
    def _report_steps(self, on_event: OnEvent, total: int) -> Iterator[_Progress]:
        """Hear of the source's steps as part of this collection, and of none after it."""
        progress = _Progress(on_event, total)
        if isinstance(self._source, Stepwise):
            self._source.report_steps(progress.tell)
        try:
            yield progress
        finally:
            if isinstance(self._source, Stepwise):
                self._source.report_steps(None)

    def _list_wanted(self, shelf: Shelf, window: CollectWindow) -> list[date]:
        """Return the sessions to ask for; what is in doubt again, unless the source's answers never change."""
        steady = getattr(self._source, "unchanging", False)
        doubtful = set() if steady else {day for day, held in shelf.held.items() if count_askings(held)}
        if not steady:
            doubtful |= set(find_doubtful(shelf, window.sessions))
        due = [day for day in doubtful if is_due(shelf.held[day], window.as_of)]
        # of a local source the fingerprint is the content: what is held under it cannot have been corrected
        return window.list_wanted(shelf.held, due, 0 if as_local(self._source) else _ASKED_AGAIN)

    def _collect_one(self, ticker: str, window: CollectWindow, save: bool, behind: _Behind) -> "Future[Part]":
        """Fetch what lacks of `ticker`; it is stored and judged behind, so that the next ticker need not wait."""
        try:
            return self._fetch_and_hand_over(ticker, window, save, behind)
        except RefusedBarsError as error:
            none = market.NO_BARS
            covered = count_received(none, window.closed, ticker=ticker, quarantined={}, revised={})
            part: Future[Part] = Future()
            part.set_result(
                Part(bars=none, findings=[], left_out=str(error), fetched=0, covered=covered, refused=error)
            )
            return part

    def _fetch_and_hand_over(self, ticker: str, window: CollectWindow, save: bool, behind: _Behind) -> "Future[Part]":
        fingerprint = self._source.fingerprint(ticker)
        with convert_storage_faults(f"reading the stored bars of {ticker}"):
            shelf, findings = self._load(ticker, fingerprint, window.days, sweep=save)
        wanted = self._list_wanted(shelf, window)
        unfinished = [NO_ROWS]
        saves: list[Future[None]] = []
        for sessions in group_runs(window.sessions, wanted):
            fetched, fetch_findings = self._fetch(ticker, sessions, window.as_of)
            over = [day for day in sessions["session"] if day in window.over]
            asked = {day: count_askings(shelf.held.get(day)) for day in over}
            findings += put(shelf, ticker, over, fetched, fetch_findings)
            if not getattr(self._source, "unchanging", False):
                note_doubts(shelf, asked, window.sessions, window.as_of, astray=is_astray(fetch_findings, sessions))
            if len(over) < sessions.height:
                unfinished.append(fetched.filter(~pl.col("session").is_in(over)))
            findings += [f for f in fetch_findings if f.session not in window.over and f.reason not in BY_REQUEST]
            if save:
                stored = Shelf(held=dict(shelf.held), bars=shelf.bars, changed=set(shelf.changed))
                shelf.changed.clear()
                before = saves[-1] if saves else None
                saves.append(behind.disk.submit(self._save, ticker, fingerprint, stored, before))
        findings += [
            finding
            for day in window.days
            if day in shelf.held
            for finding in build_findings(ticker, day, shelf.held[day])
        ]
        bars, splits = pl.concat([shelf.bars, *unfinished]), self._source.splits(ticker)

        def finish() -> Part:
            part = judge_ticker(
                ticker, bars, splits, window, findings,
                fetched=len(wanted), held=shelf.held, source=self._source, calendar=self._calendar,
            )  # fmt: skip
            for saved in saves:
                saved.result()
            return part

        return behind.judge.submit(finish)

    def _explain_absence(self, ticker: str) -> str:
        local = as_local(self._source)
        return f"no bars; {local.explain_absence(ticker)}" if local else "no bars"

    def _fetch(self, ticker: str, sessions: pl.DataFrame, as_of: datetime) -> tuple[pl.DataFrame, tuple[Finding, ...]]:
        """Ask the source for adjacent sessions; return clean bars of FILE_SCHEMA."""
        raw = self._source.minutes(ticker, sessions["session"][0], sessions["session"][-1])
        lacking = [name for name, dtype in market.RAW_SCHEMA.items() if raw.schema.get(name) != dtype]
        if lacking:
            raise SourceError(
                f"The source {self._source.name!r} answered for {ticker} without the right {', '.join(lacking)}: "
                f"it gave {dict(raw.schema)}. A source must deliver hftcl.market.bars.RAW_SCHEMA."
            )
        bars, findings = market.clean(raw, sessions, ticker=ticker, as_of=as_of)
        return bars.select(FILE_SCHEMA.names()), findings

    def _load(self, ticker: str, fingerprint: str, days: Sequence[date], *, sweep: bool) -> tuple[Shelf, list[Finding]]:
        """Read the months of the sessions `days`; what cannot be trusted is a finding and counts as not held."""
        if sweep:
            sweep_temporary(self._folder / folder_name(ticker), ("*.parquet", "*.json"))
        shelf, findings = Shelf(), []
        for month in dict.fromkeys(map(format_month, days)):
            month_file = self._files.read(ticker, month, fingerprint)
            if isinstance(month_file, Finding):
                findings.append(month_file)
            elif month_file:
                held, bars = month_file
                shelf.held.update(held)
                shelf.bars = shelf.bars.vstack(bars)
        return shelf, findings

    def _save(self, ticker: str, fingerprint: str, shelf: Shelf, before: "Future[None] | None") -> None:
        """Write the months that changed, once the ticker's write `before`, which may be of the same month, is done."""
        if before is not None:
            before.result()
        with convert_storage_faults(f"storing the bars of {ticker}"):
            self._files.write(ticker, fingerprint, shelf.changed, shelf.held, shelf.bars)
