"""Every example runs: those of docstrings through doctest, those of --help through the real parser."""

import doctest
import re
import shlex
from datetime import timedelta
from importlib import import_module
from inspect import isfunction
from pathlib import Path

import pytest
from typer.main import get_command

import hftcl
from hftcl import ContinuousLearning, PerformanceTracker, contracts
from hftcl.api import continuous_learning, performance_tracker
from hftcl.cli.process import load_app
from hftcl.events import ignore
from hftcl.exam import metrics
from hftcl.home import Home
from tests.ledger.ledger_cases import write_ledger
from tests.loop_cases import NOW, first_retrain, small
from tests.trained import Homes

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


LENIENT: dict[str, object] = {"min_sharpe": -100, "tolerance": 0.99, "min_p_better": 0}  # an equal one is promoted
LATER = NOW + timedelta(hours=1)


def train_twice(home: Path) -> None:
    """Make `home` one with two models, of which the newer one serves."""
    first_retrain(home, promote=LENIENT)
    settings = small(home, promote=LENIENT)
    report = ContinuousLearning(settings, clock=lambda: LATER, on_event=ignore).retrain(force=True)
    assert report.outcome == "deployed", report.reason


def make_learner(homes: Homes, home: Path) -> dict[str, object]:
    """Return what the examples of the methods have: a loop in a home with two models."""
    homes.copy(home, train_twice)
    return {"learner": ContinuousLearning(small(home, promote=LENIENT), clock=lambda: LATER, on_event=ignore)}


def make_tracker(_: Homes, home: Path) -> dict[str, object]:
    """Return what the examples of the methods have: a home with the ledger of a month."""
    home.mkdir()
    write_ledger(Home(home).ledger)
    return {"tracker": PerformanceTracker(small(home))}


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name: str, homes: Homes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a home without a model
    make = {continuous_learning.__name__: make_learner, performance_tracker.__name__: make_tracker}.get(name)
    found = doctest.testmod(import_module(name), extraglobs=make(homes, tmp_path / "home") if make else {})
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


def test_what_the_page_on_python_imports_and_each_figure_of_merit_has_an_example() -> None:
    page = (PACKAGE.parent / "docs" / "python.md").read_text()
    lines = re.findall(r"^from (hftcl[\w.]*) import (.+)$", page, flags=re.MULTILINE)
    named = [getattr(import_module(module), name) for module, names in lines for name in names.split(", ")]
    figures = [each for each in vars(metrics).values() if isfunction(each) and each.__module__ == metrics.__name__]
    ours = [each for each in (*named, *figures) if callable(each) and not each.__name__.startswith("_")]
    assert len(ours) > 10
    assert [each.__qualname__ for each in ours if ">>> " not in (each.__doc__ or "")] == []


@pytest.mark.parametrize("kind", [ContinuousLearning, PerformanceTracker])
def test_each_public_method_has_an_example(kind: type) -> None:
    public = {name: member for name, member in vars(kind).items() if not name.startswith("_")}
    assert len(public) > 2
    assert [name for name, member in public.items() if f"{name}(" not in _list_calls(member) and name != "home"] == []


def _list_calls(member: object) -> str:
    examples = doctest.DocTestParser().get_examples(member.__doc__ or "")
    return "\n".join(example.source for example in examples)


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
