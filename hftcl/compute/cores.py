"""How many processor cores are ours: of the machine those that affinity, container and user leave. Reads, no more.

As `joblib.cpu_count` counts them, which takes a tenth of a second to load; but that says 1 also where a machine has
no semaphores, which threads need not.
"""

import os
from math import ceil
from pathlib import Path

from hftcl.errors import ConfigError


def count_usable_cores(root: Path = Path("/")) -> int:
    """Return how many cores this process may use, at least 1.

    The least of its affinity, see sched_setaffinity(2), of what the container's limit of processor time comes to,
    rounded up, and of LOKY_MAX_CPU_COUNT, by which users limit joblib; 1 where JOBLIB_MULTIPROCESSING=0 lets joblib do
    one thing at a time. root: "/", where sys lies. Sources: https://joblib.readthedocs.io/en/stable/parallel.html,
    https://docs.kernel.org/admin-guide/cgroup-v2.html (cpu.max), https://docs.kernel.org/scheduler/sched-bwc.html.
    Raises ConfigError where one of the two variables is no whole number.
    """
    limits = [len(os.sched_getaffinity(0)), _read_limit(root / "sys/fs/cgroup"), _read_number("LOKY_MAX_CPU_COUNT")]
    if _read_number("JOBLIB_MULTIPROCESSING") == 0:
        return 1
    return max(1, min(limit for limit in limits if limit is not None))


def _read_number(name: str) -> int | None:
    """Return the number that a variable of the environment is set to; None where it is not set."""
    text = os.environ.get(name)
    try:
        return None if text is None else int(text)
    except ValueError:
        raise ConfigError(
            f"{name} in the environment is {text!r}, which is no whole number. Set it to one, or unset it."
        ) from None


def _read_limit(folder: Path) -> int | None:
    """Return the cores that the limit of a control group is worth; None where it has none."""
    quota, _, period = _read(folder / "cpu.max").partition(" ")  # "max 100000" is no limit
    if not period:
        quota, period = _read(folder / "cpu/cpu.cfs_quota_us"), _read(folder / "cpu/cpu.cfs_period_us")
    return ceil(int(quota) / int(period)) if quota.isdigit() and int(quota) and period.isdigit() else None  # -1: none


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:  # a kernel without this file, or a container that hides it: then there is no limit that is known
        return ""
