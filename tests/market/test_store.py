import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from hftcl.durable import lock
from hftcl.errors import LockHeldError, NoDataError, SourceError, StorageError
from hftcl.events import Event, OnEvent, ignore
from hftcl.market import month_files
from hftcl.market.bars import BAR_SCHEMA
from hftcl.market.month_files import build_folder_name
from hftcl.market.sessions import Calendar
from hftcl.market.sources import Question, Split
from hftcl.market.store import BarStore, Collected
from tests.market.exchange import Documented, Exchange, Foreseeing, quiet_bars

# Ten sessions over the turn of a month: Mon 26 Jan to Fri 6 Feb 2026.
FIRST, LAST = date(2026, 1, 26), date(2026, 2, 6)
FEW_SESSIONS = "coverage 4 of 10 sessions, and [market] min_coverage asks for 50% of them"
LATER = datetime(2026, 2, 7, 12, tzinfo=UTC)
FEW = quiet_bars("AAA", "BBB", first=FIRST, last=LAST, step=30)


def collect(
    folder: Path,
    source: Exchange,
    *tickers: str,
    first: date = FIRST,
    last: date = LAST,
    as_of: datetime = LATER,
    extended_hours: bool = False,
    min_coverage: float = 0.5,
    save: bool = True,
    mapped: bool = False,
    on_event: OnEvent = ignore,
) -> Collected:
    store = BarStore(folder, source, Calendar(source.calendar))
    return store.collect(
        tickers or ("AAA", "BBB"),
        first,
        last,
        as_of=as_of,
        extended_hours=extended_hours,
        min_coverage=min_coverage,
        save=save,
        mapped=mapped,
        on_event=on_event,
    )


