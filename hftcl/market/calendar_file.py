"""The sessions of an exchange, kept in a file of the home, for `sessions`: to build them takes a second and pandas.

What is kept holds for a week, for the version of the library that it came from, and only where its digest fits; in any
other case the calendar is built again. Loads no library of numbers.
"""

import contextlib
from datetime import UTC, datetime, timedelta
from typing import Final

from hftcl.home import Home

_LIBRARY: Final = "exchange_calendars"
_FRESH: Final = timedelta(days=7)  # a calendar reaches to a year from the day on which it was built: not much less
_home: Home | None = None  # of the process: a calendar is asked for by its name, in many places
_writes = True  # of the process too


def keep_calendars(home: Home, *, writes: bool = True) -> None:
    """Keep the calendars that this process asks for in `home` from now on, where that is a home.

    writes: else what another process kept there is used, and nothing is added.
    """
    global _home, _writes
    _home, _writes = home, writes


def read_kept(name: str) -> tuple[str, bytes] | None:
    """Return the zone and the table of a calendar as `write_kept` was given them; None where that cannot be used."""
    if _home is None:
        return None
    import hashlib  # here, as what follows: `trade --status` names the home and asks for no calendar
    import json

    from hftcl import durable
    from hftcl.entry_points import find_version

    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # missing or damaged: it is built again
        digest, _, rest = durable.read_file(_home.locate_calendar(name)).partition(b"\n")
        head, _, table = rest.partition(b"\n")
        if hashlib.sha256(rest).hexdigest().encode() != digest:
            return None
        kept = json.loads(head)
        age = _find_today() - datetime.fromisoformat(kept["built"])
        if (kept["calendar"], kept["version"]) == (name, find_version(_LIBRARY)) and timedelta(0) <= age <= _FRESH:
            return str(kept["zone"]), table
    return None


def write_kept(name: str, zone: str, table: bytes) -> None:
    """Keep a calendar that was just built; a home that does not exist yet, or may not be written, keeps none."""
    if _home is None or not _writes or not _home.models.is_dir():
        return
    import hashlib
    import json

    from hftcl import durable
    from hftcl.entry_points import find_version

    head = {"calendar": name, "version": find_version(_LIBRARY), "built": _find_today().isoformat(), "zone": zone}
    rest = json.dumps(head).encode() + b"\n" + table
    with contextlib.suppress(OSError):  # it is built again next time
        durable.write_atomically(_home.locate_calendar(name), hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest)


def _find_today() -> datetime:
    now = datetime.now(UTC)  # noqa: TID251 - the library, too, builds as of the clock of the host
    return now.replace(hour=0, minute=0, second=0, microsecond=0)
