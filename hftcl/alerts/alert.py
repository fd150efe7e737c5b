"""One thing to tell a person who is not looking. Pure. Handed to `Alerts.tell`."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

from hftcl.errors import fold_line

_CHANGING: Final = re.compile(r"\d+")  # counts and times differ each time the same fault happens; the words do not
# Characters: a subject that mail programs still show; a text that fits any mail box; rows a person reads.
_LONGEST_LINE, _LONGEST_TEXT, _MOST_FACTS = 200, 20_000, 200


class Kind(StrEnum):
    """What an alert is about."""

    # Stored in the outbox and sent in the JSON: a new spelling would be a new kind to a user's script.
    DEPLOYED = "deployed"
    REJECTED = "rejected"
    INCONCLUSIVE = "inconclusive"
    RETRAINED = "retrained"
    ERROR = "error"
    ROLLBACK = "rollback"
    HALTED = "halted"
    RELOAD_REFUSED = "reload_refused"
    DATA_HOLE = "data_hole"
    BEHIND = "behind"
    STOPPED = "stopped"
    """A service has ended, and systemd does not start it again. Told each time: only a person makes it come again."""
    DIGEST = "digest"
    TEST = "test"


FAULTS: Final = frozenset({Kind.ERROR, Kind.HALTED, Kind.RELOAD_REFUSED, Kind.DATA_HOLE, Kind.BEHIND})
"""Kinds that may come again and again while something is wrong: repeated, they are one message with a count."""


@dataclass(frozen=True, slots=True)
class Alert:
    """What happened. subject: one line. text: some lines of plain text. at: UTC. facts: (name, value) of a table.

    model_id: the model that it is about. Secrets and control characters are taken out by the outbox.
    """

    kind: Kind
    subject: str
    text: str
    at: datetime
    model_id: str | None = None
    facts: tuple[tuple[str, str], ...] = ()

    @property
    def key(self) -> str | None:
        """What the same fault has in common each time it happens, figures aside; None for what is told each time."""
        if self.kind not in FAULTS:
            return None
        return _CHANGING.sub("#", f"{self.kind}: {self.subject}: {self.text}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """An alert as it waits in the outbox: it happened `count` times, first at `alert.at` and last at `last_at` (UTC).

    number: of the message in its outbox. again: one of the same fault went out before it.
    """

    number: int
    alert: Alert
    count: int
    last_at: datetime
    again: bool


def clean_alert(alert: Alert, mask: Callable[[str], str]) -> Alert:
    """Return `alert` with its texts through `mask`, without control characters, and no longer than a mail should be.

    Subject and facts are one line each: what they quote cannot begin a new header, line or escape sequence.
    """

    def format_line(text: str) -> str:
        kept = fold_line(mask(text))
        return kept if len(kept) <= _LONGEST_LINE else f"{kept[: _LONGEST_LINE - 4]} ..."

    lines = (_strip_controls(line_text) for line_text in re.split(r"\r\n|\r|\n", mask(alert.text)))
    return replace(
        alert,
        subject=format_line(alert.subject),
        text="\n".join(lines)[:_LONGEST_TEXT].strip(),
        model_id=format_line(alert.model_id) if alert.model_id is not None else None,
        facts=tuple((format_line(name), format_line(value)) for name, value in alert.facts[:_MOST_FACTS]),
    )


def _strip_controls(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)
