"""The 31 features: one table that training, exam, bot, proof and documentation read. Pure: a frame in, a frame out.

A user's own features stand beside them in a `FeatureTable`.

The expressions run over the minute grid of `model.grid`, whose columns and conventions are described there: a row for
each minute, prices, log returns `r` and volumes `v` in whole numbers.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from hftcl.model.grid import (
    BAND_MINUTES,
    EARLIER_SESSIONS,
    LOG_UNIT,
    MAX_LOG_MOVE,
    VOLATILITY_MINUTES,
    Grid,
    build_grid,
    count_whole,
    divide_by_volatility,
)

DEFINITIONS_VERSION: Final = 1
"""Raise it when an expression or `model.grid` changes a value: a model fitted to the old meaning is then refused."""

_CHUNK_ROWS: Final = 1_000_000  # bounds the memory of intermediate columns; 10 tickers x 60 sessions are one chunk


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Feature:
    """One column of the model's input.

    expr: polars expression over one part (a ticker's session) of the minute grid. It reads the bar's row and at most
        `lookback` rows before it, or 30: the bot evaluates it on no more of them.
    lookback: minutes before the bar that must exist in this session; the feature is null in the first `lookback`
        minutes after the ticker's first bar.
    sessions: earlier sessions that it reads, and so crosses a session boundary, which its name then says.
    source: of one that stands in a user's file: SHA-256 of that file; "" for ours. `own_features` fills it in.

    >>> [feature.name for feature in FEATURES[:2]]
    ['ret_1', 'ret_5']
    """

    name: str
    group: str
    expr: pl.Expr
    lookback: int
    formula: str
    reason: str
    sessions: int = 0
    source: str = ""


_open, _high, _low, _close = (pl.col(name) for name in ("open", "high", "low", "close"))
_volume, _return, _vol = (pl.col(name) for name in ("v", "r", "vol"))
_signed_volume = _return.sign() * _volume
_since_first, _macd = pl.col("since_first"), pl.col("macd")


def _since_open() -> pl.Expr:
    # Times the reciprocal, not divided: so were the values computed that models have been fitted to; see `since_open`.
    return (_close * (1 / pl.col("first_open"))).log()


def _change(minutes: int) -> pl.Expr:
    return (_close / _close.shift(minutes)).log()


def _ratio(part: pl.Expr, total: pl.Expr, *, neutral: float) -> pl.Expr:
    """Divide; `neutral` for 0/0."""
    return pl.when(total == 0).then(neutral).otherwise(part / total)


def _mean(logs: pl.Expr, minutes: int) -> pl.Expr:
    return count_whole(logs, LOG_UNIT).rolling_sum(minutes) / minutes * LOG_UNIT


def _mean_square(logs: pl.Expr, minutes: int) -> pl.Expr:
    cut = logs.clip(-MAX_LOG_MOVE, MAX_LOG_MOVE)
    return count_whole(cut, LOG_UNIT).pow(2).rolling_sum(minutes) / minutes * LOG_UNIT**2


def _bollinger() -> pl.Expr:
    total, squares = pl.col("deviation"), pl.col("deviation_squares")
    spread = BAND_MINUTES * squares - total.pow(2)
    return _ratio(total, spread.clip(lower_bound=0).sqrt(), neutral=0.0)


def _garman_klass(minutes: int) -> pl.Expr:
    high_low = _mean_square((_high / _low).log(), minutes)
    body = _mean_square((_close / _open).log(), minutes)
    return (0.5 * high_low - (2 * log(2) - 1) * body).clip(lower_bound=0).sqrt()


def _rsi(minutes: int) -> pl.Expr:
    up = _return.clip(lower_bound=0).rolling_sum(minutes)
    return _ratio(100 * up, _return.abs().rolling_sum(minutes), neutral=50.0)


def _stochastic(lowest: pl.Expr, highest: pl.Expr) -> pl.Expr:
    return _ratio(_close - lowest, highest - lowest, neutral=0.5)


def _true_range() -> pl.Expr:
    before = _close.shift(1)
    return (pl.max_horizontal(_high, before) / pl.min_horizontal(_low, before)).log()


def _money_flow(minutes: int) -> pl.Expr:
    location = _ratio(2 * _close - _high - _low, _high - _low, neutral=0.0)
    return _ratio(count_whole(location * _volume, 1).rolling_sum(minutes), _volume.rolling_sum(minutes), neutral=0.0)


def _vwap() -> pl.Expr:
    volume = pl.col("session_volume")
    return pl.when(volume > 0).then(pl.col("session_turnover") / volume)


def _relative_volume() -> pl.Expr:
    usual = pl.col("usual_minute_volume")
    floor = usual / 2
    return pl.when(usual > 0).then(((pl.col("volume_5") + floor) / (pl.col("usual_volume_5") + floor)).log())


FEATURES: Final = (
    Feature(
        name="ret_1",
        group="momentum",
        expr=divide_by_volatility(_change(1), 1),
        lookback=30,
        formula="ln(c[t] / c[t-1]) / vol_30",
        reason="The last minute's move; minute returns tend to bounce.",
    ),
    Feature(
        name="ret_5",
        group="momentum",
        expr=divide_by_volatility(_change(5), 5),
        lookback=30,
        formula="ln(c[t] / c[t-5]) / (vol_30 * sqrt(5))",
        reason="Short momentum. In units of volatility, so that one forest serves calm and wild tickers.",
    ),
    Feature(
        name="ret_15",
        group="momentum",
        expr=divide_by_volatility(_change(15), 15),
        lookback=30,
        formula="ln(c[t] / c[t-15]) / (vol_30 * sqrt(15))",
        reason="Momentum over half the horizon.",
    ),
    Feature(
        name="ret_30",
        group="momentum",
        expr=divide_by_volatility(_change(30), 30),
        lookback=30,
        formula="ln(c[t] / c[t-30]) / (vol_30 * sqrt(30))",
        reason="Momentum over the horizon itself; near its bounds of +-sqrt(30) the move was a straight line.",
    ),
    Feature(
        name="ret_since_open",
        group="momentum",
        expr=divide_by_volatility(_since_open(), 30),
        lookback=30,
        formula="ln(c[t] / first open of the session) / (vol_30 * sqrt(30))",
        reason="Where the day stands; late moves often continue the day's.",
    ),
    Feature(
        name="vol_30",
        group="volatility",
        expr=_vol,
        lookback=30,
        formula="sqrt(mean over 30 minutes of ln(c[t] / c[t-1])^2)",
        reason="Calm or storm; realised volatility, which also scales the target.",
    ),
    Feature(
        name="vol_ratio_5_30",
        group="volatility",
        expr=divide_by_volatility(_mean_square(_change(1), 5).sqrt()),
        lookback=30,
        formula="sqrt(mean over 5 minutes of ln(c[t] / c[t-1])^2) / vol_30",
        reason="Is volatility rising or dying down right now?",
    ),
    Feature(
        name="garman_klass_20",
        group="volatility",
        expr=_garman_klass(20),
        lookback=19,
        formula="sqrt(mean over 20 minutes of 0.5 * ln(h / l)^2 - (2 ln 2 - 1) * ln(c / o)^2)",
        reason="Volatility from ranges: seven times as efficient as from closes (Garman and Klass 1980).",
    ),
    Feature(
        name="atr_14",
        group="volatility",
        expr=divide_by_volatility(_mean(_true_range(), 14)),
        lookback=30,
        formula="mean over 14 minutes of ln(max(h[t], c[t-1]) / min(l[t], c[t-1])) / vol_30",
        reason="Average true range; large against vol_30 when prices swing within minutes and come back.",
    ),
    Feature(
        name="vol_vs_previous_session",
        group="volatility",
        expr=pl.when(_vol > 0).then((_vol / pl.col("previous_vol")).log()),
        lookback=30,
        sessions=1,
        formula="ln(vol_30 / sqrt(mean over the previous session of ln(c[t] / c[t-1])^2))",
        reason="An unusual day shows early in its volatility.",
    ),
    Feature(
        name="ma_dist_10",
        group="average",
        expr=divide_by_volatility(_since_first - _mean(_since_first, 10), 10),
        lookback=30,
        formula="(ln c[t] - mean over 10 minutes of ln c) / (vol_30 * sqrt(10))",
        reason="Distance from the fast average: stretched prices snap back or break out.",
    ),
    Feature(
        name="ma_dist_30",
        group="average",
        expr=divide_by_volatility(_since_first - _mean(_since_first, 30), 30),
        lookback=30,
        formula="(ln c[t] - mean over 30 minutes of ln c) / (vol_30 * sqrt(30))",
        reason="Distance from the slow average.",
    ),
    Feature(
        name="vwap_dist",
        group="average",
        expr=divide_by_volatility((_close / _vwap()).log(), 30),
        lookback=30,
        formula="ln(c[t] / VWAP) / (vol_30 * sqrt(30)); VWAP = sum of v * (h + l + c) / 3 since the open / sum of v",
        reason="Institutions are measured by the day's VWAP and trade towards it.",
    ),
    Feature(
        name="macd_12_26",
        group="average",
        expr=divide_by_volatility(_macd),
        lookback=30,
        formula="(EMA12(ln c) - EMA26(ln c)) / vol_30; EMAs (alpha = 2 / (n + 1)) start at the first close",
        reason="The trend as two horizons see it (Appel's MACD line).",
    ),
    Feature(
        name="macd_histogram_9",
        group="average",
        expr=divide_by_volatility(_macd - pl.col("macd_signal")),
        lookback=30,
        formula="(MACD line - EMA9(MACD line)) / vol_30, where MACD line = EMA12(ln c) - EMA26(ln c)",
        reason="Is the trend gaining or losing strength?",
    ),
    Feature(
        name="rsi_14",
        group="oscillator",
        expr=_rsi(14),
        lookback=14,
        formula="100 * sum of rises / sum of moves of ln c over 14 minutes (Cutler's simple sums); 50 without a move",
        reason="Share of the upward moves: one-sided runs tire.",
    ),
    Feature(
        name="bollinger_20",
        group="oscillator",
        expr=_bollinger(),
        lookback=19,
        formula="(ln c[t] - mean over 20 minutes of ln c) / standard deviation (ddof 0) of the same; 0 when flat",
        reason="Position within the Bollinger bands, which lie at +-2.",
    ),
    Feature(
        name="stochastic_14",
        group="oscillator",
        expr=_stochastic(_low.rolling_min(14), _high.rolling_max(14)),
        lookback=13,
        formula="(c[t] - lowest l) / (highest h - lowest l) over 14 minutes; 0.5 when flat",
        reason="Close within the recent range (Lane's %K): at 1 buyers hold the top.",
    ),
    Feature(
        name="range_position",
        group="oscillator",
        expr=_stochastic(pl.col("session_low"), pl.col("session_high")),
        lookback=0,
        formula="(c[t] - lowest l) / (highest h - lowest l) since the open; 0.5 when flat",
        reason="The day's high and low are where stops and limit orders wait.",
    ),
    Feature(
        name="volume_vs_earlier_sessions",
        group="volume",
        expr=_relative_volume(),
        lookback=0,
        sessions=EARLIER_SESSIONS,
        formula="ln((V + f) / (U + f)); V = volume of the last 5 minutes, U = its mean in the same minutes of "
        "the 5 earlier sessions (those that had them), f = half the mean minute volume of these 5",
        reason="Volume is U-shaped over the day; only against the same minute does it tell of news.",
    ),
    Feature(
        name="volume_burst_5_30",
        group="volume",
        expr=_ratio(6 * _volume.rolling_sum(5), _volume.rolling_sum(30), neutral=1.0),
        lookback=29,
        formula="mean volume of 5 minutes / mean volume of 30 minutes; 1 without volume",
        reason="A burst of trading marks the start of a move, or its climax.",
    ),
    Feature(
        name="pressure_5",
        group="volume",
        expr=_ratio(_signed_volume.rolling_sum(5), _volume.rolling_sum(5), neutral=0.0),
        lookback=5,
        formula="sum of sign(c[t] - c[t-1]) * v / sum of v over 5 minutes; 0 without volume",
        reason="Who pays for immediacy: the tick rule on minutes, as signed volume.",
    ),
    Feature(
        name="pressure_30",
        group="volume",
        expr=_ratio(_signed_volume.rolling_sum(30), _volume.rolling_sum(30), neutral=0.0),
        lookback=30,
        formula="sum of sign(c[t] - c[t-1]) * v / sum of v over 30 minutes; 0 without volume",
        reason="Large orders are worked over many minutes and press in one direction.",
    ),
    Feature(
        name="money_flow_20",
        group="volume",
        expr=_money_flow(20),
        lookback=19,
        formula="sum of v * (2 c - h - l) / (h - l) / sum of v over 20 minutes; 0 for h = l or no volume",
        reason="Signed by where in its range each minute closed (Chaikin): sees pressure that closes hide.",
    ),
    Feature(
        name="candle_body",
        group="candle",
        expr=_ratio(_close - _open, _high - _low, neutral=0.0),
        lookback=0,
        formula="(c - o) / (h - l); 0 for h = l",
        reason="Conviction of the last minute.",
    ),
    Feature(
        name="candle_wick",
        group="candle",
        expr=_ratio(_high + _low - _open - _close, _high - _low, neutral=0.0),
        lookback=0,
        formula="(upper wick - lower wick) / range = (h + l - o - c) / (h - l); 0 for h = l",
        reason="A long wick is a price that was tried and refused.",
    ),
    Feature(
        name="time_of_session",
        group="time",
        expr=pl.col("minute") / 390,
        lookback=0,
        formula="minutes since the session's open / 390",
        reason="Open, lunch and close are three different markets. 390: a full day in New York is 1.",
    ),
    Feature(
        name="gap_overnight",
        group="gap",
        expr=(pl.col("first_open") / pl.col("previous_close")).log(),
        lookback=0,
        sessions=1,
        formula="ln(first open of the session / last close of the previous session)",
        reason="The night's news; gaps are faded or followed through the day.",
    ),
    Feature(
        name="watchlist_ret_15",
        group="watchlist",
        expr=pl.col("peers_15").fill_null(0.0),
        lookback=30,
        formula="mean of ret_15 over the other tickers; 0 without others",
        reason="What the rest of the market did: laggards catch up.",
    ),
    Feature(
        name="ret_5_vs_watchlist",
        group="watchlist",
        expr=pl.col("own_5") - pl.coalesce("peers_5", "own_5"),
        lookback=30,
        formula="ret_5 - mean of ret_5 over the other tickers; 0 without others",
        reason="The ticker's own short move, without the market's.",
    ),
    Feature(
        name="ret_30_vs_watchlist",
        group="watchlist",
        expr=pl.col("own_30") - pl.coalesce("peers_30", "own_30"),
        lookback=30,
        formula="ret_30 - mean of ret_30 over the other tickers; 0 without others",
        reason="Relative strength over the horizon: reverts, or runs on news.",
    ),
)
"""The model's input columns, in this order."""

# Drawn from the table: their order is that of a model's columns.
FEATURE_NAMES: Final = tuple(feature.name for feature in FEATURES)
WARMUP_SESSIONS: Final = max(feature.sessions for feature in FEATURES)
"""Whole sessions before a bar that `features` must be given to find the same values as from all history."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureTable:
    """The features in force. chosen: what a model is trained on, in its order. known: what is computed for each bar.

    Ours are always known, and those of the user's files too that are dropped, so that a model of before serves on, and
    defends itself, while a new set is tried.
    """

    chosen: tuple[Feature, ...] = FEATURES
    known: tuple[Feature, ...] = FEATURES

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the chosen ones."""
        return tuple(feature.name for feature in self.chosen)


OUR_TABLE: Final = FeatureTable()
"""What is in force where no setting says otherwise."""


def features(bars: pl.DataFrame, table: tuple[Feature, ...] = FEATURES) -> pl.DataFrame:
    """One Float32 column per feature, in the order of `table`, row for row with `bars` in the order they came.

    bars: clean bars of any number of tickers and sessions, split-adjusted, in any order: ticker, ts (start of the
        minute, UTC), session, open, high, low, close, volume, and `minute` (from the session's open); without it,
        minutes are counted from the session's first bar of any ticker. Sessions must be whole up to the newest bar.
    A value uses no bar after its own, so later bars never change it, to the bit. Null where it is not known: in the
    first `lookback` minutes of a ticker's session, without the earlier sessions it reads, or for a division by a
    volatility of 0. Never NaN or infinite. Raises ValueError for bars that are not clean (see `grid.build_grid`).

    >>> from datetime import UTC, date, datetime, timedelta
    >>> bars = pl.DataFrame({
    ...     "ticker": ["AAPL"] * 3,
    ...     "ts": [datetime(2026, 1, 5, 14, 30, tzinfo=UTC) + timedelta(minutes=n) for n in range(3)],
    ...     "session": [date(2026, 1, 5)] * 3,
    ...     "minute": [0, 1, 2],
    ...     "open": [100.0, 101.0, 102.0],
    ...     "high": [101.0, 102.0, 103.0],
    ...     "low": [100.0, 101.0, 102.0],
    ...     "close": [101.0, 102.0, 103.0],
    ...     "volume": [1000.0, 1000.0, 1000.0],
    ... })
    >>> features(bars).shape, features(bars).columns[0]
    ((3, 31), 'ret_1')
    """
    if bars.is_empty():
        return pl.DataFrame(schema={feature.name: pl.Float32 for feature in table})
    return evaluate(build_grid(bars), table)


def evaluate(grid: Grid, table: tuple[Feature, ...]) -> pl.DataFrame:
    """Return the columns of `table` for the grid's bars, in the order of the bars; `prove` also plants a leak here."""
    columns = [value(feature).over("part").alias(feature.name) for feature in table]
    chunks = [chunk.select("seen", *columns).filter("seen").drop("seen") for chunk in _chunks(grid.frame)]
    by_row = pl.concat(chunks)
    if (np.diff(grid.rows) > 0).all():
        return by_row
    place = np.empty(grid.rows.size, dtype=np.int64)
    place[np.argsort(grid.rows)] = np.arange(grid.rows.size)
    return by_row.select(pl.all().gather(pl.Series(place)))


def value(feature: Feature) -> pl.Expr:
    """Return the feature's expression, Float32, null where its look-back reaches before the ticker's first bar."""
    return pl.when(pl.col("age") >= feature.lookback).then(feature.expr).cast(pl.Float32)


def _chunks(frame: pl.DataFrame) -> list[pl.DataFrame]:
    """Cut between parts, so that no window is cut."""
    starts = frame.select((pl.col("age") == 0).arg_true()).to_series().to_numpy()
    after = np.searchsorted(starts, np.arange(_CHUNK_ROWS, frame.height, _CHUNK_ROWS))
    cuts = sorted({0, *(int(starts[i]) for i in after if i < starts.size), frame.height})
    return [frame.slice(begin, end - begin) for begin, end in pairwise(cuts)]


def definitions_hash(table: tuple[Feature, ...] = FEATURES) -> str:
    """SHA-256, hexadecimal, over what the columns mean: names, order, look-backs, formulae, version and units.

    The formula's text, not polars' form of the expression, which changes with polars: what a new polars does to the
    values is for the model's canary rows to tell.

    >>> len(definitions_hash())
    64
    """
    meaning = {
        "version": DEFINITIONS_VERSION,
        "log_unit": LOG_UNIT,
        "volatility_minutes": VOLATILITY_MINUTES,
        # The formula of a user's feature is what its author says it is; the file itself cannot be wrong about that.
        "features": [[f.name, f.lookback, f.sessions, f.formula, *([f.source] if f.source else [])] for f in table],
    }
    return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()


def build_documentation() -> str:
    """Return the table of docs/features.md, as Markdown; docs/features.md says how to put it there."""
    head = ["| # | name | formula | look-back | reason |", "| --- | --- | --- | --- | --- |"]
    return (
        "\n".join([*head, *(_document_feature(number, feature) for number, feature in enumerate(FEATURES, 1))]) + "\n"
    )


def _document_feature(number: int, feature: Feature) -> str:
    sessions = {0: "", 1: ", previous session"}.get(feature.sessions, f", {feature.sessions} earlier sessions")
    formula = feature.formula.replace("|", "\\|")
    return f"| {number} | `{feature.name}` | {formula} | {feature.lookback} min{sessions} | {feature.reason} |"


def build_matrix(rows: pl.DataFrame, names: Sequence[str] = FEATURE_NAMES) -> npt.NDArray[np.float32]:
    """Return the features `names` of `rows` as a C-ordered float32 array, shape (n, k), in the order of the names."""
    return np.ascontiguousarray(rows.select(names).to_numpy(), dtype=np.float32)


def is_known(names: Sequence[str] = FEATURE_NAMES) -> pl.Expr:
    """Whether every one of these features of a row is known: only there a model is trained or decides."""
    return pl.all_horizontal(pl.col(name).is_not_null() for name in names)
