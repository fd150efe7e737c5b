"""A view that is drawn again whenever its report has changed: in place on a terminal, what is new in a pipe."""

import errno
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from hftcl.formats import format_moment_to_second
from hftcl.views import draw_lines, find_terminal
from hftcl.views.blocks import Block, Line, format_plainly

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live


class Screen(Protocol):
    """Where it is drawn. in_lines: what is drawn stays, and only what is new comes."""

    in_lines: bool

    def draw(self, blocks: Sequence[Block], now: datetime) -> None:
        """Draw what holds at `now`, UTC; `blocks` may be those of before."""


@contextmanager
def open_screen() -> Iterator[Screen]:
    """Return where stdout is drawn on; a terminal keeps what was drawn last."""
    console = find_terminal()
    if console is None:
        yield _Lines()
        return
    from rich.live import Live

    with Live(console=console, auto_refresh=False, vertical_overflow="ellipsis") as live:
        yield _Terminal(live, console)


class _Terminal:
    """A clock that shows that it lives, and under it as much as there is room for. Raises OSError (EIO) once the
    terminal is closed, to which the library would never write again.
    """

    in_lines = False

    def __init__(self, live: "Live", console: "Console") -> None:
        self._live, self._console = live, console

    def draw(self, blocks: Sequence[Block], now: datetime) -> None:
        from rich.text import Text

        if not self._console.is_terminal:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        width, height = self._console.size
        clock = Line(f"{format_moment_to_second(now)} UTC. Ctrl-C ends this; the bot does not notice.", "dim")
        lines = draw_lines((clock, *blocks), width, height)
        self._live.update(Text.from_ansi("\n".join(lines), no_wrap=True), refresh=True)


class _Lines:
    """Everything once, then the lines that were not there before, each time under the time."""

    in_lines = True

    def __init__(self) -> None:
        self._before: frozenset[str] = frozenset()

    def draw(self, blocks: Sequence[Block], now: datetime) -> None:
        lines = {" ".join(line.split()): line for block in blocks for line in format_plainly(block)}
        new = [line for words, line in lines.items() if words not in self._before]
        self._before = frozenset(lines)
        if new:
            sys.stdout.write("\n".join([f"# {format_moment_to_second(now)} UTC", *new]) + "\n")
            sys.stdout.flush()
