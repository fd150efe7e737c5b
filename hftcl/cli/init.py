"""The command `init`: the example of the settings, or what is in force."""

import os
from pathlib import Path
from typing import Annotated

import typer

from hftcl.cli.app import AsJson, app, example


@app.command(epilog=example("init --show"))
def init(
    ctx: typer.Context,
    show: Annotated[
        bool, typer.Option("--show", help="Print the effective settings and where each came from; write nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write a commented hftcl.toml and a .env template.

    A file that exists is never overwritten.
    """
    from hftcl import config, views
    from hftcl.views import installation

    if show:
        views.show(config.list_effective(ctx.obj.configuration(), os.environ), installation.draw_settings, as_json)
    else:
        views.show(config.write_example(Path.cwd()), installation.draw_written, as_json)
