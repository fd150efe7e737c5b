"""How many trainings run at the same time: as many as there are cores, and as fit into the memory that is free.

A training that the kernel ended for lack of memory, or whose rows found no room in $TMPDIR, no descriptor or no
addresses, is done again with fewer beside it.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, TypeVar

from hftcl.compute.cores import count_usable_cores
from hftcl.errors import NoRoomError, TrainingKilledError, split_remedy
from hftcl.events import Event, Level, OnEvent
from hftcl.formats import count, format_size
from hftcl.free_memory import LEFT_FREE, read_free_bytes
from hftcl.model.training import TrainingPool
from hftcl.settings import Settings
from hftcl.waiting import GLANCE_S

T = TypeVar("T")

# Before the first training has ended nothing is known of what one takes: with room for so much each, all begin at once.
# Chosen, not measured: where a training takes less, beginning with one costs time; where more, `_fit` corrects.
_UNKNOWN_BYTES: Final = 2 << 30


def count_cores(settings: Settings) -> int:
    """Return the processor cores that features, trainings and exams may use: [compute] jobs, or all that are ours.

    Raises ConfigError as `count_usable_cores`.
    """
    usable = count_usable_cores()  # also where `jobs` is set: a variable that is no number ends scikit-learn as well
    return settings.compute.jobs or usable


@dataclass(slots=True)
class Crew:
    """Lets at most so many of several threads train at the same time: `most`, or fewer where memory does not suffice.

    pool: whose processes train. rows_bytes: what one training holds in this process. stage: of the events. read_free:
    see `read_free_bytes`.
    """

    most: int
    pool: TrainingPool
    rows_bytes: int
    stage: str
    on_event: OnEvent
    read_free: Callable[[], int | None] = read_free_bytes
    _limit: int = field(init=False)
    _cap: int = field(init=False)
    _running: int = field(default=0, init=False)
    _told: int = field(init=False)
    _free: threading.Condition = field(default_factory=threading.Condition, init=False, repr=False)

    def __post_init__(self) -> None:
        """Begin with as many as fit of what one of the pool has taken before.

        Where it has trained nothing yet, with all where there is room for the largest training known, else with one,
        which is then measured.
        """
        self._cap = self._told = self._limit = self.most
        if self.pool.measure_memory()[1]:
            self._fit()
            return
        free = self.read_free()
        roomy = free is None or free >= self.most * (_UNKNOWN_BYTES + self.rows_bytes)
        self._limit = self.most if roomy else 1

    @property
    def limit(self) -> int:
        """How many may train at the same time, as of now."""
        return self._limit

    def train(self, work: Callable[[], T]) -> T:
        """Wait for a free place and return `work()`; once more with fewer beside it where memory or $TMPDIR was full.

        Raises TrainingKilledError where it was killed although nothing else was trained, and so NoRoomError.
        """
        while True:
            with self._take_place() as beside:
                try:
                    return work()
                except (TrainingKilledError, NoRoomError) as fault:
                    if beside == 1:
                        raise
                    self._lower(beside, fault)

    @contextmanager
    def _take_place(self) -> Iterator[int]:
        """Hold a place, and give how many there were when it was taken."""
        with self._free:
            while self._running >= self._limit:
                self._free.wait(GLANCE_S)  # with a limit, so that Ctrl-C is heard
            self._running += 1
            beside = self._limit
        try:
            yield beside
        finally:
            with self._free:
                self._running -= 1
                self._free.notify_all()  # they look when this one has let go of the lock
                self._fit()

    def _lower(self, beside: int, fault: TrainingKilledError | NoRoomError) -> None:
        with self._free:
            if self._cap < beside:  # another one that was killed at the same time has lowered it already
                return
            self._cap = self._limit = self._told = beside - 1
        if isinstance(fault, NoRoomError):
            why = f"a training found no place for its rows ({split_remedy(str(fault))[0].rstrip('.')})"
        else:
            why = "a training was killed, most likely for lack of memory"
        text = (
            f"{why}: it is done again, and from here on "
            f"{count(beside - 1, 'training')} in place of {beside} at the same time"
        )
        self.on_event(Event(self.stage, text=text, level=Level.WARNING))

    def _fit(self) -> None:
        """Set the limit by what a training was seen to take, and by what is free; what its processes hold is free."""
        held, peak = self.pool.measure_memory()
        free = self.read_free()
        if free is None or not peak:
            return
        each = peak + self.rows_bytes
        fits = int((free * (1 - LEFT_FREE) + held) // each)
        self._limit = max(1, min(self._cap, fits))
        if self._limit < self._told:
            self._told = self._limit
            text = (
                f"{self._limit} of {count(self.most, 'training')} at the same time: one takes {format_size(each)}, and "
                f"{format_size(free)} of memory are free"
            )
            self.on_event(Event(self.stage, text=text, level=Level.WARNING))
