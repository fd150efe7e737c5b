"""Minutes from Polygon, asked for over REST or received over a websocket, against real servers on this machine."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from hftcl.contracts import check_feed
from hftcl.errors import ConfigError, SourceError
from hftcl.market.bars import BAR_SCHEMA, MINUTE
from hftcl.market.hours import Hours, find_hours
from hftcl.market.sources.alpaca_rest import Keys
from hftcl.market.sources.polygon_rest import Key, Rest
from hftcl.market.sources.rate_limit import RateLimiter
from hftcl.market.sources.vendor_time import VendorTime
from hftcl.settings import Settings
from hftcl.strategy.risk import Code
from hftcl.trading.feeds import Delivery, Morning, find_feed, websocket
from hftcl.trading.feeds.alpaca import AlpacaFeed
from hftcl.trading.feeds.intake import RawBar
from hftcl.trading.feeds.polygon_rest import PolygonRestFeed, fetch_minutes, require_pace
from hftcl.trading.feeds.polygon_websocket import PolygonWebsocketFeed
from hftcl.trading.feeds.replay import StoredFeed
from tests.installed import PATIENCE_S
from tests.polygon_server import PolygonServer, Reply, says, slow
from tests.processes import wait_until
from tests.trading.bot_stand import CALENDAR, DAY, bars_of, some_minutes
from tests.trading.websocket_server import AlpacaSocket, PolygonSocket, minute_message

HOURS = find_hours(CALENDAR, DAY, extended_hours=False)
MINUTES = some_minutes(60, 12)
BAR_NAMES = ("ticker", "ts", "open", "high", "low", "close", "volume")
FOR_EVER = 3600.0  # seconds: longer than any test waits
Gaps = list[tuple[datetime, datetime]]


# ---- polygon over REST -----------------------------------------------------------------------------------------------


def service_rows(ticker: str) -> list[dict[str, Any]]:
    rows = bars_of(DAY).filter((pl.col("session") == DAY) & (pl.col("ticker") == ticker))
    return [
        {"t": int(ts.timestamp() * 1000), "o": o, "h": h, "l": low, "c": c, "v": v}
        for ts, o, h, low, c, v in rows.select("ts", "open", "high", "low", "close", "volume").iter_rows()
    ]


def from_store(hours: Hours, now: datetime) -> Morning:
    return StoredFeed(bars_of(DAY), ("AAPL", "AMD")).begin(hours, now)


Connect = Callable[..., PolygonRestFeed]


@pytest.fixture
def connect(tmp_path: Path) -> Connect:
    def make(url: str, *, patience_s: float = PATIENCE_S) -> PolygonRestFeed:
        stop = threading.Event()

        def sleep(seconds: float) -> None:
            stop.wait(min(seconds, 0.05))

        limiter = RateLimiter(tmp_path / "calls", 10_000)
        rest = Rest(url, Key("POLYGON_API_KEY", "k"), timeout_s=PATIENCE_S, limiter=limiter, sleep=sleep)
        return PolygonRestFeed(from_store, rest, stop, patience_s=patience_s)

    return make


def served(**options: Any) -> PolygonServer:
    return PolygonServer({ticker: service_rows(ticker) for ticker in ("AAPL", "AMD")}, **options)


def asked(feed: PolygonRestFeed, minute: datetime) -> Delivery:
    return feed.minute(minute, minute + MINUTE + timedelta(seconds=3))


def test_one_call_a_ticker_brings_the_minute(connect: Connect) -> None:
    with served() as server:
        feed = connect(server.url)
        feed.begin(HOURS, MINUTES[0])
        found = asked(feed, MINUTES[0])
        stored = bars_of(DAY).filter((pl.col("ts") == MINUTES[0]) & pl.col("ticker").is_in(["AAPL", "AMD"]))
        assert found.bars.equals(stored.sort("ticker"))
        assert found.corrected is not None
        assert found.corrected.is_empty()
        assert len(server.hits) == 2
        assert feed.problem() == ""
        feed.close()


def test_a_ticker_that_fails_is_told_and_its_bar_comes_late(connect: Connect) -> None:
    with served() as server:
        feed = connect(server.url)
        feed.begin(HOURS, MINUTES[0])
        server.always = says(404, {"status": "NOT_FOUND"})
        assert asked(feed, MINUTES[0]).bars.is_empty()
        assert "2 of 2 tickers could not be had" in feed.problem()
        server.always = None
        found = asked(feed, MINUTES[1])
        assert found.bars["ts"].unique().to_list() == [MINUTES[1]]
        assert found.corrected is not None
        assert found.corrected["ts"].unique().to_list() == [MINUTES[0]]
        assert feed.problem() == ""
        feed.close()


def test_a_ticker_that_failed_for_long_is_asked_for_all_that_it_lacks(connect: Connect) -> None:
    """Else its features would be computed over a hole, and nobody would know."""
    with served() as server:
        feed = connect(server.url)
        feed.begin(HOURS, MINUTES[0])
        asked(feed, MINUTES[0])
        server.always = says(404, {"status": "NOT_FOUND"})
        for minute in MINUTES[1:10]:
            asked(feed, minute)
        server.always = None
        found = asked(feed, MINUTES[10])
        assert found.corrected is not None
        for ticker in ("AAPL", "AMD"):
            came = found.corrected.filter(pl.col("ticker") == ticker)["ts"].to_list()
            stored = bars_of(DAY).filter((pl.col("ticker") == ticker) & pl.col("ts").is_in(list(MINUTES[1:10])))
            assert came == stored["ts"].to_list()
        feed.close()


def test_connections_are_kept_from_minute_to_minute(connect: Connect) -> None:
    """Each minute has both calls under way at once, so two connections are needed, and two are enough for ever."""
    both = threading.Barrier(2)

    def together(reply: Reply) -> Reply:
        both.wait(timeout=PATIENCE_S)
        return reply

    with served() as server:
        feed = connect(server.url)
        feed.begin(HOURS, MINUTES[0])
        server.always = together
        for minute in MINUTES[:3]:
            assert asked(feed, minute).bars.height == 2
        feed.close()
    assert len(server.hits) == 6
    assert len({hit.client for hit in server.hits}) == 2


@pytest.mark.hazard(23)
def test_a_service_that_hangs_costs_the_patience_and_not_the_minute(connect: Connect) -> None:
    with served() as server:
        feed = connect(server.url, patience_s=0.2)
        feed.begin(HOURS, MINUTES[0])
        server.always = slow(delay_s=PATIENCE_S)
        assert asked(feed, MINUTES[0]).bars.is_empty()
        wait_until(lambda: len(server.hits) == 2, "The arrival of both questions")
        assert asked(feed, MINUTES[1]).bars.is_empty()
        assert len(server.hits) == 2, "a ticker whose answer is awaited is not asked for again"
        feed.close()


@pytest.mark.hazard(30)
def test_delayed_bars_are_known_by_their_status(connect: Connect) -> None:
    with served(delayed=True) as server:
        feed = connect(server.url)
        feed.begin(HOURS, MINUTES[0])
        found = asked(feed, MINUTES[0])
        assert found.codes == {"AAPL": Code.HOLD_DELAYED, "AMD": Code.HOLD_DELAYED}
        assert "delayed" in feed.problem()
        feed.close()


def test_a_watchlist_that_the_plan_cannot_follow_is_refused_at_the_start() -> None:
    with pytest.raises(ConfigError, match=r"one call a minute for each of 8 tickers, and .* is 5"):
        require_pace(Settings())


# ---- polygon over a websocket ----------------------------------------------------------------------------------------


def messages(minute: datetime, *tickers: str) -> list[dict[str, Any]]:
    rows = bars_of(DAY).filter((pl.col("ts") == minute) & pl.col("ticker").is_in(tickers))
    return [
        minute_message(ticker, int(ts.timestamp() * 1000), figures)
        for ticker, ts, *figures in rows.select(*BAR_NAMES).iter_rows()
    ]


class Moment:
    """The time of the test's choosing, Unix seconds."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at.timestamp()


