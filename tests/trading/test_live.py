"""The bot on the present, on a simulated clock: who may trade what, sessions in turn, stops and restarts."""

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from hftcl.alerts import Alert, Kind
from hftcl.errors import ConfigError, LockHeldError, SourceError, UsageError
from hftcl.events import Event, OnEvent
from hftcl.home import Home
from hftcl.ledger.reader import LedgerReader
from hftcl.ledger.writer import Ledger
from hftcl.market.bars import MINUTE
from hftcl.market.hours import Hours
from hftcl.market.sessions import Calendar
from hftcl.settings import Settings
from hftcl.trading.brokers.alpaca import AlpacaBroker
from hftcl.trading.brokers.paper import PaperBroker
from hftcl.trading.brokers.strict_rules import AccountRules
from hftcl.trading.feeds import Delivery, Feed, Morning
from hftcl.trading.feeds.replay import StoredFeed
from hftcl.trading.run.clock import SimulatedClock
from hftcl.trading.run.controls import Controls
from hftcl.trading.run.guards import require_agreement_on_money, require_hours, require_present, require_same_account
from hftcl.trading.run.kill_switch import clear
from hftcl.trading.run.live import trade
from hftcl.trading.run.present import Present
from hftcl.trading.run.status import read_status
from hftcl.trading.run.trade_report import TradeReport
from hftcl.trading.run.wiring import hold_lock
from tests.trading.alpaca_server import AlpacaServer, says
from tests.trading.bot_stand import DAY, HALF_DAY, TRAINED, archived, bars_of, market_bars, session_minutes, settings_of
from tests.trading.strict_server import StrictServer
from tests.trading.trading_cases import a_record, at

NEXT_DAY = date(2025, 6, 3)


@dataclass
class Silent:
    """A supervisor that remembers what it was told."""

    told: list[str] = field(default_factory=list)

    def tell_ready(self) -> None:
        self.told.append("ready")

    def tell_alive(self) -> None:
        self.told.append("alive")

    def tell_status(self, text: str) -> None:
        self.told.append(text)

    def tell_stopping(self) -> None:
        self.told.append("stopping")


class Scripted(StoredFeed):
    """Stored bars; at some minutes something happens first."""

    def __init__(self, bars: pl.DataFrame, script: dict[datetime, Callable[[], None]]) -> None:
        super().__init__(bars, ("AAPL", "AMD", "TSLA"))
        self.script = script
        self.faults = 0
        self.closed = False
        self.ahead_s: float | None = None

    def clock_ahead_s(self) -> float | None:
        """Return what the service says of the clock."""
        return self.ahead_s

    def begin(self, hours: Hours, now: datetime) -> Morning:
        """Do what the script says for the minute before the session, fail as often as it was told to, then begin."""
        self.script.get(hours.begins - MINUTE, lambda: None)()
        if self.faults:
            self.faults -= 1
            raise SourceError("Polygon is not there.")
        return super().begin(hours, now)

    def close(self) -> None:
        """Remember it."""
        self.closed = True

    def minute(self, minute: datetime, now: datetime) -> Delivery:
        """Do what the script says, then deliver."""
        self.script.get(minute, lambda: None)()
        return super().minute(minute, now)


