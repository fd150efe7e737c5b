"""What Alpaca says rarely, by its pages and by what its users met: statuses, corrections, lags, flags that change."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from hftcl.errors import BrokerTimeoutError
from hftcl.ledger.writer import Ledger
from hftcl.trading.brokers import Account, Broker, is_plausible
from hftcl.trading.brokers.strict import StrictPaper
from tests.trading.alpaca_server import START, AlpacaServer, says
from tests.trading.strict_stand import Bench, strict_settings
from tests.trading.test_alpaca import NAME, connected, found
from tests.trading.trading_cases import OPEN, an_order


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[AlpacaServer]:
    with AlpacaServer() as running:
        monkeypatch.setenv("APCA_API_KEY_ID", running.keys[0])
        monkeypatch.setenv("APCA_API_SECRET_KEY", running.keys[1])
        yield running


@pytest.fixture
def broker(server: AlpacaServer, tmp_path: Path) -> Iterator[Broker]:
    made = connected(server, tmp_path)
    yield made
    made.close()


@pytest.fixture
def made(broker: Broker, tmp_path: Path) -> Iterator[Bench]:
    with Ledger(tmp_path / "ledger.sqlite", durable=False) as ledger:
        ledger.set_meta(fills_cursor_production=(OPEN - timedelta(days=1)).isoformat())
        yield Bench(ledger, broker)


# https://docs.alpaca.markets/docs/orders-at-alpaca#order-lifecycle ; "held" is of no page:
# https://github.com/Petersoj/alpaca-java/issues/101
@pytest.mark.parametrize(
    ("status", "filled", "state"),
    [
        ("accepted", "0", "open"),
        ("pending_new", "0", "open"),
        ("accepted_for_bidding", "0", "open"),
        ("held", "0", "open"),
        ("stopped", "0", "open"),  # a trade is guaranteed, and has not happened yet
        ("suspended", "0", "open"),
        ("pending_replace", "0", "open"),
        ("pending_cancel", "6", "partially_filled"),
        ("calculated", "6", "canceled"),  # done for the day or filled, only the settlement is still to be reckoned
        ("calculated", "0", "canceled"),
        ("calculated", "10", "filled"),
        ("done_for_day", "6", "canceled"),
        ("replaced", "6", "canceled"),
        ("expired", "0", "canceled"),
        ("a status of the future", "6", "partially_filled"),
    ],
)
def test_each_status_of_an_order_says_whether_it_may_still_fill(
    server: AlpacaServer, broker: Broker, status: str, filled: str, state: str
) -> None:
    broker.submit(an_order(0))
    server.orders[NAME] |= {"status": status, "filled_qty": filled}
    told = found(broker)
    assert (told.status, told.filled) == (state, float(filled))
    assert told.working == (state in ("open", "partially_filled"))


def test_what_an_order_left_that_is_done_and_not_yet_reckoned_is_not_waited_for(
    server: AlpacaServer, made: Bench
) -> None:
    (order,) = made.minute(0, {"AAPL": 10.0})
    server.fill(order.client_order_id, 6, 100.0)
    server.orders[order.client_order_id]["status"] = "calculated"
    server.positions = [{"symbol": "AAPL", "qty": "6", "side": "long", "current_price": "100"}]
    made.minute(1)
    made.minute(2)
    (closing,) = made.close_all(3)
    assert (closing.quantity, closing.state) == (-6.0, "intended")


# The order of several parts has no side of its own. https://docs.alpaca.markets/docs/options-level-3-trading
def test_an_open_order_without_a_side_that_has_filled_in_part_keeps_no_other_from_being_told(
    server: AlpacaServer, broker: Broker
) -> None:
    broker.submit(an_order(0))
    parts = {"id": "4d6a42a2", "client_order_id": "a spread", "side": "", "symbol": "", "filled_qty": "1"}
    server.orders["a spread"] = server.orders[NAME] | parts | {"status": "partially_filled"}
    assert [state.client_order_id for state in broker.open_orders()] == [NAME, "a spread"]


# RFC 9110, 15.5.9: the server did not receive a complete request in time; a proxy says so too, of one that got through.
def test_a_request_that_a_proxy_gave_up_may_have_arrived(server: AlpacaServer, broker: Broker) -> None:
    server.faults["POST /v2/orders"] = [says(408, b"<html>Request Time-out</html>")]
    with pytest.raises(BrokerTimeoutError, match="may have arrived"):
        broker.submit(an_order(0))
    assert found(broker).client_order_id == NAME


# https://docs.alpaca.markets/us/v1.1/changelog/2026-11-06-partial-fill-214389c : fill, partial_fill, trade_correct,
# trade_bust
@pytest.mark.parametrize("kind", ["trade_bust", "trade_correct"])
def test_a_trade_that_is_taken_back_or_corrected_is_not_booked_as_another_one_and_told(
    server: AlpacaServer, made: Bench, kind: str
) -> None:
    (order,) = made.minute(0, {"AAPL": 10.0})
    server.fill(order.client_order_id, 10, 100.0)
    server.positions = [{"symbol": "AAPL", "qty": "10", "side": "long", "current_price": "100"}]
    made.minute(1)
    taken_back = server.activities[0] | {"id": "20250602143105000::taken-back", "type": kind}
    server.activities.append(taken_back)
    made.minute(2)
    assert made.desk.positions == {"AAPL": 10.0}
    (text,) = (text for _, subject, text in made.told if "is not booked" in subject)
    assert kind in text
    assert "10 shares of AAPL at 100" in text


# https://github.com/alpacahq/alpaca-py/issues/179: BTCUSD in positions, BTC/USD in orders
@pytest.mark.parametrize("pair", ["BTC/USD", "ETH/BTC", "LTC/USDT"])
def test_a_pair_that_is_held_has_the_name_that_orders_give_it(server: AlpacaServer, broker: Broker, pair: str) -> None:
    row = {"qty": "2", "side": "long", "current_price": "100"}
    server.positions = [
        row | {"symbol": pair.replace("/", ""), "asset_class": "crypto"},
        row | {"symbol": "AUSD", "asset_class": "us_equity"},
    ]
    assert broker.account().positions == {pair: 2.0, "AUSD": 2.0}


# Early rows had no order_id, https://github.com/Petersoj/alpaca-java/pull/56
@pytest.mark.parametrize("lost", [{"order_id": None}, {"order_id": "4d6a42a2-0000-4000-8000-00000000dead"}])
def test_a_fill_whose_order_cannot_be_found_is_another_s_and_keeps_no_other_from_being_booked(
    server: AlpacaServer, broker: Broker, lost: dict[str, Any]
) -> None:
    for order in (an_order(0), an_order(0, "AMD")):
        broker.submit(order)
        server.fill(order.client_order_id, 4, 100.0)
    server.activities[0] |= lost
    fills, _ = broker.fills(START.isoformat())
    assert [(fill.ticker, is_plausible(fill)) for fill in fills] == [("AAPL", True), ("AMD", True)]
    assert fills[0].client_order_id not in server.orders
    assert fills[1].client_order_id in server.orders


def test_fills_that_add_up_to_more_than_the_order_are_told_and_not_booked(server: AlpacaServer, made: Bench) -> None:
    (order,) = made.minute(0, {"AAPL": 10.0})
    server.fill(order.client_order_id, 6, 100.0)
    server.positions = [{"symbol": "AAPL", "qty": "10", "side": "long", "current_price": "100"}]
    server.fill(order.client_order_id, 4, 100.0)
    doubled = [row | {"id": row["id"].replace("::", "::again-")} for row in server.activities]
    server.activities += doubled  # as a service does that tells the same trades again under other ids
    made.minute(1)
    made.minute(2)
    assert made.desk.positions == {"AAPL": 10.0}
    assert [subject for _, subject, _ in made.told] == ["the broker tells a fill that is not booked"] * 2
    assert "more than its order" in made.told[0][2]


# pattern_day_trader is set as the fourth day trade is made, https://docs.alpaca.markets/docs/user-protection
def test_what_the_account_may_no_longer_in_the_middle_of_a_day_is_told_once_and_only_that_is_left(
    server: AlpacaServer, made: Bench
) -> None:
    account = {"cash": "100000", "equity": "100000", "buying_power": "200000", "status": "ACTIVE"}
    changed = account | {"pattern_day_trader": True, "shorting_enabled": False}
    server.faults["GET /v2/account"] = [says(200, account), *[says(200, changed)] * 3]
    (first,) = made.minute(0, {"AAPL": -10.0})
    assert first.state == "intended"
    orders = [order for n in (1, 2, 3) for order in made.minute(n, {"AMD": -10.0 - n, "TSLA": 10.0 * n})]
    assert {order.ticker for order in orders if order.state == "intended"} == {"TSLA"}
    assert [subject for _, subject, _ in made.told] == ["the account at alpaca is restricted"]
    assert "pattern day trader" in made.told[0][2]
    assert not made.desk.barred


class Lagging(StrictPaper):
    """Positions are told as they were some looks ago, while orders and fills are told at once."""

    behind = 0

    def account(self) -> Account:
        """Tell it late."""
        now = super().account()
        self.history = [*getattr(self, "history", []), now.positions]
        return replace(now, positions=self.history[max(0, len(self.history) - 1 - self.behind)])


# For up to ten seconds, https://github.com/alpacahq/Alpaca-API/issues/276
def test_positions_that_are_behind_the_fills_by_one_look_are_no_difference_and_by_two_are(tmp_path: Path) -> None:
    broker = Lagging(strict_settings(), folder=tmp_path, durable=False)
    broker.now = OPEN
    with Ledger(tmp_path / "ledger.sqlite", durable=False) as ledger:
        ledger.set_meta(fills_cursor_production=OPEN.isoformat())
        made = Bench(ledger, broker)
        made.minute(0)
        broker.behind = 1
        for minute, shares in ((1, 10.0), (2, 10.0), (3, 4.0), (4, 4.0), (5, 4.0)):
            made.minute(minute, {"AAPL": shares})
        assert (made.desk.positions, made.told) == ({"AAPL": 4.0}, [])
        broker.behind = 3
        made.minute(6, {"AAPL": 12.0})
        made.minute(7, {"AAPL": 12.0})
        made.minute(8, {"AAPL": 12.0})
        assert made.subjects == ["ledger and broker do not agree"]
    broker.close()
