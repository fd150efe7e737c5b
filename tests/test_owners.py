"""One owner for each rule: what the code says twice, and what one module alone may do.

Each looks at the syntax tree of the package, so a rule that is copied fails here though both copies are right today.
"""

import ast
import copy
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from tests.package_text import PACKAGE, list_sources

FEWEST_NODES = 10  # of a syntax tree: what is shorter, such as `return self`, is no rule
FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef
Nodes = tuple[ast.AST, ...]
"""All that `ast.walk` finds in a module, or in a part of it."""

# Equal, and each with its own reason to change.
ALIKE = frozenset({
    frozenset({"exam/simulation.py net", "exam/slices.py net"}),  # gross less cost: what net means, of two records
})  # fmt: skip


def describe_shape(body: Sequence[ast.AST]) -> Iterator[object]:
    """Yield what `normalise` keeps of the nodes of a body and is had at once: what differs here is no copy."""
    typed = [node.annotation for node in body if isinstance(node, ast.AnnAssign | ast.arg) and node.annotation]
    left_out = {id(part) for annotation in typed for part in ast.walk(annotation)}
    for node in body:
        if isinstance(node, ast.AnnAssign):
            yield ast.Assign
        elif isinstance(node, ast.stmt):
            yield type(node)
        elif isinstance(node, ast.Attribute) and id(node) not in left_out:
            yield node.attr


class Renaming(ast.NodeTransformer):
    """Gives what a function calls its own, parameters and locals, the names of their places."""

    def __init__(self, function: FUNCTION) -> None:
        nodes = list(ast.walk(function))
        names = [node.arg for node in nodes if isinstance(node, ast.arg)]
        names += [node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
        names += [node.name for node in nodes if isinstance(node, ast.ExceptHandler) and node.name]
        self.places = {name: f"_{place}" for place, name in enumerate(dict.fromkeys(names))}

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name(id=self.places.get(node.id, node.id), ctx=node.ctx)

    def visit_arg(self, node: ast.arg) -> ast.arg:
        return ast.arg(arg=self.places.get(node.arg, node.arg))

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        return self.generic_visit(ast.Assign(targets=[node.target], value=node.value or ast.Constant(None)))

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.AST:
        node.name = self.places.get(node.name, node.name) if node.name else None
        return self.generic_visit(node)


def normalise(function: FUNCTION, body: list[ast.stmt]) -> str:
    """Return `body` as text that is equal for two functions which differ in the names of their own alone."""
    renaming = Renaming(function)
    return "\n".join(ast.dump(renaming.visit(copy.deepcopy(line))) for line in body)


def find_copies(package: Path = PACKAGE) -> list[list[str]]:
    """Return each set of functions in two modules or more whose bodies are equal."""
    alike: dict[tuple[object, ...], list[tuple[str, FUNCTION, list[ast.stmt]]]] = defaultdict(list)
    for source in list_sources(package):
        for function in (node for node in source.nodes if isinstance(node, FUNCTION)):
            body = function.body[1:] if ast.get_docstring(function) else function.body
            nodes = [node for line in body for node in ast.walk(line)]
            if len(nodes) >= FEWEST_NODES:
                alike[tuple(describe_shape(nodes))].append((source.path, function, body))
    owners: dict[str, list[str]] = defaultdict(list)
    for members in alike.values():
        if len({path for path, _, _ in members}) > 1:
            for path, function, body in members:
                owners[normalise(function, body)].append(f"{path} {function.name}")
    copies = [names for names in owners.values() if len({name.split()[0] for name in names}) > 1]
    return [names for names in copies if frozenset(names) not in ALIKE]


def test_no_two_modules_have_a_function_of_the_same_body() -> None:
    assert find_copies() == []


def test_a_copy_is_found_under_other_names_and_another_docstring(tmp_path: Path) -> None:
    text = "def {}({}: float) -> float:\n    '''{}'''\n    {} = {} * 2\n    return max({}, {} + 1)\n"
    (tmp_path / "one.py").write_text(text.format("widen", "x", "Say so.", "y", "x", "y", "x"))
    (tmp_path / "two.py").write_text(text.format("_grow", "of", "Or so.", "wide", "of", "wide", "of"))
    (tmp_path / "three.py").write_text(text.format("other", "x", "Another.", "y", "x", "x", "y"))
    assert find_copies(tmp_path) == [["one.py widen", "two.py _grow"]]


def find_calls(nodes: Nodes, name: str) -> Iterator[ast.Call]:
    """Yield each call of `name`, be it by itself or as an attribute."""
    for node in nodes:
        if isinstance(node, ast.Call) and name in {getattr(node.func, "id", ""), getattr(node.func, "attr", "")}:
            yield node


def find_texts(nodes: Nodes) -> Iterator[str]:
    """Yield each text of the code, those inside f-strings too, without what is put into them."""
    yield from (node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))


