"""Bars that cannot be true are found by what is in them, and honest ones are left alone."""

import random
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from hftcl.errors import ImplausibleBarsError, SourceError
from hftcl.market.bars import BAR_SCHEMA, RAW_SCHEMA, label
from hftcl.market.doubts import FATAL, describe_whole_prices, find_doubts, find_interval, name_interval
from hftcl.market.sessions import Calendar
from hftcl.market.sources import Split
from hftcl.market.splits import adjust_for_splits
from hftcl.market.store import BarStore, Collected
from tests.market.exchange import Exchange
from tests.market.layout_cases import centred, market
from tests.shared_data import REAL_BARS, needs_real_bars

FIRST, LAST = date(2026, 6, 8), date(2026, 6, 19)
PRICES = ("open", "high", "low", "close")


def labelled(raw: pl.DataFrame) -> pl.DataFrame:
    return label(raw.cast(RAW_SCHEMA), Calendar("XNYS").list_sessions(raw["ts"].min().date(), raw["ts"].max().date()))  # type: ignore[union-attr]


def honest() -> pl.DataFrame:
    return labelled(market("AAPL"))


def reasons(bars: pl.DataFrame) -> list[str]:
    return [doubt.reason for doubt in find_doubts(bars, ticker="AAPL", continuous=False)]


FUTURE: dict[str, Callable[[pl.DataFrame], pl.DataFrame]] = {
    "the next close": lambda bars: bars.with_columns(pl.col("close").shift(-1).forward_fill()),
    "a centred mean": centred("close"),
    "a centred mean of both": centred("open", "close"),
    "a centred median": centred("close", median=True),
    "an open of five minutes ago": lambda bars: bars.with_columns(pl.col("open").shift(5).backward_fill()),
}


@pytest.mark.hazard(76)
@pytest.mark.parametrize("fault", FUTURE)
def test_bars_that_know_later_minutes_are_found(fault: str) -> None:
    assert reasons(honest()) == []
    assert reasons(FUTURE[fault](honest())) == ["future_built"]


@needs_real_bars
@pytest.mark.hazard(76)
@pytest.mark.parametrize("path", sorted(REAL_BARS.glob("*.parquet")), ids=lambda path: path.stem)
def test_real_bars_are_honest_and_each_way_of_spoiling_them_is_found(path: Path) -> None:
    bars = labelled(pl.read_parquet(path).filter(pl.col("ts") >= pl.datetime(2025, 5, 1, time_zone="UTC")))
    assert reasons(bars) == []
    assert [name for name, spoil in FUTURE.items() if reasons(spoil(bars)) != ["future_built"]] == []


@pytest.mark.hazard(77)
@pytest.mark.parametrize("factor", [0.005, 0.001, 2.5, 1000.0, 1_000_000.0])
def test_a_leap_over_a_night_that_no_split_explains_is_found(factor: float) -> None:
    late = pl.col("session") >= date(2026, 6, 16)
    spoilt = honest().with_columns(pl.when(late).then(pl.col(name) * factor).otherwise(pl.col(name)).alias(name) for name in PRICES)  # fmt: skip  # noqa: E501
    found = reasons(spoilt)
    assert "overnight_jump" in found
    assert set(found) <= {"overnight_jump", "unit"}


@pytest.mark.hazard(77)
@pytest.mark.parametrize("ratio", [1e300, 1001.0, 1 / 1001, float("inf")])
def test_a_split_that_no_company_has_made_is_refused(ratio: float) -> None:
    split = Split("AAPL", date(2026, 6, 16), 1.0, ratio)
    with pytest.raises(SourceError, match=r"split of AAPL on 2026-06-16 .*Correct the split table"):
        adjust_for_splits(honest(), (split,))


@pytest.mark.parametrize(("every", "seconds"), [("2m", 120), ("5m", 300), ("15m", 900), ("1h", 3600)])
def test_another_interval_is_named(every: str, seconds: int) -> None:
    longer = honest().group_by_dynamic("ts", every=every, group_by="session").agg(pl.col("close").last())
    found = find_interval(longer["ts"])
    if seconds == 3600:  # seven bars a day are too few to say so of a day
        assert found is None or found[0] == seconds
    else:
        assert found is not None
        assert found[0] == seconds


