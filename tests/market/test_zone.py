"""Zone and label are found from the volumes, or the answer is "not sure"; a wrong one is never named."""

from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest

from hftcl.events import ignore
from hftcl.market.inspect import inspect
from hftcl.market.sessions import Calendar
from hftcl.market.sources.synthetic import SyntheticSource
from hftcl.market.zone import StampClock, find_clock, find_stretch, fits
from hftcl.settings import Files, Paths, Settings
from tests.market.layout_cases import market
from tests.shared_data import REAL_BARS, needs_real_bars

ZONES = (
    "UTC", "America/New_York", "America/Chicago", "America/Los_Angeles", "Europe/London", "Europe/Athens",
    "Asia/Kolkata", "Asia/Tokyo", "Etc/GMT+5", "Etc/GMT+4", "Europe/Berlin", "Australia/Sydney",
)  # fmt: skip
XNYS = Calendar("XNYS")


def naive(bars: pl.DataFrame, zone: str, *, end: bool) -> pl.DataFrame:
    """Return the bars with `at`, the digits of the stamp on a clock of `zone`, as if UTC."""
    digits = pl.col("ts").dt.convert_time_zone(zone).dt.replace_time_zone(None).dt.replace_time_zone("UTC")
    return bars.with_columns(digits.dt.offset_by("1m" if end else "0m").alias("at"))


def same_clock(clock: StampClock, zone: str, bars: pl.DataFrame) -> bool:
    """Whether both zones give the same moments for every stamp."""
    moments = [
        bars.select(
            pl.col("at").dt.replace_time_zone(None).dt.replace_time_zone(name, ambiguous="null", non_existent="null")
            .dt.convert_time_zone("UTC")
        ).to_series()
        for name in (clock.zone or "UTC", zone)
    ]  # fmt: skip
    return bool((moments[0] == moments[1]).all())


@cache
def year() -> pl.DataFrame:
    bars = SyntheticSource(Settings()).minutes("AAPL", date(2025, 9, 15), date(2025, 12, 15))
    return bars.filter(pl.col("volume") > 0)


def test_twenty_folders_in_every_zone_are_named_right_or_not_at_all() -> None:
    rng = np.random.default_rng(5)
    named = 0
    for n in range(24):
        zone, end = ZONES[n % len(ZONES)], n >= 12
        first = date(2025, 9, 15) + timedelta(days=int(rng.integers(0, 60)))
        days = int(rng.integers(7, 30))
        part = year().filter(pl.col("ts").dt.date().is_between(first, first + timedelta(days=days)))
        bars = naive(part, zone, end=end)
        clock = find_clock(bars["at"], bars["volume"], XNYS)
        if clock.zone is None:
            assert clock.why
            continue
        named += 1
        assert same_clock(clock, zone, bars), (zone, clock)
        assert clock.label == ("end" if end else "start")
    assert named >= 20


@pytest.mark.parametrize("minutes_off", [240, 60, -60])
def test_a_stretch_of_sessions_on_another_clock_is_named_with_its_days(minutes_off: int) -> None:
    """As where two exports were put together, or a fixed zone was taken for one with a summer time."""
    sessions = XNYS.list_sessions(date(2026, 1, 5), date(2026, 3, 2))
    minutes = pl.datetime_ranges("open", "close", "1m", closed="left", time_unit="us", time_zone="UTC").alias("ts")
    bars = sessions.select("session", "open", minutes).explode("ts", empty_as_null=False)
    age = (pl.col("ts") - pl.col("open")).dt.total_minutes()
    bars = bars.with_columns((10_000 / (1 + age)).alias("volume"))
    days = sessions["session"].to_list()
    later = pl.col("session") > days[29]
    moved = bars.with_columns(pl.when(later).then(pl.col("ts").dt.offset_by(f"{minutes_off}m")).otherwise("ts"))
    assert fits(moved["ts"], moved["volume"], XNYS), "most sessions fit, so that all seem to"
    stretch = find_stretch(moved["ts"], moved["volume"], XNYS)
    assert stretch is not None
    assert (stretch.offset_minutes, stretch.first, stretch.last) == (minutes_off, days[30], days[-1])
    assert find_stretch(bars["ts"], bars["volume"], XNYS) is None


