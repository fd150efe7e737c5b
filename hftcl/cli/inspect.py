"""The command that looks into a folder of files: inspect."""

from pathlib import Path
from typing import Annotated

import typer

from hftcl.cli.app import AsJson, app, format_example, require_printable


@app.command(epilog=format_example("inspect ~/Downloads/bars"))
def inspect(
    ctx: typer.Context,
    folder: Annotated[
        Path | None, typer.Argument(metavar="[FOLDER]", help="A folder of files; [files] folder unless given.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what is in a folder of minute bars.

    Layout, zone, label, interval and coverage of each file. Exits 1 where one is refused.
    """
    from hftcl import logs
    from hftcl.market.inspect import inspect as look
    from hftcl.views import inspect as view
    from hftcl.views import show
    from hftcl.views.progress import build_listener

    settings = ctx.obj.read_configuration().settings
    logs.configure(settings.log, ctx.obj.verbosity)
    reports = look(settings, require_printable(folder) if folder else None, on_event=build_listener(ctx.obj.verbosity))
    show(reports, view.draw_files, as_json)
    raise typer.Exit(1 if any(report.refused for report in reports) else 0)
