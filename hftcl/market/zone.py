"""Which clock do these stamps follow, and which end of the minute do they bear? Found from the bars themselves. Pure.

An exchange's open is the sharpest rise of volume in its day, and nearly all volume lies between open and close. Each
candidate (zone and label) is scored by how often that holds on the calendar's sessions. The one that fits is named
where every other one fails on the sessions on which the two differ; else the answer is "not sure".
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from hftcl.formats import count
from hftcl.market.sessions import Calendar, HorizonError

Label = Literal["start", "end"]
_Ints = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]

ZONES: Final = (
    "America/New_York", "UTC", "America/Chicago", "America/Los_Angeles", "America/Denver", "America/Sao_Paulo",
    "Europe/London", "Europe/Berlin", "Europe/Athens", "Asia/Jerusalem", "Asia/Dubai", "Asia/Kolkata",
    "Asia/Singapore", "Asia/Tokyo", "Australia/Sydney", "Etc/GMT+4", "Etc/GMT+5", "Etc/GMT-2", "Etc/GMT-3",
)  # fmt: skip
"""The zones that are tried, the likelier first: the first of several that give the same stamps is the one named."""

OFFSETS: Final = (1, 60, 180, 240, 300)
"""Minutes from the open that are named where stamps are off by a constant: a label, an hour, the zones of the US."""

_DAY: Final = 1440  # minutes
_NEWEST: Final = 60  # sessions that are looked at: enough to cross a change of clocks in most folders
_FEWEST: Final = 3  # sessions; of two, one may be a day of news
_THIN: Final = 60  # minutes with bars that a session must have to be looked at
_SPAN: Final = 5  # minutes before and after that are compared
_NEAR: Final = 2  # minutes around the rise in which its exact place is looked for
_QUIET_MINUTE: Final = 0.02  # of the busiest minute: what counts as no trading, so that night prints rise little
_QUIET: Final = 0.06  # of the busiest five minutes: what counts as no trading at all, so that night prints rise little
_LEAST: Final = 0.6  # score; honest folders reach 0.8 to 1.0, a wrong clock 0.5 at most
_AHEAD: Final = 0.2  # mean score by which the answer leads any other on the sessions where they differ
_DIFFER: Final = 3  # sessions on which two clocks must differ to be told apart
_OPEN_WEIGHT: Final = 0.6  # the sharpest rise at the open; the rest is the share of volume inside the session


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """The clock that the stamps follow. zone: None where it is not sure, with `why`.

    same: other zones that give the very same stamps. score: of the best candidate, 0 to 1. offset_minutes: where the
    sharpest rise of volume stands against the calendar's open if the stamps are taken as UTC; None where in no place.
    """

    zone: str | None
    label: Label | None
    same: tuple[str, ...]
    score: float
    sessions: int
    offset_minutes: int | None
    why: str
    best: tuple[str, Label] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    zone: str
    label: Label
    opens: _Ints  # naive minute of each session's open
    scores: _Floats  # of each session, nan where it has no bars
    stray: float  # share of days with bars that are no session

    @property
    def score(self) -> float:
        if np.isnan(self.scores).all():
            return 0.0
        return float(np.nanmean(self.scores)) * (1.0 - self.stray)


def find_clock(stamps: pl.Series, volumes: pl.Series, calendar: Calendar) -> Clock:
    """Return zone and label of naive `stamps` (Datetime us UTC, their digits taken as if UTC) from their volumes.

    Not sure for a market without an open, fewer than three sessions, or bars that fit several clocks.
    """
    minutes, volume = _by_minute(stamps, volumes)
    unsure = Clock(zone=None, label=None, same=(), score=0.0, sessions=0, offset_minutes=None, why="")
    if calendar.name == "24/7":
        return replace(unsure, why="a market that never closes has no open to go by")
    if not minutes.size:
        return replace(unsure, why="there are no volumes to go by")
    sessions = _sessions(minutes, calendar)
    if sessions is None or sessions.height < _FEWEST:
        return replace(unsure, why=f"fewer than {_FEWEST} sessions")
    candidates = [_try(zone, label, minutes, volume, sessions) for zone in ZONES for label in _LABELS]
    best = max(candidates, key=lambda candidate: candidate.score)
    counted = int((~np.isnan(best.scores)).sum())
    offset = _offset(minutes, volume, sessions)
    same = tuple(c.zone for c in candidates if c is not best and c.label == best.label and _equal(c, best))
    clock = Clock(
        zone=best.zone, label=best.label, same=same, score=best.score, sessions=counted, offset_minutes=offset,
        why="", best=(best.zone, best.label),
    )  # fmt: skip
    why = _doubt(best, candidates, counted)
    return clock if not why else replace(clock, zone=None, label=None, why=why)


def fits(stamps: pl.Series, volumes: pl.Series, calendar: Calendar) -> bool:
    """Whether stamps in UTC, of the start of the minute, put the busiest minutes at the calendar's open. Quick."""
    if calendar.name == "24/7":
        return True
    minutes, volume = _by_minute(stamps, volumes)
    sessions = _sessions(minutes, calendar) if minutes.size else None
    if sessions is None or sessions.height < _FEWEST:
        return True  # too little to doubt
    start, end = (_try("UTC", label, minutes, volume, sessions).score for label in _LABELS)
    return start >= _LEAST and start >= end + _AHEAD


_LABELS: Final[tuple[Label, ...]] = ("start", "end")


