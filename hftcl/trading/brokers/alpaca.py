"""The broker `alpaca`: market orders for the day through alpaca-py's REST client. Needs the extra `hftcl[alpaca]`.

Of that library only the client of the trading API is used; its streams go silent while they stay open. Each request
ends within [alpaca] timeout_s, however slowly the answer trickles, and is sent once: who may ask again is the bot's
to decide, which knows the order's id.
"""

import math
import os
import time
import warnings
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import requests

from hftcl.config import read_secret
from hftcl.errors import (
    BrokerAnswerError,
    BrokerBusyError,
    BrokerError,
    BrokerTimeoutError,
    ConfigError,
    OrderRefusedError,
)
from hftcl.settings import Settings
from hftcl.trading.brokers import Account, CashMove, Fill, Order, OrderState, Traits
from hftcl.trading.brokers.alpaca_answers import (
    read_cash_moves,
    read_fill,
    read_flags,
    read_held,
    read_moment,
    read_number,
    read_rows,
    read_state,
    read_text,
    read_time,
)
from hftcl.trading.brokers.alpaca_transport import Pace, open_bounded_session, to_one_line
from hftcl.trading.brokers.refusals import classify

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # its streams, which we never open, use an old websockets
    from alpaca.common.exceptions import APIError
    from alpaca.trading.client import TradingClient
    from alpaca.trading.enums import OrderSide, QueryOrderStatus, TimeInForce
    from alpaca.trading.requests import GetOrdersRequest, MarketOrderRequest

if TYPE_CHECKING:
    import polars as pl

# Alpaca's own names, which its tools read too: https://github.com/alpacahq/alpaca-trade-api-python
KEY_VARIABLE: Final = "APCA_API_KEY_ID"
SECRET_VARIABLE: Final = "APCA_API_SECRET_KEY"  # noqa: S105
# https://docs.alpaca.markets/docs/paper-trading: any other address is taken for real money.
PAPER_URL: Final = "https://paper-api.alpaca.markets"

_PAGE: Final = 100  # the most of account activities, https://docs.alpaca.markets/reference/getaccountactivities-1
# 200,000 fills, far more than a week has: a service that repeats its last page is not asked for ever.
_MOST_PAGES: Final = 2000
_ORDERS_PAGE: Final = 500  # the most in one answer, https://alpaca.markets/learn-api/get-all-orders
# Orders are for the day: a week of holidays and all covers whatever ours could still be unbooked.
_FIRST_LOOK: Final = timedelta(days=7)
_OVERLAP: Final = timedelta(minutes=10)  # a fill may be told later than one that traded after it
_KNOWN_IDS: Final = 200_000  # chosen: a month of a full watchlist in 50 MB; a forgotten one costs a call
_ASKED_SINGLY: Final = 3  # unknown orders of one look that are asked for one by one; more come as a list
_PARALLEL: Final = 8  # requests' pool keeps ten connections


def connect(settings: Settings, *, folder: Path, durable: bool = True) -> "AlpacaBroker":
    """Return the broker with the keys of the environment or the .env file; nothing is sent yet.

    It keeps no files. Raises ConfigError where a key is missing.
    """
    keys = {name: read_secret(name, settings, os.environ) for name in (KEY_VARIABLE, SECRET_VARIABLE)}
    missing = [name for name, value in keys.items() if not value]
    if missing:
        raise ConfigError(
            f'[trade] broker = "alpaca" needs {" and ".join(missing)}. Set it in the environment or the .env file, or '
            'choose broker = "paper".'
        )
    return AlpacaBroker(settings, key=keys[KEY_VARIABLE] or "", secret_key=keys[SECRET_VARIABLE] or "")


