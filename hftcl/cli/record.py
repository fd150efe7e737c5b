"""The command `record`: the policy's own sessions, which let the bot trade."""

from typing import Annotated

import typer

from hftcl.cli.app import AsJson, app, format_example
from hftcl.cli.invocation import now


@app.command(epilog=format_example("record"))
def record(
    ctx: typer.Context,
    begin_anew: Annotated[
        bool, typer.Option("--begin-anew", help="Let nothing that was earned so far count; the rows stay.")
    ] = False,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why it begins again; kept and shown.")] = "",
    as_json: AsJson = False,
) -> None:
    """Show the policy's own sessions, which let the bot trade.

    What each earned, with which model, policy and bars, and whether it counts.
    """
    from hftcl.errors import UsageError
    from hftcl.learning.stories.record import begin_over, list_record
    from hftcl.views import archive, show

    if reason and not begin_anew:
        raise UsageError("--reason is for --begin-anew.")
    settings = ctx.obj.read_configuration().settings
    rows = begin_over(settings, reason=reason, now=now) if begin_anew else list_record(settings)
    show(rows, archive.draw_record, as_json)
