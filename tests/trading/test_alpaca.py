"""The broker alpaca against a stand-in on 127.0.0.1: what is asked, and what becomes of every bad answer."""

import math
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hftcl.errors import BrokerBusyError, BrokerError, BrokerTimeoutError, ConfigError, OrderRefusedError
from hftcl.ledger.writer import Ledger
from hftcl.settings import Settings
from hftcl.trading.brokers import Broker, Fill, OrderState, Paced, find_broker, is_plausible
from hftcl.trading.execute.reconciliation import reconcile
from hftcl.trading.run.clock import SimulatedClock
from hftcl.trading.run.kill_switch import flatten
from tests.installed import PATIENCE_S
from tests.trading.alpaca_server import START, AlpacaServer, says, slow
from tests.trading.bot_stand import settings_of
from tests.trading.strict_stand import Bench
from tests.trading.trading_cases import NOW, SESSION, a_record, an_order, at, sent

pytest.importorskip("alpaca", reason="alpaca-py is not installed (pip install 'hftcl[alpaca]')")

SUBMIT, BY_ID = "POST /v2/orders", "GET /v2/orders:by_client_order_id"
NAME = an_order(0).client_order_id


@pytest.fixture
def server() -> Iterator[AlpacaServer]:
    with AlpacaServer() as started:
        yield started


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APCA_API_KEY_ID", "key-123456")
    monkeypatch.setenv("APCA_API_SECRET_KEY", "secret-123456")


def connected(server: AlpacaServer, folder: Path, **alpaca: Any) -> Broker:
    settings = Settings()
    options: dict[str, Any] = {"base_url": server.url, "timeout_s": float(PATIENCE_S)} | alpaca
    settings = replace(
        settings,
        alpaca=replace(settings.alpaca, **options),
        paths=replace(settings.paths, env_file=str(folder / ".env")),
    )
    return find_broker("alpaca")(settings, folder=folder)


@pytest.fixture
def broker(server: AlpacaServer, tmp_path: Path) -> Iterator[Broker]:
    made = connected(server, tmp_path)
    yield made
    made.close()


def found(broker: Broker, name: str = NAME) -> OrderState:
    state = broker.find(name)
    assert state is not None
    return state


def test_an_order_is_a_market_order_for_the_day_with_our_id(server: AlpacaServer, broker: Broker) -> None:
    state = broker.submit(an_order(0, quantity=10.0))
    broker.submit(an_order(0, "AMD", quantity=-0.25))
    assert (state.status, state.filled, state.broker_order_id) == ("open", 0.0, server.orders[NAME]["id"])
    assert server.bodies[0] == {
        "symbol": "AAPL",
        "qty": 10.0,
        "side": "buy",
        "type": "market",
        "time_in_force": "day",
        "client_order_id": NAME,
    }
    assert (server.bodies[1]["side"], server.bodies[1]["qty"]) == ("sell", 0.25)


@pytest.mark.hazard(51)
@pytest.mark.parametrize(
    "fault",
    [slow(delay_s=PATIENCE_S), slow(trickle_s=0.05), says(504, {}), says(200, b"<html>busy")],
    ids=["late", "trickling", "504", "not JSON"],
)
def test_an_order_whose_answer_never_came_is_asked_for_by_its_id_and_is_there_once(
    server: AlpacaServer, broker: Broker, tmp_path: Path, fault: Any
) -> None:
    for limit_s in (0.3, 3.0, 30.0):  # in which a busy machine at least hands the order over
        server.faults[SUBMIT] = [fault]
        hasty = connected(server, tmp_path, timeout_s=limit_s)
        with closing(hasty), pytest.raises(BrokerTimeoutError, match=NAME):
            hasty.submit(an_order(0))
        if server.orders:
            break
    assert found(broker).status == "open"
    again = broker.submit(an_order(0))
    assert again.broker_order_id == server.orders[NAME]["id"]
    assert len(server.orders) == 1


def test_a_server_that_is_not_there_leaves_the_fate_open(server: AlpacaServer, tmp_path: Path) -> None:
    broker = connected(server, tmp_path, base_url="http://127.0.0.1:9")
    with pytest.raises(BrokerTimeoutError):
        broker.submit(an_order(0))
    with pytest.raises(BrokerError, match=r"\[alpaca\] base_url"):
        broker.find(NAME)


