"""The feed of a replay: stored bars, minute by minute, exactly those of an exam over the same sessions."""

from collections import deque
from collections.abc import Mapping
from datetime import datetime

import polars as pl

from hftcl.market.bars import BAR_SCHEMA, MINUTE
from hftcl.market.columns import extend_schema
from hftcl.market.hours import Hours
from hftcl.model.features import WARMUP_SESSIONS
from hftcl.trading.feeds import Delivery, Morning


class StoredFeed:
    """Bars of whole sessions, handed out as if they were happening. Sessions are asked for in order."""

    name = "replay"

    def __init__(self, bars: pl.DataFrame, tickers: tuple[str, ...], left_out: Mapping[str, str] | None = None) -> None:
        """bars: BAR_SCHEMA and further columns, clean; with the sessions before the first that is played, which
        features read.
        """
        self.columns = tuple(name for name in bars.columns if name not in BAR_SCHEMA)
        self._tickers = tickers
        self._left_out = left_out or {}
        self._none = extend_schema(BAR_SCHEMA, self.columns).to_frame()  # made once: most minutes deliver no late bar
        parts = bars.sort("session", "ts", "ticker").partition_by("session", as_dict=False, maintain_order=True)
        self._to_come = deque(parts)
        self._earlier: deque[pl.DataFrame] = deque(maxlen=WARMUP_SESSIONS)
        self._today: pl.DataFrame = self._none
        self._minutes: dict[datetime, pl.DataFrame] = {}

    def begin(self, hours: Hours, now: datetime) -> Morning:
        """Return the bars known at `now` of the session and of those before it."""
        if not self._today.is_empty() and self._today["session"][0] < hours.session:
            self._earlier.append(self._today)
            self._today = self._none
        while self._to_come and self._to_come[0]["session"][0] <= hours.session:
            part = self._to_come.popleft()  # what was played is let go: memory does not grow with the replay
            if part["session"][0] == hours.session:
                self._today = part
            else:
                self._earlier.append(part)
        earlier, today = pl.concat([self._none, *self._earlier]), self._today
        so_far = today.filter(pl.col("ts") + MINUTE <= now)
        ahead = today.filter(pl.col("ts") + MINUTE > now)
        minutes = ahead.partition_by("ts", as_dict=True, maintain_order=True)
        self._minutes = {ts: part for (ts,), part in minutes.items()}
        return Morning(earlier=earlier, so_far=so_far, tickers=self._tickers, left_out=self._left_out)

    def minute(self, minute: datetime, now: datetime) -> Delivery:
        """Return the bars of that minute."""
        return Delivery(minute=minute, bars=self._minutes.pop(minute, self._none))

    def problem(self) -> str:
        """Return "": stored bars are there."""
        return ""

    def close(self) -> None:
        """Let go of nothing: the bars are in memory."""
