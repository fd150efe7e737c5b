"""How a process that does nothing but train loads a library without what it offers other programs."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hftcl.entry_points import list_entry_points


@contextmanager
def hide(packages: Sequence[str]) -> Iterator[None]:
    """Let those of the packages that are not loaded look as if they were not installed.

    None is hidden where a stranger's family is installed: it trains in the same process, and may use what is wrapped.
    """
    strangers = any(not point.value.startswith("hftcl.") for point in list_entry_points("hftcl.families").values())
    hidden = [] if strangers else [name for name in packages if name not in sys.modules]
    # None says so: https://docs.python.org/3/reference/import.html#the-module-cache
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
