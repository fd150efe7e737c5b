"""Stand-ins for the websockets of Polygon and Alpaca on 127.0.0.1: they ask for the key, take subscriptions, send.

Their rules are those of the vendors' pages: https://massive.com/docs/websocket/quickstart (one connection a key, the
elder one is closed) and https://docs.alpaca.markets/docs/streaming-market-data (the words, the order, the codes; one
connection, the second is refused with 406).
"""

import json
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server, ServerConnection, serve


class PolygonSocket:
    """The service; `send` reaches every client that has subscribed, `drop` hangs up on all of them."""

    def __init__(self, *, key: str = "k", most: int = 10**9) -> None:
        """most: connections that are logged in at once; one more throws the eldest out."""
        self.key = key
        self.most = most
        self._logged_in: list[ServerConnection] = []
        self.topics: list[set[str]] = []
        self.greeted = 0
        self._clients: list[ServerConnection] = []
        self._server: Server = serve(self._talk, "127.0.0.1", 0)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self._server.socket.getsockname()[1]}/stocks"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join(10)

    def send(self, *messages: dict[str, Any] | str) -> None:
        """Send one frame to each subscriber; a text goes as it is."""
        text = messages[0] if isinstance(messages[0], str) else json.dumps(messages)
        for client in list(self._clients):
            try:
                client.send(text)
            except (ConnectionClosed, OSError):  # killed without a farewell
                self._clients.remove(client)

    def drop(self) -> None:
        """Hang up without a word of farewell."""
        for client in list(self._clients):
            client.socket.close()
        self._clients.clear()

    def wait_for(self, subscribers: int, timeout_s: float = 10.0) -> None:
        """Wait until so many subscriptions have been taken in all."""
        ends = time.monotonic() + timeout_s
        while len(self.topics) < subscribers:
            assert time.monotonic() < ends, f"{len(self.topics)} of {subscribers} subscribed"
            time.sleep(0.01)

    def _talk(self, client: ServerConnection) -> None:
        self.greeted += 1
        try:
            client.send(_status("connected", "Connected Successfully"))
            asked = json.loads(client.recv())
            if asked != {"action": "auth", "params": self.key}:
                client.send(_status("auth_failed", f"authentication failed for {asked.get('params')}"))
                return
            self._throw_out(client)
            client.send(_status("auth_success", "authenticated"))
            while True:
                asked = json.loads(client.recv())
                client.send(_status("success", f"subscribed to: {asked['params']}"))
                self._clients.append(client)
                self.topics.append(set(asked["params"].split(",")))
        except (ConnectionClosed, OSError):
            return

    def _throw_out(self, client: ServerConnection) -> None:
        self._logged_in.append(client)
        while len(self._logged_in) > self.most:
            eldest = self._logged_in.pop(0)
            try:
                eldest.send(_status("max_connections", "Maximum number of websocket connections exceeded."))
                eldest.close()
            except (ConnectionClosed, OSError):
                continue


class AlpacaSocket:
    """Alpaca's service: welcome, log-in within its words, one connection, bars to those who subscribed."""

    def __init__(self, *, key: str = "id", secret: str = "secret") -> None:  # noqa: S107
        self.key, self.secret = key, secret
        self.subscribed: list[dict[str, Any]] = []
        self._clients: list[ServerConnection] = []
        self._logged_in: list[ServerConnection] = []
        self._server: Server = serve(self._talk, "127.0.0.1", 0)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self._server.socket.getsockname()[1]}/v2/iex"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join(10)

    def send(self, *messages: dict[str, Any]) -> None:
        """Send one frame to each subscriber."""
        for client in list(self._clients):
            try:
                client.send(json.dumps(messages))
            except (ConnectionClosed, OSError):
                self._clients.remove(client)

    def wait_for(self, subscribers: int, timeout_s: float = 10.0) -> None:
        """Wait until so many subscriptions have been taken in all."""
        ends = time.monotonic() + timeout_s
        while len(self.subscribed) < subscribers:
            assert time.monotonic() < ends, f"{len(self.subscribed)} of {subscribers} subscribed"
            time.sleep(0.01)

    def _talk(self, client: ServerConnection) -> None:
        try:
            client.send(json.dumps([{"T": "success", "msg": "connected"}]))
            words = json.loads(client.recv())
            if words.get("action") != "auth":
                client.send(json.dumps([{"T": "error", "code": 401, "msg": "not authenticated"}]))
                return
            if (words.get("key"), words.get("secret")) != (self.key, self.secret):
                client.send(json.dumps([{"T": "error", "code": 402, "msg": "auth failed"}]))
                return
            if self._logged_in:
                client.send(json.dumps([{"T": "error", "code": 406, "msg": "connection limit exceeded"}]))
                return
            self._logged_in.append(client)
            client.send(json.dumps([{"T": "success", "msg": "authenticated"}]))
            while True:
                words = json.loads(client.recv())
                if words.pop("action", None) != "subscribe":
                    client.send(json.dumps([{"T": "error", "code": 410, "msg": "invalid subscribe action"}]))
                    continue
                self.subscribed.append(words)
                self._clients.append(client)
                client.send(json.dumps([{"T": "subscription", "trades": [], "quotes": [], **words}]))
        except (ConnectionClosed, OSError):
            return
        finally:
            if client in self._logged_in:
                self._logged_in.remove(client)


def _status(status: str, message: str) -> str:
    return json.dumps([{"ev": "status", "status": status, "message": message}])


def minute_message(ticker: str, start_ms: int, figures: Sequence[float]) -> dict[str, Any]:
    """Return a minute aggregate as the service sends it; figures: open, high, low, close, volume."""
    o, h, low, c, v = figures
    return {
        "ev": "AM",
        "sym": ticker,
        "v": v,
        "av": 10 * v,
        "op": o,
        "vw": c,
        "o": o,
        "c": c,
        "h": h,
        "l": low,
        "a": c,
        "z": 50,
        "s": start_ms,
        "e": start_ms + 60_000,
    }
