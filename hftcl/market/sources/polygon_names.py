"""Under which names a share has traded: Polygon's ticker events, so that META's bars of 2021 are those of FB.

Source: https://massive.com/docs/rest/stocks/corporate-actions/ticker-events (experimental, says the vendor, and not
in every plan): what it does not tell is no error, the ticker then always had its name.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from typing import Any

from hftcl.errors import SourceError
from hftcl.market.sources.polygon_rest import Rest, quote_ticker

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Names:
    """The names of one share, oldest first, each with the day from which it was traded under it."""

    since: tuple[tuple[date, str], ...]

    def iterate_within(self, first: date, last: date) -> Iterator[tuple[str, date, date]]:
        """Yield (name, first day, last day), oldest first, of the names within `first` to `last`, both included."""
        ends = [day for day, _ in self.since[1:]]
        for (begin, name), end in zip(self.since, [*ends, last + timedelta(days=1)], strict=True):
            begins, ended = max(begin, first), min(end - timedelta(days=1), last)
            if begins <= ended:
                yield name, begins, ended


def fetch_names(rest: Rest, ticker: str) -> Names:
    """Return the names that the share now called `ticker` has had. One call; one more where it is not listed any more.

    A ticker that was delisted is told as a warning, with the day.
    """
    always = Names(((date.min, ticker),))
    try:
        page = rest.get(
            f"/vX/reference/tickers/{quote_ticker(ticker)}/events",
            {"types": "ticker_change"},
            f"the earlier names of {ticker}",
        )
    except SourceError as error:
        log.info("earlier names are not known ticker=%r error=%s", ticker, error)
        _tell_delisted(rest, ticker)
        return always
    results = page.get("results")
    events = results.get("events") if isinstance(results, dict) else None
    changes = sorted(change for event in events or () if (change := _change(event)) is not None)
    if not changes or changes[-1][1] != ticker or any(one[0] == other[0] for one, other in pairwise(changes)):
        return always
    return Names(tuple(changes))


def _change(event: Any) -> tuple[date, str] | None:
    """Return (day, new name) of an event; None where it is none."""
    try:
        name = event["ticker_change"]["ticker"]
        return (date.fromisoformat(event["date"]), name) if isinstance(name, str) and name else None
    except (KeyError, TypeError, ValueError):
        return None


def _tell_delisted(rest: Rest, ticker: str) -> None:
    """Warn of a ticker that the service lists as delisted.

    Source: https://massive.com/docs/rest/stocks/tickers/all-tickers: `active`, `delisted_utc`.
    """
    try:
        page = rest.get("/v3/reference/tickers", {"ticker": ticker, "active": "false"}, f"whether {ticker} is listed")
    except SourceError as error:
        log.info("it is not known whether it is listed ticker=%r error=%s", ticker, error)
        return
    for row in page.get("results") or ():
        if isinstance(row, dict) and row.get("ticker") == ticker and row.get("delisted_utc"):
            log.warning(
                "the ticker was delisted or renamed, correct [market] watchlist ticker=%r delisted=%.10s",
                ticker,
                str(row["delisted_utc"]),
            )
