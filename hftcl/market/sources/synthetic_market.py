"""The market of the source `synthetic`: what sets its tickers apart, and the minutes of their sessions. Pure.

The market begins at EPOCH and prices accumulate from there, so a bar depends on seed, edge, ticker, calendar and
session, never on the watchlist, on the range asked for or on the day of asking. Regular hours only.
"""

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from hftcl.market.bars import PRICES, RAW_SCHEMA, TS
from hftcl.market.columns import extend_schema
from hftcl.market.sessions import Calendar

# Fixed: prices accumulate from it, so another one would be another market.
EPOCH: Final = date(2020, 1, 1)
_WORLD: Final = 3
"""Part of every random number's address: another one is another market.

3 was chosen among five worlds, for the default seed's worst run of twenty sessions from August 2026 to November 2027,
so figures of that seed are picked, not typical. Other seeds lose a first exam by luck now and then: about 0.4 % at a
true Sharpe of 10, 1.7 % at 8.
"""

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Sample = Callable[[np.random.Generator, int], FloatArray]

MARKET: Final = ""  # where a ticker is asked for: the series that all tickers share
_EDGE: Final = 0.082  # drift a minute at edge 1, in units of its volatility; from tests/benchmarks/test_planted_edge.py
_AHEAD: Final = 30  # minutes that imbalance tells of: the default horizon
_MEMORY: Final = 30  # minutes of the momentum that the edge follows
_FULL_DAY: Final = 390  # minutes of the day that volatilities are meant for, whatever the calendar
_MARKET_VOL: Final = 0.0045  # of the common factor, a day
_MARKET_GAP: Final = 0.004  # of the common factor, a night: chosen, a little less than in a day
_CALM: Final = (0.92, 0.10)  # a session's log volatility: what stays of the last one's, and news
_MOOD: Final = (0.97, 0.06)  # the same from minute to minute
_PULL: Final = 0.004  # of the log distance from the ticker's usual price, overnight: prices stay plausible for decades
_TAIL: Final = 4  # degrees of freedom of Student's t
_WORST: Final = 10.0  # standard deviations: no minute moves further
_CHUNK_MINUTES: Final = 1_000_000  # bounds the memory of a pass over many years
# Times the volume, for the orders that waited overnight: of ten liquid shares over 206 sessions the opening minute
# trades 2.0 (TSLA) to 8.1 (JNJ) times as much as the mean of the five after it, 4.3 in the middle.
_OPENING_CROSS: Final = 4
_MINUTE_US: Final = 60_000_000  # microseconds
_CENTS: Final = 100.0  # a dollar; prices are whole cents


def draw_normal(rng: np.random.Generator, count: int) -> FloatArray:
    """Draw `count` numbers of a normal distribution with mean 0 and variance 1."""
    return rng.standard_normal(count)


def draw_student(rng: np.random.Generator, count: int) -> FloatArray:
    """Draw `count` numbers of Student's t with variance 1, cut off symmetrically, so that the mean stays exactly 0."""
    drawn: FloatArray = np.clip(rng.standard_t(_TAIL, count) * math.sqrt((_TAIL - 2) / _TAIL), -_WORST, _WORST)
    return drawn


def draw_gamma(rng: np.random.Generator, count: int) -> FloatArray:
    """Draw `count` numbers of a gamma distribution of shape 2 with mean 1."""
    return rng.standard_gamma(2.0, count) / 2


