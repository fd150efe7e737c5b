"""A session that the bot traded to its end: its decisions lie in the archive, and every report is what it was."""

import contextlib
import dataclasses
import json
import shutil
import sqlite3
from pathlib import Path

from hftcl.home import Home
from hftcl.ledger.reader import LedgerReader
from hftcl.ledger.rows import Decision
from hftcl.ledger.writer import Ledger
from hftcl.performance.story import measure_performance
from hftcl.trading.run.status import read_status_at
from tests.trading.bot_stand import HALF_DAY, archived, session_minutes, settings_of, stand


def bring_back(home: Path) -> None:
    """Put every decision back into the ledger of `home`, as if nothing had been archived."""
    path = Home.live(home).ledger
    with LedgerReader(path) as reader:
        rows = [Decision(**row) for book in ("production", "shadow") for row in reader.read_decisions(book).to_dicts()]
    shutil.rmtree(Home.live(home).decisions)
    with contextlib.closing(sqlite3.connect(path)) as db:
        for table in ("archives", "decided", "snapshots"):
            db.execute(f"DELETE FROM {table}")  # noqa: S608
        db.commit()
    with Ledger(path, durable=False) as ledger:
        ledger.write_decisions(rows)


def test_a_session_is_told_alike_before_and_after_it_was_archived(tmp_path: Path) -> None:
    archived(tmp_path)
    minutes = session_minutes(HALF_DAY)[110:]
    bot = stand(tmp_path, first=110, day=HALF_DAY)
    bot.run(HALF_DAY, minutes)
    bot.close()
    home = Home.live(tmp_path)
    assert [file.name for file in home.decisions.iterdir()] == ["2025-07.parquet"]
    with contextlib.closing(sqlite3.connect(home.ledger)) as db:
        assert db.execute("SELECT count(*) FROM decisions").fetchone() == (0,)
        assert db.execute("SELECT count(*) FROM fills").fetchone() > (0,)

    def tell() -> list[object]:
        report = measure_performance(settings_of(tmp_path))
        with LedgerReader(home.ledger) as reader:
            asked = (reader.read_decisions().to_dicts(), reader.read_positions(), reader.read_account())
        return [json.dumps(dataclasses.asdict(report), default=str), read_status_at(home), *asked]

    after = tell()
    assert sum(read_status_at(home).codes.values()) == 3 * len(minutes)
    bring_back(tmp_path)
    assert tell() == after
    later = stand(tmp_path, first=110, day=HALF_DAY)
    assert later.ledger.read_positions() == {}
    later.close()
