"""The search of each week of a backtest, inside that week's window: what `hftcl search` would have done at its end.

The weeks are independent and run at the same time, each with one worker, so that what is found depends on no number of
cores. Trials are kept in <home>/backtest, and none is a look: nothing is chosen by them.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Final

import numpy as np

from hftcl.archive.artifact import list_our_features
from hftcl.compute import Engine, Team, Wanted
from hftcl.compute.crew import count_cores
from hftcl.errors import NoDataError
from hftcl.events import Event, Level, OnEvent
from hftcl.exam import policies
from hftcl.exam.policies import PolicyRun, Step
from hftcl.formats import count, format_size, number
from hftcl.free_memory import count_fitting, read_free_bytes
from hftcl.home import Home
from hftcl.learning.backtest.plan import History, Planner, list_week_window, name_week
from hftcl.learning.backtest.report import FREE, SEARCHED, SEARCHED_FREE, describe_difference
from hftcl.learning.backtest.reports import SearchedReport, SearchedWeekReport
from hftcl.learning.dataset import Dataset
from hftcl.learning.search import sampler
from hftcl.learning.search.board import Board, Limit, StoppedError
from hftcl.learning.search.inner import InnerExam
from hftcl.learning.search.report import (
    compute_luck,
    find_changes,
    find_winner,
    list_distinct,
    report_winner,
    weigh_trials,
)
from hftcl.learning.search.space import Space, build_space
from hftcl.learning.search.story import name_study
from hftcl.learning.search.trials import FinishedTrial, TrialStore
from hftcl.market.sessions import Calendar
from hftcl.market.window import AsOf
from hftcl.settings import Settings
from hftcl.waiting import map_in_threads, yield_done

STAGE: Final = "search"  # the name by which a view shows progress


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOfWeeks:
    """What is searched in each week: `trials` of the space around `settings`."""

    settings: Settings
    space: Space
    trials: int

    @classmethod
    def from_settings(cls, settings: Settings, trials: int | None) -> "SearchOfWeeks":
        """Return what the settings ask for. Raises as `search` does before anything is collected."""
        sampler.require_installed()
        space = build_space(settings, list_our_features(settings))
        return cls(settings=settings, space=space, trials=min(trials or settings.search.trials, int(space.count())))

    @property
    def wide(self) -> Settings:
        """The settings with the longest window that is tried."""
        days = max(self.space.list_lookbacks())
        return replace(self.settings, market=replace(self.settings.market, lookback_days=days))


@dataclass(frozen=True, slots=True, kw_only=True)
class WeekSearch:
    """What a week's search tried. day: the last session that it knew. days: those on which its trials were scored.

    resumed: trials of an earlier run. fault: why nothing could be tried.
    """

    model_id: str
    day: date
    at: datetime
    days: tuple[date, ...] = ()
    finished: tuple[FinishedTrial, ...] = ()
    resumed: int = 0
    fault: str = ""

    @property
    def winner(self) -> FinishedTrial | None:
        """The best trial; None where none earned its cost."""
        return find_winner(self.finished)


def search_weeks(
    asked: SearchOfWeeks, history: History, planner: Planner, engine: Engine, now: datetime, on_event: OnEvent
) -> tuple[WeekSearch, ...]:
    """Search in each week's window; what an earlier run tried there is not tried again. Oldest week first.

    Whatever ends one of the searches, or this, ends all.
    """
    week_bytes = _measure_week(asked, history)
    team = engine.gather(Wanted(tasks=len(history.weeks), rows_bytes=week_bytes, stage=STAGE))
    with ThreadPoolExecutor(
        count_weeks_at_once(team.at_once, week_bytes, on_event), thread_name_prefix="week"
    ) as threads:
        work = _WeekSearcher(asked, history, planner, now, on_event, team)
        try:
            # first: the pace is that of what is left
            work.begin(sum(map_in_threads(threads, work.count_known, history.weeks)))
            running = {threads.submit(work.search, day): day for day in history.weeks}
            done = {running[week]: week.result(0) for week in yield_done(running)}
        except BaseException:
            work.stopped.set()
            raise
    return tuple(done[day] for day in history.weeks)


def count_weeks_at_once(
    at_once: int, week_bytes: int, on_event: OnEvent, read_free: Callable[[], int | None] = read_free_bytes
) -> int:
    """Return how many weeks are searched at the same time: this process holds the rows of each, also for a cluster.

    at_once: how many the team could do. Tells where memory lets fewer.
    """
    free = read_free()
    fits = count_fitting(at_once, week_bytes, free)
    if fits < at_once and free is not None:
        text = (
            f"{fits} of {count(at_once, 'week')} at the same time: one takes {format_size(week_bytes)} here, "
            f"and {format_size(free)} "
            "of memory are free"
        )
        on_event(Event(STAGE, text=text, level=Level.WARNING))
    return fits


def _measure_week(asked: SearchOfWeeks, history: History) -> int:
    """Return how many bytes of this process a week's search takes, about: its rows, and those of a part of them."""
    frame = history.data.frame
    share = asked.wide.market.lookback_days / max((history.data.sessions[-1] - history.data.sessions[0]).days, 1)
    return int(3 * min(share, 1.0) * frame.estimated_size())


