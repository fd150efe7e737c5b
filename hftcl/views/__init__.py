"""What a person sees: Rich tables and progress on a terminal, one plain line a row in a pipe, JSON where asked.

They draw what the stories found, and find nothing themselves. This file holds what they share.
"""

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Concatenate, Final, Literal, NamedTuple, ParamSpec, Protocol, TypeVar

from hftcl.formats import bars_of, interval, moment, number

if TYPE_CHECKING:
    from rich.console import Console

_LAST_COLUMN = 40
"""Characters that suffice for the last column of a table, which is prose and folds well."""
SPARKS: Final = "▁▂▃▄▅▆▇█"  # the eighths of a character that each common font of a terminal has
_PIPE_WIDTH = 80  # of a log or a mail, where a longer line would break
_TERMINAL_BY_REQUEST = {"FORCE_COLOR", "TTY_COMPATIBLE"}  # with these Rich may take a pipe for a terminal


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


class Styled(NamedTuple):
    """A cell with a style of Rich. Not Rich's own text: Rich loads on a terminal only, a pipe need not wait for it."""

    text: str
    style: str = ""


Cell = str | Styled


def show(
    report: Report,
    view: Callable[Concatenate[Report, Options], None],
    as_json: bool,
    *args: Options.args,
    **options: Options.kwargs,
) -> None:
    """Print `report` as one JSON document, or draw it with `view`."""
    if as_json:
        import json  # here: only one of the two forms needs it

        from hftcl.document import document

        sys.stdout.write(json.dumps(document(report), allow_nan=False, ensure_ascii=False, indent=2) + "\n")
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
    body = [[cell if isinstance(cell, Styled) else Styled(cell) for cell in row] for row in rows]
    console = find_terminal()
    if console is not None:
        _draw(console, title, columns, body, numbers, spare)
        return
    cells = [list(columns), *([cell.text.replace("\n", " ") for cell in row] for row in body)]
    widths = [max(len(row[index]) for row in cells) for index in range(len(columns))]
    if title:
        sys.stdout.write(f"# {title}\n")
    for line in cells:
        padded = (
            cell.rjust(width) if index in numbers else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        sys.stdout.write("  ".join(padded).rstrip() + "\n")


def _draw(
    console: "Console",
    title: str,
    columns: Sequence[str],
    body: Sequence[Sequence[Styled]],
    numbers: frozenset[int],
    spare: Sequence[str],
) -> None:
    from rich.table import Table
    from rich.text import Text

    wanted = [max(len(name), *(len(row[index].text) for row in body), 0) for index, name in enumerate(columns)]
    wanted[-1] = min(wanted[-1], _LAST_COLUMN)
    shown, missing = list(range(len(columns))), []
    for name in spare:
        if sum(wanted[index] + 3 for index in shown) + 1 <= console.width:
            break
        shown.remove(columns.index(name))
        missing.append(name)
    drawn = Table(title=title or None, title_justify="left", title_style="bold")
    for index in shown:
        side: Literal["left", "right"] = "right" if index in numbers else "left"
        drawn.add_column(columns[index], justify=side, overflow="fold", no_wrap=columns[index] == "model")
    for row in body:
        drawn.add_row(*(Text(row[index].text, row[index].style) for index in shown))
    console.print(drawn)
    if missing:
        console.print(Text(f"Too narrow for: {'; '.join(missing)}. A pipe and --json show everything.", "dim"))


def say(text: str, style: str = "") -> None:
    """Print one line to stdout, uncut and unwrapped in a pipe; `text` is never markup."""
    console = find_terminal()
    if console is None:
        sys.stdout.write(text + "\n")
    else:
        from rich.text import Text

        console.print(Text(text, style=style))


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
    return f"{bars_of(report.source, synthetic=report.synthetic)}, known until {moment(report.as_of)} UTC{note}"


__all__ = [
    "Cell",
    "Styled",
    "describe_source",
    "draw_sparkline",
    "draw_table",
    "find_terminal",
    "interval",
    "number",
    "say",
    "show",
]
