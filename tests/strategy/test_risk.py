"""Which orders may reach a broker. Pure code: mostly properties over whatever order somebody may think of."""

import math
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hftcl.settings import Risk
from hftcl.strategy.risk import Code, Limits, Order, RiskBook, Ruling, allow, find_breach, review

CAPITAL = 100_000.0
TICKERS = ("AAPL", "AMD", "TSLA")
PRICES = {"AAPL": 200.0, "AMD": 100.0, "TSLA": 250.0}
LIMITS = Limits.from_settings(Risk(), capital=CAPITAL, tickers=4, flat_minutes=2)
FRESH = dict.fromkeys(TICKERS, 0.0)


def an_order(**changes: Any) -> Order:
    order = Order(
        client_order_id="one",
        ticker="AAPL",
        quantity=10.0,
        ts=datetime(2025, 6, 2, 14, 31, tzinfo=UTC),
        reference_price=200.0,
        session=date(2025, 6, 2),
    )
    return replace(order, **changes)


def a_book(**changes: Any) -> RiskBook:
    return replace(RiskBook(prices=PRICES, ages=FRESH, equity=CAPITAL, equity_at_open=CAPITAL), **changes)


def code(order: Order, book: RiskBook, limits: Limits = LIMITS) -> Code | None:
    return allow(order, book, limits).code


@pytest.mark.parametrize(
    ("order", "book", "limits", "expected"),
    [
        ({}, {}, {}, None),
        ({"quantity": math.nan}, {}, {}, Code.NOT_FINITE),
        ({"quantity": math.inf}, {}, {}, Code.NOT_FINITE),
        ({"quantity": 0.0}, {}, {}, Code.NOT_FINITE),
        ({}, {"positions": {"AAPL": math.nan}}, {}, Code.NOT_FINITE),
        ({}, {"known_ids": {"one"}}, {}, Code.DUPLICATE),
        ({}, {"market_open": False}, {}, Code.CLOSED),
        ({}, {"prices": {}}, {}, Code.NO_PRICE),
        ({"reference_price": math.nan}, {}, {}, Code.NO_PRICE),
        ({"reference_price": -200.0}, {}, {}, Code.NO_PRICE),
        ({"reference_price": 0.0}, {}, {}, Code.NO_PRICE),
        ({}, {"latches": frozenset({"kill_switch"})}, {}, Code.LATCHED),
        ({}, {"minutes_to_close": 2}, {}, Code.NEAR_CLOSE),
        ({}, {"minutes_to_close": 3}, {}, None),
        ({}, {"ages": FRESH | {"AAPL": 3.0}}, {}, Code.STALE),
        ({}, {"ages": FRESH | {"AAPL": 2.0}}, {}, None),
        ({}, {"ages": {}}, {}, Code.STALE),
        ({"reference_price": 2000.0}, {}, {}, Code.COLLAR),
        ({"reference_price": 179.0}, {}, {}, Code.COLLAR),
        ({"reference_price": 219.0}, {}, {}, None),
        ({}, {"recent_orders": 10}, {}, Code.RATE),
        ({"quantity": -10.0}, {}, {"shorting": False}, Code.NO_SHORT),
        ({"quantity": -10.0}, {"positions": {"AAPL": 10.0}}, {"shorting": False}, None),
        ({"quantity": 30_000.0}, {}, {}, Code.MAX_NOTIONAL),
        ({"quantity": 251.0}, {}, {}, Code.MAX_POSITION),
        ({"quantity": 250.0}, {}, {}, None),
        ({"quantity": 1.0}, {"positions": {"AAPL": 250.0}}, {}, Code.MAX_POSITION),
        ({"quantity": 1.0}, {"open_quantities": {"AAPL": (250.0, 0.0)}}, {}, Code.MAX_POSITION),
        ({"quantity": 200.0}, {"positions": {"AMD": 400.0, "TSLA": -160.0}}, {}, Code.MAX_GROSS),
        ({"quantity": 1.0}, {"positions": {"AMD": 1.0}, "prices": {"AAPL": 200.0}}, {}, Code.MAX_GROSS),
        ({"quantity": 200.0}, {"positions": {"AMD": 400.0}}, {"net": 70_000.0}, Code.MAX_NET),
        ({"quantity": -200.0}, {"positions": {"AMD": 400.0}}, {"net": 70_000.0}, None),
        ({}, {"buying_power": 1999.0}, {}, Code.BUYING_POWER),
        ({}, {"buying_power": 2000.0}, {}, None),
    ],
)
def test_an_order_is_refused_with_the_code_of_what_it_would_pass(
    order: dict[str, Any], book: dict[str, Any], limits: dict[str, Any], expected: Code | None
) -> None:
    ruling = allow(an_order(**order), a_book(**book), replace(LIMITS, **limits))
    assert (ruling.allowed, ruling.code) == (expected is None, expected)
    assert bool(ruling.text) is (expected is not None)