@pytest.mark.hazard(50)
def test_an_id_that_alpaca_knows_is_answered_with_its_order(server: AlpacaServer, broker: Broker) -> None:
    first = broker.submit(an_order(0))
    assert broker.submit(an_order(0, quantity=500.0)) == first
    server.fill(NAME, 10, 101.0)
    assert broker.submit(an_order(0)).status == "filled"
    assert len(server.orders) == 1


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (403, {"code": 40310000, "message": "insufficient buying power"}, "403 insufficient buying power"),
        (422, {"code": 42210000, "message": "fractional orders cannot be sold short"}, "422 fractional orders"),
        (400, b"not json, key-123456 secret-123456\x00\n", r"400 not json, \*\*\* \*\*\*"),
    ],
)
def test_an_order_that_alpaca_refuses_is_refused_with_its_reason(
    server: AlpacaServer, broker: Broker, status: int, body: object, said: str
) -> None:
    if isinstance(body, bytes):
        server.faults[SUBMIT] = [says(status, body)]
    else:
        server.refuse[SUBMIT] = (status, body)
    with pytest.raises(OrderRefusedError, match=said) as caught:
        broker.submit(an_order(0))
    assert "\n" not in caught.value.reason
    assert server.hits.count(SUBMIT) == 1  # sent once: the library's own tries would take nine seconds


def test_an_order_for_which_there_is_no_call_left_is_not_taken_and_says_until_when(
    server: AlpacaServer, broker: Broker
) -> None:
    server.headers = {"X-RateLimit-Limit": "200", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "4102444800"}
    server.refuse[SUBMIT] = (429, {"message": "too many requests."})
    with pytest.raises(BrokerBusyError, match=r"429 too many requests.*\[alpaca\] calls_per_minute") as caught:
        broker.submit(an_order(0))
    assert caught.value.until == datetime(2100, 1, 1, tzinfo=UTC)
    assert isinstance(broker, Paced)
    assert broker.room() == 0


@pytest.mark.hazard(56)
@pytest.mark.parametrize("quantity", [math.nan, math.inf, -math.inf, 0.0])
def test_what_is_no_quantity_is_not_even_sent(server: AlpacaServer, broker: Broker, quantity: float) -> None:
    with pytest.raises(OrderRefusedError, match="no order"):
        broker.submit(an_order(0, quantity=quantity))
    assert server.hits == []


