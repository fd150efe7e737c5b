"""What every test stands on: ids that are equal in every process, and one clean environment.

Touches the environment of the test process and a temporary folder, which it deletes at the end.
"""

import compileall
import gc
import hashlib
import logging
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from datetime import date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from tests import browser as real_browser
from tests.shared_work import TESTS, keep_constants_of_share, rewrite_share, tell_ids
from tests.trained import Homes

if TYPE_CHECKING:
    from hftcl.model.training import TrainingPool
    from hftcl.model.training_process import TrainingProcess

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
_TEMPORARY = "PYTEST_DEBUG_TEMPROOT"  # of pytest: where the folders of the tests are
_MEMORY = Path("/dev/shm")  # noqa: S108 - Linux's folder in memory
# Objects, not Python's 700: what collecting makes stays, as do the trees of our modules that some tests walk, and to
# look through it again and again is a sixth of a worker's collecting.
_COLLECT_AFTER = 50_000
_ROOM_BYTES = 8 << 30  # a whole run leaves one gibibyte
_LONGEST_ID = 32  # characters of one value: three values of one test still fit one line of a terminal
_PLAIN = re.compile(r"([\w ,.+=<>()?-]|(?<=\w)/(?=\w))+", re.ASCII)
_HOUR = re.compile(r"\d:\d")
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)  # that a command of ours hears
_PLACES = ((str(ROOT), "ROOT"), (sys.executable, "PYTHON"), (sys.prefix, "PREFIX"), (tempfile.gettempdir(), "TMP"))


def pytest_configure(config: pytest.Config) -> None:
    """Give tests and the processes that they start a home folder, a time zone and a language of their own, no keys."""
    for name in [name for name in os.environ if name.startswith(_OURS) or name in _ALSO]:
        if name != "HFTCL_TEST_DATA":  # where a developer's bars lie: of the tests, not of the product
            del os.environ[name]
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False  # of xdist: most tests first, where one long one may come last
    if not hasattr(config, "workerinput"):
        os.environ[_HOME] = tempfile.mkdtemp(prefix="hftcl-tests-", dir=_find_memory())
        if os.environ[_HOME].startswith(f"{_MEMORY}/"):
            os.environ.setdefault(_TEMPORARY, os.environ[_HOME])
        # Once, for the hundreds of commands that the tests start: each would compile all of it where Python is told to
        # keep nothing, as containers often tell it.
        compileall.compile_dir(ROOT / "hftcl", quiet=2)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # a shell starts so what it runs in the background, and no command of ours would hear Ctrl-C
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # No example fails because the machine is slow: Hypothesis' own 200 ms are for a machine that does nothing else.
    settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("unhurried")
    gc.set_threshold(_COLLECT_AFTER)
    sys.dont_write_bytecode = False  # else each process writes the tests' asserts anew: ten seconds
    for name in _THREADS:
        os.environ.setdefault(name, "1")
    os.environ.update(HOME=os.environ[_HOME], TZ="UTC", LANG="C.UTF-8", NO_PROXY="127.0.0.1,localhost")


def _find_memory() -> Path | None:
    """Return a folder in memory with room for all that tests write, None where there is none.

    The ledgers and registries of a run wait for tens of thousands of syncs, which a disk answers in milliseconds each.
    """
    try:
        about = os.statvfs(_MEMORY)
    except OSError:
        return None
    is_fit = about.f_bavail * about.f_frsize >= _ROOM_BYTES and not about.f_flag & os.ST_NOEXEC
    return _MEMORY if is_fit and os.access(_MEMORY, os.W_OK) else None


def pytest_collection(session: pytest.Session) -> None:
    """Have each worker do its share of what all need, before it collects."""
    given = getattr(session.config, "workerinput", None)
    if given:
        number, workers = int(given["workerid"].removeprefix("gw")), given["workercount"]
        rewrite_share(session.config, TESTS, number, workers)
        keep_constants_of_share((ROOT / "hftcl", TESTS), number, workers)
        from tests.calendars import read_shared_calendar  # here: the controller of xdist needs none of what it loads

        read_shared_calendar()


