"""The least versions that pyproject.toml allows, installed and run: a floor that nobody runs is a guess."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parent.parent
INSTALL_S: Final = 1200  # 400 MB over a slow line
RUN_S: Final = 1800  # five minutes on two idle cores
CORE: Final = (
    "tests/model/test_forest.py",
    "tests/model/test_features.py",
    "tests/archive/test_artifact.py",
    "tests/market/test_bars.py",
    "tests/config/test_config.py",
    "tests/exam/test_verdict.py",
    "tests/learning/test_prove.py",
    "tests/alerts/test_mail.py",
    "tests/trading/test_alpaca.py",
)
"""What touches each library: trains, exports, serves, reads bars, parses settings, judges, sends, trades."""


def list_floors() -> list[str]:
    """Return each requirement of pyproject.toml, those of the tests too, at its least version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    return [re.sub(r">=", "==", text) for text in needed]


def test_each_dependency_names_a_floor_and_nothing_else() -> None:
    for text in list_floors():
        assert re.fullmatch(r"[a-z0-9-]+==[0-9.]+(; platform_machine == 'x86_64')?", text), text


@pytest.mark.slow
@pytest.mark.hazard(91)
def test_the_core_works_with_the_least_versions_that_are_allowed(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "-q", *list_floors()]
    done = subprocess.run(install, capture_output=True, text=True, check=False, timeout=INSTALL_S)
    if "No matching distribution" not in done.stderr and re.search(r"Connection|Max retries|timed out", done.stderr):
        pytest.skip("no package registry can be reached")
    assert done.returncode == 0, done.stderr[-2000:]
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", "-e", ROOT], check=True, timeout=INSTALL_S)
    run = subprocess.run(
        [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *CORE],
        cwd=ROOT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=RUN_S,
    )
    assert run.returncode == 0, run.stdout[-3000:]
