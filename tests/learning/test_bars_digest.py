"""The digests of bars: those of the plain definition, which the records of earlier versions keep."""

import hashlib
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hftcl.learning import bars_digest
from hftcl.learning.bars_digest import compute_bars_digests


def digest_one_by_one(frame: pl.DataFrame) -> dict[date, dict[str, str]]:
    """Return the digests as version 0.1 computed them: each ticker and session by itself."""
    found: dict[date, dict[str, str]] = {}
    for (day, ticker), rows in frame.partition_by("session", "ticker", as_dict=True, maintain_order=True).items():
        first, total = rows["open"][0], rows["volume"].sum()
        digest = hashlib.sha256(rows["ts"].to_physical().to_numpy().tobytes())
        for name in ("open", "high", "low", "close"):
            digest.update((rows[name].cast(pl.Float64) / first).round(6).to_numpy().tobytes())
        digest.update((rows["volume"].cast(pl.Float64) / (total or 1.0)).round(6).to_numpy().tobytes())
        found.setdefault(day, {})[ticker] = digest.hexdigest()[:12]
    return found


def make_bars(seed: int, sizes: list[list[int]]) -> pl.DataFrame:
    """Return bars of a ticker for each list, with a session of so many minutes for each number in it."""
    random = np.random.default_rng(seed)
    parts = []
    for place, sessions in enumerate(sizes):
        for day, minutes in enumerate(sessions):
            close = random.uniform(1, 900) * np.exp(random.normal(0, 0.001, minutes).cumsum())
            begin = datetime(2025, 1, 6, 14, 30, tzinfo=UTC) + timedelta(days=day)
            parts.append(
                pl.DataFrame(
                    {
                        "ticker": [f"T{place}"] * minutes,
                        "ts": [begin + timedelta(minutes=minute) for minute in range(minutes)],
                        "session": [begin.date()] * minutes,
                        "open": np.round(close, 2),
                        "high": np.round(close * 1.01, 4),
                        "low": np.round(close * 0.99, 4),
                        "close": np.round(close * 1.002, 3),
                        "volume": random.integers(0, 1_000_000, minutes) * (0.0 if seed % 5 == 0 else 0.37),
                    }
                )
            )
    return pl.concat(parts)


@given(st.integers(0, 10_000), st.lists(st.lists(st.integers(1, 60), min_size=1, max_size=4), min_size=1, max_size=3))
def test_the_digests_are_those_of_each_ticker_and_session_by_itself(seed: int, sizes: list[list[int]]) -> None:
    bars = make_bars(seed, sizes)
    assert compute_bars_digests(bars) == digest_one_by_one(bars)


def test_the_digests_of_some_sessions_are_theirs_however_many_tickers_are_taken_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bars = make_bars(1, [[30, 5, 20], [7], [40, 12], [9, 9, 9]])
    days = [date(2025, 1, 7), date(2025, 1, 8)]  # T1 has bars in none of them
    wanted = {day: tickers for day, tickers in digest_one_by_one(bars).items() if day in days}
    for block in (1, 50, 1_000):
        monkeypatch.setattr(bars_digest, "_BLOCK_BARS", block)
        assert compute_bars_digests(bars, days=days) == wanted


def test_a_correction_changes_the_digest_of_its_session_and_no_other() -> None:
    bars = make_bars(1, [[30, 30], [30]])
    corrected = bars.with_columns(
        close=pl.when(pl.int_range(pl.len()) == 40).then(pl.col("close") * 1.01).otherwise("close")
    )
    before, after = compute_bars_digests(bars), compute_bars_digests(corrected)
    different = [
        (day, ticker) for day, tickers in before.items() for ticker in tickers if after[day][ticker] != tickers[ticker]
    ]
    assert different == [(date(2025, 1, 7), "T0")]


def test_a_split_changes_nothing() -> None:
    bars = make_bars(2, [[30, 30]])
    halved = bars.with_columns(pl.col("open", "high", "low", "close") / 2, volume=pl.col("volume") * 2)
    assert compute_bars_digests(halved) == compute_bars_digests(bars)


def test_no_bars_have_no_digest() -> None:
    assert compute_bars_digests(make_bars(1, [[1]]).clear()) == {}
