"""Bars on a grid of minutes, with the facts that several features share. Pure: a frame in, a frame out.

Three rules make a value the same to the bit in training, exam and bot:

1. A row is a minute, not a bar. A part, which is one ticker in one session, has a row for each minute from its first
   bar to the newest minute of that session over all tickers. A minute without a trade keeps the last close as its
   open, high, low and close, and has volume 0; nothing is carried into another session.
2. What is summed, log returns and volumes, is counted in whole numbers (LOG_UNIT, VOLUME_UNIT). Sums of whole numbers
   are exact, so neither the order of summation, nor what a rolling window held before, nor a longer history can change
   a bit, and a price that stands still has a volatility of exactly 0.
3. What reaches back over sessions is summed up per whole earlier session first, then handed to the next one; what
   reaches back to the session's first bar is a column that grows by one step a minute. All else reads 30 minutes.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import reduce
from operator import add
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from hftcl.market.columns import Nature, find_nature
from hftcl.model.handed_on import EARLIER_SESSIONS as EARLIER_SESSIONS
from hftcl.model.handed_on import HandedOn
from hftcl.model.peers import LOG_UNIT, OWN, PEER_HORIZONS, PEERS, add_peers
from hftcl.model.since_open import Array, IntArray, compute_since_open, fold_down_parts

VOLUME_UNIT: Final = 1e-3
"""Volumes are counted in thousandths of a share or coin."""
VOLATILITY_MINUTES: Final = 30
"""Returns in the trailing volatility, which is feature `vol_30` and scales the target."""
BAND_MINUTES: Final = 20
"""Minutes, the last included, whose closes make up the Bollinger bands."""

MAX_LOG_MOVE: Final = 0.5
"""Squared moves are cut here, 65 % in a minute, so that the sum of 30 stays within 64 bits."""
_MAX_VOLUME: Final = 1e12  # a minute; so that five sessions of them stay within 64 bits
_THIRD: Final = 1 / 3  # as a product it is the same in a frame of one row, where polars divides otherwise
MOST_MINUTES: Final = 1500
"""Of a session: a day of 24 hours, and room for a clock change."""

_BLOCK_BARS: Final = 1_000_000  # what is grouped at a time; 10 tickers of 60 days are one block

# What a further column is in a minute without a trade; one of another nature is null there.
_FILLS: Final = {Nature.PRICE: pl.col("close"), Nature.VOLUME: pl.lit(0.0), Nature.COUNT: pl.lit(0.0)}

Window = Callable[[pl.Expr], pl.Expr]
"""Keeps an expression within the minutes of one part."""

GRID_COLUMNS: Final = frozenset(
    [
        *(
            "part",
            "session_no",
            "first",
            "minute",
            "age",
            "seen",
            "ts",
            "open",
            "high",
            "low",
            "close",
            "v",
            "turnover",
        ),
        *("volume_5", "first_open", "first_close", "session_low", "session_high", "session_volume", "session_turnover"),
        *("since_first", "ema_12", "ema_26", "macd", "macd_signal", "r", "vol", "deviation", "deviation_squares"),
        *("previous_close", "previous_vol", "usual_volume_5", "usual_minute_volume"),
        *OWN,
        *PEERS,
    ]
)
"""What a grid has for every feature; what one reads beside them is a further column of the bars."""
TRAINING_COLUMNS: Final = frozenset({"session_no", "first", "ts"})
"""Those by which whole sessions are put together: the bot, which has one minute at a time, keeps none of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MinuteGrid:
    """The minutes of all parts, and where each bar went.

    frame: sorted by ticker, session, minute. Columns:
        part UInt32: number of the ticker's session; windows run `.over("part")`.
        minute Int32: from the session's open. age Int32: from the part's first bar.
        seen Boolean: a bar of this minute exists. ts: its start, null where it does not; no feature may read it.
        open, high, low, close Float64: prices, all the last close where not seen. v Int64: volume in VOLUME_UNIT.
        turnover Float64: (high + low + close) / 3 * v. volume_5 Int64: sum of v over the last 5 minutes, or fewer.
        first_open, first_close, session_low, session_high Float64: of the part so far. session_volume Int64,
        session_turnover Float64: sums of v and turnover so far. since_first Float64: ln(close / first_close).
        ema_12, ema_26, macd, macd_signal Float64: EMAs of since_first, their difference, and its EMA of 9 minutes.
        r Int64: ln(close / close before) in LOG_UNIT. vol Float64: root mean square of the last 30 returns, in logs.
        deviation, deviation_squares Float64: sums of ln(close / close of each of the 19 minutes before), and of their
        squares. previous_close, previous_vol Float64: last close and root mean square return of the previous session.
        usual_volume_5, usual_minute_volume Float64: volume in the same 5 minutes, and per minute, of earlier sessions.
        own_5, peers_5 (15, 30) Float64: return over so many minutes in units of volatility, the ticker's own, and the
        mean of the other tickers' (null where there is none).
        Further columns of the bars, Float64: where not seen the last close for a price, 0 for a volume or a count, and
        null for any other number (`market.columns`); null too where a bar came without it.
    rows: row of `frame` of each bar, in the order of the bars.
    """

    frame: pl.DataFrame
    rows: IntArray


