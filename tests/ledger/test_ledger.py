"""The ledger: what it keeps, what it never doubles, and what a kill in the middle of a minute leaves."""

import contextlib
import math
import random
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hftcl import sqlite
from hftcl.errors import IntegrityError, NewerVersionError, StorageError
from hftcl.ledger.account import compute_account
from hftcl.ledger.reader import LedgerReader
from hftcl.ledger.rows import RANKS, STATED, CloseRow, EquityRow, FillOpen, LedgerEvent, OrderUpdate, State
from hftcl.ledger.schema import LEDGER
from hftcl.ledger.writer import Ledger
from hftcl.strategy.risk import Code
from tests.hazards.loop_processes import without_the_rights_of_root
from tests.ledger.ledger_cases import write_ledger
from tests.trading.trading_cases import NOW, SESSION, TICKERS, a_decision, a_fill, a_record, at

REPOSITORY = Path(__file__).resolve().parents[2]
DRIVER = [sys.executable, "-m", "tests.trading.crash_driver"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def an_equity(minute: int, equity: float = 100_000.0) -> EquityRow:
    return EquityRow(
        book="production",
        ts=at(minute),
        session=SESSION,
        equity=equity,
        cash=99_000.0,
        gross=1000.0,
        net=-1000.0,
        realised=3.5,
    )


def test_what_is_written_is_read_back_as_it_was(path: Path) -> None:
    refused = a_record(0, "AMD", math.nan, reference_price=math.nan, state="refused", code="not_finite", reason="no")
    with Ledger(path) as ledger:
        ledger.write_decisions(
            [a_decision(0), a_decision(0, "AMD", prediction=None, target=None)], [a_record(0), refused]
        )
        ledger.write_outcomes(fills=[a_fill()], equity=[an_equity(1)], meta={"capital": "100000.0", "mode": "paper"})
        ledger.note_closes([CloseRow(session=SESSION, ticker="AAPL", ts=at(0), open=1.0, close=2.0)])
        ledger.write_event(LedgerEvent(at=NOW, kind="started", text="hello", model_id="m1"))
    with LedgerReader(path) as reader:
        assert reader.order(a_record(0).client_order_id) == a_record(0)
        read = reader.order(refused.client_order_id)
        assert read is not None
        assert math.isnan(read.quantity)
        assert math.isnan(read.reference_price)
        decisions = reader.read_decisions()
        assert decisions.schema["ts"] == pl.Datetime("us", "UTC")
        assert decisions["ticker"].to_list() == ["AAPL", "AMD"]
        assert decisions["prediction"].to_list() == [0.25, None]
        assert decisions["ts"].to_list() == [at(0)] * 2
        assert reader.read_orders()["session"].to_list() == [SESSION] * 2
        assert reader.read_fills().select("quantity", "price", "commission", "ts").rows() == [(10.0, 101.0, 0.5, at(1))]
        assert reader.read_equity().rows(named=True)[0]["equity"] == 100_000.0
        assert reader.read_last_equity()["ts"].to_list() == [at(1)]
        assert reader.find_last_decided() == at(0)
        assert reader.read_events()[0].text == "hello"
        assert reader.open_meta() == {"capital": "100000.0", "mode": "paper"}
        assert reader.read_positions() == {"AAPL": 10.0}
        assert reader.read_cash() == 100_000.0 - 10 * 101.0 - 0.5
        assert reader.count_refusals() == {"not_finite": 1}


def test_a_ledger_that_is_not_there_reads_as_empty_and_is_not_created(path: Path) -> None:
    with LedgerReader(path) as reader:
        assert (reader.read_positions(), reader.read_latches(), reader.open_meta(), reader.read_events()) == (
            {},
            (),
            {},
            (),
        )
        assert reader.read_decisions().is_empty()
        assert reader.read_last_equity().is_empty()
        assert reader.find_last_decided() is None
        assert reader.order("one") is None
    assert not path.exists()


def test_writing_the_same_minute_twice_changes_nothing(path: Path) -> None:
    with Ledger(path) as ledger:
        assert ledger.read_positions() == {}
        for changed in (False, True):
            target, quantity = (0.9, 77.0) if changed else (0.05, 10.0)
            ledger.write_decisions([a_decision(0, target=target)], [a_record(0, quantity=quantity)])
            new = ledger.write_outcomes(
                fills=[a_fill(quantity=quantity), a_fill(quantity=quantity)], equity=[an_equity(1)]
            )
            assert len(new) == (0 if changed else 1)
        assert ledger.read_positions() == {"AAPL": 10.0}
        assert ledger.read_decisions()["target"].to_list() == [0.05]
        found = ledger.order(a_record(0).client_order_id)
        assert found is not None
        assert found.quantity == 10.0
        assert ledger.read_equity().height == 1


numbers = st.one_of(st.floats(), st.integers(-(2**60), 2**60).map(float), st.just(-0.0), st.integers(-9, 9))
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)


