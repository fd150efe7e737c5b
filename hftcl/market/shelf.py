"""What is held of one ticker in the months of a window, and how an answer of the source changes it. Pure.

An answer replaces what is held, but an answer that lacks what is held takes nothing away, and a session that should
hold more stays in doubt, to be asked for again after a growing pause.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Final

import polars as pl

from hftcl.market.bars import Finding
from hftcl.market.holes import find_holes
from hftcl.market.month_files import NO_ROWS, HeldSession, StoredFinding, format_month

_PAUSES: Final = tuple(timedelta(hours=h) for h in (0, 0, 6, 24, 72, 168, 336, 720))
"""After the n-th answer that leaves a session in doubt: an outage is over in hours, a share that is thinly traded, or a
hole of the vendor's own, is asked about once a month at last."""
_DOUBTFUL: Final = "doubtful"  # the reason of the finding, as JSON and documents name it
_FAULTS: Final = frozenset(
    {"not_finite", "not_positive", "negative_volume", "off_minute", "high_below_low", "open_or_close_outside_range"}
)
"""Of a bar that came broken: the minute was traded, and the next answer may hold it whole."""
_ASTRAY: Final = frozenset({"no_timestamp", "foreign_ticker", "outside_session", "future"})
"""Of a bar that belongs to no session: one of those that were asked for may lack it."""
_LOST_BARS: Final = 0.02
"""A vendor takes a bar or two back; an answer that lacks more of what it delivered before was cut short."""


@dataclass(slots=True, kw_only=True)
class Shelf:
    """What the cache holds of one ticker in the months of a window; `bars` as `month_files` reads them.

    outdated: what the source gave before its fingerprint changed, a month each: not held, but what comes in its place
    is compared with it.
    """

    held: dict[date, HeldSession] = field(default_factory=dict)
    bars: pl.DataFrame = field(default_factory=lambda: NO_ROWS)
    changed: set[str] = field(default_factory=set)
    outdated: dict[str, tuple[Mapping[date, HeldSession], pl.DataFrame]] = field(default_factory=dict)


def find_doubtful(shelf: Shelf, sessions: pl.DataFrame, *, astray: bool = False) -> dict[date, str]:
    """Return those held sessions that should hold more, oldest first, with what they lack; see `holes`."""
    if not shelf.held:
        return {}
    broken = {day: sum(note.count for note in held.notes if note.reason in _FAULTS) for day, held in shelf.held.items()}
    taken_back = {day for day, held in shelf.held.items() if any(note.reason == "taken_back" for note in held.notes)}
    held = sessions.filter(pl.col("session").is_in(list(shelf.held)))
    return find_holes(shelf.bars, held, broken=broken, taken_back=taken_back, astray=astray)


def note_doubts(shelf: Shelf, asked: dict[date, int], sessions: pl.DataFrame, as_of: datetime, *, astray: bool) -> None:
    """Note of each session that was just asked for whether it is still in doubt, and how often it was by now."""
    doubts = find_doubtful(shelf, sessions, astray=astray)
    for day, times in asked.items():
        held = shelf.held[day]
        notes = tuple(note for note in held.notes if note.reason != _DOUBTFUL)
        if day in doubts:
            notes += (StoredFinding(reason=_DOUBTFUL, count=times + 1, first=as_of, detail=doubts[day]),)
        if notes != held.notes:
            shelf.held[day] = replace(held, notes=notes)
            shelf.changed.add(format_month(day))


def is_astray(found: Sequence[Finding], sessions: pl.DataFrame) -> bool:
    """Whether bars came without a time, of another ticker, or far from all that was asked for."""
    begin, end = sessions["extended_open"][0] - timedelta(days=1), sessions["extended_close"][-1] + timedelta(days=1)
    return any(f.reason in _ASTRAY and (f.first is None or not begin <= f.first <= end) for f in found)


def count_askings(held: HeldSession | None) -> int:
    """Return how many answers have left a session in doubt."""
    return next((note.count for note in held.notes if note.reason == _DOUBTFUL), 0) if held else 0


