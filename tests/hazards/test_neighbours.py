"""What our libraries do beside what they are asked for: no file outside the home, no socket that nobody asked for."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from hftcl.archive.registry import Registry
from hftcl.cli.process import COMMANDS as COMMANDS_OF_HFTCL
from tests.installed import HFTCL, PATIENCE_S
from tests.loop_cases import AS_OF, RETRAIN, deploy_once
from tests.trained import Homes

STRACE = shutil.which("strace")
needs_strace = pytest.mark.skipif(STRACE is None, reason="strace is not installed (apt-get install strace)")
_CALLS = "trace=openat,creat,mkdir,mkdirat,rename,renameat,renameat2,link,linkat,symlink,symlinkat,socket,connect"
_WRITES = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC")
_PATH = re.compile(r'"((?:[^"\\]|\\.)*)"')
_CALL = re.compile(r"(?:\d+ +)?(\w+)\(")
_QUIET = ("/dev/null", "/dev/tty", "/proc/", "/dev/shm/")  # noqa: S108 - a training's memory, which ends with it
_NETWORK = re.compile(r"AF_INET6?\b")
NEWEST, OLDEST = "the newest model", "the oldest model"
COMMANDS: tuple[tuple[str, ...], ...] = (
    (*RETRAIN, "--dry-run"),
    ("doctor",),
)
MORE: tuple[tuple[str, ...], ...] = (
    ("trade", "--replay", "2025-12-12..2025-12-12"),
    RETRAIN,
    ("check", "--as-of", AS_OF),
    ("prove", "--cases", "5", "--as-of", AS_OF),
    ("backtest", "--from", "2025-12-08", "--to", "2025-12-12"),
    ("history",),
    ("record",),
    ("features", "--as-of", AS_OF),
    ("explain", NEWEST),
    ("reproduce", NEWEST),
    ("exam", NEWEST, "--from", "2025-12-17", "--to", "2025-12-19"),
    ("diff", NEWEST, OLDEST),
    ("note", NEWEST, "looked at"),
    ("search", "--trials", "2", "--as-of", AS_OF, "--html", "search.html"),
    ("docs", "edge"),
    ("rollback", "--yes"),
    ("unpin",),
    ("report",),
    ("trade", "--status"),
    ("schedule", "--preview", "3"),
    ("schedule", "--once"),
    ("inspect", "."),
    ("init",),
    ("doctor", "--repair"),
    ("doctor", "--unit", "schedule"),
    ("doctor", "--prometheus", "hftcl.prom"),
)
MAY_FAIL = {("inspect", "."), ("report",), ("doctor",)}
"""What may find nothing to do here, or a fault of this machine. Of all others a failure would leave much untraced."""


def look_for_strange_calls(home: Path, *arguments: str) -> list[str]:
    """Run a command; return the system calls that write outside its home or speak to a network."""
    assert STRACE is not None
    outside, trace = home.parent / "user", home.parent / "trace"
    temporary = home.parent / "temporary"
    models = [model.model_id for model in Registry(home).list_models()]
    ids = {NEWEST: models[0], OLDEST: models[-1]}
    words = [ids.get(word, word) for word in arguments]
    for folder in (outside, temporary):
        folder.mkdir(exist_ok=True)
    # Some libraries keep still where they see a machine of tests; this is to be a user's.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CI", "GITHUB", "PYTEST"))}
    environment |= {"HOME": str(outside), "TMPDIR": str(temporary), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [STRACE, "-f", "--seccomp-bpf", "-qq", "-s", "300", "-o", str(trace), "-e", _CALLS, HFTCL, *words]
    done = subprocess.run(
        command,
        cwd=home,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0 or (done.returncode == 1 and arguments in MAY_FAIL), (arguments, done.stderr)
    assert "Traceback" not in done.stderr
    assert [path for folder in (outside, temporary) for path in folder.rglob("*")] == [], "a file was left behind"
    return [line for line in trace.read_text("utf-8", "replace").splitlines() if is_strange(line, home)]


def is_strange(line: str, home: Path) -> bool:
    """Whether a traced call opens a file to write outside `home`, or a socket of a network."""
    call = _CALL.match(line)
    if call is None:
        return False
    if call[1] in {"socket", "connect"}:
        return _NETWORK.search(line) is not None
    if call[1] == "openat" and not _WRITES.search(line):
        return False
    path = _PATH.search(line)
    if path is None or line.endswith(("= -1 ENOENT (No such file or directory)", "= -1 EEXIST (File exists)")):
        return False
    return path[1].startswith("/") and not path[1].startswith((f"{home}", str(home.parent / "temporary"), *_QUIET))


@pytest.fixture
def home(tmp_path: Path, homes: Homes) -> Path:
    homes.copy(tmp_path / "home", deploy_once)
    return tmp_path / "home"


@needs_strace
@pytest.mark.hazard(89)
def test_no_library_writes_outside_the_home_or_speaks_to_a_network(home: Path) -> None:
    strange = {words[0]: lines for words in COMMANDS if (lines := look_for_strange_calls(home, *words))}
    assert strange == {}


@needs_strace
@pytest.mark.slow
@pytest.mark.hazard(89)
def test_no_command_writes_outside_the_home_or_speaks_to_a_network(home: Path) -> None:
    strange = {" ".join(words): lines for words in MORE if (lines := look_for_strange_calls(home, *words))}
    assert strange == {}


def test_every_command_is_looked_at_but_the_one_that_is_there_to_be_asked() -> None:
    assert {words[0] for words in (*COMMANDS, *MORE)} == {*COMMANDS_OF_HFTCL} - {"dashboard"}


@needs_strace
@pytest.mark.hazard(89)
def test_the_look_at_system_calls_sees_what_it_is_for(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert is_strange('7 openat(AT_FDCWD, "/tmp/x", O_RDWR|O_CREAT, 0600) = 3', home)
    assert is_strange("7 socket(AF_INET, SOCK_DGRAM|SOCK_CLOEXEC, IPPROTO_IP) = 3", home)
    assert not is_strange(f'7 openat(AT_FDCWD, "{home}/x", O_RDWR|O_CREAT, 0600) = 3', home)
    assert not is_strange('7 openat(AT_FDCWD, "/etc/hosts", O_RDONLY) = 3', home)
