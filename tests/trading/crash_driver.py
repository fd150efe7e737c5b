"""Processes that write ledger and paper account and are killed: see test_ledger and test_reconciliation.

python -m tests.trading.crash_driver FOLDER COMMAND [STEP]. What a command finds wrong ends it with a traceback.
"""

import contextlib
import itertools
import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

from hftcl.errors import OrderRefusedError
from hftcl.ledger.reader import LedgerReader
from hftcl.ledger.rows import EquityRow, OrderUpdate
from hftcl.ledger.writer import Ledger
from hftcl.settings import Settings
from hftcl.trading.brokers.paper import PaperBroker
from hftcl.trading.execute.reconciliation import order_update, reconcile
from tests.trading.trading_cases import MINUTE, NOW, SESSION, TICKERS, a_decision, a_fill, a_record, at, bars, sent

WANTED = {"AAPL": [10.0, 10.0, -5.0, 0.0, 0.0, 0.0], "AMD": [-4.0, 6.0, 6.0, 0.0, 0.0, 0.0]}
"""The position that each minute decides on."""


def write_minute(ledger: Ledger, minute: int) -> None:
    ledger.write_decisions([a_decision(minute, t) for t in TICKERS], [a_record(minute, t, 1.0) for t in TICKERS])
    equity = EquityRow(
        book="production",
        ts=at(minute),
        session=SESSION,
        equity=1.0,
        cash=1.0,
        gross=0.0,
        net=0.0,
        realised=0.0,
    )
    fills = [
        a_fill(minute=minute + 1, quantity=1.0, ticker=t, fill_id=f"{minute} {t}", client_order_id=f"{minute} {t}")
        for t in TICKERS
    ]
    updates = [
        OrderUpdate(client_order_id=a_record(minute, t).client_order_id, state="filled", at=NOW) for t in TICKERS
    ]
    ledger.write_outcomes(fills=fills, updates=updates, equity=[equity])


def write_on(folder: Path) -> None:
    """Write minute after minute, and tell each once it is committed, until killed."""
    with Ledger(folder / "ledger.sqlite") as ledger:
        for minute in itertools.count():
            print(minute, flush=True)  # noqa: T201
            write_minute(ledger, minute)


def killed_at(number: int, dbs: list[sqlite3.Connection]) -> None:
    """Kill this process before the `number`-th statement that one of `dbs` runs from now on; 0 never."""
    count = itertools.count(1)

    def step(_: str) -> None:
        if next(count) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    for db in dbs:
        db.set_trace_callback(step)


def in_child(work: Callable[[], None]) -> bool:
    """Run `work` in a process of its own; False where it was killed."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            sys.stderr.flush()
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return False
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit("the child failed")
    return True


def ledger_points(folder: Path, step: int) -> int:
    """Kill a writer of two minutes before each `step`-th statement, write again, and look each time."""
    path = folder / "ledger.sqlite"

    def write(number: int) -> None:
        with Ledger(path) as ledger:
            killed_at(number, [ledger._db])
            for minute in range(2):
                write_minute(ledger, minute)

    for number in itertools.count(1, step):
        for file in folder.iterdir():
            file.unlink()
        done = in_child(lambda number=number: write(number))  # type: ignore[misc]
        with contextlib.closing(sqlite3.connect(path)) as db, db:
            decided, ordered, fills, equity = (
                db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608
                for table in ("decisions", "orders", "fills", "equity")
            )
        assert decided == ordered
        assert decided % len(TICKERS) == fills % len(TICKERS) == 0
        assert fills == equity * len(TICKERS)
        in_child(lambda: write(0))
        with LedgerReader(path) as reader:
            assert reader.read_positions() == dict.fromkeys(TICKERS, 2.0)
        if done:
            return number
    raise AssertionError


def trade(folder: Path, kill_before: int) -> None:
    """Trade `WANTED` from wherever the ledger says it stopped; a bot as small as it can be."""
    ledger = Ledger(folder / "ledger.sqlite", durable=False)
    broker = PaperBroker(Settings(), folder=folder, durable=False)
    killed_at(kill_before, [ledger._db, broker._db])
    assert reconcile(ledger, broker, NOW).agrees
    last = ledger.find_last_decided()
    for minute in range(len(WANTED["AAPL"])):
        broker.on_bars(bars(*((minute, ticker, 100.0 + minute) for ticker in WANTED)), at(minute) + MINUTE)
        assert reconcile(ledger, broker, NOW).agrees
        if last is not None and at(minute) <= last:
            continue  # a bar that was decided on is never decided on again
        orders = []
        for ticker, wanted in WANTED.items():
            missing = wanted[minute] - ledger.read_positions().get(ticker, 0.0)
            if missing:
                orders.append(a_record(minute, ticker, missing))
        ledger.write_decisions([a_decision(minute, ticker) for ticker in WANTED], orders)
        for record in orders:
            try:
                update = order_update(broker.submit(sent(record)), record.client_order_id, NOW)
            except OrderRefusedError as error:
                update = OrderUpdate(
                    client_order_id=record.client_order_id, state="rejected", at=NOW, reason=str(error)
                )
            ledger.write_outcomes(updates=[update])
    broker.close()
    ledger.close()


def trading_points(folder: Path, step: int) -> int:
    """Kill the bot before each `step`-th statement of ledger or broker, start it again, and compare both sides."""
    for number in itertools.count(1, step):
        home = folder / str(number)
        done = in_child(lambda home=home, number=number: trade(home, number))  # type: ignore[misc]
        in_child(lambda home=home: trade(home, 0))  # type: ignore[misc]
        with (
            contextlib.closing(sqlite3.connect(home / "ledger.sqlite")) as ours,
            contextlib.closing(sqlite3.connect(home / "paper.sqlite")) as theirs,
        ):
            sums = "SELECT ticker, sum(quantity) FROM fills GROUP BY ticker ORDER BY ticker"
            assert ours.execute(sums).fetchall() == theirs.execute(sums).fetchall() == [("AAPL", 0.0), ("AMD", 0.0)]
            fills = "SELECT fill_id, client_order_id, quantity, price FROM fills ORDER BY fill_id"
            assert ours.execute(fills).fetchall() == theirs.execute(fills).fetchall()
            ids = {name for (name,) in ours.execute("SELECT client_order_id FROM orders")}
            once = theirs.execute("SELECT ticker, ts, count(*) FROM orders GROUP BY ticker, ts").fetchall()
            assert {count for _, _, count in once} == {1}
            assert {name for (name,) in theirs.execute("SELECT client_order_id FROM orders")} <= ids
            assert ours.execute("SELECT count(*) FROM latches").fetchone() == (0,)
            left = ours.execute("SELECT count(*) FROM orders WHERE state IN ('intended', 'submitted')").fetchone()
            assert left == (0,)
        ours.close()
        theirs.close()
        shutil.rmtree(home)
        if done:
            return number
    raise AssertionError


if __name__ == "__main__":
    place, command = Path(sys.argv[1]), sys.argv[2]
    if command == "write on":
        write_on(place)
    points = ledger_points if command == "ledger" else trading_points
    print(points(place, int(sys.argv[3])))  # noqa: T201
