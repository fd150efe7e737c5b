"""The command `history`: every model that was archived."""

from typing import Annotated

import typer

from hftcl.cli.app import AsJson, app, example
from hftcl.home import Home


@app.command(epilog=example("history --limit 10"))
def history(
    ctx: typer.Context,
    limit: Annotated[int | None, typer.Option("--limit", min=1, metavar="N", help="The newest N models.")] = None,
    lineage: Annotated[bool, typer.Option("--lineage", help="Only the live model and those it replaced.")] = False,
    as_json: AsJson = False,
) -> None:
    """Every model with its exam and verdict, newest first."""
    from hftcl.learning.stories.history import history as read
    from hftcl.views import archive, show

    settings = ctx.obj.configuration_without_plugins().settings
    rows = read(Home.of(settings).root, calendar=settings.market.calendar, limit=limit, lineage=lineage)
    show(rows, archive.draw_history, as_json)
