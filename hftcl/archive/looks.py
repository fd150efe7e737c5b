"""Who has looked at which sessions: each candidate that was examined is a trial, whatever came of it.

Only the standard library is imported. An archived candidate's own exam is in its row; the table holds every other look:
those of dry runs, and of `exam` at other sessions.
"""

import sqlite3
from dataclasses import dataclass
from datetime import date, datetime

from hftcl.archive.registry import Registry
from hftcl.archive.schema import faults, open_to_read


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One candidate on the sessions on which it was examined.

    policy: that made it, see `archive.policy`; "" where an earlier hftcl did not say. positions: which candidate it is:
    the SHA-256 of what it would have held in the exam of its own training. sharpe: net, annual, at its longest look, of
    equal ones the last: that of two sessions is mostly noise, and may be 70.
    """

    policy: str
    positions: str
    sharpe: float
    sessions: tuple[date, ...]


def insert_look(db: sqlite3.Connection, look: Look, *, synthetic: bool, at: str) -> None:
    """Write a look in the transaction that is open; the same candidate on the same sessions is there once."""
    row = build_look_row(look, synthetic=synthetic, at=at)
    known = db.execute(
        "SELECT 1 FROM looks WHERE synthetic = :synthetic AND positions = :positions AND sessions = :sessions", row
    ).fetchone()
    if known is None:
        db.execute(
            "INSERT INTO looks (at, synthetic, policy, positions, sharpe, sessions) "
            "VALUES (:at, :synthetic, :policy, :positions, :sharpe, :sessions)",
            row,
        )


def build_look_row(look: Look, *, synthetic: bool, at: str) -> dict[str, object]:
    """Return a look as a row of the registry, without its number. at: UTC, as the registry writes it."""
    return {
        "at": at,
        "synthetic": int(synthetic),
        "policy": look.policy,
        "positions": look.positions,
        "sharpe": look.sharpe,
        "sessions": " ".join(day.isoformat() for day in look.sessions),
    }


def read_looks(registry: Registry, *, synthetic: bool, until: datetime | None = None) -> tuple[Look, ...]:
    """Return the looks at bars of this kind, each candidate once, with every session on which it was examined.

    Two that held the same positions are one. until: looks that were made later are left out; None: none.
    """
    looks: dict[str, Look] = {}
    longest: dict[str, int] = {}
    for model in registry.list_models():
        judgement = model.judgement
        if model.synthetic != synthetic or judgement.sharpe is None or not judgement.exam_days:
            continue
        if until is not None and model.trained_at > until:
            continue
        name = judgement.positions or model.model_id
        days = tuple(date.fromisoformat(day) for day in judgement.exam_days)
        looks[name] = Look(policy=judgement.policy_digest or "", positions=name, sharpe=judgement.sharpe, sessions=days)
        longest[name] = len(days)
    with faults("reading the exams"), open_to_read(registry.database) as db:
        rows = db.execute("SELECT * FROM looks WHERE synthetic = ? ORDER BY number", (int(synthetic),)).fetchall()
    for row in rows:
        if until is not None and datetime.fromisoformat(row["at"]) > until:
            continue
        name, days = row["positions"], tuple(date.fromisoformat(day) for day in row["sessions"].split())
        known = looks.get(name)
        looks[name] = Look(
            policy=row["policy"],
            positions=name,
            sharpe=known.sharpe if known and len(days) < longest[name] else row["sharpe"],
            sessions=tuple(sorted({*(known.sessions if known else ()), *days})),
        )
        longest[name] = max(longest.get(name, 0), len(days))
    return tuple(looks.values())
