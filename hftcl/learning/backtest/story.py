"""The story of `backtest`: the loop replayed over history, week by week, and what each way to run it would have earned.

Trains and scores through `trainings`; who is promoted and who trades is replayed by `courses`. Changes nothing that
serves: bars are cached as by every collection, trainings and the trials of searches under <home>/backtest.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Final

from hftcl import durable
from hftcl.compute import Engine, Table, open_engine
from hftcl.errors import NoDataError, UsageError
from hftcl.events import Event, Level, OnEvent, Stopwatch
from hftcl.exam.split import list_sessions
from hftcl.formats import count
from hftcl.home import Home
from hftcl.learning.backtest.courses import AttemptSeries, build_attempt, compute_first_record, run_policies
from hftcl.learning.backtest.plan import (
    History,
    Planner,
    SessionBars,
    find_silent_context,
    find_warm_up_of,
    list_week_window,
    spans_jump,
)
from hftcl.learning.backtest.report import build_report
from hftcl.learning.backtest.reports import BacktestReport
from hftcl.learning.backtest.scores import score_all
from hftcl.learning.backtest.searched import SearchOfWeeks, WeekSearch, report_searched, search_weeks
from hftcl.learning.backtest.trainings import UnitTraining, build_shop, train_all
from hftcl.learning.candidate import merge_params
from hftcl.learning.dataset import Window, find_warm_up
from hftcl.learning.search.space import apply_choice
from hftcl.market.bars import Finding
from hftcl.market.sessions import Calendar
from hftcl.market.sources import BarSource
from hftcl.market.window import AsOf, find_known_end, open_market, parse_day
from hftcl.settings import Settings

MIN_SESSIONS: Final = 5  # fewer define no difference of Sharpe ratios
# The backtest retrains once a week, after its last session; calendar weeks keep holidays in place.
_WEEK: Final = timedelta(days=7)


def backtest(
    settings: Settings,
    first: date | str,
    last: date | str,
    *,
    search: bool = False,
    trials: int | None = None,
    now: datetime,
    on_event: OnEvent,
) -> BacktestReport:
    """Replay the loop over the sessions `first` to `last` (dates or ISO texts, both included); compare ways to run it.

    A training at the close of the last session of each ISO week, on the `[market] lookback_days` window that ends
    there. The first is the newest before `first` whose window is full of bars, or else the first one that is.
    search: beside it, a search inside each of these windows, whose winner is trained in place of hftcl.toml. trials:
    of each; `[search] trials` where left out.
    Raises UsageError for dates that are none, or in the wrong order, and for `trials` without a search; NoDataError for
    too few sessions; with search as `stories.search`.
    """
    begin, end = parse_day("--from", first), parse_day("--to", last)
    if begin > end:
        raise UsageError(f"--from {begin} lies after --to {end}. Exchange them.")
    params, asked = merge_params(settings), _ask_search(settings, search, trials)
    wide = asked.wide if asked else settings
    source, calendar = open_market(settings)
    watch = Stopwatch()
    with _hold_lock(settings):
        with open_engine(settings, on_event) as engine:
            known_end = find_known_end(source, calendar, settings, begin, end, now)
            history = _collect_history(wide, source, calendar, begin, known_end, engine, watch, on_event)
            for note in (*history.notes, *(asked.space.notes if asked else ())):
                on_event(Event("backtest", text=note, level=Level.WARNING))
            silent = find_silent_context(history.data)
            planner = Planner(SessionBars.from_frame(history.data.frame), history.data.jumps, calendar, silent)
            trainer = _Trainer(history, planner, Table(lambda: history.data.frame), engine, watch, on_event)
            plain = trainer.train_loop(settings, params)
            found = None
            if asked:
                with watch("search"):
                    weeks = search_weeks(asked, history, planner, engine, now, on_event)
                found = trainer.train_found(asked, weeks)
        with watch("replay"):  # reads the files of models
            runs = run_policies(settings, history, plain.loop, found.loop if found else None, on_event)
    return build_report(
        runs,
        settings,
        history.data,
        first=history.counted[0].day,
        trainings=plain.trainings,
        resumed=plain.resumed,
        notes=(
            *history.notes,
            *plain.notes,
            *(f"{name} has no model: {why}" for name, why in plain.failed.items()),
        ),
        searched=report_searched(asked, weeks, found.failed, runs) if asked and found else None,
        timings=watch.list_timings(),
    )


def _ask_search(settings: Settings, search: bool, trials: int | None) -> SearchOfWeeks | None:
    """Return what is to be searched each week. Raises before anything is collected."""
    if trials is not None and not search:
        raise UsageError("--trials is of --search, which was not given. Add --search, or leave --trials out.")
    return SearchOfWeeks.from_settings(settings, trials) if search else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trained:
    """A loop with what it took: how many trainings, how many of an earlier run, and by model id why some failed."""

    loop: AttemptSeries
    trainings: int
    resumed: int
    failed: dict[str, str]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Trainer:
    """What all trainings of a backtest share. table: the rows of `history`."""

    history: History
    planner: Planner
    table: Table
    engine: Engine
    watch: Stopwatch
    on_event: OnEvent

    def train_loop(self, settings: Settings, params: Mapping[str, object]) -> _Trained:
        """Train the weeks as hftcl.toml says."""
        shop = build_shop(settings, self.history.data, params, table=self.table)
        weekly, unplanned = self.planner.plan_weeks(settings, self.history.weeks)
        if not weekly:
            raise NoDataError(f"No week could be trained on. The first: {next(iter(unplanned.values()))}")
        notes = self.planner.describe_silent_context(weekly)
        for note in notes:
            self.on_event(Event("backtest", text=note, level=Level.WARNING))
        done = self._train_and_score(shop.prepare(weekly))
        failed = {**unplanned, **done.failed}
        if not done.loop.attempts:
            raise NoDataError(
                f"No week could be trained on. The first: {next(iter(failed.values()), 'no reason given')}"
            )
        return replace(done, failed=failed, notes=notes)

    def train_found(self, asked: SearchOfWeeks, weeks: Sequence[WeekSearch]) -> _Trained:
        """Train each week as its search chose; a week without a winner has no candidate."""
        tasks: list[UnitTraining] = []
        unplanned: dict[str, str] = {}
        minutes = asked.settings.model.target_minutes
        for week in weeks:
            if week.winner is None:
                continue
            chosen = apply_choice(asked.settings, week.winner.choice)
            params = merge_params(chosen)
            shop = build_shop(chosen, self.history.data, params, table=self.table, frame_minutes=minutes)
            try:
                unit = self.planner.plan_week(chosen, week.day)
            except NoDataError as error:  # a shorter window than the one that was searched
                unplanned[week.model_id] = str(error)
                continue
            tasks += shop.prepare([unit])
        done = self._train_and_score(tasks)
        return replace(done, failed={**unplanned, **done.failed})

    def _train_and_score(self, weekly: Sequence[UnitTraining]) -> _Trained:
        """Train and score the weeks, then the walk-forward with which the record begins: of the first with a model."""
        planner, engine, on_event = self.planner, self.engine, self.on_event
        with self.watch("train"):
            failed, resumed = train_all(weekly, engine, on_event)
            kept = [task for task in weekly if task.unit.model_id not in failed]
            folds = kept[0].shop.prepare(planner.plan_folds(kept[0].shop.settings, kept[0].unit)) if kept else []
            fold_failed, fold_resumed = train_all(folds, engine, on_event)
        walked = [task for task in folds if task.unit.model_id not in fold_failed]
        with self.watch("score"):
            scores = score_all(kept, tuple(session.day for session in self.history.sessions), on_event)
            folded = score_all(walked, (), on_event)
        first = kept[0].unit if kept else None
        begun = compute_first_record(first, [task.unit for task in walked], scores, folded) if first else ()
        attempts = tuple(build_attempt(task.unit, scores[task.unit.model_id], planner.calendar) for task in kept)
        return _Trained(
            loop=AttemptSeries(attempts=attempts, begun=begun),
            trainings=len(weekly) + len(folds),
            resumed=resumed + fold_resumed,
            failed={**failed, **fold_failed},
        )


@contextlib.contextmanager
def _hold_lock(settings: Settings) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        with durable.convert_storage_faults("preparing the folder of the backtest"):
            durable.make_folder(Home.of(settings).backtest)
            stack.enter_context(durable.lock(Home.of(settings).backtest_lock, "backtest"))
        yield


def list_week_ends(calendar: Calendar, first: date, last: date) -> tuple[date, ...]:
    """Return the last session of each ISO week that lies in `first` to `last`, oldest first."""
    days = calendar.list_sessions(first, last + _WEEK)["session"].to_list()
    return tuple(
        day for day, later in pairwise(days) if day.isocalendar()[:2] != later.isocalendar()[:2] and day <= last
    )


def _collect_history(
    settings: Settings,
    source: BarSource,
    calendar: Calendar,
    begin: date,
    known_end: AsOf,
    engine: Engine,
    watch: Stopwatch,
    on_event: OnEvent,
) -> History:
    """Collect the bars of the whole span at once, and say when the loop can first train.

    Features look back only, so those of a week are what they would have been at its end. Which tickers are left out
    for lack of bars, and what lies before an unannounced split, is decided for each window, or later bars would.
    """
    last = calendar.find_last_complete(known_end.at)
    ends = list_week_ends(calendar, begin - 4 * _WEEK, last)
    ends = ends[max(sum(day < begin for day in ends) - 1, 0) :]
    if not ends:
        raise NoDataError(f"From {begin} to {last} there is no end of a week. Ask for more sessions.")
    window_begin = ends[0] - timedelta(days=settings.market.lookback_days - 1)
    span = (last - find_warm_up(calendar, window_begin)).days + 1
    wide = replace(settings, market=replace(settings.market, lookback_days=span, min_coverage=0.0))
    data = Window(
        settings=wide,
        source=source,
        calendar=calendar,
        known_end=known_end,
        save=True,
        keep_past=True,
        on_event=on_event,
        watch=watch,
    ).assemble(engine)
    all_sessions = list_sessions(data.frame)
    full = tuple(
        day for day in ends if list_week_window(calendar, settings, day)[0] >= all_sessions[0].day and day < last
    )
    sessions = tuple(session for session in all_sessions if full and session.day > full[0])
    counted = [session for session in sessions if session.day >= begin]
    late = not full or full[0] != ends[0]
    if len(counted) < MIN_SESSIONS:
        full_from = all_sessions[0].day if late else None
        raise _build_few_error(count(len(counted), "session"), begin, last, settings, known_end, full_from)
    notes = []
    if late:
        notes.append(
            f"the bars begin on {all_sessions[0].day}: the first full window of "
            f"{settings.market.lookback_days} days ends on "
            f"{full[0]}, and what is compared begins on {counted[0].day}"
        )
    notes += [_describe_jump(jump, calendar, settings, full) for jump in data.jumps]
    return History(first=begin, data=data, weeks=full, sessions=sessions, notes=tuple(notes))


def _build_few_error(
    counted: str, begin: date, last: date, settings: Settings, known_end: AsOf, bars_begin: date | None
) -> NoDataError:
    """Return that too few sessions can be compared. bars_begin: where no earlier --from helps, as no window is full."""
    why = (
        f" after a week whose window of {settings.market.lookback_days} days is full of bars; they begin on "
        f"{bars_begin}. Lower [market] lookback_days"
        if bars_begin
        else ". Ask for an earlier --from"
    )
    later = ", or ask for a later --to where there are later bars" if known_end.explicit else f": {known_end.note}"
    return NoDataError(f"{counted} from {begin} to {last} can be compared, needs {MIN_SESSIONS} or more{why}{later}.")


def _describe_jump(jump: Finding, calendar: Calendar, settings: Settings, weeks: Sequence[date]) -> str:
    spans = [(find_warm_up_of(calendar, settings, day), day) for day in weeks]
    touched = sum(spans_jump(jump, begin, end) for begin, end in spans)
    return (
        f"{jump.ticker}: {jump.detail}, near the ratio of a split that the source does not announce. "
        f"{count(touched, 'weekly window')} of {len(weeks)} span that night and leave out the ticker's bars before it; "
        "buy and hold counts the change as a return"
    )