def test_a_position_may_be_closed_whatever_else_forbids_trading() -> None:
    dire = a_book(
        positions={"AAPL": 400.0},  # 80,000 USD where 50,000 are allowed
        latches=frozenset({"daily_loss"}),
        ages={},
        recent_orders=10_000,
        minutes_to_close=0,
        buying_power=-5.0,
    )
    assert code(an_order(quantity=-400.0, reference_price=300.0), dire) is None
    assert code(an_order(quantity=-401.0, reference_price=300.0), dire) is Code.LATCHED
    assert code(an_order(quantity=-400.0), replace(dire, market_open=False)) is Code.CLOSED
    assert code(an_order(quantity=-400.0), replace(dire, prices={})) is Code.NO_PRICE


def test_a_position_that_has_outgrown_its_limit_is_not_turned_into_another_one_beyond_it() -> None:
    limits = replace(LIMITS, position=10_000.0, order=1e6)
    book = a_book(positions={"AAPL": 150.0}, prices={"AAPL": 100.0})
    turn = an_order(quantity=-299.0, reference_price=100.0)
    ruling = allow(turn, book, limits)
    assert (ruling.allowed, ruling.quantity, ruling.code) == (True, -150.0, Code.MAX_POSITION)
    assert allow(replace(turn, quantity=-250.0), book, limits) == Ruling(allowed=True)
    assert allow(turn, book, replace(limits, position=1e9, gross=10_000.0)).code is Code.MAX_GROSS


@pytest.mark.parametrize(
    ("in_book", "code"),
    [
        ({"recent_orders": 10_000}, Code.RATE),
        ({"ages": {"AAPL": 9.0}}, Code.STALE),
        ({"minutes_to_close": 1.0}, Code.NEAR_CLOSE),
    ],
)
def test_of_an_order_that_may_not_turn_a_position_the_part_that_closes_it_goes(
    in_book: dict[str, Any], code: Code
) -> None:
    book = a_book(positions={"AAPL": -10.0}, open_quantities={"AAPL": (4.0, -3.0)}, **in_book)
    ruling = allow(an_order(quantity=20.0), book, LIMITS)
    assert (ruling.allowed, ruling.quantity, ruling.code) == (True, 6.0, code), "4 are on their way"
    assert "only what closes the position goes" in ruling.text


def test_two_orders_to_close_the_same_position_do_not_turn_it() -> None:
    book = a_book(positions={"AAPL": 100.0}, latches=frozenset({"kill_switch"}))
    twice = review([an_order(quantity=-100.0), an_order(client_order_id="two", quantity=-100.0)], book, LIMITS)
    assert [ruling.code for ruling in twice] == [None, Code.LATCHED]
    half_sold = replace(book, open_quantities={"AAPL": (0.0, -50.0)})
    assert code(an_order(quantity=-50.0), half_sold) is None
    assert code(an_order(quantity=-51.0), half_sold) is Code.LATCHED


