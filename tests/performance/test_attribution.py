"""P&L is attributed to the cent: by hand, and against exact sums over random fills."""

from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hftcl.performance.attribution import OVERNIGHT, Attribution, Execution, attribute

MONDAY, TUESDAY = date(2026, 1, 5), date(2026, 1, 6)
CENT = 0.01


def fill(
    quantity: float,
    price: float,
    *,
    model: str = "A",
    minute: int = 0,
    session: date = MONDAY,
    ticker: str = "AAPL",
    commission: float = 0.0,
    reference: float | None = None,
) -> Execution:
    ts = datetime(session.year, session.month, session.day, 14, 30, tzinfo=UTC) + timedelta(minutes=minute)
    known = price if reference is None else reference
    return Execution(session, minute // 60, ts, ticker, model, quantity, price, commission, known)


def by_model(found: Attribution) -> dict[str, float]:
    sums: dict[str, float] = defaultdict(float)
    for key, amounts in found.booked.items():
        sums[key.model_id] += amounts.net
    return dict(sums)


def test_what_a_model_opened_is_its_own_though_its_successor_closes_it() -> None:
    """By hand: A buys 10 at 100; B sells 4 at 101, buys 2 at 103 and sells all 8 at 102. First in, first out."""
    fills = [
        fill(10, 100, commission=1.0),
        fill(-4, 101, model="B", minute=70),
        fill(2, 103, model="B", minute=80),
        fill(-8, 102, model="B", minute=90, commission=0.5),
    ]
    found = attribute(fills, {}, [MONDAY])
    assert by_model(found) == {"A": 4 * 1 + 6 * 2 - 1.0, "B": 2 * -1 - 0.5}
    assert {key.hour: amounts.moved for key, amounts in found.booked.items() if key.model_id == "A"} == {0: 16.0}
    (trade,) = found.trades
    assert (trade.model_id, trade.quantity, trade.fills, trade.net) == ("A", 10, 4, 12.5)
    assert trade.entry == pytest.approx((10 * 100 + 2 * 103) / 12)
    assert trade.exit == pytest.approx((4 * 101 + 8 * 102) / 12)


def test_a_turn_ends_one_trade_and_begins_another_and_splits_its_commission() -> None:
    fills = [fill(5, 10), fill(-15, 12, model="B", commission=3.0, minute=1), fill(10, 11, model="C", minute=2)]
    found = attribute(fills, {}, [MONDAY])
    assert [(trade.quantity, trade.net, trade.model_id) for trade in found.trades] == [(5, 9.0, "A"), (-10, 8.0, "B")]
    assert by_model(found) == {"A": 10.0, "B": 10.0 - 3.0, "C": 0.0}


def test_what_is_held_over_night_is_settled_at_the_close_and_told_apart() -> None:
    fills = [fill(10, 100), fill(-10, 105, model="B", session=TUESDAY)]
    found = attribute(fills, {(MONDAY, "AAPL"): 102.0, (TUESDAY, "AAPL"): 90.0}, [MONDAY, TUESDAY])
    held = {(key.session, key.hour): amounts.net for key, amounts in found.booked.items() if key.model_id == "A"}
    assert held == {(MONDAY, 0): 20.0, (TUESDAY, OVERNIGHT): 30.0}
    assert found.held == {}
    assert found.trades[0].net == 50.0


def test_fractions_that_leave_a_crumb_of_rounding_leave_nothing_to_the_days_after() -> None:
    """0.1 + 0.2 - 0.3 shares are 5.6e-17, of a model that has long been replaced."""
    fills = [fill(0.1, 100), fill(0.2, 100, minute=1), fill(-0.3, 100, model="B", minute=2)]
    fills += [fill(0.7, 50, model="B", session=TUESDAY), fill(-0.7, 51, model="B", session=TUESDAY, minute=90)]
    closes = {(MONDAY, "AAPL"): 102.0, (TUESDAY, "AAPL"): 51.0}
    found = attribute(fills, closes, [MONDAY, TUESDAY])
    assert {(key.session, key.model_id) for key in found.booked} == {(MONDAY, "A"), (MONDAY, "B"), (TUESDAY, "B")}
    assert OVERNIGHT not in {key.hour for key in found.booked}
    assert found.held == {}
    assert [trade.net for trade in found.trades] == [0.0, 0.7], "what comes out even is neither won nor lost"


@pytest.mark.parametrize("rest", [5e-10, -5e-10])
def test_a_fill_that_misses_flat_by_less_than_a_broker_counts_is_flat(rest: float) -> None:
    fills = [fill(1.0, 100), fill(-1.0 + rest, 101, minute=1), fill(2.0, 100, minute=2), fill(-2.0, 99, minute=3)]
    found = attribute(fills, {(MONDAY, "AAPL"): 500.0}, [MONDAY, TUESDAY])
    assert [(trade.quantity, round(trade.net, 4)) for trade in found.trades] == [(1.0, 1.0), (2.0, -2.0)]
    assert sum(amounts.net for amounts in found.booked.values()) == pytest.approx(-1.0, abs=1e-6)


def test_slippage_is_what_was_paid_above_the_reference_price_on_either_side() -> None:
    found = attribute([fill(10, 100.1, reference=100), fill(-10, 99.9, reference=100, minute=1)], {}, [MONDAY])
    (amounts,) = found.booked.values()
    assert amounts.slippage == pytest.approx(2.0)
    assert amounts.traded == pytest.approx(2000.0)
    assert amounts.gross == pytest.approx(0.0)


QUANTITIES = st.one_of(st.integers(-50, 50).map(float), st.floats(-50, 50, allow_nan=False)).filter(
    lambda q: abs(q) > 1e-6
)
FILLS = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.integers(0, 380),
        st.sampled_from(["AAPL", "AMD", "X:BTCUSD"]),
        st.sampled_from(["20260101_000000", "20260102_000000", "20260103_000000"]),
        QUANTITIES,
        st.floats(0.01, 5000, allow_nan=False),
        st.floats(0, 3, allow_nan=False),
    ),
    max_size=60,
)


