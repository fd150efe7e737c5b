"""The source `polygon-flat`: downloaded daily files of the whole market, read once for the watchlist."""

import gzip
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from hftcl.config import load
from hftcl.contracts import check_source
from hftcl.doctor import market as doctor
from hftcl.doctor.row import Context
from hftcl.errors import ConfigError, SourceError
from hftcl.market.bars import RAW_SCHEMA
from hftcl.market.sessions import Calendar
from hftcl.market.sources import Split, find_source
from hftcl.market.sources.polygon_flat import FlatFilesSource
from hftcl.market.store import BarStore
from hftcl.settings import Paths, Polygon, Settings
from tests.installed import PATIENCE_S
from tests.market.exchange import quiet_bars

CALENDAR = Calendar("XNYS")
FIRST, LAST = date(2026, 1, 26), date(2026, 2, 6)
DAYS: list[date] = CALENDAR.list_sessions(FIRST, LAST)["session"].to_list()
TICKERS = ("AAA", "BRK.B", "TpC")
BARS = quiet_bars(*TICKERS, "OTHER", "NULL", first=FIRST, last=LAST, step=1)
AS_OF = datetime(2026, 2, 7, 12, tzinfo=UTC)


def write_day(folder: Path, day: date, bars: pl.DataFrame, *, compressed: bool = True) -> Path:
    """Write a day as the vendor does."""
    mine = bars.filter(pl.col("ts").dt.convert_time_zone("America/New_York").dt.date() == day).sort("ticker", "ts")
    table = mine.select(
        "ticker",
        pl.col("volume").cast(pl.Int64),
        "open",
        "close",
        "high",
        "low",
        (pl.col("ts").dt.epoch("us") * 1000).alias("window_start"),
        pl.lit(7).alias("transactions"),
    )
    path = folder / f"us_stocks_sip/minute_aggs_v1/{day:%Y/%m}" / (f"{day}.csv" + ".gz" * compressed)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = table.write_csv().encode()
    path.write_bytes(gzip.compress(text, 1) if compressed else text)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for n, day in enumerate(DAYS):
        write_day(tmp_path / "flat", day, BARS, compressed=n != 3)
    return tmp_path / "flat"


def opened(home: Path) -> FlatFilesSource:
    return FlatFilesSource(Settings(paths=Paths(home=str(home)), polygon=Polygon(flat_files=str(home / "flat"))))


def test_a_watchlist_is_collected_to_the_bit_and_each_file_is_read_once(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    actual = pl.read_csv

    def counted(path: Path, **options: object) -> pl.DataFrame:
        read.append(path)
        return actual(path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(pl, "read_csv", counted)
    store, heard = BarStore(tmp_path / "bars", opened(tmp_path), CALENDAR), list[str]()
    got = store.collect(
        TICKERS,
        FIRST,
        LAST,
        as_of=AS_OF,
        extended_hours=True,
        min_coverage=1.0,
        on_event=lambda event: heard.append(event.text),
    )
    assert [text for text in heard if "file" in text] == [f"the file of {day}" for day in DAYS]
    true = BARS.filter(pl.col("ticker").is_in(TICKERS)).sort("ticker", "ts")
    assert_frame_equal(got.bars.select(RAW_SCHEMA.names()).sort("ticker", "ts"), true)
    assert sorted(path.name[:10] for path in read) == [str(day) for day in DAYS]
    assert got.left_out == {}
    read.clear()
    BarStore(tmp_path / "bars", opened(tmp_path), CALENDAR).collect(
        TICKERS, FIRST, LAST, as_of=AS_OF, extended_hours=True, min_coverage=1.0
    )
    assert len(read) == 2


def test_files_that_have_not_been_begun_at_ctrl_c_are_not_read(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, ends = list[Path](), threading.Event()
    read_csv, shutdown = pl.read_csv, ThreadPoolExecutor.shutdown

    def read_slowly(path: Path, **options: object) -> pl.DataFrame:
        read.append(path)
        if len(read) > 1:
            ends.wait(PATIENCE_S)
        return read_csv(path, **options)  # type: ignore[arg-type]

    def shut_down(pool: ThreadPoolExecutor, **options: bool) -> None:
        ends.set()
        shutdown(pool, **options)

    def press(day: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pl, "read_csv", read_slowly)
    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", shut_down)
    source = opened(tmp_path)
    source.report_steps(press)
    with pytest.raises(KeyboardInterrupt):
        source.minutes("AAA", FIRST, LAST)
    assert len(read) < len(DAYS)


def test_a_day_whose_file_comes_later_is_filled(tmp_path: Path, folder: Path) -> None:
    path = next(folder.rglob(f"{DAYS[4]}*"))
    kept = path.read_bytes()
    path.unlink()
    heights = []
    for content in (None, kept):
        if content:
            path.write_bytes(content)
        store = BarStore(tmp_path / "bars", opened(tmp_path), CALENDAR)
        got = store.collect(("AAA",), FIRST, LAST, as_of=AS_OF, extended_hours=True, min_coverage=0.5)
        heights.append(got.bars["session"].n_unique())
    assert heights == [9, 10]


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2000])


def write_html(path: Path) -> None:
    path.write_bytes(gzip.compress(b"<html>denied</html>"))


def name_other_columns(path: Path) -> None:
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()).replace(b"window_start", b"sip_timestamp")))


