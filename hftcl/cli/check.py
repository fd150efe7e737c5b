"""The command `check`: whether a retrain is due."""

import typer

from hftcl.cli.app import AsJson, AsOf, ExitCode, app, example


@app.command(epilog=example("check --json --exit-code"))
def check(ctx: typer.Context, as_of: AsOf = None, as_json: AsJson = False, exit_code: ExitCode = False) -> None:
    """Is a retrain due? Every trigger, with its evidence.

    Changes nothing.
    """
    from hftcl.views import loop, show

    report = ctx.obj.learning().check(as_of=as_of)
    show(report, loop.draw_check, as_json, verbosity=ctx.obj.verbosity)
    raise typer.Exit(3 if exit_code and report.due else 0)
