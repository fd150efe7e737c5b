import hashlib
import subprocess
import sys
import time
from datetime import UTC, date, datetime
from functools import cache

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from hftcl.errors import ConfigError
from hftcl.market.bars import PRICES, RAW_SCHEMA, clean, find_label_doubt
from hftcl.market.coverage import measure_coverage
from hftcl.market.sessions import Calendar, HorizonError
from hftcl.market.sources.synthetic import SyntheticSource, _build_market
from hftcl.market.sources.synthetic_market import EPOCH
from hftcl.market.splits import find_unannounced_splits
from hftcl.settings import DEFAULT_WATCHLIST, Market, Settings, Synthetic

FIRST, LAST = date(2024, 1, 2), date(2024, 12, 31)


def source(*, seed: int = 7, edge: float = 1.0, calendar: str = "XNYS", fresh: bool = False) -> SyntheticSource:
    if fresh:
        _build_market.cache_clear()
    return SyntheticSource(Settings(synthetic=Synthetic(seed=seed, edge=edge), market=Market(calendar=calendar)))


@cache
def year(ticker: str, edge: float = 0.0) -> pl.DataFrame:
    """Return the clean bars of 2024, with the return of each minute within its session."""
    raw = source(edge=edge).minutes(ticker, FIRST, LAST)
    bars, findings = clean(raw, Calendar("XNYS").list_sessions(FIRST, LAST), ticker=ticker)
    assert findings == ()
    back_to_back = pl.col("minute").diff().over("session") == 1
    move = (pl.col("close") / pl.col("close").shift(1).over("session") - 1).alias("move")
    return bars.with_columns(pl.when(back_to_back).then(move).alias("move"))


# --- the same market, whoever asks


def test_a_bar_does_not_depend_on_the_range_asked_for_or_on_what_was_asked_before() -> None:
    whole = source(fresh=True).minutes("AAPL", date(2024, 10, 1), date(2025, 1, 31))
    for first, last in (("2024-11-27", "2024-12-02"), ("2025-01-02", "2025-01-31"), ("2024-10-01", "2024-10-01")):
        days = date.fromisoformat(first), date.fromisoformat(last)
        part = whole.filter(pl.col("ts").dt.date().is_between(*days))
        assert part.height > 0
        assert_frame_equal(source(fresh=True).minutes("AAPL", *days), part, check_exact=True)
        assert_frame_equal(source().minutes("AAPL", *days), part, check_exact=True)


def test_a_bar_does_not_depend_on_the_other_tickers_asked_for() -> None:
    days = date(2024, 6, 3), date(2024, 6, 28)
    alone = source(fresh=True).minutes("NVDA", *days)
    read = source(fresh=True)
    read.minutes("AMD", date(2024, 1, 2), date(2024, 6, 28))
    read.minutes("NVDA", date(2021, 3, 1), date(2021, 3, 5))
    assert_frame_equal(read.minutes("NVDA", *days), alone, check_exact=True)


