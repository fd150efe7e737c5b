"""The command `schedule`: the edge of the scheduler, where clock, sleep, signals and systemd are."""

import os
import signal
import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, TextIO, cast

import typer

from hftcl.cli.app import AsJson, app, format_example, remember
from hftcl.cli.invocation import now
from hftcl.cli.looks import show_preview
from hftcl.cli.telling import tell_failures
from hftcl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from hftcl.config import Configuration
    from hftcl.schedule.interfaces import Observer
    from hftcl.schedule.rules import Rule
    from hftcl.schedule.scheduler import Scheduler
    from hftcl.schedule.stop import Stop
    from hftcl.settings import Settings


@app.command(epilog=format_example("schedule --preview 5"))
def schedule(
    ctx: typer.Context,
    preview: Annotated[
        int | None, typer.Option("--preview", min=1, max=10_000, metavar="N", help="Show the next N jobs; do nothing.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Do what is due now and exit: for cron and timers.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run in the foreground: collect, check, retrain on time.

    It collects after each close, checks daily, retrains weekly, and sends alerts.
    """
    if once and preview is not None:
        raise UsageError("Give --preview or --once, not both.")
    if as_json and not once and preview is None:
        raise UsageError("--json goes with --preview or --once: the foreground loop has no end to report.")
    if preview is not None:
        show_preview(ctx.obj, preview=preview, as_json=as_json)
        return
    configuration = ctx.obj.read_configuration()
    settings = configuration.settings
    remember(configuration)
    tell_failures(settings)
    if once:
        _run_once(settings, ctx.obj.verbosity, as_json)
    else:
        _run(configuration, ctx.obj.verbosity)


def _run_once(settings: "Settings", verbosity: int, as_json: bool) -> None:
    from zoneinfo import ZoneInfo

    from hftcl import logs
    from hftcl.schedule import plan, reports
    from hftcl.schedule.stop import StopRequest
    from hftcl.views import schedule, show
    from hftcl.views.progress import build_listener

    logs.configure(settings.log, verbosity)
    stop = _stop_at_signals()
    rules = plan.build_rules(settings)
    try:
        records = _build_scheduler(
            settings, rules, stop, schedule.ScheduleObserver(build_listener(verbosity))
        ).run_once()
    except StopRequest:
        raise typer.Exit(128 + (stop.asked or 0)) from None
    show(reports.report_ran(records, ZoneInfo(settings.schedule.timezone)), schedule.draw_ran, as_json)
    raise typer.Exit(1 if any(record.state == "failed" for record in records) else 0)


def _run(configuration: "Configuration", verbosity: int) -> None:
    from zoneinfo import ZoneInfo

    from hftcl import logs
    from hftcl.cli.service import watch_code
    from hftcl.schedule import plan
    from hftcl.schedule.interfaces import Observer

    settings = configuration.settings
    stop = _stop_at_signals()
    observer = Observer()
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and verbosity >= 0:
        from hftcl.dashboard.parts import DashboardInputs  # here, as what they load: a service has no terminal
        from hftcl.dashboard.summary import Summary
        from hftcl.views.schedule import LivePage

        summary = Summary(DashboardInputs(configuration=configuration, environ=os.environ, now=now()), with_bot=True)
        observer = live = LivePage(sys.stderr, ZoneInfo(settings.schedule.timezone), lambda: summary.read(now()))
        logs.configure(settings.log, verbosity, stream=cast("TextIO", live))
    else:
        logs.configure(settings.log, verbosity, service=True)
    _build_scheduler(settings, plan.build_rules(settings), stop, observer, watch_code(os.environ)).run()
    raise typer.Exit(130 if stop.asked == signal.SIGINT else 0)  # SIGTERM is the normal way to end a service


def _stop_at_signals() -> "Stop":
    from hftcl.schedule.stop import Stop

    stop = Stop()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop.ask)
    return stop


def _build_scheduler(
    settings: "Settings",
    rules: "tuple[Rule, ...]",
    stop: "Stop",
    observer: "Observer",
    is_replaced: "Callable[[], bool]" = lambda: False,
) -> "Scheduler":
    import socket  # here, as what follows: `--preview` need not wait for it

    from hftcl.alerts import Alerts
    from hftcl.home import Home
    from hftcl.schedule.claims import Occurrences
    from hftcl.schedule.jobs import build_jobs
    from hftcl.schedule.scheduler import Scheduler
    from hftcl.systemd import Notifier

    def publish(moment: datetime) -> None:
        if settings.log.prometheus:
            from hftcl.doctor import prometheus

            prometheus.refresh(settings, moment)

    return Scheduler(
        rules,
        Occurrences(Home.of(settings).root),
        build_jobs(settings, clock=now),
        clock=now,
        sleep=time.sleep,
        by=f"{socket.gethostname()}, process {os.getpid()}",
        stop=stop,
        alerts=Alerts.from_settings(settings, os.environ),
        notifier=Notifier.from_environment(os.environ, pid=os.getpid()),
        observer=observer,
        publish=publish,
        is_replaced=is_replaced,
    )
