import gzip
import json
import os
import shutil
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from hftcl.config import load
from hftcl.errors import ConfigError, RefusedBarsError, SourceError
from hftcl.market.bars import DROPPED, RAW_SCHEMA, Finding, clean, find_label_doubt
from hftcl.market.coverage import measure_coverage
from hftcl.market.sessions import Calendar
from hftcl.market.sources.files import FilesSource
from hftcl.market.store import BarStore, Collected
from hftcl.settings import Files, Market, Paths, Settings
from tests.shared_data import DATA, DIRTY, REAL_BARS, needs_dirty_bars, needs_real_bars, needs_split_bars

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
NEW_YORK = ZoneInfo("America/New_York")
HEADER = "ts,open,high,low,close,volume"
DAY = date(2026, 1, 6)
OPEN = datetime(2026, 1, 6, 14, 30, tzinfo=UTC)


def source(folder: Path, *, calendar: str = "XNYS", **files: Any) -> FilesSource:
    return FilesSource(Settings(files=Files(folder=str(folder), **files), market=Market(calendar=calendar)))


def one(folder: Path, *lines: str, header: str = HEADER, name: str = "AAPL.csv", **files: Any) -> pl.DataFrame:
    """Write a file of `lines` and read AAPL's session of 6 January 2026 from it."""
    (folder / name).write_text("\n".join((header, *lines)) + "\n")
    return source(folder, **files).minutes("AAPL", DAY, DAY)


def stamps(raw: pl.DataFrame) -> list[datetime | None]:
    return raw["ts"].to_list()


def bars(*tickers: str, count: int = 3, start: datetime = OPEN) -> pl.DataFrame:
    rows = [(t, start + timedelta(minutes=m), 10.0, 11.0, 9.0, 10.5, 100.0 + m) for t in tickers for m in range(count)]
    return pl.DataFrame(rows, schema=RAW_SCHEMA, orient="row")


def reasons(findings: tuple[Finding, ...]) -> Counter[str]:
    counted: Counter[str] = Counter()
    for finding in findings:
        counted[finding.reason] += finding.count
    return counted


# --- time stamps


def test_of_the_hour_that_the_clocks_repeat_no_bar_is_taken_for_one_of_an_hour_before(tmp_path: Path) -> None:
    """On 2 November 2025 New York has 01:00 to 01:59 twice: 05:00 to 06:59 UTC."""
    begin = datetime(2025, 11, 2, 3, 0, tzinfo=UTC)
    truth = bars("X:BTCUSD", count=360, start=begin).drop("ticker")
    naive = truth.with_columns(pl.col("ts").dt.convert_time_zone("America/New_York").dt.strftime("%Y-%m-%d %H:%M:%S"))
    naive.with_columns(ticker=pl.lit("X:BTCUSD")).write_csv(tmp_path / "bars.csv")
    files = source(tmp_path, calendar="24/7", timezone="America/New_York")
    sessions = Calendar("24/7").list_sessions(date(2025, 11, 2), date(2025, 11, 2))
    got, findings = clean(files.minutes("X:BTCUSD", date(2025, 11, 2), date(2025, 11, 2)), sessions, ticker="X:BTCUSD")
    known = dict(truth.select("ts", "volume").iter_rows())
    assert all(known[ts] == volume for ts, volume in got.select("ts", "volume").iter_rows())
    assert got.height == 240, "neither pass, for nothing says which bar is of which"
    assert reasons(findings) == {"no_timestamp": 120}


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-06T14:30:00Z",
        "2026-01-06 14:30:00+00:00",
        "2026-01-06T09:30:00-05:00",
        "2026-01-06T09:30:00.000000-0500",
        "2026-01-06 20:00:00+0530",
        "2026-01-06 14:30 UTC",
        "2026-01-06 09:30:00",
        " 2026-01-06T09:30 ",
        "1767709800",
        "1767709800000",
        "1767709800000000",
        "1767709800000000000",
        "1767709800.0",
    ],
)
def test_one_moment_is_understood_in_every_way_of_writing_it(tmp_path: Path, text: str) -> None:
    raw = one(tmp_path, f'"{text}",1,1,1,1,1', timezone="America/New_York")
    assert stamps(raw) == [OPEN]


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (pl.Int64, 1767709800),
        (pl.UInt64, 1767709800_000),
        (pl.Int64, 1767709800_000_000_000),
        (pl.Float64, 1767709800.0),
        (pl.Datetime("ns", "UTC"), OPEN),
        (pl.Datetime("ms", "America/New_York"), OPEN.astimezone(NEW_YORK)),
        (pl.Datetime("us"), OPEN.astimezone(NEW_YORK).replace(tzinfo=None)),
        (pl.String, "2026-01-06 09:30:00"),
    ],
)
def test_a_parquet_column_of_any_type_of_time_is_the_same_moment(
    tmp_path: Path, dtype: pl.DataType, value: object
) -> None:
    row = {name: [1.0] for name in HEADER.split(",")[1:]}
    pl.DataFrame({"ts": pl.Series([value], dtype=dtype), **row}).write_parquet(tmp_path / "AAPL.parquet")
    raw = source(tmp_path, timezone="America/New_York").minutes("AAPL", DAY, DAY)
    assert raw.schema == RAW_SCHEMA
    assert stamps(raw) == [OPEN]