def listing(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".collect.lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(files)}


def reasons(got: Collected, *, without: str = "gap") -> dict[tuple[str, str], int]:
    return {(f.ticker, f.reason): f.count for f in got.findings if f.reason != without}


def test_what_is_collected_is_sorted_regular_and_of_the_schema(tmp_path: Path) -> None:
    got = collect(tmp_path, Exchange(FEW), "BBB", "AAA")
    assert got.bars.schema == BAR_SCHEMA
    assert got.bars.equals(got.bars.sort("ticker", "ts"))
    assert got.bars["regular"].all()
    assert got.bars.group_by("ticker").len().sort("ticker").rows() == [("AAA", 130), ("BBB", 130)]
    assert (got.source, got.synthetic, got.left_out, got.fetched_sessions) == ("exchange", False, {}, 20)


@pytest.mark.hazard(36)
def test_extended_hours_come_when_asked_for(tmp_path: Path) -> None:
    source = Exchange(FEW)
    both = collect(tmp_path, source, "AAA", extended_hours=True).bars
    assert both.height == 10 * 33
    assert_frame_equal(both.filter("regular"), collect(tmp_path, source, "AAA").bars, check_exact=True)


def test_the_second_collection_asks_only_for_the_last_two_sessions_and_gives_the_same(tmp_path: Path) -> None:
    source = Exchange(FEW)
    cold = collect(tmp_path, source)
    before = listing(tmp_path)
    source.asked.clear()
    warm = collect(tmp_path, source)
    assert source.asked == [("AAA", date(2026, 2, 5), LAST), ("BBB", date(2026, 2, 5), LAST)]
    assert_frame_equal(cold.bars, warm.bars, check_exact=True)
    assert (cold.findings, warm.fetched_sessions) == (warm.findings, 4)
    assert listing(tmp_path) == before


def test_only_missing_sessions_are_asked_for_each_run_of_them_once(tmp_path: Path) -> None:
    source = Exchange(FEW)
    collect(tmp_path, source, "AAA", first=date(2026, 1, 28), last=date(2026, 1, 30))
    source.asked.clear()
    got = collect(tmp_path, source, "AAA")
    assert source.asked == [("AAA", FIRST, date(2026, 1, 27)), ("AAA", date(2026, 2, 2), LAST)]
    assert_frame_equal(got.bars, collect(tmp_path / "fresh", source, "AAA").bars, check_exact=True)


def test_layout_one_file_and_record_per_ticker_and_month_and_synthetic_bars_lie_apart(tmp_path: Path) -> None:
    collect(tmp_path, Exchange(FEW), "AAA")
    assert sorted(listing(tmp_path)) == [f"AAA/2026-0{m}.{kind}" for m in (1, 2) for kind in ("json", "parquet")]
    stored = pl.read_parquet(tmp_path / "AAA/2026-01.parquet")
    assert stored.columns == ["ticker", "ts", "open", "high", "low", "close", "volume", "session"]
    assert stored["session"].n_unique() == 5
    collect(tmp_path, Exchange(FEW, synthetic=True), "BBB")
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["AAA", "synthetic"]
    assert (tmp_path / "synthetic/BBB/2026-02.parquet").is_file()


def test_without_save_nothing_changes_on_disk(tmp_path: Path) -> None:
    got = collect(tmp_path / "new", Exchange(FEW), save=False)
    assert not (tmp_path / "new").exists()
    assert_frame_equal(got.bars, collect(tmp_path, Exchange(FEW)).bars, check_exact=True)
    before = listing(tmp_path)
    collect(tmp_path, Exchange(FEW, version="2"), save=False)
    assert listing(tmp_path) == before


HOLE = date(2026, 1, 29)
WITHOUT = FEW.filter(pl.col("ts").dt.convert_time_zone("America/New_York").dt.date() != HOLE)
NEWEST = ("AAA", date(2026, 2, 5), LAST)


@pytest.mark.hazard(31)
@pytest.mark.hazard(74)
def test_a_session_that_came_back_empty_is_asked_for_again_and_filled_once_the_source_has_it(tmp_path: Path) -> None:
    source = Exchange(WITHOUT)
    got = collect(tmp_path, source, "AAA")
    assert reasons(got) == {("AAA", "missing_session"): 1, ("AAA", "doubtful"): 1}
    assert HOLE not in BarStore(tmp_path, source, Calendar("XNYS")).read_held("AAA")[0]
    well = Exchange(FEW)
    again = collect(tmp_path, well, "AAA")
    assert well.asked == [("AAA", HOLE, HOLE), NEWEST]
    assert reasons(again) == {("AAA", "revised"): 33}
    assert_frame_equal(again.bars, collect(tmp_path / "fresh", well, "AAA").bars, check_exact=True)
    well.asked.clear()
    assert reasons(collect(tmp_path, well, "AAA")) == {}
    assert well.asked == [NEWEST]


@pytest.mark.hazard(74)
def test_a_session_that_stays_empty_is_asked_for_with_a_growing_pause_and_told_each_time(tmp_path: Path) -> None:
    source = Exchange(WITHOUT)
    asked: list[float] = []
    for hours in (0, 0.1, 1, 3, 7, 20, 31, 60, 103, 200, 271, 500, 607, 1000):
        source.asked.clear()
        got = collect(tmp_path, source, "AAA", as_of=LATER + timedelta(hours=hours))
        assert ("AAA", "missing_session") in reasons(got)
        assert ("AAA", "doubtful") in reasons(got)
        asked += [hours] * (source.asked[0][1] <= HOLE)
    assert asked == [0, 0.1, 1, 7, 31, 103, 271, 607]


def test_a_cache_of_an_earlier_version_that_took_an_outage_for_a_holiday_is_healed(tmp_path: Path) -> None:
    """As it was written then: each session held, without a bar and without a note."""
    with pytest.raises(NoDataError):
        collect(tmp_path, Exchange(FEW.clear()), "AAA")
    for path in tmp_path.rglob("*.json"):
        record = msgspec.json.decode(path.read_bytes(), type=month_files._MonthRecord)
        bare = {day: replace(held, notes=()) for day, held in record.sessions.items()}
        path.write_bytes(msgspec.json.encode(replace(record, sessions=bare).add_seal()))
    source = Exchange(FEW)
    assert collect(tmp_path, source, "AAA").bars.height == 130
    assert source.asked == [("AAA", FIRST, LAST)]


FULL = quiet_bars("AAA", first=FIRST, last=LAST)
CUTS = {
    "a_session_ends_early": pl.col("ts") < datetime(2026, 1, 29, 17, tzinfo=UTC),
    "a_session_begins_late": pl.col("ts") >= datetime(2026, 1, 29, 15, tzinfo=UTC),
    "a_session_has_a_hole": pl.col("ts").dt.hour() != 16,
    "the_bars_are_broken": pl.lit(True),
}


@pytest.mark.hazard(74)
@pytest.mark.parametrize("name", CUTS)
def test_what_an_answer_lacks_against_the_tickers_other_sessions_is_asked_for_again(tmp_path: Path, name: str) -> None:
    there = (pl.col("ts").dt.date() != HOLE) | CUTS[name]
    bars = FULL.filter(there)
    if name == "the_bars_are_broken":
        bad = pl.col("ts") == datetime(2026, 1, 29, 16, tzinfo=UTC)
        bars = FULL.with_columns(pl.when(bad).then(float("nan")).otherwise("close").alias("close"))
    collect(tmp_path, Exchange(bars), "AAA")
    well = Exchange(FULL)
    got = collect(tmp_path, well, "AAA")
    assert well.asked[0][1] <= HOLE <= well.asked[0][2]
    assert got.bars.height == 10 * 390
    assert not [finding for finding in got.findings if finding.reason in ("doubtful", "gap")]


def test_an_answer_that_was_cut_short_takes_nothing_from_what_is_held(tmp_path: Path) -> None:
    full = collect(tmp_path, Exchange(FULL), "AAA")
    cut = Exchange(FULL.filter(pl.col("ts") < datetime(2026, 2, 6, 18, tzinfo=UTC)))
    got = collect(tmp_path, cut, "AAA")
    assert reasons(got) == {("AAA", "vanished_session"): 7 * 60}
    assert_frame_equal(got.bars, full.bars, check_exact=True)


def test_bars_in_unnamed_files_are_those_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "files"))
    (tmp_path / "files").mkdir()
    held, mapped = (collect(tmp_path / "bars", Exchange(FEW), mapped=mapped) for mapped in (False, True))
    assert_frame_equal(mapped.bars, held.bars, check_exact=True)
    lines = [line for line in Path("/proc/self/maps").read_text().splitlines() if str(tmp_path) in line]
    assert lines
    assert all("(deleted)" in line for line in lines), "no folder lists them"


