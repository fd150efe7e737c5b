"""The source `files`: a folder of Parquet or CSV, one file per ticker or many tickers in one. Reads, never writes.

What a file holds is delivered as it is, cells that cannot be read as null: `bars.clean` counts and reports it. Reading
of cells: `stamps`.
"""

import csv
import hashlib
import json
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Final, Literal
from zoneinfo import ZoneInfo

import polars as pl

from hftcl.errors import ConfigError, SourceError
from hftcl.market.bars import RAW_SCHEMA, TS
from hftcl.market.sessions import Calendar, HorizonError
from hftcl.market.sources import Split
from hftcl.market.sources.stamps import parse_figures, parse_moments
from hftcl.settings import Files, Settings

_Ours = Literal["ticker", "ts", "open", "high", "low", "close", "volume"]
_PARQUET: Final = (".parquet",)  # a tuple beside _CSV: both are lists of endings
_CSV: Final = (".csv", ".csv.gz")  # gzip is how vendors ship flat files; polars reads it without unpacking to disk
# A bar without one of them is none; `ticker` may also come from the file's name.
_NEEDED: Final[tuple[_Ours, ...]] = ("ts", "open", "high", "low", "close", "volume")
_SEPARATORS: Final = ",;\t|"  # those in use; the one that the header has most of is the file's
_ALSO_CALLED: Final = {
    "ts": ("datetime", "timestamp", "time", "date", "t", "window_start"),
    "ticker": ("symbol", "sym"),
    **{name: (name[0],) for name in ("open", "high", "low", "close")},
    "volume": ("vol", "v"),
}
"""Only to suggest a setting: a column is never taken for what it was not said to be."""

_MINUTE: Final = timedelta(minutes=1)  # from the start of a bar to its end, and the shift of files that stamp the end
_MOST_KEPT: Final = 5_000_000  # rows of CSV in memory, 0.4 GB; the newest file is kept whatever its size


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    """A file as rows and columns. `columns`: the header's name -> the name in `frame`."""

    frame: pl.LazyFrame
    columns: Mapping[str, str]
    overflow: str | None = None  # of CSV: not null in lines with more cells than the header


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """A file that holds bars. `columns`: our name -> its name, without "ticker" where it has no such column."""

    path: Path
    stat: tuple[int, int]  # size and time of change (ns), taken before a byte was read
    table: _Table
    columns: Mapping[str, str]
    spellings: Mapping[str, tuple[str, ...]]  # ticker -> how the file writes it
    owner: str | None  # the ticker whose file it is: rows of others in it are faults


@dataclass(frozen=True, slots=True, kw_only=True)
class _Unfit:
    """A file that cannot be used, and why. `holds_any`: whether any ticker's bars may be in it."""

    path: Path
    fault: str
    holds_any: bool


