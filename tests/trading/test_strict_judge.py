"""Where exactly the strict broker's rules begin: an amount that is just enough is taken, one less is refused."""

import math
from datetime import date

import pytest

from hftcl.trading.brokers.strict_judge import judge
from hftcl.trading.brokers.strict_rules import (
    LEAST_NOTIONAL,
    MARGIN_EQUITY,
    PDT_EQUITY,
    PDT_TRADES,
    SHORT_MARKUP,
    AccountRules,
    RefusedError,
)
from hftcl.trading.brokers.strict_state import AccountState, Day, StrictOrder
from tests.trading.trading_cases import SESSION, at


def account(cash: float = 100_000.0, **rules: object) -> AccountState:
    return AccountState(AccountRules(cash=cash, **rules))  # type: ignore[arg-type]


def opened(made: AccountState, quantity: float, symbol: str = "AAPL") -> None:
    """Let an order be on its way."""
    number = len(made.orders)
    order = StrictOrder(
        number=number,
        order_id=f"o{number}",
        client_order_id=f"c{number}",
        symbol=symbol,
        quantity=quantity,
        price=100.0,
        at=at(0),
    )
    made.orders[order.client_order_id] = made.working[order.client_order_id] = order


def verdict(made: AccountState, quantity: float, price: float = 100.0, symbol: str = "AAPL") -> str:
    """Return the code by which an order is refused, "" where it is taken."""
    try:
        judge(made, symbol, quantity, price, at(1))
    except RefusedError as error:
        return error.refusal.code
    return ""


def test_the_least_order_is_of_a_dollar_to_the_cent_and_only_where_it_opens() -> None:
    assert verdict(account(), LEAST_NOTIONAL / 100.0) == ""
    assert verdict(account(), 0.99 * LEAST_NOTIONAL / 100.0) == "too_small"
    made = account()
    made.positions["AAPL"] = 0.001
    assert verdict(made, -0.001) == "", "what is held can always be sold"


def test_short_sales_begin_with_the_equity_of_a_margin_account() -> None:
    assert verdict(account(MARGIN_EQUITY), -1.0) == ""
    assert verdict(account(MARGIN_EQUITY - 0.01), -1.0) == "shorting_disabled"
    assert verdict(account(shorting=False), -1.0) == "shorting_disabled"
    assert verdict(account(), -1.5) == "fractional_short"
    assert verdict(account(hard_to_borrow=frozenset({"AAPL"})), -1.0) == "not_shortable"
    assert verdict(account(hard_to_borrow=frozenset({"AAPL"})), 1.0) == ""
    assert verdict(account(not_fractionable=frozenset({"AAPL"})), 1.5) == "not_fractionable"


def test_the_buying_power_is_spent_to_the_last_dollar_and_a_short_takes_its_markup() -> None:
    made = account(10_000.0)
    assert (made.multiplier, made.buying_power) == (4, 40_000.0)
    assert verdict(made, 400.0) == ""
    assert verdict(made, 401.0) == "no_buying_power"
    most = math.floor(400.0 / SHORT_MARKUP)
    assert verdict(made, -float(most)) == ""
    assert verdict(made, -float(most + 1)) == "no_buying_power"
    assert account(MARGIN_EQUITY - 0.01).multiplier == 1
    assert account(MARGIN_EQUITY).multiplier == 4
    assert account(PDT_EQUITY - 0.01, pdt_check=True).multiplier == 2
    assert account(PDT_EQUITY, pdt_check=True).multiplier == 4


def test_what_is_held_and_what_is_on_its_way_to_open_take_buying_power_and_a_short_is_owed() -> None:
    made = account(10_000.0)
    made.positions, made.marks, made.cost = {"AAPL": 10.0, "AMD": -4.0}, {"AAPL": 100.0}, {"AMD": 50.0}
    assert made.equity == 10_000.0 + 10 * 100.0 - 4 * 50.0
    assert made.buying_power == 4 * 10_800.0 - (1_000.0 + 200.0)
    opened(made, 0.5)
    assert made.buying_power == 4 * 10_800.0 - (1_000.0 + 200.0) - 50.0
    assert verdict(made, 0.5) == "", "beside one of the same side"
    assert made.mark("NVDA") == 0.0, "of what was never seen and never held"


