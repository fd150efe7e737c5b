"""What a view drew, as values: the lines that it said, and the cells of its tables."""

from collections.abc import Sequence

from hftcl.views.blocks import Block, Grid, Line


def list_lines(blocks: Sequence[Block]) -> list[str]:
    """Return the lines, in their order."""
    return [block.text for block in blocks if isinstance(block, Line)]


def find_style(blocks: Sequence[Block], begin: str) -> str:
    """Return the style of the one line that begins so."""
    (line,) = [block for block in blocks if isinstance(block, Line) and block.text.startswith(begin)]
    return line.style


def list_grids(blocks: Sequence[Block]) -> list[Grid]:
    """Return the tables, in their order."""
    return [block for block in blocks if isinstance(block, Grid)]


def read_pairs(grid: Grid) -> list[tuple[str, str]]:
    """Return the rows of a table of two columns, in their order."""
    return [(name.text, value.text) for name, value in grid.rows]


def read_columns(grid: Grid) -> list[dict[str, str]]:
    """Return the cells of each row by the name of their column."""
    return [{name: cell.text for name, cell in zip(grid.columns, row, strict=True)} for row in grid.rows]
