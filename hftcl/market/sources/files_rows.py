"""The rows of a file: its columns under our names, the stamps as one column, what two files say of one minute. Pure.

But for the table of splits, which is read here too.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Final

import polars as pl

from hftcl.durable import read_file
from hftcl.errors import RefusedBarsError, SourceError
from hftcl.formats import format_moment
from hftcl.market.bars import PRICES
from hftcl.market.layouts import GENERIC, Layout
from hftcl.market.layouts import cells as reading
from hftcl.market.layouts.names import read_ticker_in_cell
from hftcl.market.layouts.sheet import OVERFLOW, Sheet, explain_unreadable
from hftcl.market.sources import Split

_HANDFUL: Final = 10  # minutes in which two rows may differ: corrections; more are two kinds of bars
_EQUAL: Final = 1e-9  # of a price: what one decimal text and another may differ by
_SUPPORT: Final = 0.2  # of a usual day's rows: fewer are misdated, and do not say until when the bars reach


def split_cells(sheet: Sheet, columns: Mapping[str, str]) -> pl.LazyFrame:
    """Return the columns that mean something, under our names, with OVERFLOW where the sheet is a text."""
    wanted = [pl.col(column).alias(role) for role, column in columns.items()]
    return sheet.frame.select(*wanted, *([pl.col(OVERFLOW)] if sheet.text else []))


def join_stamps(frame: pl.DataFrame, columns: Mapping[str, str]) -> pl.Series:
    """Return the column of moments; date and time in two columns become one text."""
    if "ts" in columns:
        return frame["ts"]
    clock = pl.col("time").cast(pl.String).str.strip_chars()
    digits = clock.str.contains(r"^\d{1,6}$")
    long = clock.str.len_chars() > 4
    clock = pl.when(digits).then(pl.when(long).then(clock.str.zfill(6)).otherwise(clock.str.zfill(4))).otherwise(clock)
    day = pl.col("date").cast(pl.String).str.strip_chars().str.replace(r"[ T]00:00(:00)?(\.0+)?$", "")
    return frame.select(pl.concat_str([day, clock], separator=" ").alias("ts")).to_series()


def list_tickers(frame: pl.DataFrame, layout: Layout, named: str) -> tuple[dict[str, tuple[str, ...]], dict[str, int]]:
    """Return ticker -> how the file writes it, and ticker -> number of rows."""
    if "ticker" not in frame.columns:
        return {named: ()}, {named: frame.height}
    spellings: dict[str, tuple[str, ...]] = {}
    counts: dict[str, int] = {}
    for text, length in frame.group_by(pl.col("ticker").cast(pl.String)).len().drop_nulls().sort("ticker").iter_rows():
        ticker = read_ticker_in_cell(text, layout)
        if not ticker:
            continue
        spellings[ticker] = (*spellings.get(ticker, ()), text)
        counts[ticker] = counts.get(ticker, 0) + length
    return spellings, counts


def drop_naive(stamps: pl.Series, moments: pl.Series) -> pl.Series:
    """Take the moments of the few cells that name no zone away: their time is not known."""
    if stamps.dtype != pl.String:
        return moments
    mask = reading.is_naive(stamps)
    return moments.to_frame("ts").select(pl.when(~pl.lit(mask)).then(pl.col("ts")).alias("ts")).to_series()


def find_newest_day(stamps: pl.Series) -> datetime | None:
    """Return the newest moment of a day that has its share of rows; None without one."""
    known = stamps.drop_nulls()
    if not known.len():
        return None
    days = known.alias("ts").to_frame().group_by(pl.col("ts").dt.date().alias("day")).agg(pl.len(), pl.col("ts").max())
    usual = float(days["len"].median() or 0)  # type: ignore[arg-type]
    newest: datetime | None = days.filter(pl.col("len") >= _SUPPORT * usual)["ts"].max()  # type: ignore[assignment]
    return newest


def count_rows(parts: Mapping[str, pl.DataFrame]) -> int:
    return sum(part.height for part in parts.values())


def describe_row(rows: pl.DataFrame, day: object) -> str:
    first = rows.filter(pl.col("ts").dt.date() == day).head(1)
    return f"{first['_row'][0]}, {format_moment(first['ts'][0])} UTC" if first.height else "1"


def describe_first(rows: pl.DataFrame) -> str:
    row = rows.row(0, named=True)
    return f"close {row['close']}, volume {row['volume']}"


def describe_columns(columns: Mapping[str, str]) -> str:
    return ", ".join(f"{role} = {columns[role]!r}" for role in PRICES)


def describe_lack(path: Path, lacking: Sequence[str], sheet: Sheet, layout: Layout) -> str:
    shown = ", ".join(f'{name} = "..."' for name in lacking)
    names = ", ".join(sheet.columns) or "none"
    advice = f" {layout.advice}" if layout.advice else ""
    return (
        f"{path} has no column {', '.join(lacking)}; it has {names}. "
        f"Say what yours are called: [files] columns = {{ {shown} }}.{advice}"
    )


def collect_rows(frame: pl.LazyFrame, path: Path) -> pl.DataFrame:
    try:
        return frame.collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise explain_unreadable(path, error) from error


def require_agreement(ticker: str, frames: Sequence[tuple[Path, pl.DataFrame]]) -> None:
    """Refuse two rows of a minute that differ in more than a handful of minutes: they are two kinds of bars."""
    if not frames:
        return
    rows = pl.concat([rows.with_columns(pl.lit(n).alias("file")) for n, (_, rows) in enumerate(frames)])
    rows = rows.filter(pl.col("ts").is_not_null() & (pl.col("ticker") == ticker))
    if rows["ts"].n_unique() == rows.height:
        return
    span = pl.max_horizontal((pl.col(p).max() - pl.col(p).min()) / pl.col(p).max() for p in PRICES)
    groups = (
        rows.filter(pl.col("ts").is_duplicated())
        .group_by("ts")
        .agg(span.alias("apart"), pl.col("file").min().alias("one"), pl.col("file").max().alias("other"),
             pl.col("close").first().alias("first"), pl.col("close").last().alias("last"),
             pl.col("_row").last().alias("row"))
        .filter(pl.col("apart") > _EQUAL)
        .sort("ts")
    )  # fmt: skip
    if groups.height <= _HANDFUL:
        return
    worst = groups.row(0, named=True)
    one, other = frames[worst["one"]][0], frames[worst["other"]][0]
    where = f"{one} and {other.name} disagree" if one != other else f"{one} has rows that disagree"
    raise RefusedBarsError(
        f"{where} on {groups.height} minutes of {ticker}, the first at {format_moment(worst['ts'])} UTC (row "
        f"{worst['row']}: close {worst['last']:g}, elsewhere {worst['first']:g}). They are two kinds of bars: "
        "other intervals, adjusted and not, other publishers, or another ticker's. Keep one of them in the folder."
    )


def read_splits(path: Path) -> tuple[Split, ...]:
    """Return the splits of a file in Polygon's format, oldest first. Raises SourceError where it is not one."""
    try:
        document = json.loads(read_file(path))
        rows = (document.get("splits") or document["results"]) if isinstance(document, dict) else document
        splits = [
            Split(
                ticker=read_ticker_in_cell(str(row["ticker"]), GENERIC),
                execution_date=date.fromisoformat(row["execution_date"]),
                split_from=float(row["split_from"]),
                split_to=float(row["split_to"]),
            )
            for row in rows
        ]
        for split in splits:
            if not split.is_plausible:
                raise ValueError(f"{split.ticker} {split.execution_date} is one that no company makes")  # noqa: TRY301
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise SourceError(
            f"[files] splits: {path} cannot be read as splits ({type(error).__name__}: {error}). It is a JSON list "
            'under "results" or "splits" with ticker, execution_date, split_from and split_to.'
        ) from error
    return tuple(sorted(splits, key=lambda split: split.execution_date))
