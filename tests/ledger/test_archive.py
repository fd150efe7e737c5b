"""Decisions that leave the ledger for the months' files, and fills that are summed up: nothing is another number."""

import contextlib
import dataclasses
import json
import random
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hftcl.errors import HftclError, IntegrityError
from hftcl.home import Home
from hftcl.ledger.account import build_snapshot, compute_account, take_up
from hftcl.ledger.blocks import COLUMNS
from hftcl.ledger.reader import LedgerReader
from hftcl.ledger.rows import BookName, CloseRow, Decision, EquityRow, FillOpen, FillRecord
from hftcl.ledger.schema import LEDGER, to_moment
from hftcl.ledger.writer import Ledger
from hftcl.performance.recent import read_recent
from hftcl.performance.story import measure_performance
from hftcl.settings import Settings
from hftcl.trading.run.status import read_status_at
from tests.ledger.ledger_cases import MODELS, write_ledger
from tests.trading.trading_cases import a_decision, a_fill, at

REPOSITORY = Path(__file__).parents[2]
FIRST, LAST = date(2025, 6, 24), date(2025, 7, 3)  # two months
LATER = datetime(2025, 8, 1, tzinfo=UTC)


def build(folder: Path) -> Path:
    path = folder / "ledger.sqlite"
    write_ledger(path, first=FIRST, last=LAST)
    write_ledger(path, first=FIRST, last=LAST, book="shadow", seed=9)
    with Ledger(path, durable=False) as ledger:
        ledger.set_meta(session_opened="2025-07-03T13:30:00+00:00", equity_at_open_production="2025-07-03 100000.0")
    return path


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a ledger that is not to be changed."""
    return build(tmp_path_factory.mktemp("written"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    return build(home)


def ask(path: Path) -> list[Any]:
    """Return what is to be known of the decisions and the accounts of the ledger at `path`."""
    with LedgerReader(path) as ledger:
        frames = [ledger.read_decisions(book) for book in ("production", "shadow")]
        bars = frames[0]["ts"].unique().sort()
        spans = [(bars[0], bars[-1]), (bars[3], bars[9]), (bars[30], bars[-4]), (bars[-1] + timedelta(days=9), LATER)]
        return [
            *(frame.to_dicts() for frame in frames),
            *(ledger.read_decisions("production", *span).to_dicts() for span in spans),
            *(ledger.find_decided_between("production", *span) for span in spans),
            *(ledger.count_codes("production", first) for first, _ in spans),
            *((ledger.find_last_decided(book), ledger.read_positions(book)) for book in ("production", "shadow")),
            *(ledger.read_fills_with_opens(book).rows() for book in ("production", "shadow")),
            *(ledger.read_fills_with_opens("production", first).rows() for first, _ in spans),
            (ledger.read_account(), ledger.read_cash()),
        ]


def settings_of(path: Path) -> Settings:
    return replace(Settings(), paths=replace(Settings().paths, home=str(path.parent)))


def report(path: Path, since: date | None = None, until: date | None = None) -> str:
    return json.dumps(dataclasses.asdict(measure_performance(settings_of(path), since=since, until=until)), default=str)


def archive(path: Path) -> int:
    """Do what the bot does at a close."""
    with Ledger(path, durable=False) as ledger:
        ledger.write_snapshots(LATER)
        return ledger.archive(LATER)


def archive_day_by_day(path: Path) -> None:
    """Write the ledger of `path` again session by session, and do after each what the bot does at a close."""
    with LedgerReader(path) as old:
        meta, days = dict(old.open_meta()), old.list_sessions("production")
        decisions, fills, equity = (
            [row for book in ("production", "shadow") for row in ask(book).iter_rows(named=True)]
            for ask in (old.read_decisions, old.read_fills, old.read_equity)
        )
        closes = old.read_closes().to_dicts()
    for file in path.parent.iterdir():
        file.unlink()
    with Ledger(path, durable=False) as ledger:
        ledger.set_meta(**meta)
        for day in days:
            ledger.write_decisions([Decision(**row) for row in decisions if row["ts"].date() == day])
            ledger.write_outcomes(
                fills=[FillRecord(**row) for row in fills if row["ts"].date() == day],
                equity=[EquityRow(**row) for row in equity if row["session"] == day],
            )
            ledger.note_closes([CloseRow(**row) for row in closes if row["session"] == day])
            ends = datetime.combine(day, time(20), UTC)
            ledger.write_snapshots(ends)
            ledger.archive(ends)


def test_what_is_archived_is_read_as_before_and_the_ledger_keeps_none_of_it(path: Path) -> None:
    before, status, told = ask(path), read_status_at(Home.live(path.parent)), report(path)
    moved = archive(path)
    assert moved == len(before[0]) + len(before[1])
    assert ask(path) == before
    assert (read_status_at(Home.live(path.parent)), report(path)) == (status, told)
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM decisions").fetchone() == (0,)
    files = sorted(file.name for file in Home.live(path.parent).decisions.iterdir())
    assert files == ["2025-06.parquet", "2025-07.parquet"]


def test_archived_day_by_day_every_report_and_the_check_are_those_of_the_whole(path: Path, written: Path) -> None:
    archive_day_by_day(path)
    assert ask(path) == ask(written)
    days = measure_performance(settings_of(written)).pnl_by_session
    for since in (None, date(2025, 6, 26), date(2025, 7, 3)):
        for until in (None, date(2025, 7, 1)):
            if since and until and since > until:
                continue
            assert report(path, since, until) == report(written, since, until)
    assert len(days) == 8
    for most in (1, 2, 5):
        recent, whole = (
            read_recent(settings_of(home), MODELS[1], until=LAST, most=most, of_synthetic=False)
            for home in (path, written)
        )
        assert recent is not None
        assert whole is not None
        assert recent.net.tolist() == whole.net.tolist()


def test_a_report_of_the_last_days_reads_no_fill_of_before_the_close_ahead_of_them(path: Path) -> None:
    archive_day_by_day(path)
    told = report(path, date(2025, 7, 2))
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE fills SET price = 2 * price WHERE number < 5")  # its seal does not fit any more
        db.execute("UPDATE blocks SET last = last - 1 WHERE number = (SELECT min(number) FROM blocks)")
        db.commit()
    assert report(path, date(2025, 7, 2)) == told
    with pytest.raises(IntegrityError, match=r"the row blocks production \d+ is not what was written"):
        report(path)
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("DELETE FROM blocks WHERE number = (SELECT min(number) FROM blocks)")
        db.commit()
    with pytest.raises(IntegrityError, match=r"the row fills .* is not what was written"):
        report(path)


@pytest.mark.hazard(50)
@pytest.mark.parametrize("steps", [43, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_before_any_step_nothing_is_lost_and_nothing_doubled(tmp_path: Path, steps: int) -> None:
    written = tmp_path / "home" / "ledger.sqlite"
    write_ledger(written, first=date(2025, 6, 27), last=date(2025, 7, 1), tickers=("AAPL", "AMD"))
    before = ask(written)
    done = subprocess.run(
        [sys.executable, "-m", "tests.ledger.archive_driver", str(written), str(tmp_path), str(steps)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    homes = sorted(home for home in tmp_path.iterdir() if home.name.isdigit())
    assert len(homes) > 100 // steps
    for home in homes:
        path = home / written.name
        assert ask(path) == before, home.name
        archive(path)
        assert ask(path) == before, home.name
        with LedgerReader(path) as reader:
            reader.check_rows()
            assert reader.check_archive() == 2
        assert not [file.name for file in (path.parent / "decisions").iterdir() if file.suffix != ".parquet"]


def test_a_minute_that_is_decided_again_after_the_close_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger(path, durable=False) as ledger:
        ledger.write_decisions([a_decision(minute) for minute in (0, 1, 5)])
        ledger.archive(LATER)
        again = [replace(a_decision(minute), prediction=9.0, code="other") for minute in (1, 2, 5)]
        ledger.write_decisions(again)
        expected = [a_decision(0), a_decision(1), again[1], a_decision(5)]
        for _ in range(2):
            made = ledger.read_decisions()
            assert made["prediction"].to_list() == [row.prediction for row in expected]
            ledger.archive(LATER)
            assert ledger.count_codes("production", at(0)) == {"trade": 3, "other": 1}
            assert ledger.count_codes("production", at(2)) == {"trade": 1, "other": 1}


def test_a_flipped_byte_in_a_months_file_is_told_as_damage(path: Path) -> None:
    archive(path)
    file = path.parent / "decisions" / "2025-07.parquet"
    original, chance = file.read_bytes(), random.Random(1)  # noqa: S311
    for _ in range(100):
        content = bytearray(original)
        content[chance.randrange(len(content))] ^= chance.randrange(1, 256)
        file.write_bytes(bytes(content))
        with LedgerReader(path) as reader, pytest.raises(IntegrityError, match=r"2025-07.parquet is damaged"):
            reader.check_archive()
    with LedgerReader(path) as reader:
        with pytest.raises(IntegrityError, match=r"2025-07.parquet is damaged"):
            reader.check_archive()
        assert reader.read_decisions(last=datetime(2025, 6, 28, tzinfo=UTC)).height
        with pytest.raises(IntegrityError, match=r"2025-07.parquet is damaged"):
            reader.read_decisions()
    with Ledger(path, durable=False) as ledger:  # the bot goes on without it
        ledger.write_decisions([replace(a_decision(0), ts=datetime(2025, 7, 4, 15, tzinfo=UTC))])
        with pytest.raises(IntegrityError, match=r"2025-07.parquet is damaged"):
            ledger.archive(LATER)
        assert ledger.count_codes("production", datetime(2025, 7, 4, tzinfo=UTC)) == {"trade": 1}


def test_a_months_file_that_was_taken_away_is_told_and_begun_again(path: Path) -> None:
    archive(path)
    (path.parent / "decisions" / "2025-07.parquet").unlink()
    with LedgerReader(path) as reader, pytest.raises(IntegrityError, match=r"2025-07.parquet is missing"):
        reader.read_decisions()
    with Ledger(path, durable=False) as ledger:
        ledger.write_decisions([replace(a_decision(0), ts=datetime(2025, 7, 4, 15, tzinfo=UTC))])
        ledger.archive(LATER)
        assert ledger.read_decisions(first=datetime(2025, 7, 1, tzinfo=UTC)).height == 1
        assert "2025-07.parquet is gone" in ledger.read_events()[-1].text


def test_a_ledger_that_is_gone_is_no_fresh_start_while_its_decisions_are_left(path: Path) -> None:
    archive(path)
    path.unlink()
    told = rf"{path} is missing, and its decisions of 2025-06, 2025-07 are in .* Restore both from one backup"
    for opening in (LedgerReader, Ledger):
        with pytest.raises(IntegrityError, match=told):
            opening(path)
    for question in (lambda: read_status_at(Home.live(path.parent)), lambda: report(path)):
        with pytest.raises(IntegrityError, match=told):
            question()
    assert not path.exists()
    (path.parent / "decisions").rename(path.parent / "away")
    with Ledger(path, durable=False) as ledger:
        assert ledger.find_last_decided() is None


@pytest.mark.parametrize("lost", [1, 3])
def test_an_older_copy_of_the_ledger_beside_newer_decisions_is_told_with_what_to_do(
    tmp_path: Path, path: Path, lost: int
) -> None:
    archive_day_by_day(path)
    until = LAST - timedelta(days=lost)  # in the same month, and in the month before
    older = tmp_path / "older" / path.name
    write_ledger(older, first=FIRST, last=until)
    archive_day_by_day(older)
    assert measure_performance(settings_of(older)).notes == ()
    shutil.copy(older, path)
    with LedgerReader(path) as reader:
        assert "2025-07" in reader.list_strange_months()
        with pytest.raises(IntegrityError, match=r"Restore both from one backup"):
            reader.check_archive()
    (note,) = measure_performance(settings_of(path), since=until).notes
    assert "2025-07" in note
    assert "sessions are missing here" in note


def test_a_damaged_decision_does_not_get_into_the_archive(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE decisions SET target = 0.9 WHERE ts = (SELECT max(ts) FROM decisions)")
        db.commit()
    with pytest.raises(IntegrityError, match=r"the row decisions .* is not what was written"):
        archive(path)


def make_version(path: Path, version: int) -> None:
    """Make the ledger at `path` one of the version before the archive, 2, or of that before the blocks, 3."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        for table in ("blocks", *(("archives", "decided", "snapshots", "opens", "cash") if version == 2 else ())):
            db.execute(f"DROP TABLE {table}")
        db.execute(f"PRAGMA user_version = {version}")
        db.commit()