class AlpacaBroker:
    """An account at Alpaca, or at its paper service, which is the default."""

    name = "alpaca"
    extended_hours = False  # there it takes limit orders only, and a market order would wait for the next open
    turns = False  # "insufficient qty available": more than is held is not sold, nor bought back, in one order

    def __init__(
        self, settings: Settings, *, key: str, secret_key: str, clock: Callable[[], float] = time.time
    ) -> None:
        """Prepare; nothing is sent yet. clock: Unix seconds, for the first look at past fills."""
        options = settings.alpaca
        base_url = options.base_url.rstrip("/").removesuffix("/v2")
        self.live_money = base_url != PAPER_URL
        self.shorting = options.shorting
        self._timeout_s = options.timeout_s
        self._secrets = (key, secret_key)
        self._clock = clock
        self._ids: dict[str, str] = {}
        self._pace = Pace(options.calls_per_minute, clock)
        self.traits = Traits(
            remote=True, calls_per_minute=options.calls_per_minute, parallel=_PARALLEL, fractional_shorts=False
        )
        self._client = TradingClient(key, secret_key, paper=not self.live_money, raw_data=True, url_override=base_url)
        self._client._session = open_bounded_session(options.timeout_s, self._pace.note)
        self._client._retry = 0  # it would sleep for 9 s in the middle of a minute

    def submit(self, order: Order) -> OrderState:
        """Hand `order` over; see `Broker.submit`. 422 is asked after: Alpaca answers it to an id that it knows."""
        name = order.client_order_id
        if not (math.isfinite(order.quantity) and order.quantity):
            raise OrderRefusedError(name, f"{order.quantity} shares are no order")
        request = MarketOrderRequest(
            symbol=order.ticker,
            qty=abs(order.quantity),
            side=OrderSide.BUY if order.quantity > 0 else OrderSide.SELL,
            time_in_force=TimeInForce.DAY,
            client_order_id=name,
        )
        try:
            answer = self._send(lambda: self._client.submit_order(request))
        except APIError as error:
            return self._resolve_not_taken(name, error)
        except (requests.RequestException, ValueError) as error:
            raise BrokerTimeoutError(
                f"Alpaca did not answer within {self._timeout_s:g} s whether it took the order {name} "
                f"({type(error).__name__}). It is asked for by this id before anything else is sent."
            ) from error
        return self._read_state(answer)

    def room(self) -> int:
        """Return how many calls may be made in this minute."""
        return self._pace.room()

    def learn(self, ids: Mapping[str, str]) -> None:
        """Take the ids of orders that need not be asked for: Alpaca's, and ours that belong to them."""
        for broker_order_id, client_order_id in ids.items():
            self._note_id(broker_order_id, client_order_id)

    def time(self) -> datetime:
        """Return the time at Alpaca, UTC.

        https://docs.alpaca.markets/reference/getclock-1
        """
        return read_moment(self._ask("the time", lambda: self._client.get("/clock")), "timestamp")

    def find(self, client_order_id: str) -> OrderState | None:
        """Return what became of an order."""
        raw = self._find(client_order_id)
        return None if raw is None else self._read_state(raw)

    def open_orders(self) -> tuple[OrderState, ...]:
        """Return every order of the account that may still fill, oldest first."""
        orders: dict[str, OrderState] = {}
        after: datetime | None = None
        for _ in range(_MOST_PAGES):
            request = GetOrdersRequest(
                status=QueryOrderStatus.OPEN, limit=_ORDERS_PAGE, direction="asc", after=after, nested=False
            )
            page = self._ask("the open orders", lambda request=request: self._client.get_orders(request))  # type: ignore[misc]
            states = [self._read_state(raw) for raw in read_rows(page)]
            fresh = [state for state in states if state.client_order_id not in orders]
            orders |= {state.client_order_id: state for state in fresh}
            if len(states) < _ORDERS_PAGE or not fresh:
                return tuple(state for state in orders.values() if state.working)
            after = read_moment(page[-1], "submitted_at") - timedelta(
                milliseconds=1
            )  # of one moment there may be several
        raise BrokerError("Alpaca tells of open orders without end. Look at the account in its dashboard.")

    def cancel(self, client_order_id: str) -> None:
        """Ask for the cancellation of the rest of an order; it may still fill."""
        raw = self._find(client_order_id)
        if raw is None or not self._read_state(raw).working:
            return
        try:
            self._ask("a cancellation", lambda: self._client.cancel_order_by_id(read_text(raw, "id")), passing=True)
        except APIError as error:
            if error.status_code not in (404, 422):  # it is done, which is as good
                raise self._build_refusal("a cancellation", error) from error

    def fills(self, since: str | None) -> tuple[tuple[Fill, ...], str]:
        """Return the fills since the cursor, and those of ten minutes before it again; at first those of seven days."""
        start = (
            datetime.fromtimestamp(self._clock(), UTC) - _FIRST_LOOK if since is None else read_time(since) - _OVERLAP
        )
        newest = start if since is None else read_time(since)
        rows: list[dict[str, Any]] = []
        token: str | None = None
        for _ in range(_MOST_PAGES):
            query = {"after": start.strftime("%Y-%m-%dT%H:%M:%SZ"), "direction": "asc", "page_size": str(_PAGE)}
            if token:
                query["page_token"] = token
            page = read_rows(
                self._ask("the fills", lambda query=query: self._client.get("/account/activities/FILL", query))  # type: ignore[misc]
            )
            rows += page
            newest = max([newest, *(read_moment(raw, "transaction_time") for raw in page)])
            if len(page) < _PAGE or token == page[-1]["id"]:
                self._learn_orders(rows, start)
                return tuple(self._read_fill(raw) for raw in rows), newest.isoformat()
            token = read_text(page[-1], "id")
        raise BrokerError("Alpaca tells of fills without end. Look at the account in its dashboard.")

    def cash_moves(self, since: date) -> tuple[CashMove, ...]:
        """Return what moved the cash beside fills from `since` on: fees, borrow, dividends, interest, transfers.

        The object is https://docs.alpaca.markets/docs/account-activities , the call and its pages
        https://docs.alpaca.markets/reference/getaccountactivities-1 : a page begins after the id `page_token`.
        """
        rows: dict[str, dict[str, Any]] = {}
        token: str | None = None
        for _ in range(_MOST_PAGES):
            query = {
                "category": "non_trade_activity",
                "after": (since - timedelta(days=1)).isoformat(),
                "direction": "asc",
                "page_size": str(_PAGE),
            }
            if token:
                query["page_token"] = token
            page = read_rows(
                self._ask("the activities", lambda query=query: self._client.get("/account/activities", query))  # type: ignore[misc]
            )
            before = len(rows)
            # a row without an id is told, and none of it is booked
            rows |= {str(raw.get("id") or f"row {before + number}"): raw for number, raw in enumerate(page)}
            if len(page) < _PAGE or len(rows) == before:
                return read_cash_moves(raw for raw in rows.values() if raw.get("activity_type") != "FILL")
            token = read_text(page[-1], "id")
        raise BrokerError("Alpaca tells of activities without end. Look at the account in its dashboard.")

    def account(self) -> Account:
        """Return the account as Alpaca values it."""
        raw = self._ask("the account", self._client.get_account)
        positions, marks = {}, {}
        for row in read_rows(self._ask("the positions", self._client.get_all_positions)):
            shares, ticker, is_short = read_number(row, "qty"), read_held(row), row.get("side") == "short"
            if shares < 0 and row.get("side") == "long":
                raise BrokerAnswerError(
                    f"Alpaca holds {shares:g} shares of {ticker} long, which cannot be true.", "qty"
                )
            positions[ticker] = -abs(shares) if is_short else shares
            price = "current_price" if row.get("current_price") else "avg_entry_price"
            marks[ticker] = read_number(row, price, least=0.0)
        return Account(
            cash=read_number(raw, "cash"),
            equity=read_number(raw, "equity"),
            buying_power=read_number(raw, "buying_power"),
            positions={ticker: shares for ticker, shares in sorted(positions.items()) if shares},
            marks=marks,
            account_id=str(raw.get("account_number") or raw.get("id") or ""),
            flags=read_flags(raw),
        )

    def on_bars(self, bars: "pl.DataFrame", now: datetime) -> None:
        """Nothing: Alpaca has the market's own."""

    def end_of_session(self, session: date) -> None:
        """Nothing: each order is for the day, and Alpaca lets it expire at the close."""

    def close(self) -> None:
        """Let go of the connections."""
        self._client._session.close()

    def _send(self, request: Callable[[], Any]) -> dict[str, Any]:
        answer = request()
        if not isinstance(answer, dict):
            raise ValueError("not a JSON object")  # noqa: TRY004  handled as JSON that cannot be read is
        return answer

    def _resolve_not_taken(self, name: str, error: APIError) -> OrderState:
        status = error.status_code or 0
        if status >= 500 or status == 408:  # which a proxy answers too, to a request that has got through
            raise BrokerTimeoutError(
                f"Alpaca answered {status} to the order {name}, which may have arrived. It is asked for by this id."
            ) from error
        if status in (401, 429):
            raise self._build_refusal("an order", error) from error
        raw = self._find(name) if status == 422 else None
        if raw is None:
            said = self._quote_error(error)
            raise OrderRefusedError(name, f"{status} {said}".strip(), classify(status, said).code) from error
        return self._read_state(raw)

    def _learn_orders(self, rows: list[dict[str, Any]], since: datetime) -> None:
        """Learn whose fills these are; where many are unknown by lists of orders, not one call for each."""
        unknown = {str(raw["order_id"]) for raw in rows if raw.get("order_id")} - self._ids.keys()
        if len(unknown) <= _ASKED_SINGLY:
            return
        after: datetime | None = since - timedelta(days=1)  # an order fills on the day on which it was sent
        for _ in range(_MOST_PAGES):
            request = GetOrdersRequest(
                status=QueryOrderStatus.ALL, limit=_ORDERS_PAGE, direction="asc", after=after, nested=False
            )
            page = read_rows(self._ask("the orders", lambda request=request: self._client.get_orders(request)))  # type: ignore[misc]
            before = len(self._ids)
            self.learn({read_text(raw, "id"): read_text(raw, "client_order_id") for raw in page})
            if len(page) < _ORDERS_PAGE or len(self._ids) == before or unknown <= self._ids.keys():
                return
            after = read_moment(page[-1], "submitted_at") - timedelta(milliseconds=1)

    def _find(self, client_order_id: str) -> dict[str, Any] | None:
        try:
            raw = self._ask(
                f"the order {client_order_id}",
                lambda: self._client.get_order_by_client_id(client_order_id),
                passing=True,
            )
        except APIError as error:
            if error.status_code == 404:
                return None
            raise self._build_refusal(f"the order {client_order_id}", error) from error
        if not isinstance(raw, dict):
            raise BrokerError(f"Alpaca answered something else than the order {client_order_id}. Try again later.")
        return raw

    def _ask(self, what: str, request: Callable[[], Any], *, passing: bool = False) -> Any:
        """Return the answer. Raises BrokerError; with `passing`, what Alpaca refused as its APIError."""
        try:
            return request()
        except APIError as error:
            if passing:
                raise
            raise self._build_refusal(what, error) from error
        except (requests.RequestException, ValueError) as error:
            said = to_one_line(str(error), self._secrets)[:100]
            raise BrokerError(
                f"Alpaca did not tell {what} within {self._timeout_s:g} s ({type(error).__name__}: {said}). "
                "Check the network and [alpaca] base_url."
            ) from error

    def _build_refusal(self, what: str, error: APIError) -> BrokerError:
        if error.status_code == 429:
            return BrokerBusyError(
                f"Alpaca takes no more calls this minute (429 {self._quote_error(error)}), and did not take {what}. "
                f"[alpaca] calls_per_minute is {self.traits.calls_per_minute}: set it to what the plan allows.",
                self._pace.find_end(),
            )
        if error.status_code in (401, 403):
            return BrokerError(
                f"Alpaca refused the keys in {KEY_VARIABLE} and {SECRET_VARIABLE} for {what} ({error.status_code}). "
                "The paper service and the live one have keys of their own: see [alpaca] base_url."
            )
        return BrokerError(
            f"Alpaca answered {error.status_code} to {what}: {self._quote_error(error)}. Try again later."
        )

    def _quote_error(self, error: APIError) -> str:
        try:
            text = str(error.message)
        except (ValueError, KeyError, TypeError):  # not the JSON that it should be
            text = str(error)
        return to_one_line(text, self._secrets).rstrip(".")

    def _read_state(self, raw: Mapping[str, Any]) -> OrderState:
        name, broker_id = read_text(raw, "client_order_id"), read_text(raw, "id")
        self._note_id(broker_id, name)
        return read_state(raw)

    def _read_fill(self, raw: Mapping[str, Any]) -> Fill:
        return read_fill(raw, self._find_client_id(raw))

    def _find_client_id(self, fill: Mapping[str, Any]) -> str:
        """Return our id of a fill's order; Alpaca's, which is none of ours, where there is no such order."""
        broker_order_id = str(fill.get("order_id") or "")
        if not broker_order_id:
            return read_text(fill, "id")
        if broker_order_id not in self._ids:
            what = "the order of a fill"
            try:
                raw = self._ask(what, lambda: self._client.get_order_by_id(broker_order_id), passing=True)
            except APIError as error:
                if error.status_code != 404:
                    raise self._build_refusal(what, error) from error
                return broker_order_id
            self._note_id(broker_order_id, read_text(raw, "client_order_id"))
        return self._ids[broker_order_id]

    def _note_id(self, broker_order_id: str, client_order_id: str) -> None:
        if len(self._ids) >= _KNOWN_IDS:  # the oldest; asked for again if its fill comes yet
            del self._ids[next(iter(self._ids))]
        self._ids[broker_order_id] = client_order_id
