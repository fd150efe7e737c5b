"""What the bot computes minute by minute is, to the bit, what training and exam computed at once."""

import math
import os
import pickle
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from hftcl.market.bars import BAR_SCHEMA
from hftcl.model.features import FEATURE_NAMES, FEATURES, WARMUP_SESSIONS, Feature, evaluate, features
from hftcl.model.grid import build_grid
from hftcl.model.since_open import Array, compute_logs, compute_since_open, fold_down_parts
from hftcl.model.streaming import StreamingFeatures
from tests.model.feature_cases import market
from tests.model.test_features import real_bars
from tests.shared_data import REAL_BARS, needs_real_bars

ROOT = Path(__file__).resolve().parents[2]
TURNOVER = Feature(
    name="turnover_bits",
    group="test",
    expr=pl.col("session_turnover").reinterpret(signed=True) % 10_000,  # the last bits of what is summed in float64
    lookback=0,
    formula="last bits of the turnover since the open",
    reason="Shows what rounding to float32 hides.",
)


def complete(bars: pl.DataFrame) -> pl.DataFrame:
    """Return `BAR_SCHEMA`."""
    return bars.with_columns(session_minutes=pl.lit(390, pl.Int32), regular=pl.lit(value=True)).select(
        BAR_SCHEMA.names()
    )


def minutes_of(bars: pl.DataFrame) -> list[pl.DataFrame]:
    return bars.sort("ts", maintain_order=True).partition_by("ts", maintain_order=True)


def streamed(bars: pl.DataFrame, warm: int, *, table: tuple[Feature, ...] = FEATURES) -> pl.DataFrame:
    """Push all sessions but the first `warm`, minute by minute."""
    days = bars["session"].unique().sort().to_list()
    stream = StreamingFeatures(bars.filter(pl.col("session").is_in(days[:warm])), table=table)
    pushed = []
    for day in days[warm:]:
        stream.start(day)
        pushed += [stream.push(minute) for minute in minutes_of(bars.filter(pl.col("session") == day))]
        stream.end()
    return pl.concat(pushed)


def at_once(bars: pl.DataFrame, warm: int) -> pl.DataFrame:
    days = bars["session"].unique().sort().to_list()
    told = ["ticker", "ts", "session", "minute", "session_minutes"]
    found = bars.select(told).hstack(features(bars)).sort("ts", maintain_order=True)
    return found.filter(pl.col("session").is_in(days[warm:]))


# Equal to the bit


@settings(max_examples=15)
@given(
    seed=st.integers(0, 10**6),
    missing=st.sampled_from([0.0, 0.1, 0.6, 0.9]),
    lengths=st.lists(st.sampled_from([5, 31, 33, 50, 70]), min_size=2, max_size=7),
    absent=st.sets(st.tuples(st.sampled_from("ABC"), st.integers(0, 6)), max_size=6),
    opens=st.sampled_from([0, -3, -40]),
    quiet=st.integers(0, 40),
    warm=st.integers(0, 6),
)
def test_every_pushed_minute_is_what_the_whole_history_gives(
    seed: int,
    missing: float,
    lengths: list[int],
    absent: set[tuple[str, int]],
    opens: int,
    quiet: int,
    warm: int,
) -> None:
    """Gaps, late first bars, half days, absent tickers, minutes before the open, and minutes in which nobody traded."""
    bars = market(
        seed, tickers=("A", "B", "C"), sessions=len(lengths), minutes=lengths, missing=missing, latest_start=35
    )
    bars = bars.filter(~pl.col("minute").is_between(quiet, quiet + 4))
    for ticker, number in absent:
        day = date(2025, 3, 3) + timedelta(days=number)
        bars = bars.filter((pl.col("ticker") != ticker) | (pl.col("session") != day))
    bars = bars.with_columns(pl.col("ts").dt.offset_by(f"{opens}m"), minute=pl.col("minute") + opens)
    bars = complete(bars.sample(fraction=1.0, shuffle=True, seed=seed))
    if bars.height:
        warm = min(warm, bars["session"].n_unique() - 1)
        assert_frame_equal(streamed(bars, warm), at_once(bars, warm), check_exact=True)


