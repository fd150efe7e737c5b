"""[market] columns and context in the present: what the vendors' feeds deliver, and what the bot sees is the exam's."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from hftcl.archive.artifact import list_our_features
from hftcl.archive.fitness import MarketKind
from hftcl.archive.policy import hash_policy
from hftcl.errors import ConfigError, NoDataError
from hftcl.events import ignore
from hftcl.market.bars import BAR_SCHEMA, MINUTE, RAW_SCHEMA, Finding
from hftcl.market.columns import extend_schema
from hftcl.market.hours import Hours, find_hours
from hftcl.market.sources.alpaca_rest import Keys
from hftcl.market.sources.polygon_rest import Key, Rest
from hftcl.market.sources.rate_limit import RateLimiter
from hftcl.market.store import BarStore
from hftcl.model.context import attach_context
from hftcl.model.feature import list_columns
from hftcl.model.features import Feature, ctx, features
from hftcl.settings import Market, Paths, Settings
from hftcl.strategy.risk import Code
from hftcl.trading.decide.corrections import Corrections
from hftcl.trading.decide.live_features import LiveFeatures
from hftcl.trading.decide.model_in_use import ProductionWatch
from hftcl.trading.feeds import Delivery, Feed, Morning, find_feed, require_columns
from hftcl.trading.feeds.alpaca import AlpacaFeed
from hftcl.trading.feeds.context import ContextFeed, watch_context, widen
from hftcl.trading.feeds.history import collect_morning
from hftcl.trading.feeds.polygon_rest import PolygonRestFeed
from hftcl.trading.feeds.polygon_websocket import PolygonWebsocketFeed
from hftcl.trading.feeds.replay import StoredFeed
from hftcl.trading.run.late_bars import LateBars
from hftcl.trading.run.replay_window import collect_window
from hftcl.trading.run.wiring import read_interval_s
from tests.installed import PATIENCE_S
from tests.market.exchange import Exchange, quiet_bars
from tests.polygon_server import PolygonServer
from tests.processes import wait_until
from tests.trading.bot_stand import CALENDAR, DAY, TICKERS, archived, bars_of, settings_of, some_minutes
from tests.trading.test_feeds import Moment, alpaca_messages
from tests.trading.websocket_server import AlpacaSocket, PolygonSocket, minute_message

HOURS = find_hours(CALENDAR, DAY, extended_hours=False)
MINUTES = some_minutes(60, 12)
COLUMNS = ("vwap", "trades")


def carrying() -> pl.DataFrame:
    return bars_of(DAY).with_columns(vwap=pl.col("close") + 0.01, trades=pl.col("volume") % 100 + 1)


def from_store(hours: Hours, now: datetime) -> Morning:
    return StoredFeed(carrying(), ("AAPL", "AMD")).begin(hours, now)


def expected(minute: datetime) -> pl.DataFrame:
    return carrying().filter((pl.col("ts") == minute) & pl.col("ticker").is_in(["AAPL", "AMD"])).sort("ticker")


def vendor_row(row: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a bar's figures as Polygon and Alpaca both write them."""
    figures = {"o": "open", "h": "high", "l": "low", "c": "close", "v": "volume", "vw": "vwap", "n": "trades"}
    return {theirs: row[ours] for theirs, ours in figures.items()} | more


# Vendors


def test_polygon_over_rest_brings_vwap_and_trades(tmp_path: Path) -> None:
    rows = {
        ticker: [vendor_row(row, t=int(row["ts"].timestamp() * 1000)) for row in mine.iter_rows(named=True)]
        for (ticker,), mine in carrying().filter(pl.col("session") == DAY).partition_by("ticker", as_dict=True).items()
    }
    with PolygonServer(rows) as server:
        stop = threading.Event()
        limiter = RateLimiter(tmp_path / "calls", 10_000)

        def sleep(seconds: float) -> None:
            stop.wait(min(seconds, 0.05))

        rest = Rest(server.url, Key("POLYGON_API_KEY", "k"), timeout_s=PATIENCE_S, limiter=limiter, sleep=sleep)
        feed = PolygonRestFeed(from_store, rest, stop, columns=COLUMNS)
        feed.begin(HOURS, MINUTES[0])
        found = feed.minute(MINUTES[0], MINUTES[1])
        feed.close()
    assert found.bars.schema == extend_schema(BAR_SCHEMA, COLUMNS)
    assert_frame_equal(found.bars, expected(MINUTES[0]))


