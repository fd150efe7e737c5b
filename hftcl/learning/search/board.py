"""What is tried next, what runs, and what came of it: the one place that several threads of a search share."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from hftcl.learning.search.sampler import TrialSampler, name_choice
from hftcl.learning.search.space import Choice, Space
from hftcl.learning.search.trials import FinishedTrial, TrialStore
from hftcl.settings import Settings

_MINUTE_S: Final = 60.0  # seconds


class StoppedError(Exception):
    """Ends a training whose search was stopped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """When no further trial begins: at so many in all, or so many seconds after `began` (monotonic clock)."""

    trials: int | None
    seconds: float | None
    began: float = field(default_factory=time.monotonic)

    @classmethod
    def begin(cls, settings: Settings, trials: int | None, minutes: float | None) -> "Limit":
        """Return the limit of a run that begins now."""
        if trials is None and minutes is None:
            trials = settings.search.trials
        return cls(trials=trials, seconds=None if minutes is None else _MINUTE_S * minutes)

    @property
    def elapsed_s(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.began

    def allows(self, number: int) -> bool:
        """Whether trial `number` may begin."""
        return (self.trials is None or number < self.trials) and (self.seconds is None or self.elapsed_s < self.seconds)

    def measure(self, done: int) -> tuple[int, int]:
        """Return how far a run is, of how much: trials, or seconds where time alone ends it; never the end."""
        part, whole = (self.elapsed_s, self.seconds or 0.0) if self.trials is None else (done, self.trials)
        return min(int(part), max(int(whole) - 1, 0)), max(int(whole), 1)


@dataclass(slots=True)
class Board:
    """What is tried, and what came of it; for several threads. A trial has the least number that is free."""

    space: Space
    store: TrialStore
    sampler: TrialSampler
    limit: Limit
    finished: dict[int, FinishedTrial]
    running: dict[int, Choice] = field(default_factory=dict)
    stopped: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def begin(
        cls,
        space: Space,
        store: TrialStore,
        known: Sequence[FinishedTrial],
        limit: Limit,
        lock: "threading.Lock | None" = None,
    ) -> "Board":
        """Return the board with the trials of an earlier run on it. lock: shared by boards that write to one file."""
        chooser = TrialSampler(space, space.settings.search.seed)
        for trial in known:
            chooser.learn(trial.choice, trial.worth)
        finished = {trial.number: trial for trial in known}
        return cls(space, store, chooser, limit, finished, lock=lock or threading.Lock())

    def take(self) -> tuple[int, Choice] | None:
        """Return the next trial; None where no further one is to begin."""
        with self.lock:
            free = next(n for n in range(len(self.finished) + len(self.running) + 1) if not self._has(n))
            if self.stopped or not self.limit.allows(free):
                return None
            tried = {name_choice(trial.choice) for trial in self.finished.values()}
            choice = self.sampler.ask(free, tried | {name_choice(choice) for choice in self.running.values()})
            if choice is not None:
                self.running[free] = choice
            return None if choice is None else (free, choice)

    def _has(self, number: int) -> bool:
        return number in self.finished or number in self.running

    def put(self, trial: FinishedTrial) -> None:
        """Keep what came of a trial, on the disk first."""
        with self.lock:
            self.store.add(trial)
            del self.running[trial.number]
            self.finished[trial.number] = trial
            self.sampler.tell(trial.number, trial.worth)

    def stop(self) -> None:
        """Let no further trial begin, and those that run end at their next step."""
        self.stopped = True

    def list_finished(self) -> tuple[FinishedTrial, ...]:
        """Return the trials, by number."""
        with self.lock:
            return tuple(self.finished[name] for name in sorted(self.finished))
