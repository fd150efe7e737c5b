"""Draws the configuration."""

from collections.abc import Sequence
from typing import Any

from hftcl.views import draw_table, say


def draw_settings(rows: Sequence[Any]) -> None:
    """Draw the effective settings, and where each came from."""
    drawn = [(row.key, row.text, row.origin) for row in rows]
    draw_table("", ("setting", "value", "from"), drawn)


def draw_written(paths: Sequence[Any]) -> None:
    """Draw what `init` wrote."""
    for path in paths:
        say(f"wrote {path}")
