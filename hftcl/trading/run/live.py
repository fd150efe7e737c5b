"""The story of `trade`: the bot on the bars of the present, session after session."""

from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from hftcl.alerts import Alert, Kind
from hftcl.archive.artifact import list_our_features
from hftcl.archive.fitness import MarketKind
from hftcl.errors import BrokerError, LockHeldError, NoDataError, SourceError, WaitEndedError
from hftcl.events import Event, Level, OnEvent, keep_from_ending
from hftcl.formats import format_clock, format_moment, span
from hftcl.home import Home
from hftcl.ledger import rows
from hftcl.ledger.writer import Ledger
from hftcl.market.bars import MINUTE
from hftcl.market.hours import Hours, find_next_hours
from hftcl.market.sessions import Calendar, HorizonError
from hftcl.market.sources import BarSource, open_source
from hftcl.model.feature import list_columns
from hftcl.plug_ins import close_after
from hftcl.settings import Settings
from hftcl.trading.brokers import Broker, open_broker
from hftcl.trading.execute.patience import PatientBroker, wait_for
from hftcl.trading.feeds import require_columns
from hftcl.trading.feeds.context import watch_context
from hftcl.trading.run import STAGE
from hftcl.trading.run.agreement import build_agreement, find_splits
from hftcl.trading.run.broker_start import Around, await_account, compare_at_start, make_patient, tell_flags
from hftcl.trading.run.guards import require_agreement_on_money, require_hours, require_same_account
from hftcl.trading.run.present import Present
from hftcl.trading.run.reserve import Reserve
from hftcl.trading.run.session_loop import Loop
from hftcl.trading.run.splits import SplitWatch
from hftcl.trading.run.trade_report import MinuteCount, TradeReport, build_report, report_no_begin
from hftcl.trading.run.wiring import (
    Parts,
    assemble,
    find_home,
    hold_lock,
    is_trading_extended,
    open_shadow,
    watch_production,
)

LEAD: Final = timedelta(minutes=20)
"""Before a session begins its earlier bars are collected: at five calls a minute that takes a while."""
# An upgrade of exchange_calendars is what helps; a person does it in hours, not in minutes.
_PATIENCE: Final = timedelta(hours=1)
_REPLACED: Final = "hftcl was replaced on the disk since this began: it ends before the session, and is started again."


def trade(settings: Settings, present: Present, *, real_money: bool, once: bool = False) -> TradeReport:
    """Trade until the controls say stop; `once`: one minute of the session that is open, then return.

    real_money: what `--live` says. Raises UsageError or ConfigError where what was asked for may not be, before
    anything is touched; LockHeldError where another bot of this home runs; BrokerError where the broker does not
    answer at the start: nothing is assumed then. A listener whose stream takes no more ends nothing.
    """
    source, calendar = open_source(settings), Calendar(settings.market.calendar)
    home, present = Home.of(settings), replace(present, on_event=keep_from_ending(present.on_event))
    with hold_lock(home, "bot"), Ledger(home.ledger) as ledger, ExitStack() as opened:
        around = Around(ledger, present)
        broker = opened.enter_context(close_after(open_broker(settings.trade.broker, settings, folder=home.folder)))
        broker = make_patient(broker, around.look, settings)
        try:
            require_agreement_on_money(settings, broker, real_money=real_money, synthetic=source.synthetic)
            require_same_account(ledger, settings, broker)
            require_hours(settings, broker)
            account = await_account(broker, ledger, present, around, once=once)
            if account is None:
                return report_no_begin(ledger, broker, present.clock.now())
            require_same_account(ledger, settings, broker, account.account_id)
            tell_flags(account, broker, ledger, present)
            features = list_our_features(settings)
            hours = None if broker.extended_hours else False
            market = MarketKind(calendar=calendar.name, synthetic=source.synthetic, extended_hours=hours)
            serving = watch_production(settings, market, features)
            shadow = open_shadow(settings, home, ledger, broker, features)
            feed = present.feed(calendar, lambda: is_trading_extended(settings, serving), _build_listener(present))
            opened.enter_context(close_after(feed))  # else a call that waits keeps the process from its end
            require_columns(feed, settings)
            feed = watch_context(feed, settings, list_columns(features.table))
            count = MinuteCount()
            parts = Parts(
                mode="live" if broker.live_money else "paper",
                home=home,
                ledger=ledger,
                broker=broker,
                feed=feed,
                clock=present.clock,
                serving=serving,
                controls=present.controls,
                source=source.name,
                synthetic=source.synthetic,
                account_id=account.account_id,
                on_event=present.on_event,
                on_alert=present.on_alert,
                shadow_broker=shadow.broker if shadow else None,
                on_minute=count.add,
            )
            loop = assemble(settings, parts)
            loop.shadow = shadow
            loop.bot.production.desk.flags_told.update(account.flags.notes)
            _give_the_present(loop, settings, present, source, calendar, broker)
            around.loop = loop
            note = _run(loop, settings, present, calendar, broker, count if once else None)
            return build_report(loop, count, note)
        finally:
            present.service.tell_stopping()


