"""What a look into one file of a folder found, and whether the file is still the one that was looked into."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from hftcl.errors import RefusedBarsError, SourceError
from hftcl.market.layouts.sheet import explain_unreadable

FORMAT: Final = 3  # of the index: raise it when its entries change, and every file is looked at again


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a look into one file found; kept between two runs, so that a file that did not change is not opened.

    tickers: our name -> how the file writes it. newest: ticker -> end of its bars, ISO. spans: ticker -> its first and
    last stamp, misdated ones included. fault: why it cannot be used. faults: the same of one ticker. holds_any: whether
    any ticker's bars may be in a file with a fault.
    """

    stat: tuple[int, ...]
    layout: str = "generic"
    columns: dict[str, str] = {}
    kind: str = ""
    order: str = ""
    form: str = ""
    zone: str = ""
    label: str = "start"
    decimal_comma: bool = False
    tickers: dict[str, tuple[str, ...]] = {}
    newest: dict[str, datetime] = {}
    spans: dict[str, tuple[datetime, datetime]] = {}
    rows: int = 0
    owner: str | None = None
    fault: str = ""
    faults: dict[str, str] = {}
    holds_any: bool = False
    guesses: tuple[str, ...] = ()
    clock: str = ""


class Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """The facts of a folder's files under one way of reading them."""

    format: int
    reading: str
    files: dict[str, Facts]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileLook:
    """What one file of the folder holds, for a person: see docs/files.md. `refused` says why it cannot be used."""

    path: Path
    facts: Facts

    @property
    def refused(self) -> str:
        return self.facts.fault or next(iter(self.facts.faults.values()), "")


def read_stat(path: Path) -> tuple[int, ...]:
    """Return what changes with a file's content: size, times of change, and its number on the disk."""
    try:
        status = path.stat()
    except OSError as error:
        raise explain_unreadable(path, error) from error
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def require_there(path: Path) -> None:
    try:
        read_stat(path)
    except SourceError as error:
        raise RefusedBarsError(str(error)) from error


def find_stat(path: Path) -> tuple[int, ...] | None:
    try:
        return read_stat(path)
    except SourceError:  # told by the look into it
        return None
