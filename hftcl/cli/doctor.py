"""The command `doctor`: whether this installation is sound."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hftcl.cli.app import AsJson, app, format_example, tell
from hftcl.cli.invocation import Invocation, now
from hftcl.errors import ConfigError, StorageError, UsageError
from hftcl.home import Home

if TYPE_CHECKING:
    from hftcl.doctor import Row
    from hftcl.doctor.row import Context


def _complete_units(incomplete: str) -> list[str]:
    from hftcl.doctor.units import FAILED, NAMES

    return [name for name in (*NAMES, FAILED) if name.startswith(incomplete)]


@app.command(epilog=format_example("doctor --unit schedule > hftcl-schedule.service"))
def doctor(
    ctx: typer.Context,
    repair: Annotated[bool, typer.Option("--repair", help="First mend what can be mended safely.")] = False,
    unit: Annotated[
        str | None,
        typer.Option(
            "--unit",
            metavar="NAME",
            help="Print a systemd unit: schedule, trade, dashboard, failed.",
            autocompletion=_complete_units,
        ),
    ] = None,
    send_test_alert: Annotated[
        bool, typer.Option("--send-test-alert", help="Only send an alert on every way that is set up.")
    ] = False,
    prometheus: Annotated[
        Path | None, typer.Option("--prometheus", metavar="FILE", help="Also write the state for node_exporter.")
    ] = None,
    stopped: Annotated[
        str | None, typer.Option("--stopped", metavar="NAME", help="For the unit: tell that the service has failed.")
    ] = None,
    later: Annotated[
        bool, typer.Option("--later", help="With --stopped: only note it, for the next start to tell.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Is this installation sound? One line a check.

    Each line says what to do. Exits 1 where there is a fault.
    """
    from hftcl.views import doctor as view
    from hftcl.views import show, write_out

    if unit is not None:
        from hftcl.doctor import units
        from hftcl.doctor.unit_places import list_unseen

        place = units.Installation.find(ctx.obj.read_configuration())
        write_out(units.build_unit(unit, place))
        for line in list_unseen(place):
            tell(f"warning: {line}")
        return
    if stopped is not None:
        _tell_stopped(ctx.obj, stopped, later=later)
        return
    rows, context = _collect_rows(ctx.obj, repair=repair, only_test=send_test_alert)
    show(rows, view.draw_rows, as_json)
    if prometheus is not None and context is not None and not send_test_alert:
        from hftcl.doctor import prometheus as exposition

        # last: what cannot be written, or read for it, has been told in its row
        exposition.write(prometheus, context.settings, context.now, rows)
    raise typer.Exit(1 if any(row.status == "fault" for row in rows) else 0)


def _collect_rows(invocation: Invocation, *, repair: bool, only_test: bool) -> "tuple[tuple[Row, ...], Context | None]":
    """Return what the doctor found, and what was examined: None where the configuration is invalid."""
    from hftcl import doctor as room
    from hftcl.doctor import outside, repairs
    from hftcl.doctor.row import fault
    from hftcl.views.progress import build_listener

    try:
        context = _build_context(invocation)
    except ConfigError as error:
        remedy = "Correct it; `hftcl init --show` prints what is in force."
        return tuple(fault("configuration", text, remedy) for text in error.faults), None
    except StorageError as error:  # the disk cannot read it at the moment
        return (fault("configuration", str(error), "Check the disk; `hftcl doctor` again tells what follows."),), None
    if only_test:
        return outside.send_test_alert(context), context
    mended = repairs.repair(context) if repair else ()
    return (*mended, *room.examine(context, build_listener(invocation.verbosity))), context


def _build_context(invocation: Invocation) -> "Context":
    from hftcl import logs
    from hftcl.doctor.row import Context

    configuration = invocation.read_configuration()
    logs.configure(configuration.settings.log, invocation.verbosity)
    return Context(configuration=configuration, environ=os.environ, now=now(), clock=now)


def _tell_stopped(invocation: Invocation, name: str, *, later: bool) -> None:
    """Tell an alert where systemd says that the service failed, or note it: see `doctor.stopped`."""
    from hftcl.cli.telling import tell, tell_failures
    from hftcl.doctor.stopped import build_failure_alert, keep_failure, read_failure
    from hftcl.doctor.units import NAMES
    from hftcl.settings import Settings

    if name not in NAMES:
        raise UsageError(f"There is no service {name!r}. Name one of: {', '.join(NAMES)}.")
    failure = read_failure(os.environ)
    try:
        settings = _build_context(invocation).settings
    except (ConfigError, StorageError):
        settings = Settings()  # the secrets say whom to tell; the unit's working folder is the home
    if later:
        if failure is not None:
            keep_failure(Home.of(settings).root, name, failure)
        return
    if name not in tell_failures(settings, given_up=name) and failure is not None:
        tell(settings, build_failure_alert(name, failure, now(), given_up=True))
