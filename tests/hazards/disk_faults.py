"""The installed commands on a disk that fails: one system call of one run fails, and what is said must be true.

For test_disk_faults and for the command that measures the hazards. Needs strace.
"""

import contextlib
import itertools
import json
import os
import re
import shutil
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from hftcl.archive.deployment import ModelArchive
from hftcl.archive.registry import Registry, compute_digest
from tests.hazards.loop_processes import assert_production_is_whole, left_behind
from tests.in_process import answer_here
from tests.installed import HFTCL, PATIENCE_S, answer
from tests.loop_cases import AS_OF, RETRAIN, deploy_once

ERRORS: Final = ("ENOSPC", "EIO", "EDQUOT", "EINTR")
STRACE: Final = shutil.which("strace")
WRITING: Final = (
    "openat", "write", "pwrite64", "fsync", "fdatasync", "rename", "unlink", "mkdir", "ftruncate", "fchmod", "link",
    "linkat",
)  # fmt: skip
READING: Final = ("read", "pread64")
"""Only EIO fails them: a sector that cannot be read."""
PRODUCTION: Final = "trained_stock_model.onnx"
_CHANCE: Final = re.compile(r"\d{8}_\d{6}|[a-z0-9_]{8}(?=\.tmp)")  # a model's id, what mkstemp chose
_CALL: Final = re.compile(r"(\d+) +(\w+)\(")
_THREADS: Final = {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
_LEAST_WORDS: Final = 6  # what happened, to what, and what to do do not fit into fewer
_LATER: Final = datetime(2027, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Point:
    """The `when`-th call of one system call in the first thread of a command, and what strace wrote about it."""

    name: str
    when: int
    line: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command line, how a home comes to it, and whether what it did is there; `is_done(home, stdout)`.

    stride: of the calls that repeat on a file each so many-th fails; the ledger of a replay is written 4,600 times.
    """

    words: tuple[str, ...]
    prepare: Callable[[Path], object]
    is_done: Callable[[Path, str], bool]
    moves_production: bool = False
    stride: int = 1


def _name_serving(home: Path) -> str | None:
    return Registry(home).read_production().model_id


def _is_serving(home: Path, stdout: str) -> bool:
    report = json.loads(stdout)
    return bool((report.get("to_model") or report["model_id"]) == _name_serving(home))


def _roll_back(home: Path) -> None:
    answer(home, "rollback", "--yes")


def _has_no_pin(home: Path, _: str) -> bool:
    return Registry(home).find_pin() is None


def _has_begun_over(home: Path, _: str) -> bool:
    return all(not row["counts"] for row in answer_here(home, "record"))


def _damage_a_row(home: Path) -> None:
    """Change one row of the registry behind its seal, as a rotten disk does."""
    with contextlib.closing(sqlite3.connect(home / "models" / "registry.sqlite")) as db, db:
        db.execute("UPDATE models SET reason = 'changed' WHERE rowid = 1")
    db.close()


def _is_sound(home: Path, _: str) -> bool:
    return len(Registry(home).list_models()) == 2 and _name_serving(home) is not None


def _leave_a_foreign_list(home: Path) -> None:
    (home / "models" / "model_metadata.csv").unlink()
    (home / "model_metadata.csv").write_text("model_id,trained_date,val_sharpe\nmine_1,2025-01-01,1.5\n")


def _has_adopted(home: Path, _: str) -> bool:
    return any(row["model_id"] == "mine_1" for row in answer_here(home, "history"))


def _has_looked(_: Path, stdout: str) -> bool:
    return isinstance(json.loads(stdout), list)


def _has_replayed(_: Path, stdout: str) -> bool:
    return int(json.loads(stdout)["decisions"]) > 0


COMMANDS: Final = {
    "hftcl rollback": Command(
        words=("rollback", "--yes", "--json"),
        prepare=lambda home: None,
        is_done=_is_serving,
        moves_production=True,
    ),
    "hftcl unpin": Command(words=("unpin", "--json"), prepare=_roll_back, is_done=_has_no_pin),
    "hftcl record --begin-anew": Command(
        words=("record", "--begin-anew", "--reason", "a test", "--json"),
        prepare=lambda home: None,
        is_done=_has_begun_over,
    ),
    "hftcl doctor --repair": Command(
        words=("doctor", "--repair", "--json"), prepare=_damage_a_row, is_done=_is_sound, stride=4
    ),
    "hftcl init --adopt": Command(
        words=("init", "--adopt", "--json"), prepare=_leave_a_foreign_list, is_done=_has_adopted
    ),
    "hftcl schedule --once": Command(
        words=("schedule", "--once", "--json"), prepare=lambda home: None, is_done=_has_looked, stride=2
    ),
    "hftcl trade --replay": Command(
        words=("trade", "--replay", f"{AS_OF}..{AS_OF}", "--json"),
        prepare=lambda home: None,
        is_done=_has_replayed,
        stride=200,
    ),
    "hftcl retrain": Command(
        words=RETRAIN, prepare=lambda home: None, is_done=_is_serving, moves_production=True, stride=25
    ),
}


def train_twice(home: Path) -> None:
    """Make `home` one with cached bars, two deployed models and a record."""
    deploy_once(home)
    assert answer(home, *RETRAIN)["outcome"] == "deployed"


def trace(home: Path, words: tuple[str, ...], file: Path, *injection: str) -> "subprocess.CompletedProcess[str]":
    """Run `hftcl` in `home` under strace, which writes `file`."""
    assert STRACE is not None
    calls = ",".join(f"?{name}" for name in (*WRITING, *READING))
    return subprocess.run(
        [
            STRACE,
            "-f",
            "--seccomp-bpf",
            "-y",
            "-s",
            "200",
            "-o",
            file,
            "-e",
            f"trace={calls}",
            *injection,
            HFTCL,
            *words,
        ],
        cwd=home,
        env={**os.environ, **_THREADS},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )


def list_points(home: Path, file: Path) -> Iterator[Point]:
    """Yield the calls of the command's first thread that create, change or name something under `home`.

    Of those that only read, the first of each file.
    """
    counts: Counter[str] = Counter()
    first, seen = None, set[str]()
    for line in file.read_text().splitlines():
        match = _CALL.match(line)
        if match is None:
            continue
        first = first or match[1]
        if match[1] != first:
            continue
        name = match[2]
        counts[name] += 1
        path = _find_path(line, home)
        only_reads = name in READING or (name == "openat" and "O_CREAT" not in line and "O_RDWR" not in line)
        if path is None or (only_reads and f"{name} {path}" in seen):
            continue
        seen.add(f"{name} {path}")
        yield Point(name, counts[name], line)


def _find_path(line: str, home: Path) -> str | None:
    """Return the file or folder under `home` that a line of strace is about; None where it is about another one."""
    match = re.search(re.escape(str(home)) + r"[^\"<>]*", line.replace(f"AT_FDCWD<{home}>", ""))
    return match[0] if match else None


def choose_points(points: Iterable[Point], home: Path, stride: int) -> Iterator[Point]:
    """Yield the first call of each kind on each file, and each `stride`-th of all; names made by chance are one."""
    met = set[tuple[str, str]]()
    for number, point in enumerate(points):
        kind = (point.name, _CHANCE.sub("*", _find_path(point.line, home) or ""))
        if kind not in met or number % stride == 0:
            yield point
        met.add(kind)


def fail_each(
    folder: Path, template: Path, name: str, *, stride: int | None = None, errors: tuple[str, ...] = ERRORS
) -> int:
    """Run a command once for each of its calls under its home, one of them failing each time; return how many.

    stride: each so many-th call only; where it is left out, those of `choose_points` by the command's own.
    template: a home made by `train_twice`. The errors take turns from one call to the next; what reads meets EIO.
    Asserts of each run: exit 0 means done, another status is one line or two without a traceback and changes no model
    that serves unless it says so; and afterwards the archive is whole, with nothing left behind.
    """
    command, home = COMMANDS[name], folder / "home"
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(template, home)
    command.prepare(home)
    prepared = folder / "prepared"
    shutil.copytree(home, prepared)
    done = trace(home, command.words, folder / "trace")
    assert done.returncode == 0, done.stderr
    assert command.is_done(home, done.stdout), done.stdout
    points = list(list_points(home, folder / "trace"))
    points = points[::stride] if stride else list(choose_points(points, home, command.stride))
    cases = 0
    for point, error in zip(points, itertools.cycle(errors), strict=False):
        fault = "EIO" if point.name in READING else error
        shutil.rmtree(home)
        shutil.copytree(prepared, home)
        injection = f"inject={point.name}:error={fault}:when={point.when}"
        done = trace(home, command.words, folder / "injected", "-e", injection)
        hit = [line for line in (folder / "injected").read_text().splitlines() if line.endswith("(INJECTED)")]
        if not hit or any(_find_path(line, home) is None for line in hit):
            continue  # another thread's call, or none: not the run that was traced
        cases += 1
        text = f"{name}: {fault} at {point.line}\n{done.returncode} {done.stdout[:500]} {done.stderr}"
        _assert_truthful(command, home, prepared, done, text)
    return cases


def _assert_truthful(
    command: Command, home: Path, prepared: Path, done: "subprocess.CompletedProcess[str]", text: str
) -> None:
    assert "Traceback" not in done.stderr, text
    assert "unexpected " not in done.stderr, text
    try:
        if done.returncode == 0:
            assert command.is_done(home, done.stdout), text
        elif command.words[0] == "doctor":  # it tells in its rows
            assert done.returncode == 1, text
            assert any(row["status"] == "fault" for row in json.loads(done.stdout)), text
        else:
            told = [line for line in done.stderr.splitlines() if line.startswith("hftcl: ")]
            assert done.returncode == 1, text
            assert 1 <= len(told) <= 2, text
            assert all(len(line.split()) > _LEAST_WORDS for line in told), text
            same = compute_digest(home / PRODUCTION) == compute_digest(prepared / PRODUCTION)
            assert same or "serves now all the same" in done.stderr, text
        if "--repair" not in command.words or done.returncode == 0:
            archive = ModelArchive(home)
            archive.recover(_LATER)
            assert archive.recover(_LATER) == (), text
            assert_production_is_whole(home)
            assert left_behind(home) == [], text
    except Exception as error:
        raise AssertionError(text) from error
