"""The source `polygon-flat`: Polygon's daily flat files of minute aggregates, already downloaded.

A day's file holds the whole market, some 10,000 tickers: each is read once for all tickers that are asked for, only
their rows are kept, and files are read side by side.
Source: https://massive.com/docs/flat-files/stocks/minute-aggregates.md: us_stocks_sip/minute_aggs_v1/2026/01/
2026-01-05.csv.gz; columns ticker, volume, open, close, high, low, window_start (Unix ns, START of the minute),
transactions; unadjusted; a day is published by about 11:00 New York of the next.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import polars as pl

from hftcl.config.dotenv import build_read_error
from hftcl.durable import read_file
from hftcl.errors import ConfigError, SourceError, fold_line
from hftcl.market.bars import RAW_SCHEMA
from hftcl.market.columns import choose_columns, extend_schema
from hftcl.market.sources import Question, Split
from hftcl.settings import Settings
from hftcl.waiting import map_in_threads

_NAME: Final = re.compile(r"(\d{4}-\d{2}-\d{2})\.csv(\.gz)?")
_NEW_YORK: Final = ZoneInfo("America/New_York")
_COLUMNS: Final = {
    "ticker": pl.String(),
    "window_start": pl.Int64(),
    "open": pl.Float64(),
    "high": pl.Float64(),
    "low": pl.Float64(),
    "close": pl.Float64(),
    "volume": pl.Float64(),
}
_FURTHER: Final = {"trades": "transactions"}  # ours -> theirs; a flat file has no volume weighted average price
_AT_ONCE: Final = 2
"""Files that are read at once: polars parses each with all cores, and a day takes some 300 MB meanwhile."""


class FlatFilesSource:
    """Downloaded flat files as a `BarSource`; splits come from a splits.json in Polygon's format beside them."""

    name = "polygon-flat"
    synthetic = False
    label_known = True

    def __init__(self, settings: Settings) -> None:
        """Find the files; none is read yet. Raises ConfigError where there is no folder or no file of a day in it."""
        self.columns = choose_columns(settings.market.columns, tuple(_FURTHER), f"the source {self.name!r}")
        folder = Path(settings.polygon.flat_files)
        self._folder = folder
        self._files = _find_files(folder)
        self._waiting: dict[str, list[pl.DataFrame]] = {}  # ticker -> its rows of each day that was read
        self._left: Counter[str] = Counter()  # ticker -> questions that are still to come
        self._questions: frozenset[Question] = frozenset()
        self._splits: tuple[Split, ...] | None = None
        self._on_step: Callable[[str], None] | None = None

    @property
    def days(self) -> frozenset[date]:
        """The days that have a file."""
        return frozenset(self._files)

    def fingerprint(self, ticker: str) -> str:
        """Return what identifies these bars; new days do not make the old ones others."""
        return "polygon flat files 1/minute"

    def expect(self, tickers: tuple[str, ...], first: date, questions: tuple[Question, ...], *, kept: bool) -> None:
        """Hear what comes: each file is then read once for all questions."""
        self._waiting.clear()
        self._left.clear()
        self._questions = frozenset(questions)

    def report_steps(self, on_step: Callable[[str], None] | None) -> None:
        """Call `on_step` with the day of each file that was read."""
        self._on_step = on_step

    def minutes(self, ticker: str, first: date, last: date) -> pl.DataFrame:
        """Return raw bars of the New York days `first` to `last`, both included, as RAW_SCHEMA.

        A day without a file has no bar. Raises SourceError for a file that is cut short, or is no file of that day's
        minutes.
        """
        question = Question(ticker, first, last)
        if question not in self._questions:
            return self._read_between(self._read_all((question,)).get(ticker, []), question)
        if not self._left:
            self._waiting = self._read_all(self._questions)
            self._left = Counter(each.ticker for each in self._questions)
        answer = self._read_between(self._waiting.get(ticker, []), question)
        self._questions -= {question}
        self._left[ticker] -= 1
        if not self._left[
            ticker
        ]:  # let go of as it is taken: of 500 tickers and 42 days, 14 million rows lie here once
            self._waiting.pop(ticker, None)
            del self._left[ticker]
        return answer

    def splits(self, ticker: str) -> tuple[Split, ...]:
        """Return the splits of `ticker` in splits.json, oldest first. Raises SourceError where it cannot be read."""
        if self._splits is None:
            self._splits = _read_splits(self._folder / "splits.json")
        return tuple(split for split in self._splits if split.ticker == ticker)

    def known_until(self, tickers: tuple[str, ...], now: datetime) -> datetime | None:
        """Return the end of the newest day that has a file, UTC, or `now` where that is earlier."""
        end = datetime.combine(max(self._files) + timedelta(days=1), datetime.min.time(), _NEW_YORK)
        return min(end.astimezone(UTC), now)

    def _read_all(self, questions: Collection[Question]) -> dict[str, list[pl.DataFrame]]:
        """Return the rows of each ticker, one frame a day, without the column `ticker`; each file is read once."""
        tickers = sorted({question.ticker for question in questions})
        days = [d for d in sorted(self._files) if any(q.first <= d <= q.last for q in questions)]
        rows: dict[str, list[pl.DataFrame]] = {}

        def read(day: date) -> pl.DataFrame:
            return _read_day(self._files[day], day, tickers, self.columns)

        with ThreadPoolExecutor(_AT_ONCE, "flat-files") as threads:
            for day, part in zip(days, map_in_threads(threads, read, days), strict=True):
                if self._on_step is not None:
                    self._on_step(f"the file of {day}")
                for (ticker,), mine in part.partition_by("ticker", as_dict=True, include_key=False).items():
                    rows.setdefault(str(ticker), []).append(mine)
        return rows

    def _read_between(self, parts: Sequence[pl.DataFrame], question: Question) -> pl.DataFrame:
        """Return the rows of a ticker on the days that are asked for, as RAW_SCHEMA and the columns."""
        bars = pl.concat([extend_schema(RAW_SCHEMA, self.columns).to_frame().drop("ticker"), *parts])
        day = pl.col("ts").dt.convert_time_zone(str(_NEW_YORK)).dt.date()
        mine = bars.filter(day.is_between(question.first, question.last))
        return mine.select(pl.lit(question.ticker).alias("ticker"), *bars.columns)


