"""What a story tells while it works: its progress, which moments no signal may cut, and how long each stage took.

A story never prints: it calls `on_event`, and the edge decides what to show. Nothing may depend on the text of a
progress. Reads the monotonic clock, and logs that nothing is told any more.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

FINISH: Final = "finish"
"""The stage of a training whose graph stands: it is compared with what was fitted, and the estimator's file written."""
BANNER: Final = "banner"  # the stage of what is shown as it is, line for line: a model that is swapped while trading


class Level(StrEnum):
    """How much a person should care."""

    # From the least to the most urgent.
    PROGRESS = "progress"
    NOTE = "note"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened: stage "collect", "features", "fit", "exam" or "deploy"; `done` of `total` units.

    Stage "finish" is what a training still does beside and after the exam of its graph, see `TrainingPool.begin`.
    """

    stage: str
    done: int = 0
    total: int = 0
    text: str = ""
    level: Level = Level.PROGRESS


OnEvent = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Listen to nothing: the default of every story."""


RequireGoing = Callable[[], None]
"""Called between two blocks of long work; what it raises ends the work."""


def go_on() -> None:
    """Let the work go on: the default of what a Ctrl-C reaches without being asked."""


def keep_from_ending(on_event: OnEvent) -> OnEvent:
    """Return what tells `on_event`, whatever that raises, until its stream takes no more.

    For orders and what closes positions: they go on although a person cannot be told.
    """
    is_heard = True

    def tell(event: Event) -> None:
        nonlocal is_heard
        if is_heard:
            try:
                on_event(event)
            except Exception as error:  # noqa: BLE001 - told; a fault of what shows it closes no position
                import logging  # a look, such as `schedule --preview`, does without

                log = logging.getLogger(__name__)
                is_heard = not (isinstance(error, OSError) or _is_of_closed_stream(error))
                if is_heard:
                    log.warning("could not be shown stage=%s text=%s error=%r", event.stage, event.text, error)
                else:
                    log.warning("what happens is shown no more error=%s", error)

    return tell


def _is_of_closed_stream(error: Exception) -> bool:
    return isinstance(error, ValueError) and "closed file" in str(error)  # Python has no class of its own for it


HoldSignals = Callable[[bool], AbstractContextManager[None]]
"""Takes `last`; returns a context in which no signal cuts in. One that came meanwhile does at its end, unless last."""
_HOLDERS: ContextVar[tuple[HoldSignals, ...]] = ContextVar("holders of signals", default=())


@contextmanager
def critical(*, last: bool = False) -> Iterator[None]:
    """Let no signal cut what is done within, such as a deployment. Where nothing catches signals, nothing changes.

    last: the story has nothing left to do after it, so that a signal that came meanwhile waits for the story's end.
    """
    with ExitStack() as stack:
        for hold in _HOLDERS.get():
            stack.enter_context(hold(last))
        yield


@contextmanager
def hold_signals_by(hold: HoldSignals) -> Iterator[None]:
    """Let the `critical` moments of what is done within enter `hold`."""
    token = _HOLDERS.set((*_HOLDERS.get(), hold))
    try:
        yield
    finally:
        _HOLDERS.reset(token)


@dataclass(slots=True)
class Stopwatch:
    """Seconds by stage; a stage that is entered twice adds up, and one within another counts for itself alone."""

    seconds: dict[str, float] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)
    _within: float = field(default=0.0, init=False, repr=False)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start, before, self._within = time.monotonic(), self._within, 0.0
        try:
            yield
        finally:
            spent = time.monotonic() - start
            self.seconds[stage] = self.seconds.get(stage, 0.0) + spent - self._within
            self._within = before + spent

    def list_timings(self) -> dict[str, float]:
        """Return the stages and "total", in seconds, to the millisecond."""
        return {name: round(s, 3) for name, s in {**self.seconds, "total": time.monotonic() - self.began}.items()}
