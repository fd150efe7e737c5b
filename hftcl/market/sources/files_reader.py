"""One file of bars: how it is to be read, whose bars it holds, what speaks against them, and its rows.

Reads, never writes. What cannot be true is refused with file, row and remedy.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec
import polars as pl

from hftcl.errors import SourceError
from hftcl.market import doubts
from hftcl.market.bars import PRICES, RAW_SCHEMA
from hftcl.market.columns import extend_schema
from hftcl.market.layouts import Layout, find_layout, map_columns, recognise
from hftcl.market.layouts import cells as reading
from hftcl.market.layouts.names import find_ticker, is_named_after, read_ticker_in_cell, read_ticker_of_path
from hftcl.market.layouts.sheet import OVERFLOW, NoTableError, Sheet, explain_unreadable, open_sheet
from hftcl.market.sessions import Calendar, HorizonError
from hftcl.market.sources.files_clock import judge_hours
from hftcl.market.sources.files_facts import Facts, find_stat, read_stat
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
    split_cells,
)
from hftcl.settings import Files

_FIGURES: Final = (*PRICES, "volume")
_MOST_KEPT: Final = 5_000_000  # rows in memory, 0.4 GB; the newest file is kept whatever its size
_STRAY: Final = 0.01  # of stamps: fewer naive ones among others are faults of their rows, and left null


class FileReader:
    """Reads the files of `[files] folder`; the rows of those that were read last are kept in memory."""

    def __init__(self, files: Files, calendar: str, layout: Layout | None, columns: Sequence[str] = ()) -> None:
        """Read nothing yet. calendar: the exchange's, by name. layout: of every file; None where it is found.

        columns: further numbers that each file has.
        """
        self._figures = (*_FIGURES, *columns)
        self._schema = extend_schema(RAW_SCHEMA, columns)
        self._files = files
        self._folder = Path(files.folder)
        self._calendar = calendar
        self._layout = layout
        self._kept: OrderedDict[Path, dict[str, pl.DataFrame]] = OrderedDict()  # least lately asked for first
        self._kept_rows = 0

    def find_layout(self, facts: Facts) -> Layout:
        return self._layout if self._layout and self._layout.name == facts.layout else find_layout(facts.layout)

    def look(self, path: Path) -> Facts:
        """Find out how to read a file, and whose bars it holds."""
        status = find_stat(path) or ()
        try:
            read_stat(path)
            sheet = open_sheet(path)
        except SourceError as error:
            return Facts(stat=status, fault=str(error), holds_any=not isinstance(error, NoTableError))
        layout = self._layout or recognise(sheet)
        if layout.reshape is not None:
            sheet = layout.reshape(sheet)
        columns = map_columns(sheet, layout, self._files.columns, self._figures[len(_FIGURES) :])
        lacking = [name for name in self._figures if name not in columns]
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
        zone, guesses = self._find_zone(layout, shape)
        comma = sheet.text and reading.writes_decimal_comma([frame[name] for name in PRICES])
        named = read_ticker_of_path(path, self._folder, layout, sheet.inner)
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
                calendar=Calendar(self._calendar),
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
            unit = "" if self._calendar == "24/7" else doubts.find_unit(rows["close"], rows["volume"])
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
        calendar = Calendar(self._calendar)
        shares = {}
        for order in ("mdy", "dmy"):
            days = reading.read(join_stamps(frame, columns), "UTC", order).dt.date().drop_nulls().unique()
            if days.len():
                try:
                    sessions = calendar.list_sessions(days.min(), days.max())["session"]  # type: ignore[arg-type]
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

    def _find_zone(self, layout: Layout, shape: reading.Stamps) -> tuple[str, tuple[str, ...]]:
        """Return the zone of stamps that name none, "" where it must be asked for; and what is only a guess."""
        guesses = () if layout.label or self._files.label != "auto" else ("label: the start, as with most vendors",)
        total = shape.naive + shape.zoned + shape.epoch
        local = shape.naive + (shape.epoch if layout.epoch_is_local else 0)
        if self._files.timezone:
            return self._files.timezone, guesses
        if local <= _STRAY * total:
            return "UTC", guesses
        return layout.zone, guesses

    def read_rows(self, path: Path, facts: Facts, ticker: str) -> pl.DataFrame:
        """Return the rows of `ticker` in one file, in the order of the file, as RAW_SCHEMA, columns and `_row`."""
        name = find_ticker(ticker, facts.tickers) or ticker
        if read_stat(path) != tuple(facts.stat) and path not in self._kept:
            raise SourceError(f"{path} changed while it was read. Run this again when it is whole.")
        if path not in self._kept:
            layout = self.find_layout(facts)
            try:
                sheet = open_sheet(path)
                sheet = layout.reshape(sheet) if layout.reshape is not None else sheet
                frame = collect_rows(split_cells(sheet, facts.columns), path)
            except OSError as error:
                raise explain_unreadable(path, error) from error
            named = read_ticker_of_path(path, self._folder, layout, sheet.inner)
            self._keep(path, self._lay_out(frame, facts, named))
        self._kept.move_to_end(path)
        rows = self._kept[path].get(name)
        if rows is None:
            return self._schema.to_frame().with_columns(pl.lit(0, pl.UInt32).alias("_row"))
        own = pl.col("ticker") == name
        return rows.with_columns(pl.when(own).then(pl.lit(ticker)).otherwise("ticker").alias("ticker"))

    def _keep(self, path: Path, rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
        """Keep the rows of a file by ticker, for each file is asked for often; the least lately asked for go."""
        holders = rows["_holder"].unique()
        if holders.len() == 1:
            parts = {str(holders[0]): rows.drop("_holder")}
        else:
            divided = rows.partition_by("_holder", as_dict=True, include_key=False)
            parts = {str(holder): part for (holder,), part in divided.items()}
        self._kept_rows += rows.height - count_rows(self._kept.get(path, {}))
        self._kept[path] = parts
        self._kept.move_to_end(path)
        while len(self._kept) > 1 and self._kept_rows > _MOST_KEPT:
            self._kept_rows -= count_rows(self._kept.popitem(last=False)[1])
        return parts

    def _lay_out(self, frame: pl.DataFrame, facts: Facts, named: str, known: pl.Series | None = None) -> pl.DataFrame:
        """Return RAW_SCHEMA, columns, `_row`, counted from 1, and `_holder`: the ticker that a row comes with."""
        layout = self.find_layout(facts)
        stamps = join_stamps(frame, facts.columns)
        local = layout.epoch_is_local and facts.kind == "epoch"
        moments = self._parse_moments(stamps, facts, layout) if known is None or local else known
        if facts.label == "end":
            moments = moments.dt.offset_by("-1m")
        values = [
            reading.parse_figures(frame[name], decimal_comma=facts.decimal_comma).alias(name) for name in self._figures
        ]
        whole = frame[OVERFLOW].is_null() if OVERFLOW in frame.columns else None
        rows = pl.DataFrame([moments.alias("ts"), *values]).with_row_index("_row", offset=1)
        if whole is not None and not whole.all():
            rows = rows.with_columns(pl.when(pl.lit(whole)).then(pl.col(name)).alias(name) for name in self._figures)
        if layout.price_divisor != 1.0:
            # numpy divides; polars would multiply with 1e-9, and 201.45 become 201.45000000000002
            rows = rows.with_columns(
                pl.Series(name, rows[name].to_numpy() / layout.price_divisor, nan_to_null=True) for name in PRICES
            )
        if "ticker" not in facts.columns:
            return rows.with_columns(pl.lit(named).alias("ticker"), pl.lit(named).alias("_holder"))
        texts = frame["ticker"].cast(pl.String)
        meaning = {text: read_ticker_in_cell(text, layout) for text in texts.unique().drop_nulls().to_list()}
        mark = texts.replace_strict(list(meaning), list(meaning.values()), default=None, return_dtype=pl.String)
        rows = rows.with_columns(mark.alias("ticker"))
        if facts.owner is not None:
            return rows.with_columns(pl.lit(facts.owner).alias("_holder"))
        # a line without a ticker, such as a header in the middle, comes with the line before it
        header = read_ticker_in_cell(facts.columns["ticker"], layout)
        stray = (pl.col("ticker") == "") | ((pl.col("ticker") == header) & pl.col("ts").is_null())
        holder = pl.when(~stray).then(pl.col("ticker")).forward_fill().backward_fill()
        return rows.with_columns(holder.alias("_holder"))

    def _parse_moments(self, stamps: pl.Series, facts: Facts, layout: Layout) -> pl.Series:
        moments = reading.read(stamps, facts.zone, facts.order)
        if layout.epoch_is_local and facts.kind == "epoch":
            digits = moments.dt.replace_time_zone(None)
            local = digits.dt.replace_time_zone(facts.zone, ambiguous="earliest", non_existent="null")
            return local.dt.convert_time_zone("UTC").cast(RAW_SCHEMA["ts"])
        if not self._files.timezone and not layout.zone and facts.kind in ("zoned", "epoch"):
            return drop_naive(stamps, moments)
        return moments
