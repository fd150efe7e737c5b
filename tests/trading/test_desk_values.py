"""What a desk reckons with, as values: shares that are missing, orders on their way, what it all is worth, refusals."""

import math
from dataclasses import replace
from datetime import timedelta

import pytest

from hftcl.ledger.account import BookAccount
from hftcl.ledger.rows import OrderUpdate
from hftcl.trading.brokers import OrderState
from hftcl.trading.brokers.refusals import BY_CODE
from hftcl.trading.execute.minute import DesiredPosition
from hftcl.trading.execute.sizing import Sizing
from hftcl.trading.execute.trouble import IN_A_ROW, Refusals, explain_bar
from hftcl.trading.execute.valuation import value_account
from hftcl.trading.execute.working import WorkingOrder, WorkingOrders
from tests.trading.trading_cases import SESSION, a_record, at

# --- missing shares ---------------------------------------------------------------------------------------------------


def sizing(**changes: object) -> Sizing:
    """Return that of a broker which takes whole shares, and orders that lead from long to short."""
    given = {"fractional": False, "fractional_shorts": True, "turns": True, "unshortable": (), **changes}
    return Sizing(capital=10_000.0, **given)  # type: ignore[arg-type]


def missing(made: Sizing, target: float, held: float = 0.0, *under_way: float, price: float = 100.0) -> float:
    """Return the shares of AAPL that are ordered, 0.0 for no order."""
    working = {"AAPL": [WorkingOrder(a_record(n, quantity=left), 0.0) for n, left in enumerate(under_way)]}
    desired_position = DesiredPosition(target=target, price=price)
    return made.compute_missing({"AAPL": desired_position}, {"AAPL": held, "AMD": 3.0}, working).get("AAPL", 0.0)


def test_what_is_on_its_way_is_not_ordered_again_in_either_direction() -> None:
    assert missing(sizing(), 0.2) == 20.0
    assert missing(sizing(), 0.2, 5.0, 8.0, 4.0) == 3.0
    assert missing(sizing(), 0.2, 30.0, -8.0) == -2.0
    assert missing(sizing(), 0.2, 12.0, 8.0) == 0.0
    assert missing(sizing(), 0.2, 0.25) == 19.0, "whole shares, where a person handed over a part of one"
    desired_position = DesiredPosition(target=0.2, price=100.0)
    assert sizing().compute_missing({"AAPL": desired_position}, {}, {}) == {"AAPL": 20.0}
    assert sizing().compute_missing({}, {"AMD": 3.0}, {}) == {}, "what nothing is wished of is left as it is"


def test_a_broker_that_takes_no_turn_is_handed_the_close_first() -> None:
    assert missing(sizing(), -0.2, 10.0) == -30.0
    assert missing(sizing(turns=False), -0.2, 10.0) == -10.0
    assert missing(sizing(turns=False), -0.2, 10.0, -4.0) == -6.0


def test_a_share_that_cannot_be_borrowed_is_sold_down_to_none_and_no_further() -> None:
    made = sizing(unshortable={"AAPL"})
    assert missing(made, -0.2, 10.0) == -10.0
    assert missing(made, -0.2) == 0.0
    assert missing(made, 0.2) == 20.0
    assert missing(sizing(fractional=True, unshortable={"AAPL"}), 0.005) == 0.5


def test_parts_of_a_share_are_not_sold_short_where_the_broker_takes_none() -> None:
    assert missing(sizing(fractional=True), -0.2, price=99.0) == pytest.approx(-20.20202, abs=1e-4)
    whole = sizing(fractional=True, fractional_shorts=False)
    assert missing(whole, -0.2, price=99.0) == -20.0
    assert missing(whole, 0.2, price=99.0) == pytest.approx(20.20202, abs=1e-4)
    assert missing(whole, 0.0, 0.25) == -0.25, "a part that is held can be closed"


def test_a_target_of_less_than_a_share_is_noted_until_it_is_one_again() -> None:
    made = sizing()
    assert missing(made, 0.005) == 0.0
    assert made.small == {"AAPL"}
    missing(made, 0.0)
    assert made.small == {"AAPL"}, "a target of none says nothing of its size"
    missing(made, 0.01)
    assert made.small == set()