@dataclass
class World:
    """Everything around one run of the bot."""

    home: Path
    start: datetime
    bars: pl.DataFrame
    sections: dict[str, dict[str, object]] = field(default_factory=dict)
    controls: Controls = field(default_factory=Controls)
    service: Silent = field(default_factory=Silent)
    events: list[Event] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    script: dict[datetime, Callable[[], None]] = field(default_factory=dict)
    faults: int = 0
    ahead_s: float | None = None
    is_replaced: Callable[[], bool] = lambda: False
    feed: Scripted = field(init=False)

    def __post_init__(self) -> None:
        self.controls.halt_file = Home.live(self.home).halt_file
        self.clock = SimulatedClock(self.start)

    def stop(self) -> None:
        self.controls.stop = True

    def run(self, *, once: bool = False, real_money: bool = False) -> TradeReport:
        settings = settings_of(self.home, **self.sections)

        def feed(_: Calendar, __: Callable[[], bool], hears: OnEvent) -> Feed:
            hears(Event("collect", 0, 1))
            made = Scripted(self.bars, self.script)
            made.faults, made.ahead_s = self.faults, self.ahead_s
            self.feed = made
            return made

        present = Present(
            clock=self.clock,
            feed=feed,
            service=self.service,
            controls=self.controls,
            on_event=self.events.append,
            on_alert=self.alerts.append,
            is_replaced=self.is_replaced,
        )
        return trade(settings, present, real_money=real_money, once=once)

    def ledger(self) -> LedgerReader:
        return LedgerReader(Home.live(self.home).ledger)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    archived(tmp_path, report={"edge": "stand aside"})
    return tmp_path


# ---- who may trade ---------------------------------------------------------------------------------------------------


class Account(PaperBroker):
    """A broker that would move real money."""

    name = "bank"
    live_money = True


@pytest.fixture
def bank(tmp_path: Path) -> Account:
    return Account(settings_of(tmp_path), folder=tmp_path, durable=False)


@pytest.mark.parametrize(
    ("in_settings", "on_command_line", "missing"),
    [
        (False, False, r"\[trade\] live = true in the configuration and --live on the command line"),
        (True, False, "needs --live on the command line too"),
        (False, True, r"needs \[trade\] live = true in the configuration too"),
    ],
)
def test_real_money_takes_the_configuration_and_the_command_line(
    tmp_path: Path, bank: Account, in_settings: bool, on_command_line: bool, missing: str
) -> None:
    settings = settings_of(tmp_path, trade={"live": in_settings})
    with pytest.raises(UsageError, match=missing):
        require_agreement_on_money(settings, bank, real_money=on_command_line, synthetic=False)
    require_agreement_on_money(settings_of(tmp_path, trade={"live": True}), bank, real_money=True, synthetic=False)


def test_real_money_is_never_traded_on_an_invented_market(tmp_path: Path, bank: Account) -> None:
    with pytest.raises(UsageError, match="invented market"):
        require_agreement_on_money(settings_of(tmp_path, trade={"live": True}), bank, real_money=True, synthetic=True)


def test_the_live_option_with_a_paper_broker_is_a_misunderstanding(home: Path) -> None:
    with pytest.raises(UsageError, match=r"--live asks for real money, and .* 'paper' moves none"):
        World(home, session_minutes()[0], bars_of(DAY)).run(real_money=True)


def test_another_account_or_other_capital_is_not_traded_on_the_same_ledger(home: Path, bank: Account) -> None:
    minutes = session_minutes()
    world = World(home, minutes[60], bars_of(DAY))
    world.script = {minutes[62]: world.stop}
    world.run()
    with pytest.raises(ConfigError, match=r"capital of 100,000.00 USD, and \[trade\] capital is now 10,000.00"):
        World(home, minutes[64], bars_of(DAY), sections={"trade": {"capital": 10_000.0}}).run()
    another = r"of the broker paper \(paper money\), and .* now bank \(live money\)"
    with Ledger(Home.live(home).ledger) as ledger, pytest.raises(ConfigError, match=another):
        require_same_account(ledger, settings_of(home), bank)
    again = World(home, minutes[64], bars_of(DAY), sections={"trade": {"capital": 100_000.0}})
    again.script = {minutes[66]: again.stop}
    assert again.run().decisions > 0


class Regular(PaperBroker):
    """A broker that fills in regular hours only."""

    name = "regular"
    extended_hours = False


def test_extended_hours_take_a_broker_that_fills_in_them(tmp_path: Path) -> None:
    """Else what is held at the regular close stays over night, whatever the bot wants."""
    extended = settings_of(tmp_path, market={"extended_hours": True})
    with pytest.raises(ConfigError, match="broker regular fills orders in regular hours only"):
        require_hours(extended, Regular(extended, folder=tmp_path, durable=False))
    require_hours(extended, PaperBroker(extended, folder=tmp_path, durable=False))
    require_hours(settings_of(tmp_path), Regular(extended, folder=tmp_path, durable=False))
    assert not AlpacaBroker.extended_hours


