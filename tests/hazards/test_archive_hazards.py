"""The archive, killed, starved of disk, raced, rotted and lied to. Real processes, real files, real system calls."""

import contextlib
import csv
import dataclasses
import itertools
import os
import random
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Container
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from hftcl import durable
from hftcl.archive.export import make_safe
from hftcl.archive.record import read_all
from hftcl.archive.records import parse_model_id
from hftcl.archive.registry import compute_digest
from hftcl.errors import HftclError, IntegrityError, StorageError, UsageError
from tests.archive.sample_models import T0, a_model, added, archive_in, deployed, hash_only, onnx_bytes
from tests.hazards.archive_driver import NOW

LATER = T0 + timedelta(weeks=30)
DRIVER = [sys.executable, "-m", "tests.hazards.archive_driver"]
REPOSITORY = Path(__file__).resolve().parents[2]
STEADY = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"}
STRACE = shutil.which("strace")
needs_strace = pytest.mark.skipif(STRACE is None, reason="strace is not installed (apt-get install strace)")

CHANGING = (
    "openat", "write", "pwrite64", "fsync", "fdatasync", "rename", "unlink", "mkdir", "ftruncate", "fchmod", "flock",
)  # fmt: skip
MAY_FAIL = set(CHANGING) - {"flock"}
ERRORS = ("ENOSPC", "EIO", "EDQUOT", "EINTR")


def assert_whole(home: Path) -> None:
    """Production is a complete, registered model, or there has never been one; and the next commands work."""
    archive = archive_in(home)
    assert archive.read_production().state != "unknown"
    ever = bool(archive.list_deployments())
    archive.recover(LATER)
    live = archive.find_live()
    assert (live is not None) is ever
    if live is not None:
        hash_only(archive.production, live.sha256)
        assert archive.production.read_bytes() == onnx_bytes(live.model_id)
        assert archive.production_pkl.read_bytes() == b"pkl" + live.model_id.encode()
    assert archive.verify_all() == ()
    assert archive.recover(LATER) == ()
    assert [path for path in home.rglob(".*") if path.suffix in {".tmp", ".claim"}] == []
    archive.unpin(now=LATER)
    model_id = added(archive, LATER).model_id
    archive.deploy(model_id, now=LATER, reason="better")
    assert archive.find_live() == archive.find(model_id)


def assert_recorded_with_its_model(home: Path) -> None:
    """Both the model that a retrain archives and what that changed in the record are there, or neither is."""
    archive = archive_in(home)
    recorded = {row.model_id for row, _ in read_all(archive, synthetic=True)}
    assert recorded == {model.model_id for model in archive.list_models() if model.trained_at >= NOW}


