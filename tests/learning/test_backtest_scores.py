"""What the models of a backtest earned: to the bit what an exam says of all its sessions, and no more of it."""

import shutil
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path

import polars as pl
import pytest

from hftcl.archive.fitness import load_fit
from hftcl.compute import Table, open_engine
from hftcl.errors import IntegrityError
from hftcl.events import ignore
from hftcl.exam.policies import SessionPnl
from hftcl.learning.backtest.plan import Planner, SessionBars
from hftcl.learning.backtest.scores import score_all
from hftcl.learning.backtest.trainings import UnitTraining, build_shop, train_all
from hftcl.learning.candidate import merge_params
from hftcl.learning.dataset import open_window
from hftcl.learning.score import examine
from hftcl.market.sessions import Calendar
from hftcl.settings import Settings
from tests.loop_cases import small
from tests.processes import wait_until

NOW = datetime(2026, 1, 9, 7, 0, tzinfo=UTC)
WEEKS = (date(2025, 8, 1), date(2025, 8, 8), date(2025, 8, 15))
LAST = "2025-09-05"  # so that the sessions of the first model are more than a month


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> list[UnitTraining]:
    """Three weeks that were trained, in a span that ends two weeks later."""
    settings = small(tmp_path_factory.mktemp("weeks"))
    span = replace(settings, market=replace(settings.market, lookback_days=90))
    data = open_window(span, as_of=LAST, now=NOW, save=True, on_event=ignore).assemble()
    planner = Planner(SessionBars.from_frame(data.frame), data.jumps, Calendar(settings.market.calendar))
    units, unplanned = planner.plan_weeks(settings, WEEKS)
    assert not unplanned
    trained = build_shop(settings, data, merge_params(settings)).prepare(units)
    with open_engine(settings, ignore) as engine:
        train_all(trained, engine, ignore)
    return trained


def list_later(tasks: Sequence[UnitTraining]) -> list[date]:
    sessions = tasks[0].shop.frame["session"].unique().sort().to_list()
    return [day for day in sessions if day > WEEKS[0]]


def examine_at_once(task: UnitTraining, rows: pl.DataFrame, days: Sequence[date]) -> dict[date, SessionPnl]:
    settings: Settings = task.shop.settings
    model = load_fit(task.path, sha256=None, market=None, features=task.shop.features)
    earned = examine(
        model, rows, days, cost_bps=settings.strategy.cost_bps, watchlist=settings.market.watchlist
    ).simulation
    columns = zip(earned.gross.tolist(), earned.net.tolist(), earned.turnover.tolist(), strict=True)
    return {
        day: SessionPnl(gross=gross, net=net, turnover=turnover)
        for day, (gross, net, turnover) in zip(earned.sessions, columns, strict=True)
    }


@pytest.mark.parametrize("newest_first", [False, True])
def test_a_session_is_worth_what_an_exam_of_all_sessions_says_in_whatever_order_they_are_asked_for(
    tasks: list[UnitTraining], *, newest_first: bool
) -> None:
    later = list_later(tasks)
    scores = score_all(tasks, later, ignore)
    for task in tasks:
        marks, exam = scores[task.unit.model_id].marks, task.unit.split.exam_days
        after = [day for day in later if day > task.unit.window[-1].day]
        assert list(marks) == [*exam, *after]
        assert len(marks) == len(exam) + len(after)
        asked = {day: marks[day] for day in sorted(marks, reverse=newest_first)}
        frame = task.shop.frame
        inside = frame.filter(pl.col("session").is_between(task.unit.window[0].day, task.unit.window[-1].day))
        assert asked == examine_at_once(task, inside, exam) | examine_at_once(task, frame, after)
        assert any(mark.turnover for mark in asked.values())


def test_a_model_is_scored_at_once_where_no_gate_decides_and_later_only_where_it_is_asked(
    tasks: list[UnitTraining],
) -> None:
    later = list_later(tasks)
    scores = score_all(tasks, later, ignore)
    first, middle, last = (scores[task.unit.model_id].marks for task in tasks)
    path = tasks[1].path
    hidden = path.rename(path.with_suffix(".hidden"))
    try:
        for marks in (first, last):  # one that never leaves, one that no other follows
            assert all(marks[day] for day in marks)
        assert all(middle[day] for day in middle if day <= WEEKS[2])
        assert max(later) in middle, "to ask whether it may be asked for scores nothing"
        with pytest.raises(IntegrityError, match="missing"):
            middle[max(later)]
    finally:
        hidden.rename(path)
    assert middle[max(later)], "asked for again it is scored"


