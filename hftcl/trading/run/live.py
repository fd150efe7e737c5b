"""The story of `trade`: the bot on the bars of the present, session after session."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from hftcl.alerts import Alert, Kind
from hftcl.archive.artifact import our_features
from hftcl.archive.fitness import MarketKind
from hftcl.archive.policy import hash_policy
from hftcl.errors import BrokerError, LockHeldError, NoDataError, SourceError, WaitEndedError
from hftcl.events import Event, Level, OnEvent
from hftcl.home import Home
from hftcl.ledger import rows
from hftcl.ledger.writer import Ledger
from hftcl.market.bars import MINUTE
from hftcl.market.hours import Hours, find_next_hours
from hftcl.market.sessions import Calendar, HorizonError
from hftcl.market.sources import BarSource, find_source
from hftcl.settings import Settings
from hftcl.trading.brokers import Account, Broker, find_broker, traits_of
from hftcl.trading.decide.bot import KILL_SWITCH, Minute
from hftcl.trading.decide.model_in_use import ProductionWatch
from hftcl.trading.decide.shadow import Shadow
from hftcl.trading.execute.patience import Look, PatientBroker, wait_for
from hftcl.trading.execute.reconciliation import Reconciliation, reconcile
from hftcl.trading.feeds import Feed
from hftcl.trading.run.clock import Clock
from hftcl.trading.run.guards import require_consent, require_hours, require_same_account
from hftcl.trading.run.reserve import Reserve
from hftcl.trading.run.session_loop import STAGE, Controls, Loop
from hftcl.trading.run.wiring import Parts, assemble, hold_lock, home_of, interval_s, read_capital

log = logging.getLogger(__name__)

LEAD: Final = timedelta(minutes=20)
"""Before a session begins its earlier bars are collected: at five calls a minute that takes a while."""
# An upgrade of exchange_calendars is what helps; a person does it in hours, not in minutes.
_PATIENCE: Final = timedelta(hours=1)
_ASK_AGAIN: Final = timedelta(seconds=30)
"""Between two questions to a broker that does not answer at the start."""
_SPARE_S: Final = 1.0  # the request's own end comes first, and says more


class Service(Protocol):
    """Who supervises this process; `systemd.Notifier` is one."""

    def ready(self) -> None: ...
    def alive(self) -> None: ...
    def status(self, text: str) -> None: ...
    def stopping(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeReport:
    """What a bot did between its start and its end; counts are of this run. Times UTC."""

    mode: str
    model_id: str | None
    started_at: datetime
    stopped_at: datetime
    decisions: int
    orders: int
    reloads: int
    positions: dict[str, float]
    equity: float
    halted: str | None
    note: str


@dataclass(slots=True)
class _Count:
    decisions: int = 0
    orders: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """What the story needs of the world: tests bring their own feed and clock, the command the real ones."""

    clock: Clock
    feed: Callable[[Calendar, Callable[[], bool], OnEvent], Feed]
    """(calendar, whether extended hours count, who hears of its progress) -> the feed."""
    service: Service
    controls: Controls
    on_event: OnEvent
    on_alert: Callable[[Alert], None]


def trade(settings: Settings, present: Present, *, real_money: bool, once: bool = False) -> TradeReport:
    """Trade until the controls say stop; `once`: one minute of the session that is open, then return.

    real_money: what `--live` says. Raises UsageError or ConfigError where what was asked for may not be, before
    anything is touched; LockHeldError where another bot of this home runs; BrokerError where the broker does not
    answer at the start: nothing is assumed then.
    """
    source, calendar = find_source(settings.market.source)(settings), Calendar(settings.market.calendar)
    home, clock = Home.of(settings), present.clock
    with hold_lock(home, "bot"), Ledger(home.ledger) as ledger:
        around = _Around(ledger, present)
        broker = patient(find_broker(settings.trade.broker)(settings, folder=home.folder), around.look, settings)
        feed: Feed | None = None
        try:
            require_consent(settings, broker, real_money=real_money, synthetic=source.synthetic)
            require_same_account(ledger, settings, broker)
            require_hours(settings, broker)
            account = _await_account(broker, ledger, present, around, once=once)
            if account is None:
                return _never_began(ledger, broker, present)
            require_same_account(ledger, settings, broker, account.account_id)
            _tell_flags(account, broker, ledger, present)
            features = our_features(settings)
            serving = ProductionWatch(
                home_of(settings),
                MarketKind(
                    calendar=calendar.name,
                    synthetic=source.synthetic,
                    extended_hours=None if broker.extended_hours else False,
                ),
                policy=hash_policy(settings, features=features),
                interval_s=interval_s(settings),
                features=features,
            )
            count = _Count()
            capital = read_capital(ledger, settings, broker) if settings.trade.shadow else 0.0
            shadow = (
                Shadow.from_settings(settings, home, capital=capital, features=features)
                if settings.trade.shadow
                else None
            )
            feed = present.feed(calendar, lambda: _trades_extended(settings, serving), _build_listener(present))
            loop = assemble(
                settings,
                Parts(
                    mode="live" if broker.live_money else "paper",
                    home=home,
                    ledger=ledger,
                    broker=broker,
                    feed=feed,
                    clock=clock,
                    serving=serving,
                    controls=present.controls,
                    source=source.name,
                    synthetic=source.synthetic,
                    account_id=account.account_id,
                    on_event=present.on_event,
                    on_alert=present.on_alert,
                    shadow_broker=shadow.broker if shadow else None,
                    on_minute=_build_counter(count),
                ),
            )
            loop.shadow, loop.alive = shadow, present.service.alive
            loop.patiently, around.loop, loop.reserve = wait_for, loop, Reserve(home_of(settings))
            loop.splits = lambda hours, _: _splits(loop, source, hours)
            if isinstance(broker, PatientBroker):
                loop.their_time = broker.time
            note = _run(loop, settings, present, calendar, broker, once=once)
            return _build_report(loop, count, note)
        finally:
            present.service.stopping()
            if feed is not None:
                feed.close()  # else a call that waits keeps the process from its end
            broker.close()


def _trades_extended(settings: Settings, serving: ProductionWatch) -> bool:
    """Return whether extended hours are traded: those of the model, where there is one."""
    return serving.in_use.model.meta.extended_hours if serving.in_use else settings.market.extended_hours


def _build_listener(present: Present) -> OnEvent:
    """Return who hears of the feed: to collect a month at five calls a minute takes longer than a watchdog waits."""

    def hear(event: Event) -> None:
        present.service.alive()
        present.on_event(event)

    return hear


def _build_counter(count: _Count) -> Callable[[Minute], None]:
    def add_minute(done: Minute) -> None:
        count.decisions += done.decided
        count.orders += done.ordered
        log.info(
            "decided minute=%s decisions=%d orders=%d latency_ms=%.1f",
            done.minute.isoformat(),
            done.decided,
            done.ordered,
            1000 * done.latency_s,
        )

    return add_minute


def _run(loop: Loop, settings: Settings, present: Present, calendar: Calendar, broker: Broker, *, once: bool) -> str:
    """Reconcile, then trade; return why it ended, for a person."""
    clock, controls = present.clock, present.controls
    last_differences: tuple[str, ...] = ()

    def agree() -> bool:
        nonlocal last_differences
        report = _reconcile(loop.ledger, broker, present, frozenset(settings.trade.hands_off), last_differences)
        last_differences = report.differences
        return report.agrees

    loop.reconcile = agree
    if not _compare_at_start(loop, once=once):
        return "Stopped as asked."
    loop.ledger.write_event(rows.LedgerEvent(at=clock.now(), kind="started", text=f"{broker.name}, process started"))
    loop.look_if_due()
    present.service.ready()
    try:
        while not controls.stop:
            try:
                hours = find_next_hours(calendar, clock.now(), extended_hours=_trades_extended(settings, loop.serving))
            except HorizonError as error:
                note = _wait_without_calendar(loop, present, error)
                if once:
                    return note
                continue
            if once and clock.now() < hours.begins:
                return f"The market is closed; session {hours.session} begins at {hours.begins:%Y-%m-%d %H:%M} UTC."
            present.service.status(f"waiting for session {hours.session}, {hours.begins:%H:%M} UTC")
            loop.wait_until(hours.begins - LEAD)
            if controls.stop:
                break
            present.service.status(f"trading session {hours.session}")
            _trade_session(loop, hours, clock.now(), once=once)
            if once:
                return f"One minute of session {hours.session} was decided."
    finally:
        loop.ledger.write_event(rows.LedgerEvent(at=clock.now(), kind="stopped", text="stopped"))
    return "Stopped as asked."


@dataclass(slots=True)
class _Around:
    """Looks around while the broker is waited for: as the loop does, and before there is one as far as may be."""

    ledger: Ledger
    present: Present
    loop: Loop | None = None

    def look(self) -> bool:
        """Return whether not to wait any longer."""
        if self.loop is not None:
            return self.loop.look_around()
        self.present.service.alive()
        reason = self.present.controls.read_halt()
        if reason:
            self.ledger.latch(KILL_SWITCH, reason, self.present.clock.now())
            self.present.controls.halt = False
        return self.present.controls.stop


def patient(broker: Broker, look: Look, settings: Settings) -> Broker:
    """Return `broker`; one whose calls travel so that they are waited for while the bot looks around."""
    if not traits_of(broker).remote:
        return broker
    return PatientBroker(broker, look, settings.alpaca.timeout_s + _SPARE_S)


def _await_account(broker: Broker, ledger: Ledger, present: Present, around: _Around, *, once: bool) -> Account | None:
    """Ask for the account until the broker answers; None where the bot was stopped before.

    A broker that is down is waited for: to end would have the service started again five times and then given up.
    """
    is_reported = False
    while True:
        try:
            return broker.account()
        except BrokerError as error:
            if once and not present.controls.stop:
                raise
            if not is_reported and not present.controls.stop:
                is_reported = True
                now, text = present.clock.now(), f"{error} The bot waits until it answers, and asks each half minute."
                ledger.write_event(rows.LedgerEvent(at=now, kind="error", text=text))
                present.on_event(Event(STAGE, text=text, level=Level.WARNING))
                present.on_alert(Alert(Kind.ERROR, f"the broker {broker.name} does not answer at the start", text, now))
        until = present.clock.now() + _ASK_AGAIN
        while not (around.look() or present.clock.wait_until(until)):
            pass
        if present.controls.stop:
            return None
        if isinstance(broker, PatientBroker):
            broker.begin_minute()


def _compare_at_start(loop: Loop, *, once: bool) -> bool:
    """Make ledger and broker agree before anything is decided; False where the bot was stopped before they did."""
    while not loop.controls.stop:
        try:
            loop.compare()
        except BrokerError as error:
            if once and not loop.controls.stop:
                raise
            loop.tell_fault("ledger and broker cannot be compared yet", f"{error} The bot waits, and asks again.")
            loop.wait_until(loop.clock.now() + _ASK_AGAIN)
        else:
            return True
    return False


def _tell_flags(account: Account, broker: Broker, ledger: Ledger, present: Present) -> None:
    """Tell what the broker says of the account that keeps it from trading as it might; sell nothing short then."""
    if not account.flags.shorting and isinstance(broker, PatientBroker):
        broker.shorting = False
    said = (*account.flags.blocks, *account.flags.notes)
    if said:
        now, text = present.clock.now(), f"The broker says of the account: {'; '.join(said)}."
        ledger.write_event(rows.LedgerEvent(at=now, kind="broker", text=text))
        present.on_event(Event(STAGE, text=text, level=Level.WARNING))
        present.on_alert(Alert(Kind.ERROR, f"the account at {broker.name} is restricted", text, now))


def _never_began(ledger: Ledger, broker: Broker, present: Present) -> TradeReport:
    now = present.clock.now()
    return TradeReport(
        mode="live" if broker.live_money else "paper",
        model_id=None,
        started_at=now,
        stopped_at=now,
        decisions=0,
        orders=0,
        reloads=0,
        positions=dict(ledger.positions()),
        equity=0.0,
        halted="; ".join(f"{latch.name}: {latch.reason}" for latch in ledger.latches()) or None,
        note=f"Stopped as asked, before the broker {broker.name} answered.",
    )


def _splits(loop: Loop, source: BarSource, hours: Hours) -> dict[str, float]:
    """Return the splits of what is held that take effect in this session: new shares for an old one."""
    held = sorted(loop.ledger.positions().keys() | loop.ledger.positions("shadow").keys())
    try:
        due = [
            split
            for ticker in held
            for split in loop.patiently(lambda ticker=ticker: source.splits(ticker), loop.look_around)  # type: ignore[misc]
            if split.execution_date == hours.session
        ]
    except WaitEndedError:
        return {}
    except SourceError as error:
        loop.tell_fault("splits are not known", f"{error} A split of what is held would look like a difference.")
        return {}
    return {split.ticker: split.split_to / split.split_from for split in due}


def _reconcile(
    ledger: Ledger, broker: Broker, present: Present, hands_off: frozenset[str], gaps: Sequence[str]
) -> Reconciliation:
    """Make ledger and broker agree; what cannot be explained halts the bot and is told, unless that is what was `gaps`.

    Raises BrokerError.
    """
    if isinstance(broker, PatientBroker):
        broker.begin_minute()
    report = reconcile(ledger, broker, present.clock.now(), hands_off=hands_off)
    if report.foreign:
        text = (
            f"Somebody else traded in the account: {', '.join(report.foreign)}. The bot leaves these tickers alone "
            "until a person says whose they are: `hftcl trade --clear` hands them to the bot, [trade] hands_off keeps "
            "them."
        )
        present.on_event(Event(STAGE, text=text, level=Level.WARNING))
        present.on_alert(Alert(Kind.HALTED, "somebody else traded in the account", text, present.clock.now()))
    if not report.agrees and report.differences != gaps:
        present.on_event(Event(STAGE, text=report.text, level=Level.WARNING))
        present.on_alert(Alert(Kind.HALTED, "ledger and broker do not agree", report.text, present.clock.now()))
    return report


def _trade_session(loop: Loop, hours: Hours, now: datetime, *, once: bool) -> None:
    """Trade from the minute that has just ended on: a bot that was killed within it decides on it after all.

    Ledger and broker are compared first: others may have traded in the account overnight. A session that cannot be
    prepared, because source or broker fails or another process collects, is tried again.
    """
    newest = now.replace(second=0, microsecond=0) - MINUTE
    minutes = hours.minutes(newest)
    try:
        loop.compare()
        loop.trade_session(hours, minutes[:1] if once else minutes)
    except WaitEndedError:
        return  # a person wants a stop
    except (SourceError, BrokerError, NoDataError, LockHeldError) as error:
        if once:
            raise
        loop.fault_once("the session cannot be prepared", str(error))
        loop.stand_by(hours)
        loop.wait_until(loop.clock.now() + MINUTE)
        if loop.clock.now() >= hours.ends:
            loop.bot.end(loop.clock.now())  # what could not be closed is told
        return
    if not once:
        loop.wait_until(hours.ends)


def _wait_without_calendar(loop: Loop, present: Present, error: HorizonError) -> str:
    """Trade nothing, for what is not known to be a session is none; say so, and look again in an hour."""
    now = present.clock.now()
    text = f"{error} Nothing is traded (hold_calendar)."
    loop.ledger.write_event(rows.LedgerEvent(at=now, kind="error", text=text))
    present.on_event(Event(STAGE, text=text, level=Level.WARNING))
    present.on_alert(Alert(Kind.HALTED, "the exchange calendar has ended", text, now))
    loop.wait_until(now + _PATIENCE)
    return text


def _build_report(loop: Loop, count: _Count, note: str) -> TradeReport:
    ledger, desk = loop.ledger, loop.bot.production.desk
    meta, row = ledger.meta(), ledger.last_equity()
    latches = ledger.latches()
    return TradeReport(
        mode=meta["mode"],
        model_id=meta.get("model_id"),
        started_at=meta.moment("started_at") or loop.clock.now(),
        stopped_at=loop.clock.now(),
        decisions=count.decisions,
        orders=count.orders,
        reloads=loop.reloads,
        positions=dict(desk.positions),
        equity=float(row["equity"][0]) if row.height else desk.capital,
        halted="; ".join(f"{latch.name}: {latch.reason}" for latch in latches) or None,
        note=note,
    )
