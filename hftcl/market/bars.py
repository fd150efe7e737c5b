"""The bar schema, and what turns raw bars into clean ones with findings. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from statistics import median
from typing import TYPE_CHECKING, Final

import polars as pl

from hftcl.errors import SourceError
from hftcl.formats import count

if TYPE_CHECKING:
    from hftcl.market.sources import Split

# Microseconds, as Python's datetime: a stamp goes to and fro unchanged; vendors give milliseconds.
TS: Final = pl.Datetime("us", "UTC")
MINUTE: Final = timedelta(minutes=1)  # the one length of bar that features, labels and orders are made for
PRICES: Final = ("open", "high", "low", "close")  # in the order in which vendors and charts give them

RAW_SCHEMA: Final = pl.Schema(
    {
        "ticker": pl.String(),
        "ts": TS,
        "open": pl.Float64(),
        "high": pl.Float64(),
        "low": pl.Float64(),
        "close": pl.Float64(),
        "volume": pl.Float64(),
    }
)
"""Bars as a source delivers them: `ts` is the START of the minute, UTC."""

BAR_SCHEMA: Final = pl.Schema(
    {
        "ticker": pl.String(),
        "ts": TS,
        "session": pl.Date(),
        "minute": pl.Int32(),
        "session_minutes": pl.Int32(),
        "regular": pl.Boolean(),
        "open": pl.Float64(),
        "high": pl.Float64(),
        "low": pl.Float64(),
        "close": pl.Float64(),
        "volume": pl.Float64(),
    }
)
"""Clean bars, sorted by ticker and ts: `minute` counts from the session's open, which is minute 0 (negative before it),
and `session_minutes` is the session's length (390 on a full day, 210 on a half day). Prices as traded, or adjusted for
splits where a function says so."""

DROPPED: Final = {
    "foreign_ticker": "the bar names another ticker",
    "no_timestamp": "the bar has no time, or one of the hour that the clocks repeat or leave out, without an offset",
    "off_minute": "the bar does not start on a whole minute",
    "future": "the bar begins after the moment up to which the program knows bars",
    "still_open": "the minute had not ended",
    "outside_session": "the exchange was closed, or the session was not asked for",
    "not_finite": "a price or the volume is missing, NaN or infinite",
    "not_positive": "a price is zero or negative",
    "negative_volume": "the volume is negative",
    "zero_volume": "nothing traded: a minute without trades has no bar, so its price is not a price",
    "high_below_low": "the high is below the low",
    "open_or_close_outside_range": "open or close is above the high or below the low",
    "bad_tick": "a price is wildly off the same minute or the session's first bar",
    "duplicate": "the same bar came more than once; one was kept",
    "conflicting_duplicate": "different bars of one minute; the last delivered was kept",
}
"""Why `clean` drops a bar: reason code and meaning. A bar with several faults counts under the first of them here."""

NOTED: Final = {
    "label": "the busiest minute is not the opening one: stamps look like the wrong end of their minute",
    "stuck_price": "one and the same price for 10 or more bars in a row; kept",
    "gap": "regular minutes without a bar, 10 or more in a row; never filled",
    "missing_session": "sessions of the exchange calendar without any bar; never filled",
    "partly_extended": "sessions without bars outside regular hours, while others have them",
    "unannounced_split": "an overnight jump like a split that no split table knows; earlier sessions are left out",
    "revised": "bars that the source delivered differently, newly or no longer when it was asked again",
    "vanished_session": "the source no longer has bars of a session that it delivered before; the stored were kept",
    "taken_back": "the newest answer lacked a bar or two that are stored; kept, unless the next answer lacks them too",
    "lots": "the usual volume changed by a factor near 100: lots beside shares; kept",
    "doubtful": "a session with too few or broken bars; it is asked for again, with a growing pause",
    "damaged_file": "stored bars did not match their record, and were fetched again",
    "other_source": "stored bars came from another source or other settings of it, and were fetched again",
}
"""What is reported without dropping a raw bar: reason code and meaning."""

_RANGE_FACTOR: Final = 2.0  # no minute in 1.33 million real bars spans more than a factor of 1.10
_SESSION_FACTOR: Final = 5.0  # decimals slip by 10; a share that moves fivefold in a day is one not to trade blindly
_STUCK_BARS: Final = 10  # liquid shares repeat a flat minute at most twice in a row
# Chosen: thin shares lack single minutes all day long; ten in a row are a halt or a loss of data.
_GAP_MINUTES: Final = 10
_LABEL_FACTOR = 1.25  # how far the opening minute stands out against those beside it
_LABEL_SESSIONS, _LABEL_SHARE = 5, 0.6  # of noise, one minute in three is the busiest: 1 in 243 for five sessions
# Chosen: a session of ten may lack extended trades by itself; more is another range of hours in the source.
_MOSTLY: Final = 0.9
# Whole numbers that boards choose; 3:2 and the like are within what a share moves in a night.
_SPLIT_RATIOS: Final = (2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30, 40, 50, 100)
_SPLIT_TOLERANCE: Final = 0.10  # the ordinary overnight return on top of a split; a move of 40 % is no 2:1 split
_LEAST_SPLIT: Final = 1.5  # below what looks like the smallest of them, 2 less the tolerance
_MOST_SHARES: Final = 1000  # for one; the largest known splits, either way, are of some hundreds
_EDGE_BARS: Final = 5  # the median of so many bars on each side of the night: one bad bar makes no split


@dataclass(frozen=True, slots=True)
class Finding:
    """Bars that were dropped, merged or suspected, and why: `count` bars of `ticker`, the first at `first` (UTC).

    `session` is the one they belong to, or where they belong to none, the one that they follow.

    >>> Finding(ticker='AAPL', reason='duplicate', count=2).count
    2
    """

    ticker: str
    reason: str
    count: int
    first: datetime | None = None
    session: date | None = None
    detail: str = ""


def clean(
    raw: pl.DataFrame, sessions: pl.DataFrame, *, ticker: str, as_of: datetime | None = None
) -> tuple[pl.DataFrame, tuple[Finding, ...]]:
    """Return the good bars of `ticker` as BAR_SCHEMA sorted by ts, unadjusted, and one finding per reason and session.

    raw: RAW_SCHEMA in any order. sessions: as `Calendar.sessions` gives them; a bar in none of them is dropped.
    as_of (UTC): bars not known by then, that is ts + 60 s > as_of, are dropped.
    Rows in = rows out + the counts of findings whose reason is in DROPPED. Cleaning twice changes nothing. Whether a
    bar is good depends on itself, other bars of its minute, and the first good bar of its session, never on a later
    minute: otherwise cleaning would look ahead, and the bot could not repeat it.
    """
    rows = raw.select(RAW_SCHEMA.names()).with_columns(_find_session_index(sessions))
    rows = rows.with_columns(_find_fault(ticker, as_of).alias("reason")).sort("ts", maintain_order=True)
    good, faulty = rows.filter(pl.col("reason").is_null()), [rows.filter(pl.col("reason").is_not_null())]
    for sift in (_sift_duplicates, _sift_bad_ticks):
        good, bad = sift(good)
        faulty.append(bad)
    bars = label(good.select(RAW_SCHEMA.names()), sessions)
    dropped = _list_findings(pl.concat(faulty), sessions, ticker)
    return bars, dropped + _find_stuck(bars, ticker)


def label(bars: pl.DataFrame, sessions: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of `bars` (RAW_SCHEMA) that lie in one of `sessions`, extended hours included, as BAR_SCHEMA.

    >>> label(RAW_SCHEMA.to_frame(), pl.DataFrame()).columns[:4]
    ['ticker', 'ts', 'session', 'minute']
    """
    if sessions.is_empty() or bars.is_empty():
        return BAR_SCHEMA.to_frame()
    indexed = bars.with_columns(_find_session_index(sessions)).filter(pl.col("inside"))
    of_session = sessions.select("session", "open", "close")[indexed["nth"]].rename({"open": "from", "close": "to"})
    return pl.concat([indexed, of_session], how="horizontal").select(
        "ticker",
        "ts",
        "session",
        ((pl.col("ts") - pl.col("from")).dt.total_minutes()).cast(pl.Int32).alias("minute"),
        ((pl.col("to") - pl.col("from")).dt.total_minutes()).cast(pl.Int32).alias("session_minutes"),
        pl.col("ts").is_between("from", "to", closed="left").alias("regular"),
        *PRICES,
        "volume",
    )


