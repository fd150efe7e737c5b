"""What a backtest trains: for each week the rows, division and name of one independent training. Pure.

A week's training has what `retrain` would have had at its end: its window, its tickers, what lies after a split.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import pairwise

import numpy as np
import polars as pl

from hftcl.archive.records import build_model_id
from hftcl.errors import NoDataError
from hftcl.exam.split import ExamSplit, Session, list_sessions, split_for_exam
from hftcl.formats import READS_UNKNOWN, count
from hftcl.learning.backtest.trainings import Unit
from hftcl.learning.dataset import Dataset, find_warm_up
from hftcl.learning.record_scoring import split_folds
from hftcl.market.bars import Finding
from hftcl.market.sessions import Calendar
from hftcl.market.window import AsOf, list_window
from hftcl.settings import Settings


def list_week_window(calendar: Calendar, settings: Settings, day: date) -> tuple[date, ...]:
    """Return the sessions of the window that ends with `day`, oldest first."""
    return list_window(calendar, settings, AsOf(at=calendar.find_close(day), note="", explicit=True))


def find_warm_up_of(calendar: Calendar, settings: Settings, day: date) -> date:
    """Return the first session that features of the window of `day` read."""
    return find_warm_up(calendar, list_week_window(calendar, settings, day)[0])


def spans_jump(jump: Finding, begin: date, end: date) -> bool:
    """Whether bars from session `begin` to `end` would show the jump."""
    return jump.session is not None and begin < jump.session <= end


def find_silent_context(data: Dataset) -> dict[str, frozenset[date]]:
    """Return the sessions of a span in which a context ticker has no bar, by ticker."""
    return {
        item.ticker: frozenset(day.session for day in item.incomplete if not day.received)
        for item in data.coverage
        if item.context
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The bars of the whole span with features, and the trainings on it, oldest first; `first` is asked for."""

    first: date
    data: Dataset
    weeks: tuple[date, ...]
    sessions: tuple[Session, ...]
    """Every session after the first training, oldest first."""
    notes: tuple[str, ...]

    @property
    def counted(self) -> tuple[Session, ...]:
        """The sessions that are compared."""
        return tuple(session for session in self.sessions if session.day >= self.first)


@dataclass(frozen=True, slots=True)
class Planner:
    """Plans trainings on the bars of a whole span. jumps: its unannounced splits.

    silent: the sessions in which a context ticker has no bar, by ticker.
    """

    bars: "SessionBars"
    jumps: tuple[Finding, ...]
    calendar: Calendar
    silent: Mapping[str, frozenset[date]] = field(default_factory=dict)

    def plan_week(self, settings: Settings, day: date) -> Unit:
        """Return the training at the close of `day`. Raises NoDataError where too little is left to train on."""
        days = list_week_window(self.calendar, settings, day)
        warm_up = find_warm_up(self.calendar, days[0])
        jumps = tuple(jump for jump in self.jumps if spans_jump(jump, warm_up, day))
        judged = self.calendar.list_sessions(warm_up, day)["session"].to_list()  # what a retrain collects
        share = settings.market.min_coverage
        tickers = self.bars.list_tickers(judged, share, jumps)
        gone = tuple(
            ticker for ticker, without in self.silent.items() if len(set(judged) - without) < share * len(judged)
        )
        sessions = self.bars.list_sessions(days, tickers, jumps)
        division = split_for_exam(sessions, settings.exam)
        return self.bars.build_unit(name_week(self.calendar, day), sessions, tickers, division, warm_up, jumps, gone)

    def plan_weeks(self, settings: Settings, weeks: Sequence[date]) -> tuple[list[Unit], dict[str, str]]:
        """Return the trainings of the weeks, oldest first, and by model id why a week has none."""
        weekly: list[Unit] = []
        unplanned: dict[str, str] = {}
        for day in weeks:
            try:
                weekly.append(self.plan_week(settings, day))
            except NoDataError as error:  # the loop would have had no candidate either
                unplanned[name_week(self.calendar, day)] = str(error)
        return weekly, unplanned

    def describe_silent_context(self, units: Sequence[Unit]) -> tuple[str, ...]:
        """Say of each context ticker from how many of the weekly windows `units` it is left out."""
        counts = Counter(ticker for unit in units for ticker in unit.context_left_out)
        return tuple(
            f"the context ticker {ticker} is left out of {number} of {count(len(units), 'weekly window')}: it has bars "
            f"in too few of their sessions ([market] min_coverage), and {READS_UNKNOWN} there"
            for ticker, number in sorted(counts.items())
        )

    def plan_folds(self, settings: Settings, first: Unit) -> list[Unit]:
        """Return the trainings of the walk-forward that begins the record with `first`, less that of `first` itself."""
        parts = split_folds(first.window, first.split, embargo_sessions=settings.exam.embargo_sessions)
        return [
            self.bars.build_unit(
                f"{first.model_id}_fold{index}",
                (*part.train, *part.embargoed, *part.exam),
                first.tickers,
                part,
                first.warm_up,
                first.jumps,
                first.context_left_out,
            )
            for index, part in enumerate(parts)
            if part.train != first.split.train
        ]


