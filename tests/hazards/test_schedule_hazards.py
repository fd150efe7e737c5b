"""The scheduler as a process of its own: raced, stopped, killed, its training killed or hung. Hazards 41 to 48."""

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from hftcl.archive.registry import Registry
from hftcl.schedule.claims import OccurrenceRecord, Occurrences
from tests.hazards.loop_processes import Case, assert_production_is_whole, left_behind
from tests.in_process import call
from tests.installed import PATIENCE_S, run
from tests.processes import wait_until
from tests.schedule.schedule_homes import a_home

TREES: Final = 10_000
"""Of a training that is at work for as long as a test looks at it: minutes, were it let."""


def accounted(home: Path) -> list[OccurrenceRecord]:
    """Return what is accounted for since the first start."""
    return [each for each in Occurrences(home).list_known() if not str(each.outcome).startswith("before the scheduler")]


def wait_for(what: Callable[[], object], process: "subprocess.Popen[str]") -> None:
    """Return once `what()` is true; a scheduler that ends before that is a fault."""

    def happens() -> bool:
        if what():
            return True
        assert process.poll() is None, process.communicate()
        return False

    wait_until(happens)


def trainers(case: Case, scheduler: "subprocess.Popen[str]") -> list[int]:
    """Return the processes in which `scheduler` trains; not one that is only prepared while bars are collected."""
    return [pid for pid in case.alive() if pid != scheduler.pid and trains(Path(f"/proc/{pid}"))]


def trains(process: Path) -> bool:
    """Whether a process is a trainer that has been handed rows: it maps them from files that no folder lists."""
    try:
        return (
            b"hftcl.model.trainer" in (process / "cmdline").read_bytes()
            and "(deleted)" in (process / "maps").read_text()
        )
    except OSError:  # it ended while we looked
        return False


def _hear(receiver: socket.socket) -> Iterator[bytes]:
    """Yield what comes, until there is nothing for as long as the socket waits."""
    with contextlib.suppress(TimeoutError, BlockingIOError):
        while True:
            yield receiver.recv(1024)


