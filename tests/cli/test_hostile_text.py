"""What a file, an argument or a library says is shown harmless: no control character, no secret, no raw error."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hftcl.logs import to_one_line
from tests.in_process import call

REPORT = """
import sys
from hftcl import logs
from hftcl.cli import process
from hftcl.errors import SourceError
logs.hide("POLYGON_API_KEY", "CANARY-SECRET")
sys.exit(process._Told(as_json=False, traceback={traceback}).report({error}))
"""


def report(error: str, *, traceback: bool = False) -> subprocess.CompletedProcess[str]:
    """Return what the command line says of an error, in a process of its own."""
    code = REPORT.format(error=error, traceback=traceback)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_control_characters_of_a_foreign_file_never_reach_the_terminal() -> None:
    done = report(r"SourceError('the column \x1b[31mclose\x00 is unknown')")
    assert done.stderr == f"hftcl: {to_one_line(chr(27))}[31mclose".replace("hftcl: ", "hftcl: the column ") + (
        f"{to_one_line(chr(0))} is unknown\n"
    )
    assert done.returncode == 1


def test_control_characters_of_a_file_reach_no_terminal_in_a_report_either(tmp_path: Path) -> None:
    """In a row, and in the sentence below the table: stdout is as much of a terminal as stderr."""
    (tmp_path / "bars").mkdir()
    (tmp_path / "bars" / "AAPL.csv").write_text(
        "ts,\x1b[2Jopen\x00,high,low,close,\x1b]0;pwn\x07volume\n2026-01-05 09:30:00,1,1,1,1,1\n"
    )
    (tmp_path / "bars" / "B.csv").write_text(
        "ticker,ts,open,high,low,close,volume\n\x1b[31mAA,2026-01-05 09:30:00,1,1,1,1,1\n"
    )
    done = call(tmp_path, "inspect", "bars")
    assert "\\x1b[2Jopen\\x00" in done.stdout
    assert "\\x1b[31mAA" in done.stdout
    assert [c for c in done.stdout + done.stderr if not c.isprintable() and c != "\n"] == []


@pytest.mark.parametrize(
    "arguments", [("inspect", "a\r\nb"), ("init", "--files", "a\x1b[2Jb")], ids=["inspect", "init"]
)
def test_a_folder_whose_name_would_forge_a_line_is_refused(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = call(tmp_path, *arguments)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    (tmp_path / "hftcl.toml").write_text('[files]\nfolder = "a\\r\\nb"\n')
    done = call(tmp_path, "history")
    assert (done.returncode, len(done.stderr.splitlines())) == (78, 1)


def test_a_word_without_end_is_cut() -> None:
    done = report("SourceError('the column ' + 'A' * 5000 + ' is unknown')")
    assert done.stderr == f"hftcl: the column {'A' * 200}... is unknown\n"


@pytest.mark.hazard(92)
def test_a_secret_in_a_traceback_of_vv_is_masked() -> None:
    done = report("ValueError('the server said: CANARY-SECRET is no key')", traceback=True)
    assert "ValueError: the server said: [POLYGON_API_KEY] is no key" in done.stderr
    assert "CANARY" not in done.stderr
    assert done.returncode == 1


def test_a_file_that_may_not_be_read_is_told_with_its_name_and_a_remedy() -> None:
    done = report("PermissionError(13, 'Permission denied', '/home/x/trade.halt')")
    assert "unexpected" not in done.stderr
    assert "/home/x/trade.halt. Run as the folder's owner" in done.stderr


@pytest.mark.parametrize("text", ["9999-12-31", "0001-01-01T00:00:00+14:00"], ids=["last day", "first day"])
def test_a_time_at_the_end_of_the_calendar_is_wrong_usage_and_no_traceback(tmp_path: Path, text: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hftcl", "check", "--as-of", text],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
    )
    assert (done.returncode, "Traceback" in done.stderr, "unexpected" in done.stderr) == (2, False, False)
    assert ("lies in the future" if text.startswith("9") else "--as-of") in done.stderr