def test_half_minutes_and_fractions_survive_so_that_cleaning_can_refuse_them(tmp_path: Path) -> None:
    raw = one(tmp_path, "2026-01-06T14:30:30Z,1,1,1,1,1", "2026-01-06T14:31:00.250Z,1,1,1,1,1")
    assert stamps(raw) == [OPEN + timedelta(seconds=30), OPEN + timedelta(seconds=60.25)]


def test_the_hour_that_autumn_repeats_and_the_hour_that_spring_skips_are_no_time(
    tmp_path: Path,
) -> None:
    moments = ("2026-11-01 00:59:00", "2026-11-01 01:30:00", "2026-03-08 01:59:00", "2026-03-08 02:30:00")
    (tmp_path / "BTC.csv").write_text("\n".join((HEADER, *(f"{moment},1,1,1,1,1" for moment in moments))) + "\n")
    read = source(tmp_path, timezone="America/New_York", calendar="24/7")
    autumn = read.minutes("BTC", date(2026, 11, 1), date(2026, 11, 1))
    assert stamps(autumn) == [datetime(2026, 11, 1, 4, 59, tzinfo=UTC), None]
    spring = read.minutes("BTC", date(2026, 3, 8), date(2026, 3, 8))
    assert stamps(spring) == [datetime(2026, 3, 8, 6, 59, tzinfo=UTC), None]


def test_a_stamp_at_the_end_of_its_minute_is_moved_to_its_start(tmp_path: Path) -> None:
    assert stamps(one(tmp_path, "2026-01-06T14:31:00Z,1,1,1,1,1", label="end")) == [OPEN]


def test_a_file_whose_stamps_are_all_unreadable_is_an_error_and_not_an_empty_answer(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"AAPL\.csv: none of 2 time stamps in the column 'ts'.*ISO 8601"):
        one(tmp_path, "half past two,1,1,1,1,1", "14:31 or so,1,1,1,1,1")


# --- which rows come


def test_every_row_comes_with_exactly_one_session_also_those_of_weekends(tmp_path: Path) -> None:
    start = datetime(2026, 1, 8, tzinfo=UTC)
    rows = bars("AAPL", count=5 * 24 * 60, start=start)
    rows.write_parquet(tmp_path / "AAPL.parquet")
    read = source(tmp_path)
    days = Calendar("XNYS").list_sessions(date(2026, 1, 7), date(2026, 1, 13))["session"].to_list()
    parts = [read.minutes("AAPL", day, day) for day in days]
    assert sum(part.height for part in parts) == rows.height
    assert pl.concat(parts).equals(read.minutes("AAPL", days[0], days[-1]))


def test_a_row_without_a_readable_stamp_comes_with_the_row_before_it(tmp_path: Path) -> None:
    lines = (
        "2026-01-05T14:30:00Z,1,1,1,1,1",
        "never,1,1,1,1,1",
        "2026-01-06T14:30:00Z,1,1,1,1,1",
        "2126-01-01,1,1,1,1,1",
    )
    assert stamps(one(tmp_path, *lines)) == [OPEN, None]
    assert source(tmp_path).minutes("AAPL", date(2026, 1, 5), DAY)["ts"].null_count() == 2


def test_no_session_no_rows(tmp_path: Path) -> None:
    bars("AAPL", start=datetime(2026, 1, 10, 15, tzinfo=UTC)).write_parquet(tmp_path / "AAPL.parquet")
    raw = source(tmp_path).minutes("AAPL", date(2026, 1, 10), date(2026, 1, 11))
    assert (raw.schema, raw.height) == (RAW_SCHEMA, 0)


# --- whose rows


