"""What the bot sees of one session: the features of each minute's bars, as training and exam would compute them.

Keeps what it has seen today, for a model that comes in the middle of a session.
"""

from collections import deque
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from typing import Final

import polars as pl

from hftcl.market.bars import BAR_SCHEMA
from hftcl.model.feature import Feature, list_columns
from hftcl.model.features import FEATURES, features
from hftcl.model.newest import is_known
from hftcl.model.streaming import StreamingFeatures

# What tells a bar from others, before the features in each frame.
BAR_KEYS = ("ticker", "ts", "session", "minute", "session_minutes")


_MARKED_EACH: Final = timedelta(minutes=5)  # a state of 500 tickers has 10 MB, and takes some ms to keep
_MARKS: Final = 5
"""States that are kept: of the last 20 minutes and more, for aggregates are sent again for 15 minutes
(https://polygon.io/docs/websocket/stocks/ws_stocks_am)."""


class LiveFeatures:
    """The features of one session, minute by minute: equal to the bit to those of the whole session's bars."""

    def __init__(
        self,
        session: date,
        earlier: pl.DataFrame,
        so_far: pl.DataFrame,
        *,
        table: tuple[Feature, ...] = FEATURES,
        days: Iterable[date] = (),
        reads: Iterable[str] | None = None,
    ) -> None:
        """earlier: whole sessions before it. so_far: its own bars that are known already. Both of BAR_SCHEMA, with the
        columns that features read behind it.

        table: the features that can be computed. reads: the names of those that are; None: all.
        days: sessions that count as such though `earlier` has no bar of them.
        """
        self._known = table
        self._table = table if reads is None else _narrow(table, reads)
        self._names = [*BAR_SCHEMA.names(), *list_columns(table)]  # also of those that are not computed yet
        self._session = session
        self._earlier = earlier
        self._days = frozenset(days)
        self._bars: list[pl.DataFrame] = []
        self._seen: list[pl.DataFrame] = []
        self._marks: deque[tuple[datetime, StreamingFeatures]] = deque(maxlen=_MARKS)
        self._unmarked: datetime | None = None
        self._rebuild(so_far)

    def widen(self, reads: Iterable[str]) -> None:
        """Let the features `reads` be computed too, of the bars of today as well: for a model that comes later."""
        computed = {feature.name for feature in self._table}
        table = _narrow(self._known, computed | set(reads))
        if len(table) > len(computed):
            self._table = table
            self._rebuild(self.bars)

    @property
    def seen(self) -> pl.DataFrame:
        """Every bar of today with its features, by ts: ticker, ts, session, minute, session_minutes, the features."""
        self._seen = [pl.concat(self._seen)]
        return self._seen[0]

    @property
    def bars(self) -> pl.DataFrame:
        """Every bar of today, of BAR_SCHEMA and what features read beside it, by ts."""
        self._bars = [pl.concat(self._bars)]
        return self._bars[0]

    def list_bars_since(self, ts: datetime) -> pl.DataFrame:
        """Return the bars of today from `ts` on: a few minutes of them are there at once, all of today are not."""
        parts = []
        for part in reversed(self._bars):  # each but the first is of one minute, the newest last
            if part.height and part["ts"][-1] < ts:
                break
            parts.append(part)
        return pl.concat(parts or self._bars[:1]).filter(pl.col("ts") >= ts)

    def push(self, bars: pl.DataFrame) -> pl.DataFrame:
        """Take the bars of the next minute; return them as `seen` has them, row for row. `mark` follows in its time."""
        if bars.is_empty():
            return self._seen[0].clear()
        self.mark()
        self._bars.append(bars[self._names])
        rows = self._stream.push(bars)
        self._seen.append(rows)
        self._unmarked = bars["ts"][0]
        return rows

    def mark(self) -> None:
        """Keep the state after the newest minute, where that is due; at the latest the next minute does. The bot calls
        it when the minute's orders are out, for the state of 5,000 tickers has 100 MB.
        """
        if self._unmarked is not None:
            self._mark(self._unmarked)
            self._unmarked = None

    def _mark(self, minute: datetime) -> None:
        """Keep the state after a minute now and then: from there on bars that come late are taken again."""
        if not self._marks or minute - self._marks[-1][0] >= _MARKED_EACH:
            self._marks.append((minute, self._stream.copy()))

    def correct(self, bars: pl.DataFrame) -> datetime | None:
        """Take bars of earlier minutes of today that came late or otherwise than before.

        Return after which minute everything was computed again, None for the whole day. What came before does not
        read what came later; so it is, to the bit, as if the whole day had been computed again.
        """
        kept = self.bars.join(bars.select("ticker", "ts"), on=["ticker", "ts"], how="anti")
        today = pl.concat([kept, bars.select(kept.columns)]).sort("ts", "ticker")
        first: datetime = bars["ts"].min()  # type: ignore[assignment]
        self._unmarked = None  # it is computed again
        while self._marks and self._marks[-1][0] >= first:
            self._marks.pop()
        if not self._marks:
            self._rebuild(today)
            return None
        marked, stream = self._marks[-1]
        before = pl.col("ts") <= marked
        self._stream, self._seen = stream.copy(), [self.seen.filter(before)]
        self._bars = [today.filter(before)]
        for minute in today.filter(~before).partition_by("ts", maintain_order=True):
            self.push(minute)
        return marked

    def _rebuild(self, today: pl.DataFrame) -> None:
        today = today.select(self._names).sort("ts", "ticker")
        newest: datetime | None = today["ts"].max()  # type: ignore[assignment]
        old = pl.lit(value=False) if newest is None else pl.col("ts") <= newest - _MARKS * _MARKED_EACH
        begun = today.filter(old)
        self._stream = StreamingFeatures.replay_today(self._earlier, begun, table=self._table, days=self._days)
        if begun.is_empty():
            self._stream.start(self._session)
        self._marks.clear()
        self._unmarked = None
        if begun.height:
            self._mark(begun["ts"][-1])
        for minute in today.filter(~old).partition_by("ts", maintain_order=True):
            self._stream.take(minute)
            self._mark(minute["ts"][0])
        self._bars, self._seen = [today], [self._compute_features(today)]

    def _compute_features(self, today: pl.DataFrame) -> pl.DataFrame:
        if today.is_empty():  # as at most beginnings: those of the sessions before would be computed for nothing
            own = tuple(feature for feature in self._table if not is_known(feature))
            if own:  # but one of the user's that cannot be computed is to be told now, not with the first minute
                features(self._earlier, own, self._days)
            return today.select(BAR_KEYS).hstack(features(today, self._table))
        both = pl.concat([self._earlier.select(today.columns), today])
        values = features(both, self._table, self._days).slice(self._earlier.height)
        return pl.concat([today.select(BAR_KEYS), values], how="horizontal")


def _narrow(table: tuple[Feature, ...], names: Iterable[str]) -> tuple[Feature, ...]:
    wanted = frozenset(names)
    return tuple(feature for feature in table if feature.name in wanted)
