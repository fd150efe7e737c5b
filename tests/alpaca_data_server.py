"""A stand-in for Alpaca's market data service on 127.0.0.1, stricter than what asks it; it can misbehave on order.

Rules, each from the vendor's page: https://docs.alpaca.markets/reference/stockbars (parameters and their words; limit 1
to 10,000 counts the bars of all symbols; sorted by symbol, then time; next_page_token null on the last page; adjustment
raw by default; both ends of the range belong to it), https://docs.alpaca.markets/docs/market-data-faq (403 for missing
or wrong keys, and for SIP bars of the last 15 minutes on a small plan), https://docs.alpaca.markets/reference/corporateactions-1.
"""

import base64
import json
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from tests.polygon_server import Hit, PolygonServer, Reply

_KNOWN: Final = {
    "/v2/stocks/bars": {
        "symbols", "timeframe", "start", "end", "limit", "adjustment", "feed", "sort", "page_token", "asof", "currency",
    },
    "/v1/corporate-actions": {"symbols", "types", "start", "end", "limit", "page_token", "sort"},
}  # fmt: skip


class AlpacaDataServer(PolygonServer):
    """The service with `bars` (rows as it writes them, per symbol) and `splits` (symbol, ex_date, old_rate, new_rate).

    sip: whether the plan has recent SIP bars. page_limit: most bars of a page, whatever the client asks for.
    """

    def __init__(
        self,
        bars: Mapping[str, Sequence[dict[str, Any]]],
        splits: Sequence[dict[str, Any]] = (),
        *,
        ident: str = "id",
        secret: str = "secret",  # noqa: S107
        sip: bool = False,
        page_limit: int = 10_000,
    ) -> None:
        super().__init__(bars, splits, page_limit=page_limit)
        self.ident, self.secret, self.sip = ident, secret, sip

    def _refuse(self, hit: Hit) -> Reply | None:
        if (hit.headers.get("apca-api-key-id"), hit.headers.get("apca-api-secret-key")) == (self.ident, self.secret):
            return None
        return _json({"message": "forbidden."}, 403)

    def _find(self, hit: Hit) -> Reply:
        known = _KNOWN.get(hit.path)
        if known is None:
            return _json({"message": "endpoint not found."}, 404)
        if set(hit.query) - known:
            return _json({"message": f"unexpected parameter(s): {sorted(set(hit.query) - known)}"}, 400)
        symbols = hit.query.get("symbols", "").split(",")
        if not all(symbols) or any(not symbol.replace(".", "").isalpha() or not symbol.isupper() for symbol in symbols):
            return _json({"message": f"invalid symbol(s): {hit.query.get('symbols', '')}"}, 400)
        return self._bars(hit, symbols) if hit.path == "/v2/stocks/bars" else self._actions(hit, symbols)

    def _bars(self, hit: Hit, symbols: list[str]) -> Reply:
        asked = {"adjustment": "raw", "feed": "sip", "limit": "1000", "sort": "asc"} | hit.query
        begin, end = (datetime.fromisoformat(asked[name]) for name in ("start", "end"))
        limit = int(asked["limit"])
        words = (asked["timeframe"], asked["adjustment"], asked["sort"])
        if not 1 <= limit <= 10_000 or words != ("1Min", "raw", "asc") or begin > end or begin.tzinfo is None:
            return _json({"message": "invalid parameter"}, 400)
        if asked["feed"] == "sip" and not self.sip and time.time() - end.timestamp() < 900:
            return _json({"message": "subscription does not permit querying recent SIP data"}, 403)
        rows = [
            (symbol, row)
            for symbol in sorted(symbols)
            for row in self.bars.get(symbol, ())
            if begin <= datetime.fromisoformat(row["t"]) <= end
        ]
        first = int(base64.b64decode(asked["page_token"])) if "page_token" in asked else 0
        size = min(limit, self.page_limit)
        bars: dict[str, list[dict[str, Any]]] = {}
        for symbol, row in rows[first : first + size]:
            bars.setdefault(symbol, []).append(row)
        following = base64.b64encode(str(first + size).encode()).decode() if rows[first + size :] else None
        return _json({"bars": bars, "next_page_token": following})

    def _actions(self, hit: Hit, symbols: list[str]) -> Reply:
        if set(hit.query.get("types", "").split(",")) - {"forward_split", "reverse_split"}:
            return _json({"message": "invalid types"}, 400)
        if not 1 <= int(hit.query.get("limit", "100")) <= 1000:
            return _json({"message": "invalid limit"}, 400)
        rows = [
            row
            for row in self.split_rows
            if row["symbol"] in symbols and hit.query["start"] <= row["ex_date"] <= hit.query["end"]
        ]
        actions = {
            "forward_splits": [row for row in rows if row["new_rate"] > row["old_rate"]],
            "reverse_splits": [row for row in rows if row["new_rate"] < row["old_rate"]],
        }
        return _json({"corporate_actions": {k: v for k, v in actions.items() if v}, "next_page_token": None})


def alpaca_bars(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return bars as Polygon writes them, as Alpaca does: `t` in RFC 3339."""
    return [{**row, "t": f"{datetime.fromtimestamp(row['t'] / 1000, tz=UTC):%Y-%m-%dT%H:%M:%SZ}"} for row in rows]


def _json(body: Mapping[str, object], status: int = 200) -> Reply:
    return Reply(json.dumps(body).encode(), status)
