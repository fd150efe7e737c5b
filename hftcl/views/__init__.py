"""What a person sees: Rich tables and progress on a terminal, one plain line a row in a pipe, JSON where asked.

They draw what the stories found, and find nothing themselves. This file holds what they share.
"""

import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from io import StringIO
from typing import TYPE_CHECKING, Concatenate, Final, Literal, ParamSpec, Protocol, TypeVar

from hftcl.formats import describe_bars, format_interval, format_moment, number
from hftcl.views.blocks import Block, Grid, Line, Styled, format_plainly, keep, write_out_block
from hftcl.views.terminal import keep_output_from_ending

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_LAST_COLUMN = 40
"""Characters that suffice for the last column of a table, which is prose and folds well."""
_LONGEST_WORD = 30  # characters of a word that stays whole, as an id or a date does; a path may be broken
_LEAST_PROSE = 20  # characters of a column of sentences: below it each line holds two words or one
_SHORTEST_BREAK = (
    20  # characters: an id with its date, of 15, and the longest term of a table are never broken for a name
)
# "(-8.4 to 4.0)," is one: half an interval is read as a figure; a sentence in brackets is none
_WORD: Final = re.compile(r"\([-+\d][^()]{0,18}\)\S*|\S+")
SPARKS: Final = "▁▂▃▄▅▆▇█"  # the eighths of a character that each common font of a terminal has
_PIPE_WIDTH = 80  # of a log or a mail, where a longer line would break
_TERMINAL_BY_REQUEST = {"FORCE_COLOR", "TTY_COMPATIBLE"}  # with these Rich may take a pipe for a terminal


documents: list[object] = []
"""The reports that this process has printed as JSON: stdout has one document, so a failure after it prints none."""

Report = TypeVar("Report")
Options = ParamSpec("Options")


class Sourced(Protocol):
    """A report that says which bars it was made from, and until when they were known."""

    @property
    def source(self) -> str: ...
    @property
    def synthetic(self) -> bool: ...
    @property
    def as_of(self) -> datetime: ...
    @property
    def as_of_note(self) -> str: ...


Cell = str | Styled


def show(
    report: Report,
    view: Callable[Concatenate[Report, Options], None],
    as_json: bool,
    *args: Options.args,
    **options: Options.kwargs,
) -> None:
    """Print `report` as one JSON document, or draw it with `view`.

    A stdout that takes no more, as where `head` has left, ends no command: what it does next is done.
    """
    if as_json:
        import json  # here: only one of the two forms needs it

        from hftcl.document import build_document

        documents.append(report)
        write_out(json.dumps(build_document(report), allow_nan=False, ensure_ascii=False, indent=2) + "\n")
    else:
        view(report, *args, **options)


def draw_table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    *,
    numbers: frozenset[int] = frozenset(),
    spare: Sequence[str] = (),
) -> None:
    """Draw rows: a table on a terminal; in a pipe one uncut line a row, columns apart by two spaces or more.

    spare: columns that a terminal which is too narrow goes without, the first of them first; it says which.
    """
    body = tuple(tuple(cell if isinstance(cell, Styled) else Styled(cell) for cell in row) for row in rows)
    _print(Grid(title, tuple(columns), body, numbers, tuple(spare)))


def say(text: str, style: str = "") -> None:
    """Print one line to stdout, uncut and unwrapped in a pipe; `text` is never markup."""
    _print(Line(text, style))


def _print(block: Block) -> None:
    block = write_out_block(block)
    if keep(block):
        return
    console = find_terminal()
    if console is None:
        write_out("".join(f"{line}\n" for line in format_plainly(block)))
        return
    with keep_output_from_ending():
        console.print(*build_renderables(block, console.width), sep="\n")


def write_out(text: str) -> None:
    """Write to stdout, or nowhere where that takes no more."""
    with keep_output_from_ending():
        sys.stdout.write(text)


