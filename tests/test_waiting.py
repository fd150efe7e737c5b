"""Waits for threads: what comes out of them, that Ctrl-C is heard meanwhile, and that the end is not kept waiting."""

import fcntl
import os
import resource
import subprocess
import sys
import threading
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor

import pytest

from hftcl.waiting import DaemonThreads, map_in_threads, wait_for_result, wait_until_readable, yield_done
from tests.installed import PATIENCE_S

PROGRAM = """
import os, signal, sys, threading, time
from concurrent.futures import Future, ThreadPoolExecutor
import polars
from hftcl.waiting import DaemonThreads, map_in_threads, wait_for_result, yield_done
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


HANGS = """
import threading
from hftcl.waiting import DaemonThreads
begun = threading.Event()
def hang():
    begun.set()
    threading.Event().wait()
threads = DaemonThreads(2, "service")
asked = [threads.submit(hang), threads.submit(hang), threads.submit(hang)]
begun.wait()
threads.shutdown(wait=False, cancel_futures=True)
print("closed", asked[2].cancelled())
"""


def test_a_program_ends_though_a_call_hangs() -> None:
    done = subprocess.run([sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    assert done.stdout == "closed True\n"


def test_daemon_threads_do_what_any_executor_does() -> None:
    together = threading.Barrier(2)

    def work(number: int) -> int:
        together.wait(PATIENCE_S)  # two at once, or none gets on
        return 100 // number

    with DaemonThreads(2, "pair") as threads:
        assert list(map_in_threads(threads, work, [1, 2, 4, 5])) == [100, 50, 25, 20]
        failing = threads.submit(lambda: 1 // 0)
        slow = threads.submit(lambda: threading.Event().wait(0.2))
    assert isinstance(failing.exception(0), ZeroDivisionError)
    assert slow.result(0) is False, "`with` waits for what was submitted"
    with pytest.raises(RuntimeError, match="'pair' were shut down"):
        threads.submit(print)


NO_THREAD = """
import resource, sys, threading
from hftcl.model import lasting_thread
from hftcl.waiting import DaemonThreads
limit = resource.getrlimit(resource.RLIMIT_AS)
# room for what is imported and little more: no stack of a gibibyte
resource.setrlimit(resource.RLIMIT_AS, (1 << 29, limit[1]))
for _ in range(2):  # the second try meets what the first has left
    try:
        with DaemonThreads(2, "service") as threads:
            threading.stack_size(0)
            threads.submit(int).result()
            threading.stack_size(1 << 30)
            threads.submit(int)
    except RuntimeError as error:
        print(error)
    try:
        lasting_thread.run_in_lasting_thread(int)
    except RuntimeError as error:
        print(error)
resource.setrlimit(resource.RLIMIT_AS, limit)
threading.stack_size(0)
print(lasting_thread.run_in_lasting_thread(int))
"""


def test_where_no_thread_can_be_started_that_is_told_and_the_next_try_is_as_good_as_the_first() -> None:
    done = subprocess.run(
        [sys.executable, "-c", NO_THREAD], capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )
    assert done.stdout.splitlines() == ["can't start new thread"] * 4 + ["0"]


def test_no_more_daemon_threads_work_at_once_than_were_asked_for() -> None:
    lock, at_work, most = threading.Lock(), 0, 0

    def work(_: int) -> None:
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        threading.Event().wait(0.01)
        with lock:
            at_work -= 1

    with DaemonThreads(3, "three") as threads:
        list(map_in_threads(threads, work, range(12)))
    assert most <= 3
    assert all(thread.name.partition("_")[0] != "three" for thread in threading.enumerate())


def test_what_can_be_read_is_waited_for_by_whatever_number_its_file_has() -> None:
    """select.select refuses a number above 1023."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1100) if hard < 0 else min(hard, max(soft, 1100)), hard))
    read, write = os.pipe()
    high = fcntl.fcntl(read, fcntl.F_DUPFD, 1024)
    try:
        assert not wait_until_readable(high, -1)
        assert not wait_until_readable(high, 0.01)
        os.write(write, b".")
        assert wait_until_readable(high, PATIENCE_S)
        os.read(high, 1)
        os.close(write)
        assert wait_until_readable(high, PATIENCE_S), "its end can be read, too"
    finally:
        os.close(high)
        os.close(read)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