@pytest.mark.parametrize("source", ["synthetic", "files"])
def test_bars_without_a_present_are_for_replays(source: str) -> None:
    settings = Settings()
    with pytest.raises(ConfigError, match=f"'{source}' has no bars of the present.*--replay"):
        require_present(replace(settings, market=replace(settings.market, source=source)))
    require_present(replace(settings, market=replace(settings.market, source="polygon")))


def test_a_second_bot_of_the_same_home_is_refused(home: Path) -> None:
    with hold_lock(Home.live(home), "bot"), pytest.raises(LockHeldError):
        World(home, session_minutes()[0], bars_of(DAY)).run()


# ---- sessions --------------------------------------------------------------------------------------------------------


def test_a_bot_whose_code_was_replaced_trades_its_session_to_the_end_and_ends_before_the_next(home: Path) -> None:
    world = World(home, datetime(2025, 7, 3, 16, 40, tzinfo=UTC), market_bars(date(2025, 6, 25), date(2025, 7, 3)))
    asked: list[datetime] = []

    def is_replaced() -> bool:
        asked.append(world.clock.now())
        return len(asked) > 1

    world.is_replaced = is_replaced
    report = world.run()
    assert (
        report.note
        == "hftcl was replaced on the disk since this began: it ends before the session, and is started again."
    )
    with world.ledger() as ledger:
        assert set(ledger.read_decisions()["ts"].dt.date()) == {HALF_DAY}
        assert ledger.read_positions() == {}
    assert [at.date() for at in asked] == [HALF_DAY, date(2025, 7, 7)]


def test_it_waits_for_the_open_trades_the_session_and_waits_for_the_next(home: Path) -> None:
    """From the evening before a half day over the holiday behind it: nothing is decided while the market is closed."""
    monday = datetime(2025, 7, 7, 13, 30, tzinfo=UTC)
    bars = market_bars(date(2025, 6, 25), date(2025, 7, 7))
    world = World(home, datetime(2025, 7, 2, 23, 0, tzinfo=UTC), bars)
    world.script[monday + 2 * MINUTE] = world.stop
    report = world.run()
    with world.ledger() as ledger:
        decisions, events = ledger.read_decisions(), [event.kind for event in ledger.read_events()]
        assert ledger.read_positions() == {}
        assert set(ledger.read_fills()["ts"].dt.date()) == {HALF_DAY}
        assert ledger.open_meta()["mode"] == "paper"
    assert decisions["ts"].n_unique() == 210 + 3
    assert set(decisions["ts"].dt.date()) == {HALF_DAY, monday.date()}
    assert (report.decisions, report.halted) == (decisions.height, None)
    assert report.orders > 20, "paper trades although the edge stands aside, so that a record grows"
    assert events[:3] == ["reconciled", "started", "reloaded"]
    assert events[-1] == "stopped"
    assert [text for text in world.service.told if text != "alive"][:3] == [
        "ready",
        "waiting for session 2025-07-03, 13:30 UTC; paper money, model 20250531_120000, broker paper, feed "
        "polygon-websocket",
        "trading session 2025-07-03",
    ]
    assert world.service.told[-1] == "stopping"


class Piecemeal(SimulatedClock):
    """Waits as the system's clock does: a little, and then the caller looks around."""

    def wait_until(self, moment: datetime) -> bool:
        """Wait half a minute at most."""
        super().wait_until(min(moment, self.now() + timedelta(seconds=30)))
        return self.now() >= moment