def test_wrong_keys_are_named_by_their_variables_and_not_shown(
    server: AlpacaServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APCA_API_SECRET_KEY", "wrong-secret")
    broker = connected(server, tmp_path)
    asks: tuple[Any, ...] = (broker.account, lambda: broker.submit(an_order(0)), lambda: broker.find(NAME))
    for ask in asks:
        with pytest.raises(BrokerError, match="APCA_API_KEY_ID and APCA_API_SECRET_KEY") as caught:
            ask()
        assert "wrong-secret" not in str(caught.value)


def test_without_keys_nothing_begins(server: AlpacaServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("APCA_API_SECRET_KEY")
    with pytest.raises(ConfigError, match=r"needs APCA_API_SECRET_KEY\."):
        connected(server, tmp_path)
    (tmp_path / ".env").write_text("APCA_API_SECRET_KEY=secret-123456\n")
    assert connected(server, tmp_path).account().cash == 100_000.0


@pytest.mark.parametrize(
    ("url", "live"),
    [
        ("https://paper-api.alpaca.markets", False),
        ("https://paper-api.alpaca.markets/v2/", False),
        ("https://api.alpaca.markets", True),
        ("http://127.0.0.1:1", True),
    ],
)
def test_every_endpoint_but_the_paper_one_is_real_money(
    server: AlpacaServer, tmp_path: Path, url: str, live: bool
) -> None:
    assert connected(server, tmp_path, base_url=url).live_money is live
    assert not find_broker("alpaca")(Settings(), folder=tmp_path).live_money


@pytest.mark.hazard(52)
def test_fills_come_with_our_ids_signed_and_from_the_cursor_on(server: AlpacaServer, broker: Broker) -> None:
    broker.submit(an_order(0))
    server.orders["by hand"] = server.orders[NAME] | {"id": "4d6a42a2-0000-4000-8000-000000000000", "side": "sell"}
    server.orders["by hand"] |= {"client_order_id": "by hand"}
    server.fill(NAME, 4, 101.5)
    server.fill("by hand", 3, 99.0, after=timedelta(minutes=1))
    none, cursor = broker.fills(START.isoformat())
    assert [(fill.client_order_id, fill.quantity, fill.price) for fill in none] == [
        (NAME, 4.0, 101.5),
        ("by hand", -3.0, 99.0),
    ]
    assert none[0].ts == START
    assert found(broker).filled == 4.0
    assert found(broker).status == "partially_filled"
    server.fill(NAME, 6, 102.0, after=timedelta(minutes=30))
    later, _ = broker.fills(cursor)
    assert [fill.quantity for fill in later if fill not in none] == [6.0]
    assert found(broker).status == "filled"


def test_more_fills_than_a_page_holds_all_come(server: AlpacaServer, broker: Broker) -> None:
    broker.submit(an_order(0, quantity=250.0))
    for n in range(250):
        server.fill(NAME, 1, 100.0, after=timedelta(seconds=n // 10))
    fills, _ = broker.fills(START.isoformat())
    assert len({fill.fill_id for fill in fills}) == 250
    assert sum(fill.quantity for fill in fills) == 250


def test_the_account_is_told_in_shares_that_are_negative_where_short(server: AlpacaServer, broker: Broker) -> None:
    server.positions = [
        {"symbol": "AMD", "qty": "-5", "side": "short", "current_price": "99.5", "avg_entry_price": "98"},
        {"symbol": "AAPL", "qty": "2.5", "side": "long", "current_price": None, "avg_entry_price": "200"},
    ]
    account = broker.account()
    assert account.positions == {"AAPL": 2.5, "AMD": -5.0}
    assert account.marks == {"AAPL": 200.0, "AMD": 99.5}
    assert (account.cash, account.buying_power) == (100_000.0, 200_000.0)


@pytest.mark.parametrize(
    ("asked", "fault"),
    [
        ("GET /v2/account", says(200, {"cash": "NaN", "equity": "1", "buying_power": "1"})),
        ("GET /v2/account", says(200, {"equity": "1"})),
        ("GET /v2/account", says(200, [])),
        ("GET /v2/account", says(200, b"<html>")),
        ("GET /v2/account", says(200, b"")),
        ("GET /v2/account", says(500, {"message": "oops"})),
        ("GET /v2/account", says(302, b"")),
        ("GET /v2/positions", says(200, {"message": "x"})),
        ("GET /v2/positions", says(200, [{"symbol": "AAPL", "qty": "many"}])),
        ("GET /v2/positions", says(200, [7])),
        ("GET /v2/positions", says(200, [{"symbol": "AAPL", "qty": "1e308"}])),
    ],
    ids=[
        *("NaN", "no cash", "a list", "not JSON", "nothing", "500", "a redirect"),
        *("not a list", "no number", "not an object", "a number without a meaning"),
    ],
)
def test_an_answer_that_cannot_be_trusted_is_no_account(
    server: AlpacaServer, broker: Broker, asked: str, fault: Any
) -> None:
    server.faults[asked] = [fault]
    with pytest.raises(BrokerError):
        broker.account()
    assert broker.account().cash == 100_000.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"price": "1e308"},
        {"price": "NaN"},
        {"price": "-3"},
        {"qty": "-4"},
        {"qty": "0"},
        {"qty": "many"},
        {"side": "neither"},
    ],
)
def test_a_fill_that_cannot_be_true_keeps_none_of_the_others_from_being_booked(
    server: AlpacaServer, broker: Broker, wrong: dict[str, str]
) -> None:
    for order in (an_order(0), an_order(0, "AMD")):
        broker.submit(order)
        server.fill(order.client_order_id, 4, 100.0)
    server.activities[0] |= wrong
    fills, _ = broker.fills(START.isoformat())
    assert [(fill.ticker, is_plausible(fill)) for fill in fills] == [("AAPL", False), ("AMD", True)]


def test_a_fill_without_a_time_is_no_answer(server: AlpacaServer, broker: Broker) -> None:
    broker.submit(an_order(0))
    server.fill(NAME, 4, 100.0)
    (row,) = server.activities
    row |= {"transaction_time": "9999-12-31T23:59:59-14:00"}  # has no time in UTC
    with pytest.raises(BrokerError, match="which is not a time"):
        broker.fills(START.isoformat())


def test_an_account_that_cannot_be_true_is_told_at_once_and_nothing_is_opened(
    server: AlpacaServer, broker: Broker, tmp_path: Path
) -> None:
    """Not as an outage, which is told when it has lasted, and says to look at the network."""
    account = {"cash": "100000", "equity": "100000", "buying_power": "100000"}
    with Ledger(tmp_path / "ledger.sqlite", durable=False) as ledger:
        made = Bench(ledger, broker)
        for minute, wrong in enumerate(({"equity": "NaN"}, {"equity": "1e308"}, {"buying_power": "-1e300"})):
            server.faults["GET /v2/account"] = [says(200, account | wrong)]
            (refused,) = made.minute(minute, {"AAPL": 1.0 + minute})
            assert (refused.state, refused.code) == ("refused", "buying_power")
        assert made.subjects == ["the broker says what cannot be true"] * 2, "once for each thing that it is about"
        assert "'equity' of the account with 'NaN'" in made.told[0][2]
        made.minute(3, {"AAPL": 10.0})
        assert len(server.orders) == 1


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"filled_qty": "1e308", "status": "filled"}, "'filled_qty'"),
        ({"filled_qty": "-5", "status": "canceled"}, "'filled_qty'"),
        ({"filled_qty": "5000", "status": "filled"}, "5000 are said to have filled"),
        ({"filled_qty": "5", "status": "filled", "filled_avg_price": "-100"}, "'filled_avg_price'"),
        ({"filled_qty": "5", "status": "filled", "filled_avg_price": "0"}, "at 0 USD"),
    ],
)
def test_an_order_that_cannot_have_filled_as_it_is_said_to_is_told_and_not_booked_at_the_close(
    server: AlpacaServer, broker: Broker, tmp_path: Path, wrong: dict[str, str], told: str
) -> None:
    with Ledger(tmp_path / "ledger.sqlite", durable=False) as ledger:
        made = Bench(ledger, broker)
        (order,) = made.minute(0, {"AAPL": 10.0})
        server.orders[order.client_order_id] |= wrong
        for minute in (1, 2, 3):
            made.minute(minute)
        made.desk.close_session(made.context(4))
        assert made.desk.positions == {}
        (text,) = (text for _, subject, text in made.told if subject == "the broker says what cannot be true")
        assert told in text


