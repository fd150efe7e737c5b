"""What a Dask cluster costs on this machine, and how far it carries: real schedulers and workers, ratios of one run."""

import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.benchmarks.sleeping import EACH, SLEEP_S, measure_sleepers
from tests.installed import HFTCL

BACKTEST = ("backtest", "--from", "2025-06-02", "--to", "2025-08-28")


def measure(home: Path, toml: str) -> tuple[float, float]:
    """Return the seconds on the wall and of the processor, children included, of a backtest in a new home."""
    home.mkdir()
    (home / "hftcl.toml").write_text("[synthetic]\nedge = 1.0\n" + toml)
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run([HFTCL, "-q", *BACKTEST, "--json"], cwd=home, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.monotonic() - began, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.bench
def test_four_workers_of_this_machine_take_little_longer_than_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = []
    for number in range(2):  # alternating, for a machine is never idle
        here = measure(tmp_path / f"here_{number}", "")
        there = measure(tmp_path / f"there_{number}", '[compute]\nbackend = "dask"\njobs = 4\n')
        rows.append((there[0] / here[0], there[1] / here[1]))
        with capsys.disabled():
            sys.stdout.write(f"\nhere {here[0]:.0f} s, processor {here[1]:.0f} s; four workers {there[0]:.0f} s, ")
            sys.stdout.write(f"processor {there[1]:.0f} s; wall x {rows[-1][0]:.2f}, processor x {rows[-1][1]:.2f}\n")
    assert len(rows) == 2


@pytest.mark.bench
def test_sixteen_threads_do_the_work_of_many(capsys: pytest.CaptureFixture[str]) -> None:
    wall_s = measure_sleepers(16)
    with capsys.disabled():
        sys.stdout.write(f"\nsixteen threads: {16 * EACH * SLEEP_S / wall_s:.1f} times one\n")
    assert wall_s >= EACH * SLEEP_S
