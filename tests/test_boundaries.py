"""What the package decides by, draws from and imports, held by its text: types, not numbers, texts or circles."""

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import jinja2
from jinja2 import nodes

from hftcl.dashboard import pages
from tests.package_text import Source, list_sources, read_source


def list_sources_with(*texts: str) -> list[Source]:
    """Return the modules in which one of these texts stands: to walk through all would take seconds."""
    return [source for source in list_sources() if any(text in "\n".join(source.lines) for text in texts)]


# ---- control flow ----------------------------------------------------------------------------------------------------

ENDS_THE_PROCESS = "hftcl.cli.process"  # gives the number of an error to the shell, and decides nothing by it


def list_exit_numbers(source: Source) -> list[str]:
    """Return where the exit number of an error is read; a class's own, as `ConfigError.exit_code`, is a constant."""
    return [
        f"{source.name}:{node.lineno} {ast.unparse(node)}"
        for node in ast.walk(source.tree)
        if (isinstance(node, ast.Attribute) and node.attr == "exit_code" and not ast.unparse(node.value)[0].isupper())
        or (
            isinstance(node, ast.Call)
            and ast.unparse(node).startswith("getattr(")
            and "'exit_code'" in ast.unparse(node)
        )
    ]


def test_no_decision_is_made_by_an_exit_number() -> None:
    planted = read_source("if error.exit_code == 75: pass\ngetattr(e, 'exit_code', 1)\nConfigError.exit_code", "house")
    assert len(list_exit_numbers(planted)) == 2
    sources = [source for source in list_sources_with("exit_code") if source.name != ENDS_THE_PROCESS]
    assert [place for source in sources for place in list_exit_numbers(source)] == [], "catch it by its class"


JSON_KEY = re.compile(r'"\w+\\?" ?: ?(?!\{)')
SEARCHES = {"find", "index", "partition", "rpartition", "split", "search", "match", "findall", "count", "startswith"}


def list_json_searches(source: Source) -> list[str]:
    """Return where a key is looked for in the text of a JSON document: `in`, a method that searches, LIKE of SQL."""
    found: list[tuple[ast.AST, str]] = []
    for node in ast.walk(source.tree):
        texts: list[ast.expr] = []
        if isinstance(node, ast.Compare):
            texts = [node.left, *node.comparators]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in SEARCHES:
            texts = node.args
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and " LIKE " in node.value:
            texts = [node]
        found += [(text, ast.unparse(text)) for text in texts if _is_text(text)]
    return [f"{source.name}:{node.lineno} {text}" for node, text in found if JSON_KEY.search(text)]  # type: ignore[attr-defined]


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str | bytes))


def list_row_reports(source: Source) -> list[str]:
    """Return where a key is read of a `.report` that was stored, which `Judgement` decodes."""
    return [
        f"{source.name}:{node.lineno} {ast.unparse(node)}"
        for node in ast.walk(source.tree)
        if (isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith(".report"))
        or (isinstance(node, ast.Attribute) and node.attr == "get" and ast.unparse(node.value).endswith(".report"))
    ]


def test_what_is_stored_as_json_is_decoded_and_not_searched() -> None:
    planted = read_source(
        """
'"twin": "' in text
text.find(f'"twin":"{model_id}')
"SELECT * FROM models WHERE report LIKE '%\\"twin\\": \\"%'"
record.report.get("challenger")
record.report["edge"]
document(report)["edge"]
say('"a": 1')
""",
        "house",
    )
    assert (len(list_json_searches(planted)), len(list_row_reports(planted))) == (3, 2)
    quoted = list_sources_with("'\"", '\\"', '""""')
    assert [place for source in quoted for place in list_json_searches(source)] == []
    reading = list_sources_with(".report")
    assert [place for source in reading for place in list_row_reports(source)] == [], "record.judgement has it"


# ---- what is drawn ---------------------------------------------------------------------------------------------------

DRAWING = {"views", "pages", "cli"}