@given(number=numbers, other=numbers, text=texts)
@settings(max_examples=60)
def test_a_row_that_comes_with_its_seal_is_whole_whatever_it_holds(number: float, other: float, text: str) -> None:
    fill = a_fill(quantity=1.0 if math.isnan(number) else number, price=0.0 if math.isnan(other) else other)
    fill = replace(fill, fill_id=f"fill {text}")
    nothing = math.isnan(number) or math.isnan(other)
    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder) / "ledger.sqlite", durable=False) as ledger:
        ledger.write_decisions(
            [a_decision(0, text, prediction=number, target=other)],
            [a_record(0, text, number, reference_price=other, state="refused", code=Code.RATE, reason=text)],
        )
        ledger.write_outcomes(fills=[fill], opens=[FillOpen(fill_id=fill.fill_id, open=fill.price)])
        if not nothing:
            ledger.write_outcomes(equity=[replace(an_equity(1, number), cash=other)])
        assert sqlite.list_damage(ledger._db, LEDGER) == ()
        rows = [ledger._db.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in ("decisions", "orders")]  # noqa: S608
        assert rows == [1, 1]


@given(news=st.lists(st.sampled_from(sorted(RANKS)), max_size=6), order=st.randoms())
@settings(max_examples=25)
def test_news_about_an_order_may_come_twice_late_and_in_any_order(news: list[State], order: random.Random) -> None:
    shuffled = news * 2
    order.shuffle(shuffled)
    name = a_record(0).client_order_id
    for told in (news, shuffled):
        with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder) / "ledger.sqlite", durable=False) as ledger:
            ledger.write_decisions([], [a_record(0)])
            for state in told:
                ledger.write_outcomes(updates=[OrderUpdate(client_order_id=name, state=state, at=NOW)])
            kept = ledger.order(name)
            assert kept is not None
            assert RANKS[kept.state] == max([RANKS[state] for state in news], default=0)


def test_an_order_that_was_canceled_as_its_last_share_traded_is_filled(path: Path) -> None:
    name = a_record(0).client_order_id
    with Ledger(path) as ledger:
        ledger.write_decisions([], [a_record(0)])
        states: tuple[State, ...] = ("submitted", "canceled", "filled", "submitted")
        for state in states:
            ledger.write_outcomes(updates=[OrderUpdate(client_order_id=name, state=state, at=NOW, reason=state)])
        found = ledger.order(name)
        assert found is not None
        assert (found.state, found.reason) == ("filled", "filled")
        assert ledger.read_working_orders() == ()


FILLS = st.lists(
    st.tuples(
        st.sampled_from(TICKERS),
        st.one_of(st.integers(-20, 20).filter(bool), st.floats(-5, 5).map(lambda q: round(q, 9)).filter(bool)),
        st.floats(1, 500),
        st.floats(0, 2),
    ),
    max_size=30,
)


@pytest.mark.hazard(52)
@given(fills=FILLS)
def test_the_account_is_what_the_fills_add_up_to(fills: list[tuple[str, float, float, float]]) -> None:
    found = compute_account(fills)
    for ticker in TICKERS:
        exact = math.fsum(quantity for name, quantity, _, _ in fills if name == ticker)
        assert found.positions.get(ticker, 0.0) == pytest.approx(exact, abs=2e-9 * len(fills) + 1e-12)
    paid = math.fsum(quantity * price + commission for _, quantity, price, commission in fills)
    assert found.paid == pytest.approx(paid, abs=1e-6)
    # Cash and shares at what they cost are the capital and what was earned: double-entry bookkeeping.
    at_cost = sum(held * found.average_price[ticker] for ticker, held in found.positions.items())
    assert -found.paid + at_cost == pytest.approx(found.realised, abs=1e-5)
    assert set(found.positions) == set(found.average_price)


def test_realised_profit_is_that_of_a_hand_calculation() -> None:
    found = compute_account([("AAPL", 10, 100.0, 1.0), ("AAPL", 10, 110.0, 1.0), ("AAPL", -30, 120.0, 3.0)])
    # 20 shares that cost 105 on average were sold at 120; ten more are short at 120; five dollars of commission.
    assert found.realised == 20 * (120 - 105) - 5
    assert (found.positions, found.average_price) == ({"AAPL": -10.0}, {"AAPL": 120.0})
    assert found.paid == 10 * 100 + 10 * 110 - 30 * 120 + 5


