"""A terminal that may be closed while the work goes on: who trades, or trains for hours, does not end with it."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, TextIO

from hftcl.durable import NO_ROOM

_BREAKING: Final = frozenset(
    {
        "TMUX",
        "VTE_VERSION",  # of GNOME, Xfce and the like
        "KITTY_WINDOW_ID",
        "KONSOLE_VERSION",
        "ALACRITTY_WINDOW_ID",
        "WEZTERM_PANE",
        "GHOSTTY_RESOURCES_DIR",
        "ITERM_SESSION_ID",
        "TERM_SESSION_ID",  # of macOS
        "WT_SESSION",  # of Windows
        "VSCODE_IPC_HOOK_CLI",  # of the terminal inside VS Code
    }
)
"""Variables by which terminals tell their name that break lines again when they are made narrower."""
_CUTTING: Final = frozenset({"STY", "XTERM_VERSION"})
"""Of screen and xterm, which cut them; they may have been started from one of the others, and have its variable too."""


def breaks_lines_again(environ: Mapping[str, str]) -> bool:
    """Whether this terminal is known to break lines into more rows when it is made narrower; others cut them.

    Of tmux and screen, of which one may run in the other, TERM names the inner one; both call themselves screen where
    they know no better, and then it is taken for the one that cuts.
    """
    if "STY" in environ and environ.get("TERM", "").startswith("screen"):
        return False
    return "TMUX" in environ or (not _BREAKING.isdisjoint(environ) and _CUTTING.isdisjoint(environ))


def count_rows(lines: Sequence[str], width: int) -> int:
    """Return how many rows `lines`, with their colours, take on a terminal that is, or was made, so many characters."""
    from rich.text import Text

    return sum(max(1, -(-Text.from_ansi(line).cell_len // width)) for line in lines)


def measure(stream: TextIO) -> os.terminal_size:
    """Return columns and lines of the terminal behind `stream`; COLUMNS and LINES go before. 80 and 24 elsewhere.

    Python asks stdout, which may be a pipe where the errors go to a terminal.
    """
    try:
        size = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):  # no file behind it, or no terminal, or it is closed
        size = os.terminal_size((0, 0))
    named = [os.environ.get(name, "") for name in ("COLUMNS", "LINES")]
    wanted = [int(text) if text.isdecimal() else 0 for text in named]
    columns, lines = (ours or theirs or usual for ours, theirs, usual in zip(wanted, size, _USUAL, strict=True))
    return os.terminal_size((columns, lines))


_USUAL: Final = (80, 24)  # columns and lines, of a terminal since the VT100

unwritten: list[OSError] = []
"""Why something could not be written, mostly for lack of room, so that no person was told: the exit status says so."""


@contextmanager
def keep_output_from_ending() -> Iterator[None]:
    """Let go of stdout where what writes to it within finds that it takes no more: the command's own status holds.

    Of a reader that has left, as `head` does, nothing is said: it wants to know nothing.
    """
    try:
        yield
    except OSError as lost:
        discard(sys.stdout)
        if not isinstance(lost, BrokenPipeError):
            unwritten.append(lost)
    except SystemExit as ended:
        if not isinstance(ended.__context__, BrokenPipeError):  # of which Rich makes it
            raise
        discard(sys.stdout)


def discard(stream: TextIO) -> None:
    """Let what a standard stream still holds, and what is written to it from now on, go nowhere: else the interpreter's
    own flush at the end would fail.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


class LastingTerminal:
    """Writes to a terminal, or a pipe or a file in its place, until that takes no more, and from then on nowhere."""

    def __init__(self, terminal: TextIO) -> None:
        self._terminal: TextIO | None = terminal
        self._measured = terminal

    @property
    def size(self) -> os.terminal_size:
        """Columns and lines."""
        return measure(self._measured)

    def put(self, text: str) -> None:
        """Write at once. What takes no more is let go: a terminal that has hung up (EIO), a pipe whose reader has left
        (EPIPE), a full disk (ENOSPC, EDQUOT), a stream that is closed (ValueError).
        """
        if self._terminal is None:
            return
        try:
            self._terminal.write(text)
            self._terminal.flush()
        except (OSError, ValueError) as error:
            self._terminal = None
            if isinstance(error, OSError) and error.errno in NO_ROOM:
                unwritten.append(error)