@given(drawn=FILLS, last=st.floats(0.01, 5000), flatten=st.booleans())
@settings(max_examples=200, deadline=None)
def test_every_way_to_cut_the_pnl_adds_up_to_the_cent(
    drawn: list[tuple[int, int, str, str, float, float, float]], last: float, flatten: bool
) -> None:
    """The total by a second way: exact fractions of the cash that moved, and of what is held at the last closes."""
    sessions = [MONDAY + timedelta(days=day) for day in range(5)]
    fills = [
        fill(q, price, model=model, minute=minute, session=sessions[day], ticker=ticker, commission=commission)
        for day, minute, ticker, model, q, price, commission in sorted(drawn, key=lambda each: each[:2])
    ]
    held: dict[str, Fraction] = defaultdict(Fraction)
    for each in fills:
        held[each.ticker] += Fraction(each.quantity)
    if flatten:
        ends = [
            fill(-float(q), 77.0, model="end", minute=385, session=sessions[-2], ticker=t) for t, q in held.items() if q
        ]
        fills += ends
    closes = {(session, ticker): last + place for place, session in enumerate(sessions) for ticker in held}
    found = attribute(fills, closes, sessions)
    exact = -sum((Fraction(f.quantity) * Fraction(f.price) + Fraction(f.commission) for f in fills), Fraction())
    for ticker in held:
        position = sum((Fraction(f.quantity) for f in fills if f.ticker == ticker), Fraction())
        exact += position * Fraction(closes[sessions[-1], ticker])
    for cut in ("session", "model_id", "ticker", "hour"):
        sums: dict[object, float] = defaultdict(float)
        for key, amounts in found.booked.items():
            sums[getattr(key, cut)] += amounts.net
        assert sum(sums.values()) == pytest.approx(float(exact), abs=CENT / 10)
    if flatten:
        assert found.held == {}
        assert sessions[-1] not in {key.session for key in found.booked}, "flat is flat"
        assert sum(trade.net for trade in found.trades) == pytest.approx(float(exact), abs=CENT / 10)


@given(drawn=FILLS)
@settings(max_examples=50, deadline=None)
def test_a_session_is_settled_alike_whatever_comes_later(
    drawn: list[tuple[int, int, str, str, float, float, float]],
) -> None:
    """What a restart, or a report in the middle of a week, has said of a day stays said."""
    sessions = [MONDAY + timedelta(days=day) for day in range(4)]
    fills = [
        fill(q, price, model=model, minute=minute, session=sessions[day], ticker=ticker, commission=commission)
        for day, minute, ticker, model, q, price, commission in sorted(drawn, key=lambda each: each[:2])
    ]
    closes = {(session, ticker): 50.0 for session in sessions for ticker in ("AAPL", "AMD", "X:BTCUSD")}
    whole = attribute(fills, closes, sessions)
    early = [each for each in fills if each.session <= TUESDAY]
    part = attribute(early, closes, sessions[:2])
    assert part.booked == {key: value for key, value in whole.booked.items() if key.session <= TUESDAY}
    assert part.trades == tuple(trade for trade in whole.trades if trade.session <= TUESDAY)