def live_until_killed(home: Path, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    process = subprocess.Popen([*DRIVER, home, "live on"], cwd=REPOSITORY, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    time.sleep(chance.uniform(0, 0.15))
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.hazard(1)
def test_killed_at_random_moments_the_archive_is_whole_and_goes_on(tmp_path: Path) -> None:
    for seed in range(8):
        live_until_killed(tmp_path, seed)
        assert_whole(tmp_path)


@pytest.mark.slow
@pytest.mark.hazard(1)
def test_killed_at_three_hundred_random_moments_the_archive_is_whole_and_goes_on(tmp_path: Path) -> None:
    for seed in range(1_000, 1_300):
        live_until_killed(tmp_path, seed)
        assert_whole(tmp_path)


@dataclass(frozen=True, slots=True)
class Call:
    """The `when`-th call of one system call in a process, and what strace wrote about it."""

    name: str
    when: int
    line: str


def traced(home: Path, words: list[str], trace: Path, *injection: str) -> "subprocess.CompletedProcess[str]":
    assert STRACE is not None
    # Without it each call stops, not only those in question; but with it a process killed before a call does the call.
    quick = () if any("signal=KILL" in each for each in injection) else ("--seccomp-bpf",)
    command = [
        STRACE,
        "-f",
        *quick,
        "-y",
        "-s",
        "300",
        "-o",
        str(trace),
        "-e",
        f"trace={','.join(CHANGING)}",
        *injection,
    ]
    return subprocess.run(
        [*command, *DRIVER, home, *words], cwd=REPOSITORY, env=STEADY, capture_output=True, text=True, check=False
    )


def calls(home: Path, trace: Path) -> list[Call]:
    """Return the system calls in `trace` that create, change, name or lock something under `home`."""
    counts: Counter[str] = Counter()
    found = []
    for line in trace.read_text().splitlines():
        match = re.match(r"\d+ +(\w+)\(", line)
        if match is None:
            continue
        name = match[1]
        counts[name] += 1
        if str(home) in line and (name != "openat" or "O_CREAT" in line or "O_RDWR" in line):
            found.append(Call(name, counts[name], line))
    return found


COMMANDS = ("first", "deploy", "rollback", "add", "prune", "unpin", "retrain", "schedule")


def prepared(home: Path, command: str) -> list[str]:
    """Fill an empty `home` for `command`; return its words."""
    archive = archive_in(home)
    if command == "first":
        return ["deploy", added(archive).model_id]
    ids = deployed(archive, 3)
    if command == "unpin":
        archive.rollback(now=LATER)
    if command == "prune":
        added(archive, LATER, "rejected")
        added(archive, LATER, "rejected")
    if command == "deploy":
        return ["deploy", added(archive, LATER).model_id]
    assert len(ids) == 3
    return [command]


def every_fault(
    folder: Path, command: str, faults: tuple[str, ...], stride: int, names: Container[str] = CHANGING
) -> int:
    """Run `command` once for each of its system calls `names` with a fault there, "KILL" or an error; return how many.

    The faults take turns from one call to the next.
    """
    home, template = folder / "home", folder / "template"
    words = prepared(home, command)
    shutil.copytree(home, template)
    before = compute_digest(home / "trained_stock_model.onnx")
    assert traced(home, words, folder / "trace").returncode == 0
    after = compute_digest(home / "trained_stock_model.onnx")
    found = calls(home, folder / "trace")
    points = [each for each in found if each.name in names and (faults == ("KILL",) or each.name in MAY_FAIL)][::stride]
    for point, fault in zip(points, itertools.cycle(faults), strict=False):
        shutil.rmtree(home)
        shutil.copytree(template, home)
        what = "signal=KILL" if fault == "KILL" else f"error={fault}"
        injection = ("-e", f"inject={point.name}:{what}:when={point.when}")
        done = traced(home, words, folder / "injected", *injection)
        told = f"{command}: {what} at {point.line}\n{done.returncode} {done.stderr}"
        now = compute_digest(home / "trained_stock_model.onnx")
        if fault == "KILL":
            assert done.returncode in {-9, 137}, told
            assert now in {before, after}, told
        elif done.returncode == 0:
            assert now == after, told  # exit 0 must mean done
        else:
            assert now == before, told
            assert re.fullmatch(r"hftcl: [^\n]+\n", done.stderr), told
        try:
            if command == "retrain":  # the others archive models that change no record
                assert_recorded_with_its_model(home)
            assert_whole(home)
        except (AssertionError, HftclError) as error:
            raise AssertionError(told) from error
    return len(points)


@needs_strace
@pytest.mark.hazard(1)
def test_killed_before_some_system_calls_of_a_deploy_the_old_or_the_new_model_serves(tmp_path: Path) -> None:
    assert every_fault(tmp_path, "deploy", ("KILL",), stride=5) >= 8


@needs_strace
@pytest.mark.hazard(1)
def test_killed_before_any_commit_of_a_retrain_neither_its_model_nor_its_record_is_there_without_the_other(
    tmp_path: Path,
) -> None:
    commits = ("unlink",)  # of the journal: https://www.sqlite.org/atomiccommit.html, 3.11
    assert every_fault(tmp_path, "retrain", ("KILL",), stride=1, names=commits) >= 4


@needs_strace
@pytest.mark.hazard(2)
def test_when_some_system_calls_of_a_deploy_fail_the_old_model_serves_or_the_work_is_done(tmp_path: Path) -> None:
    assert every_fault(tmp_path, "deploy", ERRORS, stride=5) >= 8


@needs_strace
@pytest.mark.slow
@pytest.mark.hazard(1)
@pytest.mark.parametrize("command", COMMANDS)
def test_killed_before_any_system_call_the_old_or_the_new_model_serves(tmp_path: Path, command: str) -> None:
    assert every_fault(tmp_path, command, ("KILL",), stride=1) >= 30


@needs_strace
@pytest.mark.slow
@pytest.mark.hazard(2)
@pytest.mark.hazard(4)
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("command", COMMANDS)
def test_when_any_system_call_fails_the_old_model_serves_or_the_work_is_done(
    tmp_path: Path, command: str, error: str
) -> None:
    assert every_fault(tmp_path, command, (error,), stride=1) >= 25


@needs_strace
@pytest.mark.hazard(3)
@pytest.mark.parametrize("command", ["deploy", "add"])
def test_each_file_is_synced_before_its_rename_and_its_folder_after_it(tmp_path: Path, command: str) -> None:
    home = tmp_path / "home"
    words = prepared(home, command)
    assert traced(home, words, tmp_path / "trace").returncode == 0
    found = calls(home, tmp_path / "trace")
    renames = [number for number, each in enumerate(found) if each.name == "rename"]
    assert len(renames) >= 3
    for number in renames:
        match = re.search(r'rename\("([^"]+)", "([^"]+)"\)', found[number].line)
        assert match is not None
        source, folder = match[1], str(Path(match[2]).parent)
        touched = [each.name for each in found[:number] if f"<{source}>" in each.line]
        assert touched[-1] == "fsync", touched
        assert "write" in touched
        assert any(each.name == "fsync" and f"<{folder}>" in each.line for each in found[number + 1 :])


@needs_strace
@pytest.mark.hazard(4)
def test_a_sync_that_fails_is_not_tried_again_and_leaves_the_old_model_and_no_temporary_file(tmp_path: Path) -> None:
    home = tmp_path / "home"
    words = prepared(home, "deploy")
    shutil.copytree(home, tmp_path / "template")
    assert traced(home, words, tmp_path / "trace").returncode == 0
    syncs = [each for each in calls(home, tmp_path / "trace") if each.name == "fsync"]
    of_file = next(each for each in syncs if ".trained_stock_model.onnx." in each.line)
    of_folder = next(each for each in syncs if f"<{home}>" in each.line and each.when > of_file.when)
    for point in (of_file, of_folder):
        shutil.rmtree(home)
        shutil.copytree(tmp_path / "template", home)
        before = compute_digest(home / "trained_stock_model.onnx")
        done = traced(home, words, tmp_path / "injected", "-e", f"inject=fsync:error=EIO:when={point.when}")
        assert done.returncode == 1
        assert "dmesg" in done.stderr
        assert compute_digest(home / "trained_stock_model.onnx") == before
        assert list(home.glob(".*.tmp")) == []
        failed = next(each.line for each in calls(home, tmp_path / "injected") if "(INJECTED)" in each.line)
        descriptor = re.search(r"<([^>]+)>", failed)
        assert descriptor is not None
        same = [
            each for each in calls(home, tmp_path / "injected") if each.name == "fsync" and descriptor[0] in each.line
        ]
        assert same[-1].line == failed
        assert_whole(home)


@needs_strace
@pytest.mark.hazard(4)
def test_where_the_sync_fails_and_nothing_can_be_put_back_it_says_what_serves_now(tmp_path: Path) -> None:
    home = tmp_path / "home"
    words = prepared(home, "rollback")
    shutil.copytree(home, tmp_path / "template")
    assert traced(home, words, tmp_path / "trace").returncode == 0
    after = compute_digest(home / "trained_stock_model.onnx")
    shutil.rmtree(home)
    shutil.copytree(tmp_path / "template", home)
    of_file = next(
        each
        for each in calls(home, tmp_path / "trace")
        if each.name == "fsync" and ".trained_stock_model.onnx." in each.line
    )
    # From the sync of the folder on each one fails, as on a disk that has gone: nothing can be put back either.
    broken = ("-e", f"inject=fsync:error=EIO:when={of_file.when + 1}+")
    done = traced(home, words, tmp_path / "injected", *broken)
    assert (done.returncode, compute_digest(home / "trained_stock_model.onnx")) == (1, after)
    serving = archive_in(home).find_live()
    assert serving is not None
    assert f"Model {serving.model_id} serves now all the same" in done.stderr
    assert "run it again" not in done.stderr.partition("serves now")[2]
    assert_whole(home)


@pytest.mark.hazard(5)
@pytest.mark.parametrize("replacements", [200, pytest.param(2_000, marks=pytest.mark.slow)])
def test_readers_of_many_replacements_only_ever_meet_a_registered_model(tmp_path: Path, replacements: int) -> None:
    archive = archive_in(tmp_path)
    files = {onnx_bytes(each): each for each in deployed(archive, 5)}
    hashes = {each.sha256 for each in archive.list_models()}
    strange: list[str | None] = []
    states: Counter[str] = Counter()
    stop = threading.Event()

    def read() -> None:
        mine = archive_in(tmp_path)
        for turn in itertools.count():
            if stop.is_set():
                return
            found = compute_digest(archive.production)
            if found not in hashes:
                strange.append(found)
            if turn % 50 == 0:
                states[mine.read_production().state] += 1

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for data in itertools.islice(itertools.cycle(files), replacements):
        durable.write_temporary(archive.production, data).replace(archive.production)
    stop.set()
    for reader in readers:
        reader.join()
    assert strange == []
    assert set(states) == {"ok"}


@pytest.mark.hazard(5)
def test_readers_during_deployments_only_ever_meet_a_registered_model(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    a, b = deployed(archive, 2)
    strange: list[str] = []
    stop = threading.Event()

    def read() -> None:
        mine = archive_in(tmp_path)
        while not stop.is_set():
            state = mine.read_state()
            if state.live_id not in state.rows or state.intended_id != state.live_id:
                strange.append(f"{state.production} {state.intended_id}")

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for turn in range(30):
        archive.rollback(a if turn % 2 == 0 else b, now=LATER)
    stop.set()
    for reader in readers:
        reader.join()
    assert strange == []


@pytest.mark.hazard(6)
@pytest.mark.parametrize("many", [8, pytest.param(50, marks=pytest.mark.slow)])
def test_of_many_processes_that_deploy_at_once_one_wins_and_the_others_exit_75(tmp_path: Path, many: int) -> None:
    archive = archive_in(tmp_path)
    deployed(archive, 1)
    ids = [added(archive, LATER).model_id for _ in range(many)]
    racing = [
        subprocess.Popen(
            [*DRIVER, tmp_path, "compete", each],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for each in ids
    ]
    for process in racing:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in racing:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    told = [process.communicate()[1] for process in racing]
    codes = [process.returncode for process in racing]
    assert Counter(codes) == {0: 1, 75: many - 1}, told
    live = archive.find_live()
    assert live is not None
    assert live.model_id == ids[codes.index(0)]
    assert_whole(tmp_path)


@pytest.mark.hazard(10)
def test_a_flip_of_each_thousandth_byte_of_an_archived_file_is_refused(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    a, b = deployed(archive, 2)
    path = archive.locate_onnx(a)
    good = path.read_bytes()
    places = range(0, len(good), 1_000)
    for place in places:
        bad = bytearray(good)
        bad[place] ^= 1
        path.write_bytes(bad)
        with pytest.raises(IntegrityError, match=rf"{a}.*is not what was archived \(SHA-256 differs\)"):
            archive.rollback(now=LATER)
    path.write_bytes(good[:-1])
    with pytest.raises(IntegrityError, match="is not what was archived"):
        archive.rollback(now=LATER)
    assert len(places) == 5
    assert archive.production.read_bytes() == onnx_bytes(b)


@pytest.mark.hazard(14)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
def test_on_a_full_disk_the_old_model_serves_and_one_line_says_what_to_do(tmp_path: Path) -> None:
    home = tmp_path / "small"
    home.mkdir()
    mounted = subprocess.run(
        ["/bin/mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", home], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this machine does not let a test mount a file system")
    try:
        fill_a_small_disk(home)
    finally:
        subprocess.run(["/bin/umount", "--lazy", home], check=True)


def fill_a_small_disk(home: Path) -> None:
    archive = archive_in(home)
    (first,) = deployed(archive, 1)
    second = added(archive, LATER).model_id
    big = archive.claim_id(LATER)
    with pytest.raises(StorageError, match=r"needs \d+ MB, and .* MB free\. Free \d+ MB more"):
        archive.add(a_model(big), b"n" * 3_000_000, b"p" * 3_000_000, now=LATER)
    filler = os.open(home / "filler", os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        while os.write(filler, b"x" * 4096):
            pass
    os.close(filler)
    assert shutil.disk_usage(home).free < 4096
    for action in (
        lambda: archive.deploy(second, now=LATER, reason="better"),
        lambda: archive.record_attempt(LATER, kind="forced", outcome="failed", reason="full"),
    ):
        with pytest.raises(StorageError) as caught:
            action()
        assert "\n" not in str(caught.value)
    live = archive.find_live()
    assert live is not None
    assert live.model_id == first
    (home / "filler").unlink()
    assert_whole(home)


HOSTILE = (
    "../../x", "/etc/passwd", "CON", "NUL", "", " ", ".", "20260109_020000\n", "20260109_020000/../x", "x" * 10_000,
    "model_model_20260109_020000", "20260109-020000", "20260109_020000\x00", "٢٠٢٦٠١٠٩_٠٢٠٠٠٠", "２０２６0109_020000",  # noqa: RUF001
    "20260109_020000.onnx", "'; DROP TABLE models; --", "%2e%2e", "\x1b[31m20260109_020000",
)  # fmt: skip


@pytest.mark.hazard(60)
@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_model_id_is_refused_in_one_short_printable_line(tmp_path: Path, text: str) -> None:
    archive = archive_in(tmp_path / "home")
    deployed(archive, 1)
    actions = (
        lambda: parse_model_id(text),
        lambda: archive.find(text),
        lambda: archive.plan_rollback(text),
        lambda: archive.rollback(text, now=LATER, reason="r"),
        lambda: archive.deploy(text, now=LATER, reason="r"),
        lambda: archive.add(dataclasses.replace(a_model("20260105_020000"), model_id=text), b"o", b"p", now=LATER),
    )
    for action in actions:
        with pytest.raises(UsageError) as caught:
            action()
        assert caught.value.exit_code == 2
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 300
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


INJECTIONS = (
    "=cmd|'/C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "a\r\n20990101_000000,forged", "\x1b[2J", '"quoted", and more',
    "\t=1", " =1", "＝1",  # noqa: RUF001
)  # fmt: skip


@pytest.mark.hazard(61)
def test_no_cell_of_the_csv_is_run_by_a_spreadsheet_or_forges_a_row(tmp_path: Path) -> None:
    archive = archive_in(tmp_path)
    for text in INJECTIONS:
        added(archive, T0, "rejected", text)
    content = archive.csv.read_bytes().decode()
    assert len(content.splitlines()) == len(INJECTIONS) + 1
    assert "\x1b" not in content
    assert "\r" not in content
    with archive.csv.open(newline="", encoding="utf-8") as file:
        cells = [row["reason"] for row in csv.DictReader(file)]
    assert all(cell.lstrip()[0] not in "=+-@＝" for cell in cells)  # noqa: RUF001
    assert make_safe("plain, and true") == "plain, and true"
    assert [each.reason for each in reversed(archive.list_models())] == list(INJECTIONS)
