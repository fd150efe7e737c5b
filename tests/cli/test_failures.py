"""What a command that fails prints: one or two plain lines on stderr, and with --json one document on stdout."""

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hftcl import views
from hftcl.cli.process import COMMANDS
from hftcl.cli.process import run as run_here
from tests.archive.sample_models import archive_in, deployed
from tests.installed import HFTCL, PATIENCE_S, give_calendar, run
from tests.loop_cases import SMALL_TOML
from tests.processes import find_trainers, wait_until_it_waits
from tests.schedule.schedule_homes import a_home


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
def test_an_option_that_lacks_a_value_names_the_help_that_tells_which(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, document, lines = fail(monkeypatch, capsys, "explain", "20260109_020000", "--json", "--at", "12")
    require_failure(document, code, lines)
    assert (code, document["remedy"]) == (2, "`hftcl explain --help` tells what it takes.")


@pytest.mark.usefixtures("alone")
def test_an_error_on_a_terminal_breaks_no_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    _, document, lines = fail(monkeypatch, capsys, "docs", "--json", "qqqqqqqq")
    assert len(lines.splitlines()) > 1
    assert max(map(len, lines.splitlines())) <= 30
    assert lines.split() == ["hftcl:", *document["error"].split(), *document["remedy"].split()]


def test_an_error_is_as_wide_as_its_terminal_also_where_the_output_goes_into_a_pipe(
    tmp_path: Path,
) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 50))
    environment = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}}
    command = [HFTCL, "trade", "--live", "--flatten"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=theirs, env=environment) as child:
        os.close(theirs)
        told = read_terminal(ours).decode().splitlines()
    os.close(ours)
    assert child.returncode == 2
    assert 40 < max(map(len, told)) <= 50, told


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
    give_calendar(tmp_path)
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


@pytest.mark.parametrize(
    "begin", ["from hftcl.cli import main; main()", "runpy.run_module('hftcl', run_name='__main__')"]
)
@pytest.mark.parametrize("module", ["hftcl.cli.process", "hftcl.errors", "hftcl.cli.looks"])
def test_a_ctrl_c_before_the_command_line_is_loaded_ends_it_as_a_later_one(
    module: str, begin: str, tmp_path: Path
) -> None:
    program = f"""
import os, runpy, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
signal.signal(signal.SIGINT, signal.default_int_handler)  # under `nohup` it would be ignored
sys.argv = ["hftcl", "history", "--json"]
{begin}
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    said = "interrupted. Bars that were fetched are kept, and the model that served still serves."
    assert done.returncode == 130, done.stderr
    assert done.stderr == f"\nhftcl: {said} Run it again to go on.\n"
    assert json.loads(done.stdout) == {"error": said, "exit_status": 130, "remedy": "Run it again to go on."}


def test_a_command_that_is_stopped_while_a_finalizer_runs_ends(tmp_path: Path) -> None:
    """There Python drops what the handler raises, and goes on."""
    program = """
import os, signal, sys, time
import hftcl.views
class Mortal:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.1)
def show(*given, **options):
    Mortal()
    time.sleep(20)
hftcl.views.show = show
sys.argv = ["hftcl", "history", "--json"]
from hftcl.cli import main
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    assert (done.returncode, done.stderr) == (143, "")
    assert json.loads(done.stdout)["exit_status"] == 143


def test_without_json_nothing_of_a_failure_is_on_stdout(tmp_path: Path) -> None:
    done = run(tmp_path, "history", "--config", "no.toml")
    assert (done.returncode, done.stdout) == (78, "")


def read_terminal(ours: int, until: bytes | None = None) -> bytes:
    """Return what comes until `until` was shown, or else until each process that has the terminal has ended."""
    shown = b""
    with contextlib.suppress(OSError):  # EIO: that is all
        while (until is None or until not in shown) and (chunk := os.read(ours, 65536)):
            shown += chunk
    return shown


