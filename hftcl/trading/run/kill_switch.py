"""The kill switch from outside: `trade --flatten` presses it, whether a bot runs or not, and `--clear` lets go of it.

The switch is a file, so that it works while the ledger is locked, and a latch in the ledger, so that it is remembered
with its reason.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from hftcl.durable import convert_storage_faults, make_folder, write_atomically
from hftcl.errors import (
    BrokerError,
    ConfigError,
    IntegrityError,
    LockHeldError,
    NewerVersionError,
    StorageError,
)
from hftcl.events import Event, Level, OnEvent, ignore
from hftcl.home import Home
from hftcl.ledger.reader import LedgerReader
from hftcl.ledger.rows import BARRED
from hftcl.ledger.rows import LedgerEvent as LedgerEvent
from hftcl.ledger.writer import Ledger
from hftcl.market.bars import BAR_SCHEMA, MINUTE
from hftcl.market.hours import Hours, find_next_hours
from hftcl.market.sessions import Calendar, HorizonError
from hftcl.settings import Settings
from hftcl.strategy.risk import Code, Limits, Order
from hftcl.trading.brokers import Broker, find_broker
from hftcl.trading.decide.bot import KILL_SWITCH
from hftcl.trading.execute.desk import DRAWDOWN_FROM, Desk
from hftcl.trading.execute.dispatch import send
from hftcl.trading.execute.minute import FLATTEN, DesiredPosition, MinuteContext
from hftcl.trading.execute.orders import client_order_id
from hftcl.trading.execute.reconciliation import HANDED, reconcile
from hftcl.trading.run.clock import Clock
from hftcl.trading.run.guards import require_same_account
from hftcl.trading.run.reserve import Reserve
from hftcl.trading.run.session_loop import STAGE
from hftcl.trading.run.wiring import hold_lock, read_capital

WAIT_AT_BROKER: Final = timedelta(minutes=10)
"""How long orders are sent where the ledger cannot be had: 1,800 positions at 200 calls a minute."""
WAIT: Final = timedelta(minutes=3)
"""How long `--flatten` waits for a running bot to be flat: a paper order fills with the next minute's bar."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HaltReport:
    """What pressing the switch did. positions: what is still held. orders: how many closing ones were sent by us."""

    halted: bool
    by_bot: bool
    orders: int
    positions: dict[str, float]
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearReport:
    """Which latches a person cleared; `file` whether the halt file was there."""

    cleared: tuple[str, ...]
    file: bool


def flatten(settings: Settings, *, clock: Clock, reason: str, on_event: OnEvent = ignore) -> HaltReport:
    """Press the kill switch: what is held is closed, and nothing is opened until `clear`.

    A running bot does it within a second, and is waited for; without one the orders are sent from here, where the
    market is open. Raises StorageError, BrokerError; the halt file is there by then.
    """
    home = Home.of(settings)
    if not home.ledger.exists() and not _is_held(home):
        note = (
            f"No bot has ever traded in {home.folder}: nothing was done. Run it in the bot's folder, or name its "
            "configuration with --config."
        )
        return HaltReport(halted=False, by_bot=False, orders=0, positions={}, note=note)
    try:
        _press(home, clock, reason)
    except StorageError:
        Reserve(home.folder).give_up()
        with contextlib.suppress(StorageError):  # on a disk that is full what is held is closed all the same
            _press(home, clock, reason)
    try:
        with hold_lock(home, "bot"):
            try:
                with Ledger(home.ledger) as ledger:
                    return _flatten_without_bot(settings, home, ledger, clock, reason)
            except (IntegrityError, StorageError, NewerVersionError) as error:
                return _without_ledger(settings, home, clock, f"The ledger cannot be had ({error}).")
    except LockHeldError:
        text = f"the bot that runs closes everything; waiting at most {WAIT.total_seconds():.0f} s for it"
        on_event(Event(STAGE, text=text, level=Level.NOTE))
        return _flatten_with_bot(home, clock)


def _press(home: Home, clock: Clock, reason: str) -> None:
    with convert_storage_faults("pressing the kill switch"):
        make_folder(home.folder)
        write_atomically(home.halt_file, f"{clock.now().isoformat()} {reason}\n".encode())


def _is_held(places: Home) -> bool:
    """Whether a bot holds the lock; a first one may not have begun its ledger yet."""
    if not places.lock.exists():
        return False
    try:
        with hold_lock(places, "bot"):
            return False
    except LockHeldError:
        return True


