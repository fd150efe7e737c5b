"""The first page of the dashboard in as few lines as a terminal has: what serves and why, what was judged and is due.

It needs none of the libraries of the page.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from hftcl.dashboard.changes import look
from hftcl.dashboard.contents import AlertsContent, BotContent, Content, DiskContent, ModelsContent, ScheduleContent
from hftcl.dashboard.parts import PARTS, DashboardInputs, Part
from hftcl.dashboard.reader import PartFault, read_safely
from hftcl.doctor.machine import check_disk
from hftcl.doctor.row import Context
from hftcl.formats import count
from hftcl.views import alerts, archive, doctor, say, schedule
from hftcl.views.blocks import Block, Line, collect_blocks, take_lines

Contents = Mapping[str, Content | PartFault]

_VERDICTS: Final = 3  # a month's, where it is retrained weekly: with the rest they fit on 24 lines
_COMING: Final = 2  # tonight's, and what comes after it
_RAN: Final = 3  # of the last day
_DISK_S: Final = 600.0  # room goes slowly, and to look for it costs a look at each file of bars
_ALERTS: Final = 2  # the newest; `waiting` counts all


def _read_disk(inputs: DashboardInputs) -> Content:
    context = Context(configuration=inputs.configuration, environ=inputs.environ, now=inputs.now, quietly=True)
    row = next(check_disk(context))
    return DiskContent(blocks=collect_blocks(doctor.draw_row, row), status=row.status)


_PARTS: Final = (
    *(part for part in PARTS if part.name in {"models", "bot", "schedule", "alerts"}),
    Part(name="disk", title="The disk", command="hftcl doctor", read=_read_disk, watches=(), at_least_s=_DISK_S),
)


class Summary:
    """Reads a part again when its files have changed. with_bot: also what the bot says of itself first.

    in_lines: for a log, in which each new figure is a line: room on the disk changes where it becomes scarce or is not.
    """

    def __init__(self, inputs: DashboardInputs, *, with_bot: bool, in_lines: bool = False) -> None:
        self._inputs, self._in_lines = inputs, in_lines
        self._parts = [part for part in _PARTS if with_bot or part.name != "bot"]
        self._read: dict[str, tuple[tuple[object, ...], datetime]] = {}
        self._contents: dict[str, Content | PartFault] = {}
        self._blocks: tuple[Block, ...] = ()

    def read(self, now: datetime) -> tuple[Block, ...]:
        """Return what holds at `now`, UTC; the same tuple as before where nothing was read again. Raises nothing."""
        stamps = look(self._inputs.settings)
        due = [part for part in self._parts if self._is_due(part, tuple(stamps[name] for name in part.watches), now)]
        for part in due:
            self._read[part.name] = tuple(stamps[name] for name in part.watches), now
            before, content = self._contents.get(part.name), _read_part(part, replace(self._inputs, now=now))
            if not (self._in_lines and _is_as_scarce(before, content)):
                self._contents[part.name] = content
        if due:
            self._blocks = collect_blocks(_draw_summary, self._contents)
        return self._blocks

    def _is_due(self, part: Part, stamps: tuple[object, ...], now: datetime) -> bool:
        if part.name not in self._read:
            return True
        before, at = self._read[part.name]
        is_old = part.at_least_s is not None and abs(now - at) >= timedelta(seconds=part.at_least_s)
        return is_old or before != stamps


def _read_part(part: Part, inputs: DashboardInputs) -> Content | PartFault:
    return read_safely(lambda: part.read(inputs))


def _is_as_scarce(before: Content | PartFault | None, after: Content | PartFault) -> bool:
    return isinstance(before, DiskContent) and isinstance(after, DiskContent) and before.status == after.status


def _draw_summary(contents: Contents) -> None:
    """Draw it: what matters most first, since a small terminal has no room for the last."""
    for content in contents.values():
        if isinstance(content, PartFault):
            for line in content.lines:
                say(line, "" if content.quiet else "red")
    models, bot, disk = (contents.get(name) for name in ("models", "bot", "disk"))
    if isinstance(models, ModelsContent):
        _say_all(take_lines(models.edge))
        if models.serves is None:
            say("No model serves. `hftcl retrain --force` trains the first." if not models.rows else "No model serves.")
    if isinstance(bot, BotContent):
        _say_all(take_lines(bot.blocks))
    if isinstance(disk, Content):
        _say_all(take_lines(disk.blocks))
    _draw_alerts(contents.get("alerts"))
    if isinstance(models, ModelsContent):
        archive.draw_verdicts(models.rows[:_VERDICTS])
    coming = contents.get("schedule")
    if isinstance(coming, ScheduleContent):
        schedule.draw_both(coming.coming[:_COMING], coming.ran[:_RAN])


def _draw_alerts(content: Content | PartFault | None) -> None:
    if not isinstance(content, AlertsContent) or not content.alerts:
        return
    waiting = sum(1 for row in content.alerts if row.waits)
    if waiting:
        say(f"{count(waiting, 'alert')} could not be sent yet.", "bold yellow")
    alerts.draw_alerts(content.alerts[:_ALERTS])


def _say_all(lines: tuple[Line, ...]) -> None:
    for line in lines:
        say(line.text, line.style)
