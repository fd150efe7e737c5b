"""What a person wrote about archived models, as it is read. Light, for `history` reads it."""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from hftcl.archive.registry import Registry
from hftcl.archive.schema import faults, open_to_read


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What was written about a model, and when, UTC."""

    at: datetime
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Remarks:
    """What is written about one model: its notes, oldest first, and its tags, in the order in which they came."""

    notes: tuple[Note, ...] = ()
    tags: tuple[str, ...] = ()


def read_remarks(registry: Registry) -> dict[str, Remarks]:
    """Return what is written about each model of which something is. Raises IntegrityError, StorageError."""
    with faults("reading the notes"), open_to_read(registry.database) as db:
        rows = db.execute("SELECT model_id, at, kind, text FROM notes ORDER BY number").fetchall()
    return {model_id: gather(row for row in rows if row["model_id"] == model_id) for model_id in _list_ids(rows)}


def _list_ids(rows: Iterable[sqlite3.Row]) -> list[str]:
    return list(dict.fromkeys(row["model_id"] for row in rows))


def gather(rows: Iterable[sqlite3.Row]) -> Remarks:
    """Return what rows of one model say together, oldest first: a tag that was taken off is gone."""
    notes: list[Note] = []
    tags: dict[str, None] = {}
    for row in rows:
        if row["kind"] == "note":
            notes.append(Note(at=datetime.fromisoformat(row["at"]), text=row["text"]))
        elif row["kind"] == "tag":
            tags[row["text"]] = None
        else:
            tags.pop(row["text"], None)
    return Remarks(notes=tuple(notes), tags=tuple(tags))
