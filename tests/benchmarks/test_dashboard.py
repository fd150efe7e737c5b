"""What the dashboard costs on a large ledger, CPU-s: `pytest -s -m bench tests/benchmarks/test_dashboard.py`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.dashboard.served import serving
from tests.installed import give_calendar

SESSIONS = int(os.environ.get("SESSIONS", "250"))  # a year; with fewer, the same lines in less time
FIRST_PAGE_S = 1.0
"""CPU from the start of the process to the first page, Python's own start included."""


def cpu_s(pid: int) -> float:
    """Return what a process has used so far, seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.bench
@pytest.mark.slow
def test_the_first_page_of_a_year_comes_within_a_second_of_the_processor(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    build = [sys.executable, "-m", "tests.benchmarks.ledger_years", str(tmp_path), "build", str(SESSIONS)]
    subprocess.run(build, cwd=Path(__file__).parents[2], check=True, capture_output=True)
    give_calendar(tmp_path)  # as any home has it that hftcl has worked in: to build one takes a second
    with serving(tmp_path) as page:
        page.get()
        first = cpu_s(page.process.pid)
        page.wait_for("/", lambda text: "Is being read" not in text)
        whole = cpu_s(page.process.pid)
    print(f"\nfirst page {first:.2f}, everything {whole:.1f} CPU-s, {SESSIONS} sessions of 500 tickers")  # noqa: T201
    assert first <= FIRST_PAGE_S
