"""Schedulers and workers of a Dask cluster as a user starts them, with `dask` of the same environment."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.processes import lives, read_command

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 300
# Before a command whose work a test has to interrupt: on a loaded machine it gets a seventieth of the test's own share.
BEHIND = ("nice", "-n", "19")
# What a process of Dask notes down about itself takes a fortieth of a core while it has nothing to do: as often as
# `hftcl.compute.local_cluster` has its own do it.
_QUIET = {
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
    "DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL": "1s",
    "DASK_DISTRIBUTED__ADMIN__SYSTEM_MONITOR__INTERVAL": "10s",
}


@dataclass(slots=True)
class Cluster:
    """Processes of one test; what they say lies in `folder`."""

    folder: Path
    url: str = ""
    scheduler: "subprocess.Popen[bytes]" = field(init=False)
    workers: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def start(
        self, kind: str, given: Sequence[str], path: Sequence[Path], before: Sequence[str] = ()
    ) -> "subprocess.Popen[bytes]":
        paths = os.pathsep.join(map(str, (*path, ROOT)))
        with (self.folder / f"{kind}_{len(self.workers)}.log").open("wb") as log:
            return subprocess.Popen(
                [
                    *before,
                    sys.executable,
                    "-W",
                    "ignore",
                    "-m",
                    f"distributed.cli.dask_{kind}",
                    *given,
                    "--no-dashboard",
                ],
                cwd=self.folder,
                env={**os.environ, **_QUIET, "PYTHONPATH": paths},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def start_scheduler(self, *given: str, host: str = "tcp://127.0.0.1:0", path: Sequence[Path] = ()) -> None:
        file = self.folder / "scheduler.json"
        file.unlink(missing_ok=True)
        self.scheduler = self.start("scheduler", ("--host", host, "--scheduler-file", str(file), *given), path)
        self.url = wait_for_address(file)

    def start_worker(
        self, *given: str, path: Sequence[Path] = (), before: Sequence[str] = ()
    ) -> "subprocess.Popen[bytes]":
        limits = ("--nthreads", "1", "--memory-limit", "0", "--local-directory", str(self.folder))
        worker = self.start("worker", (self.url, "--no-nanny", *limits, *given), path, before)
        self.workers.append(worker)
        return worker

    def stop(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


def wait_for_address(file: Path) -> str:
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            return str(json.loads(file.read_text())["address"])
        except (OSError, ValueError):
            assert time.monotonic() < until, "the scheduler did not start"
            time.sleep(0.05)


def wait_for(folder: Path, pattern: str, number: int = 1) -> list[Path]:
    """Return the files of `folder` that match once there are so many."""
    until = time.monotonic() + PATIENCE_S
    while len(found := sorted(folder.glob(pattern))) < number:
        assert time.monotonic() < until, f"{len(found)} of {number} {pattern}"
        time.sleep(0.02)
    return found


def wait_until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < until, "never came true"
        time.sleep(0.02)


@contextmanager
def run_cluster(folder: Path, workers: int = 2) -> Iterator[Cluster]:
    cluster = Cluster(folder)
    try:
        cluster.start_scheduler()
        for _ in range(workers):
            cluster.start_worker()
        yield cluster
    finally:
        cluster.stop()


def list_descendants(pid: int) -> list[int]:
    """Return the numbers of the processes under `pid`."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found, fresh = [], [pid]
    while fresh:
        fresh = [child for child, parent in parents.items() if parent in fresh]
        found += fresh
    return found


def wait_until_ended(pids: list[int]) -> None:
    until = time.monotonic() + PATIENCE_S
    while left := [pid for pid in pids if lives(pid)]:
        assert time.monotonic() < until, left
        time.sleep(0.05)


def list_trainers(pid: int) -> list[int]:
    """Return the numbers of the training processes under `pid`."""
    return [child for child in list_descendants(pid) if b"hftcl.model.trainer" in read_command(child)]
