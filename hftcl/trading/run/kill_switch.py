"""The kill switch from outside: `trade --flatten` presses it, whether a bot runs or not, and `--clear` lets go of it.

The switch is a file, so that it works while the ledger is locked, and a latch in the ledger, so that it is remembered
with its reason.
"""

import contextlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from hftcl.durable import convert_storage_faults, make_folder, write_atomically
from hftcl.errors import (
    BrokerError,
    ConfigError,
    IntegrityError,
    LockHeldError,
    NewerVersionError,
    PlugInError,
    StorageError,
)
from hftcl.events import Event, Level, OnEvent, ignore, keep_from_ending
from hftcl.home import Home
from hftcl.ledger.meta import Fact
from hftcl.ledger.reader import LedgerReader
from hftcl.ledger.rows import BARRED, LedgerEvent, OrderRecord
from hftcl.ledger.writer import Ledger
from hftcl.market.bars import BAR_SCHEMA, MINUTE
from hftcl.market.hours import Hours, find_next_hours
from hftcl.market.pairs import spell
from hftcl.market.sessions import Calendar, HorizonError
from hftcl.plug_ins import close_after, list_broken_calls, name_plug_ins
from hftcl.settings import Settings
from hftcl.strategy.risk import Code, Limits
from hftcl.trading.brokers import Broker, open_broker_to_close
from hftcl.trading.decide.bot import KILL_SWITCH
from hftcl.trading.execute.closes import read_closes_before
from hftcl.trading.execute.corporate import read_exchanged_closes
from hftcl.trading.execute.desk import Desk
from hftcl.trading.execute.minute import FLATTEN, DesiredPosition, MinuteContext
from hftcl.trading.execute.reconciliation import HANDED, reconcile
from hftcl.trading.run import STAGE
from hftcl.trading.run.broker_close import (
    WAIT_AT_BROKER,
    BrokerClose,
    CloseOutcome,
    describe_positions,
    wait_for_account,
)
from hftcl.trading.run.clock import Clock
from hftcl.trading.run.guards import require_same_account
from hftcl.trading.run.reserve import Reserve
from hftcl.trading.run.share_changes import ShareChanges
from hftcl.trading.run.wiring import hold_lock, read_capital

log = logging.getLogger(__name__)

