"""`hftcl trade --status --watch`: the status again whenever it changes, on a terminal and in a pipe, until Ctrl-C."""

import os
import pty
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from hftcl.ledger.writer import Ledger
from tests.installed import HFTCL, PATIENCE_S, run
from tests.ledger.ledger_cases import write_ledger

LATER = datetime(2025, 6, 30, 16, 0, tzinfo=UTC)
COMMAND = [HFTCL, "trade", "--status", "--watch"]


@contextmanager
def watching(home: Path, stdout: int, *, columns: int = 100, lines: int = 60) -> Iterator["subprocess.Popen[bytes]"]:
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": str(columns), "LINES": str(lines)}
    process = subprocess.Popen(COMMAND, cwd=home, stdout=stdout, stderr=subprocess.PIPE, env=environment)
    timer = threading.Timer(PATIENCE_S, process.kill)
    timer.start()
    try:
        yield process
    finally:
        timer.cancel()
        process.kill()
        process.communicate()


def test_a_pipe_gets_all_of_it_once_and_then_what_is_new_until_ctrl_c(tmp_path: Path) -> None:
    write_ledger(tmp_path / "ledger.sqlite", last=datetime(2025, 6, 4, tzinfo=UTC).date())
    said = run(tmp_path, "trade", "--status").stdout.splitlines()
    with watching(tmp_path, subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(b"# 20")
        lines = [process.stdout.readline().decode().rstrip("\n") for _ in range(len(said) + 6)]
        assert [line for line in lines if line in said] == said
        rest = [line for line in lines if line not in said]
        assert rest[0] == "MAY NOT TRADE: no retrain has judged the record on synthetic bars yet"
        assert rest[1] == "No model serves. `hftcl retrain --force` trains the first."
        assert rest[2].startswith("disk: ")
        assert rest[3].split() == ["job", "local", "state", "outcome"]
        assert [line.split()[-1] for line in rest[4:]] == ["next", "next"]
        with Ledger(tmp_path / "ledger.sqlite") as ledger:
            ledger.latch("kill_switch", "the test asked for it", LATER)
        assert process.stdout.readline().startswith(b"# 20")
        assert process.stdout.readline().startswith(b"HALTED: kill_switch since 2025-06-30 16:00 UTC: the test asked")
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
        assert (process.stdout.read(), process.stderr.read()) == (b"", b"\n")


def test_a_terminal_is_drawn_in_place_and_keeps_what_was_last(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    try:
        with watching(tmp_path, theirs) as process:
            seen = b""
            while seen.count(b"Ctrl-C ends this") < 2:
                seen += os.read(ours, 4096)
            assert b"No bot has traded here yet." in seen
            assert b"disk: " in seen, "beside the bot what the dashboard shows"
            assert b"\x1b[2K" in seen, "the lines of before are erased"
            process.send_signal(signal.SIGINT)
            assert process.wait() == 130
            assert process.stderr is not None
            assert process.stderr.read() == b"\n"
    finally:
        os.close(ours)
        os.close(theirs)


def test_24_lines_show_the_clock_what_serves_and_what_is_next_before_the_tables_of_the_bot(tmp_path: Path) -> None:
    write_ledger(tmp_path / "ledger.sqlite", last=datetime(2025, 6, 4, tzinfo=UTC).date())
    ours, theirs = pty.openpty()
    try:
        with watching(tmp_path, theirs, columns=80, lines=24):
            seen = b""
            while seen.count(b"Ctrl-C ends this") < 2:
                seen += os.read(ours, 4096)
    finally:
        os.close(ours)
        os.close(theirs)
    told = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", seen.decode()).split("Ctrl-C ends this")[1].splitlines()
    assert len(told) <= 24 + 1, "what comes after it is the second clock"
    assert told[1].startswith("NOT RUNNING")
    for text in ("No model serves.", "disk: ", " next ", "last decision on"):
        assert any(text in line for line in told), text
    assert any(line.strip() == "…" for line in told), "the bot's tables are cut, and that is told"


def test_a_terminal_that_is_closed_ends_it_without_a_traceback(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    with watching(tmp_path, theirs) as process:
        os.read(ours, 4096)
        os.close(ours)
        os.close(theirs)
        assert process.wait() == 1
        assert process.stderr is not None
        told = process.stderr.read().decode()
    assert told == "hftcl: the output could not be written: Input/output error. `hftcl history` tells what was done.\n"


def test_it_goes_with_status_alone(tmp_path: Path) -> None:
    assert "--watch goes with --status" in run(tmp_path, "trade", "--watch").stderr
    assert run(tmp_path, "trade", "--status", "--watch", "--json").returncode == 2
