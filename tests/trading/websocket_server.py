"""Stand-ins for the websockets of Polygon and Alpaca on 127.0.0.1: they ask for the key, take subscriptions, send.

Their rules are those of the vendors' pages: https://massive.com/docs/websocket/quickstart (one connection a key, the
elder one is closed) and https://docs.alpaca.markets/docs/streaming-market-data (the words, the order, the codes; one
connection, the second is refused with 406).
"""

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Self

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server, ServerConnection, serve

from tests.installed import PATIENCE_S
from tests.processes import wait_until


class PolygonSocket:
    """The service; `send` reaches every client that has subscribed, `drop` hangs up on all of them."""

    def __init__(self, *, key: str = "k") -> None:
        self.key = key
        self.topics: list[set[str]] = []
        self.greeted = 0
        self._opened = threading.Event()
        self._opened.set()
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
        self._thread.join()

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

    def wait_for(self, subscribers: int) -> None:
        """Wait until so many subscriptions have been taken in all."""
        wait_until(lambda: len(self.topics) >= subscribers, f"Subscription {subscribers}")

    @contextmanager
    def away(self) -> Iterator[None]:
        """Hang up, and answer nothing within: whoever looks slowly still meets a feed that is down."""
        self._opened.clear()
        self.drop()
        try:
            yield
        finally:
            self._opened.set()

    def throw_out(self) -> None:
        """Do to all who subscribed what the log-in of another program with the same key does."""
        clients, self._clients = self._clients, []
        for client in clients:
            with suppress(ConnectionClosed, OSError):
                client.send(_status("max_connections", "Maximum number of websocket connections exceeded."))
                client.close()

    def _talk(self, client: ServerConnection) -> None:
        self.greeted += 1
        self._opened.wait(PATIENCE_S)
        try:
            client.send(_status("connected", "Connected Successfully"))
            asked = json.loads(client.recv())
            if asked != {"action": "auth", "params": self.key}:
                client.send(_status("auth_failed", f"authentication failed for {asked.get('params')}"))
                return
            client.send(_status("auth_success", "authenticated"))
            while True:
                asked = json.loads(client.recv())
                client.send(_status("success", f"subscribed to: {asked['params']}"))
                self._clients.append(client)
                self.topics.append(set(asked["params"].split(",")))
        except (ConnectionClosed, OSError):
            return


class AlpacaSocket:
    """Alpaca's service: welcome, log-in within its words, one connection, bars to those who subscribed."""

    def __init__(self, *, key: str = "id", secret: str = "secret") -> None:  # noqa: S107
        self.key, self.secret = key, secret
        self.lacks: set[str] = set()
        """Channels that the plan does not have."""
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
        self._thread.join()

    def send(self, *messages: dict[str, Any]) -> None:
        """Send one frame to each subscriber."""
        for client in list(self._clients):
            try:
                client.send(json.dumps(messages))
            except (ConnectionClosed, OSError):
                self._clients.remove(client)

    def wait_for(self, subscribers: int) -> None:
        """Wait until so many subscriptions have been taken in all."""
        wait_until(lambda: len(self.subscribed) >= subscribers, f"Subscription {subscribers}")

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
            channels: dict[str, Any] = {"trades": [], "quotes": []}
            client.send(json.dumps([{"T": "success", "msg": "authenticated"}]))
            while True:
                words = json.loads(client.recv())
                if words.pop("action", None) != "subscribe":
                    client.send(json.dumps([{"T": "error", "code": 410, "msg": "invalid subscribe action"}]))
                    continue
                self.subscribed.append(words)
                if self.lacks & words.keys():
                    client.send(json.dumps([{"T": "error", "code": 409, "msg": "insufficient subscription"}]))
                    continue
                if client not in self._clients:
                    self._clients.append(client)
                channels |= {name: [*channels.get(name, []), *words[name]] for name in words}  # the whole of it is told
                client.send(json.dumps([{"T": "subscription", **channels}]))
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
