"""`hftcl trade --status`: what the bot is doing, read beside it, and the same when nobody runs."""

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hftcl.document import build_document
from hftcl.errors import BrokerTimeoutError, IntegrityError, StorageError
from hftcl.events import Event
from hftcl.home import Home
from hftcl.ledger.rows import Decision, FillRecord, LedgerEvent
from hftcl.ledger.writer import Ledger
from hftcl.market.bars import BAR_SCHEMA, MINUTE
from hftcl.market.hours import find_next_hours
from hftcl.market.sessions import Calendar
from hftcl.settings import Settings
from hftcl.trading.brokers import Account, Order, OrderState
from hftcl.trading.brokers.paper import PaperBroker
from hftcl.trading.brokers.strict import StrictPaper
from hftcl.trading.execute.last_resort import close_without_ledger
from hftcl.trading.run.broker_close import BrokerClose, CloseOutcome
from hftcl.trading.run.clock import SimulatedClock
from hftcl.trading.run.kill_switch import clear, flatten
from hftcl.trading.run.status import StatusReport, read_status
from hftcl.trading.run.wiring import hold_lock
from hftcl.views.progress import build_listener
from hftcl.views.terminal import unwritten
from tests.in_process import call
from tests.installed import HFTCL, PATIENCE_S
from tests.loop_cases import SMALL_TOML
from tests.test_plug_ins import Stranger, install
from tests.trading.bot_stand import DAY, Stand, archived, bars_of, settings_of, some_minutes, stand
from tests.trading.strict_stand import bench
from tests.trading.trading_cases import SESSION, at


@pytest.fixture
def bot(tmp_path: Path) -> Stand:
    """Return a bot in the midst of a session, with positions."""
    archived(tmp_path)
    made = stand(tmp_path, first=110)
    made.run(DAY, some_minutes(110, 10))
    return made


def asked(home: Path) -> StatusReport:
    return read_status(settings_of(home))


def test_it_tells_the_model_the_account_and_the_limits(bot: Stand) -> None:
    with hold_lock(Home.live(bot.home), "bot"):
        found = asked(bot.home)
    equity = bot.ledger.read_last_equity().row(0, named=True)
    assert (found.running, found.mode, found.pid) == (True, "paper", os.getpid())
    assert (found.source, found.synthetic, found.session) == ("synthetic", True, "2025-06-02")
    assert found.model_id == bot.loop.serving.in_use.model_id  # type: ignore[union-attr]
    assert found.last_decision == some_minutes(119, 1)[0]
    assert found.last_minute == some_minutes(119, 1)[0]
    assert found.data_lag_s == 3.0, "the grace"
    assert found.positions == bot.ledger.read_positions() != {}
    assert found.equity == equity["equity"]
    assert found.pnl_today == pytest.approx(equity["equity"] - 100_000, abs=1e-9)
    assert found.limits["gross"].used == equity["gross"] > 0
    assert found.limits["gross"].limit == pytest.approx(110_000)
    assert found.limits["daily_loss"].limit == pytest.approx(3_000)
    assert (found.halted, found.reloads, found.errors) == (None, 0, ())
    assert [book.book for book in found.books] == ["production"]
    assert found.books[0].fills == bot.ledger.read_fills().height


def test_asking_changes_nothing_and_the_bot_goes_on(bot: Stand) -> None:
    def marks() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in bot.home.iterdir() if path.is_file()}

    before = marks()
    asked(bot.home)
    assert marks() == before
    bot.run(DAY, some_minutes(120, 2))
    assert asked(bot.home).last_decision == some_minutes(121, 1)[0]


def test_a_bot_that_was_killed_is_not_running(bot: Stand) -> None:
    (bot.home / ".trading.lock").write_text("4711\n")  # what a killed holder leaves; the kernel let go of the lock
    assert asked(bot.home).running is False