def pytest_sessionfinish() -> None:
    """Look for garbage once, so that what it warns of is told, and leave the rest to the end of the process.

    pytest would look through half a million objects five times more, and Python after it.
    """
    gc.collect()
    gc.freeze()


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


# Rooms whose tests start commands and train models, or wait for a cluster: a file of theirs takes up to half a minute.
_LONG = (
    "hazards",
    "compute",
    "learning",
    "trading",
    "schedule",
    "cli",
    "dashboard",
    "ledger",
    "contracts",
    "doctor",
    "model",
    "market",
)


@pytest.hookimpl(tryfirst=True)  # before those are taken out that this run does not ask for
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the long files first, so that no worker is left alone with one at the end; files and tests stay in order."""
    items.sort(key=lambda item: _rank(item.path.relative_to(ROOT / "tests")))
    for item in items:
        if any(item.get_closest_marker(name) for name in ("slow", "bench")):
            item.add_marker(pytest.mark.timeout(0))  # they may take hours, and a person waits for them
    tell_ids(config, [item.nodeid for item in items], Path(os.environ[_HOME]))


def _rank(path: Path) -> int:
    room = path.parts[0]
    if room.endswith(".py"):  # docs, recipes and examples run whole commands
        return 0
    return 1 + _LONG.index(room) if room in _LONG else 1 + len(_LONG)


@pytest.fixture(autouse=True)
def _as_in_a_fresh_process() -> Iterator[None]:
    """Take back what a test, or a command that ran in its process, set for the whole process.

    A command sets the level of its log lines and what its signals do, for it owns its process; left behind, they decide
    what a later test of the same worker sees.
    """
    folder = Path.cwd()
    root = logging.getLogger()
    handlers, levels = root.handlers[:], {logger: logger.level for logger in (root, *_loggers())}
    main = threading.current_thread() is threading.main_thread()  # only there may a signal be given a handler
    heard = {number: signal.getsignal(number) for number in _SIGNALS} if main else {}
    yield
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    for logger in (root, *_loggers()):
        level = levels.get(logger, logging.NOTSET)
        if logger.level != level:  # else for nothing: setting one has logging go through all loggers
            logger.setLevel(level)
    for number, handler in heard.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)
    os.chdir(folder)


def _loggers() -> list[logging.Logger]:
    return [each for each in logging.Logger.manager.loggerDict.values() if isinstance(each, logging.Logger)]


@pytest.fixture(scope="session")
def homes(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Homes:
    """Return the homes with trained models that the workers of this session share."""
    base = tmp_path_factory.getbasetemp()
    return Homes((base.parent if hasattr(request.config, "workerinput") else base) / "homes")


@pytest.fixture(scope="session")
def idle_trainers() -> "Iterator[list[TrainingProcess]]":
    """Hold training processes that no test uses now, and end them at the end: one of trees loads for two seconds."""
    idle: list[TrainingProcess] = []
    yield idle
    _end(idle)


def _end(trainers: "list[TrainingProcess]") -> None:
    while trainers:
        trainers.pop().close()


@pytest.fixture
def no_warm_trainers(idle_trainers: "list[TrainingProcess]") -> None:
    """End those processes, for a test that counts the ones of its own."""
    _end(idle_trainers)


@pytest.fixture(scope="module")
def warm_trainers(idle_trainers: "list[TrainingProcess]") -> Iterator[None]:
    """Let the pools of a file of tests share those processes, as the trainings of one retrain do, and leave them be."""
    from hftcl.model.training import TrainingPool  # here: the controller of xdist needs none of what it loads

    begin_cold = TrainingPool.__init__

    def begin(self: "TrainingPool") -> None:
        begin_cold(self)
        self._idle = idle_trainers

    def leave(self: "TrainingPool", *exception: object) -> None:
        pass

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingPool, "__init__", begin)
        patch.setattr(TrainingPool, "__exit__", leave)
        yield


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Return a real browser, once a session; without one the tests that ask for it are skipped by name."""
    yield from real_browser.launch()
