"""Bars on a grid of minutes, with the facts that several features share. Pure: a frame in, a frame out.

Called by `model.features` and `model.target`. Three rules make a value the same to the bit in training, exam and bot:

1. A row is a minute, not a bar. A part, which is one ticker in one session, has a row for each minute from its first
   bar to the newest minute of that session over all tickers. A minute without a trade keeps the last close as its
   open, high, low and close, and has volume 0; nothing is carried into another session.
2. What is summed, log returns and volumes, is counted in whole numbers (LOG_UNIT, VOLUME_UNIT). Sums of whole numbers
   are exact, so neither the order of summation, nor what a rolling window held before, nor a longer history can change
   a bit, and a price that stands still has a volatility of exactly 0.
3. What reaches back over sessions is summed up per whole earlier session first, then handed to the next one.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

LOG_UNIT: Final = 1e-9
"""Log returns are counted in billionths: a cent on 200 USD is 50,000 of them."""
VOLUME_UNIT: Final = 1e-3
"""Volumes are counted in thousandths of a share or coin."""
VOLATILITY_MINUTES: Final = 30
"""Returns in the trailing volatility, which is feature `vol_30` and scales the target."""
EARLIER_SESSIONS: Final = 5
"""Earlier sessions that make up the usual volume of a minute."""
PEER_HORIZONS: Final = (5, 15, 30)
"""Minutes over which a ticker is compared with the rest of the watchlist."""

MAX_LOG_MOVE: Final = 0.5
"""Squared moves are cut here, 65 % in a minute, so that the sum of 30 stays within 64 bits."""
_MAX_VOLUME: Final = 1e12  # a minute; so that five sessions of them stay within 64 bits
_LONGEST_SESSION_MINUTES: Final = 1500  # a day of 24 hours, and room for a clock change

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The minutes of all parts, and where each bar went.

    frame: sorted by ticker, session, minute. Columns:
        part UInt32: number of the ticker's session; windows run `.over("part")`.
        minute Int32: from the session's open. age Int32: from the part's first bar.
        seen Boolean: a bar of this minute exists. ts: its start, null where it does not.
        open, high, low, close Float64: prices, all the last close where not seen. v Int64: volume in VOLUME_UNIT.
        turnover Float64: (high + low + close) / 3 * v.
        r Int64: ln(close / close before) in LOG_UNIT. vol Float64: root mean square of the last 30 returns, in logs.
        previous_close, previous_vol Float64: last close and root mean square return of the previous session.
        usual_volume_5, usual_minute_volume Float64: volume in the same 5 minutes, and per minute, of earlier sessions.
        own_5, peers_5 (15, 30) Float64: return over so many minutes in units of volatility, the ticker's own, and the
        mean of the other tickers' (null where there is none).
    rows: row of `frame` of each bar, in the order of the bars.
    """

    frame: pl.DataFrame
    rows: IntArray


def whole(values: pl.Expr, unit: float) -> pl.Expr:
    """Count in whole `unit`s, so that sums are exact."""
    return (values / unit).round().cast(pl.Int64)


def in_volatility(log_move: pl.Expr, minutes: int = 1) -> pl.Expr:
    """Divide by the volatility of so many minutes; null where the price has not moved for 30 minutes."""
    return pl.when(pl.col("vol") > 0).then(log_move / (pl.col("vol") * minutes**0.5))


def minute_grid(bars: pl.DataFrame) -> Grid:
    """Place clean bars (any order; ticker, ts, session, OHLCV, optionally minute) on the grid.

    Raises ValueError for a price that is not finite and positive, a volume that is not finite and at least 0, two bars
    of one minute, or a session longer than a day: all things that cleaning removes.
    """
    placed = _placed(bars)
    parts = _parts(placed)
    rows = _rows(placed, parts)
    size = int(parts["size"].sum())
    source: IntArray = np.full(size, -1, dtype=np.int64)
    source[rows] = np.arange(rows.size)
    frame = parts.select(
        "part", "session_no", "first", minute=pl.int_ranges("first", pl.col("first") + pl.col("size"), dtype=pl.Int32)
    ).explode("minute")
    where = pl.Series(source).replace(-1, None)
    values = placed.select(pl.col("ts", "open", "high", "low", "close", "v", "turnover").gather(where))
    frame = _with_returns(frame.hstack(values))
    frame = _with_earlier_sessions(frame, parts)
    return Grid(frame=_with_peers(frame), rows=rows)


