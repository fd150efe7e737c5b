"""Writes what a person has to say about archived models: notes, and tags. Nothing is decided by them.

A note is never changed; a tag that was taken off stays in the registry with the day of each.
"""

import re
from collections.abc import Iterable
from typing import Final, Literal

from hftcl.archive.deployment import ModelArchive
from hftcl.archive.note_rows import gather
from hftcl.archive.production import format_utc
from hftcl.archive.records import Moment, read_moment
from hftcl.archive.registry import Registry
from hftcl.errors import UsageError
from hftcl.sqlite import transaction

_LONGEST: Final = 1000  # characters: a paragraph, which a terminal still shows with its table
_TAG: Final = re.compile(r"[\w.+-]{1,32}")  # one word, so that a script can look for it
_Kind = Literal["note", "tag", "untag"]


def write_remarks(
    archive: ModelArchive, text: str, *, note: str | None, tags: Iterable[str], untags: Iterable[str], now: Moment
) -> str:
    """Write `note`, put `tags` on a model and take `untags` off; return the model's id. All of it or nothing.

    text: the model's id, as a person writes it. A tag that is there, or one to take off that is not, changes nothing.
    Raises ModelNotFoundError; UsageError for a note or a tag that cannot be kept.
    """
    lines: list[tuple[_Kind, str]] = [("note", _clean_note(note))] if note is not None else []
    lines += [("tag", _require_tag(tag)) for tag in tags]
    lines += [("untag", _require_tag(tag)) for tag in untags]
    model_id = Registry(archive.home).find(text).model_id
    with archive.hold_registry(now, "writing a note") as (db, _), transaction(db):
        rows = db.execute("SELECT kind, at, text FROM notes WHERE model_id = ? ORDER BY number", (model_id,)).fetchall()
        here = set(gather(rows).tags)
        for kind, line in lines:
            if (kind == "tag" and line in here) or (kind == "untag" and line not in here):
                continue
            db.execute(
                "INSERT INTO notes (model_id, at, kind, text) VALUES (?, ?, ?, ?)",
                (model_id, format_utc(read_moment(now)), kind, line),
            )
            here = here | {line} if kind == "tag" else here - {line} if kind == "untag" else here
    return model_id


def _clean_note(text: str) -> str:
    """Return a note as one line. Raises UsageError for an empty one, one that is too long, or holds what is unseen."""
    line = " ".join(text.split())
    if not line or len(line) > _LONGEST or not line.isprintable():
        raise UsageError(f"A note has 1 to {_LONGEST:,} characters that can be seen; this one has {len(line):,}.")
    return line


def _require_tag(tag: str) -> str:
    if not _TAG.fullmatch(tag):
        raise UsageError(f"--tag {tag[:40]!r}: a tag is one word of letters, digits and . _ + -, up to 32 characters.")
    return tag