WAIT: Final = timedelta(minutes=3)
"""How long `--flatten` waits for a running bot to be flat: a paper order fills with the next minute's bar."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HaltReport:
    """What pressing the switch did. positions: what is still held. orders: how many closing ones were sent by us.

    shortfall: what could not be sent, or a running bot has not closed in time, a sentence, "" for nothing; the command
    then ends with 1.
    """

    halted: bool
    by_bot: bool
    orders: int
    positions: dict[str, float]
    note: str
    shortfall: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearReport:
    """Which latches a person cleared; `file` whether the halt file was there."""

    cleared: tuple[str, ...]
    file: bool


def flatten(settings: Settings, *, clock: Clock, reason: str, on_event: OnEvent = ignore) -> HaltReport:
    """Press the kill switch: what is held is closed, and nothing is opened until `clear`.

    A running bot does it within a second, and is waited for; without one the orders are sent from here, where the
    market is open. Raises StorageError, BrokerError; the halt file is there by then. A listener whose stream takes no
    more ends nothing.
    """
    home, on_event = Home.of(settings), keep_from_ending(on_event)
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
                    return _flatten_without_bot(settings, home, ledger, clock, reason, on_event)
            except (IntegrityError, StorageError, NewerVersionError) as error:
                return _halt_without_ledger(settings, home, clock, f"The ledger cannot be had ({error}).")
    except LockHeldError:
        text = f"the bot that runs closes everything; waiting at most {WAIT.total_seconds():.0f} s for it"
        on_event(Event(STAGE, text=text, level=Level.NOTE))
        return _flatten_with_bot(home, clock)


def _press(home: Home, clock: Clock, reason: str) -> None:
    with convert_storage_faults("pressing the kill switch"):
        make_folder(home.folder)
        write_atomically(home.halt_file, f"{clock.now().isoformat()} {reason}\n".encode())


def _is_held(home: Home) -> bool:
    """Whether a bot holds the lock; a first one may not have begun its ledger yet."""
    if not home.lock.exists():
        return False
    try:
        with hold_lock(home, "bot"):
            return False
    except LockHeldError:
        return True


def _flatten_with_bot(home: Home, clock: Clock) -> HaltReport:
    until = clock.now() + WAIT
    positions: dict[str, float] = {}
    working: tuple[OrderRecord, ...] = ()
    latched = False
    while clock.now() < until:
        with LedgerReader(home.ledger) as ledger:
            latched = ledger.is_latched(KILL_SWITCH)
            positions, working = ledger.read_positions(), ledger.read_working_orders()
            if latched and not positions and not working:
                break
        clock.wait_until(min(until, clock.now() + timedelta(seconds=1)))
    is_flat = latched and not positions and not working
    left = []
    if positions:
        left.append(f"Still held: {describe_positions(positions)}.")
    if working:
        left.append(f"On their way: {_describe_working(working)}.")
    if not latched:
        left.append("The bot has not heard of it yet.")
    note = (
        "The running bot is flat." if is_flat else " ".join(["The running bot has not closed everything yet.", *left])
    )
    return HaltReport(
        halted=latched, by_bot=True, orders=0, positions=positions, note=note, shortfall="" if is_flat else note
    )


def _flatten_without_bot(
    settings: Settings, home: Home, ledger: Ledger, clock: Clock, reason: str, on_event: OnEvent
) -> HaltReport:
    now = clock.now()
    ledger.latch(KILL_SWITCH, reason, now)
    with close_after(open_broker_to_close(settings.trade.broker, settings, folder=home.folder)) as broker:
        changes = ShareChanges(
            settings=settings,
            ledger=ledger,
            broker=broker,
            hours=_find_next_hours(settings, now),
            now=now,
            on_event=on_event,
        )
        try:
            report = _close_what_is_held(settings, ledger, broker, clock, changes)
            text = changes.tell()
        except StorageError as error:  # else what was booked is told nowhere
            raise StorageError(" ".join([str(error), *changes.texts])) from error
        return replace(report, note=f"{text} {report.note}") if text else report


def _close_what_is_held(
    settings: Settings, ledger: Ledger, broker: Broker, clock: Clock, changes: ShareChanges
) -> HaltReport:
    now = clock.now()
    try:
        hours = _find_open_hours(settings, now)
        try:
            with name_plug_ins():
                require_same_account(ledger, settings, broker, broker.account().account_id)
                _require_comparable(broker)
                changes.split_simulated()
                hands_off = spell(settings.trade.hands_off)
                report = reconcile(ledger, broker, now, hands_off=hands_off, settle=changes.settle)
        except (BrokerError, PlugInError) as error:
            account = wait_for_account(broker, clock, hours)
            require_same_account(ledger, settings, broker, account.account_id)
            why = f"Ledger and broker could not be compared ({error})."
            return _close_at_broker(settings, broker, clock, _list_ours(settings, ledger), why)
        if not report.agrees:
            why = f"Ledger and broker do not agree: {report.text}."
            return _close_at_broker(settings, broker, clock, _list_ours(settings, ledger), why)
        sent = _close_all(settings, ledger, broker, clock)
        return _report_without_bot(settings, ledger, sent, is_open=hours is not None)
    except ConfigError as error:  # the account may be another one
        return HaltReport(
            halted=True,
            by_bot=False,
            orders=0,
            positions=ledger.read_positions(),
            note=f"Trading is halted, but nothing was sent: {error}",
            shortfall=f"Not everything is closed. Nothing was sent: {error}",
        )


def _require_comparable(broker: Broker) -> None:
    """Raise BrokerError where a plug-in does not keep its promises: what it holds is closed without the ledger then."""
    if faults := list_broken_calls(broker, Broker):
        raise BrokerError("; ".join(faults))


def _report_without_bot(settings: Settings, ledger: Ledger, sent: CloseOutcome, *, is_open: bool) -> HaltReport:
    positions, foreign = ledger.read_positions(), _list_foreign(settings, ledger)
    working = ledger.read_working_orders()
    if not positions:
        note = "Nothing is held."
    elif sent.orders or sent.text:
        note = f"No bot runs. {sent.orders} closing orders were sent.{sent.text}"
    elif not is_open:
        note = "No bot runs. The market is closed: the next bot closes them first."
    elif positions.keys() - foreign.keys():
        note = "No bot runs. Nothing more was sent: what closes is on its way."
    else:
        note = "No bot runs. Nothing was sent: what is held is of tickers that the bot leaves alone."
    if working and not sent.orders:
        note += f" On their way: {_describe_working(working)}."
    if foreign:
        note += f" Left alone, for the bot did not trade it: {describe_positions(foreign)}."
    if settings.trade.hands_off:
        note += f" Left alone by [trade] hands_off: {', '.join(sorted(settings.trade.hands_off))}."
    return HaltReport(
        halted=True,
        by_bot=False,
        orders=sent.orders,
        positions=positions,
        note=note,
        shortfall=f"Not everything is closed.{sent.text}" if sent.text else "",
    )


def _halt_without_ledger(settings: Settings, home: Home, clock: Clock, why: str) -> HaltReport:
    with close_after(open_broker_to_close(settings.trade.broker, settings, folder=home.folder)) as broker:
        return _close_at_broker(settings, broker, clock, frozenset(settings.market.watchlist), why)


def _list_ours(settings: Settings, ledger: Ledger) -> frozenset[str]:
    """Return the tickers that are the bot's: those of the watchlist that no other trades, and what it holds."""
    held = ledger.read_positions().keys()
    return frozenset(settings.market.watchlist) - ledger.read_positions("foreign").keys() | held


