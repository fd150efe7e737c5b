"""The command `exam`: an archived model on other bars."""

from typing import Annotated

import typer

from hftcl.cli.app import AsJson, app, complete_models, format_example


@app.command(epilog=format_example("exam 20260109_020000 --from 2026-01-12 --to 2026-01-30"))
def exam(
    ctx: typer.Context,
    model_id: Annotated[
        str,
        typer.Argument(
            metavar="MODEL_ID", help="An archived model; `hftcl history` lists them.", autocompletion=complete_models
        ),
    ],
    start: Annotated[str, typer.Option("--from", metavar="D", help="First session, YYYY-MM-DD.")],
    end: Annotated[str, typer.Option("--to", metavar="D", help="Last session, YYYY-MM-DD.")],
    as_json: AsJson = False,
) -> None:
    """Score an archived model on bars that it has not seen.

    Bars that it was trained on are refused. It counts as a try of later candidates, and changes nothing else.
    """
    from hftcl.views import loop, show

    show(ctx.obj.build_learning().exam(model_id, start, end), loop.draw_exam, as_json)