def test_many_gaps_are_one_question(tmp_path: Path) -> None:
    days = Calendar("XNYS").list_sessions(FIRST, LAST)["session"].to_list()
    holes = pl.col("ts").dt.date().is_in(days[0:8:2])
    source = Exchange(FEW.filter(~holes))
    collect(tmp_path, source, "AAA")
    source.asked.clear()
    collect(tmp_path, source, "AAA")
    assert source.asked == [("AAA", days[0], LAST)]


def test_a_source_whose_answers_never_change_is_not_asked_again(tmp_path: Path) -> None:
    source = Exchange(WITHOUT)
    source.unchanging = True
    collect(tmp_path, source, "AAA")
    source.asked.clear()
    assert reasons(collect(tmp_path, source, "AAA")) == {("AAA", "missing_session"): 1}
    assert source.asked == [NEWEST]


def test_a_source_that_looks_ahead_hears_all_questions_before_the_first(tmp_path: Path) -> None:
    source = Foreseeing(FEW)
    collect(tmp_path, source)
    assert source.heard == [(("AAA", "BBB"), FIRST, (Question("AAA", FIRST, LAST), Question("BBB", FIRST, LAST)), 0)]
    assert source.asked == [("AAA", FIRST, LAST), ("BBB", FIRST, LAST)]


@pytest.mark.hazard(33)
def test_the_open_minute_and_the_open_session_are_not_kept(tmp_path: Path) -> None:
    source = Exchange(quiet_bars("AAA", first=FIRST, last=LAST))
    noon = datetime(2026, 2, 6, 17, 0, 30, tzinfo=UTC)
    got = collect(tmp_path, source, "AAA", as_of=noon)
    assert got.bars["ts"].max() == datetime(2026, 2, 6, 16, 59, tzinfo=UTC)
    assert reasons(got) == {}
    assert pl.read_parquet(tmp_path / "AAA/2026-02.parquet")["session"].max() == date(2026, 2, 5)
    source.asked.clear()
    evening = collect(tmp_path, source, "AAA")
    assert source.asked == [("AAA", date(2026, 2, 5), LAST)]
    assert evening.bars["ts"].max() == datetime(2026, 2, 6, 20, 59, tzinfo=UTC)
    early = collect(tmp_path, source, "AAA", as_of=noon)
    assert_frame_equal(early.bars, got.bars, check_exact=True)