# --- orders on their way ----------------------------------------------------------------------------------------------


def state_of(work: WorkingOrder, filled: float, status: str = "partially_filled") -> OrderState:
    return OrderState(
        client_order_id=work.record.client_order_id,
        status=status,  # type: ignore[arg-type]
        filled=filled,
        average_price=101.0,
    )


def update_of(work: WorkingOrder, state: str = "canceled") -> OrderUpdate:
    return OrderUpdate(client_order_id=work.record.client_order_id, state=state, at=at(1))  # type: ignore[arg-type]


@pytest.mark.parametrize("side", [1, -1], ids=["buy", "sell"])
def test_what_an_order_says_has_filled_is_not_left_although_no_fill_was_told(side: int) -> None:
    work = WorkingOrder(a_record(quantity=side * 10.0), filled=side * 2.0)
    assert (work.left, work.untold) == (side * 8.0, 0.0)
    work.take(state_of(work, side * 7.0), update_of(work, "partially_filled"))
    assert (work.left, work.untold, work.heard, work.price) == (side * 3.0, side * 5.0, True, 101.0)
    work.add_fill(side * 5.0)
    assert (work.left, work.untold) == (side * 3.0, 0.0)
    work.add_fill(side * 1.0)
    assert (work.left, work.untold) == (side * 2.0, 0.0), "a fill that the order does not say yet counts too"
    work.take_as_stated()
    assert (work.filled, work.left) == (side * 7.0, side * 3.0)


def test_an_order_that_has_ended_leaves_nothing_and_its_fills_are_still_awaited() -> None:
    work = WorkingOrder(a_record(), filled=0.0)
    work.take(state_of(work, 4.0, "canceled"), update_of(work))
    assert (work.left, work.untold) == (0.0, 4.0)
    assert work.ended == update_of(work)
    assert work.lingers(work.record.created_at + timedelta(seconds=90)) == 90.0


def test_what_was_heard_of_an_order_outlives_another_reading_of_the_ledger() -> None:
    orders = WorkingOrders()
    first = WorkingOrder(a_record(), filled=0.0)
    orders.add(first)
    first.take(state_of(first, 4.0, "canceled"), update_of(first))
    again, other = WorkingOrder(a_record(), filled=1.0), WorkingOrder(a_record(5, "AMD", -3.0), filled=0.0)
    orders.replace([again, other])
    assert (again.left, again.untold, again.price) == (0.0, 3.0, 101.0)
    assert [work.record.ticker for work in orders.list_untold()] == ["AAPL"]
    orders.forget([update_of(again), update_of(other, "submitted")])
    assert [work.record.ticker for work in orders] == ["AMD"], "one that was only taken still works"
    assert orders.get(first.record.client_order_id) is None
    assert (len(orders), list(orders.names)) == (1, [other.record.client_order_id])


def test_what_the_broker_said_of_an_order_before_is_known_and_whatever_else_it_says_is_news() -> None:
    work = WorkingOrder(a_record(), filled=0.0)
    opened = replace(state_of(work, 0.0, "open"), average_price=None)
    partly = state_of(work, 4.0)
    dearer = replace(partly, average_price=102.0)
    more = replace(dearer, filled=6.0)
    for state in (opened, partly, dearer, more):
        assert not work.knows(state)
        work.take(state, update_of(work, "partially_filled"))
        assert work.knows(state)
    assert not work.knows(replace(more, status="canceled")), "that it ended is news"


def test_shares_of_which_only_the_order_says_that_they_filled_are_held() -> None:
    orders = WorkingOrders()
    for minute, (ticker, quantity, stated) in enumerate([("AAPL", 10.0, 4.0), ("AMD", -5.0, -5.0), ("TSLA", 2.0, 0.0)]):
        work = WorkingOrder(a_record(minute, ticker, quantity), filled=0.0)
        orders.add(work)
        work.take(state_of(work, stated), update_of(work, "partially_filled"))
    positions = {"AAPL": 1.0, "AMD": 5.0, "NVDA": 7.0}
    assert orders.add_untold(positions) == {"AAPL": 5.0, "NVDA": 7.0}
    assert positions == {"AAPL": 1.0, "AMD": 5.0, "NVDA": 7.0}, "the ledger's own are not touched"
    assert WorkingOrders().add_untold(positions) is positions
    part = WorkingOrder(a_record(9, "TSLA", 0.5), filled=0.0)
    part.take(state_of(part, 0.5), update_of(part, "partially_filled"))
    orders.add(part)
    assert orders.add_untold({}) == {"AAPL": 4.0, "AMD": -5.0, "TSLA": 0.5}