def test_polygons_socket_brings_vwap_and_one_that_is_corrected_comes_again() -> None:
    def backfill(tickers: tuple[str, ...], first: datetime, last: datetime) -> list[Any]:
        return []

    def begin(hours: Hours, now: datetime) -> Morning:
        return StoredFeed(carrying().drop("trades"), ("AAPL", "AMD")).begin(hours, now)

    with PolygonSocket() as server:
        moment = Moment(MINUTES[2])
        feed = PolygonWebsocketFeed(
            begin, server.url, Key("POLYGON_API_KEY", "k"), backfill, clock=moment, columns=("vwap",)
        )
        feed.begin(HOURS, MINUTES[0])
        server.wait_for(1)
        wait_until(lambda: feed.problem() == "")
        feed.minute(MINUTES[0], MINUTES[1])
        start = int(MINUTES[1].timestamp() * 1000)
        messages = [
            {**minute_message(row["ticker"], start, (1, 1, 1, 1, 1)), **vendor_row(row)}
            for row in expected(MINUTES[1]).iter_rows(named=True)
        ]
        server.send(*messages)
        wait_until(lambda: len(feed._rows) == 2)
        assert_frame_equal(feed.minute(MINUTES[1], MINUTES[2]).bars, expected(MINUTES[1]).drop("trades"))
        server.send(messages[1] | {"vw": 1.0})
        wait_until(lambda: len(feed._rows) == 1)
        late = feed.minute(MINUTES[2], MINUTES[3]).corrected
        feed.close()
    assert late is not None
    assert late.select("ticker", "ts", "vwap").rows() == [("AMD", MINUTES[1], 1.0)]


def test_alpacas_stream_brings_vwap_and_trades() -> None:
    with AlpacaSocket() as server:
        feed = AlpacaFeed(
            from_store, server.url, Keys("id", "secret"), lambda *_: [], clock=Moment(MINUTES[2]), columns=COLUMNS
        )
        feed.begin(HOURS, MINUTES[0])
        server.wait_for(1)
        wait_until(lambda: feed.problem() == "")
        feed.minute(MINUTES[0], MINUTES[1])
        server.send(*alpaca_messages(MINUTES[1], "AAPL", "AMD"))  # of each bar n = 5 and vw = its close
        wait_until(lambda: len(feed._rows) == 2)
        bars = feed.minute(MINUTES[1], MINUTES[2]).bars
        feed.close()
    assert bars["trades"].to_list() == [5.0, 5.0]
    assert bars["vwap"].to_list() == bars["close"].to_list()