@pytest.mark.parametrize("name", ["AAPL.parquet", "AAPL_1min.csv", "aapl_2026_01.csv.gz", "AAPL.CSV"])
def test_without_a_ticker_column_the_name_up_to_the_first_underscore_is_the_ticker(tmp_path: Path, name: str) -> None:
    frame = bars("x").drop("ticker")
    if name.endswith("parquet"):
        frame.write_parquet(tmp_path / name)
    else:
        data = frame.with_columns(pl.col("ts").dt.strftime("%Y-%m-%dT%H:%M:%SZ")).write_csv().encode()
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    assert source(tmp_path).minutes("AAPL", DAY, DAY).equals(bars("AAPL"))


def test_a_class_of_shares_keeps_its_point(tmp_path: Path) -> None:
    bars("x").drop("ticker").write_parquet(tmp_path / "BRK.B.parquet")
    assert source(tmp_path).minutes("BRK.B", DAY, DAY).height == 3
    assert source(tmp_path).minutes("BRK", DAY, DAY).height == 0


def test_many_tickers_in_one_file_are_told_apart(tmp_path: Path) -> None:
    pl.concat([bars("AAPL", "AMD"), bars("MSFT", count=2)]).write_parquet(tmp_path / "all.parquet")
    read = source(tmp_path)
    assert read.minutes("AMD", DAY, DAY).equals(bars("AMD"))
    assert read.minutes("MSFT", DAY, DAY).equals(bars("MSFT", count=2))


def test_a_ticker_without_a_file_has_no_bars(tmp_path: Path) -> None:
    bars("AAPL").write_parquet(tmp_path / "AAPL.parquet")
    read = source(tmp_path)
    for ticker in ("MSFT", "../AAPL", "AAP", "AAPL\0"):
        assert read.minutes(ticker, DAY, DAY).height == 0
    assert read.known_until(("MSFT",), NOW) is None


def test_a_ticker_in_several_files_is_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    later = bars("AAPL", start=OPEN + timedelta(minutes=3))
    later.write_parquet(tmp_path / "AAPL_b.parquet")
    bars("AAPL").write_parquet(tmp_path / "AAPL_a.parquet")
    assert source(tmp_path).minutes("AAPL", DAY, DAY).equals(pl.concat([bars("AAPL"), later]))


def test_tickers_are_stripped_and_put_in_capitals(tmp_path: Path) -> None:
    bars("aapl", " AAPL ", count=1).write_parquet(tmp_path / "all.parquet")
    assert source(tmp_path).minutes("AAPL", DAY, DAY)["ticker"].to_list() == ["AAPL", "AAPL"]


def test_a_foreign_row_in_a_tickers_own_file_is_reported_and_never_becomes_that_tickers_bar(tmp_path: Path) -> None:
    pl.concat([bars("AAPL"), bars("MSFT", count=1)]).write_parquet(tmp_path / "AAPL.parquet")
    read = source(tmp_path)
    sessions = Calendar("XNYS").list_sessions(DAY, DAY)
    kept, findings = clean(read.minutes("AAPL", DAY, DAY), sessions, ticker="AAPL")
    assert (kept.height, reasons(findings)) == (3, {"foreign_ticker": 1})
    assert read.minutes("MSFT", DAY, DAY).height == 0


def test_a_file_named_like_one_of_the_many_tickers_in_it_still_serves_them_all(tmp_path: Path) -> None:
    bars("ALL", "AAPL", "AMD").write_parquet(tmp_path / "all.parquet")
    assert source(tmp_path).minutes("AMD", DAY, DAY).height == 3
    assert source(tmp_path).minutes("ALL", DAY, DAY).equals(bars("ALL"))


def test_hidden_files_and_other_files_are_left_alone(tmp_path: Path) -> None:
    bars("AAPL").write_parquet(tmp_path / "AAPL.parquet")
    (tmp_path / ".AAPL.parquet.tmp.parquet").write_bytes(b"half")
    (tmp_path / "README.txt").write_text("hello")
    (tmp_path / "old").mkdir()
    assert source(tmp_path).minutes("AAPL", DAY, DAY).height == 3


# --- dirt in CSV


def test_bom_crlf_blank_lines_semicolons_and_spaces_in_the_header_do_not_matter(tmp_path: Path) -> None:
    text = "\ufeff\r\nTicker; TS ;open;high;low;close;Volume\r\n\r\nAAPL;2026-01-06T14:30:00Z;1;1;1;1;7\r\n   \r\n"
    (tmp_path / "x.csv").write_bytes(text.encode())
    assert source(tmp_path).minutes("AAPL", DAY, DAY).rows() == [("AAPL", OPEN, 1.0, 1.0, 1.0, 1.0, 7.0)]


