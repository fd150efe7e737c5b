"""A stop arrives as a stop, and not as a damaged file, and leaves nothing half done."""

import contextlib
import dis
import json
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import pytest

from hftcl import sqlite
from hftcl.interrupts import find_replaced_stop, hold_back, let_out, raise_from_handler, raise_lost
from hftcl.ledger.reader import LedgerReader
from hftcl.ledger.schema import LEDGER
from tests.ledger.ledger_cases import write_ledger

if TYPE_CHECKING:
    from _typeshed import TraceFunction

ROUNDS = 30  # most moments lie within the check of a seal


def stop(signum: int, frame: FrameType | None) -> None:
    raise_from_handler(SystemExit(128 + signum), signum, frame)


@pytest.fixture
def handled() -> Iterator[None]:
    """Let SIGALRM stop this process as SIGTERM stops a command."""
    before = signal.signal(signal.SIGALRM, stop)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def read_again_and_again(path: Path, *, ring_after_s: float) -> None:
    signal.setitimer(signal.ITIMER_REAL, ring_after_s)  # here: within what expects the stop, however early it comes
    with LedgerReader(path) as reader, sqlite.faults("reading the ledger", path, LEDGER):
        while True:
            reader._db.execute("SELECT count(*) FROM decisions").fetchone()  # of a view that checks each row's seal


