"""How much memory is free is read as the kernel tells it."""

import os
from pathlib import Path

import pytest

from hftcl.free_memory import read_free_bytes


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


MEMINFO = {"proc/meminfo": "MemTotal:  8000000 kB\nMemFree:  1000 kB\nMemAvailable:  4000000 kB\n"}
V2 = {**MEMINFO, "proc/self/cgroup": "0::/user/box\n"}
V1 = {**MEMINFO, "proc/self/cgroup": "4:memory:/box\n3:cpu:/\n0::/\n"}


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({}, None),
        (MEMINFO, 4_096_000_000),
        (
            {**V2, "sys/fs/cgroup/user/box/memory.max": "max\n", "sys/fs/cgroup/user/box/memory.current": "5\n"},
            4096 * 10**6,
        ),
        (
            {
                **V2,
                "sys/fs/cgroup/user/box/memory.max": "max\n",
                "sys/fs/cgroup/user/box/memory.current": "900000000\n",
                "sys/fs/cgroup/user/memory.max": "1000000000\n",  # a limit above counts as well
                "sys/fs/cgroup/user/memory.current": "900000000\n",
                "sys/fs/cgroup/user/memory.stat": "anon 5\ninactive_file 300000000\n",
            },
            400_000_000,
        ),
        (
            {
                **V1,
                "sys/fs/cgroup/memory/box/memory.limit_in_bytes": "2000000000\n",
                "sys/fs/cgroup/memory/box/memory.usage_in_bytes": "1500000000\n",
                "sys/fs/cgroup/memory/box/memory.stat": "inactive_file 7\ntotal_inactive_file 100000000\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "1500000000\n",
            },
            600_000_000,
        ),
    ],
    ids=["nothing", "meminfo", "without_limit", "version_2", "version_1"],
)
def test_what_is_free_is_the_least_that_the_system_and_any_control_group_leave(
    tmp_path: Path, files: dict[str, str], free: int | None
) -> None:
    assert read_free_bytes(write(tmp_path, files)) == free


def test_this_system_tells_what_is_free() -> None:
    free = read_free_bytes()
    assert free is not None
    assert 0 < free <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
