"""What a Dask cluster costs on this machine, and how far it carries: real schedulers and workers, ratios of one run."""

import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from hftcl.compute.cluster import ClusterEngine
from tests.compute.processes import run_cluster
from tests.compute.test_cluster import WANTED, configured, task_of
from tests.installed import HFTCL

BACKTEST = ("backtest", "--from", "2025-06-02", "--to", "2025-08-28")
SLEEPS = 128  # eight for each of sixteen threads
SLEEP_S = 3.0  # less than a training of 66,000 rows and 200 trees takes on a core of its own


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
def test_sixteen_workers_do_the_work_of_many(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Tasks that sleep as long as they take: sixteen threads share what processor there is with nobody."""
    with run_cluster(tmp_path, workers=0) as cluster:
        for _ in range(4):
            cluster.start_worker("--nthreads", "4")
        engine: Any
        with ClusterEngine(configured(cluster.url)) as engine:
            while len(engine._client.nthreads()) < 4:
                time.sleep(0.1)
        with ClusterEngine(configured(cluster.url)) as engine:
            team = engine.gather(WANTED)
            began = time.monotonic()
            done = list(team.run([task_of(number, tmp_path, seconds=SLEEP_S) for number in range(SLEEPS)]))
            wall = time.monotonic() - began
    assert len(done) == SLEEPS
    with capsys.disabled():
        sys.stdout.write(f"\n{team.at_once} threads: {SLEEPS * SLEEP_S / wall:.1f} times one\n")
