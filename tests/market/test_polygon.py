"""The source `polygon` against a stand-in server: the whole range or a plain error, at its pace, the key unseen."""

import contextlib
import gc
import gzip
import itertools
import json
import logging
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from hftcl.errors import ConfigError, SourceError
from hftcl.market.bars import RAW_SCHEMA
from hftcl.market.sessions import Calendar
from hftcl.market.sources import Split, transport
from hftcl.market.sources.polygon import PolygonSource
from hftcl.market.sources.polygon_bars import Bars, build_frame, decode_page
from hftcl.market.sources.rate_limit import RateLimiter, compute_wait_s
from hftcl.market.sources.transport import retry_after_s
from hftcl.market.store import BarStore
from hftcl.settings import Paths, Polygon, Settings
from tests import shared_data
from tests.installed import HFTCL, PATIENCE_S, give_calendar
from tests.polygon_server import (
    Fault,
    PolygonServer,
    Reply,
    changed,
    cut,
    says,
    slow,
    synthetic_bars,
    too_many,
    weekdays,
)
from tests.processes import wait_until

DAY = date(2026, 1, 5)
BARS = synthetic_bars("AAPL", [DAY])
KEY = "canary+K3y/9f8e7d=6c5b4a"
EMPTY = {"ticker": "AAPL", "queryCount": 0, "resultsCount": 0, "adjusted": False, "status": "OK", "count": 0}


@dataclass
class Clock:
    """A clock that only moves when someone sleeps."""

    now: float = 1_767_600_000.0
    naps: list[float] = field(default_factory=list)
    put: float = 0.0
    """By how many seconds it was put."""

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.naps.append(seconds)


def serving(bars: dict[str, list[dict[str, Any]]] | None = None, **options: Any) -> PolygonServer:
    return PolygonServer({"AAPL": BARS} if bars is None else bars, **{"key": KEY, **options})


def settings_of(url: str, home: Path, *, calls_per_minute: int = 100_000, timeout_s: float = PATIENCE_S) -> Settings:
    polygon = Polygon(base_url=url, calls_per_minute=calls_per_minute, timeout_s=timeout_s)
    return Settings(paths=Paths(home=str(home), env_file=str(home / ".env")), polygon=polygon)


@pytest.fixture
def connect(tmp_path: Path) -> Callable[..., PolygonSource]:
    def connect(url: str, clock: Clock | None = None, **polygon: Any) -> PolygonSource:
        clock = clock or Clock()
        settings = settings_of(url, tmp_path, **polygon)
        return PolygonSource(settings, key=KEY, clock=clock, sleep=clock.sleep, steady=lambda: clock.now - clock.put)

    return connect


Connect = Callable[..., PolygonSource]


