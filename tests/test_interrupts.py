"""A stop that comes while SQLite calls a function of ours arrives as a stop, and not as a damaged file."""

import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Never

import pytest

from hftcl import sqlite
from hftcl.interrupts import raise_from_handler, raise_lost
from hftcl.ledger.reader import LedgerReader
from hftcl.ledger.schema import LEDGER
from tests.ledger.ledger_cases import write_ledger

ROUNDS = 30  # most moments lie within the check of a seal


def stop(signum: int, frame: FrameType | None) -> Never:
    raise_from_handler(SystemExit(128 + signum), frame)


@pytest.fixture
def handled() -> Iterator[None]:
    """Let SIGALRM stop this process as SIGTERM stops a command."""
    before = signal.signal(signal.SIGALRM, stop)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def read_again_and_again(path: Path) -> None:
    with LedgerReader(path) as reader, sqlite.faults("reading the ledger", path, LEDGER):
        while True:
            reader._db.execute("SELECT count(*) FROM decisions").fetchone()  # of a view that checks each row's seal


@pytest.mark.usefixtures("handled")
def test_a_stop_at_any_moment_of_reading_sealed_rows_is_a_stop(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    write_ledger(path)
    for number in range(ROUNDS):
        signal.setitimer(signal.ITIMER_REAL, 0.01 + number * 0.0007)
        with pytest.raises(SystemExit) as stopped:
            read_again_and_again(path)
        assert stopped.value.code == 128 + signal.SIGALRM


@pytest.mark.usefixtures("handled")
def test_a_stop_that_arrived_is_not_raised_again() -> None:
    with pytest.raises(SystemExit):
        signal.raise_signal(signal.SIGALRM)
    raise_lost({stop.__code__})
