"""What the scheduler has claimed, done and passed over: one row for each job and local date, in the registry.

A claim is a row, written before the work, and a lock that the kernel drops when its holder is killed: so a row that is
claimed while no process holds the lock tells of work that was cut off. Only the standard library is imported.
"""

import contextlib
import sqlite3
from collections.abc import Iterable
from dataclasses import replace
from datetime import date, datetime
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal

from hftcl import durable
from hftcl.archive.production import format_utc
from hftcl.archive.records import Moment, read_moment
from hftcl.archive.schema import faults, open_to_change, open_to_read
from hftcl.errors import LockHeldError
from hftcl.home import Home
from hftcl.sqlite import transaction
from hftcl.values import Value, value_class

State = Literal["claimed", "done", "failed", "missed", "skipped"]
# Stored as the outcome and shown by `schedule`: what is known is that it ended, not why.
INTERRUPTED: Final = "interrupted: its process ended before the work did"
_COLUMNS: Final = "job, local_date, due_at, state, by, claimed_at, finished_at, outcome"
_WAIT_S: Final = 1.0  # another scheduler holds it for milliseconds while it claims; who holds it longer does the job


@value_class(frozen=True, slots=True, kw_only=True)
class OccurrenceRecord(Value):
    """One job on one local date. by: who claimed or recorded it; times UTC; outcome: in words, None while it runs."""

    job: str
    local_date: date
    due_at: datetime
    state: State
    by: str
    claimed_at: datetime
    finished_at: datetime | None = None
    outcome: str | None = None


class Claim:
    """The right to do one occurrence, until `finish` or `give_back`, or until this process ends."""

    def __init__(self, database: Path, occurred: OccurrenceRecord, lock: contextlib.ExitStack) -> None:
        self.occurred = occurred
        self._database = database
        self._lock = lock

    def finish(self, state: State, outcome: str, *, now: Moment) -> OccurrenceRecord:
        """Record what became of it. Where that raises, the claim is still held: try again.

        now: a clock is read once no one else can write, so that no digest falls between the time and its record.
        """
        with faults("recording what a job did"), open_to_change(self._database) as db, transaction(db):
            db.execute(
                "UPDATE occurrences SET state = ?, outcome = ?, finished_at = ? WHERE job = ? AND local_date = ?",
                (state, outcome, format_utc(read_moment(now)), *_build_key(self.occurred)),
            )
            (row,) = db.execute(
                f"SELECT {_COLUMNS} FROM occurrences WHERE job = ? AND local_date = ?",  # noqa: S608 - our names
                _build_key(self.occurred),
            )
        self._lock.close()
        return _read_row(row)

    def give_back(self) -> None:
        """Forget the claim, as work that was stopped on purpose: it is due again."""
        with self._lock, faults("giving back a claim"), open_to_change(self._database) as db, transaction(db):
            db.execute("DELETE FROM occurrences WHERE job = ? AND local_date = ?", _build_key(self.occurred))


