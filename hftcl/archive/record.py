"""The policy's own record in the registry: each out-of-sample session once, with the model that was then current.

Only the standard library is imported. A record is of a policy on one kind of bars; two of them never mix. Each row
names the policy and the bars that earned it, so that what no longer holds does not count.
"""

import hashlib
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import date, datetime
from typing import Final, Literal

from hftcl.archive.registry import Registry
from hftcl.archive.schema import faults, open_to_read
from hftcl.errors import UsageError
from hftcl.formats import describe_edge, format_moment, name_kind
from hftcl.values import Value, value_class

Kind = Literal["walk-forward", "scored"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedSession:
    """What the policy made in one session that the model had not seen; fractions of capital.

    net: after cost, at the cost per turnover that was then set. turnover: traded / capital. model_id: the model that
    was current; of a fold of the walk-forward, the candidate by whose procedure it was trained. kind: how it was
    earned. policy: see `archive.policy`; "" in a row of an earlier hftcl, which did not say. bars: what it was scored
    on, "TICKER:digest" for each ticker with bars.
    """

    session: date
    net: float
    gross: float
    turnover: float
    model_id: str
    kind: Kind
    source: str
    synthetic: bool
    policy: str = ""
    bars: str = ""


@value_class(frozen=True, slots=True, kw_only=True)
class Beginning(Value):
    """A person began the record of one kind of bars over: what was earned before counts no more.

    after_model: how many models there were; what they said of the edge counts no more either.
    """

    number: int
    at: datetime
    reason: str
    after_model: int


@value_class(frozen=True, slots=True, kw_only=True)
class EdgeInForce(Value):
    """Whether the record lets the bot trade at this moment, "live" or "stand aside", and why; None: not to be told."""

    edge: str | None
    reason: str

    @property
    def text(self) -> str:
        """One line for a person.

        >>> EdgeInForce(edge="stand aside", reason="P(edge) 0.31, needs 0.80").text
        'MAY NOT TRADE: P(edge) 0.31, needs 0.80'
        """
        what = "cannot be told" if self.edge is None else describe_edge(self.edge)
        return f"{what}: {self.reason}".rstrip(": ")


# From the dataclass: the table's columns and its fields cannot differ.
_NAMES: Final = tuple(item.name for item in fields(RecordedSession))
_CHANGED: Final = ", ".join(
    f"{name} = excluded.{name}" for name in ("net", "gross", "turnover", "model_id", "kind", "source", "bars")
)
_STAND_ASIDE: Final = "stand aside"
_HEX: Final = 16  # 64 bits: two records of one policy never share them by chance


def insert_sessions(db: sqlite3.Connection, sessions: Iterable[RecordedSession]) -> None:
    """Write sessions in the transaction that is open; one that is there is replaced where its bars were others.

    Scored again on the same bars it stays as it is: no day counts twice.
    """
    numbers = {synthetic: _find_beginning_number(db, synthetic=synthetic) for synthetic in (False, True)}
    # The names are ours, from the fields above.
    db.executemany(
        f"INSERT INTO policy_record (beginning, {', '.join(_NAMES)}) VALUES (?, {', '.join('?' * len(_NAMES))}) "  # noqa: S608
        f"ON CONFLICT (synthetic, policy, beginning, session) DO UPDATE SET {_CHANGED} WHERE bars != excluded.bars",
        [(numbers[session.synthetic], *_build_row(session)) for session in sessions],
    )


def delete_sessions(db: sqlite3.Connection, sessions: Iterable[RecordedSession]) -> None:
    """Drop rows that hold no more, in the transaction that is open; one that was scored again meanwhile stays."""
    db.executemany(
        "DELETE FROM policy_record WHERE synthetic = ? AND policy = ? AND session = ? AND bars = ?",
        [(int(session.synthetic), session.policy, session.session.isoformat(), session.bars) for session in sessions],
    )


def _build_row(session: RecordedSession) -> tuple[object, ...]:
    values = {name: getattr(session, name) for name in _NAMES}
    values |= {"session": session.session.isoformat(), "synthetic": int(session.synthetic)}
    return tuple(values.values())


def _find_beginning_number(db: sqlite3.Connection, *, synthetic: bool) -> int:
    number = db.execute("SELECT max(number) FROM beginnings WHERE synthetic = ?", (int(synthetic),)).fetchone()[0]
    return int(number or 0)


def insert_beginning(db: sqlite3.Connection, *, synthetic: bool, at: str, reason: str) -> None:
    """Write, in the transaction that is open, that the record on bars of this kind begins over."""
    if not reason.strip():
        raise UsageError("To begin the record over, say why: --reason TEXT.")
    models = int(db.execute("SELECT count(*) FROM models").fetchone()[0])
    db.execute(
        "INSERT INTO beginnings (at, synthetic, reason, after_model) VALUES (?, ?, ?, ?)",
        (at, int(synthetic), reason, models),
    )


def read_sessions(registry: Registry, *, synthetic: bool, policy: str) -> tuple[RecordedSession, ...]:
    """Return the record of `policy` on bars of this kind since it last began, oldest first; empty for none yet."""
    return tuple(row for row, current in read_all(registry, synthetic=synthetic) if current and row.policy == policy)


def read_all(registry: Registry, *, synthetic: bool) -> tuple[tuple[RecordedSession, bool], ...]:
    """Return every recorded session on bars of this kind, oldest first, and whether it was earned since it last began.

    The rows of all policies; those of an earlier hftcl have no policy, and count as earned before.
    """
    with faults("reading the record"), open_to_read(registry.database) as db:
        number = _find_beginning_number(db, synthetic=synthetic)
        rows = db.execute("SELECT * FROM policy_record WHERE synthetic = ?", (int(synthetic),)).fetchall()
        older = db.execute("SELECT * FROM record WHERE synthetic = ?", (int(synthetic),)).fetchall()
    sessions = [(_read_row(row, policy=row["policy"], bars=row["bars"]), row["beginning"] == number) for row in rows]
    sessions += [(_read_row(row, policy="", bars=""), False) for row in older]
    return tuple(sorted(sessions, key=lambda pair: (pair[0].session, pair[0].policy)))


def _read_row(row: sqlite3.Row, *, policy: str, bars: str) -> RecordedSession:
    return RecordedSession(
        session=date.fromisoformat(row["session"]),
        net=row["net"],
        gross=row["gross"],
        turnover=row["turnover"],
        model_id=row["model_id"],
        kind=row["kind"],
        source=row["source"],
        synthetic=bool(row["synthetic"]),
        policy=policy,
        bars=bars,
    )


def read_beginning(registry: Registry, *, synthetic: bool) -> Beginning | None:
    """Return when the record on bars of this kind last began over; None where it never did."""
    with faults("reading the record"), open_to_read(registry.database) as db:
        row = db.execute(
            "SELECT number, at, reason, after_model FROM beginnings WHERE synthetic = ? ORDER BY number DESC LIMIT 1",
            (int(synthetic),),
        ).fetchone()
    return None if row is None else Beginning(**{**dict(row), "at": datetime.fromisoformat(row["at"])})


def hash_record(sessions: Iterable[RecordedSession]) -> str:
    """Return a digest of which sessions on which bars these are: what a verdict on the edge stood on."""
    digest = hashlib.sha256()
    for session in sorted(sessions, key=lambda each: each.session):
        digest.update(f"{session.session} {session.bars}\n".encode())
    return digest.hexdigest()[:_HEX]


def find_edge_in_force(
    registry: Registry,
    *,
    synthetic: bool,
    policy: str,
    known_until: datetime | None = None,
    sessions: Iterable[RecordedSession] | None = None,
) -> EdgeInForce:
    """Return whether the record of `policy`, the one that is configured, lets the bot trade on bars of this kind.

    The newest verdict on such bars decides, newest by the order in which they fell: as long as it was about this
    policy, the record has not begun over, and the sessions that it stood on are what they were. Before any verdict the
    bot stands aside. known_until: of a verdict, at most, where another moment than this one is asked about. sessions:
    the record as it is to be, where it is not written yet.
    """
    beginning = read_beginning(registry, synthetic=synthetic)
    models = registry.list_models()
    ours = [
        model
        for model in models
        if model.synthetic == synthetic and (known_until is None or model.known_until <= known_until)
    ]
    if not ours:
        return _stand_aside(f"no retrain has judged the record on {name_kind(synthetic=synthetic)} bars yet")
    newest, judgement = ours[0], ours[0].judgement
    if beginning is not None and len(models) - models.index(newest) <= beginning.after_model:
        return _stand_aside(f"the record began over at {format_moment(beginning.at)} UTC: {beginning.reason}")
    if judgement.edge is None:
        return _stand_aside(f"the newest verdict, of model {newest.model_id}, says nothing of the record")
    if judgement.policy_digest != policy:
        return _stand_aside(
            f"the newest verdict, of model {newest.model_id}, was about another policy than the one that "
            "is configured: watchlist, source, horizon, features, model, strategy, cost, exam or promotion rule has "
            "changed"
        )
    if judgement.record_digest is not None and judgement.record_to is not None:
        rows = read_sessions(registry, synthetic=synthetic, policy=policy) if sessions is None else sessions
        if hash_record(row for row in rows if row.session <= judgement.record_to) != judgement.record_digest:
            return _stand_aside(
                f"bars of recorded sessions were corrected since the verdict of model {newest.model_id}"
            )
    return EdgeInForce(edge=judgement.edge, reason=judgement.edge_reason or "")


def _stand_aside(reason: str) -> EdgeInForce:
    return EdgeInForce(edge=_STAND_ASIDE, reason=reason)
