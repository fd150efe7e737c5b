"""What an order may lead to: each limit by a hand calculation, and the texts that a person reads."""

import math
from dataclasses import replace
from typing import Any

import pytest

from hftcl.settings import Risk
from hftcl.strategy.risk import Code, Limits, RiskBook, Ruling, allow, find_breach, is_price, review
from tests.strategy.test_risk import CAPITAL, FRESH, LIMITS, a_book, an_order, code

WIDE = replace(LIMITS, position=1e9, order=1e9, gross=1e9, net=1e9, orders_per_minute=1000)


def text(order: dict[str, Any], book: RiskBook, limits: Limits = WIDE) -> str:
    ruling = allow(an_order(**order), book, limits)
    assert not ruling.allowed
    return ruling.text


def test_each_limit_in_dollars_is_the_share_of_the_capital_that_was_set() -> None:
    shares = Risk(max_daily_loss=0.02, max_drawdown=0.07, max_gross=1.5, max_net=0.8)
    limits = Limits.from_settings(shares, capital=50_000.0, tickers=2, flat_minutes=7, shorting=False)
    assert (limits.daily_loss, limits.drawdown) == pytest.approx((1000.0, 3500.0))
    assert (limits.gross, limits.net) == pytest.approx((75_000.0, 40_000.0))
    assert (limits.flat_minutes, limits.shorting) == (7, False)
    assert (limits.collar, limits.stale_bars) == (shares.price_collar, shares.stale_bars)
    assert Limits.from_settings(shares, capital=1.0, tickers=2).shorting, "unless a broker forbids it"


def test_a_position_may_be_twice_its_equal_weight_but_never_more_than_the_gross_limit() -> None:
    one = Limits.from_settings(Risk(max_gross=1.0), capital=1000.0, tickers=1)
    assert (one.position, one.order) == (1000.0, 2000.0)
    five = Limits.from_settings(Risk(max_gross=1.0), capital=1000.0, tickers=5)
    assert (five.position, five.order) == (400.0, 800.0)
    assert (one.orders_per_minute, five.orders_per_minute) == (10, 10)
    assert Limits.from_settings(Risk(), capital=1000.0, tickers=6).orders_per_minute == 12


def test_a_fall_since_the_best_close_is_a_breach_and_the_loss_of_the_day_goes_before_it() -> None:
    limits = replace(LIMITS, daily_loss=3000.0, drawdown=8000.0)
    fallen = a_book(peak=CAPITAL + 6000.0, equity=CAPITAL - 2000.0)
    assert find_breach(fallen, limits) is Code.DRAWDOWN
    assert find_breach(replace(fallen, equity=CAPITAL - 1999.0), limits) is None
    assert find_breach(replace(fallen, equity=CAPITAL - 3000.0), limits) is Code.DAILY_LOSS
    assert find_breach(replace(fallen, peak=-math.inf), limits) is None, "without a close there is no fall from one"
    assert find_breach(a_book(peak=1e9), replace(LIMITS, drawdown=math.inf)) is None


def test_a_book_that_is_barred_opens_nothing_says_why_and_may_still_be_closed() -> None:
    barred = a_book(barred="the account agreement is not signed", positions={"AAPL": 10.0})
    ruling = allow(an_order(quantity=1.0), barred, WIDE)
    assert (ruling.allowed, ruling.code, ruling.text) == (False, Code.BARRED, "the account agreement is not signed")
    assert allow(an_order(quantity=-10.0), barred, WIDE) == Ruling(allowed=True)
    latched = replace(barred, latches=frozenset({"kill_switch", "daily_loss"}))
    assert text({}, latched) == "latched: daily_loss, kill_switch", "what a person must reset is told first"


def test_the_reasons_name_the_figure_and_the_limit() -> None:
    assert text({}, a_book(minutes_to_close=1.5)) == "1.5 minutes are left, flat from 2 on"
    assert text({}, a_book(ages=FRESH | {"AAPL": 4.0})) == "the newest bar is 4 bars old, at most 2 are allowed"
    assert text({"reference_price": 250.0}, a_book()) == "priced at 250, 25% away from the last close of 200"
    assert text({}, a_book(recent_orders=10), LIMITS) == "10 orders in a minute, at most 10"
    assert text({}, a_book(recent_orders=1), replace(WIDE, orders_per_minute=1)) == "1 order in a minute, at most 1"
    assert text({"quantity": -10.0}, a_book(positions={"AAPL": 0.0}), replace(WIDE, shorting=False)) == (
        "10 shares would be sold short"
    )
    assert text({"quantity": 300.0}, a_book(), LIMITS) == "60,000.00 USD, at most 50,000.00"
    assert text({"ticker": "GHOST"}, a_book()) == "GHOST has no price"
    assert text({}, a_book(known_ids={"one"})) == "the order one was sent before"
    assert text({"quantity": math.nan}, a_book()) == "nan shares are not a quantity"


def test_the_net_limit_counts_what_is_open_on_the_side_that_the_order_adds_to() -> None:
    book = a_book(positions={"AMD": 100.0}, open_quantities={"AMD": (50.0, -30.0), "TSLA": (0.0, -40.0)})
    # AMD at 100: 7,000 to 15,000 USD; TSLA at 250: -10,000 to 0; AAPL at 200
    bought = replace(WIDE, net=16_000.0)
    assert code(an_order(quantity=5.0), book, bought) is None
    assert text({"quantity": 6.0}, book, bought) == "16,200.00 USD, at most 16,000.00"
    sold = replace(WIDE, net=4_000.0)
    assert code(an_order(quantity=-5.0), book, sold) is None
    assert text({"quantity": -6.0}, book, sold) == "4,200.00 USD, at most 4,000.00"


