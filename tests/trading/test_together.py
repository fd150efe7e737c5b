"""Brokers that take a minute's orders together: in one go, and what is known where that fails in the end."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from hftcl.errors import BrokerError, BrokerTimeoutError
from hftcl.ledger.reader import LedgerReader
from hftcl.ledger.writer import Ledger
from hftcl.settings import Settings
from hftcl.trading.brokers.paper import PaperBroker
from tests.trading.strict_stand import Bench


class Failing(PaperBroker):
    """Takes orders together, and forgets those of a block that fails. fails: at the begin or end of the next blocks."""

    fails = ""
    inside = False
    blocks = 0

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        if self.inside:
            yield  # its own, within one of the bot's
            return
        if self.fails == "begin":
            raise BrokerTimeoutError("504 Gateway Timeout")
        self.inside = True
        self.blocks += 1
        try:
            with super().together():
                yield
                if self.fails == "end":
                    raise BrokerError("the orders of this minute were not taken")
        finally:
            self.inside = False


@contextlib.contextmanager
def failing_bench(folder: Path) -> Iterator[Bench]:
    broker = Failing(Settings(), folder=folder, durable=False)
    with contextlib.closing(broker), Ledger(folder / "ledger.sqlite", durable=False) as ledger:
        yield Bench(ledger, broker)


@pytest.mark.parametrize("fails", ["begin", "end"])
def test_cancellations_that_fail_together_cost_no_minute_and_their_orders_still_work(
    tmp_path: Path, fails: str
) -> None:
    with failing_bench(tmp_path) as made:
        assert isinstance(made.broker, Failing)
        made.minute(0, {"AAPL": 10.0, "AMD": 10.0})
        made.halted = {"AAPL", "AMD"}
        made.broker.fails = fails
        for minute in range(1, 8):
            made.minute(minute)
        assert len(made.broker.open_orders()) == 2
        assert {order.state for order in made.ledger.working_orders()} == {"submitted"}
        assert made.subjects == ["fault"], "told as an outage, once it has lasted"
        made.broker.fails = ""
        made.minute(8)
        assert made.broker.open_orders() == ()
        assert set(made.ledger.orders()["state"]) == {"canceled"}


def test_orders_that_fail_together_are_unknown_until_the_broker_says_what_became_of_them(tmp_path: Path) -> None:
    with failing_bench(tmp_path) as made:
        assert isinstance(made.broker, Failing)
        made.broker.fails = "end"
        made.minute(0, {"AAPL": 10.0, "AMD": -5.0})
        assert made.ledger.orders()["state"].to_list() == ["intended", "intended"]
        made.broker.fails = ""
        made.minute(1, {"AAPL": 10.0, "AMD": -5.0})
        made.minute(2, {"AAPL": 10.0, "AMD": -5.0})
        made.minute(3)
        assert made.desk.positions == made.broker.account().positions == {"AAPL": 10.0, "AMD": -5.0}
        assert made.told == []


def test_orders_of_a_block_that_cannot_begin_never_left(tmp_path: Path) -> None:
    with failing_bench(tmp_path) as made:
        assert isinstance(made.broker, Failing)
        made.broker.fails = "begin"
        made.minute(0, {"AAPL": 10.0})
        (row,) = made.ledger.orders().iter_rows(named=True)
        assert (row["state"], row["code"]) == ("canceled", "no_answer")
        with LedgerReader(made.ledger.path) as ledger:
            assert [event.text for event in ledger.events()] == ["504 Gateway Timeout"]


def test_a_minute_s_cancellations_are_one_block_of_the_broker_and_its_orders_another(tmp_path: Path) -> None:
    with failing_bench(tmp_path) as made:
        assert isinstance(made.broker, Failing)
        made.minute(0, {"AAPL": 10.0, "AMD": -10.0, "TSLA": 10.0})
        assert made.broker.blocks == 1
        made.halted = set(made.prices)  # nothing fills
        made.minute(1, {"AAPL": -5.0, "AMD": 5.0, "TSLA": -5.0})
        assert len(made.broker.open_orders()) == 3, "those of the other side are gone"
        assert made.broker.blocks == 3
        for minute in range(2, 5):
            made.minute(minute)
        assert (made.broker.open_orders(), made.broker.blocks) == ((), 4), "taken back for want of bars"