def test_a_session_much_longer_than_the_window_is_equal_to_its_last_minute() -> None:
    bars = complete(market(11, sessions=7, minutes=(120, 60, 120, 120, 120, 120, 300), latest_start=50))
    assert_frame_equal(streamed(bars, 6), at_once(bars, 6), check_exact=True)


def test_a_watchlist_of_one_ticker_is_equal_to_the_bit_beneath_the_rounding_to_float32() -> None:
    # polars divides by a number otherwise in a frame of one row, which a minute of one bar is
    bars = complete(market(3, tickers=("AAA",), sessions=1, minutes=300, missing=0.0, latest_start=0))
    stream = StreamingFeatures(bars.clear(), table=(TURNOVER,))
    stream.start(bars["session"][0])
    pushed = pl.concat(stream.push(minute) for minute in minutes_of(bars))["turnover_bits"]
    assert pushed.to_list() == evaluate(build_grid(bars), (TURNOVER,))["turnover_bits"].to_list()


def test_features_do_not_depend_on_the_number_of_processors() -> None:
    command = (
        "import hashlib\n"
        "from hftcl.model.grid import build_grid\n"
        "from tests.model.feature_cases import market\n"
        "frame = build_grid(market(1, sessions=2, minutes=390)).frame.select('deviation', 'deviation_squares')\n"
        "print(hashlib.sha256(frame.to_numpy().tobytes()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", command],
            env={**os.environ, "POLARS_MAX_THREADS": threads},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for threads in ("1", "2", "7")
    }
    assert len(digests) == 1


def test_the_comparison_finds_a_feature_that_reads_further_back_than_it_says() -> None:
    bars = complete(market(12, sessions=2, minutes=70))
    deep = Feature(name="deep", group="", expr=pl.col("close").shift(40), lookback=0, formula="", reason="")
    batch = bars.select("ticker", "ts").hstack(evaluate(build_grid(bars), (deep,)))
    live = streamed(bars, 1, table=(deep,))
    both = live.join(batch, on=["ticker", "ts"], suffix="_batch")
    assert both.select(pl.col("deep").ne_missing(pl.col("deep_batch")).sum()).item() > 0
    honest = Feature(name="deep", group="", expr=pl.col("close").shift(40), lookback=40, formula="", reason="")
    both = streamed(bars, 1, table=(honest,)).join(batch, on=["ticker", "ts"], suffix="_batch")
    assert both.select(pl.col("deep").ne_missing(pl.col("deep_batch")).sum()).item() == 0


@needs_real_bars
def test_a_real_session_of_ten_tickers_is_equal_to_the_bit() -> None:
    bars = real_bars()
    days = bars["session"].unique().sort()
    window = complete(bars.filter(pl.col("session").is_in(days[100 : 101 + WARMUP_SESSIONS].implode())))
    assert_frame_equal(streamed(window, WARMUP_SESSIONS), at_once(window, WARMUP_SESSIONS), check_exact=True)


@needs_real_bars
@pytest.mark.slow
def test_real_sessions_of_all_hours_are_equal_to_the_bit_with_a_half_day_among_them() -> None:
    bars = pl.concat(pl.read_parquet(path) for path in sorted(REAL_BARS.glob("*.parquet")))
    local = pl.col("ts").dt.convert_time_zone("America/New_York")
    bars = complete(
        bars.with_columns(session=local.dt.date(), minute=local.dt.hour().cast(pl.Int32) * 60 + local.dt.minute() - 570)
    )
    days = bars.group_by("session").len().sort("session")
    half = int(days["len"].arg_min() or 0)  # the day with the fewest bars
    first = max(0, min(half - 2, days.height - 8))
    window = bars.filter(pl.col("session").is_in(days["session"][first : first + 8].implode()))
    assert_frame_equal(streamed(window, 5), at_once(window, 5), check_exact=True)


