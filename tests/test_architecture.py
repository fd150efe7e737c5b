"""docs/architecture.md describes the tree as it is: every name in its picture exists, and every file stands in it.

And what the tree imports is what the project says that it needs.
"""

import ast
import re
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

from tests.package_text import PACKAGE, Source, list_sources, read_source

PAGE = Path(__file__).resolve().parents[1] / "docs" / "architecture.md"
INDENT = 2  # spaces in the picture for each folder that a name lies in
NAME = re.compile(r"[a-z0-9_]+(?:\.py|/)")


def read_picture(text: str) -> Iterator[Path]:
    """Yield each file and folder of the picture, relative to the package: the names that open its lines."""
    found = re.search(r"```text\nhftcl/\n(.*?)```", text, flags=re.DOTALL)
    assert found, "docs/architecture.md has no picture of hftcl/"
    folders: list[str] = []
    for line in found[1].splitlines():
        depth = (len(line) - len(line.lstrip())) // INDENT - 1
        del folders[depth:]
        for word in line.split():
            if not NAME.fullmatch(word):
                break
            yield Path(*folders, word)
            if word.endswith("/"):
                folders.append(word)


def list_tree() -> Iterator[Path]:
    """Yield each module and package of hftcl; the `__init__.py` of a folder is the folder."""
    for file in PACKAGE.rglob("*.py"):
        inside = file.relative_to(PACKAGE)
        yield inside.parent if inside.name == "__init__.py" and len(inside.parts) > 1 else inside


def test_every_name_in_the_picture_exists_and_stands_there_once() -> None:
    named = list(read_picture(PAGE.read_text()))
    assert [str(name) for name in named if not (PACKAGE / name).exists()] == []
    assert len(named) == len(set(named))


def test_every_module_of_the_package_stands_in_the_picture() -> None:
    missing = {str(path) for path in list_tree()} - {str(path) for path in read_picture(PAGE.read_text())}
    assert sorted(missing) == []


def test_a_picture_is_read_by_its_indentation() -> None:
    text = """```text
hftcl/
  model/           THE MIND
    families/      kinds
      forest.py    a forest
    grid.py
  a.py b.py
```"""
    assert [str(path) for path in read_picture(text)] == [
        "model",
        "model/families",
        "model/families/forest.py",
        "model/grid.py",
        "a.py",
        "b.py",
    ]


def list_imported(source: Source) -> Iterator[str]:
    """Yield the package of each import in `source` that is neither ours nor Python's own."""
    for node in source.nodes:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        yield from {name.partition(".")[0] for name in names} - {"hftcl", "_typeshed", *sys.stdlib_module_names}


def read_declared() -> set[str]:
    """Return the packages that an installation brings, without the tests' own."""
    project = tomllib.loads((PAGE.parents[1] / "pyproject.toml").read_text())["project"]
    extras = {name: lines for name, lines in project["optional-dependencies"].items() if name != "test"}
    lines = [*project["dependencies"], *(line for extra in extras.values() for line in extra)]
    return {re.split(r"[\[<>=!;~ ]", line)[0].lower().replace("_", "-") for line in lines}


def test_each_library_that_is_imported_is_declared() -> None:
    # What another dependency happens to bring is missing on the day when that one brings it no more.
    declared, owners = read_declared() | {"massive"}, packages_distributions()  # the new name of polygon-api-client
    assert len(declared) > 20
    undeclared = {
        f"{source.name}: {name}"
        for source in list_sources()
        for name in list_imported(source)
        if not declared & {owner.lower().replace("_", "-") for owner in owners.get(name, [name])}
    }
    assert sorted(undeclared) == []


def list_shared_names(sources: Iterable[Source]) -> dict[str, list[str]]:
    """Return by name the modules of each public class whose name stands in two; a section of settings is no second."""
    modules = defaultdict(list)
    for source in sources:
        if source.room != "settings":  # `settings.Edge` is what may be set of an `exam.edge.Edge`
            for node in source.nodes:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    modules[node.name].append(source.name)
    return {name: places for name, places in modules.items() if len(places) > 1}


def test_a_class_name_means_one_thing() -> None:
    assert list_shared_names(list_sources()) == {}
    twice = [read_source("class Look: ...", f"hftcl.{room}") for room in ("archive.looks", "settings.judging", "bot")]
    assert list_shared_names(twice) == {"Look": ["hftcl.archive.looks", "hftcl.bot"]}
