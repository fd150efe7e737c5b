"""`hftcl schedule` as a user meets it: what it previews, what it does once, what it shows while it waits."""

import json
import os
import pty
import re
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hftcl.waiting import wait_until_readable
from tests.hazards.loop_processes import Case
from tests.in_process import call
from tests.installed import HFTCL, PATIENCE_S, one_line, run
from tests.schedule.schedule_homes import a_home


def test_a_preview_is_a_list_of_the_next_jobs_with_local_and_utc_time_and_creates_nothing(tmp_path: Path) -> None:
    done = run(tmp_path, "schedule", "--preview", "40", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    rows = json.loads(done.stdout)
    assert len(rows) == 40
    assert {tuple(row) for row in rows} == {("job", "local", "utc", "note")}
    times = [datetime.fromisoformat(row["local"]) for row in rows]
    assert times == [datetime.fromisoformat(row["utc"]) for row in rows] == sorted(times)
    assert all(moment.utcoffset() in {timedelta(hours=-5), timedelta(hours=-4)} for moment in times)
    checks = [moment for row, moment in zip(rows, times, strict=True) if row["job"] == "check"]
    assert {f"{moment:%H:%M}" for moment in checks} <= {"02:00", "03:00"}
    retrains = [moment for row, moment in zip(rows, times, strict=True) if row["job"] == "retrain"]
    assert {f"{moment:%a %H:%M}" for moment in retrains} == {"Sun 01:00"}
    assert {row["job"] for row in rows} == {"check", "retrain", "collect", "digest"}
    assert list(tmp_path.iterdir()) == []


def test_a_preview_in_a_pipe_is_a_line_a_job_and_tells_of_an_hour_that_does_not_exist(tmp_path: Path) -> None:
    (tmp_path / "hftcl.toml").write_text('[schedule]\ncheck = "0 2 8-14 3 *"\nretrain = "0 2 8-14 3 *"\n')
    lines = call(tmp_path, "schedule", "--preview", "400").stdout.splitlines()
    assert lines[0].split() == ["job", "local", "UTC", "note"]
    odd = [line for line in lines if "02:00 does not exist on this day: the next minute that does" in line]
    assert len(odd) >= 2, "on the second Sunday of March, check and retrain"
    assert all(line.split()[1] == "Sun" and " 03:00 EDT " in line for line in odd)


def test_once_with_nothing_due_says_so_and_one_with_a_digest_due_does_it(tmp_path: Path) -> None:
    idle = a_home(tmp_path / "idle", due=None)
    assert call(idle, "schedule", "--once", "--json").stdout == "[]\n"
    assert "Nothing was due" in call(idle, "schedule", "--once").stdout
    busy = a_home(tmp_path / "busy", due="digest")
    done = call(busy, "schedule", "--once", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    (row,) = json.loads(done.stdout)
    assert (row["job"], row["state"]) == ("digest", "done")
    assert datetime.fromisoformat(row["utc"]) > datetime.now(UTC) - timedelta(minutes=10)  # noqa: TID251
    assert call(busy, "schedule", "--once", "--json").stdout == "[]\n"


def test_once_exits_with_one_where_a_job_failed_and_keeps_the_file_of_prometheus_fresh(tmp_path: Path) -> None:
    home = a_home(tmp_path / "home", more='\n[files]\nfolder = "nowhere"\n\n[log]\nprometheus = "hftcl.prom"\n')
    toml = (home / "hftcl.toml").read_text()
    (home / "hftcl.toml").write_text(toml.replace("[market]\n", '[market]\nsource = "files"\n'))
    done = call(home, "schedule", "--once")
    assert done.returncode == 1
    assert "failed" in done.stdout
    assert "nowhere" in done.stdout
    assert 'hftcl_jobs_total{job="check",state="failed"} 1' in (home / "hftcl.prom").read_text()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--once", "--preview", "3"], "not both"),
        (["--json"], "--preview or --once"),
        (["--preview", "0"], "--preview"),
        (["--preview", "soon"], "--preview"),
    ],
)
def test_wrong_usage_is_told_in_a_line(tmp_path: Path, arguments: list[str], told: str) -> None:
    done = call(tmp_path, "schedule", *arguments)
    assert done.returncode == 2
    assert told in one_line(done)


def test_in_a_pipe_there_are_log_lines_as_text_or_json_and_a_stop_is_the_normal_end(tmp_path: Path) -> None:
    home = a_home(tmp_path / "home", due="digest")
    for form in ("text", "json"):
        process = Case().start(home, "schedule", environment={"HFTCL_LOG__FORMAT": form})
        assert process.stderr is not None
        lines = [process.stderr.readline()]
        while "waiting next=" not in lines[-1]:
            assert lines[-1], "it ended"
            lines.append(process.stderr.readline())
        process.terminate()
        out, rest = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, out) == (0, "")
        lines += rest.splitlines()
        if form == "text":
            assert any("job begins" in line and "job=digest" in line for line in lines)
        else:
            assert all(json.loads(line)["logger"] == "hftcl.schedule.scheduler" for line in lines)


def test_a_terminal_shows_what_the_dashboard_does_the_newest_outcome_and_what_is_next(tmp_path: Path) -> None:
    home = a_home(tmp_path / "home", due="digest")
    master, slave = pty.openpty()
    child = subprocess.Popen(
        [HFTCL, "schedule"],
        cwd=home,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40"},
        stdin=slave,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    shown = b""
    deadline = time.monotonic() + PATIENCE_S
    while b"Ctrl-C ends it" not in shown:
        assert time.monotonic() < deadline, shown
        if wait_until_readable(master, 1):
            shown += os.read(master, 65536)
    child.terminate()
    assert child.wait(PATIENCE_S) == 0
    os.close(master)
    page = re.sub(r"\x1b\[[\d;]*m", "", shown.decode()).rpartition("\x1b[J")[2]
    lines = [" ".join(line.split()) for line in page.split("\n")]
    assert lines[0].endswith("MAY NOT TRADE: no retrain has judged the record on synthetic bars yet")
    assert lines[1] == "No model serves. `hftcl retrain --force` trains the first."
    for beginning in ("No bot has traded here yet.", "disk: ", "job local state outcome", "next: "):
        assert any(line.startswith(beginning) for line in lines), beginning
    assert sum(" next" in line for line in lines) >= 2
    assert any(line.startswith("digest ") and " done " in line for line in lines)
    assert "INFO" not in shown.decode()