def test_after_the_close_a_session_serves_but_is_kept_only_when_its_extended_hours_are_over(tmp_path: Path) -> None:
    source = Exchange(FEW)
    after_close = datetime(2026, 2, 6, 22, tzinfo=UTC)
    got = collect(tmp_path, source, "AAA", as_of=after_close, min_coverage=1.0)
    assert got.bars["session"].max() == LAST
    assert pl.read_parquet(tmp_path / "AAA/2026-02.parquet")["session"].max() == date(2026, 2, 5)


def test_what_the_source_does_not_know_yet_is_not_held_against_a_ticker_nor_kept(tmp_path: Path) -> None:
    until = datetime(2026, 1, 30, 21, tzinfo=UTC)
    source = Exchange(FEW.filter(pl.col("ts") < until), knows_until=until)
    got = collect(tmp_path, source, "AAA", min_coverage=1.0)
    assert reasons(got) == {}
    assert not (tmp_path / "AAA/2026-02.json").exists()
    source.bars, source.knows_until = FEW, None
    assert collect(tmp_path, source, "AAA").bars["session"].n_unique() == 10


@pytest.mark.hazard(34)
def test_late_corrections_of_the_last_two_sessions_are_taken_over_and_counted(tmp_path: Path) -> None:
    collect(tmp_path, Exchange(FEW))
    late = (pl.col("ticker") == "AAA") & (pl.col("ts") == datetime(2026, 2, 6, 15, 30, tzinfo=UTC))
    gone = (pl.col("ticker") == "AAA") & (pl.col("ts") == datetime(2026, 2, 5, 15, 30, tzinfo=UTC))
    old = (pl.col("ticker") == "AAA") & (pl.col("ts") == datetime(2026, 2, 4, 15, 30, tzinfo=UTC))
    volume = pl.when(late | old).then(pl.lit(777.0)).otherwise("volume").alias("volume")
    revised = Exchange(FEW.with_columns(volume).filter(~gone))
    got = collect(tmp_path, revised)
    held_on = {("AAA", "taken_back"): 1, ("AAA", "doubtful"): 1}
    assert reasons(got) == {("AAA", "revised"): 1} | held_on
    assert got.bars.filter(pl.col("volume") == 777.0)["ts"].to_list() == [datetime(2026, 2, 6, 15, 30, tzinfo=UTC)]
    assert reasons(collect(tmp_path, revised)) == {("AAA", "revised"): 1}, "said twice, the bar is gone"
    assert reasons(collect(tmp_path, revised)) == {}
    revised.bars = FEW.filter(~gone)
    assert reasons(collect(tmp_path, revised)) == {("AAA", "revised"): 1}
    record = json.loads((tmp_path / "AAA/2026-02.json").read_text())
    assert [record["sessions"][day]["revisions"] for day in ("2026-02-04", "2026-02-05", "2026-02-06")] == [0, 1, 2]


def test_what_a_new_fingerprint_revises_is_counted_as_long_as_the_old_bars_are_there(tmp_path: Path) -> None:
    collect(tmp_path, Exchange(FEW))
    one = (pl.col("ticker") == "AAA") & (pl.col("ts") == datetime(2026, 1, 28, 15, 30, tzinfo=UTC))
    two = (pl.col("ticker") == "AAA") & (pl.col("ts") == datetime(2026, 2, 3, 15, 30, tzinfo=UTC))
    volume = pl.when(one).then(pl.lit(777.0)).otherwise("volume").alias("volume")
    corrected = FEW.with_columns(volume).filter(~two)
    tried = collect(tmp_path, Exchange(corrected, version="2"), save=False)
    got = collect(tmp_path, Exchange(corrected, version="2"))
    for each in (tried, got):
        assert reasons(each)["AAA", "revised"] == 2
        assert {item.ticker: item.revised for item in each.coverage} == {"AAA": 2, "BBB": 0}
    touched = collect(tmp_path, Exchange(corrected, version="3"))
    assert ("AAA", "revised") not in reasons(touched), "the same bars under a new mark"
    assert {item.ticker: item.revised for item in touched.coverage} == {"AAA": 2, "BBB": 0}
    other = collect(tmp_path, Exchange(FEW, name="another", version="3"))
    assert {item.ticker: item.revised for item in other.coverage} == {"AAA": 0, "BBB": 0}, "others correct none"


