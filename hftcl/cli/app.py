"""The application: its global options, and what every command shares. The commands are the other files here."""

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hftcl import __version__
from hftcl.cli.group import PlainGroup
from hftcl.cli.invocation import Invocation
from hftcl.errors import UsageError

if TYPE_CHECKING:
    from hftcl.config import Configuration

app = typer.Typer(
    name="hftcl",
    cls=PlainGroup,
    help="Keeps a minute-bar trading model fresh: collect, train, examine, promote only what earned it, roll back.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else there.")]
ExitCode = Annotated[bool, typer.Option("--exit-code", help="Exit 3 where a script should take notice.")]
AsOf = Annotated[
    str | None,
    typer.Option("--as-of", metavar="T", help="Know no bar after T: a date (its session's close) or ISO 8601 in UTC."),
]


def remember(configuration: "Configuration") -> None:
    """Note in the home which file its settings come from, for a command that is run inside it."""
    from hftcl.config import remembered
    from hftcl.home import Home

    remembered.remember(Home.of(configuration.settings).root, configuration.file)


def require_printable(path: Path) -> Path:
    """Return `path`. Raises UsageError for a name with line ends or control characters: it would forge messages."""
    if not str(path).isprintable():
        raise UsageError(f"{str(path)!a} holds characters that do not print. Rename it.")
    return path


def confirm(question: str) -> None:
    """Ask on stderr; return where the answer is yes.

    Raises typer.Abort for no, for Ctrl-C, for the end of input, and where stderr takes no question.
    """
    # polars takes SIGINT over, passes it on and lets what waits for a key go on: Ctrl-C would wait for Enter
    signal.siginterrupt(signal.SIGINT, True)
    try:
        typer.confirm(question, abort=True, err=True)
    except OSError as lost:  # nothing takes the question
        raise typer.Abort from lost


def tell(text: str) -> None:
    """Write a line to stderr, or nowhere where that takes no more: no work that is left waits for a person to know."""
    from hftcl.views.terminal import LastingTerminal

    LastingTerminal(sys.stderr).put(f"{text}\n")


def complete_models(incomplete: str) -> list[str]:
    """Return the archived models of the working folder that begin so, newest first, for a shell's completion."""
    from hftcl import config
    from hftcl.archive.registry import Registry
    from hftcl.errors import HftclError
    from hftcl.home import Home

    try:
        settings = config.load(None, environ=os.environ, cwd=Path.cwd(), plugins=False).settings
        models = Registry(Home.of(settings).root).list_models()
    except HftclError:
        return []  # a shell that completes has no place for a message; the command itself says what is wrong
    return [model.model_id for model in models if model.model_id.startswith(incomplete)]


def complete_parameters(incomplete: str) -> list[str]:
    """Return the parameters of the configured model family that begin so, each with its "=" and as it is set.

    Two of each: after the only one that fits, a shell puts a space, and the value would be a word of its own.
    """
    from hftcl import config
    from hftcl.archive.policy import complete_params
    from hftcl.errors import HftclError

    try:
        set_now = complete_params(config.load(None, environ=os.environ, cwd=Path.cwd(), plugins=False).settings, None)
    except HftclError:
        return []  # as above
    return [
        text
        for name, value in set_now.items()
        for text in (f"{name}=", f"{name}={value}")
        if text.startswith(incomplete)
    ]


def complete_words(incomplete: str) -> list[str]:
    """Return the words, commands, settings and pages that `hftcl docs` explains and that begin so."""
    from hftcl.errors import HftclError
    from hftcl.manual.pages import list_names

    try:
        names = set(list_names())
    except HftclError:
        return []  # as above
    # of two names for one page the short one; a shell takes a name with a space for two words
    names = {name for name in names if " " not in name and not name.endswith(".md")}
    return sorted(name for name in names if name.casefold().startswith(incomplete.casefold()))


def format_example(arguments: str) -> str:
    """Return the line that ends the help of a command."""
    return f"Example: hftcl {arguments}"


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hftcl {__version__}")
        raise typer.Exit(0)


@app.callback()
def hftcl(
    ctx: typer.Context,
    config: Annotated[Path | None, typer.Option("--config", metavar="PATH", help="Configuration file.")] = None,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
    verbose: Annotated[
        int, typer.Option("--verbose", "-v", count=True, show_default=False, help="Say more; -vv: tracebacks.")
    ] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, warnings only.")] = False,
) -> None:
    ctx.obj = Invocation(config, -1 if quiet else verbose)
