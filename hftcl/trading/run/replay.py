"""The story of `trade --replay`: the very bot over stored bars, as fast as it can.

Only clock, feed and broker differ from live trading. Nothing of the live bot is touched: the replay has its own ledger
and account, empty at the start of each replay. The broker is `paper`, or that of a plug-in which says that it replays.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Final

import numpy as np
import polars as pl

from hftcl import sqlite
from hftcl.alerts import Alert, Kind
from hftcl.archive.artifact import our_features
from hftcl.archive.fitness import MarketKind
from hftcl.archive.policy import hash_policy
from hftcl.config.plugins import is_ours
from hftcl.durable import convert_storage_faults, make_folder
from hftcl.errors import BrokerError, ConfigError, ModelNotFoundError, NoDataError, UsageError
from hftcl.events import Event, Level, OnEvent
from hftcl.exam.split import Session, find_unseen
from hftcl.home import Home
from hftcl.ledger.archive import delete_archive
from hftcl.ledger.writer import Ledger
from hftcl.market.bars import Finding
from hftcl.market.hours import find_hours
from hftcl.market.sessions import Calendar, HorizonError
from hftcl.market.sources import BarSource, find_source
from hftcl.market.store import BarStore
from hftcl.model.features import WARMUP_SESSIONS
from hftcl.settings import Settings
from hftcl.strategy.positions import positions_sha256
from hftcl.trading.brokers import Broker, find_broker, traits_of
from hftcl.trading.brokers.paper import FILE as PAPER_FILE
from hftcl.trading.brokers.strict import FILE as STRICT_FILE
from hftcl.trading.decide.bot import CLEAR, Minute
from hftcl.trading.decide.model_in_use import ModelInUse, ProductionWatch
from hftcl.trading.decide.shadow import Shadow
from hftcl.trading.execute.reconciliation import SAME, reconcile
from hftcl.trading.feeds.replay import StoredFeed
from hftcl.trading.run.clock import SimulatedClock
from hftcl.trading.run.session_loop import STAGE, Controls, Loop
from hftcl.trading.run.wiring import Parts, assemble, hold_lock, home_of, interval_s, read_capital

REHEARSAL: Final = "strict-paper"
_LAST_LOOKS: Final = 20  # in a storm one call in seven gets no answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a person would have been told by a live run: how often, and first when (UTC, of the bars)."""

    at: datetime
    kind: str
    subject: str
    text: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayReport:
    """The values of `trade --replay`. P&L is net, a fraction of capital, by session; USD only where a name says so.

    unseen: whether none of the sessions, nor their embargo, was trained on; else what is earned here proves nothing.
    decisions, orders, fills: how many; orders are those that were sent. refusals: of orders, by code; codes: of
    decisions. positions_sha256: of the target positions, as in `exam`. latency_ms: from a minute's bars to its last
    order, p50 and p99. broker: "paper", "strict-paper" in a rehearsal, or one of a plug-in that replays. alerts:
    what a live run would have told. apart: shares by which the broker's positions differ from the ledger's at the end.
    """

    model_id: str
    from_: date
    to: date
    sessions: int
    tickers: tuple[str, ...]
    left_out: dict[str, str]
    source: str
    synthetic: bool
    unseen: bool
    edge: str | None
    decisions: int
    orders: int
    fills: int
    reloads: int
    pnl: float
    pnl_by_session: dict[str, float]
    positions_sha256: str
    latency_ms: dict[str, float | None]
    refusals: dict[str, int]
    codes: dict[str, int]
    capital: float
    halted: str | None
    broker: str
    alerts: tuple[Told, ...]
    apart: dict[str, float]
    seconds: float

    @property
    def shortfall(self) -> str | None:
        """Why this is not the replay that was asked for, and what to do; None where it is."""
        halts = [alert.text for alert in self.alerts if alert.kind == Kind.HALTED]
        if halts or self.halted:
            reason = (halts[0] if halts else str(self.halted)).removesuffix(f" {CLEAR}").rstrip(".")
            return f"The replay was halted, and opened nothing more: {reason}. Mend that, and replay again."
        if self.apart:
            shares = ", ".join(f"{ticker} {difference:+g}" for ticker, difference in self.apart.items())
            return (
                f"The replay ended with more shares at the broker {self.broker} than in its ledger: {shares}. "
                "Replay again; a broker that errs twice has a fault, which its author should see."
            )
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayWindow:
    """The bars of a replay, those that features read before them included, and the sessions that are played."""

    bars: pl.DataFrame
    days: tuple[date, ...]
    tickers: tuple[str, ...]
    left_out: dict[str, str]
    findings: tuple[Finding, ...]


