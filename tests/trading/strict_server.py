"""The stand-in for Alpaca with its real rules: `strict_account` over HTTP, for alpaca-py as it is.

The rules and their pages are in `hftcl.trading.brokers.strict_judge`; here is only what belongs to HTTP: paths, pages
of a hundred, and the limit of 200 calls a minute with its headers. Bars are brought by the test, as its clock is.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from hftcl.trading.brokers.refusals import Refusal
from hftcl.trading.brokers.strict_account import StrictAccount
from hftcl.trading.brokers.strict_rules import AccountRules, RefusedError
from hftcl.trading.brokers.strict_state import Activity, StrictOrder
from tests.trading.alpaca_server import AlpacaServer, Reply


class StrictServer(AlpacaServer):
    """The service. account: the account that it keeps. now: its time, which the test sets or asks a clock for."""

    def __init__(self, rules: AccountRules | None = None, *, clock: Callable[[], datetime]) -> None:
        super().__init__()
        self.account = StrictAccount(rules or AccountRules())
        self.clock = clock
        self.limited = True
        self.pairs = {"BTCUSD": "BTC/USD", "ETHUSD": "ETH/USD"}
        """Pairs by their old names, which orders may use: https://docs.alpaca.markets/docs/crypto-trading . In
        positions they have these: https://github.com/alpacahq/alpaca-py/issues/490 ."""
        self.most_calls = 0
        self.canceled: set[str] = set()
        """Kinds of activities that are recorded and canceled, as their status says."""
        self.silent_activities = range(0)
        """Which of the calls for activities, counted from 0, fail."""
        self.odd_rows: list[dict[str, Any]] = []
        """Rows that are told among the activities as they are."""
        self._activity_calls = 0
        self._calls: dict[int, int] = {}

    def on_bars(self, bars: pl.DataFrame) -> None:
        """Let a minute trade."""
        with self.lock:
            self.account.on_bars(bars.select("ts", "ticker", "open", "close", "volume").rows(), self.clock())

    def _find(self, method: str, path: str, query: dict[str, str], body: bytes) -> Reply:
        now = self.clock()
        window = int(now.timestamp()) // 60
        self._calls[window] = self._calls.get(window, 0) + 1
        self.most_calls = max(self.most_calls, self._calls[window])
        try:
            if self.limited:
                left, until = self.account.call(now)
                self.headers = {
                    "X-RateLimit-Limit": str(self.account.rules.calls_per_minute),
                    "X-RateLimit-Remaining": str(left),
                    "X-RateLimit-Reset": str(until),
                }
            return self._route(method, path, query, body, now)
        except RefusedError as error:
            if error.refusal.status == 429:
                self.headers["X-RateLimit-Remaining"] = "0"
            return _refused(error.refusal, error.text)

    def _route(self, method: str, path: str, query: dict[str, str], body: bytes, now: datetime) -> Reply:
        account, name = self.account, path.rpartition("/")[2]
        if (method, path) == ("POST", "/v2/orders"):
            return self._take(json.loads(body), now)
        if (method, path) == ("GET", "/v2/orders:by_client_order_id"):
            found = account.orders.get(query["client_order_id"])
            return _json(row_of(found)) if found else _json({"code": 40410000, "message": "order not found"}, 404)
        if (method, path) == ("GET", "/v2/orders"):
            return _json(self._listed(query))
        if path.startswith("/v2/orders/") and name in account.by_id:
            return self._one(method, name)
        if path == "/v2/account":
            return _json(self._account())
        if path == "/v2/positions":
            return _json([self._position(symbol, held) for symbol, held in account.positions.items()])
        if path == "/v2/account/activities/FILL":
            return _json(self._page(query, now))
        if path == "/v2/account/activities":
            return self._tell_other_activities(query, now)
        if path == "/v2/clock":
            return _json({"timestamp": now.isoformat(), "is_open": True})
        return _json({"message": "endpoint not found."}, 404)

    def _take(self, asked: dict[str, Any], now: datetime) -> Reply:
        self.bodies.append(asked)
        name = asked["client_order_id"]
        if name in self.account.orders:
            return _json({"code": 40010001, "message": "client_order_id must be unique"}, 422)
        quantity = float(asked["qty"]) * (1 if asked["side"] == "buy" else -1)
        symbol = self.pairs.get(asked["symbol"], asked["symbol"])
        return _json(row_of(self.account.submit(name, symbol, quantity, 100.0, now)))

    def _listed(self, query: dict[str, str]) -> Iterable[Any]:
        rows = [row_of(order) for order in self.account.orders.values() if query["status"] == "all" or order.working]
        return [row for row in rows if row["submitted_at"] > query.get("after", "")][: int(query["limit"])]

    def _one(self, method: str, order_id: str) -> Reply:
        order = self.account.by_id[order_id]
        if method == "GET":
            return _json(row_of(order))
        if self.account.cancel(order.client_order_id):
            return Reply(b"", 204)
        return _json({"code": 42210000, "message": "order is not cancelable"}, 422)

    def _account(self) -> dict[str, object]:
        account = self.account
        return {
            "id": "c5a6f9e2-0000-4000-8000-000000000001",
            "account_number": "PA0000001",
            "status": "ACTIVE",
            "cash": repr(account.cash),
            "equity": repr(account.equity),
            "last_equity": repr(account.last_equity),
            "buying_power": repr(account.buying_power),
            "trading_blocked": account.blocked,
            "account_blocked": False,
            "trade_suspended_by_user": account.suspended,
            "shorting_enabled": account.shorting,  # no field of day trades: they were removed on 2026-07-06,
            # https://docs.alpaca.markets/us/v1.1/changelog/2026-07-06-pdt-db49dba
        }

    def _position(self, symbol: str, held: float) -> dict[str, object]:
        is_pair = symbol in self.pairs.values()
        return {
            "symbol": symbol.replace("/", "") if is_pair else symbol,
            "asset_class": "crypto" if is_pair else "us_equity",
            "qty": repr(held),
            "side": "long" if held > 0 else "short",
            "current_price": repr(self.account.mark(symbol)),
            "avg_entry_price": repr(self.account.cost.get(symbol, 0.0)),
        }

    def _page(self, query: dict[str, str], now: datetime) -> list[Any]:
        after = datetime.fromisoformat(query["after"])
        rows = [
            row
            for row in self.account.list_activities(now)
            if row.kind == "FILL" and row.at > after - timedelta(seconds=1)
        ]
        page = [row for row in rows if row.activity_id > query.get("page_token", "")]
        return [activity_row(row, self.account) for row in page[: int(query["page_size"])]]

    def _tell_other_activities(self, query: dict[str, str], now: datetime) -> Reply:
        self._activity_calls += 1
        if self._activity_calls - 1 in self.silent_activities:
            return _json({"message": "internal server error occurred"}, 500)
        return _json(self._list_other_activities(query, now))

    def _list_other_activities(self, query: dict[str, str], now: datetime) -> list[Any]:
        """Return a page of what is no trade.

        https://docs.alpaca.markets/reference/getaccountactivities-1 : category, after, page_size of at most 100, the id
        `page_token` after which a page begins; https://docs.alpaca.markets/docs/account-activities has the object.
        """
        assert query["category"] == "non_trade_activity"
        rows = [row for row in self.account.list_activities(now) if row.kind != "FILL"]
        rows = [row for row in rows if row.at.date().isoformat() > query["after"][:10]]
        page = [row for row in rows if row.activity_id > query.get("page_token", "")]
        told = [activity_row(row, self.account) for row in page[: min(100, int(query["page_size"]))]]
        told += self.odd_rows
        return [
            row | {"status": "canceled" if row.get("activity_type") in self.canceled else "executed"} for row in told
        ]


