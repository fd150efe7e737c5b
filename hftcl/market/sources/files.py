"""The source `files`: a folder of minute bars as a vendor sells them. Reads, never writes but for what it remembers.

What a file holds is delivered as it is, cells that cannot be read as null: `bars.clean` counts and reports it. What
cannot be true is refused with file, row and remedy. `layouts` knows what a vendor's columns mean.
"""

import hashlib
import os
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import msgspec
import polars as pl

from hftcl.durable import convert_storage_faults, make_folder, read_file, write_atomically
from hftcl.errors import ConfigError, RefusedBarsError, SourceError
from hftcl.home import Home
from hftcl.market import doubts
from hftcl.market.bars import PRICES, RAW_SCHEMA
from hftcl.market.layouts import Layout, find_layout, map_columns, recognise
from hftcl.market.layouts import cells as reading
from hftcl.market.layouts.names import find_ticker, is_copy, is_named_after, plain_name, ticker_in_cell, ticker_of_path
from hftcl.market.layouts.sheet import OVERFLOW, NoTableError, Sheet, kind, open_sheet, unreadable
from hftcl.market.sessions import Calendar, HorizonError
from hftcl.market.sources import Split
from hftcl.market.sources.files_clock import judge_hours
from hftcl.market.sources.files_facts import FORMAT, Facts, FileLook, Remembered, find_stat, require_there, stat
from hftcl.market.sources.files_rows import (
    collect_rows,
    count_rows,
    describe_columns,
    describe_first,
    describe_lack,
    describe_row,
    drop_naive,
    find_newest_day,
    join_stamps,
    list_tickers,
    read_splits,
    require_agreement,
    split_cells,
)
from hftcl.settings import Settings

_FIGURES: Final = (*PRICES, "volume")
_MINUTE: Final = timedelta(minutes=1)  # from the start of a bar to its end
_MOST_KEPT: Final = 5_000_000  # rows in memory, 0.4 GB; the newest file is kept whatever its size
_STRAY: Final = 0.01  # of stamps: fewer naive ones among others are faults of their rows, and left null
_SHOWN: Final = 8  # tickers that a message names


@dataclass(slots=True, kw_only=True)
class _Folder:
    """The files of the folder: those of bars, and those that are left alone with the reason."""

    files: dict[Path, Facts] = field(default_factory=dict)
    ignored: dict[Path, str] = field(default_factory=dict)


