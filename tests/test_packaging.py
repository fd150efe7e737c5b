"""What is installed from a wheel: all that a command needs is in it, and what an extra lacks is one sentence."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from datetime import date
from pathlib import Path
from typing import Final

import pytest

from hftcl.errors import ConfigError
from hftcl.trading.brokers import find_broker
from tests.installed import one_line, run
from tests.ledger.ledger_cases import write_ledger
from tests.packages import EXTRAS, ROOT, build_wheel, call, install, make_environment, open_dashboard, without_path

OF_TESTS: Final = {"test", "browser", "site", "all"}
MISSING: Final = {
    "search": ("optuna", ("search", "--trials", "2"), ""),
    "boosting": ("lightgbm", ("retrain", "--force"), '[model]\nfamily = "lightgbm"\n'),
    "dashboard": ("starlette", ("dashboard",), ""),
    "dask": (
        "distributed",
        ("backtest", "--from", "2025-08-04", "--to", "2025-08-15"),
        '[compute]\nbackend = "dask"\n',
    ),
    "alpaca": ("alpaca", ("trade", "--flatten"), '[trade]\nbroker = "alpaca"\n'),
}
"""By extra: a library of it, a command that asks for it, and the settings with which it does."""

QUICK: Final = {
    "HFTCL_MARKET__WATCHLIST": '["AAPL"]',
    "HFTCL_MARKET__LOOKBACK_DAYS": "46",
    "HFTCL_EXAM__SESSIONS": "12",
    "HFTCL_MODEL__N_ESTIMATORS": "20",
}
"""Settings of a first retrain of some seconds."""


def test_all_is_every_extra_but_those_of_the_tests() -> None:
    (one,) = EXTRAS["all"]
    found = re.fullmatch(r"hftcl\[([a-z,]+)\]", one)
    assert found
    assert set(found[1].split(",")) == EXTRAS.keys() - OF_TESTS == MISSING.keys()


@pytest.mark.parametrize("extra", MISSING)
def test_a_missing_extra_is_one_sentence_with_the_command_that_installs_it(tmp_path: Path, extra: str) -> None:
    library, command, toml = MISSING[extra]
    (tmp_path / "hftcl.toml").write_text(f'[market]\nwatchlist = ["AAPL"]\nlookback_days = 46\n{toml}')
    if command[0] == "trade":
        write_ledger(tmp_path / "ledger.sqlite", last=date(2025, 6, 4))  # of a bot that traded, which is to be ended
    hide = tmp_path / "without"  # a library that cannot be imported, in each process that the command starts too
    hide.mkdir()
    (hide / "sitecustomize.py").write_text(f"import sys; sys.modules[{library!r}] = None\n")
    done = run(tmp_path, *command, PYTHONPATH=str(hide))
    assert done.returncode not in (0, 2)
    assert re.search(rf"""pip install ['"]hftcl\[{extra}\]['"]""", one_line(done))
    assert "Traceback" not in done.stderr


def test_a_broker_without_its_library_names_the_extra_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(("alpaca", "hftcl.trading.brokers.alpaca"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "alpaca", None)
    with pytest.raises(ConfigError, match=r"pip install 'hftcl\[alpaca\]'"):
        find_broker("alpaca")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("built"))


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


def test_from_the_files_of_the_wheel_alone_a_newcomer_trains_reads_the_docs_and_opens_the_dashboard(
    wheel: Path, tmp_path: Path
) -> None:
    """With the libraries of this environment, so that it runs each time; with libraries of its own: below."""
    site, home = tmp_path / "site", tmp_path / "empty"
    home.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    environ = {**os.environ, **QUICK, "PYTHONPATH": str(site)}
    told = call([sys.executable, "-c", "import hftcl; print(hftcl.__file__)"], home, environ)
    assert Path(told.strip()) == site / "hftcl" / "__init__.py"
    live_a_first_day([sys.executable, "-m", "hftcl"], home, environ)


@pytest.mark.slow
def test_from_the_wheel_a_newcomer_trains_reads_the_docs_and_opens_the_dashboard(wheel: Path, tmp_path: Path) -> None:
    python = make_environment(tmp_path / "venv")
    install(python, f"{wheel}[dashboard]")
    home = tmp_path / "empty"
    home.mkdir()
    live_a_first_day([python.with_name("hftcl")], home, {**without_path(), **QUICK})


def live_a_first_day(hftcl: list[str | Path], home: Path, environ: dict[str, str]) -> None:
    """Do what the quick start says in an empty folder."""
    call([*hftcl, "init"], home, environ)
    assert "[market]" in (home / "hftcl.toml").read_text()
    call([*hftcl, "retrain", "--force"], home, environ)
    assert list((home / "models").glob("model_*.onnx"))
    assert "champion" in call([*hftcl, "docs", "champion"], home, environ).lower()
    open_dashboard(hftcl, home, environ)
