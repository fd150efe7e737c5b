"""The installed commands on a disk that fails, as the figures of the hazards ask them; the whole of it is slow."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.hazards import disk_faults
from tests.hazards.disk_faults import COMMANDS, STRACE, Point, choose_points, fail_each
from tests.hazards.test_archive_hazards import needs_strace
from tests.installed import HFTCL, PATIENCE_S
from tests.loop_cases import AS_OF, deploy_once
from tests.trained import Homes


def run_under_strace(home: Path, file: Path, call: str, fault: str, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run `hftcl` in `home`, where `call` on `file` fails with `fault`, an error of strace's `inject=`."""
    assert STRACE is not None
    injection = ["-P", str(file), "-e", f"trace={call}", "-e", f"inject={call}:error={fault}"]
    return subprocess.run(
        [STRACE, "-f", "--seccomp-bpf", "-o", os.devnull, *injection, HFTCL, *words],
        cwd=home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )


@needs_strace
@pytest.mark.hazard(2)
def test_a_command_on_a_disk_that_fails_says_what_is_true(homes: Homes, tmp_path: Path) -> None:
    homes.copy(tmp_path / "template", deploy_once)
    assert fail_each(tmp_path, tmp_path / "template", "hftcl record --begin-anew", stride=13) >= 3


def test_of_the_calls_that_fail_the_first_of_each_kind_on_each_file_is_among_those_chosen() -> None:
    home = Path("/home/x")
    kinds = [("openat", "a"), ("pwrite64", "a"), ("pwrite64", "a"), ("pwrite64", "b"), ("rename", ".b.k3x_9qpa.tmp")]
    calls = [*kinds, ("rename", ".b.zz01abcd.tmp"), *[("pwrite64", "a")] * 6]
    points = [Point(name, when, f'1 {name}(3<{home}/{file}>, "x")') for when, (name, file) in enumerate(calls)]
    assert [point.when for point in choose_points(points, home, 5)] == [0, 1, 3, 4, 5, 10]
    assert list(choose_points(points, home, 1)) == points


@needs_strace
@pytest.mark.slow
@pytest.mark.hazard(2)
@pytest.mark.hazard(4)
@pytest.mark.parametrize("command", [command for command in COMMANDS if command != "hftcl retrain"])
def test_no_failing_call_of_a_command_makes_it_lie(homes: Homes, tmp_path: Path, command: str) -> None:
    homes.copy(tmp_path / "template", disk_faults.train_twice)
    assert fail_each(tmp_path, tmp_path / "template", command) >= 10


@needs_strace
@pytest.mark.hazard(2)
@pytest.mark.hazard(48)
def test_a_disk_that_cannot_read_the_configuration_at_the_moment_is_no_wrong_configuration(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / ".configuration").write_text(f"{tmp_path / 'hftcl.toml'}\n")
    (tmp_path / "hftcl.toml").write_text('[market]\nsource = "polygon"\n[paths]\nhome = "home"\n')
    (tmp_path / ".env").write_text("POLYGON_API_KEY=none\n")
    retrain = ("retrain", "--force", "--as-of", "2025-06-02")
    for place, fault, status in (
        (tmp_path / "hftcl.toml", "EIO", 1),
        (tmp_path / "hftcl.toml", "EMFILE", 1),
        (tmp_path / "hftcl.toml", "EACCES", 78),
        (tmp_path / ".env", "EIO", 1),
        (tmp_path / ".env", "EACCES", 78),
        (home / ".configuration", "EIO", 1),
    ):
        words = retrain if place.name == ".env" else ("history",)  # which reads no secret, and loads less
        done = run_under_strace(home, place, "openat", fault, *words)
        told = [line for line in done.stderr.splitlines() if re.match("hftcl: .* cannot be read: ", line)]
        assert (done.returncode, len(told)) == (status, 1), (place, fault, done.stderr)
        assert place.name in told[0]


@needs_strace
@pytest.mark.hazard(2)
def test_a_replay_that_the_disk_halts_says_so_in_a_sentence_beside_its_report(homes: Homes, tmp_path: Path) -> None:
    homes.copy(tmp_path / "home", deploy_once)
    home = tmp_path / "home"
    ledger = home / "replay" / "ledger.sqlite-wal"
    done = run_under_strace(
        home, ledger, "pwrite64", "EDQUOT:when=200", "trade", "--replay", f"{AS_OF}..{AS_OF}", "--json"
    )
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("hftcl: ")]
    assert (done.returncode, json.loads(done.stdout)["sessions"]) == (1, 1)
    assert line.startswith("hftcl: The replay was halted, and opened nothing more: ")
    assert "replay again" in line
