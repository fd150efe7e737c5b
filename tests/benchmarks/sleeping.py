"""How far a Dask cluster carries: tasks that sleep as long as they take, so that its threads share no processor."""

import time
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import polars as pl

from hftcl.compute import Rows, Table, Task, Wanted
from hftcl.compute.cluster import ClusterEngine
from hftcl.settings import Compute, Settings
from tests.compute.orders import Order, add_up
from tests.compute.processes import run_cluster, wait_until

EACH: Final = 8
"""Tasks for each thread: a backtest of 128 trainings on sixteen."""
SLEEP_S: Final = 3.0
"""Less than a training of 66,000 rows and 200 trees takes on a core of its own."""
WORKERS: Final = 4
"""Processes that the threads are shared by: more would keep a small machine from its clock."""


def measure_sleepers(threads: int) -> float:
    """Return the seconds in which the threads of a named cluster do EACH tasks each; 1 or a multiple of WORKERS."""
    workers = min(threads, WORKERS)
    rows = Rows(
        table=Table(lambda: pl.DataFrame({"ticker": ["A"], "ts": [0], "session": [date(2026, 1, 5)], "close": [1.0]}))
    )
    with TemporaryDirectory(prefix="hftcl-sleepers-") as name:
        folder = Path(name)
        with run_cluster(folder, workers=0) as cluster:
            for _ in range(workers):
                cluster.start_worker("--nthreads", str(threads // workers))
            settings = Settings(compute=Compute(backend="dask", scheduler=cluster.url))
            wait_for_workers(settings, workers)
            tasks = [
                Task(
                    name=f"task {number}",
                    function=add_up,
                    rows=rows,
                    order=Order(number=number, folder=folder, seconds=SLEEP_S),
                )
                for number in range(EACH * threads)
            ]
            with ClusterEngine(settings) as engine:
                team = engine.gather(Wanted(rows_bytes=0, stage="train"))
                began = time.monotonic()
                done = list(team.run(tasks))
                wall_s = time.monotonic() - began
    assert (len(done), team.at_once) == (len(tasks), threads)
    return wall_s


def wait_for_workers(settings: Settings, workers: int) -> None:
    with ClusterEngine(settings) as engine:
        wait_until(lambda: len(engine.list_workers(lambda: None)) == workers)