def socket_feed(url: str, moment: Moment, *, key: str = "k", gaps: Gaps | None = None, **options: Any) -> Any:
    filled: Gaps = [] if gaps is None else gaps

    def backfill(tickers: tuple[str, ...], first: datetime, last: datetime) -> list[RawBar]:
        filled.append((first, last))
        rows = bars_of(DAY).filter(pl.col("ts").is_between(first, last) & pl.col("ticker").is_in(tickers))
        return rows.select(*BAR_NAMES).rows()

    return PolygonWebsocketFeed(from_store, url, Key("POLYGON_API_KEY", key), backfill, clock=moment, **options)


def test_minutes_arrive_over_the_socket_and_the_gap_before_it_over_rest() -> None:
    gaps: Gaps = []
    with PolygonSocket() as server:
        feed = socket_feed(server.url, Moment(MINUTES[0]), gaps=gaps)
        feed.begin(HOURS, MINUTES[0])
        server.wait_for(1)
        wait_until(lambda: feed.problem() == "")
        assert server.topics == [{"AM.AAPL", "AM.AMD"}]
        first = feed.minute(MINUTES[0], MINUTES[1])
        assert gaps == [(MINUTES[0], MINUTES[0])]
        assert first.bars["ticker"].to_list() == ["AAPL", "AMD"]
        server.send(*messages(MINUTES[1], "AAPL", "AMD"))
        wait_until(lambda: len(feed._rows) == 2)
        second = feed.minute(MINUTES[1], MINUTES[2])
        assert second.bars.equals(
            bars_of(DAY).filter((pl.col("ts") == MINUTES[1]) & (pl.col("ticker") != "TSLA")).sort("ticker")
        )
        assert len(gaps) == 1
        feed.close()


