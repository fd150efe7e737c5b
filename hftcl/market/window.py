"""What is known as of when, and which sessions that makes: the end of the bars, and the window before it.

Reads the source and the calendar; after `as_of`, no bar exists for the program.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import polars as pl

from hftcl.errors import NoDataError, UsageError
from hftcl.formats import format_moment
from hftcl.market.sessions import Calendar, HorizonError
from hftcl.market.sources import BarSource, as_local, open_source
from hftcl.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class AsOf:
    """The end of what is known: no bar after `at` (UTC) exists for the program. `note` says where that came from."""

    at: datetime
    note: str
    explicit: bool


def find_as_of(
    source: BarSource,
    calendar: Calendar,
    settings: Settings,
    as_of: str | None,
    now: datetime,
    *,
    option: str = "--as-of",
) -> AsOf:
    """Return the end of what is known: what the caller said, else the last complete session that the source has.

    as_of: ISO 8601 with time (UTC where it names no zone), or a date, which means the close of its session or, on a
        day without one, of the last before. A live source knows everything up to `now`. option: by which it was given.
    Raises UsageError for a text that is neither, and NoDataError where the source has no bar at all.
    """
    if as_of is not None:
        try:
            return AsOf(at=_parse_as_of(as_of, calendar), note="as asked", explicit=True)
        except HorizonError as error:
            if as_of <= f"{now:%Y-%m-%d}":
                raise
            text = f"{option} {as_of} lies in the future. Give a time up to now, {format_moment(now)} UTC."
            raise UsageError(text) from error
    known_until = source.known_until(settings.market.watchlist, now)
    if known_until is None:
        local = as_local(source)
        explanation = f"; {local.explain_absence(settings.market.watchlist[0])}" if local else ""
        raise NoDataError(
            f"The source {source.name!r} has no bar of {', '.join(settings.market.watchlist)}{explanation}. "
            f"Check [market] watchlist and the section [{source.name}] of the configuration."
        )
    last = calendar.find_last_complete(min(known_until, now))
    closed = calendar.find_close(last)
    if known_until >= now and not source.synthetic:
        return AsOf(at=now, note="now", explicit=False)
    return AsOf(at=closed, note=f"the last complete session, {last}", explicit=False)


def _parse_as_of(text: str, calendar: Calendar) -> datetime:
    try:
        if len(text) == len("2026-01-31"):
            day = date.fromisoformat(text)
            begin, day_length = datetime.combine(day, time(), UTC), timedelta(days=1)
            end = begin + day_length if day < date.max else datetime.max.replace(tzinfo=UTC)  # no day comes after it
            return calendar.find_close(calendar.find_last_complete(end))
        at = datetime.fromisoformat(text)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):  # also a moment that no zone's offset may be taken from
        raise UsageError(
            f"--as-of {text[:60]!r} is no time. Give a date such as 2026-01-31, "
            "or ISO 8601 such as 2026-01-31T21:00:00Z."
        ) from None


def parse_day(option: str, text: date | str) -> date:
    """Return the date that `option` was given. Raises UsageError for a text that is none."""
    try:
        return date.fromisoformat(text) if isinstance(text, str) else text
    except ValueError:
        raise UsageError(f"{option} {text!r} is no date. Give one such as 2026-01-31.") from None


def find_known_end(
    source: BarSource, calendar: Calendar, settings: Settings, begin: date, end: date, now: datetime
) -> AsOf:
    """Return the close of the last session up to `end` that the source has: no later bar exists for the caller.

    `explicit` is False where the bars end before `end`. Raises NoDataError where they end before `begin`.
    """
    asked = find_as_of(source, calendar, settings, end.isoformat(), now, option="--to")
    newest = find_as_of(source, calendar, settings, None, now)
    last = calendar.find_last_complete(min(asked.at, newest.at))
    if last < begin:
        list_asked_sessions(calendar, begin, end)
        raise NoDataError(
            f"No session from {begin} to {end} is complete in the bars of {source.name!r}; the last one that is ended "
            f"on {calendar.find_last_complete(newest.at)}. Ask for other dates."
        )
    whole = newest.at >= asked.at
    return AsOf(at=calendar.find_close(last), note="as asked" if whole else f"the bars end on {last}", explicit=whole)


def list_asked_sessions(calendar: Calendar, first: date, last: date) -> pl.DataFrame:
    """Return `calendar.list_sessions(first, last)`. Raises NoDataError where there is none."""
    sessions = calendar.list_sessions(first, last)
    if sessions.is_empty():
        raise NoDataError(
            f"There is no session from {first} to {last} in the calendar {calendar.name}. Ask for other dates."
        )
    return sessions


def open_market(settings: Settings) -> tuple[BarSource, Calendar]:
    """Return the configured source and calendar."""
    return open_source(settings), Calendar(settings.market.calendar)


def list_window(calendar: Calendar, settings: Settings, as_of: AsOf) -> tuple[date, ...]:
    """Return the complete sessions of the last `[market] lookback_days` calendar days before `as_of`."""
    last = calendar.find_last_complete(as_of.at)
    first = last - timedelta(days=settings.market.lookback_days - 1)
    return tuple(calendar.list_sessions(first, last)["session"].to_list())
