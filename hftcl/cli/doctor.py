"""The command about this installation: doctor."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hftcl.cli.app import AsJson, Invocation, app, now
from hftcl.errors import ConfigError

if TYPE_CHECKING:
    from hftcl.doctor import Row
    from hftcl.doctor.row import Patient


@app.command()
def doctor(
    ctx: typer.Context,
    repair: Annotated[bool, typer.Option("--repair", help="First mend what can be mended safely.")] = False,
    unit: Annotated[
        str | None, typer.Option("--unit", metavar="NAME", help="Print the systemd unit: schedule or trade.")
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
    as_json: AsJson = False,
) -> None:
    """Is this installation sound? One line a check, and what to do. Exits 1 where there is a fault."""
    from hftcl.views import doctor as view
    from hftcl.views import show

    if unit is not None:
        from hftcl.doctor import units

        sys.stdout.write(units.unit(unit, units.Installation.found(ctx.obj.configuration())))
        return
    if stopped is not None:
        _tell_stopped(ctx.obj, stopped)
        return
    rows, patient = _rows(ctx.obj, repair=repair, only_test=send_test_alert)
    show(rows, view.rows, as_json)
    if prometheus is not None and patient is not None and not send_test_alert:
        from hftcl.doctor import prometheus as exposition

        # last: what cannot be written, or read for it, has been told in its row
        exposition.write(prometheus, patient.settings, patient.now, rows)
    raise typer.Exit(1 if any(row.status == "fault" for row in rows) else 0)


def _rows(invocation: Invocation, *, repair: bool, only_test: bool) -> "tuple[tuple[Row, ...], Patient | None]":
    """Return what the doctor found, and who was examined: nobody where the configuration is invalid."""
    from hftcl import doctor as room
    from hftcl.doctor import outside, repairs
    from hftcl.doctor.row import fault
    from hftcl.views.progress import listener

    try:
        patient = _patient(invocation)
    except ConfigError as error:
        remedy = "Correct it; `hftcl init --show` prints what is in force."
        return tuple(fault("configuration", text, remedy) for text in error.faults), None
    if only_test:
        return outside.test_alert(patient), patient
    mended = repairs.repair(patient) if repair else ()
    return (*mended, *room.examine(patient, listener(invocation.verbosity))), patient


def _patient(invocation: Invocation) -> "Patient":
    from hftcl import logs
    from hftcl.doctor.row import Patient

    configuration = invocation.configuration()
    logs.configure(configuration.settings.log, invocation.verbosity)
    return Patient(configuration=configuration, environ=os.environ, now=now())


def _tell_stopped(invocation: Invocation, name: str) -> None:
    """Tell an alert where systemd says that the service failed, and send it: nobody else is there to do so."""
    from hftcl.cli.telling import tell
    from hftcl.doctor.outside import service_failed
    from hftcl.settings import Settings

    alert = service_failed(name, os.environ, now())
    if alert is None:
        return
    try:
        settings = _patient(invocation).settings
    except ConfigError:
        settings = Settings()  # the secrets say whom to tell; the unit's working folder is the home
    tell(settings, alert)
