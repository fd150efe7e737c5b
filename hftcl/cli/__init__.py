"""The command line: parse, call one story, show. No decision about the market, no arithmetic, no file of ours.

The edge of the program: here the clock, the environment and the signals are read, and errors become exit statuses.
"""

import io
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any, Never

import typer

from hftcl.cli import doctor, learning, models, performance, schedule, trading
from hftcl.cli.app import app
from hftcl.cli.telling import send_what_was_told
from hftcl.errors import HftclError

COMMANDS = (learning, models, schedule, trading, performance, doctor)
"""The files whose commands `app` has; importing one registers them."""


def globals_first(arguments: Sequence[str]) -> list[str]:
    """Return `arguments` with the global options in front, so that `hftcl retrain --config F -v` works too."""
    front: list[str] = []
    rest: list[str] = []
    waiting = list(arguments)
    while waiting:
        word = waiting.pop(0)
        if word == "--":
            return [*front, *rest, word, *waiting]
        if word == "--config" and waiting:
            front += [word, waiting.pop(0)]
        elif word.startswith("--config=") or word in {"--verbose", "--quiet", "-q", "-v", "-vv", "-vvv"}:
            front.append(word)
        else:
            rest.append(word)
    return front + rest


def main() -> None:
    """Run the command line; the exit status is the contract of docs/commands.md."""
    signal.signal(signal.SIGTERM, _terminated)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a sparkline on a terminal of another alphabet ends no command
    arguments = globals_first(sys.argv[1:])
    try:
        code = app(args=arguments, prog_name="hftcl", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has left, as `head` does: there is nobody to tell, and the interpreter's own flush must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except typer.Abort:
        typer.echo(err=True)  # the question that was not answered has no end of line
        code = _fail("stopped; nothing was changed", 1)
    except (HftclError, typer.TyperException) as error:
        if arguments.count("-v") + 2 * arguments.count("-vv") > 1:
            raise
        message = error.format_message() if isinstance(error, typer.TyperException) else str(error)
        repaired = [note for note in getattr(error, "__notes__", ()) if note.startswith("repaired: ")]
        message = "\n".join([*repaired, message])
        code = _fail(message, error.exit_code)
    except Exception as error:
        if arguments.count("-v") + 2 * arguments.count("-vv") > 1:
            raise
        code = _fail(f"unexpected {type(error).__name__}: {error}. Run it again with -vv for a traceback.", 1)
    if code == 130:
        _fail("interrupted; what was live still is", 130)
    send_what_was_told()
    raise SystemExit(code)


def _fail(message: str, code: int) -> int:
    for line in message.splitlines():
        typer.echo(f"hftcl: {line}", err=True)  # not Rich, which would swallow the "[paths]" in a message
    return code


def _terminated(signum: int, frame: FrameType | None) -> Never:
    """Unwind like any error, so that the training process ends and temporary files go."""
    raise SystemExit(128 + signum)


__all__: Any = ["app", "main"]
