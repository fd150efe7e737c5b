"""The looks that are read without the library of options: they say what it would have said, and take nothing else."""

import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.main import get_command

from hftcl.cli import looks
from hftcl.cli.looks import find_look
from hftcl.cli.process import load_app, run
from hftcl.errors import HftclError
from tests.archive.sample_models import archive_in, deployed
from tests.ledger.ledger_cases import write_ledger

COMMANDS: Any = get_command(load_app()).commands  # type: ignore[attr-defined]
WORDS = ("--json", "--lineage", "--limit", "--status", "--preview", "--once", "--watch", "--live", "--limit=2")
NUMBERS = ("1", "3", "12", "9999", "10000", "10001", "0", "-1", "x", "", "٣", "1.5", "1e3", " 2", "+4")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    deployed(archive_in(tmp_path), 3)
    write_ledger(tmp_path / "ledger.sqlite")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    "line",
    [
        "history",
        "history --json",
        "history --limit 2 --json",
        "history --lineage",
        "trade --status",
        "trade --json --status",
        "schedule --preview 3",
        "schedule --json --preview 2",
    ],
)
def test_a_look_says_what_the_command_says(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    look = find_look(line.split())
    assert look is not None
    look()
    shown = capsys.readouterr()
    code = load_app()(args=line.split(), prog_name="hftcl", standalone_mode=False)
    assert (code, *capsys.readouterr()) == (None, *shown)
    assert len(shown.out) > 100


@given(
    command=st.sampled_from(["history", "trade", "schedule", "check"]),
    words=st.lists(st.sampled_from([*WORDS, *NUMBERS]), max_size=4),
)
def test_what_is_taken_for_a_look_means_the_same_to_the_library_of_options(command: str, words: list[str]) -> None:
    look = find_look([command, *words])
    if look is None:
        return
    assert isinstance(look, partial)
    (options,) = look.args
    context = COMMANDS[command].make_context(command, list(words))
    meant = {f"--{name.removeprefix('as_').replace('_', '-')}": value for name, value in context.params.items()}
    assert {name: int(value) for name, value in meant.items() if value not in (None, False)} == options
    assert command != "check"


@pytest.mark.parametrize(
    "line",
    ["", "history --limit", "history --limit 0", "history --json --json", "history extra", "trade", "trade --json",
     "trade --status --once", "trade --status --watch", "schedule", "schedule --json", "schedule --preview 3 --once",
     "schedule --preview 20000", "-v history", "--config hftcl.toml history", "history --help", "check --json"],
)  # fmt: skip
def test_whatever_else_is_asked_is_left_to_the_library_of_options(line: str) -> None:
    assert find_look(line.split()) is None


def test_a_look_that_fails_tells_why_and_what_to_do(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "hftcl.toml").write_text('[market]\nwatchlist = "none"\nlookback_days = "x"\n')
    look = find_look(["history"])
    assert look is not None
    with pytest.raises(HftclError, match="lookback_days"):
        look()
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("home")
def test_ctrl_c_ends_a_look_as_it_ends_each_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(_given: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    look = looks._LOOKS["history"]
    monkeypatch.setitem(looks._LOOKS, "history", type(look)(show=interrupt))
    monkeypatch.setattr("sys.argv", ["hftcl", "history"])
    with pytest.raises(SystemExit, match="130"):
        run()
    assert "interrupted" in capsys.readouterr().err
