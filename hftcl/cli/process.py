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
from typing import TYPE_CHECKING, Final, Never, TextIO

from hftcl.cli.invocation import homes_read
from hftcl.cli.looks import find_look
from hftcl.errors import HftclError, split_remedy
from hftcl.interrupts import find_replaced_stop, raise_from_handler, repeat_what_finalizers_lose
from hftcl.values import Value, value_class

if TYPE_CHECKING:
    import typer

COMMANDS: Final = (
    "init",
    "inspect",
    "check",
    "retrain",
    "features",
    "prove",
    "exam",
    "explain",
    "reproduce",
    "backtest",
    "search",
    "history",
    "diff",
    "note",
    "rollback",
    "unpin",
    "record",
    "trade",
    "report",
    "schedule",
    "dashboard",
    "doctor",
    "docs",
)
"""The commands, each a file of this folder, in the order of `--help`."""

_LONGEST_WORD: Final = 200  # characters: longer than a path or an address that a person has typed
_ENDLESS: Final = re.compile(rf"\S{{{_LONGEST_WORD + 1},}}")  # a word that is longer than that
_COMPLETION: Final = "_HFTCL_COMPLETE"  # set by the shell that asks how a line may go on: typer answers
_TERMINATED: Final = "Stopped by SIGTERM. Run it again to go on."
_UNWRITTEN: Final = "the output could not be written: {}. `hftcl history` tells what was done."
_STDERR = 2  # POSIX: 0 is stdin, 1 stdout, 2 stderr


def load_app(name: str | None = None) -> "typer.Typer":
    """Return the application with the command `name`, or, where it is none of `COMMANDS`, with all of them."""
    from hftcl.cli.app import app

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


def run(early: Sequence[int] | None = ()) -> Never:
    """Run the command line; the exit status is the contract of docs/commands.md.

    early: each SIGINT that has come already; None where they are not for us to hear.
    """
    signal.signal(signal.SIGTERM, _unwind)
    if early is not None:
        signal.signal(signal.SIGINT, _unwind)
    repeat_what_finalizers_lose()
    _open_what_is_closed()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a sparkline on a terminal of another alphabet ends no command
    arguments = move_globals_first(sys.argv[1:])
    told = _Told(
        command=_find_command(arguments),
        as_json="--json" in arguments,
        traceback=arguments.count("-v") + 2 * arguments.count("-vv") > 1,
    )
    is_told = False
    try:
        code = _run_words(arguments) if not early else 128 + signal.SIGINT
    except SystemExit as ended:
        cause = ended.__context__ if isinstance(ended.__context__, BrokenPipeError) else ended
        fault = _find_plug_in_fault(cause)  # a plug-in has pipes of its own, and may call exit()
        if fault is None and cause is ended:
            if ended.code == 128 + signal.SIGTERM:
                told.print_document(_TERMINATED, 128 + signal.SIGTERM)
            _flush_errors()
            raise
        # where it is our reader that left, the library ends with 1
        code, is_told = (told.report(fault), True) if fault is not None else (_discard(sys.stdout), False)
    except BaseException as error:  # noqa: BLE001 - told, a panic of a library too
        code, is_told = told.report(error), True
    if code == 130 and not is_told:
        _end_line()
        told.fail(_describe_interruption(), 130)
    elif code == 128 + signal.SIGTERM:  # of a command that hears the signal itself
        told.print_document(_TERMINATED, code)
    if telling := sys.modules.get("hftcl.cli.telling"):  # who has not loaded it has told nothing
        telling.send_alerts()
    code = told.tell_unwritten(code)
    _flush_errors()
    raise SystemExit(code)


