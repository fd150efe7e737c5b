"""A feed around another one: what features read of context tickers comes with the bars of those that are traded.

The feed within brings the bars of both; to the bot it is as if each traded bar had the further columns itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import polars as pl

from hftcl.formats import describe_left_out
from hftcl.market.bars import BAR_SCHEMA
from hftcl.market.hours import Hours
from hftcl.model.context import attach_context, join_context, list_context
from hftcl.settings import Settings
from hftcl.trading.decide.live_features import LiveFeatures
from hftcl.trading.feeds import Delivery, Feed, Morning, VendorClock


def widen(settings: Settings) -> Settings:
    """Return the settings of the feed within: context tickers are asked for as those of the watchlist are.

    Which they are, it is told too: without a ticker of the watchlist there is no session.
    """
    market = settings.market
    return replace(settings, market=replace(market, watchlist=(*market.watchlist, *market.context)))


def watch_context(feed: Feed, settings: Settings, columns: Sequence[str]) -> Feed:
    """Return a feed that brings what `columns` name of context tickers; `feed` itself where there are none.

    feed: made from `widen(settings)`.
    """
    return ContextFeed(feed, settings.market.context, columns) if settings.market.context else feed


class ContextFeed:
    """Traded bars with what was computed of context tickers in the same minute; null where these were silent."""

    def __init__(self, feed: Feed, context: tuple[str, ...], columns: Sequence[str]) -> None:
        """columns: what features read of a bar beside prices and volume, such as "SPY ret_5"."""
        self.name = feed.name
        self.columns: tuple[str, ...] = getattr(feed, "columns", ())
        self._feed = feed
        self._context = context
        self._reads = list_context(columns)
        self._names = [column for column in columns if " " in column]
        self._live: dict[str, LiveFeatures] = {}
        self._traded: list[pl.DataFrame] = []
        self._left_out: dict[str, str] = {}

    def begin(self, hours: Hours, now: datetime) -> Morning:
        """Prepare the session; what is known of context tickers stands beside the traded bars."""
        morning = self._feed.begin(hours, now)
        known = pl.concat([morning.earlier, morning.so_far])
        bars = attach_context(known, self._names, self._context)
        today, days = pl.col("session") == hours.session, morning.earlier["session"].unique()
        self._left_out = {t: why for t, why in morning.left_out.items() if t in self._context}
        for ticker, table in self._reads.items():
            mine = known.filter(pl.col("ticker") == ticker).select(BAR_SCHEMA.names())
            self._live[ticker] = LiveFeatures(
                hours.session, mine.filter(~today), mine.filter(today), table=table, days=days
            )
        so_far = bars.filter(today)
        self._traded = [so_far]
        return Morning(
            earlier=bars.filter(~today),
            so_far=so_far,
            tickers=tuple(ticker for ticker in morning.tickers if ticker not in self._context),
            left_out={t: why for t, why in morning.left_out.items() if t not in self._context},
        )

    def minute(self, minute: datetime, now: datetime) -> Delivery:
        """Return the minute's traded bars; corrected are also earlier ones whose context bar came late or otherwise."""
        delivery = self._feed.minute(minute, now)
        late = delivery.corrected if delivery.corrected is not None else delivery.bars.clear()
        first, missed = self._take(delivery.bars, late)
        values = {ticker: live.seen for ticker, live in self._live.items()}
        bars, late = (join_context(self._drop_context(rows), values) for rows in (delivery.bars, late))
        changed = self._keep(bars, late, first, values)
        return replace(
            delivery,
            bars=bars,
            corrected=changed,
            late_context=missed,
            codes={ticker: code for ticker, code in delivery.codes.items() if ticker not in self._context},
        )

    def _drop_context(self, bars: pl.DataFrame) -> pl.DataFrame:
        return bars.filter(~pl.col("ticker").is_in(self._context))

    def _take(self, bars: pl.DataFrame, late: pl.DataFrame) -> tuple[datetime | None, datetime | None]:
        """Take what came of context tickers.

        Return the first minute whose values may be others now, and the last one of which a bar had been missing.
        """
        missed: list[datetime] = []
        for ticker, live in self._live.items():
            mine = pl.col("ticker") == ticker
            if (again := late.filter(mine).select(BAR_SCHEMA.names())).height:
                old_bars = live.list_bars_since(again["ts"].min())  # type: ignore[arg-type]
                missed += again.join(old_bars, on="ts", how="anti")["ts"].to_list()
                live.correct(again)
            live.push(bars.filter(mine).select(BAR_SCHEMA.names()))
        first: datetime | None = late.filter(pl.col("ticker").is_in(list(self._live)))["ts"].min()  # type: ignore[assignment]
        return first, max(missed, default=None)

    def _keep(
        self, bars: pl.DataFrame, late: pl.DataFrame, first: datetime | None, values: Mapping[str, pl.DataFrame]
    ) -> pl.DataFrame:
        """Keep the traded bars of today; return those of earlier minutes that are others than they were."""
        if late.height or first is not None:
            known = pl.concat(self._traded)
            others = known.join(late, on=["ticker", "ts"], how="anti")
            again = others if first is None else join_context(others, values).select(others.columns)
            changed = again.join(others, on=others.columns, how="anti", nulls_equal=True)
            self._traded = [pl.concat([again, late.select(again.columns)]).sort("ts", "ticker")]
            late = pl.concat([late.select(again.columns), changed]).sort("ticker", "ts")
        self._traded.append(bars.select(self._traded[0].columns))
        return late

    def problem(self) -> str:
        """Say what is wrong with the feed within, or which context tickers have too few bars; both where both is so."""
        texts = describe_left_out({}, self._left_out, trades=True)
        return "; ".join(text for text in (self._feed.problem(), *texts) if text)

    def clock_ahead_s(self) -> float | None:
        """Return what the feed within says of our clock, see `VendorClock`."""
        return self._feed.clock_ahead_s() if isinstance(self._feed, VendorClock) else None

    def close(self) -> None:
        """Let go of the connections of the feed within."""
        self._feed.close()
