"""The sessions that a collection wants, and which of them it has to ask for. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

import numpy as np
import polars as pl

_MOST_RUNS: Final = 3
"""More gaps than this in what is held are asked for as one range: calls are dearer than bars that come twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectWindow:
    """The sessions that are wanted and what is known of them at `as_of`.

    closed: those whose regular hours have ended, as far as the source knows; over: those whose extended hours have, so
    that they can be kept.
    """

    sessions: pl.DataFrame
    closed: pl.DataFrame
    over: frozenset[date]
    as_of: datetime
    extended_hours: bool
    min_coverage: float
    keep_past: bool

    @property
    def days(self) -> list[date]:
        return self.sessions["session"].to_list()

    def list_wanted(self, held: Iterable[date], due: Iterable[date], asked_again: int) -> list[date]:
        """Return the sessions to fetch: all that is not held, what is `due` again, and the last `asked_again`."""
        again = [day for day in self.days if day in self.over][-asked_again:] if asked_again else []
        kept = set(held) - set(again) - set(due)
        return [day for day in self.days if day not in kept]


def group_runs(sessions: pl.DataFrame, wanted: Sequence[date]) -> list[pl.DataFrame]:
    """Group `wanted` into runs of sessions that follow each other: each is one question to the source."""
    if not wanted:
        return []
    rows = np.flatnonzero(sessions["session"].is_in(wanted).to_numpy())
    parts = [sessions[int(run[0]) : int(run[-1]) + 1] for run in np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)]
    if len(parts) <= _MOST_RUNS:
        return parts
    return [sessions.filter(pl.col("session").is_between(wanted[0], wanted[-1]))]
