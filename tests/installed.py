"""The installed command as a user starts it: a process of its own, in the clean environment that conftest.py made."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

HFTCL: Final = str(Path(sys.executable).parent / "hftcl")
PATIENCE_S: Final = 300  # an idle machine needs a tenth of it at most; a loaded one takes its time, and is not wrong


def run(home: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run `hftcl` in `home` to its end, with these variables in addition; nothing can be typed in."""
    return run_after(None, home, *arguments, **environment)


def run_after(
    preexec: Callable[[], None] | None, home: Path, *arguments: str, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Run `hftcl` as `run` does, in a process that calls `preexec` first: to lose rights, or to meet a full disk."""
    give_calendar(home)
    return subprocess.run(
        [HFTCL, *arguments],
        cwd=home,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
        preexec_fn=preexec,
    )


CALENDAR: Final = ".calendar-XNYS"  # as `Home.locate_calendar` names it
_BUILD = """
import sys
from pathlib import Path
from hftcl.home import Home
from hftcl.market.calendar_file import keep_calendars
from hftcl.market.sessions import Calendar
keep_calendars(Home(Path(sys.argv[1])))
Calendar("XNYS")
"""


def give_calendar(home: Path) -> None:
    """Let a home with settings or models have the calendar that a first command keeps: to build one takes a second."""
    is_home = (home / "hftcl.toml").exists() or (home / "models").is_dir()
    if not is_home or (home / CALENDAR).exists() or not os.access(home, os.W_OK):
        return
    shutil.copy(keep_calendar(Path(os.environ["HOME"])) / CALENDAR, home)


def keep_calendar(session_home: Path) -> Path:
    """Return the folder in the home folder of this session that keeps the calendar; built by the one who asks first."""
    kept = session_home / "calendar"
    with (session_home / "calendar.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (kept / CALENDAR).exists():
            (kept / "models").mkdir(parents=True, exist_ok=True)  # what is no home keeps nothing
            subprocess.run([sys.executable, "-c", _BUILD, str(kept)], check=True, timeout=PATIENCE_S)
    return kept


def answer(home: Path, *arguments: str) -> Any:
    """Run a command with --json that must work; return its document."""
    done = run(home, *arguments, *(() if "--json" in arguments else ("--json",)))
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    return json.loads(done.stdout)


def says_nothing_but_why(out: str, code: int) -> bool:
    """Whether stdout has no report: nothing, or with --json the document of the failure."""
    return not out or (
        json.loads(out).keys() == {"error", "exit_status", "remedy"} and json.loads(out)["exit_status"] == code
    )


def one_line(done: "subprocess.CompletedProcess[str]") -> str:
    """Return the error as told: one line, or two, among the progress on stderr."""
    told = [line for line in done.stderr.splitlines() if line.startswith("hftcl: ")]
    assert 1 <= len(told) <= 2, done.stderr
    assert "Traceback" not in done.stderr
    return "\n".join(told)
