"""The features of each ticker's newest minute, by NumPy: the values of the expressions in `model.features`, to the bit.

What the expressions say of every minute is computed here of one, some ten times as fast. Pure: arrays in, arrays out.
The tests, and `hftcl prove` on a user's bars, compare the two in every bit.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from math import log
from typing import Final

import numpy as np
import numpy.typing as npt

from hftcl.model.feature import Feature
from hftcl.model.features import FEATURES
from hftcl.model.grid import BAND_MINUTES, MAX_LOG_MOVE, VOLATILITY_MINUTES
from hftcl.model.peers import LOG_UNIT
from hftcl.model.since_open import Array, IntArray, compute_logs

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
        names = tuple(feature.name for feature in table)
        facts = _Facts(minutes, _LOGS_READ.get(names, ()))
        values = np.empty((facts.age.size, len(table)), dtype=np.float32)
        for place, feature in enumerate(table):
            values[:, place] = np.where(facts.age >= feature.lookback, _FORMULAE[feature.name](facts), np.nan)
    _LOGS_READ[names] = tuple(facts.logs)
    return values


class _Facts:
    """What several features share: a row a ticker, and a column a minute where there are several, the newest last.

    Each is computed when a feature first reads it: a model of few features costs the bot few of them.
    """

    def __init__(self, minutes: Mapping[str, Array], logs: Sequence[str] = ()) -> None:
        """Take minutes as `compute_newest` does. logs: of `_RATIOS`, which will be read: all taken by one call."""
        self.minutes = minutes
        self.now = {name: table[:, -1] for name, table in minutes.items()}
        """Each column at the newest minute."""
        self.age: IntArray = self.now["age"]
        self.volumes: IntArray = minutes["v"]
        self._own: dict[int, FloatArray] = {}
        ratios = [_RATIOS[name](self) for name in logs]
        self.logs = dict(zip(logs, _compute_logs(*ratios), strict=True)) if ratios else {}

    def log(self, name: str) -> FloatArray:
        """Return the logarithm of one of `_RATIOS`."""
        if name not in self.logs:
            (self.logs[name],) = _compute_logs(_RATIOS[name](self))
        return self.logs[name]

    def change(self, minutes: int) -> FloatArray:
        """Return ln(close / close so many minutes before), from one minute on."""
        return self.log("change")[:, minutes - 1]

    def divide(self, log_move: FloatArray, minutes: int = 1) -> FloatArray:
        """Divide by the volatility of so many minutes; NaN where the price has not moved for 30 minutes."""
        return np.where(self.vol > 0, log_move / (self.vol * minutes**0.5), np.nan)

    def own(self, minutes: int) -> FloatArray:
        """Return the move of so many minutes in units of volatility, in whole LOG_UNITs."""
        z = self._divide_change(minutes)
        return np.where(np.isnan(z), np.nan, _count(z) * LOG_UNIT)

    def peers(self, minutes: int) -> FloatArray:
        """Return what that is on the mean of the other tickers."""
        return _average_others(self._divide_change(minutes))

    def _divide_change(self, minutes: int) -> FloatArray:
        if minutes not in self._own:
            self._own[minutes] = self.divide(self.change(minutes), minutes)
        return self._own[minutes]

    @cached_property
    def r(self) -> IntArray:
        """Log returns in LOG_UNIT, of all minutes but the oldest; 0 where there is none."""
        return _count(_cut(self.log("step")))

    @cached_property
    def vol(self) -> FloatArray:
        """The volatility of half an hour; NaN before there is one."""
        mean_square = (self.r * self.r).sum(axis=1) * (1 / VOLATILITY_MINUTES)
        return np.where(self.age >= VOLATILITY_MINUTES, np.sqrt(mean_square) * LOG_UNIT, np.nan)

    @cached_property
    def location(self) -> IntArray:
        """Where in its range each minute closed, times its volume."""
        high, low = self.minutes["high"], self.minutes["low"]
        location = _divide(2 * self.minutes["close"] - high - low, high - low, neutral=0.0)
        return _count(location * self.volumes, 1.0)


def _find_true_range(f: _Facts) -> FloatArray:
    before, high, low = f.minutes["close"][:, :-1], f.minutes["high"][:, 1:], f.minutes["low"][:, 1:]
    return np.asarray(np.maximum(high, before) / np.minimum(low, before))


def _find_vwap_move(f: _Facts) -> FloatArray:
    volume = f.now["session_volume"]
    return np.asarray(f.now["close"] / np.where(volume > 0, f.now["session_turnover"] / volume, np.nan))


def _find_volume_move(f: _Facts) -> FloatArray:
    usual = f.now["usual_minute_volume"]
    floor = usual * 0.5
    return np.where(usual > 0, (_sum(f.volumes, 5) + floor) / (f.now["usual_volume_5"] + floor), np.nan)


# Of what logarithms are taken: the first five of each minute or of each span that ends now, the others of now alone.
_RATIOS: Final[Mapping[str, Callable[[_Facts], FloatArray]]] = {
    "step": lambda f: f.minutes["close"][:, 1:] / f.minutes["close"][:, :-1],
    "change": lambda f: f.minutes["close"][:, -1:] / f.minutes["close"][:, -2::-1],
    "range": lambda f: f.minutes["high"] / f.minutes["low"],
    "body": lambda f: f.minutes["close"] / f.minutes["open"],
    "true_range": _find_true_range,
    "since_open": lambda f: f.now["close"] * (1 / f.now["first_open"]),
    "vwap_move": _find_vwap_move,
    "volume_move": _find_volume_move,
    "gap": lambda f: f.now["first_open"] / f.now["previous_close"],
}
# By the features of a table, which of them these read: known after its first minute. Polars' call costs more than the
# logarithms of a minute, so they are then taken by one.
_LOGS_READ: Final[dict[tuple[str, ...], tuple[str, ...]]] = {}


def _average_others(z: FloatArray) -> FloatArray:
    """Return the mean of the other tickers' values, summed in whole LOG_UNITs; NaN where there is none."""
    known, whole = ~np.isnan(z), _count(z)
    others = known.sum() - known
    return np.where(others > 0, (whole.sum() - whole) / others * LOG_UNIT, np.nan)


