"""The rules of the strict account, one test a rule; each figure is from the page that the rule names."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hftcl.errors import BrokerBusyError, OrderRefusedError
from hftcl.home import locate_strict_paper
from hftcl.settings import Settings
from hftcl.trading.brokers.refusals import BY_CODE, REFUSALS, classify
from hftcl.trading.brokers.strict import StrictPaper
from hftcl.trading.brokers.strict_account import StrictAccount
from hftcl.trading.brokers.strict_rules import AccountRules, RefusedError
from hftcl.trading.brokers.strict_state import AccountState, make_uuid
from tests.trading.trading_cases import SESSION, an_order, at, bars


def list_facts(account: AccountState) -> Mapping[str, Any]:
    """Return everything of an account that could differ from the one that is made again."""
    return {
        "orders": [asdict(order) for order in account.orders.values()],
        "positions": dict(sorted(account.positions.items())),
        "cash": account.cash,
        "activities": [asdict(row) for row in account.activities],
    }


def account(**rules: object) -> StrictAccount:
    return StrictAccount(AccountRules(**rules))  # type: ignore[arg-type]


def refusal(made: StrictAccount, quantity: float, symbol: str = "AAPL", minute: int = 0, price: float = 100.0) -> str:
    """Return the code by which an order is refused, "" where it is taken."""
    name = f"{symbol}-{minute}-{quantity}-{len(made.orders)}"
    try:
        made.submit(name, symbol, quantity, price, at(minute))
    except RefusedError as error:
        return classify(error.refusal.status, error.text).code  # as the broker `alpaca` reads it
    return ""


def trade(made: StrictAccount, minute: int, *symbols: str, price: float = 100.0, volume: float = 1e9) -> None:
    made.on_bars([(at(minute), symbol, price, price, volume) for symbol in symbols or ("AAPL",)], at(minute + 1))


def test_an_order_fills_at_the_open_of_the_minute_in_which_it_arrives_within_its_share_of_the_volume() -> None:
    made = account()
    assert refusal(made, 10.0, minute=1) == ""
    trade(made, 0)
    assert made.positions == {}, "that minute had ended"
    trade(made, 1, price=101.0, volume=40.0)
    assert made.positions == {"AAPL": 4.0}
    assert made.activities[0].price == pytest.approx(101.0 * 1.0001)
    trade(made, 2, volume=1e9)
    assert made.positions == {"AAPL": 10.0}


def test_no_order_leads_from_long_to_short_or_back() -> None:
    made = account()
    refusal(made, 10.0)
    trade(made, 1)
    assert refusal(made, -11.0, minute=1) == "no_turn"
    assert refusal(made, -10.0, minute=1) == ""
    assert refusal(made, 5.0, minute=1) == "wash_trade", "an order of the other side is open"
    trade(made, 2)
    assert refusal(made, -5.0, minute=2) == ""
    trade(made, 3)
    assert refusal(made, 6.0, minute=3) == "no_turn"


def test_parts_of_a_share_are_bought_and_never_sold_short_and_are_worth_a_dollar() -> None:
    made = account(not_fractionable=frozenset({"AMD"}))
    assert refusal(made, 0.5) == ""
    assert refusal(made, 0.009, "TSLA") == "too_small"
    assert refusal(made, -0.5, "TSLA") == "fractional_short"
    assert refusal(made, 0.5, "AMD") == "not_fractionable"


def test_short_sales_take_a_share_that_can_be_borrowed_and_an_account_that_may() -> None:
    made = account(hard_to_borrow=frozenset({"AMD"}))
    assert refusal(made, -5.0, "AMD") == "not_shortable"
    assert refusal(made, 5.0, "AMD") == ""
    made.flag(shorting=False)
    assert refusal(made, -5.0) == "shorting_disabled"
    assert refusal(account(cash=1_900.0), -5.0) == "shorting_disabled", "below 2,000 USD there is no margin"


def test_what_is_opened_takes_buying_power_and_a_short_three_per_cent_more() -> None:
    made = account(cash=10_000.0)  # four times that to trade with
    assert refusal(made, 401.0) == "no_buying_power"
    assert refusal(made, -389.0) == "no_buying_power"
    assert refusal(made, -387.0) == ""
    assert refusal(made, 1.0, "AMD") == ""
    assert refusal(made, 1.0, "TSLA") == "no_buying_power", "what is open counts as filled"


# https://docs.alpaca.markets/us/changelog/2026-06-03-pdt-f3c04da ; others may keep the old rule until October 2027,
# https://www.finra.org/rules-guidance/notices/26-10
@pytest.mark.parametrize("counted", [True, False])
def test_a_fourth_day_trade_in_five_sessions_is_refused_below_25000_dollars_where_they_are_counted(
    counted: bool,
) -> None:
    made = account(cash=20_000.0, pdt_check=counted)
    assert made.buying_power == (40_000.0 if counted else 80_000.0)
    for n, symbol in enumerate(("A", "B", "C")):
        assert refusal(made, 1.0, symbol, 4 * n) == ""
        trade(made, 4 * n + 1, symbol)
        assert refusal(made, -1.0, symbol, 4 * n + 2) == ""
        trade(made, 4 * n + 3, symbol)
    assert made.count_day_trades(SESSION) == 3
    assert refusal(made, 1.0, "D", 20) == ("pattern_day_trading" if counted else "")
    rich = account(cash=30_000.0, pdt_check=counted)
    rich.days = made.days
    assert refusal(rich, 1.0, "D", 20) == ""


def test_a_suspended_account_takes_no_order() -> None:
    made = account()
    made.flag(suspended=True)
    assert refusal(made, 1.0) == "account_blocked"
    made.flag(suspended=False)
    assert refusal(made, 1.0) == ""


def test_the_two_hundred_and_first_call_of_a_minute_is_refused_until_the_next() -> None:
    made = account()
    assert [made.call(at(0)) for _ in range(200)][-1] == (0, int(at(1).timestamp()))
    with pytest.raises(RefusedError, match="too many requests"):
        made.call(at(0) + timedelta(seconds=59))
    assert made.call(at(1))[0] == 199


def test_fills_are_told_late_in_parts_of_one_trade_time_and_out_of_order() -> None:
    made = account(late=0.6, partial=1.0, seed=3)
    for n in range(20):
        refusal(made, 11.0, f"S{n}")
    trade(made, 1, *(f"S{n}" for n in range(20)))
    assert len(made.activities) == 40
    assert {row.at for row in made.activities} == {at(1)}
    now, later = made.list_activities(at(2)), made.list_activities(at(7))
    assert 0 < len(now) < 40 == len(later)
    missing = [row for row in later if row not in now]
    assert any(row.activity_id < now[-1].activity_id for row in missing), "what comes late need not come last"


def test_a_split_changes_shares_and_price_and_no_money() -> None:
    made = account()
    refusal(made, 10.0)
    trade(made, 1)
    before = made.equity
    made.split("AAPL", 4.0, at(10))
    made.split("AAPL", 4.0, at(10))
    assert made.positions == {"AAPL": 40.0}
    assert made.equity == pytest.approx(before)
    made.pay("DIV", 9.6, at(20), "AAPL")
    assert made.equity == pytest.approx(before + 9.6)


def test_an_order_of_the_evening_waits_for_the_morning() -> None:
    made = account()
    refusal(made, 1.0, minute=10)
    made.end_session(SESSION, at(390))
    assert made.orders[next(iter(made.orders))].status == "expired"
    refusal(made, 2.0, minute=400)
    made.on_bars([(at(0) + timedelta(days=1), "AAPL", 100.0, 100.0, 1e9)], at(1) + timedelta(days=1))
    assert made.positions == {"AAPL": 2.0}


def test_every_refusal_names_its_page_and_says_what_to_do() -> None:
    assert len({row.code for row in REFUSALS}) == len(REFUSALS)
    for row in REFUSALS:
        assert row.source.startswith("https://")
        assert row.remedy.endswith(".")
        text = row.says.format(symbol="X", requested=2, available=1)
        assert classify(row.status, text) is row
    assert classify(403, "the moon is full").code == "broker"
    assert {row.kind for row in REFUSALS} == {"order", "account", "moment"}


def test_the_documentation_has_the_table_of_refusals_row_by_row() -> None:
    told = (Path(__file__).resolve().parents[2] / "docs" / "brokers.md").read_text()
    for row in BY_CODE.values():
        assert f"| `{row.code}` | {row.kind} | {row.meaning} | {row.remedy} |" in told


def settings(**ours: object) -> Settings:
    plain = Settings()
    return replace(plain, strict_paper=replace(plain.strict_paper, **ours))  # type: ignore[arg-type]


def test_the_account_in_its_file_is_the_one_that_was_left_also_after_a_torn_line(tmp_path: Path) -> None:
    broker = StrictPaper(settings(weather="fair"), folder=tmp_path, durable=False)
    broker.submit(an_order(0))
    broker.submit(an_order(0, "AMD", quantity=-3.0))
    broker.on_bars(bars((1, "AAPL", 101.0)), at(2))
    broker.split("AAPL", 2.0, at(3))
    before = json.dumps(list_facts(broker.account_now), default=str)
    broker.close()
    with locate_strict_paper(tmp_path).open("ab") as file:
        file.write(b'{"what": "fill", "client_or')
    again = StrictPaper(settings(weather="fair"), folder=tmp_path, durable=False)
    assert json.dumps(list_facts(again.account_now), default=str) == before
    again.submit(an_order(5, "TSLA"))
    again.close()
    third = StrictPaper(settings(weather="fair"), folder=tmp_path, durable=False)
    assert len(third.account_now.orders) == 3
    third.close()


def test_a_refusal_carries_its_code_and_the_weather_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    broker = StrictPaper(settings(weather="fair", hard_to_borrow=("AMD",)), folder=tmp_path / "one", durable=False)
    with pytest.raises(OrderRefusedError, match="422 asset") as caught:
        broker.submit(an_order(0, "AMD", quantity=-3.0))
    broker.close()
    assert BY_CODE[caught.value.code].kind == "order"

    def faults(folder: str) -> list[str]:
        stormy = StrictPaper(settings(weather="storm"), folder=tmp_path / folder, durable=False)
        found = []
        for minute in range(100):
            stormy.now = at(minute)
            try:
                stormy.account()
            except Exception as error:  # noqa: BLE001 - which one is what is looked at
                found.append(f"{minute} {type(error).__name__}")
        stormy.close()
        return found

    assert faults("two") == faults("three")
    assert len(faults("four")) > 5


def test_more_calls_than_a_minute_has_are_refused_by_the_broker_too(tmp_path: Path) -> None:
    broker = StrictPaper(settings(weather="fair", calls_per_minute=10), folder=tmp_path, durable=False)
    broker.now = at(0)
    for _ in range(10):
        broker.account()
    with pytest.raises(BrokerBusyError) as caught:
        broker.account()
    assert caught.value.until == at(1)
    assert broker.room() == 0
    broker.close()


def test_days_are_counted_back_over_five_sessions() -> None:
    made = account()
    for day in range(6):
        made._note_day_trade("X", 1.0, datetime.combine(date(2025, 6, 2 + day), at(0).timetz()))
        made.positions["X"] = 1.0
        made._note_day_trade("X", -1.0, datetime.combine(date(2025, 6, 2 + day), at(0).timetz()))
        made.positions.pop("X")
    assert made.count_day_trades(date(2025, 6, 7)) == 5


def test_a_split_of_an_older_file_is_what_it_was(tmp_path: Path) -> None:
    made = StrictAccount(AccountRules())
    made.submit("a", "AAPL", 33.0, 100.0, at(0))
    made.on_bars([(at(1), "AAPL", 100.0, 100.0, 1e6)], at(2))
    made.split("AAPL", 0.05, at(10))
    made.pay("DIV", 3.0, at(11), "AAPL")
    assert StrictAccount(AccountRules(), made.happened).positions == made.positions == {"AAPL": 1.65}
    old = [{name: said for name, said in one.items() if name != "version"} for one in made.happened]
    again = StrictAccount(AccountRules(), old)
    assert again.positions == {"AAPL": 1.0}
    assert again.cash == pytest.approx(made.cash + 0.65 * 2000.0)
    assert [(row.kind, row.quantity) for row in again.activities[-2:]] == [("SPLIT", -32.0), ("DIV", 0.0)]
    ids = [make_uuid(f"{AccountRules().seed}-DIV-AAPL-{at(11)}-2")]
    assert again.activities[-1].activity_id.partition("::")[2] in ids, "the id by which its cash is booked already"