def list_any(source: Source) -> list[str]:
    """Return where `Any` is imported, named or written into an annotation, in whatever way."""
    return [
        f"{source.name}: {ast.unparse(node)}"
        for node in ast.walk(source.tree)
        if (isinstance(node, ast.Name) and node.id == "Any")
        or (isinstance(node, ast.Attribute) and node.attr == "Any")
        or (isinstance(node, ast.ImportFrom) and any(alias.name == "Any" for alias in node.names))
        or (
            isinstance(node, ast.Constant) and isinstance(node.value, str) and re.search(r"^\S*\bAny\b\S*$", node.value)
        )
    ]


def test_what_a_person_sees_is_drawn_from_values_whose_fields_mypy_knows() -> None:
    for text in ("from typing import Any as Thing", "a: typing.Any", "import typing as t\nb: t.Any", 'c: "list[Any]"'):
        assert list_any(read_source(text, "house")), text
    assert list_any(read_source('say("Any source will do.")', "house")) == []
    loose = [place for source in list_sources_with("Any") if source.room in DRAWING for place in list_any(source)]
    assert loose == [], "a field that is renamed would be an empty cell"


TEMPLATES = Path(pages.__file__).parent / "templates"


def list_attributes(template: str) -> set[str]:
    """Return the names that a template of the dashboard reads of values."""
    tree = jinja2.Environment(autoescape=True).parse(template)
    return {node.attr for node in tree.find_all(nodes.Getattr)}


def list_fields() -> set[str]:
    """Return the fields, properties and methods of all classes of the package."""
    members = (
        member
        for source in list_sources()
        for kind in source.tree.body
        if isinstance(kind, ast.ClassDef)
        for member in kind.body
    )
    names = set()
    for member in members:
        if isinstance(member, ast.FunctionDef):
            names.add(member.name)
        elif isinstance(member, ast.AnnAssign) and isinstance(member.target, ast.Name):
            names.add(member.target.id)
    return names


OF_JINJA = {"index", "index0", "first", "last"}  # of its own `loop`
OF_PYTHON = set(dir(dict)) | {"_replace"}  # of a NamedTuple
KEYS = {path.stem for path in (TEMPLATES / "parts").glob("*.html")} | {"part"}  # of mappings that `pages` builds


def test_no_template_reads_a_field_that_no_class_has() -> None:
    known = list_fields() | OF_JINJA | OF_PYTHON | KEYS
    templates = {path.name: path.read_text() for path in TEMPLATES.rglob("*.html")}
    assert len(templates) > 10
    unknown = {name: list_attributes(text) - known for name, text in templates.items()}
    assert {name: names for name, names in unknown.items() if names} == {}
    assert list_attributes("{{ report.no_such_field }}") - known == {"no_such_field"}


# ---- circles ---------------------------------------------------------------------------------------------------------


def list_imports(source: Source, modules: frozenset[str]) -> Iterator[str]:
    """Yield the modules that a module imports while it runs, also within its functions."""
    waiting: list[ast.AST] = [source.tree]
    while waiting:
        for node in ast.iter_child_nodes(waiting.pop()):
            if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
                waiting += node.orelse
                continue
            if isinstance(node, ast.expr):
                continue
            waiting.append(node)
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                named = [f"{node.module}.{alias.name}" for alias in node.names]
                names = [name if name in modules else str(node.module) for name in named]
            yield from (name for name in names if name in modules)


def find_circle(sources: tuple[Source, ...]) -> list[str]:
    """Return modules of which each imports the next, and the last one the first; empty where there are none."""
    modules = frozenset(source.name for source in sources)
    graph = {source.name: {*list_imports(source, modules)} for source in sources}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_modules_import_each_other_not_even_within_a_room() -> None:
    one = read_source("from hftcl.archive import two", "hftcl.archive.one")
    two = read_source("def work():\n    from hftcl.archive.three import x", "hftcl.archive.two")
    three = read_source("if TYPE_CHECKING:\n    from hftcl.archive.one import X", "hftcl.archive.three")
    back = read_source("import hftcl.archive.one", "hftcl.archive.three")
    assert find_circle((one, two, three)) == []
    assert set(find_circle((one, two, back))) == {one.name, two.name, back.name}
    assert find_circle(list_sources()) == []
