"""Alpaca's answers in our words: what is taken as it is, what is marked as no number, and what is refused by name."""

import math
from datetime import UTC, date, datetime

import pytest

from hftcl.errors import BrokerAnswerError, BrokerError
from hftcl.trading.brokers import LARGEST_AMOUNT
from hftcl.trading.brokers.alpaca_answers import (
    read_cash_move,
    read_cash_moves,
    read_fill,
    read_flags,
    read_held,
    read_number,
    read_rows,
    read_state,
    read_time,
)

# --- orders -----------------------------------------------------------------------------------------------------------


def an_order(**changes: object) -> dict[str, object]:
    return {
        "client_order_id": "c",
        "id": "b",
        "status": "new",
        "side": "buy",
        "qty": "10",
        "filled_qty": "0",
        "symbol": "AAPL",
        **changes,
    }


@pytest.mark.parametrize(
    ("status", "filled", "state", "reason"),
    [
        ("new", "0", "open", ""),
        ("new", "4", "partially_filled", ""),
        ("filled", "10", "filled", ""),
        ("rejected", "0", "rejected", "rejected"),
        ("done_for_day", "4", "canceled", "done_for_day"),
        ("calculated", "10", "filled", ""),
        ("calculated", "4", "canceled", "calculated"),
        ("calculated", "0", "canceled", "calculated"),
    ],
)
def test_what_became_of_an_order_is_told_with_a_reason_only_where_it_ended_short(
    status: str, filled: str, state: str, reason: str
) -> None:
    told = read_state(an_order(status=status, filled_qty=filled))
    assert (told.status, told.reason) == (state, reason)
    assert told.filled == float(filled)


def test_what_was_sold_of_an_order_is_less_than_nothing_by_each_word_for_a_sale() -> None:
    for side, filled in (("sell", -4.0), ("sell_short", -4.0), ("buy", 4.0), (None, 4.0)):
        assert read_state(an_order(side=side, filled_qty="4")).filled == filled
    assert (read_state(an_order()).average_price, read_state(an_order()).ticker) == (None, "AAPL")
    assert read_state(an_order(filled_qty=None, symbol=None)).filled == 0.0
    assert read_state(an_order(filled_qty="4", filled_avg_price="99.5")).average_price == 99.5


@pytest.mark.parametrize(("field", "value"), [("filled_qty", "-1"), ("filled_qty", "x"), ("filled_avg_price", "-0.5")])
def test_a_number_of_an_order_that_cannot_be_true_is_refused_with_its_name_and_the_order(
    field: str, value: str
) -> None:
    with pytest.raises(BrokerAnswerError, match=f"Alpaca answered '{field}' of c with '{value}', which cannot be true"):
        read_state(an_order(**{field: value}))


# --- fills ------------------------------------------------------------------------------------------------------------


def a_fill(**changes: object) -> dict[str, object]:
    return {
        "id": "f",
        "symbol": "AAPL",
        "side": "buy",
        "qty": "3",
        "price": "100.5",
        "transaction_time": "2025-06-02T10:31:29.5-04:00",
        "type": "fill",
        **changes,
    }


def test_a_fill_is_of_the_minute_in_which_it_was_by_utc() -> None:
    fill = read_fill(a_fill(), "c")
    assert (fill.ts, fill.at) == (
        datetime(2025, 6, 2, 14, 31, tzinfo=UTC),
        datetime(2025, 6, 2, 14, 31, 29, 500_000, tzinfo=UTC),
    )
    assert (fill.quantity, fill.price, fill.commission) == (3.0, 100.5, 0.0)
    assert (fill.client_order_id, fill.kind) == ("c", "")
    assert read_fill(a_fill(side="sell_short"), "c").quantity == -3.0


@pytest.mark.parametrize("changes", [{"qty": "0"}, {"qty": "-3"}, {"qty": "many"}, {"side": "exchange"}])
def test_a_fill_of_no_shares_or_of_no_side_is_marked_and_not_guessed(changes: dict[str, object]) -> None:
    assert math.isnan(read_fill(a_fill(**changes), "c").quantity)


@pytest.mark.parametrize(
    ("kind", "told"), [("fill", ""), ("partial_fill", ""), (None, ""), ("trade_bust", "trade_bust")]
)
def test_a_row_that_is_no_trade_keeps_its_kind(kind: str | None, told: str) -> None:
    assert read_fill(a_fill(type=kind), "c").kind == told