def test_a_lost_connection_is_mended_and_what_was_missed_comes_late(caplog: pytest.LogCaptureFixture) -> None:
    gaps: Gaps = []
    moment = Moment(MINUTES[0])
    with PolygonSocket() as server:
        feed = socket_feed(server.url, moment, gaps=gaps)
        feed.begin(HOURS, MINUTES[0])
        server.wait_for(1)
        wait_until(lambda: feed.problem() == "")
        feed.minute(MINUTES[0], MINUTES[1])
        moment.at = MINUTES[1]
        with server.away():
            wait_until(lambda: "websocket is down" in feed.problem())
            assert feed.minute(MINUTES[1], MINUTES[2]).bars.is_empty()
            moment.at = MINUTES[2]
        server.wait_for(2)
        wait_until(lambda: feed.problem() == "")
        found = feed.minute(MINUTES[2], MINUTES[3])
        assert gaps[1:] == [(MINUTES[0], MINUTES[2])], "of the minute before the break the bar may not have come"
        assert found.bars["ts"].unique().to_list() == [MINUTES[2]]
        assert found.corrected is not None
        assert found.corrected["ts"].unique().to_list() == [MINUTES[1]]
        feed.close()
    assert "the websocket was lost" in caplog.text


def test_a_connection_that_is_up_and_brings_nothing_is_made_anew_and_its_silence_asked_for() -> None:
    gaps: Gaps = []
    with PolygonSocket() as server:
        feed = socket_feed(server.url, Moment(MINUTES[3]), gaps=gaps)
        feed.begin(HOURS, MINUTES[0])
        server.wait_for(1)
        wait_until(lambda: feed.problem() == "")
        assert feed.minute(MINUTES[0], MINUTES[1]).bars.height == 2
        assert feed.minute(MINUTES[1], MINUTES[2]).bars.is_empty()
        found = feed.minute(MINUTES[2], MINUTES[3])
        assert gaps[1:] == [(MINUTES[1], MINUTES[2])]
        assert found.bars["ts"].unique().to_list() == [MINUTES[2]]
        assert found.corrected is not None
        assert found.corrected["ts"].unique().to_list() == [MINUTES[1]]
        server.wait_for(2)
        wait_until(lambda: feed.problem() == "")
        server.send(*messages(MINUTES[3], "AAPL", "AMD"))
        wait_until(lambda: len(feed._rows) == 2)
        assert feed.minute(MINUTES[3], MINUTES[4]).bars.height == 2
        feed.close()


def test_a_gap_that_is_still_open_is_not_forgotten_with_the_next_break(tmp_path: Path) -> None:
    asked_for: list[datetime] = []

    def backfill(tickers: tuple[str, ...], first: datetime, last: datetime) -> list[RawBar]:
        asked_for.append(first)
        raise SourceError("busy")

    with PolygonSocket() as server:
        feed = PolygonWebsocketFeed(
            from_store, server.url, Key("POLYGON_API_KEY", "k"), backfill, clock=Moment(MINUTES[5])
        )
        feed.begin(HOURS, MINUTES[0])
        server.wait_for(1)
        wait_until(lambda: feed.problem() == "")
        feed.minute(MINUTES[0], MINUTES[1])
        with server.away():
            wait_until(lambda: feed.problem() != "")
        server.wait_for(2)
        wait_until(lambda: feed.problem() == "")
        feed.minute(MINUTES[5], MINUTES[6])
        assert asked_for == [MINUTES[0], MINUTES[0]]
        feed.close()