def _find_session_index(sessions: pl.DataFrame) -> list[pl.Expr]:
    """`nth`: row of the session that began last before ts, 0 before the first; `inside`: whether it had not ended."""
    if sessions.is_empty():
        return [pl.lit(0, pl.UInt32).alias("nth"), pl.lit(value=False).alias("inside")]
    began = pl.lit(sessions["extended_open"]).search_sorted(pl.col("ts"), side="right")
    # a row without a time belongs to the session of the row before it, however much was asked for
    began = pl.when(pl.col("ts").is_not_null()).then(began).forward_fill().backward_fill().fill_null(0)
    nth = began.clip(lower_bound=1) - 1
    until = pl.lit(sessions["extended_close"]).gather(nth)
    inside = ((began > 0) & (pl.col("ts") < until)).fill_null(value=False)
    return [nth.alias("nth"), inside.alias("inside")]


def _find_fault(ticker: str, as_of: datetime | None) -> pl.Expr:
    """Return the first reason to drop a row that can be seen in the row itself, else null."""
    ts = pl.col("ts")
    figures = [pl.col(name) for name in (*PRICES, "volume")]
    prices = [pl.col(name) for name in PRICES]
    high, low = pl.col("high"), pl.col("low")
    body = (pl.col("open"), pl.col("close"))
    known_until = pl.lit(as_of, dtype=TS)
    checks = {
        "foreign_ticker": pl.col("ticker").ne_missing(pl.lit(ticker)),
        "no_timestamp": ts.is_null(),
        "off_minute": ts.dt.truncate("1m") != ts,
        "future": ts > known_until if as_of else pl.lit(value=False),
        "still_open": ts + MINUTE > known_until if as_of else pl.lit(value=False),
        "outside_session": ~pl.col("inside"),
        "not_finite": ~pl.all_horizontal(figure.is_finite().fill_null(value=False) for figure in figures),
        "not_positive": pl.any_horizontal(price <= 0 for price in prices),
        "negative_volume": pl.col("volume") < 0,
        "zero_volume": pl.col("volume") == 0,
        "high_below_low": high < low,
        "open_or_close_outside_range": pl.any_horizontal((price > high) | (price < low) for price in body),
        "bad_tick": high > _RANGE_FACTOR * low,
    }
    return pl.coalesce(pl.when(check).then(pl.lit(reason)) for reason, check in checks.items())


