"""The features of each ticker's newest minute, by NumPy: the values of the expressions in `model.features`, to the bit.

What the expressions say of every minute is computed here of one, some ten times as fast. Pure: arrays in, arrays out.
The tests, and `hftcl prove` on a user's bars, compare the two in every bit.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from hftcl.model.features import FEATURES, Feature
from hftcl.model.grid import BAND_MINUTES, LOG_UNIT, MAX_LOG_MOVE, PEER_HORIZONS, VOLATILITY_MINUTES
from hftcl.model.since_open import Array, IntArray

FloatArray = npt.NDArray[np.float64]

LENGTH: Final = 1 + VOLATILITY_MINUTES
"""Minutes that are read, the newest included."""
_UNITS: Final = 1 / LOG_UNIT  # polars divides a column by one number as times its reciprocal, and so is it done here


def is_known(feature: Feature) -> bool:
    """Whether `compute_newest` has the feature: a stranger's is evaluated by its expression."""
    return feature in _OURS


def compute_newest(minutes: Mapping[str, Array], table: Sequence[Feature]) -> npt.NDArray[np.float32]:
    """Return the features of `table` at the newest minute, shape (n_tickers, n_features), NaN where not known.

    minutes: the columns of `model.grid` that do not follow from others, each of shape (n_tickers, LENGTH), the newest
    minute last; one before a ticker's first bar has NaN prices, no volume and a negative age.
    """
    with np.errstate(all="ignore"):  # what is not known yet is NaN, and a share of nothing divides by 0
        facts = _find_facts(minutes)
        values = np.empty((facts.age.size, len(table)), dtype=np.float32)
        for place, feature in enumerate(table):
            values[:, place] = np.where(facts.age >= feature.lookback, _FORMULAE[feature.name](facts), np.nan)
    return values


@dataclass(slots=True, kw_only=True)
class _Facts:
    """What several features share: a row a ticker, and a column a minute where there are several, the newest last."""

    now: Mapping[str, Array]
    """Each column at the newest minute."""
    age: IntArray
    volumes: IntArray
    lows: FloatArray
    highs: FloatArray
    since_first: FloatArray
    r: IntArray
    """Log returns in LOG_UNIT, of all minutes but the oldest; 0 where there is none."""
    changes: FloatArray
    """ln(close / close so many minutes before), from one minute on."""
    ranges: IntArray
    bodies: IntArray
    true_ranges: IntArray
    """ln(high / low), ln(close / open), and the range with the close before, in LOG_UNIT, the first two cut."""
    location: IntArray
    """Where in its range each minute closed, times its volume."""
    since_open: FloatArray
    vwap_move: FloatArray
    volume_move: FloatArray
    gap: FloatArray
    """Logarithms of the close to the first open and to the VWAP, of the volume to the usual, of the night."""
    vol: FloatArray
    own: Mapping[int, FloatArray]
    peers: Mapping[int, FloatArray]

    def change(self, minutes: int) -> FloatArray:
        return self.changes[:, minutes - 1]

    def divide(self, log_move: FloatArray, minutes: int = 1) -> FloatArray:
        """Divide by the volatility of so many minutes; NaN where the price has not moved for 30 minutes."""
        return np.where(self.vol > 0, log_move / (self.vol * minutes**0.5), np.nan)


