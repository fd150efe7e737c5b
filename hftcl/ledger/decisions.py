"""Questions about decisions: those of this session are rows, those of ended ones lie in the months' files.

What is asked often, the newest bar or the counts by code, is told by the ledger alone where it can be.
"""

import sqlite3
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from hftcl import sqlite
from hftcl.errors import IntegrityError
from hftcl.ledger import archive
from hftcl.ledger.queries import Queries, parse_moment
from hftcl.ledger.rows import BookName, MonthFile
from hftcl.ledger.schema import ARCHIVES, LEDGER, to_microseconds, to_moment

if TYPE_CHECKING:
    import polars as pl


class DecisionQueries(Queries):
    """What can be asked of a ledger's decisions."""

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        """Ask the open database `db`, which is the file at `path`."""
        super().__init__(path, db)
        self._month: tuple[MonthFile, bytes | None] | None = None

    def read_decisions(
        self,
        book: BookName = "production",
        first: datetime | None = None,
        last: datetime | None = None,
        *,
        ticker: str | None = None,
    ) -> "pl.DataFrame":
        """Return the decisions on bars that start from `first` to `last`, both included, by ts and ticker.

        ticker: of this one alone; None for all.

        Raises IntegrityError for a month's file that is missing or not what was written.
        """
        import polars as pl

        with self.snapshot():
            journal = self._read_frame("decisions", book, first, last, "ts, ticker", ticker=ticker)
            months = archive.list_months(self._list_archives(), first, last)
        files = [self._read_month(month) for month in months]
        parts = [archive.build_month_frame(data, book, first, last, ticker) for data in files if data is not None]
        archived = pl.concat([journal.clear(), *parts])
        frame = pl.concat([archived, journal])
        if archived.height and journal.height and journal["ts"][0] <= archived["ts"].max():  # in both while they move
            frame = frame.unique(["ts", "ticker"], keep="first", maintain_order=True)
        return frame.sort("ts", "ticker") if archived.height else frame

    def list_strange_months(self, *, newest_only: bool = False) -> tuple[str, ...]:
        """Return the months whose file is not what this ledger archived, or of which it knows nothing, oldest first.

        newest_only: of the files that it knows only the newest is read; of the others it is seen that they are there.
        """
        known = {row.month: row for row in self._list_archives()}  # first: a month's file comes before its row
        files = set(archive.list_files(self.path))
        if not files <= known.keys():  # one has come since this reader's moment, perhaps
            known |= {row.month: row for row in self._list_newer()}
        strange = files - known.keys() | {month for month, row in known.items() if row.digest and month not in files}
        for month in sorted(known)[-1 if newest_only else 0 :]:
            try:
                self._read_month(known[month])
            except IntegrityError:
                strange.add(month)
        return tuple(sorted(strange))

    def _list_archives(self) -> list[MonthFile]:
        return self._read_table(ARCHIVES, f"SELECT {ARCHIVES.names} FROM archives", ())  # noqa: S608 - our names

    def _read_month(self, month: MonthFile) -> bytes | None:
        """Return the content of a month's file, checked; the newest one is kept, for who asks minute by minute."""
        if self._month is None or self._month[0] != month:
            try:
                data = archive.read_month(self.path, month)
            except IntegrityError:  # replaced since this reader's moment by one that holds more: another reader knows
                data = archive.read_month(self.path, self._find_newer(month))
            self._month = (month, data)
        return self._month[1]

    def _find_newer(self, month: MonthFile) -> MonthFile:
        return next((row for row in self._list_newer() if row.month == month.month), month)

    def _list_newer(self) -> list[MonthFile]:
        """Return what the ledger knows of the months now, whatever this reader's moment."""
        with sqlite.faults("reading the ledger", self.path, LEDGER):
            db = sqlite.open_to_read(self.path, LEDGER)
        with DecisionQueries(self.path, db) as other:
            return other._list_archives()

    def find_last_decided(self, book: BookName = "production") -> datetime | None:
        """Return the start of the newest bar that was decided on."""
        sql = (
            "SELECT max(ts) FROM (SELECT max(ts) AS ts FROM decisions WHERE book = ?1 "
            "UNION ALL SELECT max(last) FROM decided WHERE book = ?1)"
        )
        return self._read_records(sql, (book,), parse_moment)[0]

    def find_decided_between(self, book: BookName, first: datetime, last: datetime) -> tuple[datetime, datetime] | None:
        """Return the start of the first and of the newest bar that was decided on from `first` to `last`, if any."""
        low_us, high_us = to_microseconds(first), to_microseconds(last)
        hours = self._list_hours(book, low_us, high_us)
        if any(low < low_us or high > high_us for low, high, _ in hours):  # an hour of which a part is asked for
            found = self.read_decisions(book, first, last)["ts"]
            return None if found.is_empty() else (found[0], found[-1])
        sql = "SELECT min(ts), max(ts) FROM decisions WHERE book = ? AND ts BETWEEN ? AND ?"
        rows = [*((low, high) for low, high, _ in hours), *self._read_rows(sql, (book, low_us, high_us))]
        stamps = [at for row in rows for at in row if at is not None]
        with sqlite.guard_rows(self.path, LEDGER):
            return (to_moment(min(stamps)), to_moment(max(stamps))) if stamps else None

    def list_models(self, book: BookName, first: datetime, last: datetime) -> frozenset[str] | None:
        """Return the models that decided from `first` to `last`, "" for none; None where only the decisions tell."""
        low_us, high_us = to_microseconds(first), to_microseconds(last)
        sql = "SELECT 1 FROM decisions WHERE book = ? AND ts BETWEEN ? AND ? LIMIT 1"
        hours = self._list_hours(book, low_us, high_us)
        is_whole = all(low_us <= low and high <= high_us for low, high, _ in hours)
        if not is_whole or self._read_rows(sql, (book, low_us, high_us)):
            return None
        return frozenset(model for *_, model in hours)

    def _list_hours(self, book: BookName, first: int, last: int) -> list[tuple[int, int, str]]:
        """Return the first bar, the last bar and the model of the archived hours that reach from `first` to `last`."""
        hour = 3_600_000_000  # by the primary key, which begins with book and hour
        sql = "SELECT first, last, model_id FROM decided WHERE book = ? AND hour > ? AND last >= ? AND first <= ?"
        return self._read_rows(sql, (book, first - hour, first, last))

    def count_codes(self, book: BookName, first: datetime) -> dict[str, int]:
        """Return how many decisions on bars from `first` on had each code."""
        since = to_microseconds(first)
        sql = "SELECT count(*) FROM decided WHERE book = ? AND first < ? AND last >= ?"
        if self._read_rows(sql, (book, since, since))[0][0]:  # an hour of which a part is asked for
            counts = self.read_decisions(book, first)["code"].value_counts()
            return dict(sorted(counts.iter_rows()))
        rows = self._read_rows(
            "SELECT code, sum(n) FROM ("
            "SELECT code, count(*) AS n FROM decisions WHERE book = ?1 AND ts >= ?2 GROUP BY code UNION ALL "
            "SELECT code, decisions FROM decided WHERE book = ?1 AND first >= ?2) GROUP BY code ORDER BY code",
            (book, since),
        )
        return dict(rows)