class FilesSource:
    """Bars from `[files] folder`, its sub-folders included, looked through once per instance.

    A file with a ticker column holds the tickers it names: "aapl" is AAPL, TpC is not TPC. One without holds the
    ticker in its name, by the rule of `layouts.names`. A file named after a ticker that more than half of its rows
    bear is that ticker's file: other rows in it are delivered with it, as the faults they are. Several files of one
    ticker are read one after the other, in the order of their names; where they disagree they are refused.
    Raises RefusedBarsError naming the file and the remedy for what cannot be read or be true of a ticker, SourceError
    for a folder without bars, ConfigError for an unknown time zone or layout.
    """

    name = "files"
    synthetic = False
    local = True
    past = True
    unchanging = True
    """What has the same fingerprint is the same bars: nothing of it need be asked for again."""

    def __init__(self, settings: Settings, *, layout: Layout | None = None) -> None:
        """Look at nothing yet. layout: read every file by this one, installed or not, whatever the settings say."""
        self._files = settings.files
        self._folder = Path(settings.files.folder)
        self._calendar_name = settings.market.calendar
        self._watched = frozenset(settings.market.watchlist)
        self._found: dict[str, dict[Path, Facts]] = {}
        self._index_file = Home.of(settings).files_index
        self._kept: OrderedDict[Path, dict[str, pl.DataFrame]] = OrderedDict()  # least lately asked for first
        self._kept_rows = 0
        if self._files.timezone:
            try:
                ZoneInfo(self._files.timezone)
            except (KeyError, OSError, ValueError) as error:
                raise ConfigError(
                    f"[files] timezone: {self._files.timezone!r} is not a time zone. "
                    'Use one such as "America/New_York".'
                ) from error
        self._layout = layout or (None if self._files.layout == "auto" else find_layout(self._files.layout))

    def fingerprint(self, ticker: str) -> str:
        """Name the ticker's files with size and times of change, and the settings that change how they are read."""
        parts = [self._reading]
        for path, facts in self._find_files(ticker).items():
            require_there(path)  # only to tell that it has gone: what identifies the rows kept is how it was when read
            parts.append(repr((self._within(path), *facts.stat)))
        return "files " + hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]

    def minutes(self, ticker: str, first: date, last: date) -> pl.DataFrame:
        """Return the rows of the sessions `first` to `last` as RAW_SCHEMA, in the order of the files.

        With a session come the rows after it until the next one begins, so that a bar of a weekend is reported and not
        lost. A row without a readable time stamp comes with the row before it.
        """
        frames: list[tuple[Path, pl.DataFrame]] = []
        files = self._find_files(ticker)
        if (span := self._find_span(first, last)) is None:
            return RAW_SCHEMA.to_frame()
        for path, facts in files.items():
            if not _may_reach_into(facts, find_ticker(ticker, facts.tickers) or ticker, span):
                continue
            try:
                rows = self._lay_out_rows(path, facts, ticker)
            except SourceError as error:
                raise RefusedBarsError(str(error)) from error
            near = pl.col("ts").forward_fill().backward_fill()
            frames.append((path, rows.filter((near >= span[0]) & (near < span[1] if span[1] else True))))
        require_agreement(ticker, frames)
        return pl.concat([RAW_SCHEMA.to_frame(), *(rows.select(RAW_SCHEMA.names()) for _, rows in frames)])

    def splits(self, ticker: str) -> tuple[Split, ...]:
        """Return the splits of `ticker` in `[files] splits`, oldest first; none where no such file is set."""
        return tuple(split for split in self._splits if split.ticker == ticker)

    def known_until(self, tickers: tuple[str, ...], now: datetime) -> datetime | None:
        """Return the end of the newest bar of `tickers` that is complete at `now`; None where they have none.

        Days with far fewer rows than the others do not count: one misdated row must not move everybody's window.
        """
        newest: list[datetime] = []
        refused: list[RefusedBarsError] = []
        for ticker in tickers:
            try:
                files = self._find_files(ticker)
            except RefusedBarsError as error:  # it is left out, and told so, when its bars are asked for
                refused.append(error)
                continue
            for path, facts in files.items():
                name = find_ticker(ticker, facts.tickers) or ticker
                latest = facts.newest.get(name)
                if latest is None:
                    continue
                if latest > now - _MINUTE:
                    rows = self._lay_out_rows(path, facts, ticker)["ts"]
                    earlier = find_newest_day(rows.filter(rows <= now - _MINUTE))
                    if earlier is None:
                        continue
                    latest = earlier
                newest.append(latest)
        if refused and not newest:
            raise refused[0]
        return max(newest) + _MINUTE if newest else None

    def remember(self) -> None:
        """Keep what the look into the files found, so that the next one opens only those that changed."""
        folder = self._index
        index = Remembered(
            format=FORMAT,
            reading=self._reading,
            files={self._within(path): facts for path, facts in folder.files.items()},
        )
        data = msgspec.json.encode(index)
        with convert_storage_faults("remembering the folder of files"):
            make_folder(self._index_file.parent)
            if not self._index_file.is_file() or self._index_file.read_bytes() != data:
                write_atomically(self._index_file, data)

    def look(self) -> tuple[tuple[FileLook, ...], dict[Path, str]]:
        """Return what each file holds, and the files that are left alone with the reason."""
        folder = self._index
        return tuple(FileLook(path=path, facts=facts) for path, facts in folder.files.items()), folder.ignored

    def rows(self, path: Path, ticker: str) -> pl.DataFrame:
        """Return every row of `ticker` in one file, as RAW_SCHEMA."""
        return self._lay_out_rows(path, self._index.files[path], ticker).select(RAW_SCHEMA.names())

    # --- which files

    @cached_property
    def _reading(self) -> str:
        files = self._files
        return repr(
            (
                str(self._folder), files.layout, files.timezone, files.label, files.date_order,
                sorted(files.columns.items()), self._calendar_name,
            )
        )  # fmt: skip

    @cached_property
    def _index(self) -> _Folder:
        """Look through the folder once. Raises SourceError where it is missing or holds nothing readable."""
        folder = _Folder()
        for path in self._walk(folder):
            facts = self._remembered.get(self._within(path))
            if facts is None or tuple(facts.stat) != find_stat(path):
                facts = self._look(path)
            if facts.fault and path.name.lower().endswith(".txt") and not facts.columns and not facts.holds_any:
                folder.ignored[path] = "a text that is no table of bars"
            else:
                folder.files[path] = facts
        if not folder.files:
            raise SourceError(
                f"The folder {self._folder} holds no .parquet, .csv or .csv.gz file, nor any other of bars. "
                "Set [files] folder to your bars."
            )
        return folder

    def _walk(self, folder: _Folder) -> list[Path]:
        """Return the files that may hold bars, sorted; the others are told in `folder.ignored`."""
        try:
            if not self._folder.is_dir():
                next(self._folder.iterdir())
            paths = self._list_paths()
        except OSError as error:
            raise SourceError(
                f"The folder {self._folder} cannot be read ({error.strerror}). Set [files] folder to your bars."
            ) from error
        files = []
        for path in paths:
            original = is_copy(path)
            if not kind(path):
                folder.ignored[path] = f"files that end in {path.suffix or 'nothing'} hold no bars"
            elif original is not None and original in paths:
                folder.ignored[path] = f"a second download of {original.name}"
            elif self._files.splits and path == self._folder / self._files.splits:
                continue
            else:
                files.append(path)
        return files

    def _list_paths(self) -> list[Path]:
        """Return all files, hidden ones and those in hidden folders left out, in the order of their names.

        os.walk, not Path.rglob: of 2,000 files it asks the disk for each folder, not for each file, once.
        """
        names: list[tuple[str, ...]] = []
        for top, folders, files in os.walk(self._folder):
            parts = Path(top).relative_to(self._folder).parts
            links = [name for name in folders if Path(top, name).is_symlink()]  # not entered, as they may go in circles
            folders[:] = [name for name in folders if not name.startswith(".")]
            names += [(*parts, name) for name in (*files, *links) if not name.startswith(".")]
        return [self._folder.joinpath(*parts) for parts in sorted(names)]

    def _within(self, path: Path) -> str:
        """Return the name of a file from the folder on; Path.relative_to takes ten times as long."""
        return str(path).removeprefix(self._prefix)

    @cached_property
    def _prefix(self) -> str:
        return str(self._folder / "_")[:-1]

    @cached_property
    def _remembered(self) -> Mapping[str, Facts]:
        try:
            index = msgspec.json.decode(read_file(self._index_file), type=Remembered)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):  # none yet, or damaged: every file is opened
            return {}
        return index.files if (index.format, index.reading) == (FORMAT, self._reading) else {}

    def _find_files(self, ticker: str) -> dict[Path, Facts]:
        """Return the files of `ticker`. Raises RefusedBarsError where one that may hold its bars cannot be used."""
        if ticker in self._found:
            return self._found[ticker]
        mine = {
            path: facts
            for path, facts in self._by_name.get(plain_name(ticker), {}).items()
            if find_ticker(ticker, [facts.owner] if facts.owner else facts.tickers)
        }
        self._require_one(ticker, mine)
        for path, facts in self._faulty.items():
            named = self._find_ticker(path, facts)
            of_another = bool(mine) and is_named_after(path, named) and self._is_of_one(named, facts)
            if (facts.holds_any and not of_another) or not mine or find_ticker(ticker, [named]):
                raise RefusedBarsError(facts.fault)
        for facts in mine.values():
            fault = facts.faults.get(find_ticker(ticker, facts.tickers) or ticker)
            if fault:
                raise RefusedBarsError(self._with_companion(fault, mine, ticker))
        self._found[ticker] = mine
        return mine

    @cached_property
    def _by_name(self) -> dict[str, dict[Path, Facts]]:
        """The files that can be used, by the plain name of each ticker in them: 2,000 tickers are asked for at once."""
        named: dict[str, dict[Path, Facts]] = {}
        for path, facts in self._index.files.items():
            for name in () if facts.fault else ([facts.owner] if facts.owner else facts.tickers):
                named.setdefault(plain_name(name), {})[path] = facts
        return named

    def _is_of_one(self, named: str, facts: Facts) -> bool:
        """Whether a file that cannot be used is of the ticker in its name alone: watched, or as its neighbours are."""
        return "ticker" not in facts.columns and (named in self._watched or self._one_file_each)

    @cached_property
    def _one_file_each(self) -> bool:
        """Whether the usable files, two or more, hold the ticker in their name each and no other."""
        used = [(path, facts) for path, facts in self._index.files.items() if not facts.fault]
        return len(used) > 1 and all(
            len(facts.tickers) == 1 and is_named_after(path, next(iter(facts.tickers))) for path, facts in used
        )

    @cached_property
    def _faulty(self) -> dict[Path, Facts]:
        return {path: facts for path, facts in self._index.files.items() if facts.fault}

    def _require_one(self, ticker: str, mine: Mapping[Path, Facts]) -> None:
        """Refuse files that write the class of a share differently: they may be of two tickers."""
        names = {find_ticker(ticker, facts.tickers) or ticker for facts in mine.values()}
        if len(names) > 1:
            raise RefusedBarsError(
                f"{ticker} may be any of {', '.join(sorted(names))} in {self._folder}. Rename the files of one of them."
            )

    def _with_companion(self, fault: str, mine: Mapping[Path, Facts], ticker: str) -> str:
        good = [path for path, facts in mine.items() if not facts.faults.get(find_ticker(ticker, facts.tickers) or "")]
        return f"{fault} ({good[0].name} beside it has minute bars of {ticker}.)" if good else fault

    def tickers(self) -> tuple[str, ...]:
        """Return the tickers of all files that can be used, sorted."""
        files = self._index.files.values()
        return tuple(sorted({name for facts in files for name in ([facts.owner] if facts.owner else facts.tickers)}))

    def explain_absence(self, ticker: str) -> str:
        """Return what to tell of a ticker without bars: which ones the folder has, and by which rule."""
        names = self.tickers()
        shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        return (
            f"the folder {self._folder} has {shown or 'no ticker'}; a file without a ticker column is named after its "
            "ticker, up to the first _, blank or comma"
        )

    def _find_ticker(self, path: Path, facts: Facts) -> str:
        return ticker_of_path(path, self._folder, self._find_layout(facts))

    def _find_layout(self, facts: Facts) -> Layout:
        return self._layout if self._layout and self._layout.name == facts.layout else find_layout(facts.layout)

    # --- what is in one file

    def _look(self, path: Path) -> Facts:
        """Find out how to read a file, and whose bars it holds."""
        status = find_stat(path) or ()
        try:
            stat(path)
            sheet = open_sheet(path)
        except SourceError as error:
            return Facts(stat=status, fault=str(error), holds_any=not isinstance(error, NoTableError))
        layout = self._layout or recognise(sheet)
        if layout.reshape is not None:
            sheet = layout.reshape(sheet)
        columns = map_columns(sheet, layout, self._files.columns)
        lacking = [name for name in _FIGURES if name not in columns]
        if "ts" not in columns and not {"date", "time"} <= columns.keys():
            lacking = ["ts", *lacking]
        base = Facts(stat=status, layout=layout.name, columns=columns)
        if lacking:
            return msgspec.structs.replace(
                base, fault=describe_lack(path, lacking, sheet, layout), holds_any={"ticker", "ts"} <= columns.keys()
            )
        try:
            return self._survey(path, sheet, layout, base)
        except SourceError as error:
            return msgspec.structs.replace(base, fault=str(error), holds_any="ticker" in columns)

    def _survey(self, path: Path, sheet: Sheet, layout: Layout, base: Facts) -> Facts:
        frame = collect_rows(split_cells(sheet, base.columns), path)
        stamps = join_stamps(frame, base.columns)
        shape = reading.survey(stamps)
        self._require_stamps(path, shape, stamps, base.columns)
        order = self._order(path, shape, frame, base.columns, layout)
        zone, guesses = self._zone(layout, shape)
        comma = sheet.text and reading.writes_decimal_comma([frame[name] for name in PRICES])
        named = ticker_of_path(path, self._folder, layout, sheet.inner)
        tickers, counts = list_tickers(frame, layout, named)
        owner = None
        if "ticker" in base.columns and is_named_after(path, named) and 2 * counts.get(named, 0) > frame.height:
            owner = named
        label = self._files.label if self._files.label != "auto" else (layout.label or "start")
        facts = msgspec.structs.replace(
            base, kind=shape.kind, order=order, form=shape.form, zone=zone or "UTC", label=label, decimal_comma=comma,
            tickers={owner: tickers.get(owner, ())} if owner else tickers, rows=frame.height, owner=owner,
            guesses=guesses,
        )  # fmt: skip
        parts = self._keep(path, self._lay_out(frame, facts, named, shape.moments))
        return self._judge(path, facts, parts, asked=not zone, shape=shape)

    def _judge(
        self, path: Path, facts: Facts, parts: Mapping[str, pl.DataFrame], *, asked: bool, shape: reading.Stamps
    ) -> Facts:
        """Say until when the bars of each ticker reach, and refuse what cannot be true."""
        newest: dict[str, datetime] = {}
        spans: dict[str, tuple[datetime, datetime]] = {}
        faults: dict[str, str] = {}
        longest = max(parts, key=lambda name: parts[name].height, default=None)
        clock = ""
        if longest is not None:
            fault, clock = judge_hours(
                path,
                facts,
                parts[longest],
                longest,
                asked=asked,
                calendar=Calendar(self._calendar_name),
                label=self._files.label,
            )
            if fault:
                return msgspec.structs.replace(facts, fault=fault, holds_any="ticker" in facts.columns, clock=clock)
        for ticker, rows in parts.items():
            latest = find_newest_day(rows["ts"])
            if latest is not None:
                newest[ticker] = latest
                spans[ticker] = rows["ts"].min(), rows["ts"].max()  # type: ignore[assignment]
            interval = doubts.find_interval(rows["ts"])
            if interval is not None:
                faults[ticker] = (
                    f"{path}: these are {doubts.name_interval(interval[0])} bars of {ticker} (row "
                    f"{describe_row(rows, interval[2])}), and hftcl reads minute bars. "
                    "Take the file out of the folder, or get bars of one minute."
                )
                continue
            if odd := doubts.find_odd_order(rows):
                faults[ticker] = (
                    f"{path}: in {odd[0]:,} of {rows.height:,} rows of {ticker} the high is not the highest price or "
                    f"the low not the lowest (row {odd[1]}): the columns are not what they are taken for, "
                    f"{describe_columns(facts.columns)}. Say what they are: [files] columns = "
                    '{ open = "...", high = "...", low = "...", close = "..." }; those without a name are "1", "2", ...'
                )
                continue
            unit = "" if self._calendar_name == "24/7" else doubts.find_unit(rows["close"], rows["volume"])
            if unit:
                faults[ticker] = (
                    f"{path}: {unit} (row 1 of {ticker}: {describe_first(rows)}). Export it in dollars and shares, "
                    "or set [files] layout to the vendor's, which `hftcl inspect` lists."
                )
        return msgspec.structs.replace(facts, newest=newest, spans=spans, faults=faults, clock=clock)

    def _require_stamps(self, path: Path, shape: reading.Stamps, stamps: pl.Series, columns: Mapping[str, str]) -> None:
        if stamps.len() and not shape.kind:
            name = columns.get("ts") or f"{columns.get('date')} and {columns.get('time')}"
            raise SourceError(
                f"{path}: none of {stamps.len()} time stamps in the column {name!r} can be read, such as "
                f"{shape.example!r}. Write them as ISO 8601, such as 2026-01-31 09:30:00, or as seconds to nanoseconds "
                "since 1970."
            )
        if shape.order == "!":
            raise SourceError(
                f"{path}: dates such as {shape.form!r} have numbers above 12 in both places: day and month change "
                "places within the file. Export it again with the year first."
            )

    def _order(
        self, path: Path, shape: reading.Stamps, frame: pl.DataFrame, columns: Mapping[str, str], layout: Layout
    ) -> str:
        """Decide between 05/12 in May and in December, where the cells alone leave it open by the calendar."""
        if shape.order != "?":
            return shape.order
        if self._files.date_order != "auto":
            return self._files.date_order
        if layout.date_order:
            return layout.date_order
        calendar = Calendar(self._calendar_name)
        shares = {}
        for order in ("mdy", "dmy"):
            days = reading.read(join_stamps(frame, columns), "UTC", order).dt.date().drop_nulls().unique()
            if days.len():
                try:
                    sessions = calendar.sessions(days.min(), days.max())["session"]  # type: ignore[arg-type]
                except HorizonError:
                    continue
                shares[order] = int(days.is_in(sessions.implode()).sum()) / days.len()
        best = [order for order, share in shares.items() if share == 1.0]
        if len(best) == 1 and len(shares) == 2 and min(shares.values()) < 1.0:
            return best[0]
        raise SourceError(
            f"{path}: dates such as {shape.form!r} may begin with the day or the month, and no row of the file "
            'decides. Set [files] date_order = "mdy" or "dmy".'
        )

    def _zone(self, layout: Layout, shape: reading.Stamps) -> tuple[str, tuple[str, ...]]:
        """Return the zone of stamps that name none, "" where it must be asked for; and what is only a guess."""
        guesses = () if layout.label or self._files.label != "auto" else ("label: the start, as with most vendors",)
        total = shape.naive + shape.zoned + shape.epoch
        local = shape.naive + (shape.epoch if layout.epoch_is_local else 0)
        if self._files.timezone:
            return self._files.timezone, guesses
        if local <= _STRAY * total:
            return "UTC", guesses
        return layout.zone, guesses

    # --- its rows

    def _lay_out_rows(self, path: Path, facts: Facts, ticker: str) -> pl.DataFrame:
        """Return the rows of `ticker` in one file, in the order of the file, as RAW_SCHEMA and `row`."""
        name = find_ticker(ticker, facts.tickers) or ticker
        if stat(path) != tuple(facts.stat) and path not in self._kept:
            raise SourceError(f"{path} changed while it was read. Run this again when it is whole.")
        if path not in self._kept:
            layout = self._find_layout(facts)
            try:
                sheet = open_sheet(path)
                sheet = layout.reshape(sheet) if layout.reshape is not None else sheet
                frame = collect_rows(split_cells(sheet, facts.columns), path)
            except OSError as error:
                raise unreadable(path, error) from error
            named = ticker_of_path(path, self._folder, layout, sheet.inner)
            self._keep(path, self._lay_out(frame, facts, named))
        self._kept.move_to_end(path)
        rows = self._kept[path].get(name)
        if rows is None:
            return RAW_SCHEMA.to_frame().with_columns(pl.lit(0, pl.UInt32).alias("row"))
        own = pl.col("ticker") == name
        return rows.with_columns(pl.when(own).then(pl.lit(ticker)).otherwise("ticker").alias("ticker"))

    def _keep(self, path: Path, rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
        """Keep the rows of a file by ticker, for each file is asked for often; the least lately asked for go."""
        holders = rows["holder"].unique()
        if holders.len() == 1:
            parts = {str(holders[0]): rows.drop("holder")}
        else:
            divided = rows.partition_by("holder", as_dict=True, include_key=False)
            parts = {str(holder): part for (holder,), part in divided.items()}
        self._kept_rows += rows.height - count_rows(self._kept.get(path, {}))
        self._kept[path] = parts
        self._kept.move_to_end(path)
        while len(self._kept) > 1 and self._kept_rows > _MOST_KEPT:
            self._kept_rows -= count_rows(self._kept.popitem(last=False)[1])
        return parts

    def _lay_out(self, frame: pl.DataFrame, facts: Facts, named: str, known: pl.Series | None = None) -> pl.DataFrame:
        """Return RAW_SCHEMA with `row`, counted from 1, and `holder`: the ticker that a row comes with."""
        layout = self._find_layout(facts)
        stamps = join_stamps(frame, facts.columns)
        local = layout.epoch_is_local and facts.kind == "epoch"
        moments = self._moments(stamps, facts, layout) if known is None or local else known
        if facts.label == "end":
            moments = moments.dt.offset_by("-1m")
        values = [reading.figures(frame[name], decimal_comma=facts.decimal_comma).alias(name) for name in _FIGURES]
        whole = frame[OVERFLOW].is_null() if OVERFLOW in frame.columns else None
        rows = pl.DataFrame([moments.alias("ts"), *values]).with_row_index("row", offset=1)
        if whole is not None and not whole.all():
            rows = rows.with_columns(pl.when(pl.lit(whole)).then(pl.col(name)).alias(name) for name in _FIGURES)
        if layout.price_divisor != 1.0:
            # numpy divides; polars would multiply with 1e-9, and 201.45 become 201.45000000000002
            rows = rows.with_columns(
                pl.Series(name, rows[name].to_numpy() / layout.price_divisor, nan_to_null=True) for name in PRICES
            )
        if "ticker" not in facts.columns:
            return rows.with_columns(pl.lit(named).alias("ticker"), pl.lit(named).alias("holder"))
        texts = frame["ticker"].cast(pl.String)
        meaning = {text: ticker_in_cell(text, layout) for text in texts.unique().drop_nulls().to_list()}
        mark = texts.replace_strict(list(meaning), list(meaning.values()), default=None, return_dtype=pl.String)
        rows = rows.with_columns(mark.alias("ticker"))
        if facts.owner is not None:
            return rows.with_columns(pl.lit(facts.owner).alias("holder"))
        # a line without a ticker, such as a header in the middle, comes with the line before it
        header = ticker_in_cell(facts.columns["ticker"], layout)
        stray = (pl.col("ticker") == "") | ((pl.col("ticker") == header) & pl.col("ts").is_null())
        holder = pl.when(~stray).then(pl.col("ticker")).forward_fill().backward_fill()
        return rows.with_columns(holder.alias("holder"))

    def _moments(self, stamps: pl.Series, facts: Facts, layout: Layout) -> pl.Series:
        moments = reading.read(stamps, facts.zone, facts.order)
        if layout.epoch_is_local and facts.kind == "epoch":
            digits = moments.dt.replace_time_zone(None)
            local = digits.dt.replace_time_zone(facts.zone, ambiguous="earliest", non_existent="null")
            return local.dt.convert_time_zone("UTC").cast(RAW_SCHEMA["ts"])
        if not self._files.timezone and not layout.zone and facts.kind in ("zoned", "epoch"):
            return drop_naive(stamps, moments)
        return moments

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

    @cached_property
    def _splits(self) -> tuple[Split, ...]:
        return read_splits(self._folder / self._files.splits) if self._files.splits else ()


def _may_reach_into(facts: Facts, ticker: str, span: tuple[datetime, datetime | None]) -> bool:
    """Whether rows of `ticker` may be of these moments: a file of another month need not be opened."""
    known = facts.spans.get(ticker)
    return known is None or (known[1] >= span[0] and (span[1] is None or known[0] < span[1]))