def _list_foreign(settings: Settings, ledger: Ledger) -> dict[str, float]:
    """Return the shares by ticker that others traded, and of which it is not said yet whose they are."""
    foreign = ledger.read_positions("foreign")
    return {ticker: shares for ticker, shares in foreign.items() if ticker not in spell(settings.trade.hands_off)}


def _describe_working(orders: Iterable[OrderRecord]) -> str:
    return ", ".join(f"{order.client_order_id} ({order.quantity:+g} {order.ticker})" for order in orders)


def _close_at_broker(
    settings: Settings, broker: Broker, clock: Clock, own_tickers: frozenset[str], why: str
) -> HaltReport:
    """Close what the BROKER holds of the bot's tickers, those of [trade] hands_off excepted."""
    hours = _find_open_hours(settings, clock.now())
    at_broker = BrokerClose(broker=broker, own_tickers=own_tickers - spell(settings.trade.hands_off))
    sent = CloseOutcome()
    if hours is None:
        at_broker.look()
        note = f"{why} The market is closed: nothing was sent. Run it again when it is open."
    else:
        sent = at_broker.run(hours, clock)
        note = f"{why} What the broker holds was taken: {sent.orders} closing orders were sent.{sent.text}"
    if at_broker.others:
        note += f" Left alone, for it is not the bot's to close: {describe_positions(at_broker.others)}."
    if sent.others:
        note += f" Left open, for they are not the bot's orders: {sent.others}."
    return HaltReport(
        halted=True,
        by_bot=False,
        orders=sent.orders,
        positions=at_broker.held,
        note=note,
        shortfall=f"Not everything is closed.{sent.text}" if sent.text else "",
    )


def _close_all(settings: Settings, ledger: Ledger, broker: Broker, clock: Clock) -> CloseOutcome:
    """Send the orders that close every position, at the last prices that the ledger knows; a minute after the other
    where it is much, or where the broker gives no answer.
    """
    if _find_open_hours(settings, clock.now()) is None:
        return CloseOutcome()
    capital, until = read_capital(ledger, settings, broker), clock.now() + WAIT_AT_BROKER
    desk = Desk(
        book="production",
        broker=broker,
        ledger=ledger,
        capital=capital,
        fractional=settings.trade.fractional,
        limits=Limits.from_settings(settings.risk, capital=capital, tickers=len(settings.market.watchlist)),
        on_fault=lambda *_: None,  # what it means for the orders is told of each
        hands_off=spell(settings.trade.hands_off),
    )
    taken: set[str] = set()
    refused: dict[str, str] = {}
    while (hours := _find_open_hours(settings, clock.now())) is not None:
        records = _close_once(desk, broker, hours, clock.now())
        rows = [row for record in records if (row := ledger.order(record.client_order_id)) is not None]
        taken |= {row.client_order_id for row in rows if row.state in ("submitted", "partially_filled", "filled")}
        refused |= {row.ticker: f"{row.ticker}: {row.reason}" for row in rows if row.state in ("rejected", "refused")}
        # one that never left is canceled, to be sent with the next minute; one without an answer is as it was
        left = tuple(sorted(row.ticker for row in rows if row.state in ("canceled", "intended")))
        unheard = tuple(sorted({row.ticker for row in ledger.read_working_orders() if row.state == "intended"}))
        if not (left or unheard) or clock.now() >= until:
            break
        clock.wait_until(clock.now().replace(second=0, microsecond=0) + MINUTE)
    return CloseOutcome(orders=len(taken), refused=tuple(refused.values()), unanswered=tuple(sorted({*left, *unheard})))