def _placed(bars: pl.DataFrame) -> pl.DataFrame:
    """Return the bars in their order, in the grid's numbers."""
    _refuse_unclean(bars)
    if "minute" in bars.columns:
        minute = pl.col("minute")
    else:
        minute = (pl.col("ts") - pl.col("ts").min().over("session")).dt.total_minutes()
    volume = whole(pl.col("volume").cast(pl.Float64).clip(0, _MAX_VOLUME), VOLUME_UNIT)
    return bars.select(
        pl.col("ticker").cast(pl.String),
        "session",
        "ts",
        minute.cast(pl.Int32).alias("minute"),
        pl.col("open", "high", "low", "close").cast(pl.Float64),
        volume.alias("v"),
        ((pl.col("high") + pl.col("low") + pl.col("close")) / 3 * volume).alias("turnover"),
    )


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


def _parts(placed: pl.DataFrame) -> pl.DataFrame:
    """One row per ticker and session, sorted: part, session_no (dense, over all tickers), first minute, size, start."""
    sessions = placed.group_by("session").agg(
        oldest=pl.col("minute").min(), newest=pl.col("minute").max(), session_minutes=pl.lit(0, pl.Int32)
    )
    sessions = sessions.sort("session").with_columns(
        session_minutes=pl.col("newest") - pl.col("oldest") + 1, session_no=pl.int_range(pl.len(), dtype=pl.Int32)
    )
    long = sessions.filter(pl.col("session_minutes") > _LONGEST_SESSION_MINUTES)
    if long.height:
        raise ValueError(
            f"The bars of session {long['session'][0]} span {long['session_minutes'][0]} minutes, more than a day. "
            "Assign sessions from the exchange calendar first."
        )
    parts = placed.group_by("ticker", "session").agg(first=pl.col("minute").min())
    parts = parts.join(sessions, on="session").sort("ticker", "session")
    return parts.with_columns(size=(pl.col("newest") - pl.col("first") + 1).cast(pl.Int64)).with_columns(
        part=pl.int_range(pl.len(), dtype=pl.UInt32), start=pl.col("size").cum_sum() - pl.col("size")
    )


def _rows(placed: pl.DataFrame, parts: pl.DataFrame) -> IntArray:
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


def _with_returns(frame: pl.DataFrame) -> pl.DataFrame:
    """Carry the last close through minutes without a trade; add age, r and vol."""
    frame = frame.with_columns(
        age=pl.col("minute") - pl.col("first"),
        seen=pl.col("close").is_not_null(),
        close=pl.col("close").forward_fill().over("part"),
        v=pl.col("v").fill_null(0),
        turnover=pl.col("turnover").fill_null(0.0),
    )
    change = (pl.col("close") / pl.col("close").shift(1)).log().clip(-MAX_LOG_MOVE, MAX_LOG_MOVE)
    frame = frame.with_columns(
        pl.col("open", "high", "low").fill_null(pl.col("close")), r=whole(change, LOG_UNIT).over("part")
    )
    mean_square = pl.col("r").pow(2).rolling_sum(VOLATILITY_MINUTES).over("part") / VOLATILITY_MINUTES
    return frame.with_columns(vol=mean_square.sqrt() * LOG_UNIT)