def test_a_thin_ticker_of_minute_bars_is_no_other_interval() -> None:
    thin = honest().filter(pl.int_range(pl.len()).hash(seed=3) % 5 == 0)
    assert find_interval(thin["ts"]) is None
    assert find_interval(pl.Series([datetime(2026, 6, 8, tzinfo=UTC)])) is None


def test_an_interval_has_a_name() -> None:
    assert [name_interval(n) for n in (1, 300, 3600, 86_400)] == ["1-second", "5-minute", "1-hour", "1-day"]


def test_a_market_that_never_closes_may_trade_fractions() -> None:
    fractions = honest().with_columns(pl.col("volume") / 1000.7)
    assert reasons(fractions) == ["unit"]
    assert find_doubts(fractions, ticker="BTC", continuous=True) == ()
    assert find_doubts(BAR_SCHEMA.to_frame(), ticker="AAPL", continuous=False) == ()


@pytest.mark.hazard(76)
def test_no_collection_of_any_real_source_gives_out_bars_that_cannot_be_true(tmp_path: Path) -> None:
    spoilt = FUTURE["a centred mean"](market("AAPL"))
    store = BarStore(tmp_path, Exchange(spoilt), Calendar("XNYS"))
    with pytest.raises(ImplausibleBarsError, match=r"AAPL: .*foretells.*no model|no model is trained on them: AAPL"):
        store.collect(
            ("AAPL",), FIRST, LAST, as_of=datetime(2026, 6, 20, tzinfo=UTC), extended_hours=False, min_coverage=0.5
        )


def test_a_level_of_volume_that_changes_by_a_hundred_is_told_as_lots_and_kept() -> None:
    bars = labelled(market("AAPL", first=date(2026, 5, 11)))
    later = pl.col("session") >= pl.date(2026, 6, 1)
    mixed = bars.with_columns(pl.when(later).then(pl.col("volume")).otherwise((pl.col("volume") / 100).ceil()))
    (finding,) = find_doubts(mixed, ticker="AAPL", continuous=False)
    assert (finding.reason, finding.session) == ("lots", date(2026, 6, 1))
    assert "lots" not in FATAL
    for factor in (0.1, 10.0):
        news = bars.with_columns(pl.when(later).then(pl.col("volume") * factor).otherwise("volume"))
        assert find_doubts(news, ticker="AAPL", continuous=False) == ()


@pytest.mark.hazard(75)
@pytest.mark.parametrize(("minutes", "a_day"), [(60, 7), (60, 16), (30, 13), (20, 20), (120, 4), (5, 78), (2, 195)])
def test_bars_of_another_length_are_found_however_few_a_day_has(minutes: int, a_day: int) -> None:
    stamps = [
        datetime(2026, 1, 5, 8, tzinfo=UTC) + timedelta(days=day, minutes=minutes * nth)
        for day in range(30)
        for nth in range(a_day)
    ]
    found = find_interval(pl.Series(stamps))
    assert found is not None
    seconds, days, first = found
    assert seconds == (600 if minutes == 20 else 60 * minutes)
    assert (days, first) == (30, date(2026, 1, 5))


