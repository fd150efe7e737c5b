"""Waits for threads, during which Ctrl-C is heard, and for what can be read.

polars asks the system to restart what SIGINT has cut short (SA_RESTART), also a wait for a lock; and Python calls the
handler of a signal between two of its own steps alone. A wait without a limit would swallow Ctrl-C until it is over.
Each wait for a thread is one of many short ones.

The end of the program is a wait, too: Python joins each thread of a ThreadPoolExecutor before it ends
(https://docs.python.org/3/library/concurrent.futures.html#threadpoolexecutor), also one that asks a service which is
silent. `DaemonThreads` are for those.
"""

import select
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeVar

T = TypeVar("T")
S = TypeVar("S")

GLANCE_S: Final = 0.2
"""Of one wait: who presses Ctrl-C sees no delay, and five looks a second cost nothing."""


def wait_until_readable(descriptor: int, seconds: float) -> bool:
    """Return whether `descriptor` has something to read, or has ended, within `seconds`; below 0 is 0."""
    poll = select.poll()  # select.select takes no descriptor above 1023, and a long run may have as many open
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(max(seconds, 0.0) * 1000))


def wait_for_result(future: "Future[T]") -> T:
    """Return what `future` comes to, or raise what it raised, or CancelledError."""
    while not future.done():  # which `wait` says of one that was cancelled only once a thread has come to it
        wait([future], timeout=GLANCE_S)
    return future.result(0)


def yield_done(futures: "Iterable[Future[T]]") -> "Iterator[Future[T]]":
    """Yield each future once it is done, or was cancelled, whichever is first."""
    left = set(futures)
    while left:
        wait(left, timeout=GLANCE_S, return_when=FIRST_COMPLETED)
        done = {future for future in left if future.done()}
        left -= done
        yield from done


def map_in_threads(threads: Executor, work: Callable[[S], T], items: Iterable[S]) -> Iterator[T]:
    """Yield `work(item)` for each item, in their order; all are begun with the first that is asked for.

    Those that have not begun when the iterator ends are cancelled: give it no name, which would keep it from ending
    with the loop over it before `threads` waits for all of them.
    """
    futures = deque(threads.submit(work, item) for item in items)
    try:
        while futures:
            yield wait_for_result(futures.popleft())
    finally:
        for future in futures:
            future.cancel()


class DaemonThreads(Executor):
    """An executor for calls that may hang, such as of a service: the program ends without waiting for them.

    `with` waits for what has begun, as with any executor; `shutdown(wait=False, cancel_futures=True)` leaves it behind.
    """

    def __init__(self, most: int, name: str) -> None:
        """most: threads at once, begun as work comes in. name: of the threads, as a debugger shows it."""
        self._most = most
        self._name = name
        self._lock = threading.Lock()
        self._work: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._is_closed = False

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> "Future[T]":
        """Return what `fn` will come to. Raises RuntimeError after `shutdown`."""
        future: Future[T] = Future()
        with self._lock:
            if self._is_closed:
                raise RuntimeError(f"the threads {self._name!r} were shut down")
            if len(self._threads) < self._most:
                name = f"{self._name}_{len(self._threads)}"
                thread = threading.Thread(target=_serve, args=(self._work,), name=name, daemon=True)
                thread.start()  # where none can be, that is raised, and there is none to wait for
                self._threads.append(thread)
            self._work.put((future, partial(fn, *args, **kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work.

        wait: until what was submitted is done. cancel_futures: what has not begun never does.
        """
        with self._lock:
            self._is_closed = True
            while cancel_futures:
                try:
                    asked = self._work.get_nowait()
                except Empty:
                    break
                if asked is not None:
                    asked[0].cancel()
            for _ in self._threads:
                self._work.put(None)
        while wait and any(thread.is_alive() for thread in self._threads):
            for thread in self._threads:
                thread.join(GLANCE_S)


def _serve(work: "SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]") -> None:
    """Do what comes, until None does; a thread that waits keeps nothing of what it did."""
    while (asked := work.get()) is not None:
        future, call = asked
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001 - it is the caller's, whatever it is
                future.set_exception(error)
        del asked, future, call
