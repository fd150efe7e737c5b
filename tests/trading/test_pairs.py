"""A person's pairs of currencies in the bot's account: whichever way they are spelled, they are the person's."""

from datetime import timedelta
from pathlib import Path

import pytest

from hftcl.home import Home
from hftcl.ledger.writer import Ledger
from hftcl.market.pairs import name_pair, spell
from hftcl.trading.brokers.alpaca import connect
from hftcl.trading.run.status import read_status
from tests.trading.bot_stand import session_minutes, settings_of
from tests.trading.strict_server import StrictServer
from tests.trading.test_live import World, home, world_of
from tests.trading.trading_cases import MINUTE, an_order

__all__ = ["home"]


# Both are taken in orders, https://docs.alpaca.markets/docs/crypto-trading ; positions have the one without a stroke,
# https://github.com/alpacahq/alpaca-py/issues/490
@pytest.mark.parametrize("spelling", ["BTCUSD", "BTC/USD"])
def test_a_pair_that_is_a_person_s_is_left_alone_whichever_way_it_is_spelled(
    home: Path, monkeypatch: pytest.MonkeyPatch, spelling: str
) -> None:
    start = session_minutes()[100]
    world: World
    with StrictServer(clock=lambda: world.clock.now()) as server:
        monkeypatch.setenv("APCA_API_KEY_ID", server.keys[0])
        monkeypatch.setenv("APCA_API_SECRET_KEY", server.keys[1])
        world = world_of(server, home, start)
        world.sections["trade"] |= {"hands_off": (spelling,)}
        with Ledger(Home.live(home).ledger) as ledger:
            ledger.set_meta(capital="50000.0", fills_cursor_production=(start - MINUTE).isoformat())
        server.account.trade_by_hand("BTC/USD", 0.5, 60_000.0, start - timedelta(days=1))

        def trade_by_hand() -> None:
            server.account.trade_by_hand("BTC/USD", 0.25, 60_000.0, world.clock.now())
            server.account.submit("a person's", "BTC/USD", 0.1, 60_000.0, world.clock.now())

        world.script = {start + MINUTE: trade_by_hand, start + 4 * MINUTE: world.stop}
        report = world.run(real_money=True)
        held, working = dict(server.account.positions), list(server.account.working)
    assert (report.halted, report.positions) == (None, {})
    told = [alert.subject for alert in world.alerts]
    assert set(told) <= {"the production model was refused", "nothing is traded"}, told
    assert (held, working) == ({"BTC/USD": 0.75}, ["a person's"]), "nothing of it is closed or canceled"
    shown = read_status(settings_of(home, **world.sections))
    assert shown.left_alone == {}


def test_the_stand_in_takes_an_order_for_a_pair_by_either_name_and_holds_it_by_the_one_of_its_positions(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with StrictServer(clock=lambda: session_minutes()[100]) as server:
        monkeypatch.setenv("APCA_API_KEY_ID", server.keys[0])
        monkeypatch.setenv("APCA_API_SECRET_KEY", server.keys[1])
        broker = connect(settings_of(home, alpaca={"base_url": server.url}), folder=home)
        for minute, name in enumerate(("BTCUSD", "BTC/USD")):
            assert broker.submit(an_order(minute, name, 2.0)).ticker == "BTC/USD"
        server.account.on_bars([(session_minutes()[101], "BTC/USD", 100.0, 100.0, 1e6)], session_minutes()[102])
        assert broker.account().positions == {"BTC/USD": 4.0}
        broker.close()


def test_a_share_that_ends_as_a_pair_does_keeps_its_name() -> None:
    assert [name_pair(name) for name in ("BTCUSD", "BTC/USD", "ETHBTC", "USDTUSD", "USD", "AAPL")] == [
        *("BTC/USD", "BTC/USD", "ETH/BTC", "USDT/USD", "USD", "AAPL")
    ]
    assert spell(["AUSD", "AAPL"]) == {"AUSD", "A/USD", "AAPL"}
