"""What the bot says while it works: to a terminal, or to the log. Writes to stderr and to the log, no file."""

import logging
import sys
from collections.abc import Callable
from datetime import datetime
from io import TextIOBase
from typing import TYPE_CHECKING, TextIO

from hftcl.events import BANNER, Event, Level, OnEvent, ignore
from hftcl.formats import format_clock_to_second
from hftcl.views.blocks import write_out
from hftcl.views.terminal import LastingTerminal

if TYPE_CHECKING:  # no view needs the bot itself
    from hftcl.trading.run.present import Service

log = logging.getLogger("hftcl.trade")


class Listening:
    """What a replay says: progress and warnings as any command does, and the banner of a reload as it is."""

    def __init__(self, on_event: OnEvent, stream: TextIO | None = None) -> None:
        self._on_event = on_event
        self._stream = stream

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if event.stage == BANNER:
            LastingTerminal(self._stream or sys.stderr).put(f"{write_out(event.text)}\n")
        else:
            self._on_event(event)


class Logging:
    """What a bot says that runs for months: lines in the log, and in a text log the banner of a reload as it is."""

    def __init__(self, *, as_text: bool, stream: TextIO | None = None) -> None:
        self._banner = Listening(ignore, stream) if as_text else self._log

    def __call__(self, event: Event) -> None:
        """Log one event; progress is what `--status` is for."""
        (self._banner if event.stage == BANNER else self._log)(event)

    def _log(self, event: Event) -> None:
        if event.level is not Level.PROGRESS:
            level = logging.WARNING if event.level is Level.WARNING else logging.INFO
            log.log(level, "%s", event.text)


class StatusLine(TextIOBase):
    """One line at the foot of a terminal: what the bot waits for or trades, and a clock that shows that it lives.

    Hears what the service is told, and passes it on, also once the terminal is closed. A stream too: what is logged
    through it goes above the line.
    """

    def __init__(self, terminal: TextIO, service: "Service", clock: Callable[[], datetime]) -> None:
        super().__init__()
        self._terminal, self._service, self._clock = LastingTerminal(terminal), service, clock
        self._doing = "starting"
        self._line = ""

    def write(self, text: str, /) -> int:
        """Write above the line; `text` ends with a line end."""
        self._terminal.put(f"\r\x1b[K{text}{self._line if text.endswith(chr(10)) else ''}")
        return len(text)

    def tell_ready(self) -> None:
        """Pass it on."""
        self._service.tell_ready()

    def tell_alive(self) -> None:
        """Let the clock move: at most once a second, for it shows seconds."""
        self._service.tell_alive()
        self._draw()

    def tell_status(self, text: str) -> None:
        """Show what the bot does."""
        self._service.tell_status(text)
        self._doing = text
        self._draw()

    def tell_stopping(self) -> None:
        """Leave the line as it is."""
        self._service.tell_stopping()
        self._line = ""
        self._terminal.put("\n")

    def _draw(self) -> None:
        width, clock = self._terminal.size.columns - 1, f"{format_clock_to_second(self._clock())} UTC"
        line = f"{clock} | {self._doing}"[:width]
        if line != self._line:
            self._line = line
            self._terminal.put(f"\r\x1b[K{line}")
