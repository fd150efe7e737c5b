"""The command `history`: every model that was archived."""

from typing import Annotated

import typer

from hftcl.cli.app import AsJson, app, format_example
from hftcl.cli.looks import show_history


@app.command(epilog=format_example("history --limit 10"))
def history(
    ctx: typer.Context,
    limit: Annotated[int | None, typer.Option("--limit", min=1, metavar="N", help="The newest N models.")] = None,
    lineage: Annotated[
        bool, typer.Option("--lineage", help="Only the model that serves and those it replaced.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Every model with its exam and verdict, newest first."""
    show_history(ctx.obj, limit=limit, lineage=lineage, as_json=as_json)