def test_parts_of_shares_leave_no_dust() -> None:
    found = compute_account([("AAPL", 0.1, 1.0, 0.0), ("AAPL", 0.2, 1.0, 0.0), ("AAPL", -0.3, 1.0, 0.0)])
    assert (found.positions, found.average_price) == ({}, {})


@pytest.mark.hazard(52)
def test_fills_that_come_late_and_in_parts_count_whatever_the_order_is_called_by_then(path: Path) -> None:
    name = a_record(0).client_order_id
    with Ledger(path) as ledger:
        ledger.write_decisions([], [a_record(0)])
        ledger.write_outcomes(fills=[a_fill(1, quantity=4.0)])
        ledger.write_outcomes(updates=[OrderUpdate(client_order_id=name, state="canceled", at=NOW)])
        ledger.write_outcomes(fills=[a_fill(2, quantity=3.0), a_fill(1, quantity=4.0)])
        assert ledger.read_positions() == {"AAPL": 7.0}
        assert ledger.sum_filled(name) == 7.0
    with Ledger(path) as again, LedgerReader(path) as reader:
        assert again.read_positions() == reader.read_positions() == {"AAPL": 7.0}


@pytest.mark.hazard(57)
def test_a_latch_holds_over_a_restart_until_a_person_clears_it(path: Path) -> None:
    with Ledger(path) as ledger:
        assert ledger.latch("daily_loss", "3,100 USD", NOW)
        assert not ledger.latch("daily_loss", "3,200 USD", NOW + timedelta(minutes=1))
    with Ledger(path) as bot:
        assert [(latch.name, latch.reason) for latch in bot.read_latches()] == [("daily_loss", "3,100 USD")]
        with Ledger(path) as person:  # another process, while the bot runs
            assert person.clear("daily_loss", "anna", NOW + timedelta(hours=1))
            assert not person.clear("daily_loss", "anna", NOW + timedelta(hours=1))
        assert bot.read_latches() == ()
        assert bot.latch("daily_loss", "again", NOW + timedelta(days=1))
        assert [(latch.name, latch.cleared_by) for latch in bot.list_all_latches()] == [
            ("daily_loss", "anna"),
            ("daily_loss", None),
        ]
        assert [event.kind for event in bot.read_events()] == ["halted", "cleared", "halted"]


def test_the_first_open_of_a_session_and_its_newest_close_are_kept(path: Path) -> None:
    with Ledger(path) as ledger:
        for minute in (1, 0, 2, 2):
            row = CloseRow(session=SESSION, ticker="AAPL", ts=at(minute), open=10.0 + minute, close=20.0 + minute)
            ledger.note_closes([row])
        assert ledger.read_closes().rows() == [(SESSION, "AAPL", at(2), 11.0, 22.0)]


def test_the_last_close_of_each_ticker_is_of_its_own_newest_session(path: Path) -> None:
    def a_close(days: int, ticker: str, close: float) -> CloseRow:
        session = SESSION + timedelta(days=days)
        return CloseRow(session=session, ticker=ticker, ts=at(2) + timedelta(days=days), open=1.0, close=close)

    with Ledger(path) as ledger:
        assert ledger.read_last_closes() == {}
        ledger.note_closes([a_close(0, "AAPL", 20.0), a_close(0, "AMD", 30.0)])
        ledger.note_closes([a_close(1, "AAPL", 21.0)])
        assert ledger.read_last_closes() == {"AAPL": 21.0, "AMD": 30.0}
    with LedgerReader(path) as reader:
        assert reader.read_last_closes() == {"AAPL": 21.0, "AMD": 30.0}
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE closes SET close = 99 WHERE ticker = 'AMD'")
    with LedgerReader(path) as reader, pytest.raises(IntegrityError, match="closes"):
        reader.read_last_closes()


def test_a_fill_without_a_number_is_refused_and_takes_the_whole_minute_with_it(path: Path) -> None:
    with Ledger(path) as ledger:
        with pytest.raises(IntegrityError, match="cannot be kept"):
            ledger.write_outcomes(fills=[a_fill(1), a_fill(2, price=math.nan)], equity=[an_equity(1)])
        assert ledger.read_positions() == {}
        assert ledger.read_equity().is_empty()
        ledger.write_outcomes(fills=[a_fill(1)])
        assert ledger.read_positions() == {"AAPL": 10.0}


