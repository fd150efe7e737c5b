"""A stand-in for Polygon's REST service on 127.0.0.1, in the format of the recorded pages; it can misbehave on order.

Tests start it with `with PolygonServer(...) as server`; by hand: `python -m tests.polygon_server --key k AAPL MSFT`.
It serves /v2/aggs/ticker/{T}/range/1/minute/{from}/{to}, /v3/reference/splits, /vX/reference/tickers/{T}/events and
/v3/reference/tickers, demands the key, pages as the service does (the next_url carries no key), and counts every hit.
The rules are those of the vendor's pages:
https://massive.com/docs/rest/stocks/aggregates/custom-bars.md (limit, adjusted, paging; t is the start of the minute)
https://massive.com/docs/rest/stocks/corporate-actions/reference-splits.md (filters, 1,000 a page)
https://massive.com/docs/rest/stocks/corporate-actions/ticker-events.md (names since when; by the present name only)
"""

import argparse
import base64
import gzip
import json
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit
from zoneinfo import ZoneInfo

import numpy as np

NEW_YORK = ZoneInfo("America/New_York")
PRICES = "https://polygon.io/pricing"


@dataclass(frozen=True)
class Hit:
    """One request as it arrived: `at` is of the monotonic clock, `client` its end of the connection."""

    path: str
    query: dict[str, str]
    headers: dict[str, str]
    at: float
    client: tuple[str, int]


@dataclass(frozen=True)
class Reply:
    """What goes over the wire. delay_s: before the first byte; trickle_s: after each byte of head and body.

    pack: makes the body of gzip that a client which takes one gets.
    """

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    trickle_s: float = 0.0
    cut: int | None = None
    pack: Callable[[bytes], bytes] = lambda body: gzip.compress(body, 1)


Fault = Callable[[Reply], Reply]
"""Makes a wrong answer out of the right one."""


