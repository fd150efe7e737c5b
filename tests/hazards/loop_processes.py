"""`hftcl` as a process of its own, to be killed, starved of disk or raced: see test_loop_hazards, test_loop_inputs."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from hftcl.archive import artifact
from hftcl.archive.registry import Registry

HFTCL = str(Path(sys.executable).parent / "hftcl")
AS_OF = "2025-12-15"
QUICK_TOML = """\
[market]
watchlist = ["AAPL", "AMD"]
lookback_days = 46

[model]
n_estimators = 8

[promote]
min_sharpe = -100
tolerance = 0.99
min_p_better = 0
"""
"""Two synthetic tickers and eight trees; asked as of one day again and again, each candidate equals its champion and is
promoted, so that every retrain comes to the deployment."""

RETRAIN = ("retrain", "--force", "--json", "--as-of", AS_OF)
_MARK = "LC_HFTCL_CASE"  # the training process inherits LC_*, so that the mark is on it too
_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 24, 1, 2  # linux/prctl.h, linux/capability.h


@dataclass(frozen=True, slots=True)
class Case:
    """One process with all that it starts, found again by a mark in the environment."""

    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def start(
        self,
        home: Path,
        *arguments: str,
        preexec: Callable[[], None] | None = None,
        environment: Mapping[str, str] | None = None,
        output: tuple[IO[bytes], IO[bytes]] | None = None,
    ) -> "subprocess.Popen[str]":
        out, err = output or (subprocess.PIPE, subprocess.PIPE)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HFTCL_")}
        return subprocess.Popen(
            [HFTCL, *arguments],
            cwd=home,
            env={**kept, **(environment or {}), _MARK: self.mark},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            text=True,
            start_new_session=True,
            preexec_fn=preexec,
        )

    def alive(self) -> list[int]:
        """Return the ids of its processes that have not ended."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                environment = (folder / "environ").read_bytes()  # of a process that has ended, empty
            except OSError:
                continue
            if f"{_MARK}={self.mark}".encode() in environment.split(b"\0"):
                found.append(int(folder.name))
        return found

    def kill(self, process: "subprocess.Popen[str]", *, everything: bool) -> str:
        """Kill -9 the command alone, as a person does, or all its processes, as systemd does; return its stderr."""
        for pid in self.alive() if everything else [process.pid]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        return process.communicate(timeout=60)[1]

    def assert_nothing_survives(self, within_s: float = 3.0) -> None:
        deadline = time.monotonic() + within_s
        while survivors := self.alive():
            assert time.monotonic() < deadline, f"still there after {within_s} s: {survivors}"
            time.sleep(0.02)


def run(
    home: Path,
    *arguments: str,
    preexec: Callable[[], None] | None = None,
    environment: Mapping[str, str] | None = None,
) -> "subprocess.CompletedProcess[str]":
    process = Case().start(home, *arguments, preexec=preexec, environment=environment)
    out, err = process.communicate(timeout=300)
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def answer(home: Path, *arguments: str) -> Any:
    """Run a command with --json that must work; return its document."""
    done = run(home, *arguments, *(() if "--json" in arguments else ("--json",)))
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    return json.loads(done.stdout)


def one_line(done: "subprocess.CompletedProcess[str]") -> str:
    """Return the error as told: one line, or two, among the progress on stderr."""
    told = [line for line in done.stderr.splitlines() if line.startswith("hftcl: ")]
    assert 1 <= len(told) <= 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    return "\n".join(told)


def deploy_twice(home: Path) -> dict[str, Any]:
    """Make `home` one with cached bars and two deployed models; return the report of the second retrain."""
    home.mkdir(exist_ok=True)
    (home / "hftcl.toml").write_text(QUICK_TOML)
    reports: list[dict[str, Any]] = [answer(home, *RETRAIN) for _ in range(2)]
    assert [report["outcome"] for report in reports] == ["deployed", "deployed"], reports
    return reports[-1]


def left_behind(home: Path) -> list[Path]:
    """Return the temporary and claim files under `home`, and a journal of SQLite that holds a transaction cut off.

    One that is empty or begins with a zero byte holds none: its process was killed before the header was written, and
    SQLite ignores it and uses it up at the next change (see "hot journals" in its documentation of atomic commit).
    """
    return sorted(
        path
        for path in home.rglob("*")
        if path.suffix in {".tmp", ".claim"}
        or (path.name.endswith("-journal") and path.read_bytes()[:1] not in {b"", b"\0"})
    )


def contents(home: Path) -> dict[str, bytes]:
    """Return every file under `home` but the locks, whose bytes tell only who holds them."""
    return {str(p.relative_to(home)): p.read_bytes() for p in sorted(home.rglob("*")) if p.is_file()}


def assert_production_is_whole(home: Path) -> str:
    """Assert that production is a complete, registered model that predicts as when it was archived; return its id."""
    registry = Registry(home)
    production = registry.read_production()
    assert (production.state, production.model_id is None) == ("ok", False)
    record = registry.find(str(production.model_id))
    model = artifact.load(registry.production, expected_sha256=record.sha256)  # asks for the canary predictions too
    assert model.meta.model_id == record.model_id
    return record.model_id


def without_the_rights_of_root() -> None:
    """Give up what lets root write where the owner and the mode do not: for `preexec`; nothing for other users."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        for capability in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
            if libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0):
                raise OSError(ctypes.get_errno(), "prctl(PR_CAPBSET_DROP)")
