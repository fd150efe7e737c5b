"""Where child processes are started that end with this program, and not before it.

The kernel ends a child that has asked for it (PR_SET_PDEATHSIG, prctl(2)) with the thread that started it, not with the
process: one that a passing thread starts would end with that.
"""

import os
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, Final, TypeVar

from hftcl.waiting import wait_for_result

T = TypeVar("T")


def run_in_lasting_thread(start: Callable[[], T]) -> T:
    """Return `start()`, called in a thread that lives as long as the program; raise what it raises.

    For what takes milliseconds: there is one such thread, and it does one thing after the other.
    """
    return _THREAD.run(start)


class _LastingThread:
    """A daemon: nothing waits for it, and no child is ended before the program itself."""

    def __init__(self) -> None:
        """Begin without a thread: the first that is started brings it."""
        self._lock = Lock()
        self._program = 0
        self._asked: SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = SimpleQueue()

    def run(self, start: Callable[[], T]) -> T:
        future: Future[T] = Future()
        with self._lock:
            if self._program != os.getpid():  # a fork has the queue, and not the thread
                asked: SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = SimpleQueue()
                Thread(target=_serve, args=(asked,), name="children", daemon=True).start()
                self._program, self._asked = os.getpid(), asked  # where none can be started, the next one tries again
            self._asked.put((start, future))
        return wait_for_result(future)


def _serve(asked: "SimpleQueue[tuple[Callable[[], Any], Future[Any]]]") -> None:
    while True:
        start, future = asked.get()
        try:
            future.set_result(start())
        except Exception as error:  # noqa: BLE001 - it is raised where the child was asked for
            future.set_exception(error)
        del start, future  # until the next is asked for it would keep a child that its caller does not want any more


_THREAD: Final = _LastingThread()