@pytest.mark.hazard(59)
def test_a_refused_key_is_told_without_the_key(caplog: pytest.LogCaptureFixture) -> None:
    with PolygonSocket(key="another") as server:
        feed = socket_feed(server.url, Moment(MINUTES[0]), key="canary-secret-0123")
        feed.begin(HOURS, MINUTES[0])
        wait_until(lambda: "was refused" in feed.problem())
        assert "POLYGON_API_KEY" in feed.problem()
        feed.close()
    assert "canary-secret" not in caplog.text + feed.problem()


def test_what_is_no_message_is_passed_over() -> None:
    with PolygonSocket() as server:
        feed = socket_feed(server.url, Moment(MINUTES[1]))
        feed.begin(HOURS, MINUTES[0])
        server.wait_for(1)
        # as in https://massive.com/docs/websocket/stocks/luld.md
        luld = {"ev": "LULD", "T": "AAPL", "h": 218.1, "l": 208.6, "i": [17], "z": 3, "t": 1601318039223013600, "q": 1}
        server.send({"ev": "status", "status": "success", "message": "subscribed to: LULD.AAPL"}, luld)
        for text in ("not json", "{}", '["x", 3]', '[{"ev": "AM"}]', '[{"ev": "AM", "sym": "AAPL", "s": "soon"}]'):
            server.send(text)
        server.send(*messages(MINUTES[0], "AAPL"))
        wait_until(lambda: len(feed._rows) >= 3)
        found = feed.minute(MINUTES[0], MINUTES[1])
        assert found.bars["ticker"].to_list() == ["AAPL", "AMD"]
        assert feed.problem() == ""
        feed.close()


@pytest.mark.parametrize(
    ("status", "text"),
    [
        ("error", "not authorized to subscribe to AM.AAPL"),
        ("max_connections", "Maximum number of connections exceeded"),
    ],
)
def test_what_the_service_complains_of_is_told_and_forgotten_with_the_next_connection(status: str, text: str) -> None:
    with PolygonSocket() as server:
        feed = socket_feed(server.url, Moment(MINUTES[1]))
        feed.begin(HOURS, MINUTES[0])
        server.wait_for(1)
        wait_until(lambda: feed.problem() == "")
        server.send({"ev": "status", "status": status, "message": text})
        wait_until(lambda: feed.problem() == f"the service says: {status}: {text}")
        with server.away():
            wait_until(lambda: "websocket is down" in feed.problem())
            assert text in feed.problem()
        server.wait_for(2)
        wait_until(lambda: feed.problem() == "")
        feed.close()


def test_the_drops_of_a_long_life_do_not_add_up_to_a_long_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "_WAITS_S", (0.02, FOR_EVER))
    with PolygonSocket() as server:
        moment = Moment(MINUTES[1])
        feed = socket_feed(server.url, moment)
        feed.begin(HOURS, MINUTES[0])
        for life in range(1, 6):
            server.wait_for(life)
            wait_until(lambda: feed.problem() == "")
            moment.at += timedelta(minutes=2)
            with server.away():
                wait_until(lambda: feed.problem() != "")
        feed.close()


@pytest.mark.hazard(30)
def test_bars_that_come_a_quarter_of_an_hour_late_are_those_of_a_delayed_plan() -> None:
    moment = Moment(MINUTES[0] + timedelta(minutes=16))
    with PolygonSocket() as server:
        feed = socket_feed(server.url, moment)
        feed.begin(HOURS, MINUTES[0])
        server.wait_for(1)
        server.send(*messages(MINUTES[0], "AAPL"))
        wait_until(lambda: "delayed" in feed.problem())
        assert feed.minute(MINUTES[0], MINUTES[1]).codes == {"AAPL": Code.HOLD_DELAYED}
        feed.close()


def test_a_gap_that_rest_cannot_fill_is_asked_for_again(tmp_path: Path) -> None:
    asked_for: list[datetime] = []

    def backfill(tickers: tuple[str, ...], first: datetime, last: datetime) -> list[RawBar]:
        asked_for.append(first)
        if len(asked_for) == 1:
            raise SourceError("busy")
        return [("AAPL", MINUTES[1], 1.0, 1.0, 1.0, 1.0, 1.0)]

    with PolygonSocket() as server:
        feed = PolygonWebsocketFeed(from_store, server.url, Key("POLYGON_API_KEY", "k"), backfill)
        feed.begin(HOURS, MINUTES[0])
        server.wait_for(1)
        wait_until(lambda: feed.problem() == "")
        feed.minute(MINUTES[0], MINUTES[1])
        feed.minute(MINUTES[1], MINUTES[2])
        server.send(*messages(MINUTES[2], "AAPL"))
        wait_until(lambda: len(feed._rows) == 1)
        feed.minute(MINUTES[2], MINUTES[3])
        assert asked_for == [MINUTES[0], MINUTES[0]]
        feed.close()