def test_auto_limits_leave_room_for_what_the_strategy_asks_for_and_not_for_much_more() -> None:
    for tickers in (1, 2, 3, 8, 500):
        limits = Limits.from_settings(Risk(), capital=CAPITAL, tickers=tickers)
        weight = CAPITAL / tickers
        assert weight <= limits.position <= 2 * weight
        assert 2 * weight <= limits.order
        assert limits.gross >= CAPITAL
        assert limits.orders_per_minute >= 2 * tickers
    said = Limits.from_settings(
        Risk(max_position_share=0.1, max_order_notional=500.0, max_orders_per_minute=3), capital=CAPITAL, tickers=8
    )
    assert (said.position, said.order, said.orders_per_minute) == (10_000.0, 500.0, 3)


@pytest.mark.hazard(57)
def test_a_session_that_lost_the_limit_or_cannot_be_valued_is_breached() -> None:
    assert find_breach(a_book(equity=CAPITAL - 2999.99), LIMITS) is None
    assert find_breach(a_book(equity=CAPITAL - 3000.0), LIMITS) is Code.DAILY_LOSS
    assert find_breach(a_book(equity=CAPITAL + 50_000), LIMITS) is None
    for equity in (math.nan, -math.inf):
        assert find_breach(a_book(equity=equity), LIMITS) is Code.DAILY_LOSS
    assert find_breach(a_book(equity_at_open=math.nan), LIMITS) is Code.DAILY_LOSS


ANY_NUMBER = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.floats(-1000, 1000),
    st.integers(-500, 500).map(float),
    st.sampled_from([0.0, -0.0, 1e-9, 1e18, -1e18, math.nan, math.inf]),
)


@st.composite
def orders(draw: st.DrawFn) -> list[Order]:
    """Orders such as the bot sends, and among them what a finger, a feed or a bug may make of one."""
    found = []
    for n in range(draw(st.integers(1, 12))):
        ticker = draw(st.sampled_from(TICKERS))
        order = an_order(
            client_order_id=f"n{n}",
            ticker=ticker,
            quantity=draw(st.sampled_from([1.0, 20.0, 60.0, 100.0, -20.0, -60.0, -100.0, -200.0])),
            reference_price=PRICES[ticker] * draw(st.sampled_from([1.0, 0.95, 1.09])),
        )
        if draw(st.integers(0, 3)) == 0:
            order = draw(
                st.one_of(
                    st.builds(replace, st.just(order), quantity=ANY_NUMBER),
                    st.builds(replace, st.just(order), reference_price=st.one_of(st.floats(80, 300), ANY_NUMBER)),
                    st.builds(replace, st.just(order), ticker=st.just("GHOST")),
                    st.builds(replace, st.just(order), client_order_id=st.sampled_from(["n0", "n1"])),
                )
            )
        found.append(order)
    return found


@st.composite
def books(draw: st.DrawFn) -> RiskBook:
    """Books within their limits, of which prices and quantities are anything that an account can hold."""
    positions = {ticker: draw(st.floats(-100, 100)) for ticker in TICKERS if draw(st.booleans())}
    working = {ticker: (draw(st.floats(0, 50)), draw(st.floats(-50, 0))) for ticker in TICKERS if draw(st.booleans())}
    book = a_book(
        positions=positions,
        open_quantities=working,
        buying_power=draw(st.one_of(st.none(), st.floats(0, 40_000))),
        recent_orders=draw(st.integers(0, 5)),
    )
    if draw(st.integers(0, 3)):
        return book
    return replace(
        book,
        ages={ticker: draw(st.sampled_from([0.0, 2.0, 3.0, math.nan])) for ticker in TICKERS},
        latches=draw(st.sampled_from([frozenset(), frozenset({"kill_switch"})])),
        market_open=draw(st.booleans()),
        minutes_to_close=draw(st.sampled_from([100.0, 3.0, 2.0, 0.0])),
    )


def worst(book: RiskBook, quantities: dict[str, list[float]]) -> dict[str, tuple[float, float]]:
    """Return the positions (lowest, highest) that what is open can lead to: a second implementation, by sums."""
    found = {}
    for ticker in TICKERS:
        held = book.positions.get(ticker, 0.0)
        bought, sold = book.open_quantities.get(ticker, (0.0, 0.0))
        added = quantities.get(ticker, [])
        found[ticker] = (held + sold + sum(q for q in added if q < 0), held + bought + sum(q for q in added if q > 0))
    return found


