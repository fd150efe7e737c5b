"""Draws the schedule: what comes, what was done, and the live line of the foreground loop."""

import contextlib
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, tzinfo
from io import TextIOBase
from typing import TYPE_CHECKING, Final, TextIO

from hftcl.errors import HftclError
from hftcl.events import Event, Level, OnEvent
from hftcl.formats import moment, span
from hftcl.schedule.interfaces import Observer
from hftcl.views import Styled, draw_table, say
from hftcl.views.terminal import LastingTerminal

if TYPE_CHECKING:
    from hftcl.archive.records import ModelRecord
    from hftcl.schedule.claims import OccurrenceRecord
    from hftcl.schedule.reports import ComingReport, RanReport
    from hftcl.schedule.rules import Occurrence

_LOCAL: Final = "%a %Y-%m-%d %H:%M %Z"  # with the zone: the clock change gives an hour that comes twice
_STYLES: Final = {"done": "green", "failed": "red", "missed": "yellow", "skipped": "yellow"}  # red asks for a person
_LOOK: Final = timedelta(minutes=1)  # between two looks into the registry: models change daily, a look reads a file


def draw_coming(rows: "Sequence[ComingReport]") -> None:
    """Draw what comes next, a row an occurrence."""
    drawn = [(row.job, f"{row.local:{_LOCAL}}", moment(row.utc), row.note) for row in rows]
    draw_table("", ("job", "local", "UTC", "note"), drawn)


def draw_ran(rows: "Sequence[RanReport]") -> None:
    """Draw what was done and what was passed over."""
    if not rows:
        say("Nothing was due. `hftcl schedule --preview 5` shows what comes.")
        return
    drawn = [
        (row.job, f"{row.local:{_LOCAL}}", Styled(row.state, _STYLES.get(row.state, "")), row.outcome) for row in rows
    ]
    draw_table("", ("job", "was due", "state", "outcome"), drawn)


class Listening(Observer):
    """Shows the progress of each job as any command does."""

    def __init__(self, on_event: OnEvent) -> None:
        self._on_event = on_event

    def hear_event(self, event: Event) -> None:
        """Pass on what the job reports; its warnings are in the log already."""
        if event.level is Level.PROGRESS:
            self._on_event(event)


class LiveLine(TextIOBase, Observer):
    """One line at the foot of a terminal: the next job, the model's age, the last outcome, as far as they fit, and a
    clock that shows that it lives; while a job runs, how far.

    A stream too: what is logged through it goes above the line. serving: returns the model that serves.
    """

    def __init__(self, terminal: TextIO, zone: tzinfo, serving: "Callable[[], ModelRecord | None]") -> None:
        super().__init__()
        self._terminal = LastingTerminal(terminal)
        self._zone = zone
        self._serving = serving
        self._line = ""
        self._last = ""
        self._job = ""
        self._model: ModelRecord | None = None
        self._looked: datetime | None = None

    def write(self, text: str, /) -> int:
        """Write above the line; `text` ends with a line end."""
        self._terminal.put(f"\r\x1b[K{text}{self._line if text.endswith(chr(10)) else ''}")
        return len(text)

    def hear_event(self, event: Event) -> None:
        """Show how far the job is."""
        if event.level is Level.PROGRESS and event.total:
            self._draw(f"{self._job}: {event.stage} {event.done} of {event.total} {event.text}".rstrip())

    def hear_begin(self, occurrence: "Occurrence") -> None:
        """Show that a job begins."""
        self._job = f"{occurrence.job} of {occurrence.local_date}"
        self._draw(f"{self._job} begins")

    def hear_end(self, occurred: "OccurrenceRecord") -> None:
        """Leave a line about what became of a job."""
        at = (occurred.finished_at or occurred.due_at).astimezone(self._zone)
        self._last = f"{occurred.job} {occurred.state} {at:%a %H:%M}"
        self._looked = None
        if occurred.state != "failed":  # of that the log has a line
            self.write(f"{at:{_LOCAL}}  {occurred.job} {occurred.local_date} {occurred.state}: {occurred.outcome}\n")

    def hear_stop(self) -> None:
        """Leave the line as it is."""
        self._terminal.put("\n")

    def hear_wait(self, upcoming: "Occurrence | None", now: datetime) -> None:
        """Show what is waited for."""
        if self._looked is None or abs(now - self._looked) > _LOOK:
            self._looked, self._model = now, None
            with contextlib.suppress(HftclError):  # a registry that cannot be read is the scheduler's to tell
                self._model = self._serving()
        parts = ["the registry cannot be used; trying again"]
        if upcoming is not None:
            left = upcoming.due_at - now
            parts = [f"next: {upcoming.job} {upcoming.due_at.astimezone(self._zone):%a %H:%M %Z}, in {span(left)}"]
        model = self._model
        parts.append(
            f"{model.model_id}, {(now - model.trained_at) / timedelta(days=1):.1f} d old"
            if model
            else "no model serves"
        )
        parts += [f"last: {self._last}"] if self._last else []
        self._draw(*parts, f"{now.astimezone(self._zone):%H:%M:%S}")

    def _draw(self, *parts: str) -> None:
        """Draw the first part and those of the others, the last one first, that fit whole; the last moves each time."""
        from shutil import get_terminal_size  # here: a preview has no line that lives

        width = get_terminal_size().columns - 1
        first, *others = parts
        kept = others[-1:]
        for part in others[:-1]:
            if len(" | ".join([first, *kept, part])) <= width:
                kept.insert(-1, part)
        self._line = " | ".join([first, *kept])[:width]
        self._terminal.put(f"\r\x1b[K{self._line}")