def _with_earlier_sessions(frame: pl.DataFrame, parts: pl.DataFrame) -> pl.DataFrame:
    """Add what the earlier sessions of the same ticker hand on; null where the ticker had no bar in them."""
    square = pl.col("r").pow(2).drop_nulls().cast(pl.Float64)  # cum_sum adds in the order of time, sum need not
    facts = frame.group_by("part", maintain_order=True).agg(
        close=pl.col("close").last(),
        vol=(square.cum_sum().last() / pl.col("r").count()).sqrt() * LOG_UNIT,
        volume=pl.col("v").sum(),
    )
    parts = parts.with_columns(facts.select("close", "vol", "volume")).with_columns(
        vol=pl.when(pl.col("vol") > 0).then("vol")  # a previous session without a move, or of one bar, is no scale
    )
    earlier = [_part_before(parts, back) for back in range(1, EARLIER_SESSIONS + 1)]
    usual = _usual_volume_5(frame, parts, earlier)
    minutes = sum(parts["session_minutes"].gather(before).fill_null(0) for before in earlier)
    volume = sum(parts["volume"].gather(before).fill_null(0) for before in earlier)
    handed_on = pl.DataFrame(
        {
            "previous_close": parts["close"].gather(earlier[0]),
            "previous_vol": parts["vol"].gather(earlier[0]),
            "usual_minute_volume": pl.select(pl.when(minutes > 0).then(volume / minutes)).to_series(),
        }
    )
    per_minute = handed_on.select(pl.all().gather(frame["part"]))
    return frame.hstack(per_minute).with_columns(usual)


def _part_before(parts: pl.DataFrame, back: int) -> pl.Series:
    """Return the part of the same ticker `back` sessions earlier, for each part; null where there is none."""
    earlier = parts.select("ticker", pl.col("session_no") + back, before="part")
    return parts.join(earlier, on=["ticker", "session_no"], how="left", maintain_order="left")["before"]


def _usual_volume_5(frame: pl.DataFrame, parts: pl.DataFrame, earlier: list[pl.Series]) -> pl.Series:
    """Mean volume of the same five minutes over those earlier sessions that had them; null where none had.

    A session had a minute if any ticker traded in it or later: after a half day's close there is nothing to compare.
    A minute before the ticker's first bar of an earlier session had volume 0.
    """
    volume_5 = frame.select(pl.col("v").rolling_sum(5, min_samples=1).over("part")).to_series().to_numpy()
    minute, part = frame["minute"].to_numpy().astype(np.int64), frame["part"].to_numpy()
    start, first, size = (parts[name].to_numpy().astype(np.int64) for name in ("start", "first", "size"))
    total: IntArray = np.zeros(minute.size, dtype=np.int64)
    count: IntArray = np.zeros(minute.size, dtype=np.int64)
    for before in earlier:
        known = before.is_not_null().to_numpy()[part]
        there = before.fill_null(0).to_numpy()[part]
        offset = minute - first[there]
        had = known & (offset < size[there])
        count += had
        traded = had & (offset >= 0)
        total[traded] += volume_5[(start[there] + offset)[traded]]
    mean = np.divide(total, count, out=np.full(minute.size, np.nan), where=count > 0)
    return pl.Series("usual_volume_5", mean).fill_nan(None)


def _with_peers(frame: pl.DataFrame) -> pl.DataFrame:
    """Add each ticker's return in units of its own volatility, and the mean of the other tickers' at that minute.

    Whole numbers again (LOG_UNIT), so that the sum does not depend on the order of the tickers.
    """
    own = {f"own_{n}": in_volatility((pl.col("close") / pl.col("close").shift(n)).log(), n) for n in PEER_HORIZONS}
    frame = frame.with_columns(whole(z, LOG_UNIT).over("part").alias(name) for name, z in own.items())
    minute = ["session_no", "minute"]

    def peers(name: str) -> pl.Expr:
        z = pl.col(name)
        others = z.count().over(minute).cast(pl.Int64) - z.is_not_null().cast(pl.Int64)
        total = z.sum().over(minute) - z.fill_null(0)
        return pl.when(others > 0).then(total / others * LOG_UNIT)

    return frame.with_columns(peers(f"own_{n}").alias(f"peers_{n}") for n in PEER_HORIZONS).with_columns(
        pl.col(name) * LOG_UNIT for name in own
    )
