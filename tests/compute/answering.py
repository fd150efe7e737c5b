"""A team that runs tasks on this machine, for what comes back otherwise than it was asked for."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from hftcl.compute import Engine, Task, Wanted
from hftcl.compute.tasks import OnTold
from hftcl.events import RequireGoing, go_on


@dataclass(frozen=True)
class Answering:
    """Runs tasks as `engine` does; `answer` makes of a task and what it came to what comes back."""

    engine: Engine
    answer: Callable[[Task[Any], Any], Any]

    def gather(self, wanted: Wanted) -> "Answering":
        return self

    @property
    def at_once(self) -> int:
        return 1

    def call(self, task: Task[Any], require_going: Callable[[], None]) -> Any:
        raise AssertionError("all tasks are run in one go")

    def run(
        self, tasks: Iterable[Task[Any]], on_told: OnTold | None = None, require_going: RequireGoing = go_on
    ) -> Iterator[tuple[int, Any]]:
        team = self.engine.gather(Wanted(rows_bytes=0, stage="one by one", tasks=1))
        given = list(tasks)
        for number, result in team.run(given, on_told, require_going):
            yield number, self.answer(given[number], result)
