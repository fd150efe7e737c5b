"""The commands `explain`, `features` and `reproduce`: what they print and write, and their exit statuses."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.in_process import answer_here, call
from tests.installed import one_line
from tests.loop_cases import deploy_once
from tests.trained import Homes

KEYS = {"ticker", "ts", "features", "prediction", "contributions", "signal", "target", "code"}


@pytest.fixture(scope="module")
def trained(homes: Homes, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    home = tmp_path_factory.mktemp("why") / "home"
    report: dict[str, Any] = homes.copy(home, deploy_once)
    return home, report["model_id"]


def test_explain_answers_with_the_fields_of_the_contract(trained: tuple[Path, str]) -> None:
    home, model_id = trained
    document = answer_here(home, "explain", model_id, "--at", "AMD", "2025-12-15T10:30")
    assert document["model_id"] == model_id
    (row,) = document["rows"]
    assert row.keys() >= KEYS
    assert row["ts"] == "2025-12-15T15:30:00+00:00"
    assert row["base"] + sum(row["contributions"].values()) == pytest.approx(row["prediction"], abs=1e-5)


def test_a_pipe_gets_a_line_for_each_ticker_and_a_wrong_time_is_wrong_usage(trained: tuple[Path, str]) -> None:
    home, model_id = trained
    lines = call(home, "explain", model_id).stdout.splitlines()
    assert [line.split()[0] for line in lines[-2:]] == ["AAPL", "AMD"]
    wrong = call(home, "explain", model_id, "--at", "AMD", "noon")
    assert (wrong.returncode, "is no time" in one_line(wrong)) == (2, True)


def test_features_writes_its_page_beside_what_it_prints_and_refuses_a_folder_before_it_begins(
    trained: tuple[Path, str], tmp_path: Path
) -> None:
    home, model_id = trained
    file = tmp_path / "features.html"
    done = call(home, "features", "--as-of", "2025-12-15", "--html", str(file))
    assert done.returncode == 0, done.stderr
    assert str(file) in one_line(done)
    assert f"Weight: in the model that serves, {model_id}." in file.read_text()
    refused = call(home, "features", "--html", str(tmp_path))
    assert (refused.returncode, "is a folder" in one_line(refused), refused.stdout) == (2, True, "")


def test_reproduce_exits_3_where_a_script_asked_and_the_model_came_out_otherwise(
    trained: tuple[Path, str], tmp_path: Path
) -> None:
    home, model_id = trained
    same = answer_here(home, "reproduce", model_id, "--exit-code")
    assert (same["equal"], same["differences"]) == (True, [])
    other = Path(shutil.copytree(home, tmp_path / "other"))
    more = {"HFTCL_EXAM__EMBARGO_SESSIONS": "2"}
    assert call(other, "reproduce", model_id, **more).returncode == 0
    done = call(other, "reproduce", model_id, "--exit-code", **more)
    assert done.returncode == 3
    assert done.stdout.splitlines()[-1].startswith("DIFFERENT")
    assert call(other, "reproduce", "20200101_000000").returncode == 1