class PutAhead(SimulatedClock):
    """Is ahead by `by` in the minute from `at` on, and right before and after it; tells so as the machine's does."""

    def __init__(self, start: datetime, at: datetime, by: timedelta) -> None:
        super().__init__(start)
        self.at, self.by = at, by
        self.known = self.ahead

    @property
    def true(self) -> datetime:
        """What time it is."""
        return self._now

    @property
    def ahead(self) -> timedelta:
        return self.by if self.at <= self._now < self.at + MINUTE else timedelta()

    def now(self) -> datetime:
        return self._now + self.ahead

    def wait_until(self, moment: datetime) -> bool:
        self._now += max(min(moment - self.now(), timedelta(seconds=5)), timedelta())
        return self.now() >= moment

    def was_set(self) -> bool:
        before, self.known = self.known, self.ahead
        return before != self.known


@pytest.mark.hazard(69)
@pytest.mark.parametrize("by", [40, 200], ids=["within the session", "past the bell"])
def test_a_clock_that_was_ahead_for_a_minute_costs_the_bot_that_minute_and_no_other(home: Path, by: int) -> None:
    minutes = session_minutes()
    world = World(home, minutes[285], bars_of(DAY))
    clock = world.clock = PutAhead(minutes[285], minutes[300], timedelta(minutes=by))
    in_time: set[datetime] = set()

    def note(minute: datetime) -> Callable[[], None]:
        return lambda: in_time.add(minute) if MINUTE <= clock.true - minute < 2 * MINUTE else None

    world.script |= {minute: note(minute) for minute in minutes[285:330]} | {minutes[330]: world.stop}
    world.run()
    assert set(minutes[285:330]) - in_time <= {minutes[299]}, "the one that ended while it was ahead"


class PutRight(PutAhead):
    """Is off by `by` until `at`, when it is put right for good; after `stop_at` it ends the run."""

    stop: Callable[[], None]
    stop_at: datetime

    @property
    def ahead(self) -> timedelta:
        return self.by if self._now < self.at else timedelta()

    def wait_until(self, moment: datetime) -> bool:
        has_come = super().wait_until(moment)
        if self.true >= self.stop_at:
            self.stop()
        return has_come


def put_right(world: World, at: datetime, by: timedelta, stop_at: datetime) -> PutRight:
    clock = world.clock = PutRight(world.start, at, by)
    clock.stop, clock.stop_at = world.stop, stop_at
    return clock


@pytest.mark.hazard(69)
@pytest.mark.parametrize("by", [-40, -5, 2, 40])
def test_a_clock_that_is_put_right_once_leaves_no_minute_undecided_and_nothing_held(home: Path, by: int) -> None:
    minutes = session_minutes()
    world = World(home, minutes[285], bars_of(DAY))
    clock = put_right(world, minutes[300], timedelta(minutes=by), minutes[389] + 10 * MINUTE)
    in_time: set[datetime] = set()

    def note(minute: datetime) -> Callable[[], None]:
        return lambda: in_time.add(minute) if MINUTE <= clock.true - minute < 2 * MINUTE else None

    world.script |= {minute: note(minute) for minute in minutes}
    world.run()
    assert in_time >= set(minutes[300:])
    with world.ledger() as ledger:
        assert ledger.read_positions() == {}
        assert ledger.read_fills()["ts"].max() >= minutes[300], "it held something by then"  # type: ignore[operator]


@pytest.mark.hazard(69)
def test_a_clock_that_is_put_past_the_bell_ends_the_session_and_tells_what_is_held(home: Path) -> None:
    """As where a machine is paused over the close."""
    minutes, world = session_minutes(), World(home, session_minutes()[285], bars_of(DAY))
    put_right(world, minutes[389] + 21 * MINUTE, timedelta(minutes=-100), minutes[389] + 40 * MINUTE)
    world.run()
    with world.ledger() as ledger:
        held = ledger.read_positions()
        assert ledger.read_working_orders() == ()
    assert held
    (alert,) = [alert for alert in world.alerts if alert.subject == "positions are held overnight"]
    assert all(ticker in alert.text for ticker in held)