def _compute_logs(*ratios: FloatArray) -> list[FloatArray]:
    """Return natural logarithms, see `since_open.compute_logs`; all by one call."""
    logs = compute_logs(np.concatenate([ratio.ravel() for ratio in ratios]))
    ends = np.cumsum([ratio.size for ratio in ratios])[:-1]
    return [part.reshape(ratio.shape) for part, ratio in zip(np.split(logs, ends), ratios, strict=True)]


def _cut(logs: FloatArray) -> FloatArray:
    return np.clip(logs, -MAX_LOG_MOVE, MAX_LOG_MOVE)


def _count(values: FloatArray, per_unit: float = _UNITS) -> IntArray:
    """Count in whole units, 0 for NaN."""
    return np.where(np.isnan(values), 0.0, np.rint(values * per_unit)).astype(np.int64)


def _fill_null(values: FloatArray) -> FloatArray:
    return np.where(np.isnan(values), 0.0, values)


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
    ranges, bodies = (_mean_square(_count(_cut(f.log(name))), minutes) for name in ("range", "body"))
    return np.sqrt(np.maximum(0.5 * ranges - (2 * log(2) - 1) * bodies, 0.0))


def _vol_against_previous(f: _Facts) -> FloatArray:
    (logs,) = _compute_logs(f.vol / f.now["previous_vol"])
    return np.where(f.vol > 0, logs, np.nan)


def _average_distance(f: _Facts, minutes: int) -> FloatArray:
    mean = _mean(_count(f.minutes["since_first"][:, -minutes:]), minutes)
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
    own, peers = f.own(minutes), f.peers(minutes)
    return own - np.where(np.isnan(peers), own, peers)


# Each says of the newest minute what `features.FEATURES` says of all: a test holds them equal to the bit.
_FORMULAE: Final[Mapping[str, Callable[[_Facts], FloatArray]]] = {
    "ret_1": lambda f: f.divide(f.change(1), 1),
    "ret_5": lambda f: f.divide(f.change(5), 5),
    "ret_15": lambda f: f.divide(f.change(15), 15),
    "ret_30": lambda f: f.divide(f.change(30), 30),
    "ret_since_open": lambda f: f.divide(f.log("since_open"), 30),
    "vol_30": lambda f: f.vol,
    "vol_ratio_5_30": lambda f: f.divide(np.sqrt(_mean_square(f.r, 5))),
    "garman_klass_20": lambda f: _garman_klass(f, 20),
    "atr_14": lambda f: f.divide(_mean(_count(f.log("true_range")), 14)),
    "vol_vs_previous_session": _vol_against_previous,
    "ma_dist_10": lambda f: _average_distance(f, 10),
    "ma_dist_30": lambda f: _average_distance(f, 30),
    "vwap_dist": lambda f: f.divide(f.log("vwap_move"), 30),
    "macd_12_26": lambda f: f.divide(f.now["macd"]),
    "macd_histogram_9": lambda f: f.divide(f.now["macd"] - f.now["macd_signal"]),
    "rsi_14": lambda f: _rsi(f, 14),
    "bollinger_20": _bollinger,
    "stochastic_14": lambda f: _stochastic(
        f, f.minutes["low"][:, -14:].min(axis=1), f.minutes["high"][:, -14:].max(axis=1)
    ),
    "range_position": lambda f: _stochastic(f, f.now["session_low"], f.now["session_high"]),
    "volume_vs_earlier_sessions": lambda f: f.log("volume_move"),
    "volume_burst_5_30": lambda f: _divide(6 * _sum(f.volumes, 5), _sum(f.volumes, 30), neutral=1.0),
    "pressure_5": lambda f: _pressure(f, 5),
    "pressure_30": lambda f: _pressure(f, 30),
    "money_flow_20": lambda f: _divide(_sum(f.location, 20), _sum(f.volumes, 20), neutral=0.0),
    "candle_body": lambda f: _in_range(f, f.now["close"] - f.now["open"]),
    "candle_wick": lambda f: _in_range(f, f.now["high"] + f.now["low"] - f.now["open"] - f.now["close"]),
    "time_of_session": lambda f: f.now["minute"] * (1 / 390),
    "gap_overnight": lambda f: f.log("gap"),
    "watchlist_ret_15": lambda f: _fill_null(f.peers(15)),
    "ret_5_vs_watchlist": lambda f: _against_peers(f, 5),
    "ret_30_vs_watchlist": lambda f: _against_peers(f, 30),
}
_OURS: Final = frozenset(FEATURES)
