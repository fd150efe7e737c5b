"""The tests are the same in each process and in any order: what conftest.py does for all of them.

Collected otherwise in two processes, none runs: pytest-xdist says "Different tests were collected".
"""

import ast
import logging
import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest
from _pytest.config import get_config
from hypothesis import configuration

from hftcl import logs
from hftcl.settings import Log
from tests import browser
from tests.conftest import ROOT
from tests.shared_work import IDS, keep_constants_of_share, read_ids_of_another, rewrite_share

_WHOLE = 2000  # ids: more than any room has
_LONGEST = 120  # characters between the brackets: four values of the length that conftest.py gives


def by_file(ids: Iterable[str]) -> dict[str, list[str]]:
    """Return the ids of each file in their order: the files come in the order of the command line."""
    files: dict[str, list[str]] = {}
    for each in ids:
        files.setdefault(each.partition("::")[0], []).append(each)
    return files


@pytest.fixture(scope="module")
def elsewhere(request: pytest.FixtureRequest) -> list[str]:
    """Return the ids of the whole suite, slow forms too, of a process with other hashes of texts.

    A worker beside this one has them where both collected the whole suite; else a process is started that does.
    """
    ids = read_ids_of_another(Path(os.environ["HOME"])) if len(request.config.stash[IDS]) > _WHOLE else None
    ids = ids or collect_elsewhere()
    assert len(ids) == len(set(ids)) > _WHOLE
    return ids


def collect_elsewhere() -> list[str]:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--collect-only",
        "-q",
        "-p",
        "no:xdist",
        "-p",
        "no:cacheprovider",
        "-m",
        "",
    ]
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    return done.stdout.partition("\n\n")[0].splitlines()


def test_two_processes_collect_the_same_tests_in_the_same_order(
    elsewhere: list[str], request: pytest.FixtureRequest
) -> None:
    here = request.config.stash[IDS]
    selected = set(here)
    there = [each for each in elsewhere if each in selected]
    if len(here) <= _WHOLE:  # the process that was started then tells them as pytest has put them, by their fixtures
        here, there = sorted(here), sorted(there)
    assert by_file(there) == by_file(here), "an id tells a time or a folder, or the values come from a set"


def test_no_id_holds_bytes_an_escape_a_time_a_folder_or_a_novel(elsewhere: list[str]) -> None:
    values = {each: each.partition("[")[2].removesuffix("]") for each in elsewhere if "[" in each}
    faults = {
        "an escape, or not ASCII": r"\\|[^ -~]",
        "a time": r"\d:\d\d",
        "a folder": r"(^|[^\w.])/\w",
        f"longer than {_LONGEST}": rf".{{{_LONGEST + 1}}}",
    }
    found = [(fault, each) for each, text in values.items() for fault, form in faults.items() if re.search(form, text)]
    assert not found, "\n".join(["give the values ids=[...]", *map(str, found)])


