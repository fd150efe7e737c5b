"""The trials of each search: SQLite, `search.sqlite` in the home. A trial is written when it is done, whole.

So a search that was killed goes on with what it had, and counts no trial twice.
"""

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Final

from hftcl import sqlite
from hftcl.learning.search.space import Choice, Value
from hftcl.sqlite import transaction

_SYNTHETIC: Final = "synthetic"  # beside the digests of a study: whether its bars were made up
_HEX: Final = 16  # 64 bits: two searches of one home never share them by chance
STUDIES: Final = sqlite.Database(
    kind="a file of searches",
    version=1,  # the first
    schema="""
CREATE TABLE studies (
    study TEXT PRIMARY KEY, begun TEXT NOT NULL, as_of TEXT NOT NULL, parts TEXT NOT NULL) STRICT;
CREATE TABLE trials (
    study TEXT NOT NULL REFERENCES studies, number INTEGER NOT NULL, choice TEXT NOT NULL, policy TEXT NOT NULL,
    sharpe REAL, net TEXT NOT NULL, turnover REAL NOT NULL, trades INTEGER NOT NULL, positions TEXT NOT NULL,
    fault TEXT NOT NULL, seconds REAL NOT NULL, PRIMARY KEY (study, number)) STRICT;
""",
    journal="DELETE",  # a row in seconds, and a copy of the file is whole
    sync="FULL",  # a trial costs minutes
    remedy="Move it away: searches then begin over.",
    sealed={"studies": ("study",), "trials": ("study", "number")},
    small=True,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """One search: what it stands on, part by part, such as {"bars": digest, "space": ...}. as_of: end of its bars."""

    parts: Mapping[str, str]
    as_of: datetime
    synthetic: bool

    @property
    def name(self) -> str:
        """Digest of the parts."""
        return hashlib.sha256(json.dumps(self.parts, sort_keys=True).encode()).hexdigest()[:_HEX]


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedTrial:
    """One choice and what it earned inside: net P&L by session of the inner walk-forward, as fractions of capital.

    policy: digest, see `archive.policy`. sharpe: net, annual; None where it is not defined, as where nothing was
    traded. positions: SHA-256 of what it held; "" where `fault` says why it could not be tried.
    """

    number: int
    choice: Choice
    policy: str = ""
    sharpe: float | None = None
    net: Mapping[date, float] = field(default_factory=dict)
    turnover: float = 0.0
    trades: int = 0
    positions: str = ""
    fault: str = ""
    seconds: float = 0.0

    @property
    def worth(self) -> float | None:
        """What the sampler learns from: a policy that trades nothing earns nothing. None where it was not tried."""
        if self.fault:
            return None
        return 0.0 if self.sharpe is None else self.sharpe


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherStudy:
    """Another search of this home: when its bars ended, its trials, and the parts in which it differs."""

    as_of: datetime
    trials: int
    differs: tuple[str, ...]


class TrialStore:
    """The trials of one search. Each method raises StorageError, IntegrityError, NewerVersionError where it cannot."""

    def __init__(self, path: Path, study: Study) -> None:
        """Keep them in the file `path`; nothing is opened yet."""
        self.path, self.study = path, study

    def begin(self, now: datetime) -> tuple[FinishedTrial, ...]:
        """Return the trials that are there, by number; a new study is written down."""
        with self._open("preparing the search") as db, transaction(db):
            db.execute(
                "INSERT OR IGNORE INTO studies (study, begun, as_of, parts) VALUES (?, ?, ?, ?)",
                (self.study.name, now.isoformat(), self.study.as_of.isoformat(), self._describe()),
            )
        with self._read("reading the search") as db:
            rows = db.execute("SELECT * FROM trials WHERE study = ? ORDER BY number", (self.study.name,)).fetchall()
            with sqlite.guard_rows(self.path, STUDIES):
                return tuple(_read_trial(row) for row in rows)

    def _describe(self) -> str:
        return json.dumps({**self.study.parts, _SYNTHETIC: self.study.synthetic})

    def add(self, trial: FinishedTrial) -> None:
        """Write a trial down."""
        values = (
            self.study.name,
            trial.number,
            json.dumps(trial.choice),
            trial.policy,
            trial.sharpe,
            json.dumps({day.isoformat(): net for day, net in trial.net.items()}),
            trial.turnover,
            trial.trades,
            trial.positions,
            trial.fault,
            trial.seconds,
        )
        columns = "study, number, choice, policy, sharpe, net, turnover, trades, positions, fault, seconds"
        with self._open("keeping a trial") as db, transaction(db):
            db.execute(f"INSERT INTO trials ({columns}) VALUES ({', '.join('?' * len(values))})", values)  # noqa: S608 - our names

    def find_newest_other(self) -> OtherStudy | None:
        """Return the newest other search of this home that has trials."""
        with self._read("reading the searches") as db:
            row = db.execute(
                "SELECT as_of, parts, count(*) AS trials FROM studies JOIN trials USING (study) WHERE study != ? "
                "GROUP BY study ORDER BY begun DESC LIMIT 1",
                (self.study.name,),
            ).fetchone()
        if row is None:
            return None
        with sqlite.guard_rows(self.path, STUDIES):
            parts = json.loads(row["parts"])
            differs = tuple(name for name, digest in self.study.parts.items() if parts.get(name) != digest)
            return OtherStudy(as_of=datetime.fromisoformat(row["as_of"]), trials=row["trials"], differs=differs)

    def read_others(self) -> tuple[FinishedTrial, ...]:
        """Return the trials of every other search of this home, on bars of this kind, that have a Sharpe ratio.

        A search that does not say of which kind its bars were may have been of this one.
        """
        with self._read("reading the searches") as db:
            rows = db.execute(
                "SELECT trials.*, parts FROM trials JOIN studies USING (study) "
                "WHERE study != ? AND sharpe IS NOT NULL ORDER BY begun, study, number",
                (self.study.name,),
            ).fetchall()
        with sqlite.guard_rows(self.path, STUDIES):
            kinds = (json.loads(row["parts"]).get(_SYNTHETIC, self.study.synthetic) for row in rows)
            return tuple(
                _read_trial(row) for row, kind in zip(rows, kinds, strict=True) if kind == self.study.synthetic
            )

    @contextlib.contextmanager
    def _open(self, doing: str) -> Iterator[sqlite3.Connection]:
        with (
            sqlite.faults(doing, self.path, STUDIES),
            contextlib.closing(sqlite.open_to_write(self.path, STUDIES)) as db,
        ):
            yield db

    @contextlib.contextmanager
    def _read(self, doing: str) -> Iterator[sqlite3.Connection]:
        with (
            sqlite.faults(doing, self.path, STUDIES),
            contextlib.closing(sqlite.open_to_read(self.path, STUDIES)) as db,
        ):
            db.row_factory = sqlite3.Row
            yield db


def _read_trial(row: sqlite3.Row) -> FinishedTrial:
    choice = {path: _read_choice(value) for path, value in json.loads(row["choice"]).items()}
    return FinishedTrial(
        number=row["number"],
        choice=choice,
        policy=row["policy"],
        sharpe=row["sharpe"],
        net={date.fromisoformat(day): net for day, net in json.loads(row["net"]).items()},
        turnover=row["turnover"],
        trades=row["trades"],
        positions=row["positions"],
        fault=row["fault"],
        seconds=row["seconds"],
    )


def _read_choice(value: object) -> Value:
    return tuple(value) if isinstance(value, list) else value  # type: ignore[return-value]
