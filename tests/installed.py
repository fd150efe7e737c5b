"""The installed command as a user starts it: a process of its own, in the clean environment that conftest.py made."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

HFTCL: Final = str(Path(sys.executable).parent / "hftcl")
PATIENCE_S: Final = 300  # an idle machine needs a tenth of it at most; a loaded one takes its time, and is not wrong


def run(home: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run `hftcl` in `home` to its end, with these variables in addition; nothing can be typed in."""
    return run_after(None, home, *arguments, **environment)


def run_after(
    preexec: Callable[[], None] | None, home: Path, *arguments: str, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Run `hftcl` as `run` does, in a process that calls `preexec` first: to lose rights, or to meet a full disk."""
    return subprocess.run(
        [HFTCL, *arguments],
        cwd=home,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
        preexec_fn=preexec,
    )


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
    return "\n".join(told)


def children(parent: int) -> list[int]:
    """Return the processes whose parent is `parent`, zombies left out."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, ppid = (folder / "stat").read_text().rpartition(") ")[2].split()[:2]
        except OSError:  # it ended while we looked
            continue
        if int(ppid) == parent and state != "Z":
            found.append(int(folder.name))
    return found


def find_trainers(parent: int) -> list[int]:
    """Return the processes in which `parent` trains; what else it keeps, as multiprocessing's tracker, is left out."""
    found = []
    for pid in children(parent):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:  # it ended while we looked
            continue
        if b"hftcl.model.trainer" in command:
            found.append(pid)
    return found
