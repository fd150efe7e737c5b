"""The open of the bar in which a fill lies, for the ledger: cost is price less open, timing is open less decision."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import polars as pl

from hftcl.ledger.rows import FillOpen, FillRecord

_KEPT: Final = timedelta(hours=1)  # fills come minutes late at most


@dataclass(slots=True)
class FillOpens:
    """Opens of the last hour's bars, and fills that were told before their bar."""

    _opens: dict[tuple[str, datetime], float] = field(default_factory=dict)
    _unopened: dict[str, tuple[str, datetime]] = field(default_factory=dict)

    def note(self, bars: pl.DataFrame, now: datetime) -> list[FillOpen]:
        """Keep the bars' opens for the fills in them; return those of fills that had been told before their bar."""
        self._opens |= {(ticker, ts): price for ticker, ts, price in bars.select("ticker", "ts", "open").iter_rows()}
        oldest = now - _KEPT
        while self._opens and next(iter(self._opens))[1] < oldest:
            del self._opens[next(iter(self._opens))]
        known = {fill_id: key for fill_id, key in self._unopened.items() if key in self._opens}
        self._unopened = {
            fill_id: key for fill_id, key in self._unopened.items() if fill_id not in known and key[1] >= oldest
        }
        return [FillOpen(fill_id=fill_id, open=self._opens[key]) for fill_id, key in known.items()]

    def find(self, records: Sequence[FillRecord]) -> list[FillOpen]:
        """Return the opens of these fills, as far as they are known; the others are kept for their bars."""
        keys = {record.fill_id: (record.ticker, record.ts) for record in records}
        self._unopened |= {fill_id: key for fill_id, key in keys.items() if key not in self._opens}
        return [FillOpen(fill_id=name, open=self._opens[key]) for name, key in keys.items() if key in self._opens]