def test_the_steps_since_the_open_are_polars_own_sums_and_averages_to_the_bit() -> None:
    random = np.random.default_rng(13)
    sizes = [1, 2, 390, 50]
    part = np.repeat(np.arange(len(sizes)), sizes)
    age = np.concatenate([np.arange(size) for size in sizes])
    close = np.exp(random.normal(0, 0.1, part.size))
    minutes: dict[str, Array] = {name: close * random.uniform(0.9, 1.1, part.size) for name in ("open", "high", "low")}
    minutes |= {
        "close": close,
        "v": random.integers(0, 10**9, part.size),
        "turnover": random.lognormal(9, 2, part.size),
    }
    found = compute_since_open(minutes, fold_down_parts(part, age))
    frame = pl.DataFrame({"part": part} | minutes | {"since_first": found["since_first"], "macd": found["macd"]})
    expected = frame.select(
        first_open=pl.col("open").first().over("part"),
        session_low=pl.col("low").cum_min().over("part"),
        session_high=pl.col("high").cum_max().over("part"),
        session_volume=pl.col("v").cum_sum().over("part"),
        session_turnover=pl.col("turnover").cum_sum().over("part"),
        ema_12=pl.col("since_first").ewm_mean(span=12, adjust=False).over("part"),
        ema_26=pl.col("since_first").ewm_mean(span=26, adjust=False).over("part"),
        macd_signal=pl.col("macd").ewm_mean(span=9, adjust=False).over("part"),
    )
    assert_frame_equal(pl.DataFrame({name: found[name] for name in expected.columns}), expected, check_exact=True)


# What a bot does with it


def eight_sessions() -> tuple[pl.DataFrame, date, pl.DataFrame, pl.DataFrame]:
    """Return all bars, the last day, the bars before it, and its own."""
    bars = complete(market(14, sessions=8, minutes=50, latest_start=20))
    last = bars["session"].max()
    assert isinstance(last, date)
    return bars, last, bars.filter(pl.col("session") < last), bars.filter(pl.col("session") == last)


def test_the_logarithms_of_a_few_numbers_are_those_of_many_to_the_bit() -> None:
    chance = np.random.default_rng(5)
    odd = [0.0, -0.0, -1.0, math.inf, -math.inf, math.nan, 1.0, 5e-324, 1.8e308]
    values = np.concatenate([odd, np.exp(chance.normal(0, 1e-3, 20_000)), chance.lognormal(0, 20, 20_000)])
    together = pl.Series(values).log().to_numpy()
    in_parts = np.concatenate([compute_logs(part) for part in np.array_split(values, 400)])
    is_known = ~np.isnan(together)
    assert np.array_equal(is_known, ~np.isnan(in_parts))
    assert together[is_known].tobytes() == in_parts[is_known].tobytes()


def test_polars_is_asked_for_the_logarithms_of_more_than_500_numbers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.exp(np.random.default_rng(6).normal(0, 1e-3, 501))
    asked: list[int] = []
    log = pl.Series.log
    expected = log(pl.Series(values)).to_numpy()

    def count(numbers: pl.Series) -> pl.Series:
        asked.append(len(numbers))
        return log(numbers)

    monkeypatch.setattr(pl.Series, "log", count)
    for size in (500, 501):
        assert compute_logs(values[:size]).tobytes() == expected[:size].tobytes()
    assert asked == [501]


def test_a_bot_that_starts_within_the_session_goes_on_as_if_it_had_seen_it_all() -> None:
    bars, _, earlier, today = eight_sessions()
    *before, newest = minutes_of(today)
    rebuilt = StreamingFeatures.replay_today(earlier, pl.concat(before).sort("ticker", "ts"))
    expected = at_once(bars, 7).filter(pl.col("ts") == newest["ts"][0])
    assert_frame_equal(rebuilt.push(newest), expected, check_exact=True)


def test_without_a_bar_yet_a_bot_starts_the_session_itself() -> None:
    bars, last, earlier, today = eight_sessions()
    rebuilt = StreamingFeatures.replay_today(earlier, today.clear())
    rebuilt.start(last)
    first = minutes_of(today)[0]
    expected = at_once(bars, 7).filter(pl.col("ts") == first["ts"][0])
    assert_frame_equal(rebuilt.push(first), expected, check_exact=True)