class Occurrences:
    """The occurrences in the registry under `home`. Every method looks afresh: there may be two schedulers.

    Everything raises StorageError where the disk is full, forbidden or failing, LockHeldError where the registry is
    busy for ten seconds.
    """

    def __init__(self, home: Path) -> None:
        self._files = Home(Path(home))
        self._folder = self._files.models
        self._database = self._files.registry

    def list_known(self) -> tuple[OccurrenceRecord, ...]:
        """Return everything that is accounted for, in the order of its time. Creates nothing."""
        with faults("reading the schedule's record"), open_to_read(self._database) as db:
            rows = db.execute("SELECT * FROM occurrences ORDER BY due_at, job")
            return tuple(map(_parse_row, map(tuple, rows)))

    def claim(self, job: str, local_date: date, due_at: datetime, *, by: str, now: datetime) -> Claim | None:
        """Claim an occurrence before its work; None where it is accounted for, or another process does this job now."""
        occurred = OccurrenceRecord(
            job=job, local_date=local_date, due_at=due_at, state="claimed", by=by, claimed_at=now
        )
        with contextlib.ExitStack() as stack, faults("claiming a job"):
            durable.make_folder(self._folder)
            try:
                stack.enter_context(durable.lock(self._lock_path(job), job, wait_s=_WAIT_S))
            except LockHeldError:
                return None
            with open_to_change(self._database) as db, transaction(db):
                if not _insert(db, occurred):
                    return None
            return Claim(self._database, occurred, stack.pop_all())

    def pass_over(
        self, occurrences: Iterable[OccurrenceRecord], *, now: Moment | None = None
    ) -> tuple[OccurrenceRecord, ...]:
        """Record, all or none, what is missed or skipped; return what was not accounted for already.

        now: when that is, as for `Claim.finish`; None: as each says.
        """
        wanted = tuple(occurrences)
        if not wanted:
            return ()
        with faults("recording what was not done"):
            durable.make_folder(self._folder)
            with open_to_change(self._database) as db, transaction(db):
                if now is not None:
                    at = read_moment(now)
                    wanted = tuple(replace(record, claimed_at=at, finished_at=at) for record in wanted)
                return tuple(record for record in wanted if _insert(db, record))

    def fail_abandoned(self, *, now: Moment) -> tuple[OccurrenceRecord, ...]:
        """Record as failed what no living process has claimed, and return it: what was cut off is not repeated."""
        failed_records = []
        for record in self._list_claimed():
            with (
                contextlib.suppress(LockHeldError),  # its holder lives
                faults("settling a claim"),
                durable.lock(self._lock_path(record.job), record.job),
            ):
                if (
                    record in self._list_claimed()
                ):  # looked at again under the lock: its holder may have finished meanwhile
                    orphan = Claim(self._database, record, contextlib.ExitStack())
                    failed_records.append(orphan.finish("failed", INTERRUPTED, now=now))
        return tuple(failed_records)

    def _list_claimed(self) -> tuple[OccurrenceRecord, ...]:
        with faults("reading the schedule's record"), open_to_read(self._database) as db:
            return tuple(_read_row(row) for row in db.execute("SELECT * FROM occurrences WHERE state = 'claimed'"))

    def _lock_path(self, job: str) -> Path:
        return self._files.schedule_lock(job)


def _insert(db: sqlite3.Connection, record: OccurrenceRecord) -> bool:
    """Write a row in the transaction that is open; False where that job and date have one.

    One that a clock that ran ahead has passed over, at a time that is to come, counts for nothing and is replaced.
    """
    done = db.execute(
        f"INSERT INTO occurrences ({_COLUMNS}) "  # noqa: S608 - our names
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (job, local_date) DO UPDATE SET due_at = excluded.due_at, "
        "state = excluded.state, by = excluded.by, claimed_at = excluded.claimed_at, "
        "finished_at = excluded.finished_at, outcome = excluded.outcome "
        "WHERE state IN ('missed', 'skipped') AND claimed_at > excluded.claimed_at",
        (
            *_build_key(record),
            format_utc(record.due_at),
            record.state,
            record.by,
            format_utc(record.claimed_at),
            format_utc(record.finished_at) if record.finished_at else None,
            record.outcome,
        ),
    )
    return done.rowcount == 1


def _build_key(record: OccurrenceRecord) -> tuple[str, str]:
    return record.job, record.local_date.isoformat()


def _read_row(row: sqlite3.Row) -> OccurrenceRecord:
    return _parse_row(tuple(row))


@lru_cache(maxsize=4096)  # the same rows at each round of the scheduler: a year of them are some hundreds
def _parse_row(row: tuple[str, ...]) -> OccurrenceRecord:
    job, local_date, due_at, state, by, claimed_at, finished_at, outcome = row
    return OccurrenceRecord(
        job=job,
        local_date=date.fromisoformat(local_date),
        due_at=datetime.fromisoformat(due_at),
        state=state,  # type: ignore[arg-type]  # the registry has no other
        by=by,
        claimed_at=datetime.fromisoformat(claimed_at),
        finished_at=datetime.fromisoformat(finished_at) if finished_at else None,
        outcome=outcome,
    )
