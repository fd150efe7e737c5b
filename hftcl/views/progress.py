"""What a person sees while a story works: bars on a terminal, plain lines on stderr otherwise."""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TextIO

from hftcl.events import Event, Level, OnEvent

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID


_PACE_S = 600.0
"""Of the bars: some steps, as a training of a year, take minutes, and a pace needs two."""

_TELL_EVERY_S = 60.0
"""Of plain output: a person who waits looks about once a minute."""


def build_listener(verbosity: int) -> OnEvent:
    """Return what listens to a story: a progress display on a terminal, plain lines on stderr otherwise.

    verbosity: -1 warnings only, 0 stages, 1 and more also notes.
    """
    if verbosity < 0:
        return _Plain(sys.stderr, progress=False, notes=False)
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        return _Live(notes=verbosity > 0)
    return _Plain(sys.stderr, progress=True, notes=verbosity > 0)


@dataclass(slots=True)
class _Plain:
    """One line when a stage begins and one when it ends, and one a minute between, so that a log file stays short."""

    stream: TextIO
    progress: bool
    notes: bool
    clock: Callable[[], float] = time.monotonic
    began: dict[str, float] = field(default_factory=dict)
    resumed: dict[str, int] = field(default_factory=dict)  # what was done before this run: it says nothing of the pace
    told: dict[str, float] = field(default_factory=dict)

    def __call__(self, event: Event) -> None:
        if event.level is Level.WARNING:
            self.stream.write(f"warning: {event.text}\n")
        elif event.level is Level.NOTE:
            if self.notes:
                self.stream.write(f"{event.stage}: {event.text}\n")
        elif self.progress and event.total:
            if event.stage not in self.began:
                self.began[event.stage], self.resumed[event.stage] = self.clock(), event.done
                self.stream.write(f"{event.stage}: {event.done} of {event.total}\n")
            self._tell_remaining(event)
            if event.done >= event.total and self.began[event.stage] >= 0:
                took = self.clock() - self.began[event.stage]
                self.began[event.stage] = -1.0  # told once
                self.stream.write(f"{event.stage}: {event.total} of {event.total}, {took:.1f} s\n")
        self.stream.flush()

    def _tell_remaining(self, event: Event) -> None:
        """Say once a minute how long a stage will take, at the pace so far: five calls a minute make an hour of it."""
        now, began = self.clock(), self.began[event.stage]
        done, left = event.done - self.resumed[event.stage], event.total - event.done
        if began < 0 or done <= 0 or left <= 0 or now - self.told.get(event.stage, began) < _TELL_EVERY_S:
            return
        self.told[event.stage] = now
        left_s = (now - began) / done * left
        about = f"{left_s / 60:.0f} min" if left_s >= 90 else f"{left_s:.0f} s"
        self.stream.write(f"{event.stage}: {event.done} of {event.total}, about {about} left\n")


@dataclass(slots=True)
class _Live:
    """A bar for each stage with count and remaining time, on stderr; it ends by itself when the last stage is done."""

    notes: bool
    display: "Progress | None" = None
    tasks: "dict[str, TaskID]" = field(default_factory=dict)

    def __call__(self, event: Event) -> None:
        if event.level is not Level.PROGRESS:
            if event.level is Level.WARNING or self.notes:
                from rich.text import Text

                head = "warning" if event.level is Level.WARNING else event.stage
                self._console().print(Text(f"{head}: {event.text}", style="yellow" if head == "warning" else "dim"))
            return
        display = self._start()
        if event.stage not in self.tasks:
            # What was done before this run is no sample of the pace.
            self.tasks[event.stage] = display.add_task(event.stage, total=event.total, completed=event.done, what="")
        display.update(self.tasks[event.stage], completed=event.done, total=event.total, what=event.text)
        if display.finished:
            display.stop()
            self.display, self.tasks = None, {}

    def _console(self) -> "Console":
        from rich.console import Console

        return self.display.console if self.display else Console(stderr=True, highlight=False)

    def _start(self) -> "Progress":
        if self.display is None:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self.display = Progress(
                TextColumn("{task.description:<9}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(elapsed_when_finished=True),
                TextColumn("{task.fields[what]}", markup=False),
                console=Console(stderr=True, highlight=False),
                speed_estimate_period=_PACE_S,
            )
            self.display.start()
        return self.display
