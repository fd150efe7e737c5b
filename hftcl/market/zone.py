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
_BEFORE, _AFTER = 600, 840  # minutes before and after an open that are its session's day
_MINUTE_US: Final = 60_000_000  # stamps count microseconds
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
_HALF_HOUR: Final = 30  # minutes; clocks differ by no less, and what is nearer to the open is news or a label
_NEARLY_ALL: Final = 0.7  # of a stretch's sessions that begin at one and the same minute
_SURE: Final = 0.75  # score of a stretch once its distance is taken off; honest folders reach 0.8 to 1.0
_OPEN_WEIGHT: Final = 0.6  # the sharpest rise at the open; the rest is the share of volume inside the session


@dataclass(frozen=True, slots=True, kw_only=True)
class StampClock:
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
    late_scores: _Floats  # the same if the open were a minute later, as it is where stamps are of the end
    rises: tuple[_Ints, _Ints]  # of each session that has a score, where its volume rises; see `_measure_rises`
    stray: float  # share of days with bars that are no session

    @property
    def score(self) -> float:
        return _average(self.scores) * (1.0 - self.stray)

    @property
    def late_score(self) -> float:
        return _average(self.late_scores) * (1.0 - self.stray)


def _average(scores: _Floats) -> float:
    known = scores[~np.isnan(scores)]
    return float(known.mean()) if known.size else 0.0


def find_clock(stamps: pl.Series, volumes: pl.Series, calendar: Calendar) -> StampClock:
    """Return zone and label of naive `stamps` (Datetime us UTC, their digits taken as if UTC) from their volumes.

    Not sure for a market without an open, fewer than three sessions, or bars that fit several clocks.
    """
    minutes, volume = _sum_by_minute(stamps, volumes)
    unsure = StampClock(zone=None, label=None, same=(), score=0.0, sessions=0, offset_minutes=None, why="")
    if calendar.name == "24/7":
        return replace(unsure, why="a market that never closes has no open to go by")
    if not minutes.size:
        return replace(unsure, why="there are no volumes to go by")
    sessions = _find_sessions(minutes, calendar)
    if sessions is None:
        return replace(unsure, why=f"fewer than {_FEWEST} sessions")
    candidates = [
        _try(zone, label, minutes, volume, hours) for zone in ZONES for hours in [_find_hours(sessions, zone)]
        for label in _LABELS
    ]  # fmt: skip
    best = max(candidates, key=lambda candidate: candidate.score)
    counted = int((~np.isnan(best.scores)).sum())
    offset = _find_offset(minutes, volume, sessions)
    same = tuple(c.zone for c in candidates if c is not best and c.label == best.label and _is_equal(c, best))
    clock = StampClock(
        zone=best.zone, label=best.label, same=same, score=best.score, sessions=counted, offset_minutes=offset,
        why="", best=(best.zone, best.label),
    )  # fmt: skip
    why = _describe_doubt(best, candidates, counted)
    return clock if not why else replace(clock, zone=None, label=None, why=why)


