"""Corporate actions on what is held, booked by the broker's own word: splits, other names, mergers, ends.

A broker tells them among its activities, as shares that go and shares that come. One is booked where it explains, to
the share, by what broker and ledger differ; what it does not explain is for a person.
"""

import json
import math
from collections.abc import Collection, Container, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final

from hftcl.errors import BrokerError
from hftcl.ledger.account import DECIMALS, SAME
from hftcl.ledger.meta import Fact
from hftcl.ledger.rows import ACTION, FillRecord, LedgerEvent
from hftcl.ledger.writer import Ledger
from hftcl.trading.brokers import Broker, TellsCash
from hftcl.trading.execute.cash import book_cash, find_first_day
from hftcl.trading.execute.corporate_plan import Change, CorporateStep, Leg, explain, plan

_KEPT_IDS: Final = 1000  # of activities that are booked, 60 KB: far more than a month has


@dataclass(frozen=True, slots=True)
class Action:
    """One that is booked. split: the ticker, "" where it was none, of which `held` shares became `after`. text: a
    sentence for a person, with what to do.
    """

    split: str
    text: str
    held: float = 0.0
    after: float = 0.0


def book_actions(
    broker: Broker,
    ledger: Ledger,
    at_broker: Mapping[str, float],
    hands_off: Container[str],
    now: datetime,
    *,
    begins: datetime | None = None,
) -> tuple[Action, ...]:
    """Book the corporate actions that explain by what ledger and broker differ, with their cash; return them.

    at_broker: shares by ticker. begins: of the session for which they count, where it is still to come; a broker may do
    a split on the evening before. A broker that tells of none has none booked. What is booked stays to be told, in
    `list_untold`, until `note_told`. Raises BrokerError, before anything is booked.
    """
    held, foreign = ledger.read_positions(), ledger.read_positions("foreign")
    differences = {
        ticker: round(at_broker.get(ticker, 0.0) - held.get(ticker, 0.0) - foreign.get(ticker, 0.0), DECIMALS)
        for ticker in sorted(at_broker.keys() | held.keys() | foreign.keys())
        if ticker not in hands_off
    }
    differences = {ticker: shares for ticker, shares in differences.items() if abs(shares) > SAME}
    if not differences or not isinstance(broker, TellsCash):
        return ()
    moves = broker.cash_moves(find_first_day(ledger, now)) or ()
    booked: list[str] = json.loads(ledger.open_meta().get(Fact.CORPORATE_ACTIONS) or "[]")
    new = [move for move in moves if move.activity_id not in booked]
    changes = [
        Change(ticker, held.get(ticker, 0.0), shares, found)
        for ticker, shares in differences.items()
        if ticker not in foreign and (found := explain(ticker, shares, new))  # else it moved others' shares too
    ]
    steps = plan(changes, new, ledger.read_account().average_price, ledger.read_last_closes())
    if not steps:
        return ()
    actions = tuple(_build_action(step) for step in steps)
    used = [move.activity_id for step in steps for change in step.changes for move in change.moves if move.shares]
    worth = {ticker: price for step in steps for ticker, price in (step.worth or {}).items()}
    ledger.write_outcomes(
        fills=[_build_fill(leg, now, max(now, begins or now)) for step in steps for leg in step.legs],
        meta={
            Fact.CORPORATE_ACTIONS: json.dumps([*booked, *used][-_KEPT_IDS:]),
            Fact.UNTOLD_ACTIONS: json.dumps([asdict(action) for action in (*list_untold(ledger), *actions)]),
            Fact.EXCHANGED_CLOSES: json.dumps(read_exchanged_closes(ledger) | worth),
        },
    )
    for step in steps:
        ledger.write_event(LedgerEvent(at=now, kind="split" if step.split else "corporate", text=step.text))
    try:
        book_cash(broker, ledger, now)
    except BrokerError as error:  # the shares are booked; the session's begin books the cash
        ledger.write_event(LedgerEvent(at=now, kind="broker", text=f"the cash of it is still to be booked: {error}"))
    return actions


def list_untold(ledger: Ledger) -> tuple[Action, ...]:
    """Return the actions that are booked and still to be told to a person."""
    return tuple(Action(**row) for row in json.loads(ledger.open_meta().get(Fact.UNTOLD_ACTIONS) or "[]"))


def note_told(ledger: Ledger) -> None:
    """Note that a person was told of every action that is booked."""
    ledger.set_meta(**{Fact.UNTOLD_ACTIONS: ""})


def read_exchanged_closes(ledger: Ledger) -> dict[str, float]:
    """Return by ticker what a share was worth at the last close of the shares that it came for, USD."""
    closes: dict[str, float] = json.loads(ledger.open_meta().get(Fact.EXCHANGED_CLOSES) or "{}")
    held = ledger.read_positions()
    return {ticker: close for ticker, close in closes.items() if ticker in held and math.isfinite(close)}


def _build_action(step: CorporateStep) -> Action:
    text = f"{step.text} {step.remedy}".rstrip()
    return Action(step.split, text, step.changes[0].held, step.changes[0].after)


def _build_fill(leg: Leg, now: datetime, at: datetime) -> FillRecord:
    return FillRecord(
        fill_id=leg.fill_id,
        client_order_id=ACTION,
        book="production",
        ts=at.replace(second=0, microsecond=0),
        ticker=leg.ticker,
        model_id=None,
        quantity=leg.quantity,
        price=leg.price,
        commission=0.0,
        reference_price=leg.price,
        filled_at=now,
    )


def describe_actions(actions: Collection[Action], awaited: Mapping[str, float]) -> str:
    """Say what was booked. awaited: new shares for an old one by ticker, as the source of the bars has its splits."""
    differing = [
        action.split
        for action in actions
        if action.split in awaited and abs(action.after - action.held * awaited[action.split]) >= 1.0
    ]  # a part of a share may be rounded up or down, or paid out
    parts = [
        f"The source of the bars says {awaited[ticker]:g} for 1 of {ticker}; what the broker holds is booked. One of "
        "both is wrong: where it is the source, yesterday's prices are too, and features that read them. Compare with "
        f"the company's notice, and leave {ticker} out of [market] watchlist until the source is right."
        for ticker in differing
    ]
    return " ".join([*(action.text for action in actions), *parts])