def test_the_watchdog_hears_of_it_all_night(home: Path) -> None:
    """A service that is silent for longer than WatchdogSec, 5 minutes, is killed, and before long given up."""
    world = World(home, session_minutes()[386], market_bars(date(2025, 5, 20), NEXT_DAY))
    clock = world.clock = Piecemeal(session_minutes()[386])
    heard: list[datetime] = []
    world.service.tell_alive = lambda: heard.append(clock.now())  # type: ignore[method-assign]
    world.script[session_minutes(NEXT_DAY)[2]] = world.stop
    world.run()
    assert heard[-1] - heard[0] > timedelta(hours=17)
    assert max(after - before for before, after in itertools.pairwise(heard)) <= timedelta(minutes=1)


def test_once_decides_on_the_minute_that_has_just_ended(home: Path) -> None:
    minutes = session_minutes()
    world = World(home, minutes[60] + timedelta(seconds=20), bars_of(DAY))
    report = world.run(once=True)
    assert world.feed.closed
    assert (report.decisions, report.note) == (3, "One minute of session 2025-06-02 was decided.")
    with world.ledger() as ledger:
        assert ledger.find_last_decided() == minutes[59]


def test_once_finds_its_minute_again_where_the_clock_is_put_meanwhile(home: Path) -> None:
    minutes, ahead = session_minutes(), timedelta(minutes=40)
    world = World(home, minutes[60] + timedelta(seconds=1), bars_of(DAY))
    world.clock = PutAhead(world.start, minutes[60] + timedelta(seconds=2), ahead)
    report = world.run(once=True)
    assert (report.decisions, report.note) == (3, "One minute of session 2025-06-02 was decided.")
    with world.ledger() as ledger:
        assert ledger.find_last_decided() == minutes[99]


def test_once_while_the_market_is_closed_says_when_it_opens(home: Path) -> None:
    report = World(home, datetime(2025, 6, 1, 12, 0, tzinfo=UTC), bars_of(DAY)).run(once=True)
    assert report.decisions == 0
    assert report.note == "The market is closed; session 2025-06-02 begins at 2025-06-02 13:30 UTC."


def test_a_clock_that_is_wrong_is_told_at_the_start_before_any_session(home: Path) -> None:
    """Behind by hours it would let the first one pass in silence."""
    world = World(home, session_minutes()[0] - timedelta(hours=6), bars_of(DAY), ahead_s=-4 * 3600.0)
    world.run(once=True)
    assert [alert.subject for alert in world.alerts] == ["the clock is wrong"]


def test_a_source_that_fails_in_the_morning_is_tried_again(home: Path) -> None:
    minutes = session_minutes()
    world = World(home, minutes[0] - timedelta(minutes=30), bars_of(DAY), faults=2)
    world.script[minutes[1]] = world.stop
    assert world.run().decisions == 6
    assert [alert.kind for alert in world.alerts] == [Kind.DATA_HOLE], "told once, and tried again each minute"


# ---- the kill switch -------------------------------------------------------------------------------------------------


def press(world: World) -> None:
    assert world.controls.halt_file is not None
    world.controls.halt_file.write_text("")


def signalled(world: World) -> None:
    world.controls.halt = True


@pytest.mark.parametrize("how", [press, signalled])
def test_a_halt_closes_everything_and_stays_latched_over_a_restart(home: Path, how: Callable[[World], None]) -> None:
    minutes = session_minutes()
    world = World(home, minutes[60], bars_of(DAY))
    world.script = {minutes[66]: lambda: how(world), minutes[70]: world.stop}
    report = world.run()
    with world.ledger() as ledger:
        assert ledger.read_fills().height > 0
        assert ledger.read_positions() == {}
        codes = ledger.read_decisions(first=minutes[67])["code"].unique().to_list()
        closing = ledger.read_orders(first=minutes[66]).filter(pl.col("client_order_id").str.ends_with("-f"))
        assert closing.height > 0
        assert closing["created_at"].min() == minutes[66] + timedelta(seconds=63), "at once, not with the next minute"
        assert ledger.read_orders(first=minutes[68]).is_empty(), "nothing is opened any more"
    assert codes == ["hold_halted"]
    assert report.halted is not None
    assert [alert.kind for alert in world.alerts] == [Kind.HALTED]
    again = World(home, minutes[75], bars_of(DAY))
    again.controls.halt_file.unlink(missing_ok=True)  # type: ignore[union-attr]
    again.script = {minutes[78]: again.stop}
    again.run()
    with again.ledger() as ledger:
        assert set(ledger.read_decisions(first=minutes[74])["code"]) == {"hold_halted"}
        assert ledger.read_orders(first=minutes[74]).is_empty()


