"""What is installed from a wheel: all that a command needs is in it, and what an extra lacks is one sentence."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
import tomllib
import urllib.request
import zipfile
from pathlib import Path
from typing import Final

import pytest

from hftcl.errors import ConfigError
from hftcl.trading.brokers import find_broker
from tests.conftest import ROOT
from tests.installed import PATIENCE_S, one_line, run

INSTALL_S: Final = 1200  # 400 MB over a slow line
OF_TESTS: Final = {"test", "browser", "site", "all"}
EXTRAS: Final[dict[str, set[str]]] = {
    name: set(needed)
    for name, needed in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"].items()
}


def test_all_is_every_extra_but_those_of_the_tests() -> None:
    (one,) = EXTRAS["all"]
    found = re.fullmatch(r"hftcl\[([a-z,]+)\]", one)
    assert found
    assert set(found[1].split(",")) == EXTRAS.keys() - OF_TESTS


@pytest.mark.parametrize(
    ("extra", "library", "command", "toml"),
    [
        ("search", "optuna", ("search", "--trials", "2"), ""),
        ("boosting", "lightgbm", ("retrain", "--force"), '[model]\nfamily = "lightgbm"\n'),
        ("dashboard", "starlette", ("dashboard",), ""),
    ],
    ids=["search", "boosting", "dashboard"],
)
def test_a_missing_extra_is_one_sentence_with_the_command_that_installs_it(
    tmp_path: Path, extra: str, library: str, command: tuple[str, ...], toml: str
) -> None:
    (tmp_path / "hftcl.toml").write_text(f'[market]\nwatchlist = ["AAPL"]\nlookback_days = 46\n{toml}')
    hide = tmp_path / "without"  # a library that cannot be imported, in each process that the command starts too
    hide.mkdir()
    (hide / "sitecustomize.py").write_text(f"import sys; sys.modules[{library!r}] = None\n")
    done = run(tmp_path, *command, PYTHONPATH=str(hide))
    assert done.returncode not in (0, 2)
    assert f"hftcl[{extra}]" in one_line(done)
    assert "pip install" in one_line(done)
    assert "Traceback" not in done.stderr


def test_a_broker_without_its_library_names_the_extra_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(("alpaca", "hftcl.trading.brokers.alpaca"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "alpaca", None)
    with pytest.raises(ConfigError, match=r"pip install 'hftcl\[alpaca\]'"):
        find_broker("alpaca")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel that is built of the source distribution, as the registry would hold both."""
    folder = tmp_path_factory.mktemp("built")
    build = (
        "import hatchling.build as b, os, sys; os.chdir(sys.argv[1]); print(b.build_sdist(sys.argv[2]))",
        "import hatchling.build as b, os, sys; os.chdir(sys.argv[1]); print(b.build_wheel(sys.argv[2]))",
    )
    subprocess.run([sys.executable, "-m", "venv", folder / "tools"], check=True)
    python = folder / "tools" / "bin" / "python"
    install([str(python), "-m", "pip", "install", "-q", "hatchling>=1.27"])
    subprocess.run([python, "-c", build[0], ROOT, folder], check=True, stdout=subprocess.PIPE)
    (source,) = folder.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        archive.extractall(folder, filter="data")
    subprocess.run([python, "-c", build[1], folder / source.name.removesuffix(".tar.gz"), folder], check=True)
    (made,) = folder.glob("*.whl")
    return made


def install(command: list[str]) -> None:
    """Install, or skip where no registry answers."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=INSTALL_S)
    if "No matching distribution" not in done.stderr and re.search(r"Connection|Max retries|timed out", done.stderr):
        pytest.skip("no package registry can be reached")
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
def test_the_wheel_holds_templates_scripts_the_example_and_the_docs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("no git, which tells what belongs to the package")
    tracked = subprocess.run([git, "ls-files", "hftcl", "docs"], cwd=ROOT, capture_output=True, text=True, check=True)
    wanted = {f"hftcl/{path}" if path.startswith("docs/") else path for path in tracked.stdout.splitlines()}
    assert len(wanted) > 400
    assert wanted - names == set()
    assert not {name for name in names if name.startswith("tests/")}


@pytest.mark.slow
def test_from_the_wheel_a_newcomer_trains_reads_the_docs_and_opens_the_dashboard(wheel: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    install([str(tmp_path / "venv" / "bin" / "pip"), "install", "-q", f"{wheel}[dashboard]"])
    hftcl, home = tmp_path / "venv" / "bin" / "hftcl", tmp_path / "empty"
    home.mkdir()
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def call(*arguments: str) -> str:
        command = [str(hftcl), *arguments]
        done = subprocess.run(command, cwd=home, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    call("init")
    assert "[market]" in (home / "hftcl.toml").read_text()
    assert "model_" in call("retrain", "--force") + " ".join(path.name for path in (home / "models").iterdir())
    assert "champion" in call("docs", "champion").lower()
    serve = [str(hftcl), "dashboard", "--port", "0"]
    with subprocess.Popen(serve, cwd=home, env=environ, stdout=subprocess.PIPE, text=True) as page:
        try:
            assert page.stdout is not None
            line = next(text for text in iter(page.stdout.readline, "") if "token=" in text)
            address = next(word for word in line.split() if word.startswith("http"))
            opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
            deadline = time.monotonic() + PATIENCE_S
            while b"Verdicts" not in (shown := opener.open(address, timeout=PATIENCE_S).read()):
                assert time.monotonic() < deadline, shown
            root = address.partition("/?")[0]
            assert b"class Chart" in opener.open(f"{root}/static/charts.js", timeout=PATIENCE_S).read()
            assert b".tile" in opener.open(f"{root}/static/app.css", timeout=PATIENCE_S).read()
        finally:
            page.terminate()