def test_workers_rewrite_the_asserts_of_each_file_once_between_them(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    for number in range(5):
        (tmp_path / f"test_{number}.py").write_text("assert True")
    rewritten = [rewrite_share(pytestconfig, tmp_path, worker, 3) for worker in range(3)]
    assert [len(files) for files in rewritten] == [2, 2, 1]
    assert sorted(file for files in rewritten for file in files) == sorted(tmp_path.glob("*.py"))
    assert rewrite_share(pytestconfig, tmp_path, 0, 1) == [], "pytest finds each one, and takes it"


def test_workers_find_the_constants_of_each_module_once_between_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        (tmp_path / f"m{number}.py").write_text(f"WANTED = {9_990_001 + number}")
    kept = tmp_path / "kept"
    monkeypatch.setattr(configuration, "__hypothesis_home_directory", kept)
    found = [keep_constants_of_share([tmp_path], worker, 3) for worker in range(3)]
    assert [len(files) for files in found] == [2, 2, 1]
    assert sorted(file for files in found for file in files) == sorted(tmp_path.glob("*.py"))
    told = "".join(file.read_text() for file in (kept / "constants").iterdir())
    assert all(str(9_990_001 + number) in told for number in range(5)), "where Hypothesis looks for them"


def test_a_test_file_with_a_syntax_error_ends_no_worker_before_pytest_tells_it(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    (tmp_path / "test_broken.py").write_text("def test_this(:\n")
    (tmp_path / "test_whole.py").write_text("assert True")
    assert rewrite_share(pytestconfig, tmp_path, 0, 1) == [tmp_path / "test_whole.py"]


def test_where_pytest_is_told_to_leave_asserts_as_they_are_none_is_rewritten(tmp_path: Path) -> None:
    (tmp_path / "test_whole.py").write_text("assert True")
    plain = get_config()
    try:
        plain.parse(["-c", os.devnull, "--noconftest", "--assert=plain", str(tmp_path)])
        assert rewrite_share(plain, tmp_path, 0, 1) == []
    finally:
        plain._ensure_unconfigure()  # the capture that it began closes its files


@pytest.mark.parametrize("turn", ["first", "second"])
def test_no_test_sees_what_one_before_it_set_for_the_whole_process(
    turn: str, tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    logging.getLogger("hftcl.market").info("heard in the %s turn", turn)
    assert f"heard in the {turn} turn" in caplog.text, "a test before this one left the level of the log lines changed"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert not Path.cwd().name.startswith("elsewhere")
    logs.configure(Log(), -1)  # what each command does at its start
    signal.signal(signal.SIGTERM, lambda *_: None)
    os.chdir(tmp_path_factory.mktemp("elsewhere"))


def test_a_test_of_a_page_is_skipped_by_name_without_a_browser_and_fails_where_one_is_required(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`.ci/run` requires one wherever it could be installed, so that no skipped test looks as if it passed."""
    monkeypatch.setattr(browser, "CHROMIUM", "")
    monkeypatch.delenv("PYTEST_HFTCL_BROWSER", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"is not installed|no chromium on this machine"):
        next(browser.launch())
    monkeypatch.setenv("PYTEST_HFTCL_BROWSER", "required")
    with pytest.raises(pytest.fail.Exception, match="says that it has to be"):
        next(browser.launch())
    run = (ROOT / ".ci" / "run").read_text()
    assert "PYTEST_HFTCL_BROWSER=required .venv/bin/pytest" in run
    assert "'.[test,browser,site]'" in run, "the site is looked at too"
    assert "rooms=(tests/dashboard tests/pages)\n" in run, "where it cannot be built, the other pages are looked at"


def test_each_test_of_a_page_lies_in_a_room_that_ci_looks_at() -> None:
    (line,) = re.findall(r"rooms=\((.*tests/site)\)", (ROOT / ".ci" / "run").read_text())
    named = {name.removeprefix("tests/") for name in line.split()}
    marked = {
        path.relative_to(ROOT / "tests").parts[0]
        for path in (ROOT / "tests").rglob("test_*.py")
        if re.search(r"^(@|pytestmark = )pytest\.mark\.browser$", path.read_text(), re.MULTILINE)
    }
    assert marked == named


def test_what_starts_a_browser_runs_only_where_nothing_else_does(request: pytest.FixtureRequest) -> None:
    """Playwright keeps an event loop running in its process: there the `asyncio.run` of another test raises."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    given = pyproject["tool"]["pytest"]["addopts"]
    assert "not browser" in given[given.index("-m") + 1].split(" and ")
    unmarked = [
        item.nodeid
        for item in request.session.items
        if "browser" in getattr(item, "fixturenames", ()) and item.get_closest_marker("browser") is None
    ]
    assert unmarked == []


def test_only_the_fixture_of_the_session_starts_a_browser() -> None:
    """A test that started one of its own would bear no fixture's name, and run among the others."""
    starters = [
        path.relative_to(ROOT / "tests").as_posix()
        for path in (ROOT / "tests").rglob("*.py")
        if path.name.startswith(("test_", "conftest")) and "launch(" in (text := path.read_text())
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "launch"
    ]
    assert set(starters) == {"conftest.py", "test_collection.py"}, "the latter where there is none to be had"


LEFT_OPEN = re.compile(r"(?:with|,) sqlite3\.connect\(")
"""A connection as a context commits, and stays open: https://docs.python.org/3/library/sqlite3.html#how-to-use-the-connection-context-manager"""


def test_each_connection_of_a_test_is_closed() -> None:
    """A test that asked a file fifty times a second left a worker with more open ones than select takes."""
    assert LEFT_OPEN.search("with sqlite3.connect(path) as db:")
    assert not LEFT_OPEN.search("with closing(sqlite3.connect(path)) as db, db:")
    others = (path for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__))
    assert [str(path) for path in others if LEFT_OPEN.search(path.read_text(encoding="utf-8"))] == []
