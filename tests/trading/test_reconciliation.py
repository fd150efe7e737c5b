"""After a stop: what happened meanwhile is taken over, what is unknown is asked for, what cannot be explained halts."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from hftcl.ledger.writer import Ledger
from hftcl.settings import Settings
from hftcl.trading.brokers import Fill
from hftcl.trading.brokers.paper import PaperBroker
from hftcl.trading.execute.reconciliation import LATCH, reconcile
from tests.ledger.test_ledger import crash_driver
from tests.trading.trading_cases import NOW, a_fill, a_record, an_order, at, bars, sent


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.sqlite", durable=False) as opened:
        yield opened


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[PaperBroker]:
    opened = PaperBroker(Settings(), folder=tmp_path, durable=False)
    yield opened
    opened.close()


def state(ledger: Ledger, minute: int = 0) -> tuple[str, str]:
    order = ledger.order(a_record(minute).client_order_id)
    assert order is not None
    return order.state, order.reason


def test_two_that_agree_have_nothing_to_tell(ledger: Ledger, broker: PaperBroker) -> None:
    told = reconcile(ledger, broker, NOW)
    assert told.agrees
    assert (told.fills, told.resolved, told.foreign) == (0, (), ())
    assert [event.kind for event in ledger.read_events()] == ["reconciled"]


@pytest.mark.hazard(51)
def test_an_order_of_unknown_fate_is_asked_for_by_its_id(ledger: Ledger, broker: PaperBroker) -> None:
    reconcile(ledger, broker, NOW)
    ledger.write_decisions([], [a_record(0), a_record(1)])
    broker.submit(sent(a_record(0)))  # the bot was killed before it could write this down, and before the second one
    told = reconcile(ledger, broker, NOW)
    assert told.agrees
    assert state(ledger, 0) == ("submitted", "")
    assert state(ledger, 1)[0] == "canceled"
    assert "never sent" in state(ledger, 1)[1]
    assert [name.client_order_id for name in broker.open_orders()] == [a_record(0).client_order_id]
    assert {update.state for update in told.resolved} == {"submitted", "canceled"}
    assert reconcile(ledger, broker, NOW).resolved == ()


@pytest.mark.hazard(52)
def test_fills_of_the_time_that_the_bot_was_down_are_taken_over_once(ledger: Ledger, broker: PaperBroker) -> None:
    reconcile(ledger, broker, NOW)
    ledger.write_decisions([], [a_record(0)])
    broker.submit(sent(a_record(0)))
    broker.on_bars(bars((1, "AAPL", 101.0)), NOW)
    told = reconcile(ledger, broker, NOW)
    assert (told.fills, told.agrees) == (1, True)
    assert ledger.read_positions() == {"AAPL": 10.0}
    assert state(ledger) == ("filled", "")
    row = ledger.read_fills().row(0, named=True)
    assert (row["model_id"], row["reference_price"], row["ts"]) == ("m1", 100.0, at(1))
    assert reconcile(ledger, broker, NOW).fills == 0
    assert ledger.read_positions() == {"AAPL": 10.0}


@pytest.mark.hazard(52)
def test_a_fill_whose_news_came_late_counts_although_its_order_was_given_up(
    ledger: Ledger, broker: PaperBroker
) -> None:
    ledger.write_decisions([], [a_record(0)])
    reconcile(ledger, broker, NOW)
    assert state(ledger)[0] == "canceled"
    broker.submit(sent(a_record(0)))  # it had been under way all the time
    broker.on_bars(bars((1, "AAPL", 101.0)), NOW)
    assert reconcile(ledger, broker, NOW).agrees
    assert ledger.read_positions() == {"AAPL": 10.0}


def test_a_position_that_nobody_can_explain_halts_until_a_person_takes_the_brokers_side(
    ledger: Ledger, broker: PaperBroker
) -> None:
    reconcile(ledger, broker, NOW)
    ledger.write_outcomes(fills=[a_fill(1)])
    told = reconcile(ledger, broker, NOW)
    assert told.differences == ("AAPL: 0 shares at the broker, 10 in the ledger",)
    (latch,) = ledger.read_latches()
    assert latch.name == LATCH
    assert latch.reason.startswith("AAPL: 0 shares at the broker, 10 in the ledger. Look at")
    assert [event.kind for event in ledger.read_events()] == ["reconciled", "halted", "error"]
    again = reconcile(ledger, broker, NOW + timedelta(hours=1))  # a restart is not consent
    assert (again.adopted, again.agrees) == ((), False)
    assert len(ledger.list_all_latches()) == 1

    ledger.clear(LATCH, "anna", NOW)
    settled = reconcile(ledger, broker, NOW + timedelta(hours=2))
    assert settled.adopted == told.differences
    assert settled.agrees
    assert (ledger.read_positions(), ledger.read_latches()) == ({}, ())
    assert ledger.read_account().realised == -0.5  # the commission: at what they had cost, ten shares less earn nothing
    assert reconcile(ledger, broker, NOW + timedelta(hours=3)).text == "0 fills taken over, 0 orders resolved"


def test_a_fill_that_cannot_be_true_is_a_difference_that_a_person_settles(
    ledger: Ledger, broker: PaperBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    reconcile(ledger, broker, NOW)
    broker.submit(an_order(5, client_order_id="by hand", quantity=3.0))
    broker.on_bars(bars((6, "AAPL", 100.0)), NOW)
    tell = broker.fills

    def tell_wrong(since: str | None) -> tuple[tuple[Fill, ...], str]:
        fills, cursor = tell(since)
        return tuple(replace(fill, price=1e308) for fill in fills), cursor

    monkeypatch.setattr(broker, "fills", tell_wrong)
    told = reconcile(ledger, broker, NOW)
    assert told.differences == ("AAPL: 3 shares at the broker, 0 in the ledger",), "of another's order the shares tell"
    assert ledger.read_fills().height == 0
    again = reconcile(ledger, broker, NOW + timedelta(minutes=1))
    assert again.differences == told.differences, "as long as they are there"
    ledger.clear(LATCH, "anna", NOW)
    assert reconcile(ledger, broker, NOW + timedelta(minutes=2)).agrees
    assert ledger.read_positions() == {"AAPL": 3.0}


@pytest.mark.parametrize("kind", ["trade_bust", "trade_correct"])
def test_a_trade_that_is_taken_back_is_told_once_however_often_the_broker_tells_it(
    ledger: Ledger, broker: PaperBroker, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    reconcile(ledger, broker, NOW)
    name = a_record(0).client_order_id
    row = Fill(
        fill_id="1::x",
        client_order_id=name,
        ticker="AAPL",
        quantity=5.0,
        price=100.0,
        commission=0.0,
        ts=at(1),
        at=at(1),
        kind=kind,
    )
    rows = (row, replace(row, fill_id="2::x", client_order_id="by hand"))
    monkeypatch.setattr(broker, "fills", lambda since: (rows, NOW.isoformat()))  # as a cursor that looks back does
    (told,) = reconcile(ledger, broker, NOW).differences
    assert kind in told
    assert ledger.is_latched(LATCH)
    ledger.clear(LATCH, "anna", NOW)
    assert reconcile(ledger, broker, NOW + timedelta(days=1)).agrees
    assert not ledger.is_latched(LATCH)
    ours = (replace(row, fill_id="3::x"),)
    monkeypatch.setattr(broker, "fills", lambda since: (ours, NOW.isoformat()))
    assert reconcile(ledger, broker, NOW, hands_off=frozenset({"AAPL"})).agrees, "what a person keeps"


def test_consent_holds_for_what_the_person_was_shown_and_only_once(ledger: Ledger, broker: PaperBroker) -> None:
    reconcile(ledger, broker, NOW)
    ledger.write_outcomes(fills=[a_fill(1)])
    reconcile(ledger, broker, NOW)
    ledger.clear(LATCH, "anna", NOW)
    ledger.write_outcomes(fills=[a_fill(2)])  # ten more, since she looked
    assert reconcile(ledger, broker, NOW).differences == ("AAPL: 0 shares at the broker, 20 in the ledger",)
    ledger.clear(LATCH, "anna", NOW)
    assert reconcile(ledger, broker, NOW).agrees
    ledger.write_outcomes(fills=[a_fill(3), a_fill(4)])  # the same difference on another day
    assert not reconcile(ledger, broker, NOW + timedelta(days=1)).agrees
    assert [latch.name for latch in ledger.read_latches()] == [LATCH]


def test_a_trade_by_hand_is_told_and_kept_apart_until_a_person_hands_it_over(
    ledger: Ledger, broker: PaperBroker
) -> None:
    reconcile(ledger, broker, NOW)
    broker.submit(an_order(5, client_order_id="by hand", quantity=-3.0))
    broker.on_bars(bars((6, "AAPL", 100.0)), NOW)
    told = reconcile(ledger, broker, NOW)
    assert told.agrees
    assert told.foreign == ("-3 AAPL at 99.99",)
    assert (ledger.read_positions(), ledger.read_positions("foreign")) == ({}, {"AAPL": -3.0})
    assert reconcile(ledger, broker, NOW).agrees
    ledger.set_meta(handed_over="a person said so")
    assert reconcile(ledger, broker, NOW).agrees
    assert (ledger.read_positions(), ledger.read_positions("foreign")) == ({"AAPL": -3.0}, {})
    assert ledger.read_fills()["model_id"].to_list() == [None]


def test_what_the_account_held_before_the_first_start_is_not_ours(ledger: Ledger, broker: PaperBroker) -> None:
    broker.submit(an_order(5, client_order_id="old"))
    broker.on_bars(bars((6, "AAPL", 100.0)), NOW)
    told = reconcile(ledger, broker, NOW)
    assert told.differences == ("AAPL: 10 shares at the broker, 0 in the ledger",)
    assert ledger.read_positions() == {}
    ledger.clear(LATCH, "anna", NOW)
    assert reconcile(ledger, broker, NOW).agrees
    assert ledger.read_account().average_price == {
        "AAPL": 100.0
    }  # what they are worth now; what they cost is not known


def test_an_open_order_of_somebody_else_halts_until_it_is_gone(ledger: Ledger, broker: PaperBroker) -> None:
    broker.submit(an_order(5, client_order_id="old"))
    assert reconcile(ledger, broker, NOW).differences == ("the order old is open at the broker, and not in the ledger",)


def test_orders_and_trades_of_a_person_in_a_ticker_handed_over_are_the_person_s(
    ledger: Ledger, broker: PaperBroker
) -> None:
    theirs = frozenset({"AAPL"})
    reconcile(ledger, broker, NOW, hands_off=theirs)
    broker.submit(an_order(5, client_order_id="stop-loss", quantity=-3.0))
    assert reconcile(ledger, broker, NOW, hands_off=theirs).differences == ()
    broker.on_bars(bars((6, "AAPL", 100.0)), NOW)
    told = reconcile(ledger, broker, NOW, hands_off=theirs)
    assert (told.agrees, told.foreign, ledger.read_latches()) == (True, (), ())
    assert ledger.read_positions("foreign") == {"AAPL": -3.0}, "cash is compared by it"
    ledger.set_meta(handed_over="a person let the bot take over what others traded")
    reconcile(ledger, broker, NOW, hands_off=theirs)
    assert (ledger.read_positions(), ledger.read_positions("foreign")) == ({}, {"AAPL": -3.0})
    assert [event.text for event in ledger.read_events() if "handed over" in event.text] == [], "it never was the bot's"
    broker.submit(an_order(7))  # with an id of ours, which this ledger never gave: a second bot, or a lost ledger
    assert len(reconcile(ledger, broker, NOW, hands_off=theirs).differences) == 1


def test_what_the_bot_holds_of_a_ticker_that_is_handed_over_becomes_the_person_s(
    ledger: Ledger, broker: PaperBroker
) -> None:
    reconcile(ledger, broker, NOW)
    ledger.write_decisions([], [a_record(0), a_record(0, "AMD")])
    broker.submit(sent(a_record(0)))
    broker.submit(sent(a_record(0, "AMD")))
    broker.on_bars(bars((1, "AAPL", 100.0), (1, "AMD", 100.0), close=104.0), NOW)
    for _ in range(2):
        told = reconcile(ledger, broker, NOW, hands_off=frozenset({"AAPL"}))
        assert told.agrees
        assert (ledger.read_positions(), ledger.read_positions("foreign")) == ({"AMD": 10.0}, {"AAPL": 10.0})
    assert ledger.read_account().realised == pytest.approx(40.0, abs=0.5), "at what they are worth that day"
    paid = ledger.read_account().paid + ledger.read_account("foreign").paid
    assert paid == pytest.approx(100_000.0 - broker.account().cash), "no cash has moved"
    assert any("handed over to a person: 10 AAPL" in event.text for event in ledger.read_events())


def test_a_fill_that_is_told_late_halts_nothing_of_a_ticker_that_was_handed_over_meanwhile(
    ledger: Ledger, broker: PaperBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    reconcile(ledger, broker, NOW)
    ledger.write_decisions([], [a_record(0)])
    broker.submit(sent(a_record(0)))
    broker.on_bars(bars((1, "AAPL", 100.0)), NOW)
    tell = broker.fills
    monkeypatch.setattr(broker, "fills", lambda since: ((), since or "0"))
    assert reconcile(ledger, broker, NOW, hands_off=frozenset({"AAPL"})).differences == ()
    monkeypatch.setattr(broker, "fills", tell)
    assert reconcile(ledger, broker, NOW, hands_off=frozenset({"AAPL"})).agrees
    assert (ledger.read_positions(), ledger.read_positions("foreign")) == ({}, {"AAPL": 10.0})


def test_a_book_beside_production_does_not_halt_the_bot(ledger: Ledger, broker: PaperBroker) -> None:
    broker.submit(an_order(5, client_order_id="old"))
    assert not reconcile(ledger, broker, NOW, book="shadow").agrees
    assert ledger.read_latches() == ()


@pytest.mark.hazard(50)
@pytest.mark.hazard(51)
@pytest.mark.hazard(52)
@pytest.mark.parametrize("step", [19, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_before_any_statement_and_started_again_no_order_doubles_and_no_fill_is_lost(
    tmp_path: Path, step: int
) -> None:
    assert int(crash_driver(tmp_path, "trade", str(step))) > 100
