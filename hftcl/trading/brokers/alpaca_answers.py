"""Alpaca's answers, as JSON, in our words: orders, fills, moves of cash, what it says of an account.

Pure. What an answer must hold and does not raises BrokerError; an amount that cannot be true BrokerAnswerError.
"""

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from typing import Any, Final, cast

from hftcl.errors import BrokerAnswerError, BrokerError
from hftcl.ledger.account import DECIMALS
from hftcl.market.pairs import name_pair
from hftcl.trading.brokers import LARGEST_AMOUNT, CashMove, Fill, Flags, OrderState, Status
from hftcl.trading.brokers.alpaca_transport import to_one_line
from hftcl.trading.brokers.refusals import BY_CODE

# Ended without a fill of the rest, https://docs.alpaca.markets/docs/orders-at-alpaca
_CANCELED: Final = frozenset({"canceled", "expired", "replaced", "done_for_day"})
_RECKONED: Final = "calculated"
"""Done for the day or filled, and its settlement is still to be reckoned; the same page."""
_TRADES: Final = ("fill", "partial_fill", "")
"""Types of a fill's row that are trades; a later one may take it back (trade_bust) or correct it (trade_correct),
https://docs.alpaca.markets/us/v1.1/changelog/2026-11-06-partial-fill-214389c . Early rows have none."""
_MOVES_SHARES: Final = frozenset({"SPLIT", "SSP", "NC", "SC", "MA", "REORG", "REO"})
"""Activities whose `qty` is shares that came or went: a split, another name, a merger, an end. Of a dividend it is the
shares that it was paid for. https://docs.alpaca.markets/docs/activity-sse ; SSP and SC are former codes, by
https://docs.alpaca.markets/us/v1.1/changelog/2026-11-06-activity-types-b66d603"""
_BLOCKS: Final = {
    "trading_blocked": "Alpaca has blocked its trading (trading_blocked)",
    "account_blocked": "Alpaca has blocked it (account_blocked)",
    "trade_suspended_by_user": "its owner has suspended trading (trade_suspended_by_user)",
}
"""Flags of an account that may not trade. https://docs.alpaca.markets/reference/getaccount-1 ."""


def read_state(raw: Mapping[str, Any]) -> OrderState:
    """Return what an answer says of one order."""
    name, broker_id, status = read_text(raw, "client_order_id"), read_text(raw, "id"), read_text(raw, "status")
    filled = read_number(raw, "filled_qty", least=0.0) if raw.get("filled_qty") else 0.0
    state: Status = "partially_filled" if filled else "open"
    if status in _CANCELED:
        state = "canceled"
    elif status in ("filled", "rejected"):
        state = cast("Status", status)
    elif status == _RECKONED:
        state = "filled" if filled and filled == _read_amount(raw, "qty") else "canceled"
    return OrderState(
        client_order_id=name,
        status=state,
        # A page holds orders of other kinds too, and other people's, whose side may be empty; one of ours of the wrong
        # side is told as what cannot be true.
        filled=-filled if str(raw.get("side") or "").startswith("sell") else filled,
        broker_order_id=broker_id,
        reason="" if state in ("open", "partially_filled", "filled") else status,
        average_price=read_number(raw, "filled_avg_price", least=0.0) if raw.get("filled_avg_price") else None,
        ticker=str(raw.get("symbol") or ""),  # others' orders may be of kinds without one
    )


def read_fill(raw: Mapping[str, Any], client_order_id: str) -> Fill:
    """Return the fill that an activity tells of; `client_order_id`: the order whose it is. What is no number is NaN."""
    at = read_moment(raw, "transaction_time")
    side, shares = _read_side(raw), _read_amount(raw, "qty")
    return Fill(
        fill_id=read_text(raw, "id"),
        client_order_id=client_order_id,
        ticker=read_text(raw, "symbol"),
        # What cannot be true goes on as it is: the desk tells of it and books the others, which an error would not.
        quantity=round(side * (shares if shares > 0 else math.nan), DECIMALS),
        price=_read_amount(raw, "price"),
        commission=0.0,
        ts=at.replace(second=0, microsecond=0),
        at=at,
        kind="" if (kind := str(raw.get("type") or "")) in _TRADES else kind,
    )


def read_flags(raw: Mapping[str, Any]) -> Flags:
    """Return what keeps an account from trading as it might."""
    blocks = [said for name, said in _BLOCKS.items() if raw.get(name) is True]
    status = str(raw.get("status") or "ACTIVE")
    if status not in ("ACTIVE", "ACCOUNT_UPDATED"):
        blocks.append(f"its status is {status}")
    notes = [BY_CODE["shorting_disabled"].meaning] if raw.get("shorting_enabled") is False else []
    if raw.get("pattern_day_trader") is True:
        notes.append("it is marked as a pattern day trader (pattern_day_trader)")
    return Flags(blocks=tuple(blocks), notes=tuple(notes), shorting=raw.get("shorting_enabled") is not False)


