"""The command `unpin`: automatic deployment runs again."""

import typer

from hftcl.cli.app import AsJson, app, format_example
from hftcl.cli.invocation import now
from hftcl.home import Home


@app.command(epilog=format_example("unpin"))
def unpin(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Let automatic deployment run again after a rollback."""
    from hftcl.learning.stories.history import unpin as let_go
    from hftcl.views import archive, show

    home = Home.of(ctx.obj.read_configuration().settings).root
    show(let_go(home, now=now()), archive.draw_unpin, as_json)
