"""Tasks in threads of this machine end when their caller is stopped, however often it is."""

import os
import signal
import threading
import time
from pathlib import Path

import polars as pl
import pytest

from hftcl.compute import Rows, Table, Task, Wanted
from hftcl.compute.local import LocalEngine
from hftcl.events import ignore
from hftcl.settings import Compute, Settings
from tests.compute.orders import Order, train_late
from tests.compute.processes import wait_for

TABLE = Table(lambda: pl.DataFrame({"close": [1.0]}))


def test_a_second_ctrl_c_does_not_let_a_task_train_to_its_end(tmp_path: Path) -> None:
    order = Order(number=1, folder=tmp_path, wait_for="go")
    task = Task(name="late", function=train_late, rows=Rows(table=TABLE, uncut=True), order=order)

    def interrupt() -> None:
        wait_for(tmp_path, "begun_*")
        for _ in range(2):  # until "go" is there it cannot have ended
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.5)
        (tmp_path / "go").touch()

    presses = threading.Thread(target=interrupt)
    with LocalEngine(Settings(compute=Compute(jobs=1)), ignore) as engine:
        presses.start()
        with pytest.raises(KeyboardInterrupt):
            list(engine.gather(Wanted(rows_bytes=0, stage="train")).run([task]))
    presses.join()
    assert not (tmp_path / "trained").exists()