@dataclass(slots=True)
class _WeekSearcher:
    """Searches one week after the other in each of several threads; the file of trials is one, and written in turn."""

    asked: SearchOfWeeks
    history: History
    planner: Planner
    now: datetime
    on_event: OnEvent
    team: Team
    stopped: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _cutting: threading.Semaphore = field(init=False)
    _done: int = 0
    _total: int = 0

    def __post_init__(self) -> None:
        """Let as many weeks be cut at the same time as there are cores here: a cluster has more threads."""
        self._cutting = threading.Semaphore(count_cores(self.asked.settings))

    def count_known(self, day: date) -> int:
        """Return how many trials of a week's search are kept already."""
        try:
            data = self._cut_data(day)
        except NoDataError:
            return 0
        with self._lock:
            return min(len(self._open_store(data).begin(self.now)), self.asked.trials)

    def begin(self, known: int) -> None:
        """Tell how much there is to do."""
        self._done, self._total = known, len(self.history.weeks) * self.asked.trials
        self._tell("")

    def search(self, day: date) -> WeekSearch:
        """Return what the search of a week comes to."""
        calendar = self.planner.calendar
        week = WeekSearch(model_id=name_week(calendar, day), day=day, at=calendar.find_close(day))
        try:
            data = self._cut_data(day)
            inner = InnerExam(self.asked.settings, data)
        except NoDataError as error:  # the search would have ended so as well
            self._skip(self.asked.trials, week)
            return replace(week, fault=str(error))
        store = self._open_store(data)
        with self._lock:
            known = store.begin(self.now)
        limit = Limit(trials=self.asked.trials, seconds=None)
        board = Board.begin(self.asked.space, store, known, limit, self._lock)
        while (task := board.take()) is not None:
            board.put(inner.try_choice(*task, self.team, self._require_going))
            with self._lock:
                self._done += 1
            self._tell(f"{day}")
            self._require_going()
        finished = board.list_finished()[: self.asked.trials]
        self._skip(self.asked.trials - len(finished), week)
        return replace(week, days=inner.days, finished=finished, resumed=min(len(known), len(finished)))

    def _cut_data(self, day: date) -> Dataset:
        """Return the window that ends with `day`, as `search` would have assembled it. Raises NoDataError."""
        whole, wide, calendar = self.history.data, self.asked.wide, self.planner.calendar
        with self._cutting:
            unit = self.planner.plan_week(wide, day)
            frame = unit.cut_window(whole.frame, self.asked.settings, whole.features)
        return replace(
            whole,
            frame=frame,
            sessions=list_week_window(calendar, wide, day),
            tickers=unit.tickers,
            context_left_out=dict.fromkeys(unit.context_left_out, "bars in too few sessions"),
            as_of=AsOf(at=calendar.find_close(day), note="", explicit=True),
        )

    def _open_store(self, data: Dataset) -> TrialStore:
        asked = self.asked
        return TrialStore(Home.of(asked.settings).weekly_searches, name_study(asked.settings, asked.space, data))

    def _require_going(self) -> None:
        if self.stopped.is_set():
            raise StoppedError

    def _skip(self, trials: int, week: WeekSearch) -> None:
        """Take trials that there will not be out of the count."""
        if trials > 0:
            with self._lock:
                self._total -= trials
            self._tell(f"{week.day}")

    def _tell(self, text: str) -> None:
        if self._total > 0:
            self.on_event(Event(STAGE, min(self._done, self._total), self._total, text))


