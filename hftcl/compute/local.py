"""Tasks on this machine: in threads, each with a training process of its own, as many as cores and memory allow."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Self, TypeVar

from hftcl.compute.crew import Crew, count_cores
from hftcl.compute.tasks import Bench, Task, Wanted
from hftcl.events import Event, OnEvent
from hftcl.model.training import TrainingPool
from hftcl.settings import Settings

R = TypeVar("R")


@dataclass(slots=True)
class LocalEngine:
    """The training processes of a command, kept warm from one team to the next; a context, which ends them."""

    settings: Settings
    on_event: OnEvent = field(repr=False)
    _pool: TrainingPool = field(default_factory=TrainingPool, init=False, repr=False)

    def __enter__(self) -> Self:
        self._pool.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._pool.__exit__(*exception)

    def gather(self, wanted: Wanted) -> "LocalTeam":
        """Return a team whose members share the cores: two trainings on a core each are as fast as one on two.

        And the seconds in which a child starts overlap.
        """
        cores = count_cores(self.settings)
        at_once = wanted.limit(cores)
        crew = Crew(at_once, self._pool, wanted.rows_bytes, wanted.stage, self.on_event)
        return LocalTeam(pool=self._pool, crew=crew, at_once=at_once, jobs=max(1, cores // at_once))


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalTeam:
    """Trains `at_once` at the same time, each on `jobs` cores."""

    pool: TrainingPool
    crew: Crew
    at_once: int
    jobs: int

    def call(self, task: Task[R], require_going: Callable[[], None]) -> R:
        """Run a task in this thread, once there is room for it."""

        def listen(event: Event) -> None:
            require_going()

        bench = Bench(pool=self.pool, jobs=self.jobs, on_event=listen)
        return self.crew.train(lambda: task.function(task.rows.load(), task.order, bench))

    def run(self, tasks: Sequence[Task[R]]) -> Iterator[tuple[int, R]]:
        """Yield (number, result) as they are done; in threads, because each trains in a process of its own."""
        import joblib

        def work(number: int, task: Task[R]) -> tuple[int, R]:
            return number, self.call(task, _go_on)

        parts = (joblib.delayed(work)(number, task) for number, task in enumerate(tasks))
        yield from joblib.Parallel(n_jobs=self.at_once, prefer="threads", return_as="generator_unordered")(parts)


def _go_on() -> None:
    """Let every task go on to its end."""