def test_a_session_that_the_source_no_longer_has_stays_in_the_cache_and_is_told(tmp_path: Path) -> None:
    full = collect(tmp_path, Exchange(FEW))
    in_new_york = pl.col("ts").dt.convert_time_zone("America/New_York").dt.date()
    got = collect(tmp_path, Exchange(FEW.filter(in_new_york != date(2026, 2, 5))))
    assert reasons(got) == {("AAA", "vanished_session"): 33, ("BBB", "vanished_session"): 33}
    assert_frame_equal(got.bars, full.bars, check_exact=True)


def test_what_cleaning_dropped_is_told_again_from_the_cache(tmp_path: Path) -> None:
    bad = FEW.with_columns(pl.when(pl.col("ts").dt.hour() == 16).then(0.0).otherwise("volume").alias("volume"))
    cold, warm = (collect(tmp_path, Exchange(bad), "AAA") for _ in range(2))
    assert reasons(cold) == {("AAA", "zero_volume"): 20}
    assert cold.findings == warm.findings


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0x10
    path.write_bytes(data)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def write_nonsense(path: Path) -> None:
    path.write_bytes(b'\xff{"sessions": 7}')


def promise_a_session_more(path: Path) -> None:
    path.write_text(path.read_text().replace("2026-01-30", "2026-01-23"))


def copy_of_another_ticker(path: Path) -> None:
    for kind in (".json", ".parquet"):
        path.with_suffix(kind).write_bytes((path.parents[1] / "BBB" / f"{path.stem}{kind}").read_bytes())


@pytest.mark.hazard(38)
@pytest.mark.parametrize(
    ("kind", "harm"),
    [
        (".parquet", flip_a_bit),
        (".parquet", cut_short),
        (".parquet", empty),
        (".parquet", Path.unlink),
        (".json", flip_a_bit),
        (".json", empty),
        (".json", write_nonsense),
        (".json", promise_a_session_more),
        (".json", Path.unlink),
        (".json", copy_of_another_ticker),
    ],
)
def test_a_damaged_file_is_refused_fetched_again_and_told(
    tmp_path: Path, kind: str, harm: Callable[[Path], object]
) -> None:
    source = Exchange(FEW)
    whole = collect(tmp_path, source)
    harm(tmp_path / f"AAA/2026-01{kind}")
    source.asked.clear()
    got = collect(tmp_path, source)
    assert reasons(got) == {("AAA", "damaged_file"): 1}
    assert "AAA/2026-01.parquet" in next(f.detail for f in got.findings if f.reason == "damaged_file")
    assert source.asked[0] == ("AAA", FIRST, date(2026, 1, 30))
    assert_frame_equal(got.bars, whole.bars, check_exact=True)
    assert reasons(collect(tmp_path, source)) == {}


def test_bars_of_another_source_or_of_other_contents_are_fetched_again_and_it_is_said_whose_they_were(
    tmp_path: Path,
) -> None:
    collect(tmp_path, Exchange(FEW, name="files"), "AAA")
    cheaper = FEW.with_columns(pl.col("open", "high", "low", "close") / 2)
    other = collect(tmp_path, Exchange(cheaper, name="polygon"), "AAA")
    assert reasons(other) == {("AAA", "other_source"): 2}
    assert "came from 'files', not from 'polygon'" in other.findings[-1].detail
    assert (other.bars["open"] < 60).all()
    changed = collect(tmp_path, Exchange(FEW, name="polygon", version="2"), "AAA")
    assert reasons(changed) == {("AAA", "other_source"): 2, ("AAA", "revised"): 330}
    assert (changed.bars["open"] > 60).all()
    assert reasons(collect(tmp_path, Exchange(FEW, name="polygon", version="2"), "AAA")) == {}


