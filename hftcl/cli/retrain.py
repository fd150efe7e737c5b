"""The command `retrain`: the whole loop once."""

from typing import Annotated

import typer

from hftcl.cli.app import AsJson, AsOf, ExitCode, app, complete_parameters, format_example, remember
from hftcl.cli.invocation import now
from hftcl.cli.telling import tell, tell_errors


@app.command(epilog=format_example("retrain --force --param n_estimators=300"))
def retrain(
    ctx: typer.Context,
    force: Annotated[bool, typer.Option("--force", help="Skip the check, never the exam.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Train and examine; archive and deploy nothing.")] = False,
    lookback_days: Annotated[
        int | None, typer.Option("--lookback-days", metavar="N", help="Calendar days of bars.")
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option(
            "--param",
            metavar="K=V",
            help="A parameter of the model; may be repeated.",
            autocompletion=complete_parameters,
        ),
    ] = None,
    as_of: AsOf = None,
    as_json: AsJson = False,
    exit_code: ExitCode = False,
) -> None:
    """Run the whole loop once, if a retrain is due.

    It checks, collects, trains, examines, and deploys what earned it. Exits 1 where the bars of a ticker are refused:
    it is left out, and the others are trained.
    """
    overrides = {} if lookback_days is None else {"market.lookback_days": lookback_days}
    configuration = ctx.obj.read_configuration(**overrides)
    learner = ctx.obj.build_learning(configuration)
    with tell_errors(learner.settings, "the retrain"):
        report = learner.retrain(force=force, dry_run=dry_run, params=param, as_of=as_of)
    # only here: with --force all of it has been loaded meanwhile, while the training process loaded its libraries
    from hftcl.learning.alert_texts import build_retrain_alerts
    from hftcl.views import retrain as view
    from hftcl.views import show

    if not dry_run:
        remember(configuration)
    tell(learner.settings, *build_retrain_alerts(report, now()))
    show(report, view.draw_retrain, as_json, verbosity=ctx.obj.verbosity)
    if any(item.refused for item in report.coverage):
        raise typer.Exit(1)
    raise typer.Exit(3 if exit_code and report.outcome in {"rejected", "inconclusive"} else 0)