def expected(ticker: str, rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Return the same bars by another road: the JSON text of the page, read by polars."""
    table = pl.read_json(json.dumps(rows).encode(), infer_schema_length=None)
    return table.select(
        pl.lit(ticker).alias("ticker"),
        pl.from_epoch("t", time_unit="ms").dt.cast_time_unit("us").dt.replace_time_zone("UTC").alias("ts"),
        *(
            pl.col(short).cast(pl.Float64).alias(name)
            for name, short in zip(RAW_SCHEMA.names()[2:], "ohlcv", strict=True)
        ),
    )


# ---- the range is whole --------------------------------------------------------------------------------------------


def test_sixty_days_of_minutes_arrive_unadjusted_in_one_call_without_the_key_in_the_address(connect: Connect) -> None:
    days = weekdays(date(2026, 3, 6), 60)
    rows = synthetic_bars("AAPL", days)
    with serving({"AAPL": rows}) as server:
        bars = connect(server.url).minutes("AAPL", days[0], days[-1])
    assert bars.schema == RAW_SCHEMA
    assert_frame_equal(bars, expected("AAPL", rows))
    assert [hit.query for hit in server.hits] == [{"adjusted": "false", "sort": "asc", "limit": "50000"}]
    assert server.hits[0].headers["authorization"] == f"Bearer {KEY}"


def test_sixty_days_of_two_tickers_end_in_the_store_and_the_second_run_asks_only_for_the_end(
    connect: Connect, tmp_path: Path
) -> None:
    calendar = Calendar("XNYS")
    days = calendar.list_sessions(date(2026, 1, 6), date(2026, 3, 6))["session"].to_list()
    as_of = datetime(2026, 3, 7, 12, 0, tzinfo=UTC)
    rows = {ticker: synthetic_bars(ticker, days) for ticker in ("AAPL", "MSFT")}
    with serving(rows) as server:
        for fetched in (2 * len(days), 4):
            store = BarStore(tmp_path / "bars", connect(server.url), calendar)
            got = store.collect(("AAPL", "MSFT"), days[0], days[-1], as_of=as_of, extended_hours=True, min_coverage=1.0)
            assert (got.fetched_sessions, got.left_out) == (fetched, {})
            assert got.bars.height == sum(map(len, rows.values()))
    assert len([hit for hit in server.hits if "/aggs/" in hit.path]) == 4


def test_a_minute_keeps_the_start_that_the_service_gave_it(connect: Connect) -> None:
    row = {"v": 4428, "o": 195.89, "c": 195.53, "h": 195.9, "l": 195.53, "t": 1690790400000}
    with serving({"AAPL": [row]}) as server:
        bars = connect(server.url).minutes("AAPL", date(2023, 7, 31), date(2023, 7, 31))
    assert bars["ts"].to_list() == [datetime(2023, 7, 31, 8, 0, tzinfo=UTC)]  # 04:00 in New York
    assert bars.row(0)[2:] == (195.89, 195.9, 195.53, 195.53, 4428.0)


def test_a_year_is_asked_for_in_stretches_that_fit_into_a_page_and_touch_without_a_gap(connect: Connect) -> None:
    with serving() as server:
        connect(server.url).minutes("AAPL", date(2025, 1, 1), date(2025, 12, 31))
        connect(server.url).minutes("X:BTCUSD", date(2025, 1, 1), date(2025, 12, 31))
    for ticker, a_day in (("AAPL", 960), ("X%3ABTCUSD", 1440)):
        spans = [
            hit.path.split("/")[-2:]
            for hit in server.hits
            if "/aggs/" in hit.path and (ticker in hit.path or ticker.replace("%3A", ":") in hit.path)
        ]
        stretches = [(date.fromisoformat(begin), date.fromisoformat(end)) for begin, end in spans]
        assert (stretches[0][0], stretches[-1][1]) == (date(2025, 1, 1), date(2025, 12, 31))
        assert all(b[0] - a[1] == timedelta(days=1) for a, b in itertools.pairwise(stretches))
        for begin, end in stretches:
            days = [begin + timedelta(days=n) for n in range((end - begin).days + 1)]
            traded = [day for day in days if a_day == 1440 or day.weekday() < 5]
            assert len(traded) * a_day <= 50_000
            assert len(days) >= 30 or end == date(2025, 12, 31)


@pytest.mark.parametrize("chunked", [True, False])
def test_small_pages_are_followed_to_the_last_bar(connect: Connect, chunked: bool) -> None:
    with serving(page_limit=100, chunked=chunked) as server:
        bars = connect(server.url).minutes("AAPL", DAY, DAY)
    assert_frame_equal(bars, expected("AAPL", BARS))
    assert len(server.hits) == -(-len(BARS) // 100)
    assert all(KEY not in urlencode(hit.query) for hit in server.hits)


def test_an_empty_last_page_ends_the_range(connect: Connect) -> None:
    with serving(page_limit=300) as server:
        server.fault(2, says(200, EMPTY))
        bars = connect(server.url).minutes("AAPL", DAY, DAY)
    assert_frame_equal(bars, expected("AAPL", BARS[:300]))


@pytest.mark.hazard(31)
@pytest.mark.parametrize("body", [EMPTY, {**EMPTY, "results": []}, {**EMPTY, "results": None}, {"status": "OK"}])
def test_a_day_without_bars_is_empty_and_no_error(connect: Connect, body: dict[str, object]) -> None:
    with serving() as server:
        server.fault(1, says(200, body))
        bars = connect(server.url).minutes("AAPL", DAY, DAY)
    assert (bars.height, bars.schema) == (0, RAW_SCHEMA)


@pytest.mark.hazard(30)
def test_delayed_bars_are_accepted_with_a_note(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with serving(delayed=True) as server:
        assert connect(server.url).minutes("AAPL", DAY, DAY).height == len(BARS)
    assert "bars are delayed ticker='AAPL' first=2026-01-05" in caplog.text


@shared_data.needs_polygon_samples
def test_the_recorded_page_and_its_next_url_are_understood(connect: Connect) -> None:
    page = (shared_data.POLYGON / "recorded" / "aggs_minute_AAPL_2023-07-31_page1.json").read_bytes()
    with serving() as server:
        server.fault(1, says(200, page))
        server.fault(2, says(200, EMPTY))
        bars = connect(server.url).minutes("AAPL", date(2023, 7, 31), date(2023, 7, 31))
    assert_frame_equal(bars, expected("AAPL", json.loads(page)["results"]))
    # The page names api.polygon.io; the request went to the host that we trust with the key.
    assert server.hits[1].path.endswith("/1690791480000/2023-07-31")
    assert server.hits[1].query == {"cursor": "bGltaXQ9MTAmc29ydD1hc2M"}


def test_an_endless_answer_is_cut_off_and_refused(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "LARGEST_BODY", 10_000)
    clock = Clock()
    with serving() as server:
        source = connect(server.url, clock)
        with pytest.raises(SourceError, match="page 1 of AAPL 2026-01-05 is not JSON"):
            source.minutes("AAPL", DAY, DAY)
        assert source.splits("AAPL") == ()  # what was left of the answer is not taken for the next one
    assert clock.naps == []


def packing(pack: Callable[[bytes], bytes]) -> Fault:
    return lambda reply: replace(reply, pack=pack)


def test_a_body_of_several_gzip_members_is_read_whole(connect: Connect) -> None:
    with serving() as server:
        server.always = packing(lambda body: gzip.compress(body[:5000]) + gzip.compress(body[5000:]))
        assert_frame_equal(connect(server.url).minutes("AAPL", DAY, DAY), expected("AAPL", BARS), check_exact=True)


BROKEN_GZIP: dict[str, Callable[[bytes], bytes]] = {
    "cut short": lambda body: gzip.compress(body)[:-100],
    "its checksum is another": lambda body: gzip.compress(body)[:-8] + bytes(8),
    "its second member is cut short": lambda body: gzip.compress(body[:5000]) + gzip.compress(body[5000:])[:-9],
    "not packed at all": lambda body: body,
}


@pytest.mark.parametrize("pack", BROKEN_GZIP.values(), ids=BROKEN_GZIP.keys())
def test_a_body_of_broken_gzip_is_asked_for_again_and_then_refused(
    connect: Connect, pack: Callable[[bytes], bytes]
) -> None:
    with serving() as server:
        server.fault(1, packing(pack))
        assert connect(server.url).minutes("AAPL", DAY, DAY).height == len(BARS)
        server.always = packing(pack)
        with pytest.raises(SourceError, match=r"page 1 of AAPL 2026-01-05 could not be had from .*gzip"):
            connect(server.url).minutes("AAPL", DAY, DAY)
    assert len(server.hits) == 4


BAD_SECOND_PAGES: dict[str, Fault] = {
    "html": says(200, b"<html>busy</html>"),
    "nothing": says(200, b""),
    "a list": says(200, b"[]"),
    "deep nesting": says(200, b"[" * 100_000),
    "status ERROR": says(200, {"status": "ERROR", "error": "internal", "request_id": "r"}),
    "no status": changed(status=None),
    "404": says(404, {"status": "NOT_FOUND", "message": "Data not found."}),
    "a redirect": says(302, b"", Location="http://127.0.0.1:9/"),
    "cut off": cut(2000),
    "resultsCount": changed(resultsCount=lambda n: n + 1),
    "count": changed(count=lambda n: n - 1),
    "results missing": changed(results=None),
    "results are numbers": changed(results=lambda rows: [1] * len(rows)),
    "no time": changed(results=lambda rows: [{**row, "t": None} for row in rows]),
    "text for time": changed(results=lambda rows: [{**row, "t": "1767600000000"} for row in rows]),
    "another ticker": changed(ticker="MSFT"),
    "the same bars": changed(results=lambda _: BARS[:100]),
    "foreign host": changed(next_url="https://evil.example/v2/aggs/ticker/AAPL/range/1/minute/1/2?cursor=x"),
    "foreign port": changed(next_url=lambda url: url.replace("127.0.0.1:", "127.0.0.1:1")),
    "not https": changed(next_url=lambda url: "http://api.polygon.io/" + url.split("/", 3)[3]),
    "no address": changed(next_url="http://[::1"),
    "a number": changed(next_url=17),
    "next of another ticker": changed(next_url=lambda url: url.replace("/AAPL/", "/MSFT/")),
}


@pytest.mark.hazard(27)
@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("fault", BAD_SECOND_PAGES.values(), ids=BAD_SECOND_PAGES.keys())
def test_a_bad_second_page_leaves_the_range_incomplete(connect: Connect, fault: Fault, chunked: bool) -> None:
    with serving(page_limit=100, chunked=chunked) as server:
        server.fault(2, fault)
        server.fault(3, fault)  # where the connection broke off, it is asked for once more
        with pytest.raises(SourceError, match="page 2 of AAPL 2026-01-05") as caught:
            connect(server.url).minutes("AAPL", DAY, DAY)
    assert len(server.hits) <= 3
    assert "\n" not in str(caught.value)


@pytest.mark.hazard(28)
def test_a_next_url_that_repeats_ends_with_an_error(connect: Connect) -> None:
    with serving(page_limit=100) as server:
        first: list[str] = []

        def again(url: str) -> str:
            first.append(url)
            return first[0]

        server.always = changed(next_url=again)
        with pytest.raises(SourceError, match=r"page 2 of AAPL 2026-01-05.*read before"):
            connect(server.url).minutes("AAPL", DAY, DAY)
    assert len(server.hits) == 2


@pytest.mark.hazard(28)
def test_ever_new_cursors_to_the_same_bars_end_with_an_error(connect: Connect) -> None:
    with serving() as server:
        at = f"{server.url}/v2/aggs/ticker/AAPL/range/1/minute/1/2?cursor="
        server.always = changed(next_url=lambda _: at + str(len(server.hits)))
        with pytest.raises(SourceError, match="page 2 of AAPL"):
            connect(server.url).minutes("AAPL", DAY, DAY)


@pytest.mark.hazard(28)
@pytest.mark.parametrize("how", ["next_url", "redirect"])
def test_the_key_never_reaches_a_foreign_host(connect: Connect, how: str) -> None:
    with serving(page_limit=100) as server, serving() as foreign:
        if how == "next_url":
            server.fault(1, changed(next_url=lambda url: url.replace(server.url, foreign.url)))
        else:
            server.fault(1, says(307, b"", Location=f"{foreign.url}/v2/aggs/ticker/AAPL/range/1/minute/{DAY}/{DAY}"))
        with pytest.raises(SourceError, match="page 1 of AAPL"):
            connect(server.url).minutes("AAPL", DAY, DAY)
    assert foreign.hits == []


def test_a_base_url_with_a_path_keeps_it_on_every_page(connect: Connect) -> None:
    with serving(page_limit=300) as server:
        find = server._find
        server._find = lambda hit: find(replace(hit, path=hit.path.removeprefix("/proxy")))  # type: ignore[method-assign]
        bars = connect(f"{server.url}/proxy/").minutes("AAPL", DAY, DAY)
    assert_frame_equal(bars, expected("AAPL", BARS))
    assert all(hit.path.startswith("/proxy/v2/aggs/ticker/AAPL/") for hit in server.hits)


# ---- figures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "volume"),
    [("17", 17.0), ("642646396.0", 642646396.0), ("6.5e2", 650.0), ("3863635.4", 3863635.4), ("null", None),
     ('"17"', None), ("true", None), ("1" + "0" * 400, None)],
)  # fmt: skip
def test_a_volume_is_read_in_every_form_and_what_is_no_number_is_null(
    connect: Connect, text: str, volume: float
) -> None:
    bar = f'{{"o":1,"h":2,"l":1,"c":2,"t":1767600000000,"v":{text}}}'
    with serving() as server:
        server.fault(1, says(200, f'{{"status":"OK","results":[{bar}]}}'.encode()))
        bars = connect(server.url).minutes("AAPL", DAY, DAY)
    assert bars["volume"].to_list() == [volume]


@pytest.mark.hazard(32)
def test_faulty_bars_are_delivered_for_cleaning_not_lost_and_not_fatal(connect: Connect) -> None:
    good = dict(BARS[0])
    missing = {name: value for name, value in good.items() if name != "c"}
    rows = [good, good, missing, {**good, "o": float("nan")}, {**good, "t": good["t"] // 1000}]
    rows += [{**good, "t": good["t"] * 1_000_000}, {**good, "t": float("nan")}, {**good, "t": -5}]
    with serving({"AAPL": []}) as server:
        server.fault(1, says(200, {**EMPTY, "resultsCount": 8, "count": 8, "results": rows}))
        bars = connect(server.url).minutes("AAPL", DAY, DAY)
    assert bars.height == 8
    assert bars["ts"].is_null().to_list() == [False] * 5 + [True] * 3
    assert bars["close"].null_count() == 1


# ---- adjusted or not -----------------------------------------------------------------------------------------------

SPLIT = {"ticker": "AAPL", "execution_date": "2026-02-02", "split_from": 1, "split_to": 4}


def test_a_cursor_that_forgets_the_wish_for_unadjusted_bars_is_reminded(connect: Connect) -> None:
    with serving(splits=[SPLIT], page_limit=300, forgets_adjusted=True) as server:
        bars = connect(server.url).minutes("AAPL", DAY, DAY)
    assert_frame_equal(bars, expected("AAPL", BARS))


def test_adjusted_bars_are_refused_where_a_split_came_since_and_only_there(connect: Connect) -> None:
    with serving(splits=[SPLIT]) as server:
        server.fault(1, changed(adjusted=True))
        with pytest.raises(SourceError, match=r"AAPL 2026-01-05 came adjusted"):
            connect(server.url).minutes("AAPL", DAY, DAY)
        server.fault(3, changed(adjusted=True))
        assert connect(server.url).minutes("AAPL", date(2026, 2, 3), date(2026, 2, 3)).height == 0


# ---- refusals, failures, time --------------------------------------------------------------------------------------

REFUSALS = {
    "401_no_key": "refused the key in POLYGON_API_KEY: API Key was not provided",
    "401_bad_key": "refused the key in POLYGON_API_KEY: Unknown API Key",
    "403_endpoint_not_in_plan": "plan of the key in POLYGON_API_KEY does not cover page 1 of AAPL 2026-01-05",
    "403_timeframe": "Your plan doesn't include this data timeframe",
    "200_not_authorized_in_body": "plan of the key in POLYGON_API_KEY",
}


@pytest.mark.hazard(29)
@shared_data.needs_polygon_samples
@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_is_one_plain_line_and_is_not_asked_again(connect: Connect, name: str) -> None:
    sample = json.loads((shared_data.POLYGON / "errors.json").read_text())[name]
    with serving() as server:
        server.always = says(sample["status"], sample["body"])
        with pytest.raises(SourceError) as caught:
            connect(server.url).minutes("AAPL", DAY, DAY)
    assert REFUSALS[name] in str(caught.value)
    assert len(server.hits) == 1
    assert len(str(caught.value)) < 350


@pytest.mark.hazard(29)
def test_a_refusal_that_is_a_web_page_is_one_too(connect: Connect) -> None:
    with serving() as server:
        server.always = says(403, b"<html>Forbidden</html>")
        with pytest.raises(SourceError, match="plan of the key in POLYGON_API_KEY"):
            connect(server.url).minutes("AAPL", DAY, DAY)
    assert len(server.hits) == 1


@pytest.mark.hazard(29)
def test_a_wrong_key_is_refused_by_the_server_and_named_by_its_variable(tmp_path: Path) -> None:
    with serving(key="another") as server, pytest.raises(SourceError, match="POLYGON_API_KEY: Unknown API Key"):
        PolygonSource(settings_of(server.url, tmp_path), key=KEY).minutes("AAPL", DAY, DAY)


@pytest.mark.hazard(26)
@pytest.mark.parametrize(
    ("header", "wait"), [("7", 7.0), ("0", 1.0), ("86400", 120.0), ("soon", 5.0), ("-3", 5.0), ("", 5.0), (None, 5.0)]
)
def test_busy_is_asked_again_after_the_time_it_asks_for_within_reason(
    connect: Connect, caplog: pytest.LogCaptureFixture, header: str | None, wait: float
) -> None:
    clock = Clock()
    with serving() as server:
        server.fault(1, too_many() if header is None else too_many(Retry_After=header))
        assert connect(server.url, clock).minutes("AAPL", DAY, DAY).height == len(BARS)
    assert clock.naps == [wait]
    assert ("Retry-After is capped" in caplog.text) == (header == "86400")


def test_a_date_in_retry_after_is_a_wait_from_now() -> None:
    now = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
    assert retry_after_s("Mon, 05 Jan 2026 12:00:30 GMT", now) == 30
    assert retry_after_s("Mon, 05 Jan 2026 11:00:00 GMT", now) == 0
    assert retry_after_s("Mon, 99 Jan 2026 11:00:00 GMT", now) is None


PAST = "Mon, 05 Jan 2015 12:00:00 GMT"


@pytest.mark.hazard(25)
@pytest.mark.parametrize("header", ["0", PAST], ids=["zero", "a_date_that_is_past"])
def test_a_service_that_says_at_once_and_stays_busy_is_not_hammered(connect: Connect, header: str) -> None:
    clock = Clock()
    with serving() as server:
        server.always = too_many(Retry_After=header)
        with pytest.raises(SourceError, match="answered 429"):
            connect(server.url, clock).minutes("AAPL", DAY, DAY)
    assert clock.naps == [1.0, 10.0, 20.0, 30.0]


def test_without_retry_after_the_reset_of_the_limit_is_waited_for(connect: Connect) -> None:
    clock = Clock()
    with serving() as server:
        server.fault(1, too_many(X_RateLimit_Reset=str(int(clock.now) + 17)))
        assert connect(server.url, clock).minutes("AAPL", DAY, DAY).height == len(BARS)
    assert clock.naps == [17.0]


@pytest.mark.hazard(23)
def test_a_name_server_that_is_silent_is_left_at_the_deadline(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, answered = threading.Event(), list[bool]()

    def silent(*_: object, **__: object) -> list[Any]:
        answers.wait(PATIENCE_S)
        answered.append(True)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    with pytest.raises(SourceError, match=r"did not send page 1 of AAPL 2026-01-05 within 0.5 s"):
        connect("http://polygon.invalid", timeout_s=0.5).minutes("AAPL", DAY, DAY)
    assert answered == [], "it was not waited for"
    answers.set()


@contextlib.contextmanager
def trickling_handshakes() -> Iterator[str]:
    """Yield the address of a server that sends a byte of its hello every tenth of a second."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        over = threading.Event()

        def trickle(peer: socket.socket) -> None:
            with peer, contextlib.suppress(OSError):
                peer.recv(65536)
                peer.sendall(bytes.fromhex("1603030100"))  # a TLS record of 256 bytes begins
                while not over.wait(0.1):
                    peer.sendall(b"\x02")

        def accept() -> None:
            with contextlib.suppress(OSError):  # closed at the end
                while True:
                    threading.Thread(target=trickle, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            over.set()


@pytest.mark.hazard(23)
def test_a_handshake_that_trickles_is_left_at_the_deadline(connect: Connect) -> None:
    told = r"did not send page 1 of AAPL 2026-01-05 within 0\.5 s"  # the hello would be whole, and wrong, in 25 s
    with trickling_handshakes() as url, pytest.raises(SourceError, match=told):
        connect(url, timeout_s=0.5).minutes("AAPL", DAY, DAY)


@pytest.mark.hazard(23)
def test_a_handshake_that_begins_after_the_deadline_leaves_no_socket_open(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy machine takes longer to load its certificates than the time-out is; an open socket ends this test."""
    handshake, late = ssl.SSLContext.wrap_socket, threading.Event()

    def wait_and_shake_hands(*args: Any, **kwargs: Any) -> ssl.SSLSocket:
        late.wait(0.7)
        return handshake(*args, **kwargs)

    monkeypatch.setattr(ssl.SSLContext, "wrap_socket", wait_and_shake_hands)
    with trickling_handshakes() as url, pytest.raises(SourceError, match="page 1 of AAPL 2026-01-05"):
        connect(url, timeout_s=0.5).minutes("AAPL", DAY, DAY)
    gc.collect()


def test_the_service_says_what_time_it_is(connect: Connect) -> None:
    clock = Clock()
    with serving() as server:
        source = connect(server.url, clock)
        assert source.clock_ahead_s() is None
        when = datetime.fromtimestamp(clock.now - 90, UTC)
        server.always = lambda reply: replace(reply, headers={"Date": f"{when:%a, %d %b %Y %H:%M:%S} GMT"})
        source.minutes("AAPL", DAY, DAY)
        assert source.clock_ahead_s() == 90.0
        clock.sleep(14.0)
        assert source.clock_ahead_s() == 90.0
        clock.sleep(1.0)
        assert source.clock_ahead_s() is None, "a slew by NTP would not show"
        source.minutes("AAPL", DAY, DAY)
        clock.now, clock.put = clock.now + 90.0, 90.0
        assert source.clock_ahead_s() is None, "a machine that was paused would seem to be ahead"
        source.minutes("AAPL", DAY, DAY)
        assert source.clock_ahead_s() == clock.now - when.timestamp()


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_stays_busy_or_broken_is_given_up_after_five_tries(connect: Connect, status: int) -> None:
    clock = Clock()
    with serving() as server:
        server.always = says(status, b"<html>no</html>")
        with pytest.raises(SourceError, match=f"answered {status} to page 1 of AAPL 2026-01-05, 5 times in a row"):
            connect(server.url, clock).minutes("AAPL", DAY, DAY)
    assert len(server.hits) == 5
    assert len(clock.naps) == 4
    assert status != 429 or sum(clock.naps) > 60  # else the minute that the limit counts is never over


@pytest.mark.hazard(23)
@pytest.mark.hazard(24)
@pytest.mark.parametrize(
    "fault", [slow(delay_s=PATIENCE_S), slow(trickle_s=0.1), slow(trickle_s=0.45)], ids=["hangs", "trickles", "drips"]
)
def test_a_server_that_hangs_or_trickles_is_left_at_the_deadline(connect: Connect, fault: Fault) -> None:
    with serving() as server:
        server.always = fault
        with pytest.raises(SourceError, match=r"did not send page 1 of AAPL 2026-01-05 within 0.5 s, 2 times"):
            connect(server.url, timeout_s=0.5).minutes("AAPL", DAY, DAY)


@pytest.mark.hazard(24)
def test_a_body_that_trickles_after_a_quick_head_is_left_at_the_deadline(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        program = (
            "import socket, sys, time\n"
            "listener = socket.socket(fileno=int(sys.argv[1]))\n"
            "while True:\n"
            "    peer, _ = listener.accept()\n"
            "    peer.recv(65536)\n"
            "    try:\n"
            "        peer.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 1000000\\r\\n\\r\\n')\n"
            "        while True:\n"
            "            peer.sendall(b' ')\n"
            "            time.sleep(0.05)\n"
            "    except OSError: pass\n"
        )
        fd = listener.fileno()
        child = subprocess.Popen([sys.executable, "-c", program, str(fd)], pass_fds=[fd])
        try:
            with pytest.raises(SourceError, match=r"did not send page 1 of AAPL 2026-01-05 within 0.5 s"):
                connect(url, timeout_s=0.5).minutes("AAPL", DAY, DAY)
        finally:
            child.kill()
            child.wait()


def test_one_broken_connection_is_no_failure(connect: Connect) -> None:
    clock = Clock()
    with serving() as server:
        server.fault(1, cut(100))
        assert connect(server.url, clock).minutes("AAPL", DAY, DAY).height == len(BARS)
    assert clock.naps == [1.0]


def test_no_server_at_all_is_one_plain_line(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(SourceError, match=rf"could not be had from 127.0.0.1:{port}: Connection refused\. Check"):
        connect(f"http://127.0.0.1:{port}").minutes("AAPL", DAY, DAY)


# ---- the pace ------------------------------------------------------------------------------------------------------


@pytest.mark.hazard(25)
def test_the_sixth_call_of_the_free_plan_waits_for_the_minute_to_pass(connect: Connect) -> None:
    clock = Clock()
    with serving() as server:
        source = connect(server.url, clock, calls_per_minute=5)
        for _ in range(5):
            source.minutes("AAPL", DAY, DAY)
        assert clock.naps == []
        connect(server.url, clock, calls_per_minute=5).minutes("AAPL", DAY, DAY)  # another source, the same home
    assert clock.naps == [61.0]
    assert len(server.hits) == 6


@given(
    gaps=st.lists(st.floats(0, 40), min_size=1, max_size=40),
    most=st.integers(1, 6),
)
@settings(max_examples=100)
def test_no_stretch_of_a_minute_ever_holds_more_calls_than_allowed(gaps: list[float], most: int) -> None:
    now, calls = 1_000_000.0, list[float]()
    for gap in gaps:
        now += gap
        while (wait := compute_wait_s(calls, now, most=most, window_s=60.0)) > 0:
            now += wait
        calls.append(now)
    assert all(after - before >= 60 - 1e-6 for before, after in zip(calls, calls[most:], strict=False))


@given(calls=st.lists(st.floats(0, 2e9), max_size=20), now=st.floats(0, 2e9), most=st.integers(1, 6))
@settings(max_examples=100)
def test_no_clock_step_makes_a_wait_longer_than_the_minute(calls: list[float], now: float, most: int) -> None:
    assert 0 <= compute_wait_s(calls, now, most=most, window_s=60.0) <= 60.0


def test_a_clock_that_is_set_back_costs_one_minute_and_not_the_year(tmp_path: Path) -> None:
    clock = Clock()
    limiter = RateLimiter(tmp_path / "calls", 2, clock=clock, sleep=clock.sleep)
    limiter.acquire()
    limiter.acquire()
    clock.now -= 365 * 86_400
    limiter.acquire()
    assert clock.naps == [61.0]


@pytest.mark.parametrize("left_behind", [b"{", b"\xff\xfe\x00", b'{"a": 1}', b'["x"]', b"17"])
def test_an_unreadable_count_is_a_full_minute_and_heals(tmp_path: Path, left_behind: bytes) -> None:
    (tmp_path / "calls").write_bytes(left_behind)
    clock = Clock()
    limiter = RateLimiter(tmp_path / "calls", 3, clock=clock, sleep=clock.sleep)
    for _ in range(4):
        limiter.acquire()
    assert clock.naps == [61.0, 61.0]


def test_a_longer_list_left_by_a_killed_writer_is_cut_at_its_end(tmp_path: Path) -> None:
    clock = Clock()
    (tmp_path / "calls").write_text(json.dumps([clock.now]) + "\n7600000.0, 1767600000.0]\n")
    limiter = RateLimiter(tmp_path / "calls", 2, clock=clock, sleep=clock.sleep)
    limiter.acquire()
    assert clock.naps == []
    counted = json.loads((tmp_path / "calls").read_text())
    assert [entry[1:] for entry in counted] == [[clock.now, clock.now]] * 2


@pytest.mark.hazard(25)
def test_a_call_counts_from_its_arrival_and_not_from_when_it_was_planned(tmp_path: Path) -> None:
    clock = Clock()
    limiter = RateLimiter(tmp_path / "calls", 1, clock=clock, sleep=clock.sleep)
    slow_one = limiter.acquire(30.0)
    clock.now += 20.0  # a slow name server, a slow handshake
    limiter.note_arrival(slow_one)
    limiter.acquire(30.0)
    assert clock.naps == [61.0]


@pytest.mark.hazard(25)
def test_a_call_whose_process_was_killed_counts_until_its_deadline(tmp_path: Path) -> None:
    clock = Clock()
    limiter = RateLimiter(tmp_path / "calls", 1, clock=clock, sleep=clock.sleep)
    limiter.acquire(30.0)
    began = clock.now
    limiter.acquire(30.0)
    assert clock.now - began == 91.0


LATE = """
import sys
from datetime import date
from pathlib import Path
from hftcl.market.sources import rate_limit
from hftcl.market.sources.polygon_rest import Key, Rest
limiter = rate_limit.RateLimiter(Path(sys.argv[2]), 5, window_s=float(sys.argv[3]))
rest = Rest(sys.argv[1], Key("POLYGON_API_KEY", "k"), timeout_s=60.0, limiter=limiter)
for n in range(int(sys.argv[4])):
    rest.get("/v3/reference/splits", {"ticker": "AAPL"}, "the splits of AAPL")
"""


def most_within(moments: list[float], window_s: float) -> int:
    return max(sum(1 for at in moments if begin <= at < begin + window_s) for begin in moments)


@pytest.mark.hazard(25)
@pytest.mark.parametrize(
    ("minute_s", "calls"), [(2.0, 8), pytest.param(60.0, 8, marks=pytest.mark.slow)], ids=["scaled", "whole"]
)
def test_two_processes_never_bring_a_sixth_call_into_a_minute(tmp_path: Path, minute_s: float, calls: int) -> None:
    """At a service that is slow to answer: counted is when calls arrive there."""
    with serving(key="k") as server:
        late = itertools.cycle([0.0, 0.4, 0.0, 0.2, 0.3])
        server.always = lambda reply: replace(reply, delay_s=next(late))
        command = [sys.executable, "-c", LATE, server.url, str(tmp_path / "calls"), str(minute_s + 0.05), str(calls)]
        children = [subprocess.Popen(command) for _ in range(2)]
        assert [child.wait(timeout=600) for child in children] == [0, 0]
        arrived = [hit.at for hit in server.hits]
    assert len(arrived) == 2 * calls
    assert most_within(arrived, minute_s) <= 5


TOGETHER = """
import os, sys, threading
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from hftcl.market.sources import rate_limit
what, url, home, minute_s = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])
if minute_s < 60:
    rate_limit.RateLimiter.__init__.__kwdefaults__["window_s"] = minute_s + 0.05  # a shorter minute, else as it is
from hftcl.market.sessions import Calendar
from hftcl.market.sources.polygon import PolygonSource
from hftcl.market.store import BarStore
from hftcl.settings import Paths, Polygon, Settings
from hftcl.trading.feeds.polygon import _build_rest
from hftcl.trading.feeds.polygon_rest import fetch_minutes
from tests.calendars import read_shared_calendar
settings = Settings(paths=Paths(home=home), polygon=Polygon(base_url=url, calls_per_minute=5))
read_shared_calendar()
print("ready", flush=True)
sys.stdin.readline()
if what == "bot":
    rest, _ = _build_rest(settings, threading.Event())
    at = datetime(2026, 1, 5, 15, tzinfo=UTC)
    for n in range(8):
        fetch_minutes(rest, "AAPL", at, at + timedelta(minutes=n))
else:
    store = BarStore(Path(home) / "bars", PolygonSource(settings), Calendar("XNYS"))
    for _ in range(2):
        store.collect(("AAPL", "AMD", "TSLA"), date(2026, 1, 5), date(2026, 1, 5),
            as_of=datetime(2026, 1, 6, 12, tzinfo=UTC), extended_hours=False, min_coverage=0.0)
"""


@pytest.mark.hazard(25)
@pytest.mark.parametrize("minute_s", [2.0, pytest.param(60.0, marks=pytest.mark.slow)], ids=["scaled", "whole"])
def test_the_bot_and_the_scheduler_together_never_bring_a_sixth_call_into_a_minute(
    tmp_path: Path, minute_s: float
) -> None:
    """Both as they are made from one hftcl.toml: the feed's questions for minutes, and collections."""
    tickers = ("AAPL", "AMD", "TSLA")
    with serving({ticker: synthetic_bars(ticker, [date(2026, 1, 5)]) for ticker in tickers}, key="k") as server:
        environ = {**os.environ, "POLYGON_API_KEY": "k"}
        children = [
            subprocess.Popen(
                [sys.executable, "-c", TOGETHER, what, server.url, str(tmp_path), str(minute_s)],
                env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
            )
            for what in ("bot", "scheduler")
        ]  # fmt: skip
        for child in children:
            assert child.stdout
            assert child.stdout.readline() == "ready\n"
        for child in children:
            assert child.stdin
            child.stdin.write("go\n")
            child.stdin.flush()
        for child in children:
            child.communicate(timeout=600)
        assert [child.returncode for child in children] == [0, 0]
        arrived = [hit.at for hit in server.hits]
        asked = [hit.path for hit in server.hits]
    assert len([path for path in asked if "/2026-01-05/2026-01-05" in path]) >= 3, "the scheduler collected"
    assert len(arrived) >= 8 + 4
    assert most_within(arrived, minute_s) <= 5


COUNTED = """
import sys, time
from pathlib import Path
from hftcl.market.sources.rate_limit import RateLimiter
looks = []
def clock():
    looks.append(time.time())
    return looks[-1]
limiter = RateLimiter(Path(sys.argv[1]), 1, window_s=0.04, clock=clock)
for _ in range(25):
    limiter.acquire()
    print(looks[-1])  # the look at the clock with which the call was counted
"""


@pytest.mark.hazard(25)
def test_processes_that_share_a_home_share_the_pace(tmp_path: Path) -> None:
    command = [sys.executable, "-c", COUNTED, str(tmp_path / "bars" / "calls")]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    stamps = sorted(float(line) for child in children for line in child.communicate(timeout=PATIENCE_S)[0].split())
    assert len(stamps) == 75
    assert all(after - before > 0.0399 for before, after in itertools.pairwise(stamps))


def test_a_home_that_cannot_be_written_is_one_plain_line(tmp_path: Path, connect: Connect) -> None:
    (tmp_path / "bars").write_text("a file where the folder should be")
    with serving() as server, pytest.raises(SourceError, match=r"cannot be counted in .*Make the folder of \[paths\]"):
        connect(server.url).minutes("AAPL", DAY, DAY)
    assert server.hits == []


# ---- splits --------------------------------------------------------------------------------------------------------


def split(day: str, to: float, before: float = 1, ticker: str = "SHOP") -> dict[str, object]:
    return {"ticker": ticker, "execution_date": day, "split_from": before, "split_to": to}


def test_splits_come_from_all_pages_oldest_first_and_each_once(connect: Connect) -> None:
    rows = [split("2022-06-29", 10), split("2015-01-02", 1, 8), split("2015-01-02", 1, 8), split("2020-08-31", 4)]
    for n, row in enumerate(rows):
        row["id"] = f"E{n}"
    with serving(splits=[*rows, split("2020-08-31", 5, ticker="TSLA")], splits_page_limit=1) as server:
        splits = connect(server.url).splits("SHOP")
    assert splits == (
        Split("SHOP", date(2015, 1, 2), 8, 1),
        Split("SHOP", date(2020, 8, 31), 1, 4),
        Split("SHOP", date(2022, 6, 29), 1, 10),
    )
    assert len(server.hits) == 4


@shared_data.needs_polygon_samples
def test_a_split_listed_under_two_days_counts_once_under_the_later_with_a_warning(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    mocks = shared_data.POLYGON / "client-python" / "test_rest" / "mocks"
    sample = json.loads((mocks / "v3" / "reference" / "splits.json").read_text())
    with serving(splits=sample["results"]) as server:
        assert connect(server.url).splits("SHOP") == (Split("SHOP", date(2022, 6, 29), 1, 10),)
    assert "dropped=2022-06-22 kept=2022-06-29" in caplog.text


def test_two_different_splits_in_a_month_are_both_kept(connect: Connect) -> None:
    with serving(splits=[split("2022-06-22", 10), split("2022-06-29", 2)]) as server:
        assert len(connect(server.url).splits("SHOP")) == 2


def test_the_splits_of_a_watchlist_are_asked_for_once_an_hour(connect: Connect) -> None:
    rows = [split("2026-02-02", 10), split("2026-02-03", 3, ticker="TSLA"), split("2026-02-04", 7, ticker="OTHER")]
    clock = Clock()
    with serving(splits=[split("2020-08-31", 4), *rows]) as server:
        source = connect(server.url, clock)
        source.expect(("SHOP", "TSLA", "AAPL"), date(2026, 1, 5), (), kept=True)
        for _ in range(2):
            assert source.splits("SHOP") == (Split("SHOP", date(2026, 2, 2), 1, 10),)
            assert source.splits("TSLA") == (Split("TSLA", date(2026, 2, 3), 1, 3),)
            assert source.splits("AAPL") == ()
        assert [hit.query["execution_date.gte"] for hit in server.hits] == ["2026-01-05"]
        clock.now += 3601
        source.splits("AAPL")
        assert len(server.hits) == 2


@pytest.mark.parametrize("to", [1e300, 1001, 1e-4])
def test_a_split_of_a_ratio_that_no_company_makes_is_refused(connect: Connect, to: float) -> None:
    with serving(splits=[split("2022-06-22", to)]) as server, pytest.raises(SourceError, match="no company does"):
        connect(server.url).splits("SHOP")


# ---- the fewest calls ----------------------------------------------------------------------------------------------


def test_a_check_and_the_retrain_after_it_ask_once_and_a_second_retrain_again(connect: Connect, tmp_path: Path) -> None:
    calendar = Calendar("XNYS")
    with serving() as server:
        hits = []
        for save in (False, True, True):
            store = BarStore(tmp_path / "bars", connect(server.url), calendar)
            store.collect(
                ("AAPL",), DAY, DAY, as_of=datetime(2026, 1, 6, 12, tzinfo=UTC), extended_hours=True, min_coverage=0.5,
                save=save,
            )  # fmt: skip
            hits.append(len([hit for hit in server.hits if "/aggs/" in hit.path]))
    assert hits == [1, 1, 2]


def test_several_calls_are_under_way_at_once_where_the_plan_allows(connect: Connect, tmp_path: Path) -> None:
    together = threading.Barrier(3)

    def meet(reply: Reply) -> Reply:
        together.wait(timeout=PATIENCE_S)
        return reply

    names = ("AAPL", "MSFT", "TSLA")
    with serving({name: synthetic_bars(name, [DAY]) for name in names}) as server:
        for hit in (1, 2, 3):
            server.fault(hit, meet)
        store = BarStore(tmp_path / "bars", connect(server.url), Calendar("XNYS"))
        got = store.collect(
            names, DAY, DAY, as_of=datetime(2026, 1, 6, 12, tzinfo=UTC), extended_hours=True, min_coverage=0.5
        )
        assert got.bars["ticker"].n_unique() == 3
        assert len([hit for hit in server.hits if "/aggs/" in hit.path]) == 3


def test_a_fault_of_one_of_several_calls_is_the_same_plain_line(connect: Connect, tmp_path: Path) -> None:
    names = ("AAPL", "MSFT", "TSLA")
    with serving({name: synthetic_bars(name, [DAY]) for name in names}) as server:
        server.always = says(200, b"<html>")
        store = BarStore(tmp_path / "bars", connect(server.url), Calendar("XNYS"))
        with pytest.raises(SourceError, match="page 1 of AAPL 2026-01-05 is not JSON"):
            store.collect(
                names, DAY, DAY, as_of=datetime(2026, 1, 6, 12, tzinfo=UTC), extended_hours=True, min_coverage=0.5
            )


# ---- names ---------------------------------------------------------------------------------------------------------


def test_bars_under_an_earlier_name_are_those_of_the_ticker(connect: Connect) -> None:
    """FB became META on 2022-06-09."""
    before, after = weekdays(date(2022, 6, 8), 20), weekdays(date(2022, 6, 17), 9)
    rows = {"FB": synthetic_bars("FB", before), "META": synthetic_bars("META", after)}
    with serving(rows, names={"META": [("FB", "2012-05-18"), ("META", "2022-06-09")]}) as server:
        bars = connect(server.url).minutes("META", before[0], after[-1])
        assert set(bars["ticker"]) == {"META"}
        assert bars.height == len(rows["FB"]) + len(rows["META"])
        assert bars["ts"].is_sorted()
        asked = [hit.path.split("/")[4:] for hit in server.hits if "/aggs/" in hit.path]
    assert asked[1] == ["FB", "range", "1", "minute", str(before[0]), "2022-06-08"]


def test_a_delisted_ticker_is_told(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    with serving({}, delisted={"TWTR": "2022-10-28"}) as server:
        assert connect(server.url).minutes("TWTR", date(2026, 1, 5), date(2026, 1, 16)).is_empty()
    assert "delisted or renamed, correct [market] watchlist ticker='TWTR' delisted=2022-10-28" in caplog.text


def test_a_plan_that_does_not_tell_names_is_no_fault(connect: Connect) -> None:
    with serving({"AAPL": synthetic_bars("AAPL", [date(2026, 1, 16)])}) as server:
        server.fault(2, says(403, {"status": "NOT_AUTHORIZED", "message": "no"}))
        server.fault(3, says(403, {"status": "NOT_AUTHORIZED", "message": "no"}))
        assert connect(server.url).minutes("AAPL", date(2026, 1, 5), date(2026, 1, 16)).height > 0


@pytest.mark.parametrize(
    "wrong", [{"split_to": 0}, {"split_from": None}, {"execution_date": "soon"}, {"split_to": 1e999}]
)
def test_a_split_that_is_none_is_an_error_and_not_a_guess(connect: Connect, wrong: dict[str, object]) -> None:
    row = split("2022-06-22", 10) | wrong
    with serving(splits=[row]) as server, pytest.raises(SourceError, match="page 1 of the splits of SHOP"):
        connect(server.url).splits("SHOP")


def test_a_splits_page_that_is_missing_is_an_error(connect: Connect) -> None:
    with serving(splits=[split("2015-01-02", 2), split("2022-06-22", 10)], splits_page_limit=1) as server:
        server.fault(2, says(200, b"<html>"))
        with pytest.raises(SourceError, match="page 2 of the splits of SHOP"):
            connect(server.url).splits("SHOP")


# ---- the key, hostile names, configuration -------------------------------------------------------------------------


@pytest.mark.hazard(59)
def test_the_key_is_in_nothing_that_is_raised_logged_printed_or_kept(
    tmp_path: Path, connect: Connect, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("urllib3").setLevel(logging.DEBUG)
    seen: list[str] = []
    echo = {
        "status": "ERROR",
        "error": f"Unknown API Key {KEY}",
        "next_url": f"http://{KEY}@evil.example/?apiKey={KEY}",
    }
    hangs = slow(delay_s=PATIENCE_S)
    faults = [
        None, says(401, echo), says(403, echo), says(200, echo), says(404, echo), says(500, echo), hangs,
        changed(next_url=echo["next_url"]), changed(status=KEY), says(200, KEY.encode()), cut(3),
        too_many(Retry_After=KEY), says(400, urlencode({"apiKey": KEY}).encode()),
    ]  # fmt: skip
    for fault in faults:
        with serving(page_limit=300) as server:
            server.always = fault
            source = connect(server.url, timeout_s=0.2 if fault is hangs else PATIENCE_S)
            try:
                source.minutes("AAPL", DAY, DAY)
            except SourceError as error:
                seen += [str(error), repr(error), "".join(traceback.format_exception(error))]
            seen += [repr(source), repr(vars(source)), repr(source._rest), source.fingerprint("AAPL")]
    assert len([text for text in seen if text.startswith("Traceback")]) == len(faults) - 1
    printed = capfd.readouterr()
    seen += [
        caplog.text,
        printed.out,
        printed.err,
        *(path.read_text() for path in tmp_path.rglob("*") if path.is_file()),
    ]
    assert "GET /v2/aggs" in caplog.text  # or else the library's own log was not among what was searched
    for form in (KEY, urlencode({"": KEY})[1:]):
        assert not [text for text in seen if form in text]
    assert printed.out == ""


TALKATIVE = """
import logging, sys
from datetime import date
from hftcl.market.sources.polygon import PolygonSource
from hftcl.settings import Paths, Polygon, Settings
settings = Settings(paths=Paths(home=sys.argv[2]), polygon=Polygon(base_url=sys.argv[1], calls_per_minute=1000))
assert PolygonSource(settings, key=sys.argv[3]).minutes("AAPL", date(2026, 1, 5), date(2026, 1, 5)).height > 0
logging.getLogger("RESTClient").error("the library has something to say")
"""


def test_the_library_says_nothing_on_stdout_where_only_json_may_be(tmp_path: Path) -> None:
    with serving() as server:
        command = [sys.executable, "-c", TALKATIVE, server.url, str(tmp_path), KEY]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == ""


def test_ctrl_c_is_heard_while_a_service_that_hangs_is_asked_for_several_tickers(tmp_path: Path) -> None:
    """They are asked for ahead, by other threads: what waits for those is not cut short by the signal itself."""
    with serving() as server:
        server.always = slow(delay_s=PATIENCE_S)
        plan = f'base_url = "{server.url}"\ncalls_per_minute = 100000\ntimeout_s = {PATIENCE_S}'
        (tmp_path / "hftcl.toml").write_text(
            f'[market]\nsource = "polygon"\nwatchlist = ["AAPL", "AMD", "TSLA"]\n[polygon]\n{plan}\n'
        )
        give_calendar(tmp_path)
        command, environment = [HFTCL, "retrain", "--force"], {**os.environ, "POLYGON_API_KEY": KEY}
        with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as process:
            try:
                wait_until(lambda: len(server.hits) > 1)
                process.send_signal(signal.SIGINT)
                _, told = process.communicate(timeout=PATIENCE_S / 3)
            finally:
                process.kill()
        assert process.returncode == 130
        assert "hftcl: interrupted." in told


@pytest.mark.parametrize(
    "ticker", ["../../x", "..", ".", "", "A\x00B", "A\nB", "A" * 65, "\u0410APL", "A/B?x=1#y", "BRK.A"]
)
@pytest.mark.hazard(60)
def test_a_hostile_ticker_is_refused_or_stays_one_segment_of_the_path(connect: Connect, ticker: str) -> None:
    with serving(splits=[SPLIT]) as server:
        source = connect(server.url)
        with contextlib.suppress(SourceError):  # refused is as right as encoded
            assert source.minutes(ticker, DAY, DAY).height == 0
        with contextlib.suppress(SourceError):
            assert source.splits(ticker) == ()
    for hit in server.hits:
        parts = hit.path.split("/")
        assert hit.path == "/v3/reference/splits" or (parts[:4] == ["", "v2", "aggs", "ticker"] and len(parts) == 10)


def test_a_key_that_is_cut_in_half_by_a_short_message_shows_no_half(connect: Connect) -> None:
    with serving() as server:
        server.always = says(200, b"x" * 50 + KEY.encode())
        with pytest.raises(SourceError) as caught:
            connect(server.url).minutes("AAPL", DAY, DAY)
    assert KEY[:4] not in str(caught.value)


def test_a_key_of_one_letter_blots_out_no_words(tmp_path: Path) -> None:
    with serving(key="j") as server, pytest.raises(SourceError, match="Unknown API Key"):
        PolygonSource(settings_of(server.url, tmp_path), key="k").minutes("AAPL", DAY, DAY)


@pytest.mark.parametrize("key", ["", "two words", "a\nb", "k\u2019", "\x7f"])
def test_a_key_that_no_header_can_carry_is_refused_without_being_shown(tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigError, match="POLYGON_API_KEY is not a key") as caught:
        PolygonSource(settings_of("http://127.0.0.1:1", tmp_path), key=key)
    assert not key or key not in str(caught.value)


@pytest.fixture
def no_key(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.delenv("POLYGON_API_KEY", raising=False)
    monkeypatch.delenv("MASSIVE_API_KEY", raising=False)
    return monkeypatch


@pytest.mark.parametrize("variable", ["POLYGON_API_KEY", "MASSIVE_API_KEY"])
@pytest.mark.parametrize("place", ["environment", ".env"])
def test_the_key_comes_from_either_variable(
    tmp_path: Path, no_key: pytest.MonkeyPatch, variable: str, place: str
) -> None:
    if place == "environment":
        no_key.setenv(variable, KEY)
    else:
        (tmp_path / ".env").write_text(f"{variable}={KEY}\n")
        (tmp_path / ".env").chmod(0o600)
    with serving() as server:
        source = PolygonSource(settings_of(server.url, tmp_path))
        assert source.minutes("AAPL", DAY, DAY).height == len(BARS)
        server.always = says(401, {"status": "ERROR", "error": "Unknown API Key"})
        with pytest.raises(SourceError, match=f"refused the key in {variable}"):
            source.minutes("AAPL", DAY, DAY)


@pytest.mark.usefixtures("no_key")
def test_without_a_key_the_configuration_is_invalid_and_the_line_says_where_it_goes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"set POLYGON_API_KEY in the environment or in the file .*\.env") as caught:
        PolygonSource(settings_of("https://api.polygon.io", tmp_path))
    assert caught.value.exit_code == 78


@pytest.mark.parametrize(
    "url", ["ftp://x", "https://", "https://u:hunter2@x", "https://x?a=1", "https://x:y", "http://[1"]
)
def test_an_address_that_is_none_is_refused_without_its_password(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match=r"\[polygon\] base_url must be") as caught:
        PolygonSource(settings_of(url, tmp_path), key=KEY)
    assert "hunter2" not in str(caught.value)


def test_a_fingerprint_names_the_question_and_not_the_host(connect: Connect) -> None:
    prints = {connect(url).fingerprint("AAPL") for url in ("https://api.polygon.io", "https://api.massive.com")}
    assert prints == {"polygon 1/minute adjusted=false"}


def test_a_live_source_knows_everything_up_to_now(connect: Connect) -> None:
    now = datetime(2026, 1, 5, 15, 30, tzinfo=UTC)
    assert connect("https://api.polygon.io").known_until(("AAPL",), now) == now


def test_the_stand_in_serves_sixty_days_to_another_process(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.polygon_server", "--key", KEY, "--until", "2026-03-06", "AAPL", "MSFT"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2], env=os.environ)
    try:
        assert child.stdout
        source = PolygonSource(settings_of(child.stdout.readline().strip(), tmp_path), key=KEY)
        for ticker in ("AAPL", "MSFT"):
            bars = source.minutes(ticker, date(2026, 1, 6), date(2026, 3, 6))
            assert bars["ts"].dt.date().n_unique() >= 43
    finally:
        child.kill()
        child.communicate()


# ---- from JSON to a frame -------------------------------------------------------------------------------------------

ROW = {"t": 1767690120000, "o": 10.5, "h": 11, "l": 9.25, "c": 10.0, "v": 12514, "vw": 10.1, "n": 3}


@pytest.mark.parametrize(
    ("odd", "column", "value"),
    [
        ({}, "close", 10.0),
        ({"c": None}, "close", None),
        ({"c": "10.0"}, "close", None),
        ({"c": True}, "close", None),
        ({"h": 10**400}, "high", None),
        ({"h": 10**30}, "high", 1e30),
        ({"t": -1}, "ts", None),
        ({"t": 253_402_300_800_000}, "ts", None),
        ({"t": 1767690120000.0}, "ts", datetime(2026, 1, 6, 9, 2, tzinfo=UTC)),
    ],
    ids=["plain", "none", "text", "bool", "huge", "large", "before-1970", "after-9999", "float"],
)
def test_a_page_is_read_the_same_by_the_quick_way_and_bar_by_bar(
    odd: dict[str, Any], column: str, value: object
) -> None:
    body = json.dumps({"status": "OK", "ticker": "AAPL", "results": [{**ROW, **odd}, ROW]}).encode()
    page = decode_page(body)
    assert page is not None
    quick = build_frame("AAPL", page["results"])
    slow = build_frame("AAPL", json.loads(body)["results"])
    assert_frame_equal(quick, slow, check_exact=True)
    assert quick[column][0] == value
    all_numbers = not odd or value == 1e30 or type(odd.get("t")) is int
    assert isinstance(page["results"], Bars) == all_numbers
    assert {name: page[name] for name in ("status", "ticker")} == {"status": "OK", "ticker": "AAPL"}


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b"nan", b"[" * 100_000], ids=["empty", "list", "cut", "nan", "deep"]
)
def test_what_is_no_object_is_no_page(body: bytes) -> None:
    assert decode_page(body) is None
