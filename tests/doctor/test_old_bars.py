"""What the doctor says of old bars, of a family that is not there, and of what differs from the defaults."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl

from hftcl.doctor import machine
from hftcl.doctor.market import _describe_bars, check_bars
from hftcl.doctor.row import Context
from hftcl.events import ignore
from hftcl.learning.stories.collect import collect
from hftcl.market.bars import Finding
from hftcl.market.sessions import Calendar
from hftcl.market.sources.synthetic import SyntheticSource
from hftcl.market.window import AsOf, list_window
from tests.config.configured import loaded
from tests.loop_cases import NOW as LOOP_NOW
from tests.loop_cases import small

NOW = datetime(2026, 11, 29, tzinfo=UTC)


def test_bars_that_ended_long_ago_are_told_with_their_age_and_are_not_fresh() -> None:
    held, old = _describe_bars("bars from files", "3 of 3 tickers", 60, 10**6, datetime(2025, 6, 30, tzinfo=UTC), NOW)
    assert (held.status, "fresh" in held.detail) == ("ok", False)
    assert (old.status, old.detail.split(":")[0]) == ("warning", "bars from files end 2025-06-30, 17 months ago")
    (fresh,) = _describe_bars("bars from files", "3 of 3 tickers", 60, 10**6, NOW - timedelta(days=4), NOW)
    assert "3 of 3 tickers whole and fresh" in fresh.detail
    *_, days = _describe_bars("bars from files", "3 of 3 tickers", 60, 10**6, NOW - timedelta(days=20), NOW)
    assert "20 days ago" in days.detail


def test_stored_months_that_no_retrain_replaces_are_not_said_to_be_collected_again() -> None:
    unused = [Finding("AAPL", "other_source", 1, detail=f"AAPL/2026-{month:02}.parquet: why") for month in (7, 8, 10)]
    due, old, _ = _describe_bars("bars from files", "1 of 1 ticker", 40, 10**6, NOW, NOW, unused, "2026-09")
    assert due.detail == (
        "1 month of 1 ticker is stored and not used: AAPL/2026-10.parquet: why; the next retrain collects bars from "
        "files in their place"
    )
    assert old.detail.startswith("2 months of 1 ticker are stored and not used: AAPL/2026-07.parquet: why; ")
    assert "retrain collects, and may be deleted" in old.detail


def test_a_session_without_a_bar_or_with_few_is_a_warning_and_its_ticker_is_not_whole(tmp_path: Path) -> None:
    settings = small(
        tmp_path, market={"source": "files", "lookback_days": 30}, files={"folder": str(tmp_path / "data")}
    )
    source, sessions = SyntheticSource(small(tmp_path)), (date(2025, 12, 1), date(2026, 1, 8))
    (tmp_path / "data").mkdir()
    for ticker in ("AAPL", "AMD"):
        rows = source.minutes(ticker, *sessions).select("ts", "open", "high", "low", "close", "volume")
        if ticker == "AMD":
            rows = rows.filter(pl.col("ts").dt.date() != date(2026, 1, 6))
            rows = rows.filter((pl.col("ts").dt.date() != date(2025, 12, 23)) | (pl.col("ts").dt.hour() == 15))
        rows.write_parquet(tmp_path / "data" / f"{ticker}.parquet")
    collect(settings, now=LOOP_NOW, on_event=ignore)
    text = '[market]\nsource = "files"\nwatchlist = ["AAPL", "AMD"]\nlookback_days = 30\n[files]\nfolder = "data"\n'
    examined = check_bars(Context(configuration=loaded(tmp_path, text), environ={}, now=LOOP_NOW))
    bars = [row for row in examined if row.name == "bars"]
    assert [row.status for row in bars] == ["warning", "ok"]
    assert "AMD: no bar on 2026-01-06; 57 of 390 minutes on 2025-12-23" in bars[0].detail
    days = len(list_window(Calendar("XNYS"), settings, AsOf(at=LOOP_NOW, note="", explicit=True)))
    assert f"of the window's {days} sessions" in bars[0].detail
    assert "1 of 2 tickers whole" in bars[1].detail


def test_a_family_that_is_not_installed_is_a_fault_with_those_that_are(tmp_path: Path) -> None:
    (row,) = machine.check_family(
        Context(configuration=loaded(tmp_path, '[model]\nfamily = "forrest"\n'), environ={}, now=NOW)
    )
    assert (row.status, row.name) == ("fault", "family")
    assert "'forrest'" in row.detail
    assert "ridge" in row.remedy
    (row,) = machine.check_family(
        Context(configuration=loaded(tmp_path, '[model]\nfamily = "ridge"\n'), environ={}, now=NOW)
    )
    assert row.status == "ok"


def test_what_stands_in_the_file_as_the_default_is_no_difference(tmp_path: Path) -> None:
    text = '[model]\nfamily = "ridge"\nseed = 42\n[paths]\nhome = "."\n'
    row, *_ = machine.check_configuration(Context(configuration=loaded(tmp_path, text), environ={}, now=NOW))
    assert "; 1 setting differs from the defaults;" in row.detail