def _find_facts(minutes: Mapping[str, Array]) -> _Facts:
    open_, high, low, close = (minutes[name] for name in ("open", "high", "low", "close"))
    before, now = close[:, :-1], {name: table[:, -1] for name, table in minutes.items()}
    volume, usual = now["session_volume"], now["usual_minute_volume"]
    vwap = np.where(volume > 0, now["session_turnover"] / volume, np.nan)
    floor = usual * 0.5
    volume_ratio = (_sum(minutes["v"], 5) + floor) / (now["usual_volume_5"] + floor)
    steps, changes, ranges, bodies, true_ranges, since_open, vwap_move, volume_move, gap = _compute_logs(
        close[:, 1:] / before,
        close[:, -1:] / before[:, ::-1],
        high / low,
        close / open_,
        np.maximum(high[:, 1:], before) / np.minimum(low[:, 1:], before),
        now["close"] * (1 / now["first_open"]),
        now["close"] / vwap,
        np.where(usual > 0, volume_ratio, np.nan),
        now["first_open"] / now["previous_close"],
    )
    r = _count(_cut(steps))
    mean_square = (r * r).sum(axis=1) * (1 / VOLATILITY_MINUTES)
    span = high - low
    location = _divide(2 * close - high - low, span, neutral=0.0)
    facts = _Facts(
        now=now,
        age=now["age"],
        volumes=minutes["v"],
        lows=low,
        highs=high,
        since_first=minutes["since_first"],
        r=r,
        changes=changes,
        ranges=_count(_cut(ranges)),
        bodies=_count(_cut(bodies)),
        true_ranges=_count(true_ranges),
        location=_count(location * minutes["v"], 1.0),
        since_open=since_open,
        vwap_move=vwap_move,
        volume_move=volume_move,
        gap=gap,
        vol=np.where(now["age"] >= VOLATILITY_MINUTES, np.sqrt(mean_square) * LOG_UNIT, np.nan),
        own={},
        peers={},
    )
    own = {n: facts.divide(facts.change(n), n) for n in PEER_HORIZONS}
    facts.own = {n: np.where(np.isnan(z), np.nan, _count(z) * LOG_UNIT) for n, z in own.items()}
    facts.peers = {n: _average_others(z) for n, z in own.items()}
    return facts


def _average_others(z: FloatArray) -> FloatArray:
    """Return the mean of the other tickers' values, summed in whole LOG_UNITs; NaN where there is none."""
    known, whole = ~np.isnan(z), _count(z)
    others = known.sum() - known
    return np.where(others > 0, (whole.sum() - whole) / others * LOG_UNIT, np.nan)


def _compute_logs(*ratios: FloatArray) -> list[FloatArray]:
    """Return natural logarithms as polars finds them, whose last bits are not NumPy's; all by one call."""
    logs = pl.Series(np.concatenate([ratio.ravel() for ratio in ratios])).log().to_numpy()
    ends = np.cumsum([ratio.size for ratio in ratios])[:-1]
    return [part.reshape(ratio.shape) for part, ratio in zip(np.split(logs, ends), ratios, strict=True)]


def _cut(logs: FloatArray) -> FloatArray:
    return np.clip(logs, -MAX_LOG_MOVE, MAX_LOG_MOVE)


def _count(values: FloatArray, per_unit: float = _UNITS) -> IntArray:
    """Count in whole units, 0 for NaN."""
    return np.where(np.isnan(values), 0.0, np.rint(values * per_unit)).astype(np.int64)


def _divide(part: Array, total: Array, *, neutral: float) -> FloatArray:
    return np.where(total == 0, neutral, part / total)


def _sum(values: Array, minutes: int) -> Array:
    total: Array = values[:, -minutes:].sum(axis=1)
    return total


def _mean(whole: IntArray, minutes: int) -> FloatArray:
    return np.asarray(_sum(whole, minutes) * (1 / minutes) * LOG_UNIT)


def _mean_square(whole: IntArray, minutes: int) -> FloatArray:
    return np.asarray(_sum(whole * whole, minutes) * (1 / minutes) * LOG_UNIT**2)


def _garman_klass(f: _Facts, minutes: int) -> FloatArray:
    variance = 0.5 * _mean_square(f.ranges, minutes) - (2 * log(2) - 1) * _mean_square(f.bodies, minutes)
    return np.sqrt(np.maximum(variance, 0.0))


def _vol_against_previous(f: _Facts) -> FloatArray:
    (logs,) = _compute_logs(f.vol / f.now["previous_vol"])
    return np.where(f.vol > 0, logs, np.nan)


def _average_distance(f: _Facts, minutes: int) -> FloatArray:
    mean = _mean(_count(f.since_first[:, -minutes:]), minutes)
    return f.divide(f.now["since_first"] - mean, minutes)


def _rsi(f: _Facts, minutes: int) -> FloatArray:
    return _divide(100 * _sum(np.maximum(f.r, 0), minutes), _sum(np.abs(f.r), minutes), neutral=50.0)