def says(status: int, body: Mapping[str, object] | bytes, **headers: str) -> Fault:
    """Answer `body` with `status`, whatever was asked. Headers: Retry_After="3"."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _: Reply(raw, status, named)


def changed(**fields: object) -> Fault:
    """Answer the right page with some of its fields replaced; a field that is a function makes it from the old one."""

    def change(reply: Reply) -> Reply:
        page = json.loads(reply.body)
        for name, value in fields.items():
            page[name] = value(page.get(name)) if callable(value) else value
        return replace(reply, body=json.dumps(page).encode())

    return change


def too_many(**headers: str) -> Fault:
    """Answer 429 as the service does."""
    text = f"You've exceeded the maximum requests per minute, please wait or upgrade your subscription. {PRICES}"
    return says(429, {"status": "ERROR", "request_id": "r", "error": text}, **headers)


def slow(*, delay_s: float = 0.0, trickle_s: float = 0.0) -> Fault:
    """Answer rightly, but late, or byte after byte."""
    return lambda reply: replace(reply, delay_s=delay_s, trickle_s=trickle_s)


def cut(length: int) -> Fault:
    """Hang up after `length` bytes of the body."""
    return lambda reply: replace(reply, cut=length)


class PolygonServer:
    """The service with `bars` (unadjusted, rows as it writes them, per ticker) and `splits`.

    names: ticker -> its (name, first day under it), oldest first. delisted: ticker -> the day it was.
    page_limit: most bars of a page, whatever the client asks for. fault(n, f): answer the n-th hit (from 1) with f.
    later: answers each page after the first, whichever hit it is, so that a retry of the first page is none of them.
    most_per_minute: answer 429 beyond so many hits in 60 s. delayed: the status of every page is DELAYED.
    forgets_adjusted: a cursor leads back to adjusted bars. chunked: as the service sends; else with a Content-Length.
    """

    def __init__(
        self,
        bars: Mapping[str, Sequence[dict[str, Any]]],
        splits: Sequence[dict[str, Any]] = (),
        *,
        key: str = "k",
        names: Mapping[str, Sequence[tuple[str, str]]] | None = None,
        delisted: Mapping[str, str] | None = None,
        page_limit: int = 50_000,
        splits_page_limit: int = 1000,
        most_per_minute: int = 10**9,
        delayed: bool = False,
        forgets_adjusted: bool = False,
        chunked: bool = True,
        port: int = 0,
    ) -> None:
        self.bars = bars
        self.split_rows = list(splits)
        self.key = key
        self.names = names or {}
        self.delisted = delisted or {}
        self.page_limit = page_limit
        self.splits_page_limit = splits_page_limit
        self.most_per_minute = most_per_minute
        self.delayed = delayed
        self.forgets_adjusted = forgets_adjusted
        self.chunked = chunked
        self.hits: list[Hit] = []
        self.faults: dict[int, Fault] = {}
        self.always: Fault | None = None
        self.later: Fault | None = None
        self._recent: deque[float] = deque()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def fault(self, hit: int, fault: Fault) -> None:
        self.faults[hit] = fault

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, hit: Hit) -> Reply:
        """Return the reply to `hit`, faults applied."""
        with self._lock:
            self.hits.append(hit)
            n = len(self.hits)
            while self._recent and hit.at - self._recent[0] >= 60:
                self._recent.popleft()
            crowded = len(self._recent) >= self.most_per_minute
            self._recent.append(hit.at)
        reply = self._refuse(hit) or (too_many()(Reply(b"")) if crowded else self._find(hit))
        is_later = bool({"cursor", "page_token"} & hit.query.keys())
        fault = self.later if self.later and is_later else self.faults.get(n, self.always)
        return fault(reply) if fault else reply

    def _refuse(self, hit: Hit) -> Reply | None:
        key = hit.headers.get("authorization", "").removeprefix("Bearer ") or hit.query.get("apiKey", "")
        if key == self.key:
            return None
        text = "Unknown API Key" if key else "API Key was not provided"
        return _json({"status": "ERROR", "request_id": "e0290053", "error": text}, 401)

    def _find(self, hit: Hit) -> Reply:
        parts = hit.path.split("/")
        if hit.path == "/v3/reference/splits":
            return self._splits(hit)
        if parts[1:4] == ["vX", "reference", "tickers"] and parts[5:] == ["events"] and parts[4] in self.names:
            events = [
                {"type": "ticker_change", "date": day, "ticker_change": {"ticker": name}}
                for name, day in reversed(self.names[parts[4]])
            ]
            return _json({"results": {"name": parts[4], "events": events}, "status": "OK", "request_id": "r"})
        if hit.path == "/v3/reference/tickers":
            gone = [name for name in self.delisted if name == hit.query.get("ticker")]
            rows = [
                {"ticker": name, "active": False, "delisted_utc": f"{self.delisted[name]}T00:00:00Z"} for name in gone
            ]
            return _json({"results": rows, "status": "OK", "request_id": "r", "count": len(rows)})
        if parts[1:4] == ["v2", "aggs", "ticker"] and len(parts) == 10 and parts[5:8] == ["range", "1", "minute"]:
            return self._aggregates(hit, unquote(parts[4]), parts[8], parts[9])
        return _json({"status": "NOT_FOUND", "request_id": "r", "message": "Data not found."}, 404)

    def _aggregates(self, hit: Hit, ticker: str, first: str, last: str) -> Reply:
        asked = parse_qs(base64.b64decode(hit.query.get("cursor", "") + "==").decode())
        asked |= {name: [value] for name, value in hit.query.items()}
        limit = int(asked.get("limit", ["5000"])[0])
        if not 1 <= limit <= 50_000:
            return _json({"status": "ERROR", "request_id": "r", "error": "limit must be between 1 and 50000"}, 400)
        adjusted = asked.get("adjusted", ["true"])[0] == "true"
        begin, end = _begin_ms(first), _end_ms(last)
        rows = [row for row in self.bars.get(ticker, ()) if begin <= row["t"] <= end]
        rows.sort(key=lambda row: row["t"], reverse=asked.get("sort", ["asc"])[0] == "desc")
        size = min(limit, self.page_limit)
        page, rest = rows[:size], rows[size:]
        body: dict[str, Any] = {"ticker": ticker, "queryCount": len(page), "resultsCount": len(page)}
        body["adjusted"] = adjusted
        if page:
            body["results"] = [self._adjusted(ticker, row) for row in page] if adjusted else page
        body |= {"status": self._status, "request_id": "7fea49fbee5d3f40e6a66076f1f4be4e", "count": len(page)}
        if rest:
            kept = f"limit={limit}&sort=asc" + ("" if self.forgets_adjusted or adjusted else "&adjusted=false")
            cursor = base64.b64encode(kept.encode()).decode().rstrip("=")
            body["next_url"] = f"{self.url}{'/'.join(hit.path.split('/')[:8])}/{rest[0]['t']}/{last}?cursor={cursor}"
        return _json(body)

    @property
    def _status(self) -> str:
        return "DELAYED" if self.delayed else "OK"

    def _adjusted(self, ticker: str, row: dict[str, Any]) -> dict[str, Any]:
        factor = 1.0
        for split in self.split_rows:
            if split["ticker"] == ticker and row["t"] < _begin_ms(split["execution_date"]):
                factor *= split["split_to"] / split["split_from"]
        prices = {name: row[name] / factor for name in ("o", "h", "l", "c", "vw") if name in row}
        return row | prices | {"v": row["v"] * factor}

    def _splits(self, hit: Hit) -> Reply:
        wanted = hit.query.get("ticker")
        since = hit.query.get("execution_date.gte", "")
        rows = [row for row in self.split_rows if wanted in (None, row["ticker"]) and row["execution_date"] >= since]
        start = int(hit.query.get("cursor", "0"))
        size = min(int(hit.query.get("limit", "10")), 1000, self.splits_page_limit)
        body: dict[str, Any] = {"results": rows[start : start + size], "status": "OK", "request_id": "b52de486"}
        if rows[start + size :]:
            kept = f"execution_date.gte={since}" if wanted is None else f"ticker={wanted}"
            body["next_url"] = f"{self.url}/v3/reference/splits?{kept}&limit={size}&cursor={start + size}"
        return _json(body)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
                headers = {name.lower(): value for name, value in self.headers.items()}
                hit = Hit(parts.path, query, headers, time.monotonic(), self.client_address)
                try:
                    self._send(service.answer(hit), compress="gzip" in headers.get("accept-encoding", ""))
                except OSError:  # the client gave up, which is what some tests are about
                    self.close_connection = True

            def _send(self, reply: Reply, *, compress: bool) -> None:
                if service._closing.wait(reply.delay_s):
                    return
                body = reply.pack(reply.body) if compress else reply.body
                head = {"Content-Type": "application/json", "X-Request-Id": "r"}
                head |= {"Content-Encoding": "gzip"} if compress else {}
                if service.chunked:
                    parts = [body[i : i + 16_384] for i in range(0, len(body), 16_384)]
                    body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
                    head |= {"Transfer-Encoding": "chunked"}
                else:
                    head |= {"Content-Length": str(len(body))}
                lines = [f"HTTP/1.1 {reply.status} answer"] + [
                    f"{k}: {v}" for k, v in {**head, **reply.headers}.items()
                ]
                wire = "\r\n".join([*lines, "", ""]).encode() + body[: reply.cut]
                pieces = [wire[i : i + 1] for i in range(len(wire))] if reply.trickle_s else [wire]
                for piece in pieces:
                    self.wfile.write(piece)
                    if reply.trickle_s and service._closing.wait(reply.trickle_s):
                        break
                self.close_connection = self.close_connection or reply.cut is not None

            def log_message(self, *_: object) -> None:
                """Say nothing: what arrived is in `hits`."""

        return Handler


def _json(body: Mapping[str, object], status: int = 200) -> Reply:
    return Reply(json.dumps(body).encode(), status)


def _begin_ms(text: str) -> int:
    """Return a bound of a range, a New York day or Unix ms, as Unix ms; of a day its first one."""
    if "-" not in text:
        return int(text)
    return int(datetime.combine(date.fromisoformat(text), datetime.min.time(), NEW_YORK).timestamp() * 1000)


def _end_ms(text: str) -> int:
    """Return the same for the end of a range: of a day its last one."""
    return int(text) if "-" not in text else _begin_ms(str(date.fromisoformat(text) + timedelta(days=1))) - 1


def weekdays(last: date, days: int) -> list[date]:
    """Return the weekdays among the `days` days that end with `last`, oldest first."""
    return [day for n in range(days - 1, -1, -1) if (day := last - timedelta(days=n)).weekday() < 5]


def synthetic_bars(ticker: str, sessions: Iterable[date], *, seed: int = 1) -> list[dict[str, Any]]:
    """Return a random walk as the service writes it: 04:00 to 20:00 New York, few minutes outside 09:30 to 16:00."""
    random = np.random.default_rng([seed, *ticker.encode()])
    rows: list[dict[str, Any]] = []
    price = float(random.uniform(50, 300))
    for session in sessions:
        first = _begin_ms(str(session)) + 4 * 3_600_000
        minutes = np.arange(960)
        regular = (minutes >= 330) & (minutes < 720)
        traded = minutes[random.random(960) < np.where(regular, 0.99, 0.2)]
        closes = price * np.exp(np.cumsum(random.normal(0, 0.0006, len(traded))))
        opens = np.concatenate([[price], closes[:-1]])
        spread = np.abs(random.normal(0, 0.0003, (2, len(traded))))
        table = np.round([opens, np.maximum(opens, closes) * (1 + spread[0]), closes], 4)
        lows = np.round(np.minimum(opens, closes) * (1 - spread[1]), 4)
        volumes = random.integers(100, 50_000, len(traded))
        for n, minute in enumerate(traded.tolist()):
            o, h, c = (float(x) for x in table[:, n])
            low = float(lows[n])
            bar = {"v": int(volumes[n]), "vw": round((o + c) / 2, 4), "o": o, "c": c, "h": h, "l": low}
            rows.append(bar | {"t": first + minute * 60_000, "n": 1 + int(volumes[n]) // 50})
        price = float(closes[-1])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tickers", nargs="+")
    parser.add_argument("--key", default="k")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--days", type=int, default=60)
    parser.add_argument("--until", type=date.fromisoformat, default=datetime.fromtimestamp(time.time(), UTC).date())
    asked = parser.parse_args()
    sessions = weekdays(asked.until, asked.days)
    bars = {ticker: synthetic_bars(ticker, sessions) for ticker in asked.tickers}
    with PolygonServer(bars, key=asked.key, port=asked.port) as server:
        sys.stdout.write(f"{server.url}\n")  # whoever started it reads the address here
        sys.stdout.flush()
        threading.Event().wait()


if __name__ == "__main__":
    main()