# --- cash -------------------------------------------------------------------------------------------------------------


def a_move(**changes: object) -> dict[str, object]:
    return {"id": "a", "activity_type": "DIV", "date": "2025-06-02", "net_amount": "12.5", "qty": "50", **changes}


def test_the_shares_of_a_dividend_did_not_move_and_those_of_a_split_did() -> None:
    assert (read_cash_move(a_move()).amount, read_cash_move(a_move()).shares) == (12.5, 0.0)
    split = read_cash_move(a_move(activity_type="SPLIT", net_amount="", symbol="AAPL"))
    assert (split.amount, split.shares, split.ticker) == (0.0, 50.0, "AAPL")


def test_an_activity_that_was_canceled_moved_nothing() -> None:
    void = read_cash_move(a_move(activity_type="SPLIT", status="canceled"))
    assert (void.amount, void.shares) == (0.0, 0.0)


def test_an_amount_that_is_no_number_is_marked_and_one_left_out_is_none() -> None:
    assert math.isnan(read_cash_move(a_move(net_amount="x")).amount)
    assert read_cash_move(a_move(net_amount=None)).amount == 0.0


def test_a_row_that_cannot_be_read_keeps_none_of_the_others_from_being_booked() -> None:
    good, nameless, dayless = read_cash_moves([a_move(), a_move(id=""), a_move(date="tomorrow", symbol="AMD")])
    assert good.amount == 12.5
    assert (nameless.activity_id, nameless.kind, nameless.day) == ("without an id", "DIV", date.max)
    assert (dayless.activity_id, dayless.ticker) == ("a", "AMD")
    assert math.isnan(nameless.amount)
    assert math.isnan(dayless.shares)
    with pytest.raises(BrokerError, match="'tomorrow', which is not a day"):
        read_cash_move(a_move(date="tomorrow"))


# --- the account ------------------------------------------------------------------------------------------------------


def test_an_account_without_a_word_against_it_may_trade_and_sell_short() -> None:
    flags = read_flags({"status": "ACTIVE", "shorting_enabled": True, "trading_blocked": False})
    assert (flags.blocks, flags.notes, flags.shorting) == ((), (), True)
    assert read_flags({}).blocks == ()


def test_each_block_of_an_account_is_a_sentence_and_what_stops_nothing_is_a_note() -> None:
    flags = read_flags(
        {
            "trading_blocked": True,
            "account_blocked": True,
            "trade_suspended_by_user": True,
            "status": "ACCOUNT_CLOSED",
            "shorting_enabled": False,
            "pattern_day_trader": True,
        }
    )
    assert [block.rpartition("(")[2] for block in flags.blocks[:3]] == [
        "trading_blocked)",
        "account_blocked)",
        "trade_suspended_by_user)",
    ]
    assert flags.blocks[3] == "its status is ACCOUNT_CLOSED"
    assert len(flags.notes) == 2
    assert flags.shorting is False


def test_only_a_pair_of_crypto_is_renamed() -> None:
    assert read_held({"symbol": "BTCUSD", "asset_class": "crypto"}) == "BTC/USD"
    assert read_held({"symbol": "BTCUSD", "asset_class": "us_equity"}) == "BTCUSD"


# --- any answer -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [{"a": 1}, [1], "x", None])
def test_an_answer_that_is_no_list_of_objects_is_one_sentence(page: object) -> None:
    with pytest.raises(BrokerError, match="something else than a list"):
        read_rows(page)
    assert read_rows([]) == []


def test_an_amount_beyond_all_money_is_refused_and_the_largest_is_not() -> None:
    assert read_number({"cash": str(LARGEST_AMOUNT)}, "cash") == LARGEST_AMOUNT
    for strange in (str(2 * LARGEST_AMOUNT), "nan", "", None):
        with pytest.raises(BrokerAnswerError, match="of the account with"):
            read_number({"cash": strange}, "cash")
    with pytest.raises(BrokerAnswerError, match="of AAPL with '-1'"):
        read_number({"qty": "-1", "symbol": "AAPL"}, "qty", least=0.0)


def test_a_time_without_a_zone_is_utc_and_what_has_no_time_in_utc_is_refused() -> None:
    assert read_time("2025-06-02T14:31:00") == read_time("2025-06-02T10:31:00-04:00")
    for strange in ("yesterday", "0001-01-01T00:00:00+14:00"):
        with pytest.raises(BrokerError, match="which is not a time"):
            read_time(strange)
