import json
import time
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from hftcl.market.bars import DROPPED, RAW_SCHEMA, Finding, clean
from hftcl.market.coverage import measure_coverage
from hftcl.market.sessions import Calendar
from hftcl.market.sources import Split
from hftcl.market.splits import adjust_for_splits, find_unannounced_splits
from hftcl.market.store import BarStore
from tests.market.exchange import Exchange
from tests.shared_data import DATA, DIRTY, REAL_BARS, SPLIT_2020, needs_dirty_bars, needs_real_bars, needs_split_bars

TICKERS = ("AAPL", "ABBV", "AMD", "AMZN", "GS", "JNJ", "META", "NVDA", "TSLA", "V")
SPY = DATA / "real" / "market" / "SPY.parquet"
FAULTS = DIRTY / "injected_faults"


def as_raw(bars: pl.DataFrame) -> pl.DataFrame:
    return bars.select(RAW_SCHEMA.names()).cast(RAW_SCHEMA)


def sessions_of(first: date, last: date) -> pl.DataFrame:
    return Calendar("XNYS").list_sessions(first, last)


@needs_real_bars
@pytest.mark.parametrize("ticker", TICKERS)
def test_of_ten_months_of_real_bars_not_one_is_dropped_or_suspected(ticker: str) -> None:
    raw = as_raw(pl.read_parquet(REAL_BARS / f"{ticker}.parquet"))
    sessions = sessions_of(date(2024, 9, 3), date(2025, 6, 30))
    bars, findings = clean(raw, sessions, ticker=ticker)
    assert (bars.height, findings) == (raw.height, ())
    assert find_unannounced_splits(bars, ()) == ()
    got = measure_coverage(bars, sessions, ticker=ticker)
    assert (got.sessions, got.expected_sessions, got.findings) == (206, 206, ())
    assert got.minutes > 0.98 * got.expected_minutes


@needs_real_bars
def test_the_closing_cross_at_four_and_on_half_days_at_one_is_not_a_regular_bar() -> None:
    raw = as_raw(pl.read_parquet(REAL_BARS / "AAPL.parquet"))
    bars, _ = clean(raw, sessions_of(date(2024, 11, 27), date(2024, 11, 29)), ticker="AAPL")
    regular = bars.filter("regular").group_by("session").agg(pl.col("minute").max(), pl.len()).sort("session")
    assert regular.rows() == [(date(2024, 11, 27), 389, 390), (date(2024, 11, 29), 209, 210)]
    cross = bars.filter(pl.col("minute") == pl.col("session_minutes"))
    assert cross["regular"].to_list() == [False, False]


@needs_real_bars
@pytest.mark.skipif(not SPY.is_file(), reason="the bars of SPY are not on this machine")
def test_a_feed_that_silently_turns_to_extended_hours_keeps_its_regular_sessions() -> None:
    raw = as_raw(pl.read_parquet(SPY))
    sessions = sessions_of(date(2024, 3, 26), date(2025, 4, 1))
    bars, findings = clean(raw.filter(pl.col("ts") < sessions["extended_close"][-1]), sessions, ticker="SPY")
    assert [f for f in findings if f.reason in DROPPED] == []
    lengths = bars.filter("regular").group_by("session").agg(pl.len(), pl.col("session_minutes").first())
    assert (lengths["len"] == lengths["session_minutes"]).all()
    premarket = bars.filter(pl.col("minute") < 0)["session"].unique().sort()
    assert (premarket[0], premarket.len()) == (date(2025, 3, 27), 4)
    found = {finding.reason: finding for finding in measure_coverage(bars, sessions, ticker="SPY").findings}
    # 255 sessions; five after the change, and three half days with bars until four, have more than regular hours
    assert (found["partly_extended"].count, found["partly_extended"].session) == (255 - 5 - 3, date(2024, 3, 26))
    assert measure_coverage(bars.filter("regular"), sessions, ticker="SPY").findings == ()


