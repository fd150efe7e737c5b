"""The command `features`: what a model would be trained on."""

import typer

from hftcl.cli.app import AsJson, AsOf, app, example


@app.command(epilog=example("features --json"))
def features(ctx: typer.Context, as_of: AsOf = None, as_json: AsJson = False) -> None:
    """List the features in force: coverage, spread, worth, cost.

    Worth is the rank correlation with the target, on the training sessions alone. Changes nothing.
    """
    from hftcl.views import loop, show

    report = ctx.obj.learning().features(as_of=as_of)
    show(report.features, lambda _: loop.draw_features(report), as_json)