class FilesSource:
    """Bars from `[files] folder`: *.parquet, *.csv and *.csv.gz directly in it, looked through once per instance.

    A file with a ticker column holds the tickers it names, stripped and in capitals. One without holds the ticker that
    its name begins with, up to the first "_": AAPL.parquet, AAPL_1min.csv, BRK.B.csv. A file whose name begins with a
    ticker that more than half of its rows bear is that ticker's file: other rows in it are delivered with it, as the
    faults they are. Several files of one ticker are read one after the other, in the order of their names.
    Raises SourceError naming the file and the remedy for what cannot be read, ConfigError for an unknown time zone.
    """

    name = "files"
    synthetic = False

    def __init__(self, settings: Settings) -> None:
        self._files = settings.files
        self._folder = Path(settings.files.folder)
        self._calendar_name = settings.market.calendar
        self._kept: OrderedDict[Path, dict[str, pl.DataFrame]] = OrderedDict()  # least lately asked for first
        try:
            ZoneInfo(self._files.timezone)
        except (KeyError, OSError, ValueError) as error:
            raise ConfigError(
                f'[files] timezone: {self._files.timezone!r} is not a time zone. Use one such as "America/New_York".'
            ) from error

    def fingerprint(self, ticker: str) -> str:
        """Name the ticker's files with size and time of change, and the settings that change how they are read."""
        parts = [repr((self._files.timezone, self._files.label, sorted(self._files.columns.items())))]
        for file in self._find_files(ticker):
            _stat(file.path)  # only to tell that it has gone: what identifies the rows kept is how it was when read
            parts.append(repr((file.path.name, *file.stat)))
        return "files " + hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]

    def minutes(self, ticker: str, first: date, last: date) -> pl.DataFrame:
        """Return the rows of the sessions `first` to `last` as RAW_SCHEMA, in the order of the files.

        With a session come the rows after it until the next one begins, so that a bar of a weekend is reported and not
        lost. A row without a readable time stamp comes with the row before it.
        """
        span = self._find_span(first, last)
        frames = [RAW_SCHEMA.to_frame()]
        if span is not None:
            frames += [self._read(file, ticker, span) for file in self._find_files(ticker)]
        return pl.concat(frames)

    def splits(self, ticker: str) -> tuple[Split, ...]:
        """Return the splits of `ticker` in `[files] splits`, oldest first; none where no such file is set."""
        return tuple(split for split in self._splits if split.ticker == ticker)

    def known_until(self, tickers: tuple[str, ...], now: datetime) -> datetime | None:
        """Return the end of the newest bar of `tickers` that is complete at `now`; None where they have none."""
        newest: list[datetime] = []
        for ticker in tickers:
            for file in self._find_files(ticker):
                stamps = self._lay_out_rows(file, ticker).select("ts").filter(pl.col("ts") <= now - _MINUTE)
                newest += _collect(stamps.max(), file.path)["ts"].drop_nulls().to_list()
        return max(newest) + _MINUTE if newest else None

    # --- which files

    @cached_property
    def _index(self) -> tuple[tuple[_File, ...], tuple[_Unfit, ...]]:
        """Look through the folder once. Raises SourceError where it is missing or holds nothing readable."""
        try:
            paths = sorted(p for p in self._folder.iterdir() if _find_kind(p) and not p.name.startswith("."))
        except OSError as error:
            raise SourceError(
                f"The folder {self._folder} cannot be read ({error.strerror}). Set [files] folder to your bars."
            ) from error
        if not paths:
            raise SourceError(
                f"The folder {self._folder} holds no .parquet, .csv or .csv.gz file. Set [files] folder to your bars."
            )
        found = [_look(path, self._files) for path in paths]
        unfit = tuple(file for file in found if isinstance(file, _Unfit))
        return tuple(file for file in found if isinstance(file, _File)), unfit

    def _find_files(self, ticker: str) -> tuple[_File, ...]:
        """Return the files of `ticker`. Raises SourceError where one that may hold its bars cannot be used."""
        files, unfit = self._index
        mine = tuple(file for file in files if (file.owner == ticker if file.owner else ticker in file.spellings))
        for file in unfit:
            if file.holds_any or not mine or _read_ticker(file.path) == ticker:
                raise SourceError(file.fault)
        return mine

    # --- what is in them

    def _find_span(self, first: date, last: date) -> tuple[datetime, datetime | None] | None:
        """From the extended open of the first session to that of the one after the last; None without a session."""
        sessions = self._list_sessions(first, last)
        if sessions.is_empty():
            return None
        try:
            after = Calendar(self._calendar_name).find_next_session(sessions["session"][-1])
        except HorizonError:
            return sessions["extended_open"][0], None
        return sessions["extended_open"][0], self._list_sessions(after, after)["extended_open"][0]

    def _list_sessions(self, first: date, last: date) -> pl.DataFrame:
        return Calendar(self._calendar_name).sessions(first, last)

    def _read(self, file: _File, ticker: str, span: tuple[datetime, datetime | None] | None) -> pl.DataFrame:
        """Return the ticker's rows of one file, those of `span` if given."""
        rows = _collect(self._lay_out_rows(file, ticker), file.path)
        if rows.height and rows["ts"].null_count() == rows.height:
            raise SourceError(
                f"{file.path}: none of {rows.height} time stamps in the column {file.columns['ts']!r} can be read. "
                "Write them as ISO 8601, such as 2026-01-31 09:30:00, or as seconds to nanoseconds since 1970."
            )
        if span is not None:
            near = pl.col("ts").forward_fill().backward_fill()
            rows = rows.filter((near >= span[0]) & (near < span[1] if span[1] else True))
        return rows

    def _lay_out_rows(self, file: _File, ticker: str) -> pl.LazyFrame:
        """Lay out the rows of `ticker` in one file as RAW_SCHEMA, in the order of the file."""
        if file.table.overflow is None:
            frame = file.table.frame
            if file.owner is None:
                written = pl.col(file.table.columns[file.columns["ticker"]]).cast(pl.String)
                frame = frame.filter(written.is_in(file.spellings[ticker]))
            return self._lay_out(file, frame).drop("holder")
        return self._parse(file).get(ticker, RAW_SCHEMA.to_frame()).lazy()

    def _parse(self, file: _File) -> dict[str, pl.DataFrame]:
        """Return the rows of a CSV file by the ticker they come with; kept, for each file is asked for often."""
        if file.path in self._kept:
            self._kept.move_to_end(file.path)
            return self._kept[file.path]
        rows = _collect(self._lay_out(file, file.table.frame), file.path)
        parts = rows.partition_by("holder", as_dict=True, include_key=False)
        self._kept[file.path] = {str(holder): part for (holder,), part in parts.items()}
        while len(self._kept) > 1 and sum(f.height for of in self._kept.values() for f in of.values()) > _MOST_KEPT:
            self._kept.popitem(last=False)
        return self._kept[file.path]

    def _lay_out(self, file: _File, frame: pl.LazyFrame) -> pl.LazyFrame:
        """Lay out `frame`, rows of `file`, as RAW_SCHEMA and `holder`: the ticker that a row comes with."""
        schema = file.table.frame.collect_schema()

        def cells(name: str) -> tuple[pl.Expr, pl.DataType]:
            key = file.table.columns[file.columns[name]]
            return pl.col(key), schema[key]

        if "ticker" in file.columns:
            written, kind = cells("ticker")
            mark = (written if kind == pl.String else written.cast(pl.String)).str.strip_chars().str.to_uppercase()
            # a line without a ticker, such as a header in the middle, comes with the line before it
            stray = mark.is_in(["", file.columns["ticker"].upper()])
            holder = pl.lit(file.owner) if file.owner else pl.when(~stray).then(mark).forward_fill().backward_fill()
        else:
            mark = holder = pl.lit(file.owner)
        stamp = parse_moments(*cells("ts"), self._files.timezone)
        if self._files.label == "end":
            stamp = stamp - _MINUTE
        whole = pl.lit(value=True) if file.table.overflow is None else pl.col(file.table.overflow).is_null()
        values = [pl.when(whole).then(parse_figures(*cells(name))).alias(name) for name in _NEEDED[1:]]
        return frame.select(mark.alias("ticker"), stamp.cast(TS).alias("ts"), *values, holder.alias("holder"))

    @cached_property
    def _splits(self) -> tuple[Split, ...]:
        if not self._files.splits:
            return ()
        path = self._folder / self._files.splits
        try:
            told = json.loads(path.read_bytes())
            rows = (told.get("splits") or told["results"]) if isinstance(told, dict) else told
            splits = [
                Split(
                    ticker=str(row["ticker"]).strip().upper(),
                    execution_date=date.fromisoformat(row["execution_date"]),
                    split_from=float(row["split_from"]),
                    split_to=float(row["split_to"]),
                )
                for row in rows
            ]
            for split in splits:
                if not (0 < split.split_from < math.inf and 0 < split.split_to < math.inf):
                    raise ValueError(f"{split.ticker} {split.execution_date} is not so many shares for so many")  # noqa: TRY301
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise SourceError(
                f"[files] splits: {path} cannot be read as splits ({type(error).__name__}: {error}). It is a JSON list "
                'under "results" or "splits" with ticker, execution_date, split_from and split_to.'
            ) from error
        return tuple(sorted(splits, key=lambda split: split.execution_date))