@pytest.mark.parametrize("version", [2, 3])
def test_a_ledger_of_a_version_before_is_read_as_it_is_and_brought_up_to_date_by_the_bot(
    path: Path, version: int
) -> None:
    before, told = ask(path), report(path)
    if version == 3:
        archive(path)
    make_version(path, version)
    content = path.read_bytes()
    assert (ask(path), report(path)) == (before, told)
    assert path.read_bytes() == content
    archive(path)
    assert (ask(path), report(path)) == (before, told)
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (LEDGER.version,)
        assert db.execute("SELECT sum(number > 0) > 0 FROM blocks").fetchone() == (1,)


def read_as_rows(path: Path, book: BookName) -> list[Any]:
    """Return what a report reads of a book's fills, asked of their rows by other words."""
    names = ", ".join(COLUMNS)
    names += ", client_order_id NOT IN ('split', 'corporate', 'adopted', 'kept')"
    sql = f"SELECT {names} FROM fills LEFT JOIN opens USING (fill_id) WHERE book = ? ORDER BY ts, number"  # noqa: S608
    with contextlib.closing(sqlite3.connect(path)) as db:
        return [(to_moment(ts), *rest, bool(ordered)) for ts, *rest, ordered in db.execute(sql, (book,))]


def read_blocks(path: Path, book: BookName = "production") -> list[tuple[int, int]]:
    with contextlib.closing(sqlite3.connect(path)) as db:
        return db.execute("SELECT after, number FROM blocks WHERE book = ? ORDER BY number", (book,)).fetchall()


