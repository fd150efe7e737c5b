"""What tells, without opening a file, that a part of the page may show something else."""

from typing import Final

from hftcl.durable import read_stamp
from hftcl.home import Home
from hftcl.settings import Settings
from hftcl.trading.run.status import read_stamps

Stamps = dict[str, tuple[object, ...]]
_FAULT: Final = ("a fault",)  # what cannot be looked at has no stamp: that it can be again is a change


def look(settings: Settings) -> Stamps:
    """Return by group what changes whenever a file of that group does."""
    home = Home.of(settings)
    stamps: Stamps = {}
    for name, files in (("registry", (home.registry, home.production)), ("alerts", (home.alerts,))):
        try:
            stamps[name] = tuple(read_stamp(path) for path in files)
        except OSError:
            stamps[name] = _FAULT
    try:
        stamps["ledger"] = read_stamps(settings)
    except OSError:
        stamps["ledger"] = _FAULT
    return stamps
