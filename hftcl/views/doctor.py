"""Draws what the doctor found."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from hftcl.formats import count
from hftcl.views import Styled, draw_table, say

if TYPE_CHECKING:
    from hftcl.doctor.row import Row

_STYLES: Final = {
    "ok": "green",
    "warning": "yellow",
    "fault": "bold red",
}  # as traffic lights; the order is that of the sum


def _tell(rows: "Sequence[Row]") -> Iterator[tuple[str, str]]:
    """Yield what each row found and what to do; what keeps several checks from working is told by the first alone.

    A remedy is told by each check that has another one.
    """
    first: dict[str, Row] = {}
    for row in rows:
        other = row if row.status == "ok" else first.setdefault(row.detail.rstrip("."), row)
        if other is row:
            yield row.detail, row.remedy
        else:
            yield f"the same as {other.name}", "" if row.remedy == other.remedy else row.remedy


def draw_row(row: "Row") -> None:
    """Draw one row as a line."""
    remedy = f". {row.remedy}" if row.remedy else ""
    say(f"{row.name}: {row.detail}{remedy}", "" if row.status == "ok" else _STYLES[row.status])


def draw_rows(rows: "Sequence[Row]") -> None:
    """Draw the rows, then how many there are of each kind."""
    drawn = [
        (row.name, Styled(row.status, _STYLES[row.status]), *told) for row, told in zip(rows, _tell(rows), strict=True)
    ]
    draw_table("", ("check", "result", "found", "what to do"), drawn)
    counts = {status: sum(row.status == status for row in rows) for status in _STYLES}
    worst = next((status for status in ("fault", "warning", "ok") if counts[status]), "ok")
    say(
        f"{counts['ok']} ok, {count(counts['warning'], 'warning')}, {count(counts['fault'], 'fault')}.",
        _STYLES[worst],
    )
