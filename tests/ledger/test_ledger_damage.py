"""The ledger and the outbox with a flipped byte, and as the first release wrote them."""

import contextlib
import random
import sqlite3
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from hftcl.alerts.alert import Alert, Kind
from hftcl.alerts.outbox import Outbox
from hftcl.errors import HftclError, IntegrityError
from hftcl.ledger.reader import LedgerReader
from hftcl.ledger.rows import FillOpen, LedgerEvent
from hftcl.ledger.schema import SCHEMA
from hftcl.ledger.writer import Ledger
from tests.ledger.ledger_cases import write_ledger

NOW = datetime(2026, 1, 5, 15, 0, tzinfo=UTC)
VERSION_1 = """
CREATE TABLE decisions (
    book TEXT NOT NULL, ts INTEGER NOT NULL, ticker TEXT NOT NULL, model_id TEXT, features_hash TEXT, prediction REAL,
    target REAL, code TEXT NOT NULL, decided_at INTEGER NOT NULL, PRIMARY KEY (book, ts, ticker)) STRICT, WITHOUT ROWID;
CREATE TABLE orders (
    client_order_id TEXT PRIMARY KEY, book TEXT NOT NULL, ts INTEGER NOT NULL, session TEXT NOT NULL,
    ticker TEXT NOT NULL, model_id TEXT, quantity REAL, reference_price REAL, state TEXT NOT NULL, code TEXT NOT NULL,
    reason TEXT NOT NULL, broker_order_id TEXT, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL,
    CHECK (state = 'refused' OR (quantity IS NOT NULL AND reference_price IS NOT NULL))) STRICT;
CREATE INDEX orders_by_time ON orders (book, ts);
CREATE INDEX orders_working ON orders (book, ts) WHERE state IN ('intended', 'submitted', 'partially_filled');
CREATE TABLE fills (
    number INTEGER PRIMARY KEY, fill_id TEXT NOT NULL UNIQUE, client_order_id TEXT NOT NULL, book TEXT NOT NULL,
    ts INTEGER NOT NULL, ticker TEXT NOT NULL, model_id TEXT, quantity REAL NOT NULL, price REAL NOT NULL,
    commission REAL NOT NULL, reference_price REAL NOT NULL, filled_at INTEGER NOT NULL) STRICT;
CREATE INDEX fills_by_time ON fills (book, ts);
CREATE TABLE equity (
    book TEXT NOT NULL, ts INTEGER NOT NULL, session TEXT NOT NULL, equity REAL NOT NULL, cash REAL NOT NULL,
    gross REAL NOT NULL, net REAL NOT NULL, realised REAL NOT NULL, PRIMARY KEY (book, ts)) STRICT, WITHOUT ROWID;
CREATE TABLE closes (
    session TEXT NOT NULL, ticker TEXT NOT NULL, ts INTEGER NOT NULL, open REAL NOT NULL, close REAL NOT NULL,
    PRIMARY KEY (session, ticker)) STRICT, WITHOUT ROWID;
CREATE TABLE latches (
    name TEXT NOT NULL, since INTEGER NOT NULL, reason TEXT NOT NULL, cleared_at INTEGER, cleared_by TEXT,
    PRIMARY KEY (name, since)) STRICT;
CREATE UNIQUE INDEX latched ON latches (name) WHERE cleared_at IS NULL;
CREATE TABLE events (
    number INTEGER PRIMARY KEY, at INTEGER NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL, model_id TEXT) STRICT;
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
PRAGMA user_version = 1;
"""
"""The ledger of release 0.1.0, without seals."""


def read_structure(db: sqlite3.Connection) -> dict[str, Any]:
    tables = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    return {table: db.execute(f"PRAGMA table_xinfo({table})").fetchall() for table in tables}


def test_the_tables_made_from_the_row_classes_are_those_of_the_first_release() -> None:
    with (
        contextlib.closing(sqlite3.connect(":memory:")) as old,
        contextlib.closing(sqlite3.connect(":memory:")) as new,
    ):
        old.executescript(VERSION_1)
        new.executescript(SCHEMA)
        structure = read_structure(new)
        assert {name: structure[name] for name in read_structure(old)} == read_structure(old)


