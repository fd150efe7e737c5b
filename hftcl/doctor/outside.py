"""Checks of what works unattended: the scheduler, the ways that alerts go, the outbox, and the units of systemd."""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from hftcl import logs
from hftcl.alerts import Alert, Alerts, Kind
from hftcl.alerts.channels import COMMAND, Channel
from hftcl.alerts.sending import send
from hftcl.doctor import units as unit_files
from hftcl.doctor.row import Context, Row, fault, report_ok, report_warning
from hftcl.formats import format_moment
from hftcl.home import Home
from hftcl.schedule.claims import Occurrences

_PATIENCE_S = 15.0  # as long as a mail server may take to greet with its checks on; nothing trades meanwhile
# Longer than a mail server's outage or a night's maintenance; chosen, raise it where alerts may wait.
_STUCK = timedelta(hours=6)
_IDLE = timedelta(hours=50)  # two daily checks, and two hours for a clock change and a long retrain


def check_schedule(context: Context) -> Iterator[Row]:
    """Whether the scheduler, where it has ever run, still does, and what its last job came to."""
    records = Occurrences(Home.of(context.settings).root).list_known()
    ended = [record for record in records if record.finished_at is not None and record.state in {"done", "failed"}]
    if not ended:
        yield report_ok("schedule", "`hftcl schedule` has not done anything here yet")
        return
    last = max(ended, key=lambda record: record.finished_at or record.due_at)
    at = last.finished_at or last.due_at
    detail = f"{last.job} {last.state} on {format_moment(at)} UTC: {last.outcome or ''}".rstrip(": ")
    if context.now - at > _IDLE:
        yield report_warning(
            "schedule", f"nothing since: {detail}", "Is it running? `systemctl status hftcl-schedule`."
        )
    elif last.state == "failed":
        yield report_warning("schedule", detail, "Its next run tries again; `journalctl -u hftcl-schedule` says more.")
    else:
        yield report_ok("schedule", detail)


def check_alerts(context: Context) -> Iterator[Row]:
    """Whether each way that is set up would take an alert: the mail server is asked, up to the log-in."""
    alerts = Alerts.from_settings(context.settings, context.environ)
    if not alerts.channels:
        yield report_ok("alerts", "no receiver is set; [alerts], ALERT_EMAIL_ENABLED and ALERT_URLS set that up")
    for channel in alerts.channels:
        yield _try_channel(channel)
    stuck = alerts.find_oldest_stuck()
    if stuck is not None and context.now - stuck[0] > _STUCK:
        detail = f"{alerts.count_waiting()} messages wait, the oldest since {format_moment(stuck[0])} UTC: {stuck[1]}"
        yield report_warning("alerts outbox", detail, "Mend that way; `hftcl schedule` sends them then.")


def _try_channel(channel: Channel) -> Row:
    name = f"alerts {channel.name}"
    if channel.order is None:
        return fault(name, channel.fault, "Set it in the environment or in .env; docs/alerts.md has an example.")
    if channel.name == COMMAND:
        program = channel.order["command"][0]
        if shutil.which(program) is None:
            return fault(name, f"{program} is no program that can be run", "Correct [alerts] command.")
        return report_ok(name, program)
    answer = send(channel.order, _PATIENCE_S)
    if answer.fault:
        return fault(name, logs.mask(answer.fault), "Correct it, then `hftcl doctor --send-test-alert`.")
    return report_ok(name, "would take an alert; `hftcl doctor --send-test-alert` sends one")


def send_test_alert(context: Context) -> tuple[Row, ...]:
    """Send a test alert now on every way that is set up; a row for each, and what waited goes out with it."""
    alerts = Alerts.from_settings(context.settings, context.environ)
    if not alerts.channels:
        remedy = "Set ALERT_EMAIL_ENABLED or ALERT_URLS, or [alerts] command; see docs/alerts.md."
        return (fault("test alert", "no receiver is set", remedy),)
    number = alerts.put(
        Alert(
            kind=Kind.TEST,
            subject="Test alert",
            text="Somebody ran `hftcl doctor --send-test-alert`. Alerts reach you.",
            at=context.now,
            facts=(("home", context.settings.paths.home),),
        )
    )
    done = alerts.deliver(context.now, len(alerts.channels) * context.settings.alerts.timeout_s)
    if number is None:
        remedy = "Mend what the log line names, then `hftcl doctor --send-test-alert`."
        return (fault("test alert", "the outbox cannot be written, so nothing was sent", remedy),)
    unsent = alerts.find_unsent(number)
    return tuple(_report_sent(channel.name, unsent, done.faults) for channel in alerts.channels)


