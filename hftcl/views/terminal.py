"""A terminal that may be closed while the work goes on: who trades, or trains for hours, does not end with it."""

from typing import TextIO


class LastingTerminal:
    """Writes to a terminal until that is closed, and from then on nowhere."""

    def __init__(self, terminal: TextIO) -> None:
        self._terminal: TextIO | None = terminal

    def put(self, text: str) -> None:
        """Write at once. A terminal that has hung up (EIO), or a stream that is closed (ValueError), is let go."""
        if self._terminal is None:
            return
        try:
            self._terminal.write(text)
            self._terminal.flush()
        except (OSError, ValueError):
            self._terminal = None
