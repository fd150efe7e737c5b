"""The whole loop, killed, starved of disk, forbidden to write, raced and tampered with. Real processes, real files."""

import contextlib
import itertools
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from hftcl.archive.registry import Registry
from hftcl.cli.invocation import now
from tests.archive.sample_models import archive_in
from tests.hazards.loop_processes import (
    Case,
    assert_production_is_whole,
    call_without_rights,
    contents,
    left_behind,
    without_the_rights_of_root,
)
from tests.in_process import answer_here, call
from tests.installed import HFTCL, PATIENCE_S, answer, give_calendar, one_line, run, run_after, says_nothing_but_why
from tests.loop_cases import AS_OF, FOREST_TOML, QUICK_TOML, RETRAIN, deploy_once
from tests.trained import Homes

pytestmark = pytest.mark.usefixtures("warm_trainers")

PRODUCTION = "trained_stock_model.onnx"


@pytest.fixture(scope="module")
def trained(warm_trainers: None, homes: Homes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a home with cached bars and two deployed models."""
    home = tmp_path_factory.mktemp("trained") / "home"
    homes.copy(home, deploy_once)
    assert answer_here(home, *RETRAIN)["outcome"] == "deployed"
    return home


@pytest.fixture
def home(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "home"))


# --- kill -9 ----------------------------------------------------------------------------------------------------------


class Killer:
    """Kills retrains and rollbacks of `home`, one after the other, at moments spread over all that they do.

    ask: runs each once, to see how long they take: from the start of a process, where any moment of it is met.
    """

    def __init__(self, home: Path, seed: int, ask: Callable[..., Any] = answer) -> None:
        self.home = home
        self.chance = random.Random(seed)  # noqa: S311
        began = time.monotonic()
        report = ask(home, *RETRAIN)
        self.retrain_s = time.monotonic() - began
        self.deploy_s = report["timings_s"]["deploy"]
        began = time.monotonic()
        ask(home, "rollback", "--yes")
        self.rollback_s = time.monotonic() - began
        self.met: Counter[str] = Counter()

    def kill(self, command: str, moment: str, share: float, *, everything: bool) -> None:
        """Start `command` and kill it: `share` of its way through, or at a moment of its change of the archive."""
        case = Case()
        arguments = RETRAIN if command == "retrain" else self._rollback()
        process = case.start(self.home, *arguments)
        if moment == "any":
            time.sleep(share * (self.retrain_s if command == "retrain" else self.rollback_s))
        elif command == "retrain":
            assert process.stderr is not None
            while not process.stderr.readline().startswith("deploy"):
                assert process.poll() is None
            time.sleep(share * 1.2 * self.deploy_s)
        else:
            journal = self.home / "models" / "registry.sqlite-journal"
            while process.poll() is None and not journal.exists():
                time.sleep(0)
            time.sleep(share * 0.02)
        ended = process.poll()
        case.kill(process, everything=everything)
        case.assert_nothing_survives()
        self.met["ended before" if ended is not None else f"{command}, {moment} moment"] += 1

    def _rollback(self) -> tuple[str, ...]:
        """Go back where there is a model before this one, else to another one."""
        registry = Registry(self.home)
        live = registry.find_live()
        if live is not None and live.parent is not None and self.chance.random() < 0.5:
            return "rollback", "--yes"
        others = [model.model_id for model in registry.list_models() if not model.is_deployed]
        return "rollback", self.chance.choice(others), "--yes", "--reason", "drill"

    def assert_goes_on(self) -> None:
        serving = assert_production_is_whole(self.home)
        rows = answer_here(self.home, "history")
        assert [row["model_id"] for row in rows if row["is_deployed"]] == [serving]
        self.met["repaired afterwards"] += bool(answer_here(self.home, "unpin")["repaired"])
        assert assert_production_is_whole(self.home) == serving
        assert left_behind(self.home) == []


def kill_and_go_on(home: Path, rounds: int, moments: Sequence[str] = ("any", "deploy")) -> Killer:
    """Kill retrain and rollback in each round, each at any moment and while it changes the archive."""
    killer = Killer(home, seed=rounds, ask=answer if "any" in moments else answer_here)
    for turn in range(rounds):
        for place, (command, moment) in enumerate(itertools.product(("retrain", "rollback"), moments)):
            share = (turn + killer.chance.random()) / rounds
            killer.kill(command, moment, share, everything=(turn + place) % 2 == 0)
            killer.assert_goes_on()
    assert answer_here(home, *RETRAIN)["outcome"] == "deployed"
    assert_production_is_whole(home)
    assert archive_in(home).verify_all() == ()
    assert left_behind(home) == []
    return killer


@pytest.mark.hazard(1)
@pytest.mark.hazard(7)
def test_killed_while_it_deploys_a_retrain_or_rollback_leaves_a_whole_model_and_the_next_one_works(home: Path) -> None:
    kill_and_go_on(home, rounds=1, moments=("deploy",))


@pytest.mark.slow
@pytest.mark.hazard(1)
def test_killed_at_a_hundred_random_moments_the_loop_goes_on(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    killer = kill_and_go_on(home, rounds=25)
    with capsys.disabled():
        sys.stdout.write(f"\n{dict(killer.met)}; a retrain takes {killer.retrain_s:.1f} s\n")
    assert killer.met["repaired afterwards"] >= 2, "else no kill met a deployment under way"


@pytest.mark.hazard(1)
def test_killed_while_it_first_collects_the_next_retrain_goes_on_where_it_was(tmp_path: Path) -> None:
    (tmp_path / "hftcl.toml").write_text(QUICK_TOML)
    case = Case()
    process = case.start(tmp_path, *RETRAIN)
    while not list(tmp_path.glob("bars/synthetic/*/*.parquet")):
        assert process.poll() is None
    case.kill(process, everything=False)
    assert answer_here(tmp_path, "history") == []
    assert answer_here(tmp_path, *RETRAIN)["outcome"] == "deployed"
    assert_production_is_whole(tmp_path)
    assert left_behind(tmp_path) == []


# --- disks ------------------------------------------------------------------------------------------------------------


def files_of_at_most(size: int) -> Callable[[], None]:
    """Return what limits each file of a process, for `preexec`: what is longer fails as on a full disk (EFBIG)."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Mount a file system of `size` at `folder`; skips the test where that is not allowed."""
    folder.mkdir()
    command = ["/bin/mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let a test mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["/bin/umount", "--lazy", folder], check=True)


def remount(folder: Path, option: str) -> None:
    subprocess.run(["/bin/mount", "-o", f"remount,{option}", folder], check=True)


def fill(folder: Path, *, leaving: int) -> Path:
    """Fill the disk of `folder` but for `leaving` bytes; return the file that does."""
    filler = folder / "filler"
    size = shutil.disk_usage(folder).free - leaving
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for _ in range(0, size, 4096):
            file.write(b"x" * 4096)
    return filler


def assert_fails_in_one_line(home: Path, *arguments: str, preexec: Callable[[], None] | None = None) -> str:
    """Assert exit 1, one line, the same model as before, no temporary file; return the line."""
    before = (home / PRODUCTION).read_bytes() if (home / PRODUCTION).exists() else None
    live = [row["model_id"] for row in answer_here(home, "history") if row["is_deployed"]]
    done = run_after(preexec, home, *arguments) if preexec else call(home, *arguments)
    assert done.returncode == 1, done.stderr
    assert says_nothing_but_why(done.stdout, 1)
    told = one_line(done)
    assert ((home / PRODUCTION).read_bytes() if before else None) == before
    assert [row["model_id"] for row in answer_here(home, "history") if row["is_deployed"]] == live
    assert [
        path for path in left_behind(home) if path.suffix != ".claim"
    ] == []  # claims are the next command's to free
    return told


@pytest.mark.hazard(2)
@pytest.mark.parametrize(
    ("arguments", "size", "what"),
    [
        pytest.param((*RETRAIN, "--lookback-days", "80"), 20_000, "bars of AAPL", marks=pytest.mark.slow),
        (RETRAIN, 300_000, "training rows"),
        pytest.param((*RETRAIN, "--param", "n_estimators=700"), 3_000_000, "model", marks=pytest.mark.slow),
        (("rollback", "--yes"), 60_000, PRODUCTION),
        (("unpin",), 4_096, "registry"),
    ],
    ids=["bars", "rows", "models", "production", "registry"],
)
def test_a_file_that_cannot_be_written_to_its_end_is_one_line_and_nothing_is_lost(
    home: Path, arguments: tuple[str, ...], size: int, what: str
) -> None:
    (home / "hftcl.toml").write_text(QUICK_TOML if what == "training rows" else FOREST_TOML)
    if arguments[0] == "rollback":  # to a forest, whose file is large enough not to fit
        answer_here(home, *RETRAIN)
        (home / "hftcl.toml").write_text(QUICK_TOML)
        answer_here(home, *RETRAIN)
    if arguments == ("unpin",):
        answer_here(home, "rollback", "--yes")
    assert what in assert_fails_in_one_line(home, *arguments, preexec=files_of_at_most(size))
    answer_here(home, *(RETRAIN if arguments[0] == "retrain" else arguments))
    assert_production_is_whole(home)


@pytest.mark.hazard(2)
@pytest.mark.hazard(14)
def test_a_disk_that_fills_while_bars_are_collected_is_one_line_and_the_next_retrain_works(tmp_path: Path) -> None:
    (tmp_path / "hftcl.toml").write_text(QUICK_TOML)
    with small_disk(tmp_path / "bars", "300k") as bars:
        assert "Free space there" in assert_fails_in_one_line(tmp_path, *RETRAIN)
        assert sorted(bars.glob("synthetic/*/*.parquet")), "what came before is kept"
        remount(bars, "size=64m")
        assert answer_here(tmp_path, *RETRAIN)["outcome"] == "deployed"
        assert_production_is_whole(tmp_path)
        assert left_behind(tmp_path) == []


@pytest.mark.hazard(2)
@pytest.mark.hazard(14)
@pytest.mark.parametrize("left", [*(pytest.param(left, marks=pytest.mark.slow) for left in (1_000_000, 8_192)), 0])
def test_a_full_disk_is_one_line_before_the_training_and_with_space_the_next_command_works(
    trained: Path, tmp_path: Path, left: int
) -> None:
    with small_disk(tmp_path / "small", "40m") as home:
        shutil.copytree(trained, home, dirs_exist_ok=True)
        filler = fill(home, leaving=left)
        done = call(home, *RETRAIN)
        assert (done.returncode, "fit" in done.stderr) == (1, False)
        assert "Free space there" in assert_fails_in_one_line(home, *RETRAIN)
        if left < 50_000:
            assert_fails_in_one_line(home, "rollback", "--yes")
        filler.unlink()
        assert answer_here(home, "rollback", "--yes")["rolled_back"] is True
        answer_here(home, "unpin")
        if left == 0:
            assert answer_here(home, *RETRAIN)["outcome"] == "deployed"
        assert_production_is_whole(home)
        assert left_behind(home) == []


# --- forbidden --------------------------------------------------------------------------------------------------------


def forbid(home: Path) -> None:
    """Let nobody but root write under `home`: it is a stranger's, or for the owner without the mode."""
    for path in (home, *home.rglob("*")):
        if os.geteuid() == 0:
            os.chown(path, 65534, 65534)
        path.chmod(0o555 if path.is_dir() else 0o444)


@pytest.mark.hazard(2)
def test_in_a_home_that_a_user_cannot_write_reading_works_and_changing_is_one_line(
    trained: Path, tmp_path: Path
) -> None:
    homes = [Path(shutil.copytree(trained, tmp_path / "with models")), tmp_path / "empty"]
    homes[1].mkdir()
    (homes[1] / "hftcl.toml").write_text(QUICK_TOML)
    for home in homes:
        give_calendar(home)
        forbid(home)
    try:
        before = [contents(home) for home in homes]
        calls = [(home, command) for home in homes for command in (*list_changing(home), *READING)]
        for (home, _), done in zip(calls, call_without_rights(calls), strict=True):
            assert_read_and_did_not_write(home, done, "set [paths] home")
        assert [contents(home) for home in homes] == before
    finally:
        for path in tmp_path.rglob("*"):  # so that pytest may remove it
            path.chmod(0o755)


@pytest.mark.hazard(2)
def test_on_a_disk_mounted_read_only_reading_works_and_changing_is_one_line(trained: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "40m") as home:
        shutil.copytree(trained, home, dirs_exist_ok=True)
        remount(home, "ro")
        for command in (*list_changing(home), *READING):
            assert_read_and_did_not_write(home, call(home, *command), "Mount that file system writable")
        remount(home, "rw")
        assert answer_here(home, "rollback", "--yes")["rolled_back"] is True


READING = (("history", "--json"), ("check", "--json", "--as-of", AS_OF))


def list_changing(home: Path) -> tuple[tuple[str, ...], ...]:
    """Return commands that change something; a home without a model has nothing to roll back, and says that."""
    return (RETRAIN, *([("rollback", "--yes")] if (home / PRODUCTION).exists() else []), ("unpin",))


def assert_read_and_did_not_write(home: Path, done: "subprocess.CompletedProcess[str]", remedy: str) -> None:
    if tuple(done.args[1:]) in READING:
        assert done.returncode == 0, (done.args, done.stderr)
        json.loads(done.stdout)
    else:
        assert done.returncode == 1, (done.args, done.stderr)
        assert says_nothing_but_why(done.stdout, 1)
        told = one_line(done)
        assert remedy in told
        assert str(home) in told


# --- races ------------------------------------------------------------------------------------------------------------


@pytest.mark.hazard(6)
def test_while_one_retrain_works_each_other_exits_75_in_one_line_and_only_the_one_is_archived(home: Path) -> None:
    before = {row["model_id"] for row in answer_here(home, "history")}
    case = Case()
    first = case.start(home, *RETRAIN)
    try:
        assert first.stderr is not None
        while not first.stderr.readline().startswith("fit"):
            assert first.poll() is None
        first.send_signal(signal.SIGSTOP)  # so that it is at work however long the others take
        refused = run(home, *RETRAIN)
        again = call(home, "retrain", "--force", "--as-of", AS_OF)
    finally:
        first.send_signal(signal.SIGCONT)
        out, err = first.communicate(timeout=PATIENCE_S)
    for done in (refused, again):
        assert done.returncode == 75, done.stderr
        assert done.stderr.count("\n") == 1, "it did nothing and said so in one line"
        assert done.stderr.startswith("hftcl: Another retrain has been running")
        assert str(first.pid) in done.stderr
    assert says_nothing_but_why(refused.stdout, 75)
    assert again.stdout == ""
    assert first.returncode == 0, err
    assert_archived_only(home, before, [json.loads(out)])
    case.assert_nothing_survives()


@pytest.mark.slow
@pytest.mark.hazard(6)
def test_of_three_retrains_at_once_one_works_at_a_time_and_the_others_exit_75(home: Path) -> None:
    (home / "hftcl.toml").write_text(FOREST_TOML)
    before = {row["model_id"] for row in answer_here(home, "history")}
    cases = [Case() for _ in range(3)]
    processes = [case.start(home, *RETRAIN, "--param", "n_estimators=150") for case in cases]
    spoken = [process.communicate(timeout=PATIENCE_S) for process in processes]
    codes = [process.returncode for process in processes]
    worked = [json.loads(out) for (out, _), code in zip(spoken, codes, strict=True) if code == 0]
    refused = [(out, err) for (out, err), code in zip(spoken, codes, strict=True) if code == 75]
    assert len(worked) + len(refused) == 3, (codes, spoken)
    assert worked
    assert refused
    for out, err in refused:
        assert says_nothing_but_why(out, 75)
        assert err.count("\n") == 1, "it did nothing and said so in one line"
        assert err.startswith("hftcl: Another retrain has been running")
    assert_archived_only(home, before, worked)
    for case in cases:
        case.assert_nothing_survives()


def assert_archived_only(home: Path, before: set[str], reports: Sequence[dict[str, Any]]) -> None:
    """Assert that since `before` the models of these reports came to the archive, and that it is whole."""
    after = {row["model_id"] for row in answer_here(home, "history")}
    assert after - before == {report["model_id"] for report in reports}
    assert_production_is_whole(home)
    assert archive_in(home).verify_all() == ()
    assert left_behind(home) == []


# --- production, by hand ----------------------------------------------------------------------------------------------


def _delete(home: Path) -> None:
    (home / PRODUCTION).unlink()


def _garbage(home: Path) -> None:
    (home / PRODUCTION).write_bytes(os.urandom(10_000))


def _half(home: Path) -> None:
    whole = (home / PRODUCTION).read_bytes()
    (home / PRODUCTION).write_bytes(whole[: len(whole) // 2])


def _link_into_nowhere(home: Path) -> None:
    (home / PRODUCTION).unlink()
    (home / PRODUCTION).symlink_to(home / "nowhere")


def _pipe(home: Path) -> None:
    (home / PRODUCTION).unlink()
    os.mkfifo(home / PRODUCTION)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_locks_of_another_user_and_what_he_alone_may_read_are_told_in_one_line(home: Path, tmp_path: Path) -> None:
    commands = [
        ("check", "--as-of", AS_OF),
        ("unpin",),
        ("rollback", "--yes"),
        ("trade", "--replay", AS_OF),
        ("trade", "--status"),
    ]
    calls = [(Path(shutil.copytree(home, tmp_path / "_".join(command))), command) for command in commands]
    for place, _ in calls:
        give_to_another_user(place)
    for done in call_without_rights(calls):
        assert "unexpected" not in done.stderr
        assert "Traceback" not in done.stderr
        if done.returncode:
            assert done.returncode == 1
            assert "Permission denied" in one_line(done)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_a_job_that_meets_locks_of_another_user_failed_and_says_why(home: Path) -> None:
    """The check is due five minutes ago: what is due by the usual times depends on the hour at which a test runs."""
    give_to_another_user(home)
    due = now() - timedelta(minutes=5)
    done = run_after(
        without_the_rights_of_root, home, "schedule", "--once", "--json",
        HFTCL_SCHEDULE__TIMEZONE="UTC", HFTCL_SCHEDULE__CHECK=f"{due:%H:%M}",
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    states = {record["job"]: (record["state"], record["outcome"]) for record in json.loads(done.stdout)}
    assert states["check"][0] == "failed"
    assert "Permission denied" in states["check"][1]


def give_to_another_user(home: Path) -> None:
    (home / "replay").mkdir()
    for name in (".lock", "models/.lock", "models/.training.lock", ".alerts.lock", "replay/.lock", "alerts.sqlite"):
        (home / name).touch()
        (home / name).chmod(0o600)
        os.chown(home / name, 65534, 65534)


@contextlib.contextmanager
def fail_where_it_waits() -> Iterator[None]:
    """Fail after `PATIENCE_S` what still waits in this thread: the signal cuts the call that opens a pipe."""

    def fail(*_: object) -> None:
        raise AssertionError("it waits")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(PATIENCE_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.hazard(88)
def test_a_pipe_in_place_of_any_kept_file_is_never_waited_for(home: Path) -> None:
    (month, *_) = sorted(path.relative_to(home) for path in (home / "bars").rglob("*.parquet"))
    check = ("check", "--as-of", AS_OF)
    for name, command in {
        ".configuration": check,
        ".calendar-XNYS": check,
        ".sessions.json": ("schedule", "--once"),
        ".alerts.lock": ("doctor", "--json"),
        ".lock": ("trade", "--status"),
        str(month.with_suffix(".json")): ("doctor", "--json"),
        str(month): RETRAIN,
    }.items():
        whole = (home / name).read_bytes() if (home / name).exists() else None
        (home / name).unlink(missing_ok=True)
        os.mkfifo(home / name)
        with fail_where_it_waits():  # this process knows the calendar, and reads none
            done = run(home, *command) if name == ".calendar-XNYS" else call(home, *command)
        assert "unexpected" not in done.stdout + done.stderr, (name, done.stderr)
        told = "is a pipe" in done.stdout + done.stderr
        assert (done.returncode == 0) or told, (name, done.stdout, done.stderr)
        (home / name).unlink()
        if whole is not None:
            (home / name).write_bytes(whole)


@pytest.mark.hazard(11)
@pytest.mark.parametrize(
    ("tamper", "command"),
    [
        (_delete, ("unpin", "--json")),
        pytest.param(_half, ("unpin", "--json"), marks=pytest.mark.slow),
        pytest.param(_link_into_nowhere, ("unpin", "--json"), marks=pytest.mark.slow),
        (_pipe, ("unpin", "--json")),
        (_garbage, ("rollback", "--yes", "--json")),
        (_garbage, RETRAIN),
    ],
)
def test_a_production_file_changed_by_hand_is_restored_by_the_next_command_that_changes_something(
    home: Path, tamper: Callable[[Path], None], command: tuple[str, ...]
) -> None:
    newest, oldest = answer_here(home, "history")
    tamper(home)
    tampered = contents(home)
    assert not any(row["is_deployed"] for row in answer_here(home, "history"))
    check = answer_here(home, "check", "--as-of", "2025-12-15")
    assert [trigger["fired"] for trigger in check["triggers"] if trigger["name"] == "no_model"] == [True]
    assert contents(home) == tampered, "what only reads mends nothing"
    report = answer_here(home, *command)
    assert any(PRODUCTION in note and newest["model_id"] in note for note in report["repaired"]), report["repaired"]
    serves = {"unpin": newest, "rollback": oldest}.get(command[0], report)
    assert assert_production_is_whole(home) == serves["model_id"]


@pytest.mark.hazard(11)
def test_an_older_model_copied_over_production_by_hand_serves_and_that_is_recorded(home: Path) -> None:
    newest, oldest = answer_here(home, "history")
    shutil.copy(home / "models" / f"model_{oldest['model_id']}.onnx", home / PRODUCTION)
    assert [row["is_deployed"] for row in answer_here(home, "history")] == [False, True]
    assert answer_here(home, "check", "--as-of", "2025-12-15")["live"] == oldest["model_id"]
    (note,) = [note for note in answer_here(home, "unpin")["repaired"] if PRODUCTION in note]
    assert "replaced by hand" in note
    assert assert_production_is_whole(home) == oldest["model_id"]
    served = {row["model_id"]: row["served"] for row in answer_here(home, "history")}
    assert len(served[oldest["model_id"]]) == 2
    assert served[newest["model_id"]][-1][1] is not None


@pytest.mark.hazard(11)
def test_a_production_file_and_its_archived_copy_both_gone_give_way_to_the_model_before(home: Path) -> None:
    newest, oldest = answer_here(home, "history")
    (home / PRODUCTION).unlink()
    (home / "models" / f"model_{newest['model_id']}.onnx").write_bytes(b"rotten")
    notes = answer_here(home, "unpin")["repaired"]
    assert any(oldest["model_id"] in note for note in notes), notes
    assert assert_production_is_whole(home) == oldest["model_id"]


def test_the_command_under_test_is_this_environment_s() -> None:
    assert Path(HFTCL).exists(), "install hftcl where pytest runs: pip install -e ."
