"""Bars of earlier minutes that came late or otherwise than before: kept until the orders of the minute are out."""

from dataclasses import dataclass, field
from typing import Final

import polars as pl

_PRICES: Final = ("open", "high", "low", "close")
_VOLUMES_WAIT: Final = 5
"""Minutes that corrections of volumes alone may wait: vendors send a minute again for each late trade, and to compute
again takes a second for fifty tickers. A corrected price, or a bar that was missing, also of a context ticker, waits
for the orders only."""


@dataclass(slots=True)
class Corrections:
    """Those that are still to be computed from, and for how many minutes they have waited."""

    _frames: list[pl.DataFrame] = field(default_factory=list)
    _waited: int = 0

    def add(
        self, corrected: pl.DataFrame, old_bars: pl.DataFrame, collar: float, *, at_once: bool = False
    ) -> frozenset[str]:
        """Keep bars for after the orders; return the tickers whose price moved beyond the collar, a fraction.

        old_bars: those minutes' bars as they were. at_once: they do not wait, though no price of theirs is another one.
        """
        names = [*_PRICES, *(f"{name}_old" for name in _PRICES)]
        new_bars, old_bars = (bars.select("ticker", "ts", *_PRICES) for bars in (corrected, old_bars))
        both = new_bars.join(old_bars, on=["ticker", "ts"], how="left", suffix="_old").select("ticker", *names)
        far, has_moved = set(), False
        for ticker, *prices in both.iter_rows():  # a few: to build expressions for them takes longer
            new, old = prices[: len(_PRICES)], prices[len(_PRICES) :]
            has_moved = has_moved or new != old
            if any(was is not None and abs(now / was - 1.0) > collar for now, was in zip(new, old, strict=True)):
                far.add(ticker)
        self._frames.append(corrected)
        if has_moved or at_once:
            self._waited = _VOLUMES_WAIT
        return frozenset(far)

    def is_due(self) -> bool:
        """Count a minute; whether features are to be computed again now, the orders of the minute being out."""
        self._waited += bool(self._frames)
        return bool(self._frames) and self._waited >= _VOLUMES_WAIT

    def take(self) -> pl.DataFrame:
        """Return the newest of each bar that has come, and keep none."""
        frames, self._frames, self._waited = self._frames, [], 0
        return pl.concat(frames).unique(["ticker", "ts"], keep="last", maintain_order=True)