def test_a_ledger_of_the_first_release_is_read_as_it_is_and_sealed_by_the_first_change(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as old:
        old.executescript(VERSION_1)
        old.execute(
            "INSERT INTO fills "
            "VALUES (1, 'f-1', 'o-1', 'production', 0, 'AAPL', 'm', 10.0, 100.0, 0.5, 100.0, 60000000)"
        )
        old.execute("INSERT INTO meta VALUES ('capital', '1000.0')")
        old.commit()
    before = path.read_bytes()
    with LedgerReader(path) as reader:
        assert (reader.read_positions(), reader.read_cash()) == ({"AAPL": 10.0}, -0.5)
    assert path.read_bytes() == before
    with Ledger(path) as ledger:
        ledger.write_event(LedgerEvent(at=NOW, kind="started", text="a test"))
        assert ledger.read_positions() == {"AAPL": 10.0}
    content = path.read_bytes()
    path.write_bytes(content.replace(b"1000.0", b"9000.0"))
    for kind in (LedgerReader, Ledger):
        with pytest.raises(IntegrityError, match="the row meta capital is not what was written"), kind(path) as ledger:
            ledger.open_meta()


def ask_ledger(path: Path) -> list[object]:
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
            *(
                ledger.find_last_decided,
                ledger.read_positions,
                ledger.read_account,
                ledger.read_cash,
                ledger.read_working_orders,
            ),
            *(ledger.count_refusals, ledger.list_all_latches, ledger.read_events, ledger.open_meta),
            lambda: ledger.read_fills_with_opens("production"),
        )
        return [
            answer.to_dicts() if isinstance(answer, pl.DataFrame) else answer
            for answer in (question() for question in questions)
        ]


def ask_outbox(path: Path) -> list[object]:
    outbox = Outbox(path.parent)
    return [outbox.list_due(NOW + timedelta(days=1)), outbox.count_waiting(), outbox.find_oldest_fault()]


def flip_bytes(path: Path, ask: Callable[[Path], object], seeds: range) -> None:
    """Flip one byte of the file at `path` for each seed: an error of ours, or the very same answers."""
    content, expected = path.read_bytes(), ask(path)
    silent = []
    for seed in seeds:
        chance = random.Random(seed)  # noqa: S311
        at, value = chance.randrange(len(content)), chance.randrange(1, 256)
        flipped = bytearray(content)
        flipped[at] ^= value
        path.write_bytes(bytes(flipped))
        try:
            if ask(path) != expected:
                silent.append((seed, at, value))
        except HftclError as error:
            assert "\n" not in str(error), seed  # noqa: PT017
        for suffix in ("-wal", "-shm", "-journal"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    assert silent == []


def build_ledger(folder: Path) -> Path:
    path = folder / "ledger.sqlite"
    write_ledger(path, last=date(2025, 6, 4))
    with Ledger(path) as ledger:
        ledger.latch("kill_switch", "a test", NOW)
        ledger.write_event(LedgerEvent(at=NOW, kind="error", text="something"))
    return path


def build_archived(folder: Path) -> Path:
    path = build_ledger(folder)
    with Ledger(path) as ledger:
        ledger.archive(NOW)
    return path


def build_outbox(folder: Path) -> Path:
    outbox = Outbox(folder)
    for number in range(8):
        alert = Alert(Kind.ERROR, f"subject {number}", f"text {number}", NOW)
        outbox.put(alert, ["mail", "command"], repeat=timedelta(hours=24))
    return outbox.path


@pytest.mark.hazard(86)
@pytest.mark.parametrize(
    ("build", "ask"), [(build_ledger, ask_ledger), (build_archived, ask_ledger), (build_outbox, ask_outbox)]
)
def test_no_flipped_byte_is_a_raw_error_or_another_number(
    tmp_path: Path, build: Callable[[Path], Path], ask: Callable[[Path], object]
) -> None:
    flip_bytes(build(tmp_path), ask, range(50))


def test_a_row_that_fell_out_of_every_book_is_told(tmp_path: Path) -> None:
    path = build_ledger(tmp_path)
    with contextlib.closing(sqlite3.connect(path)) as db:  # the last of its tree, so that its place still fits
        newest = "(SELECT max(ts) FROM decisions) AND ticker = (SELECT max(ticker) FROM decisions)"
        db.execute(f"UPDATE decisions SET book = 'produ' || char(255) || 'tion' WHERE ts = {newest}")  # noqa: S608
        db.commit()
    with pytest.raises(IntegrityError, match="a row of decisions is of no book"), LedgerReader(path):
        pass


def test_an_open_that_lost_its_fill_is_told(tmp_path: Path) -> None:
    path = build_ledger(tmp_path)
    with Ledger(path) as ledger:
        ledger.write_outcomes(opens=[FillOpen(fill_id=str(ledger.read_fills()["fill_id"][-1]), open=99.0)])
    with LedgerReader(path) as reader:
        reader.check_structure()
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("UPDATE opens SET fill_id = fill_id || 'x'").rowcount == 1
        db.commit()
    with pytest.raises(IntegrityError, match="a row of opens is of no fill"), LedgerReader(path) as reader:
        reader.check_structure()


@pytest.mark.slow
@pytest.mark.hazard(86)
@pytest.mark.parametrize(
    ("build", "ask"), [(build_ledger, ask_ledger), (build_archived, ask_ledger), (build_outbox, ask_outbox)]
)
def test_no_flipped_byte_in_two_thousand_is_a_raw_error_or_another_number(
    tmp_path: Path, build: Callable[[Path], Path], ask: Callable[[Path], object]
) -> None:
    flip_bytes(build(tmp_path), ask, range(1000, 3000))