def test_another_process_sees_the_same_market() -> None:
    code = (
        "import hashlib, datetime as d; from hftcl.settings import Settings;"
        "from hftcl.market.sources.synthetic import SyntheticSource as S;"
        "print(hashlib.sha256(S(Settings()).minutes('AMD', d.date(2024,6,3), d.date(2024,6,7)).write_csv().encode()).hexdigest())"  # noqa: E501
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    ours = source().minutes("AMD", date(2024, 6, 3), date(2024, 6, 7)).write_csv().encode()
    assert there == hashlib.sha256(ours).hexdigest()


def test_seed_edge_and_ticker_each_make_another_market() -> None:
    days = date(2024, 6, 3), date(2024, 6, 3)
    closes = [
        tuple(made.minutes(ticker, *days)["close"].head(50))
        for made, ticker in (
            (source(), "AAPL"),
            (source(seed=8), "AAPL"),
            (source(edge=0.5), "AAPL"),
            (source(), "AAPM"),
            (source(calendar="24/7"), "AAPL"),
        )
    ]
    assert len(set(closes)) == 5


def test_the_fingerprint_names_seed_edge_and_calendar() -> None:
    made = [source(), source(seed=8), source(edge=0.5), source(calendar="24/7")]
    assert len({one.fingerprint("AAPL") for one in made}) == 4
    assert source().fingerprint("AAPL") == source(fresh=True).fingerprint("AMD")


def test_any_name_is_a_ticker() -> None:
    for ticker in ("X:BTCUSD", "BRK.B", "../../etc", "é\0" * 50, "nan"):
        raw = source().minutes(ticker, date(2020, 1, 2), date(2020, 1, 2))
        assert raw["ticker"].unique().to_list() == [ticker]
        assert raw.height > 300


# --- its bounds


def test_the_market_begins_at_its_epoch() -> None:
    read = source()
    assert read.minutes("AAPL", date(2019, 1, 1), date(2019, 12, 31)).equals(RAW_SCHEMA.to_frame())
    raw = read.minutes("AAPL", date(2019, 12, 1), date(2020, 1, 3))
    assert raw["ts"].dt.date().unique().sort().to_list() == [date(2020, 1, 2), date(2020, 1, 3)]
    assert read.known_until(("AAPL",), datetime(2020, 1, 2, 20, 59, tzinfo=UTC)) is None
    assert read.known_until(("AAPL",), datetime(2020, 1, 2, 21, 0, tzinfo=UTC)) == datetime(2020, 1, 2, 21, tzinfo=UTC)
    assert date(2020, 1, 2) >= EPOCH


def test_it_knows_until_the_close_of_the_last_complete_session() -> None:
    monday_noon = datetime(2024, 12, 2, 17, tzinfo=UTC)
    assert source().known_until(("AAPL",), monday_noon) == datetime(2024, 11, 29, 18, tzinfo=UTC)  # a half day


def test_a_date_beyond_the_calendar_is_refused_and_days_without_a_session_are_empty() -> None:
    with pytest.raises(HorizonError):
        source().minutes("AAPL", date(2024, 1, 2), date(2099, 1, 2))
    assert source().minutes("AAPL", date(2024, 11, 28), date(2024, 11, 28)).equals(RAW_SCHEMA.to_frame())
    with pytest.raises(ConfigError, match="NOWHERE"):
        source(calendar="NOWHERE")


def test_a_half_day_has_210_minutes_and_a_market_without_nights_1440() -> None:
    half = source().minutes("AAPL", date(2024, 11, 29), date(2024, 11, 29))["ts"]
    assert (half.min(), half.max()) == (
        datetime(2024, 11, 29, 14, 30, tzinfo=UTC),
        datetime(2024, 11, 29, 17, 59, tzinfo=UTC),
    )
    raw = source(calendar="24/7").minutes("AAPL", date(2024, 11, 30), date(2024, 12, 1))
    assert 2 * 1440 * 0.9 < raw.height <= 2 * 1440


def test_a_market_that_never_closes_has_no_gap_at_midnight() -> None:
    raw = source(calendar="24/7").minutes("AAPL", date(2024, 11, 1), date(2024, 12, 31))
    jump = (raw["open"] / raw["close"].shift(1) - 1).abs()
    at_midnight = raw["ts"].dt.date() != raw["ts"].dt.date().shift(1)
    assert float(jump.filter(at_midnight).median()) < 0.002  # type: ignore[arg-type]


# --- it looks real


@pytest.mark.parametrize("ticker", DEFAULT_WATCHLIST)
def test_its_bars_are_clean_whole_cents_and_hold_together(ticker: str) -> None:
    bars = year(ticker)  # which asserts that cleaning has nothing to report
    sessions = Calendar("XNYS").list_sessions(FIRST, LAST)
    assert measure_coverage(bars, sessions, ticker=ticker).findings == ()
    assert find_unannounced_splits(bars, ()) == ()
    cents = bars.select(pl.col(PRICES) * 100)
    assert (cents - cents.select(pl.all().round())).select(pl.all().abs().max()).max_horizontal().item() < 1e-6
    assert (bars["volume"] == bars["volume"].round()).all()
    assert bars["regular"].all()
    assert bars["close"].is_between(5, 5000).all()
    next_open = (bars["open"].shift(-1) / bars["close"] - 1).abs().filter(bars["minute"].diff(-1) == -1)
    assert float(next_open.mean()) < 0.6 * float(bars["move"].abs().mean())  # type: ignore[arg-type]  # cents are coarse


@pytest.mark.parametrize("ticker", ["AAPL", "MSFT", "TSLA"])
def test_returns_have_fat_tails_and_volatility_comes_in_clusters(ticker: str) -> None:
    moves = year(ticker)["move"].drop_nulls().to_numpy()
    assert (
        (moves - moves.mean()) ** 4
    ).mean() / moves.var() ** 2 > 11  # 3 for a normal distribution, 7 to 9 for one of varying volatility
    daily = year(ticker).group_by("session", maintain_order=True).agg(pl.col("move").std())["move"].to_numpy()
    assert np.corrcoef(daily[1:], daily[:-1])[0, 1] > 0.4
    assert 0.003 < float(np.median(daily)) * 390**0.5 < 0.03


@pytest.mark.parametrize("ticker", ["AAPL", "MSFT", "TSLA"])
def test_volatility_and_volume_are_u_shaped_over_the_day(ticker: str) -> None:
    by_time = (
        year(ticker)
        .filter(pl.col("session_minutes") == 390)
        .group_by(pl.col("minute") // 30)
        .agg(pl.col("move").std(), pl.col("volume").sum())
        .sort("minute")
    )
    for name in ("move", "volume"):
        values = by_time[name].to_numpy()
        assert values[0] > 1.2 * values[4:9].mean()
        assert values[-1] > 1.05 * values[4:9].mean()


@pytest.mark.parametrize("ticker", DEFAULT_WATCHLIST)
def test_the_opening_minute_is_the_busiest_so_that_no_window_of_ten_sessions_is_doubted(ticker: str) -> None:
    bars = year(ticker)
    days = bars["session"].unique().sort().to_list()
    doubted = [
        days[start]
        for start in range(0, len(days) - 9, 3)
        if find_label_doubt(bars.filter(pl.col("session").is_between(days[start], days[start + 9])), ticker=ticker)
    ]
    assert doubted == []
    volumes = bars.group_by("session").agg(
        pl.col("volume").filter(pl.col("minute") == 0).first().alias("open"),
        pl.col("volume").filter(pl.col("minute").is_between(1, 5)).mean().alias("after"),
    )
    times = float((volumes["open"] / volumes["after"]).median())  # type: ignore[arg-type]
    assert 2.0 < times < 8.0, "as in ten liquid shares"


def test_a_market_that_never_closes_has_no_opening_minute() -> None:
    bars = source(calendar="24/7").minutes("X:BTCUSD", date(2024, 5, 1), date(2024, 7, 31))
    by_minute = bars.group_by(pl.col("ts").dt.hour() * 60 + pl.col("ts").dt.minute()).agg(pl.col("volume").median())
    by_minute = by_minute.sort("ts")
    assert by_minute["volume"][0] < 1.5 * float(by_minute["volume"].slice(1, 10).median())  # type: ignore[arg-type]


def test_minutes_without_trades_are_missing_most_in_thinly_traded_tickers_and_at_midday() -> None:
    missing = {}
    for ticker in DEFAULT_WATCHLIST:
        bars = year(ticker)
        missing[ticker] = (
            1 - bars.height / bars.group_by("session").agg(pl.col("session_minutes").first())["session_minutes"].sum()
        )
    shares = sorted(missing.values())
    assert 0 < shares[0] < 0.002
    assert 0.005 < shares[-1] < 0.1
    thin = year(max(missing, key=lambda ticker: missing[ticker]))
    counts = thin.filter(pl.col("session_minutes") == 390).group_by("minute").len().sort("minute")["len"]
    assert counts.slice(180, 60).mean() < counts.head(30).mean()  # type: ignore[operator]


def test_tickers_move_together_but_not_as_one() -> None:
    joined = year("AAPL").select("ts", "move")
    for ticker in DEFAULT_WATCHLIST[1:]:
        joined = joined.join(year(ticker).select("ts", pl.col("move").alias(ticker)), on="ts")
    matrix = np.corrcoef(joined.drop("ts").drop_nulls().to_numpy().T)
    pairs = matrix[np.triu_indices(len(DEFAULT_WATCHLIST), 1)]
    assert 0.1 < pairs.mean() < 0.6
    assert pairs.min() > 0.03
    assert pairs.max() < 0.8


def test_there_are_overnight_gaps_of_a_plausible_size() -> None:
    ends = year("AAPL").group_by("session", maintain_order=True).agg(pl.col("open").first(), pl.col("close").last())
    gaps = (ends["open"] / ends["close"].shift(1) - 1).drop_nulls().to_numpy()
    assert 0.002 < gaps.std() < 0.03
    assert np.abs(gaps).max() < 0.25


def test_prices_stay_plausible_over_many_years() -> None:
    moves = []
    for number in range(12):
        days = [date(2020, 6, 29), date(2022, 6, 29), date(2024, 6, 28), date(2026, 6, 29)]
        closes = [source().minutes(f"T{number}", day, day)["close"] for day in days]
        assert all(close.is_between(20, 2000).all() for close in closes)
        moves.append(np.log(closes[-1][-1] / closes[0][0]))
    assert 0.05 < np.std(moves) < 0.3  # 0.45 if nothing pulled them back


# --- the edge


@pytest.mark.parametrize("seed", [7, 8])
def test_at_edge_nought_no_past_move_tells_of_the_next(seed: int) -> None:
    """What a decision on bar t can earn from the open of t + 1 on has mean 0 whatever the past, within its error."""
    scores: dict[str, list[float]] = {}
    for ticker in DEFAULT_WATCHLIST:
        bars = with_past(source(seed=seed, edge=0.0).minutes(ticker, FIRST, LAST))
        for name in ("past_1", "past_5", "past_30", "stretch"):
            earned = bars.select((pl.col(name).sign() * pl.col(ahead)).alias(ahead) for ahead in ("next_1", "next_30"))
            for ahead in earned.columns:
                values = earned[ahead].drop_nulls().to_numpy()
                overlap = 30 if ahead == "next_30" else 1
                scores.setdefault(f"{name} {ahead}", []).append(
                    values.mean() / values.std() * (values.size / overlap) ** 0.5
                )
    for case, ts in scores.items():
        assert abs(sum(ts)) / len(ts) ** 0.5 < 4, (case, ts)


def test_at_edge_one_moves_go_on_and_prices_come_back_to_the_sessions_mean() -> None:
    following, reverting = [], []
    for ticker in DEFAULT_WATCHLIST:
        bars = with_past(source(edge=1.0).minutes(ticker, FIRST, LAST)).drop_nulls()
        past, stretch, ahead = (bars[name].to_numpy() for name in ("past_30", "stretch", "next_30"))
        coefficients = np.linalg.lstsq(np.stack([past, stretch], axis=1), ahead, rcond=None)[0]
        following.append(coefficients[0])
        reverting.append(coefficients[1])
    assert min(following) > 0.05
    assert max(reverting) < -0.05


@pytest.mark.parametrize("edge", [0.0, 1.0])
def test_minute_returns_hardly_correlate_with_the_last_one(edge: float) -> None:
    for ticker in DEFAULT_WATCHLIST:
        pairs = year(ticker, edge).select("move", pl.col("move").shift(1).over("session").alias("last")).drop_nulls()
        assert abs(np.corrcoef(pairs.to_numpy().T)[0, 1]) < 0.04, ticker


def with_past(raw: pl.DataFrame) -> pl.DataFrame:
    """Return what was known at each bar, and what an order that fills at the next bar's open would earn."""
    day = pl.col("ts").dt.date()
    mean = pl.col("close").cum_sum() / pl.int_range(1, pl.len() + 1)
    return raw.select(
        *((pl.col("close") / pl.col("close").shift(k) - 1).over(day).alias(f"past_{k}") for k in (1, 5, 30)),
        (pl.col("close") / mean - 1).over(day).alias("stretch"),
        *((pl.col("open").shift(-1 - k) / pl.col("open").shift(-1) - 1).over(day).alias(f"next_{k}") for k in (1, 30)),
    )


def test_without_an_edge_the_same_noise_moves_the_price() -> None:
    """Edge 0 and a very small edge are nearly the same market: the edge is planted in it and is no other market."""
    days = date(2020, 1, 2), date(2020, 1, 2)
    without, hardly = (source(edge=edge).minutes("AAPL", *days)["close"].to_numpy() for edge in (0.0, 1e-9))
    assert np.abs(without / hardly - 1).max() < 2e-4  # a cent of rounding


# --- speed


def test_sixty_days_of_the_default_watchlist_come_in_about_a_second() -> None:
    read = source(seed=11, fresh=True)
    Calendar("XNYS")
    began = time.process_time()  # not the clock: other work on the machine is not the market's
    for ticker in DEFAULT_WATCHLIST:
        read.minutes(ticker, date(2026, 1, 5), date(2026, 3, 6))
    assert time.process_time() - began < 4  # 0.8 s on an idle core
