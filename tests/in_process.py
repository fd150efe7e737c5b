"""A command within the test's own process: for what it says and does, where its being a process is not what is tested.

A process loads for up to a second before it begins; `tests/cli/test_in_process.py` holds the two equal.
"""

import gc
import io
import json
import logging
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, Final

import pytest

from hftcl import logs, views
from hftcl.cli import invocation, main, telling
from hftcl.market import calendar_file
from hftcl.market.sources import polygon_memory
from hftcl.views import terminal
from tests.installed import give_calendar

# What a command leaves behind in its process: what it printed, read, told and hides, where it keeps calendars, and the
# answers of a service that it did not store.
_LEFT: Final[tuple[tuple[object, str], ...]] = (
    (views, "documents"),
    (terminal, "unwritten"),
    (invocation, "homes_read"),
    (telling, "_told"),
    (logs, "_hidden"),
    (calendar_file, "_home"),
    (calendar_file, "_writes"),
    (polygon_memory.REMEMBERED, "_answers"),
)


def call(home: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run `hftcl` in `home` to its end, as `tests.installed.run` does in a process of its own."""
    give_calendar(home)
    out, err = io.StringIO(), io.StringIO()
    with as_if_alone(home, ["hftcl", *arguments], environment), redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as ended:
            code = ended.code or 0
    assert isinstance(code, int), code
    return subprocess.CompletedProcess(["hftcl", *arguments], code, out.getvalue(), err.getvalue())


def answer_here(home: Path, *arguments: str) -> Any:
    """Run a command with --json that must work; return its document."""
    done = call(home, *arguments, *(() if "--json" in arguments else ("--json",)))
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    return json.loads(done.stdout)


@contextmanager
def as_if_alone(home: Path, words: list[str], environment: dict[str, str]) -> Iterator[None]:
    """Give this process what one of its own would begin with, and take back what it left."""
    root, threshold = logging.getLogger(), gc.get_threshold()
    with pytest.MonkeyPatch.context() as patch, open("/dev/null") as nothing:  # noqa: PTH123 - a device
        for owner, name in _LEFT:
            value = getattr(owner, name)
            patch.setattr(owner, name, type(value)() if isinstance(value, list | dict) else value)
        for name, text in environment.items():
            patch.setenv(name, text)
        patch.chdir(home)
        patch.setattr(sys, "argv", words)
        patch.setattr(sys, "stdin", nothing)
        patch.setattr(root, "handlers", [])  # pytest's, which a command would close
        heard = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        level, ours = root.level, logging.getLogger("hftcl").level
        try:
            yield
        finally:
            root.setLevel(level)
            logging.getLogger("hftcl").setLevel(ours)
            logging.captureWarnings(False)
            for number, handler in heard.items():
                signal.signal(number, handler)
            gc.set_threshold(*threshold)
            gc.unfreeze()
