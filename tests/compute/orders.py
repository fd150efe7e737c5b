"""Tasks of the tests, which the workers of a real cluster load: small, and with what they did left in a folder."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from hftcl.compute import Bench
from hftcl.errors import NoRoomError, TrainingKilledError
from hftcl.events import Event
from hftcl.model.families import find_family
from hftcl.model.training import TrainingTask

PATIENCE_S = 300  # as in tests.installed, which a worker need not load


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """folder: where each run of a task leaves a file. wait_for: a file of it that it waits for, "" for none."""

    number: int
    folder: Path
    wait_for: str = ""
    seconds: float = 0.0


def leave_mark(order: Order) -> None:
    (order.folder / f"begun_{order.number}_{os.getpid()}").touch()


def add_up(rows: pl.DataFrame, order: Order, bench: Bench) -> tuple[int, float]:
    leave_mark(order)
    until = time.monotonic() + PATIENCE_S
    while order.wait_for and not (order.folder / order.wait_for).exists():
        assert time.monotonic() < until, "never let go"
        time.sleep(0.02)
    time.sleep(order.seconds)
    return order.number, float(rows["close"].sum())


def tell_steps(rows: pl.DataFrame, order: Order, bench: Bench) -> int:
    for done in (1, 2):
        bench.on_event(Event("fit", done, 2, f"of {order.number}"))
    wait_for_heard(order)
    return order.number


def ask_often(rows: pl.DataFrame, order: Order, bench: Bench) -> None:
    """Work in this thread, and ask often whether to go on; leave a file where that ends it."""
    leave_mark(order)
    until = time.monotonic() + PATIENCE_S
    while not (order.folder / order.wait_for).exists():
        assert time.monotonic() < until, "never let go"
        try:
            bench.require_going()
        except Exception:
            (order.folder / "ended").touch()
            raise
        time.sleep(0.02)


def tell_often(rows: pl.DataFrame, order: Order, bench: Bench) -> bool:
    """Tell ten steps a second until a file is there; return whether it came within `order.seconds`."""
    until, done = time.monotonic() + order.seconds, 0
    while not (order.folder / order.wait_for).exists():
        if time.monotonic() > until:
            return False
        done += 1
        bench.on_event(Event("fit", done, 1000))
        time.sleep(0.1)
    return True


def wait_for_heard(order: Order) -> None:
    """Wait until the test has heard: what is told of a task that has ended comes too late."""
    until = time.monotonic() + PATIENCE_S
    while not (order.folder / f"heard_{order.number}").exists():
        assert time.monotonic() < until, "never heard"
        time.sleep(0.02)


def work_alone(rows: pl.DataFrame, order: Order, bench: Bench) -> int:
    """Raise FileExistsError where another one works at the same time, and return the number of this process."""
    (order.folder / "at_work").mkdir()
    time.sleep(order.seconds)
    (order.folder / "at_work").rmdir()
    return os.getpid()


def die(rows: pl.DataFrame, order: Order, bench: Bench) -> None:
    leave_mark(order)
    os._exit(1)


def fail(rows: pl.DataFrame, order: Order, bench: Bench) -> None:
    """Leave a file, and raise what a family may."""
    add_up(rows, order, bench)
    (order.folder / "failed").touch()
    raise ValueError("a feature without variation")


def lose_its_training(rows: pl.DataFrame, order: Order, bench: Bench) -> str:
    """Be killed as by the kernel's killer the first time."""
    first = not list(order.folder.glob("begun_*"))
    leave_mark(order)
    if first:
        raise TrainingKilledError("The training process was killed.")
    return "done"


def lack_room_once(rows: pl.DataFrame, order: Order, bench: Bench) -> str:
    """Find no room on the disk the first time, as on one worker of several."""
    first = not list(order.folder.glob("begun_*"))
    leave_mark(order)
    if first:
        raise NoRoomError("Bars and training rows could not be written to /tmp: No space left on device.")
    return "done"


def always_lose_its_training(rows: pl.DataFrame, order: Order, bench: Bench) -> None:
    raise TrainingKilledError("The training process was killed (SIGKILL). Use fewer trees.")


def find_unknown_family(rows: pl.DataFrame, order: Order, bench: Bench) -> None:
    find_family("mine")


def fill_the_disk(rows: pl.DataFrame, order: Order, bench: Bench) -> None:
    raise NoRoomError("Bars and training rows could not be written to /tmp: No space left on device.")


def train_when_cancelled(rows: pl.DataFrame, order: Order, bench: Bench) -> None:
    """Train nothing yet when it is cancelled, nor at the first glances after that."""
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()
    leave_mark(order)
    while (task := worker.state.tasks.get(key)) is not None and task.state != "cancelled":
        time.sleep(0.02)
    time.sleep(1.5)
    try:
        train_long(rows, order, bench)
    finally:
        (order.folder / "over").touch()


def train_late(rows: pl.DataFrame, order: Order, bench: Bench) -> None:
    """Train for seconds once a file is there, and leave another one where that came to its end."""
    add_up(rows, order, bench)
    train_long(rows, order, bench, trees=100)
    (order.folder / "trained").touch()


def train_long(rows: pl.DataFrame, order: Order, bench: Bench, trees: int = 10_000) -> None:
    """Train what takes minutes unless there are few trees, and leave the number of the training process.

    LightGBM: its process loads for 0.5 CPU seconds, that of the forest for 1.2 (measured).
    """
    X = np.random.default_rng(7).normal(size=(20_000, 31)).astype(np.float32)
    row = np.arange(len(X))
    task = TrainingTask(
        X=X,
        y=X[:, 0],
        fitted=row < 15_000,
        held_out=row >= 16_000,
        family="lightgbm",
        params={"n_estimators": trees},
    )
    leave_mark(order)
    bench.pool.train(task)