@needs_real_bars
def test_real_bars_have_no_stretch_on_another_clock_however_thin() -> None:
    rng = np.random.default_rng(3)
    for file in sorted(REAL_BARS.glob("*.parquet")):
        bars = pl.read_parquet(file)
        for first in (date(2024, 9, 3), date(2024, 12, 2), date(2025, 3, 3)):
            part = bars.filter(pl.col("ts").dt.date().is_between(first, first + timedelta(days=60)))
            thin = part.filter(pl.Series(rng.random(part.height) < 0.15))
            assert find_stretch(part["ts"], part["volume"], XNYS) is None, (file.name, first)
            assert find_stretch(thin["ts"], thin["volume"], XNYS) is None, (file.name, first)


def test_zones_of_the_same_stamps_are_one_answer_and_told_as_such() -> None:
    bars = naive(market("AAPL"), "America/New_York", end=False)
    clock = find_clock(bars["at"], bars["volume"], XNYS)
    assert (clock.zone, clock.label) == ("America/New_York", "start")
    assert "Etc/GMT+4" in clock.same


@pytest.mark.parametrize("minutes", [1, 60, 180, 240, 300])
def test_a_constant_distance_from_the_open_is_named(minutes: int) -> None:
    bars = market("AAPL").with_columns(pl.col("ts").dt.offset_by(f"{minutes}m"))
    assert find_clock(bars["ts"], bars["volume"], XNYS).offset_minutes == minutes
    assert not fits(bars["ts"], bars["volume"], XNYS)
    assert fits(market("AAPL")["ts"], market("AAPL")["volume"], XNYS)


def test_what_cannot_be_known_is_not_named() -> None:
    stamps = pl.datetime_range(date(2026, 6, 8), date(2026, 6, 20), "1m", time_unit="us", time_zone="UTC", eager=True)
    flat = pl.DataFrame({"ts": stamps, "volume": 100.0})
    noise = flat.with_columns(pl.Series("volume", np.random.default_rng(3).uniform(1, 100, flat.height)))
    two = market("AAPL").head(780)
    for bars, calendar in (
        (noise, "XNYS"),
        (flat, "XNYS"),
        (two, "XNYS"),
        (market("AAPL"), "24/7"),
        (flat.head(0), "XNYS"),
    ):
        clock = find_clock(bars["ts"], bars["volume"], Calendar(calendar))
        assert (clock.zone, clock.label) == (None, None)
        assert clock.why