def _give_the_present(
    loop: Loop, settings: Settings, present: Present, source: BarSource, calendar: Calendar, broker: Broker
) -> None:
    """Give `loop` what a replay has no need of: a watchdog, patience, room on the disk, splits, a real broker."""
    loop.alive, loop.patiently, loop.reserve = present.service.tell_alive, wait_for, Reserve(find_home(settings))
    watch = SplitWatch(loop.ledger, lambda ticker: wait_for(lambda: source.splits(ticker), loop.look_around))
    loop.splits = lambda session: find_splits(loop, watch, session)
    loop.note_splits = lambda: watch.note(loop.bot.production.desk.splits.awaited)
    if isinstance(broker, PatientBroker):
        loop.their_time = broker.time
    loop.reconcile = build_agreement(loop, settings, present, calendar, broker)


def _build_listener(present: Present) -> OnEvent:
    """Return who hears of the feed: to collect a month at five calls a minute takes longer than a watchdog waits."""

    def hear(event: Event) -> None:
        present.service.tell_alive()
        present.on_event(event)

    return hear


def _run(
    loop: Loop,
    settings: Settings,
    present: Present,
    calendar: Calendar,
    broker: Broker,
    count: MinuteCount | None,
) -> str:
    """Reconcile, then trade; return why it ended, for a person. count: what ends with one minute counts it there."""
    clock, controls, once = present.clock, present.controls, count is not None
    if not compare_at_start(loop, once=once):
        return "Stopped as asked."
    loop.compare_clocks()
    loop.ledger.write_event(rows.LedgerEvent(at=clock.now(), kind="started", text=f"{broker.name}, process started"))
    loop.look_if_due()
    present.service.tell_ready()
    try:
        while not controls.stop:
            try:
                hours = find_next_hours(
                    calendar, clock.now(), extended_hours=is_trading_extended(settings, loop.serving)
                )
            except HorizonError as error:
                note = _wait_without_calendar(loop, present, error)
                if once:
                    return note
                continue
            if once and clock.now() < hours.begins:
                return f"The market is closed; session {hours.session} begins at {format_moment(hours.begins)} UTC."
            _tell_wait(loop, settings, present, broker, hours)
            if not loop.wait_until(hours.begins - LEAD):
                continue  # by the clock as it was put, another session may be the next
            if controls.stop:
                break
            if present.is_replaced():
                return _REPLACED
            present.service.tell_status(f"trading session {hours.session}")
            has_traded = _trade_session(loop, hours, clock.now(), once=once)
            if count is not None and has_traded and not controls.stop:
                return f"{'One' if count.minutes else 'No'} minute of session {hours.session} was decided."
    finally:
        loop.ledger.write_event(rows.LedgerEvent(at=clock.now(), kind="stopped", text="stopped"))
    return "Stopped as asked."


def _tell_wait(loop: Loop, settings: Settings, present: Present, broker: Broker, hours: Hours) -> None:
    """Say what runs, and for which session it waits: on a closed day this is all that a person sees."""
    now, in_use = present.clock.now(), loop.serving.in_use
    money = "REAL money" if broker.live_money else "paper money"
    model = f"model {in_use.model_id}" if in_use else "no model"
    who = f"{money}, {model}, broker {broker.name}, feed {settings.trade.feed}"
    if now < hours.begins - LEAD:
        when = f"session {hours.session} begins at {format_moment(hours.begins)} UTC, in {span(hours.begins - now)}"
        present.on_event(Event(STAGE, text=f"the market is closed; {when}; {who}", level=Level.NOTE))
    present.service.tell_status(f"waiting for session {hours.session}, {format_clock(hours.begins)} UTC; {who}")


def _trade_session(loop: Loop, hours: Hours, now: datetime, *, once: bool) -> bool:
    """Trade from the minute that has just ended on: a bot that was killed within it decides on it after all. Return
    False where another session or minute is to be looked for, as after the clock was put.

    Ledger and broker are compared first: others may have traded in the account overnight. A session that cannot be
    prepared, because source or broker fails or another process collects, is tried again.
    """
    newest = now.replace(second=0, microsecond=0) - MINUTE
    minutes = hours.list_minutes(newest)
    try:
        loop.compare()
        has_traded = loop.trade_session(hours, minutes[:1] if once else minutes)
        if has_traded and not once:
            loop.wait_until(hours.ends)
    except WaitEndedError:
        return False  # a person wants a stop
    except (SourceError, BrokerError, NoDataError, LockHeldError) as error:
        if once:
            raise
        loop.fault_once("the session cannot be prepared", str(error))
        loop.stand_by(hours)
        loop.wait_until(loop.clock.now() + MINUTE)
        if loop.clock.now() >= hours.ends:  # be it because the clock was put
            loop.bot.end(loop.clock.now())  # what could not be closed is told
        return False
    return has_traded


def _wait_without_calendar(loop: Loop, present: Present, error: HorizonError) -> str:
    """Trade nothing, for what is not known to be a session is none; say so, and look again in an hour."""
    now = present.clock.now()
    text = f"{error} Nothing is traded (hold_calendar)."
    loop.ledger.write_event(rows.LedgerEvent(at=now, kind="error", text=text))
    present.on_event(Event(STAGE, text=text, level=Level.WARNING))
    present.on_alert(Alert(Kind.HALTED, "the exchange calendar has ended", text, now))
    loop.wait_until(now + _PATIENCE)
    return text
