"""How any SQLite file of hftcl is opened, brought up to date, sealed and read, on a database of the tests' own."""

import contextlib
import math
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from hftcl.errors import IntegrityError, LockHeldError, NewerVersionError, StorageError
from hftcl.sqlite import (
    Change,
    Database,
    Sync,
    as_real,
    build_damage_error,
    compute_seal,
    faults,
    guard_rows,
    list_columns,
    list_damage,
    open_to_read,
    open_to_write,
    read_rows,
    remove,
    require_whole,
    seal_row,
    set_sync,
    snapshot,
    transaction,
)

ORDERS = "CREATE TABLE orders (day TEXT, number INTEGER, price REAL, PRIMARY KEY (day, number))"
FIRST = Database(
    kind="a book of the tests",
    version=1,
    schema=ORDERS,
    journal="DELETE",
    sync="FULL",
    remedy="Write it again.",
    sealed={"orders": ("day", "number")},
)
NOTES = "CREATE TABLE notes (text TEXT)"
SECOND = replace(FIRST, version=2, schema=f"{ORDERS};{NOTES}", upgrades={1: (NOTES,)})
NAMED = "CREATE TABLE orders (day TEXT, number INTEGER, price REAL, name TEXT, PRIMARY KEY (day, number))"
THIRD = replace(
    SECOND,
    version=3,
    schema=f"{NAMED};{NOTES}",
    upgrades={**SECOND.upgrades, 2: ("ALTER TABLE orders ADD COLUMN name TEXT",)},
)


@contextlib.contextmanager
def writing(path: Path, database: Database = FIRST) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(open_to_write(path, database)) as db:
        yield db


@contextlib.contextmanager
def reading(path: Path, database: Database = FIRST) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(open_to_read(path, database)) as db:
        yield db


