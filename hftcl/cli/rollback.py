"""The command `rollback`: back to a model that served before."""

from typing import Annotated

import typer

from hftcl.cli.app import AsJson, app, complete_models, confirm, format_example
from hftcl.cli.invocation import now
from hftcl.cli.telling import tell
from hftcl.home import Home


@app.command(epilog=format_example("rollback --yes"))
def rollback(
    ctx: typer.Context,
    model_id: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL_ID]",
            help="The model to go back to; the previous one if left out.",
            autocompletion=complete_models,
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    reason: Annotated[
        str | None, typer.Option("--reason", help="Why; needed for a model that never passed its exam.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Go back to the model before, or to a named one, and pin it."""
    from hftcl.learning.alert_texts import build_rollback_alert
    from hftcl.learning.stories.history import plan_rollback
    from hftcl.learning.stories.history import rollback as restore
    from hftcl.views import archive, show

    settings = ctx.obj.read_configuration().settings
    home = Home.of(settings).root
    plan = plan_rollback(settings, model_id)
    if not yes:
        archive.draw_rollback_plan(plan)
        confirm("Roll back?")
    report = restore(home, model_id, plan, reason=reason, now=now())
    tell(settings, build_rollback_alert(report, now()))
    show(report, archive.draw_rollback, as_json)
