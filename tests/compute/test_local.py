"""Tasks in threads of this machine end when their caller is stopped, however often it is."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import polars as pl
import pytest

from hftcl.compute import Rows, Table, Task, Wanted
from hftcl.compute.local import LocalEngine
from hftcl.events import ignore
from hftcl.settings import Compute, Settings
from tests.compute.orders import Order, add_up, ask_often, fail, train_late
from tests.compute.processes import wait_for

TABLE = Table(lambda: pl.DataFrame({"close": [1.0]}))


@pytest.mark.parametrize("presses", [2, 3])
def test_a_further_ctrl_c_does_not_let_a_task_train_to_its_end(presses: int, tmp_path: Path) -> None:
    order = Order(number=1, folder=tmp_path, wait_for="go")
    task = Task(name="late", function=train_late, rows=Rows(table=TABLE, uncut=True), order=order)

    def interrupt() -> None:
        wait_for(tmp_path, "begun_*")
        for _ in range(presses):  # until "go" is there it cannot have ended
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.5)
        (tmp_path / "go").touch()

    presser = threading.Thread(target=interrupt)
    engine = LocalEngine(Settings(compute=Compute(jobs=1)), ignore)
    with pytest.raises(KeyboardInterrupt), pressing(presser), engine:
        list(engine.gather(Wanted(rows_bytes=0, stage="train")).run([task]))
    assert not (tmp_path / "trained").exists()


@contextlib.contextmanager
def pressing(presser: threading.Thread) -> Iterator[None]:
    """Wait for `presser` in the end, whatever it presses: a late Ctrl-C would end all tests, not this one."""
    presser.start()
    try:
        yield
    finally:
        while presser.is_alive():
            with contextlib.suppress(KeyboardInterrupt):
                presser.join()


def test_what_others_have_come_to_is_given_before_the_fault_of_one_is_raised(tmp_path: Path) -> None:
    """As the trainings of a backtest, each of which is kept as soon as it is given."""
    rows = Rows(table=TABLE, uncut=True)
    orders = [Order(number=number, folder=tmp_path, wait_for=name) for number, name in enumerate(["", "go", "failed"])]
    tasks: list[Task[object]] = [
        Task(name="task", function=function, rows=rows, order=order)
        for function, order in zip([add_up, fail, add_up], orders, strict=True)
    ]
    # two that ask whether to go on: once both have begun, each thread has ended all that went before
    tasks += [
        Task(name="later", function=ask_often, rows=rows, order=Order(number=number, folder=tmp_path, wait_for="never"))
        for number in (3, 4)
    ]
    given: list[int] = []

    def take() -> None:
        for number, _ in engine.gather(Wanted(rows_bytes=0, stage="train", workers=2)).run(tasks):
            given.append(number)
            (tmp_path / "go").touch()
            wait_for(tmp_path, "begun_[34]_*", 2)

    engine = LocalEngine(Settings(compute=Compute(jobs=2)), ignore)
    with engine, pytest.raises(ValueError, match="a feature without variation"):
        take()
    assert sorted(given) == [0, 2]


def test_a_task_that_trains_nothing_ends_too_where_it_asks_whether_to_go_on(tmp_path: Path) -> None:
    order = Order(number=1, folder=tmp_path, wait_for="go")
    task = Task(name="busy", function=ask_often, rows=Rows(table=TABLE, uncut=True), order=order)

    def interrupt() -> None:
        wait_for(tmp_path, "begun_*")
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5.0)  # a task that is not told ends here, so that the test does
        (tmp_path / "go").touch()

    presser = threading.Thread(target=interrupt)
    engine = LocalEngine(Settings(compute=Compute(jobs=1)), ignore)
    with pytest.raises(KeyboardInterrupt), pressing(presser), engine:
        list(engine.gather(Wanted(rows_bytes=0, stage="train")).run([task]))
    assert (tmp_path / "ended").exists()


def test_a_second_ctrl_c_in_the_moment_in_which_tasks_are_to_be_ended_ends_them(tmp_path: Path) -> None:
    order = Order(number=1, folder=tmp_path, wait_for="go")
    task = Task(name="late", function=train_late, rows=Rows(table=TABLE, uncut=True), order=order)
    pressed: list[str] = []

    def press_at_the_end(frame: FrameType, event: str, argument: object) -> None:
        """Press once more before the first step of what ends the tasks, and let them train unless they are."""
        if frame.f_code.co_name == "_end" and Path(frame.f_code.co_filename).name == "local.py" and not pressed:
            pressed.append(event)
            threading.Timer(1.0, (tmp_path / "go").touch).start()
            signal.raise_signal(signal.SIGINT)

    def interrupt() -> None:
        wait_for(tmp_path, "begun_*")
        os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=interrupt)
    before = sys.gettrace()
    with LocalEngine(Settings(compute=Compute(jobs=1)), ignore) as engine:
        try:
            sys.settrace(press_at_the_end)
            presser.start()
            with pytest.raises(KeyboardInterrupt):
                list(engine.gather(Wanted(rows_bytes=0, stage="train")).run([task]))
        finally:
            sys.settrace(before)
    presser.join()
    assert pressed == ["call"]
    assert not (tmp_path / "trained").exists()
