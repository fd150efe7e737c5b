"""The command line: parse, call one story, show. No decision about the market, no arithmetic, no file of ours.

The edge of the program: here the clock, the environment and the signals are read, and errors become exit statuses.
"""

import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Never

import typer

from hftcl import __version__
from hftcl.errors import HftclError

if TYPE_CHECKING:
    from hftcl.config import Configuration
    from hftcl.learning.loop import ContinuousLearning

app = typer.Typer(
    name="hftcl",
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


@dataclass(frozen=True, slots=True)
class Invocation:
    """What the global options said. The configuration is read when a command needs it, so that --help never fails."""

    config: Path | None
    verbosity: int

    def configuration(self, **overrides: object) -> "Configuration":
        from hftcl import config

        return config.load(self.config, environ=os.environ, cwd=Path.cwd(), overrides=overrides)

    def learning(self, **overrides: object) -> "ContinuousLearning":
        from hftcl.learning.loop import ContinuousLearning
        from hftcl.progress import listener

        settings = self.configuration(**overrides).settings
        return ContinuousLearning(settings, on_event=listener(self.verbosity))


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hftcl {__version__}")
        raise typer.Exit(0)


@app.callback()
def hftcl(
    ctx: typer.Context,
    config: Annotated[Path | None, typer.Option("--config", metavar="PATH", help="Configuration file.")] = None,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
    verbose: Annotated[int, typer.Option("--verbose", "-v", count=True, help="Say more; -vv: tracebacks.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, warnings only.")] = False,
) -> None:
    ctx.obj = Invocation(config, -1 if quiet else verbose)


@app.command()
def init(
    ctx: typer.Context,
    show: Annotated[
        bool, typer.Option("--show", help="Print the effective settings and where each came from; write nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write a commented hftcl.toml and a .env template; never overwrites."""
    from hftcl import config, views

    if show:
        views.show(config.effective(ctx.obj.configuration(), os.environ), views.settings, as_json)
    else:
        views.show(config.write_example(Path.cwd()), views.written, as_json)


@app.command()
def check(ctx: typer.Context, as_of: AsOf = None, as_json: AsJson = False, exit_code: ExitCode = False) -> None:
    """Is a retrain due? Every trigger, with its evidence. Changes nothing."""
    from hftcl import views

    report = ctx.obj.learning().check(as_of=as_of)
    views.show(report, views.triggers, as_json)
    raise typer.Exit(3 if exit_code and report.due else 0)


@app.command()
def retrain(
    ctx: typer.Context,
    force: Annotated[bool, typer.Option("--force", help="Skip the check, never the exam.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Train and examine; archive and deploy nothing.")] = False,
    lookback_days: Annotated[
        int | None, typer.Option("--lookback-days", metavar="N", help="Calendar days of bars.")
    ] = None,
    param: Annotated[
        list[str] | None, typer.Option("--param", metavar="K=V", help="A parameter of the model; may be repeated.")
    ] = None,
    as_of: AsOf = None,
    as_json: AsJson = False,
    exit_code: ExitCode = False,
) -> None:
    """Check, and if a retrain is due: collect, train, examine, and deploy what earned it."""
    from hftcl import views

    overrides = {} if lookback_days is None else {"market.lookback_days": lookback_days}
    report = ctx.obj.learning(**overrides).retrain(force=force, dry_run=dry_run, params=param, as_of=as_of)
    views.show(report, views.retrain, as_json, verbosity=ctx.obj.verbosity)
    raise typer.Exit(3 if exit_code and report.outcome in {"rejected", "inconclusive"} else 0)


@app.command()
def history(
    ctx: typer.Context,
    limit: Annotated[int | None, typer.Option("--limit", min=1, metavar="N", help="The newest N models.")] = None,
    lineage: Annotated[bool, typer.Option("--lineage", help="Only the live model and those it replaced.")] = False,
    as_json: AsJson = False,
) -> None:
    """Every model with its exam and verdict, newest first, and which one serves."""
    from hftcl import views
    from hftcl.learning.restoring import history as read

    home = Path(ctx.obj.configuration().settings.paths.home)
    views.show(read(home, limit=limit, lineage=lineage), views.history, as_json)


@app.command()
def rollback(
    ctx: typer.Context,
    model_id: Annotated[
        str | None, typer.Argument(metavar="[MODEL_ID]", help="The model to go back to; the previous one if left out.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    reason: Annotated[
        str | None, typer.Option("--reason", help="Why; needed for a model that never passed its exam.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Back to the previous deployed model, or a named one, and pin it there."""
    from hftcl import views
    from hftcl.learning.restoring import plan_rollback
    from hftcl.learning.restoring import rollback as restore

    home = Path(ctx.obj.configuration().settings.paths.home)
    plan = plan_rollback(home, model_id)
    if not yes:
        views.rollback_plan(plan)
        typer.confirm("Roll back?", abort=True, err=True)
    views.show(restore(home, model_id, plan, reason=reason, now=_now()), views.rollback, as_json)


@app.command()
def unpin(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Let automatic deployment run again after a rollback."""
    from hftcl import views
    from hftcl.learning.restoring import unpin as let_go

    home = Path(ctx.obj.configuration().settings.paths.home)
    views.show(let_go(home, now=_now()), views.unpinned, as_json)


@app.command()
def prove(
    ctx: typer.Context,
    cases: Annotated[int, typer.Option("--cases", min=1, metavar="N", help="Random cut points.")] = 200,
    seed: Annotated[int, typer.Option("--seed", min=0, metavar="N", help="Seed of the cut points.")] = 0,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Prove on your own bars that no feature, position or label looks ahead. Changes nothing."""
    from hftcl import views

    report = ctx.obj.learning().prove(cases=cases, seed=seed, as_of=as_of)
    views.show(report, views.proof, as_json)
    raise typer.Exit(0 if report.proved else 1)


@app.command()
def exam(
    ctx: typer.Context,
    model_id: Annotated[str, typer.Argument(metavar="MODEL_ID", help="An archived model; `hftcl history` lists them.")],
    start: Annotated[str, typer.Option("--from", metavar="D", help="First session, YYYY-MM-DD.")],
    end: Annotated[str, typer.Option("--to", metavar="D", help="Last session, YYYY-MM-DD.")],
    as_json: AsJson = False,
) -> None:
    """Score an archived model on other bars; refuses bars that it has seen. Changes nothing."""
    from hftcl import views

    views.show(ctx.obj.learning().exam(model_id, start, end), views.exam, as_json)


@app.command()
def backtest(
    ctx: typer.Context,
    start: Annotated[str, typer.Option("--from", metavar="D", help="First session that is compared, YYYY-MM-DD.")],
    end: Annotated[str, typer.Option("--to", metavar="D", help="Last session that is compared, YYYY-MM-DD.")],
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a self-contained HTML report as well.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Replay the learning loop over history: did retraining pay? Changes nothing that serves."""
    from hftcl import report as page
    from hftcl import views

    if html is not None:
        page.require_place(html)
    report = ctx.obj.learning().backtest(start, end)
    views.show(report, views.backtest, as_json)
    if html is not None:  # last: where it fails, what was found has been told
        page.write(html, page.backtest(report))


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251  # this is the edge


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
    raise SystemExit(code)


def _fail(message: str, code: int) -> int:
    for line in message.splitlines():
        typer.echo(f"hftcl: {line}", err=True)  # not Rich, which would swallow the "[paths]" in a message
    return code


def _terminated(signum: int, frame: FrameType | None) -> Never:
    """Unwind like any error, so that the training process ends and temporary files go."""
    raise SystemExit(128 + signum)


__all__: Any = ["app", "main"]