def _find_kind(path: Path) -> str:
    """Return the ending that says how to read the file, "" for a file that is not for us."""
    return next((ending for ending in (*_PARQUET, *_CSV) if path.name.lower().endswith(ending)), "")


def _read_ticker(path: Path) -> str:
    return path.name[: -len(_find_kind(path))].split("_")[0].strip().upper()


def _stat(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise _build_unreadable_error(path, error) from error
    return status.st_size, status.st_mtime_ns


def _look(path: Path, settings: Files) -> _File | _Unfit:
    """Find out how to read a file, and whose bars it holds."""
    try:
        stat = _stat(path)
        table = _open_table(path)
        columns = _match(table.columns, settings.columns)
        lacking = [name for name in _NEEDED if name not in columns]
        if lacking:
            return _Unfit(
                path=path,
                fault=_describe_lack(path, lacking, tuple(table.columns)),
                holds_any={"ticker", "ts"} <= set(columns),
            )
        named = _read_ticker(path)
        if "ticker" not in columns:
            return _File(path=path, stat=stat, table=table, columns=columns, spellings={named: ()}, owner=named)
        written = pl.col(table.columns[columns["ticker"]]).cast(pl.String).alias("written")
        counts = _collect(table.frame.group_by(written).len(), path).sort("written")
    except SourceError as error:
        return _Unfit(path=path, fault=str(error), holds_any=True)
    spellings: dict[str, tuple[str, ...]] = {}
    rows: dict[str, int] = {}
    for text, count in counts.drop_nulls().iter_rows():
        ticker = text.strip().upper()
        spellings[ticker] = (*spellings.get(ticker, ()), text)
        rows[ticker] = rows.get(ticker, 0) + count
    owner = named if 2 * rows.get(named, 0) > counts["len"].sum() else None
    return _File(path=path, stat=stat, table=table, columns=columns, spellings=spellings, owner=owner)


def _match(header: Mapping[str, str], settings: Mapping[_Ours, str]) -> dict[str, str]:
    """Our names of the columns -> those of the file, told by the settings or the same but for case and spaces."""
    plain = {name.strip().lower(): name for name in header}
    ours: tuple[_Ours, ...] = ("ticker", *_NEEDED)
    wanted = {name: settings.get(name, name) for name in ours}
    found = {name: said if said in header else plain.get(said.strip().lower()) for name, said in wanted.items()}
    return {name: theirs for name, theirs in found.items() if theirs is not None}


def _describe_lack(path: Path, lacking: Sequence[str], header: tuple[str, ...]) -> str:
    guesses = {
        name: theirs for name in lacking for theirs in header if theirs.strip().lower() in _ALSO_CALLED.get(name, ())
    }
    shown = ", ".join(f"{name} = {guesses.get(name, '...')!r}".replace("'", '"') for name in lacking)
    return (
        f"{path} has no column {', '.join(lacking)}; it has {', '.join(header) or 'none'}. "
        f"Say what yours are called: [files] columns = {{ {shown} }}"
    )


def _open_table(path: Path) -> _Table:
    """Open a file. Raises SourceError where it is empty, damaged or not what its name says."""
    if _find_kind(path) in _PARQUET:
        try:
            frame = pl.scan_parquet(path)
            names = frame.collect_schema().names()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise _build_unreadable_error(path, error) from error
        return _Table(frame=frame, columns={name: name for name in names})
    # each line is one cell first: no CSV reader tells of lines with too many cells, or forgives those with too few
    lines = pl.scan_csv(
        path, has_header=False, separator="\x1f", quote_char=None, schema={"line": pl.String}, encoding="utf8-lossy"
    ).filter(pl.col("line").str.strip_chars() != "")
    first = _collect(lines.head(1), path)
    if first.is_empty():
        raise SourceError(f"{path} is empty. Restore it, or take it out of the folder.")
    header = first["line"].item()
    separator = max(_SEPARATORS, key=header.count)
    names = [name.strip() for name in _split_cells(header, separator)]
    keys = [f"field_{place}" for place in range(len(names) + 1)]

    def split(batch: pl.Series) -> pl.Series:
        return _split(batch, separator, keys)

    dtype = pl.Struct(dict.fromkeys(keys, pl.String))
    cells = lines.slice(1).select(pl.col("line").map_batches(split, return_dtype=dtype).alias("cells")).unnest("cells")
    return _Table(frame=cells, columns=dict(zip(names, keys, strict=False)), overflow=keys[-1])


def _split(lines: pl.Series, separator: str, keys: list[str]) -> pl.Series:
    """Cut lines into cells, a struct with a field for each of `keys`; cells that are missing are null."""
    cells = lines.str.split_exact(separator, len(keys) - 1).struct.unnest()
    quoted = lines.str.contains('"', literal=True).fill_null(value=False).arg_true()
    if quoted.len():  # few, or all; cells in quotes may hold the separator
        rows = [_split_cells(line, separator) for line in lines.gather(quoted)]
        for place, key in enumerate(keys):
            column = pl.Series([row[place] if place < len(row) else None for row in rows], dtype=pl.String)
            cells = cells.with_columns(cells[key].scatter(quoted, column))
    return cells.to_struct(lines.name)


def _split_cells(line: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator), [])
    except csv.Error:  # such as a cell of a megabyte: a line without cells is reported as one without a time stamp
        return []


def _collect(frame: pl.LazyFrame, path: Path) -> pl.DataFrame:
    try:
        return frame.collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _build_unreadable_error(path, error) from error


def _build_unreadable_error(path: Path, error: Exception) -> SourceError:
    why = str(error).strip().split("\n")[0] or type(error).__name__
    return SourceError(f"{path} cannot be read ({why}). Restore it, or take it out of the folder.")
