"""Which sessions should hold more bars than they do, by the calendar and by the ticker's other sessions. Pure."""

from collections.abc import Container, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

_Ints = npt.NDArray[np.int64]

_MINUTE_US, _HOUR_US = 60_000_000, 3_600_000_000  # stamps count microseconds
_BUSY_HOUR: Final = 8
"""Bars that an hour of the day usually has, in extended hours too, from which on it is not empty without a reason."""
_USUAL_SHARE: Final = 0.5
"""A session with less than half of the bars that this ticker's sessions usually have is in doubt."""
_USUAL_SHARE_LIQUID: Final = 0.7  # of a ticker that trades in nearly every minute the sessions are more alike
_LIQUID: Final = 0.8
"""A ticker that trades in this share of all regular minutes has no long gap without a reason."""
_LONG_GAP: Final = 10  # minutes, as `bars` reports them


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counts:
    """Of each session: its minutes, its bars in regular hours, the longest gap in minutes, hours that are silent."""

    minutes: _Ints
    bars: _Ints
    gap: _Ints
    silent: _Ints


def find_holes(
    bars: pl.DataFrame,
    sessions: pl.DataFrame,
    *,
    broken: Mapping[date, int],
    taken_back: Container[date],
    astray: bool = False,
) -> dict[date, str]:
    """Return those of `sessions` (as `Calendar.list_sessions`) that should hold more, oldest first, and what they lack.

    No bar, long gaps, silent hours or few bars against this ticker's other sessions, and bars that came broken.
    bars: columns session, ts (UTC) of one ticker, extended hours included, each minute once. broken: session -> bars
    that came broken. taken_back: sessions of which the newest answer lacked bars that are held. astray: bars came that
    belong to no session, so that each session which lacks a minute is in doubt.

    >>> find_holes(pl.DataFrame(), pl.DataFrame(), broken={}, taken_back=())
    {}
    """
    if sessions.is_empty():
        return {}
    counts = _count(bars, sessions)
    shares = counts.bars / counts.minutes
    traded = shares[counts.bars > 0]
    usual = float(np.quantile(traded, 0.75, method="higher")) if traded.size else 0.0
    least = usual * (_USUAL_SHARE_LIQUID if usual >= _LIQUID else _USUAL_SHARE)
    holes: dict[date, str] = {}
    for n, day in enumerate(sessions["session"].to_list()):
        received, minutes = int(counts.bars[n]), int(counts.minutes[n])
        if not received:
            holes[day] = "no bar in regular hours"
        elif shares[n] < least:
            holes[day] = f"{received} bars, usual are {usual * minutes:.0f}"
        elif counts.gap[n] >= _LONG_GAP and usual >= _LIQUID:
            holes[day] = f"no bar for {counts.gap[n]} minutes"
        elif counts.silent[n]:
            holes[day] = f"{counts.silent[n]} hours without a bar that usually have some"
        elif day in taken_back:
            holes[day] = "the newest answer lacked bars that are held"
        elif broken.get(day):
            holes[day] = f"{broken[day]} bars that came broken"
        elif astray and received < minutes:
            holes[day] = f"{received} of {minutes} minutes, while bars of no session came"
    return holes


def _count(bars: pl.DataFrame, sessions: pl.DataFrame) -> _Counts:
    """Count what each session holds; numpy, because each ticker of each collection comes by here."""
    if not (bars["session"].is_sorted() and bars["ts"].is_sorted()):
        bars = bars.sort("session", "ts")
    opens, closes, begins, ends = (
        sessions[name].cast(pl.Int64).to_numpy() for name in ("open", "close", "extended_open", "extended_close")
    )
    minutes = (closes - opens) // _MINUTE_US
    days, day = (frame["session"].cast(pl.Int64).to_numpy() for frame in (sessions, bars))
    row = np.searchsorted(days, day).clip(max=days.size - 1)
    mine = days[row] == day
    row, stamps = row[mine], bars["ts"].cast(pl.Int64).to_numpy()[mine]
    minute = (stamps - opens[row]) // _MINUTE_US
    regular = (minute >= 0) & (minute < minutes[row])
    at, traded = row[regular], minute[regular]
    # minutes since the regular bar before, of a session's first one since the open
    before = np.where(np.diff(at, prepend=-1) > 0, -1, np.concatenate([[-1], traded[:-1]])[: at.size])
    gap, newest = np.zeros_like(minutes), np.full_like(minutes, -1)
    np.maximum.at(gap, at, traded - before - 1)
    np.maximum.at(newest, at, traded)
    return _Counts(
        minutes=minutes,
        bars=np.bincount(at, minlength=days.size),
        gap=np.maximum(gap, minutes - newest - 1),
        silent=_count_silent_hours(row, (stamps - begins[row]) // _HOUR_US, (ends - begins) // _HOUR_US),
    )


def _count_silent_hours(row: _Ints, hour: _Ints, hours: _Ints) -> _Ints:
    """Return the number of each session's hours, extended ones included, without a bar that usually have many.

    Half days are left out: their afternoon is quiet.
    """
    silent = np.zeros_like(hours)
    there = np.bincount(row, minlength=hours.size) > 0
    if not there.any():
        return silent
    most = int(hours[there].max())
    whole = np.flatnonzero(there & (hours == most))
    inside = (hour >= 0) & (hour < most)
    counts = np.bincount(row[inside] * most + hour[inside], minlength=hours.size * most).reshape(hours.size, most)
    silent[whole] = ((counts[whole] == 0) & (np.median(counts[whole], axis=0) >= _BUSY_HOUR)).sum(axis=1)
    return silent
