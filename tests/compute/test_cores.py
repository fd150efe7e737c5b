"""How many cores are ours, as joblib counts them too, whose answer is asked beside ours."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from hftcl.compute.cores import count_usable_cores
from hftcl.compute.crew import count_cores
from hftcl.errors import ConfigError
from hftcl.settings import Compute, Settings

MACHINE = len(os.sched_getaffinity(0))
V1 = "sys/fs/cgroup/cpu"


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        pytest.param({}, MACHINE, id="no group"),
        pytest.param({"sys/fs/cgroup/cpu.max": "max 100000\n"}, MACHINE, id="no limit"),
        pytest.param({"sys/fs/cgroup/cpu.max": "100000 100000\n"}, 1, id="one core"),
        pytest.param({"sys/fs/cgroup/cpu.max": "20000 100000\n"}, 1, id="a fifth of one"),
        pytest.param({"sys/fs/cgroup/cpu.max": "110000 100000\n"}, min(2, MACHINE), id="one and a tenth"),
        pytest.param({"sys/fs/cgroup/cpu.max": "9900000 100000\n"}, MACHINE, id="more than there are"),
        pytest.param({f"{V1}/cpu.cfs_quota_us": "-1\n", f"{V1}/cpu.cfs_period_us": "100000\n"}, MACHINE, id="v1, none"),
        pytest.param({f"{V1}/cpu.cfs_quota_us": "90000\n", f"{V1}/cpu.cfs_period_us": "100000\n"}, 1, id="v1, one"),
    ],
)
def test_a_container_has_as_many_cores_as_its_limit_of_time_is_worth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: Mapping[str, str], cores: int
) -> None:
    for name in ("LOKY_MAX_CPU_COUNT", "JOBLIB_MULTIPROCESSING"):
        monkeypatch.delenv(name, raising=False)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert count_usable_cores(tmp_path) == cores


@pytest.mark.parametrize(
    ("limit", "several"), [(None, None), ("1", None), ("0", "1"), (" 1000 ", "2"), (None, "0"), ("1000", "0")]
)
def test_joblib_counts_as_many(limit: str | None, several: str | None) -> None:
    """In a process of its own: joblib reads one of the two when it is loaded."""
    asked = {"LOKY_MAX_CPU_COUNT": limit, "JOBLIB_MULTIPROCESSING": several}
    environment = {name: value for name, value in os.environ.items() if name not in asked}
    environment |= {name: value for name, value in asked.items() if value is not None}
    code = (
        "import joblib; from hftcl.compute.cores import count_usable_cores as ours; print(ours(), joblib.cpu_count())"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    ours, theirs = done.stdout.split()
    assert ours == theirs


@pytest.mark.parametrize("name", ["LOKY_MAX_CPU_COUNT", "JOBLIB_MULTIPROCESSING"])
@pytest.mark.parametrize("text", ["", "two", "1.5"])
def test_a_variable_that_is_no_number_is_named(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    monkeypatch.setenv(name, text)
    with pytest.raises(ConfigError, match=f"{name} in the environment is '{text}'"):
        count_usable_cores()


@pytest.mark.parametrize("name", ["LOKY_MAX_CPU_COUNT", "JOBLIB_MULTIPROCESSING"])
def test_it_is_named_too_where_the_settings_say_how_many_cores(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Scikit-learn loads joblib, which ends on it: not only after hours of training."""
    monkeypatch.setenv(name, "x")
    with pytest.raises(ConfigError, match=f"{name} in the environment is 'x'"):
        count_cores(Settings(compute=Compute(jobs=2)))


def test_a_process_that_may_run_on_one_core_has_one() -> None:
    code = (
        "import os, sys; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from hftcl.compute.cores import count_usable_cores\n"
        "print(count_usable_cores(), 'joblib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "False"]