def test_quoted_thousands_and_exponents_are_numbers(tmp_path: Path) -> None:
    raw = one(tmp_path, '2026-01-06T14:30:00Z,"1,234.5",1,1,1,"1,234,567"', "2026-01-06T14:31:00Z,1,1,1,1,1.2e+05")
    assert raw["open"].to_list() == [1234.5, 1.0]
    assert raw["volume"].to_list() == [1234567.0, 120000.0]


@pytest.mark.parametrize("cell", ["", "n/a", "1,5", "12,34", "--", '"'])
def test_a_cell_that_is_no_number_is_missing_and_the_row_still_counted(tmp_path: Path, cell: str) -> None:
    raw = one(tmp_path, f'2026-01-06T14:30:00Z,1,1,1,"{cell}",1')
    _, findings = clean(raw, Calendar("XNYS").list_sessions(DAY, DAY), ticker="AAPL")
    assert reasons(findings) == {"not_finite": 1}


def test_a_line_with_too_many_cells_is_not_trusted(tmp_path: Path) -> None:
    raw = one(tmp_path, "2026-01-06T14:30:00Z,1,1,1,1,1,234,567", "2026-01-06T14:31:00Z,1,1,1,1,8")
    assert raw["volume"].to_list() == [None, 8.0]
    assert raw["close"].to_list() == [None, 1.0]


@pytest.mark.parametrize("name", ["AAPL.csv", "all.csv"])
def test_a_header_in_the_middle_and_a_cut_last_line_are_reported_and_not_lost(tmp_path: Path, name: str) -> None:
    header = f"ticker,{HEADER}"
    good = "AAPL,2026-01-06T14:30:00Z,1,1,1,1,1"
    text = "\n".join((header, good, header, good.replace(":30", ":31"), 'AAPL,2026-01-06T14:32:00Z,"1', "AAPL,2026-01"))
    (tmp_path / name).write_text(text)
    raw = source(tmp_path).minutes("AAPL", DAY, DAY)
    kept, findings = clean(raw, Calendar("XNYS").list_sessions(DAY, DAY), ticker="AAPL")
    assert (raw.height, kept.height) == (5, 2)
    assert reasons(findings) == {"foreign_ticker": 1, "not_finite": 1, "no_timestamp": 1}


def test_bytes_that_are_no_text_cost_their_line_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "AAPL.csv").write_bytes(
        HEADER.encode() + b"\n\xff\xfe2026-01-06T14:30:00Z,1,1,1,1,1\n2026-01-06T14:31:00Z,1,1,1,1,1\n\0\0\0"
    )
    assert stamps(source(tmp_path).minutes("AAPL", DAY, DAY)) == [None, OPEN + timedelta(minutes=1), None]


# --- errors


def test_a_missing_folder_is_named_with_the_setting(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"nowhere cannot be read \(No such file or directory\).*\[files\] folder"):
        source(tmp_path / "nowhere").minutes("AAPL", DAY, DAY)


def test_a_folder_without_bars_is_named_with_the_setting(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(SourceError, match=r"holds no \.parquet, \.csv or \.csv\.gz file.*\[files\] folder"):
        source(tmp_path).known_until(("AAPL",), NOW)


def test_missing_columns_are_named_with_those_that_are_there_and_the_setting_that_cures_it(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        one(tmp_path, header="moment,open,high,low,paid,volume")
    assert "no column ts, close; it has moment, open, high, low, paid, volume" in str(caught.value)
    assert '[files] columns = { ts = "...", close = "..." }' in str(caught.value)
    raw = one(tmp_path, "2026-01-06T14:30:00Z,1,1,1,5,1", header="moment,open,high,low,paid,volume",
              columns={"ts": "moment", "close": "paid"})  # fmt: skip
    assert raw["close"].to_list() == [5.0]


def test_a_file_that_is_no_bars_file_does_not_stop_the_others(tmp_path: Path) -> None:
    bars("AAPL").write_parquet(tmp_path / "AAPL.parquet")
    (tmp_path / "watchlist.csv").write_text("name,sector\nAAPL,tech\n")
    assert source(tmp_path).minutes("AAPL", DAY, DAY).height == 3
    with pytest.raises(SourceError, match=r"watchlist\.csv is no table of bars"):
        source(tmp_path).minutes("MSFT", DAY, DAY)  # its bars may be in there


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.parquet", b"PAR1 but not really"),
        ("x.parquet", b""),
        ("x.csv", b""),
        ("x.csv.gz", gzip.compress(b"ticker," + HEADER.encode() + b"\n" * 999)[:-9]),
    ],
    ids=["no-parquet", "empty-parquet", "empty-csv", "cut-gzip"],
)
def test_a_damaged_file_is_named_and_never_read_as_a_shorter_one(tmp_path: Path, name: str, data: bytes) -> None:
    bars("AAPL").write_parquet(tmp_path / "AAPL.parquet")
    (tmp_path / name).write_bytes(data)
    with pytest.raises(SourceError, match=rf"{name} .*(cannot be read|is empty).*Restore it"):
        source(tmp_path).minutes("AAPL", DAY, DAY)


