"""Ledger and broker made to agree while the bot runs: splits that were done overnight, others' trades, differences."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Final

from hftcl.alerts import Alert, Kind
from hftcl.errors import BrokerError, SourceError, WaitEndedError
from hftcl.events import Event, Level
from hftcl.ledger.writer import Ledger
from hftcl.market.hours import find_next_hours
from hftcl.market.pairs import spell
from hftcl.market.sessions import Calendar, HorizonError
from hftcl.settings import Settings
from hftcl.trading.brokers import Broker, SplitsShares
from hftcl.trading.execute.corporate import book_actions, describe_actions, list_untold, note_told
from hftcl.trading.execute.patience import PatientBroker
from hftcl.trading.execute.reconciliation import Reconciliation, reconcile
from hftcl.trading.run import STAGE
from hftcl.trading.run.present import Present
from hftcl.trading.run.session_loop import Loop
from hftcl.trading.run.splits import DueSplits, SplitWatch
from hftcl.trading.run.wiring import is_trading_extended

_TRIES: Final = 5
"""How often in a row activities may fail to be told before what they might explain is taken for unexplained: in a
session it is asked once a minute, and an answer that is lost for five is no slip any more."""


def find_splits(loop: Loop, watch: SplitWatch, session: date) -> DueSplits:
    """Return the splits of what is held that it has not met yet.

    Where they cannot be had they are looked up again with the next session, or start.
    """
    try:
        return watch.find(session)
    except WaitEndedError:
        return {}
    except SourceError as error:
        loop.tell_fault("splits are not known", f"{error} A split of what is held would look like a difference.")
        return {}


def build_agreement(
    loop: Loop, settings: Settings, present: Present, calendar: Calendar, broker: Broker
) -> Callable[[], bool]:
    """Return what makes ledger and broker agree, and says whether they do."""
    last_differences: tuple[str, ...] = ()
    settle = _build_settler(loop, settings, present, calendar, broker)

    def agree() -> bool:
        nonlocal last_differences
        hands_off = spell(settings.trade.hands_off)
        try:
            report = _reconcile(loop.ledger, broker, present, hands_off, last_differences, settle)
        finally:
            _tell_actions(loop, present)
        last_differences = report.differences
        return report.agrees

    return agree


def _build_settler(
    loop: Loop, settings: Settings, present: Present, calendar: Calendar, broker: Broker
) -> Callable[[Mapping[str, float]], bool]:
    """Return what books a split, or another corporate action, that a real broker has done by itself, before its shares
    look like a difference.
    """
    failed = 0

    def settle(at_broker: Mapping[str, float]) -> bool:
        if isinstance(broker, SplitsShares):  # it hears of splits from the bot
            return False
        try:
            hours = find_next_hours(
                calendar, loop.clock.now(), extended_hours=is_trading_extended(settings, loop.serving)
            )
        except HorizonError:
            return False
        desk, now = loop.bot.production.desk, loop.clock.now()
        desk.split(loop.splits(hours.session).get("production", {}), {}, hours.session, hours.begins)
        is_done = desk.splits.book_done(at_broker, hours.session, hours.begins)
        nonlocal failed
        try:
            actions = book_actions(broker, loop.ledger, at_broker, desk.hands_off, now, begins=hours.begins)
        except WaitEndedError:
            raise
        except BrokerError as error:
            failed += 1
            if failed < _TRIES:
                raise
            loop.tell_fault(
                "corporate actions are not known",
                f"{error} What ledger and broker differ by cannot be explained, and is for a person.",
            )
            return is_done
        failed = 0
        return is_done or bool(actions)

    return settle


def _tell_actions(loop: Loop, present: Present) -> None:
    """Tell of the corporate actions that are booked, those before a stop too, and wait no longer for their splits."""
    actions = list_untold(loop.ledger)
    if not actions:
        return
    splits, now = loop.bot.production.desk.splits, loop.clock.now()
    text = describe_actions(actions, splits.awaited)
    splits.end_wait({action.split for action in actions})
    present.on_event(Event(STAGE, text=text, level=Level.WARNING))
    present.on_alert(Alert(Kind.ERROR, "a corporate action changed what is held", text, now))
    note_told(loop.ledger)


def _reconcile(
    ledger: Ledger,
    broker: Broker,
    present: Present,
    hands_off: frozenset[str],
    gaps: Sequence[str],
    settle: Callable[[Mapping[str, float]], bool],
) -> Reconciliation:
    """Make ledger and broker agree; what cannot be explained halts the bot and is told, unless that is what was `gaps`.

    Raises BrokerError.
    """
    if isinstance(broker, PatientBroker):
        broker.begin_minute()
    report = reconcile(ledger, broker, present.clock.now(), hands_off=hands_off, settle=settle)
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
