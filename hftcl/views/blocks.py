"""What a view draws, kept instead of printed: its lines and its tables, for a page or a screen that is drawn again.

So that a page says what the command says, word for word. Loads nothing of Rich.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import takewhile
from typing import Concatenate, Final, NamedTuple, ParamSpec, TypeVar

Report = TypeVar("Report")
Options = ParamSpec("Options")


class Styled(NamedTuple):
    """A cell with a style of Rich. Not Rich's own text: Rich loads on a terminal only, a pipe need not wait for it."""

    text: str
    style: str = ""


class Line(NamedTuple):
    """A line of text with a style of Rich."""

    text: str
    style: str = ""


class Grid(NamedTuple):
    """A table. numbers: the columns that hold figures; spare: those that a narrow terminal goes without, in order."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Styled, ...], ...]
    numbers: frozenset[int] = frozenset()
    spare: tuple[str, ...] = ()


Block = Line | Grid

_PLAIN: Final = "\n\t\u00a0"  # of what does not print, what a view may mean: an end of line and two kinds of space


def write_out(text: str) -> str:
    r"""Return `text` with control characters written out (\x1b): what a file or a vendor says moves no cursor.

    >>> write_out("a\x1b[2Jb\x00")
    'a\\x1b[2Jb\\x00'
    """
    if text.isprintable():  # nearly all
        return text
    return "".join(c if c.isprintable() or c in _PLAIN else c.encode("unicode_escape").decode() for c in text)


def write_out_block(block: Block) -> Block:
    """Return `block` with all its texts as `write_out` returns them."""
    if isinstance(block, Line):
        return block._replace(text=write_out(block.text))
    rows = tuple(tuple(cell._replace(text=write_out(cell.text)) for cell in row) for row in block.rows)
    return block._replace(title=write_out(block.title), columns=tuple(map(write_out, block.columns)), rows=rows)


_kept: Final[ContextVar[list[Block] | None]] = ContextVar("kept", default=None)  # a thread has its own


def collect_blocks(
    view: Callable[Concatenate[Report, Options], None], report: Report, *args: Options.args, **options: Options.kwargs
) -> tuple[Block, ...]:
    """Return what `view` draws of `report`, in its order; nothing is printed."""
    with _keep() as blocks:
        view(report, *args, **options)
    return tuple(blocks)


def take_lines(blocks: Sequence[Block]) -> tuple[Line, ...]:
    """Return the lines before the first table: what a command says first."""
    return tuple(block for block in takewhile(lambda block: isinstance(block, Line), blocks) if isinstance(block, Line))


@contextmanager
def _keep() -> Iterator[list[Block]]:
    blocks: list[Block] = []
    token = _kept.set(blocks)
    try:
        yield blocks
    finally:
        _kept.reset(token)


def keep(block: Block) -> bool:
    """Keep `block` where somebody collects; return whether that is so."""
    blocks = _kept.get()
    if blocks is None:
        return False
    blocks.append(block)
    return True


def format_plainly(block: Block) -> Iterator[str]:
    """Yield a block as a pipe gets it: one uncut line a row, columns apart by two spaces or more."""
    if isinstance(block, Line):
        yield block.text
        return
    if block.title:
        yield f"# {block.title}"
    body = ([cell.text.replace("\n", " ") for cell in row] for row in block.rows)
    cells: list[Sequence[str]] = [block.columns, *body]
    widths = [max(len(row[index]) for row in cells) for index in range(len(block.columns))]
    for line in cells:
        padded = (
            cell.rjust(width) if index in block.numbers else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        yield "  ".join(padded).rstrip()