@needs_split_bars
@pytest.mark.hazard(35)
@pytest.mark.parametrize(("ticker", "ratio"), [("AAPL", 4.0), ("TSLA", 5.0)])
def test_the_splits_of_2020_are_returns_only_where_the_table_is_missing_and_then_they_are_found(
    ticker: str, ratio: float
) -> None:
    raw = as_raw(pl.read_parquet(SPLIT_2020 / f"{ticker}.parquet"))
    day = date(2020, 8, 31)
    bars, findings = clean(raw, sessions_of(date(2020, 7, 1), date(2020, 10, 30)), ticker=ticker)
    assert [f for f in findings if f.reason in DROPPED] == []
    (found,) = find_unannounced_splits(bars, ())
    assert (found.ticker, found.session, found.first) == (ticker, day, datetime(2020, 8, 31, 8, tzinfo=UTC))
    assert found.count == bars.filter(pl.col("session") < day).height
    splits = tuple(
        Split(s["ticker"], date.fromisoformat(s["execution_date"]), s["split_from"], s["split_to"])
        for s in json.loads((DATA / "real" / "splits.json").read_text())["splits"]
    )
    assert find_unannounced_splits(bars, splits) == ()
    change = (pl.col("open") / pl.col("close").shift(1)).log().abs()
    assert abs(bars.select(change.max()).item() - pl.Series([ratio]).log().item()) < 0.1
    adjusted = adjust_for_splits(bars, splits)
    near = adjusted.filter(pl.col("session").is_between(date(2020, 8, 27), date(2020, 9, 2)))
    assert near.select(change.max()).item() < 0.06  # TSLA opened 5.6 % higher that day
    assert_frame_equal(adjusted.filter(pl.col("session") >= day), bars.filter(pl.col("session") >= day))


@cache
def dirty_bars() -> pl.DataFrame:
    """AMD_dirty.csv read leniently; judging its lines is the business of the files source, and its tests'."""
    text = (FAULTS / "AMD_dirty.csv").read_text(encoding="utf-8-sig").replace("1,234,567", "1234567")
    lines = [line.split(",") for line in text.splitlines() if line.count(",") == 6 and not line.startswith("ticker")]
    table = pl.DataFrame(lines, schema=RAW_SCHEMA.names(), orient="row")
    stamp = pl.col("ts").str.replace(" ", "T").str.replace("Z$", "+00:00")
    zoned = pl.when(stamp.str.contains(r"[+-]\d\d:\d\d$")).then(stamp).otherwise(stamp + "+00:00")
    ts = zoned.str.to_datetime("%Y-%m-%dT%H:%M:%S%:z", time_unit="us")
    return table.with_columns(ts, pl.col(*RAW_SCHEMA.names()[2:]).cast(pl.Float64, strict=False))


@cache
def cleaned() -> tuple[pl.DataFrame, tuple[Finding, ...], pl.DataFrame]:
    sessions = sessions_of(date(2024, 11, 27), date(2024, 12, 4))
    bars, findings = clean(dirty_bars(), sessions, ticker="AMD", as_of=datetime(2024, 12, 31, tzinfo=UTC))
    return bars, findings, sessions


# Kinds of truth.json -> the reason under which `clean` drops it. Kinds of the text itself are not here.
EXPECTED = {
    "bad_tick_x10_close": "open_or_close_outside_range",
    "bad_tick_low_penny": "bad_tick",
    "high_below_low": "high_below_low",
    "negative_open": "not_positive",
    "nan_close": "not_finite",
    "empty_close": "not_finite",
    "zero_volume": "zero_volume",
    "negative_volume": "negative_volume",
    "off_minute_timestamp": "off_minute",
    "offset_timestamp_means_5h_later": "outside_session",
    "lowercase_ticker": "foreign_ticker",
    "padded_ticker": "foreign_ticker",
    "foreign_ticker": "foreign_ticker",
    "close_above_high_by_25pct": "open_or_close_outside_range",
    "conflicting_duplicate": "open_or_close_outside_range",  # its close is above its own high
    "exact_duplicate": "duplicate",
    "far_future_bar": "future",
    "weekend_bar_appended_out_of_order": "outside_session",
    "holiday_bar (Thanksgiving)": "outside_session",
}
KEPT = {
    "fractional_volume (legal since 2026)",
    "scientific_volume (legal)",
    "thousands_separator_volume",
    "naive_timestamp",
    "out_of_order_pair",
    "stuck_price_25_bars",
    "inf_close",  # the injector wrote the stuck price over it: 133.25 stands in the file
}
OF_THE_TEXT = {"utf8_bom", "crlf", "blank_line", "repeated_header", "truncated_last_line"}


