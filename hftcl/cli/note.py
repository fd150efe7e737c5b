"""The command `note`: what a person writes about a model."""

from typing import Annotated

import typer

from hftcl.cli.app import AsJson, app, complete_models, format_example
from hftcl.cli.invocation import now
from hftcl.home import Home


@app.command(epilog=format_example('note 20260109_020000 "after the new fee table" --tag fees'))
def note(
    ctx: typer.Context,
    model_id: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="An archived model; `hftcl history` lists them.", autocompletion=complete_models
        ),
    ],
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="What is to be noted of it.")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", metavar="WORD", help="Put a tag on it; repeatable.")] = None,
    untag: Annotated[
        list[str] | None, typer.Option("--untag", metavar="WORD", help="Take a tag off it; repeatable.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a note or a tag on a model; without either, show them.

    Nothing is decided by them.
    """
    from hftcl.learning.stories.history import note as write
    from hftcl.views import archive, show

    home = Home.of(ctx.obj.read_configuration().settings).root
    show(write(home, model_id, text, tag or (), untag or (), now=now()), archive.draw_note, as_json)
