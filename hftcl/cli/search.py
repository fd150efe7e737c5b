"""The command `search`: settings that are tried inside the training window."""

from pathlib import Path
from typing import Annotated

import typer

from hftcl.cli.app import AsJson, AsOf, app, format_example, tell


@app.command(epilog=format_example("search --trials 60 --html search.html"))
def search(
    ctx: typer.Context,
    trials: Annotated[
        int | None,
        typer.Option("--trials", metavar="N", min=1, help="Trials in all, those of an earlier run counted."),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option("--minutes", metavar="M", help="Begin no trial later than that; more than 0.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a self-contained HTML report as well.")
    ] = None,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Look for better settings inside the training window.

    The best of N is judged as the best of N, and the exam is seen once, by it. Goes on where it was stopped. Changes
    nothing: the difference to hftcl.toml is told.
    """
    from hftcl import pages as page
    from hftcl.views import show
    from hftcl.views.search import draw_search

    if html is not None:
        page.require_place(html)
    report = ctx.obj.build_learning().search(trials=trials, minutes=minutes, as_of=as_of)
    show(report, draw_search, as_json)
    if html is not None:  # last: where it fails, what was found has been told
        tell(page.write(html, page.draw_search(report)))