def test_rows_come_back_in_the_order_of_the_bars_with_their_minute() -> None:
    _, _, earlier, today = eight_sessions()
    *before, newest = minutes_of(today)
    pushed = StreamingFeatures.replay_today(earlier, pl.concat(before)).push(newest.reverse())
    assert pushed["ticker"].to_list() == newest["ticker"].to_list()[::-1]
    assert pushed.columns == ["ticker", "ts", "session", "minute", "session_minutes", *FEATURE_NAMES]
    assert set(pushed.dtypes[5:]) == {pl.Float32}


def test_no_bars_give_no_rows_of_the_same_columns() -> None:
    _, last, earlier, today = eight_sessions()
    stream = StreamingFeatures(earlier)
    stream.start(last)
    nothing = stream.push(today.clear())
    assert nothing.height == 0
    assert nothing.schema == stream.push(minutes_of(today)[0]).schema


def test_a_session_without_a_bar_is_no_earlier_session() -> None:
    bars, last, earlier, today = eight_sessions()
    stream = StreamingFeatures(earlier)
    stream.start(last)
    stream.end()
    later = last + timedelta(days=1)
    moved = today.with_columns(pl.col("ts").dt.offset_by("1d"), session=pl.lit(later))
    stream.start(later)
    pushed = pl.concat(stream.push(minute) for minute in minutes_of(moved))
    assert_frame_equal(pushed.select(FEATURE_NAMES), at_once(bars, 7).select(FEATURE_NAMES), check_exact=True)


def test_what_it_holds_does_not_grow_with_the_sessions() -> None:
    bars = complete(market(15, sessions=16, minutes=8, missing=0, latest_start=0))
    stream = StreamingFeatures(bars.clear())
    sizes = []
    for (day,), session in bars.sort("session").group_by("session", maintain_order=True):
        assert isinstance(day, date)
        stream.start(day)
        for minute in minutes_of(session):
            stream.push(minute)
        stream.end()
        sizes.append(len(pickle.dumps(stream)))
    assert max(sizes[10:]) < 1.05 * sizes[9]


# What it refuses


def test_bars_that_are_not_of_the_next_minute_are_refused_and_change_nothing() -> None:
    bars, last, earlier, today = eight_sessions()
    *before, late, newest = minutes_of(today)
    stream = StreamingFeatures.replay_today(earlier, pl.concat([*before, late]))
    tomorrow = newest.with_columns(session=pl.lit(last + timedelta(days=1)))
    broken = newest.with_columns(close=pl.lit(float("nan")))
    far = newest.with_columns(minute=pl.lit(10**8, pl.Int32))
    for refused, why in [
        (late, "came after those of a later minute, or twice"),
        (before[3], "came after those of a later minute, or twice"),
        (pl.concat([newest, newest]), "has two bars for the minute"),
        (pl.concat([late, newest]), "more than one minute"),
        (tomorrow, f"were pushed into session {last}"),
        (broken, "Clean the bars first"),
        (far, "more than a day"),
    ]:
        with pytest.raises(ValueError, match=why):
            stream.push(refused)
    expected = at_once(bars, 7).filter(pl.col("ts") == newest["ts"][0])
    assert_frame_equal(stream.push(newest), expected, check_exact=True)


def test_sessions_are_started_and_ended_in_turn() -> None:
    _, last, earlier, today = eight_sessions()
    stream = StreamingFeatures(earlier)
    with pytest.raises(ValueError, match="Start it before its bars come"):
        stream.push(minutes_of(today)[0])
    with pytest.raises(ValueError, match="No session goes on that could end"):
        stream.end()
    with pytest.raises(ValueError, match="does not come after"):
        stream.start(last - timedelta(days=1))
    stream.start(last)
    with pytest.raises(ValueError, match=f"Session {last} goes on"):
        stream.start(last + timedelta(days=1))