def draw_lines(blocks: Sequence[Block], width: int, height: int) -> list[str]:
    """Return `blocks` as the lines of a terminal, with its colours: at most `height` of at most `width` characters.

    The last of them is an ellipsis where more would follow.
    """
    if not blocks or height < 1:
        return []
    from rich.console import Console

    drawn = StringIO()
    console = Console(file=drawn, force_terminal=True, width=width, highlight=False)
    for block in blocks:
        console.print(*build_renderables(block, width, boxed=False), sep="\n")
    lines = drawn.getvalue().splitlines()
    return lines if len(lines) <= height else [*lines[: height - 1], "…"]


def build_renderables(block: Block, width: int, *, boxed: bool = True) -> "list[RenderableType]":
    """Return what Rich draws of `block` on a terminal of `width` characters; not boxed: a table without its lines."""
    from rich.text import Text

    if isinstance(block, Line):
        return [Text(block.text, style=block.style)]
    return _build_table(block, width, boxed)


def _build_table(grid: Grid, width: int, boxed: bool) -> "list[RenderableType]":
    from rich.table import Table
    from rich.text import Text

    columns, body = grid.columns, grid.rows
    wanted = [max(len(name), *(len(row[index].text) for row in body), 0) for index, name in enumerate(columns)]
    wanted[-1] = min(wanted[-1], _LAST_COLUMN)
    # a column in which no row says anything takes room from those that do; a pipe has it all the same
    shown = [index for index in range(len(columns)) if not body or any(row[index].text for row in body)]
    missing: list[str] = []
    for name in [name for name in grid.spare if columns.index(name) in shown]:
        if sum(wanted[index] for index in shown) + _count_frame(len(shown), boxed) <= width:
            break
        shown.remove(columns.index(name))
        missing.append(name)
    drawn = Table()
    if not boxed:
        drawn.box, drawn.pad_edge, drawn.header_style = None, False, "dim"
    numbers = frozenset(place for place, index in enumerate(shown) if index in grid.numbers)
    texts = [[columns[index], *(row[index].text for row in body)] for index in shown]
    widths = _choose_widths(texts, width, boxed, numbers)
    heads = [columns[index] for index in shown]
    if widths:
        heads = [_break_lines(head, wide) for head, wide in zip(heads, widths, strict=True)]
    for place, index in enumerate(shown):
        side: Literal["left", "right"] = "right" if index in grid.numbers else "left"
        wide, is_id = widths[place] if widths else None, columns[index] == "model"
        drawn.add_column(heads[place], justify=side, overflow="fold", width=wide, no_wrap=is_id)
    for row in body:
        cells = [row[index] for index in shown]
        broken = [_break_lines(cell.text, wide) for cell, wide in zip(cells, widths, strict=True)] if widths else []
        texts_of_row = broken or [cell.text for cell in cells]
        drawn.add_row(*(Text(text, cell.style) for text, cell in zip(texts_of_row, cells, strict=True)))
    # the title beside the table and not of it: Rich would fold it into the width of a narrow table
    whole: list[RenderableType] = [*([Text(grid.title, "bold")] if grid.title else []), drawn]
    if not missing:
        return whole
    return [*whole, Text(f"Too narrow for: {'; '.join(missing)}. A pipe and --json show everything.", "dim")]


def _count_frame(columns: int, boxed: bool) -> int:
    """Return the characters of a line that are no text: two spaces between columns, with a box also its lines."""
    return 3 * columns + 1 if boxed else 2 * (columns - 1)


def _choose_widths(columns: "list[list[str]]", width: int, boxed: bool, numbers: frozenset[int]) -> list[int]:
    """Return what `_fit_widths` does with figures whole, unless that would leave prose a column of single words."""
    whole, plain = (_fit_widths(columns, width, boxed, places) for places in (numbers, frozenset[int]()))
    if not whole or not plain:
        return whole or plain
    prose = [max(map(len, column)) > _LAST_COLUMN for column in columns]
    narrow = any(
        told and now < min(before, _LEAST_PROSE) for told, now, before in zip(prose, whole, plain, strict=True)
    )
    return plain if narrow else whole