def test_a_newer_a_foreign_and_a_damaged_file_are_named_and_left_alone(tmp_path: Path) -> None:
    newer, foreign, damaged = (tmp_path / name for name in ("newer.sqlite", "foreign.sqlite", "damaged.sqlite"))
    for path, statement in ((newer, "PRAGMA user_version = 99"), (foreign, "CREATE TABLE stocks (name TEXT)")):
        with contextlib.closing(sqlite3.connect(path)) as db, db:
            db.execute(statement)
    damaged.write_bytes(b"not a database, but long enough to be taken for one" * 100)
    for path, error in ((newer, NewerVersionError), (foreign, IntegrityError), (damaged, IntegrityError)):
        before = path.read_bytes()
        for kind in (Ledger, LedgerReader):
            with pytest.raises(error, match=path.name):
                kind(path)
        assert path.read_bytes() == before


def damaged(content: bytes, seed: int) -> bytes:
    """Return `content` with a byte or a run of them overwritten somewhere behind the header."""
    chance, changed = random.Random(seed), bytearray(content)  # noqa: S311
    for _ in range(chance.choice((1, 1, 3, 20))):
        place, length = chance.randrange(100, len(changed) - 64), chance.choice((1, 64))
        changed[place : place + length] = chance.randbytes(length)
    return bytes(changed)


def ask_everything(path: Path) -> None:
    with LedgerReader(path) as ledger, ledger.snapshot():
        questions: tuple[Callable[[], object], ...] = (
            *(
                ledger.read_decisions,
                ledger.read_orders,
                ledger.read_fills,
                ledger.read_equity,
                ledger.read_last_equity,
                ledger.read_closes,
            ),
            ledger.read_newest_equity,
            *(
                ledger.find_last_decided,
                ledger.read_positions,
                ledger.read_account,
                ledger.read_cash,
                ledger.read_working_orders,
            ),
            *(ledger.count_refusals, ledger.list_all_latches, ledger.read_events, ledger.open_meta),
        )
        for question in questions:
            question()


def test_damage_anywhere_is_told_as_damage_or_changes_nothing_that_can_be_noticed(tmp_path: Path) -> None:
    whole, path = tmp_path / "whole.sqlite", tmp_path / "ledger.sqlite"
    write_ledger(whole, last=date(2025, 6, 4))
    with Ledger(whole) as ledger:
        ledger.latch("kill_switch", "a test", NOW)
        ledger.write_event(LedgerEvent(at=NOW, kind="error", text="something"))
    content, told = whole.read_bytes(), []
    for seed in range(150):
        path.write_bytes(damaged(content, seed))
        try:
            ask_everything(path)
        except IntegrityError as error:
            told.append(str(error))
        sqlite.remove(path)
    assert len(told) > 40
    assert {text.count("is damaged") for text in told} == {1}
    assert {len(text.splitlines()) for text in told} == {1}


def test_a_full_disk_stops_the_minute_and_not_the_positions(path: Path) -> None:
    with Ledger(path) as ledger:
        ledger.write_outcomes(fills=[a_fill(1)])
        pages = ledger._db.execute("PRAGMA page_count").fetchone()[0]
        ledger._db.execute(f"PRAGMA max_page_count = {pages + 1}")
        many = [a_fill(number, fill_id=f"x-{number}") for number in range(2000)]
        with pytest.raises(StorageError, match="space"):
            ledger.write_outcomes(fills=many)
        assert ledger.read_positions() == {"AAPL": 10.0}
        assert LedgerReader(path).read_positions() == {"AAPL": 10.0}


READ_WITHOUT_THE_RIGHT_TO_WRITE = """
import os, sys
from pathlib import Path
from hftcl.ledger.reader import LedgerReader
with LedgerReader(Path(sys.argv[1])) as reader:
    print(os.access(Path(sys.argv[1]).parent, os.W_OK), reader.read_positions())
"""


def test_a_folder_that_may_only_be_read_still_shows_the_ledger(path: Path) -> None:
    """Root's own right to write everywhere is given up first, in a process of its own."""
    with Ledger(path) as ledger:
        ledger.write_outcomes(fills=[a_fill(1)])
    path.parent.chmod(stat.S_IRUSR | stat.S_IXUSR)
    command = [sys.executable, "-c", READ_WITHOUT_THE_RIGHT_TO_WRITE, str(path)]
    try:
        done = subprocess.run(
            command,
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=without_the_rights_of_root,
        )
    finally:
        path.parent.chmod(stat.S_IRWXU)
    assert (done.stderr, done.stdout) == ("", "False {'AAPL': 10.0}\n")


