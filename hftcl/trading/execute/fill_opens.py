"""The open of the bar in which a fill lies, for the ledger: cost is price less open, timing is open less decision."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import polars as pl

from hftcl.ledger.rows import FillOpen, FillRecord

_KEPT: Final = timedelta(hours=1)  # fills come minutes late at most


@dataclass(slots=True)
class FillOpens:
    """Opens of the last hour's bars, and fills that were told before their bar."""

    _opens: dict[datetime, dict[str, float]] = field(default_factory=dict)
    _unopened: dict[str, tuple[str, datetime]] = field(default_factory=dict)
    _so_far: pl.DataFrame | None = None

    def begin(self, so_far: pl.DataFrame) -> list[FillOpen]:
        """As `note`, of the bars of a session up to a start within it: of a whole day, so they stay in their columns.

        A broker that did not answer before the end before tells after the start what filled in them.
        """
        self._so_far = so_far.select("ts", "ticker", "open") if so_far.height else None
        return self._tell()

    def note(self, bars: pl.DataFrame) -> list[FillOpen]:
        """Keep the bars' opens for the fills in them; return those of fills that had been told before their bar."""
        self._keep(bars)
        return self._tell()

    def _keep(self, bars: pl.DataFrame) -> None:
        columns = [bars[name].to_list() for name in ("ts", "ticker", "open")]
        for ts, ticker, price in zip(*columns, strict=True):
            self._opens.setdefault(ts, {})[ticker] = price

    def _tell(self) -> list[FillOpen]:
        told = [
            FillOpen(fill_id=name, open=at)
            for name, key in self._unopened.items()
            if (at := self._get(*key)) is not None
        ]
        for row in told:
            del self._unopened[row.fill_id]
        return told

    def forget(self, now: datetime) -> None:
        """Forget bars and fills of more than an hour ago, once the fills that the broker tells have been looked up."""
        oldest = now - _KEPT
        if self._so_far is not None:
            self._keep(self._so_far.filter(pl.col("ts") >= oldest))
            self._so_far = None
        for ts in [ts for ts in self._opens if ts < oldest]:
            del self._opens[ts]
        self._unopened = {name: key for name, key in self._unopened.items() if key[1] >= oldest}

    def _get(self, ticker: str, ts: datetime) -> float | None:
        at = self._opens.get(ts, {}).get(ticker)
        if at is None and self._so_far is not None:
            bar = self._so_far.filter(pl.col("ts") == ts, pl.col("ticker") == ticker)
            return bar["open"].first()  # type: ignore[return-value]  # of a column of floats
        return at

    def expect(self, fills: Mapping[str, tuple[str, datetime]]) -> None:
        """Take fills whose bars are still to come: ticker and start of the bar by id."""
        self._unopened |= fills

    def find(self, records: Sequence[FillRecord]) -> list[FillOpen]:
        """Return the opens of these fills, as far as they are known; the others are kept for their bars."""
        told = []
        for record in records:
            at = self._get(record.ticker, record.ts)
            if at is None:
                self._unopened[record.fill_id] = record.ticker, record.ts
            else:
                told.append(FillOpen(fill_id=record.fill_id, open=at))
        return told
