"""The exchange calendar: which sessions there are, and when they open and close in UTC.

The calendars are those of exchange_calendars, imported where no calendar is kept: with pandas that takes a second.
"""

import io
import warnings
from datetime import date, datetime, time, timedelta
from functools import cache
from typing import Any, Final

import polars as pl

from hftcl.errors import ConfigError, HftclError
from hftcl.formats import format_moment
from hftcl.market.calendar_file import read_kept, write_kept

_TS: Final = pl.Datetime("us", "UTC")  # as `bars.TS`; not imported, as a calendar needs no bars
_EARLIEST: Final = "1990-01-01"  # left alone, exchange_calendars begins 20 years before today: another answer each day
# The ISO 10383 code of the NYSE; it has the extended hours below, no other calendar has them.
_US_SHARES: Final = "XNYS"
# New York: https://www.nyse.com/markets/hours-calendars; Polygon has bars of them.
_EXTENDED_OPEN, _EXTENDED_CLOSE, _HALF_DAY_EXTENDED_CLOSE = time(4), time(20), time(17)
# New York: a session that closes earlier is a half day, and its extended hours end earlier too.
_FULL_CLOSE: Final = time(16)


class HorizonError(HftclError):
    """A date that the exchange calendar does not reach: what is not known to be a session is not traded."""


_YEARS: Final = (2015, 2024)  # ten whole years that every calendar knows, leap years as often as elsewhere


class Calendar:
    """The sessions of one exchange, such as "XNYS" (New York shares) or "24/7" (a session is a whole UTC day).

    Reaches from 1990, or the exchange's first year, to a year from today. For New York shares the extended hours
    are 04:00 to 20:00 America/New_York, to 17:00 on half days; other exchanges have none. A lunch break counts as
    part of the session. Raises ConfigError for a name that exchange_calendars does not know.

    >>> from datetime import UTC, date, datetime
    >>> nyse = Calendar("XNYS")
    >>> str(nyse.find_next_session(date(2026, 7, 2))), str(nyse.find_previous_session(date(2026, 1, 20)))
    ('2026-07-06', '2026-01-16')
    >>> nyse.list_sessions(date(2026, 11, 27), date(2026, 11, 27))["close"][0].isoformat()
    '2026-11-27T18:00:00+00:00'
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._zone, self._table = _find_table(name)

    @property
    def reach(self) -> tuple[date, date]:
        """The first and the last session that are known."""
        return _to_day(self._table["session"][0]), _to_day(self._table["session"][-1])

    @property
    def zone(self) -> str:
        """The exchange's time zone, such as "America/New_York": the clock that its hours are named by."""
        return self._zone

    @property
    def sessions_per_year(self) -> int:
        """How many sessions a year has, by which every figure is annual: 252 of New York shares, 365 where none rests.

        The rounded mean of ten fixed years, so that a figure does not change with the day on which it is asked.

        >>> Calendar("XNYS").sessions_per_year, Calendar("24/7").sessions_per_year
        (252, 365)
        """
        begin, end = date(_YEARS[0], 1, 1), date(_YEARS[1], 12, 31)
        known = self._table.filter(pl.col("session").is_between(begin, end))
        return max(1, round(known.height / (_YEARS[1] - _YEARS[0] + 1)))

    def list_sessions(self, first: date, last: date) -> pl.DataFrame:
        """Return the sessions from `first` to `last`, both included, oldest first; empty where there is none.

        Columns: session Date; open, close, extended_open, extended_close Datetime us UTC, the closes exclusive.
        Raises HorizonError where the calendar does not reach all of `first` to `last`.
        """
        self._require_reach(first)
        self._require_reach(last)
        return self._table.filter(pl.col("session").is_between(first, last))

    def find_last_complete(self, known_until: datetime) -> date:
        """Return the newest session whose regular close is not after `known_until` (UTC). Raises HorizonError."""
        self._require_reach(known_until.date())
        done = self._table.filter(pl.col("close") <= known_until)
        if done.is_empty():
            raise HorizonError(
                f"No session of the calendar {self.name} had closed by {format_moment(known_until)} UTC."
            )
        return _to_day(done["session"][-1])

    def find_close(self, session: date) -> datetime:
        """Return when the regular hours of a session end, UTC. Raises HorizonError.

        >>> Calendar("XNYS").find_close(date(2026, 11, 27)).isoformat()
        '2026-11-27T18:00:00+00:00'
        """
        close: datetime = self.list_sessions(session, session)["close"].item()
        return close

    def find_next_session(self, after: date, n: int = 1) -> date:
        """Return the `n`th session after the date `after`. Raises HorizonError."""
        self._require_reach(after)
        later = self._table.filter(pl.col("session") > after)
        if later.height < n:
            raise self._build_horizon_error(after)
        return _to_day(later["session"][n - 1])

    def find_next_to_open(self, after: datetime, n: int = 1) -> date:
        """Return the `n`th session whose regular hours open after `after` (UTC). Raises HorizonError.

        >>> from datetime import UTC, datetime
        >>> str(Calendar("XNYS").find_next_to_open(datetime(2026, 7, 2, 20, tzinfo=UTC)))
        '2026-07-06'
        """
        self._require_reach(after.date())
        later = self._table.filter(pl.col("open") > after)
        if later.height < n:
            raise self._build_horizon_error(after.date())
        return _to_day(later["session"][n - 1])

    def find_previous_session(self, before: date, n: int = 1) -> date:
        """Return the `n`th session before the date `before`. Raises HorizonError."""
        self._require_reach(before)
        earlier = self._table.filter(pl.col("session") < before)
        if earlier.height < n:
            raise self._build_horizon_error(before)
        return _to_day(earlier["session"][-n])

    def _require_reach(self, day: date) -> None:
        """Raise HorizonError unless the calendar covers `day`; a process that has run for a year looks again first."""
        if day > _to_day(self._table["session"][-1]):
            _find_table.cache_clear()
            self._zone, self._table = _build_table(self.name)
        if not _to_day(self._table["session"][0]) <= day <= _to_day(self._table["session"][-1]):
            raise self._build_horizon_error(day)

    def _build_horizon_error(self, day: date) -> HorizonError:
        first, last = self.reach
        return HorizonError(
            f"The calendar {self.name} reaches from {first} to {last}, and {day} needs more. "
            "Ask for other dates, or upgrade the package exchange_calendars."
        )


