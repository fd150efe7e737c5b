"""What every test stands on: ids that are equal in every process, and one clean environment.

Touches the environment of the test process and a temporary folder, which it deletes at the end.
"""

import compileall
import hashlib
import os
import re
import shutil
import sys
import tempfile
from datetime import date, datetime, time
from pathlib import Path

import pytest

from tests.trained import Homes

ROOT = Path(__file__).resolve().parent.parent
_OURS = ("HFTCL_", "POLYGON_", "MASSIVE_", "APCA_", "ALERT_", "SMTP_", "LC_")
_ALSO = {
    "FORCE_COLOR",
    "NO_COLOR",
    "COLUMNS",
    "LINES",
    "LANGUAGE",
    "CREDENTIALS_DIRECTORY",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
}
# The workers of xdist take all cores: more threads in each only wait for each other.
_THREADS = ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_HOME = "PYTEST_HFTCL_HOME"  # the workers of xdist share the controller's folder
_LONGEST_ID = 32  # characters of one value: three values of one test still fit one line of a terminal
_PLAIN = re.compile(r"([\w ,.+=<>()?-]|(?<=\w)/(?=\w))+", re.ASCII)
_HOUR = re.compile(r"\d:\d")
_PLACES = ((str(ROOT), "ROOT"), (sys.executable, "PYTHON"), (sys.prefix, "PREFIX"), (tempfile.gettempdir(), "TMP"))


def pytest_configure(config: pytest.Config) -> None:
    """Give tests and the processes that they start a home folder, a time zone and a language of their own, no keys."""
    for name in [name for name in os.environ if name.startswith(_OURS) or name in _ALSO]:
        if name != "HFTCL_TEST_DATA":  # where a developer's bars lie: of the tests, not of the product
            del os.environ[name]
    if not hasattr(config, "workerinput"):
        os.environ[_HOME] = tempfile.mkdtemp(prefix="hftcl-tests-")
    if not hasattr(config, "workerinput"):
        # Once, for the hundreds of commands that the tests start: each would compile all of it where Python is told to
        # keep nothing, as containers often tell it.
        compileall.compile_dir(ROOT / "hftcl", quiet=2)
    sys.dont_write_bytecode = False  # else each process writes the tests' asserts anew: ten seconds
    for name in _THREADS:
        os.environ.setdefault(name, "1")
    os.environ.update(HOME=os.environ[_HOME], TZ="UTC", LANG="C.UTF-8", NO_PROXY="127.0.0.1,localhost")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Delete that home folder."""
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ.pop(_HOME), ignore_errors=True)


def pytest_make_parametrize_id(val: object) -> str | None:
    """Return an id that can be printed and is the same in each process; None leaves a value to pytest.

    pytest would print bytes and paths as they are: the time in a gzip header, or a folder of this run, then makes the
    workers of xdist collect different tests, and none runs.
    """
    if isinstance(val, bytes):
        return f"{len(val)}_bytes"  # nothing of the content: what is compressed tells the time
    if isinstance(val, datetime | date | time):
        return val.isoformat().replace(":", "")
    if isinstance(val, str | Path):
        return _printable(str(val))
    return None


def _printable(text: str) -> str:
    """Return a short plain text as it is, of any other its plain characters and a digest."""
    if not text or (len(text) <= _LONGEST_ID and _PLAIN.fullmatch(text) and not _HOUR.search(text)):
        return text
    for place, name in _PLACES:
        text = text.replace(place, name)
    digest = hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:6]
    plain = re.sub(r"[^\w.=-]+", "_", text[: _LONGEST_ID - 7], flags=re.ASCII).strip("_")
    return f"{plain}~{digest}"


@pytest.fixture(scope="session")
def homes(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Homes:
    """Return the homes with trained models that the workers of this session share."""
    base = tmp_path_factory.getbasetemp()
    return Homes((base.parent if hasattr(request.config, "workerinput") else base) / "homes")
