"""The source `alpaca` against a strict stand-in: many tickers with one call, the whole range or a plain error."""

import re
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from hftcl.contracts import check_source
from hftcl.errors import ConfigError, SourceError
from hftcl.market.sessions import Calendar
from hftcl.market.sources import Question, Split, find_source
from hftcl.market.sources.alpaca import AlpacaSource
from hftcl.market.sources.alpaca_rest import Keys
from hftcl.market.store import BarStore
from hftcl.settings import Alpaca, Paths, Settings
from tests.alpaca_data_server import AlpacaDataServer, alpaca_bars
from tests.installed import PATIENCE_S
from tests.polygon_server import Fault, Reply, changed, cut, says, slow, synthetic_bars, too_many

CALENDAR = Calendar("XNYS")
DAYS: list[date] = CALENDAR.list_sessions(date(2026, 1, 5), date(2026, 1, 9))["session"].to_list()
AS_OF = datetime(2026, 1, 10, 12, tzinfo=UTC)
TICKERS = ("AAPL", "AMD", "MSFT")
ROWS = {ticker: synthetic_bars(ticker, DAYS) for ticker in TICKERS}
BARS = {ticker: alpaca_bars(rows) for ticker, rows in ROWS.items()}

Connect = Callable[..., AlpacaSource]


@pytest.fixture
def connect(tmp_path: Path) -> Connect:
    def make(url: str, *, keys: Keys | None = None, **alpaca: Any) -> AlpacaSource:
        ours = Alpaca(data_url=url, **{"calls_per_minute": 10_000, "timeout_s": PATIENCE_S, **alpaca})
        settings = Settings(paths=Paths(home=str(tmp_path), env_file=str(tmp_path / ".env")), alpaca=ours)
        return AlpacaSource(settings, keys=keys or Keys("id", "secret"), sleep=lambda _: None)

    return make


def expected(ticker: str) -> pl.DataFrame:
    """Return the same bars by another road: from Polygon's form of them."""
    table = pl.DataFrame(ROWS[ticker])
    return table.select(
        pl.lit(ticker).alias("ticker"),
        pl.from_epoch("t", time_unit="ms").dt.cast_time_unit("us").dt.replace_time_zone("UTC").alias("ts"),
        *(
            pl.col(s).cast(pl.Float64).alias(n)
            for n, s in zip(("open", "high", "low", "close", "volume"), "ohlcv", strict=True)
        ),
    )


def test_many_tickers_come_with_the_fewest_calls_and_to_the_bit(connect: Connect) -> None:
    with AlpacaDataServer(BARS) as server:
        source = connect(server.url)
        questions = tuple(Question(ticker, DAYS[0], DAYS[-1]) for ticker in TICKERS)
        source.expect(TICKERS, DAYS[0], questions, kept=True)
        for ticker in TICKERS:
            assert_frame_equal(source.minutes(ticker, DAYS[0], DAYS[-1]), expected(ticker))
        assert len(server.hits) == 1
        assert server.hits[0].query["symbols"] == "AAPL,AMD,MSFT"
        assert (server.hits[0].query["adjustment"], server.hits[0].query["feed"]) == ("raw", "iex")