@dataclass(slots=True)
class _Tally:
    """What is counted while a replay runs. positions: a frame of ticker, ts, position for each session."""

    latencies: list[float] = field(default_factory=list)
    positions: list[pl.DataFrame] = field(default_factory=list)
    codes: Counter[str] = field(default_factory=Counter)
    alerts: dict[tuple[str, str], Told] = field(default_factory=dict)

    def hear(self, alert: Alert) -> None:
        key = str(alert.kind), alert.subject
        earlier_alert = self.alerts.get(key)
        self.alerts[key] = Told(
            at=earlier_alert.at if earlier_alert else alert.at,
            kind=str(alert.kind),
            subject=alert.subject,
            text=earlier_alert.text if earlier_alert else alert.text,
            count=earlier_alert.count + 1 if earlier_alert else 1,
        )

    def count_minute(self, done: Minute) -> None:
        if done.decided:
            self.latencies.append(1000.0 * done.latency_s)

    def count_session(self, ledger: Ledger, first: datetime, last: datetime) -> None:
        made = ledger.decisions("production", first, last)
        self.codes.update(made["code"].to_list())
        self.positions.append(made.select("ticker", "ts", pl.col("target").alias("position")).drop_nulls())


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
    source, calendar = find_source(settings.market.source)(settings), Calendar(settings.market.calendar)
    features = our_features(settings)
    serving = ProductionWatch(
        home_of(settings),
        MarketKind(calendar=calendar.name, synthetic=source.synthetic),
        policy=hash_policy(settings, features=features),
        interval_s=interval_s(settings),
        features=features,
    )
    look = serving.look(now)
    if serving.in_use is None:
        raise ModelNotFoundError(f"There is no model to replay with: {look.reason}")
    window = collect_window(settings, serving.in_use, source, calendar, first, last, now, on_event)
    seen = not _is_unseen(serving.in_use, calendar, window.days[0], settings.exam.embargo_sessions)
    _warn(serving, window, seen=seen, on_event=on_event)
    home = Home.replay(home_of(settings))
    with hold_lock(home, "replay"):
        loop, tally = _delete_begun_replay_and_assemble(
            settings, home, serving, window, source, controls, on_event, on_alert, rehearse=rehearse
        )
        with loop.ledger:
            _play(loop, window, calendar, serving.in_use, tally, on_event)
            return _build_report(loop, window, source, tally, unseen=not seen, seconds=stopwatch() - began)


def parse_span(text: str) -> tuple[date, date]:
    """Return both ends of "2025-06-02..2025-06-06"; one date alone is a span of one day. Raises UsageError."""
    begin, _, end = text.partition("..")
    try:
        first, last = date.fromisoformat(begin), date.fromisoformat(end or begin)
    except ValueError:
        raise UsageError(f"--replay {text!r} is no span of days. Give one such as 2025-06-02..2025-06-06.") from None
    if first > last:
        raise UsageError(f"--replay {text}: {first} is after {last}. Exchange them.")
    return first, last


