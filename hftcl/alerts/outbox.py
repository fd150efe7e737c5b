"""Where alerts wait: SQLite, `alerts.sqlite` in the home, shared by every process there.

A message has one row, and one row more for each channel that it must go out on.
"""

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from hftcl import sqlite
from hftcl.alerts.alert import Alert, Kind, Message
from hftcl.home import Home
from hftcl.sqlite import transaction

SCHEMA_VERSION: Final = 2  # 2 added the seals: raise it with any change to SCHEMA, with a step to it
SCHEMA: Final = """
CREATE TABLE messages (
    number INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT, kind TEXT NOT NULL, subject TEXT NOT NULL, text TEXT NOT NULL,
    at TEXT NOT NULL, last_at TEXT NOT NULL, count INTEGER NOT NULL, again INTEGER NOT NULL, model_id TEXT,
    facts TEXT NOT NULL) STRICT;
CREATE TABLE deliveries (
    number INTEGER NOT NULL REFERENCES messages ON DELETE CASCADE, channel TEXT NOT NULL, tries INTEGER NOT NULL,
    since REAL NOT NULL, due REAL NOT NULL, ended REAL, fault TEXT NOT NULL, PRIMARY KEY (number, channel)) STRICT;
CREATE INDEX messages_key ON messages (key);
"""
RETRIES_S: Final = (60, 300, 900, 3600, 6 * 3600)
"""Seconds until the next try after the first, second, ... failure; the last one holds from then on."""
KEPT: Final = timedelta(days=14)
"""How long a message that is not taken is tried, and how long one that is done is kept."""
OUTBOX: Final = sqlite.Database(
    kind="an outbox",
    version=SCHEMA_VERSION,
    schema=SCHEMA,
    journal="DELETE",  # few rows, written seldom, by processes that end at once
    sync="EXTRA",  # an alert is told once; a power cut must not take it
    remedy="Move it away: hftcl begins a new one, and the alerts that waited in it are lost.",
    sealed={"messages": ("number",), "deliveries": ("number", "channel")},  # since version 2
    small=True,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A message that is due on one channel; `tries` have failed before."""

    message: Message
    channel: str
    tries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptAlert:
    """A message that is kept. waits: on how many channels; fault: what failed there last, "" where nothing did."""

    message: Message
    waits: int
    fault: str


class Outbox:
    """The alerts under `home`. Each method raises StorageError, IntegrityError or NewerVersionError where it cannot."""

    def __init__(self, home: Path) -> None:
        self.path = Home(home).alerts

    def put(self, alert: Alert, channels: Sequence[str], *, repeat: timedelta) -> int:
        """Add `alert` for `channels`. The same fault again counts up the message that waits, or waits itself.

        repeat: how long after a message of the same fault the next one is held back. Returns the message's number.
        """
        with self._open() as db, transaction(db):
            if alert.key is None:
                return _insert(db, alert, channels, due=alert.at, again=False)
            before = db.execute("SELECT * FROM messages WHERE key = ? ORDER BY number DESC LIMIT 1", (alert.key,))
            row = before.fetchone()
            ended = _find_first_send(db, row["number"]) if row else None
            if row and ended is None:
                _count_up(db, row["number"], alert)
                return int(row["number"])
            held_until = ended + repeat if ended else alert.at
            again = ended is not None and held_until > alert.at
            return _insert(db, alert, channels, due=held_until if again else alert.at, again=again)

    def list_due(self, now: datetime) -> tuple[Waiting, ...]:
        """Return what is to be sent now, oldest first. A clock that was set back makes everything due."""
        moment = now.timestamp()
        with self._open() as db:
            rows = db.execute(
                "SELECT * FROM messages JOIN deliveries USING (number) "
                "WHERE ended IS NULL AND (due <= ? OR since > ?) ORDER BY number, channel",
                (moment, moment),
            ).fetchall()
            return tuple(
                Waiting(message=_read_message(row), channel=row["channel"], tries=row["tries"]) for row in rows
            )

    def list_unsent(self, number: int) -> dict[str, str]:
        """Return the channels on which a message still waits, with what failed there last, "" where nothing did."""
        with self._open() as db:
            rows = db.execute("SELECT channel, fault FROM deliveries WHERE number = ? AND ended IS NULL", (number,))
            return dict(tuple(row) for row in rows)

    def count_waiting(self) -> int:
        """Return how many messages are not with everybody yet."""
        if not self.path.exists():
            return 0
        with self._open() as db:
            count = db.execute("SELECT count(DISTINCT number) FROM deliveries WHERE ended IS NULL").fetchone()[0]
        return int(count)

    def find_oldest_fault(self) -> tuple[datetime, str] | None:
        """Return the time and the last fault of the oldest message that failed and waits; None where none does."""
        if not self.path.exists():
            return None
        with self._open() as db:
            row = db.execute(
                "SELECT at, channel, fault FROM messages JOIN deliveries USING (number) "
                "WHERE ended IS NULL AND fault != '' ORDER BY number LIMIT 1"
            ).fetchone()
        return (datetime.fromisoformat(row["at"]), f"{row['channel']}: {row['fault']}") if row else None

    def list_newest(self, limit: int) -> tuple[KeptAlert, ...]:
        """Return the newest messages that are kept, newest first; nothing is created or changed."""
        sql = (
            "SELECT m.*, coalesce(sum(d.ended IS NULL), 0) AS waits, "
            "coalesce(max(CASE WHEN d.fault != '' THEN d.channel || ': ' || d.fault END), '') AS fault "
            "FROM messages AS m LEFT JOIN deliveries AS d USING (number) GROUP BY m.number "
            "ORDER BY m.number DESC LIMIT ?"
        )
        with (
            sqlite.faults("reading the outbox of alerts", self.path, OUTBOX),
            sqlite.guard_rows(self.path, OUTBOX),
            contextlib.closing(sqlite.open_to_read(self.path, OUTBOX)) as db,
        ):
            sqlite.require_whole(db, self.path, OUTBOX)
            db.row_factory = sqlite3.Row
            return tuple(
                KeptAlert(message=_read_message(row), waits=row["waits"], fault=row["fault"])
                for row in db.execute(sql, (limit,))
            )

    def record_sent(self, waiting: Waiting, now: datetime, note: str = "") -> None:
        """Record that a message went out on its channel."""
        self._finish(waiting, now, note)

    def readdress(self, waiting: Waiting, channels: Sequence[str], now: datetime) -> None:
        """End the delivery on a channel that is no longer set up; the message is due on those that it has not had."""
        number, moment = waiting.message.number, now.timestamp()
        with self._open() as db, transaction(db):
            db.execute(
                "UPDATE deliveries SET ended = ?, fault = ? WHERE number = ? AND channel = ?",
                (moment, "the channel is no longer set up", number, waiting.channel),
            )
            db.executemany(
                "INSERT INTO deliveries (number, channel, tries, since, due, fault) VALUES (?, ?, 0, ?, ?, '') "
                "ON CONFLICT DO NOTHING",
                [(number, channel, moment, moment) for channel in channels],
            )

    def record_failure(self, waiting: Waiting, now: datetime, fault: str) -> bool:
        """Record that it did not, and when to try again; False where it was tried long enough and is given up."""
        if now - waiting.message.last_at > KEPT:
            self._finish(waiting, now, f"given up: {fault}")
            return False
        delay = RETRIES_S[min(waiting.tries, len(RETRIES_S) - 1)]
        with self._open() as db, transaction(db):
            db.execute(
                "UPDATE deliveries SET tries = tries + 1, since = ?, due = ?, fault = ? "
                "WHERE number = ? AND channel = ?",
                (now.timestamp(), now.timestamp() + delay, fault, waiting.message.number, waiting.channel),
            )
        return True

    def delete_done(self, now: datetime) -> None:
        """Delete what has been done for long."""
        with self._open() as db, transaction(db):
            db.execute(
                "DELETE FROM messages WHERE last_at < ? AND number NOT IN "
                "(SELECT number FROM deliveries WHERE ended IS NULL)",
                ((now - KEPT).isoformat(),),
            )

    def _finish(self, waiting: Waiting, now: datetime, note: str) -> None:
        with self._open() as db, transaction(db):
            db.execute(
                "UPDATE deliveries SET ended = ?, fault = ? WHERE number = ? AND channel = ?",
                (now.timestamp(), note, waiting.message.number, waiting.channel),
            )

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with (
            sqlite.faults("using the outbox of alerts", self.path, OUTBOX),
            sqlite.guard_rows(self.path, OUTBOX),
            contextlib.closing(sqlite.open_to_write(self.path, OUTBOX)) as db,
        ):
            sqlite.require_whole(db, self.path, OUTBOX)
            db.row_factory = sqlite3.Row
            yield db


def _insert(db: sqlite3.Connection, alert: Alert, channels: Sequence[str], *, due: datetime, again: bool) -> int:
    at = alert.at.astimezone(UTC).isoformat()
    number = db.execute(
        "INSERT INTO messages (key, kind, subject, text, at, last_at, count, again, model_id, facts) "
        "VALUES (?, ?, ?, ?, ?, ?, 1, ?, ?, ?)",
        (
            alert.key,
            alert.kind,
            alert.subject,
            alert.text,
            at,
            at,
            int(again),
            alert.model_id,
            json.dumps(alert.facts),
        ),
    ).lastrowid
    db.executemany(
        "INSERT INTO deliveries (number, channel, tries, since, due, fault) VALUES (?, ?, 0, ?, ?, '')",
        [(number, channel, alert.at.timestamp(), due.timestamp()) for channel in channels],
    )
    return int(number or 0)


def _count_up(db: sqlite3.Connection, number: int, alert: Alert) -> None:
    db.execute(
        "UPDATE messages SET count = count + 1, last_at = ?, subject = ?, text = ?, facts = ?, model_id = ? "
        "WHERE number = ?",
        (
            alert.at.astimezone(UTC).isoformat(),
            alert.subject,
            alert.text,
            json.dumps(alert.facts),
            alert.model_id,
            number,
        ),
    )


def _find_first_send(db: sqlite3.Connection, number: int) -> datetime | None:
    """Return when the message began to go out; None where it is with no channel yet."""
    row = db.execute("SELECT max(ended) AS ended FROM deliveries WHERE number = ?", (number,)).fetchone()
    return datetime.fromtimestamp(row["ended"], UTC) if row["ended"] is not None else None


def _read_message(row: sqlite3.Row) -> Message:
    alert = Alert(
        kind=Kind(row["kind"]),
        subject=row["subject"],
        text=row["text"],
        at=datetime.fromisoformat(row["at"]),
        model_id=row["model_id"],
        facts=tuple((name, value) for name, value in json.loads(row["facts"])),
    )
    last_at = datetime.fromisoformat(row["last_at"])
    return Message(number=row["number"], alert=alert, count=row["count"], last_at=last_at, again=bool(row["again"]))
