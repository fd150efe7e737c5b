"""Every example runs: those of docstrings through doctest, those of --help through the real parser."""

import doctest
import shlex
from importlib import import_module
from pathlib import Path

import pytest
from typer.main import get_command

import hftcl
from hftcl.cli.process import load_app

PACKAGE = Path(hftcl.__file__).parent
MODULES = tuple(
    "hftcl." + ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
)
HEAD = "Example: hftcl "
COMMANDS = get_command(load_app()).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name: str) -> None:
    found = doctest.testmod(import_module(name))
    assert found.attempted > 0
    assert found.failed == 0


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_example_in_a_commands_help_is_one_that_it_understands(name: str) -> None:
    epilog = COMMANDS[name].epilog or ""
    assert epilog.startswith(HEAD + name)
    arguments = shlex.split(epilog.removeprefix(HEAD).partition(" > ")[0])
    context = COMMANDS[name].make_context(name, arguments[1:])
    assert context.command is COMMANDS[name]


def test_what_a_stranger_imports_has_an_example_and_there_are_many() -> None:
    named = {name: getattr(hftcl, name) for name in hftcl.__all__ if not name.startswith("_")}
    assert [name for name, thing in named.items() if ">>> " not in (thing.__doc__ or "")] == []
    finder = doctest.DocTestFinder(exclude_empty=True)
    in_docstrings = sum(
        bool(found.examples) for name in MODULES for found in finder.find(import_module(name), name.rpartition(".")[2])
    )
    assert in_docstrings + len(COMMANDS) >= 60