@pytest.mark.usefixtures("handled")
def test_a_stop_at_any_moment_of_reading_sealed_rows_is_a_stop(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    write_ledger(path)
    for number in range(ROUNDS):
        with pytest.raises(SystemExit) as stopped:
            read_again_and_again(path, ring_after_s=0.01 + number * 0.0007)
        assert stopped.value.code == 128 + signal.SIGALRM


@pytest.mark.usefixtures("handled")
def test_a_stop_that_arrived_is_not_raised_again() -> None:
    with pytest.raises(SystemExit):
        signal.raise_signal(signal.SIGALRM)
    raise_lost({stop.__code__})


LOOKS_AFTER = ("RESUME", "CALL", "CALL_FUNCTION_EX", "JUMP_BACKWARD")
"""Instructions after which Python runs signal handlers (`CHECK_EVAL_BREAKER` in CPython's Python/ceval.c)."""


def looks_for_signals(frame: FrameType) -> bool:
    """Whether Python looks for signals before the instruction that it is about to begin."""
    before = [step.opname for step in dis.get_instructions(frame.f_code) if step.offset < frame.f_lasti]
    return bool(before) and before[-1] in LOOKS_AFTER


def trace_opcodes(act: Callable[[], None], at: int, counts: Callable[[FrameType], bool] = lambda _: True) -> int:
    """Do `act`, with a stop as Python begins its step number `at`; return how many steps it has.

    counts: whether a step does.
    """
    steps = 0

    def trace(frame: FrameType, event: str, argument: object) -> "TraceFunction | None":
        nonlocal steps
        if Path(frame.f_code.co_filename).name == "threading.py":
            return None  # who waits for a thread is not to be stopped in the middle of its locks by a test
        frame.f_trace_opcodes = True
        if event == "opcode" and counts(frame):
            steps += 1
            if steps == at:
                signal.raise_signal(signal.SIGALRM)
        return trace

    sys.settrace(trace)
    try:
        act()
    finally:
        sys.settrace(None)
    return steps


@pytest.mark.usefixtures("handled")
def test_a_stop_at_any_step_leaves_no_transaction_open() -> None:
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.execute("CREATE TABLE kept (number INTEGER)")

    def write() -> None:
        with sqlite.transaction(db):
            db.execute("INSERT INTO kept VALUES (1)")
            db.execute("INSERT INTO kept VALUES (2)")

    every = trace_opcodes(write, 0)
    assert every > 50  # else nothing was traced
    for at in range(1, every + 1):
        db.execute("DELETE FROM kept")
        with pytest.raises(SystemExit):
            trace_opcodes(write, at)
        assert not db.in_transaction, at
        assert db.execute("SELECT count(*) FROM kept").fetchone()[0] in {0, 2}, at
        write()  # neither is the next stop held back
        with pytest.raises(SystemExit):
            signal.raise_signal(signal.SIGALRM)
    db.close()


@pytest.mark.usefixtures("handled")
def test_a_stop_at_any_step_before_the_first_of_a_snapshot_leaves_it_closed() -> None:
    """Not held back: what is read within one may take seconds."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    is_entered = False

    def read() -> None:
        nonlocal is_entered
        is_entered = False
        with sqlite.snapshot(db):
            is_entered = True

    stops = 0
    for at in range(1, trace_opcodes(read, 0, looks_for_signals) + 1):
        with contextlib.suppress(SystemExit):
            trace_opcodes(read, at, looks_for_signals)
        if not is_entered:
            stops += 1
            assert not db.in_transaction, at
        elif db.in_transaction:
            db.execute("ROLLBACK")
    assert stops > 5  # else it was never stopped before
    db.close()


@pytest.mark.usefixtures("handled")
def test_a_stop_that_was_held_back_goes_before_the_error_of_the_block() -> None:
    def fail() -> None:
        with hold_back():
            signal.raise_signal(signal.SIGALRM)
            raise ValueError("of the block")

    with pytest.raises(SystemExit) as stopped:
        fail()
    assert isinstance(stopped.value.__context__, ValueError)


@pytest.mark.usefixtures("handled")
def test_what_another_thread_holds_does_not_hold_back_the_main_one() -> None:
    inside, done = threading.Event(), threading.Event()

    def hold() -> None:
        with hold_back():
            inside.set()
            done.wait()

    other = threading.Thread(target=hold)
    other.start()
    inside.wait()
    try:
        with pytest.raises(SystemExit):
            signal.raise_signal(signal.SIGALRM)
    finally:
        done.set()
        other.join()


@pytest.mark.usefixtures("handled")
def test_a_stop_that_a_stranger_keeps_to_itself_is_let_out_also_where_it_was_held_back() -> None:
    def keep() -> None:
        with let_out(), contextlib.suppress(SystemExit), hold_back():
            signal.raise_signal(signal.SIGALRM)

    with pytest.raises(SystemExit) as stopped:
        keep()
    assert stopped.value.code == 128 + signal.SIGALRM


@pytest.mark.usefixtures("handled")
def test_a_stop_of_the_main_thread_is_let_out_by_no_other_one() -> None:
    with ThreadPoolExecutor(1) as other:
        block = let_out()
        other.submit(block.__enter__).result()
        with pytest.raises(SystemExit):
            signal.raise_signal(signal.SIGALRM)
        other.submit(block.__exit__, None, None, None).result()


FINALIZER = """
import os, signal, sys, time
from contextlib import nullcontext
from hftcl.cli.process import _unwind
from hftcl.interrupts import repeat_what_finalizers_lose
from hftcl.schedule.stop import Stop

repeat_what_finalizers_lose()

class Mortal:
    def __init__(self, number):
        self.number = number
    def __del__(self):
        os.kill(os.getpid(), self.number)
        time.sleep(0.1)

def end(number, handler, scope):
    signal.signal(number, handler)
    try:
        with scope:
            Mortal(number)
            time.sleep(20)
            print("went on")
    except BaseException as error:
        print(type(error).__name__, getattr(error, "code", ""))

for number in (signal.SIGINT, signal.SIGTERM):
    end(number, _unwind, nullcontext())
    stop = Stop()
    end(number, stop.ask, stop.permit_interrupts())
"""


def test_a_stop_that_comes_while_a_finalizer_runs_is_a_stop() -> None:
    """Python tells on stderr what is raised there, and goes on: a command worked to its end, and exited with 0."""
    done = subprocess.run([sys.executable, "-c", FINALIZER], capture_output=True, text=True, check=False, timeout=300)
    told = ["KeyboardInterrupt ", "StopRequest ", "SystemExit 143", "StopRequest "]
    assert (done.stdout.splitlines(), done.stderr) == (told, "")


STOPPED = """
import os, signal, sys
from hftcl.cli import process
def look():
    try:
        os.kill(os.getpid(), signal.{name})
        [None for _ in range(1000)]
    except BaseException as stop:
        raise {made}
class Panic(BaseException):
    pass
process.find_look = lambda words: look
sys.argv = ["hftcl", "history", "--json"]
process.run()
"""


@pytest.mark.parametrize("made", ["Panic('Failed to access a capsule') from None", "ImportError('numpy') from stop"])
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_stop_of_which_a_library_makes_another_error_ends_the_command_as_a_stop(
    name: str, code: int, made: str, tmp_path: Path
) -> None:
    """So polars panics where Ctrl-C comes while it loads NumPy."""
    done = subprocess.run(
        [sys.executable, "-c", STOPPED.format(name=name, made=made)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert json.loads(done.stdout)["exit_status"] == code
    assert "Traceback" not in done.stderr


def test_a_panic_without_a_stop_is_one_line(tmp_path: Path) -> None:
    program = STOPPED.format(name="SIGURG", made="stop").replace(
        "[None for _ in range(1000)]", "raise Panic('out of it')"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("hftcl: unexpected Panic: out of it")
    assert "Traceback" not in done.stderr


def test_an_error_of_its_own_is_no_stop() -> None:
    assert find_replaced_stop(ValueError("before any signal, or long after one")) is None
