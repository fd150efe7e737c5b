"""The commands about models that are there already: history, rollback, unpin."""

from pathlib import Path
from typing import Annotated

import typer

from hftcl.cli.app import AsJson, app, now
from hftcl.cli.telling import tell


@app.command()
def history(
    ctx: typer.Context,
    limit: Annotated[int | None, typer.Option("--limit", min=1, metavar="N", help="The newest N models.")] = None,
    lineage: Annotated[bool, typer.Option("--lineage", help="Only the live model and those it replaced.")] = False,
    as_json: AsJson = False,
) -> None:
    """Every model with its exam and verdict, newest first, and which one serves."""
    from hftcl.learning.stories.history import history as read
    from hftcl.views import archive, show

    home = Path(ctx.obj.configuration().settings.paths.home)
    show(read(home, limit=limit, lineage=lineage), archive.draw_history, as_json)


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
    from hftcl.learning.alert_texts import build_rollback_alert
    from hftcl.learning.stories.history import plan_rollback
    from hftcl.learning.stories.history import rollback as restore
    from hftcl.views import archive, show

    settings = ctx.obj.configuration().settings
    home = Path(settings.paths.home)
    plan = plan_rollback(settings, model_id)
    if not yes:
        archive.draw_rollback_plan(plan)
        typer.confirm("Roll back?", abort=True, err=True)
    report = restore(home, model_id, plan, reason=reason, now=now())
    tell(settings, build_rollback_alert(report, now()))
    show(report, archive.draw_rollback, as_json)


@app.command()
def unpin(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Let automatic deployment run again after a rollback."""
    from hftcl.learning.stories.history import unpin as let_go
    from hftcl.views import archive, show

    home = Path(ctx.obj.configuration().settings.paths.home)
    show(let_go(home, now=now()), archive.draw_unpin, as_json)
