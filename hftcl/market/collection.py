"""One collection of bars: each ticker is asked for what the cache lacks, stored, and judged.

Asks the source, writes the files of the cache; one ticker is stored and judged while the next one is fetched.
"""

import contextlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Final

import polars as pl

from hftcl.durable import convert_storage_faults, sweep_temporary
from hftcl.errors import RefusedBarsError, SourceError
from hftcl.events import Event, OnEvent
from hftcl.mapped import FrameFiles
from hftcl.market import bars as market
from hftcl.market.bars import Finding
from hftcl.market.collect_window import CollectWindow, group_runs
from hftcl.market.columns import extend_schema
from hftcl.market.judgement import BY_REQUEST, TickerShare, judge_ticker
from hftcl.market.month_files import MonthFiles, format_month
from hftcl.market.received import count_received
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
from hftcl.waiting import wait_for_result

_ASKED_AGAIN: Final = 2  # vendors correct bars for a day or two after a session
_MOST_WAITING: Final = 4  # tickers that were fetched and wait to be stored, 10 MB: so memory stays flat
_WRITERS: Final = 4  # threads: a write waits for the disk most of its time, four times for each month of a ticker


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


class CollectionRun:
    """What a source is asked for in one window, and where the answers are kept. The caller holds the folder's lock.

    save: whether answers are stored; without, nothing changes on disk.
    """

    def __init__(
        self, source: BarSource, calendar: Calendar, files: MonthFiles, window: CollectWindow, *, save: bool
    ) -> None:
        self._source = source
        self._calendar = calendar
        self._columns = tuple(getattr(source, "columns", ()))
        self._files = files
        self._window = window
        self._saves = save

    def announce(self, tickers: Sequence[str], first: date) -> None:
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
                shelf, _ = load_shelf(self._files, ticker, fingerprint, self._window.days, sweep=False)
            runs = group_runs(self._window.sessions, self._list_wanted(shelf))
            questions += [Question(ticker, run["session"][0], run["session"][-1]) for run in runs]
        self._source.expect(tuple(tickers), first, tuple(questions), kept=self._saves)

    def collect(
        self, tickers: Sequence[str], on_event: OnEvent, files: FrameFiles | None = None
    ) -> dict[str, TickerShare]:
        """Collect each ticker: one is stored and judged while the next is fetched; what came before a fault is stored.

        Each page is told: one ticker can take longer than a watchdog waits. Raises SourceError where the source fails,
        StorageError for the disk; a ticker whose bars the source refuses is a part that says so. files: where the bars
        of each are put; None: they stay in memory.
        """
        parts: dict[str, TickerShare] = {}
        waiting: deque[tuple[str, Future[TickerShare]]] = deque()
        with (
            ThreadPoolExecutor(_WRITERS, "store") as disk,
            ThreadPoolExecutor(1, "judge") as judge,
            self._report_steps(on_event, len(tickers)) as progress,
        ):
            behind = _Behind(disk, judge)
            for done, ticker in enumerate(tickers):
                progress.done = done
                progress.tell(ticker)
                waiting.append((ticker, self._collect_one(ticker, behind)))
                while waiting and (len(waiting) > _MOST_WAITING or waiting[0][1].done()):
                    name, part = waiting.popleft()
                    parts[name] = _put_away(wait_for_result(part), files)
            return parts | {name: _put_away(wait_for_result(part), files) for name, part in waiting}

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

    def _list_wanted(self, shelf: Shelf) -> list[date]:
        """Return the sessions to ask for; what is in doubt again, unless the source's answers never change."""
        steady = getattr(self._source, "unchanging", False)
        doubtful = set() if steady else {day for day, held in shelf.held.items() if count_askings(held)}
        if not steady:
            doubtful |= set(find_doubtful(shelf, self._window.sessions))
        due = [day for day in doubtful if is_due(shelf.held[day], self._window.as_of)]
        # of a local source the fingerprint is the content: what is held under it cannot have been corrected
        return self._window.list_wanted(shelf.held, due, 0 if as_local(self._source) else _ASKED_AGAIN)

    def _collect_one(self, ticker: str, behind: _Behind) -> "Future[TickerShare]":
        """Fetch what lacks of `ticker`; it is stored and judged behind, so that the next ticker need not wait."""
        try:
            return self._fetch_and_hand_over(ticker, behind)
        except RefusedBarsError as error:
            none = market.NO_BARS
            covered = count_received(none, self._window.closed, ticker=ticker, quarantined={}, revised={})
            part: Future[TickerShare] = Future()
            part.set_result(
                TickerShare(bars=none, findings=[], left_out=str(error), fetched=0, covered=covered, refused=error)
            )
            return part

    def _fetch_and_hand_over(self, ticker: str, behind: _Behind) -> "Future[TickerShare]":
        window = self._window
        fingerprint = self._source.fingerprint(ticker)
        with convert_storage_faults(f"reading the stored bars of {ticker}"):
            shelf, findings = load_shelf(self._files, ticker, fingerprint, window.days, sweep=self._saves)
        wanted = self._list_wanted(shelf)
        unfinished = [self._files.no_rows]
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
            if self._saves:
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

        def finish() -> TickerShare:
            part = judge_ticker(
                ticker, bars, splits, window, findings,
                fetched=len(wanted), held=shelf.held, source=self._source, calendar=self._calendar,
            )  # fmt: skip
            for saved in saves:
                wait_for_result(saved)
            return part

        return behind.judge.submit(finish)

    def _fetch(self, ticker: str, sessions: pl.DataFrame, as_of: datetime) -> tuple[pl.DataFrame, tuple[Finding, ...]]:
        """Ask the source for adjacent sessions; return clean bars as `month_files` keeps them."""
        raw = self._source.minutes(ticker, sessions["session"][0], sessions["session"][-1])
        due = extend_schema(market.RAW_SCHEMA, self._columns)
        lacking = [name for name, dtype in due.items() if raw.schema.get(name) != dtype]
        if lacking:
            raise SourceError(
                f"The source {self._source.name!r} answered for {ticker} without the right {', '.join(lacking)}: "
                f"it gave {dict(raw.schema)}. A source must deliver hftcl.market.bars.RAW_SCHEMA, and its `columns` as "
                "Float64."
            )
        bars, findings = market.clean(raw, sessions, ticker=ticker, as_of=as_of, columns=self._columns)
        return bars.select(self._files.no_rows.columns), findings

    def _save(self, ticker: str, fingerprint: str, shelf: Shelf, before: "Future[None] | None") -> None:
        """Write the months that changed, once the ticker's write `before`, which may be of the same month, is done."""
        if before is not None:
            wait_for_result(before)
        with convert_storage_faults(f"storing the bars of {ticker}"):
            self._files.write(ticker, fingerprint, shelf.changed, shelf.held, shelf.bars)


def _put_away(part: TickerShare, files: FrameFiles | None) -> TickerShare:
    return part if files is None else replace(part, bars=files.put(part.bars))


def load_shelf(
    files: MonthFiles, ticker: str, fingerprint: str, days: Sequence[date], *, sweep: bool
) -> tuple[Shelf, list[Finding]]:
    """Read the months of the sessions `days`; what cannot be trusted is a finding and counts as not held.

    sweep: whether what a killed write left is deleted first. Raises OSError.
    """
    if sweep:
        sweep_temporary(files.find_path(ticker, "").parent, ("*.parquet", "*.json"))
    shelf, findings = Shelf(bars=files.no_rows), []
    for month in dict.fromkeys(map(format_month, days)):
        month_file = files.read(ticker, month, fingerprint)
        if isinstance(month_file, Finding):
            findings.append(month_file)
            if month_file.reason == "other_source" and (outdated := files.read_outdated(ticker, month)):
                shelf.outdated[month] = outdated
        elif month_file:
            held, bars = month_file
            shelf.held.update(held)
            shelf.bars = shelf.bars.vstack(bars)
    return shelf, findings