def _report_sent(channel: str, unsent: Mapping[str, str], faults: Sequence[str]) -> Row:
    """Return what became of the test alert on `channel`: sent is only what the outbox says is."""
    name, begins = f"test alert {channel}", f"{channel}: "
    if channel not in unsent:
        return report_ok(name, "sent")
    # an older message that failed on this channel held it up
    why = unsent[channel] or next(
        (problem.removeprefix(begins) for problem in faults if problem.startswith(begins)), ""
    )
    why = why or "not sent yet: another process is sending, or the time was up"
    return fault(name, why, "It waits in the outbox; `hftcl schedule` tries it again.")


def check_units(context: Context) -> Iterator[Row]:
    """Whether the units that systemd has are of this version, and start a program that is there."""
    units = [
        (name, folder / f"hftcl-{name}.service")
        for name in unit_files.NAMES
        for folder in unit_files.FOLDERS
        if (folder / f"hftcl-{name}.service").is_file()
    ]
    if not units:
        yield report_ok("units", "none is installed; `hftcl doctor --unit schedule` prints one")
    for name, path in units:
        yield _judge_unit(name, path, unit_files.Installation.find(context.configuration))


def _judge_unit(name: str, path: Path, place: unit_files.Installation) -> Row:
    text = path.read_text(errors="replace")
    anew = f"`hftcl doctor --unit {name} > {path}`, then `systemctl daemon-reload` and restart it."
    version = unit_files.read_version(text)
    if version is None or version < unit_files.VERSION:
        written = f"is of version {version}" if version is not None else "names no version"
        return report_warning(
            f"unit {name}", f"{path} {written}, and this hftcl writes version {unit_files.VERSION}", anew
        )
    if version > unit_files.VERSION:
        return report_warning(f"unit {name}", f"{path} is of version {version}, of a newer hftcl", "Upgrade hftcl.")
    program = unit_files.read_program(text)
    if program is not None and not Path(program).exists():
        return fault(f"unit {name}", f"{path} starts {program}, which is not there", anew)
    found, elsewhere = f"{path}, version {version}", _describe_difference(text, place)
    if unit_files.read_home(text) not in {None, place.home} and elsewhere:
        return report_warning(
            f"unit {name}", f"{found}{elsewhere}", "Run the doctor with the unit's --config and settings."
        )
    return report_ok(f"unit {name}", f"{found}{elsewhere}")


def _describe_difference(text: str, place: unit_files.Installation) -> str:
    """Say which of the other rows speak of this shell, where the unit has another home, secrets, user or settings."""
    if os.environ.get("INVOCATION_ID") and os.environ.get("CREDENTIALS_DIRECTORY"):
        return ""  # this is the unit
    differences = []
    home, variables = unit_files.read_home(text), unit_files.read_variables(text)
    if home is not None and home != place.home:
        differences.append(f"works in {home}: the other rows speak of {place.home}")
    variables.pop("HFTCL_PATHS__HOME", None)  # which is told as the home
    names = {*variables, *place.variables} - {"HFTCL_PATHS__HOME"}
    if other := sorted(name for name in names if variables.get(name) != place.variables.get(name)):
        differences.append(f"has another {', '.join(other)} than this shell, of which the other rows speak")
    secrets, user = unit_files.read_secrets(text), unit_files.read_user(text)
    if secrets is not None:
        differences.append(f"takes its secrets from {secrets}: the rows about keys and alerts speak of this shell")
    if user is not None and user != unit_files.find_user():
        differences.append(f"runs as {user}: the row about permissions speaks of {unit_files.find_user()}")
    return f"; it {', and '.join(differences)}" if differences else ""