def test_a_session_that_a_model_has_seen_or_that_is_none_is_worth_nothing_at_all(tasks: list[UnitTraining]) -> None:
    every = tasks[1].shop.frame["session"].unique().sort().to_list()
    marks = score_all(tasks, every, ignore)[tasks[1].unit.model_id].marks
    split = tasks[1].unit.split
    seen = {*split.train_days, *(session.day for session in split.embargoed)}
    assert seen < {*every}
    for day in (*seen, date(2025, 8, 17), date(2031, 1, 1)):
        assert day not in marks
        with pytest.raises(KeyError):
            marks[day]


@pytest.mark.parametrize("week", [0, 1], ids=["scored at once", "scored when asked for"])
def test_a_model_trades_no_ticker_that_it_was_not_trained_on(tasks: list[UnitTraining], week: int) -> None:
    few = ("AAPL", "TSLA")
    changed = list(tasks)
    changed[week] = replace(tasks[week], unit=replace(tasks[week].unit, tickers=few))
    later = list_later(tasks)
    marks = score_all(changed, later, ignore)[tasks[week].unit.model_id].marks
    after = [day for day in later if day > tasks[week].unit.window[-1].day]
    frame = tasks[week].shop.frame
    by_hand = examine_at_once(tasks[week], frame.filter(pl.col("ticker").is_in(few)), after)
    assert {day: marks[day] for day in after} == by_hand
    assert by_hand != examine_at_once(tasks[week], frame, after)


def test_a_session_without_a_bar_of_its_tickers_is_worth_zero(tasks: list[UnitTraining]) -> None:
    """A ticker that was delisted, in a span that others go on in."""
    first, gone = tasks[0], max(list_later(tasks))
    frame = first.shop.frame.filter(pl.col("session") < gone)
    shop = replace(first.shop, table=Table(lambda: frame))
    marks = score_all([replace(first, shop=shop), *tasks[1:]], list_later(tasks), ignore)[first.unit.model_id].marks
    assert marks[gone] == SessionPnl(gross=0.0, net=0.0, turnover=0.0)
    middle = replace(tasks[1], shop=shop)
    marks = score_all([first, middle, tasks[2]], list_later(tasks), ignore)[middle.unit.model_id].marks
    assert marks[gone] == SessionPnl(gross=0.0, net=0.0, turnover=0.0), "asked for alone, of no row"


def test_where_a_model_cannot_be_read_no_other_one_is_begun(tasks: list[UnitTraining]) -> None:
    """One thread: it is at the second model when the first has failed, and goes on when it is waited for."""
    begun: set[str] = set()

    def read(frame: pl.DataFrame, model_id: str) -> pl.DataFrame:
        begun.add(model_id)
        wait_until(is_ending)
        return frame

    def is_ending() -> bool:
        frame = sys._current_frames()[threading.main_thread().ident or 0]
        return any(step.f_code.co_qualname == "ThreadPoolExecutor.shutdown" for step, _ in traceback.walk_stack(frame))

    one_core = replace(tasks[0].shop.settings, compute=replace(tasks[0].shop.settings.compute, jobs=1))
    changed = [
        replace(task, shop=replace(task.shop, settings=one_core, table=Table(partial(read, task.shop.frame, name))))
        for task, name in zip(tasks, ("first", "second", "third"), strict=True)
    ]
    changed[0] = replace(changed[0], path=changed[0].path.with_suffix(".missing"))
    with pytest.raises(IntegrityError, match="missing"):
        score_all(changed, list_later(tasks), ignore)
    assert begun <= {"second"}, "which may have been begun before the first one was seen to fail"


def test_no_task_has_no_score(tmp_path: Path) -> None:
    assert score_all([], [WEEKS[0]], ignore) == {}


def test_a_line_more_in_the_code_trains_a_week_of_the_backtest_again(
    tasks: list[UnitTraining], change_code: Callable[[], None]
) -> None:
    shop, unit = tasks[0].shop, tasks[0].unit
    assert [task.path for task in shop.prepare([unit])] == [tasks[0].path]
    change_code()
    (task,) = shop.prepare([unit])
    assert task.path.parent != tasks[0].path.parent
    with open_engine(shop.settings, ignore) as engine:
        assert train_all([task], engine, ignore) == ({}, 0), "none was there"
    shutil.rmtree(task.path.parent)
