"""How fast the files source reads, and how quickly it sees that nothing changed."""

import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hftcl.market.bars import RAW_SCHEMA
from hftcl.market.sessions import Calendar
from hftcl.market.sources.files import FilesSource
from hftcl.market.store import BarStore
from hftcl.settings import Files, Paths, Settings

NOW = datetime(2026, 11, 24, tzinfo=UTC)
FIRST, LAST = date(2024, 1, 2), date(2025, 12, 31)


def long_bars(rows: int) -> pl.DataFrame:
    """Return `rows` minutes of regular New York hours, prices in cents."""
    rng = np.random.default_rng(1)
    days = rows // 390 + 1
    opens = [datetime(2024, 1, 2, 14, 30, tzinfo=UTC) + timedelta(days=n) for n in range(days)]
    stamps = [opens[n // 390] + timedelta(minutes=n % 390) for n in range(rows)]
    close = np.round(100 + rng.normal(0, 0.02, rows).cumsum() / 10, 2)
    volume = np.floor(rng.uniform(100, 10_000, rows))
    return pl.DataFrame(
        {"ticker": "AAPL", "ts": stamps, "open": close, "high": close + 0.02, "low": close - 0.02, "close": close,
         "volume": volume}, schema=RAW_SCHEMA,
    )  # fmt: skip


@pytest.mark.bench
@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_bars_of_one_ticker_are_read(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    bars = long_bars(280_000).drop("ticker")
    if kind == "parquet":
        bars.write_parquet(tmp_path / "AAPL.parquet")
    else:
        bars.with_columns(pl.col("ts").dt.strftime("%Y-%m-%dT%H:%M:%SZ")).write_csv(tmp_path / "AAPL.csv")
    warm = tmp_path.parent / f"{tmp_path.name}-warm"  # imports and the calendar are not what is measured
    warm.mkdir()
    long_bars(400).write_parquet(warm / "AAPL.parquet")
    FilesSource(Settings(files=Files(folder=str(warm)))).minutes("AAPL", FIRST, LAST)
    source = FilesSource(Settings(files=Files(folder=str(tmp_path))))
    began, before = time.perf_counter(), time.process_time()
    read = source.minutes("AAPL", FIRST, LAST)
    seconds, cpu = time.perf_counter() - began, time.process_time() - before
    with capsys.disabled():
        print(  # noqa: T201
            f"\n{kind}: {bars.height} bars in {seconds:.2f} s, {bars.height / seconds / 1e6:.2f} M bars/s, "
            f"{bars.height / cpu / 1e6:.2f} M a second of CPU"
        )
    assert read.height > 270_000


@pytest.mark.bench
def test_two_thousand_files_that_did_not_change_are_seen_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    day = long_bars(390)
    for n in range(2000):
        day.with_columns(pl.lit(f"T{n}").alias("ticker")).write_parquet(folder / f"T{n}.parquet")
    settings = Settings(files=Files(folder=str(folder)), paths=Paths(home=str(tmp_path)))
    tickers = tuple(f"T{n}" for n in range(2000))
    figures = []
    for _ in range(2):
        source = FilesSource(settings)
        began = time.perf_counter()
        known = source.known_until(tickers, NOW)
        marks = {source.fingerprint(ticker) for ticker in tickers}
        figures.append(time.perf_counter() - began)
        source.remember()
        assert (known, len(marks)) == (day["ts"][-1] + timedelta(minutes=1), 2000)
    with capsys.disabled():
        print(f"\n2,000 files: first look {figures[0]:.1f} s, second {figures[1]:.2f} s")  # noqa: T201


@pytest.mark.bench
def test_a_second_collection_of_two_thousand_files_that_did_not_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Twenty tickers, each in about a hundred files of a day, through the store."""
    folder = tmp_path / "data"
    folder.mkdir()
    tickers = [f"T{chr(65 + n)}" for n in range(20)]
    bars = long_bars(140 * 390)  # the 20th of May is the last of them
    calendar = Calendar("XNYS")
    days = calendar.list_sessions(date(2024, 1, 2), date(2024, 5, 20))["session"].to_list()
    parts = {day: bars.filter(pl.col("ts").dt.date() == day) for day in days}
    for ticker in tickers:
        for day, part in parts.items():
            part.with_columns(pl.lit(ticker).alias("ticker")).write_parquet(folder / f"{ticker}_{day}.parquet")
    settings = Settings(files=Files(folder=str(folder)), paths=Paths(home=str(tmp_path)))
    figures, rows = [], set()
    for _ in range(2):
        store = BarStore(tmp_path / "bars", FilesSource(settings), calendar)
        began = time.perf_counter()
        kept = store.collect(
            tickers, days[0], days[-1], as_of=NOW, extended_hours=False, min_coverage=0.5,
        )  # fmt: skip
        figures.append(time.perf_counter() - began)
        rows.add(kept.bars.height)
    with capsys.disabled():
        took = f"first collection {figures[0]:.1f} s, second {figures[1]:.2f} s"
        print(f"\n{len(days) * 20:,} files of 20 tickers: {took}")  # noqa: T201
    assert len(rows) == 1
