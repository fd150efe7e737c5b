"""Waits for threads during which Ctrl-C is heard.

polars asks the system to restart what SIGINT has cut short (SA_RESTART), also a wait for a lock; and Python calls the
handler of a signal between two of its own steps alone. A wait without a limit would swallow Ctrl-C until it is over.
Each wait here is one of many short ones.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from typing import Final, TypeVar

T = TypeVar("T")
S = TypeVar("S")

GLANCE_S: Final = 0.2
"""Of one wait: who presses Ctrl-C sees no delay, and five looks a second cost nothing."""


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
