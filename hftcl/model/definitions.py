"""The 31 features: one table that training, exam, bot, proof and documentation read. Pure.

The expressions run over the minute grid of `model.grid`, whose columns and conventions are described there: a row for
each minute, prices, log returns `r` and volumes `v` in whole numbers.
"""

from math import log
from typing import Final

import polars as pl

from hftcl.model.feature import Feature
from hftcl.model.grid import BAND_MINUTES, EARLIER_SESSIONS, MAX_LOG_MOVE, count_whole, divide_by_volatility
from hftcl.model.peers import LOG_UNIT

DEFINITIONS_VERSION: Final = 1
"""Raise it when an expression or `model.grid` changes a value: a model fitted to the old meaning is then refused."""

_open, _high, _low, _close = (pl.col(name) for name in ("open", "high", "low", "close"))
_volume, _return, _vol = (pl.col(name) for name in ("v", "r", "vol"))
_signed_volume = _return.sign() * _volume
_since_first, _macd = pl.col("since_first"), pl.col("macd")


def _since_open() -> pl.Expr:
    # Times the reciprocal, not divided: so were the values that models were fitted to; see `compute_since_open`.
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
