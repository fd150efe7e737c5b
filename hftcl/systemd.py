"""What a service tells systemd: that it is ready, alive, busy with what, and going.

The protocol of sd_notify(3): a datagram a message to the socket in $NOTIFY_SOCKET. Outside systemd nothing is sent.
"""

import socket
from collections.abc import Mapping
from typing import Final, Self

from hftcl.errors import fold_line

_LONGEST: Final = 512  # characters of a status; systemctl shows one line


class Notifier:
    """Tells systemd how this service fares. Each message is sent or lost at once: nothing waits, nothing raises.

    `alive` is the watchdog's ping: call it only where work has got on, so that a loop that is stuck is restarted.
    """

    def __init__(self, address: str = "", *, watchdog_s: float | None = None) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self.watchdog_s = watchdog_s

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], *, pid: int | None = None) -> Self:
        """Return the notifier of the service that `environ` describes; one that does nothing outside systemd.

        `watchdog_s`: how often at least `alive` must be called, seconds; None where no watchdog waits. pid: of this
        process; a watchdog that is meant for another process is left to it.
        """
        watched_pid = environ.get("WATCHDOG_PID", "")
        microseconds = environ.get("WATCHDOG_USEC", "")
        is_us = not watched_pid or pid is None or watched_pid == str(pid)
        watched = int(microseconds) / 1e6 if is_us and microseconds.isdigit() and int(microseconds) else None
        return cls(environ.get("NOTIFY_SOCKET", ""), watchdog_s=watched)

    def tell_ready(self) -> None:
        """Say that the service has started: `systemctl start` returns now."""
        self._send("READY=1")

    def tell_alive(self) -> None:
        """Say that work has got on since the last call."""
        self._send("WATCHDOG=1")

    def tell_status(self, text: str) -> None:
        """Show `text`, one line, in `systemctl status`."""
        self._send(f"STATUS={fold_line(text)[:_LONGEST]}")

    def tell_stopping(self) -> None:
        """Say that the service is about to end."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
                connection.setblocking(False)
                connection.sendto(message.encode("utf-8", "replace"), self._address)
        except OSError:
            return  # a supervisor that does not listen is no reason to stop work; its watchdog judges by silence