@pytest.mark.parametrize(
    ("quantity", "price", "commission"),
    [
        (1e308, 100.0, 0.0),
        (5.0, 1e308, 0.0),
        (5.0, math.nan, 0.0),
        (5.0, -1.0, 0.0),
        (0.0, 100.0, 0.0),
        (5.0, 9.0, math.inf),
    ],
)
def test_a_fill_of_any_broker_that_cannot_be_true_is_refused(quantity: float, price: float, commission: float) -> None:
    fill = Fill(
        fill_id="1",
        client_order_id=NAME,
        ticker="AAPL",
        quantity=quantity,
        price=price,
        commission=commission,
        ts=NOW,
        at=NOW,
    )
    assert not is_plausible(fill)
    assert is_plausible(replace(fill, quantity=-5.0, price=100.0, commission=0.0))


def test_a_body_that_trickles_ends_with_the_total_time_of_a_request(server: AlpacaServer, tmp_path: Path) -> None:
    with closing(connected(server, tmp_path, timeout_s=0.3)) as hasty:
        server.faults["GET /v2/account"] = [slow(trickle_s=0.05)]  # 80 bytes: four seconds, and no byte is late
        with pytest.raises(BrokerError, match=r"within 0\.3 s"):
            hasty.account()
        server.faults["GET /v2/account"] = [slow(delay_s=PATIENCE_S)]
        with pytest.raises(BrokerError, match=r"within 0\.3 s"):
            hasty.account()


