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
    """One module of the package: its dotted name, its tree, its lines and its path in the package."""

    name: str
    tree: ast.Module
    nodes: tuple[ast.AST, ...] = field(repr=False)  # of `ast.walk(tree)`, which takes as long as parsing
    lines: tuple[str, ...] = field(default=(), repr=False)
    path: str = ""

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


def read_source(text: str, name: str, path: str = "") -> Source:
    """Return `text` as a module called `name`."""
    tree = ast.parse(text)
    return Source(name=name, tree=tree, nodes=tuple(ast.walk(tree)), lines=tuple(text.split("\n")), path=path)


def spell(node: ast.expr) -> str:
    """Return a name as it is written, with what it is an attribute of: "()" where that is no name itself.

    `ast.unparse` would take a hundred times as long, for each call of the package.
    """
    if isinstance(node, ast.Attribute):
        return f"{spell(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "()"


@cache
def list_sources(package: Path = PACKAGE) -> tuple[Source, ...]:
    """Return every module of the package, by name; of another folder as if it were the package."""
    modules = []
    for path in sorted(package.rglob("*.py")):
        place = path.relative_to(package)
        name = ".".join(("hftcl", *place.with_suffix("").parts)).removesuffix(".__init__")
        modules.append(read_source(path.read_text(encoding="utf-8"), name, place.as_posix()))
    return tuple(modules)
