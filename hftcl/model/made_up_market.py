"""Made-up markets on which features must keep their promises: gaps, late starts, jumps, still minutes. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from hftcl.market.bars import BAR_SCHEMA
from hftcl.market.columns import Nature, find_nature
from hftcl.model.grid import EARLIER_SESSIONS

_TICKERS: Final = ("AAA", "BBB", "CCC")
_SESSIONS: Final = EARLIER_SESSIONS + 2  # so that one can be left out, and all that a feature may read remain
MINUTES: Final = 80
"""A session's: more than twice the half hour that most features read."""
_JUMPS: Final = 0.02  # of the minutes: some in each session, and the half hour before most of them is calm
_JUMP: Final = 15.0  # moves of a minute: more than 4 times the volatility of the half hour that the jump itself is in
_MOST_SAMPLES: Final = 256  # values of a column: enough to show its span, and quickly compared by a cache
_KEPT: Final = 16  # markets in memory, 0.2 MB each: a long-lived scheduler meets other bars each week

Samples = tuple[tuple[str, tuple[float, ...]], ...]
"""Columns of a made-up market, each with the values that it is drawn from; none: by its name."""


@lru_cache(maxsize=_KEPT)
def make_market(
    seed: int, samples: Samples = (), *, wildness: float = 0.001, sessions: int = _SESSIONS, minutes: int = MINUTES
) -> pl.DataFrame:
    """Return bars, BAR_SCHEMA and the columns, sorted by ticker and ts; wildness: log move a minute."""
    chance, jumps = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    rows: list[tuple[Any, ...]] = []
    for ticker in _TICKERS:
        price = float(chance.uniform(5, 500))
        for number in range(sessions):
            opening = datetime(2025, 3, 3, 14, 30, tzinfo=UTC) + timedelta(days=number)
            for minute in range(int(chance.integers(0, 4)), minutes):
                before, moves = price, chance.uniform() < 0.9
                jump = _JUMP * wildness * jumps.choice([-1, 1]) * (jumps.uniform() < _JUMPS) if wildness < 1 else 0.0
                price = float(np.clip(price * np.exp(chance.normal(0, wildness) * moves + jump), 1e-2, 1e6))
                edges = np.exp(np.abs(chance.normal(0, wildness / 2, 2)))
                high, low = max(before, price) * edges[0], min(before, price) / edges[1]
                volume = float(np.round(chance.lognormal(7, 1)))
                stamp = opening + timedelta(minutes=minute)
                if chance.uniform() >= 0.1:  # else a minute without a trade
                    rows.append((ticker, stamp, stamp.date(), minute, minutes, True, before, high, low, price, volume))
    bars = pl.DataFrame(rows, schema=BAR_SCHEMA, orient="row")
    return bars.with_columns(_draw_column(bars, seed, name, values) for name, values in samples)


def _draw_column(bars: pl.DataFrame, seed: int, name: str, values: Sequence[float]) -> pl.Series:
    chance = np.random.default_rng([seed, *name.encode()])
    share = chance.uniform(size=bars.height)
    low, high, volume = (bars[figure].to_numpy() for figure in ("low", "high", "volume"))
    drawn: npt.NDArray[np.float64]
    match find_nature(name):
        case Nature.PRICE:
            drawn = low + (high - low) * share
        case Nature.VOLUME:
            drawn = np.floor(volume * share)
        case Nature.COUNT:
            drawn = 1 + np.floor(chance.lognormal(3, 1, bars.height))
        case Nature.NUMBER:
            drawn = np.array(values)[chance.integers(len(values), size=bars.height)] if values else share
    return pl.Series(name, drawn)


def sample_columns(bars: pl.DataFrame, columns: Sequence[str]) -> Samples:
    """Return the columns with values of `bars` that theirs may be drawn from, spread over their span."""
    return tuple((name, _sample(bars[name])) for name in columns if name in bars.columns)


def _sample(values: pl.Series) -> tuple[float, ...]:
    known = values.drop_nulls().sort()
    if known.is_empty():
        return ()
    places = np.linspace(0, known.len() - 1, min(_MOST_SAMPLES, known.len())).astype(np.int64)
    return tuple(known.gather(pl.Series(places)).to_list())