def _bollinger(f: _Facts) -> FloatArray:
    total: Array = np.zeros(f.age.size)
    squares: Array = np.zeros(f.age.size)
    for back in range(1, BAND_MINUTES):  # in the order of the grid
        total, squares = total + f.change(back), squares + f.change(back) * f.change(back)
    spread = BAND_MINUTES * squares - total * total
    return _divide(total, np.sqrt(np.maximum(spread, 0.0)), neutral=0.0)


def _stochastic(f: _Facts, lowest: FloatArray, highest: FloatArray) -> FloatArray:
    return _divide(f.now["close"] - lowest, highest - lowest, neutral=0.5)


def _pressure(f: _Facts, minutes: int) -> FloatArray:
    signed = np.sign(f.r) * f.volumes[:, 1:]
    return _divide(_sum(signed, minutes), _sum(f.volumes, minutes), neutral=0.0)


def _in_range(f: _Facts, part: FloatArray) -> FloatArray:
    return _divide(part, f.now["high"] - f.now["low"], neutral=0.0)


def _against_peers(f: _Facts, minutes: int) -> FloatArray:
    own, peers = f.own[minutes], f.peers[minutes]
    return own - np.where(np.isnan(peers), own, peers)


# Each says of the newest minute what `features.FEATURES` says of all: a test holds them equal to the bit.
_FORMULAE: Final[Mapping[str, Callable[[_Facts], FloatArray]]] = {
    "ret_1": lambda f: f.divide(f.change(1), 1),
    "ret_5": lambda f: f.divide(f.change(5), 5),
    "ret_15": lambda f: f.divide(f.change(15), 15),
    "ret_30": lambda f: f.divide(f.change(30), 30),
    "ret_since_open": lambda f: f.divide(f.since_open, 30),
    "vol_30": lambda f: f.vol,
    "vol_ratio_5_30": lambda f: f.divide(np.sqrt(_mean_square(f.r, 5))),
    "garman_klass_20": lambda f: _garman_klass(f, 20),
    "atr_14": lambda f: f.divide(_mean(f.true_ranges, 14)),
    "vol_vs_previous_session": _vol_against_previous,
    "ma_dist_10": lambda f: _average_distance(f, 10),
    "ma_dist_30": lambda f: _average_distance(f, 30),
    "vwap_dist": lambda f: f.divide(f.vwap_move, 30),
    "macd_12_26": lambda f: f.divide(f.now["macd"]),
    "macd_histogram_9": lambda f: f.divide(f.now["macd"] - f.now["macd_signal"]),
    "rsi_14": lambda f: _rsi(f, 14),
    "bollinger_20": _bollinger,
    "stochastic_14": lambda f: _stochastic(f, f.lows[:, -14:].min(axis=1), f.highs[:, -14:].max(axis=1)),
    "range_position": lambda f: _stochastic(f, f.now["session_low"], f.now["session_high"]),
    "volume_vs_earlier_sessions": lambda f: f.volume_move,
    "volume_burst_5_30": lambda f: _divide(6 * _sum(f.volumes, 5), _sum(f.volumes, 30), neutral=1.0),
    "pressure_5": lambda f: _pressure(f, 5),
    "pressure_30": lambda f: _pressure(f, 30),
    "money_flow_20": lambda f: _divide(_sum(f.location, 20), _sum(f.volumes, 20), neutral=0.0),
    "candle_body": lambda f: _in_range(f, f.now["close"] - f.now["open"]),
    "candle_wick": lambda f: _in_range(f, f.now["high"] + f.now["low"] - f.now["open"] - f.now["close"]),
    "time_of_session": lambda f: f.now["minute"] * (1 / 390),
    "gap_overnight": lambda f: f.gap,
    "watchlist_ret_15": lambda f: np.where(np.isnan(f.peers[15]), 0.0, f.peers[15]),
    "ret_5_vs_watchlist": lambda f: _against_peers(f, 5),
    "ret_30_vs_watchlist": lambda f: _against_peers(f, 30),
}
_OURS: Final = frozenset(FEATURES)
