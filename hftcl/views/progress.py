"""What a person sees while a story works: bars on a terminal, plain lines on stderr otherwise."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TextIO, cast

from hftcl.events import Event, Level, OnEvent
from hftcl.views.blocks import write_out
from hftcl.views.terminal import LastingTerminal

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
    if (show := _find_notebook()) is not None:
        return _Notebook(show, notes=verbosity > 0)
    return _Plain(sys.stderr, progress=True, notes=verbosity > 0)


@dataclass(slots=True)
class _Plain:
    """One line when a stage begins and one when it ends, and one a minute between, so that a log file stays short.

    Where the stream takes no more, as a pipe whose reader has left or a full disk, the work goes on untold.
    """

    stream: TextIO
    progress: bool
    notes: bool
    clock: Callable[[], float] = time.monotonic
    began: dict[str, float] = field(default_factory=dict)
    resumed: dict[str, int] = field(default_factory=dict)  # what was done before this run: it says nothing of the pace
    told: dict[str, float] = field(default_factory=dict)
    terminal: LastingTerminal = field(init=False)

    def __post_init__(self) -> None:
        self.terminal = LastingTerminal(self.stream)

    def __call__(self, event: Event) -> None:
        if event.level is Level.WARNING:
            self.terminal.put(f"warning: {write_out(event.text)}\n")
        elif event.level is Level.NOTE:
            if self.notes:
                self.terminal.put(f"{event.stage}: {write_out(event.text)}\n")
        elif self.progress and event.total:
            if event.stage not in self.began or (self.began[event.stage] < 0 and event.done < event.total):
                # a stage may come again: a retrain scores for the record, and then walks forward for minutes
                self.began[event.stage], self.resumed[event.stage] = self.clock(), event.done
                self.terminal.put(f"{event.stage}: {event.done} of {event.total}\n")
            self._tell_remaining(event)
            if event.done >= event.total and self.began[event.stage] >= 0:
                took = self.clock() - self.began[event.stage]
                self.began[event.stage] = -1.0  # told once
                self.told.pop(event.stage, None)
                self.terminal.put(f"{event.stage}: {event.total} of {event.total}, {took:.1f} s\n")

    def _tell_remaining(self, event: Event) -> None:
        """Say once a minute how long a stage will take, at the pace so far: five calls a minute make an hour of it."""
        now, began = self.clock(), self.began[event.stage]
        done, left = event.done - self.resumed[event.stage], event.total - event.done
        if began < 0 or done <= 0 or left <= 0 or now - self.told.get(event.stage, began) < _TELL_EVERY_S:
            return
        self.told[event.stage] = now
        left_s = (now - began) / done * left
        self.terminal.put(f"{event.stage}: {event.done} of {event.total}, about {_format_left(left_s)} left\n")


def _format_left(seconds: float) -> str:
    """Return hours, minutes and seconds, 1:04:30, in one form however much is left."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


class _Handle(Protocol):
    """A place in a notebook's output that can be drawn again: what IPython's `display` returns."""

    def update(self, data: dict[str, str], *, raw: bool) -> None: ...


_Display = Callable[[dict[str, str]], _Handle]


def _find_notebook() -> _Display | None:
    """Return what shows a thing in the notebook that this runs in; None elsewhere, a terminal's IPython included."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if not hasattr(shell, "kernel"):  # of ipykernel's shell alone
        return None
    display = import_module("IPython.display").display

    def show(data: dict[str, str]) -> _Handle:
        # https://ipython.readthedocs.io/en/stable/api/generated/IPython.display.html#IPython.display.display
        return cast("_Handle", display(data, raw=True, display_id=True))

    return show


_DRAW_EVERY_S = 0.2
"""Of a notebook: each drawing is a message to the browser, and a person follows five a second."""


@dataclass(slots=True)
class _Notebook:
    """A bar for each stage in a notebook's output, drawn in one place; warnings stay below it. Needs no widgets."""

    show: _Display
    notes: bool
    clock: Callable[[], float] = time.monotonic
    handle: _Handle | None = None
    stages: dict[str, Event] = field(default_factory=dict)
    drawn: float = -_DRAW_EVERY_S

    def __call__(self, event: Event) -> None:
        if event.level is not Level.PROGRESS:
            if event.level is Level.WARNING or self.notes:
                head = "warning" if event.level is Level.WARNING else event.stage
                self.show({"text/plain": f"{head}: {event.text}"})
            return
        if not event.total:
            return
        self.stages[event.stage] = event
        now, is_done = self.clock(), all(stage.done >= stage.total for stage in self.stages.values())
        if is_done or now - self.drawn >= _DRAW_EVERY_S:
            self.drawn = now
            self._draw()
        if is_done:
            self.handle, self.stages = None, {}

    def _draw(self) -> None:
        told = [f"{one.stage}: {one.done} of {one.total} {one.text}".rstrip() for one in self.stages.values()]
        bars = "<br>".join(
            f'<progress max="{one.total}" value="{one.done}"></progress> {escape(text)}'
            for one, text in zip(self.stages.values(), told, strict=True)
        )
        data = {"text/html": bars, "text/plain": "; ".join(told)}
        if self.handle is None:
            self.handle = self.show(data)
        else:
            self.handle.update(data, raw=True)


