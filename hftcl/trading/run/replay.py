"""The story of `trade --replay`: the very bot over stored bars, as fast as it can.

Only clock, feed and broker differ from live trading. Nothing of the live bot is touched: the replay has its own ledger
and account, empty at the start of each replay. The broker is `paper`, or that of a plug-in which says that it replays.
"""

import shutil
from collections.abc import Callable
from datetime import datetime
from typing import Final

from hftcl import sqlite
from hftcl.alerts import Alert
from hftcl.archive.artifact import list_our_features
from hftcl.archive.fitness import MarketKind
from hftcl.config.plugins import is_ours
from hftcl.durable import convert_storage_faults, make_folder
from hftcl.errors import ConfigError, ModelNotFoundError
from hftcl.events import Event, Level, OnEvent
from hftcl.formats import describe_left_out
from hftcl.home import Home, locate_paper, locate_strict_paper
from hftcl.ledger.archive import delete_archive
from hftcl.ledger.writer import Ledger
from hftcl.market.hours import find_hours
from hftcl.market.sessions import Calendar
from hftcl.market.sources import BarSource, open_source
from hftcl.plug_ins import close_after, close_refused
from hftcl.settings import Settings
from hftcl.trading.brokers import Broker, find_broker, open_broker, read_traits
from hftcl.trading.decide.model_in_use import ModelInUse, ProductionWatch
from hftcl.trading.execute.reconciliation import reconcile
from hftcl.trading.feeds.replay import StoredFeed
from hftcl.trading.run import STAGE
from hftcl.trading.run.clock import SimulatedClock
from hftcl.trading.run.controls import Controls
from hftcl.trading.run.replay_report import ReplayReport, Tally, build_report
from hftcl.trading.run.replay_window import ReplayWindow, collect_window, is_unseen, parse_span
from hftcl.trading.run.session_loop import Loop
from hftcl.trading.run.wiring import Parts, assemble, find_home, hold_lock, open_shadow, watch_production

REHEARSAL: Final = "strict-paper"


def replay(
    settings: Settings,
    span: str,
    *,
    now: datetime,
    stopwatch: Callable[[], float],
    controls: Controls,
    on_event: OnEvent,
    on_alert: Callable[[Alert], None],
    rehearse: bool = False,
) -> ReplayReport:
    """Trade the sessions of `span`, "FROM..TO" with both ends included, with the model that serves.

    rehearse: with the broker `strict-paper`, which refuses, delays and falls silent as a real one does.

    Raises UsageError for a span that is none, ModelNotFoundError where nothing serves that may trade on these bars,
    NoDataError where there are no bars, LockHeldError where another replay runs.
    """
    began = stopwatch()
    first, last = parse_span(span)
    source, calendar = open_source(settings), Calendar(settings.market.calendar)
    features = list_our_features(settings)
    market = MarketKind(calendar=calendar.name, synthetic=source.synthetic)
    serving = watch_production(settings, market, features)
    look = serving.look(now)
    if serving.in_use is None:
        raise ModelNotFoundError(f"There is no model to replay with: {look.reason}")
    window = collect_window(settings, serving.in_use, source, calendar, first, last, now, on_event, features)
    seen = not is_unseen(serving.in_use, calendar, window.days[0], settings.exam.embargo_sessions)
    _warn(serving, window, seen=seen, on_event=on_event)
    home = Home.replay(find_home(settings))
    with hold_lock(home, "replay"):
        _empty(home)
        with (
            Ledger(home.ledger, durable=False) as ledger,
            close_after(_open_broker(settings, home, rehearse=rehearse)) as broker,
        ):
            loop, tally = _assemble(
                settings, home, ledger, broker, serving, window, source, controls, on_event, on_alert
            )
            _play(loop, window, calendar, serving.in_use, tally, on_event)
            return build_report(loop, window, source, tally, unseen=not seen, seconds=stopwatch() - began)


