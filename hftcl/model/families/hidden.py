"""How a process that does nothing but train loads a library without what it offers other programs."""

import inspect
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hftcl.entry_points import list_entry_points
from hftcl.plug_ins import is_strange


@contextmanager
def hide(packages: Sequence[str]) -> Iterator[None]:
    """Let those of the packages that are not loaded look as if they were not installed, and functions undocumented.

    scipy rewrites the documentation of hundreds of its functions as it is loaded: a seventh of the time of a forest's
    libraries. Nothing is hidden where a stranger's family is installed: it trains in the same process, and may use it.
    """
    strangers = any(map(is_strange, list_entry_points("hftcl.families").values()))
    hidden = [] if strangers else [name for name in packages if name not in sys.modules]
    # None says so: https://docs.python.org/3/reference/import.html#the-module-cache
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    read_text = inspect.getdoc
    if not strangers:
        inspect.getdoc = _read_no_text  # type: ignore[assignment]
    try:
        yield
    finally:
        inspect.getdoc = read_text
        for name in hidden:
            del sys.modules[name]


def _read_no_text(_: object) -> None:
    """As `inspect.getdoc` of what has no documentation."""
