"""Finds what the documentation says about a word: of a screen, a command, a setting, or the name of a page."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Final

import hftcl
from hftcl.errors import NoDataError, UsageError
from hftcl.manual.words import WORDS

_HEADING: Final = re.compile(r"^(#+) (.+)$", re.MULTILINE)
_COMMAND: Final = re.compile(r"hftcl ([a-z]+)")
_ROW: Final = re.compile(r"^\| `([a-z_]+\.[a-z_0-9]+)` \|.*$", re.MULTILINE)
_LONGEST: Final = 80  # characters that are compared: difflib is quadratic


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What `hftcl docs WORD` tells. meaning: one sentence, "" for a page; text: Markdown; file: where it stands."""

    word: str
    meaning: str
    page: str
    heading: str
    text: str
    file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    page: str
    heading: str = ""
    meaning: str = ""
    line: str = ""


def find_folder() -> Path:
    """Return the folder of the pages: inside the installed package, or beside it in a checkout.

    Raises NoDataError where neither is there.
    """
    package = Path(hftcl.__file__).parent
    for folder in (package / "docs", package.parent / "docs"):
        if (folder / "commands.md").is_file():
            return folder
    raise NoDataError(f"The documentation is missing beside {package}. Install hftcl again.")


def explain_word(word: str) -> Explanation:
    """Return what the documentation says about `word`.

    A word of `WORDS`, a command, a setting such as "edge.min_p_edge", or a page such as "judging", whatever its case.
    Raises UsageError for any other, with those that are near.
    """
    folder = find_folder()
    places = _list_places(folder)
    folded = {name.casefold(): name for name in reversed(list(places))}
    asked = " ".join(word.split())
    name = folded.get(asked.casefold())
    if name is None:
        close = get_close_matches(asked[:_LONGEST].casefold(), folded, n=3)
        hint = f"Did you mean {' or '.join(folded[one] for one in close)}?" if close else ""
        raise UsageError(f"No page explains {asked[:_LONGEST]!r}. {hint or '`hftcl docs` lists the words.'}")
    place = places[name]
    file = folder / f"{place.page}.md"
    text = place.line or read_section(file.read_text(encoding="utf-8"), place.heading)
    return Explanation(
        word=name, meaning=place.meaning, page=place.page, heading=place.heading, text=text, file=str(file)
    )


def list_names() -> frozenset[str]:
    """Return all that `explain_word` explains."""
    return frozenset(_list_places(find_folder()))


def list_pages() -> dict[str, str]:
    """Return each page with its title, by name."""
    return {page.stem: _read_title(page) for page in sorted(find_folder().glob("*.md"))}


def read_section(text: str, heading: str) -> str:
    r"""Return the part of a page under `heading`, with those below it; "" is the whole page.

    >>> read_section("# A\n\n## B\nb\n### C\nc\n## D\nd\n", "B")
    '## B\nb\n### C\nc\n'
    """
    if not heading:
        return text
    found = list(_HEADING.finditer(text))
    begin = next(one for one in found if one[2] == heading)
    ends = (one.start() for one in found if one.start() > begin.start() and len(one[1]) <= len(begin[1]))
    return text[begin.start() : next(ends, len(text))]


def _list_places(folder: Path) -> dict[str, _Place]:
    """Return where each word is told; of two with one name the first: words, commands, pages, settings."""
    places = {name: _Place(page=word.page, heading=word.heading, meaning=word.meaning) for name, word in WORDS.items()}
    for name, place in (*_list_commands(folder), *_list_page_places(folder), *_list_settings(folder)):
        places.setdefault(name, place)
    return places


def _list_commands(folder: Path) -> Iterator[tuple[str, _Place]]:
    for _, heading in _HEADING.findall((folder / "commands.md").read_text(encoding="utf-8")):
        if command := _COMMAND.match(heading):
            place = _Place(page="commands", heading=heading)
            yield command[1], place
            yield command[0], place  # "hftcl record": `record` alone is a word


def _list_page_places(folder: Path) -> Iterator[tuple[str, _Place]]:
    for page in sorted(folder.glob("*.md")):
        yield page.stem, _Place(page=page.stem)
        yield page.name, _Place(page=page.stem)  # "edge.md": `edge` alone is a word


def _list_settings(folder: Path) -> Iterator[tuple[str, _Place]]:
    text = (folder / "configuration.md").read_text(encoding="utf-8")
    head = "| setting | default | allowed | meaning |\n| --- | --- | --- | --- |\n"
    for row in _ROW.finditer(text):
        section = f"[{row[1].partition('.')[0]}]"
        yield row[1], _Place(page="configuration", heading=section, line=head + row[0] + "\n")


def _read_title(page: Path) -> str:
    found = _HEADING.search(page.read_text(encoding="utf-8"))
    return found[2] if found else page.stem