def count_whole(values: pl.Expr, unit: float) -> pl.Expr:
    """Count in whole `unit`s, so that sums are exact."""
    # Times the reciprocal: so does polars divide a column by one number, but not in a frame of one row.
    return (values * (1 / unit)).round().cast(pl.Int64)


def divide_by_volatility(log_move: pl.Expr, minutes: int = 1) -> pl.Expr:
    """Divide by the volatility of so many minutes; null where the price has not moved for 30 minutes."""
    return pl.when(pl.col("vol") > 0).then(log_move / (pl.col("vol") * minutes**0.5))


def build_grid(bars: pl.DataFrame, columns: Sequence[str] = (), days: Iterable[date] = ()) -> MinuteGrid:
    """Place clean bars (any order; ticker, ts, session, OHLCV, optionally minute) on the grid.

    columns: further numbers of the bars that the grid carries. days: sessions beside those that the bars are of: the
    one before a session is then that day, be it without a bar.
    Raises ValueError for a price that is not finite and positive, a volume that is not finite and at least 0, two bars
    of one minute, or a session longer than a day: all things that cleaning removes.
    """
    placed = place_bars(bars, columns)
    grid = _build_alone(placed, find_sessions(placed, days), columns)
    return MinuteGrid(frame=add_peers(grid.frame, "session_no", "minute"), rows=grid.rows)


def build_grid_alone(bars: pl.DataFrame, sessions: pl.DataFrame, columns: Sequence[str] = ()) -> MinuteGrid:
    """Place some tickers' bars as `build_grid` does those of all, but for the peers.

    bars: with `minute`. sessions: of all tickers, see `find_sessions`. There is no peers_5, peers_15 or peers_30, and
    own_5, own_15, own_30 are whole LOG_UNITs, for `peers.PeerSums`. Raises as `build_grid`.
    """
    return _build_alone(place_bars(bars, columns), sessions, columns)


def _build_alone(placed: pl.DataFrame, sessions: pl.DataFrame, columns: Sequence[str]) -> MinuteGrid:
    parts = _find_parts(placed, sessions)
    rows = _find_rows(placed, parts)
    frame = add_windows(_add_since_open(_build_minutes(placed, parts, rows, columns)), _keep_within_part)
    handed_on = HandedOn.from_frame(frame, parts)
    frame = frame.hstack(handed_on.build_columns(frame["part"].to_numpy(), frame["minute"].to_numpy()))
    return MinuteGrid(frame=frame, rows=rows)


def _keep_within_part(expr: pl.Expr) -> pl.Expr:
    return expr.over("part")


def place_bars(bars: pl.DataFrame, columns: Sequence[str] = ()) -> pl.DataFrame:
    """Return the bars in their order, in the grid's numbers."""
    _refuse_unclean(bars)
    _refuse_lack(bars, columns)
    if "minute" in bars.columns:
        minute = pl.col("minute")
    else:
        minute = (pl.col("ts") - pl.col("ts").min().over("session")).dt.total_minutes()
    volume = count_whole(pl.col("volume").cast(pl.Float64).clip(0, _MAX_VOLUME), VOLUME_UNIT)
    return bars.select(
        pl.col("ticker").cast(pl.String),
        "session",
        "ts",
        minute.cast(pl.Int32).alias("minute"),
        pl.col("open", "high", "low", "close").cast(pl.Float64),
        volume.alias("v"),
        ((pl.col("high") + pl.col("low") + pl.col("close")) * _THIRD * volume).alias("turnover"),
        *(pl.col(name).cast(pl.Float64) for name in columns),
    )