@pytest.mark.parametrize("late", [1, 9], ids=["a minute late", "no trade"])
def test_a_minute_that_rest_does_not_know_yet_is_asked_for_once_more(late: int) -> None:
    """Else a connection that is mended within a minute leaves a hole in it for the whole session."""
    asked_for: list[tuple[datetime, datetime]] = []

    def backfill(tickers: tuple[str, ...], first: datetime, last: datetime) -> list[RawBar]:
        asked_for.append((first, last))
        known = bars_of(DAY).filter(pl.col("ts").is_between(first, last - late * MINUTE))
        return known.filter(pl.col("ticker") != "TSLA").select(*BAR_NAMES).rows()

    with PolygonSocket() as server:
        feed = PolygonWebsocketFeed(from_store, server.url, Key("POLYGON_API_KEY", "k"), backfill)
        feed.begin(HOURS, MINUTES[0])
        server.wait_for(1)
        wait_until(lambda: feed.problem() == "")
        assert feed.minute(MINUTES[0], MINUTES[1]).bars.is_empty()
        server.send(*messages(MINUTES[1], "AAPL", "AMD"))
        wait_until(lambda: len(feed._rows) == 2)
        found = feed.minute(MINUTES[1], MINUTES[2])
        assert found.bars.height == 2
        assert found.corrected is not None
        assert found.corrected["ts"].unique().to_list() == ([MINUTES[0]] if late == 1 else [])
        server.send(*messages(MINUTES[2], "AAPL", "AMD"))
        wait_until(lambda: len(feed._rows) == 2)
        feed.minute(MINUTES[2], MINUTES[3])
        assert asked_for == [(MINUTES[0], MINUTES[0]), (MINUTES[0], MINUTES[1])], "and not for ever"
        feed.close()


def test_a_gap_that_takes_long_to_fill_keeps_nobody_from_the_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "_PATIENCE_S", 0.05)
    answered, asked_for = threading.Event(), list[datetime]()

    def backfill(tickers: tuple[str, ...], first: datetime, last: datetime) -> list[RawBar]:
        asked_for.append(first)
        answered.wait(PATIENCE_S)
        rows = bars_of(DAY).filter(pl.col("ts").is_between(first, last) & pl.col("ticker").is_in(tickers))
        return rows.select(*BAR_NAMES).rows()

    with PolygonSocket() as server:
        feed = PolygonWebsocketFeed(
            from_store, server.url, Key("POLYGON_API_KEY", "k"), backfill, clock=Moment(MINUTES[2])
        )
        feed.begin(HOURS, MINUTES[0])
        server.wait_for(1)
        wait_until(lambda: feed.problem() == "")
        assert feed.minute(MINUTES[0], MINUTES[1]).bars.is_empty()
        server.send(*messages(MINUTES[1], "AAPL", "AMD"))
        wait_until(lambda: len(feed._rows) == 2)
        assert feed.minute(MINUTES[1], MINUTES[2]).bars.height == 2
        answered.set()
        wait_until(lambda: feed._filling is not None and feed._filling[1].done())
        server.send(*messages(MINUTES[2], "AAPL", "AMD"))
        wait_until(lambda: len(feed._rows) == 2)
        found = feed.minute(MINUTES[2], MINUTES[3])
        assert found.corrected is not None
        assert found.corrected["ts"].unique().to_list() == [MINUTES[0]]
        assert asked_for == [MINUTES[0]]
        feed.close()


def test_a_range_of_minutes_is_one_call(tmp_path: Path) -> None:
    with served() as server:
        rest = Rest(
            server.url, Key("POLYGON_API_KEY", "k"), timeout_s=PATIENCE_S, limiter=RateLimiter(tmp_path / "n", 100)
        )
        rows, delayed = fetch_minutes(rest, "AAPL", MINUTES[0], MINUTES[3])
        assert [row[1] for row in rows] == MINUTES[:4]
        assert delayed is False
        assert len(server.hits) == 1