def read_cash_move(raw: Mapping[str, Any]) -> CashMove:
    """Return the move of cash or shares that an activity tells of.

    An amount that is no number is NaN, one left out 0.0. One that was recorded and canceled moved nothing:
    https://docs.alpaca.markets/docs/account-activities , status.
    """
    day = read_text(raw, "date")
    is_void = raw.get("status") == "canceled"
    kind = read_text(raw, "activity_type")
    try:
        at = date.fromisoformat(day[:10])
    except ValueError:
        raise BrokerError(f"Alpaca answered {day[:40]!r}, which is not a day. Try again later.") from None
    return CashMove(
        activity_id=read_text(raw, "id"),
        kind=kind,
        day=at,
        ticker=str(raw.get("symbol") or ""),
        amount=0.0 if is_void or raw.get("net_amount") in (None, "") else _read_amount(raw, "net_amount"),
        shares=0.0 if is_void or kind not in _MOVES_SHARES or not raw.get("qty") else _read_amount(raw, "qty"),
        subtype=_quote(raw, "activity_sub_type"),
        group=_quote(raw, "group_id"),
    )


def read_cash_moves(rows: Iterable[Mapping[str, Any]]) -> tuple[CashMove, ...]:
    """Return what activities tell. One without id, kind or day moves NaN, which is told and explains nothing."""
    return tuple(_read_or_mark(raw) for raw in rows)


def _read_or_mark(raw: Mapping[str, Any]) -> CashMove:
    try:
        return read_cash_move(raw)
    except BrokerError:  # it keeps none of the others from being booked
        name, kind = _quote(raw, "id") or "without an id", _quote(raw, "activity_type") or "activity"
        ticker = str(raw.get("symbol") or "")
        return CashMove(activity_id=name, kind=kind, day=date.max, ticker=ticker, amount=math.nan, shares=math.nan)


def read_held(raw: Mapping[str, Any]) -> str:
    """Return the ticker of a position: a pair is BTCUSD there, and BTC/USD in orders and fills, as it is with us.

    https://github.com/alpacahq/alpaca-py/issues/179 and 490: the service alone could change it.
    """
    symbol = read_text(raw, "symbol")
    return name_pair(symbol) if raw.get("asset_class") == "crypto" else symbol


def read_rows(page: object) -> list[dict[str, Any]]:
    """Return the objects of a list."""
    if not isinstance(page, list) or not all(isinstance(row, dict) for row in page):
        raise BrokerError("Alpaca answered something else than a list. Check [alpaca] base_url.")
    return page


def read_text(raw: object, name: str) -> str:
    """Return the text of a field, which is not empty."""
    value = raw.get(name) if isinstance(raw, Mapping) else None
    if not isinstance(value, str) or not value:
        raise BrokerError(f"Alpaca answered without {name!r}. Check [alpaca] base_url.")
    return value


def _read_side(raw: Mapping[str, Any]) -> float:
    """Return 1.0 for a purchase, -1.0 for a sale, which has more than one word, NaN for neither.

    https://docs.alpaca.markets/docs/account-activities
    """
    side = read_text(raw, "side")
    return 1.0 if side.startswith("buy") else -1.0 if side.startswith("sell") else math.nan


def read_number(raw: object, name: str, *, least: float = -LARGEST_AMOUNT) -> float:
    """Return the number of a field, between `least` and the largest that can be true."""
    number = _read_amount(raw, name)
    if not least <= number <= LARGEST_AMOUNT:
        said = _quote(raw, name)
        whose = _quote(raw, "client_order_id") or _quote(raw, "symbol") or "the account"
        raise BrokerAnswerError(f"Alpaca answered {name!r} of {whose} with {said!r}, which cannot be true.", name)
    return number


def _read_amount(raw: object, name: str) -> float:
    """Return a number whatever it is, NaN where it is none."""
    try:
        return float(_quote(raw, name))
    except ValueError:
        return math.nan


def _quote(raw: object, name: str) -> str:
    """Return what is said of `name`, as one short line, "" for nothing."""
    value = raw.get(name) if isinstance(raw, Mapping) else None
    return "" if value is None else to_one_line(str(value), ())[:60]


def read_moment(raw: object, name: str) -> datetime:
    """Return the time of a field, UTC."""
    return read_time(read_text(raw, name))


def read_time(text: str) -> datetime:
    """Return a time in UTC; one without a zone is UTC."""
    try:
        at = datetime.fromisoformat(text)
        return at.replace(tzinfo=at.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):  # the first and the last hours there are have no time in UTC
        raise BrokerError(f"Alpaca answered {text[:40]!r}, which is not a time. Try again later.") from None
