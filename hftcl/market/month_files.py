"""The files of the cache: one of bars for each ticker and month, and beside it the record of what it holds.

Reads and writes under one folder. The bars are replaced first, then the record, so that a record never promises bars
that are not there; bars that do not match their record, as a kill or a power cut may leave them, are not believed.
"""

import hashlib
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec
import polars as pl

from hftcl.durable import make_folder, read_file, write_together
from hftcl.home import locate_columns, locate_month, locate_month_record
from hftcl.market import bars as market
from hftcl.market.bars import Finding
from hftcl.market.columns import extend_schema

_CHANGED: Final = "its settings, or the size or time of its files, changed"  # of which a fingerprint is made
_FORMAT: Final = 1  # the first: raise it when a file of today would be misread; old files are fetched again
_LEVEL: Final = 1  # of zstd: a tenth larger than the usual level 3, in two thirds of the time
FILE_SCHEMA: Final = pl.Schema({**market.RAW_SCHEMA, "session": pl.Date()})
"""Of bars without further columns; those come behind."""
NO_ROWS: Final = FILE_SCHEMA.to_frame()  # to make a frame of a schema takes a millisecond
# Safe in the file names of every system; tickers are of these, all else is encoded.
_PLAIN: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.")
# Names of devices under Windows, https://learn.microsoft.com/windows/win32/fileio/naming-a-file
_RESERVED: Final = frozenset(
    {"CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(10))}
)
_LONGEST: Final = 100  # file names may have 255 bytes; room for the digest, the month and a temporary name


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFinding:
    """A finding of one session, as the record keeps it."""

    reason: str
    count: int
    first: datetime | None
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldSession:
    """One session that the cache has, perhaps without a bar; `revisions` counts bars that the source changed later."""

    notes: tuple[StoredFinding, ...] = ()
    revisions: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _MonthRecord:
    """What lies beside a Parquet file. `seal` is the SHA-256 of the record itself without it."""

    format: int
    ticker: str
    source: str
    calendar: str
    fingerprint: str
    sha256: str
    sessions: dict[date, HeldSession]
    seal: str = ""

    def add_seal(self) -> "_MonthRecord":
        return replace(self, seal=hashlib.sha256(msgspec.json.encode(replace(self, seal=""))).hexdigest())


class MonthFiles:
    """The files under `folder` of one source and calendar, each by its name. Every method may raise OSError.

    columns: further numbers of the bars. Each set of them has a folder of its own below, so that bars of another set
    stay as they are, and readable, and what a new column needs is asked for again.
    """

    def __init__(self, folder: Path, source: str, calendar: str, columns: tuple[str, ...] = ()) -> None:
        self._folder = locate_columns(folder, _name_set(columns)) if columns else folder
        self._source = source
        self._calendar = calendar
        self._schema = extend_schema(FILE_SCHEMA, sorted(columns))
        self.columns = columns
        self.no_rows = self._arrange(self._schema.to_frame()) if columns else NO_ROWS
        """No row, of the schema that is read and written."""

    def _arrange(self, stored: pl.DataFrame) -> pl.DataFrame:
        """Return the columns in the order of the settings, which the files do not depend on."""
        return stored.select(*FILE_SCHEMA.names(), *self.columns)

    def find_path(self, ticker: str, month: str) -> Path:
        """Return where the bars of a month such as "2026-01" lie; the record is beside them, in .json."""
        return locate_month(self._folder / build_folder_name(ticker), month)

    def read(
        self, ticker: str, month: str, fingerprint: str
    ) -> tuple[Mapping[date, HeldSession], pl.DataFrame] | Finding | None:
        """Return the sessions that a month holds and its bars, FILE_SCHEMA; a finding where they cannot be trusted.

        fingerprint: of the bars that the source would give. None where nothing is stored.
        """
        path = self.find_path(ticker, month)
        written, stored = _read_bytes(locate_month_record(path)), _read_bytes(path)
        if written is None and stored is None:
            return None

        def report_unusable(reason: str, why: str) -> Finding:
            return Finding(ticker, reason, 1, detail=f"{path.parent.name}/{path.name}: {why}")

        record = _read_record(written)
        if record is None:
            return report_unusable("damaged_file", "its record is missing or cannot be read")
        if record != record.add_seal() or (record.format, record.ticker) != (_FORMAT, ticker):
            return report_unusable("damaged_file", "its record was altered or is of another version")
        if stored is None or hashlib.sha256(stored).hexdigest() != record.sha256:
            return report_unusable("damaged_file", "the bars are not those that were recorded")
        if record.source != self._source:
            return report_unusable("other_source", f"came from {record.source!r}, not from {self._source!r}")
        if record.calendar != self._calendar:
            return report_unusable("other_source", f"came from {record.source!r} with the calendar {record.calendar!r}")
        if record.fingerprint != fingerprint:
            return report_unusable("other_source", f"came from {record.source!r} as it was before {_CHANGED}")
        return record.sessions, self._arrange(pl.read_parquet(io.BytesIO(stored), schema=self._schema))

    def read_outdated(self, ticker: str, month: str) -> tuple[Mapping[date, HeldSession], pl.DataFrame] | None:
        """Return what a month holds as this source gave it under any fingerprint, to compare bars with.

        None where `read` tells of more than that: nothing is stored, or it is damaged or of another source.
        """
        record = _read_record(_read_bytes(locate_month_record(self.find_path(ticker, month))))
        found = self.read(ticker, month, record.fingerprint) if record else None
        return None if isinstance(found, Finding) else found

    def write(
        self,
        ticker: str,
        fingerprint: str,
        months: Iterable[str],
        held: Mapping[date, HeldSession],
        bars: pl.DataFrame,
    ) -> None:
        """Write `months`, bars before records, so that none is ahead; a pair that does not match is not believed."""
        files: list[tuple[Path, bytes]] = []
        for month in sorted(months):
            path = self.find_path(ticker, month)
            buffer = io.BytesIO()
            rows = bars.filter(_is_of_month(month)).select(self._schema.names())
            rows.write_parquet(buffer, compression_level=_LEVEL, statistics=False)
            record = _MonthRecord(
                format=_FORMAT,
                ticker=ticker,
                source=self._source,
                calendar=self._calendar,
                fingerprint=fingerprint,
                sha256=hashlib.sha256(buffer.getvalue()).hexdigest(),
                sessions={day: session for day, session in sorted(held.items()) if format_month(day) == month},
            )
            files.append((path, buffer.getvalue()))
            files.append((locate_month_record(path), msgspec.json.format(msgspec.json.encode(record.add_seal()))))
        if files:
            make_folder(self.find_path(ticker, "").parent)
            write_together(files)


def build_folder_name(ticker: str) -> str:
    """Return the folder of `ticker`: one plain name, another for each ticker, whatever characters it holds.

    Capitals, digits, "-" and inner "." stand for themselves, the rest is percent-encoded, lower case too: there are
    disks that take "a" for "A". A name too long for a file ends in a hash.
    """
    encoded = "".join(
        c if c in _PLAIN else "".join(f"%{b:02X}" for b in c.encode("utf-8", "surrogatepass")) for c in ticker
    )
    if not encoded or encoded.startswith(".") or encoded.endswith(".") or encoded.split(".")[0] in _RESERVED:
        encoded = f"%{encoded}"
    if len(encoded) > _LONGEST:
        encoded = f"{encoded[:_LONGEST]}~{hashlib.sha256(encoded.encode()).hexdigest()}"
    return encoded


def _name_set(columns: tuple[str, ...]) -> str:
    """Return one folder name for a set of columns, in whatever order: "trades-vwap"; a long one ends in a hash."""
    name = "-".join(sorted(columns))  # no column has a "-"
    return name if len(name) <= _LONGEST else f"{name[:_LONGEST]}~{hashlib.sha256(name.encode()).hexdigest()}"


def find_unused_month(unused: Finding) -> str:
    """Return the month, such as "2026-01", of a finding of `MonthFiles.read`, whose detail begins with the file."""
    return Path(unused.detail.partition(":")[0]).stem


def format_month(day: date) -> str:
    return f"{day.year:04}-{day.month:02}"


def _is_of_month(month: str) -> pl.Expr:
    """Whether a bar's session is of `month`, such as "2026-01"; to write each date out would take ten times as long."""
    first = date.fromisoformat(f"{month}-01")
    return pl.col("session").is_between(first, (first + timedelta(days=31)).replace(day=1), closed="left")


def _read_record(written: bytes | None) -> _MonthRecord | None:
    """Return the record as it was written, unjudged; None where there is none to read."""
    try:
        return msgspec.json.decode(written or b"", type=_MonthRecord)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _read_bytes(path: Path) -> bytes | None:
    try:
        return read_file(path)
    except FileNotFoundError:
        return None
