"""The whole bot, killed before any statement of ledger or paper account: what the files were at that moment is what a
kill -9 leaves, and a bot that starts on them goes on.
"""

import itertools
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn

import pytest

from hftcl.errors import BrokerError
from hftcl.home import Home
from hftcl.ledger.reader import LedgerReader
from hftcl.ledger.writer import Ledger
from hftcl.trading.brokers.paper import PaperBroker
from hftcl.trading.execute.reconciliation import reconcile
from tests.trading.bot_stand import TICKERS, archived, session_minutes, some_minutes, stand

FIRST, COUNT = 35, 5
"""Minutes that are traded: behind the warm-up, so that orders go from the first of them on."""
RICH: dict[str, dict[str, object]] = {"paper": {"cash": 1e6, "max_volume_share": 1.0}}
FILLS = "SELECT fill_id, client_order_id, ticker, quantity, price, commission, ts FROM fills ORDER BY number"


def trade(home: Path, copies: Path | None = None, step: int = 1, count: int = COUNT) -> int:
    """Trade `count` minutes less those in the ledger; leave in `copies` the home before each `step`-th statement.

    Returns how many statements there were.
    """
    with Ledger(Home.live(home).ledger, durable=False) as ledger:
        decided = ledger.find_last_decided()
    begin = FIRST if decided is None else session_minutes().index(decided) + 1
    bot = stand(home, begin, sections=RICH)
    assert isinstance(bot.broker, PaperBroker)
    numbers = itertools.count()
    if copies is not None:
        for db in (bot.ledger._db, bot.broker._db):
            db.set_trace_callback(lambda _: _copy(home, copies, next(numbers), step))
    assert reconcile(bot.ledger, bot.broker, bot.start).agrees
    bot.run(minutes=some_minutes(begin, FIRST + count - begin))
    bot.close()
    return next(numbers)


def _copy(home: Path, copies: Path, number: int, step: int) -> None:
    if number % step == 0:  # without the index of the log, which is no file to a process that begins
        shutil.copytree(home, copies / str(number), ignore=shutil.ignore_patterns("*-shm"))


def read_rows(path: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(sql).fetchall()


@pytest.mark.parametrize("step", [43, pytest.param(1, marks=pytest.mark.slow)])
def test_a_bot_that_is_killed_before_any_statement_goes_on_and_loses_and_doubles_nothing(
    tmp_path: Path, step: int
) -> None:
    home, copies = tmp_path / "home", tmp_path / "copies"
    home.mkdir()
    archived(home, threshold=0.0)
    assert trade(home, copies, step) > 100
    bots = [home, *(copy for copy in copies.iterdir() if Home.live(copy).ledger.stat().st_size)]
    last = session_minutes()[FIRST + COUNT - 1]
    for bot in bots:
        if bot != home:
            with LedgerReader(Home.live(bot).ledger) as ledger:
                is_done = ledger.find_last_decided() == last
            if is_done:
                continue  # what follows is of the next minute
            trade(bot)
        place = Home.live(bot)
        booked = read_rows(place.ledger, FILLS)
        assert booked == read_rows(place.folder / "paper.sqlite", FILLS), bot.name
        assert len(booked) >= len(TICKERS) * 2, "it trades"
        with LedgerReader(place.ledger) as ledger:
            ledger.check_rows()
            fills, opens, decisions = ledger.read_fills(), ledger.read_opens(), ledger.read_decisions()
            assert set(fills["fill_id"]) == set(opens["fill_id"]), f"{bot.name}: the open of each fill's bar is known"
            assert decisions.group_by("ts").len()["len"].to_list() == [len(TICKERS)] * COUNT, bot.name
            orders = read_rows(place.folder / "paper.sqlite", "SELECT client_order_id, status FROM orders")
            assert {name for name, _ in orders} <= set(ledger.read_orders()["client_order_id"])
            working = {name for name, status in orders if status in {"open", "partially_filled"}}
            assert {order.client_order_id for order in ledger.read_working_orders()} == working, bot.name
            assert ledger.read_latches() == (), bot.name


def test_fills_of_minutes_in_which_the_broker_was_silent_have_their_opens_after_a_start(tmp_path: Path) -> None:
    archived(tmp_path, threshold=0.0)
    trade(tmp_path, count=3)
    silent = stand(tmp_path, FIRST + 3, sections=RICH)
    assert isinstance(silent.broker, PaperBroker)
    assert reconcile(silent.ledger, silent.broker, silent.start).agrees
    silent.run(minutes=some_minutes(FIRST + 3, 1))
    booked = len(silent.ledger.read_fills())

    silent.broker.fills = give_no_answer  # type: ignore[method-assign]
    silent.run(minutes=some_minutes(FIRST + 4, 2))
    assert len(silent.ledger.read_fills()) == booked
    silent.close()
    trade(tmp_path, count=8)
    with LedgerReader(Home.live(tmp_path).ledger) as ledger:
        assert len(ledger.read_fills()) > booked
        assert set(ledger.read_fills()["fill_id"]) == set(ledger.read_opens()["fill_id"])


def test_a_broker_that_is_silent_in_the_first_minute_after_a_start_too_takes_no_open_from_its_fills(
    tmp_path: Path,
) -> None:
    archived(tmp_path, threshold=0.0)
    trade(tmp_path, count=3)
    for begin, silent_calls in ((FIRST + 3, 100), (FIRST + 90, 2)):  # more than an hour apart: what memory keeps
        bot = stand(tmp_path, begin, sections=RICH)
        assert isinstance(bot.broker, PaperBroker)
        booked, answer, calls = len(bot.ledger.read_fills()), bot.broker.fills, itertools.count()

        def answer_late(since: str | None, silent: int = silent_calls, told: Any = answer, calls: Any = calls) -> Any:
            return give_no_answer(since) if next(calls) < silent else told(since)

        bot.broker.fills = answer_late  # type: ignore[method-assign]
        bot.run(minutes=some_minutes(begin, 3))
        bot.close()
    with LedgerReader(Home.live(tmp_path).ledger) as ledger:
        fills = ledger.read_fills()
        assert fills["ts"].is_between(session_minutes()[FIRST + 3], session_minutes()[FIRST + 5]).any(), (
            "told hours later"
        )
        assert len(fills) > booked
        assert set(fills["fill_id"]) == set(ledger.read_opens()["fill_id"])


def give_no_answer(since: str | None) -> NoReturn:
    raise BrokerError("no answer")
