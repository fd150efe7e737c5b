"""The least versions that pyproject.toml allows, installed and run: a floor that nobody runs is a guess."""

import os
import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.packages import EXTRAS, PROJECT, ROOT, install, list_floors, make_environment

RUN_S: Final = 1800  # five minutes on two idle cores
CORE: Final = (
    "tests/model/test_forest.py",
    "tests/model/test_features.py",
    "tests/archive/test_artifact.py",
    "tests/test_arrow.py",
    "tests/market/test_frame_files.py",
    "tests/market/test_bars.py",
    "tests/config/test_config.py",
    "tests/exam/test_verdict.py",
    "tests/learning/test_prove.py",
    "tests/alerts/test_mail.py",
    "tests/trading/test_alpaca.py",
)
"""What touches each library: trains, exports, serves, reads and maps bars, parses settings, judges, sends, trades."""
FLOORS: Final = list_floors([*PROJECT["dependencies"], *EXTRAS["test"]])


def test_each_dependency_names_a_floor_and_nothing_else() -> None:
    for text in [*FLOORS, *list_floors(text for extra in EXTRAS.keys() - {"all"} for text in EXTRAS[extra])]:
        assert re.fullmatch(r"[a-z0-9-]+==[0-9.]+(; platform_machine == 'x86_64')?", text), text


@pytest.mark.slow
@pytest.mark.hazard(91)
def test_the_core_works_with_the_least_versions_that_are_allowed(tmp_path: Path) -> None:
    python = make_environment(tmp_path / "venv")
    install(python, *FLOORS)
    install(python, "--no-deps", "-e", ROOT)
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
