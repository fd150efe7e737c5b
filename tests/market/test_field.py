"""Folders as people keep them, with the settings that they would write: read to the bit, or refused with the remedy."""

from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from hftcl.config import load
from hftcl.errors import NoDataError, RefusedBarsError
from hftcl.market.sessions import Calendar
from hftcl.market.sources.files import FilesSource
from hftcl.market.store import BarStore
from tests.shared_data import FIELD, REAL_BARS, needs_field_inputs, needs_real_bars

FIRST, LAST = date(2025, 5, 12), date(2025, 6, 30)
COLUMNS = ("ts", "open", "high", "low", "close", "volume")
READ = {
    "r02_yfinance_two_tickers": ("AAPL",),
    "r03_alpaca_symbol_column_not_mapped": ("AAPL", "AMD"),
    "r08_databento_fixed_prices": ("AAPL",),
    "r11_unreadable_us_dates": ("AAPL",),
    "r13_ticker_named_like_its_column": ("AAPL",),
    "r14_file_named_after_its_two_tickers": ("NVDA", "V"),
    "r15_parquet_unknown_zone": ("AAPL",),
    "r16_bar_names": ("AAPL",),
    "r18_single_digit_hour": ("AAPL",),
    "r19_date_and_time_columns": ("AAPL",),
}
REFUSED = {
    "r01_1min_and_5min_in_one_folder": r"5min_adjsplit\.csv: these are 5-minute bars.*1min_adjsplit\.csv beside it",
    "r05_naive_new_york_default_timezone": r"name no time zone, and \[files\] timezone is not set",
    "r09_only_5min_bars": r"these are 5-minute bars of AAPL",
}  # fmt: skip


def source(name: str) -> FilesSource:
    folder = FIELD / "inputs" / name
    return FilesSource(load(folder / "hftcl.toml", environ={}, cwd=folder).settings)


@needs_field_inputs
@needs_real_bars
@pytest.mark.hazard(75)
@pytest.mark.parametrize("name", READ)
def test_a_folder_of_the_field_is_read_to_the_bit(name: str) -> None:
    files = source(name)
    for ticker in READ[name]:
        bars = files.minutes(ticker, FIRST, LAST)
        real = pl.read_parquet(REAL_BARS / f"{ticker}.parquet").select(COLUMNS)
        same = real.cast(dict(bars.select(COLUMNS).schema)).filter(pl.col("ts").is_in(bars["ts"].implode()))  # type: ignore[arg-type]
        assert bars["ticker"].unique().to_list() == [ticker]
        assert bars.height > 800
        assert_frame_equal(bars.select(COLUMNS).sort("ts"), same.sort("ts"), check_exact=True)


@needs_field_inputs
@pytest.mark.hazard(75)
@pytest.mark.parametrize("name", REFUSED)
def test_a_folder_of_the_field_is_refused_with_file_and_remedy(name: str) -> None:
    with pytest.raises(RefusedBarsError, match=REFUSED[name]):
        source(name).minutes("AAPL", FIRST, LAST)


@needs_field_inputs
def test_a_ticker_that_is_called_like_its_column_is_read() -> None:
    assert source("r13_ticker_named_like_its_column").minutes("T", FIRST, LAST).height == 1170


@needs_field_inputs
def test_stamps_with_an_offset_of_half_an_hour_are_those_of_the_exchanges_open() -> None:
    bars = source("r21_parquet_plus_0530").minutes("RELIANCE", FIRST, LAST)
    assert bars["ts"].min() == datetime(2025, 6, 27, 3, 45, tzinfo=UTC)  # 09:15 in Mumbai


@needs_field_inputs
def test_bars_that_are_all_dropped_are_told_with_reason_count_and_the_first(tmp_path: Path) -> None:
    store = BarStore(tmp_path, source("r12_all_dropped_no_reason"), Calendar("XNYS"))
    with pytest.raises(NoDataError, match=r"1170 were dropped \(1,170 because .*whole minute, the first at 2025-06-25"):
        store.collect(
            ("AAPL",), date(2025, 6, 25), date(2025, 6, 27), as_of=datetime(2025, 7, 1, tzinfo=UTC),
            extended_hours=False, min_coverage=0.0, save=False,
        )  # fmt: skip


@needs_field_inputs
def test_no_folder_of_the_field_is_forgotten() -> None:
    others = {"r12_all_dropped_no_reason", "r21_parquet_plus_0530"}
    assert {path.name for path in (FIELD / "inputs").iterdir()} == READ.keys() | REFUSED.keys() | others
