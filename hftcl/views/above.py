"""What is written to stderr while bars are drawn there: it goes above them, a line as it is."""

from typing import TYPE_CHECKING

from rich.ansi import AnsiDecoder
from rich.file_proxy import FileProxy
from rich.styled import Styled
from rich.text import Text

if TYPE_CHECKING:
    from typing import TextIO

    from rich.console import Console


class AboveBars(FileProxy):
    """Stands in the place of stderr, as Rich's own does; but a long line stays one: a reader of JSON takes each alone.

    The terminal breaks it where it has to. Where an object of its class is there, Rich puts none of its own.
    """

    def __init__(self, console: "Console", stream: "TextIO") -> None:
        super().__init__(console, stream)
        self._above = console
        self._begun = ""  # a line that has no end yet
        self._decoder = AnsiDecoder()

    def write(self, text: str) -> int:
        """Print the lines that have an end above the bars."""
        *lines, self._begun = (self._begun + text).split("\n")
        self._print(lines)
        return len(text)

    def flush(self) -> None:
        """Print what has no end yet, as a line."""
        if self._begun:
            lines, self._begun = [self._begun], ""
            self._print(lines)

    def _print(self, lines: list[str]) -> None:
        if lines:
            text = Text("\n").join(self._decoder.decode_line(line) for line in lines)
            text.no_wrap, text.overflow = True, "ignore"
            self._above.print(Styled(text, ""), crop=False)  # by itself it would be joined to a text that is wrapped
