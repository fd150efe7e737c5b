"""Draws the configuration."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hftcl.views import Styled, draw_table, say

if TYPE_CHECKING:
    from hftcl.archive.adoption import Adoption
    from hftcl.config.documents import EffectiveSetting


def draw_settings(rows: "Sequence[EffectiveSetting]") -> None:
    """Draw the effective settings and where each came from: a file once, above the settings; `*`: not the default."""
    files = list(dict.fromkeys(row.origin for row in rows if row.origin.startswith("/")))
    names = {file: f"file {number}" if len(files) > 1 else "file" for number, file in enumerate(files, start=1)}
    for file, name in names.items():
        say(f"{name}: {file}")
    drawn = [
        (
            Styled(f"* {row.key}", "bold") if not row.is_default else f"  {row.key}",
            row.text,
            _name_origin(row.origin, names),
        )
        for row in rows
    ]
    draw_table("", ("  setting", "value", "from"), drawn)
    say("* differs from the default" if any(not row.is_default for row in rows) else "Every setting is the default.")


def _name_origin(origin: str, files: Mapping[str, str]) -> str:
    """Return where a setting came from in a word: its variable is called as the setting is."""
    return files.get(origin, "environment" if origin.startswith("HFTCL_") else origin)


def draw_written(paths: Sequence[Path], *, is_for_folder: bool = False) -> None:
    """Draw what `init` wrote; where it is for a folder of bars, source and watchlist are set already."""
    for path in paths:
        say(f"wrote {path}")
    ahead = "" if is_for_folder else "set [market] watchlist and source there, then "
    say(f"Next: {ahead}`hftcl doctor` says what is missing.")


def draw_adoption(adoption: "Adoption") -> None:
    """Draw what `init --adopt` took over, and what it left as it was."""
    if adoption.file is not None:
        say(f"lines added to the history: {adoption.lines}, of {adoption.file}")
    for model_id in adoption.models:
        say(f"model {model_id} is in the archive; `hftcl rollback {model_id} --reason TEXT` lets it serve")
    for note in adoption.notes:
        say(note)
    for note in adoption.left:
        say(f"left: {note}", "yellow")
