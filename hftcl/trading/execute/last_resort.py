"""Closing what a broker holds of a book where not a word can be written in the ledger."""

import logging
from collections.abc import Collection, Container, Iterable
from datetime import date, datetime
from typing import Final

from hftcl.errors import BrokerError
from hftcl.ledger.rows import BookName
from hftcl.strategy.risk import Order
from hftcl.trading.brokers import Account, Broker, OrderState, Paced
from hftcl.trading.execute.dispatch import send
from hftcl.trading.execute.minute import FLATTEN
from hftcl.trading.execute.orders import build_client_order_id, is_ours
from hftcl.trading.execute.patience import PatientBroker

log = logging.getLogger(__name__)

_CALLS_TO_CANCEL: Final = 2
"""At Alpaca the order is asked for by our id, and canceled by theirs."""


def is_in_the_way(state: OrderState, closing: Container[str]) -> bool:
    """Whether an open order is canceled before `closing` is closed: ours always, others' of these tickers only."""
    return is_ours(state.client_order_id) or state.ticker in closing


def describe_orders(states: Iterable[OrderState]) -> str:
    """Return them by id and ticker, for a person."""
    return ", ".join(state.client_order_id + (f" ({state.ticker})" if state.ticker else "") for state in states)


def find_most_cancellations(broker: Broker, wanted: int, calls: int) -> int:
    """Return how many of `wanted` cancellations, of so many calls each, half of what is left of the minute carries."""
    return max(1, broker.room() // (2 * calls)) if isinstance(broker, Paced) else wanted


def cancel_together(broker: Broker, states: Collection[OrderState]) -> tuple[dict[str, str], list[OrderState]]:
    """Cancel `states` as far as half of the minute's calls reach: the other half is for orders that close.

    One by one, also where a broker takes them together: what was canceled before one fails, or before a kill, stays so.
    Returns of those that failed why, by id, and those that were not tried.
    """
    most = find_most_cancellations(broker, len(states), _CALLS_TO_CANCEL)
    failed: dict[str, str] = {}
    for state in list(states)[:most]:
        try:
            broker.cancel(state.client_order_id)
        except BrokerError as error:
            failed[state.client_order_id] = str(error)
    return failed, list(states)[most:]


def build_closing_orders(
    book: BookName, account: Account, tickers: Container[str], session: date, now: datetime
) -> list[Order]:
    """Return the orders that close what `account` holds of `tickers`; their ids follow from minute and ticker."""
    minute = now.replace(second=0, microsecond=0)
    return [
        Order(
            client_order_id=build_client_order_id(book, minute, ticker, FLATTEN),
            ticker=ticker,
            quantity=-shares,
            ts=minute,
            reference_price=account.marks.get(ticker) or 1.0,
            session=session,
        )
        for ticker, shares in sorted(account.positions.items())
        if ticker in tickers
    ]


def close_without_ledger(
    broker: Broker, book: BookName, own_tickers: Container[str], session: date, now: datetime
) -> None:
    """Send the orders that close what the broker holds of `own_tickers`; what is in their way is canceled first.

    Once the ledger can be written, the fills are taken over by their ids. What is not canceled is logged, for there is
    nowhere else to say it. Raises BrokerError.
    """
    _ask_again(broker)
    held = {ticker for ticker in broker.account().positions if ticker in own_tickers}
    states = broker.open_orders()
    in_the_way = [state for state in states if is_in_the_way(state, held)]
    failed, untried = cancel_together(broker, in_the_way)
    others = [state for state in states if state not in in_the_way]
    if others or failed or untried:
        log.warning(
            "left open others=%s not_canceled=%s not_tried=%s",
            describe_orders(others),
            "; ".join(failed.values()),
            describe_orders(untried),
        )
    _ask_again(broker)  # a cancellation without an answer keeps nothing from being closed
    # what filled while it was canceled is held now
    orders = build_closing_orders(book, broker.account(), own_tickers, session, now)
    for sent in send(broker, orders, frozenset(order.client_order_id for order in orders)):
        if sent.fault is not None:
            raise sent.fault


def _ask_again(broker: Broker) -> None:
    if isinstance(broker, PatientBroker):
        broker.begin_minute()