def test_a_file_that_vanishes_after_the_first_look_is_an_error(tmp_path: Path) -> None:
    bars("AAPL").write_parquet(tmp_path / "AAPL.parquet")
    read = source(tmp_path)
    read.minutes("AAPL", DAY, DAY)
    (tmp_path / "AAPL.parquet").unlink()
    for ask in (lambda: read.minutes("AAPL", DAY, DAY), lambda: read.fingerprint("AAPL")):
        with pytest.raises(SourceError, match=r"AAPL\.parquet cannot be read"):
            ask()


def test_an_unknown_time_zone_is_a_fault_of_the_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[files\] timezone: 'New York'"):
        source(tmp_path, timezone="New York")


# --- fingerprint, known_until, splits, notes


def test_the_fingerprint_changes_with_the_file_and_with_how_it_is_read_and_with_nothing_else(tmp_path: Path) -> None:
    bars("AAPL").write_parquet(tmp_path / "AAPL.parquet")
    bars("AMD").write_parquet(tmp_path / "AMD.parquet")
    before = source(tmp_path).fingerprint("AAPL")
    os.utime(tmp_path / "AMD.parquet", ns=(1, 1))
    assert source(tmp_path).fingerprint("AAPL") == before
    for changed in ({"label": "end"}, {"timezone": "Asia/Tokyo"}, {"columns": {"close": "open"}}):
        assert source(tmp_path, **changed).fingerprint("AAPL") != before
    status = (tmp_path / "AAPL.parquet").stat()
    os.utime(tmp_path / "AAPL.parquet", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert source(tmp_path).fingerprint("AAPL") != before


def test_the_source_knows_until_the_end_of_its_newest_bar_but_never_after_now(tmp_path: Path) -> None:
    pl.concat([bars("AAPL"), bars("AAPL", count=1, start=NOW + timedelta(days=9))]).write_parquet(
        tmp_path / "a.parquet"
    )
    bars("AMD", count=9).write_parquet(tmp_path / "AMD.parquet")
    read = source(tmp_path)
    assert read.known_until(("AAPL",), NOW) == OPEN + timedelta(minutes=3)
    assert read.known_until(("AAPL", "AMD"), NOW) == OPEN + timedelta(minutes=9)
    assert read.known_until(("AMD",), OPEN + timedelta(minutes=4, seconds=59)) == OPEN + timedelta(minutes=4)


@pytest.mark.parametrize("wrap", ["results", "splits", ""], ids=["results", "splits", "list"])
def test_splits_are_read_in_polygons_format(tmp_path: Path, wrap: str) -> None:
    rows = [
        {"ticker": "AAPL", "execution_date": "2020-08-31", "split_from": 1, "split_to": 4},
        {"ticker": "AAPL", "execution_date": "2014-06-09", "split_from": 1, "split_to": 7},
        {"ticker": "TSLA", "execution_date": "2020-08-31", "split_from": 1, "split_to": 5},
    ]
    (tmp_path / "splits.json").write_text(json.dumps({wrap: rows} if wrap else rows))
    found = source(tmp_path, splits="splits.json").splits("AAPL")
    assert [(split.execution_date.year, split.ratio) for split in found] == [(2014, 7.0), (2020, 4.0)]


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"ticker": "A"}]', '{"results": 3}', "null"])
def test_a_split_file_that_cannot_be_read_is_an_error_and_not_a_world_without_splits(tmp_path: Path, text: str) -> None:
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(SourceError, match=r"\[files\] splits: .*s\.json cannot be read"):
        source(tmp_path, splits="s.json").splits("AAPL")


