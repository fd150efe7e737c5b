"""Alerts of a command, put into the outbox and sent at its end. No command of its own."""

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from hftcl.cli.invocation import now
from hftcl.errors import LockHeldError, UsageError

if TYPE_CHECKING:
    from hftcl.alerts import Alert, Alerts
    from hftcl.settings import Settings

DELIVERY_S: Final = 15.0
"""How long a command may wait, at its end, for its alerts to go out; what is not sent then, `schedule` sends."""

_told: list["Alerts"] = []


def tell(settings: "Settings", *alerts: "Alert") -> None:
    """Put `alerts` into the outbox, for `send_alerts`; nothing happens where no receiver is set."""
    from hftcl.alerts import Alerts

    outbox = Alerts.from_settings(settings, os.environ)
    if outbox.channels and alerts:
        for alert in alerts:
            outbox.tell(alert)
        _told.append(outbox)


def tell_failures(settings: "Settings", given_up: str = "") -> frozenset[str]:
    """Tell what dying units of systemd noted; return their services. Where no receiver is set it stays.

    given_up: the service that systemd does not start again.
    """
    from hftcl.alerts import Alerts
    from hftcl.doctor.stopped import build_failure_alert, take_failures
    from hftcl.home import Home

    if not Alerts.from_settings(settings, os.environ).channels:
        return frozenset()
    told: set[str] = set()
    for name, failure in take_failures(Home.of(settings).root):
        tell(settings, build_failure_alert(name, failure, now(), given_up=name == given_up))
        told.add(name)
    return frozenset(told)


@contextlib.contextmanager
def tell_errors(settings: "Settings", doing: str) -> Iterator[None]:
    """Tell an error that ends `doing`, such as "the retrain"; wrong usage and a lock that is held are none."""
    from hftcl.plug_ins import name_plug_ins

    try:
        with name_plug_ins():
            yield
    except (UsageError, LockHeldError):
        raise
    except Exception as error:
        from hftcl.learning.alert_texts import build_error_alert

        tell(settings, build_error_alert(error, doing, now()))
        raise


def send_alerts() -> None:
    """Try to send what this command told, in bounded time. Ctrl-C ends that: the work is done, and the rest waits."""
    with contextlib.suppress(KeyboardInterrupt):
        while _told:
            _told.pop().deliver(now(), DELIVERY_S)
