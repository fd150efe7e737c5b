"""Archives copies of a ledger, each killed some steps later: python -m tests.ledger.archive_driver LEDGER FOLDER STEPS.

A step is a statement of SQLite, or a file that is opened, renamed or removed. Each copy lies in FOLDER under the number
of the step before which it was killed; the last one is archived as a whole.
"""

import os
import shutil
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from sqlite3 import Connection
from typing import Any

import polars  # noqa: F401 - what an import opens is no step
import pyarrow.parquet  # noqa: F401

from hftcl.ledger.writer import Ledger
from hftcl.sqlite import opening

STEPS = ("open", "os.rename", "os.remove", "os.mkdir")


def archive_until(path: Path, last: int) -> None:
    """Archive what is in the ledger at `path`; this process is killed before step `last`."""
    count = 0

    def step(statement: str = "") -> None:
        nonlocal count
        if statement.startswith("--"):
            return  # of a trigger: inside another one
        count += 1
        if count == last:
            os.kill(os.getpid(), signal.SIGKILL)

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if event in STEPS and str(path.parent) in str(arguments[0]):
            step()

    def connect(name: str) -> Connection:
        db = original(name)
        db.set_trace_callback(step)
        return db

    original = opening._connect
    opening._connect = connect  # the connection is the ledger's own, and nothing else of it changes
    sys.addaudithook(hear)
    with Ledger(path) as ledger:
        ledger.archive(datetime(2100, 1, 1, tzinfo=UTC))


def main(ledger: Path, folder: Path, steps: int) -> None:
    """Kill copy after copy of the folder of `ledger`, each `steps` later, until a step is not reached."""
    for number in range(1, 1000, steps):
        home = folder / f"{number:03d}"
        shutil.copytree(ledger.parent, home)
        pid = os.fork()  # nothing of polars or pyarrow has run yet: their threads would be missing in the child
        if pid == 0:
            archive_until(home / ledger.name, number)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        if not os.WIFSIGNALED(status):
            assert status == 0, status
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