@needs_dirty_bars
@pytest.mark.hazard(32)
def test_each_labelled_fault_is_found_under_its_reason_and_nothing_else_is() -> None:
    faults = json.loads((FAULTS / "truth.json").read_text())["faults"]
    kinds = Counter(fault["kind"] for fault in faults)
    assert set(kinds) == set(EXPECTED) | KEPT | OF_THE_TEXT | {"missing_37_bars"}
    bars, findings, sessions = cleaned()
    counted: Counter[str] = Counter()
    for finding in findings:
        if finding.reason in DROPPED:
            counted[finding.reason] += finding.count
    assert counted == Counter(EXPECTED[kind] for kind in kinds.elements() if kind in EXPECTED)
    assert bars.height + counted.total() == dirty_bars().height
    (stuck,) = [finding for finding in findings if finding.reason == "stuck_price"]
    assert (stuck.count, stuck.first) == (25, datetime(2024, 11, 27, 16, 25, tzinfo=UTC))
    (gap,) = measure_coverage(bars, sessions, ticker="AMD").gaps
    assert (gap.count, gap.first) == (37, datetime(2024, 11, 29, 15, 17, tzinfo=UTC))


@needs_dirty_bars
@pytest.mark.hazard(32)
def test_what_is_left_of_the_dirty_file_is_the_clean_file() -> None:
    bars, _, sessions = cleaned()
    source = pl.read_csv(FAULTS / "AMD_clean.csv", try_parse_dates=True)
    clean_bars, nothing = clean(as_raw(source), sessions, ticker="AMD")
    assert nothing == ()
    both = bars.join(clean_bars, on="ts", how="left", suffix="_true")
    assert both["close_true"].null_count() == 0
    differing = both.filter(
        pl.any_horizontal(pl.col(c).ne_missing(pl.col(f"{c}_true")) for c in ("open", "high", "low", "close"))
    )
    stuck = pl.col("ts").is_between(
        datetime(2024, 11, 27, 16, 25, tzinfo=UTC), datetime(2024, 11, 27, 16, 25, tzinfo=UTC) + timedelta(minutes=24)
    )
    assert differing.filter(~stuck).is_empty()  # the stuck prices are kept, and noted


@needs_real_bars
@pytest.mark.bench
def test_ten_months_of_ten_tickers_are_clean_within_two_seconds_and_sixty_days_are_read_within_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = {ticker: as_raw(pl.read_parquet(REAL_BARS / f"{ticker}.parquet")) for ticker in TICKERS}
    sessions = sessions_of(date(2024, 9, 3), date(2025, 6, 30))
    began = time.perf_counter()
    rows = sum(clean(bars, sessions, ticker=ticker)[0].height for ticker, bars in raw.items())
    cleaning_s = time.perf_counter() - began
    store = BarStore(tmp_path, Exchange(pl.concat(raw.values())), Calendar("XNYS"))
    for _ in range(2):
        began = time.perf_counter()
        got = store.collect(
            TICKERS,
            date(2025, 5, 1),
            date(2025, 6, 30),
            as_of=datetime(2025, 7, 1, tzinfo=UTC),
            extended_hours=False,
            min_coverage=0.5,
        )
        collecting_s = time.perf_counter() - began
    with capsys.disabled():
        print(f"\ncleaning {rows} bars: {cleaning_s:.2f} s; 60 cached days of 10 tickers: {collecting_s:.2f} s")  # noqa: T201
    assert got.fetched_sessions == 20
    assert cleaning_s < 2
    assert collecting_s < 1
