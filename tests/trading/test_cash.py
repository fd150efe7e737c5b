"""What moves an account's cash beside fills, and what a fill costs: told by the broker, booked, compared, reported."""

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest

from hftcl.ledger.meta import Fact
from hftcl.ledger.reader import LedgerReader
from hftcl.ledger.rows import CashRow
from hftcl.performance.story import measure_performance
from hftcl.trading.brokers import Broker
from hftcl.trading.brokers.alpaca import KEY_VARIABLE, SECRET_VARIABLE, connect
from tests.trading.bot_stand import DAY, TRAINED, archived, bars_of, settings_of, some_minutes, stand
from tests.trading.strict_server import StrictServer
from tests.trading.strict_stand import CAPITAL, Bench, bench
from tests.trading.trading_cases import MINUTE, OPEN, SESSION, at

TOMORROW = SESSION + timedelta(days=1)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path) as made:
        yield made


@pytest.fixture
def server() -> Iterator[StrictServer]:
    with StrictServer(clock=lambda: OPEN + timedelta(days=2)) as started:
        yield started


@pytest.fixture
def broker(server: StrictServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Broker]:
    monkeypatch.setenv(KEY_VARIABLE, server.keys[0])
    monkeypatch.setenv(SECRET_VARIABLE, server.keys[1])
    opened = connect(settings_of(tmp_path, alpaca={"base_url": server.url}), folder=tmp_path)
    yield opened
    opened.close()


def test_every_page_of_activities_is_read_and_no_fill_among_them(server: StrictServer, broker: Broker) -> None:
    server.limited = False
    for number in range(250):
        server.account.pay("FEE", -0.01 * number, at(number))
    server.account.pay("DIV", 12.5, at(10), "AAPL")
    moves = broker.cash_moves(SESSION)  # type: ignore[attr-defined]
    assert len({move.activity_id for move in moves}) == len(moves) == 251
    assert sum(move.amount for move in moves) == pytest.approx(12.5 - 0.01 * 249 * 125)
    assert [(move.ticker, move.day) for move in moves if move.kind == "DIV"] == [("AAPL", SESSION)]
    assert broker.cash_moves(TOMORROW) == ()  # type: ignore[attr-defined]


def test_a_fee_and_a_dividend_are_booked_once_and_are_in_cash_and_equity(made: Bench) -> None:
    made.desk.book_cash(at(0))
    made.minute(0, {"AAPL": 40.0})
    made.minute(1)
    made.account.pay("FEE", -3.25, at(2))
    made.account.pay("DIV", 20.0, at(2), "AAPL")
    made.account.pay("CSD", 5000.0, at(2))  # a person's deposit: no profit
    equity = made.desk.value_book(SESSION, at(1), made.prices).equity
    made.minute(3)
    for _ in range(2):
        made.desk.book_cash(at(4))
    booked = {(row.kind, row.amount) for row in made.ledger.list_cash()}
    assert booked == {("DIV", 20.0), ("FEE", -3.25), ("CSD", 5000.0)}
    assert made.ledger.sum_charges() == pytest.approx(16.75)
    assert made.desk.value_book(SESSION, at(1), made.prices).equity == pytest.approx(equity + 16.75)
    assert made.ledger.read_cash() == pytest.approx(made.account.cash - 5000.0 - (made.account.rules.cash - CAPITAL))
    assert made.told == [], "what is explained is no difference"


def test_cash_that_moved_without_an_activity_is_told_once(made: Bench) -> None:
    made.desk.book_cash(at(0))
    made.account.cash -= 250.0
    for minute in (1, 2, 3):
        made.desk.book_cash(at(minute))
    assert made.subjects == ["the broker's cash is not the ledger's"]
    assert "moved by -250.00 USD more than" in made.told[0][2]


def test_cash_of_before_the_first_look_is_not_the_bots(made: Bench) -> None:
    made.account.pay("CSD", 77_000.0, at(0) - timedelta(days=3))
    made.account.pay("FEE", -9.0, at(0) - timedelta(days=3))
    made.desk.book_cash(at(0))
    assert (made.ledger.list_cash(), made.told) == ((), [])
    assert float(made.ledger.open_meta()[Fact.CASH_GAP]) == pytest.approx(made.account.cash - CAPITAL)


