"""A command that a test runs within its own process says and does what it does in one of its own."""

from datetime import date
from pathlib import Path

import polars as pl
import pytest

from hftcl.market.sources import Question
from hftcl.market.sources.polygon_memory import REMEMBERED
from tests.in_process import as_if_alone, call
from tests.installed import run
from tests.loop_cases import SMALL_TOML


@pytest.mark.parametrize(
    "arguments",
    [
        ("history",),
        ("history", "--json"),
        ("check", "--json", "--exit-code", "--as-of", "2025-12-15"),
        ("rollback", "--yes"),
        ("retrian",),
        ("-h",),
        (),
    ],
    ids=lambda arguments: "_".join(arguments) or "none",
)
def test_it_says_the_same_with_the_same_status_and_leaves_the_same_files(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    said: list[tuple[int, str, str, list[str]]] = []
    for way in (run, call, call):
        home = tmp_path / f"{len(said)}"
        home.mkdir()
        (home / "hftcl.toml").write_text(SMALL_TOML)
        done = way(home, *arguments)
        out, err = (text.replace(str(home), "HOME") for text in (done.stdout, done.stderr))
        said.append((done.returncode, out, err, sorted(path.name for path in home.rglob("*"))))
    assert said[1] == said[0]
    assert said[2] == said[0], "nothing of the first is left"


def test_a_variable_is_given_and_taken_back(tmp_path: Path) -> None:
    (tmp_path / "hftcl.toml").write_text(SMALL_TOML)
    show = ("init", "--show", "--json")
    plain, other = call(tmp_path, *show), call(tmp_path, *show, HFTCL_MODEL__SEED="77")
    assert call(tmp_path, *show).stdout == plain.stdout != other.stdout
    assert "HFTCL_MODEL__SEED" in other.stdout


def test_what_a_service_answered_one_command_the_next_one_asks_again(tmp_path: Path) -> None:
    question = Question("AAPL", date(2025, 6, 2), date(2025, 6, 2))
    with as_if_alone(tmp_path, ["hftcl"], {}):
        REMEMBERED.put("here", question, pl.DataFrame({"close": [1.0]}), 0.0)
        assert REMEMBERED.has("here", question, 1.0)
    assert not REMEMBERED.has("here", question, 1.0)