def test_tickers_without_bars_or_with_too_few_are_left_out_with_the_reason(tmp_path: Path) -> None:
    few = (pl.col("ticker") == "AAA") | (pl.col("ts").dt.date() < date(2026, 1, 30))
    got = collect(tmp_path, Exchange(FEW.filter(few)), "AAA", "BBB", "CCC")
    assert got.left_out == {"BBB": FEW_SESSIONS, "CCC": "no bars"}
    assert got.bars["ticker"].unique().to_list() == ["AAA"]


def test_a_reason_that_holds_for_many_tickers_is_told_once(tmp_path: Path) -> None:
    few = FEW.filter((pl.col("ticker") == "AAA") & (pl.col("ts").dt.date() < date(2026, 1, 30)))
    tickers = ("AAA", "B1", "B2", "B3", "B4", "B5", "B6")
    with pytest.raises(NoDataError) as told:
        collect(tmp_path, Exchange(few), *tickers)
    assert f"(B1, B2, B3, B4, B5 and 1 more: no bars; AAA: {FEW_SESSIONS}). Check" in str(told.value)


def test_when_no_ticker_has_bars_the_error_names_window_and_source(tmp_path: Path) -> None:
    with pytest.raises(NoDataError, match=r"'exchange' has too few bars from 2026-01-26 to 2026-02-06.*CCC: no bars"):
        collect(tmp_path, Exchange(FEW), "CCC")
    weekend = date(2026, 1, 31)
    with pytest.raises(NoDataError, match="from 2026-01-31 to 2026-02-01"):
        collect(tmp_path, Exchange(FEW), "AAA", first=weekend, last=weekend + timedelta(days=1))


@pytest.mark.hazard(27)
def test_when_the_source_fails_for_a_ticker_the_ones_before_it_are_kept_and_nothing_of_it(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="No answer for BBB"):
        collect(tmp_path, Exchange(FEW, broken=frozenset({"BBB"})))
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["AAA"]
    source = Exchange(FEW)
    collect(tmp_path, source)
    assert source.asked == [("AAA", date(2026, 2, 5), LAST), ("BBB", FIRST, LAST)]


def test_a_source_that_answers_in_other_columns_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="without the right volume"):
        collect(tmp_path, Exchange(FEW.with_columns(pl.col("volume").cast(pl.Int64))))


@pytest.mark.hazard(35)
def test_a_known_split_is_adjusted_on_reading_and_stored_as_traded(tmp_path: Path) -> None:
    day = date(2026, 2, 3)
    before = pl.col("ts").dt.date() < day
    raw = FEW.with_columns(
        pl.when(before).then(pl.col(c) * 4).otherwise(c).alias(c) for c in ("open", "high", "low", "close")
    )
    got = collect(tmp_path, Exchange(raw, table=(Split("AAA", day, 1, 4),)), "AAA")
    assert got.bars["open"].is_between(99, 102).all()
    assert reasons(got) == {}
    assert (pl.read_parquet(tmp_path / "AAA/2026-01.parquet")["open"] > 390).all()


def test_stamps_look_wrong_of_a_source_that_does_not_say_what_they_are_and_of_no_other(tmp_path: Path) -> None:
    raw = quiet_bars("AAA", first=FIRST, last=FIRST + timedelta(days=20))
    early = pl.col("ts").dt.strftime("%H:%M") == "14:29"  # UTC, of New York's winter: a minute before the open
    raw = raw.with_columns(pl.when(early).then(pl.lit(1e5)).otherwise("volume").alias("volume"))
    last = FIRST + timedelta(days=20)
    assert ("AAA", "label") in reasons(collect(tmp_path / "silent", Exchange(raw), "AAA", last=last))
    assert ("AAA", "label") not in reasons(collect(tmp_path / "told", Documented(raw), "AAA", last=last))


