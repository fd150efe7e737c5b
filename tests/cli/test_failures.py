"""What a command that fails prints: one or two plain lines on stderr, and with --json one document on stdout."""

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hftcl import views
from hftcl.cli.process import COMMANDS
from hftcl.cli.process import run as run_here
from tests.archive.sample_models import archive_in, deployed
from tests.installed import HFTCL, PATIENCE_S, run
from tests.loop_cases import SMALL_TOML


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a command run in this process as if it had one of its own."""
    monkeypatch.setattr(views, "documents", [])


def fail(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any, str]:
    """Run a command that must fail, in this process; return its exit status, its document, its lines."""
    monkeypatch.setattr(sys, "argv", ["hftcl", *words])
    with pytest.raises(SystemExit) as ended:
        run_here()
    out, err = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, json.loads(out), err


def require_failure(document: Any, code: int, lines: str) -> None:
    """Check that the document says what the lines say, and nothing else."""
    assert set(document) == {"error", "exit_status", "remedy"}
    assert (document["exit_status"], code > 0) == (code, True)
    told = " ".join(line.removeprefix("hftcl: ") for line in lines.splitlines() if line.startswith("hftcl: "))
    assert " ".join(filter(None, (document["error"], document["remedy"]))) == told


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_fails_under_json_prints_one_document_with_the_remedy(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hftcl.toml").write_text("[model]\nmax_depht = 3\n")
    code, document, lines = fail(monkeypatch, capsys, command, "--json", "--nonsense")
    require_failure(document, code, lines)
    assert (code, document["remedy"]) == (2, f"`hftcl {command} --help` tells what it takes.")
    given = {
        "exam": ["20260109_020000", "--from", "2026-01-05", "--to", "2026-01-06"],
        "explain": ["20260109_020000"],
        "note": ["20260109_020000", "looked at"],
        "reproduce": ["20260109_020000"],
        "diff": ["20260109_020000", "20260110_020000"],
        "docs": ["qqqqqqqq"],
        "backtest": ["--from", "2026-01-05", "--to", "2026-01-06"],
        "trade": ["--status"],
        "schedule": ["--once"],
        "init": ["--files", "nowhere"],
    }
    if command != "doctor":  # which tells a configuration that is invalid as rows
        code, document, lines = fail(monkeypatch, capsys, command, "--json", *given.get(command, []))
        require_failure(document, code, lines)
        assert code == {"init": 1, "docs": 2}.get(command, 78), "docs reads no configuration"


@pytest.mark.usefixtures("alone")
def test_the_remedy_is_apart_from_what_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    deployed(archive_in(tmp_path), 1)
    (tmp_path / "models" / "registry.sqlite").write_bytes(b"")
    code, document, lines = fail(monkeypatch, capsys, "history", "--json")
    require_failure(document, code, lines)
    assert code == 1
    assert document["error"].endswith("it was lost or emptied, and nothing is changed.")
    assert document["remedy"].startswith("Run `hftcl doctor --repair`")
    code, document, lines = fail(monkeypatch, capsys, "-vv", "history", "--json")
    assert "Traceback" in lines
    assert (document["exit_status"], document["remedy"][:4]) == (code, "Run ")


def test_a_failure_after_the_report_adds_no_second_document(tmp_path: Path) -> None:
    deployed(archive_in(tmp_path), 1)
    program = (
        "import sys, hftcl.views\n"
        "shown = hftcl.views.show\n"
        "def show(*given, **options):\n"
        "    shown(*given, **options)\n"
        "    raise OSError(28, 'No space left on device', 'page.html')\n"
        "hftcl.views.show = show\n"
        "sys.argv = ['hftcl', 'history', '--json']\n"
        "from hftcl.cli import main\nmain()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    assert done.returncode == 1
    assert "page.html" in done.stderr
    (model,) = json.loads(done.stdout)
    assert model["is_deployed"] is True


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_command_that_is_stopped_says_so_in_its_document(number: int, code: int, tmp_path: Path) -> None:
    (tmp_path / "hftcl.toml").write_text(SMALL_TOML)
    child = subprocess.Popen(
        [HFTCL, "retrain", "--force", "--json"],
        cwd=tmp_path,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # under `nohup` it would be ignored
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stderr is not None
    assert child.stderr.readline(), "it has begun"
    child.send_signal(number)
    out, _ = child.communicate(timeout=PATIENCE_S)
    assert child.returncode == code
    document = json.loads(out)
    assert (document["exit_status"], document["remedy"]) == (code, "Run it again to go on.")


def test_without_json_nothing_of_a_failure_is_on_stdout(tmp_path: Path) -> None:
    done = run(tmp_path, "history", "--config", "no.toml")
    assert (done.returncode, done.stdout) == (78, "")


def test_what_fails_under_a_progress_bar_begins_a_line_and_gives_the_cursor_back(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    command = [HFTCL, "inspect", "nowhere"]
    done = subprocess.run(
        command, cwd=tmp_path, stdout=theirs, stderr=theirs, env=environment, timeout=PATIENCE_S, check=False
    )
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # EIO: that is all
        while chunk := os.read(ours, 65536):
            shown += chunk
    os.close(ours)
    before, told, _ = shown.partition(b"hftcl: The folder ")
    assert (done.returncode, bool(told)) == (1, True)
    assert b"0/1" in before, "the bar had begun"
    assert re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", before).endswith(b"\r\n")
    assert before.rfind(b"\x1b[?25h") > before.rfind(b"\x1b[?25l") >= 0, "a cursor that is hidden stays so in the shell"
