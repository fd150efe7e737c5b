"""Waiting for what may hang while the bot looks around: calls run in threads, and the caller hears of everything else.

Of the system it touches threads and a clock that only goes forward. What is not waited for any longer is left to end by
itself; its answer is dropped.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from hftcl.errors import BrokerError, BrokerTimeoutError, HftclError, WaitEndedError
from hftcl.trading.brokers import (
    Account,
    Broker,
    CashMove,
    Fill,
    KnowsIds,
    Order,
    OrderState,
    Paced,
    TellsCash,
    Traits,
    read_traits,
)

if TYPE_CHECKING:
    import polars as pl

_T = TypeVar("_T")
_GLANCE_S: Final = 0.2
"""Between two looks around: a kill switch is to be heard within two seconds."""
SUBMIT_S: Final = 4.0
"""Most time for an order's answer: with the look around it, a broker that hangs holds the bot for less than 5 s."""

Look = Callable[[], bool]
"""Looks around, and says whether not to wait any longer."""


@dataclass(slots=True)
class _Job(Generic[_T]):
    call: Callable[[], _T]
    began: float = 0.0
    thread: threading.Thread | None = None
    done: bool = False
    result: _T | None = None
    error: BaseException | None = None


def wait_for_all(
    calls: Sequence[Callable[[], _T]],
    look: Look,
    *,
    parallel: int = 1,
    at_most_s: float | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> list[_T | HftclError]:
    """Make every call, at most `parallel` side by side, and return what each gave, or the HftclError that it raised.

    A call that takes longer than `at_most_s` is a BrokerTimeoutError, and so is not waited for; one that was cut short
    because `look` said so a WaitEndedError. Any other exception is raised.
    """
    jobs = [_Job(call) for call in calls]
    waiting, changed = list(jobs), threading.Condition()

    def work(job: _Job[_T]) -> None:
        try:
            job.result = job.call()
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            job.error = error
        with changed:
            job.done = True
            changed.notify()

    ended = False
    while not ended and not all(job.done for job in jobs):
        running = [job for job in jobs if job.thread is not None and not job.done]
        while waiting and len(running) < parallel:
            job = waiting.pop(0)
            job.began = clock()
            job.thread = threading.Thread(target=work, args=(job,), daemon=True)
            job.thread.start()
            running.append(job)
        with changed:
            if not any(job.done for job in running):
                changed.wait(_GLANCE_S)
        for job in running:
            if not job.done and at_most_s is not None and clock() - job.began > at_most_s:
                job.error = BrokerTimeoutError(f"There was no answer within {at_most_s:g} s.")
                job.done = True
        ended = look()
    return [_take_outcome(job) for job in jobs]


def _take_outcome(job: "_Job[Any]") -> Any:
    if not job.done and job.error is None:
        return WaitEndedError("It was not waited for any longer.")
    if job.error is not None and not isinstance(job.error, HftclError):
        raise job.error
    return job.result if job.error is None else job.error


def wait_for(call: Callable[[], _T], look: Look, *, at_most_s: float | None = None) -> _T:
    """Return what one call gives; see `wait_for_all`. Raises what it raised, BrokerTimeoutError, WaitEndedError."""
    (outcome,) = wait_for_all([call], look, at_most_s=at_most_s)
    if isinstance(outcome, HftclError):
        raise outcome
    return outcome


@dataclass(slots=True)
class PatientBroker:
    """A remote broker whose calls are waited for while the bot looks around.

    silent: whether a call of this minute got no answer; then nothing but orders is asked until the next one.
    """

    broker: Broker
    look: Look
    ask_s: float
    """Most time for a question's answer."""
    submit_s: float = SUBMIT_S
    silent: bool = False
    name: str = field(init=False)
    live_money: bool = field(init=False)
    shorting: bool = field(init=False)
    turns: bool = field(init=False)
    extended_hours: bool = field(init=False)
    traits: Traits = field(init=False)

    def __post_init__(self) -> None:
        self.name, self.live_money = self.broker.name, self.broker.live_money
        self.shorting, self.turns = self.broker.shorting, self.broker.turns
        self.extended_hours, self.traits = self.broker.extended_hours, read_traits(self.broker)

    def begin_minute(self) -> None:
        """Let the broker be asked again."""
        self.silent = False

    def room(self) -> int:
        """Return how many calls may be made now."""
        return self.broker.room() if isinstance(self.broker, Paced) else 1_000_000

    def learn(self, ids: Mapping[str, str]) -> None:
        """Pass on what the ledger knows of ids."""
        if isinstance(self.broker, KnowsIds):
            self.broker.learn(ids)

    def submit(self, order: Order) -> OrderState:
        """Hand one order over; see `Broker.submit`."""
        return _raise_or_return(self.submit_all([order])[0])

    def submit_all(self, orders: Sequence[Order]) -> list[OrderState | HftclError]:
        """Hand orders over side by side; return for each what the broker said, or the error."""
        outcomes = wait_for_all(
            [lambda order=order: self.broker.submit(order) for order in orders],  # type: ignore[misc]
            self.look,
            parallel=self.traits.parallel,
            at_most_s=self.submit_s,
        )
        self.silent = self.silent or any(isinstance(outcome, BrokerTimeoutError) for outcome in outcomes)
        return outcomes

    def find(self, client_order_id: str) -> OrderState | None:
        """Return what became of an order."""
        return self._ask(lambda: self.broker.find(client_order_id))

    def open_orders(self) -> tuple[OrderState, ...]:
        """Return every order of the account that may still fill."""
        return self._ask(self.broker.open_orders)

    def cancel(self, client_order_id: str) -> None:
        """Ask that the rest of an order be canceled."""
        self._ask(lambda: self.broker.cancel(client_order_id))

    def fills(self, since: str | None) -> tuple[tuple[Fill, ...], str]:
        """Return the fills after the cursor."""
        return self._ask(lambda: self.broker.fills(since))

    def account(self) -> Account:
        """Return the account."""
        return self._ask(self.broker.account)

    def time(self) -> datetime | None:
        """Return the time there, None where the broker does not tell it.

        It is asked behind a minute's orders, and at night, when no minute begins: also where it was silent before.
        """
        self.begin_minute()
        ask: Any = getattr(self.broker, "time", None)
        return None if ask is None else self._ask(ask)

    def cash_moves(self, since: date) -> tuple[CashMove, ...] | None:
        """Return what moved the cash beside fills, None where the broker does not tell it."""
        broker = self.broker
        return self._ask(lambda: broker.cash_moves(since)) if isinstance(broker, TellsCash) else None

    def on_bars(self, bars: "pl.DataFrame", now: datetime) -> None:
        """Pass the bars on."""
        self.broker.on_bars(bars, now)

    def end_of_session(self, session: date) -> None:
        """Pass the end of the session on."""
        self._ask(lambda: self.broker.end_of_session(session))

    def close(self) -> None:
        """Let go of the connections."""
        self.broker.close()

    def _ask(self, call: Callable[[], _T]) -> _T:
        if self.silent:
            raise BrokerError(f"The broker {self.name} did not answer earlier in this minute, and is not asked again.")
        try:
            return wait_for(call, self.look, at_most_s=self.ask_s)
        except WaitEndedError:
            raise
        except BrokerTimeoutError as error:
            self.silent = True
            raise BrokerError(f"The broker {self.name} did not answer within {self.ask_s:g} s.") from error


def _raise_or_return(outcome: OrderState | HftclError) -> OrderState:
    if isinstance(outcome, HftclError):
        raise outcome
    return outcome
