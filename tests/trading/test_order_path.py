"""A desk and a broker that behaves as a real one: fills late and in parts, refusals, limits, what others do."""

import math
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from hftcl.alerts import Kind
from hftcl.errors import BrokerError
from hftcl.ledger.reader import LedgerReader
from hftcl.market.bars import BAR_SCHEMA
from hftcl.trading.brokers import Fill, Order, OrderState
from hftcl.trading.brokers.strict import StrictPaper
from hftcl.trading.brokers.strict_state import Activity
from hftcl.trading.execute.dispatch import RESERVE, count_minutes_to_send
from hftcl.trading.execute.minute import DesiredPosition
from hftcl.trading.execute.reconciliation import reconcile
from tests.trading.strict_stand import FLATTEN, Bench, bench
from tests.trading.trading_cases import NOW, a_decision, at


def delay(made: Bench, *, of: str, until: int | None, part: int = 0) -> None:
    """Let the fill number `part` of a ticker be told at minute `until`, None for never."""
    rows = [n for n, row in enumerate(made.account.activities) if row.symbol == of]
    row = made.account.activities[rows[part]]
    told_at = at(until) if until is not None else NOW + timedelta(days=9)
    made.account.activities[rows[part]] = Activity(
        **{name: getattr(row, name) for name in Activity.__dataclass_fields__ if name != "told_at"}, told_at=told_at
    )


# ---- fills -----------------------------------------------------------------------------------------------------------


@pytest.mark.hazard(52)
def test_a_part_that_is_told_a_minute_later_with_the_same_trade_time_is_booked_and_can_be_closed(
    tmp_path: Path,
) -> None:
    with bench(tmp_path) as made:
        made.account.rules = replace(made.account.rules, partial=1.0)
        made.minute(0, {"AAPL": 190.0})
        made.account.on_bars([(at(1), "AAPL", 100.0, 100.0, 1e9)], at(2))
        delay(made, of="AAPL", until=3, part=0)  # the older one of two of one trade time
        made.minute(1, {"AAPL": 190.0})
        assert made.desk.positions["AAPL"] == 95.0
        assert made.minute(2, {"AAPL": 190.0}) == (), "what is under way is not ordered twice"
        assert made.apart == {}
        made.close_all(3)
        made.close_all(4)
        made.close_all(5)
        assert (made.desk.positions, made.account.positions) == ({}, {})