@pytest.mark.parametrize(("said", "late"), [("start", 1), ("end", -1), ("start", 0), ("end", 0)])
def test_a_wrong_label_shows_in_where_the_opening_minute_stands(tmp_path: Path, said: str, late: int) -> None:
    sessions = Calendar("XNYS").list_sessions(date(2026, 1, 5), date(2026, 1, 9))
    shift = timedelta(minutes=late + (said == "end"))
    frames = [bars("AAPL", count=30, start=start + shift) for start in sessions["open"]]
    volume = pl.when(pl.int_range(pl.len()) % 30 == 0).then(9999.0).otherwise(pl.col("volume"))
    pl.concat(frames).with_columns(volume.alias("volume")).write_parquet(tmp_path / "AAPL.parquet")
    raw = source(tmp_path, label=said).minutes("AAPL", date(2026, 1, 5), date(2026, 1, 9))
    notes = find_label_doubt(clean(raw, sessions, ticker="AAPL")[0], ticker="AAPL")
    truth = {1: "end", -1: "start"}.get(late)
    assert [note.detail for note in notes] == ([f'stamps look like the {truth} of the minute; for the source `files` set [files] label = "{truth}"'] if truth else [])  # fmt: skip  # noqa: E501
    assert all(note.count == 5 for note in notes)


# --- real bars


@needs_real_bars
def test_ten_real_tickers_are_read_whole() -> None:
    tickers = tuple(sorted(path.stem for path in REAL_BARS.glob("*.parquet")))
    read = source(REAL_BARS)
    assert read.known_until(tickers, NOW) == datetime(2025, 7, 1, tzinfo=UTC)
    rows = sum(read.minutes(ticker, date(2025, 5, 2), date(2025, 6, 30)).height for ticker in tickers)
    whole = pl.scan_parquet(REAL_BARS / "*.parquet").filter(pl.col("ts") >= datetime(2025, 5, 2, 8, tzinfo=UTC))
    assert rows == whole.select(pl.len()).collect().item()


@needs_split_bars
def test_the_split_table_beside_the_real_bars_is_found() -> None:
    read = source(DATA / "real" / "split_2020", splits="../splits.json")
    assert [(split.execution_date, split.ratio) for split in read.splits("TSLA")] == [(date(2020, 8, 31), 5.0)]


@needs_dirty_bars
def test_of_the_injected_faults_each_is_either_read_right_or_reported(tmp_path: Path) -> None:
    shutil.copy(DIRTY / "injected_faults" / "AMD_dirty.csv", tmp_path)
    first, last = date(2024, 11, 27), date(2024, 12, 4)
    raw = source(tmp_path, timezone="UTC").minutes("AMD", first, last)
    lines = (tmp_path / "AMD_dirty.csv").read_bytes().split(b"\r\n")
    assert raw.height == len([line for line in lines[1:] if line])
    kept, findings = clean(raw, Calendar("XNYS").list_sessions(first, last), ticker="AMD")
    dropped = {reason: count for reason, count in reasons(findings).items() if reason in DROPPED}
    assert kept.height + sum(dropped.values()) == raw.height
    assert dropped == {
        "foreign_ticker": 2,  # AMDX, and the header in the middle
        "no_timestamp": 2,  # the year 2124, and the cut last line
        "off_minute": 1,
        "outside_session": 3,  # Thanksgiving, Saturday, and the offset that means 01:23 UTC
        "not_finite": 3,  # NaN, empty, and 1,234,567 without quotes; the infinite close lies under the stuck price
        "not_positive": 1,
        "negative_volume": 1,
        "zero_volume": 1,
        "high_below_low": 1,
        "open_or_close_outside_range": 3,  # close x 10, close + 25 %, and the duplicate that conflicts
        "bad_tick": 1,
        "duplicate": 3,
    }
    truth = pl.read_csv(DIRTY / "injected_faults" / "AMD_clean.csv").select(
        pl.col("ts").str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%z", time_unit="us"), "close", "volume"
    )
    both = kept.join(truth, on="ts", suffix="_true")
    wrong = both.filter((pl.col("close") != pl.col("close_true")) | (pl.col("volume") != pl.col("volume_true")))
    changed = {(ts.day, ts.hour) for ts in wrong["ts"]}
    assert changed <= {(27, 16), (2, 15), (3, 15)}  # the stuck price, and two odd but legal volumes


