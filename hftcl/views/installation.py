"""Draws the configuration."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hftcl.views import draw_table, say

if TYPE_CHECKING:
    from hftcl.config.documents import EffectiveSetting


def draw_settings(rows: "Sequence[EffectiveSetting]") -> None:
    """Draw the effective settings, and where each came from."""
    drawn = [(row.key, row.text, row.origin) for row in rows]
    draw_table("", ("setting", "value", "from"), drawn)


def draw_written(paths: Sequence[Path]) -> None:
    """Draw what `init` wrote."""
    for path in paths:
        say(f"wrote {path}")
