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

    def note(self, bars: pl.DataFrame, now: datetime) -> list[FillOpen]:
        """Keep the bars' opens for the fills in them; return those of fills that had been told before their bar."""
        columns = [bars[name].to_list() for name in ("ts", "ticker", "open")]
        for ts, ticker, price in zip(*columns, strict=True):
            self._opens.setdefault(ts, {})[ticker] = price
        told = [
            FillOpen(fill_id=name, open=at)
            for name, key in self._unopened.items()
            if (at := self._get(*key)) is not None
        ]
        oldest = now - _KEPT  # after the fills were looked up: a start brings the bars of the whole session
        for ts in [ts for ts in self._opens if ts < oldest]:
            del self._opens[ts]
        known = {row.fill_id for row in told}
        self._unopened = {name: key for name, key in self._unopened.items() if name not in known and key[1] >= oldest}
        return told

    def _get(self, ticker: str, ts: datetime) -> float | None:
        return self._opens.get(ts, {}).get(ticker)

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