@pytest.mark.parametrize("pressed", [True, False], ids=["kill switch", "the close"])
def test_a_bot_that_gets_no_bars_closes_what_it_holds_when_it_must(home: Path, pressed: bool) -> None:
    minutes = session_minutes()
    before = World(home, minutes[110], bars_of(DAY))
    before.script = {minutes[120]: before.stop}
    held = before.run().positions
    assert held
    start = 125 if pressed else 380
    world = World(home, minutes[start], bars_of(DAY), faults=10_000)
    clock = world.clock = Piecemeal(minutes[start])

    new: list[str] = []

    def look_around() -> None:
        if pressed and clock.now() >= minutes[134] and not new:
            new.append("")
            new[0] = archived(home, TRAINED + timedelta(hours=1), seed=2)
            world.controls.look = True
        if pressed and clock.now() >= minutes[130]:
            press(world)
        if clock.now() >= (minutes[140] if pressed else minutes[389] + 3 * MINUTE):
            world.stop()

    world.service.tell_alive = look_around  # type: ignore[method-assign]
    world.run()
    with world.ledger() as ledger:
        closing = ledger.read_orders(first=minutes[start])
        assert set(closing["ticker"]) == set(held)
        # an order of the minute of the stop may still wait to be filled: with it and all before, nothing is left
        left = ledger.read_orders().group_by("ticker").agg(pl.col("quantity").sum())
        assert not any(left["quantity"])
        assert closing.height == len(held), "and once"
        assert closing["ts"].min() == minutes[130 if pressed else 388]
        assert not pressed or ledger.open_meta()["model_id"] == new[0], "a new model does no harm"
        assert ledger.open_meta().read_moment("session_opened") == minutes[0], "what --status counts as today's"
    assert ("positions are held overnight" in [alert.subject for alert in world.alerts]) == (not pressed)


@pytest.mark.hazard(54)
def test_where_the_calendar_ends_nothing_is_traded_and_a_person_is_told(home: Path) -> None:
    world = World(home, datetime(2099, 1, 5, 15, 0, tzinfo=UTC), bars_of(DAY))
    report = world.run(once=True)
    assert report.decisions == 0
    assert "hold_calendar" in report.note
    assert [alert.kind for alert in world.alerts if "calendar" in alert.subject] == [Kind.HALTED]


def test_an_account_that_nobody_can_explain_halts_before_the_first_order(home: Path) -> None:
    minutes = session_minutes()
    world = World(home, minutes[60], bars_of(DAY))
    world.script = {minutes[64]: world.stop}
    world.run()
    Home.live(home).ledger.unlink()  # the ledger is lost; what it held is still in the account
    for suffix in ("-wal", "-shm"):
        Home.live(home).ledger.with_name(f"ledger.sqlite{suffix}").unlink(missing_ok=True)
    later: Any = World(home, minutes[70], bars_of(DAY))
    later.script = {minutes[73]: later.stop}
    report = later.run()
    assert report.halted is not None
    assert "reconciliation" in report.halted
    assert Kind.HALTED in [alert.kind for alert in later.alerts]


def ledger_lost(home: Path) -> dict[str, float]:
    """Trade, lose the ledger, and return what is still held in the account."""
    minutes = session_minutes()
    world = World(home, minutes[110], bars_of(DAY))
    world.script = {minutes[114]: world.stop}
    world.run()
    held = PaperBroker(settings_of(home), folder=home).account().positions
    assert held
    for suffix in ("", "-wal", "-shm"):  # the ledger is lost; what it held is still in the account
        Home.live(home).ledger.with_name(f"ledger.sqlite{suffix}").unlink(missing_ok=True)
    return dict(held)


