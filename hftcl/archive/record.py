"""The policy's own record in the registry: each out-of-sample session once, with the model that was then current.

Only the standard library is imported. A record of the synthetic market and one of real bars are two records that never
mix.
"""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import date
from typing import Final, Literal

from hftcl.archive.registry import Registry
from hftcl.archive.schema import faults, open_to_read

Kind = Literal["walk-forward", "scored"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedSession:
    """What the policy made in one session that the model had not seen; fractions of capital.

    net: after cost, at the cost per turnover that was then set. turnover: traded / capital. model_id: the model that
    was current; of a fold of the walk-forward, the candidate by whose procedure it was trained. kind: how it was
    earned. settings_digest: of the settings that make the policy what it is.
    """

    session: date
    net: float
    gross: float
    turnover: float
    model_id: str
    kind: Kind
    source: str
    synthetic: bool
    settings_digest: str


# From the dataclass: the table's columns and its fields cannot differ.
_NAMES: Final = tuple(item.name for item in fields(RecordedSession))


def insert_sessions(db: sqlite3.Connection, sessions: Iterable[RecordedSession]) -> None:
    """Write sessions in the transaction that is open. One that is there already stays as it is: no day counts twice."""
    # The names are ours, from the fields above.
    db.executemany(
        f"INSERT INTO record ({', '.join(_NAMES)}) VALUES ({', '.join('?' * len(_NAMES))}) "  # noqa: S608
        "ON CONFLICT (synthetic, session) DO NOTHING",
        [_build_row(session) for session in sessions],
    )


def _build_row(session: RecordedSession) -> tuple[object, ...]:
    values = {name: getattr(session, name) for name in _NAMES}
    values |= {"session": session.session.isoformat(), "synthetic": int(session.synthetic)}
    return tuple(values.values())


def read_sessions(registry: Registry, *, synthetic: bool) -> tuple[RecordedSession, ...]:
    """Return the record on bars of this kind, oldest first; empty where there is none yet."""
    with faults("reading the record"), open_to_read(registry.database) as db:
        rows = db.execute(
            f"SELECT {', '.join(_NAMES)} FROM record WHERE synthetic = ? ORDER BY session",  # noqa: S608 - our names
            (int(synthetic),),
        ).fetchall()
    return tuple(
        RecordedSession(
            **{**dict(row), "session": date.fromisoformat(row["session"]), "synthetic": bool(row["synthetic"])}
        )
        for row in rows
    )