@pytest.mark.hazard(35)
def test_before_an_unannounced_split_no_session_is_used(tmp_path: Path) -> None:
    before = (pl.col("ts").dt.date() < date(2026, 2, 3)) & (pl.col("ticker") == "AAA")
    raw = FEW.with_columns(
        pl.when(before).then(pl.col(c) * 2).otherwise(c).alias(c) for c in ("open", "high", "low", "close")
    )
    got = collect(tmp_path, Exchange(raw), min_coverage=0.3)
    assert got.bars.group_by("ticker").agg(pl.col("session").min()).sort("ticker").rows() == [
        ("AAA", date(2026, 2, 3)),
        ("BBB", FIRST),
    ]
    assert reasons(got)["AAA", "unannounced_split"] == 6 * 33
    assert collect(tmp_path, Exchange(raw)).left_out == {
        "AAA": f"{FEW_SESSIONS}; they begin on 2026-02-03: set [market] lookback_days = 4 or less. What lies before "
        "was left out: the price changed by a factor of 0.504 over the night before 2026-02-03, near the ratio of a "
        "split that the source does not announce"
    }


def test_a_market_that_never_closes_is_collected_by_utc_day(tmp_path: Path) -> None:
    first, last = date(2026, 1, 30), date(2026, 2, 2)
    raw = quiet_bars("X:BTCUSD", first=first, last=last, calendar="24/7")
    got = collect(tmp_path, Exchange(raw, calendar="24/7"), "X:BTCUSD", first=first, last=last)
    assert got.bars.group_by("session").len().sort("session")["len"].to_list() == [1440] * 4
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["X%3ABTCUSD"]


def test_bars_kept_under_another_calendar_are_fetched_again(tmp_path: Path) -> None:
    collect(tmp_path, Exchange(FEW), "AAA")
    got = collect(tmp_path, Exchange(FEW, calendar="24/7"), "AAA")
    assert reasons(got)["AAA", "other_source"] == 2
    assert got.bars["ts"].is_unique().all()
    assert got.bars["session_minutes"].unique().to_list() == [1440]


def test_progress_names_each_ticker_and_ends_with_all_done(tmp_path: Path) -> None:
    events: list[Event] = []
    collect(tmp_path, Exchange(FEW), on_event=events.append)
    assert events == [Event("collect", 0, 2, "AAA"), Event("collect", 1, 2, "BBB"), Event("collect", 2, 2)]


def test_two_collections_at_once_do_not_mix(tmp_path: Path) -> None:
    with lock(tmp_path / ".collect.lock", "collection of bars"), pytest.raises(LockHeldError, match="collection"):
        collect(tmp_path, Exchange(FEW))
    assert collect(tmp_path, Exchange(FEW)).fetched_sessions == 20


@pytest.mark.hazard(60)
@pytest.mark.parametrize(
    "ticker",
    ["X:BTCUSD", "CON", "NUL.A", "../../x", "/etc/passwd", "..", ".", "", "a\0b", "synthetic", "Ä" * 5000, "A/B"],
)
def test_a_hostile_ticker_stays_inside_the_folder(tmp_path: Path, ticker: str) -> None:
    name = build_folder_name(ticker)
    assert len(name) < 200
    assert not {"/", "\0"} & set(name)
    assert name not in {"", ".", "..", "synthetic", "CON"}
    home = tmp_path / "home"
    raw = FEW.filter(pl.col("ticker") == "AAA").with_columns(pl.lit(ticker).alias("ticker"))
    collect(home, Exchange(raw), ticker)
    assert (home / name / "2026-01.parquet").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


@pytest.mark.hazard(60)
@settings(max_examples=100)
@given(pair=st.lists(st.text(st.sampled_from("ACONaconÅ.%~/:-25E "), max_size=6), min_size=2, max_size=2, unique=True))
def test_distinct_tickers_have_distinct_folders_even_where_case_does_not_count(pair: list[str]) -> None:
    one, other = (build_folder_name(ticker) for ticker in pair)
    assert one.upper() != other.upper()


def test_an_ordinary_ticker_keeps_its_name() -> None:
    assert [build_folder_name(ticker) for ticker in ("AAPL", "BRK.B", "V")] == ["AAPL", "BRK.B", "V"]