@pytest.mark.parametrize("block_rows", [7, 20_000])
def test_what_comes_after_a_block_was_written_is_in_the_report_too(
    path: Path, monkeypatch: pytest.MonkeyPatch, block_rows: int
) -> None:
    monkeypatch.setattr("hftcl.ledger.blocks._BLOCK_ROWS", block_rows)  # else no test has fills for two
    strange = [replace(a_fill(), fill_id=f"theirs-{number}", book="foreign", ticker="XOM") for number in range(3)]
    with Ledger(path, durable=False) as ledger:
        ledger.write_outcomes(fills=[replace(fill, ts=datetime(2025, 7, 1, 15, tzinfo=UTC)) for fill in strange])
    archive(path)
    books: tuple[BookName, ...] = ("production", "shadow", "foreign")
    assert all(read_blocks(path, book) for book in books)

    def compare() -> None:
        with LedgerReader(path) as reader:
            for book in books:
                assert reader.read_fills_with_opens(book).rows() == read_as_rows(path, book)

    compare()
    filled = read_blocks(path)
    late = replace(a_fill(), fill_id="late", ts=datetime(2025, 6, 25, 15, tzinfo=UTC))
    with contextlib.closing(sqlite3.connect(path)) as db:
        known = [name for (name,) in db.execute("SELECT fill_id FROM fills WHERE book = 'production'")]
    with Ledger(path, durable=False) as ledger:
        ledger.write_outcomes(fills=[late], opens=[FillOpen(fill_id="late", open=99.0)])
        assert read_blocks(path) == filled
        compare()
        for place in (0, len(known) // 2, len(known) - 1):  # an open that is told after the close
            ledger.write_outcomes(opens=[FillOpen(fill_id=known[place], open=100.0 + place)])
            compare()
        assert len(read_blocks(path)) == (len(filled) - 3 if block_rows == 7 else 0)
        ledger.adopt_foreign(["XOM"])
        compare()
        ledger.archive(LATER)
        compare()
        assert read_blocks(path)[-1][1] > filled[-1][1]
        left = read_blocks(path)
        ledger.archive(LATER)
        assert read_blocks(path) == left
    spans = [edge for span in left for edge in span]
    assert spans == sorted(spans)


def test_a_fill_of_the_session_that_goes_on_is_in_no_block(path: Path) -> None:
    cut = datetime(2025, 7, 2, tzinfo=UTC)
    with Ledger(path, durable=False) as ledger:
        ledger.archive(cut)
    with contextlib.closing(sqlite3.connect(path)) as db:
        newest = db.execute("SELECT max(ts) FROM fills JOIN blocks USING (book) WHERE fills.number <= blocks.number")
        assert to_moment(newest.fetchone()[0]) < cut
    with LedgerReader(path) as reader:
        assert reader.read_fills_with_opens("production").rows() == read_as_rows(path, "production")


def test_a_damaged_fill_does_not_get_into_a_block(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE fills SET price = 2 * price WHERE number = 5")
        db.commit()
    with pytest.raises(IntegrityError, match=r"the row fills .* is not what was written"):
        archive(path)
    assert read_blocks(path) == []


def test_an_upgrade_gives_a_damaged_row_no_seal_that_fits(path: Path) -> None:
    make_version(path, 2)
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE fills SET price = 2 * price WHERE number = 3")
        db.commit()
    with pytest.raises(IntegrityError, match=r"the row fills .* is not what was written"), Ledger(path):
        pass


def test_a_start_goes_on_from_the_newest_close_to_the_bit_and_reads_no_older_fill(path: Path) -> None:
    with LedgerReader(path) as reader:
        account = reader.read_account()
    archive(path)
    late = a_fill(quantity=3.7, price=101.3)
    with Ledger(path, durable=False) as ledger:
        ledger.write_outcomes(fills=[replace(late, ts=LATER + timedelta(days=1))])
    account.add("AAPL", 3.7, 101.3, late.commission)
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE fills SET price = 2 * price WHERE number < 5")
        db.commit()
    for kind in (LedgerReader, Ledger):
        with kind(path) as opened:
            assert opened.read_account() == account
    with LedgerReader(path) as reader, pytest.raises(HftclError):
        reader.check_rows()


def test_a_fill_that_is_told_after_the_close_of_its_session_counts_in_it(path: Path) -> None:
    archive_day_by_day(path)
    late = replace(a_fill(quantity=5.0), ts=datetime(2025, 7, 1, 15, tzinfo=UTC))
    with Ledger(path, durable=False) as ledger:
        newest = ledger.find_snapshot("production")
        ledger.write_outcomes(fills=[late])
        left = ledger.find_snapshot("production")
    assert newest is not None
    assert left is not None
    assert left.at < late.ts < newest.at
    with contextlib.closing(sqlite3.connect(path)) as db:
        fills = db.execute(
            "SELECT ticker, quantity, price, commission FROM fills WHERE book = 'production' ORDER BY number"
        ).fetchall()
    for kind in (LedgerReader, Ledger):
        with kind(path) as opened:
            assert opened.read_account() == compute_account(fills)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["A", "B"]),
            st.sampled_from([0.1, 0.3, -0.1, 7.0, -7.0, 1 / 3]),
            st.floats(1, 1e4),
            st.floats(0, 3),
        ),
        max_size=12,
    ),
    st.integers(0, 12),
)
def test_an_account_that_was_put_down_anywhere_goes_on_to_the_bit(
    fills: list[tuple[str, float, float, float]], cut: int
) -> None:
    put_down = build_snapshot(compute_account(fills[:cut]), "production", cut, LATER)
    assert compute_account(fills[cut:], take_up(put_down)) == compute_account(fills)