class Waited(threading.Event):
    """An event that keeps how long it was waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.seconds.append(timeout)
        return super().wait(timeout)


def _wait_for_lives(feed: Any, short: int) -> None:
    wait_until(lambda: feed._short_lives == short)


@pytest.mark.hazard(70)
def test_two_programs_on_one_key_back_off_are_told_and_go_over_to_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service throws the elder connection out; it logs in again, and so does the other."""
    monkeypatch.setattr(websocket, "_WAITS_S", (0.02, 0.04, 0.08, FOR_EVER))
    gaps: Gaps = []
    with PolygonSocket() as server:
        feed = socket_feed(server.url, Moment(MINUTES[1]), gaps=gaps)
        feed._stopping = waited = Waited()
        feed.begin(HOURS, MINUTES[0])
        for life in range(1, 5):
            server.wait_for(life)
            wait_until(lambda: feed.problem() == "")
            server.throw_out()
            _wait_for_lives(feed, life)
        assert "another program uses the same key" in feed.problem()
        assert "over REST" in feed.problem()
        first = feed.minute(MINUTES[1], MINUTES[2])
        assert first.bars["ticker"].to_list() == ["AAPL", "AMD"]
        second = feed.minute(MINUTES[2], MINUTES[3])
        assert second.bars["ts"].unique().to_list() == [MINUTES[2]]
        wait_until(lambda: len(waited.seconds) == 4)
        assert waited.seconds == [0.02, 0.04, 0.08, FOR_EVER], "a log-in alone does not reset the wait"
        feed.close()


@pytest.mark.hazard(63)
def test_an_old_bar_that_is_sent_again_delays_nothing_and_comes_as_corrected() -> None:
    moment = Moment(MINUTES[10] + MINUTE)
    with PolygonSocket() as server:
        feed = socket_feed(server.url, moment)
        feed.begin(HOURS, MINUTES[0])
        server.wait_for(1)
        wait_until(lambda: feed.problem() == "")
        feed.minute(MINUTES[9], MINUTES[10])
        (old,) = messages(MINUTES[1], "AAPL")
        server.send(*messages(MINUTES[10], "AAPL", "AMD"), old | {"v": old["v"] + 5})
        wait_until(lambda: len(feed._rows) == 3)
        found = feed.minute(MINUTES[10], MINUTES[10] + MINUTE)
        assert feed.problem() == ""
        assert found.codes == {}
        assert found.bars["ticker"].to_list() == ["AAPL", "AMD"]
        assert found.corrected is not None
        assert found.corrected.select("ticker", "ts").rows() == [("AAPL", MINUTES[1])]
        feed.close()


@pytest.mark.hazard(69)
def test_the_feed_says_by_how_much_the_clock_is_ahead_of_the_services() -> None:
    with PolygonSocket() as server:
        now = datetime.now(UTC)  # noqa: TID251 - the service's clock is this machine's
        moment, steady = Moment(now + timedelta(hours=1)), [0.0]
        theirs = VendorTime(moment, lambda: steady[0])
        asked: list[float] = []

        def ask_time() -> None:
            asked.append(steady[0])
            theirs.note(f"{moment.at:%a, %d %b %Y %H:%M:%S} GMT")

        feed = socket_feed(server.url, moment, vendor_time=theirs, ask_time=ask_time)
        feed.begin(HOURS, MINUTES[0])
        server.wait_for(1)
        wait_until(lambda: feed.problem() == "")
        assert abs(feed.clock_ahead_s() - 3600) < 60
        assert asked == []
        steady[0] += 3600.0
        assert feed.clock_ahead_s() is None, "what the connection said an hour ago is not carried on"
        wait_until(lambda: feed.clock_ahead_s() is not None)
        assert asked == [3600.0]
        assert 0.0 <= feed.clock_ahead_s() < 1.0, "the newest answer counts"
        feed.close()


# ---- alpaca ----------------------------------------------------------------------------------------------------------


def alpaca_messages(minute: datetime, *tickers: str, kind: str = "b") -> list[dict[str, Any]]:
    rows = bars_of(DAY).filter((pl.col("ts") == minute) & pl.col("ticker").is_in(tickers))
    return [
        {
            "T": kind,
            "S": ticker,
            "o": o,
            "h": h,
            "l": low,
            "c": c,
            "v": v,
            "t": f"{ts:%Y-%m-%dT%H:%M:%SZ}",
            "n": 5,
            "vw": c,
        }
        for ticker, ts, o, h, low, c, v in rows.select(
            "ticker", "ts", "open", "high", "low", "close", "volume"
        ).iter_rows()
    ]


