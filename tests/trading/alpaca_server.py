"""A stand-in for Alpaca's trading API on 127.0.0.1; it can misbehave on order.

Orders stay open until a test fills or ends them. It serves /v2/orders, /v2/orders:by_client_order_id, /v2/account,
/v2/positions and /v2/account/activities/FILL in the format of the documentation, and demands the keys.
"""

import json
import socket
import struct
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

START = datetime(2025, 6, 2, 14, 31, tzinfo=UTC)


@dataclass(frozen=True)
class Reply:
    """What goes over the wire. delay_s: before the first byte; trickle_s: after each byte of the body."""

    body: bytes
    status: int = 200
    delay_s: float = 0.0
    trickle_s: float = 0.0


RESET = -1
"""Status of a reply that never comes: the connection is reset."""

Fault = Callable[[Reply], Reply]


def says(status: int, body: object) -> Fault:
    """Answer `body` with `status`, although what was asked was done."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return lambda _: Reply(raw, status)


def reset(reply: Reply) -> Reply:
    """Do what was asked, and reset the connection instead of answering."""
    return replace(reply, status=RESET)


def slow(*, delay_s: float = 0.0, trickle_s: float = 0.0) -> Fault:
    """Answer rightly, but late, or byte after byte."""
    return lambda reply: replace(reply, delay_s=delay_s, trickle_s=trickle_s)


class AlpacaServer:
    """The service. faults: by "METHOD /path", what becomes of each coming answer; an order is taken all the same.

    refuse: by "METHOD /path", what is answered instead of doing what was asked.
    """

    def __init__(self) -> None:
        self.keys = ("key-123456", "secret-123456")
        self.orders: dict[str, dict[str, Any]] = {}
        self.activities: list[dict[str, Any]] = []
        self.positions: list[dict[str, Any]] = []
        self.cash = 100_000.0
        self.faults: dict[str, list[Fault]] = {}
        self.refuse: dict[str, tuple[int, object]] = {}
        self.hits: list[str] = []
        self.headers: dict[str, str] = {}
        self.at_once = self.most_at_once = 0
        self.bodies: list[dict[str, Any]] = []
        self.lock = threading.RLock()
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def fill(self, client_order_id: str, quantity: float, price: float, *, after: timedelta = timedelta(0)) -> None:
        """Let `quantity` shares (unsigned) of an order trade at `price`, `after` the start."""
        order = self.orders[client_order_id]
        order["filled_qty"] = str(float(order["filled_qty"]) + quantity)
        order["status"] = "filled" if float(order["filled_qty"]) == float(order["qty"]) else "partially_filled"
        at = START + after
        self.activities.append(
            {
                "id": f"{at:%Y%m%d%H%M%S}{len(self.activities):06d}::{uuid.uuid4()}",
                "activity_type": "FILL",
                "transaction_time": f"{at:%Y-%m-%dT%H:%M:%S}.123456789Z",
                "type": "fill",
                "price": str(price),
                "qty": str(quantity),
                "side": order["side"],
                "symbol": order["symbol"],
                "order_id": order["id"],
                "order_status": order["status"],
            }
        )

    def answer(self, method: str, path: str, query: dict[str, str], body: bytes, keys: tuple[str, str]) -> Reply:
        """Do what is asked and return what goes back, faults applied."""
        asked = f"{method} {path}"
        self.hits.append(asked)
        if keys != self.keys:
            return _json({"message": "forbidden."}, 401)
        if asked in self.refuse:
            status, said = self.refuse[asked]
            return _json(said, status)
        reply = self._find(method, path, query, body)
        waiting = self.faults.get(asked)
        return waiting.pop(0)(reply) if waiting else reply

    def _find(self, method: str, path: str, query: dict[str, str], body: bytes) -> Reply:
        by_id = {order["id"]: order for order in self.orders.values()}
        name = path.rpartition("/")[2]
        if (method, path) == ("POST", "/v2/orders"):
            return self._submit(json.loads(body))
        if (method, path) == ("GET", "/v2/orders:by_client_order_id"):
            found = self.orders.get(query["client_order_id"])
            return _json(found) if found else _json({"code": 40410000, "message": "order not found"}, 404)
        if (method, path) == ("GET", "/v2/orders"):
            every = query.get("status") == "all"
            working = [o for o in self.orders.values() if every or o["status"] in ("new", "partially_filled")]
            rows = [o for o in working if o["submitted_at"] > query.get("after", "")]
            return _json(rows[: int(query["limit"])])
        if path.startswith("/v2/orders/") and name in by_id:
            if method == "GET":
                return _json(by_id[name])
            if by_id[name]["status"] not in ("new", "partially_filled"):
                return _json({"code": 42210000, "message": "order is not cancelable"}, 422)
            by_id[name]["status"] = "canceled"
            return Reply(b"", 204)
        if path == "/v2/account":
            account = {"cash": self.cash, "equity": self.cash, "buying_power": 2 * self.cash}
            return _json({name: str(value) for name, value in account.items()} | {"status": "ACTIVE"})
        if path == "/v2/positions":
            return _json(self.positions)
        if path.startswith("/v2/account/activities"):
            return self._activities(query) if path.endswith("/FILL") else _json([])
        return _json({"message": "endpoint not found."}, 404)

    def _submit(self, asked: dict[str, Any]) -> Reply:
        self.bodies.append(asked)
        name = asked["client_order_id"]
        if name in self.orders:
            return _json({"code": 40010001, "message": "client_order_id must be unique"}, 422)
        at = START + timedelta(seconds=len(self.orders))
        order = asked | {
            "id": str(uuid.uuid4()),
            "qty": str(asked["qty"]),
            "filled_qty": "0",
            "status": "new",
            "submitted_at": at.isoformat(),
        }
        self.orders[name] = order
        return _json(order)

    def _activities(self, query: dict[str, str]) -> Reply:
        after = datetime.fromisoformat(query["after"])
        rows = [row for row in self.activities if datetime.fromisoformat(row["transaction_time"]) > after]
        rows.sort(key=lambda row: str(row["id"]))
        rows = [row for row in rows if row["id"] > query.get("page_token", "")]
        return _json(rows[: int(query["page_size"])])

    def tell_headers(self, handler: BaseHTTPRequestHandler) -> None:
        """Send what goes with each answer."""
        for name, value in self.headers.items():
            handler.send_header(name, value)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else every answer takes the 40 ms of a delayed acknowledgement

            def _do(self) -> None:
                parts = urlsplit(self.path)
                query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                keys = (self.headers.get("APCA-API-KEY-ID", ""), self.headers.get("APCA-API-SECRET-KEY", ""))
                with service.lock:
                    reply = service.answer(self.command, parts.path, query, body, keys)
                try:
                    self._send(reply)
                except OSError:  # the client gave up, which is what some tests are about
                    self.close_connection = True

            do_GET = do_POST = do_DELETE = _do  # noqa: N815

            def _send(self, reply: Reply) -> None:
                with service.lock:
                    service.at_once += 1
                    service.most_at_once = max(service.most_at_once, service.at_once)
                closing = service._closing.wait(reply.delay_s)
                with service.lock:
                    service.at_once -= 1
                if closing or reply.status == RESET:
                    self._break_off()
                    return
                self.send_response(reply.status)
                self.send_header("Content-Type", "application/json")
                service.tell_headers(self)
                if reply.status != 204:
                    self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                size = 1 if reply.trickle_s else max(len(reply.body), 1)
                for begin in range(0, len(reply.body), size):
                    self.wfile.write(reply.body[begin : begin + size])
                    self.wfile.flush()
                    if reply.trickle_s and service._closing.wait(reply.trickle_s):
                        return

            def _break_off(self) -> None:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                """Say nothing: what arrived is in `hits`."""

        return Handler


def _json(body: object, status: int = 200) -> Reply:
    return Reply(json.dumps(body).encode(), status)