def place_volume(volume: npt.NDArray[np.float64], prices: Mapping[str, npt.NDArray[np.float64]]) -> dict[str, Array]:
    """Return v and turnover of one minute's bars, to the bit as `place_bars` does. prices: high, low and close."""
    v = np.rint(np.clip(volume, 0, _MAX_VOLUME) * (1 / VOLUME_UNIT)).astype(np.int64)
    return {"v": v, "turnover": (prices["high"] + prices["low"] + prices["close"]) * _THIRD * v}


def _refuse_unclean(bars: pl.DataFrame) -> None:
    price = pl.col("open", "high", "low", "close").cast(pl.Float64)
    volume = pl.col("volume").cast(pl.Float64)
    good = pl.all_horizontal(price.is_finite() & (price > 0), volume.is_finite() & (volume >= 0))
    unclean = bars.filter(~good.fill_null(value=False))
    if unclean.height:
        ticker, ts = unclean.row(0, named=True)["ticker"], unclean.row(0, named=True)["ts"]
        raise ValueError(
            f"{unclean.height} bars have a price that is not finite and above 0, or no volume; the first is {ticker} "
            f"at {ts}. Clean the bars first (market.bars)."
        )


def _refuse_lack(bars: pl.DataFrame, columns: Sequence[str]) -> None:
    lacking = [name for name in columns if name not in bars.columns]
    if lacking:
        raise ValueError(
            f"The bars have no column {', '.join(lacking)}, which a feature reads. Name it in [market] columns."
        )


def find_sessions(placed: pl.DataFrame, days: Iterable[date] = ()) -> pl.DataFrame:
    """Return a row for each session of all tickers, sorted: oldest and newest minute, session_minutes, session_no.

    placed: session and minute (Int32) of each bar. session_no is dense over these sessions and `days`. Raises
    ValueError for a session longer than a day.
    """
    # a part at a time: a grouping holds the numbers of all its rows
    sessions = pl.concat(
        placed[begin : begin + _BLOCK_BARS]
        .group_by("session")
        .agg(oldest=pl.col("minute").min(), newest=pl.col("minute").max())
        for begin in range(0, placed.height or 1, _BLOCK_BARS)
    )
    sessions = sessions.group_by("session").agg(
        pl.col("oldest").min(), pl.col("newest").max(), session_minutes=pl.lit(0, pl.Int32)
    )
    known = pl.concat([sessions["session"], pl.Series(list(days), dtype=pl.Date)]).unique().sort()
    sessions = sessions.sort("session").with_columns(
        session_minutes=pl.col("newest") - pl.col("oldest") + 1,
        session_no=known.search_sorted(sessions["session"].sort()).cast(pl.Int32),
    )
    for session, minutes in sessions.select("session", "session_minutes").iter_rows():
        refuse_long(session, minutes)
    return sessions


def _find_parts(placed: pl.DataFrame, sessions: pl.DataFrame) -> pl.DataFrame:
    """One row per ticker and session, sorted: part, session_no, first minute, size, start."""
    parts = placed.group_by("ticker", "session").agg(first=pl.col("minute").min())
    parts = parts.join(sessions, on="session").sort("ticker", "session")
    return parts.with_columns(size=(pl.col("newest") - pl.col("first") + 1).cast(pl.Int64)).with_columns(
        part=pl.int_range(pl.len(), dtype=pl.UInt32), start=pl.col("size").cum_sum() - pl.col("size")
    )


def refuse_long(session: date, minutes: int) -> None:
    """Raise ValueError where a session's bars span more than a day, before its grid fills the memory."""
    if minutes > MOST_MINUTES:
        raise ValueError(
            f"The bars of session {session} span {minutes} minutes, more than a day. "
            "Assign sessions from the exchange calendar first."
        )


def _find_rows(placed: pl.DataFrame, parts: pl.DataFrame) -> IntArray:
    """Row on the grid of each bar, in the order of the bars."""
    keys = ["ticker", "session"]
    joined = placed.select(*keys, "minute").join(
        parts.select(*keys, "start", "first"), on=keys, how="left", maintain_order="left"
    )
    rows = joined.select(pl.col("start") + pl.col("minute") - pl.col("first")).to_series()
    twice = rows.is_duplicated()
    if twice.any():
        bar = placed.filter(twice).row(0, named=True)
        raise ValueError(
            f"{bar['ticker']} has two bars for the minute {bar['ts']}. Clean the bars first (market.bars)."
        )
    return rows.to_numpy()


