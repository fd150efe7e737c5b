"""Waits for threads: what comes out of them, and that Ctrl-C is heard meanwhile."""

import subprocess
import sys
import threading
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor

import pytest

from hftcl.waiting import map_in_threads, wait_for_result, yield_done
from tests.installed import PATIENCE_S

PROGRAM = """
import os, signal, sys, threading, time
from concurrent.futures import Future, ThreadPoolExecutor
import polars
from hftcl.waiting import map_in_threads, wait_for_result, yield_done
signal.siginterrupt(signal.SIGINT, False)  # as polars leaves it after a query
def press():
    time.sleep(0.3)  # by then the main thread waits
    os.kill(os.getpid(), signal.SIGINT)
for wait in (lambda: wait_for_result(Future()), lambda: list(yield_done([Future()]))):
    try:
        threading.Thread(target=press).start()
        wait()
    except KeyboardInterrupt:
        print("heard", flush=True)
"""


def test_ctrl_c_is_heard_during_each_wait() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )
    assert done.stdout.split() == ["heard", "heard"]


def test_a_future_that_fails_with_a_time_out_of_its_own_is_not_waited_for_again() -> None:
    future: Future[int] = Future()
    future.set_exception(TimeoutError("of the work"))
    with pytest.raises(TimeoutError, match="of the work"):
        wait_for_result(future)


def test_what_was_cancelled_before_a_thread_came_to_it_is_waited_for_no_more() -> None:
    future, other = Future[int](), Future[int]()
    assert future.cancel()
    with pytest.raises(CancelledError):
        wait_for_result(future)
    done = yield_done([future, other])
    assert next(done) is future
    other.set_result(1)
    assert list(done) == [other]


def test_what_is_done_first_comes_first() -> None:
    first, second = Future[str](), Future[str]()
    second.set_result("second")
    done = yield_done([first, second])
    assert next(done) is second
    first.set_result("first")
    assert list(done) == [first]


def test_results_come_in_the_order_of_what_was_asked_and_what_has_not_begun_is_cancelled_at_the_end() -> None:
    may_end, begun = threading.Event(), list[int]()

    def work(number: int) -> int:
        begun.append(number)
        if number == 1:
            may_end.wait(PATIENCE_S)
        return number * number

    with ThreadPoolExecutor(1) as threads:
        squares = map_in_threads(threads, work, range(4))
        assert next(squares) == 0
        squares.close()  # type: ignore[attr-defined]
        may_end.set()
    assert 3 not in begun