def fits(stamps: pl.Series, volumes: pl.Series, calendar: Calendar) -> bool:
    """Whether stamps in UTC, of the start of the minute, put the busiest minutes at the calendar's open. Quick."""
    if (laid := _lay_out(stamps, volumes, calendar)) is None:  # too little to doubt
        return True
    minutes, volume, _, hours = laid
    return _fits(_try("UTC", "start", minutes, volume, hours))


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Sessions in a row, `first` to `last`, whose volume begins `offset_minutes` after the open, unlike the others."""

    offset_minutes: int
    first: date
    last: date


def find_stretch(stamps: pl.Series, volumes: pl.Series, calendar: Calendar) -> Stretch | None:
    """Return the longest stretch of sessions whose stamps follow another clock than those of the other sessions.

    Two files put together, or a zone that forgets the summer time: the other sessions fit, so that all seem to. A
    stretch is three sessions in a row or more whose volume does not begin at the open, but nearly always one and the
    same half hour or more away from it, and lies within the session if that is taken off.
    stamps: Datetime us UTC, of the start of the minute. None for a market that never closes.
    """
    if (laid := _lay_out(stamps, volumes, calendar)) is None:
        return None
    minutes, volume, sessions, hours = laid
    return _find_stretch(minutes, volume, sessions, hours, _try("UTC", "start", minutes, volume, hours))


def _find_stretch(
    minutes: _Ints, volume: _Floats, sessions: pl.DataFrame, hours: tuple[_Ints, _Ints], start: _Candidate
) -> Stretch | None:
    opens, closes = hours
    known = np.flatnonzero(~np.isnan(start.scores))
    away = start.scores[known] < _OPEN_WEIGHT  # no rise at the open
    if away.all():
        return None  # no stretch of it, but the whole: for `find_clock` to tell
    edges = np.flatnonzero(np.diff(away, prepend=False, append=False))
    runs = [(a, b) for a, b in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True) if b - a >= _FEWEST]
    for a, b in sorted(runs, key=lambda run: run[0] - run[1]):
        rows = known[a:b]
        sharpest, lasting = (rises[rows] for rises in start.rises)
        offsets, counts = np.unique(np.concatenate([sharpest, lasting]), return_counts=True)
        offset = int(offsets[counts.argmax()])
        agreeing = int(((sharpest == offset) | (lasting == offset)).sum())
        if abs(offset) < _HALF_HOUR or agreeing < _NEARLY_ALL * rows.size:
            continue
        shifted = _try("UTC", "start", minutes, volume, (opens[rows] + offset, closes[rows] + offset)).scores
        if float(np.nanmean(shifted)) >= _SURE:
            days = sessions["session"]
            return Stretch(offset_minutes=offset, first=days[int(rows[0])], last=days[int(rows[-1])])
    return None


def find_misfit(stamps: pl.Series, volumes: pl.Series, calendar: Calendar) -> StampClock | Stretch | None:
    """Return the clock that the stamps follow where it is not UTC, of the start of the minute, or a stretch of them.

    None where all is right, or unsure. Quick where the stamps fit, and where their volumes rise in no certain place.
    """
    if (laid := _lay_out(stamps, volumes, calendar)) is None:
        return None
    minutes, volume, sessions, hours = laid
    start = _try("UTC", "start", minutes, volume, hours)
    if not _fits(start) and _find_offset(minutes, volume, sessions):
        clock = find_clock(stamps, volumes, calendar)
        if clock.zone is not None and not ("UTC" in (clock.zone, *clock.same) and clock.label == "start"):
            return clock
    return _find_stretch(minutes, volume, sessions, hours, start)


def _fits(start: _Candidate) -> bool:
    """Whether `start`, UTC and the start of the minute, fits, and the end of it does not."""
    return start.score >= _LEAST and start.score >= start.late_score + _AHEAD


_LABELS: Final[tuple[Label, ...]] = ("start", "end")


def _describe_doubt(best: _Candidate, candidates: Sequence[_Candidate], counted: int) -> str:
    if counted < _FEWEST:
        return f"fewer than {_FEWEST} sessions with bars"
    if best.score < _LEAST:
        return f"no clock puts the busiest minute at the open; the best, {best.zone}, scores {best.score:.2f}"
    for other in candidates:
        if other is best or (other.label == best.label and _is_equal(other, best)):
            continue
        differ = (other.opens != best.opens) & ~np.isnan(best.scores)
        mine, other_scores = best.scores[differ], np.nan_to_num(other.scores[differ])
        if mine.size < _DIFFER:
            return f"{best.zone} and {other.zone} differ in {mine.size} of {count(counted, 'session')} only"
        if float(mine.mean() - other_scores.mean()) < _AHEAD:
            return f"{best.zone} ({best.label}) and {other.zone} ({other.label}) fit about as well"
    return ""


def _is_equal(one: _Candidate, other: _Candidate) -> bool:
    return bool((one.opens == other.opens).all())


def _lay_out(
    stamps: pl.Series, volumes: pl.Series, calendar: Calendar
) -> tuple[_Ints, _Floats, pl.DataFrame, tuple[_Ints, _Ints]] | None:
    """Return minutes, volumes, sessions and their hours in UTC; None for a market that never closes, or no session."""
    if calendar.name == "24/7":
        return None
    minutes, volume = _sum_by_minute(stamps, volumes)
    sessions = _find_sessions(minutes, calendar)
    return None if sessions is None else (minutes, volume, sessions, _find_hours(sessions, "UTC"))


def _sum_by_minute(stamps: pl.Series, volumes: pl.Series) -> tuple[_Ints, _Floats]:
    moments, amounts = stamps.cast(pl.Datetime("us")).to_physical(), volumes.cast(pl.Float64, strict=False)
    if moments.null_count():
        there = moments.is_not_null()
        moments, amounts = moments.filter(there), amounts.filter(there)
    minutes, volume = moments.to_numpy() // _MINUTE_US, amounts.to_numpy()  # a volume that is null is NaN
    known = np.isfinite(volume) & (volume > 0)
    if not known.all():
        minutes, volume = minutes[known], volume[known]
    if (minutes[1:] <= minutes[:-1]).any():  # out of order, or several rows of a minute
        minutes, nth = np.unique(minutes, return_inverse=True)
        volume = np.bincount(nth, weights=volume)
    if not minutes.size:
        return minutes, volume
    days = _list_days(minutes)
    if days.size > _NEWEST:
        recent = int(np.searchsorted(minutes, days[-_NEWEST] * _DAY))
        minutes, volume = minutes[recent:], volume[recent:]
    return minutes, volume


def _list_days(minutes: _Ints) -> _Ints:
    """Return the days of sorted minutes, each once."""
    days = minutes // _DAY
    return days[np.flatnonzero(np.diff(days, prepend=days[:1] - 1))]


def _find_sessions(minutes: _Ints, calendar: Calendar) -> pl.DataFrame | None:
    """Return the calendar's sessions that the bars span, a day of grace on both sides; None for fewer than three."""
    if _list_days(minutes).size < _FEWEST:  # of UTC, so that a session has one or two of them
        return None
    day = timedelta(days=1)
    first, last = (_to_date(int(m)) for m in (minutes[0], minutes[-1]))
    try:
        sessions = calendar.list_sessions(first - day, last + day)
    except HorizonError:
        return None
    return sessions if sessions.height >= _FEWEST else None


