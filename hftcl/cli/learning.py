"""The commands of the loop: init, check, retrain, exam, prove, backtest."""

import os
from pathlib import Path
from typing import Annotated

import typer

from hftcl.cli.app import AsJson, AsOf, ExitCode, app, now
from hftcl.cli.telling import tell, tell_errors


@app.command()
def init(
    ctx: typer.Context,
    show: Annotated[
        bool, typer.Option("--show", help="Print the effective settings and where each came from; write nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write a commented hftcl.toml and a .env template; never overwrites."""
    from hftcl import config, views
    from hftcl.views import installation

    if show:
        views.show(config.list_effective(ctx.obj.configuration(), os.environ), installation.draw_settings, as_json)
    else:
        views.show(config.write_example(Path.cwd()), installation.draw_written, as_json)


@app.command()
def check(ctx: typer.Context, as_of: AsOf = None, as_json: AsJson = False, exit_code: ExitCode = False) -> None:
    """Is a retrain due? Every trigger, with its evidence. Changes nothing."""
    from hftcl.views import loop, show

    report = ctx.obj.learning().check(as_of=as_of)
    show(report, loop.draw_check, as_json)
    raise typer.Exit(3 if exit_code and report.due else 0)


@app.command()
def retrain(
    ctx: typer.Context,
    force: Annotated[bool, typer.Option("--force", help="Skip the check, never the exam.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Train and examine; archive and deploy nothing.")] = False,
    lookback_days: Annotated[
        int | None, typer.Option("--lookback-days", metavar="N", help="Calendar days of bars.")
    ] = None,
    param: Annotated[
        list[str] | None, typer.Option("--param", metavar="K=V", help="A parameter of the model; may be repeated.")
    ] = None,
    as_of: AsOf = None,
    as_json: AsJson = False,
    exit_code: ExitCode = False,
) -> None:
    """Check, and if a retrain is due: collect, train, examine, and deploy what earned it."""
    from hftcl.learning.alert_texts import build_retrain_alerts
    from hftcl.views import loop, show

    overrides = {} if lookback_days is None else {"market.lookback_days": lookback_days}
    learner = ctx.obj.learning(**overrides)
    with tell_errors(learner.settings, "the retrain"):
        report = learner.retrain(force=force, dry_run=dry_run, params=param, as_of=as_of)
    tell(learner.settings, *build_retrain_alerts(report, now()))
    show(report, loop.draw_retrain, as_json, verbosity=ctx.obj.verbosity)
    raise typer.Exit(3 if exit_code and report.outcome in {"rejected", "inconclusive"} else 0)


@app.command()
def prove(
    ctx: typer.Context,
    cases: Annotated[int, typer.Option("--cases", min=1, metavar="N", help="Random cut points.")] = 200,
    seed: Annotated[int, typer.Option("--seed", min=0, metavar="N", help="Seed of the cut points.")] = 0,
    as_of: AsOf = None,
    as_json: AsJson = False,
) -> None:
    """Prove on your own bars that no feature, position or label looks ahead. Changes nothing."""
    from hftcl.views import loop, show

    report = ctx.obj.learning().prove(cases=cases, seed=seed, as_of=as_of)
    show(report, loop.draw_proof, as_json)
    raise typer.Exit(0 if report.proved else 1)


@app.command()
def exam(
    ctx: typer.Context,
    model_id: Annotated[str, typer.Argument(metavar="MODEL_ID", help="An archived model; `hftcl history` lists them.")],
    start: Annotated[str, typer.Option("--from", metavar="D", help="First session, YYYY-MM-DD.")],
    end: Annotated[str, typer.Option("--to", metavar="D", help="Last session, YYYY-MM-DD.")],
    as_json: AsJson = False,
) -> None:
    """Score an archived model on other bars; refuses bars that it has seen. Changes nothing."""
    from hftcl.views import loop, show

    show(ctx.obj.learning().exam(model_id, start, end), loop.draw_exam, as_json)


@app.command()
def backtest(
    ctx: typer.Context,
    start: Annotated[str, typer.Option("--from", metavar="D", help="First session that is compared, YYYY-MM-DD.")],
    end: Annotated[str, typer.Option("--to", metavar="D", help="Last session that is compared, YYYY-MM-DD.")],
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a self-contained HTML report as well.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Replay the learning loop over history: did retraining pay? Changes nothing that serves."""
    from hftcl import pages as page
    from hftcl.views import loop, show

    if html is not None:
        page.require_place(html)
    report = ctx.obj.learning().backtest(start, end)
    show(report, loop.draw_backtest, as_json)
    if html is not None:  # last: where it fails, what was found has been told
        page.write(html, page.backtest(report))