def collect_window(
    settings: Settings,
    in_use: ModelInUse,
    source: BarSource,
    calendar: Calendar,
    first: date,
    last: date,
    now: datetime,
    on_event: OnEvent,
) -> ReplayWindow:
    """Collect the very bars that `exam --from first --to last` collects: same window, same end of what is known."""
    known_until = source.known_until(settings.market.watchlist, now)
    whole = None if known_until is None else calendar.find_last_complete(min(known_until, now))
    if whole is None or whole < first:
        extent = "has no bars" if whole is None else f"has none after {whole}"
        raise NoDataError(f"No session from {first} to {last} can be replayed: the source {source.name!r} {extent}.")
    if whole < last:
        on_event(Event(STAGE, text=f"the bars end on {whole}, before {last}; so does the replay", level=Level.WARNING))
    table = calendar.sessions(first, min(last, whole))
    if table.is_empty():
        raise NoDataError(f"There is no session from {first} to {last} in the calendar {calendar.name}.")
    days = tuple(table["session"].to_list())
    try:
        warm_up = calendar.find_previous_session(days[0], WARMUP_SESSIONS)
    except HorizonError:
        warm_up = days[0]
    collection = BarStore(Home.of(settings).bars, source, calendar).collect(
        settings.market.watchlist,
        warm_up,
        days[-1],
        as_of=table["close"][-1],
        extended_hours=in_use.model.meta.extended_hours,
        min_coverage=settings.market.min_coverage,
        save=False,
        on_event=on_event,
    )
    played = collection.bars.filter(pl.col("session") >= days[0])
    if played.is_empty():
        raise NoDataError(f"The source {source.name!r} has no bar of the watchlist from {first} to {last}.")
    return ReplayWindow(
        bars=collection.bars,
        days=days,
        tickers=tuple(played["ticker"].unique().sort().to_list()),
        left_out=dict(collection.left_out),
        findings=collection.findings,
    )


def _is_unseen(in_use: ModelInUse, calendar: Calendar, begin: date, embargo_sessions: int) -> bool:
    seen = in_use.model.meta.label_end
    try:
        ahead = calendar.sessions(seen.date(), seen.date() + timedelta(days=14 + 2 * embargo_sessions))
    except HorizonError:
        return False
    sessions = [Session(start=start, day=day) for day, start in ahead.select("session", "open").iter_rows()]
    left = find_unseen(sessions, seen, embargo_sessions=embargo_sessions)
    return bool(left) and begin >= left[0].day


def _warn(serving: ProductionWatch, window: ReplayWindow, *, seen: bool, on_event: OnEvent) -> None:
    def warn(text: str) -> None:
        on_event(Event(STAGE, text=text, level=Level.WARNING))

    for ticker, why in window.left_out.items():
        warn(f"{ticker} is left out: {why}")
    if seen:
        warn("the model was trained on some of these sessions: what it earns here says nothing")
    if serving.edge == "stand aside":
        warn(
            f'the edge is "stand aside" ({serving.edge_reason}): a replay decides and trades all the same, for it is a '
            "rehearsal"
        )


def _delete_begun_replay_and_assemble(
    settings: Settings,
    home: Home,
    serving: ProductionWatch,
    window: ReplayWindow,
    source: BarSource,
    controls: Controls,
    on_event: OnEvent,
    on_alert: Callable[[Alert], None],
    *,
    rehearse: bool,
) -> tuple[Loop, _Tally]:
    with convert_storage_faults("beginning the ledger of the replay"):
        delete_archive(home.ledger)  # first: files without their ledger are a lost ledger
        for path in (home.ledger, home.folder / PAPER_FILE, home.shadow / PAPER_FILE):
            sqlite.remove(path)
        (home.folder / STRICT_FILE).unlink(missing_ok=True)
    ledger, tally = Ledger(home.ledger, durable=False), _Tally()
    broker = _open_broker(settings, home, rehearse=rehearse)

    def hear(alert: Alert) -> None:
        tally.hear(alert)
        on_alert(alert)

    hours = serving.in_use.model.meta.extended_hours if serving.in_use else False
    start = find_hours(Calendar(settings.market.calendar), window.days[0], extended_hours=hours).begins
    capital = read_capital(ledger, settings, broker) if settings.trade.shadow else 0.0
    shadow = (
        Shadow.from_settings(settings, home, capital=capital, durable=False, features=serving.features)
        if settings.trade.shadow
        else None
    )
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
    if configured is None or not traits_of(configured).replays:
        return find_broker(REHEARSAL if rehearse else "paper")(settings, folder=home.folder, durable=False)
    with convert_storage_faults("emptying the folder of the broker"):
        if home.plugin_broker.exists():
            shutil.rmtree(home.plugin_broker)
        make_folder(home.plugin_broker)
    broker = configured(settings, folder=home.plugin_broker, durable=False)
    if broker.live_money:
        broker.close()
        raise ConfigError(
            f"The broker {broker.name} says that a replay may trade with it, and that it moves real money. "
            "Ask its author; no replay moves money."
        )
    return broker