def draw_uniform(rng: np.random.Generator, count: int) -> FloatArray:
    """Draw `count` numbers, each in (0, 1] alike: their logarithm is taken."""
    return 1.0 - rng.random(count)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Nature:
    """What sets a ticker apart for ever; hashed from its name and the seed."""

    price: float  # USD, around which it moves
    beta: float
    vol: float  # its own, a day, without the market's
    trades: float  # a minute at midday
    size: float  # shares a trade

    @classmethod
    def draw(cls, seed: int, ticker: str) -> "_Nature":
        price, beta, vol, trades, size = _build_generator(seed, ticker, "nature", 0).random(5)
        return cls(
            price=80 * 6**price,  # 80 to 480: a cent is then small against a minute's move
            beta=0.6 + beta,
            vol=0.007 * 2**vol,
            trades=5 * 24**trades,
            size=60 * 8**size,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Days:
    """The sessions since EPOCH, oldest first."""

    date: npt.NDArray[np.datetime64]
    open_us: IntArray
    minutes: IntArray
    month: IntArray  # 12 * year + month: random numbers are drawn by the month
    after_night: npt.NDArray[np.bool_]  # False where the market had not closed

    @classmethod
    def from_sessions(cls, sessions: pl.DataFrame) -> "_Days":
        opens = sessions["open"].dt.epoch("us").to_numpy()
        closes = sessions["close"].dt.epoch("us").to_numpy()
        month = 12 * sessions["session"].dt.year() + sessions["session"].dt.month().cast(pl.Int32)
        return cls(
            date=sessions["session"].to_numpy(),
            open_us=opens,
            minutes=(closes - opens) // _MINUTE_US,
            month=month.cast(pl.Int64).to_numpy(),
            after_night=opens != np.concatenate([opens[:0], [0], closes])[: opens.size],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Paths:
    """The minutes of some sessions: arrays (minutes, sessions); past a session's end the values mean nothing."""

    move: FloatArray  # simple return
    vol: FloatArray  # its standard deviation without the edge
    mood: FloatArray  # log volatility of the minute against what is usual for ticker, session and time


@dataclass(slots=True)
class _PathState:
    """What the sessions since EPOCH began with: log volatility against the usual one, and log price."""

    calm: list[float] = field(default_factory=list)
    level: list[float] = field(default_factory=list)
    close: float = 0.0  # log price at the end


class MarketGenerator:
    """All tickers of one seed, edge and calendar. Keeps what sessions begin with; their bars are drawn when asked for.

    Every random number has an address: what it is for, whose, and its place in the month's series. So the same bars
    come out whatever was asked before.
    """

    def __init__(self, seed: int, edge: float) -> None:
        self.seed = seed
        self.edge = edge
        self._days: _Days | None = None
        self._calm: list[float] = []
        self._states: dict[str, _PathState] = {}
        self._kept: dict[tuple[str, int], FloatArray] = {}

    def build_bars(
        self, ticker: str, first: date, last: date, calendar: Calendar, told: float | None = None
    ) -> pl.DataFrame:
        """Return the bars of the sessions from `first` to `last`, RAW_SCHEMA, and trades.

        told: correlation of the column imbalance, which comes too, with the next half hour; None: without it.
        """
        if self._days is None or np.datetime64(last, "D") > self._days.date[-1]:
            self._days = _Days.from_sessions(calendar.list_sessions(EPOCH, last))
        days = self._days
        wanted = np.array([first, last + timedelta(days=1)], "datetime64[D]")
        begin, end = (int(place) for place in np.searchsorted(days.date, wanted))
        nature = _Nature.draw(self.seed, ticker)
        state = self._advance(ticker, nature, days, end)
        frames = [self._build_bars(ticker, nature, state, days, part, told) for part in _cut_sessions(days, begin, end)]
        names = ("trades",) if told is None else ("trades", "imbalance")
        return pl.concat([extend_schema(RAW_SCHEMA, names).to_frame(), *frames])

    def _advance(self, ticker: str, nature: _Nature, days: _Days, end: int) -> _PathState:
        """Bring the ticker's state up to session `end`: a price is the sum of all that has happened since EPOCH."""
        for part in _cut_sessions(days, len(self._calm), end):
            _remember(self._calm, self._draw_nightly(MARKET, "calm", days, part, draw_normal), *_CALM)
        state = self._states.setdefault(ticker, _PathState(close=math.log(nature.price)))
        for part in _cut_sessions(days, len(state.level), end):
            _remember(state.calm, self._draw_nightly(ticker, "calm", days, part, draw_normal), *_CALM)
            path = np.log1p(self._draw_paths(ticker, nature, state, days, part).move).cumsum(axis=0)
            gaps = self._draw_gaps(ticker, nature, state, days, part)
            for nth, minutes in enumerate(days.minutes[part]):
                pull = _PULL * (math.log(nature.price) - state.close)
                state.level.append(state.close + pull + float(gaps[nth]))
                state.close = state.level[-1] + float(path[minutes - 1, nth])
        return state

    def _draw_gaps(self, ticker: str, nature: _Nature, state: _PathState, days: _Days, part: slice) -> FloatArray:
        """Log returns from the last close to the open."""
        market = self._draw_nightly(MARKET, "gap", days, part, draw_student) * np.exp(self._calm[part]) * _MARKET_GAP
        own = self._draw_nightly(ticker, "gap", days, part, draw_student) * np.exp(state.calm[part]) * nature.vol / 2
        gaps: FloatArray = np.clip(nature.beta * market + own, -0.2, 0.2) * days.after_night[part]
        return gaps

    def _draw_paths(self, ticker: str, nature: _Nature, state: _PathState, days: _Days, part: slice) -> _Paths:
        """Draw the minutes' returns: the market's, the ticker's own, and the drift of the planted edge."""
        mood = _make_autoregressive(self._draw_minutely(ticker, "mood", days, part, draw_normal), *_MOOD)
        market = nature.beta * _MARKET_VOL * np.exp(self._calm[part])
        own = nature.vol * np.exp(np.array(self._calm[part]) / 2 + state.calm[part])
        day = np.hypot(market, own)
        noise = self._draw_minutely(MARKET, "move", days, part, draw_student) * (market / day)
        noise += self._draw_minutely(ticker, "move", days, part, draw_student) * (own / day)
        usual = _build_u_shape(days.minutes[part], noise.shape[0], opening=1.3, closing=0.35)
        vol = day / math.sqrt(_FULL_DAY) * usual * np.exp(mood)
        return _Paths(move=vol * _add_drift(noise, self.edge * _EDGE), vol=vol, mood=mood)

    def _build_bars(
        self, ticker: str, nature: _Nature, state: _PathState, days: _Days, part: slice, told: float | None
    ) -> pl.DataFrame:
        """Look at the price when there are trades: the first, highest, lowest and last of each minute make its bar."""
        paths = self._draw_paths(ticker, nature, state, days, part)
        move, vol = paths.move, paths.vol

        def draw(what: str, sample: Sample) -> FloatArray:
            return self._draw_minutely(ticker, what, days, part, sample)

        trades = nature.trades * _build_u_shape(days.minutes[part], move.shape[0], opening=2.0, closing=1.2)
        trades *= np.exp(np.array(state.calm[part]) / 2 + 0.8 * paths.mood) * (0.5 + 0.6 * np.abs(move) / vol)
        trades = np.floor(trades * draw("trades", draw_gamma) + draw("chance", draw_uniform))
        many = trades > 1
        with np.errstate(divide="ignore"):  # a minute without trades has no bar below
            enter = 1 - draw("enter", draw_uniform) ** (1 / trades)
            leave = np.where(many, enter + (1 - enter) * draw("leave", draw_uniform) ** (1 / (trades - 1)), enter)
        # off the straight line by |move|, not vol: trades depend on |move|, and prices would seem to bounce
        first = enter * move + np.abs(move) * np.sqrt(enter * (1 - enter)) * draw("first", draw_normal)
        last = np.where(
            many, leave * move + np.abs(move) * np.sqrt(leave * (1 - leave)) * draw("last", draw_normal), first
        )
        # the extremes of a Brownian bridge from the first trade to the last: P(max > x) = exp(-2 (x-a) (x-b) / var)
        width = np.where(many, 2 * vol**2, 0.0)
        above = np.sqrt((last - first) ** 2 - width * np.log(draw("high", draw_uniform)))
        below = np.sqrt((last - first) ** 2 - width * np.log(draw("low", draw_uniform)))

        start = np.exp(np.array(state.level[part])) * (1 + move).cumprod(axis=0) / (1 + move)
        prices = [
            start * (1 + value) for value in (first, (first + last + above) / 2, (first + last - below) / 2, last)
        ]
        opens = _round_to_cents(prices[0], draw("open_cent", draw_uniform))
        closes = np.where(many, _round_to_cents(prices[3], draw("close_cent", draw_uniform)), opens)
        highs = np.maximum(np.maximum(opens, closes), np.where(many, np.round(prices[1] * _CENTS), opens))
        lows = np.minimum(np.minimum(opens, closes), np.where(many, np.round(prices[2] * _CENTS), opens))
        volumes = np.maximum(trades, np.round(trades * nature.size * np.exp(0.5 * draw("size", draw_normal))))
        volumes[0] *= np.where(days.after_night[part], _OPENING_CROSS, 1)
        prices = [price / _CENTS for price in (opens, highs, lows, closes)]
        figures = dict(zip((*PRICES, "volume", "trades"), (*prices, volumes, trades), strict=True))
        if told is not None:
            figures["imbalance"] = _tell_ahead(move / vol, draw("imbalance", draw_normal), days.minutes[part], told)
        return _build_frame(ticker, days, part, trades > 0, figures)

    def _draw_nightly(self, key: str, what: str, days: _Days, part: slice, sample: Sample) -> FloatArray:
        """One random number for each of the sessions `part`."""
        return self._draw_series(key, what, days.month, np.ones_like(days.minutes), part, sample)

    def _draw_minutely(self, key: str, what: str, days: _Days, part: slice, sample: Sample) -> FloatArray:
        """One for each minute of them: array (minutes, sessions), 1 past a session's end."""
        minutes = days.minutes[part]
        by_session = np.ones((minutes.size, int(minutes.max())))
        inside = np.arange(by_session.shape[1]) < minutes[:, None]
        by_session[inside] = self._draw_series(key, what, days.month, days.minutes, part, sample)
        return np.ascontiguousarray(by_session.T)

    def _draw_series(
        self, key: str, what: str, month: IntArray, counts: IntArray, part: slice, sample: Sample
    ) -> FloatArray:
        """Draw `counts` numbers for each session of `part`, each month from its first session on, and cut to `part`."""
        drawn = []
        for number in np.unique(month[part]):
            begin, end = (int(place) for place in np.searchsorted(month, [number, number + 1]))
            before = int(counts[begin : max(begin, part.start)].sum())
            count = int(counts[begin : min(end, part.stop)].sum())
            month_of = self._draw_market_month if key == MARKET else self._draw_month
            drawn.append(month_of(key, what, int(number), count, sample)[before:count])
        return np.concatenate(drawn)

    def _draw_month(self, key: str, what: str, number: int, count: int, sample: Sample) -> FloatArray:
        return sample(_build_generator(self.seed, key, what, number), count)

    def _draw_market_month(self, key: str, what: str, number: int, count: int, sample: Sample) -> FloatArray:
        """Kept, since every ticker needs them; `count` or more numbers."""
        kept = self._kept.get((what, number))
        if kept is None or kept.size < count:
            kept = self._kept[what, number] = self._draw_month(key, what, number, count, sample)
        return kept


def _build_generator(seed: int, key: str, what: str, number: int) -> np.random.Generator:
    """hashlib, not hash(): the same in every process."""
    address = hashlib.sha256(repr((_WORLD, seed, key, what, number)).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(address[:16], "little")))


def _cut_sessions(days: _Days, begin: int, end: int) -> Iterator[slice]:
    """Cut the sessions from `begin` to `end` into parts of bounded size."""
    if begin < end:
        size = max(1, _CHUNK_MINUTES // int(days.minutes[begin:end].max()))
        yield from (slice(at, min(at + size, end)) for at in range(begin, end, size))


def _remember(series: list[float], news: FloatArray, memory: float, scale: float) -> None:
    """Extend an autoregressive series of order 1."""
    last = series[-1] if series else 0.0
    for step in news.tolist():
        last = memory * last + scale * step
        series.append(last)


def _make_autoregressive(news: FloatArray, memory: float, scale: float) -> FloatArray:
    """Turn news into such a series along the first axis; it begins as it goes on, from its stationary distribution."""
    series = news * scale
    series[0] = news[0] * (scale / math.sqrt(1 - memory**2))
    for minute in range(1, series.shape[0]):
        series[minute] += memory * series[minute - 1]
    return series


def _build_u_shape(minutes: IntArray, width: int, *, opening: float, closing: float) -> FloatArray:
    """High after the open, low at midday, rising to the close; array (minutes, sessions)."""
    minute = np.arange(width)[:, None]
    left = np.maximum(minutes[None, :] - 1 - minute, 0)
    shape: FloatArray = 0.75 + opening * np.exp(-minute / 30) + closing * np.exp(-left / 20)
    return shape


def _add_drift(noise: FloatArray, strength: float) -> FloatArray:
    """Add the planted edge to standardised returns (minutes, sessions): what the past of the session tells of the next.

    The drift follows the last 30 minutes and pulls back to the session's mean price, both in units of what the
    volatility leads one to expect and both saturating: two opposed effects that no single feature tells apart.
    """
    if strength == 0:
        return noise
    width, count = noise.shape
    steps = np.empty_like(noise)
    level = np.zeros((width + 1, count))
    total = np.zeros(count)
    for minute in range(width):
        now = level[minute]
        total += now
        trend = np.tanh((now - level[max(0, minute - _MEMORY)]) / math.sqrt(_MEMORY))
        stretch = np.tanh((now - total / (minute + 1)) / math.sqrt((minute + 1) / 3))
        steps[minute] = noise[minute] + strength * (trend - stretch)
        level[minute + 1] = now + steps[minute]
    return steps


def _tell_ahead(steps: FloatArray, noise: FloatArray, minutes: IntArray, told: float) -> FloatArray:
    """Return what the orders of each minute tell of the next half hour of the session, -1 to 1; (minutes, sessions).

    steps: standardised returns. It is early news, which prices do not hold yet: they are the same with and without it,
    so nothing that reads prices and volumes alone can find it. The noise lasts as long as the news does, so that to
    average over minutes sharpens nothing.
    """
    width = steps.shape[0]
    inside = np.arange(width)[:, None] < minutes[None, :]
    news = np.where(inside, told * steps + math.sqrt(1 - told**2) * noise, 0.0)
    total = np.vstack([np.zeros((1, minutes.size)), news.cumsum(axis=0)])
    ahead = total[np.minimum(np.arange(width) + 1 + _AHEAD, width)] - total[np.arange(width) + 1]
    imbalance: FloatArray = np.tanh(ahead / math.sqrt(_AHEAD))
    return imbalance


def _round_to_cents(prices: FloatArray, chance: FloatArray) -> FloatArray:
    """Round up or down by chance, so that the mean is the price: rounding to the nearest would make prices bounce."""
    return np.maximum(1.0, np.floor(prices * _CENTS + 1 - chance))


def _build_frame(
    ticker: str,
    days: _Days,
    part: slice,
    traded: npt.NDArray[np.bool_],
    figures: dict[str, FloatArray],
) -> pl.DataFrame:
    """Lay out what was traded within the sessions, session by session."""
    minute = np.arange(traded.shape[0])
    traded_minutes = traded.T & (minute < days.minutes[part][:, None])
    stamps = days.open_us[part][:, None] + minute * _MINUTE_US
    columns = {name: value.T[traded_minutes] for name, value in figures.items()}
    return pl.DataFrame({"ts": pl.Series(stamps[traded_minutes]).cast(TS), **columns}).select(
        pl.lit(ticker).alias("ticker"), pl.all()
    )