@pytest.mark.parametrize("side", [1.0, -1.0], ids=["long", "short"])
def test_a_position_is_closed_to_its_last_share_less_what_is_on_its_way_to_close_it(side: float) -> None:
    made = account()
    made.positions["AAPL"] = side * 10.0
    assert verdict(made, -side * 10.0) == ""
    assert verdict(made, -side * 11.0) == "no_turn"
    with pytest.raises(RefusedError, match=r"\(requested: 11, available: 10\)"):
        judge(made, "AAPL", -side * 11.0, 100.0, at(1))
    opened(made, -side * 4.0)
    assert verdict(made, -side * 6.0) == ""
    assert verdict(made, -side * 7.0) == "no_turn"
    opened(made, -side * 6.0)
    assert verdict(made, -side * 1.0) == "no_turn", "all of it is on its way"
    assert verdict(made, side * 1.0) == "wash_trade", "an order of the other side is on its way"
    assert verdict(made, side * 1.0, symbol="AMD") == "", "in this ticker alone"


@pytest.mark.parametrize(
    ("quantity", "price"), [(math.nan, 100.0), (math.inf, 100.0), (0.0, 100.0), (1.0, math.nan), (1.0, 0.0)]
)
def test_an_order_that_is_no_order_is_refused_before_any_rule(quantity: float, price: float) -> None:
    assert verdict(account(), quantity, price) == "not_tradable"


def test_an_account_that_is_suspended_or_blocked_takes_nothing_and_a_ticker_that_is_gone_is_not_traded() -> None:
    for flag in ("suspended", "blocked"):
        made = account()
        made.positions["AAPL"] = 10.0
        setattr(made, flag, True)
        assert verdict(made, -10.0) == "account_blocked", "not even what closes"
    made = account()
    made.gone.add("AAPL")
    assert verdict(made, 1.0) == "not_tradable"
    assert verdict(made, 1.0, symbol="AMD") == ""


def test_what_could_become_the_fourth_day_trade_is_refused_on_the_way_in_and_on_the_way_out() -> None:
    made = account(PDT_EQUITY - 1.0, pdt_check=True)
    made.days[SESSION] = Day(opened={"AMD": 5.0, "TSLA": 0.0}, trades=PDT_TRADES - 1)
    assert verdict(made, 1.0) == "pattern_day_trading", "AMD may still be closed today"
    assert verdict(made, 1.0, symbol="AMD") == "", "which is at risk already"
    made.days[SESSION] = Day(opened={}, trades=PDT_TRADES - 1)
    assert verdict(made, 1.0) == ""
    opened(made, 1.0, "NVDA")
    assert verdict(made, 1.0) == "pattern_day_trading", "so may what an order on its way opens"
    out = account(PDT_EQUITY - 1.0, pdt_check=True)
    out.positions["AMD"] = 5.0
    out.days[SESSION] = Day(opened={"AMD": 5.0}, trades=PDT_TRADES)
    assert verdict(out, -5.0, symbol="AMD") == "pattern_day_trading"
    out.days[SESSION] = Day(opened={"AMD": 5.0}, trades=PDT_TRADES - 1)
    assert verdict(out, -5.0, symbol="AMD") == ""
    out.days = {date(2025, 5, 30): Day(opened={"AMD": 5.0}, trades=PDT_TRADES)}
    assert verdict(out, -5.0, symbol="AMD") == "", "it was opened in another session"
    rich = account(PDT_EQUITY, pdt_check=True)
    rich.days[SESSION] = Day(opened={}, trades=PDT_TRADES)
    assert verdict(rich, 1.0) == ""