def test_a_home_without_a_bot_is_no_error(tmp_path: Path) -> None:
    found = asked(tmp_path)
    assert (found.running, found.mode, found.model_id, found.positions) == (False, None, None, {})
    json.dumps(build_document(found), allow_nan=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.hazard(87)
def test_a_registry_that_was_emptied_or_is_damaged_is_told_beside_the_bot(bot: Stand) -> None:
    registry = Home.live(bot.home).registry
    for content, told in ((b"", "knows no model"), (b"x" * 8192, "is damaged")):
        registry.write_bytes(content)
        found = asked(bot.home)
        assert (found.model_id, found.positions) == (bot.loop.serving.in_use.model_id, bot.ledger.read_positions())  # type: ignore[union-attr]
        (error,) = found.errors
        assert told in error
        assert "`hftcl doctor --repair`" in error


def test_errors_of_the_last_day_and_latches_are_told(bot: Stand) -> None:
    now = bot.clock.now()
    for age, text in ((timedelta(days=3), "long ago"), (timedelta(hours=1), "the broker was away")):
        bot.ledger.write_event(LedgerEvent(at=now - age, kind="error", text=text))
    bot.ledger.latch("daily_loss", "the session has lost 3,100.00 USD", now)
    found = asked(bot.home)
    assert [error.partition(" UTC ")[2] for error in found.errors] == ["the broker was away"]
    assert found.halted is not None
    assert "daily_loss" in found.halted
    assert "3,100.00" in found.halted


def shown(home: Path, *arguments: str) -> str:
    (home / "hftcl.toml").write_text(SMALL_TOML)
    done = call(home, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_command_draws_it_and_prints_one_document(bot: Stand) -> None:
    drawn = shown(bot.home, "trade", "--status")
    for text in ("NOT RUNNING, paper", "SYNTHETIC bars", "limit gross", "production", "2025-06-02 15:29 UTC"):
        assert text in drawn
    (closing,) = [line for line in drawn.splitlines() if "to close everything, min" in line]
    assert float(closing.split()[-1]) >= 1, "a minute until the fills, and the orders at the plan's pace"
    assert "\x1b" not in drawn
    assert set(json.loads(shown(bot.home, "trade", "--status", "--json"))) >= {
        "running",
        "model_id",
        "since",
        "last_decision",
        "data_lag_s",
        "positions",
        "pnl_today",
        "limits",
        "halted",
        "errors",
        "reloads",
    }


def test_an_older_copy_of_the_ledger_and_a_missing_month_are_told(bot: Stand) -> None:
    live = Home.live(bot.home)
    older = bot.home / "older.sqlite"
    with contextlib.closing(sqlite3.connect(older)) as copy:
        bot.ledger._db.backup(copy)
    bot.ledger.archive(some_minutes(119, 1)[0] + MINUTE)
    bot.ledger.write_decisions([a_decision(month) for month in (7, 8)])
    bot.ledger.archive(datetime(2025, 9, 1, tzinfo=UTC))
    bot.close()
    folder = live.ledger.parent / "decisions"
    assert sorted(file.stem for file in folder.iterdir()) == ["2025-06", "2025-07", "2025-08"]
    assert asked(bot.home).strange_months == ()
    assert "older copy" not in shown(bot.home, "trade", "--status")
    for month in ("2025-06", "2025-08"):  # an old one, and the newest
        away = (folder / f"{month}.parquet").rename(bot.home / "away.parquet")
        assert asked(bot.home).strange_months == (month,)
        away.rename(folder / f"{month}.parquet")
    for name in (live.ledger, older):
        for suffix in ("-wal", "-shm"):
            name.with_name(name.name + suffix).unlink(missing_ok=True)
    older.replace(live.ledger)
    assert asked(bot.home).strange_months == ("2025-06", "2025-07", "2025-08")
    told = shown(bot.home, "trade", "--status")
    assert "2025-06, 2025-07, 2025-08 are not those of this ledger, which may be an older copy" in " ".join(
        told.split()
    )


def a_decision(month: int) -> Decision:
    ts = datetime(2025, month, 2, 15, 0, tzinfo=UTC)
    return Decision(
        book="production",
        ts=ts,
        ticker="AAPL",
        model_id=None,
        features_hash=None,
        prediction=None,
        target=None,
        code="hold_no_model",
        decided_at=ts,
    )


@pytest.mark.parametrize(
    "facts",
    [
        {"heartbeat": "noon"},
        {"last_bar": "2025-06-02T15:00:00"},
        {"reloads": "some"},
        {"limit_gross": "high"},
        {"equity_at_open_production": "2025-06-02 much"},
    ],
    ids=lambda facts: next(iter(facts)),
)
def test_a_fact_that_cannot_be_what_was_written_is_damage(bot: Stand, facts: dict[str, str]) -> None:
    bot.ledger.set_meta(**facts)
    with pytest.raises(IntegrityError, match=r"ledger\.sqlite is damaged"):
        asked(bot.home)


# ---- the kill switch from outside ------------------------------------------------------------------------------------


class Beside:
    """A clock that lets the bot beside it trade on while it is waited for."""

    def __init__(self, bot: Stand, step: Callable[[], None]) -> None:
        self._bot, self._step = bot, step

    def now(self):  # type: ignore[no-untyped-def]
        return self._bot.clock.now()

    def wait_until(self, moment):  # type: ignore[no-untyped-def]
        self._step()
        return True


def test_a_running_bot_is_flattened_and_waited_for(bot: Stand) -> None:
    bot.controls.halt_file = Home.live(bot.home).halt_file
    minutes = iter(range(120, 140))

    def step() -> None:
        bot.run(DAY, some_minutes(next(minutes), 1))

    with hold_lock(Home.live(bot.home), "bot"):
        found = flatten(settings_of(bot.home), clock=Beside(bot, step), reason="a test")
    assert (found.halted, found.by_bot, found.positions) == (True, True, {})
    assert bot.ledger.read_positions() == {}
    latch = bot.ledger.read_latches()[0]
    assert latch.name == "kill_switch"
    assert latch.reason.startswith("the file trade.halt exists: ")
    assert latch.reason.endswith(" a test")
    cleared = clear(settings_of(bot.home), by="a person", now=bot.clock.now())
    assert (cleared.cleared, cleared.file) == (("kill_switch",), True)
    bot.run(DAY, some_minutes(next(minutes), 1))
    assert bot.ledger.read_latches() == (), "a bot that runs trades again"


def test_without_a_bot_what_the_broker_holds_is_closed_where_the_ledger_says_otherwise(bot: Stand) -> None:
    """An order that closes what only the ledger holds would open a position."""
    assert bot.broker is not None
    held = bot.broker.account().positions
    bot.close()
    with Ledger(Home.live(bot.home).ledger) as ledger:
        ticker, quantity = next(iter(ledger.read_positions().items()))
        number = ledger.read_fills().height
        last = ledger.read_fills().row(number - 1, named=True)
        stranger = {"fill_id": "elsewhere", "client_order_id": "elsewhere", "ticker": ticker, "quantity": -quantity}
        ledger.write_outcomes(fills=[FillRecord(**(last | stranger))])
    found = flatten(settings_of(bot.home), clock=bot.clock, reason="a test")
    assert (found.halted, found.orders) == (True, len(held))
    assert f"{ticker}: {quantity:g} shares at the broker, 0 in the ledger" in found.note
    with Ledger(Home.live(bot.home).ledger) as ledger:
        assert {latch.name for latch in ledger.read_latches()} == {"kill_switch", "reconciliation"}
    assert closed_at_the_broker(bot) == {}


def closed_at_the_broker(bot: Stand) -> dict[str, float]:
    """Let the next minutes trade, and return what the broker holds then."""
    paper = PaperBroker(bot.settings, folder=bot.home, durable=False)
    bars = bars_of(DAY)
    for minute in some_minutes(121, 10):
        paper.on_bars(bars.filter(bars["ts"] == minute), minute)
    held = paper.account().positions
    paper.close()
    return held


@pytest.mark.parametrize(
    "damage", [b"not a database, for long enough to be none" * 100, None], ids=["damaged", "newer"]
)
def test_without_a_ledger_what_the_broker_holds_is_closed_at_its_prices(bot: Stand, damage: bytes | None) -> None:
    assert bot.broker is not None
    held = bot.broker.account().positions
    bot.close()
    path = Home.live(bot.home).ledger
    if damage is None:
        with contextlib.closing(sqlite3.connect(path)) as db, db:
            db.execute("PRAGMA user_version = 99")
    else:
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        path.write_bytes(damage)
    found = flatten(settings_of(bot.home), clock=bot.clock, reason="a test")
    assert (found.halted, found.orders, found.positions) == (True, len(held), held)
    assert found.note.startswith("The ledger cannot be had")
    assert (bot.home / "trade.halt").exists()
    assert closed_at_the_broker(bot) == {}


PAPER, SYNTHETIC = "trading.brokers.paper import PaperBroker", "market.sources.synthetic import SyntheticSource"
BADLY_MADE = {
    "an offer": ("brokers", "def learn(self): ...", "No bot runs. "),
    "another offer": ("brokers", "def room(self, more): return more", "No bot runs. "),
    "a promise": ("brokers", "def fills(self): ...", "Ledger and broker could not be compared (fills(since) "),
    "an error": ("brokers", "def fills(self, since): raise KeyError(since)", "Ledger and broker could not be compared"),
    "a source's offer": ("sources", "def report_steps(self): ...", "Splits are not known: The plug-in 'acme' of "),
    "a source's error": ("sources", "def splits(self, ticker): raise KeyError(ticker)", "Splits are not known: The "),
}


@pytest.mark.parametrize("case", BADLY_MADE)
def test_without_a_bot_a_plug_in_that_is_badly_made_keeps_nothing_from_being_closed(
    bot: Stand, tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who cannot close what is held is worse off than with whatever the plug-in lacks."""
    assert bot.broker is not None
    held = bot.broker.account().positions
    bot.close()
    group, body, told = BADLY_MADE[case]
    base = {"brokers": PAPER, "sources": SYNTHETIC}[group]
    site = tmp_path / "site"
    install(site, Stranger(group, f"from hftcl.{base} as Base\nclass Acme(Base):\n    {body}\n", "", "", ""))
    monkeypatch.syspath_prepend(site)
    monkeypatch.delitem(sys.modules, "acme_plug", raising=False)
    sections: dict[str, dict[str, dict[str, object]]] = {
        "brokers": {"trade": {"broker": "acme"}},
        "sources": {"market": {"source": "acme"}},
    }
    found = flatten(settings_of(bot.home, **sections[group]), clock=bot.clock, reason="a test")
    assert (found.halted, found.orders) == (True, len(held)), found
    assert found.note.startswith(told)
    assert closed_at_the_broker(bot) == {}


def test_where_no_bot_ever_traded_the_kill_switch_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    found = flatten(settings_of(tmp_path), clock=SimulatedClock(some_minutes(120, 1)[0]), reason="a test")
    assert (found.halted, found.orders) == (False, 0)
    assert found.note.startswith(f"No bot has ever traded in {tmp_path}")
    assert list(tmp_path.iterdir()) == []


def test_without_a_bot_nothing_is_sent_to_another_account(bot: Stand) -> None:
    bot.close()
    other = settings_of(bot.home, trade={"capital": 10_000.0})
    found = flatten(other, clock=bot.clock, reason="a test")
    assert (found.halted, found.orders) == (True, 0)
    assert found.note.startswith("Trading is halted, but nothing was sent: The ledger began with a capital of 100,000")
    with Ledger(Home.live(bot.home).ledger) as ledger:
        assert ledger.is_latched("kill_switch")


def strict_home(home: Path, tickers: int, **strict: object) -> Settings:
    """Return the settings of a strict account which a bot that has stopped left with a position in each ticker."""
    with bench(home, tickers=tickers) as made:
        made.minute(0, dict.fromkeys(made.tickers, 10.0))
        made.minute(1)
        assert len(made.desk.positions) == tickers
        if strict.pop("suspended", False):
            made.account.flag(suspended=True)
            made.broker.on_bars(made.bars(2), at(3))
        names = made.tickers
    return settings_of(
        home,
        market={"watchlist": names},
        trade={"broker": "strict-paper"},
        strict_paper={"weather": "fair", "calls_per_minute": 24, **strict},
    )


def test_without_a_bot_more_positions_than_a_minute_has_calls_are_all_closed_minute_by_minute(tmp_path: Path) -> None:
    settings = strict_home(tmp_path, 20)
    clock = SimulatedClock(at(10))
    found = flatten(settings, clock=clock, reason="a test")
    assert found.orders == 20
    assert found.note.startswith("No bot runs. 20 closing orders were sent.")
    assert clock.now() < at(20)
    with contextlib.closing(StrictPaper(settings, folder=tmp_path)) as broker:
        assert sorted(order.quantity for order in broker.account_now.open_orders()) == [-10.0] * 20


NIGHT = timedelta(days=1)


def list_splits(settings: Settings, *splits: tuple[str, float]) -> Settings:
    """Let the source of the bars be files that know of these splits of the next day: a ticker, new shares for one."""
    home = Path(settings.paths.home)
    rows = [
        {"ticker": ticker, "execution_date": str(SESSION + NIGHT), "split_from": 1.0, "split_to": ratio}
        for ticker, ratio in splits
    ]
    (home / "splits.json").write_text(json.dumps(rows))
    market = replace(settings.market, source="files")
    return replace(settings, market=market, files=replace(settings.files, folder=str(home), splits="splits.json"))


@pytest.mark.hazard(67)
def test_without_a_bot_a_simulated_broker_hears_of_a_split_before_everything_is_closed(tmp_path: Path) -> None:
    """Else the old shares would be closed at the price of new ones: a loss that nobody made."""
    settings = list_splits(strict_home(tmp_path, 3), ("T000", 4.0))
    with Ledger(Home.live(tmp_path).ledger) as ledger:
        ledger.set_meta(splits_looked_up=str(SESSION))
    events: list[Event] = []
    found = flatten(settings, clock=SimulatedClock(at(10) + NIGHT), reason="a test", on_event=events.append)
    assert [event.text for event in events] == ["asks files whether what is held was split, for at most 120 s"]
    assert (found.orders, found.shortfall) == (3, "")
    assert found.note.startswith("T000 was split: 10 shares became 40. No bot runs. 3 closing orders were sent.")
    with contextlib.closing(StrictPaper(settings, folder=tmp_path)) as broker:
        sent = {order.symbol: order.quantity for order in broker.account_now.open_orders()}
    assert sent == {"T000": -40.0, "T001": -10.0, "T002": -10.0}
    again = flatten(settings, clock=SimulatedClock(at(11) + NIGHT), reason="a test")
    assert "was split" not in again.note, "once"
    with Ledger(Home.live(tmp_path).ledger) as ledger:
        assert ledger.read_positions()["T000"] == 40.0
        assert ledger.open_meta().get("splits_looked_up") == str(SESSION), "the shadow's are still to be found"


def test_without_a_bot_a_split_is_told_although_the_ledger_could_not_be_written_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = list_splits(strict_home(tmp_path, 3), ("T000", 4.0))
    with Ledger(Home.live(tmp_path).ledger) as ledger:
        ledger.set_meta(splits_looked_up=str(SESSION))
    write, full = Ledger.write_decisions, [True]

    def fail_once(*of: Any, **others: Any) -> None:
        if full.pop() if full else False:
            raise StorageError("No space left on device.")
        write(*of, **others)

    monkeypatch.setattr(Ledger, "write_decisions", fail_once)
    found = flatten(settings, clock=SimulatedClock(at(10) + NIGHT), reason="a test")
    assert "No space left on device. T000 was split: 10 shares became 40." in found.note


def test_without_a_bot_splits_that_cannot_be_looked_up_keep_nothing_from_being_closed(tmp_path: Path) -> None:
    settings = list_splits(strict_home(tmp_path, 3))
    (tmp_path / "splits.json").write_text("no splits")
    found = flatten(settings, clock=SimulatedClock(at(10) + NIGHT), reason="a test")
    assert (found.orders, found.shortfall) == (3, "")
    assert found.note.startswith("Splits are not known: ")


@pytest.mark.parametrize("is_full", [False, True], ids=["a pipe whose reader has left", "a full disk"])
def test_without_a_bot_everything_is_closed_although_a_person_cannot_be_told(
    tmp_path: Path, is_full: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a listener of ours, and by one that fails itself."""
    settings = strict_home(tmp_path / "ours", 3)
    other = strict_home(tmp_path / "other", 3)
    reader, writer = os.pipe()
    os.close(reader)
    with Path("/dev/full").open("w") if is_full else os.fdopen(os.dup(writer), "w") as dead:
        monkeypatch.setattr(sys, "stderr", dead)
        listeners = build_listener(1), lambda event: print(event.text, file=dead, flush=True)
        for where, listener in zip((settings, other), listeners, strict=True):
            found = flatten(where, clock=SimulatedClock(at(10)), reason="a test", on_event=listener)
            assert (found.orders, found.shortfall) == (3, "")
        os.dup2(os.open(os.devnull, os.O_WRONLY), dead.fileno())  # what it still holds back must go somewhere
    os.close(writer)
    unwritten.clear()


def test_without_a_bot_what_the_broker_refuses_to_close_is_told_and_not_counted_as_sent(tmp_path: Path) -> None:
    settings = strict_home(tmp_path, 3, suspended=True)
    found = flatten(settings, clock=SimulatedClock(at(10)), reason="a test")
    assert found.orders == 0
    assert "Refused: T000: 403 new orders are rejected by user request" in found.note
    assert found.shortfall.startswith("Not everything is closed. Refused: T000"), "the command ends with 1"


@pytest.mark.parametrize("environment", [{}, {"FORCE_COLOR": "1"}], ids=str)
def test_a_kill_switch_that_did_not_close_everything_fails_also_where_its_words_are_not_read(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    settings = strict_home(tmp_path, 3, suspended=True)
    broker = "[trade]\nbroker = 'strict-paper'\n[strict_paper]\nweather = 'fair'\n"
    market = f"[market]\ncalendar = '24/7'\nwatchlist = {list(settings.market.watchlist)}\n"
    (tmp_path / "hftcl.toml").write_text(market + broker)
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [HFTCL, "trade", "--flatten"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONUNBUFFERED": "", **environment},
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    os.close(writer)
    assert done.returncode == 1, done.stderr
    assert "hftcl: Not everything is closed." in done.stderr
    assert "BrokenPipe" not in done.stderr


def test_without_a_ledger_what_the_broker_refuses_or_does_not_answer_is_told_and_not_counted_as_sent(
    tmp_path: Path,
) -> None:
    settings = strict_home(tmp_path, 3, suspended=True)
    Home.live(tmp_path).ledger.write_bytes(b"no ledger")
    found = flatten(settings, clock=SimulatedClock(at(10)), reason="a test")
    assert found.orders == 0
    assert found.shortfall.startswith("Not everything is closed. Refused: T000")


def test_a_running_bot_that_is_not_flat_in_time_is_a_shortfall(bot: Stand) -> None:
    def wait() -> None:
        bot.clock.wait_until(bot.clock.now() + MINUTE)

    held = bot.ledger.read_positions()
    with hold_lock(Home.live(bot.home), "bot"):
        found = flatten(settings_of(bot.home), clock=Beside(bot, wait), reason="a test")
    assert (found.by_bot, found.positions) == (True, held)
    assert found.shortfall.startswith("The running bot has not closed everything yet. Still held: ")
    assert all(ticker in found.shortfall for ticker in held)


def test_closing_orders_that_are_on_their_way_already_are_named_while_the_market_is_open(tmp_path: Path) -> None:
    settings = strict_home(tmp_path, 2)
    flatten(settings, clock=SimulatedClock(at(10)), reason="a test")
    again = flatten(settings, clock=SimulatedClock(at(11)), reason="a test")
    assert (again.orders, again.shortfall) == (0, "")
    assert "what closes is on its way. On their way: hftcl-" in again.note
    assert "-10 T001" in again.note
    at_night = flatten(settings, clock=SimulatedClock(at(600)), reason="a test")
    assert "The market is closed" in at_night.note


def test_what_the_bot_leaves_alone_is_not_said_to_be_closed_first(tmp_path: Path) -> None:
    settings = strict_home(tmp_path, 2)
    settings = replace(settings, trade=replace(settings.trade, hands_off=("T000", "T001")))
    found = flatten(settings, clock=SimulatedClock(at(10)), reason="a test")
    assert (found.orders, found.positions) == (0, {})
    assert found.note == "Nothing is held. Left alone by [trade] hands_off: T000, T001."


def test_a_person_s_order_in_a_ticker_handed_over_changes_nothing_for_the_kill_switch_status_and_clearing(
    tmp_path: Path,
) -> None:
    settings = strict_home(tmp_path, 2)
    settings = replace(settings, trade=replace(settings.trade, hands_off=("T009",)))
    with contextlib.closing(StrictPaper(settings, folder=tmp_path, durable=False)) as broker:
        broker.on_bars(BAR_SCHEMA.to_frame(), at(9))
        broker.account_now.trade_by_hand("T009", 5.0, 100.0, at(9))
        broker.account_now.submit("stop-loss", "T009", -5.0, 100.0, at(9))
        broker._keep()
    found = flatten(settings, clock=SimulatedClock(at(10)), reason="a test")
    assert (found.orders, found.shortfall) == (2, "")
    assert "do not agree" not in found.note
    report = read_status(settings)
    assert report.left_alone == {}, "whose it is, is known"
    assert "reconciliation" not in str(report.halted)
    cleared = clear(settings, by="anna", now=at(11)).cleared
    assert cleared == ("kill_switch",), "what a person keeps is not handed to the bot"
    with contextlib.closing(StrictPaper(settings, folder=tmp_path, durable=False)) as broker:
        assert "stop-loss" in [order.client_order_id for order in broker.open_orders()]


# ---- a broker of which single calls fail -----------------------------------------------------------------------------


class Flaky(StrictPaper):
    """A strict account of which single calls fail. faults: by the call's name, whether the next ones do."""

    def __init__(self, settings: Settings, *, folder: Path) -> None:
        super().__init__(settings, folder=folder, durable=False)
        self.faults: dict[str, list[bool]] = {}
        self.canceled: list[str] = []

    def _fail(self, what: str) -> None:
        if (faults := self.faults.get(what)) and faults.pop(0):
            raise BrokerTimeoutError(f"no answer to {what}")

    def cancel(self, client_order_id: str) -> None:
        """Cancel with two calls, as at Alpaca."""
        self._fail("cancel")
        super().find(client_order_id)
        super().cancel(client_order_id)
        self.canceled.append(client_order_id)

    def account(self) -> Account:
        """Tell it, or not."""
        self._fail("account")
        return super().account()

    def find(self, client_order_id: str) -> OrderState | None:
        """Tell it, or not."""
        self._fail("find")
        return super().find(client_order_id)

    def submit(self, order: Order) -> OrderState:
        """Take it, or not."""
        self._fail(f"submit {order.ticker}")
        return super().submit(order)


@contextlib.contextmanager
def flaky(home: Path, tickers: int, calls: int = 200) -> Iterator[Flaky]:
    """Return a broker that holds ten shares of each ticker."""
    settings = strict_home(home, tickers, calls_per_minute=calls)
    with contextlib.closing(Flaky(settings, folder=home)) as broker:
        broker.on_bars(BAR_SCHEMA.to_frame(), at(10))
        yield broker


def send_open_order(broker: Flaky, name: str, ticker: str, quantity: float = 1.0) -> None:
    broker.account_now.submit(name, ticker, quantity, 100.0, at(9))


def close_at_broker(broker: Flaky, *tickers: str) -> tuple[CloseOutcome, SimulatedClock]:
    clock = SimulatedClock(at(10))
    hours = find_next_hours(Calendar("XNYS"), at(10), extended_hours=False)
    return BrokerClose(broker=broker, own_tickers=tickers).run(hours, clock), clock


def list_closing(broker: Flaky) -> list[str]:
    return sorted(order.symbol for order in broker.account_now.open_orders() if order.client_order_id.endswith("-f"))


def test_a_cancellation_that_fails_is_made_again_and_keeps_nothing_from_being_closed(tmp_path: Path) -> None:
    with flaky(tmp_path, 2) as broker:
        send_open_order(broker, "hftcl-x", "T000", -1.0)
        broker.faults = {"cancel": [True]}
        sent, clock = close_at_broker(broker, "T000", "T001")
        assert (sent.orders, sent.text, list_closing(broker)) == (2, "", ["T000", "T001"])
        assert (broker.canceled, clock.now()) == (["hftcl-x"], at(11))


def test_a_cancellation_that_always_fails_is_told_after_ten_minutes_and_the_rest_is_closed(tmp_path: Path) -> None:
    with flaky(tmp_path, 2) as broker:
        send_open_order(broker, "hftcl-x", "T005")
        broker.faults = {"cancel": [True] * 100}
        sent, clock = close_at_broker(broker, "T000", "T001")
        assert (sent.orders, list_closing(broker)) == (2, ["T000", "T001"])
        assert "Not canceled, and may still fill: hftcl-x (no answer to cancel)." in sent.text
        assert clock.now() == at(20)


def test_an_account_and_an_order_that_cannot_be_asked_once_are_asked_again_and_all_is_closed(tmp_path: Path) -> None:
    with flaky(tmp_path, 2) as broker:
        broker.faults = {"submit T001": [True, True], "account": [False, True], "find": [True]}
        sent, _ = close_at_broker(broker, "T000", "T001")
        assert (sent.orders, sent.text, list_closing(broker)) == (2, "", ["T000", "T001"])


def test_an_account_that_cannot_be_asked_for_ten_minutes_is_a_shortfall(tmp_path: Path) -> None:
    with flaky(tmp_path, 2) as broker:
        broker.faults = {"account": [True] * 100}
        sent, clock = close_at_broker(broker, "T000", "T001")
        assert (sent.orders, clock.now()) == (0, at(20))
        assert sent.text == " The broker could not be asked: no answer to account"


def test_many_open_orders_leave_half_of_a_minute_s_calls_to_what_closes(tmp_path: Path) -> None:
    with flaky(tmp_path, 3, calls=40) as broker:
        for n in range(30):
            send_open_order(broker, f"hftcl-{n:02d}", "T002")
        sent, clock = close_at_broker(broker, "T000", "T001", "T002")
        assert (sent.orders, sent.text, len(broker.canceled)) == (3, "", 30)
        first = [order.at for order in broker.account_now.open_orders() if order.symbol != "T002"]
        assert max(first) == at(11), "what nothing stands in the way of went out in the first minute"
        assert clock.now() < at(16)


def test_orders_of_others_are_canceled_only_where_they_are_in_the_way(tmp_path: Path) -> None:
    with flaky(tmp_path, 3) as broker:
        send_open_order(broker, "stop-loss", "T000", -1.0)
        send_open_order(broker, "in-the-way", "T001", -1.0)
        send_open_order(broker, "not-held", "T009", 1.0)
        sent, _ = close_at_broker(broker, "T001", "T002", "T009")
        assert (broker.canceled, list_closing(broker)) == (["in-the-way"], ["T001", "T002"])
        assert sent.others == "stop-loss (T000), not-held (T009)"


def test_where_nothing_can_be_written_a_failed_cancellation_keeps_nothing_open_and_others_orders_stay(
    tmp_path: Path,
) -> None:
    with flaky(tmp_path, 2) as broker:
        send_open_order(broker, "stop-loss", "T000", -1.0)
        send_open_order(broker, "hftcl-x", "T005")
        broker.faults = {"cancel": [True]}
        close_without_ledger(broker, "production", {"T001"}, SESSION, at(10))
        assert (broker.canceled, list_closing(broker)) == ([], ["T001"])
        close_without_ledger(broker, "production", {"T001"}, SESSION, at(11))
        assert "hftcl-x" in broker.canceled
        assert "stop-loss" not in broker.canceled


def test_the_command_asks_again_for_an_account_that_is_not_told_at_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = strict_home(tmp_path, 2, calls_per_minute=200)

    def build(_: str, settings: Settings, *, folder: Path) -> Flaky:
        broker = Flaky(settings, folder=folder)
        broker.faults = {"account": [True, True, False, True]}
        return broker

    monkeypatch.setattr("hftcl.trading.run.kill_switch.open_broker_to_close", build)
    found = flatten(settings, clock=SimulatedClock(at(10)), reason="a test")
    assert (found.orders, found.shortfall) == (2, "")


def test_without_a_bot_the_closing_orders_are_sent_from_here(bot: Stand) -> None:
    held = bot.ledger.read_positions()
    bot.close()
    found = flatten(settings_of(bot.home), clock=bot.clock, reason="a test")
    assert (found.halted, found.by_bot, found.positions) == (True, False, held)
    assert found.orders == len(held)
    with Ledger(Home.live(bot.home).ledger) as ledger:
        closing = ledger.read_orders(first=some_minutes(119, 1)[0])
        assert {name[-2:] for name in closing["client_order_id"]} >= {"-f"}
        assert [latch.name for latch in ledger.read_latches()] == ["kill_switch"]
    again = stand(bot.home, first=121)  # paper fills them with the next bars, whoever runs then
    again.run(DAY, some_minutes(121, 10))
    assert again.ledger.read_positions() == {}
