"""One owner for each rule: what the code says twice, and what one module alone may do.

Each looks at the syntax tree of the package, so a rule that is copied fails here though both copies are right today.
"""

import ast
import copy
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

import hftcl

PACKAGE = Path(hftcl.__file__).parent
FEWEST_NODES = 10  # of a syntax tree: what is shorter, such as `return self`, is no rule
FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef

# Equal, and each with its own reason to change.
ALIKE = frozenset({
    frozenset({"exam/simulation.py net", "exam/slices.py net"}),  # gross less cost: what net means, of two records
})  # fmt: skip


def read_trees(package: Path = PACKAGE) -> Iterator[tuple[str, ast.Module]]:
    """Yield each module by its path in the package, with its syntax tree."""
    for file in sorted(package.rglob("*.py")):
        yield file.relative_to(package).as_posix(), ast.parse(file.read_text())


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
    owners: dict[str, list[str]] = defaultdict(list)
    for module, tree in read_trees(package):
        for function in (node for node in ast.walk(tree) if isinstance(node, FUNCTION)):
            body = function.body[1:] if ast.get_docstring(function) else function.body
            if sum(1 for line in body for _ in ast.walk(line)) >= FEWEST_NODES:
                owners[normalise(function, body)].append(f"{module} {function.name}")
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


def find_calls(tree: ast.Module, name: str) -> Iterator[ast.Call]:
    """Yield each call of `name`, be it by itself or as an attribute."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and name in {getattr(node.func, "id", ""), getattr(node.func, "attr", "")}:
            yield node


def find_texts(tree: ast.Module) -> Iterator[str]:
    """Yield each text of the code, those inside f-strings too, without what is put into them."""
    yield from (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))


def find_formats(tree: ast.Module) -> Iterator[str]:
    """Yield each format of a value in an f-string, and each that `strftime` is given."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FormattedValue) and isinstance(node.format_spec, ast.JoinedStr):
            yield "".join(str(part.value) for part in node.format_spec.values if isinstance(part, ast.Constant))
    texts = find_named_texts(tree)
    for call in find_calls(tree, "strftime"):
        for argument in call.args:
            yield from find_texts(ast.Module([ast.Expr(argument)], []))
            yield from (
                texts[node.id] for node in ast.walk(argument) if isinstance(node, ast.Name) and node.id in texts
            )


def find_named_texts(tree: ast.Module) -> Mapping[str, str]:
    """Return the names that stand for a text in a module, with the text."""
    texts: dict[str, str] = {}
    for node in ast.walk(tree):
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


def connects(tree: ast.Module) -> bool:
    """Whether a module opens a database of SQLite by itself."""
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in imports for alias in node.names} | {getattr(node, "module", "") for node in imports}
    return "sqlite3" in names and any(find_calls(tree, "connect"))


RULES: Mapping[str, tuple[tuple[str, ...], Callable[[ast.Module], bool]]] = {
    "connects to SQLite": (("sqlite/",), connects),
    "asks SQLite for version, pages or a transaction": (
        ("sqlite/",),
        lambda tree: any(SQL.search(text) for text in find_texts(tree)),
    ),
    "makes a split": (("exam/split.py",), lambda tree: any(find_calls(tree, "ExamSplit"))),
    # errors.py lies below formats.py; the id of a model is its second
    "writes a time": (
        ("formats.py", "errors.py", "archive/records.py"),
        lambda tree: not TIMES.isdisjoint(find_formats(tree)),
    ),
}


def find_breaches(package: Path = PACKAGE) -> list[str]:
    """Return what a module does that another one owns."""
    return [
        f"{module} {what}"
        for module, tree in read_trees(package)
        for what, (owners, does) in RULES.items()
        if not module.startswith(owners) and does(tree)
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
