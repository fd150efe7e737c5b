"""The command `reproduce`: an archived model, trained again and compared."""

from typing import Annotated

import typer

from hftcl.cli.app import AsJson, ExitCode, app, complete_models, format_example


@app.command(epilog=format_example("reproduce 20260109_020000"))
def reproduce(
    ctx: typer.Context,
    model_id: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="An archived model; `hftcl history` lists them.", autocompletion=complete_models
        ),
    ],
    as_json: AsJson = False,
    exit_code: ExitCode = False,
) -> None:
    """Train a model again from the bars that it names, and compare.

    It is the same to the bit, or what differs is told and why. Archives, deploys and changes nothing.
    """
    from hftcl.views import show, why

    report = ctx.obj.build_learning().reproduce(model_id)
    show(report, why.draw_reproduction, as_json)
    raise typer.Exit(3 if exit_code and not report.equal else 0)
