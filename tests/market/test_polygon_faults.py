"""What goes wrong at a vendor, as scripts: nothing wrong is believed, and once all is well nothing lacks."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from hftcl.errors import NoDataError, SourceError
from hftcl.events import Event, OnEvent, ignore
from hftcl.market.sessions import Calendar
from hftcl.market.sources.polygon import PolygonSource
from hftcl.market.store import BarStore, Collected
from hftcl.settings import Paths, Polygon, Settings
from tests.installed import PATIENCE_S
from tests.polygon_server import Fault, PolygonServer, changed, cut, says, slow, synthetic_bars, too_many

CALENDAR = Calendar("XNYS")
DAYS: list[date] = CALENDAR.list_sessions(date(2026, 1, 5), date(2026, 1, 16))["session"].to_list()
AS_OF = datetime(2026, 1, 17, 12, tzinfo=UTC)
TICKERS = ("AAPL", "MSFT")
BARS = {ticker: synthetic_bars(ticker, DAYS) for ticker in TICKERS}
MINUTE = 60_000


def collect(
    url: str,
    home: Path,
    *,
    tickers: tuple[str, ...] = TICKERS,
    timeout_s: float = PATIENCE_S,
    calls_per_minute: int = 50,
    on_event: OnEvent = ignore,
) -> Collected:
    settings = Settings(
        paths=Paths(home=str(home), env_file=str(home / ".env")),
        polygon=Polygon(base_url=url, calls_per_minute=calls_per_minute, timeout_s=timeout_s),
    )
    naps: list[float] = []
    source = PolygonSource(settings, key="k", clock=lambda: time.time() + 1000 * len(naps), sleep=naps.append)
    return BarStore(home / "bars", source, CALENDAR).collect(
        tickers, DAYS[0], DAYS[-1], as_of=AS_OF, extended_hours=True, min_coverage=0.1, on_event=on_event
    )


def rows(change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Fault:
    """Answer with other rows, counted as if they were the right ones."""

    def make(reply: Any) -> Any:
        page = json.loads(reply.body)
        page["results"] = change(page.get("results") or [])
        page["resultsCount"] = page["count"] = page["queryCount"] = len(page["results"])
        return replace(reply, body=json.dumps(page).encode())

    return make


def each(**fields: Callable[[Any], Any]) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    return lambda bars: [bar | {name: make(bar[name]) for name, make in fields.items()} for bar in bars]


def one(**fields: Any) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    def change(bars: list[dict[str, Any]]) -> list[dict[str, Any]]:
        n = next((n for n, bar in enumerate(bars) if bar["t"] // MINUTE % 1440 == 15 * 60), None)
        if n is None:
            return bars
        values = {name: value(bars[n][name]) if callable(value) else value for name, value in fields.items()}
        return [*bars[:n], bars[n] | values, *bars[n + 1 :]]

    return change


def without(day: int, hours: tuple[int, int] = (0, 24)) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    """Leave out a session, or the UTC hours from the first to before the second of it."""

    def stays(bar: dict[str, Any]) -> bool:
        at = datetime.fromtimestamp(bar["t"] / 1000, UTC)
        return at.date() != DAYS[day] or not hours[0] <= at.hour < hours[1]

    return lambda bars: [bar for bar in bars if stays(bar)]


@pytest.mark.hazard(47)
def test_each_page_and_each_try_of_a_long_collection_is_told_so_that_a_watchdog_hears_of_it(tmp_path: Path) -> None:
    heard: list[Event] = []
    with PolygonServer(BARS, page_limit=1500) as server:
        server.faults[1] = too_many(retry_after="1")
        collect(server.url, tmp_path, on_event=heard.append)
        calls = len(server.hits)
    steps = [event for event in heard if "page" in event.text]
    assert {(event.stage, event.total) for event in heard} == {("collect", len(TICKERS))}
    assert [event.done for event in steps] == sorted(event.done for event in steps)
    assert len(steps) > 8
    assert sum("try 2" in event.text for event in steps) == 1
    assert calls - len(TICKERS) <= len(heard) <= calls + len(TICKERS) + 1, "a word for each call, of bars and of splits"
    assert all(a != b for a, b in itertools.pairwise(heard)), "each is news to the scheduler, which then pings"


def test_what_a_source_is_asked_after_a_collection_is_no_part_of_it(tmp_path: Path) -> None:
    heard: list[Event] = []
    with PolygonServer(BARS) as server:
        settings = Settings(paths=Paths(home=str(tmp_path)), polygon=Polygon(base_url=server.url, calls_per_minute=50))
        source = PolygonSource(settings, key="k")
        BarStore(tmp_path / "bars", source, CALENDAR).collect(
            TICKERS, DAYS[0], DAYS[0], as_of=AS_OF, extended_hours=True, min_coverage=0.1, on_event=heard.append
        )
        told, asked = len(heard), len(server.hits)
        source.minutes("AAPL", DAYS[1], DAYS[1])
    assert len(server.hits) > asked
    assert len(heard) == told, "a bot asks for days after the last collection, and its progress has ended"


NONE = rows(lambda _: [])
SCRIPTS: dict[str, Fault] = {
    "empty": NONE,
    "empty_without_results": says(200, {"status": "OK", "ticker": "AAPL", "resultsCount": 0, "count": 0}),
    "empty_results_null": says(200, {"status": "OK", "results": None}),
    "empty_delayed": says(200, {"status": "DELAYED", "results": []}),
    "first_session_missing": rows(without(0)),
    "middle_session_missing": rows(without(4)),
    "last_session_missing": rows(without(9)),
    "two_sessions_missing": rows(lambda bars: without(3)(without(6)(bars))),
    "page_cut_in_half": rows(lambda bars: bars[: len(bars) // 2]),
    "page_begins_late": rows(lambda bars: bars[len(bars) // 2 :]),
    "only_ten_bars": rows(lambda bars: bars[:10]),
    "only_one_bar": rows(lambda bars: bars[-1:]),
    "session_ends_early": rows(without(4, (18, 24))),
    "session_begins_late": rows(without(4, (0, 16))),
    "hole_of_an_hour": rows(without(4, (16, 17))),
    "last_session_ends_early": rows(without(9, (18, 24))),
    "every_second_bar": rows(lambda bars: [b for n, b in enumerate(bars) if n % 2 or b["t"] // 86_400_000 % 2]),
    "stamps_in_seconds": rows(each(t=lambda t: t // 1000)),
    "stamps_in_microseconds": rows(each(t=lambda t: t * 1000)),
    "stamps_in_nanoseconds": rows(each(t=lambda t: t * 1_000_000)),
    "one_stamp_in_seconds": rows(one(t=lambda t: t // 1000)),
    "one_stamp_negative": rows(one(t=-5)),
    "one_stamp_zero": rows(one(t=0)),
    "one_stamp_nan": rows(one(t=float("nan"))),
    "one_stamp_missing": rows(one(t=None)),
    "one_stamp_text": rows(one(t="2026-01-05T15:00:00Z")),
    "one_stamp_true": rows(one(t=True)),
    "one_stamp_off_the_minute": rows(one(t=lambda t: t + 17_000)),
    "one_stamp_next_year": rows(one(t=lambda t: t + 365 * 86_400_000)),
    "one_close_nan": rows(one(c=float("nan"))),
    "one_open_infinite": rows(one(o=float("inf"))),
    "one_close_missing": rows(one(c=None)),
    "one_close_text": rows(one(c="100.0")),
    "one_price_negative": rows(one(l=-1.0)),
    "one_price_zero": rows(one(o=0)),
    "one_high_below_low": rows(one(h=0.01)),
    "one_volume_negative": rows(one(v=-3)),
    "one_volume_nan": rows(one(v=float("nan"))),
    "one_volume_huge": rows(one(v=10**400)),
    "all_closes_nan": rows(each(c=lambda _: float("nan"))),
    "all_prices_null": rows(each(o=lambda _: None, c=lambda _: None)),
    "no_json": says(200, b"<html>busy</html>"),
    "nothing": says(200, b""),
    "a_list": says(200, b"[]"),
    "a_number": says(200, b"17"),
    "deep_nesting": says(200, b"[" * 100_000),
    "half_of_the_json": lambda reply: replace(reply, body=reply.body[: len(reply.body) // 2]),
    "status_error": says(200, {"status": "ERROR", "error": "internal"}),
    "status_missing": changed(status=None),
    "not_authorized": says(200, {"status": "NOT_AUTHORIZED", "message": "upgrade"}),
    "unknown_key": says(401, {"status": "ERROR", "error": "Unknown API Key"}),
    "forbidden": says(403, b"<html>"),
    "not_found": says(404, {"status": "NOT_FOUND"}),
    "redirect": says(302, b"", Location="http://127.0.0.1:9/"),
    "server_error": says(500, b"oops"),
    "unavailable": says(503, b"", Retry_After="1"),
    "too_many": too_many(),
    "too_many_for_a_day": too_many(Retry_After="86400"),
    "too_many_no_wait": too_many(Retry_After="0"),
    "too_many_past_date": too_many(Retry_After="Mon, 05 Jan 2015 12:00:00 GMT"),
    "too_many_nonsense": too_many(Retry_After="soon"),
    "cut_in_the_head": cut(0),
    "cut_in_the_body": cut(2000),
    "hangs": slow(delay_s=PATIENCE_S),
    "trickles": slow(trickle_s=0.05),
    "count_too_high": changed(resultsCount=lambda n: n + 1),
    "count_too_low": changed(count=lambda n: n - 1),
    "results_are_numbers": changed(results=lambda bars: [1] * len(bars)),
    "results_are_text": changed(results="none"),
    "another_ticker": changed(ticker="TSLA"),
    "foreign_next_page": changed(next_url="https://evil.example/v2/aggs/ticker/AAPL/range/1/minute/1/2?cursor=x"),
    "next_page_of_another": changed(next_url=lambda _: "/v2/aggs/ticker/TSLA/range/1/minute/1/2?cursor=x"),
    "next_page_is_a_number": changed(next_url=17),
}


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    with PolygonServer(BARS) as server:
        return collect(server.url, tmp_path_factory.mktemp("truth")).bars


def believed(got: Collected | None, truth: pl.DataFrame) -> None:
    """Every bar that was handed over is a true one."""
    if got is not None:
        assert got.bars.join(truth, on=truth.columns, how="anti").is_empty()


@pytest.mark.hazard(74)
@pytest.mark.parametrize("when", ["at_first", pytest.param("when_asked_again", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_fault_leaves_nothing_wrong_and_once_it_is_over_nothing_lacks(
    tmp_path: Path, truth: pl.DataFrame, name: str, when: str
) -> None:
    """Of one ticker at first, for each is asked by itself; asked again, of both."""
    tickers = TICKERS if when == "when_asked_again" else TICKERS[:1]
    truth = truth.filter(pl.col("ticker").is_in(tickers))
    with PolygonServer(BARS) as server:
        if when == "when_asked_again":
            collect(server.url, tmp_path)
        server.always = lambda reply: SCRIPTS[name](reply) if b'"results"' in reply.body else reply
        got, told = None, ""
        try:
            got = collect(server.url, tmp_path, tickers=tickers, timeout_s=0.4)
        except (SourceError, NoDataError) as error:
            told = str(error)
        assert "\n" not in told
        believed(got, truth)
        if when == "when_asked_again" and got is not None:
            assert got.bars.height == truth.height, "an answer that lacks bars took some away"
        server.always = None
        healed = collect(server.url, tmp_path, tickers=tickers)
        assert_frame_equal(healed.bars, truth, check_exact=True)
        assert not [finding for finding in healed.findings if finding.reason == "doubtful"]
        assert all(hit.headers["authorization"] == "Bearer k" for hit in server.hits)


def test_there_are_enough_scripts() -> None:
    assert len(SCRIPTS) >= 60


COLLECT = """
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from tests.calendars import read_shared_calendar
read_shared_calendar()
from tests.market.test_polygon_faults import collect
sys.stdout.write("collecting\\n")
sys.stdout.flush()
collect(sys.argv[1], Path(sys.argv[2]), calls_per_minute=10_000)
sys.stdout.write("done\\n")
sys.stdout.flush()
"""


def kill_while_collecting(home: Path, kills: int, truth: pl.DataFrame) -> None:
    """Kill a process that collects, at a random moment, again and again; what is in the cache then is true."""
    seeded = random.Random(74)  # noqa: S311 (moments to kill at, no secret)
    calendar = Calendar("XNYS")
    with PolygonServer(BARS, page_limit=1500) as server:
        for n in range(kills):
            command = [sys.executable, "-c", COLLECT, server.url, str(home / str(n // 5))]
            child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
            assert child.stdout
            assert child.stdout.readline() == "collecting\n"
            time.sleep(seeded.uniform(0, 0.6))
            child.send_signal(signal.SIGKILL)
            child.communicate()
            settings = Settings(
                paths=Paths(home=str(home / str(n // 5))), polygon=Polygon(base_url="http://127.0.0.1:9")
            )
            store = BarStore(home / str(n // 5) / "bars", PolygonSource(settings, key="k"), calendar)
            for ticker in TICKERS:
                held, findings, _ = store.read_held(ticker)
                assert held <= set(DAYS)
                files = sorted((home / str(n // 5) / "bars" / ticker).glob("*.parquet"))
                bars = [pl.read_parquet(file) for file in files]
                for part in bars:
                    mine = truth.filter(pl.col("ticker") == ticker).select("ts", "close")
                    assert part.select("ts", "close").join(mine, on=["ts", "close"], how="anti").is_empty()
                assert all(finding.reason == "damaged_file" for finding in findings)
        for folder in sorted(home.iterdir()):
            assert_frame_equal(collect(server.url, folder).bars, truth, check_exact=True)
            left = [path.name for path in folder.rglob("*") if path.name.endswith(".tmp")]
            assert left == []


@pytest.mark.hazard(39)
def test_killed_while_collecting_the_cache_is_valid_and_the_next_run_completes_it(
    tmp_path: Path, truth: pl.DataFrame
) -> None:
    kill_while_collecting(tmp_path, 3, truth)


@pytest.mark.slow
@pytest.mark.hazard(39)
def test_killed_two_hundred_times_while_collecting_the_cache_is_valid(tmp_path: Path, truth: pl.DataFrame) -> None:
    kill_while_collecting(tmp_path, int(os.environ.get("TEST_KILLS", "200")), truth)
