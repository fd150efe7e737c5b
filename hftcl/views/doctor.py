"""Draws what the doctor found."""

from collections.abc import Sequence
from typing import Any, Final

from hftcl.views import Styled, draw_table, say

_STYLES: Final = {"ok": "green", "warning": "yellow", "fault": "bold red"}


def draw_rows(found: Sequence[Any]) -> None:
    """Draw the rows, then how many there are of each kind."""
    drawn = [(row.name, Styled(row.status, _STYLES[row.status]), row.detail, row.remedy) for row in found]
    draw_table("", ("check", "", "found", "what to do"), drawn)
    counts = {status: sum(row.status == status for row in found) for status in _STYLES}
    worst = next((status for status in ("fault", "warning", "ok") if counts[status]), "ok")
    say(
        f"{counts['ok']} ok, {_say_number(counts['warning'], 'warning')}, {_say_number(counts['fault'], 'fault')}.",
        _STYLES[worst],
    )


def _say_number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
