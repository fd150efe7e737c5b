"""Draws the schedule: what comes, what was done, and the foot of a terminal in the foreground loop."""

import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, tzinfo
from io import TextIOBase
from typing import TYPE_CHECKING, Final, TextIO

from hftcl.events import Event, Level, OnEvent
from hftcl.formats import format_clock_to_second, format_moment, span
from hftcl.schedule.interfaces import Observer
from hftcl.views import Styled, draw_lines, draw_table, say
from hftcl.views.terminal import LastingTerminal, breaks_lines_again, count_rows

if TYPE_CHECKING:
    from hftcl.schedule.claims import OccurrenceRecord
    from hftcl.schedule.reports import ComingReport, RanReport
    from hftcl.schedule.rules import Occurrence
    from hftcl.views.blocks import Block

_READ_EVERY_S: Final = 15.0  # while a job works, as often as the loop looks up while it waits
_LOCAL: Final = "%a %Y-%m-%d %H:%M %Z"  # with the zone: the clock change gives an hour that comes twice
_STYLES: Final = {"done": "green", "failed": "red", "missed": "yellow", "skipped": "yellow"}  # red asks for a person


def draw_coming(rows: "Sequence[ComingReport]") -> None:
    """Draw what comes next, a row an occurrence."""
    drawn = [(row.job, f"{row.local:{_LOCAL}}", format_moment(row.utc), row.note) for row in rows]
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


def draw_both(coming: "Sequence[ComingReport]", ran: "Sequence[RanReport]") -> None:
    """Draw what comes next, and what was done last, in one table."""
    rows = [(row.job, f"{row.local:{_LOCAL}}", Styled("next"), row.note) for row in coming]
    rows += [
        (row.job, f"{row.local:{_LOCAL}}", Styled(row.state, _STYLES.get(row.state, "")), row.outcome) for row in ran
    ]
    if rows:
        draw_table("", ("job", "local", "state", "outcome"), rows)


class ScheduleObserver(Observer):
    """Shows the progress of each job as any command does."""

    def __init__(self, on_event: OnEvent) -> None:
        self._on_event = on_event

    def hear_event(self, event: Event) -> None:
        """Pass on what the job reports; its warnings are in the log already."""
        if event.level is Level.PROGRESS:
            self._on_event(event)

    def surround(self) -> AbstractContextManager[None]:
        """Return what ends the bars of a job."""
        from hftcl.views.progress import end_display_after  # here: a preview shows none

        return end_display_after(self._on_event)


class LivePage(TextIOBase, Observer):
    """The foot of a terminal: a summary, and under it one line with what is next and a clock that shows that it lives;
    while a job runs, how far.

    A stream too: what is logged through it goes above. summary: returns what holds now, the same object as before where
    nothing has changed. clock: seconds.
    """

    def __init__(
        self,
        terminal: TextIO,
        zone: tzinfo,
        summary: "Callable[[], Sequence[Block]]",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._terminal = LastingTerminal(terminal)
        self._zone = zone
        self._summary = summary
        self._clock = clock
        self._blocks: Sequence[Block] = ()
        self._read_at = 0.0
        self._drawn: tuple[Sequence[Block], tuple[int, int]] = (), (0, 0)  # the summary and the size of what stands
        self._above: list[str] = []  # the lines of the summary as they stand on the terminal
        self._line = ""
        self._job = ""
        # What stands there and what is known of it change together: libraries log from threads of their own. Again and
        # again by one thread, as drawing may log too. The summary is read without it: who logs takes the lock of the
        # log and then this one, and a reader that held this one and logged would take them the other way round, and
        # each wait for the other without end.
        self._lock = threading.RLock()

    def write(self, text: str, /) -> int:
        """Write above it all; `text` ends with a line end."""
        with self._lock:
            below = "\n".join([*self._above, self._line]) if text.endswith("\n") else ""
            self._terminal.put(f"{self._erase(self._line)}{text}{below}")
        return len(text)

    def hear_event(self, event: Event) -> None:
        """Show how far the job is."""
        if event.level is Level.PROGRESS and event.total:
            if self._clock() - self._read_at >= _READ_EVERY_S:
                self._read()
            self._draw(f"{self._job}: {event.stage} {event.done} of {event.total} {event.text}".rstrip())

    def hear_begin(self, occurrence: "Occurrence") -> None:
        """Show that a job begins."""
        self._job = f"{occurrence.job} of {occurrence.local_date}"
        self._read()
        self._draw(f"{self._job} begins")

    def hear_end(self, occurred: "OccurrenceRecord") -> None:
        """Leave a line about what became of a job."""
        at = (occurred.finished_at or occurred.due_at).astimezone(self._zone)
        if occurred.state != "failed":  # of that the log has a line
            self.write(f"{at:{_LOCAL}}  {occurred.job} {occurred.local_date} {occurred.state}: {occurred.outcome}\n")

    def hear_stop(self) -> None:
        """Leave it as it is."""
        with self._lock:
            self._terminal.put("\n")

    def hear_wait(self, upcoming: "Occurrence | None", now: datetime) -> None:
        """Show what holds and what is waited for."""
        self._read()
        waits = "the registry cannot be used; trying again"
        if upcoming is not None:
            left = upcoming.due_at - now
            waits = f"next: {upcoming.job} {upcoming.due_at.astimezone(self._zone):%a %H:%M %Z}, in {span(left)}"
        self._draw(waits, format_clock_to_second(now.astimezone(self._zone)), "Ctrl-C ends it")

    def _read(self) -> None:
        self._blocks, self._read_at = self._summary(), self._clock()

    def _draw(self, *parts: str) -> None:
        """Draw the line, of as many parts as fit; the summary only where it has changed, or the terminal its size."""
        with self._lock:
            self._put(*parts)

    def _put(self, *parts: str) -> None:
        size, below = self._terminal.size, self._line
        shown = [" | ".join(parts[:number]) for number in range(1, len(parts) + 1)]
        self._line = next((line for line in reversed(shown) if len(line) < size.columns), shown[0][: size.columns - 1])
        if self._blocks is self._drawn[0] and size == self._drawn[1]:  # as at nearly each of a job's hundreds of events
            self._terminal.put(f"\r\x1b[K{self._line}")
            return
        erase, self._drawn = self._erase(below), (self._blocks, size)
        self._above = draw_lines(self._blocks, size.columns - 1, size.lines - 2)
        self._terminal.put(erase + "\n".join([*self._above, self._line]))

    def _erase(self, line: str) -> str:
        """Return what takes away what was drawn, `line` last.

        Where the terminal was made narrower it may take more rows. Where that is not known, what is left of it stands:
        better than that a line of the log goes with it.
        """
        drawn = [*self._above, line] if self._above or line else [""]
        width = self._terminal.size.columns
        rows = (count_rows(drawn, width) if breaks_lines_again(os.environ) else len(drawn)) - 1
        return "\r" + (f"\x1b[{rows}A" if rows else "") + "\x1b[J"