def _refused(refusal: Refusal, text: str) -> Reply:
    return _json({"code": refusal.number, "message": text}, refusal.status)


def _json(body: object, status: int = 200) -> Reply:
    return Reply(json.dumps(body).encode(), status)


def row_of(order: StrictOrder) -> Mapping[str, Any]:
    """Return an order as the documentation shows it.

    https://docs.alpaca.markets/reference/postorder
    """
    price = order.paid / order.filled if order.filled else None
    return {
        "id": order.order_id,
        "client_order_id": order.client_order_id,
        "symbol": order.symbol,
        "side": "buy" if order.quantity > 0 else "sell",
        "type": "market",
        "time_in_force": "day",
        "qty": f"{abs(order.quantity):g}" if float(order.quantity).is_integer() else repr(abs(order.quantity)),
        "filled_qty": repr(abs(order.filled)),
        "filled_avg_price": None if price is None else repr(price),
        "status": order.status,
        "submitted_at": order.at.isoformat(),
    }


def activity_row(activity: Activity, account: StrictAccount) -> dict[str, Any]:
    """Return an activity as the documentation shows it.

    https://docs.alpaca.markets/reference/getaccountactivitiesbyactivitytype-1
    """
    if activity.kind != "FILL":
        row = {"id": activity.activity_id, "activity_type": activity.kind, "date": activity.at.date().isoformat()}
        row |= {"activity_sub_type": activity.subtype} if activity.subtype else {}
        return row | {"symbol": activity.symbol, "qty": repr(activity.quantity), "net_amount": repr(activity.cash)}
    order = account.by_id[activity.order_id]
    return {
        "id": activity.activity_id,
        "activity_type": "FILL",
        "transaction_time": f"{activity.at:%Y-%m-%dT%H:%M:%S.%f}Z",
        "type": "partial_fill" if order.left else "fill",
        "price": repr(activity.price),
        "qty": repr(abs(activity.quantity)),
        "side": "buy" if activity.quantity > 0 else "sell",
        "symbol": activity.symbol,
        "order_id": activity.order_id,
        "order_status": order.status,
    }
