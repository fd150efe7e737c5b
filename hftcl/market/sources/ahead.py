"""Answers fetched ahead, by a few threads, while the caller is busy with those before them."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING

from hftcl.market.sources import Question
from hftcl.waiting import wait_for_result

if TYPE_CHECKING:
    import polars as pl


class Ahead:
    """The answers to questions, in about their order; no more than `most` wait for their caller, so memory stays flat.

    The threads are daemons: what is under way when the process ends is dropped.
    """

    def __init__(
        self, ask: "Callable[[Question], pl.DataFrame]", questions: Sequence[Question], *, threads: int, most: int
    ) -> None:
        """Begin. ask: may raise, and then so does `take`."""
        self._ask = ask
        self._todo = deque(dict.fromkeys(questions))
        self._answers: dict[Question, Future[pl.DataFrame]] = {question: Future() for question in self._todo}
        self._room = threading.Semaphore(most)
        self._lock = threading.Lock()
        for n in range(min(threads, len(self._todo))):
            threading.Thread(target=self._work, name=f"ahead-{n}", daemon=True).start()

    def take(self, question: Question) -> "pl.DataFrame | None":
        """Return the answer, once; None where it is not on its way, and the caller asks himself."""
        with self._lock:
            answer = self._answers.pop(question, None)
            if answer is None:
                return None
            if question in self._todo:
                self._todo.remove(question)
                return None
        try:
            return wait_for_result(answer)
        finally:
            self._room.release()

    def stop(self) -> None:
        """Ask nothing more."""
        with self._lock:
            self._todo.clear()
        self._room.release()

    def _work(self) -> None:
        while True:
            self._room.acquire()
            with self._lock:
                if not self._todo:
                    self._room.release()
                    return
                question = self._todo.popleft()
                answer = self._answers[question]
            try:
                answer.set_result(self._ask(question))
            except Exception as error:  # noqa: BLE001 - it is the caller's, whatever it is
                answer.set_exception(error)