def test_the_gross_limit_counts_the_worst_side_of_each_ticker_and_a_smaller_book_passes() -> None:
    book = a_book(positions={"AMD": 100.0, "AAPL": -50.0}, open_quantities={"AMD": (20.0, -300.0)})
    # AMD: at worst 200 short, 20,000 USD; AAPL: 10,000 USD
    tight = replace(WIDE, gross=31_000.0)
    assert code(an_order(quantity=-5.0), book, tight) is None
    assert text({"quantity": -6.0}, book, tight) == "31,200.00 USD, at most 31,000.00"
    over = replace(WIDE, gross=1_000.0)
    assert code(an_order(quantity=40.0), book, over) is None, "it only reduces"
    assert code(an_order(ticker="AMD", quantity=1.0, reference_price=100.0), book, over) is None, "no side gets worse"


def test_an_order_is_valued_at_the_dearer_of_its_own_price_and_the_last_close() -> None:
    limits = replace(WIDE, order=2_000.0)
    assert code(an_order(quantity=10.0, reference_price=190.0), a_book(), limits) is None
    assert text({"quantity": 10.0, "reference_price": 210.0}, a_book(), limits) == "2,100.00 USD, at most 2,000.00"
    assert text({"quantity": 10.5, "reference_price": 190.0}, a_book(), limits) == "2,100.00 USD, at most 2,000.00"
    twice = [an_order(quantity=5.0, reference_price=210.0), an_order(client_order_id="two", quantity=5.0)]
    first, second = review(twice, a_book(), replace(WIDE, gross=2_000.0))
    assert (first.allowed, second.text) == (True, "2,050.00 USD, at most 2,000.00")
    first, second = review(twice, a_book(), replace(WIDE, net=2_000.0))
    assert (first.allowed, second.text) == (True, "2,050.00 USD, at most 2,000.00")


def test_buying_power_is_used_up_by_what_enlarges_the_book_and_by_nothing_else() -> None:
    book = a_book(positions={"AMD": 30.0}, buying_power=3_000.0)
    orders = [
        an_order(client_order_id="1", ticker="AMD", quantity=-30.0, reference_price=100.0),
        an_order(client_order_id="2", quantity=10.0),
        an_order(client_order_id="3", quantity=6.0),
        an_order(client_order_id="4", quantity=5.0),
        an_order(client_order_id="5", quantity=1.0),
    ]
    rulings = review(orders, book, WIDE)
    assert [ruling.code for ruling in rulings] == [None, None, Code.BUYING_POWER, None, Code.BUYING_POWER]
    assert rulings[2].text == "3,200.00 USD, at most 3,000.00"


def test_orders_of_one_minute_count_together_and_one_that_is_refused_does_not() -> None:
    limits = replace(WIDE, orders_per_minute=3, order=10_000.0)
    orders = [an_order(client_order_id=str(n), quantity=q) for n, q in enumerate((1.0, 1000.0, 1.0, 1.0, 1.0))]
    rulings = review(orders, a_book(), limits)
    assert [ruling.code for ruling in rulings] == [None, Code.MAX_NOTIONAL, None, None, Code.RATE]
    assert [code(an_order(), a_book(recent_orders=n), limits) for n in (2, 3)] == [None, Code.RATE]


def test_of_two_orders_with_one_id_the_second_is_refused_also_where_the_first_only_closes() -> None:
    latched = a_book(positions={"AAPL": 10.0}, latches=frozenset({"kill_switch"}))
    closing, again = review([an_order(quantity=-25.0), an_order(quantity=-1.0)], latched, WIDE)
    assert (closing.quantity, closing.code) == (-10.0, Code.LATCHED)
    assert closing.text == "latched: kill_switch; only what closes the position goes"
    assert again.code is Code.DUPLICATE


def test_the_part_that_closes_a_position_counts_as_sent_when_the_next_order_is_judged() -> None:
    latched = a_book(positions={"AAPL": 10.0}, latches=frozenset({"kill_switch"}))
    orders = [an_order(quantity=-25.0), an_order(client_order_id="two", quantity=-1.0)]
    closing, more = review(orders, latched, WIDE)
    assert closing.quantity == -10.0
    assert (more.allowed, more.code) == (False, Code.LATCHED), "the position is on its way out"


def test_a_book_with_a_ticker_that_has_no_price_grows_no_more_and_one_that_is_flat_there_does() -> None:
    unknown = a_book(positions={"GHOST": 1.0})
    assert code(an_order(), unknown, WIDE) is Code.MAX_GROSS
    assert code(an_order(), replace(unknown, positions={"GHOST": 0.0}), WIDE) is None
    assert (
        code(an_order(), replace(unknown, positions={}, open_quantities={"GHOST": (0.0, -1.0)}), WIDE) is Code.MAX_GROSS
    )
    short = replace(unknown, positions={"GHOST": -1.0, "AAPL": 5.0})
    assert code(an_order(quantity=-5.0), short, WIDE) is None, "what is held may be closed all the same"


@pytest.mark.parametrize("value", [None, 0.0, -1.0, math.nan, math.inf])
def test_what_is_no_price_is_known_as_none(value: float | None) -> None:
    assert not is_price(value)


def test_a_share_of_a_fraction_of_a_cent_has_a_price() -> None:
    assert is_price(0.0001)