@needs_dirty_bars
def test_stamps_at_the_end_of_new_york_minutes_become_full_regular_sessions() -> None:
    folder = DIRTY / "alphavantage_2019_02_right_labelled"
    settings: dict[str, Any] = {"timezone": "America/New_York", "columns": {"ts": "datetime"}}
    first, last = date(2019, 2, 11), date(2019, 2, 15)
    right, wrong = source(folder, label="end", **settings), source(folder, **settings)
    sessions = Calendar("XNYS").list_sessions(first, last)
    minutes = {}
    tickers = sorted(path.name.split("_")[0] for path in folder.glob("*.csv"))
    assert len(tickers) == 24
    for ticker in tickers:
        kept, _ = clean(right.minutes(ticker, first, last), sessions, ticker=ticker)
        minutes[ticker] = measure_coverage(kept, sessions, ticker=ticker).minutes
        assert kept["regular"].all()
    assert {ticker for ticker, count in minutes.items() if count == 5 * 390} >= {"BAC", "JPM", "V"}
    assert minutes["VIX"] == 0  # an index: its volume is 0 in every minute, so nothing of it can be traded
    with pytest.raises(SourceError, match=r"AAPL_1min\.csv: .* at the wrong hour\. Set \[files\] label = \"end\""):
        wrong.minutes("AAPL", first, last)


# --- what a cache remembers


def test_the_rows_of_a_csv_are_kept_for_its_other_tickers_within_one_collection(tmp_path: Path) -> None:
    path = tmp_path / "many.csv"
    bars("AAPL", "AMD").write_csv(path)
    reader, known = source(tmp_path), path.stat()
    assert reader.minutes("AAPL", DAY, DAY).height == 3
    path.write_text(path.read_text().replace(",10.5,", ",10.4,"))  # what no size and no time of change betrays
    os.utime(path, ns=(known.st_atime_ns, known.st_mtime_ns))
    assert path.stat().st_size == known.st_size
    assert reader.minutes("AMD", DAY, DAY)["close"].to_list() == [10.5] * 3, "parsed again, where once is enough"
    path.write_text(path.read_text() + path.read_text().splitlines()[1] + "\n")
    assert source(tmp_path).minutes("AMD", DAY, DAY)["close"].to_list() == [10.4] * 3, "kept beyond one collection"


def test_a_row_without_a_stamp_is_counted_once_however_often_bars_are_collected(tmp_path: Path) -> None:
    from hftcl.market.store import BarStore

    folder = tmp_path / "bars"
    folder.mkdir()
    rows = [
        f"{(OPEN + timedelta(days=day, minutes=m)).isoformat()},10,11,9,10.5,100" for day in range(3) for m in range(60)
    ]
    (folder / "AAPL.csv").write_text("\n".join((HEADER, *rows[:30], "nonsense,10,11,9,10.5,100", *rows[30:])) + "\n")
    store = BarStore(tmp_path / "cache", source(folder), Calendar("XNYS"))
    told = [
        reasons(
            store.collect(
                ("AAPL",), DAY, DAY + timedelta(days=2), as_of=NOW, extended_hours=False, min_coverage=0
            ).findings
        )["no_timestamp"]
        for _ in range(3)
    ]
    assert told == [1, 1, 1]


@pytest.mark.parametrize(
    "terms",
    [
        '"split_from": 0, "split_to": 4',
        '"split_from": 1, "split_to": -4',
        '"split_from": 1, "split_to": 1e300',
        '"split_from": 5000, "split_to": 1',
        '"split_from": NaN, "split_to": 2',
    ],
)
def test_a_split_that_is_no_ratio_is_an_error(tmp_path: Path, terms: str) -> None:
    bars("AAPL").write_parquet(tmp_path / "AAPL.parquet")
    split = '[{"ticker": "AAPL", "execution_date": "2026-01-06", ' + terms + "}]"
    (tmp_path / "splits.json").write_text(split)
    with pytest.raises(SourceError, match=r"splits\.json"):
        source(tmp_path, splits="splits.json").splits("AAPL")