@contextlib.contextmanager
def meddling(path: Path) -> Iterator[sqlite3.Connection]:
    """Open it as no program of ours does."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        yield db


@pytest.fixture
def book(tmp_path: Path) -> Path:
    path = tmp_path / "state" / "book.sqlite"
    with writing(path) as db:
        db.executemany(
            "INSERT INTO orders (day, number, price) VALUES (?, ?, ?)",
            [("mon", 1, 10.5), ("mon", 2, None), ("tue", 1, 0.0)],
        )
    return path


def damage(path: Path) -> None:
    with meddling(path) as db:
        db.execute("UPDATE orders SET price = 11.5 WHERE day = 'mon' AND number = 1")


def version_of(path: Path) -> int:
    with meddling(path) as db:
        return int(db.execute("PRAGMA user_version").fetchone()[0])


def test_a_file_is_made_with_its_folder_and_says_its_version(book: Path) -> None:
    assert version_of(book) == 1
    with reading(book) as db:
        assert db.execute("SELECT count(*), sum(price) FROM orders").fetchone() == (3, 10.5)


@pytest.mark.parametrize(("own", "asked", "level"), [("FULL", None, 2), ("EXTRA", None, 3), ("FULL", "OFF", 0)])
def test_a_commit_waits_for_what_the_kind_of_file_asks_for_unless_the_caller_says_otherwise(
    tmp_path: Path, own: Sync, asked: Sync | None, level: int
) -> None:
    database = replace(FIRST, sync=own)
    with contextlib.closing(open_to_write(tmp_path / "book.sqlite", database, sync=asked)) as db:
        assert db.execute("PRAGMA synchronous").fetchone() == (level,), "as numbered at sqlite.org/pragma.html"
        assert db.execute("PRAGMA foreign_keys").fetchone() == (1,)
        set_sync(db, "NORMAL")
        assert db.execute("PRAGMA synchronous").fetchone() == (1,)


def test_what_is_not_there_reads_as_empty_and_is_not_made(tmp_path: Path) -> None:
    with reading(tmp_path / "none.sqlite", SECOND) as db:
        assert db.execute("SELECT count(*) FROM orders").fetchone() == (0,)
        assert db.execute("SELECT count(*) FROM notes").fetchone() == (0,)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "begun.sqlite").touch()
    with reading(tmp_path / "begun.sqlite") as db:
        assert db.execute("SELECT count(*) FROM orders").fetchone() == (0,)
    assert (tmp_path / "begun.sqlite").read_bytes() == b""


def test_who_reads_cannot_write(book: Path) -> None:
    for database in (FIRST, SECOND, THIRD):
        with (
            reading(book, database) as db,
            pytest.raises(sqlite3.OperationalError, match=r"readonly|may not be modified"),
        ):
            db.execute("DELETE FROM main.orders")
    with meddling(book) as db:
        assert db.execute("SELECT count(*) FROM orders").fetchone() == (3,)


def test_an_older_file_reads_as_it_will_be_and_stays_as_it_is_until_something_is_written(book: Path) -> None:
    before = book.read_bytes()
    for database, columns in ((SECOND, ["day", "number", "price"]), (THIRD, ["day", "number", "price", "name"])):
        with reading(book, database) as db:
            assert db.execute("SELECT count(*) FROM notes").fetchone() == (0,)
            cursor = db.execute("SELECT * FROM orders ORDER BY day, number")
            assert [column[0] for column in cursor.description] == columns, "and no seal is to be seen"
            assert cursor.fetchone()[:3] == ("mon", 1, 10.5)
    assert book.read_bytes() == before
    with writing(book, THIRD) as db:
        db.execute("INSERT INTO orders (day, number, name) VALUES ('wed', 1, 'x')")
    assert version_of(book) == 3
    with reading(book, THIRD) as db:
        assert db.execute("SELECT count(*), max(name) FROM orders").fetchone() == (4, "x")


def test_a_row_that_was_damaged_before_an_upgrade_gets_no_seal_that_fits_it(book: Path) -> None:
    damage(book)
    with writing(book, SECOND) as db:
        assert list_damage(db, SECOND) == ("orders mon 1",), "a new table beside it changes no column of its own"
    assert version_of(book) == 2


def test_a_table_without_seals_gets_them_with_the_version_that_asks_for_them(tmp_path: Path) -> None:
    path, plain = tmp_path / "book.sqlite", replace(FIRST, sealed={})
    with writing(path, plain) as db:
        db.execute("INSERT INTO orders VALUES ('mon', 1, 2.5)")
        assert list_columns(db, "orders") == (["day", "number", "price"], False)
        assert list_damage(db, FIRST) == ()
    with reading(path, FIRST) as db:
        assert db.execute("SELECT price FROM orders").fetchall() == [(2.5,)], (
            "a file of before the seals is read as it is"
        )
    with writing(path, SECOND) as db:
        assert list_columns(db, "orders") == (["day", "number", "price"], True)
        require_whole(db, path, SECOND)
    damage(path)
    with (
        reading(path, SECOND) as db,
        pytest.raises(IntegrityError, match="the row orders mon 1 is not what was written"),
    ):
        require_whole(db, path, SECOND)


def test_a_newer_file_is_refused_by_name_and_left_alone(book: Path) -> None:
    with writing(book, SECOND):
        pass
    before = book.read_bytes()
    for opening in (open_to_read, open_to_write):
        with pytest.raises(
            NewerVersionError, match=r"book\.sqlite has version 2, written by a newer hftcl.*up to version 1"
        ):
            opening(book, FIRST)
    assert book.read_bytes() == before


@pytest.mark.parametrize("opening", [open_to_read, open_to_write])
def test_a_file_of_another_program_is_not_taken_for_ours(
    tmp_path: Path, opening: Callable[[Path, Database], sqlite3.Connection]
) -> None:
    path = tmp_path / "book.sqlite"
    with meddling(path) as db:
        db.execute("CREATE TABLE things (a)")
    before = path.read_bytes()
    with pytest.raises(sqlite3.DatabaseError, match="it holds tables of another program"):
        opening(path, FIRST)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("DROP TABLE orders", "it has no table orders any more"),
        ("ALTER TABLE orders RENAME COLUMN price TO pricf", "its table orders has no column price any more"),
    ],
)
def test_a_table_or_a_column_that_is_gone_is_told_when_the_file_is_opened(book: Path, change: str, told: str) -> None:
    with meddling(book) as db:
        db.execute(change)
    for opening in (open_to_read, open_to_write):
        with pytest.raises(sqlite3.DatabaseError, match=told):
            opening(book, FIRST)


def test_something_else_in_the_place_of_a_file_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    (tmp_path / "book.sqlite-journal").mkdir()
    for opening in (open_to_write, open_to_read):
        if opening is open_to_read:
            (tmp_path / "book.sqlite").touch()
        with pytest.raises(StorageError, match=r"book\.sqlite-journal"):
            opening(tmp_path / "book.sqlite", FIRST)


def test_a_damaged_row_ends_the_query_that_meets_it_and_no_other_one(book: Path) -> None:
    damage(book)
    with reading(book) as db:
        assert db.execute("SELECT price FROM orders WHERE day = 'tue'").fetchall() == [(0.0,)]
        with (
            pytest.raises(
                IntegrityError,
                match=r"book\.sqlite is damaged or not a book of the tests of hftcl \(the row orders mon 1 is not ",
            ),
            faults("reading", book, FIRST),
        ):
            db.execute("SELECT sum(price) FROM orders").fetchall()
        assert list_damage(db, FIRST, {"orders": "day = 'tue'"}) == ()
        assert list_damage(db, FIRST, {"orders": "number = 1"}) == ("orders mon 1",)
        assert list_damage(db, FIRST) == ("orders mon 1",)


def test_whole_rows_are_read_beside_the_names_of_those_that_are_not(book: Path) -> None:
    damage(book)
    with reading(book) as db:
        db.row_factory = sqlite3.Row
        whole, broken = read_rows(db, FIRST, "orders", "day DESC, number DESC")
    assert [(row["day"], row["number"]) for row in whole] == [("tue", 1), ("mon", 2)]
    assert broken == ["orders mon 1"]


def test_each_row_that_is_written_or_changed_is_sealed_again(book: Path) -> None:
    with writing(book) as db:
        db.execute("UPDATE orders SET price = 9.0 WHERE day = 'mon'")
        db.execute("INSERT OR REPLACE INTO orders (day, number, price) VALUES ('tue', 1, 3.0)")
        db.execute("UPDATE orders SET day = 'wed' WHERE day = 'tue'")
        require_whole(db, book, FIRST)
        row = seal_row("orders", ("thu", 7, 1.5))
        db.execute("INSERT INTO orders VALUES (?, ?, ?, ?)", row)
        require_whole(db, book, FIRST)
        assert db.execute("SELECT seal FROM orders WHERE day = 'thu'").fetchone() == (row[-1],)
        db.execute("INSERT INTO orders VALUES ('fri', 1, 1.5, 12345)")
        assert list_damage(db, FIRST) == ("orders fri 1",), "a row that comes with a seal keeps it, right or wrong"


def test_a_change_that_always_brings_its_seal_is_not_sealed_again(book: Path) -> None:
    def make(changes: Sequence[Change]) -> Database:
        return replace(FIRST, comes_sealed={"orders": changes})

    with writing(book, make(["INSERT"])) as db:
        db.execute("UPDATE orders SET price = 9.0 WHERE day = 'mon'")
        db.execute("INSERT INTO orders VALUES (?, ?, ?, ?)", seal_row("orders", ("thu", 7, 1.5)))
        require_whole(db, book, FIRST)
        db.execute("INSERT INTO orders (day, number) VALUES ('fri', 1)")
        assert list_damage(db, FIRST) == ("orders fri 1",), "what its writer forgot to seal does not pass for whole"
    with writing(book, make(["UPDATE"])) as db:
        db.execute("INSERT OR REPLACE INTO orders (day, number) VALUES ('fri', 1)")
        db.execute(
            "UPDATE orders SET price = 1.0, seal = ? WHERE day = 'tue'", seal_row("orders", ("tue", 1, 1.0))[-1:]
        )
        require_whole(db, book, FIRST)
        db.execute("UPDATE orders SET price = 9.0 WHERE day = 'fri'")
        assert list_damage(db, FIRST) == ("orders fri 1",)


def test_a_seal_is_of_the_table_and_of_each_value_in_its_place() -> None:
    seals = [
        compute_seal("orders", "mon", 1, 2.0),
        compute_seal("notes", "mon", 1, 2.0),
        compute_seal("orders", "mon", 1, 2),
        compute_seal("orders", 1, "mon", 2.0),
        compute_seal("orders", "mon", 1, None),
        compute_seal("orders", "mon", 1, 0.0),
        compute_seal("orders", "mon", 1, -0.0),
        compute_seal("a", "b"),
        compute_seal("b", "a"),
    ]
    assert len(set(seals)) == len(seals)
    assert compute_seal("a", "b") == seals[-2], "also where it comes from the cache"
    assert all(-(2**63) <= seal < 2**63 for seal in seals), "one integer of SQLite"


def test_a_number_is_sealed_as_the_file_gives_it_back(book: Path) -> None:
    assert (as_real(None), as_real(math.nan), as_real(3)) == (None, None, 3.0)
    assert math.copysign(1.0, as_real(-0.0) or 0.0) == 1.0
    with writing(book) as db:
        for number, value in enumerate((math.nan, -0.0, 1e300, 7.0)):
            db.execute("INSERT INTO orders VALUES (?, ?, ?, ?)", seal_row("orders", ("z", number, as_real(value))))
        require_whole(db, book, FIRST)


def test_a_change_is_made_whole_or_not_at_all(book: Path) -> None:
    with writing(book) as db:
        with pytest.raises(sqlite3.IntegrityError), transaction(db):
            db.executemany("INSERT INTO orders (day, number) VALUES (?, 1)", [("new",), ("tue",)])
        assert not db.in_transaction
        with transaction(db):
            db.execute("DELETE FROM orders WHERE day = 'tue'")
    with reading(book) as db:
        assert db.execute("SELECT count(*) FROM orders").fetchone() == (2,)


def test_within_a_snapshot_each_question_sees_the_same_moment(tmp_path: Path) -> None:
    path, logged = tmp_path / "book.sqlite", replace(FIRST, journal="WAL")
    with writing(path, logged) as writer, reading(path, logged) as reader:
        with snapshot(reader):
            assert reader.execute("SELECT count(*) FROM orders").fetchone() == (0,)
            writer.execute("INSERT INTO orders (day, number) VALUES ('mon', 1)")
            assert reader.execute("SELECT count(*) FROM orders").fetchone() == (0,)
        assert reader.execute("SELECT count(*) FROM orders").fetchone() == (1,)
        with transaction(writer):
            with snapshot(writer):
                writer.execute("DELETE FROM orders")
            assert writer.in_transaction, "a snapshot within a change does not end it"
        assert reader.execute("SELECT count(*) FROM orders").fetchone() == (0,)


def test_what_sqlite_says_becomes_the_error_that_a_person_can_act_on(book: Path) -> None:
    with writing(book) as db:
        with (
            pytest.raises(
                IntegrityError, match=r"Noting an order failed: a row cannot be kept in .*book\.sqlite: UNIQUE"
            ),
            faults("noting an order", book, FIRST),
        ):
            db.execute("INSERT INTO orders (day, number) VALUES ('mon', 1)")
        db.execute("PRAGMA query_only = ON")
        with (
            pytest.raises(StorageError, match=r"Noting an order failed: .*Check the space, the owner"),
            faults("noting an order", book, FIRST),
        ):
            db.execute("DELETE FROM orders")
        db.execute("PRAGMA query_only = OFF")
        with meddling(book) as other, transaction(db):
            other.execute("PRAGMA busy_timeout = 0")
            with pytest.raises(LockHeldError, match=r"program with .*book\.sqlite open"), faults("noting", book, FIRST):
                other.execute("BEGIN IMMEDIATE")
    book.write_bytes(b"no database at all, but long enough to be looked at" * 20)
    with (
        pytest.raises(IntegrityError, match=r"not a book of the tests of hftcl \(file is not a database\)"),
        faults("reading", book, FIRST),
    ):
        open_to_read(book, FIRST)


@pytest.mark.parametrize("fault", [ValueError("no date\nat all"), TypeError("x"), OverflowError("x"), KeyError("x")])
def test_a_row_that_cannot_be_what_was_written_is_damage_and_any_other_fault_is_not(fault: Exception) -> None:
    damaged = not isinstance(fault, KeyError)
    with pytest.raises(IntegrityError if damaged else KeyError) as caught, guard_rows(Path("book.sqlite"), FIRST):
        raise fault
    if damaged:
        assert f"a row cannot be read: {str(fault).splitlines()[0]})" in str(caught.value)
    with pytest.raises(IntegrityError, match="a row cannot be read: 'x'"), guard_rows(Path("b"), FIRST, KeyError):
        raise KeyError("x")


def test_what_a_damaged_file_says_of_itself_is_shown_short_and_in_one_line() -> None:
    text = str(build_damage_error(Path("book.sqlite"), FIRST, "a\nb\tc\x1b[31m" + "d" * 500))
    assert "(a b c [31mddd" in text
    assert text.isprintable()
    assert text.count("d" * 150) == 1
    assert len(text) < 300
    assert text.endswith("...). Write it again.")


def test_a_file_is_removed_with_its_logs_and_nothing_else_is(book: Path) -> None:
    for suffix in ("-wal", "-shm", ".before"):
        book.with_name(book.name + suffix).touch()
    remove(book)
    assert [path.name for path in book.parent.iterdir()] == ["book.sqlite.before"]
    remove(book)


def test_a_database_knows_which_tables_a_file_of_an_older_version_lacks() -> None:
    assert THIRD.tables == ("orders", "notes")
    assert [THIRD.list_later_tables(version) for version in (0, 1, 2, 3)] == [("notes",), ("notes",), (), ()]
