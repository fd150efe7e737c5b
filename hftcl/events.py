"""What a story reports while it works, and how long each stage took.

A story never prints: it calls `on_event`, and the edge decides what to show. Reads the monotonic clock alone.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum


class Level(StrEnum):
    """How much a person should care."""

    PROGRESS = "progress"
    NOTE = "note"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened: stage "collect", "features", "fit", "exam" or "deploy"; `done` of `total` units."""

    stage: str
    done: int = 0
    total: int = 0
    text: str = ""
    level: Level = Level.PROGRESS


OnEvent = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Listen to nothing: the default of every story."""


@dataclass(slots=True)
class Stopwatch:
    """Seconds by stage; a stage that is entered twice adds up."""

    seconds: dict[str, float] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.monotonic() - start

    def timings(self) -> dict[str, float]:
        """Return the stages and "total", in seconds, to the millisecond."""
        return {name: round(s, 3) for name, s in {**self.seconds, "total": time.monotonic() - self.began}.items()}