def test_who_asks_of_one_ticker_gets_its_rows_and_stumbles_over_no_other_s(path: Path) -> None:
    """Of the rows and of the months' files; what another ticker's damaged row is, it has not read."""
    archive(path)
    write_ledger(path, first=date(2025, 7, 7), last=date(2025, 7, 8), seed=4)
    with LedgerReader(path) as ledger:
        asks = (ledger.read_decisions, ledger.read_orders, ledger.read_fills)
        whole = [ask("production") for ask in asks]
        parts = [ask("production", ticker="AMD") for ask in asks]
        sessions = ledger.list_closed_sessions()
        assert sessions == tuple(sorted(ledger.read_closes()["session"].unique()))
    assert [part.height > 0 for part in parts] == [True, False, True]
    for part, everything in zip(parts, whole, strict=True):
        assert part.equals(everything.filter(pl.col("ticker") == "AMD"))
    assert parts[0]["ts"].dt.date().n_unique() == len(sessions), "archived ones too"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        changed = db.execute("UPDATE fills SET price = price + 1 WHERE ticker = 'TSLA'")
        assert changed.rowcount > 0
    with LedgerReader(path) as ledger:
        assert ledger.read_fills("production", ticker="AMD").equals(parts[2])
        with pytest.raises(IntegrityError):
            ledger.read_fills("production")
