"""What the bot sees of one session: the features of each minute's bars, as training and exam would compute them.

Keeps what it has seen today, for a model that comes in the middle of a session.
"""

from collections.abc import Sequence
from datetime import date

import polars as pl

from hftcl.market.bars import BAR_SCHEMA
from hftcl.model.features import features
from hftcl.model.streaming import StreamingFeatures

# What tells a bar from others, before the features in each frame.
BAR_KEYS = ("ticker", "ts", "session", "minute", "session_minutes")


class LiveFeatures:
    """The features of one session, minute by minute: equal to the bit to those of the whole session's bars."""

    def __init__(self, session: date, earlier: pl.DataFrame, so_far: pl.DataFrame) -> None:
        """earlier: whole sessions before it. so_far: its own bars that are known already. Both of BAR_SCHEMA."""
        self._session = session
        self._earlier = earlier
        self._bars: list[pl.DataFrame] = []
        self._seen: list[pl.DataFrame] = []
        self._rebuild(so_far)

    @property
    def seen(self) -> pl.DataFrame:
        """Every bar of today with its features, by ts: ticker, ts, session, minute, session_minutes, the features."""
        self._seen = [pl.concat(self._seen)]
        return self._seen[0]

    @property
    def bars(self) -> pl.DataFrame:
        """Every bar of today, of BAR_SCHEMA, by ts."""
        self._bars = [pl.concat(self._bars)]
        return self._bars[0]

    def push(self, bars: pl.DataFrame) -> pl.DataFrame:
        """Take the bars of the next minute; return them as `seen` has them, row for row."""
        if bars.is_empty():
            return self._seen[0].clear()
        self._bars.append(bars)
        rows = self._stream.push(bars)
        self._seen.append(rows)
        return rows

    def correct(self, bars: pl.DataFrame) -> None:
        """Take bars of earlier minutes of today that came late or otherwise than before."""
        kept = self.bars.join(bars.select("ticker", "ts"), on=["ticker", "ts"], how="anti")
        self._rebuild(pl.concat([kept, bars.select(kept.columns)]))

    def _rebuild(self, today: pl.DataFrame) -> None:
        today = today.select(BAR_SCHEMA.names()).sort("ts", "ticker")
        self._stream = StreamingFeatures.replay_today(self._earlier, today)
        if today.is_empty():
            self._stream.start(self._session)
        self._bars, self._seen = [today], [_compute_features(self._earlier, today)]


def _compute_features(earlier: pl.DataFrame, today: pl.DataFrame) -> pl.DataFrame:
    columns: Sequence[str] = BAR_SCHEMA.names()
    both = pl.concat([earlier.select(columns), today])
    values = features(both).slice(earlier.height)
    return pl.concat([today.select(BAR_KEYS), values], how="horizontal")