def _to_day(value: Any) -> date:
    return date(value.year, value.month, value.day)


@cache
def _find_table(name: str) -> tuple[str, pl.DataFrame]:
    """Return the zone and all sessions of the calendar `name`, as they are kept or built."""
    kept = read_kept(name)
    if kept is not None:
        return kept[0], pl.read_ipc(io.BytesIO(kept[1]))
    return _build_table(name)


def _build_table(name: str) -> tuple[str, pl.DataFrame]:
    """Build the calendar `name`, and keep it."""
    zone, table = _ask_library(name)
    file = io.BytesIO()
    table.write_ipc(file)
    write_kept(name, zone, file.getvalue())
    return zone, table


def _ask_library(name: str) -> tuple[str, pl.DataFrame]:
    # exchange_calendars 4.13 meets deprecations of pandas 3.1; they are not the user's to see
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        calendar = _build(name)
        opens, closes = calendar.opens_nanos, calendar.closes_nanos
        days = calendar.sessions.to_numpy().astype("datetime64[us]")
    table = pl.DataFrame(
        {
            "session": pl.Series(days).cast(pl.Date),
            "open": pl.Series(opens // 1000, dtype=pl.Int64).cast(_TS),
            "close": pl.Series(closes // 1000, dtype=pl.Int64).cast(_TS),
        }
    )
    zone = str(calendar.tz)
    if calendar.name != _US_SHARES:
        return zone, table.with_columns(pl.col("open").alias("extended_open"), pl.col("close").alias("extended_close"))
    return zone, table.with_columns(*_build_extended_hours(zone)).rechunk()


def _build(name: str) -> Any:
    """Return the calendar of exchange_calendars; NYSE, NASDAQ, XNAS, ARCX and others are names of XNYS there."""
    import exchange_calendars

    if name not in exchange_calendars.get_calendar_names():
        raise ConfigError(f'[market] calendar: {name!r} is not an exchange calendar. Use one such as "XNYS" or "24/7".')
    try:
        calendar = _build_from_earliest(name)
    except (ValueError, NotImplementedError) as error:  # 4.13 cannot build ASEX, BVB and TASE with pandas 3.1
        reason = str(error)[:80]
        raise ConfigError(
            f"[market] calendar: exchange_calendars cannot build {name!r} ({reason}). Use another."
        ) from error
    if calendar.default_end() - calendar.last_session > timedelta(days=7):
        # get_calendar keeps what it built: a process that has run for a year would still have its first day's horizon
        return type(calendar)(start=calendar.first_session)
    return calendar


def _build_from_earliest(name: str) -> Any:
    from exchange_calendars import get_calendar

    try:
        return get_calendar(name, start=_EARLIEST)
    except ValueError:  # an exchange whose records begin later
        return get_calendar(name, start=get_calendar(name).bound_min())


def _build_extended_hours(zone: str) -> tuple[pl.Expr, pl.Expr]:
    closes = pl.col("close").dt.convert_time_zone(zone).dt.time()
    ends = pl.when(closes < _FULL_CLOSE).then(pl.lit(_HALF_DAY_EXTENDED_CLOSE)).otherwise(pl.lit(_EXTENDED_CLOSE))

    def to_local(at: pl.Expr) -> pl.Expr:
        return pl.col("session").dt.combine(at).dt.replace_time_zone(zone).dt.convert_time_zone("UTC").cast(_TS)

    opens = pl.min_horizontal(to_local(pl.lit(_EXTENDED_OPEN)), "open")
    return opens.alias("extended_open"), pl.max_horizontal(to_local(ends), "close").alias("extended_close")
