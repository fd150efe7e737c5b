"""Which hftcl, Python and libraries a process has: a worker of other ones would give other results, and is refused."""

import platform
from collections.abc import Mapping
from functools import cache

from hftcl import __version__
from hftcl.compute.code_digest import hash_code, list_versions

_SHOWN = 12  # characters of a hash: enough to tell two apart


@cache  # a process keeps the code that it has loaded, whatever is installed under it later
def describe_versions() -> dict[str, str]:
    """Return the version of everything that a result may depend on, by name."""
    return {
        "hftcl": __version__,
        "the code of hftcl": hash_code()[:_SHOWN],
        "Python": platform.python_version(),
        **list_versions(),
    }


def describe_difference(here: Mapping[str, str], there: Mapping[str, str]) -> str:
    """Return in what they differ, as "numpy 2.1.0, not 2.4.6"; "" where all is the same."""
    names = dict.fromkeys((*here, *there))
    return ", ".join(
        f"{name} {there.get(name, 'absent')}, not {here.get(name, 'absent')}"
        for name in names
        if here.get(name, "absent") != there.get(name, "absent")
    )
