"""The kill switch where the ledger is of no use: what the BROKER holds is closed, whatever fails on the way."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from hftcl.errors import BrokerError
from hftcl.market.bars import BAR_SCHEMA, MINUTE
from hftcl.market.hours import Hours
from hftcl.trading.brokers import Account, Broker, OrderState
from hftcl.trading.execute.dispatch import send
from hftcl.trading.execute.last_resort import (
    build_closing_orders,
    cancel_together,
    describe_orders,
    is_in_the_way,
)
from hftcl.trading.run.clock import Clock

WAIT_AT_BROKER: Final = timedelta(minutes=10)
"""How long is tried where no bot trades: 1,800 positions at 200 calls a minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseOutcome:
    """What became of the closing orders: how many the broker took, what it refused, and of which it said nothing.

    unsent: what is held and was not sent in time. uncanceled: why orders in the way are still open. problem: why the
    broker could not be asked at last. others: others' orders, which were left open; not for a person to mend.
    """

    orders: int = 0
    refused: tuple[str, ...] = ()
    unanswered: tuple[str, ...] = ()
    unsent: tuple[str, ...] = ()
    uncanceled: tuple[str, ...] = ()
    problem: str = ""
    others: str = ""

    @property
    def text(self) -> str:
        """Say what a person has to look at, "" for nothing."""
        parts = []
        if self.refused:
            parts.append(f"Refused: {'; '.join(self.refused)}.")
        if self.unanswered:
            parts.append(f"The broker did not answer to the orders of {', '.join(self.unanswered)}: look there.")
        if self.unsent:
            parts.append(f"Not sent in time: {', '.join(self.unsent)}.")
        if self.uncanceled:
            parts.append(f"Not canceled, and may still fill: {'; '.join(self.uncanceled)}.")
        if self.problem:
            parts.append(f"The broker could not be asked: {self.problem}")
        return "".join(f" {part}" for part in parts)


def describe_positions(positions: Mapping[str, float]) -> str:
    """Return them as shares and ticker, for a person."""
    return ", ".join(f"{shares:g} {ticker}" for ticker, shares in sorted(positions.items()))


def wait_for_account(broker: Broker, clock: Clock, hours: Hours | None) -> Account:
    """Return the account; asked for minute by minute while the market is open. Raises BrokerError in the end."""
    until = clock.now() + (WAIT_AT_BROKER if hours is not None else timedelta())
    while True:
        try:
            return broker.account()
        except BrokerError:
            if clock.now() >= until:
                raise
            clock.wait_until(_find_next_minute(clock.now()))


def _find_next_minute(now: datetime) -> datetime:
    return now.replace(second=0, microsecond=0) + MINUTE


@dataclass(slots=True, kw_only=True)
class BrokerClose:
    """Closes what the broker holds of `own_tickers`, round by round. Ids follow from minute and ticker.

    held: what the broker held of them when it was last asked. others: what it held besides.
    """

    broker: Broker
    own_tickers: Collection[str]
    held: dict[str, float] = field(default_factory=dict)
    others: dict[str, float] = field(default_factory=dict)
    _to_cancel: list[OrderState] | None = None
    _untouched: tuple[OrderState, ...] = ()
    _uncanceled: dict[str, str] = field(default_factory=dict)
    _sent: set[str] = field(default_factory=set)
    _refused: dict[str, str] = field(default_factory=dict)
    _unheard: dict[str, str] = field(default_factory=dict)

    def look(self) -> Account:
        """Ask what is held. Raises BrokerError."""
        account = self.broker.account()
        self.held = {ticker: shares for ticker, shares in account.positions.items() if ticker in self.own_tickers}
        self.others = {ticker: shares for ticker, shares in account.positions.items() if ticker not in self.held}
        return account

    def run(self, hours: Hours, clock: Clock) -> CloseOutcome:
        """Try until everything is sent, or ten minutes are over: a call that fails is made again in the next minute."""
        until = min(clock.now() + WAIT_AT_BROKER, hours.ends)
        while True:
            problem, now = "", clock.now()
            try:
                self._try(hours, now)
            except BrokerError as error:
                problem = str(error)
            if not (problem or self._left or self._to_cancel or self._unheard) or clock.now() >= until:
                return self._conclude(problem)
            # an order without an answer has arrived in the minute after the next, or never will
            clock.wait_until(_find_next_minute(now) + (MINUTE if self._unheard else timedelta()))

    @property
    def _left(self) -> list[str]:
        """What is held and has to be sent."""
        return sorted(self.held.keys() - self._sent - self._refused.keys())

    def _try(self, hours: Hours, now: datetime) -> None:
        """Cancel what is in the way, and send what closes the rest. Raises BrokerError."""
        self.broker.on_bars(BAR_SCHEMA.to_frame(), now)  # one at hand has no other clock
        account = self.look()
        if self._to_cancel is None:
            states = self.broker.open_orders()
            self._to_cancel = [state for state in states if is_in_the_way(state, self.held)]
            self._untouched = tuple(state for state in states if not is_in_the_way(state, self.held))
        untried: set[str] = set()
        if self._to_cancel:
            untried = self._cancel(self._to_cancel)
            account = self.look()  # what has filled meanwhile is held
        self._ask_for_unheard()
        # one that is not canceled yet may fill and be held then; one that cannot be canceled is not waited for
        ready = set(self._left) - self._unheard.keys() - untried
        orders = build_closing_orders("production", account, ready, hours.session, now)
        for one in send(self.broker, orders, frozenset(order.client_order_id for order in orders)):
            ticker = one.order.ticker
            if one.refused is not None:
                self._refused[ticker] = f"{ticker}: {one.refused.reason}"
            elif one.state is not None:
                self._sent.add(ticker)
            elif not one.unsent:
                self._unheard[ticker] = one.order.client_order_id

    def _cancel(self, states: list[OrderState]) -> set[str]:
        """Cancel what is left to cancel; return the tickers of what there was no call for."""
        failed, untried = cancel_together(self.broker, states)
        left = {state.client_order_id for state in untried} | failed.keys()
        for state in states:
            if state.client_order_id not in left:
                self._refused.pop(state.ticker, None)  # it may have been refused for the sake of this one
        # those that failed come last, so that one that always fails keeps no other waiting
        self._to_cancel = untried + [state for state in states if state.client_order_id in failed]
        self._uncanceled = {name: why for name, why in (self._uncanceled | failed).items() if name in left}
        return {state.ticker for state in untried if state.client_order_id not in self._uncanceled}

    def _ask_for_unheard(self) -> None:
        """Ask for the orders without an answer: one that arrived counts, one that did not is sent again.

        One of which the broker still says nothing waits, for to send another might sell twice.
        """
        for ticker, name in list(self._unheard.items()):
            try:
                has_arrived = self.broker.find(name) is not None
            except BrokerError:
                continue  # told at the end, if it stays so
            if has_arrived:
                self._sent.add(ticker)
            del self._unheard[ticker]

    def _conclude(self, problem: str) -> CloseOutcome:
        untried = [state for state in self._to_cancel or () if state.client_order_id not in self._uncanceled]
        return CloseOutcome(
            orders=len(self._sent),
            refused=tuple(self._refused.values()),
            unanswered=tuple(sorted(self._unheard)),
            unsent=tuple(ticker for ticker in self._left if ticker not in self._unheard),
            uncanceled=(
                *(f"{name} ({why})" for name, why in self._uncanceled.items()),
                *([describe_orders(untried)] if untried else []),
            ),
            problem=problem,
            others=describe_orders(self._untouched),
        )
