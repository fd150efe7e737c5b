"""Tasks on this machine: in threads, each with a training process of its own, as many as cores and memory allow."""

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import InitVar, dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, Self, TypeVar

from hftcl.compute.crew import Crew, count_cores
from hftcl.compute.tasks import Bench, OnTold, Task, Wanted
from hftcl.errors import TrainingKilledError
from hftcl.events import Event, OnEvent, RequireGoing, go_on
from hftcl.model.training import TrainingPool
from hftcl.settings import Settings
from hftcl.waiting import GLANCE_S

R = TypeVar("R")


@dataclass(slots=True)
class LocalEngine:
    """The training processes of a command, kept warm from one team to the next; a context, which ends them.

    pool: the caller's, which stays; None for one of its own.
    """

    settings: Settings
    on_event: OnEvent = field(repr=False)
    pool: InitVar[TrainingPool | None] = None
    _pool: TrainingPool = field(init=False, repr=False)
    _stack: ExitStack = field(default_factory=ExitStack, init=False, repr=False)

    def __post_init__(self, pool: TrainingPool | None) -> None:
        """Take the caller's processes, or begin without one."""
        self._pool = TrainingPool() if pool is None else pool
        if pool is None:
            self._stack.push(self._pool)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def gather(self, wanted: Wanted) -> "LocalTeam":
        """Return a team whose members share the cores: two trainings on a core each are as fast as one on two.

        And the seconds in which a child starts overlap. One at a time where each fills the cores by itself.
        """
        cores = count_cores(self.settings)
        at_once = 1 if wanted.fills_cores else wanted.count_at_once(cores)
        jobs = cores if wanted.uses_all_cores else max(1, cores // at_once)
        crew = Crew(at_once, self._pool, wanted.rows_bytes, wanted.stage, self.on_event)
        return LocalTeam(pool=self._pool, crew=crew, at_once=at_once, jobs=jobs)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalTeam:
    """Trains `at_once` at the same time, each on `jobs` cores."""

    pool: TrainingPool
    crew: Crew
    at_once: int
    jobs: int

    def call(self, task: Task[R], require_going: Callable[[], None]) -> R:
        """Run a task in this thread, once there is room for it."""
        return self.do(task, lambda _: require_going(), require_going)

    def run(
        self, tasks: Iterable[Task[R]], on_told: OnTold | None = None, require_going: RequireGoing = go_on
    ) -> Iterator[tuple[int, R]]:
        """Yield (number, result) as they are done; in threads, because each trains in a process of its own.

        Where it is left before its end, whatever its pool trains is killed, and it waits for its threads.
        """
        yield from _Shift(self, on_told, require_going).work(tasks)

    def do(self, task: Task[R], listen: OnEvent, require_going: Callable[[], None]) -> R:
        """Run a task in this thread, once there is room; `listen` hears its steps, `require_going` may end it."""
        bench = Bench(pool=self.pool, jobs=self.jobs, on_event=listen, require_going=require_going)

        def work() -> R:
            require_going()
            try:
                return task.function(task.rows.load(), task.order, bench)
            except TrainingKilledError:
                require_going()  # else it was killed because it is not wanted, and memory is not short
                raise

        return self.crew.train(work)


class _Shift:
    """Tasks at work in threads, heard and ended by the thread that waits for them."""

    def __init__(self, team: LocalTeam, on_told: OnTold | None, require_going: RequireGoing) -> None:
        self._team, self._on_told, self._require_wanted = team, on_told, require_going
        self._said: SimpleQueue[Any] = SimpleQueue()  # futures that are done, and (number, event) of what is told
        self._is_over = threading.Event()

    def work(self, tasks: Iterable[Task[Any]]) -> Iterator[tuple[int, Any]]:
        with ThreadPoolExecutor(self._team.at_once, "task") as threads:
            running: dict[Future[Any], int] = {}
            try:
                for number, task in enumerate(tasks):
                    future = threads.submit(self._do, number, task)
                    running[future] = number
                    future.add_done_callback(self._said.put)
                while running:
                    heard = self._take()
                    self._require_wanted()
                    if isinstance(heard, Future):
                        number = running.pop(heard)
                        yield number, heard.result(0)
                    elif heard is not None and self._on_told is not None:
                        self._on_told(*heard)
            except Exception:
                yield from _list_done(running)  # what one fault ends is not to cost what others came to before it
                raise
            finally:
                try:
                    self._end(running)
                finally:  # a second Ctrl-C may come before the first step of `_end`; done twice it is the same
                    self._end(running)

    def _take(self) -> Any:
        try:
            return self._said.get(timeout=GLANCE_S)
        except Empty:  # a look, so that Ctrl-C is heard
            return None

    def _do(self, number: int, task: Task[Any]) -> Any:
        def listen(event: Event) -> None:
            self._require_going()
            if self._on_told is not None:
                self._said.put((number, event))

        return self._team.do(task, listen, self._require_going)

    def _require_going(self) -> None:
        if self._is_over.is_set():
            raise _OverError

    def _end(self, left: Collection[Future[Any]]) -> None:
        """End what runs, then raise what a signal has raised meanwhile: nothing else would end the threads."""
        stop: BaseException | None = None
        while True:
            try:
                self._kill(left)
            except Exception:
                raise
            except BaseException as late:  # noqa: BLE001 - Ctrl-C once more
                stop = late
            else:
                break
        if stop is not None:
            raise stop

    def _kill(self, left: Collection[Future[Any]]) -> None:
        """End what runs, at each glance: a task may be about to train."""
        self._is_over.set()
        for future in left:
            future.cancel()
        while working := [future for future in left if not future.done()]:
            self._team.pool.kill()
            wait(working, timeout=GLANCE_S)


def _list_done(running: Mapping[Future[Any], int]) -> list[tuple[int, Any]]:
    """Return (number, result) of the tasks that have ended well."""
    ended = [future for future in running if future.done() and not future.cancelled()]
    return [(running[future], future.result(0)) for future in ended if future.exception(0) is None]


class _OverError(Exception):
    """Ends a task that is not wanted any more."""