def _doubt(best: _Candidate, candidates: Sequence[_Candidate], counted: int) -> str:
    if counted < _FEWEST:
        return f"fewer than {_FEWEST} sessions with bars"
    if best.score < _LEAST:
        return f"no clock puts the busiest minute at the open; the best, {best.zone}, scores {best.score:.2f}"
    for other in candidates:
        if other is best or (other.label == best.label and _equal(other, best)):
            continue
        differ = (other.opens != best.opens) & ~np.isnan(best.scores)
        mine, other_scores = best.scores[differ], np.nan_to_num(other.scores[differ])
        if mine.size < _DIFFER:
            return f"{best.zone} and {other.zone} differ in {mine.size} of {count(counted, 'session')} only"
        if float(mine.mean() - other_scores.mean()) < _AHEAD:
            return f"{best.zone} ({best.label}) and {other.zone} ({other.label}) fit about as well"
    return ""


def _equal(one: _Candidate, other: _Candidate) -> bool:
    return bool((one.opens == other.opens).all())


def _by_minute(stamps: pl.Series, volumes: pl.Series) -> tuple[_Ints, _Floats]:
    frame = pl.DataFrame({"ts": stamps, "volume": volumes.cast(pl.Float64, strict=False)})
    rows = (
        frame.lazy()
        .filter(pl.col("ts").is_not_null() & pl.col("volume").is_finite() & (pl.col("volume") > 0))
        .group_by(pl.col("ts").dt.truncate("1m"))
        .agg(pl.col("volume").sum())
        .sort("ts")
        .collect()
    )
    minutes = rows["ts"].dt.epoch("s").to_numpy() // 60
    volume = rows["volume"].to_numpy()
    if not minutes.size:
        return minutes, volume
    days = np.unique(minutes // _DAY)
    recent = minutes >= days[max(0, days.size - _NEWEST)] * _DAY
    return minutes[recent], volume[recent]


def _sessions(minutes: _Ints, calendar: Calendar) -> pl.DataFrame | None:
    """Return the calendar's sessions that the bars span, a day of grace on both sides."""
    day = timedelta(days=1)
    first, last = (_date(int(m)) for m in (minutes[0], minutes[-1]))
    try:
        return calendar.sessions(first - day, last + day)
    except HorizonError:
        return None


def _date(minute: int) -> date:
    return date(1970, 1, 1) + timedelta(days=minute // _DAY)


def _try(zone: str, label: Label, minutes: _Ints, volume: _Floats, sessions: pl.DataFrame) -> _Candidate:
    """Score one clock on every session."""
    opens, closes = (_local(sessions[name], zone) + (label == "end") for name in ("open", "close"))
    scores = np.full(opens.size, np.nan)
    covered = np.zeros(minutes.size, dtype=bool)
    for n, (start, end) in enumerate(zip(opens.tolist(), closes.tolist(), strict=True)):
        # a session's day: its volume from 10 hours before the open until 14 after it
        a, b = np.searchsorted(minutes, (start - 600, start + 840))
        covered[a:b] = True
        if b - a >= _THIN:
            scores[n] = _score(minutes[a:b] - start, volume[a:b], end - start)
    days = np.unique(minutes // _DAY)
    strays = np.unique(minutes[~covered] // _DAY)
    stray = strays.size / max(days.size, 1)
    return _Candidate(zone=zone, label=label, opens=opens, scores=scores, stray=stray)


def _score(at: _Ints, volume: _Floats, length: int) -> float:
    """0.6 if the sharpest rise stands at minute 0, plus 0.4 times the share of volume inside the session."""
    inside = volume[(at >= 0) & (at <= length)].sum() / volume.sum()
    return _OPEN_WEIGHT * (0 in _rises(at, volume)) + (1 - _OPEN_WEIGHT) * float(inside)


def _rises(at: _Ints, volume: _Floats) -> tuple[int, int]:
    """Return the minutes with which trading may begin in earnest: of two measures, for each errs on other days.

    The minute that rises most against the five before it; and, where the five minutes from one on rise most against
    the five before, the minute next to that place that gains most on the one before it.
    """
    first = int(at[0]) - _SPAN
    dense = np.zeros(int(at[-1]) - first + 1 + _SPAN)
    dense[at - first] = volume
    sums = np.concatenate([[0.0], np.cumsum(dense)])
    means = (sums[_SPAN:] - sums[:-_SPAN]) / _SPAN  # of the five minutes that begin at a place
    before, after = means[:-_SPAN], means[_SPAN:]
    sharpest = int(np.argmax(dense[_SPAN : _SPAN + before.size] / (before + _QUIET_MINUTE * float(dense.max()) + 1.0)))
    lasting = int(np.argmax(after / (before + _QUIET * float(means.max()) + 1.0))) + _SPAN
    near = np.arange(max(lasting - _NEAR, 1), min(lasting + _NEAR + 1, dense.size))
    return sharpest + _SPAN + first, int(near[np.argmax(dense[near] - dense[near - 1])]) + first


def _local(moments: pl.Series, zone: str) -> _Ints:
    digits = moments.dt.convert_time_zone(zone).dt.replace_time_zone(None)
    return digits.dt.epoch("s").to_numpy() // 60


def _offset(minutes: _Ints, volume: _Floats, sessions: pl.DataFrame) -> int | None:
    """Return how many minutes after the open, taken as UTC, the sharpest rise stands in most sessions."""
    rises: list[int] = []
    for start in _local(sessions["open"], "UTC").tolist():
        a, b = np.searchsorted(minutes, (start - 720, start + 720))
        if b - a >= _THIN:
            rises.append(_rises(minutes[a:b] - start, volume[a:b])[0])
    if not rises:
        return None
    values, counts = np.unique(rises, return_counts=True)
    return int(values[counts.argmax()]) if counts.max() * 2 >= len(rises) else None
