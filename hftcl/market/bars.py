"""The bar schema, and what turns raw bars into clean ones with findings. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from hftcl.formats import count
from hftcl.market.columns import extend_schema

_Ints = npt.NDArray[np.int64]
_Flags = npt.NDArray[np.bool_]
_Column = TypeVar("_Column", pl.Expr, pl.Series)

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

NO_BARS: Final = BAR_SCHEMA.to_frame()
"""No bar of BAR_SCHEMA: to make a frame of a schema takes a millisecond."""

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
    "whole_prices": "every price is a whole number: cents, or a market without decimals; kept",
    "doubtful": "a session with too few or broken bars; it is asked for again, with a growing pause",
    "damaged_file": "stored bars did not match their record, and were fetched again",
    "other_source": "stored bars came from another source or other settings of it, and were fetched again",
}
"""What is reported without dropping a raw bar: reason code and meaning."""

_REASONS: Final = tuple(DROPPED)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)  # from which stamps count
_MINUTE_US: Final = 60_000_000  # stamps count microseconds
_NO_TIME: Final = np.iinfo(np.int64).min  # before every time that is one
_RANGE_FACTOR: Final = 2.0  # no minute in 1.33 million real bars spans more than a factor of 1.10
_SESSION_FACTOR: Final = 5.0  # decimals slip by 10; a share that moves fivefold in a day is one not to trade blindly
_STUCK_BARS: Final = 10  # liquid shares repeat a flat minute at most twice in a row
_LABEL_FACTOR = 1.25  # how far the opening minute stands out against those beside it
_LABEL_SESSIONS, _LABEL_SHARE = 5, 0.6  # of noise, one minute in three is the busiest: 1 in 243 for five sessions


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
    raw: pl.DataFrame,
    sessions: pl.DataFrame,
    *,
    ticker: str,
    as_of: datetime | None = None,
    columns: Sequence[str] = (),
) -> tuple[pl.DataFrame, tuple[Finding, ...]]:
    """Return the good bars of `ticker` as BAR_SCHEMA sorted by ts, unadjusted, and one finding per reason and session.

    raw: RAW_SCHEMA in any order. sessions: as `Calendar.list_sessions` gives them; a bar in none of them is dropped.
    as_of (UTC): bars not known by then, that is ts + 60 s > as_of, are dropped. columns: further numbers of `raw`,
    which come out behind BAR_SCHEMA; one that is not finite becomes null, and its bar is kept.
    Rows in = rows out + the counts of findings whose reason is in DROPPED. Cleaning twice changes nothing. Whether a
    bar is good depends on itself, other bars of its minute, and the first good bar of its session, never on a later
    minute: otherwise cleaning would look ahead, and the bot could not repeat it.
    """
    rows = raw.select(*RAW_SCHEMA.names(), *(pl.when(pl.col(name).is_finite()).then(name) for name in columns))
    stamps, known = _to_stamps(rows["ts"])
    nth, inside = _find_sessions(stamps, known, sessions)
    fault = _find_faults(rows, stamps, known, inside, ticker, as_of)
    if (stamps[1:] < stamps[:-1]).any():
        order = np.argsort(stamps, kind="stable")
        rows, nth, fault = rows[order], nth[order], fault[order]
    rows, faulty = rows.with_columns(pl.Series("_nth", nth)), []  # no column begins with a "_"
    if (odd := fault > 0).any():
        reasons = pl.Series("_reason", [_REASONS[n - 1] for n in fault[odd].tolist()], dtype=pl.String)
        rows, faulty = rows.filter(~odd), [rows.filter(odd).with_columns(reasons)]
    rows, *more = _sift(rows, columns)
    faulty += more
    bars = _join_sessions(rows, rows["_nth"].to_numpy(), sessions, columns)
    dropped = _list_findings(pl.concat(faulty), sessions, ticker) if faulty else ()
    return bars, dropped + _find_stuck(bars, ticker)


def _sift(rows: pl.DataFrame, columns: Sequence[str]) -> list[pl.DataFrame]:
    """Return the rows that are kept, then those that are not, each with its reason."""
    rows, repeated = _sift_duplicates(rows, columns)
    rows, wild = _sift_bad_ticks(rows)
    return [rows, *(bad for bad in (repeated, wild) if bad is not None)]


def find_faults(raw: pl.DataFrame, sessions: pl.DataFrame, as_of: datetime) -> npt.NDArray[np.int8]:
    """Return for each row of `raw`, RAW_SCHEMA of any tickers, the fault that `clean` would find in it by itself: its
    number in DROPPED, from 1; 0 for none.

    What `clean` then asks of other rows is still open: no second bar of its minute, and no price that `is_wild`.
    """
    stamps, known = _to_stamps(raw["ts"])
    _, inside = _find_sessions(stamps, known, sessions)
    return _find_faults(raw, stamps, known, inside, raw["ticker"], as_of)


def is_wild(high: _Column, low: _Column, measure: _Column) -> _Column:
    """Return which bars are wildly off `measure`, the close of the first good bar of their session."""
    return (high > _SESSION_FACTOR * measure) | (low * _SESSION_FACTOR < measure)


def label(bars: pl.DataFrame, sessions: pl.DataFrame, columns: Sequence[str] = ()) -> pl.DataFrame:
    """Return the rows of `bars` (RAW_SCHEMA) that lie in one of `sessions`, extended hours included, as BAR_SCHEMA.

    columns: further numbers of the bars, which come out behind it.

    >>> label(RAW_SCHEMA.to_frame(), pl.DataFrame()).columns[:4]
    ['ticker', 'ts', 'session', 'minute']
    """
    if sessions.is_empty() or bars.is_empty():
        return _build_none(columns)
    nth, inside = _find_sessions(*_to_stamps(bars["ts"]), sessions)
    return (
        _join_sessions(bars, nth, sessions, columns)
        if inside.all()
        else _join_sessions(bars.filter(inside), nth[inside], sessions, columns)
    )


def _build_none(columns: Sequence[str]) -> pl.DataFrame:
    return extend_schema(BAR_SCHEMA, columns).to_frame() if columns else NO_BARS


def _to_stamps(ts: pl.Series) -> tuple[_Ints, _Flags]:
    """Return microseconds since 1970 and which of them are known; an unknown one sorts before all others."""
    if not ts.null_count():
        stamps = ts.cast(TS).cast(pl.Int64).to_numpy()
        return stamps, np.ones(stamps.size, dtype=np.bool_)
    return ts.cast(TS).to_physical().fill_null(_NO_TIME).to_numpy(), ts.is_not_null().to_numpy()


def _find_sessions(stamps: _Ints, known: _Flags, sessions: pl.DataFrame) -> tuple[_Ints, _Flags]:
    """Return the row of the session that began last before each stamp, 0 before the first, and whether it goes on.

    A row without a time belongs to the session of the row before it, however much was asked for.
    """
    if sessions.is_empty():
        return np.zeros(stamps.size, dtype=np.int64), np.zeros(stamps.size, dtype=np.bool_)
    begins, ends = (sessions[name].cast(pl.Int64).to_numpy() for name in ("extended_open", "extended_close"))
    began = np.searchsorted(begins, stamps, side="right")
    if not known.all():
        last = np.maximum.accumulate(np.where(known, np.arange(stamps.size), known.argmax()))
        began = np.where(known.any(), began[last], 0)
    nth = np.maximum(began, 1) - 1
    return nth, known & (began > 0) & (stamps < ends[nth])


def _join_sessions(bars: pl.DataFrame, nth: _Ints, sessions: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """Return `bars` (RAW_SCHEMA), each in row `nth` of `sessions`, as BAR_SCHEMA; the columns behind both."""
    if bars.is_empty():
        return _build_none(columns)
    days, opens, closes = (sessions[name].cast(pl.Int64).to_numpy() for name in ("session", "open", "close"))
    since, lengths = _to_stamps(bars["ts"])[0] - opens[nth], closes - opens
    return pl.DataFrame(
        [
            bars["ticker"],
            bars["ts"],
            pl.Series("session", days[nth]).cast(pl.Date),
            pl.Series("minute", (since / _MINUTE_US).astype(np.int32)),  # towards the open, also before it
            pl.Series("session_minutes", (lengths // _MINUTE_US).astype(np.int32)[nth]),
            pl.Series("regular", (since >= 0) & (since < lengths[nth])),
            *bars.select(*PRICES, "volume", *columns).get_columns(),
        ]
    )


def _find_faults(
    rows: pl.DataFrame,
    stamps: _Ints,
    known: _Flags,
    inside: _Flags,
    ticker: str | pl.Series,
    as_of: datetime | None,
) -> npt.NDArray[np.int8]:
    """Return the number in DROPPED, from 1, of the first fault that each row shows by itself; 0 for none."""
    opens, highs, lows, closes, volumes = (rows[name].to_numpy() for name in (*PRICES, "volume"))  # null is NaN
    prices = (opens, highs, lows, closes)
    limit = np.iinfo(np.int64).max if as_of is None else (as_of - _EPOCH) // timedelta(microseconds=1)
    checks = {
        "foreign_ticker": rows["ticker"].ne_missing(ticker).to_numpy(),
        "no_timestamp": ~known,
        "off_minute": stamps % _MINUTE_US != 0,
        "future": stamps > limit,
        "still_open": stamps > limit - _MINUTE_US,
        "outside_session": ~inside,
        "not_finite": ~np.logical_and.reduce([np.isfinite(figure) for figure in (*prices, volumes)]),
        "not_positive": np.logical_or.reduce([price <= 0 for price in prices]),
        "negative_volume": volumes < 0,
        "zero_volume": volumes == 0,
        "high_below_low": highs < lows,
        "open_or_close_outside_range": (np.maximum(opens, closes) > highs) | (np.minimum(opens, closes) < lows),
        "bad_tick": highs / _RANGE_FACTOR > lows,
    }
    fault = np.zeros(stamps.size, dtype=np.int8)
    for reason, odd in reversed(checks.items()):
        fault[odd] = 1 + _REASONS.index(reason)
    return fault


def _sift_duplicates(rows: pl.DataFrame, columns: Sequence[str]) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    """Of several rows of one minute keep the last delivered: a correction comes after what it corrects."""
    stamps = _to_stamps(rows["ts"])[0]
    if not (stamps[1:] == stamps[:-1]).any():
        return rows, None
    is_last = (pl.col("ts") != pl.col("ts").shift(-1)).fill_null(value=True)
    repeated = rows.filter(pl.col("ts").is_duplicated()).with_columns(is_last.alias("_last"))
    figures = (*PRICES, "volume", *columns)
    same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).last().over("ts")) for name in figures)
    reason = pl.when(same).then(pl.lit("duplicate")).otherwise(pl.lit("conflicting_duplicate")).alias("_reason")
    return rows.filter(is_last), repeated.with_columns(reason).filter(~pl.col("_last")).drop("_last")


def _sift_bad_ticks(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    """Drop what is wildly off the first good bar of its session.

    The measure stays the same all session, so that cleaning twice changes nothing. A wrong first bar costs the rest of
    the session, which is loud and safe; a running measure would follow the wrong prices.
    """
    highest, lowest = rows["high"].max(), rows["low"].min()
    if isinstance(highest, float) and isinstance(lowest, float) and highest <= _SESSION_FACTOR * lowest:
        return rows, None  # the usual case: no two bars of all sessions are so far apart
    measure = pl.col("close").first().over("_nth")
    off = is_wild(pl.col("high"), pl.col("low"), measure)
    marked = rows.with_columns(off.alias("_off"))
    bad = marked.filter("_off").with_columns(pl.lit("bad_tick").alias("_reason"))
    return marked.filter(~pl.col("_off")).drop("_off"), bad.drop("_off")


def _list_findings(faulty: pl.DataFrame, sessions: pl.DataFrame, ticker: str) -> tuple[Finding, ...]:
    """One finding per session and reason, in the order of time."""
    groups = (
        faulty.group_by("_nth", "_reason")
        .agg(pl.len().alias("_count"), pl.col("ts").min())
        .sort("_nth", "ts", "_reason")
    )
    days = sessions["session"].to_list()
    return tuple(
        Finding(ticker, reason, count, first, days[nth] if days else None)
        for nth, reason, count, first in groups.iter_rows()
    )


def _find_stuck(bars: pl.DataFrame, ticker: str) -> tuple[Finding, ...]:
    """Long runs of one price in regular hours. They are kept: it takes the end of a run to know that it was one."""
    opens, highs, lows, closes = (bars[name].to_numpy() for name in PRICES)
    if ((opens == closes) & (highs == closes) & (lows == closes)).sum() < _STUCK_BARS:  # the usual case
        return ()
    flat = pl.all_horizontal(pl.col(name) == pl.col("close") for name in ("open", "high", "low"))
    runs = (
        bars.filter("regular")
        .lazy()
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
