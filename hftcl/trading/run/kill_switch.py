"""The kill switch from outside: `trade --flatten` presses it, whether a bot runs or not, and `--clear` lets go of it.

The switch is a file, so that it works while the ledger is locked, and a latch in the ledger, so that it is remembered
with its reason.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from hftcl.durable import convert_storage_faults, make_folder, write_atomically
from hftcl.errors import ConfigError, LockHeldError
from hftcl.events import Event, Level, OnEvent, ignore
from hftcl.home import Home
from hftcl.ledger.reader import LedgerReader
from hftcl.ledger.writer import Ledger
from hftcl.market.bars import BAR_SCHEMA, MINUTE
from hftcl.market.hours import Hours, find_next_hours
from hftcl.market.sessions import Calendar, HorizonError
from hftcl.settings import Settings
from hftcl.strategy.risk import Limits
from hftcl.trading.brokers import Broker, find_broker
from hftcl.trading.decide.bot import KILL_SWITCH
from hftcl.trading.execute.desk import Desk
from hftcl.trading.execute.minute import FLATTEN, DesiredPosition, MinuteContext
from hftcl.trading.execute.reconciliation import reconcile
from hftcl.trading.run.clock import Clock
from hftcl.trading.run.guards import require_same_account
from hftcl.trading.run.session_loop import STAGE
from hftcl.trading.run.wiring import hold_lock, home_of, read_capital

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
    places = Home.live(home_of(settings))
    with convert_storage_faults("pressing the kill switch"):
        make_folder(places.folder)
        write_atomically(places.halt_file, f"{clock.now().isoformat()} {reason}\n".encode())
    try:
        with hold_lock(places, "bot"), Ledger(places.ledger) as ledger:
            return _flatten_without_bot(settings, places, ledger, clock.now(), reason)
    except LockHeldError:
        text = f"the bot that runs closes everything; waiting at most {WAIT.total_seconds():.0f} s for it"
        on_event(Event(STAGE, text=text, level=Level.NOTE))
        return _flatten_with_bot(places, clock)


def _flatten_with_bot(places: Home, clock: Clock) -> HaltReport:
    until = clock.now() + WAIT
    positions: dict[str, float] = {}
    latched = False
    while clock.now() < until:
        with LedgerReader(places.ledger) as ledger:
            latched = ledger.is_latched(KILL_SWITCH)
            positions = ledger.positions()
            if latched and not positions and not ledger.working_orders():
                break
        clock.wait_until(min(until, clock.now() + timedelta(seconds=1)))
    note = "The running bot is flat." if latched and not positions else "The running bot has not closed everything yet."
    return HaltReport(halted=latched, by_bot=True, orders=0, positions=positions, note=note)


def _flatten_without_bot(settings: Settings, places: Home, ledger: Ledger, now: datetime, reason: str) -> HaltReport:
    ledger.latch(KILL_SWITCH, reason, now)
    sent, problem = 0, ""
    broker = find_broker(settings.trade.broker)(settings, folder=places.folder)
    try:
        require_same_account(ledger, settings, broker)
        found = reconcile(ledger, broker, now)
        if found.agrees:
            sent = _close_all(settings, ledger, broker, now)
        else:
            problem = f"ledger and broker do not agree: {found.text}. Close the positions at the broker."
    except ConfigError as error:
        problem = str(error)
    finally:
        broker.close()
    positions = ledger.positions()
    if problem:  # as the bot would: an order that closes what the ledger holds might open something
        note = f"Trading is halted, but nothing was sent: {problem}"
    elif not positions:
        note = "Nothing is held."
    elif sent:
        note = f"No bot runs. {sent} closing orders were sent."
    else:
        note = "No bot runs. The market is closed: the next bot closes them first."
    return HaltReport(halted=True, by_bot=False, orders=sent, positions=positions, note=note)


def _close_all(settings: Settings, ledger: Ledger, broker: Broker, now: datetime) -> int:
    """Send the orders that close every position, at the last prices that the ledger knows; return how many."""
    hours = _find_open_hours(settings, now)
    if hours is None:
        return 0
    account = ledger.read_account()
    closes = ledger.closes().group_by("ticker", maintain_order=True).last()
    prices = account.average_price | dict(closes.select("ticker", "close").iter_rows())
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
    )
    scene = MinuteContext(
        session=hours.session,
        minute=now.replace(second=0, microsecond=0),
        now=now,
        prices=prices,
        ages={},
        minutes_to_close=hours.minutes_to_close(now),
    )
    desk.open(hours.session, hours.begins, prices)
    wishes = {
        ticker: DesiredPosition(target=0.0, price=prices[ticker], purpose=FLATTEN) for ticker in desk.list_touched()
    }
    records = desk.trade([], wishes, scene, desk.value_book(scene.session, scene.minute, prices))
    desk.book_minute(BAR_SCHEMA.to_frame(), scene)
    return sum(record.state != "refused" for record in records)


def _find_open_hours(settings: Settings, now: datetime) -> Hours | None:
    try:
        hours = find_next_hours(Calendar(settings.market.calendar), now, extended_hours=settings.market.extended_hours)
    except HorizonError:
        return None
    return hours if hours.begins <= now < hours.ends - MINUTE else None


def clear(settings: Settings, *, by: str, now: datetime) -> ClearReport:
    """Let go of the kill switch and of every other latch, in the name of a person; a running bot trades again."""
    places = Home.live(home_of(settings))
    with convert_storage_faults("clearing the kill switch"):
        there = places.halt_file.exists()
        places.halt_file.unlink(missing_ok=True)
    if not places.ledger.exists():
        return ClearReport(cleared=(), file=there)
    with Ledger(places.ledger) as ledger:
        cleared = tuple(latch.name for latch in ledger.latches() if ledger.clear(latch.name, by, now))
    return ClearReport(cleared=cleared, file=there)
