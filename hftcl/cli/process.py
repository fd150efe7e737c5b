"""One run of the command line: the words that were given, the streams, the signals, errors as exit statuses.

Reads and writes nothing but those.
"""

import contextlib
import errno
import io
import os
import re
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from types import FrameType
from typing import Final, Never

import typer

from hftcl.cli.app import app, homes_read
from hftcl.cli.telling import send_alerts
from hftcl.errors import HftclError
from hftcl.interrupts import raise_from_handler

COMMANDS: Final = (
    "init",
    "inspect",
    "check",
    "retrain",
    "features",
    "prove",
    "exam",
    "backtest",
    "history",
    "rollback",
    "unpin",
    "record",
    "trade",
    "report",
    "schedule",
    "doctor",
)
"""The commands, each a file of this folder, in the order of `--help`."""

_LONGEST_WORD: Final = 200  # characters: longer than a path or an address that a person has typed
_ENDLESS: Final = re.compile(rf"\S{{{_LONGEST_WORD + 1},}}")  # a word that is longer than that
_STDERR = 2  # POSIX: 0 is stdin, 1 stdout, 2 stderr


def load_app(name: str | None = None) -> typer.Typer:
    """Return the application with the command `name`, or, where it is none of `COMMANDS`, with all of them."""
    for command in [name] if name in COMMANDS else COMMANDS:
        import_module(f"hftcl.cli.{command}")  # registers it
    files = [f"hftcl.cli.{command}" for command in COMMANDS]
    app.registered_commands.sort(key=lambda command: files.index(getattr(command.callback, "__module__", "")))
    return app


def move_globals_first(arguments: Sequence[str]) -> list[str]:
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


def run() -> Never:
    """Run the command line; the exit status is the contract of docs/commands.md."""
    signal.signal(signal.SIGTERM, _unwind)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # `nohup` and the like leave it ignored
        signal.signal(signal.SIGINT, _unwind)
    _open_what_is_closed()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a sparkline on a terminal of another alphabet ends no command
    arguments = move_globals_first(sys.argv[1:])
    try:
        code = load_app(_find_command(arguments))(args=arguments, prog_name="hftcl", standalone_mode=False)
        sys.stdout.flush()
    except SystemExit as ended:
        if not isinstance(ended.__context__, BrokenPipeError):
            raise
        code = _report_error(ended.__context__, traceback=False)  # the library ends with 1 where a reader leaves
    except Exception as error:  # noqa: BLE001 - told, or raised again
        code = _report_error(error, traceback=arguments.count("-v") + 2 * arguments.count("-vv") > 1)
    if code == 130:
        typer.echo(err=True)  # a progress bar has no end of line
        _fail(_describe_interruption(), 130)
    send_alerts()
    raise SystemExit(code)


def _describe_interruption() -> str:
    """Return what is to be known of a command that Ctrl-C ended: what it kept, what serves, how to go on."""
    serving = "the model that served still serves"
    if homes_read:
        from hftcl.archive.registry import Registry

        with contextlib.suppress(HftclError):  # which `hftcl doctor` tells; this is the end of another command
            live = Registry(homes_read[-1].root).find_live()
            serving = f"{live.model_id} serves" if live else "no model serves"
    return f"interrupted. Bars that were fetched are kept, and {serving}. Run it again to go on."


def _find_command(arguments: Sequence[str]) -> str | None:
    """Return the first word that is no option of `hftcl` itself, nor the value of one; `arguments` begin with those."""
    waiting = iter(arguments)
    for word in waiting:
        if word == "--config":
            next(waiting, None)
        elif not word.startswith("-"):
            return word
    return None


def _open_what_is_closed() -> None:
    """Open /dev/null in place of each standard stream that is closed: else the next file, a database, took its number,
    and what is printed would be written into it.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        os.set_inheritable(number, True)
    os.close(number)
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8")  # noqa: SIM115 - open until the process ends
    sys.stderr = sys.stderr or open(_STDERR, "w", encoding="utf-8")  # noqa: SIM115


def _report_error(error: Exception, *, traceback: bool) -> int:
    """Say what happened in a line, or raise it again where a traceback is asked for; return the exit status."""
    from traceback import format_exception  # these three here: what goes well need not wait for them

    from hftcl.durable import describe_storage_fault
    from hftcl.logs import mask

    if isinstance(error, BrokenPipeError):
        _discard_output()  # the reader has left, as `head` does: there is nobody to tell
        return 0
    if isinstance(error, typer.Abort):
        typer.echo(err=True)  # the question that was not answered has no end of line
        return _fail("stopped; nothing was changed", 1)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC and error.filename is None:
        _discard_output()  # a full disk under a file of ours is told by the storage, and is no OSError by now
        return _fail(f"the output could not be written: {error.strerror}. `hftcl history` tells what was done.", 1)
    if traceback:
        typer.echo(
            mask("".join(format_exception(error))), err=True, nl=False
        )  # a library may quote what holds a secret
        return int(getattr(error, "exit_code", 1))
    if isinstance(error, HftclError | typer.TyperException):
        message = error.format_message() if isinstance(error, typer.TyperException) else str(error)
        if message.startswith("Usage: "):  # no command was given: the help, as it is
            typer.echo(message, err=True)
            return error.exit_code
        if message.startswith("No such command"):
            message += " `hftcl --help` lists the commands."
        repaired = [note for note in getattr(error, "__notes__", ()) if note.startswith("repaired: ")]
        return _fail("\n".join([*repaired, message]), error.exit_code)
    if isinstance(error, OSError) and error.filename is not None:
        return _fail(describe_storage_fault("the work", error), 1)
    return _fail(f"unexpected {type(error).__name__}: {error}. Run it again with -vv for a traceback.", 1)


def _discard_output() -> None:
    """Let what is still in the buffer go nowhere, so that the interpreter's own flush at the end does not fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, code: int) -> int:
    from hftcl.logs import to_one_line

    for line in message.splitlines():
        shown = to_one_line(line)  # what a foreign file or server sent must not steer the terminal, nor flood it
        shown = _ENDLESS.sub(lambda word: f"{word[0][:_LONGEST_WORD]}...", shown)
        typer.echo(f"hftcl: {shown}", err=True)  # not Rich, which would swallow the "[paths]" in a message
    return code


def _unwind(signum: int, frame: FrameType | None) -> Never:
    """Unwind like any error, so that the training process ends and temporary files go."""
    raise_from_handler(KeyboardInterrupt() if signum == signal.SIGINT else SystemExit(128 + signum), frame)