def _sift_duplicates(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Of several rows of one minute keep the last delivered: a correction comes after what it corrects."""
    if rows["ts"].diff().min() != timedelta():  # none: sorted rows differ by more than nothing
        return rows, rows.clear()
    is_last = (pl.col("ts") != pl.col("ts").shift(-1)).fill_null(value=True)
    repeated = rows.filter(pl.col("ts").is_duplicated()).with_columns(is_last.alias("last"))
    same = pl.all_horizontal(pl.col(name) == pl.col(name).last().over("ts") for name in (*PRICES, "volume"))
    reason = pl.when(same).then(pl.lit("duplicate")).otherwise(pl.lit("conflicting_duplicate")).alias("reason")
    return rows.filter(is_last), repeated.with_columns(reason).filter(~pl.col("last")).drop("last")


def _sift_bad_ticks(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Drop what is wildly off the first good bar of its session.

    The measure stays the same all session, so that cleaning twice changes nothing. A wrong first bar costs the rest of
    the session, which is loud and safe; a running measure would follow the wrong prices.
    """
    highest, lowest = rows["high"].max(), rows["low"].min()
    if isinstance(highest, float) and isinstance(lowest, float) and highest <= _SESSION_FACTOR * lowest:
        return rows, rows.clear()  # the usual case: no two bars of all sessions are so far apart
    measure = pl.col("close").first().over("nth")
    off = (pl.col("high") > _SESSION_FACTOR * measure) | (pl.col("low") * _SESSION_FACTOR < measure)
    marked = rows.with_columns(off.alias("off"))
    bad = marked.filter("off").with_columns(pl.lit("bad_tick").alias("reason"))
    return marked.filter(~pl.col("off")).drop("off"), bad.drop("off")


def _list_findings(faulty: pl.DataFrame, sessions: pl.DataFrame, ticker: str) -> tuple[Finding, ...]:
    """One finding per session and reason, in the order of time."""
    groups = faulty.group_by("nth", "reason").agg(pl.len(), pl.col("ts").min()).sort("nth", "ts", "reason")
    days = sessions["session"].to_list()
    return tuple(
        Finding(ticker, reason, count, first, days[nth] if days else None)
        for nth, reason, count, first in groups.iter_rows()
    )


def _find_stuck(bars: pl.DataFrame, ticker: str) -> tuple[Finding, ...]:
    """Long runs of one price in regular hours. They are kept: it takes the end of a run to know that it was one."""
    flat = pl.all_horizontal(pl.col(name) == pl.col("close") for name in ("open", "high", "low"))
    regular = bars.filter("regular")
    if regular.select(flat.sum()).item() < _STUCK_BARS:  # the usual case, and ten times as quick
        return ()
    runs = (
        regular.lazy()
        .with_columns(flat.alias("flat"))
        .with_columns(pl.struct("session", "flat", pl.when("flat").then("close")).rle_id().alias("run"))
        .filter("flat")
        .group_by("run")
        .agg(pl.len().alias("count"), pl.col("ts", "session", "close").first())
        .filter(pl.col("count") >= _STUCK_BARS)
        .sort("ts")
        .collect()
    )
    return tuple(
        Finding(ticker, "stuck_price", row["count"], row["ts"], row["session"], f"at {row['close']:g}")
        for row in runs.iter_rows(named=True)
    )


def merge_findings(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return one finding per ticker and reason: counts added, the earliest `first`, the detail of one or a number."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.ticker, finding.reason), []).append(finding)
    return tuple(_merge(group) for _, group in sorted(groups.items()))


def _merge(group: Sequence[Finding]) -> Finding:
    if len(group) == 1:
        return group[0]
    days = {finding.session for finding in group if finding.session}
    details = list(dict.fromkeys(finding.detail for finding in group if finding.detail))
    where = f"in {count(len(days), 'session')}" if len(days) > 1 else ""
    detail = "; ".join(details[:3]) + (f"; {len(details) - 3} more" if len(details) > 3 else "")
    return Finding(
        group[0].ticker,
        group[0].reason,
        sum(finding.count for finding in group),
        min((finding.first for finding in group if finding.first), default=None),
        min(days, default=None),
        ": ".join(part for part in (where, detail) if part),
    )


def find_label_doubt(bars: pl.DataFrame, *, ticker: str) -> tuple[Finding, ...]:
    """Return the suspicion that the stamps of `ticker` are the wrong end of their minute; empty where there is none.

    bars: BAR_SCHEMA of one ticker, extended hours included. The minute in which an exchange opens trades far more than
    the ones around it: where it stands one minute late, stamps of the end were taken for the start; where it stands one
    early, the reverse, and then each bar is known a minute before it was. That shows only where bars before the open
    are kept, so not for an exchange without extended hours.
    """
    around = bars.filter(pl.col("minute").is_between(-1, 1) & (pl.col("volume") > 0)).sort("volume")
    busiest = (
        around.group_by("session")
        .agg(
            pl.col("ts", "minute").last(), clear=(pl.col("volume") * _LABEL_FACTOR > pl.col("volume").max()).sum() == 1
        )
        .sort("ts")
    )
    for minute, label in ((1, "end"), (-1, "start")):
        odd = busiest.filter((pl.col("minute") == minute) & pl.col("clear"))
        if odd.height >= max(_LABEL_SESSIONS, _LABEL_SHARE * busiest.height):
            text = f'stamps look like the {label} of the minute; for the source `files` set [files] label = "{label}"'
            return (Finding(ticker, "label", odd.height, odd["ts"][0], odd["session"][0], text),)
    return ()


def adjust_for_splits(bars: pl.DataFrame, splits: Sequence["Split"]) -> pl.DataFrame:
    """Return `bars` (BAR_SCHEMA) with prices and volumes in the shares of each ticker's last session.

    Before a split's execution date prices are divided by its ratio and volumes multiplied. A split after the ticker's
    last session changes nothing: it has not happened yet. Raises SourceError for a ratio outside 1/1000 to 1000.

    >>> adjust_for_splits(BAR_SCHEMA.to_frame(), ()).height
    0
    """
    if not splits:
        return bars
    names = ("ticker", "execution_date", "ratio")
    table = pl.DataFrame([(s.ticker, s.execution_date, s.ratio) for s in splits], schema=names, orient="row")
    table = table.cast({"ticker": pl.String, "execution_date": pl.Date, "ratio": pl.Float64}).unique()
    absurd = table.filter(~pl.col("ratio").is_between(1 / _MOST_SHARES, _MOST_SHARES))
    if absurd.height:
        row = absurd.row(0, named=True)
        raise SourceError(
            f"A split of {row['ticker']} on {row['execution_date']} makes {row['ratio']:g} shares of one, which no "
            f"company has done: 1/{_MOST_SHARES} to {_MOST_SHARES} is believed. Correct the split table of the source."
        )
    last = bars.group_by("ticker").agg(pl.col("session").max().alias("until"))
    table = table.join(last, on="ticker").filter(pl.col("execution_date") <= pl.col("until"))
    if table.is_empty():
        return bars
    later = pl.col("ratio").reverse().cum_prod().reverse().over("ticker")
    factors = table.sort("ticker", "execution_date").select("ticker", "execution_date", later.alias("factor"))
    days = bars.select("ticker", "session").unique().sort("ticker", "session")
    factor_of_day = days.sort("session").join_asof(
        factors.sort("execution_date"),
        left_on="session",
        right_on="execution_date",
        by="ticker",
        strategy="forward",
        allow_exact_matches=False,
        check_sortedness=False,
    )
    adjusted = bars.join(factor_of_day, on=["ticker", "session"], how="left", maintain_order="left")
    factor = pl.col("factor").fill_null(1.0)
    return adjusted.with_columns(*(pl.col(p) / factor for p in PRICES), pl.col("volume") * factor).select(bars.columns)


def find_unannounced_splits(bars: pl.DataFrame, splits: Sequence["Split"]) -> tuple[Finding, ...]:
    """Return the overnight jumps near a whole ratio, either way, that remain after adjusting unadjusted `bars`.

    `session` of a finding is the first after the jump, `count` the bars of that ticker before it. Compared are the
    median closes of the last and the first five bars around each night. Ratios start at 2: news moves a share by a
    third, and such a move is a return.
    """
    adjusted = adjust_for_splits(bars, splits)
    in_order = adjusted["ts"].is_sorted() and adjusted["ticker"].n_unique() <= 1  # the usual case: to sort takes longer
    nights = (
        find_edges(adjusted if in_order else adjusted.sort("ticker", "ts"))
        .with_columns((pl.col("last").shift(1) / pl.col("first")).over("ticker").alias("ratio"))
        .with_columns((pl.col("bars").cum_sum() - pl.col("bars")).over("ticker").alias("before"))
        .filter(pl.max_horizontal("ratio", 1 / pl.col("ratio")) > _LEAST_SPLIT)
    )
    if nights.is_empty():  # the usual case: to compare with every ratio takes longer
        return ()
    return tuple(
        Finding(
            row["ticker"],
            "unannounced_split",
            row["before"],
            row["ts"],
            row["session"],
            f"the price changed by a factor of {1 / row['ratio']:.3g} over the night before {row['session']}",
        )
        for row in nights.filter(looks_like_split(pl.col("ratio"))).iter_rows(named=True)
    )


def find_edges(bars: pl.DataFrame) -> pl.DataFrame:
    """Return a row for each ticker's session: ticker, session, ts of its first bar, bars, and medians `first`, `last`.

    The medians are those of its first and its last five closes. bars: BAR_SCHEMA, sorted by ticker and ts.

    >>> find_edges(BAR_SCHEMA.to_frame()).columns
    ['ticker', 'session', 'ts', 'bars', 'first', 'last']
    """
    ticker, session, closes = bars["ticker"], bars["session"], bars["close"].to_list()
    starts = ((session != session.shift(1)) | (ticker != ticker.shift(1))).fill_null(value=True).arg_true()
    begins = starts.to_list()
    ends = [*begins[1:], bars.height]
    spans = list(zip(begins, ends, strict=False))  # without a bar there is an end and no begin
    first = [median(closes[begin : min(begin + _EDGE_BARS, end)]) for begin, end in spans]
    last = [median(closes[max(end - _EDGE_BARS, begin) : end]) for begin, end in spans]
    return bars.select("ticker", "session", "ts")[starts].with_columns(
        pl.Series("bars", [end - begin for begin, end in spans], dtype=pl.UInt32),
        pl.Series("first", first, dtype=pl.Float64),
        pl.Series("last", last, dtype=pl.Float64),
    )


def drop_past(bars: pl.DataFrame, jumps: Sequence[Finding]) -> pl.DataFrame:
    """Return the rows of `bars` (ticker, session) that lie before none of `jumps`, as `find_unannounced_splits` has."""
    for jump in jumps:
        bars = bars.filter((pl.col("ticker") != jump.ticker) | (pl.col("session") >= jump.session))
    return bars


def looks_like_split(ratio: pl.Expr) -> pl.Expr:
    """Whether `ratio`, of the price before a night to the one after it, is near a whole number from 2, either way.

    >>> pl.DataFrame({"ratio": [2.03, 0.1, 1.4]}).select(looks_like_split(pl.col("ratio"))).to_series().to_list()
    [True, True, False]
    """
    size = pl.max_horizontal(ratio, 1 / ratio)
    return pl.any_horizontal((size / whole).log().abs() < _SPLIT_TOLERANCE for whole in _SPLIT_RATIOS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How much of a window one ticker has, regular hours only: sessions with a bar, minutes with a bar."""

    ticker: str
    sessions: int
    expected_sessions: int
    minutes: int
    expected_minutes: int
    missing: tuple[date, ...]
    gaps: tuple[Finding, ...]
    unextended: tuple[date, ...]

    @property
    def share(self) -> float:
        """Sessions with a bar / sessions expected; 0 where none was expected."""
        return self.sessions / self.expected_sessions if self.expected_sessions else 0.0

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The holes: sessions without a bar, long gaps within one, extended hours that come and go."""
        holes = {"missing_session": self.missing, "partly_extended": self.unextended}
        findings = [
            Finding(
                self.ticker, reason, len(days), None, days[0], ", ".join(map(str, days[:3])) + ", ..." * (len(days) > 3)
            )
            for reason, days in holes.items()
            if days
        ]
        return (*findings, *self.gaps)


def measure_coverage(bars: pl.DataFrame, sessions: pl.DataFrame, *, ticker: str) -> Coverage:
    """Return what `bars` (BAR_SCHEMA) hold of `sessions` for `ticker`: the calendar decides what was to be expected."""
    mine = bars.filter((pl.col("ticker") == ticker) & pl.col("session").is_in(sessions["session"].to_list())).sort("ts")
    rows = mine.filter("regular")
    # the closing cross comes in the minute of the close, also from feeds of regular hours only
    extended = set(
        mine.filter(~pl.col("regular") & (pl.col("minute") != pl.col("session_minutes")))["session"].unique()
    )
    length = (sessions["close"] - sessions["open"]).dt.total_minutes()
    present = set(rows["session"].unique())
    missing = tuple(day for day in sessions["session"].to_list() if day not in present)
    return Coverage(
        ticker=ticker,
        sessions=sessions.height - len(missing),
        expected_sessions=sessions.height,
        minutes=rows.height,
        expected_minutes=int(length.sum()),
        missing=missing,
        gaps=_find_gaps(rows, ticker),
        unextended=tuple(day for day in sorted(present) if day not in extended)
        if 0 < len(extended) < _MOSTLY * len(present)
        else (),
    )


def _find_gaps(rows: pl.DataFrame, ticker: str) -> tuple[Finding, ...]:
    """Long runs of absent minutes within a session, also at its start and its end; rows sorted by ts."""
    minute, by = pl.col("minute"), "session"
    before = minute - minute.shift(1, fill_value=-1).over(by) - 1
    is_last = (pl.col(by) != pl.col(by).shift(-1)).fill_null(value=True)
    after = pl.when(is_last).then(pl.col("session_minutes") - 1 - minute).otherwise(0)
    starts = rows.select(by, "ts", before.alias("n")).with_columns(pl.col("ts") - MINUTE * pl.col("n"))
    ends = rows.select(by, pl.col("ts") + MINUTE, after.alias("n"))
    long = pl.concat([starts, ends]).filter(pl.col("n") >= _GAP_MINUTES).sort("ts")
    return tuple(
        Finding(ticker, "gap", n, ts, session, f"{n} minutes from {ts:%Y-%m-%d %H:%M} UTC")
        for session, ts, n in long.iter_rows()
    )
