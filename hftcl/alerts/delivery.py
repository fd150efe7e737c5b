"""Tells and delivers: `tell` puts an alert into the outbox, `deliver` sends what waits there, in bounded time.

Nothing here raises into training or trading: what cannot be told is logged, what cannot be sent waits.
"""

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Self

from hftcl import __version__, durable, logs
from hftcl.alerts import sending
from hftcl.alerts.alert import Alert, Message, clean_alert
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
_MOST_IN_MEMORY: Final = 50  # faults that could not be stored: more tell a person nothing new
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
        self._host = sending.find_host_name()
        self.channels = find_channels(settings, secrets, host=self._host)
        self._outbox = Outbox(home)
        self._running: threading.Thread | None = None
        self._in_memory: deque[tuple[Channel, Alert]] = deque()
        self._told_from_memory: set[tuple[str, str]] = set()
        self._hindered, self._silent_until, self._silence_s = "", 0.0, _FIRST_SILENCE_S

    @classmethod
    def from_settings(cls, settings: Settings, environ: Mapping[str, str]) -> Self:
        """Return the alerts that `settings`, and the secrets in `environ` or beside it, ask for."""
        from hftcl import config

        return cls(Home.of(settings).root, settings.alerts, lambda name: config.read_secret(name, settings, environ))

    def tell(self, alert: Alert) -> None:
        """Put `alert` into the outbox, durably; nothing is sent yet. Without a channel nothing happens.

        An outbox that cannot be written is an error in the log, and the next `deliver` of this process sends the alert.
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
            self._keep_in_memory(tidy)
            return None

    def _keep_in_memory(self, alert: Alert) -> None:
        """Let the next delivery of this process send what cannot be stored: each fault once, on each channel."""
        key = (str(alert.kind), alert.subject)
        if key not in self._told_from_memory and len(self._told_from_memory) < _MOST_IN_MEMORY:
            self._told_from_memory.add(key)
            self._in_memory.extend((channel, alert) for channel in self.channels)

    def _send_from_memory(self, ends: float) -> tuple[int, list[str]]:
        """Send what could not be stored; what fails is tried again by the next delivery."""
        sent, faults = 0, list[str]()
        for _ in range(len(self._in_memory)):
            left = ends - time.monotonic()
            if left < _LEAST_S:
                break
            channel, alert = self._in_memory.popleft()
            message = Message(number=0, alert=alert, count=1, last_at=alert.at, again=False)
            answer = self._hand_over(channel, message, min(left, self._settings.timeout_s))
            if answer.fault:
                self._in_memory.append((channel, alert))
                faults.append(f"{channel.name}: {logs.mask(answer.fault)}")
            else:
                sent += 1
        if not self._in_memory:
            self._told_from_memory.clear()
        return sent, faults

    def deliver(self, now: datetime, timeout_s: float = 30.0) -> SendResult:
        """Send what is due, in at most `timeout_s` seconds; what fails waits, each time longer, up to six hours.

        Only one process sends at a time: another one returns at once, since its messages go out too. now: UTC.
        """
        ends = time.monotonic() + timeout_s
        sent_unstored, unsent = self._send_from_memory(ends)
        if not self._outbox.path.exists():
            return SendResult(sent=sent_unstored, faults=tuple(unsent))
        try:
            sent, faults = 0, list[str]()
            with contextlib.suppress(LockHeldError), durable.lock(Home(self._home).alerts_lock, "delivery of alerts"):
                sent, faults = self._send_round(now, ends)
                self._outbox.delete_done(now)
            waiting = self._outbox.count_waiting()
            return SendResult(sent=sent + sent_unstored, waiting=waiting, faults=(*unsent, *faults))
        except _FAULTS as error:
            self._log_undelivered(str(error))
            return SendResult(sent=sent_unstored, faults=(*unsent, str(error)))

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

    def send_heartbeat(self, timeout_s: float = 10.0) -> bool:
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

    def _send(self, channel: Channel, waiting: Waiting, timeout_s: float) -> sending.SendOutcome:
        return self._hand_over(channel, waiting.message, timeout_s)

    def _hand_over(self, channel: Channel, message: Message, timeout_s: float) -> sending.SendOutcome:
        if channel.fault:
            return sending.SendOutcome(fault=channel.fault)
        made = int(message.alert.at.timestamp() * 1e6)
        message_id = f"<{message.number}.{message.count}.{made}@{self._host}>"
        order = channel.build_order(
            render_message(message, host=self._host, version=__version__), message_id=message_id
        )
        return sending.send(order, timeout_s)