@pytest.mark.parametrize("cleared", [-1, 123], ids=["before the first minute", "between two minutes"])
def test_a_difference_that_a_person_clears_while_the_bot_runs_is_taken_over_before_the_next_order(
    home: Path, cleared: int
) -> None:
    """Else the bot would count on from a position that nobody has, and trade twice what it means to."""
    held, minutes = ledger_lost(home), session_minutes()
    later = World(home, minutes[120], bars_of(DAY))
    later.script = {
        minutes[0] + cleared * MINUTE: lambda: clear(settings_of(home), by="anna", now=later.clock.now()),  # type: ignore[dict-item]
        minutes[127]: later.stop,
    }
    report = later.run()
    assert report.halted is None
    with later.ledger() as ledger:
        codes = ledger.read_decisions(first=minutes[119])
        halted = codes.filter(pl.col("ts") <= minutes[max(cleared, 0)])
        assert set(halted["code"]) == ({"hold_halted"} if cleared > 0 else set())
        assert "hold_halted" not in set(codes.filter(pl.col("ts") > minutes[max(cleared, 0)])["code"])
        adopted = ledger.read_fills().filter(pl.col("client_order_id") == "adopted")
        assert dict(adopted.select("ticker", "quantity").iter_rows()) == held
        assert ledger.read_positions() == PaperBroker(settings_of(home), folder=home).account().positions


@pytest.fixture
def alpaca(monkeypatch: pytest.MonkeyPatch) -> Iterator[AlpacaServer]:
    """Start a broker in whose account a test can do what others do."""
    monkeypatch.setenv("APCA_API_KEY_ID", "key-123456")
    monkeypatch.setenv("APCA_API_SECRET_KEY", "secret-123456")
    with AlpacaServer() as server:
        yield server


DIVIDEND = {"symbol": "AAPL", "qty": "5", "side": "long", "current_price": "100"}


def world_of(alpaca: AlpacaServer, home: Path, start: datetime) -> World:
    """Return a bot without a model, but with money: a server of ours is none of the paper addresses."""
    rules: dict[str, dict[str, object]] = {
        "market": {"source": "files", "watchlist": ("AAPL", "AMD", "TSLA")},
        "trade": {"broker": "alpaca", "live": True},
        "alpaca": {"base_url": alpaca.url},
    }
    return World(home, start, market_bars(DAY - timedelta(days=12), NEXT_DAY), rules)


@pytest.mark.hazard(67)
@pytest.mark.parametrize(("factor", "after"), [((1, 4), 400.0), ((3, 1), 33.0)], ids=["forward", "reverse"])
def test_a_split_that_the_broker_has_done_overnight_is_booked_before_the_shares_are_compared(
    home: Path, monkeypatch: pytest.MonkeyPatch, factor: tuple[int, int], after: float
) -> None:
    morning = session_minutes(NEXT_DAY)[0]
    world: World
    with StrictServer(AccountRules(cash_in_lieu=True), clock=lambda: world.clock.now()) as server:
        monkeypatch.setenv("APCA_API_KEY_ID", server.keys[0])
        monkeypatch.setenv("APCA_API_SECRET_KEY", server.keys[1])
        world = world_of(server, home, morning - timedelta(hours=2))
        world.sections["files"] = {"splits": "splits.json", "folder": str(home)}
        split = {"execution_date": str(NEXT_DAY), "split_from": factor[0], "split_to": factor[1]}
        (home / "splits.json").write_text(json.dumps([split | {"ticker": ticker} for ticker in ("AAPL", "AMD")]))
        with Ledger(Home.live(home).ledger) as ledger:
            ledger.set_meta(capital="100000.0", fills_cursor_production=at(0).isoformat())
            for ticker in ("AAPL", "AMD"):
                bought = a_record(0, ticker, 100.0)
                ledger.write_decisions([], [bought])
                server.account.submit(bought.client_order_id, ticker, 100.0, 100.0, at(1))
                server.account.on_bars([(at(1), ticker, 100.0, 100.0, 1e6)], at(2))
        server.account.split("AAPL", factor[1] / factor[0], morning - timedelta(hours=5))
        assert server.account.positions == {"AAPL": after, "AMD": 100.0}
        sent = len(server.account.orders)
        world.script = {morning + MINUTE: world.stop}
        report = world.run(real_money=True)
        closing = [order.symbol for order in server.account.orders.values()][sent:]
    assert (report.halted, report.positions) == (None, {"AAPL": after, "AMD": 100.0})
    assert closing == ["AAPL"], "there is no model, so what is held is closed; what is awaited is left alone"
    (awaited,) = [alert for alert in world.alerts if "split" in alert.subject]
    assert "AMD" in awaited.text
    assert "AAPL" not in awaited.text
    shown = read_status(settings_of(home, **world.sections))
    assert shown.awaited_splits == {"AMD": factor[1] / factor[0]}, "and the status goes on telling it"
    with world.ledger() as ledger:
        assert ledger.read_account().realised == pytest.approx(0.0)
        assert [event.kind for event in ledger.read_events()].count("split") == 1


