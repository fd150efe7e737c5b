"""`hftcl` as a process of its own, to be killed, starved of disk or raced: see test_loop_hazards, test_loop_inputs."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from hftcl.archive import artifact
from hftcl.archive.registry import Registry
from tests.installed import HFTCL, PATIENCE_S, give_calendar
from tests.processes import wait_until

_MARK = "LC_HFTCL_CASE"  # the training process inherits LC_*, so that the mark is on it too
_REPOSITORY = Path(__file__).resolve().parents[2]
_CALL_EACH = """
import json, sys
from pathlib import Path
from tests.in_process import call
asked = json.load(sys.stdin)
told = [call(Path(home), *arguments) for home, arguments in asked]
print(json.dumps([[done.returncode, done.stdout, done.stderr] for done in told]))
"""
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
        return subprocess.Popen(
            [HFTCL, *arguments],
            cwd=home,
            env={**os.environ, **(environment or {}), _MARK: self.mark},
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
        return process.communicate(timeout=PATIENCE_S)[1]

    def assert_nothing_survives(self, within_s: float = PATIENCE_S) -> None:
        wait_until(lambda: not self.alive(), "The end of all that it started", within_s)


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


def call_without_rights(calls: Sequence[tuple[Path, Sequence[str]]]) -> "list[subprocess.CompletedProcess[str]]":
    """Run each `hftcl` in its home, one after the other, all in one process without the rights of root."""
    for home, _ in calls:
        give_calendar(home)  # here, to whom nothing is forbidden
    done = subprocess.run(
        [sys.executable, "-c", _CALL_EACH],
        cwd=_REPOSITORY,
        input=json.dumps([(str(home), arguments) for home, arguments in calls]),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
        preexec_fn=without_the_rights_of_root,
    )
    assert done.returncode == 0, done.stderr
    return [
        subprocess.CompletedProcess(["hftcl", *arguments], *told)
        for (_, arguments), told in zip(calls, json.loads(done.stdout), strict=True)
    ]
