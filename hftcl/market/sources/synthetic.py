"""The source `synthetic`: a seeded market that looks real, with a planted edge. Reads no file, no clock, no network."""

import hashlib
from datetime import date, datetime
from functools import cache, lru_cache
from typing import Final

import numpy as np
import polars as pl

from hftcl.market.bars import RAW_SCHEMA
from hftcl.market.columns import choose_columns, extend_schema
from hftcl.market.sessions import Calendar
from hftcl.market.sources import Split
from hftcl.market.sources.synthetic_market import (
    EPOCH,
    MarketGenerator,
    draw_gamma,
    draw_normal,
    draw_student,
    draw_uniform,
)
from hftcl.settings import Settings

VERSION: Final = 4
"""Raise it with any change of `synthetic_market` that changes a bar: stored bars are then fetched again."""
COLUMNS: Final = ("imbalance", "trades")
"""Further numbers of a bar: what the orders of a minute tell of the next half hour, and how many trades it had."""
_TOLD: Final = 0.2  # correlation of imbalance and the next half hour at column_edge 1: a true net Sharpe near 10


class SyntheticSource:
    """The built-in market; settings used: [synthetic] seed and edge, [market] calendar. Any ticker is known.

    At edge 0 prices are martingales within each session, down to the rounding to cents: there is nothing to learn. At
    edge 1 the default strategy with a forest from the default window has a true net Sharpe near 10.
    Raises ConfigError for an unknown calendar, HorizonError for a date that the calendar does not reach.
    """

    name = "synthetic"
    synthetic = True
    unchanging = True
    past = True
    label_known = True

    def __init__(self, settings: Settings) -> None:
        self._calendar = Calendar(settings.market.calendar)
        self.columns = choose_columns(settings.market.columns, COLUMNS, f"the source {self.name!r}")
        self._told = min(1.0, settings.synthetic.column_edge * _TOLD)
        self._market = _build_market(settings.synthetic.seed, float(settings.synthetic.edge), settings.market.calendar)

    def fingerprint(self, ticker: str) -> str:
        """Name the generator, its settings, and how this NumPy draws: the same for all tickers."""
        market = self._market
        told = f" told={self._told!r}" if "imbalance" in self.columns else ""
        drawn = f"seed={market.seed} edge={market.edge!r} {self._calendar.name} draws={_hash_rng()}"
        return f"synthetic {VERSION} {drawn}{told}"

    def minutes(self, ticker: str, first: date, last: date) -> pl.DataFrame:
        """Return the bars of the sessions `first` to `last` as RAW_SCHEMA, sorted by ts; none before EPOCH."""
        names = extend_schema(RAW_SCHEMA, self.columns)
        if last < max(first, EPOCH):
            return names.to_frame()
        told = self._told if "imbalance" in self.columns else None
        return self._market.build_bars(ticker, first, last, self._calendar, told).select(names.names())

    def splits(self, ticker: str) -> tuple[Split, ...]:
        """Return none: this market has no splits."""
        return ()

    def known_until(self, tickers: tuple[str, ...], now: datetime) -> datetime | None:
        """Return the close of the last session that is complete at `now`; None before the market's first close."""
        if now.date() < EPOCH:
            return None
        day = self._calendar.find_last_complete(now)
        if day < EPOCH:
            return None
        return self._calendar.find_close(day)


@lru_cache(maxsize=4)  # a process that looks at many seeds does not hoard them
def _build_market(seed: int, edge: float, calendar: str) -> "MarketGenerator":
    return MarketGenerator(seed, edge)


@cache
def _hash_rng() -> str:
    """NumPy may change how it draws a distribution: the bars are then others, and the fingerprint says so."""
    drawn = [sample(np.random.default_rng(1), 64) for sample in (draw_normal, draw_student, draw_gamma, draw_uniform)]
    return hashlib.sha256(np.concatenate(drawn).round(9).astype("<f8").tobytes()).hexdigest()[:8]
