"""What the bot says while it works: to a terminal, or to the log. Writes to stderr and to the log, no file."""

import logging
import sys

from hftcl.events import BANNER, Event, Level, OnEvent, ignore

log = logging.getLogger("hftcl.trade")


class Listening:
    """What a replay says: progress and warnings as any command does, and the banner of a reload as it is."""

    def __init__(self, on_event: OnEvent) -> None:
        self._on_event = on_event

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if event.stage == BANNER:
            sys.stderr.write(f"{event.text}\n")
            sys.stderr.flush()
        else:
            self._on_event(event)


class Logging:
    """What a bot says that runs for months: lines in the log, and in a text log the banner of a reload as it is."""

    def __init__(self, *, as_text: bool) -> None:
        self._banner = Listening(ignore) if as_text else self._log

    def __call__(self, event: Event) -> None:
        """Log one event; progress is what `--status` is for."""
        (self._banner if event.stage == BANNER else self._log)(event)

    def _log(self, event: Event) -> None:
        if event.level is not Level.PROGRESS:
            level = logging.WARNING if event.level is Level.WARNING else logging.INFO
            log.log(level, "%s", event.text)