def test_what_may_still_be_bought_and_sold_of_a_ticker_is_summed_apart() -> None:
    orders = WorkingOrders()
    for minute, (quantity, filled) in enumerate([(10.0, 4.0), (3.0, 0.0), (-5.0, -1.0)]):
        orders.add(WorkingOrder(a_record(minute, quantity=quantity), filled=filled))
    assert orders.sum_open_quantities() == {"AAPL": (9.0, -4.0)}


# --- worth ------------------------------------------------------------------------------------------------------------


def test_an_account_is_worth_cash_and_shares_at_their_prices_and_at_cost_where_there_is_none() -> None:
    account = BookAccount(
        positions={"AAPL": 10.0, "AMD": -4.0, "GONE": 2.0},
        average_price={"AAPL": 90.0, "AMD": 55.0, "GONE": 30.0},
        paid=740.0,
        realised=12.5,
    )
    row = value_account(
        account,
        {"AAPL": 20.0, "AMD": -4.0, "GONE": 2.0},
        {"AAPL": 50.0, "AMD": 60.0},
        10_000.0,
        -3.0,
        book="production",
        session=SESSION,
        minute=at(5),
    )
    assert row.cash == 10_000.0 - 740.0 - 3.0
    assert row.net == 20 * 50.0 - 4 * 60.0 + 2 * 30.0, "AAPL in new shares, for its price is of these"
    assert row.gross == 20 * 50.0 + 4 * 60.0 + 2 * 30.0
    assert row.equity == row.cash + row.net
    assert (row.realised, row.ts, row.session, row.book) == (12.5, at(5), SESSION, "production")


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_refusals_in_a_row_are_told_once_and_their_end_is_told_too() -> None:
    refused = Refusals()
    told = [refused.note("not_shortable" if n % 2 else "broker", f"T{n}") for n in range(IN_A_ROW + 2)]
    assert [bool(text) for text in told] == [False] * (IN_A_ROW - 1) + [True, False, False]
    assert told[IN_A_ROW - 1].startswith("5 orders in a row were refused: 3 x broker (the broker refused it for a")
    assert "2 x not_shortable (" in told[IN_A_ROW - 1]
    assert told[IN_A_ROW - 1].endswith(BY_CODE["broker"].remedy), "of what was refused most"
    assert refused.unshortable == {"T1", "T3", "T5"}
    assert refused.note_acceptance() == f"the broker takes orders again; before, it refused {IN_A_ROW + 2}"
    assert refused.note_acceptance() == ""
    assert refused.unshortable == {"T1", "T3", "T5"}, "for the session"


def test_an_order_that_was_taken_begins_the_row_again_and_a_session_forgets_all() -> None:
    refused = Refusals()
    for _ in range(IN_A_ROW - 1):
        refused.note("broker", "A")
    assert refused.note_acceptance() == "", "nobody was told of so few"
    assert refused.note("broker", "A") == ""
    refused.note("not_shortable", "B")
    refused.unclosed["C"] = "x"
    refused.begin_session()
    assert (refused.unshortable, refused.unclosed) == (set(), {})
    assert [bool(refused.note("broker", "A")) for _ in range(IN_A_ROW)] == [False] * (IN_A_ROW - 1) + [True]


def test_an_account_that_refuses_is_explained_with_what_a_person_may_do() -> None:
    text = explain_bar(BY_CODE["account_blocked"], "new orders are rejected")
    assert "suspended by its owner, or blocked by Alpaca (new orders are rejected). Nothing is opened" in text
    assert "Look at the account in Alpaca's dashboard." in text
    assert text.endswith("`hftcl trade --clear` lets it open again.")


def test_an_order_that_cannot_be_computed_is_passed_on_for_risk_to_refuse() -> None:
    assert math.isnan(missing(sizing(), math.nan))
    assert math.isnan(missing(sizing(turns=False), math.nan, 10.0))