def _play(
    loop: Loop, window: ReplayWindow, calendar: Calendar, in_use: ModelInUse, tally: _Tally, on_event: OnEvent
) -> None:
    extended = in_use.model.meta.extended_hours
    for done, day in enumerate(window.days):
        on_event(Event(STAGE, done, len(window.days), str(day)))
        hours = find_hours(calendar, day, extended_hours=extended)
        loop.wait_until(hours.begins)
        loop.trade_session(hours, hours.minutes(hours.begins))
        tally.count_session(loop.ledger, hours.begins, hours.ends)
        if loop.controls.stop:
            return
    on_event(Event(STAGE, len(window.days), len(window.days)))


def _build_report(
    loop: Loop, window: ReplayWindow, source: BarSource, tally: _Tally, *, unseen: bool, seconds: float
) -> ReplayReport:
    ledger, capital = loop.ledger, loop.bot.production.desk.capital
    by_session = compute_pnl_by_session(ledger.equity(), window.days, capital)
    orders, in_use = ledger.orders(), loop.serving.in_use
    latches = ledger.latches()
    return ReplayReport(
        model_id=in_use.model_id if in_use else "",
        from_=window.days[0],
        to=window.days[-1],
        sessions=len(window.days),
        tickers=window.tickers,
        left_out=window.left_out,
        source=source.name,
        synthetic=source.synthetic,
        unseen=unseen,
        edge=loop.serving.edge,
        decisions=sum(tally.codes.values()),
        orders=orders.filter(pl.col("state") != "refused").height,
        fills=ledger.fills().height,
        reloads=loop.reloads,
        pnl=float(sum(by_session.values())),
        pnl_by_session=by_session,
        positions_sha256=positions_sha256(pl.concat(tally.positions)),
        latency_ms=compute_percentiles(tally.latencies),
        refusals=ledger.count_refusals(),
        codes=dict(sorted(tally.codes.items())),
        capital=capital,
        halted="; ".join(f"{latch.name}: {latch.reason}" for latch in latches) or None,
        broker=loop.bot.production.desk.broker.name,
        alerts=tuple(tally.alerts.values()),
        apart=_apart(loop),
        seconds=seconds,
    )


def _apart(loop: Loop) -> dict[str, float]:
    """Return the shares by which the broker holds more than the ledger, without those of none."""
    broker, in_ledger = loop.bot.production.desk.broker, loop.ledger.positions()
    for _ in range(_LAST_LOOKS):
        try:
            at_broker = broker.account().positions
        except BrokerError:  # the weather of a rehearsal
            continue
        differences = {
            name: at_broker.get(name, 0.0) - in_ledger.get(name, 0.0)
            for name in sorted(in_ledger.keys() | at_broker.keys())
        }
        return {name: shares for name, shares in differences.items() if abs(shares) > SAME}
    raise BrokerError(f"The broker {broker.name} did not say what it holds at the end. Run it again with another seed.")


def compute_pnl_by_session(equity: pl.DataFrame, days: Sequence[date], capital: float) -> dict[str, float]:
    """Return what each session added to the equity, as a fraction of capital; 0.0 for one without a row."""
    last = dict(equity.group_by("session", maintain_order=True).agg(pl.col("equity").last()).iter_rows())
    pnl, before = {}, capital
    for day in days:
        after = last.get(day, before)
        pnl[day.isoformat()] = (after - before) / capital
        before = after
    return pnl


def compute_percentiles(values: Sequence[float]) -> dict[str, float | None]:
    """Return the median and the 99th percentile; None where there is no value."""
    if not values:
        return {"p50": None, "p99": None}
    p50, p99 = np.percentile(np.asarray(values), [50, 99])
    return {"p50": float(p50), "p99": float(p99)}
