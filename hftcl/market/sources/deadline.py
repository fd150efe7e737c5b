"""Connections that end in time, however slowly names are found and the bytes trickle.

A socket's time-out begins again with every byte, and the search for a host's address knows none at all: a server that
sends one byte a second, or a name server that is silent, holds a client for ever.
"""

import http.client
import io
import socket
import threading
import time
from typing import Any, Final

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

_LEAST_S: Final = 0.001  # of a time-out; 0 would mean not to wait at all


class _BoundedReader(io.RawIOBase):
    """A socket's bytes, until a moment of the monotonic clock."""

    def __init__(self, sock: Any, ends: float) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)
        self._ends = ends

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._sock.settimeout(left)
        read: int | None = self._raw.readinto(buffer)
        return read

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Deadline:
    """Mixed into urllib3's connections: head and body of a response end within the read time-out, counted once.

    urllib3 sets `timeout` before each response to what is left of the request's total, and before it connects to the
    share for that, in which the name is found, all addresses are tried and TLS shakes hands.
    """

    def _new_conn(self) -> socket.socket:
        """Return a connected socket. Raises urllib3's errors, as the method that this replaces."""
        host, ends = self._dns_host, time.monotonic() + self.timeout  # type: ignore[attr-defined]
        try:
            made = self._connect_by(_find_addresses(host, self.port, ends), ends)  # type: ignore[attr-defined]
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error  # type: ignore[attr-defined, arg-type]
        except TimeoutError as error:
            raise ConnectTimeoutError(self, f"Connection to {host} timed out.") from error
        except OSError as error:
            raise NewConnectionError(self, f"Failed to establish a new connection: {error}") from error  # type: ignore[arg-type]
        return made

    def _connect_by(self, addresses: list[Any], ends: float) -> socket.socket:
        failure: OSError = OSError("the name has no address")
        for family, kind, protocol, _, address in addresses:
            left = ends - time.monotonic()
            if left <= 0:
                raise TimeoutError("timed out") from failure
            made = socket.socket(family, kind, protocol)
            try:
                for option in self.socket_options or ():  # type: ignore[attr-defined]
                    made.setsockopt(*option)
                made.settimeout(left)
                made.connect(address)
                # a handshake of TLS ends within this, counted once,
                # https://docs.python.org/3/library/ssl.html#ssl.SSLSocket.do_handshake
                made.settimeout(max(ends - time.monotonic(), _LEAST_S))
            except OSError as error:
                made.close()
                failure = error
            else:
                return made
        raise failure

    def getresponse(self) -> Any:
        ends = time.monotonic() + self.timeout  # type: ignore[attr-defined]

        def build_response(sock: Any, *args: Any, **kwargs: Any) -> http.client.HTTPResponse:
            made = http.client.HTTPResponse(sock, *args, **kwargs)
            made.fp.close()
            made.fp = io.BufferedReader(_BoundedReader(sock, ends))
            return made

        self.response_class = build_response
        return super().getresponse()  # type: ignore[misc]


class _Connection(_Deadline, HTTPConnection):  # type: ignore[misc]
    pass


class _SecureConnection(_Deadline, HTTPSConnection):  # type: ignore[misc]
    pass


def _find_addresses(host: str, port: int, ends: float) -> list[Any]:
    """Return the addresses of `host` as `socket.getaddrinfo` does; TimeoutError where they are not known by `ends`.

    The search cannot be stopped: it goes on in a thread that no one waits for.
    """
    found: list[Any] = []
    failed: list[OSError] = []

    def search() -> None:
        try:
            found.extend(socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM))
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=search, name="addresses", daemon=True)
    thread.start()
    thread.join(max(ends - time.monotonic(), 0.0))
    if failed:
        raise failed[0]
    if not found:
        raise TimeoutError("timed out while looking for the address")
    return found


class BoundedPool(HTTPConnectionPool):
    """urllib3's pool, whose `Timeout(total=...)` holds for the whole response, the body included."""

    ConnectionCls = _Connection


class BoundedSecurePool(HTTPSConnectionPool):
    """The same over TLS."""

    ConnectionCls = _SecureConnection
