"""The package as text and trees, for the tests that hold how it is written."""

import ast
import io
import re
import tokenize
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import hftcl

PACKAGE = Path(hftcl.__file__).parent
CAPITALS = re.compile(r"_*[A-Z][A-Z0-9_]*")
FOR_A_TOOL = re.compile(r"#\s*(noqa|type:|pragma|fmt:|ruff:)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One module of the package: its dotted name, its tree and its lines."""

    name: str
    tree: ast.Module
    lines: tuple[str, ...] = field(default=(), repr=False)

    @property
    def room(self) -> str:
        """The folder under the package, or the module's own name at the top of it."""
        return [*self.name.split("."), ""][1]

    def has_comment(self, statement: ast.stmt) -> bool:
        """Whether a comment for a reader stands beside `statement`, or alone on the line above it."""
        above = self.lines[statement.lineno - 2].strip() if statement.lineno > 1 else ""
        if above.startswith("#") and not FOR_A_TOOL.match(above):
            return True
        own = "\n".join(self.lines[statement.lineno - 1 : statement.end_lineno])
        tokens = tokenize.generate_tokens(io.StringIO(own.strip()).readline)  # of all lines it would take seconds
        return any(token.type == tokenize.COMMENT and not FOR_A_TOOL.match(token.string) for token in tokens)


def read_source(text: str, name: str) -> Source:
    """Return `text` as a module called `name`."""
    return Source(name=name, tree=ast.parse(text), lines=tuple(text.split("\n")))


@cache
def list_sources() -> tuple[Source, ...]:
    """Return every module of the package, by name."""
    modules = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ("hftcl", *path.relative_to(PACKAGE).with_suffix("").parts)
        modules.append(read_source(path.read_text(encoding="utf-8"), ".".join(parts).removesuffix(".__init__")))
    return tuple(modules)
