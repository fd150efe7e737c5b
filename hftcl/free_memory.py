"""How much memory can still be taken, how many things fit into it, and how what was freed is given back."""

import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Final

LEFT_FREE: Final = 0.10
"""Of what is free, the part that stays so: this process grows as well, and other programs do."""

_NO_LIMIT: Final = 1 << 60  # version 1 of control groups writes a number near 2**63 for no limit


def read_free_bytes(root: Path = Path("/")) -> int | None:
    """Return how many bytes can still be taken before the kernel ends a process; None where it does not tell.

    The least of MemAvailable and of what the limit of each control group above this process leaves. root: "/", where
    proc and sys lie. Sources: proc(5); https://docs.kernel.org/admin-guide/cgroup-v2.html (memory.max, memory.current),
    https://docs.kernel.org/admin-guide/cgroup-v1/memory.html.
    """
    free = [room for folder in _list_groups(root) if (room := _read_room(folder)) is not None]
    meminfo = dict(line.split(":", 1) for line in _read_lines(root / "proc/meminfo"))
    if "MemAvailable" in meminfo:
        free.append(1024 * int(meminfo["MemAvailable"].split()[0]))
    return min(free, default=None)


def count_fitting(most: int, each_bytes: int, free: int | None) -> int:
    """Return how many of `most` things of so many bytes fit into what is free, at least one; all where that is unknown.

    >>> count_fitting(most=16, each_bytes=2_000, free=9_000)
    4
    """
    if free is None or not each_bytes:
        return most
    return max(1, min(most, int(free * (1 - LEFT_FREE) // each_bytes)))


def give_back() -> None:
    """Give the kernel what this process has freed: else the C library keeps what lies below a block that is in use.

    Takes milliseconds. Does nothing where the library has no way to say so: glibc has, musl has not.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _list_groups(root: Path) -> Iterator[Path]:
    """Yield the folder of each control group of memory that holds this process, up to the highest that is seen."""
    for line in _read_lines(root / "proc/self/cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        tops: tuple[Path, ...]
        if number == "0":
            tops = (root / "sys/fs/cgroup", root / "sys/fs/cgroup/unified")
        elif "memory" in controllers.split(","):
            tops = (root / "sys/fs/cgroup/memory",)
        else:
            continue
        for top in tops:
            place = top / path.lstrip("/")
            yield from (folder for folder in (place, *place.parents) if folder.is_relative_to(top))


def _read_room(folder: Path) -> int | None:
    """Return what the limit of a group leaves; what it holds of files that can be read again counts as free."""
    for most, used, files in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        limit, taken = (_read_number(folder / name) for name in (most, used))
        if limit is None or taken is None or limit >= _NO_LIMIT:
            continue
        shares = dict(line.split() for line in _read_lines(folder / "memory.stat"))
        return max(0, limit - taken + int(shares.get(files, 0)))
    return None


def _read_number(path: Path) -> int | None:
    text = "".join(_read_lines(path)).strip()
    return int(text) if text.isdigit() else None  # "max": no limit


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:  # a kernel without this file, or a container that hides it: then nothing is known from it
        return []