def test_a_reader_sees_whole_minutes_while_the_bot_writes_and_holds_nothing_up(path: Path) -> None:
    stop = threading.Event()
    torn: list[object] = []

    def read() -> None:
        with LedgerReader(path) as reader:
            while not stop.is_set():
                with reader.snapshot():
                    seen = (reader.read_decisions().height, reader.read_orders().height)
                if seen[0] != seen[1]:
                    torn.append(seen)

    with Ledger(path) as ledger:
        reading = threading.Thread(target=read)
        reading.start()
        for minute in range(60):
            rows = [(ticker, minute) for ticker in TICKERS]
            ledger.write_decisions([a_decision(m, t) for t, m in rows], [a_record(m, t) for t, m in rows])
        stop.set()
        reading.join()
        assert torn == []
        assert ledger.read_orders().height == 180


def test_a_book_beside_production_has_an_account_of_its_own(path: Path) -> None:
    with Ledger(path) as ledger:
        ledger.write_outcomes(fills=[a_fill(1), replace(a_fill(2, quantity=-3.0), book="shadow", fill_id="s")])
        assert (ledger.read_positions(), ledger.read_positions("shadow")) == ({"AAPL": 10.0}, {"AAPL": -3.0})
        assert ledger.read_fills("shadow").height == 1


def test_the_fills_whose_open_is_awaited_are_those_of_a_book_and_session_that_its_broker_told_of_its_orders(
    path: Path,
) -> None:
    records = [a_record(minute) for minute in range(4)]
    in_shadow = a_record(4, book="shadow")
    earlier, opened, awaited = (a_fill(minute=minute) for minute in (1, 2, 3))
    stated = a_fill(minute=4, fill_id=f"{STATED}{records[3].client_order_id}")  # booked by what the broker said of it
    of_shadow, of_no_order = a_fill(minute=5, book="shadow"), a_fill(minute=6)
    with Ledger(path) as ledger:
        ledger.write_decisions([a_decision(minute) for minute in range(5)], [*records, in_shadow])
        ledger.write_outcomes(
            fills=[earlier, opened, awaited, stated, of_shadow, of_no_order],
            opens=[FillOpen(fill_id=opened.fill_id, open=100.0)],
        )
        assert ledger.list_unopened("production", at(2)) == {awaited.fill_id: ("AAPL", at(3))}
        assert ledger.list_unopened("shadow", at(2)) == {of_shadow.fill_id: ("AAPL", at(5))}


def test_questions_can_be_bounded_by_time(path: Path) -> None:
    with Ledger(path) as ledger:
        for minute in range(5):
            ledger.write_decisions([a_decision(minute)], [a_record(minute)])
        assert ledger.read_decisions(first=at(1), last=at(3))["ts"].to_list() == [at(1), at(2), at(3)]
        assert ledger.list_known_ids(at(3)) == {a_record(minute).client_order_id for minute in (3, 4)}
        assert [order.ts for order in ledger.read_working_orders()] == [at(minute) for minute in range(5)]


def crash_driver(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [*DRIVER, str(folder), *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.mark.hazard(50)
@pytest.mark.hazard(52)
@pytest.mark.parametrize("steps", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_before_any_statement_a_minute_is_whole_or_not_there(tmp_path: Path, steps: int) -> None:
    assert int(crash_driver(tmp_path, "ledger", str(steps))) >= 20


@pytest.mark.hazard(50)
@pytest.mark.hazard(52)
@pytest.mark.parametrize("kills", [4, pytest.param(300, marks=pytest.mark.slow)])
def test_killed_at_any_moment_nothing_that_was_confirmed_is_lost(tmp_path: Path, kills: int) -> None:
    chance = random.Random(7)  # noqa: S311
    for number in range(kills):
        folder = tmp_path / str(number)
        folder.mkdir()
        with subprocess.Popen([*DRIVER, str(folder), "write on"], cwd=REPOSITORY, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(chance.random() * 0.03)
            writer.kill()
            confirmed = int((writer.stdout.read().split() or [b"0"])[-1])
        with Ledger(folder / "ledger.sqlite") as ledger, LedgerReader(folder / "ledger.sqlite") as reader:
            minutes = reader.read_decisions().height // len(TICKERS)
            fills = reader.read_fills().height // len(TICKERS)
            assert confirmed <= fills <= minutes <= confirmed + 2
            assert reader.read_decisions().height == minutes * len(TICKERS)
            assert reader.read_orders().height == minutes * len(TICKERS)
            assert reader.read_equity().height == fills
            assert (
                ledger.read_positions()
                == reader.read_positions()
                == ({t: float(fills) for t in TICKERS} if fills else {})
            )
        shutil.rmtree(folder)