@pytest.mark.hazard(64)
def test_a_fill_with_an_older_trade_time_than_the_newest_known_is_booked(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        made.minute(0, {"AAPL": 10.0})
        made.account.on_bars([(at(1), "AAPL", 100.0, 100.0, 1e9)], at(2))
        delay(made, of="AAPL", until=5)
        for minute in range(1, 6):
            made.minute(minute, {"AAPL": 10.0, "AMD": 10.0 * minute})
        assert made.apart == {}
        assert made.desk.positions["AAPL"] == 10.0
        assert len([order for order in made.account.orders.values() if order.symbol == "AAPL"]) == 1


@pytest.mark.parametrize("until", [391, None], ids=["minutes late", "never"])
def test_what_the_broker_says_has_filled_is_closed_before_the_bell_though_no_fill_was_told(
    tmp_path: Path, until: int | None
) -> None:
    with bench(tmp_path) as made:
        made.minute(385, {"AAPL": 10.0, "AMD": -7.0})
        made.account.on_bars([(at(386), name, 100.0, 100.0, 1e9) for name in ("AAPL", "AMD")], at(387))
        delay(made, of="AAPL", until=until)
        made.minute(386)
        made.close_all(387)
        made.close_all(388)
        made.close_all(389)
        assert made.account.positions == {}, "flat before the bell"
        made.desk.close_session(made.context(389))
        assert (made.desk.positions, made.apart) == ({}, {})
        assert "fills that the broker never told" in made.subjects
        assert made.ledger.read_account().paid == pytest.approx(-(made.account.cash - 100_000.0), abs=1e-6)
        if until is not None:  # told after all: it is the same fill
            made.desk.book_minute(made.bars(391), made.context(391))
            assert reconcile(made.ledger, made.broker, at(392)).agrees
            assert made.desk.positions == {}


def test_a_restart_while_a_fill_is_late_halts_nothing(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        made.minute(0, {"AAPL": 10.0})
        made.account.on_bars([(at(1), "AAPL", 100.0, 100.0, 1e9)], at(2))
        delay(made, of="AAPL", until=6)
        assert isinstance(made.broker, StrictPaper)
        made.broker.now = at(3)
        found = reconcile(made.ledger, made.broker, at(3))
        assert (found.agrees, made.ledger.read_latches()) == (True, ())
        again = Bench(made.ledger, made.broker)
        assert again.minute(3, {"AAPL": 10.0}) == (), "asked for by its id, it is held"
        again.minute(6, {"AAPL": 10.0})
        assert again.desk.positions == {"AAPL": 10.0}


# ---- what is written, and asked, when -------------------------------------------------------------------------------


@pytest.mark.hazard(50)
def test_every_order_of_a_minute_is_in_the_ledger_before_the_first_of_them_leaves(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        submit, kept = made.broker.submit, []

        def look(order: Order) -> OrderState:
            with LedgerReader(made.ledger.path) as ledger:
                kept.append(ledger.read_orders()["state"].to_list())
            return submit(order)

        made.broker.submit = look  # type: ignore[method-assign]
        made.minute(0, {"AAPL": 10.0, "AMD": -7.0})
        assert kept == [["intended", "intended"]] * 2
        assert made.ledger.read_orders()["state"].to_list() == ["submitted", "submitted"]
        made.minute(1)
        assert made.ledger.read_orders()["state"].to_list() == ["filled", "filled"]


class Killed(BaseException):
    """What nothing catches, as a kill."""


@pytest.mark.parametrize("nth", [0, 1])
def test_a_kill_while_orders_leave_loses_no_decision_of_the_minute(tmp_path: Path, nth: int) -> None:
    """Those on tickers without an order too: no later minute decides on this one again."""
    with bench(tmp_path) as made:
        submit = made.broker.submit
        left: list[str] = []

        def stop(order: Order) -> OrderState:
            if len(left) == nth:
                raise Killed
            left.append(order.ticker)
            return submit(order)

        made.broker.submit = stop  # type: ignore[method-assign]
        context = made.context(0)
        equity = made.desk.book_minute(made.bars(0), context, trades=True)
        decisions = [a_decision(0, ticker) for ticker in ("AAPL", "AMD", "TSLA")]
        desired_positions = {ticker: DesiredPosition(target=0.01, price=100.0) for ticker in ("AMD", "TSLA")}
        with pytest.raises(Killed):
            made.desk.trade(decisions, desired_positions, context, equity)
        with LedgerReader(made.ledger.path) as ledger:
            assert ledger.read_decisions()["ticker"].to_list() == ["AAPL", "AMD", "TSLA"]
            assert ledger.read_orders()["state"].to_list() == ["intended", "intended"]


def test_orders_that_linger_are_asked_for_by_one_listing(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        made.minute(0, {"AAPL": 10.0, "AMD": -7.0, "TSLA": 3.0})
        asked: list[str] = []
        for name in ("find", "open_orders"):
            call = getattr(made.broker, name)
            setattr(made.broker, name, lambda *values, call=call, name=name: asked.append(name) or call(*values))  # type: ignore[func-returns-value]
        made.desk.book_minute(BAR_SCHEMA.to_frame(), made.context(1))
        assert asked == [], "they are young"
        made.desk.book_minute(BAR_SCHEMA.to_frame(), made.context(3))
        assert asked == ["open_orders"]
        made.minute(4)
        assert (made.desk.positions, made.apart) == ({"AAPL": 10.0, "AMD": -7.0, "TSLA": 3.0}, {})


@pytest.mark.parametrize("listing", ["works", "fails"])
def test_what_is_taken_back_is_closed_in_the_same_minute_though_the_listing_fails(
    tmp_path: Path, listing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> tuple[OrderState, ...]:
        raise BrokerError("503 Service Unavailable")

    with bench(tmp_path) as made:
        made.account.rules = replace(made.account.rules, partial=1.0)
        made.minute(0, {"AAPL": 190.0, "AMD": -150.0})
        made.account.on_bars([(at(1), ticker, 100.0, 100.0, 1e9) for ticker in ("AAPL", "AMD")], at(2))
        delay(made, of="AAPL", until=9, part=1)
        delay(made, of="AMD", until=9, part=1)
        if listing == "fails":
            monkeypatch.setattr(made.broker, "open_orders", fail)
        sent = made.close_all(1)
        assert {row.ticker: row.quantity for row in sent} == {"AAPL": -190.0, "AMD": 150.0}
        for minute in range(2, 11):
            made.close_all(minute)
        assert (made.desk.positions, made.account.positions) == ({}, {})


def test_a_fill_that_cannot_be_true_is_told_once_and_the_others_are_booked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bench(tmp_path) as made:
        tell = made.broker.fills

        def tell_one_wrong(since: str | None) -> tuple[tuple[Fill, ...], str]:
            fills, cursor = tell(since)
            return tuple(replace(fill, price=1e308) if fill.ticker == "AMD" else fill for fill in fills), cursor

        monkeypatch.setattr(made.broker, "fills", tell_one_wrong)
        made.minute(0, {"AAPL": 10.0, "AMD": 5.0})
        for minute in (1, 2, 3):
            made.minute(minute)
        assert made.desk.positions["AAPL"] == 10.0
        assert made.subjects.count("the broker tells a fill that is not booked") == 1
        (text,) = (text for _, subject, text in made.told if "is not booked" in subject)
        assert "5 shares of AMD at 1e+308 USD" in text


# ---- whose shares ----------------------------------------------------------------------------------------------------


@pytest.mark.hazard(66)
def test_a_position_that_a_person_closes_by_hand_is_told_once_and_left_alone_until_a_person_says(
    tmp_path: Path,
) -> None:
    with bench(tmp_path) as made:
        made.minute(0, {"AAPL": 10.0, "AMD": 10.0})
        made.minute(1, {"AAPL": 10.0, "AMD": 10.0})
        made.account.trade_by_hand("AAPL", -10.0, 100.0, at(2))
        for minute in range(2, 6):
            made.minute(minute, {"AAPL": 10.0, "AMD": 12.0})
        assert [order.client_order_id for order in made.account.orders.values() if order.symbol == "AAPL"][2:] == []
        assert made.account.positions == {"AMD": 12.0}, "the others are traded on"
        assert made.subjects == ["somebody else traded in the account"]
        assert "AAPL" in made.told[0][2]
        made.desk.adopt_foreign(at(6))
        assert made.apart == {}
        made.minute(6, {"AAPL": 10.0})
        made.minute(7)
        assert made.account.positions["AAPL"] == 10.0, "a person handed it to the bot"


def test_a_foreign_share_counts_in_no_limit_and_blocks_no_order(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        made.minute(0, {"AAPL": 10.0})
        made.minute(1)
        made.account.trade_by_hand("BRK.A", 0.2, 600_000.0, at(2))  # no bar, so no price, and more than every limit
        for minute in range(2, 5):
            made.minute(minute, {"AAPL": 10.0 * minute})
        assert made.account.positions["AAPL"] >= 30.0
        assert made.subjects == ["somebody else traded in the account"]
        assert made.ledger.read_last_equity()["gross"][0] < 10_000


def test_shares_that_come_without_a_trade_stop_opening_at_once_and_are_told(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        made.minute(0, {"AAPL": 10.0, "AMD": 10.0})
        made.minute(1)
        made.account.positions["AAPL"] = 15.0
        (order,) = made.minute(2, {"AAPL": 20.0, "AMD": 20.0})
        assert (order.ticker, order.state, order.code) == ("AMD", "refused", "barred")
        made.minute(3, {"AMD": 5.0})
        assert made.subjects == ["ledger and broker do not agree"]
        assert "AAPL: 15 shares at the broker, 10 in the ledger" in made.told[0][2]
        made.minute(4)
        assert made.account.positions == {"AAPL": 15.0, "AMD": 5.0}, "what reduces passes; what differs is left alone"
        made.account.positions["AAPL"] = 10.0
        made.minute(5, {"AMD": 20.0})
        made.minute(6)
        assert made.account.positions["AMD"] == 20.0, "it opens again"


def test_a_ticker_that_is_a_person_s_is_never_traded_never_counted_and_never_told(tmp_path: Path) -> None:
    with bench(tmp_path, hands_off=frozenset({"TSLA"})) as made:
        made.account.positions["TSLA"] = 1000.0
        for minute in range(3):
            made.minute(minute, {"AAPL": 10.0, "TSLA": 5.0})
            made.account.trade_by_hand("TSLA", 7.0, 100.0, at(minute + 1))
        made.close_all(3, FLATTEN)
        made.close_all(4, FLATTEN)
        assert (made.account.positions, made.told) == ({"TSLA": 1021.0}, [])
        made.desk.adopt_foreign(at(5))  # a person clears, and hands over what others traded in other tickers
        assert made.desk.positions == {}


# ---- refusals --------------------------------------------------------------------------------------------------------


def test_a_refusal_of_the_account_is_told_at_once_and_nothing_is_opened_for_the_session(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        made.minute(0, {"AAPL": 10.0})
        made.minute(1)
        made.account.flag(suspended=True)
        context = made.context(2)
        made.minute(2, {"AAPL": 20.0})
        assert made.subjects == ["the broker refuses the account: nothing is opened"]
        kind, _, text = made.told[0]
        assert kind is Kind.HALTED
        assert "suspended" in text
        assert "`hftcl trade --clear`" in text
        assert [order.code for order in made.minute(3, {"AAPL": 30.0})] == ["barred"]
        made.account.flag(suspended=False)
        (closing,) = made.minute(4, {"AAPL": 0.0})
        assert closing.state == "intended", "what reduces passes"
        again = Bench(made.ledger, made.broker)
        assert again.desk.barred, "a restart is no consent"
        assert context.barred == ""
        assert len(made.told) == 1


def test_a_fourth_day_trade_is_refused_told_and_in_the_ledger(tmp_path: Path) -> None:
    with bench(tmp_path, cash=20_000.0, pdt_check=True) as made:
        for n, ticker in enumerate(("AAPL", "AMD", "TSLA", "AAPL", "AMD", "TSLA", "AAPL")):
            made.minute(n, {ticker: 0.0 if made.desk.positions.get(ticker) else 5.0})
        assert "pattern_day_trading" in set(made.ledger.read_orders()["code"])
        assert made.subjects == ["the broker refuses the account: nothing is opened"]
        assert "25,000 USD" in made.told[0][2]


def test_what_the_broker_cannot_be_paid_for_is_told_although_the_bot_thought_it_could(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        made.minute(0)  # the account is asked, and then loses its money
        made.account.cash = 400.0
        context = made.context(0)
        desired_position = {"AAPL": DesiredPosition(target=0.1, price=100.0)}
        made.desk.trade([], desired_position, context, made.desk.value_book(context.session, at(0), made.prices))
        assert made.ledger.read_orders()["code"].to_list() == ["no_buying_power"]
        assert made.subjects == ["the broker refuses the account: nothing is opened"]


def test_a_share_that_cannot_be_borrowed_is_asked_for_once_a_session(tmp_path: Path) -> None:
    with bench(tmp_path, hard_to_borrow=("AAPL",)) as made:
        for minute in range(5):
            made.minute(minute, {"AAPL": -10.0, "AMD": -10.0})
        refused = made.ledger.read_orders().filter(made.ledger.read_orders()["state"] == "rejected")
        assert refused["code"].to_list() == ["not_shortable"]
        assert made.account.positions == {"AMD": -10.0}


@pytest.mark.hazard(65)
def test_many_refusals_in_a_row_are_one_alert_with_a_count(tmp_path: Path) -> None:
    with bench(tmp_path, tickers=30, hard_to_borrow=tuple(f"T{n:03d}" for n in range(30))) as made:
        made.minute(0, dict.fromkeys(made.tickers, -10.0))
        assert made.subjects == ["the broker refuses order after order"]
        assert "5 orders in a row were refused: 5 x not_shortable" in made.told[0][2]


def test_a_short_side_of_whole_shares_where_the_broker_sells_no_parts_short(tmp_path: Path) -> None:
    with bench(tmp_path, fractional=True) as made:
        made.minute(0, {"AAPL": 10.25, "AMD": -10.75, "TSLA": -0.5})
        made.minute(1)
        assert made.account.positions == {"AAPL": 10.25, "AMD": -10.0}
        assert made.desk.small == {"TSLA"}
        made.minute(2, {"AAPL": -3.5, "AMD": 3.5})
        made.minute(3, {"AAPL": -3.5, "AMD": 3.5})
        made.minute(4)
        assert made.account.positions == {"AAPL": -3.0, "AMD": 3.5}
        assert "rejected" not in set(made.ledger.read_orders()["state"])


# ---- limits ----------------------------------------------------------------------------------------------------------


def test_five_hundred_positions_are_flat_before_the_bell_at_two_hundred_calls_a_minute(tmp_path: Path) -> None:
    with bench(tmp_path, tickers=500) as made:
        minute = 0
        while len(made.account.positions) < 500:
            made.minute(minute, {name: 1.0 + n % 3 for n, name in enumerate(made.tickers)})
            minute += 1
        assert minute <= 5
        early = made.desk.count_minutes_to_flatten()
        assert early == math.ceil(500 / (200 - RESERVE)) - 1 == count_minutes_to_send(500, made.broker) - 1
        for n in range(minute, minute + 2 + early):
            made.close_all(n)
        assert made.account.positions == {}
        assert made.apart == {}
        assert not [text for text in made.told if "429" in text[2]]


def test_closing_orders_go_before_opening_ones_and_the_largest_first(tmp_path: Path) -> None:
    with bench(tmp_path, tickers=40, calls_per_minute=200) as made:
        made.minute(0, {"T000": 5.0, "T001": 9.0, "T002": 7.0})
        made.minute(1)
        made.minute(2, {"T000": 0.0, "T001": 0.0, "T002": 0.0, "T003": 3.0, "T004": 8.0})
        sent = [order.symbol for order in made.account.orders.values()][3:]
        assert sent == ["T001", "T002", "T000", "T004", "T003"]


def test_what_the_plan_has_no_room_for_is_not_sent_and_made_up_for(tmp_path: Path) -> None:
    with bench(tmp_path, tickers=60, calls_per_minute=50) as made:
        made.minute(0, dict.fromkeys(made.tickers, 2.0))
        unsent = made.ledger.read_orders().filter(made.ledger.read_orders()["code"] == "rate_limited")
        assert 0 < unsent.height < 60
        assert set(unsent["state"]) == {"canceled"}
        for minute in range(1, 4):
            made.minute(minute, dict.fromkeys(made.tickers, 2.0))
        assert len(made.account.positions) == 60
        assert made.apart == {}
