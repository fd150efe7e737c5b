"""Tells and delivers: `tell` puts an alert into the outbox, `deliver` sends what waits there, in bounded time.

Nothing here raises into training or trading: what cannot be told is logged, what cannot be sent waits.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Self

from hftcl import __version__, durable, logs
from hftcl.alerts import sending
from hftcl.alerts.alert import Alert, clean_alert
from hftcl.alerts.channels import Channel, Secrets, find_channels
from hftcl.alerts.message import render_message
from hftcl.alerts.outbox import Outbox, Waiting
from hftcl.errors import HftclError, LockHeldError
from hftcl.home import Home
from hftcl.settings import Alerts as AlertSettings
from hftcl.settings import Settings

log = logging.getLogger(__name__)

_FIRST_SILENCE_S: Final = 60.0  # a lasting fault is logged at once, then after 1, 2, 4 ... minutes,
_LONGEST_SILENCE_S: Final = 6 * 3600.0  # and at last four times a day, as often as a message is tried
_LEAST_S: Final = 0.5  # no process is started for less
# What a disk, a lock or a channel may raise; anything else is an error of ours and is not to be hidden.
_FAULTS: Final = (HftclError, OSError)


@dataclass(frozen=True, slots=True, kw_only=True)
class SendResult:
    """What one round of sending did: deliveries that were made, messages that still wait, and what hindered them."""

    sent: int = 0
    waiting: int = 0
    faults: tuple[str, ...] = ()


class Alerts:
    """The alerts of one home. Any process there may tell and deliver at any time, and neither raises."""

    def __init__(self, home: Path, settings: AlertSettings, secrets: Secrets) -> None:
        self._home = home
        self._settings = settings
        self._host = sending.host_name()
        self.channels = find_channels(settings, secrets, host=self._host)
        self._outbox = Outbox(home)
        self._running: threading.Thread | None = None
        self._hindered, self._silent_until, self._silence_s = "", 0.0, _FIRST_SILENCE_S

    @classmethod
    def from_settings(cls, settings: Settings, environ: Mapping[str, str]) -> Self:
        """Return the alerts that `settings`, and the secrets in `environ` or beside it, ask for."""
        from hftcl import config

        return cls(Home.of(settings).root, settings.alerts, lambda name: config.secret(name, settings, environ))

    def tell(self, alert: Alert) -> None:
        """Put `alert` into the outbox, durably; nothing is sent yet. Without a channel nothing happens.

        An outbox that cannot be written is an error in the log, with the alert in it: the log is what is left.
        """
        self.put(alert)

    def put(self, alert: Alert) -> int | None:
        """Do what `tell` does, and return the number of the message; None where there is none."""
        if not self.channels or alert.kind in self._settings.mute:
            return None
        tidy = clean_alert(alert, logs.mask)
        try:
            durable.make_folder(self._home)
            repeat = timedelta(hours=self._settings.repeat_hours)
            return self._outbox.put(tidy, [channel.name for channel in self.channels], repeat=repeat)
        except _FAULTS as error:
            lost_alert = (alert.kind, tidy.subject, tidy.text, str(error))
            log.error("alert not stored kind=%s subject=%r text=%r why=%r", *lost_alert)  # noqa: TRY400 - no traceback needed
            return None

    def deliver(self, now: datetime, timeout_s: float = 30.0) -> SendResult:
        """Send what is due, in at most `timeout_s` seconds; what fails waits, each time longer, up to six hours.

        Only one process sends at a time: another one returns at once, since its messages go out too. now: UTC.
        """
        if not self._outbox.path.exists():
            return SendResult()
        ends = time.monotonic() + timeout_s
        try:
            sent, faults = 0, list[str]()
            with contextlib.suppress(LockHeldError), durable.lock(Home(self._home).alerts_lock, "delivery of alerts"):
                sent, faults = self._send_round(now, ends)
                self._outbox.delete_done(now)
            return SendResult(sent=sent, waiting=self._outbox.count_waiting(), faults=tuple(faults))
        except _FAULTS as error:
            self._log_undelivered(str(error))
            return SendResult(faults=(str(error),))

    def _log_undelivered(self, why: str) -> None:
        """Log what hinders each round, seldomer the longer it lasts: the scheduler comes round every 15 seconds."""
        at = time.monotonic()
        if why == self._hindered and at < self._silent_until:
            return
        self._silence_s = min(2 * self._silence_s, _LONGEST_SILENCE_S) if why == self._hindered else _FIRST_SILENCE_S
        self._hindered, self._silent_until = why, at + self._silence_s
        log.error("alerts not delivered why=%r", why)

    def deliver_in_background(self, clock: Callable[[], datetime], timeout_s: float = 60.0) -> None:
        """Begin `deliver` in a thread and return at once; nothing happens while the last one is at work."""
        if self._running is None or not self._running.is_alive():
            self._running = threading.Thread(
                target=lambda: self.deliver(clock(), timeout_s), name="alerts", daemon=True
            )
            self._running.start()

    def heartbeat(self, timeout_s: float = 10.0) -> bool:
        """Fetch `[alerts] heartbeat_url`; True where it answered 2xx, or where none is set."""
        url = self._settings.heartbeat_url
        fault = sending.fetch(url, timeout_s) if url else ""
        if fault:
            log.warning("heartbeat not sent why=%r", logs.mask(fault))
        return not fault

    def count_waiting(self) -> int:
        """Return how many messages wait. Raises HftclError where the outbox cannot be read."""
        return self._outbox.count_waiting()

    def find_oldest_stuck(self) -> tuple[datetime, str] | None:
        """Return since when (UTC) the oldest message waits that was not sent, and why. Raises as `waiting` does."""
        return self._outbox.find_oldest_fault()

    def find_unsent(self, number: int) -> dict[str, str]:
        """Return the channels on which a message still waits, and what failed there. Raises as `waiting` does."""
        return self._outbox.list_unsent(number)

    def _send_round(self, now: datetime, ends: float) -> tuple[int, list[str]]:
        """Send until all is sent or the time is up; a channel that failed is left alone for the rest of the round."""
        channels = {channel.name: channel for channel in self.channels}
        sent, failed = 0, dict[str, str]()
        for waiting in self._outbox.list_due(now):
            channel = channels.get(waiting.channel)
            left = ends - time.monotonic()
            if waiting.channel in failed:
                continue
            if left < _LEAST_S:
                break
            if channel is None:
                self._readdress(waiting, now)
                continue
            answer = self._send(channel, waiting, min(left, self._settings.timeout_s))
            fault, note = logs.mask(answer.fault), logs.mask(answer.note)
            if fault:
                failed[channel.name] = fault
                kept = self._outbox.record_failure(waiting, now, fault)
                level = logging.WARNING if kept else logging.ERROR
                log.log(level, "alert not sent channel=%r kept=%s why=%r", channel.name, kept, fault)
            else:
                sent += 1
                self._outbox.record_sent(waiting, now, note)
        return sent, [f"{name}: {fault}" for name, fault in failed.items()]

    def _readdress(self, waiting: Waiting, now: datetime) -> None:
        """Send a message whose channel was set up otherwise meanwhile on those that are new: none is lost by it."""
        self._outbox.readdress(waiting, [channel.name for channel in self.channels], now)

    def _send(self, channel: Channel, waiting: Waiting, timeout_s: float) -> sending.Answer:
        if channel.fault:
            return sending.Answer(fault=channel.fault)
        message = waiting.message
        made = int(message.alert.at.timestamp() * 1e6)
        message_id = f"<{message.number}.{message.count}.{made}@{self._host}>"
        order = channel.build_order(
            render_message(message, host=self._host, version=__version__), message_id=message_id
        )
        return sending.send(order, timeout_s)