def write_another_day(path: Path) -> None:
    path.write_bytes(next(path.parents[3].rglob(f"{DAYS[1]}*")).read_bytes())


def write_day_aggregates(path: Path) -> None:
    table = pl.read_csv(path).with_columns(pl.col("window_start").min()).unique("ticker")
    path.write_bytes(gzip.compress(table.write_csv().encode()))


@pytest.mark.parametrize(
    "damage",
    [cut_short, write_html, name_other_columns, write_another_day, write_day_aggregates],
    ids=lambda f: f.__name__,
)
def test_a_file_that_cannot_be_true_is_named(tmp_path: Path, folder: Path, damage: Callable[[Path], None]) -> None:
    path = next(folder.rglob(f"{DAYS[0]}*"))
    damage(path)
    with pytest.raises(SourceError, match=str(DAYS[0])) as caught:
        opened(tmp_path).minutes("AAA", FIRST, LAST)
    assert str(path) in str(caught.value)


def test_two_files_of_one_day_and_an_empty_folder_are_refused(tmp_path: Path, folder: Path) -> None:
    copy = folder / f"{DAYS[0]}.csv.gz"
    copy.write_bytes(b"")
    with pytest.raises(ConfigError, match=f"both of {DAYS[0]}"):
        opened(tmp_path)
    (tmp_path / "other" / "flat").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"\[polygon\] flat_files: there is no file such as"):
        opened(tmp_path / "other")


def test_splits_come_from_the_file_beside_them(tmp_path: Path, folder: Path) -> None:
    assert opened(tmp_path).splits("AAA") == ()
    (folder / "splits.json").write_text(
        '{"results": [{"ticker": "AAA", "execution_date": "2026-01-28", "split_from": 1, "split_to": 4}]}'
    )
    assert opened(tmp_path).splits("AAA") == (Split("AAA", date(2026, 1, 28), 1, 4),)
    (folder / "splits.json").write_text(
        '[{"ticker": "AAA", "execution_date": "2026-01-28", "split_to": 1e300, "split_from": 1}]'
    )
    with pytest.raises(SourceError, match="no company makes"):
        opened(tmp_path).splits("AAA")


def test_the_source_keeps_its_promises_and_is_found_by_name(tmp_path: Path, folder: Path) -> None:
    assert check_source(opened(tmp_path), "AAA", FIRST, LAST, AS_OF) == ()
    assert find_source("polygon-flat") is FlatFilesSource
    now = AS_OF - timedelta(days=30)
    assert opened(tmp_path).known_until(TICKERS, now) == now


def test_the_doctor_says_how_far_the_files_reach_and_asks_for_no_key(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "hftcl.toml").write_text(
        f'[market]\nsource = "polygon-flat"\nwatchlist = ["AAPL"]\n[polygon]\nflat_files = "{folder}"\n'
    )
    configuration = load(tmp_path / "hftcl.toml", environ={}, cwd=tmp_path)
    (row,) = doctor.check_source(Context(configuration=configuration, environ={}, now=datetime(2030, 1, 1, tzinfo=UTC)))
    assert f"which needs no key: {len(DAYS)} files, {DAYS[0]} to {DAYS[-1]}; none of " in row.detail
    assert row.status == "warning"
