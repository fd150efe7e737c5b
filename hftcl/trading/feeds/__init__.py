"""Where the bot's bars come from, minute by minute, and how a feed is found by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Protocol, cast, runtime_checkable

from hftcl.market.columns import choose_columns
from hftcl.plug_ins import find_point, load_plug_in, make_plug_in
from hftcl.settings import Settings
from hftcl.strategy.risk import Code

if TYPE_CHECKING:
    import polars as pl

    from hftcl.events import OnEvent
    from hftcl.market.bars import Finding
    from hftcl.market.hours import Hours
    from hftcl.market.sessions import Calendar


@dataclass(frozen=True, slots=True, kw_only=True)
class Morning:
    """What is known of a session before the bot decides in it; bars of BAR_SCHEMA, in today's shares.

    earlier: whole sessions before it, as many as features read. so_far: its own bars up to now, empty before it opens.
    tickers: which are traded; the others of the watchlist are in left_out, with the reason.
    """

    earlier: "pl.DataFrame"
    so_far: "pl.DataFrame"
    tickers: tuple[str, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What became known with the end of one minute; bars of BAR_SCHEMA, clean.

    bars: of that minute, each ticker at most once. corrected: of earlier minutes of the session, where they came late
    or otherwise than before. late_context: the newest of those minutes in which only now a context ticker has its bar:
    what reads it was not known when the minute was decided on. codes: why a ticker has no bar that may be traded on,
    where that is known.
    """

    minute: datetime
    bars: "pl.DataFrame"
    corrected: "pl.DataFrame | None" = None
    late_context: datetime | None = None
    codes: Mapping[str, Code] = field(default_factory=dict)
    findings: "tuple[Finding, ...]" = ()


class Feed(Protocol):
    """A source of minutes. Every method may raise SourceError where it cannot answer.

    One that can deliver further numbers of a bar has `columns`, those of `[market] columns`, which
    `market.columns.choose_columns` returns or refuses when the feed is made; its bars have them behind BAR_SCHEMA.
    """

    name: str

    def begin(self, hours: "Hours", now: datetime) -> Morning:
        """Prepare the session `hours` and return what is known of it at `now`."""
        ...

    def minute(self, minute: datetime, now: datetime) -> Delivery:
        """Return what is known at `now` of the minute that began at `minute`, and of those before it."""
        ...

    def problem(self) -> str:
        """Say what is wrong with the feed at present, "" for nothing: a person is told once."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


@runtime_checkable
class VendorClock(Protocol):
    """A feed or source that can tell what its service says of our clock."""

    def clock_ahead_s(self) -> float | None:
        """Return the seconds by which this machine's clock is ahead of the service's, by its newest answer.

        None where none has come yet. Right to a second or two: services tell whole seconds.
        """
        ...


class FeedFactory(Protocol):
    """How a feed is made. `extended`: whether extended hours are traded, asked at each session.

    Raises ConfigError where the settings do not allow it: no key, or a plan too slow for the watchlist.
    """

    def __call__(
        self, settings: Settings, calendar: "Calendar", extended: Callable[[], bool], on_event: "OnEvent"
    ) -> Feed: ...


def find_feed(name: str) -> FeedFactory:
    """Return the factory registered as `name` in the entry-point group `hftcl.feeds`; no other one is imported.

    >>> find_feed('alpaca').__name__
    'build_alpaca_feed'
    """
    return cast("FeedFactory", load_plug_in(find_point("hftcl.feeds", name)))


def open_feed(settings: Settings, calendar: "Calendar", extended: Callable[[], bool], on_event: "OnEvent") -> Feed:
    """Return the configured feed, see `FeedFactory`. Raises ConfigError; PlugInError of a stranger's."""
    point = find_point("hftcl.feeds", settings.trade.feed)
    return cast("Feed", make_plug_in(point, Feed, (VendorClock,), settings, calendar, extended, on_event))


def require_columns(feed: Feed, settings: Settings) -> None:
    """Raise ConfigError where a feed does not say that it delivers the columns of the settings, before any session."""
    choose_columns(settings.market.columns, getattr(feed, "columns", ()), f"the feed {feed.name!r}")
