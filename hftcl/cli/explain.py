"""The command `explain`: why a model predicted, decided, traded."""

from typing import Annotated

import typer

from hftcl.cli.app import AsJson, app, complete_models, format_example


@app.command(epilog=format_example("explain 20260109_020000 --at AAPL 2026-01-07T10:30"))
def explain(
    ctx: typer.Context,
    model_id: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="An archived model; `hftcl history` lists them.", autocompletion=complete_models
        ),
    ],
    at: Annotated[
        tuple[str, str] | None,
        typer.Option(
            "--at", metavar="TICKER TIME", help="This bar alone; ISO 8601, by the exchange's clock without an offset."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say why a model predicted what it did, feature by feature.

    The bar, each feature's value and place in training, what it adds, the signal, the target, the bot's order.
    Without --at: the newest bar of each ticker. Changes nothing.
    """
    from hftcl.views import show, why

    show(ctx.obj.build_learning().explain(model_id, at), why.draw_explanation, as_json)
