"""Where the bot's bars come from, minute by minute. The loop calls a feed; the bot sees only what it delivers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from hftcl.strategy.risk import Code

if TYPE_CHECKING:
    import polars as pl

    from hftcl.market.bars import Finding
    from hftcl.market.hours import Hours


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
    or otherwise than before. codes: why a ticker has no bar that may be traded on, where that is known.
    """

    minute: datetime
    bars: "pl.DataFrame"
    corrected: "pl.DataFrame | None" = None
    codes: Mapping[str, Code] = field(default_factory=dict)
    findings: "tuple[Finding, ...]" = ()


class Feed(Protocol):
    """A source of minutes. Every method may raise SourceError where it cannot answer."""

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