def _find_files(folder: Path) -> dict[date, Path]:
    """Return the file of each day under `folder`. Raises ConfigError where two claim one day, or there is none."""
    files: dict[date, Path] = {}
    try:
        paths = sorted(path for path in folder.rglob("*.csv*") if path.is_file())
    except OSError as error:
        raise build_read_error(f"[polygon] flat_files: {folder}", error) from error
    for path in paths:
        match = _NAME.fullmatch(path.name)
        if match is None or "day_aggs" in str(path.relative_to(folder)):
            continue
        day = date.fromisoformat(match[1])
        if day in files:
            raise ConfigError(f"[polygon] flat_files: {files[day]} and {path} are both of {day}. Remove one.")
        files[day] = path
    if not files:
        raise ConfigError(
            f"[polygon] flat_files: there is no file such as 2026-01-05.csv.gz under {folder}. "
            "Download minute_aggs_v1 of us_stocks_sip, or set the folder."
        )
    return files


def _read_day(path: Path, day: date, tickers: Sequence[str], columns: Sequence[str]) -> pl.DataFrame:
    """Return the rows of `tickers` in the file of one day, ticker as Enum. Raises SourceError."""
    wanted = {**_COLUMNS, **{_FURTHER[name]: pl.Float64() for name in columns}}
    try:
        table = pl.read_csv(path, columns=list(wanted), schema_overrides=wanted)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = fold_line(str(error))[:150]
        raise SourceError(
            f"{path} cannot be read as a flat file of minute aggregates: {reason}. Download it again."
        ) from error
    if table.height > 1 and table["window_start"].min() == table["window_start"].max():
        raise SourceError(f"{path} holds one stamp for all rows: day aggregates. Minute aggregates are needed.")
    mine = table.filter(pl.col("ticker").is_in(tickers))
    del table
    bars = mine.select(
        pl.col("ticker").cast(pl.Enum(tickers)),
        (pl.col("window_start") // 1000).cast(RAW_SCHEMA["ts"]).alias("ts"),
        "open",
        "high",
        "low",
        "close",
        "volume",
        *(pl.col(_FURTHER[name]).alias(name) for name in columns),
    )
    local = bars.select(pl.col("ts").dt.convert_time_zone(str(_NEW_YORK)).dt.date().alias("day"))["day"]
    others = local.filter(local != day).unique().sort().to_list()
    if others:
        raise SourceError(
            f"{path} is named {day} and holds minutes of {', '.join(str(other) for other in others[:3])}, New York. "
            "Rename it, or download it again."
        )
    return bars


def _read_splits(path: Path) -> tuple[Split, ...]:
    """Return the splits of a file in Polygon's format: a list, or an object with `results`; none where it is absent."""
    try:
        found = json.loads(read_file(path))
    except FileNotFoundError:
        return ()
    except (OSError, ValueError) as error:
        raise SourceError(f"{path} cannot be read as JSON: {error}. Correct it or remove it.") from error
    rows: Any = found.get("results") if isinstance(found, dict) else found
    try:
        splits = [
            Split(
                row["ticker"],
                date.fromisoformat(row["execution_date"]),
                float(row["split_from"]),
                float(row["split_to"]),
            )
            for row in rows
        ]
        sane = all(split.is_plausible for split in splits)
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(f"{path} holds a split without ticker, date or shares. Correct it.") from error
    if not sane:
        raise SourceError(f"{path} holds a split of a ratio that no company makes. Correct it.")
    return tuple(sorted(splits, key=lambda split: split.execution_date))