@needs_real_bars
@pytest.mark.slow
def test_of_two_hundred_folders_of_real_bars_nine_in_ten_are_named_and_none_wrong(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """At least 92 % are asked for; random tickers, spans, zones, labels and hours."""
    real = {path.stem: pl.read_parquet(path, columns=["ts", "volume"]) for path in REAL_BARS.glob("*.parquet")}
    local = pl.col("ts").dt.convert_time_zone("America/New_York")
    rng = np.random.default_rng(2)
    named = total = 0
    why = []
    while total < 200:
        tickers = rng.choice(sorted(real), rng.integers(1, 4), replace=False)
        start = date(2024, 9, 3) + timedelta(days=int(rng.integers(0, 270)))
        stop = start + timedelta(days=int(rng.integers(3, 25) * 1.5))
        zone, end, extended = str(rng.choice(ZONES)), bool(rng.integers(0, 2)), bool(rng.integers(0, 2))
        rows = pl.concat([real[t].filter(local.dt.date().is_between(start, stop)) for t in tickers])
        if not extended:
            minute = local.dt.hour().cast(pl.Int32) * 60 + local.dt.minute()
            rows = rows.filter(minute.is_between(570, 959))
        if rows["ts"].n_unique() < 300:
            continue
        total += 1
        bars = naive(rows, zone, end=end)
        clock = find_clock(bars["at"], bars["volume"], XNYS)
        if clock.zone is None:
            why.append(clock.why)
            continue
        named += 1
        assert same_clock(clock, zone, bars), (zone, end, extended, clock)
        assert clock.label == ("end" if end else "start"), (zone, end, extended, clock)
    with capsys.disabled():
        print(f"\n{named} of {total} folders named, none wrong; not sure: {why}")  # noqa: T201
    assert named >= 184


def _write_iso(bars: pl.DataFrame, folder: Path) -> None:
    bars.with_columns(pl.col("ts").dt.strftime("%Y-%m-%d %H:%M:%S")).write_csv(folder / "AAPL.csv")


def _write_german(bars: pl.DataFrame, folder: Path) -> None:
    table = bars.with_columns(pl.col("ts").dt.strftime("%d.%m.%Y %H:%M"), pl.col(*_PRICES, "volume").cast(pl.String))
    commas = table.with_columns(pl.col(*_PRICES).str.replace(".", ",", literal=True))
    commas.write_csv(folder / "AAPL_1min.txt", separator=";")


def _write_american(bars: pl.DataFrame, folder: Path) -> None:
    day, clock = pl.col("ts").dt.strftime("%m/%d/%Y").alias("Date"), pl.col("ts").dt.strftime("%I:%M %p").alias("Time")
    bars.select(day, clock, *_PRICES, "volume").write_csv(folder / "AAPL.csv")


def _write_compact(bars: pl.DataFrame, folder: Path) -> None:
    bars.with_columns(pl.col("ts").dt.strftime("%Y%m%d %H%M%S")).write_csv(folder / "aapl.tsv", separator="\t")


def _write_parquet(bars: pl.DataFrame, folder: Path) -> None:
    bars.with_columns(pl.col("ts").dt.replace_time_zone(None)).write_parquet(folder / "AAPL.parquet")


_PRICES = ("open", "high", "low", "close")
_FORMATS = (_write_iso, _write_german, _write_american, _write_compact, _write_parquet)


@needs_real_bars
@pytest.mark.slow
def test_of_two_hundred_folders_in_any_format_inspect_names_nine_in_ten_and_none_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As above, through files: random format, zone, label, span and hours."""
    real = {path.stem: pl.read_parquet(path) for path in REAL_BARS.glob("*.parquet")}
    local = pl.col("ts").dt.convert_time_zone("America/New_York")
    rng = np.random.default_rng(16)
    named = total = 0
    while total < 200:
        rows = real[str(rng.choice(sorted(real)))]
        start = date(2024, 9, 3) + timedelta(days=int(rng.integers(0, 270)))
        stop = start + timedelta(days=int(rng.integers(3, 25) * 1.5))
        zone, end, extended = str(rng.choice(ZONES)), bool(rng.integers(0, 2)), bool(rng.integers(0, 2))
        write = _FORMATS[int(rng.integers(0, len(_FORMATS)))]
        rows = rows.filter(local.dt.date().is_between(start, stop))
        if not extended:
            minute = local.dt.hour().cast(pl.Int32) * 60 + local.dt.minute()
            rows = rows.filter(minute.is_between(570, 959))
        if rows.height < 300:
            continue
        folder = tmp_path / str(total)
        folder.mkdir()
        total += 1
        bars = naive(rows.sort("ts"), zone, end=end)
        write(bars.select(pl.col("at").alias("ts"), *_PRICES, "volume"), folder)
        order: Literal["mdy", "dmy"] = "mdy" if write is _write_american else "dmy"  # a week alone may leave it open
        settings = Settings(files=Files(date_order=order), paths=Paths(home=str(tmp_path)))
        (report,) = inspect(settings, folder, on_event=ignore)
        if report.zone is None:
            assert report.refused, "what is not sure is asked for"
            continue
        named += 1
        clock = StampClock(zone=report.zone, label=None, same=(), score=1, sessions=0, offset_minutes=None, why="")
        assert same_clock(clock, zone, bars), (zone, end, extended, write.__name__, report)
        assert report.label == ("end" if end else "start"), (zone, end, extended, write.__name__, report)
    with capsys.disabled():
        print(f"\n{named} of {total} folders named by inspect, none wrong")  # noqa: T201
    assert named >= 184


def test_the_zones_that_are_tried_exist() -> None:
    from hftcl.market.zone import ZONES as TRIED

    assert all(ZoneInfo(zone) for zone in TRIED)
    assert len(set(TRIED)) == len(TRIED)
