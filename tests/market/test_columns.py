"""[market] columns: further numbers of a bar, from each source through cleaning, splits and the store."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from hftcl.errors import ConfigError, NoDataError, RefusedBarsError, SourceError
from hftcl.market.bars import BAR_SCHEMA, RAW_SCHEMA, clean
from hftcl.market.columns import choose_columns, extend_schema
from hftcl.market.sessions import Calendar
from hftcl.market.sources import Split, find_source, open_source
from hftcl.market.sources.alpaca import AlpacaSource
from hftcl.market.sources.alpaca_rest import Keys
from hftcl.market.sources.files import FilesSource
from hftcl.market.sources.polygon import PolygonSource
from hftcl.market.sources.polygon_bars import build_frame, decode_page
from hftcl.market.sources.polygon_flat import FlatFilesSource
from hftcl.market.sources.synthetic import SyntheticSource
from hftcl.market.splits import adjust_for_splits
from hftcl.market.store import BarStore, Collected
from hftcl.settings import Alpaca, Files, Market, Paths, Polygon, Settings, Synthetic
from tests.alpaca_data_server import AlpacaDataServer
from tests.market.exchange import Exchange, quiet_bars
from tests.market.test_polygon_flat import write_day
from tests.polygon_server import PolygonServer

CALENDAR = Calendar("XNYS")
DAY, LAST = date(2026, 1, 26), date(2026, 1, 28)
LATER = datetime(2026, 2, 7, 12, tzinfo=UTC)
BARS = quiet_bars("AAA", first=DAY, last=LAST, step=30)


def carrying(bars: pl.DataFrame) -> pl.DataFrame:
    """Add what a vendor has beside prices and volume; every fifth bar lacks its vwap."""
    number = pl.int_range(pl.len())
    return bars.with_columns(
        vwap=pl.when(number % 5 != 4).then((pl.col("high") + pl.col("low")) / 2),
        trades=(number % 7 + 1).cast(pl.Float64),
        bid_volume=pl.col("volume") / 2,
    )


class Wide(Exchange):
    """An exchange that delivers columns."""

    def __init__(self, bars: pl.DataFrame, *columns: str, **options: Any) -> None:
        super().__init__(bars, **options)
        self.columns = columns

    def minutes(self, ticker: str, first: date, last: date) -> pl.DataFrame:
        return super().minutes(ticker, first, last)


def collect(folder: Path, source: Exchange) -> Collected:
    return BarStore(folder, source, CALENDAR).collect(
        ("AAA",), DAY, LAST, as_of=LATER, extended_hours=False, min_coverage=0.5
    )


def settings_of(home: Path, *columns: str, **sections: Any) -> Settings:
    market = sections.pop("market", Market())
    return Settings(paths=Paths(home=str(home)), market=replace(market, columns=columns), **sections)


# Cleaning and splits


def test_a_number_that_is_none_becomes_null_and_its_bar_is_kept() -> None:
    values = [float("nan"), float("inf"), None, 1.5]
    raw = BARS.head(4).with_columns(vwap=pl.Series(values, dtype=pl.Float64))
    bars, findings = clean(raw, CALENDAR.list_sessions(DAY, LAST), ticker="AAA", columns=["vwap"])
    assert bars.schema == extend_schema(BAR_SCHEMA, ["vwap"])
    assert bars["vwap"].to_list() == [None, None, None, 1.5]
    assert findings == ()


@pytest.mark.parametrize(("vwap", "reason"), [(2.0, "conflicting_duplicate"), (1.0, "duplicate")])
def test_two_bars_of_a_minute_that_differ_in_a_column_alone_are_told(vwap: float, reason: str) -> None:
    raw = pl.concat([BARS.head(1).with_columns(vwap=pl.lit(one)) for one in (1.0, vwap)])
    bars, findings = clean(raw, CALENDAR.list_sessions(DAY, LAST), ticker="AAA", columns=["vwap"])
    assert (bars["vwap"].to_list(), [finding.reason for finding in findings]) == ([vwap], [reason])


def test_a_split_changes_prices_and_volumes_and_nothing_else() -> None:
    raw = carrying(BARS)
    columns = ["vwap", "trades", "bid_volume"]
    bars, _ = clean(raw, CALENDAR.list_sessions(DAY, LAST), ticker="AAA", columns=columns)
    after = adjust_for_splits(bars, [Split("AAA", LAST, 1, 4)])
    before = pl.col("session") < LAST
    expected = bars.with_columns(
        pl.when(before)
        .then(pl.col("open", "high", "low", "close", "vwap") / 4)
        .otherwise(pl.col("open", "high", "low", "close", "vwap")),
    )
    assert_frame_equal(after.select("close", "vwap", "trades"), expected.select("close", "vwap", "trades"))
    assert (after.filter(before)["bid_volume"] / after.filter(before)["volume"]).unique().to_list() == [0.5]
    assert after.filter(before)["volume"].sum() == 4 * bars.filter(before)["volume"].sum()


# What cleaning, splits and files call their own columns, and what they once did; a user may have called one so.
TAKEN = ["factor", "nth", "off", "reason", "last", "row", "holder", "execution_date", "ratio", "day", "begins", "file"]


@pytest.mark.parametrize("name", TAKEN)
def test_a_column_of_any_name_comes_through_cleaning_and_a_split_as_it_is(name: str) -> None:
    """With a duplicate and a bad tick in its way."""
    raw = BARS.with_columns(pl.int_range(7, 7 + pl.len()).cast(pl.Float64).alias(name))
    wild = raw.tail(1).with_columns(pl.col("open", "high", "low", "close") * 9, ts=pl.col("ts") + timedelta(minutes=1))
    bars, findings = clean(
        pl.concat([raw.head(1), raw, wild]), CALENDAR.list_sessions(DAY, LAST), ticker="AAA", columns=[name]
    )
    assert {finding.reason for finding in findings} == {"duplicate", "bad_tick"}
    assert_frame_equal(bars.select("ts", "close", name), raw.select("ts", "close", name))
    after = adjust_for_splits(bars, [Split("AAA", LAST, 1, 2)])
    divisor = pl.when(pl.col("session") < LAST).then(2.0).otherwise(1.0)
    assert_frame_equal(after.select("close", name), bars.select(pl.col("close") / divisor, name))


@pytest.mark.parametrize("name", TAKEN)
def test_a_column_of_any_name_is_read_from_a_file_as_it_is(name: str, tmp_path: Path) -> None:
    write_file(tmp_path / "data", trades=name)
    files = Files(folder=str(tmp_path / "data"))
    source = FilesSource(settings_of(tmp_path, name, market=Market(watchlist=("AAA",)), files=files))
    assert_frame_equal(
        source.minutes("AAA", DAY, LAST).select("ts", name), carrying(BARS).select("ts", pl.col("trades").alias(name))
    )


# The store


def test_context_tickers_alone_are_not_enough_and_are_left_out_apart(tmp_path: Path) -> None:
    """A session cannot be traded on what is only seen."""

    def ask(folder: str, *tickers: str, context: tuple[str, ...]) -> Collected:
        return BarStore(tmp_path / folder, Exchange(BARS), CALENDAR).collect(
            tickers, DAY, LAST, as_of=LATER, extended_hours=False, min_coverage=0.5, context=context
        )

    with pytest.raises(NoDataError, match=r"too few bars .*\(BBB: no bars\)"):
        ask("alone", "BBB", context=("AAA",))
    found = ask("both", "AAA", context=("BBB",))
    assert (found.left_out, found.context_left_out) == ({}, {"BBB": "no bars"})


def test_a_column_that_was_not_stored_is_collected_again_and_what_is_stored_stays(tmp_path: Path) -> None:
    raw = carrying(BARS)
    plain = collect(tmp_path, Exchange(BARS))
    assert (plain.bars.schema, plain.fetched_sessions) == (BAR_SCHEMA, 3)
    wide = collect(tmp_path, Wide(raw, "vwap", "trades"))
    assert (wide.fetched_sessions, wide.findings) == (3, plain.findings)
    assert wide.bars.schema == extend_schema(BAR_SCHEMA, ["vwap", "trades"])
    assert_frame_equal(wide.bars.select(BAR_SCHEMA.names()), plain.bars)
    again = collect(tmp_path, Wide(raw, "trades", "vwap"))
    assert again.fetched_sessions == 2, "the last two sessions are asked for again, as always; the order is no matter"
    assert_frame_equal(again.bars, wide.bars.select(again.bars.columns))
    assert collect(tmp_path, Exchange(BARS)).fetched_sessions == 2
    assert collect(tmp_path, Wide(raw, "vwap")).fetched_sessions == 3


def test_a_corrected_column_is_a_revision_and_one_that_is_null_twice_is_none(tmp_path: Path) -> None:
    raw = carrying(BARS)
    collect(tmp_path, Wide(raw, "vwap"))
    same = collect(tmp_path, Wide(raw, "vwap"))
    assert [finding.reason for finding in same.findings if finding.reason == "revised"] == []
    newest = pl.col("ts") == raw["ts"].max()
    news = raw.with_columns(pl.when(newest).then(pl.col("close") + 1).otherwise("vwap").alias("vwap"))
    revised = collect(tmp_path, Wide(news, "vwap"))
    assert [finding.count for finding in revised.findings if finding.reason == "revised"] == [1]


def test_a_source_that_does_not_deliver_what_it_says_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="without the right vwap"):
        collect(tmp_path, Wide(BARS, "vwap"))


# Who can deliver what


@pytest.mark.parametrize(
    ("name", "columns", "said"),
    [
        ("synthetic", ["vwap"], "the source 'synthetic' cannot deliver vwap; it delivers imbalance, trades"),
        ("polygon", ["bid"], "the source 'polygon' cannot deliver bid; it delivers vwap, trades"),
        ("polygon-flat", ["vwap", "trades"], "cannot deliver vwap; it delivers trades"),
        ("alpaca", ["spread"], "cannot deliver spread; it delivers vwap, trades"),
        ("files", ["volume"], "volume is a column of every bar"),
    ],
)
def test_a_source_says_what_it_cannot_deliver_when_it_is_made(
    name: str, columns: list[str], said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for key in ("POLYGON_API_KEY", "APCA_API_KEY_ID", "APCA_API_SECRET_KEY"):
        monkeypatch.setenv(key, "k")
    asked = settings_of(tmp_path, *columns, market=Market(source=name))
    with pytest.raises(ConfigError, match=said):
        open_source(asked)


def test_a_source_of_a_plug_in_that_declares_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hftcl.market.sources.make_source", lambda settings: Exchange(BARS))
    with pytest.raises(ConfigError, match="it delivers open, high, low, close and volume alone"):
        open_source(Settings(market=Market(columns=("vwap",))))
    assert open_source(Settings()).name == "exchange"


def test_what_is_wanted_comes_in_the_order_of_the_settings() -> None:
    assert choose_columns(["trades", "vwap"], ["vwap", "trades", "bid"], "it") == ("trades", "vwap")


# Vendors


ROWS = [
    {"t": 1769437800000, "o": 10.0, "h": 11.0, "l": 9.0, "c": 10.5, "v": 100, "vw": 10.25, "n": 7},
    {"t": 1769437860000, "o": 10.5, "h": 11.0, "l": 9.0, "c": 10.0, "v": 50, "n": 3},
]


def test_polygons_vwap_and_trades_come_with_its_bars_and_one_that_lacks_is_null(tmp_path: Path) -> None:
    with PolygonServer({"AAA": ROWS}) as server:
        asked = settings_of(tmp_path, "trades", "vwap", polygon=Polygon(base_url=server.url, calls_per_minute=1000))
        bars = PolygonSource(asked, key="k").minutes("AAA", DAY, DAY)
    assert bars.schema == extend_schema(RAW_SCHEMA, ["trades", "vwap"])
    assert bars.select("close", "trades", "vwap").rows() == [(10.5, 7.0, 10.25), (10.0, 3.0, None)]


def test_a_page_with_columns_read_quickly_is_the_page_read_bar_by_bar() -> None:
    whole = [ROWS[0], {**ROWS[1], "vw": 10.125}]
    page = decode_page(json.dumps({"results": whole}).encode(), ["vwap", "trades"])
    assert page is not None
    quick, slow = (build_frame("AAA", rows, ["vwap", "trades"]) for rows in (page["results"], whole))
    assert_frame_equal(quick, slow)
    assert quick["vwap"].to_list() == [10.25, 10.125]


def test_flat_files_have_the_number_of_trades(tmp_path: Path) -> None:
    write_day(tmp_path, DAY, quiet_bars("AAA", first=DAY, last=DAY, step=60))
    source = FlatFilesSource(settings_of(tmp_path, "trades", polygon=Polygon(flat_files=str(tmp_path))))
    bars = source.minutes("AAA", DAY, DAY)
    assert bars.schema == extend_schema(RAW_SCHEMA, ["trades"])
    assert bars["trades"].unique().to_list() == [7.0]


def test_alpacas_vwap_and_trades_come_with_its_bars(tmp_path: Path) -> None:
    rows = [{**row, "t": f"2026-01-26T14:3{n}:00Z"} for n, row in enumerate(ROWS)]
    with AlpacaDataServer({"AAA": rows}) as server:
        asked = settings_of(tmp_path, "vwap", "trades", alpaca=Alpaca(data_url=server.url))
        bars = AlpacaSource(asked, keys=Keys("id", "secret")).minutes("AAA", DAY, DAY)
    assert bars.select("close", "vwap", "trades").rows() == [(10.5, 10.25, 7.0), (10.0, None, 3.0)]


def write_file(folder: Path, **names: str) -> None:
    folder.mkdir()
    raw = carrying(BARS).with_columns(pl.col("ts").dt.strftime("%Y-%m-%dT%H:%M:%SZ")).drop("ticker")
    raw.rename(names).write_csv(folder / "AAA.csv")


def test_any_column_of_a_file_is_carried_by_its_name_or_as_the_settings_map_it(tmp_path: Path) -> None:
    write_file(tmp_path / "data", vwap="WtdAvg", bid_volume="Bid_Volume")
    files = Files(folder=str(tmp_path / "data"), columns={"vwap": "WtdAvg"})
    source = FilesSource(settings_of(tmp_path, "vwap", "bid_volume", market=Market(watchlist=("AAA",)), files=files))
    bars = source.minutes("AAA", DAY, LAST)
    assert_frame_equal(bars.select("ts", "vwap", "bid_volume"), carrying(BARS).select("ts", "vwap", "bid_volume"))


def test_a_file_without_the_column_is_named_with_what_it_has(tmp_path: Path) -> None:
    write_file(tmp_path / "data")
    files = Files(folder=str(tmp_path / "data"))
    source = FilesSource(settings_of(tmp_path, "spread", market=Market(watchlist=("AAA",)), files=files))
    with pytest.raises(RefusedBarsError, match=r"AAA.csv has no column spread; it has .*trades.*\[files\] columns"):
        source.minutes("AAA", DAY, LAST)


# The synthetic market


def synthetic(*columns: str, column_edge: float = 1.0) -> pl.DataFrame:
    asked = Settings(market=Market(columns=columns), synthetic=Synthetic(edge=0.0, column_edge=column_edge))
    return SyntheticSource(asked).minutes("AAPL", date(2025, 3, 3), date(2025, 5, 30))


def correlate(bars: pl.DataFrame, minutes: int) -> float:
    """Rank correlation of imbalance with the return over the next minutes (negative: the last ones), in sessions."""
    day = pl.col("ts").dt.date()
    moved = (pl.col("close").shift(-minutes) / pl.col("close")).log().over(day) * np.sign(minutes)
    both = bars.select("imbalance", moved.alias("moved")).drop_nulls()
    return float(both.select(pl.corr("imbalance", "moved", method="spearman")).item())


def test_the_synthetic_columns_leave_prices_as_they_are_and_one_tells_of_the_next_half_hour() -> None:
    plain, wide = synthetic(), synthetic("imbalance", "trades")
    assert_frame_equal(wide.select(plain.columns), plain)
    assert correlate(wide, 30) > 0.08  # about 1,500 half hours that do not overlap: a standard error of 0.03
    assert abs(correlate(wide, -30)) < 0.08
    silent = synthetic("imbalance", column_edge=0.0)
    assert abs(correlate(silent, 30)) < 0.08
    assert wide["imbalance"].is_between(-1, 1).all()
    assert (wide["trades"] >= 1).all()
    assert (wide["trades"] <= wide["volume"]).all()


def test_only_the_column_that_is_asked_for_changes_what_identifies_the_bars() -> None:
    def mark(*columns: str, edge: float = 1.0) -> str:
        asked = Settings(market=Market(columns=columns), synthetic=Synthetic(column_edge=edge))
        return find_source("synthetic")(asked).fingerprint("AAPL")

    assert mark() == mark("trades") == mark(edge=0.5)
    assert len({mark(), mark("imbalance"), mark("imbalance", edge=0.5)}) == 3