@pytest.mark.parametrize(
    ("name", "columns", "said"),
    [
        (
            "polygon-websocket",
            ("vwap", "trades"),
            "the feed 'polygon-websocket' cannot deliver trades; it delivers vwap",
        ),
        ("polygon-rest", ("bid",), "cannot deliver bid; it delivers vwap, trades"),
        ("alpaca", ("bid",), "cannot deliver bid; it delivers vwap, trades"),
    ],
)
def test_a_feed_says_what_it_cannot_deliver_when_it_is_made(
    name: str, columns: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("POLYGON_API_KEY", "APCA_API_KEY_ID", "APCA_API_SECRET_KEY"):
        monkeypatch.setenv(key, "k")
    asked = Settings(paths=Paths(home=str(tmp_path)), market=Market(watchlist=("AAPL",), columns=columns))
    with pytest.raises(ConfigError, match=said):
        find_feed(name)(asked, CALENDAR, lambda: False, lambda _: None)


def test_a_feed_of_a_plug_in_that_declares_nothing_is_refused_before_the_session() -> None:
    feed = StoredFeed(bars_of(DAY), ("AAPL",))
    require_columns(feed, Settings())
    with pytest.raises(ConfigError, match="the feed 'replay' cannot deliver vwap"):
        require_columns(feed, Settings(market=Market(columns=("vwap",))))


# Context


def own(name: str, expr: pl.Expr, lookback: int = 0) -> Feature:
    return Feature(name=name, group="own", expr=expr, lookback=lookback, formula=name, reason="r", source="0" * 64)


TABLE = (own("led", ctx("TSLA", "ret_5")), own("lead", ctx("TSLA", "range_position") - pl.col("vol"), 30))
NAMES = list_columns(TABLE)


class Within:
    """A feed that hands out the stored bars of traded and context tickers; some come `late`, a minute after."""

    name = "within"

    def __init__(self, bars: pl.DataFrame, late: Callable[[datetime], tuple[str, ...]]) -> None:
        self._stored = StoredFeed(bars, ("AAPL", "AMD", "TSLA"))
        self._late = late
        self._waiting = bars.clear()

    def begin(self, hours: Hours, now: datetime) -> Morning:
        return self._stored.begin(hours, now)

    def minute(self, minute: datetime, now: datetime) -> Delivery:
        bars = self._stored.minute(minute, now).bars
        is_late = pl.col("ticker").is_in(list(self._late(minute)))
        corrected, self._waiting = self._waiting, bars.filter(is_late)
        return Delivery(
            minute=minute, bars=bars.filter(~is_late), corrected=corrected, codes={"TSLA": Code.HOLD_NO_BAR}
        )

    def problem(self) -> str:
        return ""

    def close(self) -> None:
        pass


def replayed(feed: Feed, begun: datetime, minutes: Sequence[datetime]) -> pl.DataFrame:
    """Play the minutes as the bot does; return the features of each bar of the day as it knows them at the end."""
    morning = feed.begin(HOURS, begun)
    assert (morning.tickers, "TSLA" in morning.earlier["ticker"]) == (("AAPL", "AMD"), False)
    live = LiveFeatures(DAY, morning.earlier, morning.so_far, table=TABLE)
    for minute in minutes:
        delivery = feed.minute(minute, minute + MINUTE)
        assert delivery.codes == {}
        if delivery.corrected is not None and delivery.corrected.height:
            live.correct(delivery.corrected)
        live.push(delivery.bars)
    return live.seen.sort("ticker", "ts").select("ticker", "ts", "led", "lead")


@pytest.mark.parametrize("late", [(), ("TSLA",), ("AMD",), ("TSLA", "AAPL")])
def test_what_the_bot_reads_of_a_context_ticker_is_what_the_exam_reads(late: tuple[str, ...]) -> None:
    """Also where the context's bar, or the ticker's own, came a minute late."""
    minutes = some_minutes(40, 25)
    bars = bars_of(DAY).filter(pl.col("ts") <= minutes[-1])
    feed = ContextFeed(Within(bars, lambda at: late if at in (minutes[3], minutes[9]) else ()), ("TSLA",), NAMES)
    found = replayed(feed, minutes[0], minutes)
    attached = attach_context(bars, NAMES, ["TSLA"])
    batch = attached.hstack(features(attached, TABLE)).filter(pl.col("session") == DAY).sort("ticker", "ts")
    assert found.filter(pl.col("led").is_not_null()).height > 40
    assert_frame_equal(found, batch.select(found.columns), check_exact=True)


def test_a_minute_in_which_the_context_is_silent_lacks_what_reads_it() -> None:
    minutes = some_minutes(40, 4)
    silent = (pl.col("ticker") == "TSLA") & (pl.col("ts") == minutes[1])
    feed = ContextFeed(Within(bars_of(DAY).filter(~silent), lambda _: ()), ("TSLA",), NAMES)
    feed.begin(HOURS, minutes[0])
    lacks = [feed.minute(minute, minute + MINUTE).bars["TSLA ret_5"].null_count() for minute in minutes]
    assert lacks == [0, 2, 0, 0]


def test_the_feed_within_is_asked_for_the_context_and_one_without_is_left_as_it_is() -> None:
    asked = Settings(market=Market(watchlist=("AAPL", "AMD"), context=("TSLA",)))
    assert widen(asked).market.watchlist == ("AAPL", "AMD", "TSLA")
    feed = StoredFeed(bars_of(DAY), ("AAPL",))
    assert watch_context(feed, replace(asked, market=Market()), ()) is feed


def test_a_context_ticker_that_is_left_out_is_told() -> None:
    bars = bars_of(DAY).filter(pl.col("ticker") != "TSLA")
    within = StoredFeed(bars, ("AAPL", "AMD"), {"TSLA": "no bars"})
    feed = ContextFeed(within, ("TSLA",), NAMES)
    morning = feed.begin(HOURS, MINUTES[0])
    assert (morning.tickers, dict(morning.left_out)) == (("AAPL", "AMD"), {})
    assert feed.problem() == "the context ticker TSLA is left out: no bars; what reads it opens nothing"
    assert feed.minute(MINUTES[0], MINUTES[0] + timedelta(minutes=1)).bars["TSLA ret_5"].null_count() == 2


def test_the_replay_tells_a_context_ticker_that_is_left_out_apart_from_the_watchlist(tmp_path: Path) -> None:
    archived(tmp_path)
    settings = settings_of(tmp_path, market={"watchlist": TICKERS, "context": ("SPY",)})
    serving = ProductionWatch(
        tmp_path,
        MarketKind(calendar="XNYS", synthetic=True),
        policy=hash_policy(settings_of(tmp_path)),
        interval_s=read_interval_s(settings),
    )
    serving.look(HOURS.closes)
    assert serving.in_use is not None
    source = Exchange(bars_of(DAY).select(RAW_SCHEMA.names()), synthetic=True)
    window = collect_window(
        settings, serving.in_use, source, CALENDAR, DAY, DAY, HOURS.closes, ignore, list_our_features(settings)
    )
    assert (window.tickers, window.left_out, window.context_left_out) == (TICKERS, {}, {"SPY": "no bars"})


class Refused(StoredFeed):
    """A feed with a problem of its own."""

    def problem(self) -> str:
        return "the key is refused"


def test_what_is_wrong_with_the_feed_within_is_told_beside_a_context_ticker_that_is_left_out() -> None:
    bars = bars_of(DAY).filter(pl.col("ticker") != "TSLA")
    feed = ContextFeed(Refused(bars, ("AAPL", "AMD"), {"TSLA": "no bars"}), ("TSLA",), NAMES)
    assert feed.problem() == "the key is refused"
    feed.begin(HOURS, MINUTES[0])
    assert feed.problem() == (
        "the key is refused; the context ticker TSLA is left out: no bars; what reads it opens nothing"
    )


def test_a_context_ticker_that_is_late_minute_after_minute_is_waited_for() -> None:
    """Each late bar is told with its minute; one that was sent again is not late."""
    minutes = some_minutes(40, 8)
    feed = ContextFeed(Within(bars_of(DAY), lambda _: ("TSLA",)), ("TSLA",), NAMES)
    feed.begin(HOURS, minutes[0])
    late, grace = LateBars(), timedelta(seconds=2)
    told = []
    for minute in minutes:
        delivery = feed.minute(minute, minute + MINUTE)
        told.append(delivery.late_context)
        grace = late.note(delivery, grace)
    assert told == [None, *minutes[:-1]]
    assert grace > timedelta(seconds=2)


def test_a_context_bar_that_is_sent_again_is_not_late() -> None:
    minutes = some_minutes(40, 2)
    first = bars_of(DAY).filter((pl.col("ticker") == "TSLA") & (pl.col("ts") == minutes[0]))
    within = Within(bars_of(DAY), lambda _: ())
    feed = ContextFeed(within, ("TSLA",), NAMES)
    feed.begin(HOURS, minutes[0])
    feed.minute(minutes[0], minutes[1])
    within._waiting = first.with_columns(pl.col("close") * 1.001, high=pl.col("high") * 1.001)
    delivery = feed.minute(minutes[1], minutes[1] + MINUTE)
    assert delivery.late_context is None
    assert delivery.corrected is not None
    assert delivery.corrected.height == 2


def test_what_a_late_context_bar_changes_is_computed_after_the_orders_of_the_same_minute() -> None:
    bars = bars_of(DAY).filter(pl.col("ts") == MINUTES[0])
    waiting, at_once = Corrections(), Corrections()
    assert waiting.add(bars, bars, 0.1) == at_once.add(bars, bars, 0.1, at_once=True) == frozenset()
    assert (waiting.is_due(), at_once.is_due()) == (False, True)


def test_a_session_that_the_context_lacks_is_one_all_the_same_minute_by_minute_as_in_the_exam() -> None:
    minutes = some_minutes(40, 6)
    before = CALENDAR.find_previous_session(DAY, 2)
    lacks = (pl.col("ticker") == "TSLA") & (pl.col("session") == before)
    bars = bars_of(DAY, 7).filter(~lacks & (pl.col("ts") <= minutes[-1]))
    names = ["TSLA volume_vs_earlier_sessions", "TSLA gap_overnight"]
    newest_five = bars.filter(pl.col("session") >= CALENDAR.find_previous_session(DAY, 5))
    feed = ContextFeed(Within(newest_five, lambda _: ()), ("TSLA",), names)
    feed.begin(HOURS, minutes[0])
    live = pl.concat([feed.minute(minute, minute + MINUTE).bars for minute in minutes]).sort("ticker", "ts")
    batch = attach_context(bars, names, ["TSLA"]).filter(pl.col("ts").is_in(minutes)).sort("ticker", "ts")
    assert live[names[0]].null_count() == 0
    assert_frame_equal(live.select("ticker", "ts", *names), batch.select("ticker", "ts", *names), check_exact=True)


def test_no_feature_of_a_context_ticker_reads_across_a_split_that_nobody_announced() -> None:
    bars = bars_of(DAY).filter(pl.col("session") >= CALENDAR.find_previous_session(DAY, 1))
    jump = Finding("TSLA", "unannounced_split", 1, session=DAY)
    names = ["TSLA gap_overnight", "TSLA ret_5"]
    plain, apart = (attach_context(bars, names, ["TSLA"], jumps).filter(session=DAY) for jumps in ((), (jump,)))
    assert plain[names[0]].null_count() < plain.height
    assert apart[names[0]].null_count() == apart.height
    assert apart[names[1]].equals(plain[names[1]])


def test_without_a_ticker_of_the_watchlist_there_is_no_session_to_trade(tmp_path: Path) -> None:
    """A context ticker alone is none."""
    asked = widen(Settings(market=Market(watchlist=("BBB",), context=("AAA",), min_coverage=0.5)))
    exchange = Exchange(quiet_bars("AAA", first=date(2026, 1, 26), last=date(2026, 2, 6), step=30))
    hours = find_hours(CALENDAR, date(2026, 2, 6), extended_hours=False)
    with pytest.raises(NoDataError, match="BBB: no bars"):
        collect_morning(
            BarStore(tmp_path, exchange, CALENDAR),
            exchange,
            CALENDAR,
            asked.market,
            hours,
            hours.closes,
            extended_hours=False,
            on_event=ignore,
        )
