"""What the installed packages register in a group of entry points, and their versions."""

import os
import sys
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

_FACTS: Final = ".dist-info"  # https://packaging.python.org/en/latest/specifications/recording-installed-packages/
_MODULES: Final = {"scikit-learn": "sklearn"}  # of packages whose module has another name
_KEPT: Final = 8  # a process has one list of folders, and a test of strangers a few


def list_entry_points(group: str) -> Mapping[str, "EntryPoint"]:
    """Return the entry points of `group`, such as "hftcl.sources", by name.

    Every package on `sys.path` is read once, which takes 10 ms and more, and again where a folder of it has changed.

    >>> sorted(list_entry_points("hftcl.brokers"))[:2]
    ['alpaca', 'paper']
    """
    return _read_installed(tuple((folder, _find_age(folder)) for folder in sys.path)).get(group, {})


def find_version(package: str) -> str:
    """Return the version of an installed package, by the name of its folder of facts, such as "numpy-2.4.1.dist-info".

    A tenth of a millisecond, where `importlib.metadata` is loaded in ten first; it is asked where no such folder lies
    on `sys.path`. Raises PackageNotFoundError where there is no such package.

    >>> find_version("exchange-calendars") == find_version("exchange_calendars")
    True
    """
    begin = f"{package.replace('-', '_').lower()}-"
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")  # noqa: PTH208 - hundreds of names, of which no path is wanted
        except OSError:  # as above
            continue
        for name in names:
            if name.endswith(_FACTS) and name.lower().startswith(begin):
                return name[len(begin) : -len(_FACTS)]
    from importlib.metadata import version

    return version(package)


def find_loaded_version(package: str) -> str:
    """Return the version of a package that this process works with; "absent" where it is not installed.

    The one that it has loaded, which stays whatever is installed under it later; where it has not, the installed one.
    """
    loaded = getattr(sys.modules.get(_MODULES.get(package, package)), "__version__", "")
    if loaded:
        return str(loaded)
    try:
        return find_version(package)
    except ModuleNotFoundError:  # PackageNotFoundError is one
        return "absent"


def _find_age(folder: str) -> int:
    """Return when something was last added to the folder or removed; 0 where that cannot be told, as in a zip file."""
    try:
        return Path(folder).stat().st_mtime_ns
    except OSError:  # no folder: `sys.path` may name what is not there
        return 0


@lru_cache(maxsize=_KEPT)
def _read_installed(_folders: tuple[tuple[str, int], ...]) -> Mapping[str, Mapping[str, "EntryPoint"]]:
    from importlib.metadata import entry_points  # 15 ms, which a command with nothing but ours need not wait for

    installed = entry_points()
    groups = [name for name in installed.groups if name.startswith("hftcl.")]
    return {group: {point.name: point for point in installed.select(group=group)} for group in groups}
