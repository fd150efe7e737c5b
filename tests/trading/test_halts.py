"""A ticker that is halted while an order waits: it fills in the reopening auction, at whatever price that finds.

A pause by the limit-up-limit-down plan lasts five minutes or more, and no order is refused in it: it waits, and trades
at the reopening, as at https://forum.alpaca.markets/t/sell-stop-order-was-not-filled-after-halt/5940 (sent in a halt,
sold at its end, at 23 USD after 63). The strict account does so by itself: what has no bars does not trade.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hftcl.ledger.writer import Ledger
from hftcl.settings import Settings
from hftcl.strategy.risk import Code
from hftcl.trading.brokers import Broker
from hftcl.trading.brokers.paper import PaperBroker
from hftcl.trading.brokers.strict import StrictPaper
from tests.trading.strict_stand import Bench, bench, strict_settings
from tests.trading.trading_cases import MINUTE, OPEN

STALE = 3  # the first minute without bars that is older than [risk] stale_bars, which is 2


@pytest.mark.hazard(53)
def test_what_would_open_in_a_halt_is_taken_back_before_the_reopening(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        made.minute(0, {"AAPL": 10.0, "AMD": 5.0})
        made.halted = {"AAPL"}
        for minute in range(1, STALE + 2):
            made.minute(minute)
        assert made.account.positions == {"AMD": 5.0}
        assert list(made.account.open_orders()) == [], "nobody wants what a halt makes of a price"
        (row,) = [row for row in made.ledger.read_orders().iter_rows(named=True) if row["ticker"] == "AAPL"]
        assert (row["state"], row["code"]) == ("canceled", Code.STALE)
        made.halted, made.prices = set(), made.prices | {"AAPL": 250.0}
        made.minute(6)
        assert "AAPL" not in made.account.positions
        assert made.told == []


def test_what_closes_waits_for_the_reopening_and_so_does_what_adds_to_nothing(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        made.minute(0, {"AAPL": 10.0})
        made.minute(1)
        made.minute(2, {"AAPL": 0.0})
        made.halted = {"AAPL"}
        for minute in range(3, 10):
            made.minute(minute)
        (waiting,) = made.account.open_orders()
        assert waiting.quantity == -10.0
        made.halted = set()
        made.minute(10)
        assert made.account.positions == {}


def test_a_market_that_is_halted_takes_back_all_that_would_open_and_goes_on_after_it(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        made.minute(0, {"AAPL": 10.0, "AMD": -5.0, "TSLA": 3.0})
        made.halted = set(made.prices)
        for minute in range(1, 16):
            made.minute(minute)
        assert list(made.account.open_orders()) == []
        made.halted, made.silent_for = set(), {}
        made.minute(16, {"AAPL": 10.0, "AMD": -5.0})
        made.minute(17)
        assert made.account.positions == {"AAPL": 10.0, "AMD": -5.0}
        assert made.apart == {}


class Slow(StrictPaper):
    """Ends an order a minute after it was asked to, as a broker that says pending_cancel."""

    pending: frozenset[str] = frozenset()

    def cancel(self, client_order_id: str) -> None:
        self.pending |= {client_order_id}

    def end_pending(self) -> None:
        for name in self.pending:
            super().cancel(name)


def test_the_reason_is_written_also_where_the_broker_ends_the_order_later(tmp_path: Path) -> None:
    with slow_bench(tmp_path) as made:
        made.minute(0, {"AAPL": 10.0})
        made.halted = {"AAPL"}
        for minute in range(1, STALE + 1):
            made.minute(minute)
        assert isinstance(made.broker, Slow)
        made.broker.end_pending()
        made.minute(STALE + 1)
        (row,) = made.ledger.read_orders().iter_rows(named=True)
        assert (row["state"], row["code"]) == ("canceled", Code.STALE)


def test_an_order_that_would_turn_a_position_in_a_halt_is_taken_back(tmp_path: Path) -> None:
    with closing(PaperBroker(Settings(), folder=tmp_path, durable=False)) as paper, bench_of(paper, tmp_path) as made:
        made.minute(0, {"AAPL": -10.0})
        made.minute(1)
        assert made.desk.positions == {"AAPL": -10.0}
        made.halted = {"AAPL"}
        (order,) = made.minute(2, {"AAPL": 10.0})
        assert (order.quantity, order.state) == (20.0, "intended")
        for minute in range(3, 6):
            made.minute(minute)
        assert paper.open_orders() == ()
        made.minute(6, {"AAPL": 0.0})
        made.halted = set()
        made.minute(7)
        assert made.desk.positions == {}, "closed at the reopening, and nothing is opened there"


def test_taking_back_leaves_half_of_the_minute_s_calls_to_what_closes(tmp_path: Path) -> None:
    with bench(tmp_path, tickers=60, calls_per_minute=60) as made:
        made.broker.traits = replace(made.broker.traits, calls_per_minute=200)  # type: ignore[attr-defined]
        assert isinstance(made.broker, StrictPaper)
        made.minute(0, dict.fromkeys(sorted(made.prices)[:40], 1.0))
        made.halted = set(made.prices)
        for minute in range(1, STALE + 1):
            made.minute(minute)
        assert made.broker.room() >= 30, "half of them is left"
        taken = 40 - len(list(made.account.open_orders()))
        assert 0 < taken <= 10
        for minute in range(STALE + 1, STALE + 12):
            made.minute(minute)
        assert list(made.account.open_orders()) == [], "the rest goes in the next minutes"


@contextmanager
def bench_of(broker: Broker, folder: Path) -> Iterator[Bench]:
    with Ledger(folder / "ledger.sqlite", durable=False) as ledger:
        yield Bench(ledger, broker)


@contextmanager
def slow_bench(folder: Path) -> Iterator[Bench]:
    broker = Slow(strict_settings(), folder=folder, durable=False)
    broker.now = OPEN - MINUTE
    with closing(broker), bench_of(broker, folder) as made:
        yield made
