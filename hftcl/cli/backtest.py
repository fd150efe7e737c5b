"""The command `backtest`: the learning loop over history."""

from pathlib import Path
from typing import Annotated

import typer

from hftcl.cli.app import AsJson, app, format_example, tell


@app.command(epilog=format_example("backtest --from 2025-01-06 --to 2025-06-30"))
def backtest(
    ctx: typer.Context,
    start: Annotated[str, typer.Option("--from", metavar="D", help="First session that is compared, YYYY-MM-DD.")],
    end: Annotated[str, typer.Option("--to", metavar="D", help="Last session that is compared, YYYY-MM-DD.")],
    search: Annotated[
        bool, typer.Option("--search", help="Search inside each week's window too: does that pay?")
    ] = False,
    trials: Annotated[
        int | None, typer.Option("--trials", metavar="N", min=1, help="Trials of each week's search.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a self-contained HTML report as well.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Replay the learning loop over history, and say whether it paid.

    Changes nothing that serves.
    """
    from hftcl import pages as page
    from hftcl.views import loop, show

    if html is not None:
        page.require_place(html)
    report = ctx.obj.build_learning().backtest(start, end, search=search, trials=trials)
    show(report, loop.draw_backtest, as_json)
    if html is not None:  # last: where it fails, what was found has been told
        tell(page.write(html, page.draw_backtest(report)))