def test_a_path_that_is_no_folder_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "bars").write_text("in the way")
    with pytest.raises(StorageError, match=r"(?s)folder of bars failed.*bars"):
        collect(tmp_path / "bars", Exchange(FEW))


def started(script: str, folder: Path) -> "subprocess.Popen[str]":
    """Start a process with the names that `script` uses; lean, because it is started often."""
    command = [sys.executable, "-c", PREPARED + script, str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])


PREPARED = """
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from hftcl.market.sessions import Calendar
from hftcl.market.store import BarStore
from tests.calendars import read_shared_calendar
from tests.market.exchange import Documented, Exchange, Foreseeing, quiet_bars
read_shared_calendar()
first, last, later = date(2026, 1, 26), date(2026, 2, 6), datetime(2026, 2, 7, 12, tzinfo=UTC)
few = quiet_bars("AAA", "BBB", first=first, last=last, step=30)
def collect(version):
    store = BarStore(Path(sys.argv[1]), Exchange(few, version=version), Calendar("XNYS"))
    store.collect(("AAA", "BBB"), first, last, as_of=later, extended_hours=False, min_coverage=0.5)
"""

WITHOUT_ROOM = """
import resource, signal
from hftcl.errors import StorageError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    collect("1")
except StorageError as error:
    print(error)
"""


def test_a_disk_that_is_full_is_one_clear_error_and_the_cache_stays_valid(tmp_path: Path) -> None:
    # a limit on the size of a file stands for a full disk: the same write fails
    with started(WITHOUT_ROOM, tmp_path) as child:
        said, _ = child.communicate()
    assert said.startswith(f"Storing the bars of AAA failed: {os.strerror(errno.EFBIG)}")
    assert child.returncode == 0
    assert listing(tmp_path) == {}
    assert collect(tmp_path, Exchange(FEW)).fetched_sessions == 20


WITHOUT_PERMISSION = """
import os
from hftcl.errors import StorageError
if os.geteuid() == 0:  # root writes everywhere
    os.setuid(65534)
try:
    collect("1")
except StorageError as error:
    print(error)
"""


def test_a_folder_that_may_not_be_written_is_one_clear_error_that_names_the_remedy(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with started(WITHOUT_PERMISSION, tmp_path / "bars") as child:
        said, _ = child.communicate()
    tmp_path.chmod(0o755)
    assert said.startswith("Preparing the folder of bars failed: Permission denied")
    assert "to a folder that you can write" in said
    assert (child.returncode, said.count("\n")) == (0, 1)


KEEP_STORING = """
print("storing", flush=True)
for version in range(1_000_000):
    collect(str(version % 2))
"""


def kill_while_storing(folder: Path, kills: int) -> None:
    truth = collect(folder, Exchange(FEW), save=False)
    seeded = random.Random(39)  # noqa: S311 (moments to kill at, no secret)
    for _ in range(kills):
        with started(KEEP_STORING, folder) as child:
            assert child.stdout
            assert child.stdout.readline() == "storing\n"
            time.sleep(seeded.uniform(0, 0.15))
            child.send_signal(signal.SIGKILL)
        left = listing(folder) if folder.exists() else {}
        assert all(name.replace(".json", ".parquet") in left for name in left if name.endswith(".json"))
        for version in ("0", "1"):
            got = collect(folder, Exchange(FEW, version=version), save=False)
            assert_frame_equal(got.bars, truth.bars, check_exact=True)
    collect(folder, Exchange(FEW, version="0"))
    assert len(listing(folder)) == 8  # two tickers, two months, bars and record: no temporary file is left
    assert reasons(collect(folder, Exchange(FEW, version="0"))) == {}


@pytest.mark.hazard(39)
def test_killed_while_storing_the_cache_is_valid_and_never_promises_what_it_lacks(tmp_path: Path) -> None:
    kill_while_storing(tmp_path / "bars", 4)


@pytest.mark.slow
@pytest.mark.hazard(39)
def test_killed_a_hundred_times_while_storing_the_cache_is_valid(tmp_path: Path) -> None:
    kill_while_storing(tmp_path / "bars", 100)
