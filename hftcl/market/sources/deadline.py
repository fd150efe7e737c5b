"""Connections that end in time, however slowly the bytes trickle.

A socket's time-out starts again with every byte: a server that sends one byte a second holds a client for ever.
"""

import http.client
import io
import time
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool


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

    urllib3 sets `timeout` before each response to what is left of the request's total.
    """

    def getresponse(self) -> Any:
        ends = time.monotonic() + self.timeout  # type: ignore[attr-defined]

        def response(sock: Any, *args: Any, **kwargs: Any) -> http.client.HTTPResponse:
            made = http.client.HTTPResponse(sock, *args, **kwargs)
            made.fp.close()
            made.fp = io.BufferedReader(_BoundedReader(sock, ends))
            return made

        self.response_class = response
        return super().getresponse()  # type: ignore[misc]


class _Connection(_Deadline, HTTPConnection):  # type: ignore[misc]
    pass


class _SecureConnection(_Deadline, HTTPSConnection):  # type: ignore[misc]
    pass


class BoundedPool(HTTPConnectionPool):
    """urllib3's pool, whose `Timeout(total=...)` holds for the whole response, the body included."""

    ConnectionCls = _Connection


class BoundedSecurePool(HTTPSConnectionPool):
    """The same over TLS."""

    ConnectionCls = _SecureConnection
