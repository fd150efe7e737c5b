"""What a year of a ledger of 500 tickers costs: bytes a decision, the start, --status, the report."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.bench, pytest.mark.slow]
REPOSITORY = Path(__file__).parents[2]


def measure(home: Path, *what: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.benchmarks.ledger_years", str(home), *what]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    figures: dict[str, Any] = json.loads(done.stdout)
    print(figures)  # noqa: T201
    return figures


def test_a_year_of_500_tickers_is_started_and_reported_in_bounded_time_and_room(tmp_path: Path) -> None:
    built = measure(tmp_path, "build", "252")
    assert built["files_bytes"] / built["archived"] <= 6
    assert measure(tmp_path, "start")["cpu_s"] <= 2
    assert measure(tmp_path, "status")["cpu_s"] <= 2
    report = measure(tmp_path, "report")
    assert report["mb"] <= 1000
