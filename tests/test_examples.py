"""Every example runs: those of docstrings through doctest, those of --help through the real parser."""

import doctest
import shlex
from importlib import import_module

import pytest
from typer.main import get_command

from hftcl.cli.process import load_app

MODULES = (
    "hftcl.config.loading",
    "hftcl.config.suggest",
    "hftcl.config.tree",
    "hftcl.exam.metrics",
    "hftcl.formats",
    "hftcl.strategy.risk",
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
