"""From target to order: ids that are the same whenever they are asked for, and shares rounded toward zero."""

import math
import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hftcl.trading.execute.orders import (
    DRIFT,
    build_client_order_id,
    compute_desired_quantity,
    compute_order_quantity,
    cut_to_side,
)

TS = datetime(2025, 6, 2, 14, 31, tzinfo=UTC)


def test_an_id_names_the_minute_the_ticker_and_the_purpose() -> None:
    assert build_client_order_id("production", TS, "AAPL") == "hftcl-20250602T1431-AAPL-r"
    assert build_client_order_id("production", TS, "BRK.B", "f", 2) == "hftcl-20250602T1431-BRK.B-f2"
    assert build_client_order_id("shadow", TS, "X:BTCUSD") == "hftcl-s-20250602T1431-X_3aBTCUSD-r"
    assert build_client_order_id("production", TS + timedelta(seconds=7), "AAPL", "f") == "hftcl-20250602T143107-AAPL-f"


def test_an_id_does_not_depend_on_the_time_zone_in_which_the_minute_is_written() -> None:
    elsewhere = TS.astimezone(timezone(timedelta(hours=-4)))
    assert build_client_order_id("production", elsewhere, "AAPL") == build_client_order_id("production", TS, "AAPL")


HOSTILE = st.one_of(
    st.text(max_size=20), st.text("AB.-_:", max_size=20), st.sampled_from(["A'; DROP", "A\n", "é", "_41"])
)
WHAT = st.tuples(
    st.sampled_from(["production", "shadow"]),
    st.integers(0, 3).map(lambda n: TS + n * timedelta(minutes=1)),
    HOSTILE,
    st.sampled_from(["r", "f"]),
    st.integers(0, 3),
)


@pytest.mark.hazard(50)
@given(one=WHAT, other=WHAT)
def test_different_orders_have_different_ids_that_any_broker_takes(
    one: tuple[str, datetime, str, str, int], other: tuple[str, datetime, str, str, int]
) -> None:
    ids = [build_client_order_id(*what) for what in (one, other)]  # type: ignore[arg-type]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]{1,48}", name) for name in ids)
    assert (ids[0] == ids[1]) is (one == other)


@pytest.mark.parametrize(
    ("target", "price", "fractional", "shares"),
    [
        (0.1, 100.0, False, 100.0),
        (0.1, 99.0, False, 101.0),
        (-0.1, 99.0, False, -101.0),
        (0.0001, 99.0, False, 0.0),
        (0.1, 99.0, True, 101.01010101),
        (-0.1, 99.0, True, -101.01010101),
        (0.3 / 10 * 10, 1000.0, False, 30.0),
        (0.0, 99.0, True, 0.0),
    ],
)
def test_a_target_is_that_share_of_the_capital_rounded_toward_zero(
    target: float, price: float, fractional: bool, shares: float
) -> None:
    assert compute_desired_quantity(target, capital=100_000.0, price=price, fractional=fractional) == shares


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_cannot_be_computed_becomes_an_order_that_risk_refuses_not_one_of_some_size(bad: float) -> None:
    assert math.isnan(compute_desired_quantity(bad, capital=1e5, price=100.0, fractional=False))
    assert math.isnan(compute_desired_quantity(0.1, capital=bad, price=100.0, fractional=False))
    assert math.isnan(compute_desired_quantity(0.1, capital=1e5, price=bad, fractional=False))
    assert math.isnan(compute_desired_quantity(0.1, capital=1e5, price=-5.0, fractional=False))
    assert math.isnan(compute_desired_quantity(0.1, capital=1e5, price=0.0, fractional=False))
    ordered = compute_order_quantity(math.nan, position=3.0, working=0.0, price=100.0, fractional=False)
    assert not math.isfinite(ordered)
    assert ordered != 0


@given(
    target=st.floats(-2, 2),
    price=st.floats(0.5, 5000),
    position=st.integers(-500, 500),
    working=st.integers(-500, 500),
    fractional=st.booleans(),
)
def test_an_order_leads_to_within_one_share_of_the_target_and_never_beyond_it(
    target: float, price: float, position: int, working: int, fractional: bool
) -> None:
    desired = compute_desired_quantity(target, capital=100_000.0, price=price, fractional=fractional)
    assert abs(desired) * price <= abs(target) * 100_000.0 * (1 + 1e-9)
    ordered = compute_order_quantity(desired, position=position, working=working, price=price, fractional=fractional)
    after = position + working + ordered
    assert abs(after - desired) < (max(1e-8, 1.01 / price) if fractional else 1.0)
    assert fractional or ordered == int(ordered)
    if fractional and ordered and desired:
        assert abs(ordered) * price >= 1.0
    if desired == 0:
        assert after == 0


def test_open_orders_count_as_held() -> None:
    assert compute_order_quantity(100.0, position=40.0, working=60.0, price=10.0, fractional=False) == 0.0
    assert compute_order_quantity(100.0, position=40.0, working=10.0, price=10.0, fractional=False) == 50.0
    assert compute_order_quantity(0.0, position=40.0, working=0.0, price=10.0, fractional=False) == -40.0


def test_a_price_that_drifts_below_an_unchanged_target_orders_nothing() -> None:
    def missing(desired: float, position: float, *, unchanged: bool) -> float:
        return compute_order_quantity(
            desired, position=position, working=0.0, price=100.0, fractional=False, unchanged=unchanged
        )

    assert missing(101.0, 100.0, unchanged=True) == 0.0
    assert missing(102.0, 100.0, unchanged=True) == 0.0
    assert missing(102.0, 100.0, unchanged=False) == 2.0
    assert missing(104.0, 100.0, unchanged=True) == 4.0  # beyond DRIFT: an order failed, or the price ran away
    assert missing(100.0, 0.0, unchanged=True) == 100.0  # an order that was refused is made up for
    assert missing(0.0, 1.0, unchanged=True) == -1.0
    assert DRIFT < 1 / 30  # a step of the target at the default horizon is never mistaken for drift


def test_what_is_left_of_a_share_is_sold_when_the_position_closes() -> None:
    assert compute_order_quantity(0.0, position=0.000001, working=0.0, price=100.0, fractional=True) == -0.000001
    assert compute_order_quantity(0.005, position=0.0, working=0.0, price=100.0, fractional=True) == 0.0
    assert compute_order_quantity(0.02, position=0.0, working=0.0, price=100.0, fractional=True) == 0.02


@pytest.mark.parametrize(
    ("quantity", "held", "working", "expected"),
    [
        (-30.0, 10.0, 0.0, -10.0),
        (30.0, -10.0, 0.0, 10.0),
        (-30.0, 10.0, -4.0, -6.0),
        (-30.0, 10.0, -10.0, 0.0),
        (-5.0, 10.0, 0.0, -5.0),
        (20.0, 10.0, 0.0, 20.0),
        (-20.0, 0.0, 0.0, -20.0),
    ],
)
def test_an_order_that_would_turn_a_position_is_cut_to_what_closes_it(
    quantity: float, held: float, working: float, expected: float
) -> None:
    assert cut_to_side(quantity, held=held, working=working) == expected
