"""The command `features`: what a model would be trained on."""

from pathlib import Path
from typing import Annotated

import typer

from hftcl.cli.app import AsJson, AsOf, app, format_example, tell


@app.command(epilog=format_example("features --html features.html"))
def features(
    ctx: typer.Context,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a self-contained HTML report as well.")
    ] = None,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """List the features in force: coverage, spread, worth, cost.

    Worth is the rank correlation with the target, on the training sessions alone. Changes nothing.
    """
    from hftcl import pages as page
    from hftcl.views import loop, show

    if html is not None:
        page.require_place(html, name="features.html")
    report = ctx.obj.build_learning().features(as_of=as_of)
    show(report.features, lambda _: loop.draw_features(report), as_json)
    if html is not None:  # last: where it fails, what was found has been told
        tell(page.write(html, page.draw_features(report)))
