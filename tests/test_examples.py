"""Every example runs: those of docstrings through doctest, those of --help through the real parser."""

import doctest
import shlex
from importlib import import_module
from pathlib import Path

import pytest
from typer.main import get_command

import hftcl
from hftcl import contracts
from hftcl.cli.process import load_app

PACKAGE = Path(hftcl.__file__).parent
MODULES = sorted(
    ".".join(("hftcl", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if ">>>" in path.read_text()
)
pytestmark = pytest.mark.usefixtures("warm_trainers")

LEAST = 60  # functions and classes with an example, and commands
HEAD = "Example: hftcl "
COMMANDS = get_command(load_app()).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a home without a model
    found = doctest.testmod(import_module(name))
    assert found.attempted > 0
    assert found.failed == 0


def test_no_example_leaves_its_value_out() -> None:
    finder = doctest.DocTestFinder()
    shown = [
        example
        for name in MODULES
        for part in finder.find(import_module(name), name)
        for example in part.examples
        if example.want
    ]
    assert [example.source for example in shown if "..." in example.want] == []


@pytest.mark.parametrize("name", [name for name in hftcl.__all__ if name != "__version__"])
def test_each_public_class_has_an_example(name: str) -> None:
    assert ">>> " in (getattr(hftcl, name).__doc__ or "")


@pytest.mark.parametrize("name", [name for name in contracts.__all__ if name.startswith("check_")])
def test_each_check_of_a_plug_in_has_an_example(name: str) -> None:
    assert ">>> " in (getattr(contracts, name).__doc__ or "")


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_example_in_a_commands_help_is_one_that_it_understands(name: str) -> None:
    epilog = COMMANDS[name].epilog or ""
    assert epilog.startswith(HEAD + name)
    arguments = shlex.split(epilog.removeprefix(HEAD).partition(" > ")[0])
    context = COMMANDS[name].make_context(name, arguments[1:])
    assert context.command is COMMANDS[name]


def test_there_are_many_functions_and_classes_with_an_example() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    in_docstrings = sum(
        bool(found.examples) for name in MODULES for found in finder.find(import_module(name), name.rpartition(".")[2])
    )
    assert in_docstrings + len(COMMANDS) >= LEAST
