"""What a weekly digest tells of the bars: sessions without bars, and those that the source corrected.

Of a folder of files by a look into them, else of the store: no service is asked for a bar.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import Final

import polars as pl

from hftcl.errors import HftclError
from hftcl.formats import count, name_some
from hftcl.home import Home
from hftcl.market.covered import read_covered
from hftcl.market.received import SessionCoverage, TickerCoverage, describe_holes, list_stored
from hftcl.market.store import BarStore
from hftcl.market.window import open_market
from hftcl.settings import Settings

_SHOWN: Final = 5  # tickers, and sessions, in a line of a message


def describe_recent_bars(settings: Settings, since: datetime, now: datetime) -> tuple[tuple[str, str], ...]:
    """Return two facts of the sessions that closed from `since` on and before `now` (UTC): holes, and corrections.

    Each says of how many sessions, and where. None without such a session that is stored; why, where the bars cannot be
    read.
    """
    try:
        days, covered = _read_recent(settings, since, now)
    except HftclError as error:
        return (("bars", f"cannot be told: {error}"),)
    if not days:
        return ()
    least = settings.market.min_coverage
    lacking = {item.ticker: holes for item in covered if (holes := item.list_holes(least))}
    corrected = {item.ticker: found for item in covered if (found := [day for day in item.incomplete if day.revised])}
    return (
        (
            "sessions with holes",
            _count_days(
                {day.session for holes in lacking.values() for day in holes},
                len(days),
                [f"{ticker} {describe_holes(holes)}" for ticker, holes in lacking.items()],
            ),
        ),
        (
            "corrected sessions",
            _count_days(
                {day.session for found in corrected.values() for day in found},
                len(days),
                [f"{ticker} {_describe_corrected(found)}" for ticker, found in corrected.items()],
            ),
        ),
    )


def _read_recent(
    settings: Settings, since: datetime, now: datetime
) -> tuple[tuple[date, ...], tuple[TickerCoverage, ...]]:
    """Return the stored sessions of that time, oldest first, and what each ticker has of them. Raises HftclError."""
    source, calendar = open_market(settings)
    sessions = calendar.list_sessions(since.date(), now.date())
    closed = sessions.filter((pl.col("close") >= since) & (pl.col("close") < now))
    days: tuple[date, ...] = tuple(closed["session"].to_list())
    covered = read_covered(settings, source, BarStore(Home.of(settings).bars, source, calendar), days, now)
    stored = set(list_stored(covered, days)) if covered else set[date]()
    kept = (
        replace(item, incomplete=tuple(day for day in item.incomplete if day.session in stored)) for item in covered
    )
    return tuple(sorted(stored)), tuple(kept)


def _describe_corrected(days: Sequence[SessionCoverage]) -> str:
    return name_some([f"{count(day.revised, 'bar')} of {day.session}" for day in days], _SHOWN)


def _count_days(days: set[date], of: int, where: list[str]) -> str:
    """Return how many of the sessions those are, and where; "none of 5 sessions"."""
    if not days:
        return f"none of {count(of, 'session')}"
    return (
        f"{len(days)} of {count(of, 'session')}: "
        + "; ".join(where[:_SHOWN])
        + (f"; and {len(where) - _SHOWN} more tickers" if len(where) > _SHOWN else "")
    )
