"""Packages as a person installs them: what pyproject.toml asks for, a wheel of this tree, environments of their own."""

import os
import re
import subprocess
import sys
import tarfile
import time
import tomllib
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from tests.installed import PATIENCE_S

ROOT: Final = Path(__file__).resolve().parent.parent
PROJECT: Final[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: Final[dict[str, list[str]]] = PROJECT["optional-dependencies"]
INSTALL_S: Final = 1200  # 400 MB over a slow line
_BUILD: Final = "import hatchling.build as b, os, sys; os.chdir(sys.argv[2]); getattr(b, sys.argv[1])(sys.argv[3])"


def list_floors(requirements: Iterable[str]) -> list[str]:
    """Return each requirement at its least version."""
    return [text.replace(">=", "==") for text in requirements]


def build_wheel(folder: Path) -> Path:
    """Return the wheel that is built of the source distribution, as a registry would hold both."""
    subprocess.run([sys.executable, "-c", _BUILD, "build_sdist", ROOT, folder], check=True)
    (source,) = folder.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        archive.extractall(folder, filter="data")
    unpacked = folder / source.name.removesuffix(".tar.gz")
    subprocess.run([sys.executable, "-c", _BUILD, "build_wheel", unpacked, folder], check=True)
    (made,) = folder.glob("*.whl")
    return made


def make_environment(folder: Path, below: Path | None = None) -> Path:
    """Return the Python of a new environment; below: that of another one, whose packages it sees under its own."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    if below is not None:
        (seen,) = (below.parent.parent / "lib").glob("python*/site-packages")
        (own,) = (folder / "lib").glob("python*/site-packages")
        (own / "below.pth").write_text(f"{seen}\n")
    return folder / "bin" / "python"


def install(python: Path, *what: str | Path) -> None:
    """Install with the pip of an environment, or skip the test where no registry answers."""
    command = [python, "-m", "pip", "install", "-q", *what]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=INSTALL_S)
    if "No matching distribution" not in done.stderr and re.search(r"Connection|Max retries|timed out", done.stderr):
        pytest.skip("no package registry can be reached")
    assert done.returncode == 0, done.stderr[-2000:]


def call(command: Sequence[str | Path], folder: Path, environ: Mapping[str, str] | None = None) -> str:
    """Run a command in a folder; return what it prints. It has to work."""
    done = subprocess.run(
        command, cwd=folder, env=environ or without_path(), capture_output=True, text=True, check=False,
        timeout=INSTALL_S,
    )  # fmt: skip
    assert done.returncode == 0, (command, done.stdout[-2000:], done.stderr[-2000:])
    return done.stdout


def without_path() -> dict[str, str]:
    """Return this environment without what would put this tree before what is installed."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def open_dashboard(hftcl: Sequence[str | Path], home: Path, environ: Mapping[str, str] | None = None) -> None:
    """Start the dashboard, and wait until its page, its script and its style are there."""
    serve = [*hftcl, "dashboard", "--port", "0"]
    with subprocess.Popen(serve, cwd=home, env=environ or without_path(), stdout=subprocess.PIPE, text=True) as page:
        try:
            assert page.stdout is not None
            line = next((text for text in iter(page.stdout.readline, "") if "token=" in text), None)
            assert line, "it ended"
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
