"""Files are whole and locks are free, whatever is killed, full or failing."""

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hftcl import durable
from hftcl.errors import LockHeldError, StorageError
from tests.installed import PATIENCE_S
from tests.processes import lives

HOLDER = """
import subprocess, sys, time
from pathlib import Path
from hftcl import durable
with durable.lock(Path(sys.argv[1]), "retrain"):
    if sys.argv[2] == "child":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], close_fds=False)
        print(child.pid, flush=True)
    else:
        print("held", flush=True)
    time.sleep(600)
"""


def holding(path: Path, how: str = "alone") -> "tuple[subprocess.Popen[str], str]":
    """Start a process that holds the lock `path`; return it and the line that it said once it did."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, path, how], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    process.stdout.close()
    return process, line


def test_a_written_file_holds_the_data_and_can_be_read_by_another_user(tmp_path: Path) -> None:
    durable.write_atomically(tmp_path / "model.onnx", b"new")
    assert (tmp_path / "model.onnx").read_bytes() == b"new"
    assert (tmp_path / "model.onnx").stat().st_mode & 0o777 == 0o644
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.onnx"]


def test_a_secret_file_keeps_the_mode_that_was_asked_for(tmp_path: Path) -> None:
    durable.write_atomically(tmp_path / "key", b"k", mode=0o600)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_a_reader_meets_the_old_file_or_the_new_one_and_never_a_part(tmp_path: Path) -> None:
    path = tmp_path / "bars"
    versions = [bytes([n]) * 200_000 for n in range(2)]
    durable.write_atomically(path, versions[0])
    torn: list[int] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            if path.read_bytes() not in versions:
                torn.append(1)

    reader = threading.Thread(target=read)
    reader.start()
    for n in range(200):
        durable.write_atomically(path, versions[n % 2])
    stop.set()
    reader.join()
    assert torn == []


def test_a_write_beyond_the_size_limit_leaves_the_old_file_and_no_temporary_one(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    durable.write_atomically(path, b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            durable.write_atomically(path, b"n" * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["model.onnx"]  # noqa: PTH208 - with the hidden ones, as names


def test_a_target_that_is_a_folder_fails_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "model.onnx" / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        durable.write_atomically(tmp_path / "model.onnx", b"new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.onnx"]


def test_files_that_are_written_together_are_all_new_with_one_look_at_the_disk(tmp_path: Path) -> None:
    files = [(tmp_path / f"2026-0{n}.parquet", bytes([n]) * 1000) for n in range(1, 4)]
    files[0][0].write_bytes(b"old")
    durable.write_together(files)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {path.name: data for path, data in files}
    assert all(path.stat().st_mode & 0o777 == 0o644 for path, _ in files)


def test_of_files_that_are_written_together_one_that_cannot_be_written_leaves_all_as_they_were(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(FileNotFoundError):
        durable.write_together([(tmp_path / "a", b"new"), (tmp_path / "missing" / "b", b"new")])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"old"}


def test_sweeping_deletes_what_a_killed_write_left_and_nothing_else(tmp_path: Path) -> None:
    left = durable.write_temporary(tmp_path / "2026-01.parquet", b"half")
    others = ["2026-01.parquet", ".2026-01.json.tmp", ".notes.a.tmp", "x.2026-01.parquet.a.tmp", ".lock"]
    for name in others:
        (tmp_path / name).touch()
    assert durable.sweep_temporary(tmp_path, ["*.parquet"]) == (left,)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted(others)
    assert durable.sweep_temporary(tmp_path / "absent", ["*"]) == ()


def test_a_folder_is_made_with_its_parents_and_left_alone_when_it_is_there(tmp_path: Path) -> None:
    durable.make_folder(tmp_path / "a" / "b")
    durable.make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_a_held_lock_names_the_work_the_process_and_the_time_of_its_beginning(tmp_path: Path) -> None:
    before = datetime.fromtimestamp(time.time(), UTC)
    with (
        durable.lock(tmp_path / "lock", "retrain"),
        pytest.raises(LockHeldError) as caught,
        durable.lock(tmp_path / "lock", "retrain"),
    ):
        pytest.fail("two hold one lock")
    assert caught.value.exit_code == 75
    assert f"Another retrain has been running since {before:%Y-%m-%d}" in str(caught.value)
    assert f"(process {os.getpid()})" in str(caught.value)


def test_a_released_lock_names_nobody_and_can_be_taken_again(tmp_path: Path) -> None:
    for _ in range(3):
        with durable.lock(tmp_path / "lock", "retrain"):
            assert int((tmp_path / "lock").read_text()) == os.getpid()
        assert (tmp_path / "lock").read_bytes() == b""


def test_a_lock_is_released_when_the_work_fails(tmp_path: Path) -> None:
    with pytest.raises(KeyError), durable.lock(tmp_path / "lock", "retrain"):
        raise KeyError
    with durable.lock(tmp_path / "lock", "retrain"):
        pass


@pytest.mark.hazard(7)
def test_a_lock_is_free_at_once_after_its_holder_was_killed_while_its_child_lives(tmp_path: Path) -> None:
    process, child = holding(tmp_path / "lock", "child")
    try:
        with pytest.raises(LockHeldError, match=f"process {process.pid}"), durable.lock(tmp_path / "lock", "retrain"):
            pytest.fail("two hold one lock")
        process.kill()
        process.wait()
        assert lives(int(child))
        with durable.lock(tmp_path / "lock", "retrain"):
            pass
    finally:
        process.kill()
        os.kill(int(child), signal.SIGKILL)


def test_one_who_waits_gets_the_lock_when_the_holder_ends(tmp_path: Path) -> None:
    process, _ = holding(tmp_path / "lock")
    began = time.monotonic()
    threading.Timer(0.3, process.kill).start()
    with durable.lock(tmp_path / "lock", "retrain", wait_s=PATIENCE_S):
        waited = time.monotonic() - began
    assert process.wait() == -signal.SIGKILL
    assert waited >= 0.3, "nothing but the end of the holder frees the lock"


def test_one_who_waits_in_vain_is_told_who_holds_it(tmp_path: Path) -> None:
    process, _ = holding(tmp_path / "lock")
    began = time.monotonic()
    with (
        pytest.raises(LockHeldError, match=f"process {process.pid}"),
        durable.lock(tmp_path / "lock", "retrain", wait_s=0.2),
    ):
        pytest.fail("two hold one lock")
    assert timedelta(seconds=0.2) <= timedelta(seconds=time.monotonic() - began)
    process.kill()
    process.wait()


def test_two_threads_exclude_each_other_as_two_processes_do(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    inside, most = [0], [0]

    def work() -> None:
        for _ in range(30):
            with durable.lock(path, "retrain", wait_s=PATIENCE_S):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.001)
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


@pytest.mark.hazard(2)
@pytest.mark.parametrize(
    ("number", "remedy"),
    [(errno.ENOSPC, "Free space"), (errno.EROFS, r"\[paths\] home"), (errno.EIO, "dmesg"), (errno.ELOOP, "Check")],
)
def test_a_disk_fault_becomes_one_line_with_the_file_and_the_remedy(number: int, remedy: str) -> None:
    with (
        pytest.raises(StorageError, match=remedy) as caught,
        durable.convert_storage_faults("archiving the model"),
    ):
        raise OSError(number, os.strerror(number), "models/a.onnx")
    assert str(caught.value).startswith(f"Archiving the model failed: {os.strerror(number)}: models/a.onnx. ")
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 1


@pytest.mark.hazard(88)
def test_a_pipe_in_place_of_a_file_is_refused_and_never_opened(tmp_path: Path) -> None:
    for name in ("ledger.sqlite", "models", ".lock"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(StorageError, match="is a pipe, and hftcl keeps a file there"):
            durable.require_regular(tmp_path / name)
    with pytest.raises(StorageError, match="is a pipe"), durable.lock(tmp_path / ".lock", "retrain"):
        pass
    assert durable.require_regular(tmp_path / "none") is None  # type: ignore[func-returns-value]


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (OSError(errno.EIO, "of the disk"), True),
        (OSError(errno.EMFILE, "too many open files"), True),
        (FileNotFoundError(errno.ENOENT, "no such file"), False),
        (PermissionError(errno.EACCES, "not allowed"), False),
        (OSError("libgomp.so.1: cannot open shared object file"), False),  # of no disk: it has no number
    ],
    ids=["disk", "open files", "name", "permission", "library"],
)
def test_a_fault_that_may_pass_is_told_from_one_that_a_person_has_to_mend(error: OSError, passes: bool) -> None:
    assert durable.is_passing(error) is passes


def test_too_little_room_is_told_so_that_the_figures_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    total = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: total._replace(free=21_400_000))
    with pytest.raises(StorageError) as raised:
        durable.require_space(tmp_path, 21_450_000, "archiving the model")
    assert str(raised.value) == (
        f"Archiving the model needs 22 MB, and {tmp_path} has 21 MB free. Free 1 MB more there and run it again."
    )