def _fit_widths(columns: "list[list[str]]", width: int, boxed: bool, whole: frozenset[int] = frozenset()) -> list[int]:
    """Return widths at which words stay whole, as far as they fit into `width`; none where there is room, or is not.

    columns: each its head and its texts. whole: places of those in which a text, not only a word, stays whole.

    Rich takes from each column alike, and breaks a date in two while a sentence beside it has room.
    """
    room = width - _count_frame(len(columns), boxed)
    wanted = [max(len(line) for text in column for line in text.splitlines() or [""]) for column in columns]
    words = [max(_measure_word(text) for text in column) for column in columns]
    for place in whole:
        words[place] = max(words[place], *map(len, columns[place][1:]), 0)
    if sum(wanted) <= room or min(words) == 0:
        return []
    for longest in range(_LONGEST_WORD, _SHORTEST_BREAK - 1, -1):
        # the first column holds names, which are looked for; what stands beside one may be an address, and broken
        widths = [word if place == 0 or place in whole else min(word, longest) for place, word in enumerate(words)]
        if sum(widths) <= room:
            break
    else:
        return []
    for _ in range(room - sum(widths)):
        longest = max(range(len(columns)), key=lambda place: wanted[place] / widths[place])  # of the most lines
        widths[longest] += 1
    return widths


def _split_words(text: str) -> list[str]:
    """Return the words of `text`; figures in brackets, as an interval, are one."""
    return _WORD.findall(text)


def _measure_word(text: str) -> int:
    """Return the characters of the longest word of `text`, the first with what it is indented by."""
    first, *others = _split_words(text) or [""]
    return max(text.index(first) + len(first), *map(len, others), 0)


def _break_lines(text: str, width: int) -> str:
    """Return `text` in lines of `width` characters, with no figures in brackets broken that fit into one."""
    lines: list[str] = []
    for given in text.splitlines():
        line = ""
        for word in _split_words(given):
            longer = f"{line} {word}" if line else given[: given.index(word)] + word
            if line and len(longer) > width:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
    return "\n".join(lines)


def explain_words(*words: str) -> None:
    """Say what each word means, a line each, where a screen uses it first."""
    from hftcl.manual.words import describe_word

    for word in words:
        say(describe_word(word), "dim")


def find_width() -> int:
    """Return the characters of a line of the terminal that stdout is; of a pipe or a file the usual 80."""
    console = find_terminal()
    return console.width if console else _PIPE_WIDTH


def find_terminal() -> "Console | None":
    """Return the terminal that stdout is, None for a pipe or a file."""
    if not sys.stdout.isatty() and _TERMINAL_BY_REQUEST.isdisjoint(os.environ):
        return None
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else None


def draw_sparkline(values: Sequence[float | None]) -> str:
    """Draw one block a value between the least and the greatest; an undefined one is a dot."""
    numbers = [value for value in values if value is not None]
    if not numbers:
        return "·" * len(values)
    low, span = min(numbers), (max(numbers) - min(numbers)) or 1.0
    top = len(SPARKS) - 1
    return "".join("·" if value is None else SPARKS[round((value - low) / span * top)] for value in values)


def describe_source(report: Sourced) -> str:
    """Say from which bars `report` was made, and until when they were known."""
    note = f" ({report.as_of_note})" if report.as_of_note else ""
    return (
        f"{describe_bars(report.source, synthetic=report.synthetic)}, known until {format_moment(report.as_of)} "
        f"UTC{note}"
    )


__all__ = [
    "Cell",
    "Styled",
    "describe_source",
    "draw_sparkline",
    "draw_table",
    "explain_words",
    "find_terminal",
    "format_interval",
    "number",
    "say",
    "show",
    "write_out",
]