_open: "list[_Live]" = []  # those whose display is on the terminal now


cut_short: "list[_Live]" = []
"""Those that ended before the last piece of work had: what is said next has a line of its own."""


def end_displays() -> None:
    """End what a command that failed or was stopped has left open: the cursor comes back, on a line of its own."""
    for live in tuple(_open):
        _end(live)


@contextmanager
def end_display_after(listener: OnEvent) -> Iterator[None]:
    """End what the piece of work within has left open of its own `listener`, before its end is told."""
    cut_short.clear()
    try:
        yield
    finally:
        _end(listener)


def _end(listener: OnEvent) -> None:
    if isinstance(listener, _Live) and listener.end():
        cut_short.append(listener)


@dataclass(slots=True, eq=False)
class _Live:
    """A bar for each stage with count and remaining time, on stderr; it ends by itself when the last stage is done, or
    with the terminal, after which nothing is shown. Any thread may tell it of events, and end it.
    """

    notes: bool
    display: "Progress | None" = None
    tasks: "dict[str, TaskID]" = field(default_factory=dict)
    stderr: TextIO | None = None  # what was in its place before the bars
    is_gone: bool = False
    lock: "threading.RLock" = field(default_factory=threading.RLock)  # the display and its tasks change together

    def __call__(self, event: Event) -> None:
        with self.lock:
            if self.is_gone:
                return
            try:
                self._show(event)
            except OSError:  # the terminal was closed; the work goes on without it
                self.is_gone = True
                self._let_go()

    def end(self) -> bool:
        """Leave the bars as they stand; return whether there were any."""
        with self.lock:
            was_open = self.display is not None
            try:
                self._stop()
            except OSError:
                self._let_go()
            return was_open

    def _stop(self) -> None:
        if self.display is not None:
            self.display.stop()
            self.display, self.tasks = None, {}
            if self.stderr is not None:
                sys.stderr, self.stderr = self.stderr, None
            if self in _open:  # a stop may have come before it was
                _open.remove(self)

    def _let_go(self) -> None:
        """End the display without a word to the terminal, so that what it has taken of the process is given back."""
        if self.display is not None:
            with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
                self.display.console.file = nowhere
                self._stop()

    def _show(self, event: Event) -> None:
        if event.level is not Level.PROGRESS:
            if event.level is Level.WARNING or self.notes:
                from rich.text import Text

                head = "warning" if event.level is Level.WARNING else event.stage
                self._build_console().print(
                    Text(f"{head}: {write_out(event.text)}", style="yellow" if head == "warning" else "dim")
                )
            return
        display = self._start()
        if event.stage not in self.tasks:
            # What was done before this run is no sample of the pace.
            self.tasks[event.stage] = display.add_task(event.stage, total=event.total, completed=event.done, what="")
        display.update(self.tasks[event.stage], completed=event.done, total=event.total, what=event.text)
        if display.finished:
            self._stop()

    def _build_console(self) -> "Console":
        from rich.console import Console

        return self.display.console if self.display else Console(stderr=True, highlight=False)

    def _start(self) -> "Progress":
        if self.display is None:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            from hftcl.views.above import AboveBars

            self.display = Progress(
                TextColumn("{task.description:<9}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(elapsed_when_finished=True),
                TextColumn("{task.fields[what]}", markup=False),
                console=Console(stderr=True, highlight=False),
                speed_estimate_period=_PACE_S,
            )
            _open.append(self)
            if not isinstance(sys.stderr, AboveBars):
                self.stderr = sys.stderr
                sys.stderr = cast("TextIO", AboveBars(self.display.console, sys.stderr))
            self.display.start()
        return self.display
