"""The command `diff`: two models side by side."""

from typing import Annotated

import typer

from hftcl.cli.app import AsJson, app, complete_models, format_example
from hftcl.home import Home


@app.command(epilog=format_example("diff 20260102_020000 20260109_020000"))
def diff(
    ctx: typer.Context,
    a: Annotated[
        str,
        typer.Argument(
            metavar="A", help="An archived model; `hftcl history` lists them.", autocompletion=complete_models
        ),
    ],
    b: Annotated[str, typer.Argument(metavar="B", help="Another one.", autocompletion=complete_models)],
    as_json: AsJson = False,
) -> None:
    """Compare two models: exam, features, parameters, settings.

    The exam on the sessions that both were examined on. Changes nothing.
    """
    from hftcl.learning.stories.diff import diff as compare
    from hftcl.views import archive, show

    home = Home.of(ctx.obj.read_configuration_without_plugins().settings).root
    show(compare(home, a, b), archive.draw_diff, as_json)
