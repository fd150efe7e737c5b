"""What moves an account's cash beside fills: fetched from the broker, booked in the ledger, and compared."""

import math
from datetime import date, datetime, timedelta
from typing import Final

from hftcl.errors import BrokerAnswerError
from hftcl.ledger.meta import Fact
from hftcl.ledger.rows import CashRow
from hftcl.ledger.writer import Ledger
from hftcl.trading.brokers import LARGEST_AMOUNT, TellsCash

_TOLD_LATE: Final = timedelta(days=30)  # interest and borrow are of a month; what is told again is booked once
_SAME_USD: Final = 1.0  # a broker rounds each fill to a cent, up or down: thousands add up to less


def find_first_day(ledger: Ledger, now: datetime) -> date:
    """Return the day from which on a broker is asked for activities: a bot may have stood still for months."""
    return date.fromisoformat(ledger.open_meta().get(Fact.CASH_UNTIL) or now.date().isoformat()) - _TOLD_LATE


def book_cash(broker: TellsCash, ledger: Ledger, now: datetime) -> bool:
    """Book what the broker tells; return whether it tells of cash at all.

    Raises BrokerError, BrokerAnswerError for amounts that cannot be true, once the others are booked.
    """
    today = now.date().isoformat()
    began = date.fromisoformat(ledger.open_meta().get(Fact.CASH_FROM) or today)
    moves = broker.cash_moves(max(began, find_first_day(ledger, now)))
    if moves is None:
        return False
    rows = [
        CashRow(
            activity_id=move.activity_id,
            session=move.day,
            kind=move.kind,
            ticker=move.ticker,
            amount=move.amount,
            booked_at=now,
        )
        for move in moves
        if move.day >= began and abs(move.amount) <= LARGEST_AMOUNT  # which NaN is not
    ]
    ledger.write_outcomes(cash=rows, meta={Fact.CASH_FROM: began.isoformat(), Fact.CASH_UNTIL: today})
    strange = [f"{move.kind} {move.activity_id}" for move in moves if not abs(move.amount) <= LARGEST_AMOUNT]
    if strange:
        raise BrokerAnswerError(
            f"The broker tells cash that cannot be true and is not booked: {', '.join(strange)}.", strange[0]
        )
    return True


def compare_cash(at_broker: float, capital: float, ledger: Ledger) -> str:
    """Return what to tell where the broker's cash has moved otherwise than the ledger's since it was compared last.

    at_broker, capital: USD. "" for nothing to tell. The new difference is kept.
    """
    stored_gap = ledger.open_meta().number(Fact.CASH_GAP)
    moved = math.fsum(row.amount for row in ledger.list_cash())
    paid = ledger.read_account("production").paid + ledger.read_account("foreign").paid
    gap = at_broker - (capital - paid + moved)
    if stored_gap is not None and abs(gap - stored_gap) <= _SAME_USD:
        return ""
    ledger.set_meta(**{Fact.CASH_GAP: repr(gap)})
    if stored_gap is None:
        return ""
    return (
        f"The cash at the broker has moved by {gap - stored_gap:+,.2f} USD more than fills, fees, dividends, "
        "interest and transfers explain. Compare with the account's activities in its dashboard."
    )