def _run_words(arguments: Sequence[str]) -> int | None:
    """Do what `arguments` say; return the exit status, None for 0."""
    look = None if _COMPLETION in os.environ else find_look(arguments)
    try:
        try:
            if look is None:
                app = load_app(_find_command(arguments))
                code: int | None = app(args=arguments, prog_name="hftcl", standalone_mode=False)
                return code
            look()
        finally:
            if progress := sys.modules.get("hftcl.views.progress"):  # who has not loaded it has shown none
                progress.end_displays()
            _flush_output()  # before an error is told, which comes after the report
    except BaseException as error:
        stop = find_replaced_stop(error, by_others=_find_plug_in_fault(error) is not None)
        if isinstance(stop or error, KeyboardInterrupt):
            return 128 + signal.SIGINT
        if stop is not None:
            raise stop from None
        raise
    return None


def _find_plug_in_fault(error: BaseException) -> HftclError | None:
    """Return what to tell of an error that came out of the code of a plug-in, None for any other."""
    if isinstance(error, HftclError):
        return None
    from hftcl.plug_ins import find_plug_in_fault

    return find_plug_in_fault(error)


def _end_line() -> None:
    """End the line of the ^C that a terminal shows; a progress bar that was cut short has ended its own."""
    progress = sys.modules.get("hftcl.views.progress")
    if progress is None or not progress.cut_short:
        _tell("\n")


def _describe_interruption() -> str:
    """Return what is to be known of a command that Ctrl-C ended: what it kept, what serves, how to go on."""
    serving, kept = "the model that served still serves", "Bars that were fetched are kept"
    if homes_read:
        from hftcl.archive.registry import Registry
        from hftcl.formats import count

        if folds := len(list(homes_read[-1].folds.glob("*.onnx"))):
            kept += f", {'as is' if folds == 1 else 'as are'} {count(folds, 'fold')} of a first record"
        with contextlib.suppress(HftclError):  # which `hftcl doctor` tells; this is the end of another command
            live = Registry(homes_read[-1].root).find_live()
            serving = f"{live.model_id} serves" if live else "no model serves"
    return f"interrupted. {kept}, and {serving}. Run it again to go on."


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


@value_class(frozen=True, slots=True, kw_only=True)
class _Told(Value):
    """How this run tells why it failed: lines on stderr, and with --json a document on stdout."""

    as_json: bool
    traceback: bool
    command: str | None = None

    def report(self, error: BaseException) -> int:
        """Say what happened, with a traceback where it is asked for; return the exit status."""
        import typer  # here, as in what follows: what goes well need not wait for it

        from hftcl.durable import NO_ROOM, describe_storage_fault

        error = _find_plug_in_fault(error) or error
        if isinstance(error, BrokenPipeError):
            return _discard(sys.stdout)  # the reader has left, as `head` does: there is nobody to tell
        if isinstance(error, typer.Abort):
            _tell("\n")  # the question that was not answered has no end of line
            is_interrupted = isinstance(error.__context__, KeyboardInterrupt)
            return self.fail("stopped; nothing was changed", 130 if is_interrupted else 1)
        if isinstance(error, OSError) and error.errno in {*NO_ROOM, errno.EIO} and error.filename is None:
            # a full disk under a file of ours is told by the storage, and is no OSError by now; EIO: a closed terminal
            _discard(sys.stdout)
            return self.fail(_UNWRITTEN.format(error.strerror), 1)
        if isinstance(error, HftclError | typer.TyperException):
            message = error.format_message() if isinstance(error, typer.TyperException) else str(error)
            if message.startswith("Usage: "):  # no command was given: the help, as it is
                _tell(f"{message}\n")
                return error.exit_code
            if message.startswith("No such command"):
                message += " `hftcl --help` lists the commands."
            elif isinstance(error, typer.TyperException):
                ctx = getattr(error, "ctx", None)  # of an option that lacks a second value there is none
                path = ctx.command_path if ctx is not None else " ".join(filter(None, ("hftcl", self.command)))
                message = f"{message.rstrip('.')}. `{path} --help` tells what it takes."
            repaired = [note for note in getattr(error, "__notes__", ()) if note.startswith("repaired: ")]
            return self.fail("\n".join([*repaired, message]), error.exit_code, error)
        if isinstance(error, OSError) and error.filename is not None:
            return self.fail(describe_storage_fault("the work", error), 1, error)
        unexpected = f"unexpected {type(error).__name__}: {error}. Run it again with -vv for a traceback."
        return self.fail(unexpected, 1, error)

    def fail(self, message: str, code: int, error: BaseException | None = None) -> int:
        """Print `message`, or the traceback of `error` where one is asked for; return `code`."""
        if self.traceback and error is not None:
            from traceback import format_exception

            from hftcl.logs import mask

            text = mask("".join(format_exception(error)))  # a library may quote what holds a secret
            _tell(text)
        else:
            for line in message.splitlines():
                _tell(f"{_fold(f'hftcl: {_clean(line)}')}\n")  # not Rich, which would swallow a "[paths]"
        self.print_document(message, code)
        return code

    def tell_unwritten(self, code: int | None) -> int | None:
        """Fail a command that did its work, and could not tell of it, as for lack of room; return the exit status."""
        terminal = sys.modules.get("hftcl.views.terminal")  # who has not loaded it has told nothing there
        if code or terminal is None or not terminal.unwritten:
            return code
        return self.fail(_UNWRITTEN.format(terminal.unwritten.pop().strerror), 1)

    def print_document(self, message: str, code: int) -> None:
        """Print a failure as JSON where that is asked for and no report was printed: stdout has one document."""
        views = sys.modules.get("hftcl.views")
        if not self.as_json or (views is not None and views.documents):
            return
        import json

        import typer

        told = [split_remedy(_clean(line)) for line in message.splitlines()]
        remedies = dict.fromkeys(remedy for _, remedy in told if remedy)
        failure = {
            "error": "\n".join(happened for happened, _ in told),
            "exit_status": code,
            "remedy": " ".join(remedies) or None,
        }
        try:
            typer.echo(json.dumps(failure, ensure_ascii=False, indent=2))
        except OSError:  # the exit status says it all the same
            _discard(sys.stdout)


