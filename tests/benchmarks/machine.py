"""What figures depend on: the machine, the versions of libraries, and what other programs took of it meanwhile."""

import os
import platform
import resource
import shutil
import subprocess
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import numpy as np

import hftcl
from hftcl import __version__
from hftcl.compute.code_digest import hash_code
from tests.benchmarks.figures import Origin

LIBRARIES: Final = ("numpy", "polars", "pandas", "scikit-learn", "scikit-learn-intelex", "lightgbm", "onnxruntime")
COPIED_BYTES: Final = 256 << 20
"""Far more than any cache holds, so that its copy measures the memory."""
NOT_BUSY: Final = (3, 4)
"""Places in a line of /proc/stat, counted after its name: idle, and idle while a disk is waited for."""
COUNTED: Final = 8
"""Further numbers of that line are of virtual machines, and are in the first ones already."""


class Watch:
    """How much processor time other programs took since it was made."""

    def __init__(self) -> None:
        self.began, self.all, self.ours = time.monotonic(), self.read_all(), self.read_ours()

    @staticmethod
    def read_all() -> float:
        return count_busy_s(Path("/proc/stat").read_text(), os.sysconf("SC_CLK_TCK"))

    @staticmethod
    def read_ours() -> float:
        taken = [resource.getrusage(of) for of in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(one.ru_utime + one.ru_stime for one in taken)

    def count_others(self) -> float:
        """Return how many cores other programs kept busy, on average; ours are this process and its ended children."""
        passed = time.monotonic() - self.began
        return max(0.0, self.read_all() - self.all - (self.read_ours() - self.ours)) / passed


def count_busy_s(stat: str, ticks: int) -> float:
    """Return the seconds of processor time that all programs took, of the text of /proc/stat; `ticks` a second."""
    numbers = [int(one) for one in stat.splitlines()[0].split()[1 : 1 + COUNTED]]
    return sum(one for place, one in enumerate(numbers) if place not in NOT_BUSY) / ticks


def describe_machine() -> dict[str, str]:
    """Return what the figures depend on: cores, processor, memory, and how fast that is."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": str(len(os.sched_getaffinity(0))),
        "processor": names[0] if names else platform.machine(),
        "memory": f"{memory / 2**30:.0f} GiB, copied at {measure_bandwidth():.1f} GB/s",
        "Python": platform.python_version(),
        "Linux": platform.release(),
    }


def measure_bandwidth() -> float:
    """Return how fast one core copies memory, GB/s read and written, best of five."""
    source = np.ones(COPIED_BYTES, dtype=np.uint8)
    target, best = np.empty_like(source), 0.0
    for _ in range(5):
        began = time.perf_counter()
        np.copyto(target, source)
        best = max(best, 2 * COPIED_BYTES / (time.perf_counter() - began) / 1e9)
    return best


def list_libraries() -> dict[str, str]:
    """Return the versions of LIBRARIES that are installed."""
    return {name: found for name in LIBRARIES if (found := find_version(name))}


def find_version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def find_origin() -> Origin:
    """Return which hftcl is measured now."""
    now = datetime.fromtimestamp(time.time(), UTC)
    return Origin(code=hash_code()[:12], commit=find_commit(), version=__version__, at=f"{now:%Y-%m-%d %H:%M}")


def find_commit() -> str:
    """Return the commit that is checked out, with a plus where the package is another one; empty without git."""
    git, folder = shutil.which("git"), Path(hftcl.__file__).parent
    if git is None:
        return ""
    try:
        commit, changes = (
            subprocess.run([git, "-C", folder, *words], capture_output=True, text=True, check=True).stdout.strip()
            for words in (("rev-parse", "--short", "HEAD"), ("status", "--porcelain", "--", "."))
        )
    except subprocess.CalledProcessError:  # what is installed lies in no repository
        return ""
    return f"{commit}{'+' if changes else ''}"
