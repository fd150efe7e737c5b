"""The source `files`: a folder of minute bars as a vendor sells them. Reads, never writes but for what it remembers.

Knows which files there are, whose bars they hold and which of them changed; `files_reader` knows what is in one.
What a file holds is delivered as it is, cells that cannot be read as null: `bars.clean` counts and reports it.
"""

import hashlib
import os
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
from hftcl.formats import name_some
from hftcl.home import Home
from hftcl.market.bars import RAW_SCHEMA
from hftcl.market.columns import choose_columns, extend_schema
from hftcl.market.layouts import Layout, find_layout
from hftcl.market.layouts.names import find_ticker, is_copy, is_named_after, read_ticker_of_path, to_plain_name
from hftcl.market.layouts.sheet import find_kind
from hftcl.market.sessions import Calendar, HorizonError
from hftcl.market.sources import Split
from hftcl.market.sources.files_facts import FORMAT, Facts, FileLook, Remembered, find_stat, require_there
from hftcl.market.sources.files_reader import FileReader
from hftcl.market.sources.files_rows import (
    find_newest_day,
    read_splits,
    require_agreement,
)
from hftcl.settings import Settings

_MINUTE: Final = timedelta(minutes=1)  # from the start of a bar to its end
SET_FOLDER: Final = "Set [files] folder to your bars."
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

    def __init__(self, settings: Settings, *, layout: Layout | None = None, remedy: str = SET_FOLDER) -> None:
        """Look at nothing yet.

        layout: read every file by this one, installed or not, whatever the settings say. remedy: what a person is to
        do about a folder that is none, or holds no bars.
        """
        self._remedy = remedy
        self._files = settings.files
        self._folder = Path(settings.files.folder)
        self._calendar_name = settings.market.calendar
        self._watched = frozenset(settings.market.watchlist)
        self._found: dict[str, dict[Path, Facts]] = {}
        self._index_file = Home.of(settings).files_index
        if self._files.timezone:
            try:
                ZoneInfo(self._files.timezone)
            except (KeyError, OSError, ValueError) as error:
                raise ConfigError(
                    f"[files] timezone: {self._files.timezone!r} is not a time zone. "
                    'Use one such as "America/New_York".'
                ) from error
        layout = layout or (None if self._files.layout == "auto" else find_layout(self._files.layout))
        # Any number of a file: what one lacks is told of that file.
        self.columns = choose_columns(settings.market.columns, settings.market.columns, "")
        self._schema = extend_schema(RAW_SCHEMA, self.columns)
        self._reader = FileReader(self._files, self._calendar_name, layout, self.columns)

    def fingerprint(self, ticker: str) -> str:
        """Name the ticker's files with size and times of change, and the settings that change how they are read."""
        parts = [self._reading]
        for path, facts in self._find_files(ticker).items():
            require_there(path)  # only to tell that it has gone: what identifies the rows kept is how it was when read
            parts.append(repr((self._name_within(path), *facts.stat)))
        return "files " + hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]

    def minutes(self, ticker: str, first: date, last: date) -> pl.DataFrame:
        """Return the rows of the sessions `first` to `last` as RAW_SCHEMA and the columns, in the order of the files.

        With a session come the rows after it until the next one begins, so that a bar of a weekend is reported and not
        lost. A row without a readable time stamp comes with the row before it.
        """
        frames: list[tuple[Path, pl.DataFrame]] = []
        files = self._find_files(ticker)
        if (span := self._find_span(first, last)) is None:
            return self._schema.to_frame()
        for path, facts in files.items():
            if not _may_reach_into(facts, find_ticker(ticker, facts.tickers) or ticker, span):
                continue
            try:
                rows = self._reader.read_rows(path, facts, ticker)
            except SourceError as error:
                raise RefusedBarsError(str(error)) from error
            near = pl.col("ts").forward_fill().backward_fill()
            frames.append((path, rows.filter((near >= span[0]) & (near < span[1] if span[1] else True))))
        require_agreement(ticker, frames)
        names = self._schema.names()
        return pl.concat([self._schema.to_frame(), *(rows.select(names) for _, rows in frames)])

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
                    rows = self._reader.read_rows(path, facts, ticker)["ts"]
                    earlier = find_newest_day(rows.filter(rows <= now - _MINUTE))
                    if earlier is None:
                        continue
                    latest = earlier
                newest.append(latest)
            if newest and max(newest) + _MINUTE >= now:  # no other ticker can know more: the last minute is complete
                break
        if refused and not newest:
            raise refused[0]
        return max(newest) + _MINUTE if newest else None

    def remember(self) -> None:
        """Keep what the look into the files found, so that the next one opens only those that changed."""
        folder = self._index
        index = Remembered(
            format=FORMAT,
            reading=self._reading,
            files={self._name_within(path): facts for path, facts in folder.files.items()},
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

    def read_rows(self, path: Path, ticker: str) -> pl.DataFrame:
        """Return every row of `ticker` in one file, as RAW_SCHEMA."""
        return self._reader.read_rows(path, self._index.files[path], ticker).select(RAW_SCHEMA.names())

    # --- which files

    @cached_property
    def _reading(self) -> str:
        files = self._files
        return repr(
            (
                str(self._folder), files.layout, files.timezone, files.label, files.date_order,
                sorted(files.columns.items()), self._calendar_name, *self.columns,
            )
        )  # fmt: skip

    @cached_property
    def _index(self) -> _Folder:
        """Look through the folder once. Raises SourceError where it is missing or holds nothing readable."""
        folder = _Folder()
        for path in self._walk(folder):
            facts = self._remembered.get(self._name_within(path))
            if facts is None or tuple(facts.stat) != find_stat(path):
                facts = self._reader.look(path)
            if facts.fault and path.name.lower().endswith(".txt") and not facts.columns and not facts.holds_any:
                folder.ignored[path] = "a text that is no table of bars"
            else:
                folder.files[path] = facts
        if not folder.files:
            raise SourceError(
                f"The folder {self._folder} holds no .parquet, .csv or .csv.gz file, "
                f"nor any other of bars. {self._remedy}"
            )
        return folder

    def _walk(self, folder: _Folder) -> list[Path]:
        """Return the files that may hold bars, sorted; the others are told in `folder.ignored`."""
        try:
            if not self._folder.is_dir():
                next(self._folder.iterdir())
            paths = self._list_paths()
        except OSError as error:
            raise SourceError(f"The folder {self._folder} cannot be read ({error.strerror}). {self._remedy}") from error
        files = []
        for path in paths:
            original = is_copy(path)
            if not find_kind(path):
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

    def _name_within(self, path: Path) -> str:
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
            for path, facts in self._by_name.get(to_plain_name(ticker), {}).items()
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
                raise RefusedBarsError(self._add_companion(fault, mine, ticker))
        self._found[ticker] = mine
        return mine

    @cached_property
    def _by_name(self) -> dict[str, dict[Path, Facts]]:
        """The files that can be used, by the plain name of each ticker in them: 2,000 tickers are asked for at once."""
        named: dict[str, dict[Path, Facts]] = {}
        for path, facts in self._index.files.items():
            for name in () if facts.fault else ([facts.owner] if facts.owner else facts.tickers):
                named.setdefault(to_plain_name(name), {})[path] = facts
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

    def _add_companion(self, fault: str, mine: Mapping[Path, Facts], ticker: str) -> str:
        good = [path for path, facts in mine.items() if not facts.faults.get(find_ticker(ticker, facts.tickers) or "")]
        return f"{fault} ({good[0].name} beside it has minute bars of {ticker}.)" if good else fault

    def list_tickers(self) -> tuple[str, ...]:
        """Return the tickers of all files that can be used, sorted."""
        files = self._index.files.values()
        return tuple(sorted({name for facts in files for name in ([facts.owner] if facts.owner else facts.tickers)}))

    def explain_absence(self, ticker: str) -> str:
        """Return what to tell of a ticker without bars: which ones the folder has, and by which rule."""
        names = self.list_tickers()
        shown = name_some(names, _SHOWN)
        return (
            f"the folder {self._folder} has {shown or 'no ticker'}; a file without a ticker column is named after its "
            "ticker, up to the first _, blank or comma"
        )

    def _find_ticker(self, path: Path, facts: Facts) -> str:
        return read_ticker_of_path(path, self._folder, self._reader.find_layout(facts))

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
        return Calendar(self._calendar_name).list_sessions(first, last)

    @cached_property
    def _splits(self) -> tuple[Split, ...]:
        return read_splits(self._folder / self._files.splits) if self._files.splits else ()


def _may_reach_into(facts: Facts, ticker: str, span: tuple[datetime, datetime | None]) -> bool:
    """Whether rows of `ticker` may be of these moments: a file of another month need not be opened."""
    known = facts.spans.get(ticker)
    return known is None or (known[1] >= span[0] and (span[1] is None or known[0] < span[1]))
