"""How the capital is divided among the tickers."""

import math
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hftcl.strategy.weights import measure_volatility, weigh

OPEN = datetime(2026, 1, 5, 14, 30, tzinfo=UTC)


def bars(closes: dict[str, list[list[float]]]) -> pl.DataFrame:
    """Return bars by ticker, a list a session."""
    rows = [
        (ticker, OPEN + timedelta(days=day, minutes=minute), (OPEN + timedelta(days=day)).date(), close)
        for ticker, days in closes.items()
        for day, session in enumerate(days)
        for minute, close in enumerate(session)
    ]
    return pl.DataFrame(rows, schema=["ticker", "ts", "session", "close"], orient="row")


def test_the_volatility_of_a_session_is_that_of_its_bars_and_of_no_night() -> None:
    e = math.e
    found = measure_volatility(bars({"B": [[1, e, 1], [500, 500 * e, 500]], "A": [[1, e**3]], "STILL": [[7, 7, 7]]}))
    assert found == pytest.approx({"A": 3.0, "B": math.sqrt(2)})  # sqrt((2 + 2) / 2 sessions)
    assert list(found) == ["A", "B"]


def test_a_ticker_that_moves_twice_as_much_weighs_half_up_to_the_cap() -> None:
    weights = weigh(["A", "B", "C"], {"A": 0.01, "B": 0.02, "C": 0.02})
    assert weights == pytest.approx({"A": 1.5 / 3, "B": 0.25, "C": 0.25}), "A: 1/2 is the cap, exactly"
    calm = weigh(["A", "B", "C"], {"A": 0.001, "B": 0.02, "C": 0.02})
    assert isinstance(calm, dict)
    assert calm["A"] == 1.5 / 3
    assert sum(calm.values()) < 0.6, "what the cap cuts off is given to nobody"


def test_without_volatilities_each_has_the_same() -> None:
    assert weigh(["A", "B", "C", "D"], None) == weigh(["A", "B", "C", "D"], {"OTHER": 0.1}) == 0.25


@given(
    volatility=st.dictionaries(st.sampled_from("ABCDEFGH"), st.floats(1e-6, 1.0), max_size=8),
    watchlist=st.lists(st.sampled_from("ABCDEFGH"), min_size=1, max_size=8, unique=True),
)
def test_no_weights_add_up_to_more_than_the_capital_and_their_order_does_not_matter(
    volatility: dict[str, float], watchlist: list[str]
) -> None:
    weights = weigh(watchlist, volatility)
    if isinstance(weights, float):
        assert weights == 1 / len(watchlist)
        return
    assert set(weights) == set(watchlist)
    assert sum(weights.values()) <= 1 + 1e-12
    assert max(weights.values()) <= 1.5 / len(watchlist)
    assert weights == weigh(watchlist[::-1], volatility)
    untried = [weights[ticker] for ticker in watchlist if ticker not in volatility]
    assert len(set(untried)) <= 1
