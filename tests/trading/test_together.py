"""Brokers that take a minute's orders together: in one go, and what is known where that fails in the end."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path

import polars as pl
import pytest

from hftcl.errors import BrokerError, BrokerTimeoutError
from hftcl.ledger.reader import LedgerReader
from hftcl.ledger.writer import Ledger
from hftcl.settings import Settings
from hftcl.trading.brokers import OrderState
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
        assert {order.state for order in made.ledger.read_working_orders()} == {"submitted"}
        assert made.subjects == ["fault"], "told as an outage, once it has lasted"
        made.broker.fails = ""
        made.minute(8)
        assert made.broker.open_orders() == ()
        assert set(made.ledger.read_orders()["state"]) == {"canceled"}


def test_orders_that_fail_together_are_unknown_until_the_broker_says_what_became_of_them(tmp_path: Path) -> None:
    with failing_bench(tmp_path) as made:
        assert isinstance(made.broker, Failing)
        made.broker.fails = "end"
        made.minute(0, {"AAPL": 10.0, "AMD": -5.0})
        assert made.ledger.read_orders()["state"].to_list() == ["intended", "intended"]
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
        (row,) = made.ledger.read_orders().iter_rows(named=True)
        assert (row["state"], row["code"]) == ("canceled", "no_answer")
        with LedgerReader(made.ledger.path) as ledger:
            assert [event.text for event in ledger.read_events()] == ["504 Gateway Timeout"]


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


class Telling(PaperBroker):
    """Fills nothing, and says of each order that may still fill what it is told to say."""

    said: tuple[float, float | None] = (0.0, None)

    def on_bars(self, bars: pl.DataFrame, now: datetime) -> None:
        pass

    def end_of_session(self, session: date) -> None:
        pass

    def open_orders(self) -> tuple[OrderState, ...]:
        filled, price = self.said
        states = super().open_orders()
        return tuple(
            replace(state, status="partially_filled" if filled else "open", filled=filled, average_price=price)
            for state in states
        )

    def find(self, client_order_id: str) -> OrderState | None:
        states = {state.client_order_id: state for state in self.open_orders()}
        return states.get(client_order_id) or super().find(client_order_id)


def test_what_a_lingering_order_says_of_itself_is_heard_each_time_that_it_changes(tmp_path: Path) -> None:
    broker = Telling(Settings(), folder=tmp_path, durable=False)
    with contextlib.closing(broker), Ledger(tmp_path / "ledger.sqlite", durable=False) as ledger:
        made = Bench(ledger, broker)
        made.minute(0, {"AAPL": 10.0, "AMD": 10.0})
        for minute, said in ((3, (0.0, None)), (4, (4.0, 101.0)), (5, (4.0, 102.0)), (6, (6.0, 102.0))):
            broker.said = said
            made.minute(minute)
        made.desk.close_session(made.context(391))
        fills = ledger.read_fills().select("ticker", "quantity", "price").sort("ticker").rows()
        assert fills == [("AAPL", 6.0, 102.0), ("AMD", 6.0, 102.0)]
