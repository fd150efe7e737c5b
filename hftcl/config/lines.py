"""Finds the line of hftcl.toml on which a setting stands, for a message. Pure."""

import re
from collections.abc import Iterator
from typing import Final

_SECTION: Final = re.compile(r"\s*\[\s*([\w\"'-]+)\s*\]\s*(?:#.*)?$")
_SETTING: Final = re.compile(r"\s*([\w\"'-]+)\s*=")


def find_line(text: str, section: str, name: str = "") -> int | None:
    r"""Return the line, from 1, of `name` under [`section`]; of the section's head without a name.

    section: "" for the top of the file. None where it stands otherwise, as in `model.seed = 1` or `model = {seed = 1}`.

    >>> find_line("[model]\n# of the draws\nseed = 1\n", "model", "seed")
    3
    """
    return next((line for line, *found in _list_places(text) if found == [section, name]), None)


def _list_places(text: str) -> Iterator[tuple[int, str, str]]:
    section = ""
    for line, written in enumerate(text.splitlines(), start=1):
        if head := _SECTION.match(written):
            section = head[1].strip("\"'")
            yield line, section, ""
        elif setting := _SETTING.match(written):
            yield line, section, setting[1].strip("\"'")