@pytest.mark.hazard(56)
@settings(max_examples=80)
@given(book=books(), sent=orders(), shorting=st.booleans())
def test_whatever_is_ordered_no_limit_is_ever_passed(book: RiskBook, sent: list[Order], shorting: bool) -> None:
    require_within_limits(book, sent, shorting)


@pytest.mark.slow
@settings(max_examples=2500)
@given(book=books(), sent=orders(), shorting=st.booleans())
def test_whatever_else_is_ordered_no_limit_is_ever_passed(book: RiskBook, sent: list[Order], shorting: bool) -> None:
    """The same with many more orders."""
    require_within_limits(book, sent, shorting)


def require_within_limits(book: RiskBook, sent: list[Order], shorting: bool) -> None:
    limits = replace(LIMITS, shorting=shorting, position=30_000.0, gross=60_000.0, net=40_000.0)
    rulings = review(sent, book, limits)
    taken: dict[str, list[float]] = {}
    for order, ruling in zip(sent, rulings, strict=True):
        assert isinstance(ruling, Ruling)
        if not ruling.allowed:
            assert ruling.code is not None
            continue
        before = worst(book, taken)
        if ruling.quantity is not None:
            assert 0 < abs(ruling.quantity) < abs(order.quantity)
            assert math.copysign(1, ruling.quantity) == math.copysign(1, order.quantity)
            assert ruling.code is not None
            order = replace(order, quantity=ruling.quantity)
            assert closes(order, before)
        taken.setdefault(order.ticker, []).append(order.quantity)
        after = worst(book, taken)
        earlier = sum(map(len, taken.values())) - 1
        assert_within(order, replace(book, recent_orders=book.recent_orders + earlier), limits, before, after)
    went = [order for order, ruling in zip(sent, rulings, strict=True) if ruling.allowed]
    assert len({order.client_order_id for order in went}) == len(went)


def closes(order: Order, standing: dict[str, tuple[float, float]]) -> bool:
    low, high = standing[order.ticker]
    return high + order.quantity <= 0 if order.quantity > 0 else low + order.quantity >= 0


def assert_within(
    order: Order,
    book: RiskBook,
    limits: Limits,
    before: dict[str, tuple[float, float]],
    after: dict[str, tuple[float, float]],
) -> None:
    """Hold what this order added to every limit, whichever part of what is open fills."""
    assert book.market_open
    assert math.isfinite(order.quantity)
    assert math.isfinite(order.reference_price)
    if closes(order, before):
        assert sizes(after) <= sizes(before) + 1e-6
        return
    slack = 1 + 1e-9
    low, high = after[order.ticker]
    assert abs(order.quantity) * PRICES[order.ticker] <= limits.order * slack
    grown = max(-low, high) > max(-before[order.ticker][0], before[order.ticker][1])
    assert (high if order.quantity > 0 else -low) * PRICES[order.ticker] <= limits.position * slack
    turns = before[order.ticker][1] < 0 if order.quantity > 0 else before[order.ticker][0] > 0
    assert not (grown or turns) or sizes(after) <= limits.gross * slack
    side = sum((h if order.quantity > 0 else -lo) * PRICES[name] for name, (lo, h) in after.items())
    assert side <= limits.net * slack
    assert limits.shorting or order.quantity > 0 or low >= 0
    assert book.ages[order.ticker] <= limits.stale_bars
    assert abs(order.reference_price / PRICES[order.ticker] - 1) <= limits.collar
    assert not book.latches
    assert book.minutes_to_close > limits.flat_minutes
    assert book.recent_orders < limits.orders_per_minute
    if book.buying_power is not None:
        assert sizes(after) - sizes(worst(book, {})) <= book.buying_power * slack + 1e-6


def sizes(standing: dict[str, tuple[float, float]]) -> float:
    return sum(max(abs(low), abs(high)) * PRICES[name] for name, (low, high) in standing.items())