def _warn(serving: ProductionWatch, window: ReplayWindow, *, seen: bool, on_event: OnEvent) -> None:
    def warn(text: str) -> None:
        on_event(Event(STAGE, text=text, level=Level.WARNING))

    for text in describe_left_out(window.left_out, window.context_left_out, trades=True):
        warn(text)
    if seen:
        warn("the model was trained on some of these sessions: what it earns here says nothing")
    if serving.edge == "stand aside":
        warn(
            f"the record does not let the bot trade ({serving.edge_reason}): a replay decides and trades all the same, "
            "for it is a rehearsal"
        )


def _empty(home: Home) -> None:
    with convert_storage_faults("beginning the ledger of the replay"):
        delete_archive(home.ledger)  # first: files without their ledger are a lost ledger
        for path in (home.ledger, locate_paper(home.folder), locate_paper(home.shadow)):
            sqlite.remove(path)
        locate_strict_paper(home.folder).unlink(missing_ok=True)


def _assemble(
    settings: Settings,
    home: Home,
    ledger: Ledger,
    broker: Broker,
    serving: ProductionWatch,
    window: ReplayWindow,
    source: BarSource,
    controls: Controls,
    on_event: OnEvent,
    on_alert: Callable[[Alert], None],
) -> tuple[Loop, Tally]:
    tally = Tally()

    def hear(alert: Alert) -> None:
        tally.hear(alert)
        on_alert(alert)

    hours = serving.in_use.model.meta.extended_hours if serving.in_use else False
    start = find_hours(Calendar(settings.market.calendar), window.days[0], extended_hours=hours).begins
    shadow = open_shadow(settings, home, ledger, broker, serving.features, durable=False)
    parts = Parts(
        mode="replay",
        home=home,
        ledger=ledger,
        broker=broker,
        feed=StoredFeed(window.bars, window.tickers, window.left_out),
        clock=SimulatedClock(start),
        serving=serving,
        controls=controls,
        source=source.name,
        synthetic=source.synthetic,
        on_event=on_event,
        on_alert=hear,
        shadow_broker=shadow.broker if shadow else None,
        on_minute=tally.count_minute,
    )
    loop = assemble(settings, parts)
    loop.shadow = shadow
    loop.reconcile = lambda: reconcile(ledger, broker, loop.clock.now()).agrees
    loop.adopt()
    return loop, tally


def _open_broker(settings: Settings, home: Home, *, rehearse: bool) -> Broker:
    """Return the broker of a replay, new: one that could move money, or asks a service, is never made.

    Raises ConfigError where a plug-in says that it replays and moves money.
    """
    name = settings.trade.broker
    configured = None if rehearse or is_ours(name) else find_broker(name)
    if configured is None or not read_traits(configured).replays:
        return open_broker(REHEARSAL if rehearse else "paper", settings, folder=home.folder, durable=False)
    with convert_storage_faults("emptying the folder of the broker"):
        if home.plugin_broker.exists():
            shutil.rmtree(home.plugin_broker)
        make_folder(home.plugin_broker)
    broker = open_broker(name, settings, folder=home.plugin_broker, durable=False)
    with close_refused(broker):
        if broker.live_money:
            raise ConfigError(
                f"The broker {broker.name} says that a replay may trade with it, and that it moves real money. "
                "Ask its author; no replay moves money."
            )
    return broker


def _play(
    loop: Loop, window: ReplayWindow, calendar: Calendar, in_use: ModelInUse, tally: Tally, on_event: OnEvent
) -> None:
    extended = in_use.model.meta.extended_hours
    for done, day in enumerate(window.days):
        on_event(Event(STAGE, done, len(window.days), str(day)))
        hours = find_hours(calendar, day, extended_hours=extended)
        loop.wait_until(hours.begins)
        loop.trade_session(hours, hours.list_minutes(hours.begins))
        tally.count_session(loop.ledger, hours.begins, hours.ends)
        if loop.controls.stop:
            return
    on_event(Event(STAGE, len(window.days), len(window.days)))