def name_week(calendar: Calendar, day: date) -> str:
    """Return the model id of the training at the close of `day`."""
    return build_model_id(calendar.find_close(day))


@dataclass(frozen=True, slots=True)
class SessionBars:
    """What the span's bars hold: sessions, which tickers each has, and a digest of each session's rows."""

    sessions: tuple[Session, ...]
    present: Mapping[date, frozenset[str]]
    digests: Mapping[date, bytes]

    @classmethod
    def from_frame(cls, frame: pl.DataFrame) -> "SessionBars":
        pairs = frame.select("session", "ticker").unique()
        present = {day: frozenset(tickers) for day, tickers in pairs.group_by("session").agg("ticker").iter_rows()}
        return cls(list_sessions(frame), present, _compute_digests(frame))

    def list_tickers(self, days: Sequence[date], share: float, jumps: Sequence[Finding]) -> tuple[str, ...]:
        """Return the tickers with bars in at least `share` of `days`, sorted; all that have any where none has."""
        counts = Counter(ticker for day in days for ticker in self._find_present(day, jumps))
        kept = sorted(ticker for ticker, number in counts.items() if number >= share * len(days))
        return tuple(kept or sorted(counts))

    def list_sessions(
        self, days: Sequence[date], tickers: Sequence[str], jumps: Sequence[Finding]
    ) -> tuple[Session, ...]:
        """Return the sessions of `days` that have bars of `tickers`, oldest first."""
        inside = (session for session in self.sessions if days[0] <= session.day <= days[-1])
        return tuple(session for session in inside if self._find_present(session.day, jumps) & set(tickers))

    def _find_present(self, day: date, jumps: Sequence[Finding]) -> frozenset[str]:
        gone = {jump.ticker for jump in jumps if jump.session is not None and day < jump.session}
        return self.present.get(day, frozenset()) - gone

    def build_unit(
        self,
        model_id: str,
        sessions: tuple[Session, ...],
        tickers: tuple[str, ...],
        division: ExamSplit,
        warm_up: date,
        jumps: tuple[Finding, ...],
        context_left_out: tuple[str, ...],
    ) -> Unit:
        parts = [
            *tickers,
            *(f"{jump.ticker}:{jump.session}" for jump in jumps),
            *(f"-{name}" for name in context_left_out),
        ]
        digest = hashlib.sha256(" ".join(parts).encode())
        for session in sessions:
            digest.update(self.digests[session.day])
        return Unit(
            model_id=model_id,
            window=sessions,
            tickers=tickers,
            split=division,
            key=digest.hexdigest(),
            warm_up=warm_up,
            jumps=jumps,
            context_left_out=context_left_out,
        )


def _compute_digests(frame: pl.DataFrame) -> dict[date, bytes]:
    """Return by session the SHA-256 of every value of its rows, bars and features alike, in their order.

    A column after the other: to cut the rows of each session first took a call of polars for each of its columns.
    """
    physical = frame["session"].to_physical().to_numpy()
    order = np.argsort(physical, kind="stable")
    days, begins = np.unique(physical[order], return_index=True)
    cuts = list(pairwise([*begins.tolist(), frame.height]))
    digests = [hashlib.sha256() for _ in cuts]
    for column in frame.iter_columns():
        values = column.gather(order)
        head, nulls = f"{column.name} {column.dtype} ".encode(), values.is_null().to_numpy()
        for digest, (begin, end), block in zip(digests, cuts, _cut_bytes(values, cuts), strict=True):
            digest.update(head + nulls[begin:end].tobytes())
            digest.update(block)
    named = pl.Series(days).cast(frame.schema["session"]).to_list()
    return {day: digest.digest() for day, digest in zip(named, digests, strict=True)}


def _cut_bytes(values: pl.Series, cuts: Sequence[tuple[int, int]]) -> Iterator[bytes]:
    """Yield what each part of a column holds; a null holds what its type has for nothing."""
    if values.dtype == pl.String:
        yield from ("\n".join(values[begin:end].fill_null("").to_list()).encode() for begin, end in cuts)
        return
    physical = values.to_physical()
    filled = physical.fill_null(False) if physical.dtype == pl.Boolean else physical.fill_null(strategy="zero")
    array = filled.to_numpy()
    yield from (array[begin:end].tobytes() for begin, end in cuts)