@pytest.mark.parametrize("page_limit", [1, 700, 10_000])
def test_pages_are_followed_over_the_borders_of_tickers(connect: Connect, page_limit: int) -> None:
    last = DAYS[0] if page_limit == 1 else DAYS[-1]
    bars = {ticker: rows[:20] if page_limit == 1 else rows for ticker, rows in BARS.items()}
    with AlpacaDataServer(bars, page_limit=page_limit) as server:
        source = connect(server.url)
        source.expect(TICKERS, DAYS[0], tuple(Question(ticker, DAYS[0], last) for ticker in TICKERS), kept=True)
        for ticker in TICKERS:
            assert source.minutes(ticker, DAYS[0], last).height == len(bars[ticker])
        assert len(server.hits) == -(-sum(map(len, bars.values())) // page_limit)


def test_a_store_collects_from_it_and_asks_only_for_the_end_the_second_time(connect: Connect, tmp_path: Path) -> None:
    with AlpacaDataServer(BARS) as server:
        frames = []
        for _ in range(2):
            store = BarStore(tmp_path / "bars", connect(server.url), CALENDAR)
            got = store.collect(TICKERS, DAYS[0], DAYS[-1], as_of=AS_OF, extended_hours=True, min_coverage=1.0)
            frames.append(got.bars)
        assert_frame_equal(*frames)
        asked = [hit.query["start"] for hit in server.hits if hit.path == "/v2/stocks/bars"]
    assert asked == ["2026-01-05T05:00:00Z", "2026-01-08T05:00:00Z"]
    assert frames[0].height == sum(map(len, ROWS.values()))


def test_splits_of_the_watchlist_come_with_one_call(connect: Connect) -> None:
    splits = [
        {"symbol": "AAPL", "ex_date": "2026-01-07", "old_rate": 1, "new_rate": 4},
        {"symbol": "AMD", "ex_date": "2026-01-08", "old_rate": 10, "new_rate": 1},
    ]
    with AlpacaDataServer(BARS, splits) as server:
        source = connect(server.url)
        source.expect(TICKERS, DAYS[0], (), kept=True)
        assert source.splits("AAPL") == (Split("AAPL", date(2026, 1, 7), 1, 4),)
        assert source.splits("AMD") == (Split("AMD", date(2026, 1, 8), 10, 1),)
        assert source.splits("MSFT") == ()
        assert len(server.hits) == 1


@pytest.mark.parametrize("rate", [1001, 1e300])
def test_a_split_of_a_ratio_that_no_company_makes_is_refused(connect: Connect, rate: float) -> None:
    row = {"symbol": "AAPL", "ex_date": "2026-01-07", "old_rate": 1, "new_rate": rate}
    with AlpacaDataServer(BARS, [row]) as server, pytest.raises(SourceError, match="for 1, which no company does"):
        connect(server.url).splits("AAPL")


FAULTS: dict[str, Fault] = {
    "html": says(200, b"<html>busy</html>"),
    "nothing": says(200, b""),
    "a_list": says(200, b"[]"),
    "no_token": says(200, {"bars": {}}),
    "token_is_a_number": changed(next_page_token=17),
    "token_repeats": changed(next_page_token="NzAw"),  # noqa: S106
    "bars_are_a_list": changed(bars=[]),
    "rows_are_numbers": changed(bars=lambda bars: {ticker: [1] for ticker in bars}),
    "another_ticker": changed(bars=lambda bars: {f"X{ticker}": rows for ticker, rows in bars.items()}),
    "empty_with_a_next_page": changed(bars={}, next_page_token="x"),  # noqa: S106
    "cut": cut(2000),
    "hangs": slow(delay_s=PATIENCE_S),
    "trickles": slow(trickle_s=0.1),
    "redirect": says(302, b"", Location="http://127.0.0.1:9/"),
    "not_found": says(404, {"message": "endpoint not found."}),
    "bad_request": says(400, {"message": "invalid symbol(s): AAPL"}),
    "server_error": says(500, b""),
    "too_many": too_many(X_RateLimit_Reset=str(int(time.time()) + 30)),
    "unauthorized": says(401, {"message": "unauthorized."}),
}


@pytest.mark.hazard(27)
@pytest.mark.parametrize("name", FAULTS)
def test_a_bad_second_page_is_one_plain_line_and_no_bar(connect: Connect, name: str) -> None:
    with AlpacaDataServer(BARS, page_limit=700) as server:
        server.later = FAULTS[name]
        for timeout_s in (1.0, 10.0, 100.0):  # in which a busy machine gets the first page, that has no fault
            with pytest.raises(SourceError) as caught:
                connect(server.url, timeout_s=timeout_s).minutes("AAPL", DAYS[0], DAYS[-1])
            if "page 1 of" not in str(caught.value):
                break
    assert re.search(r"page [23] of AAPL 2026-01-05", str(caught.value))
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.hazard(59)
def test_a_wrong_key_and_a_small_plan_are_told_with_the_remedy(connect: Connect) -> None:
    with AlpacaDataServer(BARS) as server:
        with pytest.raises(
            SourceError, match=r"refused page 1 of AAPL .*: forbidden\. Check APCA_API_KEY_ID"
        ) as caught:
            connect(server.url, keys=Keys("canary-ident-0123", "canary-secret-0123")).minutes("AAPL", DAYS[0], DAYS[0])
        assert "canary" not in str(caught.value)
        today = datetime.now(UTC).date()  # noqa: TID251 - the plan looks at the clock
        with pytest.raises(SourceError, match=r'recent SIP data\. .*set \[alpaca\] data_feed = "iex"'):
            connect(server.url, data_feed="sip").minutes("AAPL", today, today + timedelta(days=1))
        assert len(server.hits) == 2, "a refusal is not asked again"


def test_bars_of_iex_and_of_all_exchanges_are_not_mixed(connect: Connect) -> None:
    prints = {connect("https://data.alpaca.markets", data_feed=feed).fingerprint("AAPL") for feed in ("iex", "sip")}
    assert len(prints) == 2


def test_a_broken_stamp_or_figure_is_null_for_cleaning(connect: Connect) -> None:
    good = BARS["AAPL"][0]
    rows = [good, good | {"t": "soon"}, good | {"t": "2026-01-05T15:00:00"}, good | {"c": "1"}, good | {"v": True}]
    with AlpacaDataServer({"AAPL": []}) as server:
        server.always = lambda reply: replace(reply, body=Reply(_page(rows)).body)
        bars = connect(server.url).minutes("AAPL", DAYS[0], DAYS[0])
    assert bars["ts"].is_null().to_list() == [False, True, True, False, False]
    assert (bars["close"].null_count(), bars["volume"].null_count()) == (1, 1)


def _page(rows: list[dict[str, Any]]) -> bytes:
    import json

    return json.dumps({"bars": {"AAPL": rows}, "next_page_token": None}).encode()


def test_the_source_keeps_its_promises_and_is_found_by_name(connect: Connect) -> None:
    with AlpacaDataServer(BARS) as server:
        assert check_source(connect(server.url), "AAPL", DAYS[0], DAYS[-1], AS_OF) == ()
    assert find_source("alpaca") is AlpacaSource


def test_without_keys_the_line_says_which_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("APCA_API_KEY_ID", raising=False)
    monkeypatch.delenv("APCA_API_SECRET_KEY", raising=False)
    with pytest.raises(ConfigError, match="set APCA_API_KEY_ID and APCA_API_SECRET_KEY in the environment"):
        AlpacaSource(Settings(paths=Paths(home=str(tmp_path), env_file=str(tmp_path / ".env"))))
