"""What cannot be true of minute bars: another interval, another unit, values that know the future, leaps overnight.

Pure. Each finding says what was seen; a ticker with one whose reason is in FATAL is left out, because a model that
learns from such bars finds an edge that does not exist.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from hftcl.formats import count
from hftcl.market.bars import Finding
from hftcl.market.sessions import Calendar
from hftcl.market.splits import find_edges, has_step, looks_like_split
from hftcl.market.zone import Stretch, find_misfit

FATAL: Final = {
    "interval": "the bars are not of one minute",
    "unit": "prices or volumes are in another unit",
    "future_built": "the bars were built with later minutes: their values foretell the next ones",
    "overnight_jump": "the price changed by more than a factor of 2 over a night, and no split explains it",
    "wrong_hour": "the stamps are at the wrong hour: the busiest minute is not the exchange's open",
}
"""Findings that no model may be trained on: reason code and meaning."""

_INTERVALS: Final = (14_400, 7200, 3600, 1800, 900, 600, 300, 180, 120)
"""Seconds; what vendors sell beside minutes, the longest first."""
_ODD: Final = 0.2  # of rows: faults of a feed are one in a hundred, other columns break two rows in three
_FEWEST_STEPS: Final = 20  # of a day, or of thin days together: so many are all even by chance once in a million
_SHARE: Final = 0.98  # of steps: a closing auction or a late print stands apart
_SECOND_US, _DAY_US = 1_000_000, 86_400_000_000  # stamps count microseconds; a day of UTC
_LONGEST_STEP: Final = 4 * 3600  # seconds; a longer one is a night
_TOP_PRICE: Final = 1_000_000.0  # the dearest share, BRK.A, stands below 800,000 dollars
_FRACTIONAL: Final = 0.95  # of volumes: shares are whole, or now and then parts of one, never nearly always
_WHOLE_BARS: Final = 1000  # of a share in dollars and cents one price in a hundred is whole: four in a row are rare
_WHOLE_PRICES: Final = 20  # different ones: a share that does not move says nothing
_ENOUGH: Final = 200  # bars for a correlation: of 200 independent ones, 0.2 is nearly three deviations
LATER: Final = 0.25  # G: honest bars -0.08 to 0.13, those built with the future 0.49 and more
SMOOTH: Final = 0.20  # A: honest bars -0.24 to 0.11, centred means and medians 0.34 and more
_LEAP: Final = 2.0  # factor over a night
_LEVEL_SESSIONS: Final = 5  # on each side of a night that are compared: news lift the volume of one or two
_LOT: Final = (50.0, 200.0)  # how a level of volume changes from lots of 100 to shares, give or take a factor of two


def find_interval(stamps: pl.Series) -> tuple[int, int, object] | None:
    """Return seconds between bars, the number of days on which it is so, and the first of them; None for one minute.

    stamps: Datetime us UTC in any order. A day counts where it has 20 steps within a session; those with fewer count
    together, if they have 20.

    >>> from datetime import UTC, datetime, timedelta
    >>> stamps = [datetime(2026, 1, 5, 14, 30, tzinfo=UTC) + timedelta(minutes=5 * n) for n in range(78)]
    >>> find_interval(pl.Series(stamps))
    (300, 1, datetime.date(2026, 1, 5))
    """
    known = (stamps.drop_nulls() if stamps.null_count() else stamps).alias("ts")
    known = known if known.is_sorted() else known.sort()
    steps = _describe_steps(known.cast(pl.Int64).to_numpy())
    if steps is None:
        return None
    for length in _INTERVALS:
        days = steps.filter(pl.col(str(length)) >= _SHARE)
        if days.height:
            return length, int(days["days"].sum()), days["day"][0]
    short = steps.filter(pl.col("middle") < 60)
    if short.height:
        return int(short["middle"][0]), int(short["days"].sum()), short["day"][0]
    return _find_days(known)


def _describe_steps(moments: npt.NDArray[np.int64]) -> pl.DataFrame | None:
    """Describe the steps of the days that have not a bar a minute; None where each has.

    moments: microseconds, sorted. A row a day, or for the days with few steps together: the first day, how many days,
    the step in the middle (s), and by each of _INTERVALS the share of the steps that it divides.
    """
    step, day = np.diff(moments), moments[1:] // _DAY_US
    within = (step >= _SECOND_US) & (step < (_LONGEST_STEP + 1) * _SECOND_US)
    step, day = step[within], day[within]
    begins = np.flatnonzero(np.diff(day, prepend=-1))
    if begins.size:
        lengths = np.diff(begins, append=day.size)
        minute = (step >= 60 * _SECOND_US) & (step < 61 * _SECOND_US)  # of which none of the lengths is a divisor
        minutes = np.add.reduceat(minute, begins, dtype=np.int64)
        honest = (minutes > (1 - _SHARE) * lengths) & (np.minimum.reduceat(step, begins) >= 60 * _SECOND_US)
        thin = lengths < _FEWEST_STEPS
        odd = ~honest & ~thin
        if lengths[~honest & thin].sum() >= _FEWEST_STEPS:  # bars of an hour: seven a day, so days are taken together
            odd = ~honest
        if honest.any() and not odd.any():  # the usual case
            return None
        group = np.repeat(np.where(thin, -1, np.arange(lengths.size)), lengths)
        odd = np.repeat(odd, lengths)
        step, day, group = step[odd], day[odd], group[odd]
    else:
        group = np.zeros(0, dtype=np.int64)
    others = pl.DataFrame(
        {"group": group, "day": pl.Series(day.astype(np.int32)).cast(pl.Date), "step": step // _SECOND_US}
    )
    return (
        others.lazy()
        .group_by("group")
        .agg(
            pl.col("day").min(),
            pl.col("day").n_unique().alias("days"),
            pl.col("step").median().alias("middle"),
            *((pl.col("step") % length == 0).mean().alias(str(length)) for length in _INTERVALS),
        )
        .sort("day")
        .collect()
    )


def _find_days(stamps: pl.Series) -> tuple[int, int, object] | None:
    """Bars of a day: one stamp a day, on ten days or more."""
    days = stamps.dt.date()
    count = days.n_unique()
    if count >= 10 and count == stamps.n_unique():
        return 86_400, count, days.min()
    return None


def find_odd_order(rows: pl.DataFrame) -> tuple[int, int] | None:
    """Return the number of rows whose high is not their highest price, or low not the lowest, and the first of them.

    rows: columns open, high, low, close, and `_row`. None where they are few: a faulty row is for `bars.clean` to tell.
    """
    highest, lowest = pl.max_horizontal("open", "low", "close"), pl.min_horizontal("open", "high", "close")
    odd = rows.filter((pl.col("high") < highest) | (pl.col("low") > lowest))
    if odd.height < _FEWEST_STEPS or odd.height < _ODD * rows.height:
        return None
    return odd.height, int(odd["_row"][0])


def name_interval(seconds: int) -> str:
    """Return "5-minute", "1-second", "1-hour" or "1-day".

    >>> name_interval(300), name_interval(1), name_interval(86_400)
    ('5-minute', '1-second', '1-day')
    """
    for length, unit in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= length:
            return f"{seconds // length}-{unit}"
    return f"{seconds}-second"


def find_unit(prices: pl.Series, volumes: pl.Series) -> str:
    """Return what speaks against the unit of prices or volumes; "" where nothing does.

    >>> find_unit(pl.Series([1_503_400_000_000.0] * 30), pl.Series([100.0] * 30))
    'the median price is 1,503,400,000,000, which no share costs: prices look like units of 1e-4, 1e-6 or 1e-9'
    >>> find_unit(pl.Series([150.34] * 30), pl.Series([100.0] * 30))
    ''
    """
    known = prices.to_numpy()
    known = known[~np.isnan(known)]
    middle = float(np.median(known)) if known.size else 0.0
    if middle > _TOP_PRICE:
        return f"the median price is {middle:,.0f}, which no share costs: prices look like units of 1e-4, 1e-6 or 1e-9"
    amounts = volumes.to_numpy()
    traded = amounts[amounts > 0]
    if traded.size >= _FEWEST_STEPS and int((traded != np.floor(traded)).sum()) >= _FRACTIONAL * traded.size:
        return f"volumes are nearly never whole ({traded[0]:g}): they look like thousands, or amounts of money"
    return ""


def describe_whole_prices(bars: pl.DataFrame) -> str:
    """Return what to ask where each of many prices is a whole number: cents? "" where one is not, or they are few.

    bars: columns open, high, low, close of one ticker. Yen, won, index points and coins are whole numbers too, so it is
    a question, and no reason to refuse them.

    >>> cents = pl.Series([15_000.0 + n % 40 for n in range(1000)])
    >>> describe_whole_prices(pl.DataFrame({name: cents for name in ("open", "high", "low", "close")}))[:47]
    'each price of 1,000 bars is a whole number, suc'
    """
    if bars.height < _WHOLE_BARS:
        return ""
    for name in ("close", "open", "high", "low"):
        prices = bars[name].to_numpy()
        if (prices[:_WHOLE_PRICES] != np.floor(prices[:_WHOLE_PRICES])).any():  # the usual case
            return ""
        known = prices[np.isfinite(prices)]
        if (known != np.floor(known)).any() or np.unique(known).size < _WHOLE_PRICES:
            return ""
    return (
        f"each price of {bars.height:,} bars is a whole number, such as {prices[0]:,.0f}: are they cents? Then export "
        "them in the currency's unit, or each order is for a hundredth of the shares; yen, won, points of an index and "
        "coins are right as they are"
    )


def find_whole_prices(bars: pl.DataFrame, *, ticker: str) -> tuple[Finding, ...]:
    """Return the question whether prices are in cents as a finding that is told, and refuses nothing.

    bars: BAR_SCHEMA of one ticker, NOT adjusted for splits, which makes fractions.
    """
    detail = describe_whole_prices(bars)
    return (Finding(ticker, "whole_prices", bars.height, bars["ts"][0], bars["session"][0], detail),) if detail else ()


def find_doubts(bars: pl.DataFrame, *, ticker: str, continuous: bool) -> tuple[Finding, ...]:
    """Return what cannot be true of `bars` (BAR_SCHEMA of one ticker, adjusted for splits, sorted by ts).

    continuous: of a market that never closes, where volumes are fractions and prices have no nights.
    """
    if bars.is_empty():
        return ()
    first, session = bars["ts"][0], bars["session"][0]
    doubts: list[Finding] = []

    def note(reason: str, count: int, detail: str) -> None:
        doubts.append(Finding(ticker, reason, count, first, session, detail))

    interval = find_interval(bars["ts"])
    if interval is not None:
        seconds, days, day = interval
        note("interval", days, f"{name_interval(seconds)} bars on {days} days from {day} on; hftcl reads minute bars")
    unit = "" if continuous else find_unit(bars["close"], bars["volume"])
    if unit:
        note("unit", bars.height, unit)
    regular = bars.select("regular", "session", "open", "close", "volume").filter("regular")
    later, smooth = correlate(regular)
    remedy = (
        "the bars were built with later minutes, as by a centred mean or the next minute's close: get them as traded"
    )
    if later is not None and later > LATER:
        seen = f"the distance of a close to the next open foretells the next bar (correlation {later:.2f}"
        note("future_built", bars.height, f"{seen}, honest bars have less than {LATER}); {remedy}")
    elif smooth is not None and smooth > SMOOTH:
        seen = f"one minute's return foretells the next one's (correlation {smooth:.2f}"
        note("future_built", bars.height, f"{seen}, honest bars have less than {SMOOTH}); {remedy}")
    return (*doubts, *(() if continuous else (*find_leaps(bars, ticker=ticker), *find_lots(regular, ticker=ticker))))


def find_wrong_hour(bars: pl.DataFrame, calendar: Calendar, *, ticker: str) -> tuple[Finding, ...]:
    """Return the finding that the stamps are of another clock, or of the end of their minute, where the volumes say so.

    bars: BAR_SCHEMA of one ticker, extended hours included, sorted by ts. Doubtful cases are no finding.
    """
    if bars.is_empty():
        return ()
    misfit = find_misfit(bars["ts"], bars["volume"], calendar)
    if misfit is None:
        return ()
    if isinstance(misfit, Stretch):
        stretch = misfit
        detail = (
            f"from {stretch.first} to {stretch.last} the busiest minute stands {abs(stretch.offset_minutes)} minutes "
            f"{'after' if stretch.offset_minutes > 0 else 'before'} the open, in the other sessions at it: these "
            "stamps are not UTC; correct the source"
        )
        return (Finding(ticker, "wrong_hour", bars.height, bars["ts"][0], stretch.first, detail),)
    clock = misfit
    where = f"{clock.label} of the minute" if "UTC" in (clock.zone, *clock.same) else f"a clock of {clock.zone}"
    detail = (
        f"the volumes of {count(clock.sessions, 'session')} say that the stamps are not UTC and the start of the "
        f"minute, but {where}; correct the source"
    )
    return (Finding(ticker, "wrong_hour", bars.height, bars["ts"][0], bars["session"][0], detail),)


def find_lots(bars: pl.DataFrame, *, ticker: str) -> tuple[Finding, ...]:
    """Return the night over which the usual volume of a minute changed by a factor near 100: lots beside shares.

    bars: columns session, volume of one ticker's regular hours, sorted by session. Compared are the medians of the
    five sessions on each side.
    """
    sessions, volumes = bars["session"].cast(pl.Int64).to_numpy(), bars["volume"].to_numpy()
    starts = np.flatnonzero(np.diff(sessions, prepend=-1))
    if starts.size < 2 * _LEVEL_SESSIONS:
        return ()
    middles = _find_medians(volumes, starts)
    levels = np.median(np.lib.stride_tricks.sliding_window_view(middles, _LEVEL_SESSIONS), axis=1)
    before, after = levels[:-_LEVEL_SESSIONS], levels[_LEVEL_SESSIONS:]
    if not ((after >= _LOT[0] * before) | (before >= _LOT[0] * after)).any():  # the usual case
        return ()
    days = pl.DataFrame({"session": bars["session"][starts], "volume": middles})
    level = pl.col("volume").rolling_median(_LEVEL_SESSIONS)
    nights = days.with_columns((level.shift(-_LEVEL_SESSIONS + 1) / level.shift(1)).alias("factor"))
    size = pl.max_horizontal("factor", 1 / pl.col("factor"))
    step = (pl.col("volume") / pl.col("volume").shift(1)).log().abs()
    odd = nights.with_columns(step.alias("step")).filter(size.is_between(*_LOT)).sort("step").tail(1)
    return tuple(
        Finding(
            ticker, "lots", 1, None, row["session"],
            f"the usual volume of a minute is {row['factor']:.3g} times as large from {row['session']} on: some bars "
            "are in lots of 100 and others in shares, or it is traded otherwise now",
        )
        for row in odd.iter_rows(named=True)
    )  # fmt: skip


def _find_medians(values: npt.NDArray[np.float64], starts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return the median of each run of `values`, which begin at `starts`; all at once, which is five times as quick."""
    lengths = np.diff(starts, append=values.size)
    dense = np.full((starts.size, int(lengths.max())), np.inf)
    dense[np.repeat(np.arange(starts.size), lengths), np.arange(values.size) - np.repeat(starts, lengths)] = values
    dense.sort(axis=1)
    run = np.arange(starts.size)
    middles: npt.NDArray[np.float64] = (dense[run, (lengths - 1) // 2] + dense[run, lengths // 2]) / 2
    return middles


def correlate(bars: pl.DataFrame) -> tuple[float | None, float | None]:
    """Return G and A over consecutive minutes of a session; None for one that these bars do not define.

    G: correlation of log(close_t / open_t+1) with log(close_t+1 / open_t+1). A: of the log return of the close from t
    to t+1 with the next one. bars: columns session, open, close, sorted by time.
    """
    with np.errstate(divide="ignore", invalid="ignore"):  # a price of 0 has no return, and makes no correlation
        opens, closes = np.log(bars["open"].to_numpy()), np.log(bars["close"].to_numpy())
    sessions = bars["session"].cast(pl.Int64).to_numpy()
    same = sessions[1:] == sessions[:-1]
    move = np.diff(closes)
    twice = same[1:] & same[:-1]
    later = _correlate((closes[:-1] - opens[1:])[same], (closes[1:] - opens[1:])[same])
    return later, _correlate(move[:-1][twice], move[1:][twice])


def _correlate(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float | None:
    if one.size < _ENOUGH or not (np.isfinite(one).all() and np.isfinite(other).all()):
        return None
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    return float(np.corrcoef(one, other)[0, 1])


def find_leaps(bars: pl.DataFrame, *, ticker: str) -> tuple[Finding, ...]:
    """Return the nights over which the price changed by more than a factor of 2 that no usual split has."""
    edges = find_edges(bars)
    if not has_step(edges, _LEAP):  # the usual case: to compare with every split takes longer
        return ()
    nights = edges.with_columns((pl.col("first") / pl.col("last").shift(1)).alias("factor")).filter(
        pl.max_horizontal("factor", 1 / pl.col("factor")) > _LEAP
    )
    return tuple(
        Finding(
            ticker, "overnight_jump", 1, row["ts"], row["session"],
            f"the price changed by a factor of {row['factor']:.4g} over the night before {row['session']}, and no "
            "split explains it; add the split, or take the ticker from the watchlist",
        )
        for row in nights.filter(~looks_like_split(1 / pl.col("factor"))).iter_rows(named=True)
    )  # fmt: skip