def is_due(held: HeldSession, as_of: datetime) -> bool:
    """Whether a session in doubt is to be asked for again: at once the first times, then with a growing pause."""
    note = next((note for note in held.notes if note.reason == _DOUBTFUL), None)
    if note is None or note.first is None:
        return True
    pause = _PAUSES[min(note.count, len(_PAUSES)) - 1]
    return not pause or as_of - note.first >= pause


def put(
    shelf: Shelf, ticker: str, days: Sequence[date], fetched: pl.DataFrame, fetch_findings: Sequence[Finding]
) -> list[Finding]:
    """Replace `days` on the shelf by what was fetched; return how that differs from what was held of them."""
    findings: list[Finding] = []
    kept: set[date] = set()
    restored: list[pl.DataFrame] = []
    for day in days:
        notes = tuple(
            StoredFinding(reason=f.reason, count=f.count, first=f.first, detail=f.detail)
            for f in fetch_findings
            if f.session == day
        )
        before = shelf.held.get(day)
        held = HeldSession(notes=notes, revisions=before.revisions if before else 0)
        if before is None and (compared := _compare_outdated(shelf, day, fetched)):
            revisions, revised = compared
            if revised.len():
                findings.append(Finding(ticker, "revised", revised.len(), revised[0], day))
            held = replace(held, revisions=revisions + revised.len())
        if before:
            old, new = (frame.filter(pl.col("session") == day) for frame in (shelf.bars, fetched))
            revised = _find_revised(old, new)
            lost = old.join(new, on="ts", how="anti").sort("ts")
            if lost.height > max(2, _LOST_BARS * old.height):  # an outage looks like this, or an answer cut short
                findings.append(Finding(ticker, "vanished_session", lost.height, lost["ts"][0], day, str(day)))
                kept.add(day)
                continue
            if lost.height and (note := _note_loss(lost)) not in before.notes:
                held = replace(held, notes=(*notes, note))
                restored.append(lost)
                revised = _find_revised(old, pl.concat([new, lost]))
            if revised.len():
                findings.append(Finding(ticker, "revised", revised.len(), revised[0], day))
                held = replace(held, revisions=held.revisions + revised.len())
        if held != before:
            shelf.held[day] = held
            shelf.changed.add(format_month(day))
    replaced = [day for day in days if day not in kept]
    news = keep_days(fetched, replaced)
    if shelf.bars.height or restored:
        news = pl.concat([shelf.bars.filter(~pl.col("session").is_in(replaced)), news, *restored])
    shelf.bars = sort_bars(news)
    return findings


def _compare_outdated(shelf: Shelf, day: date, fetched: pl.DataFrame) -> tuple[int, pl.Series] | None:
    """Return how many bars of a session were revised before, and the minutes that are others now.

    None where the source gave nothing of it before its fingerprint changed.
    """
    held, bars = shelf.outdated.get(format_month(day), ({}, shelf.bars))
    if day not in held:
        return None
    old, new = (frame.filter(pl.col("session") == day) for frame in (bars, fetched))
    return held[day].revisions, _find_revised(old, new)


def keep_days(bars: pl.DataFrame, days: Sequence[date]) -> pl.DataFrame:
    """Return the bars of the sessions `days`; of a first collection these are all of them."""
    kept = bars["session"].is_in(days)
    return bars if kept.all() else bars.filter(kept)


def sort_bars(bars: pl.DataFrame) -> pl.DataFrame:
    """Return the bars in the order of time, in which they nearly always are: to sort takes longer than to look."""
    return bars if bars["ts"].is_sorted() else bars.sort("ts")


def _note_loss(lost: pl.DataFrame) -> StoredFinding:
    """Note that an answer lacked a bar or two that are held: they stay until the next answer lacks the same."""
    return StoredFinding(reason="taken_back", count=lost.height, first=lost["ts"][0], detail="")


def _find_revised(old: pl.DataFrame, new: pl.DataFrame) -> pl.Series:
    """Return the minutes, oldest first, that are not the same bar in both."""
    # nulls_equal: a further column may be null in both
    differing = [one.join(two, on=old.columns, how="anti", nulls_equal=True) for one, two in ((old, new), (new, old))]
    return pl.concat(differing)["ts"].unique().sort()


def build_findings(ticker: str, day: date, held: HeldSession) -> list[Finding]:
    return [Finding(ticker, note.reason, note.count, note.first, day, note.detail) for note in held.notes]
