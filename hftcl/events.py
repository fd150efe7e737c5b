"""What a story reports while it works. A story never prints: it calls `on_event`, and the edge decides what to show."""

from collections.abc import Callable
from dataclasses import dataclass
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
