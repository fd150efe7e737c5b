"""What the feeds of the present need before the first minute: earlier sessions from the store, today's bars so far."""

import threading
from collections.abc import Callable, Sequence
from datetime import date, datetime

import polars as pl

from hftcl.errors import SourceError
from hftcl.events import OnEvent
from hftcl.market.hours import Hours
from hftcl.market.sessions import Calendar
from hftcl.market.sources import BarSource
from hftcl.market.splits import adjust_for_splits
from hftcl.market.store import BarStore
from hftcl.model.features import WARMUP_SESSIONS
from hftcl.settings import Market
from hftcl.trading.feeds import Morning


def collect_morning(
    store: BarStore,
    source: BarSource,
    calendar: Calendar,
    market: Market,
    hours: Hours,
    now: datetime,
    *,
    extended_hours: bool,
    on_event: OnEvent,
) -> Morning:
    """Collect what is known at `now`: the sessions before `hours` that features read, and its own bars so far.

    market: its watchlist names the context tickers as well, see `context.widen`.
    Raises what `BarStore.collect` raises, NoDataError where no ticker has enough; context tickers do not count.
    """
    first = calendar.find_previous_session(hours.session, WARMUP_SESSIONS)
    collected = store.collect(
        [ticker for ticker in market.watchlist if ticker not in market.context],
        first,
        hours.session,
        as_of=now,
        extended_hours=True,  # bars before the open tell whether a split of today has been applied already
        min_coverage=market.min_coverage,
        context=market.context,
        on_event=on_event,
    )
    bars = convert_to_todays_shares(collected.bars, source, hours.session)
    if not extended_hours:
        bars = bars.filter("regular")
    today = pl.col("session") == hours.session
    left_out = collected.left_out | collected.context_left_out
    tickers = tuple(ticker for ticker in market.watchlist if ticker not in left_out)
    return Morning(earlier=bars.filter(~today), so_far=bars.filter(today), tickers=tickers, left_out=left_out)


def prepare_sessions(
    store: BarStore,
    source: BarSource,
    calendar: Calendar,
    market: Market,
    extended: Callable[[], bool],
    on_event: OnEvent,
) -> Callable[[Hours, datetime], Morning]:
    """Return what prepares a session by `collect_morning`. extended: whether extended hours are traded, asked each."""

    def begin(hours: Hours, now: datetime) -> Morning:
        return collect_morning(
            store, source, calendar, market, hours, now, extended_hours=extended(), on_event=on_event
        )

    return begin


def sleep_until(stop: threading.Event) -> Callable[[float], None]:
    """Return what sleeps so many seconds, and raises SourceError once `stop` is set: no call holds up a bot's end."""

    def sleep(seconds: float) -> None:
        if stop.wait(seconds):
            raise SourceError("The bot is stopping.")

    return sleep


def convert_to_todays_shares(bars: pl.DataFrame, source: BarSource, today: date) -> pl.DataFrame:
    """Return `bars`, adjusted up to each ticker's last session, in the shares of `today`.

    Before a ticker's first bar of the day nothing but the split table tells of a split that takes effect today; without
    it the night would look like a fall by half.
    """
    last = dict(bars.group_by("ticker").agg(pl.col("session").max()).iter_rows())
    behind: Sequence[str] = sorted(ticker for ticker, day in last.items() if day < today)
    due = [
        split for ticker in behind for split in source.splits(ticker) if last[ticker] < split.execution_date <= today
    ]
    if not due:
        return bars
    stubs = bars.filter(pl.col("ticker").is_in([split.ticker for split in due])).group_by("ticker").last()
    stubs = stubs.select(bars.columns).with_columns(pl.lit(today).alias("session"))
    adjusted = adjust_for_splits(pl.concat([bars, stubs]), due)
    return adjusted.head(bars.height)
