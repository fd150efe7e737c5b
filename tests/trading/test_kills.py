"""The whole bot, killed before any statement of ledger or paper account: what the files were at that moment is what a
kill -9 leaves, and a bot that starts on them goes on.
"""

import itertools
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from hftcl.home import Home
from hftcl.ledger.reader import LedgerReader
from hftcl.ledger.writer import Ledger
from hftcl.trading.brokers.paper import PaperBroker
from hftcl.trading.execute.reconciliation import reconcile
from tests.trading.bot_stand import TICKERS, archived, session_minutes, some_minutes, stand

FIRST, COUNT = 35, 5
"""Minutes that are traded: behind the warm-up, so that orders go from the first of them on."""
FILLS = "SELECT fill_id, client_order_id, ticker, quantity, price, commission, ts FROM fills ORDER BY number"


def trade(home: Path, copies: Path | None = None, step: int = 1) -> int:
    """Trade from wherever the ledger stopped; leave in `copies` the home as it was before each `step`-th statement.

    Returns how many statements there were.
    """
    with Ledger(Home.live(home).ledger, durable=False) as ledger:
        decided = ledger.find_last_decided()
    begin = FIRST if decided is None else session_minutes().index(decided) + 1
    bot = stand(home, begin, sections={"paper": {"cash": 1e6, "max_volume_share": 1.0}})
    assert isinstance(bot.broker, PaperBroker)
    numbers = itertools.count()
    if copies is not None:
        for db in (bot.ledger._db, bot.broker._db):
            db.set_trace_callback(lambda _: _copy(home, copies, next(numbers), step))
    assert reconcile(bot.ledger, bot.broker, bot.start).agrees
    bot.run(minutes=some_minutes(begin, FIRST + COUNT - begin))
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
            fills, opens, decisions = ledger.fills(), ledger.opens(), ledger.decisions()
            assert set(fills["fill_id"]) == set(opens["fill_id"]), f"{bot.name}: the open of each fill's bar is known"
            assert decisions.group_by("ts").len()["len"].to_list() == [len(TICKERS)] * COUNT, bot.name
            orders = read_rows(place.folder / "paper.sqlite", "SELECT client_order_id, status FROM orders")
            assert {name for name, _ in orders} <= set(ledger.orders()["client_order_id"])
            working = {name for name, status in orders if status in {"open", "partially_filled"}}
            assert {order.client_order_id for order in ledger.working_orders()} == working, bot.name
            assert ledger.latches() == (), bot.name