def _flatten_with_bot(home: Home, clock: Clock) -> HaltReport:
    until = clock.now() + WAIT
    positions: dict[str, float] = {}
    latched = False
    while clock.now() < until:
        with LedgerReader(home.ledger) as ledger:
            latched = ledger.is_latched(KILL_SWITCH)
            positions = ledger.positions()
            if latched and not positions and not ledger.working_orders():
                break
        clock.wait_until(min(until, clock.now() + timedelta(seconds=1)))
    note = "The running bot is flat." if latched and not positions else "The running bot has not closed everything yet."
    return HaltReport(halted=latched, by_bot=True, orders=0, positions=positions, note=note)


def _flatten_without_bot(settings: Settings, home: Home, ledger: Ledger, clock: Clock, reason: str) -> HaltReport:
    now = clock.now()
    ledger.latch(KILL_SWITCH, reason, now)
    sent, problem, alone = 0, "", ""
    broker = find_broker(settings.trade.broker)(settings, folder=home.folder)
    try:
        require_same_account(ledger, settings, broker)
        try:
            report = reconcile(ledger, broker, now, hands_off=frozenset(settings.trade.hands_off))
        except BrokerError as error:
            done = _close_at_broker(settings, broker, clock, _ours(settings, ledger))
            return done.report(f"Ledger and broker could not be compared ({error}).")
        if not report.agrees:
            done = _close_at_broker(settings, broker, clock, _ours(settings, ledger))
            return done.report(f"Ledger and broker do not agree: {report.text}.")
        sent = _close_all(settings, ledger, broker, now)
        foreign = ledger.positions("foreign")
        alone = f" Left alone, for the bot did not trade it: {_describe_positions(foreign)}." if foreign else ""
    except ConfigError as error:
        problem = str(error)
    finally:
        broker.close()
    positions = ledger.positions()
    if problem:  # the account may be another one
        note = f"Trading is halted, but nothing was sent: {problem}"
    elif not positions:
        note = "Nothing is held."
    elif sent:
        note = f"No bot runs. {sent} closing orders were sent."
    else:
        note = "No bot runs. The market is closed: the next bot closes them first."
    return HaltReport(halted=True, by_bot=False, orders=sent, positions=positions, note=note + alone)


def _without_ledger(settings: Settings, home: Home, clock: Clock, why: str) -> HaltReport:
    broker = find_broker(settings.trade.broker)(settings, folder=home.folder)
    try:
        return _close_at_broker(settings, broker, clock, frozenset(settings.market.watchlist)).report(why)
    finally:
        broker.close()


def _ours(settings: Settings, ledger: Ledger) -> frozenset[str]:
    """Return the tickers that are the bot's: those of the watchlist, and what the ledger holds besides."""
    return frozenset(settings.market.watchlist) | ledger.positions().keys()


