"""The command `check`: whether a retrain is due."""

import typer

from hftcl.cli.app import AsJson, AsOf, ExitCode, app, format_example


@app.command(epilog=format_example("check --json --exit-code"))
def check(ctx: typer.Context, as_of: AsOf = None, as_json: AsJson = False, exit_code: ExitCode = False) -> None:
    """Is a retrain due? Every trigger, with its evidence.

    Changes nothing. Exits 1 where the bars of a ticker are refused.
    """
    from hftcl.views import loop, show

    report = ctx.obj.build_learning().check(as_of=as_of)
    show(report, loop.draw_check, as_json, verbosity=ctx.obj.verbosity)
    if any(item.refused for item in report.coverage):
        raise typer.Exit(1)
    raise typer.Exit(3 if exit_code and report.due else 0)
