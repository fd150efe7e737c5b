"""Which bars are placed as those of one minute: anything else goes the slow way, which cleans it."""

from datetime import date

import polars as pl
import pytest

from hftcl.model.streaming import _Placed


def make_bars(minutes: list[int], days: list[date]) -> pl.DataFrame:
    prices = {name: [100.0] * 2 for name in ("open", "high", "low", "close")}
    return pl.DataFrame({"ticker": ["AAPL", "AMD"], "minute": minutes, "session": days, **prices, "volume": [10.0] * 2})


@pytest.mark.parametrize(
    ("minutes", "days", "is_placed"), [([5, 5], [5, 5], True), ([5, 6], [5, 5], False), ([5, 5], [5, 6], False)]
)
def test_bars_of_several_minutes_or_sessions_are_not_placed_as_one_minute(
    minutes: list[int], days: list[int], is_placed: bool
) -> None:
    bars = make_bars(minutes, [date(2026, 1, day) for day in days])
    assert (_Placed.from_bars(bars, ()) is not None) == is_placed
    assert _Placed.from_bars(bars.clear(), ()) is None