def alpaca_feed(url: str, moment: Moment, *, key: str = "id", secret: str = "secret") -> AlpacaFeed:  # noqa: S107
    def backfill(tickers: tuple[str, ...], first: datetime, last: datetime) -> list[RawBar]:
        rows = bars_of(DAY).filter(pl.col("ts").is_between(first, last) & pl.col("ticker").is_in(tickers))
        return rows.select(*BAR_NAMES).rows()

    return AlpacaFeed(from_store, url, Keys(key, secret), backfill, clock=moment)


def test_alpacas_minutes_arrive_over_the_socket_and_updated_bars_as_corrected() -> None:
    with AlpacaSocket() as server:
        feed = alpaca_feed(server.url, Moment(MINUTES[2]))
        feed.begin(HOURS, MINUTES[0])
        server.wait_for(1)
        wait_until(lambda: feed.problem() == "")
        server.wait_for(2)
        both = ["AAPL", "AMD"]
        assert server.subscribed == [{"bars": both, "updatedBars": both}, {"statuses": both}]
        assert feed.minute(MINUTES[0], MINUTES[1]).bars["ticker"].to_list() == ["AAPL", "AMD"]
        server.send(*alpaca_messages(MINUTES[1], "AAPL", "AMD"))
        wait_until(lambda: len(feed._rows) == 2)
        found = feed.minute(MINUTES[1], MINUTES[2])
        assert found.bars.equals(
            bars_of(DAY).filter((pl.col("ts") == MINUTES[1]) & (pl.col("ticker") != "TSLA")).sort("ticker")
        )
        (late,) = alpaca_messages(MINUTES[1], "AMD", kind="u")
        server.send(late | {"v": late["v"] + 1})
        wait_until(lambda: len(feed._rows) == 1)
        found = feed.minute(MINUTES[2], MINUTES[3])
        assert found.corrected is not None
        assert found.corrected.select("ticker", "ts").rows() == [("AMD", MINUTES[1])]
        feed.close()


def test_thousands_of_tickers_are_subscribed_in_messages_that_alpaca_takes() -> None:
    """Of a list of more than 3,227 in one message it sends the bars of some, and says nothing of it."""
    names, empty = tuple(f"T{number:04d}" for number in range(1200)), BAR_SCHEMA.to_frame()
    morning = Morning(earlier=empty, so_far=empty, tickers=names)
    with AlpacaSocket() as server:
        feed = AlpacaFeed(lambda *_: morning, server.url, Keys("id", "secret"), lambda *_: [], clock=Moment(MINUTES[1]))
        feed.begin(HOURS, MINUTES[0])
        server.wait_for(6)
        bars = [words["bars"] for words in server.subscribed if "bars" in words]
        assert [len(part) for part in bars] == [500, 500, 200]
        assert [name for part in bars for name in part] == list(names)
        assert [words["updatedBars"] for words in server.subscribed[:3]] == bars
        assert [words["statuses"] for words in server.subscribed[3:]] == bars, "once all bars are subscribed"
        wait_until(lambda: feed.problem() == "")
        feed.close()


# the examples and codes of https://docs.alpaca.markets/docs/real-time-stock-pricing-data
def status(ticker: str, code: str, at: datetime, reason: str = "") -> dict[str, Any]:
    return {
        "T": "s",
        "S": ticker,
        "sc": code,
        "sm": "Trading Halt",
        "rc": reason,
        "rm": "",
        "t": at.isoformat(),
        "z": "C",
    }


LULD = {"T": "l", "S": "AAPL", "u": 3.24, "d": 2.65, "i": "B", "t": "2023-04-06T13:34:45.565004401Z", "z": "C"}


def test_a_halt_that_alpaca_tells_is_named_until_the_ticker_trades_again() -> None:
    with AlpacaSocket() as server:
        feed = alpaca_feed(server.url, Moment(MINUTES[2]))
        feed.begin(HOURS, MINUTES[0])
        server.wait_for(2)
        wait_until(lambda: feed.problem() == "")
        halted = MINUTES[1] + timedelta(seconds=20)
        server.send(LULD, status("AMD", "H", halted, "T12"), status("AAPL", "P", halted, "LUDP"))
        wait_until(lambda: "AAPL" in feed.problem())
        at = f"{halted:%H:%M} UTC: Trading Halt"
        assert feed.problem() == f"AMD is halted since {at}, T12; AAPL is halted since {at}, LUDP"
        server.send(LULD, status("AMD", "Q", halted), status("AAPL", "T", halted))
        wait_until(lambda: "AAPL" not in feed.problem())
        assert feed.problem() == f"AMD is halted since {at}, T12", "to quote is not to trade"
        server.send(*alpaca_messages(MINUTES[1], "AMD"))
        wait_until(lambda: len(feed._rows) == 1)
        assert "AMD" in feed.problem(), "of the minute in which it was halted"
        server.send(*alpaca_messages(MINUTES[2], "AMD"))
        wait_until(lambda: feed.problem() == "")
        feed.close()


