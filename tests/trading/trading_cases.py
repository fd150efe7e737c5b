"""Orders, fills, bars and minutes for the tests of ledger, brokers and reconciliation."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl

from hftcl.ledger.rows import Decision, FillRecord, OrderRecord
from hftcl.market.bars import BAR_SCHEMA
from hftcl.settings import Settings
from hftcl.trading.brokers import Order
from hftcl.trading.execute.orders import build_client_order_id

SESSION = date(2025, 6, 2)
OPEN = datetime(2025, 6, 2, 13, 30, tzinfo=UTC)
NOW = OPEN + timedelta(hours=8)
MINUTE = timedelta(minutes=1)
TICKERS = ("AAPL", "AMD", "TSLA")


def at(minute: int) -> datetime:
    return OPEN + minute * MINUTE


def an_order(minute: int = 0, ticker: str = "AAPL", quantity: float = 10.0, **changes: Any) -> Order:
    ts = at(minute)
    order = Order(
        client_order_id=build_client_order_id("production", ts, ticker),
        ticker=ticker,
        quantity=quantity,
        ts=ts,
        reference_price=100.0,
        session=SESSION,
    )
    return replace(order, **changes)


def a_record(minute: int = 0, ticker: str = "AAPL", quantity: float = 10.0, **changes: Any) -> OrderRecord:
    record = OrderRecord(
        client_order_id=build_client_order_id("production", at(minute), ticker),
        book="production",
        ts=at(minute),
        session=SESSION,
        ticker=ticker,
        model_id="m1",
        quantity=quantity,
        reference_price=100.0,
        state="intended",
        created_at=at(minute) + MINUTE,
        updated_at=at(minute) + MINUTE,
    )
    return replace(record, **changes)


def sent(record: OrderRecord) -> Order:
    """Return the order that the bot hands to the broker for this row."""
    return Order(
        client_order_id=record.client_order_id,
        ticker=record.ticker,
        quantity=record.quantity,
        ts=record.ts,
        reference_price=record.reference_price,
        session=record.session,
    )


def a_fill(
    number: int = 1, minute: int = 1, quantity: float = 10.0, price: float = 101.0, **changes: Any
) -> FillRecord:
    order = a_record(minute - 1)
    fill = FillRecord(
        fill_id=f"{order.client_order_id}-{number}",
        client_order_id=order.client_order_id,
        book="production",
        ts=at(minute),
        ticker="AAPL",
        model_id="m1",
        quantity=quantity,
        price=price,
        commission=0.5,
        reference_price=100.0,
        filled_at=at(minute) + MINUTE,
    )
    return replace(fill, **changes)


def a_decision(minute: int = 0, ticker: str = "AAPL", **changes: Any) -> Decision:
    decision = Decision(
        book="production",
        ts=at(minute),
        ticker=ticker,
        model_id="m1",
        features_hash="f" * 64,
        prediction=0.25,
        target=0.05,
        code="trade",
        decided_at=at(minute) + MINUTE,
    )
    return replace(decision, **changes)


def bars(*rows: tuple[int, str, float], volume: float = 1e9, close: float | None = None, days: int = 0) -> pl.DataFrame:
    """Return bars of (minute, ticker, open); they close at `close`, else where they opened. days: sessions later."""
    return pl.DataFrame(
        [
            {
                "ticker": ticker,
                "ts": at(minute) + timedelta(days=days),
                "session": SESSION + timedelta(days=days),
                "minute": minute,
                "session_minutes": 390,
                "regular": True,
                "open": price,
                "high": max(price, close or price),
                "low": min(price, close or price),
                "close": close or price,
                "volume": volume,
            }
            for minute, ticker, price in rows
        ],
        schema=BAR_SCHEMA,
    )


def with_paper(**changes: Any) -> Settings:
    settings = Settings()
    return replace(settings, paper=replace(settings.paper, **changes))