def _build_minutes(
    placed: pl.DataFrame, parts: pl.DataFrame, rows: IntArray, columns: Sequence[str] = ()
) -> pl.DataFrame:
    """Return a row for each minute of each part, with the last close carried through minutes without a trade."""
    source: IntArray = np.full(int(parts["size"].sum()), -1, dtype=np.int64)
    source[rows] = np.arange(rows.size)
    frame = parts.select(
        "part", "session_no", "first", minute=pl.int_ranges("first", pl.col("first") + pl.col("size"), dtype=pl.Int32)
    ).explode("minute")
    where = pl.Series(source).replace(-1, None)
    values = placed.select(pl.col("ts", "open", "high", "low", "close", "v", "turnover", *columns).gather(where))
    frame = frame.hstack(values).with_columns(
        age=pl.col("minute") - pl.col("first"),
        seen=pl.col("close").is_not_null(),
        close=pl.col("close").forward_fill().over("part"),
        v=pl.col("v").fill_null(0),
        turnover=pl.col("turnover").fill_null(0.0),
    )
    silent = {name: fill for name in columns if (fill := _FILLS.get(find_nature(name))) is not None}
    return frame.with_columns(
        pl.col("open", "high", "low").fill_null(pl.col("close")),
        *(pl.when("seen").then(name).otherwise(fill).alias(name) for name, fill in silent.items()),
    )


def _add_since_open(frame: pl.DataFrame) -> pl.DataFrame:
    part, age = (frame[name].to_numpy().astype(np.int64) for name in ("part", "age"))
    minutes = {name: frame[name].to_numpy() for name in ("open", "high", "low", "close", "v", "turnover")}
    return frame.with_columns(
        pl.Series(name, values) for name, values in compute_since_open(minutes, fold_down_parts(part, age)).items()
    )


def add_windows(frame: pl.DataFrame, window: Window) -> pl.DataFrame:
    """Add r, volume_5, deviation(_squares), vol and own_5, own_15, own_30, which are whole LOG_UNITs for `add_peers`.

    frame: close Float64 and v Int64, of minutes without a hole. A row's values are right where `window` lets it read
    its part's last 30 minutes, or all of them if there are fewer.
    """
    close = pl.col("close")
    change = (close / close.shift(1)).log().clip(-MAX_LOG_MOVE, MAX_LOG_MOVE)
    # Added afresh for each minute: exactly 0 when flat, wherever the day began.
    deviations = [(close / close.shift(back)).log() for back in range(1, BAND_MINUTES)]
    frame = frame.with_columns(
        r=window(count_whole(change, LOG_UNIT)),
        volume_5=window(pl.col("v").rolling_sum(5, min_samples=1)),
        # One after the other: `sum_horizontal` adds in an order that depends on the number of processors.
        deviation=window(reduce(add, deviations)),
        deviation_squares=window(reduce(add, (d.pow(2) for d in deviations))),
    )
    mean_square = pl.col("r").pow(2).rolling_sum(VOLATILITY_MINUTES) / VOLATILITY_MINUTES
    frame = frame.with_columns(vol=window(mean_square.sqrt() * LOG_UNIT))
    own = {f"own_{n}": divide_by_volatility((close / close.shift(n)).log(), n) for n in PEER_HORIZONS}
    return frame.with_columns(window(count_whole(z, LOG_UNIT)).alias(name) for name, z in own.items())


def hand_on_to(session: date, placed: pl.DataFrame, days: Iterable[date] = ()) -> tuple[dict[str, int], HandedOn]:
    """Return each ticker's part in a session that has no bars yet, and what `place_bars` of earlier ones hand on.

    days: sessions beside those of the bars, as in `build_grid`.
    """
    stubs = placed.unique("ticker").with_columns(session=pl.lit(session), minute=pl.lit(0, pl.Int32))
    placed = pl.concat([placed, stubs])
    parts = _find_parts(placed, find_sessions(placed, days))
    frame = add_windows(_build_minutes(placed, parts, _find_rows(placed, parts)), _keep_within_part)
    new = parts.filter(pl.col("session") == session)
    return dict(zip(new["ticker"].to_list(), new["part"].to_list(), strict=True)), HandedOn.from_frame(frame, parts)