def start_and_wait_until_it_trains(home: Path, case: Case, *arguments: str) -> "subprocess.Popen[str]":
    """Return a scheduler whose training has counted trees: what it tells systemd once the rows are handed over."""
    address = str(home / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(address)
        receiver.setblocking(False)
        process = case.start(home, "schedule", *arguments, environment={"NOTIFY_SOCKET": address})
        wait_for(lambda: trainers(case, process), process)
        list(_hear(receiver))  # what was told before
        for _ in range(2):  # the first may be the beginning of the fit
            wait_for(lambda: b"WATCHDOG=1" in _hear(receiver), process)
    Path(address).unlink()
    return process


@pytest.mark.hazard(41)
def test_of_two_schedulers_at_once_one_does_the_job(tmp_path: Path) -> None:
    home = a_home(tmp_path / "home", due="digest")
    processes = [Case().start(home, "schedule", "--once", "--json") for _ in range(2)]
    answers = [process.communicate(timeout=PATIENCE_S) for process in processes]
    assert [process.returncode for process in processes] == [0] * 2, answers
    did = [each for out, _ in answers for each in json.loads(out) if each["state"] == "done"]
    assert [each["job"] for each in did] == ["digest"]
    assert [(each.job, each.state) for each in accounted(home)] == [("digest", "done")]
    assert json.loads(call(home, "schedule", "--once", "--json").stdout) == [], "nor does a later one find it due"


@pytest.mark.hazard(45)
def test_a_stop_while_it_trains_ends_it_within_fifteen_seconds_and_the_retrain_runs_after_the_restart(
    tmp_path: Path,
) -> None:
    home = a_home(tmp_path / "home", due="retrain", trees=TREES)
    case = Case()
    process = start_and_wait_until_it_trains(home, case)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (0, ""), err
    assert "given back" in err
    case.assert_nothing_survives()
    assert accounted(home) == []
    assert Registry(home).list_models() == ()
    assert left_behind(home) == []
    done = call(home, "schedule", "--once", "--json", HFTCL_LIGHTGBM__N_ESTIMATORS="8")
    assert [(each["job"], each["state"]) for each in json.loads(done.stdout)] == [("retrain", "done")], done.stderr
    assert_production_is_whole(home)


@pytest.mark.hazard(45)
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_a_stop_in_the_middle_of_once_says_so_in_the_status(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    home = a_home(tmp_path / "home", trees=TREES)
    case = Case()
    process = start_and_wait_until_it_trains(home, case, "--once", "--json")
    assert process.stderr is not None
    said = ""
    while f"fit: 0 of {2 * TREES}\n" not in said:  # the trees that were asked for, in both fits: a loaded machine waits
        line = process.stderr.readline()
        assert line, said
        said += line
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, json.loads(out)["exit_status"]) == (status, status), said + err
    case.assert_nothing_survives()
    assert accounted(home) == []


@pytest.mark.hazard(42)
def test_work_whose_process_was_killed_is_told_as_interrupted_and_not_repeated(tmp_path: Path) -> None:
    told = tmp_path / "told"
    home = a_home(tmp_path / "home", trees=TREES, more=f"\n[alerts]\ncommand = {_writes_to(told)}\n")
    case = Case()
    process = start_and_wait_until_it_trains(home, case)
    case.kill(process, everything=False)
    case.assert_nothing_survives()
    assert [each.state for each in accounted(home)] == ["claimed"]
    done = call(home, "schedule", "--once", "--json")
    assert done.returncode == 1, done.stderr
    assert [each["state"] for each in json.loads(done.stdout)] == ["failed"]
    assert json.loads(told.read_text())["kind"] == "error"
    assert "interrupted" in json.loads(told.read_text())["subject"]
    assert Registry(home).list_models() == ()


def _writes_to(file: Path) -> str:
    """Return the setting of a command that keeps what it is told in `file`."""
    return json.dumps([sys.executable, "-c", f"import sys; open({str(file)!r}, 'w').write(sys.stdin.read())"])


@pytest.mark.hazard(46)
def test_a_trainer_that_the_kernel_kills_is_a_job_that_failed_and_is_told_and_the_scheduler_goes_on(
    tmp_path: Path,
) -> None:
    told = tmp_path / "told"
    home = a_home(tmp_path / "home", trees=TREES, more=f"\n[alerts]\ncommand = {_writes_to(told)}\n")
    case = Case()
    process = start_and_wait_until_it_trains(home, case)
    for pid in trainers(case, process):
        os.kill(pid, signal.SIGKILL)
    wait_for(told.exists, process)
    wait_for(lambda: told.read_text(), process)
    assert "lack of memory" in json.loads(told.read_text())["text"]
    assert [each.state for each in accounted(home)] == ["failed"]
    assert process.poll() is None, "the loop waits for the next job"
    process.terminate()
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0


@pytest.mark.hazard(46)
def test_a_trainer_that_hangs_is_ended_and_told(tmp_path: Path) -> None:
    home = a_home(tmp_path / "home", trees=TREES)
    case = Case()
    process = case.start(
        home, "schedule", "--once", "--json", environment={"HFTCL_COMPUTE__MAX_TRAINING_HOURS": "0.003"}
    )
    wait_for(lambda: trainers(case, process), process)
    for pid in trainers(case, process):
        os.kill(pid, signal.SIGSTOP)
    out, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert "did not end within 10.8 s and was stopped" in json.loads(out)[0]["outcome"]
    case.assert_nothing_survives()


@pytest.mark.hazard(47)
def test_systemd_hears_that_it_is_ready_that_training_gets_on_and_nothing_from_one_that_is_stuck(
    tmp_path: Path,
) -> None:
    home = a_home(tmp_path / "home", trees=TREES)
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(address)
        receiver.settimeout(PATIENCE_S)
        case = Case()
        process = case.start(home, "schedule", environment={"NOTIFY_SOCKET": address})
        said = receiver.recv(1024)
        assert said == b"READY=1"
        while receiver.recv(1024) != b"WATCHDOG=1":
            pass
        wait_for(lambda: trainers(case, process), process)
        for pid in trainers(case, process):
            os.kill(pid, signal.SIGSTOP)
        receiver.settimeout(2)
        said_after = list(itertools.islice(_hear(receiver), 100))  # what was on its way
        assert len(said_after) < 100, "a training that gets on says more"
        receiver.settimeout(PATIENCE_S)
        process.terminate()
        assert receiver.recv(1024) == b"STOPPING=1"
        process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0
    case.assert_nothing_survives()


@pytest.mark.hazard(48)
@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('check = "25:00"', "schedule.check"),
        ('check = "0 2 30 2 *"', "schedule.check"),
        ('retrain = "Xyz 01:00"', "schedule.retrain"),
        ('timezone = "America/New_Yrok"', "did you mean America/New_York?"),
    ],
)
def test_a_time_that_cannot_be_ends_it_with_the_status_that_is_not_restarted(
    tmp_path: Path, line: str, told: str
) -> None:
    (tmp_path / "hftcl.toml").write_text(f"[schedule]\n{line}\n")
    done = run(tmp_path, "schedule")
    assert done.returncode == 78
    assert told in done.stderr
    assert len(done.stderr.splitlines()) == 1
