"""Aggregates that the websocket sends again, late, out of order, doubled over reconnects: the bot, end to end."""

from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from hftcl.market.hours import Hours
from hftcl.market.sources.polygon_rest import Key
from hftcl.strategy.risk import Code
from hftcl.trading.feeds import Delivery, Morning
from hftcl.trading.feeds.intake import RawBar
from hftcl.trading.feeds.polygon_websocket import PolygonWebsocketFeed
from hftcl.trading.feeds.replay import StoredFeed
from tests.processes import wait_until
from tests.trading.bot_stand import DAY, TICKERS, archived, bars_of, market_bars, session_minutes, stand
from tests.trading.trading_cases import MINUTE
from tests.trading.websocket_server import PolygonSocket, minute_message

LATEST = 15
"""Minutes for which an aggregate is sent again: https://polygon.io/docs/websocket/stocks/ws_stocks_am ."""
DROPPED_EACH = 25  # minutes: often enough that several breaks lie within the short form
MANY = tuple(f"T{number:02d}" for number in range(20))
_FIGURES = ("ticker", "ts", "open", "high", "low", "close", "volume")


@dataclass
class Socket:
    """Polygon's websocket with these bars; each ticker's minute comes again with the chance `rate` a minute.

    more: shares that are added to the volume of what comes again, as a late trade does.
    """

    server: PolygonSocket
    bars: pl.DataFrame
    tickers: tuple[str, ...]
    rate: float
    more: float = 0.0
    revised: dict[datetime, Any] = field(default_factory=dict)
    """By the minute in which it comes: a row of an earlier minute with other prices."""
    name: str = "socket"
    sent_again: int = 0
    drops: int = 0
    now: datetime = field(init=False)
    chance: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))
    feed: PolygonWebsocketFeed = field(init=False)

    def __post_init__(self) -> None:
        stored = StoredFeed(self.bars, self.tickers)
        key = Key("POLYGON_API_KEY", "k")
        self.feed = PolygonWebsocketFeed(
            stored.begin, self.server.url, key, self._fill_gap, clock=lambda: self.now.timestamp()
        )
        rows = self.bars.filter(pl.col("session") == DAY).select(_FIGURES)
        self._rows = {ts: part.rows() for (ts,), part in rows.partition_by("ts", as_dict=True).items()}

    def begin(self, hours: Hours, now: datetime) -> Morning:
        self.now = now
        morning = self.feed.begin(hours, now)
        self.server.wait_for(1)
        wait_until(lambda: self.feed.problem() == "")
        return morning

    def minute(self, minute: datetime, now: datetime) -> Delivery:
        self.now = now
        frame = [_build_message(row) for row in self._rows.get(minute, [])]
        if minute in self.revised:
            frame.append(_build_message(self.revised[minute]))
        for row in list(self._rows.get(minute, [])):
            if self.chance.random() < self.rate:
                frame += self._send_again(row[0], minute)
        if self.rate:
            self.chance.shuffle(frame)
        before = len(self.feed._rows)
        if frame:
            self.server.send(*frame)
        wait_until(lambda: len(self.feed._rows) >= before + len(frame))
        delivery = self.feed.minute(minute, now)
        if self.rate and int(minute.timestamp()) // 60 % DROPPED_EACH == 0:
            self._drop()
        return delivery

    def _send_again(self, ticker: str, minute: datetime) -> list[dict[str, Any]]:
        earlier = minute - int(self.chance.integers(1, LATEST)) * MINUTE
        again = [row for row in self._rows.get(earlier, []) if row[0] == ticker]
        self.sent_again += len(again)
        return [_build_message((*row[:-1], row[-1] + self.more)) for row in again]

    def _drop(self) -> None:
        """Hang up; what REST then brings of the break has come before."""
        self.drops += 1
        with self.server.away():
            wait_until(lambda: self.feed.problem() != "")
        wait_until(lambda: self.feed.problem() == "")
        self.server.wait_for(1 + self.drops)

    def _fill_gap(self, tickers: tuple[str, ...], first: datetime, last: datetime) -> list[RawBar]:
        rows = self.bars.filter(pl.col("ts").is_between(first, last) & pl.col("ticker").is_in(tickers))
        return rows.select(_FIGURES).rows()

    def problem(self) -> str:
        return self.feed.problem()

    def close(self) -> None:
        self.feed.close()


def _build_message(row: Any) -> dict[str, Any]:
    ticker, ts, *figures = row
    return minute_message(ticker, int(ts.timestamp() * 1000), figures)


