"""The self-contained HTML pages: one file without network, whole in any browser without scripts, light, dark, on paper.

Draws it; finds nothing itself. The same report gives the same bytes: no clock, no timing and no random name is in it.
What the pages share is in `drawing`.
"""

from pathlib import Path

from hftcl import durable
from hftcl.errors import UsageError
from hftcl.pages.backtest import backtest
from hftcl.pages.drawing import ticks
from hftcl.pages.performance import performance

__all__ = ["backtest", "performance", "require_place", "ticks", "write"]


def require_place(path: Path) -> None:
    """Raise UsageError unless a file can be written at `path`, before the work of minutes begins."""
    if path.is_dir():
        raise UsageError(f"--html {path} is a folder. Name a file in it, such as {path / 'report.html'}.")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"--html {path}: the folder {path.absolute().parent} does not exist. Create it first.")


def write(path: Path, page: str) -> None:
    """Write `page` to `path`, whole or not at all. Raises StorageError."""
    with durable.convert_storage_faults(f"writing {path}"):
        durable.write_atomically(path.absolute(), page.encode())
