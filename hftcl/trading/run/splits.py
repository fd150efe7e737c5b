"""Which splits each book has still to be told of: those since they were looked up last, be it weeks ago."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Final

import polars as pl

from hftcl.ledger.meta import Fact
from hftcl.ledger.rows import ACTION, BookName
from hftcl.ledger.writer import Ledger
from hftcl.market.sources import Split
from hftcl.trading.execute.closes import find_begin

_OTHER_DAY: Final = timedelta(days=3)
"""A broker does a split on the evening before its first session, a source dates it by this or the next one; with a
weekend between."""
_BOOKS: Final[tuple[BookName, ...]] = ("production", "shadow")

DueSplits = Mapping[BookName, Mapping[str, float]]
"""By book and ticker new shares for an old one."""


@dataclass(slots=True)
class SplitWatch:
    """Looks splits up. fetch: (ticker) -> its splits.

    What was looked up counts as met only once it is booked, so that neither a look-up that fails nor a stop between
    the two loses a split.
    """

    ledger: Ledger
    fetch: Callable[[str], Iterable[Split]]
    _looked: date | None = field(default=None, init=False)

    def find(self, session: date) -> DueSplits:
        """Return what is due, as `find_due_splits`. Raises what `fetch` raises."""
        self._looked = None
        if not self.ledger.open_meta().get(Fact.SPLITS_LOOKED_UP):  # else a session that is traded now would hide it
            self.ledger.set_meta(**{Fact.SPLITS_LOOKED_UP: find_last(self.ledger).isoformat()})
        due = find_due_splits(self.ledger, self.fetch, session)
        self._looked = session
        return due

    def note(self, awaited: Collection[str]) -> None:
        """Remember that what was found last is booked; awaited: tickers of which the broker has still to do it."""
        if self._looked is not None and not awaited:  # else those that are booked are remembered one by one
            self.ledger.set_meta(**{Fact.SPLITS_LOOKED_UP: max(self._looked, find_last(self.ledger)).isoformat()})


def find_due_splits(ledger: Ledger, fetch: Callable[[str], Iterable[Split]], session: date) -> DueSplits:
    """Return by book the splits of what it holds that it has not met yet.

    Those up to `session` count that took effect after the last session for which they were looked up, and after the
    position was begun, which one that is booked begins again; a bot that stood still on the day of a split meets it
    when it starts again.
    """
    since = find_last(ledger)
    if since >= session:
        return {}
    held = {book: sorted(ledger.read_positions(book)) for book in _BOOKS}
    splits = {ticker: list(fetch(ticker)) for ticker in sorted({*held["production"], *held["shadow"]})}
    due: dict[BookName, dict[str, float]] = {}
    for book, tickers in held.items():
        for ticker in tickers:
            new = [split for split in splits[ticker] if since < split.execution_date <= session]
            begun = find_begin(ledger, book, ticker) if new else date.min
            done = _find_action(ledger, ticker) if new and book == "production" else None
            new = [split for split in new if done is None or abs(split.execution_date - done) > _OTHER_DAY]
            ratios = [split.ratio for split in new if split.execution_date > begun]
            if ratios:
                due.setdefault(book, {})[ticker] = math.prod(ratios)
    return due


def find_last(ledger: Ledger) -> date:
    """Return the session up to which splits are met; of a ledger that does not say, the last that was valued."""
    meta = ledger.open_meta()
    said = meta.get(Fact.SPLITS_LOOKED_UP)
    looked = (
        [date.fromisoformat(said)]
        if said
        else [day for book in _BOOKS for day, _ in ledger.read_last_equities(book, 1)]
    )
    by_older = [meta.get(name) for name in (Fact.SPLITS_PRODUCTION, Fact.SPLITS_SHADOW)]
    return max([*looked, *(date.fromisoformat(day) for day in by_older if day)], default=date.min)


def _find_action(ledger: Ledger, ticker: str) -> date | None:
    """Return the day of the newest split of `ticker` that was booked by the broker's word, None where none was."""
    rows = ledger.read_fills("production").filter(ticker=ticker, client_order_id=ACTION)
    days = (
        rows.group_by("ts").len().filter(pl.col("len") > 1)["ts"]
    )  # shares out and in; another action has one of both
    return days.max().date() if days.len() else None  # type: ignore[union-attr]
