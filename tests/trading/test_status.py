"""`hftcl trade --status`: what the bot is doing, read beside it, and the same when nobody runs."""

import contextlib
import json
import os
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hftcl.document import document
from hftcl.errors import IntegrityError
from hftcl.home import Home
from hftcl.ledger.rows import Decision, FillRecord, LedgerEvent
from hftcl.ledger.writer import Ledger
from hftcl.market.bars import MINUTE
from hftcl.trading.brokers.paper import PaperBroker
from hftcl.trading.run.clock import SimulatedClock
from hftcl.trading.run.kill_switch import clear, flatten
from hftcl.trading.run.status import StatusReport, status
from hftcl.trading.run.wiring import hold_lock
from tests.installed import run
from tests.loop_cases import SMALL_TOML
from tests.trading.bot_stand import DAY, Stand, archived, bars_of, settings_of, some_minutes, stand


@pytest.fixture
def bot(tmp_path: Path) -> Stand:
    """Return a bot in the midst of a session, with positions."""
    archived(tmp_path)
    made = stand(tmp_path, first=110)
    made.run(DAY, some_minutes(110, 10))
    return made


def asked(home: Path) -> StatusReport:
    return status(settings_of(home))


def test_it_tells_the_model_the_account_and_the_limits(bot: Stand) -> None:
    with hold_lock(Home.live(bot.home), "bot"):
        found = asked(bot.home)
    equity = bot.ledger.last_equity().row(0, named=True)
    assert (found.running, found.mode, found.pid) == (True, "paper", os.getpid())
    assert (found.source, found.synthetic, found.session) == ("synthetic", True, "2025-06-02")
    assert found.model_id == bot.loop.serving.in_use.model_id  # type: ignore[union-attr]
    assert found.last_decision == some_minutes(119, 1)[0]
    assert found.last_minute == some_minutes(119, 1)[0]
    assert found.data_lag_s == 3.0, "the grace"
    assert found.positions == bot.ledger.positions() != {}
    assert found.equity == equity["equity"]
    assert found.pnl_today == pytest.approx(equity["equity"] - 100_000, abs=1e-9)
    assert found.limits["gross"].used == equity["gross"] > 0
    assert found.limits["gross"].limit == pytest.approx(110_000)
    assert found.limits["daily_loss"].limit == pytest.approx(3_000)
    assert (found.halted, found.reloads, found.errors) == (None, 0, ())
    assert [book.book for book in found.books] == ["production"]
    assert found.books[0].fills == bot.ledger.fills().height


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
    json.dumps(document(found), allow_nan=False)
    assert list(tmp_path.iterdir()) == []


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
    done = run(home, *arguments)
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
    assert bot.ledger.positions() == {}
    latch = bot.ledger.latches()[0]
    assert latch.name == "kill_switch"
    assert latch.reason.startswith("the file trade.halt exists: ")
    assert latch.reason.endswith(" a test")
    cleared = clear(settings_of(bot.home), by="a person", now=bot.clock.now())
    assert (cleared.cleared, cleared.file) == (("kill_switch",), True)
    bot.run(DAY, some_minutes(next(minutes), 1))
    assert bot.ledger.latches() == (), "a bot that runs trades again"


def test_without_a_bot_what_the_broker_holds_is_closed_where_the_ledger_says_otherwise(bot: Stand) -> None:
    """An order that closes what only the ledger holds would open a position."""
    assert bot.broker is not None
    held = bot.broker.account().positions
    bot.close()
    with Ledger(Home.live(bot.home).ledger) as ledger:
        ticker, quantity = next(iter(ledger.positions().items()))
        number = ledger.fills().height
        last = ledger.fills().row(number - 1, named=True)
        stranger = {"fill_id": "elsewhere", "client_order_id": "elsewhere", "ticker": ticker, "quantity": -quantity}
        ledger.write_outcomes(fills=[FillRecord(**(last | stranger))])
    found = flatten(settings_of(bot.home), clock=bot.clock, reason="a test")
    assert (found.halted, found.orders) == (True, len(held))
    assert f"{ticker}: {quantity:g} shares at the broker, 0 in the ledger" in found.note
    with Ledger(Home.live(bot.home).ledger) as ledger:
        assert {latch.name for latch in ledger.latches()} == {"kill_switch", "reconciliation"}
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
        with sqlite3.connect(path) as db:
            db.execute("PRAGMA user_version = 99")
        db.close()
    else:
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        path.write_bytes(damage)
    found = flatten(settings_of(bot.home), clock=bot.clock, reason="a test")
    assert (found.halted, found.orders, found.positions) == (True, len(held), held)
    assert found.note.startswith("The ledger cannot be had")
    assert (bot.home / "trade.halt").exists()
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


def test_without_a_bot_the_closing_orders_are_sent_from_here(bot: Stand) -> None:
    held = bot.ledger.positions()
    bot.close()
    found = flatten(settings_of(bot.home), clock=bot.clock, reason="a test")
    assert (found.halted, found.by_bot, found.positions) == (True, False, held)
    assert found.orders == len(held)
    with Ledger(Home.live(bot.home).ledger) as ledger:
        closing = ledger.orders(first=some_minutes(119, 1)[0])
        assert {name[-2:] for name in closing["client_order_id"]} >= {"-f"}
        assert [latch.name for latch in ledger.latches()] == ["kill_switch"]
    again = stand(bot.home, first=121)  # paper fills them with the next bars, whoever runs then
    again.run(DAY, some_minutes(121, 10))
    assert again.ledger.positions() == {}