def _tell(text: str) -> None:
    """Write to stderr, or nowhere where it takes no more: a closed terminal, a pipe without a reader, a full disk."""
    import typer

    try:
        typer.echo(text, err=True, nl=False)
    except OSError:
        _discard(sys.stderr)


def _flush_output() -> None:
    """Write what stdout still holds, or let it go nowhere: the interpreter's own flush would make another status."""
    try:
        sys.stdout.flush()
    except OSError:
        from hftcl.views.terminal import keep_output_from_ending

        with keep_output_from_ending():
            raise


def _flush_errors() -> None:
    """Write what stderr still holds, or let it go nowhere: the interpreter's own flush would make another status."""
    try:
        sys.stderr.flush()
    except OSError:
        _discard(sys.stderr)


def _discard(stream: TextIO) -> int:
    """Let what is still in the buffer go nowhere; return 0, the status of a command whose reader has left."""
    from hftcl.views.terminal import discard

    discard(stream)
    return 0


def _fold(line: str) -> str:
    """Return a line of an error with line ends between words where stderr is a terminal that would break the words."""
    if not sys.stderr.isatty():
        return line
    from textwrap import fill

    from hftcl.views.terminal import measure

    return fill(line, measure(sys.stderr).columns, break_long_words=False, break_on_hyphens=False)


def _clean(line: str) -> str:
    """Return a line of an error fit to be shown."""
    from hftcl.logs import to_one_line

    shown = to_one_line(line)  # what a foreign file or server sent must not steer the terminal, nor flood it
    return _ENDLESS.sub(lambda word: f"{word[0][:_LONGEST_WORD]}...", shown)


def _unwind(signum: int, frame: FrameType | None) -> None:
    """Unwind like any error, so that the training process ends and temporary files go."""
    raise_from_handler(KeyboardInterrupt() if signum == signal.SIGINT else SystemExit(128 + signum), signum, frame)