@pytest.mark.parametrize("seed", range(5))
def test_a_share_that_trades_a_few_times_a_day_is_of_minutes(seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311 (minutes of trades, no secret)
    stamps = [
        datetime(2026, 1, 5, 14, 30, tzinfo=UTC) + timedelta(days=day, minutes=minute)
        for day in range(30)
        for minute in sorted(rng.sample(range(390), 6))
    ]
    assert find_interval(pl.Series(stamps)) is None


@pytest.mark.hazard(75)
@pytest.mark.parametrize("zone", ["America/New_York", "UTC"])
def test_a_service_on_another_clock_is_refused_by_the_volumes(tmp_path: Path, zone: str) -> None:
    """The stamps of a service are believed to be UTC and the start of the minute; the bars say otherwise."""
    begin = date(2026, 5, 11)
    stamp = pl.col("ts").dt.convert_time_zone(zone).dt.replace_time_zone(None).dt.replace_time_zone("UTC")
    moved = market("AAPL", first=begin).with_columns(stamp.dt.offset_by("1m" if zone == "UTC" else "0m"))
    store = BarStore(tmp_path, Exchange(moved), Calendar("XNYS"))
    with pytest.raises(ImplausibleBarsError, match=r"not UTC and the start of the minute, but (end of|a clock)"):
        store.collect(
            ("AAPL",), begin, LAST, as_of=datetime(2026, 6, 20, tzinfo=UTC), extended_hours=False, min_coverage=0.5
        )


def in_cents(bars: pl.DataFrame, since: date = date(2000, 1, 1)) -> pl.DataFrame:
    later = pl.col("ts") >= pl.lit(since).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    return bars.with_columns(pl.when(later).then((pl.col(name) * 100).round()).otherwise(name) for name in PRICES)


def collect_one(folder: Path, bars: pl.DataFrame, first: date = FIRST) -> Collected:
    return BarStore(folder, Exchange(bars), Calendar("XNYS")).collect(
        ("AAPL",), first, LAST, as_of=datetime(2026, 6, 20, tzinfo=UTC), extended_hours=False, min_coverage=0.3
    )


def test_prices_that_are_all_whole_numbers_are_asked_about_and_kept(tmp_path: Path) -> None:
    dollars = collect_one(tmp_path / "dollars", market("AAPL"))
    assert [f for f in dollars.findings if f.reason == "whole_prices"] == []
    cents = collect_one(tmp_path / "cents", in_cents(market("AAPL")))
    (finding,) = [f for f in cents.findings if f.reason == "whole_prices"]
    assert "whole number, such as" in finding.detail
    assert "are they cents?" in finding.detail
    assert "whole_prices" not in FATAL
    assert cents.bars.height == dollars.bars.height


def test_a_single_price_with_decimals_or_too_few_bars_ask_nothing() -> None:
    cents = labelled(in_cents(market("AAPL")))
    assert describe_whole_prices(cents)
    for name in PRICES:
        last = pl.int_range(pl.len()) == cents.height - 1
        one = cents.with_columns(pl.when(last).then(pl.col(name) + 0.5).otherwise(name).alias(name))
        assert describe_whole_prices(one) == ""
    assert describe_whole_prices(cents.head(900)) == ""
    assert describe_whole_prices(cents.with_columns(pl.lit(15_000.0).alias(name) for name in PRICES)) == ""


def test_cents_after_dollars_are_a_jump_and_no_model_crosses_it(tmp_path: Path) -> None:
    change = date(2026, 6, 12)
    got = collect_one(tmp_path, in_cents(market("AAPL"), change))
    (jump,) = got.jumps
    assert (jump.session, got.bars["session"].min()) == (change, change)
    assert {"unannounced_split", "whole_prices"} <= {finding.reason for finding in got.findings}


def test_cents_of_a_share_that_split_are_asked_about_too(tmp_path: Path) -> None:
    """Adjusted prices have decimals; what counts is how they came."""
    split = Split("AAPL", date(2026, 6, 15), 1, 7)
    late = pl.col("ts") >= pl.datetime(2026, 6, 15, time_zone="UTC")
    bars = in_cents(
        market("AAPL").with_columns(pl.when(late).then(pl.col(name) / 7).otherwise(name) for name in PRICES)
    )
    source = Exchange(bars, table=(split,))
    got = BarStore(tmp_path, source, Calendar("XNYS")).collect(
        ("AAPL",), FIRST, LAST, as_of=datetime(2026, 6, 20, tzinfo=UTC), extended_hours=False, min_coverage=0.5
    )
    assert "whole_prices" in {finding.reason for finding in got.findings}
