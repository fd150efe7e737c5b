"""An environment of its own for each peer whose libraries are not hftcl's: made by venv and pip, kept between runs."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

PINNED: Final[Mapping[str, tuple[str, ...]]] = {
    # xgboost-cpu: its module of callbacks imports xgboost whatever model is chosen
    "FreqAI": ("freqtrade==2026.9", "datasieve==0.1.9", "lightgbm==4.7.0", "xgboost-cpu==3.2.0"),
    "Qlib": ("pyqlib==0.9.7", "lightgbm==4.7.0"),
}
"""What is installed, by peer."""
LISTED: Final = ("freqtrade", "pyqlib", "lightgbm", "pandas", "numpy")
"""Libraries whose versions the page names."""
MARK: Final = "installed.txt"
"""Written when pip was done: an environment without it, or with other pins in it, is not used."""
NOT_ASKED: Final = "no folder for its environment was given: `--peers FOLDER`"


class NotInstalledError(Exception):
    """An environment could not be made; the text is the last line that venv or pip said."""


def make_environment(folder: Path, pinned: tuple[str, ...]) -> Path:
    """Return the Python of an environment in `folder` that holds `pinned`, which is made where there is none.

    Raises NotInstalledError.
    """
    python, mark, wanted = folder / "bin" / "python", folder / MARK, "\n".join(pinned)
    if mark.exists() and mark.read_text() == wanted:
        return python
    run_to_end([sys.executable, "-m", "venv", str(folder)])
    run_to_end([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *pinned])
    mark.write_text(wanted)
    return python


def run_to_end(command: list[str]) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise NotInstalledError(find_last_line(done.stdout) or f"exit status {done.returncode}")


def find_last_line(text: str) -> str:
    """Return the last line that says something; an empty text where none does."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def make_environments(folder: Path | None) -> tuple[dict[str, Path], dict[str, str]]:
    """Return the Python of each peer, and why there is none of others."""
    if folder is None:
        return {}, dict.fromkeys(PINNED, NOT_ASKED)
    pythons, missing = {}, {}
    for name, pinned in PINNED.items():
        sys.stderr.write(f"{name}: {', '.join(pinned)} in {folder / name.lower()}\n")
        try:
            pythons[name] = make_environment(folder.resolve() / name.lower(), pinned)
        except NotInstalledError as error:
            missing[name] = f"it could not be installed: {error}"
    return pythons, missing


def list_versions(python: Path) -> str:
    """Return what an environment holds of LISTED, as one text."""
    code = (
        "import importlib.metadata as m\n"
        f"print(', '.join(f'{{n}} {{m.version(n)}}' for n in {LISTED!r} if any(m.distributions(name=n))))"
    )
    return subprocess.run([str(python), "-c", code], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
