"""The command `report`: what was traded, and what it made."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from hftcl.cli.app import AsJson, app, format_example, tell


@app.command(epilog=format_example("report --since 2026-01-07 --html report.html"))
def report(
    ctx: typer.Context,
    since: Annotated[
        str | None, typer.Option("--since", metavar="D", help="First session, YYYY-MM-DD; the ledger's if left out.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="D", help="Last session, YYYY-MM-DD; the ledger's if left out.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a self-contained HTML page as well.")
    ] = None,
    replay: Annotated[bool, typer.Option("--replay", help="Read the ledger of the last replay.")] = False,
    trades: Annotated[
        Path | None, typer.Option("--trades", metavar="FILE", help="Write ALL trades as well: .csv or .json.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tell what was traded, what it made, and by which model.

    Changes nothing; the bot may be running.
    """
    from hftcl import pages as page
    from hftcl.api.performance_tracker import PerformanceTracker
    from hftcl.performance.reports import TRADES_SHOWN
    from hftcl.views import performance, show

    if html is not None:
        page.require_place(html)
    tracker = PerformanceTracker(ctx.obj.read_configuration().settings, replay=replay)
    if trades is not None:
        page.require_trades_file(trades)
    found = tracker.report(since, until, all_trades=trades is not None)
    performance_report = replace(found, trades=found.trades[:TRADES_SHOWN])
    show(performance_report, performance.draw_performance, as_json)
    if html is not None:  # last: where it fails, what was found has been told
        tell(page.write(html, tracker.html(performance_report)))
    if trades is not None:
        tell(page.write_trades(trades, found.trades))