def _describe_positions(positions: Mapping[str, float]) -> str:
    return ", ".join(f"{shares:g} {ticker}" for ticker, shares in sorted(positions.items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Closed:
    """What closing at the broker came to, without the ledger."""

    sent: int
    refused: tuple[str, ...]
    positions: dict[str, float]
    others: dict[str, float]
    market_open: bool

    def report(self, why: str) -> HaltReport:
        note = f"{why} What the broker holds was taken: {self.sent} closing orders were sent."
        if not self.market_open:
            note = f"{why} The market is closed: nothing was sent. Run it again when it is open."
        if self.refused:
            note += f" Refused: {'; '.join(self.refused)}."
        if self.others:
            note += f" Left alone, for it is not on the watchlist: {_describe_positions(self.others)}."
        return HaltReport(halted=True, by_bot=False, orders=self.sent, positions=self.positions, note=note)


def _close_at_broker(settings: Settings, broker: Broker, clock: Clock, own_tickers: frozenset[str]) -> _Closed:
    """Send the orders that close what the BROKER holds of the bot's tickers; a minute after the other where it is much.

    What is open there is canceled first. Ids follow from minute and ticker, so that nothing is sent twice.
    """
    hours = _find_open_hours(settings, clock.now())
    refused: list[str] = []
    sent: set[str] = set()
    until = clock.now() + WAIT_AT_BROKER
    while True:
        account = broker.account()
        held = {
            ticker: shares
            for ticker, shares in account.positions.items()
            if ticker in own_tickers and ticker not in settings.trade.hands_off
        }
        others = {ticker: shares for ticker, shares in account.positions.items() if ticker not in held}
        left = {ticker: shares for ticker, shares in held.items() if ticker not in sent}
        if hours is None or not left or clock.now() >= until:
            return _Closed(
                sent=len(sent),
                refused=tuple(refused),
                positions=held,
                others=others,
                market_open=hours is not None,
            )
        if not sent:
            for state in broker.open_orders():
                broker.cancel(state.client_order_id)
        minute = clock.now().replace(second=0, microsecond=0)
        orders = [
            Order(
                client_order_id=client_order_id("production", minute, ticker, FLATTEN),
                ticker=ticker,
                quantity=-shares,
                ts=minute,
                reference_price=account.marks.get(ticker) or 1.0,
                session=hours.session,
            )
            for ticker, shares in sorted(left.items())
        ]
        done = send(broker, orders, frozenset(order.client_order_id for order in orders))
        for one in done:
            if one.refused is not None:
                refused.append(f"{one.order.ticker}: {one.refused.reason}")
            if not one.unsent:
                sent.add(one.order.ticker)
        if any(one.unsent for one in done):
            clock.wait_until(minute + MINUTE)


def _close_all(settings: Settings, ledger: Ledger, broker: Broker, now: datetime) -> int:
    """Send the orders that close every position, at the last prices that the ledger knows; return how many."""
    hours = _find_open_hours(settings, now)
    if hours is None:
        return 0
    account = ledger.read_account()
    marks = broker.account().marks
    prices = account.average_price | ledger.read_last_closes() | marks
    capital = read_capital(ledger, settings, broker)
    faults: list[str] = []
    desk = Desk(
        book="production",
        broker=broker,
        ledger=ledger,
        capital=capital,
        fractional=settings.trade.fractional,
        limits=Limits.from_settings(settings.risk, capital=capital, tickers=len(settings.market.watchlist)),
        on_fault=lambda text, _: faults.append(text),
        hands_off=frozenset(settings.trade.hands_off),
    )
    context = MinuteContext(
        session=hours.session,
        minute=now.replace(second=0, microsecond=0),
        now=now,
        prices=prices,
        ages={},
        minutes_to_close=hours.minutes_to_close(now),
    )
    desk.open(hours.session, hours.begins, prices)
    desk.collect(context)
    wishes = {
        ticker: DesiredPosition(target=0.0, price=prices[ticker], purpose=FLATTEN) for ticker in desk.list_touched()
    }
    records = desk.trade([], wishes, context, desk.value_book(context.session, context.minute, prices))
    desk.book_minute(BAR_SCHEMA.to_frame(), context)
    return sum(record.state != "refused" for record in records)


def _find_open_hours(settings: Settings, now: datetime) -> Hours | None:
    try:
        hours = find_next_hours(Calendar(settings.market.calendar), now, extended_hours=settings.market.extended_hours)
    except HorizonError:
        return None
    return hours if hours.begins <= now < hours.ends - MINUTE else None


def clear(settings: Settings, *, by: str, now: datetime) -> ClearReport:
    """Let go of the kill switch and of every other latch, in the name of a person; a running bot trades again."""
    home = Home.of(settings)
    with convert_storage_faults("clearing the kill switch"):
        has_file = home.halt_file.exists()
        home.halt_file.unlink(missing_ok=True)
    if not home.ledger.exists():
        return ClearReport(cleared=(), file=has_file)
    with Ledger(home.ledger) as ledger:
        cleared = tuple(latch.name for latch in ledger.latches() if ledger.clear(latch.name, by, now))
        meta, foreign = ledger.meta(), ledger.positions("foreign")
        if Code.DRAWDOWN in cleared:
            ledger.set_meta(**{DRAWDOWN_FROM: meta.read_open("production")[0]})
        if meta.get(BARRED):
            ledger.set_meta(**{BARRED: ""})
            cleared = (*cleared, "the account's refusals")
        if foreign:  # the bot that runs, or the next one, takes it over
            ledger.set_meta(**{HANDED: now.isoformat()})
            ledger.write_event(
                LedgerEvent(at=now, kind="cleared", text=f"{_describe_positions(foreign)} handed to the bot, by {by}")
            )
            cleared = (*cleared, f"{_describe_positions(foreign)}, handed to the bot")
    return ClearReport(cleared=cleared, file=has_file)