def test_a_preferred_share_is_another_ticker_than_its_letters_in_capitals(tmp_path: Path) -> None:
    """Polygon's tickers are case-sensitive: TpC is a preferred share of T, TPC is Tutor Perini."""
    folder = tmp_path / "data"
    folder.mkdir()
    bars("TPC").drop("ticker").write_parquet(folder / "TPC.parquet")
    other = bars("TpC").drop("ticker").with_columns(pl.col("open", "high", "low", "close") / 2)
    other.write_parquet(folder / "TpC_1min.parquet")
    read = source(folder)
    assert read.list_tickers() == ("TPC", "TpC")
    ours, theirs = (read.minutes(ticker, DAY, DAY) for ticker in ("TPC", "TpC"))
    assert (ours["close"] == 2 * theirs["close"]).all()
    (tmp_path / "hftcl.toml").write_text('[market]\nwatchlist = ["TPC", "TpC", "BACpK"]\n')
    assert load(tmp_path / "hftcl.toml", environ={}, cwd=tmp_path).settings.market.watchlist == ("TPC", "TpC", "BACpK")
    (tmp_path / "hftcl.toml").write_text('[market]\nwatchlist = ["Aapl"]\n')
    with pytest.raises(ConfigError, match=r"market\.watchlist"):
        load(tmp_path / "hftcl.toml", environ={}, cwd=tmp_path)


def test_a_damaged_file_of_one_ticker_leaves_the_others_alone(tmp_path: Path) -> None:
    """Where each file holds the ticker in its name, or the ticker is on the watchlist."""
    for ticker in ("AAPL", "AMD"):
        bars(ticker).drop("ticker").write_parquet(tmp_path / f"{ticker}.parquet")
    (tmp_path / "IBM.csv.gz").write_bytes(b"nothing packed")
    read = source(tmp_path)
    assert read.minutes("AAPL", DAY, DAY).height == read.minutes("AMD", DAY, DAY).height == 3
    with pytest.raises(RefusedBarsError, match=r"IBM\.csv\.gz cannot be read"):
        read.minutes("IBM", DAY, DAY)
    assert read.known_until(("IBM", "AAPL"), NOW) == OPEN + timedelta(minutes=3)
    with pytest.raises(RefusedBarsError, match=r"IBM\.csv\.gz"):
        read.known_until(("IBM",), NOW)
    (tmp_path / "2026-01-06.csv.gz").write_bytes(b"nothing packed")  # of a whole market's day: it may hold any of them
    with pytest.raises(RefusedBarsError, match=r"2026-01-06\.csv\.gz cannot be read"):
        source(tmp_path).minutes("AAPL", DAY, DAY)


def test_only_the_files_that_may_reach_into_the_sessions_are_opened(tmp_path: Path) -> None:
    home = tmp_path / "home"
    folder = tmp_path / "data"
    folder.mkdir()
    for n in range(3):
        bars("AAPL", start=OPEN + timedelta(days=n)).write_parquet(folder / f"AAPL_{n}.parquet")
    settings = Settings(files=Files(folder=str(folder)), paths=Paths(home=str(home)))
    first = FilesSource(settings)
    whole = first.minutes("AAPL", DAY, DAY + timedelta(days=2))
    first.remember()
    again = FilesSource(settings)
    again.fingerprint("AAPL")
    (folder / "AAPL_0.parquet").write_bytes(b"torn")  # not of the session that is asked for: nobody looks
    (folder / "AAPL_2.parquet").write_bytes(b"torn")
    assert_frame_equal(again.minutes("AAPL", DAY + timedelta(days=1), DAY + timedelta(days=1)), whole[3:6])
    with pytest.raises(RefusedBarsError, match=r"AAPL_2\.parquet changed while it was read"):
        again.minutes("AAPL", DAY + timedelta(days=2), DAY + timedelta(days=2))


def test_a_session_that_is_over_is_kept_though_the_folder_has_no_extended_hours(tmp_path: Path) -> None:
    folder, calendar = tmp_path / "data", Calendar("XNYS")
    folder.mkdir()
    bars("AAPL", count=390).write_parquet(folder / "AAPL.parquet")
    settings = Settings(files=Files(folder=str(folder)), paths=Paths(home=str(tmp_path)))

    def collect(as_of: datetime) -> Collected:
        store = BarStore(tmp_path / "bars", FilesSource(settings), calendar)
        return store.collect(["AAPL"], DAY, DAY, as_of=as_of, extended_hours=False, min_coverage=0.5)

    during = collect(OPEN + timedelta(minutes=200))
    assert (during.bars.height, during.fetched_sessions) == (200, 1)
    assert (collect(OPEN + timedelta(minutes=400)).bars.height, collect(NOW).bars.height) == (390, 390)
    again = collect(NOW)
    assert (again.bars.height, again.fetched_sessions) == (390, 0), "its file was read again, though it did not change"
    bars("AAPL", count=380).write_parquet(folder / "AAPL.parquet")
    changed = collect(NOW)
    assert (changed.bars.height, changed.fetched_sessions) == (380, 1)