def test_a_plan_of_alpacas_without_statuses_costs_no_bar() -> None:
    with AlpacaSocket() as server:
        server.lacks = {"statuses"}
        feed = alpaca_feed(server.url, Moment(MINUTES[2]))
        feed.begin(HOURS, MINUTES[0])
        server.wait_for(2)
        server.send(*alpaca_messages(MINUTES[1], "AAPL", "AMD"))
        wait_until(lambda: len(feed._rows) == 2)
        assert feed.problem() == ""
        assert len(server.subscribed) == 2, "the connection holds"
        feed.close()


@pytest.mark.hazard(59)
def test_alpacas_refusal_is_told_without_the_key(caplog: pytest.LogCaptureFixture) -> None:
    with AlpacaSocket() as server:
        feed = alpaca_feed(server.url, Moment(MINUTES[0]), key="canary-ident-0123", secret="canary-secret-0123")  # noqa: S106
        feed.begin(HOURS, MINUTES[0])
        wait_until(lambda: "402: auth failed" in feed.problem())
        assert "APCA_API_KEY_ID" in feed.problem()
        feed.close()
    assert "canary" not in caplog.text + feed.problem()


@pytest.mark.hazard(70)
def test_alpacas_second_connection_is_refused_and_told() -> None:
    with AlpacaSocket() as server:
        feeds = [alpaca_feed(server.url, Moment(MINUTES[0])) for _ in range(2)]
        feeds[0].begin(HOURS, MINUTES[0])
        server.wait_for(1)
        feeds[1].begin(HOURS, MINUTES[0])
        wait_until(lambda: "406: connection limit exceeded" in feeds[1].problem())
        assert feeds[0].problem() == ""
        for feed in feeds:
            feed.close()


# ---- the contract ----------------------------------------------------------------------------------------------------


def sent(minute: datetime) -> datetime:
    return minute + MINUTE + timedelta(seconds=3)


def test_the_feeds_keep_their_promises(connect: Connect) -> None:
    stored = StoredFeed(bars_of(DAY).filter(pl.col("ticker") != "TSLA"), ("AAPL", "AMD"))
    assert check_feed(stored, HOURS, MINUTES[:4], sent) == ()
    with served() as server:
        assert check_feed(connect(server.url), HOURS, MINUTES[:4], sent) == ()
    moment = Moment(MINUTES[0])
    with PolygonSocket() as server_, AlpacaSocket() as alpaca:
        for feed, service, talk in (
            (socket_feed(server_.url, moment), server_, messages),
            (alpaca_feed(alpaca.url, moment), alpaca, alpaca_messages),
        ):

            def at(minute: datetime, feed: Any = feed, service: Any = service, talk: Any = talk) -> datetime:
                service.wait_for(1)
                wait_until(lambda: feed.problem() == "")
                moment.at = sent(minute)
                service.send(*talk(minute, "AAPL", "AMD"))
                wait_until(lambda: len(feed._rows) >= 2)
                return moment.at

            assert check_feed(feed, HOURS, MINUTES[:4], at) == ()


class Hasty(StoredFeed):
    """A feed that hands a minute over before it has ended, and again."""

    def minute(self, minute: datetime, now: datetime) -> Delivery:
        bars = bars_of(DAY).filter((pl.col("ts") == minute) & (pl.col("ticker") == "AAPL"))
        return Delivery(minute=minute, bars=bars)


def test_a_feed_that_breaks_its_promises_is_told_which() -> None:
    broken = check_feed(Hasty(bars_of(DAY), ("AAPL",)), HOURS, MINUTES[:2], lambda minute: minute)
    assert "minute() gives no minute that has not ended, and none before the session" in broken
    assert "minute() hands a bar of its minute over once" in broken


def test_feeds_are_found_by_name_and_an_unknown_one_is_named_with_the_choice() -> None:
    for name in ("polygon-rest", "polygon-websocket", "alpaca"):
        assert callable(find_feed(name))
    with pytest.raises(ConfigError, match=r"No feed 'x' is installed\. Set \[trade\] feed to one of: alpaca,"):
        find_feed("x")