def find_formats(nodes: Nodes) -> Iterator[str]:
    """Yield each format of a value in an f-string, and each that `strftime` is given."""
    for node in nodes:
        if isinstance(node, ast.FormattedValue) and isinstance(node.format_spec, ast.JoinedStr):
            yield "".join(str(part.value) for part in node.format_spec.values if isinstance(part, ast.Constant))
    texts = find_named_texts(nodes)
    for call in find_calls(nodes, "strftime"):
        for argument in call.args:
            parts = tuple(ast.walk(argument))
            yield from find_texts(parts)
            yield from (texts[node.id] for node in parts if isinstance(node, ast.Name) and node.id in texts)


def find_named_texts(nodes: Nodes) -> Mapping[str, str]:
    """Return the names that stand for a text in a module, with the text."""
    texts: dict[str, str] = {}
    for node in nodes:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or not isinstance(node.value, ast.Constant):
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if isinstance(node.value.value, str):
            texts |= {target.id: node.value.value for target in targets if isinstance(target, ast.Name)}
    return texts


# "begin" and "commit" alone in small letters are names as well, such as that of a column.
SQL = re.compile(
    r"(?i:\b(?:user_version|integrity_check|quick_check)\b)"
    r"|^\s*(?:BEGIN|COMMIT)\b|^\s*(?i:begin\s+(?:deferred|immediate|exclusive|transaction)|commit\s+transaction)\b"
)
TIMES = frozenset({"%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%H:%M", "%H:%M:%S", "%Y%m%d_%H%M%S"})


def connects(nodes: Nodes) -> bool:
    """Whether a module opens a database of SQLite by itself."""
    imports = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in imports for alias in node.names} | {getattr(node, "module", "") for node in imports}
    return "sqlite3" in names and any(find_calls(nodes, "connect"))


RULES: Mapping[str, tuple[tuple[str, ...], Callable[[Nodes], bool]]] = {
    "connects to SQLite": (("sqlite/",), connects),
    "asks SQLite for version, pages or a transaction": (
        ("sqlite/",),
        lambda nodes: any(SQL.search(text) for text in find_texts(nodes)),
    ),
    "makes a split": (("exam/split.py",), lambda nodes: any(find_calls(nodes, "ExamSplit"))),
    # errors.py lies below formats.py; the id of a model is its second
    "writes a time": (
        ("formats.py", "errors.py", "archive/records.py"),
        lambda nodes: not TIMES.isdisjoint(find_formats(nodes)),
    ),
}


def find_breaches(package: Path = PACKAGE) -> list[str]:
    """Return what a module does that another one owns."""
    return [
        f"{source.path} {what}"
        for source in list_sources(package)
        for what, (owners, does) in RULES.items()
        if not source.path.startswith(owners) and does(source.nodes)
    ]


def test_what_one_module_owns_no_other_does() -> None:
    assert find_breaches() == []


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("import sqlite3\ndb = sqlite3.connect('a')\n", "connects to SQLite"),
        ("from sqlite3 import connect\ndb = connect('a')\n", "connects to SQLite"),
        ("db.execute('PRAGMA user_version')\n", "asks SQLite for version, pages or a transaction"),
        ("db.execute(f'PRAGMA {schema}.integrity_check(1)')\n", "asks SQLite for version, pages or a transaction"),
        ("db.execute('BEGIN IMMEDIATE')\n", "asks SQLite for version, pages or a transaction"),
        ("db.execute('begin immediate')\n", "asks SQLite for version, pages or a transaction"),
        ("db.execute('pragma User_Version')\n", "asks SQLite for version, pages or a transaction"),
        ("parts = split.ExamSplit(train=())\n", "makes a split"),
        ("text = f'{now:%Y-%m-%d %H:%M} UTC'\n", "writes a time"),
        ("text = now.strftime('%H:%M')\n", "writes a time"),
        ("_ID: Final = '%Y%m%d_%H%M%S'\ntext = now.strftime(_ID)\n", "writes a time"),
        ("def show(now):\n    form = '%H:%M'\n    return now.strftime(form)\n", "writes a time"),
    ],
    ids=[
        "connect",
        "connect by name",
        "version",
        "pages",
        "transaction",
        "small",
        "mixed",
        "split",
        "time",
        "strftime",
        "name",
        "local",
    ],
)
def test_a_planted_breach_is_found(tmp_path: Path, text: str, what: str) -> None:
    (tmp_path / "sqlite").mkdir()
    for module in ("room.py", "sqlite/opening.py", "formats.py"):
        (tmp_path / module).write_text(text)
    (tmp_path / "exam").mkdir()
    (tmp_path / "exam" / "split.py").write_text(text)
    assert f"room.py {what}" in find_breaches(tmp_path)
    assert not {f"{owner} {what}" for owner in RULES[what][0]} & set(find_breaches(tmp_path))
