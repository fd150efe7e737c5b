"""What a task is: a pure function of rows and an order, which gives the same result on each machine."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from hftcl.events import Event, OnEvent, RequireGoing, go_on
from hftcl.model.training import TrainingPool

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Table:
    """Rows that several tasks read, which travel once: sorted by ticker and ts, with a column `session`.

    read: returns them; called again where they have to be sent again.
    """

    def __init__(self, read: Callable[[], pl.DataFrame]) -> None:
        self.read = read


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The rows of a table from session `first` to `last`, both included; all of them where both are None.

    uncut: on this machine the task is given the table as it is. For one that takes its own rows out of it, and adds up
    no column: else both copies would be held.
    """

    table: Table
    first: date | None = None
    last: date | None = None
    uncut: bool = False

    def load(self) -> pl.DataFrame:
        """Return them, in the table's order, each column in one piece: where its pieces end changes the sum of it.

        Where they are `uncut`, the whole table in the pieces that it has.
        """
        if self.uncut:
            return self.table.read()
        return cut_sessions(self.table.read(), self.first, self.last).rechunk()


Piece = Mapping[str, npt.NDArray[Any]]
"""Some rows of `Arrays`, which follow each other, by name."""


class Arrays:
    """Numbers that several tasks read, which travel once, in pieces: `columns` by name, all with as many rows.

    A task is given their pieces, in order: it can go through them as often as it likes, and holds one at a time.
    """

    def __init__(self, columns: Piece) -> None:
        self.columns = columns

    def load(self) -> Iterable[Piece]:
        """Return them as one piece, as they are."""
        return (self.columns,)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(next(iter(self.columns.values())))

    @property
    def row_bytes(self) -> int:
        """What one row takes."""
        return sum(int(np.prod(column.shape[1:])) * column.itemsize for column in self.columns.values())


def cut_sessions(frame: pl.DataFrame, first: date | None, last: date | None) -> pl.DataFrame:
    """Return the rows of the sessions `first` to `last`; the frame itself where both are None."""
    if first is None or last is None:
        return frame
    return frame.filter(pl.col("session").is_between(first, last))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What a task finds where it runs: processes that train, the cores for one training, and who hears of its steps.

    require_going: ends the task where it is wanted no more, for it runs in a thread that no Ctrl-C reaches.
    """

    pool: TrainingPool
    jobs: int
    on_event: OnEvent
    require_going: RequireGoing = go_on


@dataclass(frozen=True, slots=True, kw_only=True)
class Task(Generic[R_co]):
    """One unit of work. name: for a person, such as the model's id.

    function: of a module, so that another process finds it; called with the rows (of `Rows` a frame, of `Arrays` their
    pieces), the order and a bench. order: what it is told, which may travel: no secret, no path of this machine.
    """

    name: str
    function: Callable[[Any, Any, Bench], R_co]
    rows: Rows | Arrays = field(repr=False)
    order: Any = field(repr=False)


OnTold = Callable[[int, Event], None]
"""Called with the number of a task and what it tells, or, with a `total` of 0, that it waits for a worker."""


class Team(Protocol):
    """Runs tasks, `at_once` of them at the same time. Safe for several threads."""

    @property
    def at_once(self) -> int:
        """How many threads keep it busy that each wait for one task."""

    def call(self, task: Task[R], require_going: Callable[[], None]) -> R:
        """Return what a task comes to. require_going: is called now and then; what it raises ends the task."""

    def run(
        self, tasks: Iterable[Task[R]], on_told: OnTold | None = None, require_going: RequireGoing = go_on
    ) -> Iterator[tuple[int, R]]:
        """Yield (number in `tasks`, result) as they are done. Whatever ends this ends those that run.

        In the thread that waits here `on_told` hears what the tasks tell their benches, and `require_going` is called
        at each glance, also while they tell nothing; what one of them raises ends this.
        """


class Engine(Protocol):
    """A place where tasks run, opened by `open_engine`."""

    def gather(self, wanted: "Wanted") -> Team:
        """Return who runs tasks of one kind. Raises ComputeError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is wanted of a team. rows_bytes: what the rows of one task take in this process. stage: of its events.

    workers: how many tasks at the same time, 0 for as many as there are cores. tasks: how many there are, 0 where that
    is not known. uses_all_cores: each task may use every core: where they are few, the last ones would else leave cores
    idle. fills_cores: each keeps all cores of a machine busy by itself, so that on this one they run one after the
    other: two at the same time would be no faster, and take the memory of two. streams: each has rows of its own, and
    comes to as much: a cluster is sent one when another has come back, so that neither all rows nor all results lie
    there at the same time.
    """

    rows_bytes: int
    stage: str
    workers: int = 0
    tasks: int = 0
    uses_all_cores: bool = False
    fills_cores: bool = False
    streams: bool = False

    def count_at_once(self, cores: int) -> int:
        """Return how many tasks can run at the same time where there are so many cores, 1 or more."""
        at_once = self.workers or cores
        return min(at_once, self.tasks) if self.tasks else at_once
