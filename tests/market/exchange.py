"""A bar source for tests of the store: bars from a frame, questions counted, faults on demand. A stranger's plug-in."""

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

import polars as pl

from hftcl.errors import SourceError
from hftcl.market.bars import RAW_SCHEMA
from hftcl.market.sessions import Calendar
from hftcl.market.sources import Question, Split


@dataclass
class Exchange:
    """Answers from `bars` (RAW_SCHEMA, all tickers); `asked` lists each question."""

    bars: pl.DataFrame
    calendar: str = "XNYS"
    name: str = "exchange"
    synthetic: bool = False
    version: str = "1"
    table: tuple[Split, ...] = ()
    broken: frozenset[str] = frozenset()
    knows_until: datetime | None = None
    unchanging: bool = False
    asked: list[tuple[str, date, date]] = field(default_factory=list)

    def fingerprint(self, ticker: str) -> str:
        return self.version

    def minutes(self, ticker: str, first: date, last: date) -> pl.DataFrame:
        self.asked.append((ticker, first, last))
        if ticker in self.broken:
            raise SourceError(f"No answer for {ticker}.")
        span = Calendar(self.calendar).list_sessions(first, last)
        within = pl.col("ts").is_between(span["extended_open"][0], span["extended_close"][-1], closed="left")
        return self.bars.filter((pl.col("ticker") == ticker) & within)

    def splits(self, ticker: str) -> tuple[Split, ...]:
        return tuple(split for split in self.table if split.ticker == ticker)

    def known_until(self, tickers: tuple[str, ...], now: datetime) -> datetime | None:
        return min(now, self.knows_until) if self.knows_until else now


class Documented(Exchange):
    """The same, of a vendor whose documents say that stamps are the start of their minute."""

    label_known = True


@dataclass
class Foreseeing(Exchange):
    """The same that hears beforehand what it will be asked; `heard` also notes how many questions had come."""

    heard: list[tuple[tuple[str, ...], date, tuple[Question, ...], int]] = field(default_factory=list)

    def expect(self, tickers: tuple[str, ...], first: date, questions: tuple[Question, ...], *, kept: bool) -> None:
        self.heard.append((tickers, first, questions, len(self.asked)))


def quiet_bars(
    *tickers: str, first: date, last: date, calendar: str = "XNYS", extended: bool = True, step: int = 1
) -> pl.DataFrame:
    """Bars for each `step`th minute of the sessions, prices walking by small deterministic steps near 100."""
    hours = ("extended_open", "extended_close") if extended else ("open", "close")
    frames = []
    for ticker in tickers:
        for begin, end in Calendar(calendar).list_sessions(first, last).select(hours).iter_rows():
            ts = pl.datetime_range(begin, end - timedelta(minutes=1), f"{step}m", eager=True).alias("ts")
            if step > 1 and extended:  # one bar off the grid, so that these are thin minute bars and none of 30 minutes
                ts = pl.concat([ts, pl.Series("ts", [begin + timedelta(minutes=step + 1)], dtype=ts.dtype)]).sort()
            frames.append(ts.to_frame().with_columns(pl.lit(ticker).alias("ticker")))
    walk = 100 + (pl.col("ts").dt.epoch("s") // 60 * 7 % 101) / 100
    # up or down without a tie to the price: a body that is always the same foretells itself, which is refused
    turn = pl.when(pl.col("ts").dt.epoch("s") // 60 * 31 % 17 < 8).then(1.0).otherwise(-1.0)
    return (
        pl.concat(frames)
        .with_columns(walk.alias("open"), (walk + 0.02 * turn).alias("close"))
        .with_columns(
            (pl.max_horizontal("open", "close") + 0.01).alias("high"),
            (pl.min_horizontal("open", "close") - 0.01).alias("low"),
        )
        .with_columns((pl.col("ts").dt.minute().cast(pl.Float64) + 100).alias("volume"))
        .select(RAW_SCHEMA.names())
        .cast(RAW_SCHEMA)
    )