def test_what_moved_while_the_bot_stood_still_for_months_is_booked_too(made: Bench) -> None:
    made.desk.book_cash(at(0))
    made.minute(0)
    made.account.pay("FEE", -4.0, at(0) + timedelta(days=3))
    made.account.pay("INT", -6.0, at(0) + timedelta(days=40))
    made.broker.now = at(0) + timedelta(days=75)  # type: ignore[attr-defined]
    made.account._calls = (int(made.broker.now.timestamp()) // 60, 10_000)  # type: ignore[attr-defined]
    made.desk.book_cash(at(0) + timedelta(days=75))  # no call is left in this minute
    assert made.ledger.list_cash() == ()
    made.broker.now += MINUTE  # type: ignore[attr-defined]
    for _ in range(2):  # a restart books nothing again
        made.desk.book_cash(at(0) + timedelta(days=75))
    assert [(row.kind, row.amount) for row in made.ledger.list_cash()] == [("FEE", -4.0), ("INT", -6.0)]
    assert made.told == []


def test_a_broker_that_does_not_answer_is_asked_again_and_nothing_is_lost(made: Bench, tmp_path: Path) -> None:
    made.desk.book_cash(at(0))
    made.account.pay("INT", 1.5, at(1))
    made.account._calls = (int(at(2).timestamp()) // 60, 10_000)  # the calls of this minute are used up
    made.broker.now = at(2)  # type: ignore[attr-defined]
    made.desk.book_cash(at(2))
    assert made.ledger.list_cash() == ()
    made.broker.now = at(3)  # type: ignore[attr-defined]
    made.desk.book_cash(at(3))
    assert [row.kind for row in made.ledger.list_cash()] == ["INT"]


def test_a_fill_keeps_its_bars_open_and_slippage_is_timing_and_cost(tmp_path: Path) -> None:
    archived(tmp_path, TRAINED)
    bot = stand(tmp_path)
    bot.run(DAY, some_minutes(60, 120))
    bot.close()
    with LedgerReader(bot.ledger.path) as ledger:
        fills, opens = ledger.read_fills(), ledger.read_opens()
        measured = ledger.measure_fills("production", OPEN)
    joined = fills.join(opens, on="fill_id").join(bars_of(DAY).select("ticker", "ts", bar="open"), on=["ticker", "ts"])
    assert joined.height == fills.height > 0
    assert joined["open"].to_list() == joined["bar"].to_list()
    cost = (joined["quantity"] * (joined["price"] - joined["bar"])).sum()
    timing = (joined["quantity"] * (joined["bar"] - joined["reference_price"])).sum()
    assert (measured.cost, measured.timing) == pytest.approx((cost, timing))
    assert 1e4 * measured.cost / measured.traded == pytest.approx(1.0, rel=1e-3), "half a spread and slippage of paper"
    total = measure_performance(settings_of(tmp_path)).total
    assert (total.fill_cost_usd, total.timing_usd) == pytest.approx((cost, timing))
    assert total.slippage_usd == pytest.approx(float(cost) + float(timing))


def test_an_open_that_comes_after_its_fill_is_kept_too(made: Bench) -> None:
    made.minute(0, {"AAPL": 40.0})
    context = made.context(1)
    made.broker.on_bars(made.bars(1), at(2))
    made.desk.collect(context)
    assert (made.ledger.read_fills().height, made.ledger.read_opens().height) == (1, 0)
    made.minute(1)
    assert made.ledger.read_opens()["open"].to_list() == [100.0]


def test_charges_are_in_the_report_on_the_session_of_their_day(tmp_path: Path) -> None:
    archived(tmp_path, TRAINED)
    bot = stand(tmp_path)
    bot.run(DAY, some_minutes(60, 120))
    before = measure_performance(settings_of(tmp_path))
    rows = [
        CashRow(activity_id=name, session=day, kind=kind, ticker=ticker, amount=amount, booked_at=at(0))
        for name, day, kind, ticker, amount in (
            ("1", date(2025, 6, 3), "FEE", "", -4.0),
            ("2", DAY, "DIV", "AAPL", 10.0),
            ("3", DAY, "CSW", "", -5000.0),
        )
    ]
    bot.ledger.write_outcomes(cash=rows)
    bot.close()
    after = measure_performance(settings_of(tmp_path))
    assert after.total.charges_usd == pytest.approx(6.0)
    assert after.total.net_usd == pytest.approx(before.total.net_usd + 6.0)
    assert sum(part.net_usd for part in after.tickers) == pytest.approx(after.total.net_usd)
    assert {part.name for part in after.tickers} - {part.name for part in before.tickers} == {"the account"}
    assert after.models == before.models, "a fee is of no model"