def trade(
    home: Path,
    bars: pl.DataFrame,
    minutes: int,
    rate: float,
    tickers: tuple[str, ...],
    more: float = 0.0,
    revised: dict[datetime, Any] | None = None,
) -> dict[str, Any]:
    """Return decisions, orders, fills and positions of a session's first minutes."""
    archived(home)
    with PolygonSocket() as server:
        feed = Socket(server, bars, tickers, rate, more, revised or {})
        bot = stand(home, bars=bars, feed=feed)
        bot.run(DAY, session_minutes()[:minutes])
        facts = {
            "decisions": bot.ledger.read_decisions().drop("decided_at"),
            "orders": bot.ledger.read_orders().drop("created_at", "updated_at").to_dicts(),
            "fills": bot.ledger.read_fills().to_dicts(),
            "positions": dict(bot.ledger.read_positions()),
        }
        bot.close()
        feed.close()
    assert facts["orders"]
    assert (feed.sent_again > 0) is (rate > 0)
    assert (feed.drops > 0) is (rate > 0)
    return facts


def compare(
    plain: dict[str, Any],
    folder: Path,
    bars: pl.DataFrame,
    minutes: int,
    tickers: tuple[str, ...],
    rates: tuple[float, ...],
) -> None:
    for rate in rates:
        facts = trade(folder / str(rate), bars, minutes, rate, tickers)
        assert facts["decisions"].equals(plain["decisions"]), rate
        assert {**facts, "decisions": 0} == {**plain, "decisions": 0}, rate


MINUTES = 50
"""Of the session, in the short form: 30 until the features are known, and some with orders."""


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what is decided and done on bars that come once."""
    return trade(tmp_path_factory.mktemp("once") / "home", bars_of(DAY), MINUTES, 0.0, TICKERS)


def test_aggregates_that_the_socket_sends_again_change_no_decision_and_no_order(
    plain: dict[str, Any], tmp_path: Path
) -> None:
    compare(plain, tmp_path, bars_of(DAY), MINUTES, TICKERS, (0.1, 1.0))


def test_a_volume_that_grows_with_late_trades_holds_no_ticker(plain: dict[str, Any], tmp_path: Path) -> None:
    once = plain["decisions"]
    again = trade(tmp_path / "again", bars_of(DAY), MINUTES, 1.0, TICKERS, more=100.0)["decisions"]
    keys = ["ts", "ticker", "code"]
    assert again.select(keys).equals(once.select(keys)), "each minute is decided on as it was"
    assert Code.TRADE in once["code"].to_list()


SENT_ON, COMES_ON = 45, 47
"""Minutes of the session: of the bar that comes with other prices, and in which it comes."""


def revise(bars: pl.DataFrame, factor: float) -> tuple[pl.DataFrame, Any]:
    """Return the bars with the prices of one of them times `factor`, and the row of this one."""
    this = (pl.col("ts") == session_minutes()[SENT_ON]) & (pl.col("ticker") == "AMD")
    prices = ("open", "high", "low", "close")
    changed = bars.with_columns(pl.when(this).then(pl.col(name) * factor).otherwise(pl.col(name)) for name in prices)
    return changed, changed.filter(this).select(_FIGURES).row(0)


@pytest.mark.hazard(63)
def test_a_price_that_the_socket_corrects_counts_from_the_next_minute_on_and_holds_nothing(
    plain: dict[str, Any], tmp_path: Path
) -> None:
    bars, minutes = bars_of(DAY), session_minutes()
    changed, row = revise(bars, 1.001)
    once = plain["decisions"]
    known = trade(tmp_path / "known", changed, MINUTES, 0.0, TICKERS)["decisions"]
    facts = trade(tmp_path / "told", bars, MINUTES, 0.0, TICKERS, revised={minutes[COMES_ON]: row})
    told, sent_on, until = facts["decisions"], pl.col("ts") == minutes[SENT_ON], pl.col("ts") <= minutes[COMES_ON]
    assert not known.filter(sent_on).equals(once.filter(sent_on)), "else the price would say nothing"
    assert told.filter(until).equals(once.filter(until)), "what was decided stays"
    figures = ("ts", "ticker", "prediction", "code")
    assert told.filter(~until).select(figures).equals(known.filter(~until).select(figures))
    assert not told.filter(~until).equals(once.filter(~until))
    assert Code.HOLD_REVISED not in told["code"].to_list()


@pytest.mark.hazard(63)
def test_a_price_that_the_socket_corrects_beyond_the_collar_holds_its_ticker_for_that_minute(
    plain: dict[str, Any], tmp_path: Path
) -> None:
    bars, minutes = bars_of(DAY), session_minutes()
    _, row = revise(bars, 1.5)
    once = plain["decisions"]
    told = trade(tmp_path / "told", bars, MINUTES, 0.0, TICKERS, revised={minutes[COMES_ON]: row})["decisions"]
    held = told.filter(pl.col("code") == Code.HOLD_REVISED).select("ts", "ticker").rows()
    assert held == [(minutes[COMES_ON], "AMD")]
    others = pl.col("ts") < minutes[COMES_ON]
    assert told.filter(others).equals(once.filter(others))


@pytest.mark.slow
def test_twenty_tickers_that_the_socket_sends_again_all_day_change_no_decision_and_no_order(tmp_path: Path) -> None:
    bars = market_bars(date(2025, 5, 23), DAY, MANY)
    compare(trade(tmp_path / "0", bars, 390, 0.0, MANY), tmp_path, bars, 390, MANY, (0.1, 0.5, 1.0))
