"""Splits at a broker that does them by itself: where its shares are not only ours, or a person had the last word."""

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from hftcl.errors import BrokerError
from hftcl.ledger.rows import FillRecord
from hftcl.ledger.writer import Ledger
from hftcl.market.sources import Split
from hftcl.trading.brokers import Account, CashMove, Flags
from hftcl.trading.execute.reconciliation import LATCH, Reconciliation, reconcile
from hftcl.trading.execute.split_book import SplitBook
from hftcl.trading.run.splits import find_due_splits

DAY = date(2026, 3, 3)
NOW = datetime(2026, 3, 3, 13, tzinfo=UTC)
SPLITS = [Split(ticker="AAPL", execution_date=DAY, split_from=1.0, split_to=4.0)]


class RealBroker:
    """A broker as far as a reconciliation asks it: it tells what it holds, and hears of no split."""

    name, live_money, shorting, turns, extended_hours = "real", False, True, True, False

    def __init__(self, shares: float) -> None:
        self.shares = shares

    def fills(self, since: str | None) -> tuple[tuple[()], str]:
        return (), NOW.isoformat()

    def find(self, client_order_id: str) -> None:
        return None

    def open_orders(self) -> tuple[()]:
        return ()

    def account(self) -> Account:
        held, marks = {"AAPL": self.shares}, {"AAPL": 50.0}
        return Account(cash=0, equity=0, buying_power=0, positions=held, marks=marks, account_id="a", flags=Flags())


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Yield a ledger that holds 100 shares from the day before the split."""
    with Ledger(tmp_path / "ledger.sqlite", durable=False) as ledger:
        book(ledger, "production", 100.0)
        ledger.set_meta(splits_looked_up="2026-03-02")
        yield ledger


def book(ledger: Ledger, whose: str, shares: float) -> None:
    at = NOW - timedelta(days=1)
    fill = FillRecord(
        fill_id=f"fill-{whose}",
        client_order_id=f"order-{whose}",
        book=whose,  # type: ignore[arg-type]
        ts=at,
        ticker="AAPL",
        model_id=None,
        quantity=shares,
        price=200.0,
        commission=0.0,
        reference_price=200.0,
        filled_at=at,
    )
    ledger.write_outcomes(fills=[fill])


def compare(ledger: Ledger, splits: SplitBook, broker: RealBroker) -> Reconciliation:
    """Reconcile as the bot does: what the broker has done of a split is booked before it looks like a difference."""

    def settle(at_broker: Mapping[str, float]) -> bool:
        splits.take(find_due_splits(ledger, lambda ticker: SPLITS, DAY).get("production", {}), {}, DAY, NOW)
        return splits.book_done(at_broker, DAY, NOW)

    return reconcile(ledger, broker, NOW, settle=settle)  # type: ignore[arg-type]


def begin(ledger: Ledger, broker: RealBroker) -> SplitBook:
    return SplitBook(book="production", broker=broker, ledger=ledger, tell=lambda *_: None)  # type: ignore[arg-type]


def test_a_person_who_takes_the_broker_s_shares_for_true_ends_the_wait_for_a_split(ledger: Ledger) -> None:
    broker = RealBroker(350.0)  # the person sold 50 of 400 by hand
    splits = begin(ledger, broker)
    assert not compare(ledger, splits, broker).agrees
    assert splits.restate(ledger.read_positions()) == {"AAPL": 400.0}
    ledger.clear(LATCH, "a person", NOW)
    compare(ledger, splits, broker)
    assert compare(ledger, splits, broker).agrees
    assert splits.restate(ledger.read_positions()) == {"AAPL": 350.0}, "not four times what is held"
    assert find_due_splits(ledger, lambda ticker: SPLITS, DAY + timedelta(days=1)) == {}, "nor after a restart"


def test_shares_of_others_do_not_hide_that_a_split_is_done(ledger: Ledger) -> None:
    book(ledger, "foreign", -50.0)
    broker = RealBroker(350.0)
    splits = begin(ledger, broker)
    assert compare(ledger, splits, broker).agrees
    assert (dict(ledger.read_positions()), splits.awaited) == ({"AAPL": 400.0}, {})


class TellingBroker(RealBroker):
    """Tells also by which activities shares went; None: it does not answer."""

    def __init__(self, shares: float, *kinds: str | None) -> None:
        super().__init__(shares)
        self.kinds = kinds

    def cash_moves(self, since: date) -> tuple[CashMove, ...]:
        if None in self.kinds:
            raise BrokerError("no answer")
        return tuple(
            CashMove(activity_id=f"a{kind}", kind=str(kind), day=DAY, ticker="AAPL", amount=0.0, shares=-5.0)
            for kind in self.kinds
        )


@pytest.mark.parametrize(("kinds", "done"), [(("SPLIT",), True), (("MA",), False), ((None,), False), ((), True)])
def test_none_left_of_a_reverse_split_is_no_split_where_the_shares_went_elsewhere(
    tmp_path: Path, kinds: tuple[str | None, ...], done: bool
) -> None:
    with Ledger(tmp_path / "ledger.sqlite", durable=False) as ledger:
        book(ledger, "production", 5.0)
        broker = TellingBroker(0.0, *kinds)
        splits = SplitBook(book="production", broker=broker, ledger=ledger, tell=lambda *_: None)  # type: ignore[arg-type]
        splits.take({"AAPL": 0.1}, {}, DAY, NOW)
        assert splits.book_done({}, DAY, NOW) == done
        assert ledger.read_positions() == ({} if done else {"AAPL": 5.0})


@pytest.mark.parametrize(("later", "due"), [(0, False), (1, False), (3, False), (4, True)])
def test_a_split_that_the_broker_dated_a_day_before_the_source_is_not_awaited_again(
    ledger: Ledger, later: int, due: bool
) -> None:
    day = NOW - timedelta(hours=1)
    for side, shares in (("out", -100.0), ("in", 400.0)):
        made = FillRecord(
            fill_id=f"corporate-x-{side}",
            client_order_id="corporate",
            book="production",
            ts=day,
            ticker="AAPL",
            model_id=None,
            quantity=shares,
            price=50.0,
            commission=0.0,
            reference_price=50.0,
            filled_at=day,
        )
        ledger.write_outcomes(fills=[made])
    on = DAY + timedelta(days=later)
    split = Split(ticker="AAPL", execution_date=on, split_from=1.0, split_to=4.0)
    assert bool(find_due_splits(ledger, lambda _: [split], on)) == due
