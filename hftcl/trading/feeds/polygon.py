"""The feeds `polygon-rest` and `polygon-websocket` made from settings: the edge with key, limiter and threads."""

import os
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Final

from hftcl.config import read_secret
from hftcl.errors import SourceError
from hftcl.events import OnEvent
from hftcl.home import Home
from hftcl.market.columns import choose_columns
from hftcl.market.hours import Hours
from hftcl.market.sessions import Calendar
from hftcl.market.sources.polygon import KEY_VARIABLES, PolygonSource
from hftcl.market.sources.polygon_bars import FURTHER
from hftcl.market.sources.polygon_rest import Key, Rest
from hftcl.market.sources.rate_limit import RateLimiter
from hftcl.market.store import BarStore
from hftcl.settings import Settings
from hftcl.trading.feeds import Feed, Morning
from hftcl.trading.feeds.history import prepare_sessions, sleep_until
from hftcl.trading.feeds.intake import RawBar
from hftcl.trading.feeds.polygon_rest import PolygonRestFeed, fetch_minutes, require_pace
from hftcl.trading.feeds.polygon_websocket import DELIVERED, PolygonWebsocketFeed
from hftcl.waiting import DaemonThreads, map_in_threads

_TIMEOUT_S: Final = 10.0
"""Of one call within a minute; the settings' time-out is for collecting, which has longer."""
# Chosen: a morning's gap is asked for within seconds, and half of the 16 kept connections stay free.
_AT_ONCE: Final = 8


def rest_feed(settings: Settings, calendar: Calendar, extended: Callable[[], bool], on_event: OnEvent) -> Feed:
    """Return the feed `polygon-rest`; see `FeedFactory`."""
    stop = threading.Event()
    begin = _build_beginning(settings, calendar, extended, on_event, stop)
    require_pace(settings)
    columns = choose_columns(settings.market.columns, tuple(FURTHER), f"the feed {PolygonRestFeed.name!r}")
    return PolygonRestFeed(begin, _build_rest(settings, stop)[0], stop, columns=columns)


def build_websocket_feed(
    settings: Settings, calendar: Calendar, extended: Callable[[], bool], on_event: OnEvent
) -> Feed:
    """Return the feed `polygon-websocket`; see `FeedFactory`."""
    columns = choose_columns(settings.market.columns, DELIVERED, f"the feed {PolygonWebsocketFeed.name!r}")
    stop = threading.Event()
    begin = _build_beginning(settings, calendar, extended, on_event, stop)
    rest, key = _build_rest(settings, stop)
    return PolygonWebsocketFeed(
        begin,
        settings.polygon.websocket_url,
        key,
        _build_backfill(rest, columns),
        stop=stop,
        vendor_time=rest.transport.time,
        ask_time=rest.transport.ask_time,
        columns=columns,
    )


def _build_beginning(
    settings: Settings, calendar: Calendar, extended: Callable[[], bool], on_event: OnEvent, stop: threading.Event
) -> Callable[[Hours, datetime], Morning]:
    """Return what prepares a session; its waits end when `stop` is set. Raises ConfigError where there is no key."""
    source = PolygonSource(settings, sleep=sleep_until(stop))
    # Bars of another source lie in the usual place: each would throw the other's away.
    home = Home.of(settings)
    shared = settings.market.source == source.name
    store = BarStore(home.bars if shared else home.locate_feed_bars(source.name), source, calendar)
    return prepare_sessions(store, source, calendar, settings.market, extended, on_event)


def _build_rest(settings: Settings, stop: threading.Event) -> tuple[Rest, Key]:
    """Return the service, whose waits end when `stop` is set, and the key; the calls count with those of the source."""
    keys = {name: (read_secret(name, settings, os.environ) or "").strip() for name in KEY_VARIABLES}
    name = next(name for name, value in keys.items() if value)
    key = Key(name, keys[name])

    sleep = sleep_until(stop)
    limiter = RateLimiter(Home.of(settings).polygon_calls, settings.polygon.calls_per_minute, sleep=sleep)
    timeout_s = min(settings.polygon.timeout_s, _TIMEOUT_S)
    return Rest(settings.polygon.base_url, key, timeout_s=timeout_s, limiter=limiter, clock=time.time, sleep=sleep), key


def _build_backfill(
    rest: Rest, columns: tuple[str, ...]
) -> Callable[[tuple[str, ...], datetime, datetime], list[RawBar]]:
    def backfill(tickers: tuple[str, ...], first: datetime, last: datetime) -> list[RawBar]:
        with DaemonThreads(_AT_ONCE, "backfill") as threads:
            answers = list(
                map_in_threads(threads, lambda ticker: fetch_minutes(rest, ticker, first, last, columns), tickers)
            )
        if any(delayed for _, delayed in answers):
            raise SourceError("the plan of the key delivers delayed bars over REST")
        return [row for rows, _ in answers for row in rows]

    return backfill