# --- what is told -----------------------------------------------------------------------------------------------------


def report_searched(
    asked: SearchOfWeeks, weeks: Sequence[WeekSearch], failed: Mapping[str, str], runs: Mapping[str, PolicyRun]
) -> SearchedReport:
    """Return what the searches came to, and whether they paid. failed: why a winner could not be trained."""
    steps = {step.attempt.model_id: step for step in runs[SEARCHED].steps}
    a_year = Calendar(asked.settings.market.calendar).sessions_per_year
    reports: list[SearchedWeekReport] = []
    earlier: list[FinishedTrial] = []
    for week in weeks:
        reports.append(_report_week(asked, week, earlier, steps.get(week.model_id), failed.get(week.model_id, "")))
        earlier += week.finished
    compared = runs[SEARCHED], runs[SEARCHED_FREE], runs[FREE]
    return SearchedReport(
        conclusion=policies.conclude(*compared, sessions_per_year=a_year),
        reason=_explain(reports, runs, a_year),
        trials=sum(len(week.finished) for week in weeks),
        resumed=sum(week.resumed for week in weeks),
        space=asked.space.count(),
        weeks=tuple(reports),
    )


def _report_week(
    asked: SearchOfWeeks, week: WeekSearch, earlier: Sequence[FinishedTrial], step: Step | None, failed: str
) -> SearchedWeekReport:
    tried = weigh_trials(week.finished, earlier, week.days)
    distinct = len(list_distinct(week.finished))
    best = week.winner
    a_year = Calendar(asked.settings.market.calendar).sessions_per_year
    winner = None if best is None or best.sharpe is None else report_winner(best, best.sharpe, tried, a_year)
    verdict = step.decision.verdict if step else None
    nothing = "nothing earned its cost inside the training window" if best is None else ""
    return SearchedWeekReport(
        model_id=week.model_id,
        at=week.at,
        trials=len(week.finished),
        distinct=distinct,
        others=len(tried) - distinct,
        effective_trials=float(sum(trial.weight for trial in tried)),
        best_of_worthless=compute_luck(tried, distinct),
        candidate=step is not None,
        changes={} if best is None else find_changes(asked.settings, best.choice),
        inner_sharpe=winner.inner_sharpe if winner else None,
        dsr=winner.dsr if winner else None,
        exam_sharpe=verdict.challenger_sharpe if verdict else None,
        exam_sessions=len(step.decision.exam) if step else 0,
        outcome=str(verdict.outcome) if verdict else "",
        reason=step.decision.reason if step else week.fault or failed or nothing,
    )


def _explain(weeks: Sequence[SearchedWeekReport], runs: Mapping[str, PolicyRun], a_year: int) -> str:
    """Say by which figures it was concluded, and what became of what the winners showed inside."""
    told = f"in {count(len(weeks), 'week')} {count(sum(week.trials for week in weeks), 'trial')}"
    both = [
        (week.inner_sharpe, week.exam_sharpe)
        for week in weeks
        if week.inner_sharpe is not None and week.exam_sharpe is not None
    ]
    if both:
        inner, exam = np.mean(both, axis=0).tolist()
        told += f"; the winners showed a Sharpe ratio of {number(inner)} inside, where they were chosen, and "
        told += f"{number(exam)} in the exams, which no trial saw"
    idle = sum(not week.candidate for week in weeks)
    if idle:
        told += f"; {count(idle, 'week')} had no candidate"
    difference = describe_difference(
        runs[SEARCHED_FREE], runs[FREE], "searching each week", "hftcl.toml", sessions_per_year=a_year
    )
    return f"{difference}. {told[:1].upper()}{told[1:]}"