def _close_once(desk: Desk, broker: Broker, hours: Hours, now: datetime) -> tuple[OrderRecord, ...]:
    """Take what has filled, and send the orders that close the rest; return them as they were decided."""
    closes = read_closes_before(desk.ledger, hours, desk.splits.list_ratios(hours.session))
    costs = desk.ledger.read_account().average_price
    prices = {order.ticker: order.reference_price for order in desk.ledger.read_working_orders()}
    prices |= costs | closes | _ask_marks(broker)
    context = MinuteContext(
        session=hours.session,
        minute=now.replace(second=0, microsecond=0),
        now=now,
        prices=prices,
        ages={},
        minutes_to_close=hours.count_minutes_to_close(now),
    )
    before = prices | read_exchanged_closes(desk.ledger) | closes
    desk.open(hours.session, hours.begins, prices, before)  # the day's loss counts from the close before
    desk.collect(context)
    desired_positions = {
        ticker: DesiredPosition(target=0.0, price=prices[ticker], purpose=FLATTEN) for ticker in desk.list_touched()
    }
    records = desk.trade([], desired_positions, context, desk.value_book(context.session, context.minute, prices))
    desk.book_minute(BAR_SCHEMA.to_frame(), context)
    return records


def _ask_marks(broker: Broker) -> dict[str, float]:
    """Return the broker's prices, none where it does not answer: a market order closes at whatever price is known."""
    try:
        return broker.account().marks
    except BrokerError as error:
        log.warning("closing at the ledger's prices why=%s", error)
        return {}


def _find_next_hours(settings: Settings, now: datetime) -> Hours | None:
    """Return the session that is open or comes next, None where the calendar does not reach it."""
    try:
        return find_next_hours(Calendar(settings.market.calendar), now, extended_hours=settings.market.extended_hours)
    except HorizonError:
        return None


def _find_open_hours(settings: Settings, now: datetime) -> Hours | None:
    hours = _find_next_hours(settings, now)
    return hours if hours is not None and hours.begins <= now < hours.ends - MINUTE else None


def clear(settings: Settings, *, by: str, now: datetime) -> ClearReport:
    """Let go of the kill switch and of every other latch, in the name of a person; a running bot trades again."""
    home = Home.of(settings)
    with convert_storage_faults("clearing the kill switch"):
        has_file = home.halt_file.exists()
        home.halt_file.unlink(missing_ok=True)
    if not home.ledger.exists():
        return ClearReport(cleared=(), file=has_file)
    with Ledger(home.ledger) as ledger:
        cleared = tuple(latch.name for latch in ledger.read_latches() if ledger.clear(latch.name, by, now))
        meta, foreign = ledger.open_meta(), _list_foreign(settings, ledger)
        if Code.DRAWDOWN in cleared:
            ledger.set_meta(**{Fact.DRAWDOWN_FROM: meta.read_open("production")[0]})
        if meta.get(BARRED):
            ledger.set_meta(**{BARRED: ""})
            cleared = (*cleared, "the account's refusals")
        if foreign:  # the bot that runs, or the next one, takes it over
            ledger.set_meta(**{HANDED: now.isoformat()})
            ledger.write_event(
                LedgerEvent(at=now, kind="cleared", text=f"{describe_positions(foreign)} handed to the bot, by {by}")
            )
            cleared = (*cleared, f"{describe_positions(foreign)}, handed to the bot")
    return ClearReport(cleared=cleared, file=has_file)