@contextlib.contextmanager
def on_a_terminal(
    command: list[str], home: Path, *, with_keys: bool = False
) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """Yield a process whose stdout and stderr, with_keys stdin too, are a terminal, and the end at which it is read."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    keys = theirs if with_keys else None
    with subprocess.Popen(command, cwd=home, stdin=keys, stdout=theirs, stderr=theirs, env=environment) as child:
        os.close(theirs)
        timer = threading.Timer(PATIENCE_S, child.kill)
        timer.start()
        try:
            yield child, ours
        finally:
            timer.cancel()
            child.kill()
            os.close(ours)


def assert_the_bar_has_ended(before: bytes) -> None:
    """Assert that a bar had begun, and that its line has an end and the cursor is back where `before` ends."""
    assert b"0/" in before, "the bar had begun"
    assert re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", before).endswith(b"\r\n")
    assert before.rfind(b"\x1b[?25h") > before.rfind(b"\x1b[?25l") >= 0, "a cursor that is hidden stays so in the shell"


PROGRAM = """
import sys
from hftcl import ContinuousLearning
from hftcl.errors import HftclError
try:
    ContinuousLearning().retrain(force=True)
except HftclError as error:
    print("told:", error, file=sys.stderr)
"""


def test_what_fails_under_a_progress_bar_begins_a_line_and_gives_the_cursor_back(tmp_path: Path) -> None:
    with on_a_terminal([HFTCL, "inspect", "nowhere"], tmp_path) as (child, ours):
        before, told, _ = read_terminal(ours).partition(b"hftcl: The folder ")
        assert (child.wait(), bool(told)) == (1, True)
    assert_the_bar_has_ended(before)


@pytest.mark.parametrize(
    ("command", "status", "told"),
    [([HFTCL, "schedule", "--once"], 1, rb"\d{4}-\S+ WARNING"), ([sys.executable, "-c", PROGRAM], 0, rb"told:")],
    ids=["a job", "Python"],
)
def test_a_training_that_is_killed_under_its_bar_is_told_below_it_by_a_job_and_by_a_call_from_python(
    command: list[str], status: int, told: bytes, tmp_path: Path
) -> None:
    home = a_home(tmp_path / "home", trees=10_000)
    with on_a_terminal(command, home) as (child, ours):
        shown = read_terminal(ours, until=b"20000")
        for pid in find_trainers(child.pid):
            os.kill(pid, signal.SIGKILL)
        before, after = re.split(told, shown + read_terminal(ours), maxsplit=1)
        assert child.wait() == status
    assert_the_bar_has_ended(before)
    assert b"20000" not in after, "it is not drawn again"


def test_ctrl_c_under_a_progress_bar_leaves_no_empty_line(tmp_path: Path) -> None:
    home = a_home(tmp_path / "home", trees=10_000)
    with on_a_terminal([HFTCL, "retrain", "--force"], home) as (child, ours):
        before = read_terminal(ours, until=b"20000")
        child.send_signal(signal.SIGINT)
        before += read_terminal(ours)
        assert child.wait() == 130
    before = before.partition(b"hftcl: interrupted")[0]
    assert_the_bar_has_ended(before)
    assert not re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", before).endswith(b"\r\n\r\n")


def test_ctrl_c_at_a_question_needs_no_enter(tmp_path: Path) -> None:
    """A library that takes the signal over lets what waits for a key go on."""
    (tmp_path / "hftcl.toml").write_text(SMALL_TOML)
    with on_a_terminal([HFTCL, "trade", "--clear"], tmp_path, with_keys=True) as (child, ours):
        read_terminal(ours, until=b"[y/N]: ")
        wait_until_it_waits(child.pid)  # for a key: before that the signal would be heard anyway
        child.send_signal(signal.SIGINT)
        said = read_terminal(ours)
        assert child.wait(PATIENCE_S) == 130
    assert b"hftcl: stopped; nothing was changed" in said
