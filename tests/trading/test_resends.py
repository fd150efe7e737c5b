"""Bars that a vendor sends again for up to 15 minutes: what is decided and ordered is what it is without them."""

from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hftcl.market.hours import Hours
from hftcl.trading.feeds import Delivery, Morning
from hftcl.trading.feeds.replay import StoredFeed
from tests.trading.bot_stand import DAY, TICKERS, archived, bars_of, market_bars, session_minutes, stand
from tests.trading.trading_cases import MINUTE

LATEST = 15
"""Minutes for which an aggregate is sent again: https://polygon.io/docs/websocket/stocks/ws_stocks_am ."""
MANY = tuple(f"T{number:02d}" for number in range(20))


@dataclass
class ReSending:
    """A feed that sends bars again: each of the newest minutes with the chance `rate`, a ticker and minute."""

    inner: StoredFeed
    bars: pl.DataFrame
    rate: float
    name: str = "re-sending"
    sent: int = 0
    chance: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))

    def begin(self, hours: Hours, now: datetime) -> Morning:
        return self.inner.begin(hours, now)

    def minute(self, minute: datetime, now: datetime) -> Delivery:
        delivery = self.inner.minute(minute, now)
        tickers = delivery.bars["ticker"].unique().sort().to_list()
        ages = {ticker: int(self.chance.integers(1, LATEST)) for ticker in tickers if self.chance.random() < self.rate}
        again = [
            self.bars.filter((pl.col("ticker") == ticker) & (pl.col("ts") == minute - age * MINUTE))
            for ticker, age in ages.items()
        ]
        if not again:
            return delivery
        corrected = pl.concat(again)
        self.sent += corrected.height
        return Delivery(minute=minute, bars=delivery.bars, corrected=corrected)

    def problem(self) -> str:
        return ""

    def close(self) -> None:
        self.inner.close()


def trade(home: Path, bars: pl.DataFrame, minutes: int, rate: float, tickers: tuple[str, ...]) -> tuple[object, ...]:
    """Return decisions, orders, fills and positions of a session's first minutes, and how many bars came again."""
    archived(home)
    feed = ReSending(StoredFeed(bars, tickers), bars, rate)
    bot = stand(home, bars=bars, feed=feed)
    bot.run(DAY, session_minutes()[:minutes])
    ledger = bot.ledger
    facts = (
        ledger.read_decisions().drop("decided_at").to_dicts(),
        ledger.read_orders().drop("created_at", "updated_at").to_dicts(),
        ledger.read_fills().to_dicts(),
        ledger.read_positions(),
    )
    bot.close()
    assert len(facts[1]) > 0
    assert (feed.sent > 0) is (rate > 0)
    return facts


def compare(
    folder: Path, bars: pl.DataFrame, minutes: int, tickers: tuple[str, ...], rates: tuple[float, ...] = (0.1, 0.5, 1.0)
) -> None:
    plain = trade(folder / "0", bars, minutes, 0.0, tickers)
    for rate in rates:
        assert trade(folder / str(rate), bars, minutes, rate, tickers) == plain, rate


def test_bars_that_come_again_change_no_decision_and_no_order(tmp_path: Path) -> None:
    compare(tmp_path, bars_of(DAY), 60, TICKERS, (0.1, 1.0))


@pytest.mark.slow
def test_bars_of_twenty_tickers_that_come_again_all_day_change_no_decision_and_no_order(tmp_path: Path) -> None:
    compare(tmp_path, market_bars(date(2025, 5, 23), DAY, MANY), 390, MANY)