def test_what_is_canceled_or_done_may_be_canceled_again(server: AlpacaServer, broker: Broker) -> None:
    broker.cancel("never sent")
    broker.submit(an_order(0))
    server.fill(NAME, 4, 100.0)
    broker.cancel(NAME)
    state = found(broker)
    assert (state.status, state.filled, state.reason) == ("canceled", 4.0, "canceled")
    broker.cancel(NAME)
    server.orders[NAME]["status"] = "new"
    server.refuse[f"DELETE /v2/orders/{server.orders[NAME]['id']}"] = (422, {"message": "not cancelable"})
    broker.cancel(NAME)  # it was done in the meantime
    broker.end_of_session(SESSION)
    assert found(broker).working


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("new", "open"),
        ("accepted", "open"),
        ("pending_cancel", "open"),
        ("a status of next year", "open"),
        ("expired", "canceled"),
        ("done_for_day", "canceled"),
        ("rejected", "rejected"),
    ],
)
def test_each_status_has_its_meaning(server: AlpacaServer, broker: Broker, theirs: str, ours: str) -> None:
    broker.submit(an_order(0))
    server.orders[NAME]["status"] = theirs
    assert found(broker).status == ours


def test_open_orders_are_those_of_the_whole_account(server: AlpacaServer, broker: Broker) -> None:
    broker.submit(an_order(0, client_order_id="n000"))
    for n in range(1, 510):
        at_once = (START + timedelta(seconds=n // 100)).isoformat()  # a hundred of them in the same second
        server.orders[f"n{n:03d}"] = server.orders["n000"] | {"client_order_id": f"n{n:03d}", "submitted_at": at_once}
    server.orders["n000"] |= {"status": "canceled"}
    assert [state.client_order_id for state in broker.open_orders()] == [f"n{n:03d}" for n in range(1, 510)]


@pytest.mark.hazard(51)
@pytest.mark.hazard(52)
def test_a_bot_that_was_killed_while_it_sent_finds_its_order_and_its_fills(
    server: AlpacaServer, broker: Broker, tmp_path: Path
) -> None:
    with Ledger(tmp_path / "ledger.sqlite", durable=False) as ledger:
        ledger.set_meta(fills_cursor_production=START.isoformat())
        ledger.write_decisions([], [a_record(0), a_record(1)])
        broker.submit(sent(a_record(0)))
        server.fill(NAME, 10, 101.0)
        server.positions = [{"symbol": "AAPL", "qty": "10", "side": "long", "current_price": "101"}]
        told = reconcile(ledger, broker, NOW)
        assert told.agrees
        assert (told.fills, ledger.read_positions()) == (1, {"AAPL": 10.0})
        states = [ledger.order(a_record(minute).client_order_id) for minute in (0, 1)]
        assert [order.state for order in states if order] == ["filled", "canceled"]
        assert reconcile(ledger, broker, NOW).fills == 0
        assert ledger.read_fills()["ts"].to_list() == [at(61)]


def test_the_kill_switch_closes_nothing_in_an_account_that_is_not_the_ledger_s(
    server: AlpacaServer, tmp_path: Path
) -> None:
    settings = settings_of(tmp_path, market={"watchlist": ("AAPL",)}, trade={"broker": "alpaca"})
    settings = replace(settings, alpaca=replace(settings.alpaca, base_url=server.url))
    account = {"cash": "1000", "equity": "1500", "buying_power": "2000", "account_number": "PA-OTHER"}
    server.refuse["GET /v2/account"] = (200, account)
    server.positions = [{"symbol": "AAPL", "qty": "5", "side": "long", "current_price": "100"}]
    with Ledger(tmp_path / "ledger.sqlite", durable=False) as ledger:
        ledger.set_meta(account_id="PA-OURS", capital="100000.0")
    found = flatten(settings, clock=SimulatedClock(at(10)), reason="a test")
    assert (server.orders, found.orders) == ({}, 0)
    assert "PA-OURS" in found.note
    assert found.shortfall.startswith("Not everything is closed. Nothing was sent")
