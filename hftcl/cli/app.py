"""The application: its global options, and what every command shares. The commands are the other files here."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hftcl import __version__
from hftcl.cli.group import PlainGroup
from hftcl.errors import UsageError
from hftcl.values import Value, value_class

if TYPE_CHECKING:
    from hftcl.api.continuous_learning import ContinuousLearning
    from hftcl.config import Configuration
    from hftcl.home import Home

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


homes_read: list["Home"] = []
"""The homes of the configurations that this command has read, for what is to be told at its end."""


@value_class(frozen=True, slots=True)
class Invocation(Value):
    """What the global options said. The configuration is read when a command needs it, so that --help never fails."""

    config: Path | None
    verbosity: int

    def configuration(self, **overrides: object) -> "Configuration":
        from hftcl import config

        return self._tell(config.load(self.config, environ=os.environ, cwd=Path.cwd(), overrides=overrides))

    def configuration_without_plugins(self) -> "Configuration":
        """Read the configuration for a command that uses no plug-in: none is imported, none judged."""
        from hftcl import config

        return self._tell(config.load(self.config, environ=os.environ, cwd=Path.cwd(), plugins=False))

    def _tell(self, configuration: "Configuration") -> "Configuration":
        """Say on stderr which file is used where none was named; the home is where calendars are kept."""
        from hftcl.home import Home
        from hftcl.market.calendar_file import keep_calendars

        homes_read.append(Home.of(configuration.settings))
        keep_calendars(homes_read[-1])
        if configuration.remembered and self.verbosity >= 0:
            typer.echo(f"hftcl: settings of {configuration.file}, with which this home was last used", err=True)
        return configuration

    def learning(self, configuration: "Configuration | None" = None) -> "ContinuousLearning":
        """Return the loop with these settings, or, where none are given, with those that this command reads."""
        from hftcl import logs
        from hftcl.api.continuous_learning import ContinuousLearning
        from hftcl.views.progress import build_listener

        settings = (configuration or self.configuration()).settings
        logs.configure(settings.log, self.verbosity)
        return ContinuousLearning(settings, on_event=build_listener(self.verbosity))


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


def example(arguments: str) -> str:
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
    verbose: Annotated[int, typer.Option("--verbose", "-v", count=True, help="Say more; -vv: tracebacks.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, warnings only.")] = False,
) -> None:
    ctx.obj = Invocation(config, -1 if quiet else verbose)


def now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251  # this is the edge
