"""The docstring of `errors` opens with the tree of its classes, and the tree is true."""

from collections.abc import Iterator

from hftcl import errors
from hftcl.errors import HftclError


def draw_tree(kind: type[HftclError], above: int | None = None, depth: int = 1) -> Iterator[str]:
    """Yield a line for `kind` and for each class under it that `errors` defines, in the order of the file."""
    told = f" (exit {kind.exit_code})" if kind.exit_code != above else ""
    yield f"{'    ' * depth}{kind.__name__}{told}"
    for under in kind.__subclasses__():
        if under.__module__ == errors.__name__:
            yield from draw_tree(under, kind.exit_code, depth + 1)


def test_the_docstring_shows_every_error_under_its_base_with_its_exit_status() -> None:
    assert (errors.__doc__ or "").endswith("\n\n" + "\n".join(draw_tree(HftclError)) + "\n")
