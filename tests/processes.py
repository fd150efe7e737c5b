"""Processes seen from outside: which live, what they started, and the wait for what another process brings about.

A signal, a written line or an end happens some time after it was asked for: on a loaded machine seconds later. A test
waits for it here and then asserts; the limit is far above what any machine needs, and only a fault meets it.
"""

import time
from collections.abc import Callable
from pathlib import Path

from tests.installed import PATIENCE_S

_FIRST_S, _LONGEST_S = 0.002, 0.05  # between looks: short at first, for what takes a moment; then hardly any of a core
_ENDED = frozenset("ZX")  # ended, and not waited for yet: see proc_pid_stat(5)


def lives(pid: int) -> bool:
    """Return whether a process runs; one that has ended and that nobody has waited for does not."""
    return _look_at(pid)[0] not in _ENDED


def _look_at(pid: int) -> tuple[str, int]:
    """Return the state and the parent of a process; ("X", 0) where there is none."""
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[:2]
    except OSError:  # also when it ends while we look
        return "X", 0
    return state, int(parent)


def wait_until(happens: Callable[[], object], what: str = "it", limit_s: float = PATIENCE_S) -> None:
    """Return once `happens()` is true; AssertionError, which names `what`, after `limit_s`."""
    ends, pause_s = time.monotonic() + limit_s, _FIRST_S
    while not happens():
        assert time.monotonic() < ends, f"{what} did not happen within {limit_s} s"
        time.sleep(pause_s)
        pause_s = min(1.5 * pause_s, _LONGEST_S)


def wait_until_ended(*pids: int, limit_s: float = PATIENCE_S) -> None:
    """Return once none of these processes runs; AssertionError, which names them, after `limit_s`."""
    wait_until(lambda: not any(map(lives, pids)), f"The end of each of {pids}", limit_s)


def wait_until_it_waits(pid: int) -> None:
    """Return once the main thread of a process sleeps, and has not been awake between two looks."""
    seen = [""]

    def sleeps_on() -> bool:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        seen.append("".join(line for line in lines if line.startswith(("State:", "voluntary_ctxt", "nonvoluntary"))))
        return "S (sleeping)" in seen[-1] and seen[-1] == seen[-2]

    wait_until(sleeps_on, f"The sleep of {pid}")


def children(parent: int) -> list[int]:
    """Return the processes whose parent is `parent`, those left out that have ended."""
    seen = ((int(folder.name), *_look_at(int(folder.name))) for folder in Path("/proc").glob("[0-9]*"))
    return [pid for pid, state, of in seen if of == parent and state not in _ENDED]


def find_trainers(parent: int) -> list[int]:
    """Return the processes in which `parent` trains; what else it keeps, as multiprocessing's tracker, is left out."""
    return [pid for pid in children(parent) if b"hftcl.model.trainer" in read_command(pid).split(b"\0")]


def read_command(pid: int) -> bytes:
    """Return the words of a process, b"" for one that has ended.

    Of one that is about to become another program, and so has none for a moment, those that it gets: a loaded machine
    may let it rest there (the kernel sets them after it has closed the file by which Popen learns that all went well).
    """
    found = [b""]

    def is_read() -> bool:
        try:
            found[0] = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:  # it ended while we looked
            return True
        return bool(found[0]) or not lives(pid)

    wait_until(is_read, f"The start of {pid}")
    return found[0]