def _to_date(minute: int) -> date:
    return date(1970, 1, 1) + timedelta(days=minute // _DAY)


def _find_hours(sessions: pl.DataFrame, zone: str) -> tuple[_Ints, _Ints]:
    """Return the naive minutes of every open and close in `zone`."""
    return _to_local(sessions["open"], zone), _to_local(sessions["close"], zone)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Windows:
    """The volume around each session that has enough bars, a row each, by the minute.

    dense: volume, shape (n_windows, width); column 0 is `begin` minutes after the session's open. rows: which session
    each is. first, last: columns of the first and the last bar. covered: which minutes lie in a session's window.
    """

    dense: _Floats
    begin: int
    rows: _Ints
    first: _Ints
    last: _Ints
    covered: npt.NDArray[np.bool_]


def _lay_windows(minutes: _Ints, volume: _Floats, opens: _Ints, before: int, after: int) -> _Windows:
    """Lay the volume from `before` minutes before each open until `after` minutes after it into a row.

    A row reaches from the earliest bar of all to the latest, as nothing lies outside.
    """
    begins, ends = np.searchsorted(minutes, opens - before), np.searchsorted(minutes, opens + after)
    lengths = ends - begins
    covered = np.zeros(minutes.size + 1, dtype=np.int64)
    np.add.at(covered, begins, 1)
    np.add.at(covered, ends, -1)
    rows = np.flatnonzero(lengths >= _THIN)
    begins, lengths = begins[rows], lengths[rows]
    row = np.repeat(np.arange(rows.size), lengths)
    heads = np.cumsum(lengths) - lengths
    nth = np.arange(row.size) + np.repeat(begins - heads, lengths)
    place = minutes[nth] - opens[rows][row]
    room = 2 * _SPAN  # minutes without volume on either side, so that every place has five before and after it
    begin = int(place.min(initial=0)) - room
    column = place - begin
    dense = np.zeros((rows.size, int(column.max(initial=0)) + room + 1))
    dense[row, column] = volume[nth]
    return _Windows(
        dense=dense, begin=begin, rows=rows, first=column[heads], last=column[heads + lengths - 1],
        covered=np.cumsum(covered[:-1]) > 0,
    )  # fmt: skip


def _try(zone: str, label: Label, minutes: _Ints, volume: _Floats, hours: tuple[_Ints, _Ints]) -> _Candidate:
    """Score one clock on every session: 0.6 if the sharpest rise stands at the open, 0.4 times the volume inside."""
    opens, closes = (moments + (label == "end") for moments in hours)
    scores = np.full(opens.size, np.nan), np.full(opens.size, np.nan)
    rises = np.zeros(opens.size, dtype=np.int64), np.zeros(opens.size, dtype=np.int64)
    windows = _lay_windows(minutes, volume, opens, _BEFORE, _AFTER)
    if windows.rows.size:
        rises[0][windows.rows], rises[1][windows.rows] = sharpest, lasting = _measure_rises(windows)
        lengths = (closes - opens)[windows.rows]
        for late in (0, 1):
            at_open = (sharpest == late) | (lasting == late)
            inside = _measure_inside(windows, lengths, late)
            scores[late][windows.rows] = _OPEN_WEIGHT * at_open + (1 - _OPEN_WEIGHT) * inside
    strays = _list_days(minutes[~windows.covered])
    stray = strays.size / max(_list_days(minutes).size, 1)
    return _Candidate(
        zone=zone, label=label, opens=opens, scores=scores[0], late_scores=scores[1], rises=rises, stray=stray
    )


def _measure_inside(windows: _Windows, lengths: _Ints, late: int) -> _Floats:
    """Return each window's share of volume from `late` minutes after its open until so many after its close."""
    at = np.arange(windows.dense.shape[1]) + windows.begin - late
    shares: _Floats = (windows.dense * ((at >= 0) & (at <= lengths[:, None]))).sum(axis=1) / windows.dense.sum(axis=1)
    return shares


def _measure_rises(windows: _Windows) -> tuple[_Ints, _Ints]:
    """Return the minutes with which trading may begin in earnest: of two measures, for each errs on other days.

    The minute that rises most against the five before it; and, where the five minutes from one on rise most against
    the five before, the minute next to that place that gains most on the one before it. Per window, counted from its
    open.
    """
    dense = windows.dense
    sums = np.concatenate([np.zeros((dense.shape[0], 1)), np.cumsum(dense, axis=1)], axis=1)
    means = (sums[:, _SPAN:] - sums[:, :-_SPAN]) / _SPAN  # of the five minutes that begin at a place
    before, after = means[:, :-_SPAN], means[:, _SPAN:]  # column 0 is place _SPAN
    place = np.arange(before.shape[1]) + _SPAN
    outside = (place < windows.first[:, None]) | (place > windows.last[:, None] + 1)
    quiet_minute = _QUIET_MINUTE * dense.max(axis=1, keepdims=True) + 1.0
    sharp = np.where(outside, -1.0, dense[:, _SPAN : _SPAN + before.shape[1]] / (before + quiet_minute))
    quiet = _QUIET * means.max(axis=1, keepdims=True) + 1.0
    lasting = np.argmax(np.where(outside, -1.0, after / (before + quiet)), axis=1) + _SPAN
    near = lasting[:, None] + np.arange(-_NEAR, _NEAR + 1)
    gain = np.take_along_axis(dense, near, axis=1) - np.take_along_axis(dense, near - 1, axis=1)
    nearest = np.take_along_axis(near, gain.argmax(axis=1)[:, None], axis=1)[:, 0]
    return sharp.argmax(axis=1) + _SPAN + windows.begin, nearest + windows.begin


def _to_local(moments: pl.Series, zone: str) -> _Ints:
    if zone == "UTC":  # each collection comes by here, and to shift by nothing takes its time
        minutes: _Ints = moments.cast(pl.Int64).to_numpy() // _MINUTE_US
        return minutes
    digits = moments.dt.convert_time_zone(zone).dt.replace_time_zone(None)
    return digits.dt.epoch("s").to_numpy() // 60


def _find_offset(minutes: _Ints, volume: _Floats, sessions: pl.DataFrame) -> int | None:
    """Return how many minutes after the open, taken as UTC, the sharpest rise stands in most sessions."""
    windows = _lay_windows(minutes, volume, _to_local(sessions["open"], "UTC"), 720, 720)
    if not windows.rows.size:
        return None
    rises = _measure_rises(windows)[0]
    values, counts = np.unique(rises, return_counts=True)
    return int(values[counts.argmax()]) if counts.max() * 2 >= rises.size else None
