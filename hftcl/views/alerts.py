"""Draws the alerts that were told."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hftcl.formats import count, format_moment
from hftcl.views import Styled, draw_table, say

if TYPE_CHECKING:
    from hftcl.alerts.outbox import KeptAlert


def draw_alerts(rows: "Sequence[KeptAlert]") -> None:
    """Draw the alerts, newest first: when, of what kind, what was said, and whether it went out."""
    if not rows:
        say("No alert in the last 14 days. docs/alerts.md says who can be told, and how.")
        return
    drawn = [
        (
            format_moment(row.message.last_at),
            str(row.message.alert.kind),
            row.message.alert.subject + (f" ({count(row.message.count, 'time')})" if row.message.count > 1 else ""),
            Styled(f"waits{': ' + row.fault if row.fault else ''}", "yellow")
            if row.waits
            else Styled(f"given up: {row.fault}", "red")
            if row.fault
            else Styled("sent", "green"),
        )
        for row in rows
    ]
    draw_table("", ("UTC", "kind", "alert", "result"), drawn)