def test_what_the_account_became_overnight_halts_the_next_session(home: Path, alpaca: AlpacaServer) -> None:
    morning = session_minutes(NEXT_DAY)[0]
    world = world_of(alpaca, home, session_minutes()[385])
    world.script = {
        session_minutes()[389]: lambda: alpaca.positions.append(DIVIDEND),
        morning + 3 * MINUTE: world.stop,
    }
    report = world.run(real_money=True)
    assert report.halted is not None
    assert "AAPL: 5 shares at the broker, 0 in the ledger" in report.halted
    with world.ledger() as ledger:
        assert set(ledger.read_decisions(first=morning)["code"]) == {"hold_halted"}
        assert set(ledger.read_decisions(last=morning - MINUTE)["code"]) == {"hold_no_model"}


def test_a_broker_that_does_not_answer_in_the_morning_is_asked_again(home: Path, alpaca: AlpacaServer) -> None:
    morning = session_minutes(NEXT_DAY)[0]
    world = world_of(alpaca, home, session_minutes()[385])

    def down() -> None:
        alpaca.faults["GET /v2/account"] = [says(500, {"message": "oops"})] * 3

    world.script = {session_minutes()[389]: down, morning + 3 * MINUTE: world.stop}
    report = world.run(real_money=True)
    assert report.halted is None
    told = [alert for alert in world.alerts if alert.subject == "the session cannot be prepared"]
    assert len(told) == 1, "told once, and asked again each minute"
    with world.ledger() as ledger:
        assert ledger.read_decisions(first=morning)["ts"].min() == morning, "it was asked before the session began"


def test_a_broker_that_does_not_answer_when_a_difference_is_cleared_halts_again(
    home: Path, alpaca: AlpacaServer
) -> None:
    minutes = session_minutes()
    world = world_of(alpaca, home, minutes[100])
    alpaca.positions.append(DIVIDEND)

    def clear_now() -> None:
        clear(settings_of(home), by="anna", now=world.clock.now())

    def clear_while_down() -> None:
        alpaca.faults["GET /v2/account"] = [says(500, {"message": "oops"})] * 2  # of this minute, and of the comparison
        clear_now()

    world.script = {minutes[102]: clear_while_down, minutes[104]: clear_now, minutes[107]: world.stop}
    report = world.run(real_money=True)
    assert (report.halted, report.positions) == (None, {"AAPL": 5.0})
    with world.ledger() as ledger:
        assert ["could not be asked" in latch.reason for latch in ledger.list_all_latches()] == [False, True]
        halted = ledger.read_decisions().filter(pl.col("code") == "hold_halted")
        assert halted["ts"].unique().sort().to_list() == list(minutes[99:105])
