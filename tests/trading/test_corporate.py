"""Corporate actions while shares are held: what the broker made of them is what is held, told once with what to do.

The broker is the strict stand-in, which tells them as https://docs.alpaca.markets/docs/activity-sse does.
"""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from hftcl.home import Home
from hftcl.ledger.rows import CloseRow
from hftcl.ledger.writer import Ledger
from hftcl.performance.story import measure_performance
from hftcl.trading.brokers import find_broker
from hftcl.trading.brokers.refusals import BY_CODE
from hftcl.trading.brokers.strict_account import StrictAccount
from hftcl.trading.brokers.strict_rules import AccountRules
from hftcl.trading.execute.corporate import book_actions
from hftcl.trading.execute.reconciliation import reconcile
from hftcl.trading.run.clock import SimulatedClock
from hftcl.trading.run.kill_switch import clear, flatten
from hftcl.trading.run.status import read_status
from hftcl.trading.run.trade_report import TradeReport
from tests.polygon_server import PolygonServer, says
from tests.trading.bot_stand import session_minutes, settings_of
from tests.trading.strict_server import StrictServer
from tests.trading.test_live import NEXT_DAY, World, home, world_of
from tests.trading.trading_cases import MINUTE, SESSION, a_record, at

__all__ = ["home"]

MORNING = session_minutes(NEXT_DAY)[0]
NIGHT = MORNING - timedelta(hours=5)
ACTION = "a corporate action changed what is held"


@dataclass
class Overnight:
    """A bot without a model, that held shares at the close, and what it does on the next morning."""

    home: Path
    world: World
    server: StrictServer

    @property
    def account(self) -> StrictAccount:
        return self.server.account

    def hold(self, **shares: float) -> None:
        """Let the bot have bought these shares at 100 USD on the day before."""
        with Ledger(Home.live(self.home).ledger) as ledger:
            ledger.set_meta(capital="50000.0", fills_cursor_production=at(0).isoformat(), cash_from="2025-06-02")
            for ticker, held in shares.items():
                bought = a_record(0, ticker, held)
                ledger.write_decisions([], [bought])
                self.account.submit(bought.client_order_id, ticker, held, 100.0, at(1))
                self.account.on_bars([(at(1), ticker, 100.0, 100.0, 1e6)], at(2))

    def list_splits(self, ticker: str, split_from: float, split_to: float) -> None:
        """Let the source of the bars know of a split of the morning."""
        self.world.sections["files"] = {"splits": "splits.json", "folder": str(self.home)}
        split = {"ticker": ticker, "execution_date": str(NEXT_DAY), "split_from": split_from, "split_to": split_to}
        (self.home / "splits.json").write_text(json.dumps([split]))

    def wake(self, minutes: int = 2) -> TradeReport:
        self.world.script = {MORNING + minutes * MINUTE: self.world.stop}
        return self.world.run(real_money=True)

    @property
    def earned(self) -> float:
        """What the report says was made, USD, without what prices did to the shares that are still held."""
        return measure_performance(settings_of(self.home, **self.world.sections)).total.net_usd

    @property
    def told(self) -> list[str]:
        return [alert.text for alert in self.world.alerts if alert.subject == ACTION]

    def read_open(self) -> tuple[str, float | None]:
        with Ledger(Home.live(self.home).ledger) as ledger:
            return ledger.open_meta().read_open("production")

    def tell_half(self) -> None:
        """Let the rows of the shares that came be told tomorrow, and cash be told of the old ones."""
        rows = [row for row in self.account.activities if row.kind == "FILL" or row.quantity <= 0]
        self.account.activities = [replace(row, symbol="AAPL") if row.kind != "FILL" else row for row in rows]

    def read(self, what: Callable[[Ledger], float]) -> float:
        with Ledger(Home.live(self.home).ledger) as ledger:
            return what(ledger)


@pytest.fixture
def night(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Overnight]:
    world: World
    with StrictServer(AccountRules(cash=100_000.0), clock=lambda: world.clock.now()) as server:
        monkeypatch.setenv("APCA_API_KEY_ID", server.keys[0])
        monkeypatch.setenv("APCA_API_SECRET_KEY", server.keys[1])
        world = world_of(server, home, MORNING - timedelta(hours=2))
        yield Overnight(home, world, server)


def check_whole(night: Overnight, report: TradeReport) -> None:
    """Hold that the ledger has what the account has, in shares and in cash, and that nothing halts."""
    assert report.halted is None
    assert report.positions == night.account.positions
    # 50,000 USD are the bot's, and others' in the account do not move
    assert night.read(lambda ledger: ledger.read_cash()) == pytest.approx(night.account.cash - 50_000.0)


@pytest.mark.hazard(67)
@pytest.mark.parametrize("listed", [4.0, None], ids=["another ratio", "none"])
def test_a_split_is_what_the_broker_made_of_it_where_the_source_says_otherwise(
    night: Overnight, listed: float | None
) -> None:
    night.hold(AAPL=100.0)
    if listed:
        night.list_splits("AAPL", 1.0, listed)
    night.account.split("AAPL", 3.0, NIGHT)
    report = night.wake()
    check_whole(night, report)
    (text,) = night.told
    assert "AAPL was split: 100 shares became 300." in text
    assert ("The source of the bars says 4 for 1 of AAPL" in text) == bool(listed)
    assert night.read(lambda ledger: ledger.read_account().realised) == pytest.approx(0.0, abs=1.0)
    shown = read_status(settings_of(night.home, **night.world.sections))
    assert shown.awaited_splits == {}, "nothing is waited for any more"
    night.world.clock.now()
    again = World(night.home, night.world.clock.now(), night.world.bars, night.world.sections)
    again.script = {night.world.clock.now().replace(second=0) + 3 * MINUTE: again.stop}
    assert again.run(real_money=True).halted is None
    assert [alert.subject for alert in again.alerts if "split" in alert.text or alert.subject == ACTION] == []


@pytest.mark.parametrize(("shares", "ratio", "left"), [(5.0, 0.1, 0.0), (33.0, 0.05, 1.0)], ids=["all", "a part"])
def test_what_a_reverse_split_pays_out_in_cash_is_booked_as_such(
    night: Overnight, shares: float, ratio: float, left: float
) -> None:
    night.account.rules = AccountRules(cash_in_lieu=True)
    night.hold(AAPL=shares)
    night.list_splits("AAPL", round(1 / ratio), 1.0)
    night.account.split("AAPL", ratio, NIGHT)
    assert night.account.positions == ({"AAPL": left} if left else {})
    cash = night.account.cash
    report = night.wake(0)
    check_whole(night, report)
    assert night.account.cash == cash
    told = [alert.text for alert in night.world.alerts if "split" in alert.subject or alert.subject == ACTION]
    assert len(told) == (0 if left else 1), "what is left of a position is no news; that nothing is left is"
    assert all("paid out" in text for text in told)


def test_parts_of_a_share_that_a_split_leaves_are_held(night: Overnight) -> None:
    night.hold(AAPL=33.0)
    night.list_splits("AAPL", 20.0, 1.0)
    night.account.split("AAPL", 0.05, NIGHT)
    assert night.account.positions == {"AAPL": 1.65}
    report = night.wake(0)
    check_whole(night, report)


@pytest.mark.parametrize("held", [100.0, -40.0])
def test_a_ticker_that_has_another_name_is_held_under_it_and_closed_before_the_bell(
    night: Overnight, held: float
) -> None:
    night.hold(AAPL=held, AMD=10.0)
    night.account.exchange_shares("AAPL", "APPL", NIGHT)
    report = night.wake()
    check_whole(night, report)
    assert report.positions == {"APPL": held, "AMD": 10.0}
    (text,) = night.told
    assert f"{held:g} AAPL became {held:g} APPL: it has another name." in text
    assert "Put APPL in the place of AAPL in [market] watchlist" in text
    sent = sorted((order.symbol, order.quantity) for order in night.account.orders.values() if order.at >= MORNING)
    assert sent == [("AMD", -10.0), ("APPL", -held)], "there is no model: what is held is closed, by its name of today"
    assert night.read(lambda ledger: ledger.read_account().average_price["APPL"]) == pytest.approx(100.0, abs=0.1)


def test_shares_of_a_merger_are_held_for_what_the_old_ones_cost(night: Overnight) -> None:
    night.hold(AAPL=100.0)
    night.account.exchange_shares("AAPL", "BUYR", NIGHT, ratio=0.1, cash=21.0)
    report = night.wake(0)
    check_whole(night, report)
    assert report.positions == {"BUYR": 10.0}
    assert "100 AAPL became 10 BUYR and 2,100.00 USD: a merger." in night.told[0]
    assert night.read(lambda ledger: ledger.sum_charges()) == pytest.approx(2100.0)
    assert night.read(lambda ledger: ledger.read_account().average_price["BUYR"]) == pytest.approx(790.0, abs=0.2)
    assert night.earned == pytest.approx(0.0, abs=1.5), "shares and cash for shares: nothing is earned by it"


def test_a_day_begins_with_what_the_old_shares_closed_at_and_not_with_what_they_cost(night: Overnight) -> None:
    night.hold(AAPL=100.0)
    with Ledger(Home.live(night.home).ledger) as ledger:  # its 100 USD were 60 at the close: lost yesterday
        ledger.note_closes([CloseRow(session=SESSION, ticker="AAPL", ts=at(389), open=100.0, close=60.0)])
    night.account.exchange_shares("AAPL", "BUYR", NIGHT, ratio=0.1, cash=21.0)
    check_whole(night, night.wake(0))
    _, at_open = night.read_open()
    assert at_open == pytest.approx(50_000.0 - 100 * 40.0, abs=2.0)


@pytest.mark.parametrize("cash", [90.0, 0.0], ids=["bought for cash", "worthless"])
def test_shares_that_are_gone_are_gone_for_what_was_paid(night: Overnight, cash: float) -> None:
    night.hold(AAPL=100.0)
    night.account.remove("AAPL", NIGHT, cash=cash)
    report = night.wake(0)
    check_whole(night, report)
    assert report.positions == {}
    (text,) = night.told
    assert f"100 AAPL are gone ({'MA' if cash else 'REORG'})" in text
    assert "Leave AAPL out of [market] watchlist" in text
    lost = night.read(lambda ledger: ledger.read_account().realised + ledger.sum_charges())
    assert lost == pytest.approx(-100.0 * (100.0 - cash), abs=1.5)
    assert night.earned == pytest.approx(lost, abs=1.5), "and the report says so"


def split_now(account: StrictAccount) -> None:
    account.split("AAPL", 3.0, NIGHT)


def end_by_units(account: StrictAccount) -> None:
    account.do(what="action", kind="SPLIT", old="AAPL", new="INFQ", ratio=1.0, cash=0.0, at=NIGHT.isoformat())


def merge_for_both(account: StrictAccount) -> None:
    account.exchange_shares("AAPL", "BUYR", NIGHT, ratio=0.1, cash=21.0)


def round_down(account: StrictAccount) -> None:
    account.rules = AccountRules(cash_in_lieu=True)
    account.split("AAPL", 0.015, NIGHT)


def rename(account: StrictAccount) -> None:
    account.exchange_shares("AAPL", "APPL", NIGHT)


@pytest.mark.parametrize("act", [split_now, end_by_units, merge_for_both, round_down, rename])
def test_half_of_an_action_is_left_for_a_person(night: Overnight, act: Callable[[StrictAccount], None]) -> None:
    night.hold(AAPL=100.0)
    act(night.account)
    night.tell_half()
    night.account.positions.clear()  # nor are they among the positions
    report = night.wake(0)
    assert report.halted is not None
    assert "AAPL: 0 shares at the broker, 100 in the ledger" in report.halted
    assert night.told == []
    assert night.read(lambda ledger: ledger.read_account().realised) == 0.0, "it is not known to be lost"


def test_cash_of_a_merger_for_both_is_waited_for(night: Overnight) -> None:
    night.hold(AAPL=100.0)
    merge_for_both(night.account)
    night.account.activities = [row for row in night.account.activities if row.kind == "FILL" or row.quantity]
    assert night.wake(0).halted is not None
    assert night.told == []


def test_a_reorganisation_that_does_not_say_worthless_is_no_end(night: Overnight) -> None:
    night.hold(AAPL=100.0)
    night.account.remove("AAPL", NIGHT)
    night.account.activities = [replace(row, subtype="") for row in night.account.activities]
    assert night.wake(0).halted is not None
    assert night.told == []


def test_a_row_that_cannot_be_read_keeps_an_action_for_a_person(night: Overnight) -> None:
    night.hold(AAPL=100.0)
    night.account.split("AAPL", 3.0, NIGHT)
    night.account.activities = [
        replace(row, quantity=math.nan) if row.quantity > 0 and row.kind == "SPLIT" else row
        for row in night.account.activities
    ]
    night.account.positions.clear()
    assert night.wake(0).halted is not None
    assert night.told == []


@pytest.mark.parametrize("owner", ["hands_off", "foreign"])
def test_shares_of_a_person_that_came_on_the_same_day_are_not_the_bot_s(night: Overnight, owner: str) -> None:
    night.hold(AAPL=100.0)
    night.account.trade_by_hand("PERS", 60.0, 50.0, at(5))
    if owner == "hands_off":
        night.world.sections["trade"] = {**night.world.sections.get("trade", {}), "hands_off": ["PERS"]}
    night.account.exchange_shares("PERS", "BUYR", NIGHT, ratio=0.5, cash=1.0)  # a person's
    night.account.remove("AAPL", NIGHT, cash=90.0)
    report = night.wake(0)
    assert report.halted is not None
    assert report.positions == {"AAPL": 100.0}
    assert night.told == []


def test_shares_that_come_in_a_ticker_of_a_person_are_for_a_person(night: Overnight) -> None:
    night.hold(AAPL=100.0)
    night.world.sections["trade"] = {**night.world.sections.get("trade", {}), "hands_off": ["BUYR"]}
    merge_for_both(night.account)
    night.account.activities = [
        replace(row, symbol="AAPL") if row.cash and row.kind == "MA" else row for row in night.account.activities
    ]
    report = night.wake(0)
    assert report.halted is not None
    assert report.positions == {"AAPL": 100.0}
    assert night.told == []


def test_an_activity_that_was_canceled_explains_nothing(night: Overnight) -> None:
    night.hold(AAPL=100.0)
    night.server.canceled = {"SPLIT"}
    night.account.split("AAPL", 3.0, NIGHT)
    report = night.wake(0)
    assert report.halted is not None
    assert night.told == []


def test_what_the_broker_did_not_close_is_told_with_its_reason_after_the_close(night: Overnight) -> None:
    night.hold(AAPL=100.0)
    night.account.gone.add("AAPL")  # delisted, and the shares are still in the account
    night.world.clock = SimulatedClock(MORNING + 380 * MINUTE)
    report = night.wake(389)  # the last minute
    assert (report.halted, report.positions) == (None, {"AAPL": 100.0})
    (text,) = [alert.text for alert in night.world.alerts if alert.subject == "positions are held overnight"]
    assert "100 AAPL. The broker did not close AAPL: 422 asset AAPL is not tradable" in text
    assert BY_CODE["not_tradable"].remedy in text


def test_what_is_not_the_bot_s_alone_is_left_for_a_person(night: Overnight) -> None:
    night.hold(AAPL=100.0)
    night.account.trade_by_hand("AAPL", 50.0, 100.0, at(5))
    night.account.split("AAPL", 3.0, NIGHT)
    report = night.wake(0)
    assert report.halted is not None
    assert "AAPL: 450 shares at the broker, 100 in the ledger" in report.halted
    assert (report.positions, night.told) == ({"AAPL": 100.0}, []), "which of the 300 new ones are the bot's?"


def test_the_kill_switch_closes_what_has_another_name_where_no_bot_runs(night: Overnight) -> None:
    night.hold(AAPL=100.0)
    night.account.exchange_shares("AAPL", "APPL", NIGHT)
    night.world.clock = clock = SimulatedClock(MORNING + 10 * MINUTE)
    done = flatten(settings_of(night.home, **night.world.sections), clock=clock, reason="a test")
    sent = [(order.symbol, order.quantity) for order in night.account.open_orders()]
    assert (done.orders, done.shortfall, sent) == (1, "", [("APPL", -100.0)])
    assert done.note.startswith("100 AAPL became 100 APPL: it has another name. Put APPL in the place")


def test_what_the_kill_switch_books_before_the_open_counts_for_that_session(night: Overnight) -> None:
    night.hold(AAPL=100.0)
    night.account.split("AAPL", 3.0, NIGHT)
    done = flatten(settings_of(night.home, **night.world.sections), clock=night.world.clock, reason="a test")
    assert done.positions == {"AAPL": 300.0}
    assert "AAPL was split: 100 shares became 300." in done.note
    with Ledger(Home.live(night.home).ledger) as ledger:
        (when,) = ledger.read_fills().filter(client_order_id="corporate")["ts"].unique()
    assert when == MORNING


@pytest.mark.parametrize("tells", [True, False], ids=["told", "not told"])
def test_a_split_of_the_source_is_booked_before_the_kill_switch_closes_what_the_broker_made_of_it(
    night: Overnight, tells: bool
) -> None:
    """A broker may do it before its activities tell of it; then only the source explains the shares."""
    night.hold(AAPL=100.0)
    night.list_splits("AAPL", 1.0, 4.0)
    night.account.split("AAPL", 4.0, NIGHT)
    if not tells:
        night.account.activities = [row for row in night.account.activities if row.kind == "FILL"]
    night.world.clock = clock = SimulatedClock(MORNING + 10 * MINUTE)
    done = flatten(settings_of(night.home, **night.world.sections), clock=clock, reason="a test")
    sent = [(order.symbol, order.quantity) for order in night.account.open_orders()]
    assert (done.orders, done.shortfall, sent) == (1, "", [("AAPL", -400.0)])
    assert done.note.startswith("AAPL was split: 100 shares became 400. No bot runs.")
    with Ledger(Home.live(night.home).ledger) as ledger:
        assert (ledger.read_positions(), [latch.name for latch in ledger.read_latches()]) == (
            {"AAPL": 400.0},
            ["kill_switch"],
        )
        assert ledger.read_account().realised == pytest.approx(0.0)


def test_the_kill_switch_asks_a_source_of_a_small_plan_once_for_all_that_is_held(
    night: Overnight, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five calls a minute are not one for each ticker and look."""
    tickers = ("AAPL", "AMD", "MSFT", "NVDA", "ORCL", "QCOM", "TSLA", "XOM")
    night.hold(**dict.fromkeys(tickers, 100.0))
    for ticker in ("AAPL", "XOM"):
        night.account.split(ticker, 4.0, NIGHT)
    night.account.activities = [row for row in night.account.activities if row.kind == "FILL"]
    rows = [{"ticker": t, "execution_date": str(NEXT_DAY), "split_from": 1.0, "split_to": 4.0} for t in ("AAPL", "XOM")]
    with Ledger(Home.live(night.home).ledger) as ledger:
        ledger.set_meta(splits_looked_up=str(SESSION))
    monkeypatch.setenv("POLYGON_API_KEY", "k")
    with PolygonServer({}, rows) as server:
        night.world.sections |= {
            "market": {"source": "polygon", "watchlist": tickers},
            "polygon": {"base_url": server.url, "calls_per_minute": 5},
        }
        night.world.clock = clock = SimulatedClock(MORNING + 10 * MINUTE)
        done = flatten(settings_of(night.home, **night.world.sections), clock=clock, reason="a test")
        assert len(server.hits) == 1
    assert done.note.startswith("AAPL was split: 100 shares became 400. XOM was split: 100 shares became 400. No bot")
    assert (done.orders, done.positions["XOM"], done.shortfall) == (8, 400.0, "")


def test_a_source_that_fails_in_its_one_call_for_all_is_not_asked_again_for_each(
    night: Overnight, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 500 tickers each try would wait for its own time-out, and everything else for them."""
    tickers = ("AAPL", "AMD", "MSFT", "NVDA", "ORCL", "QCOM", "TSLA", "XOM")
    night.hold(**dict.fromkeys(tickers, 100.0))
    for ticker in tickers:
        night.account.split(ticker, 4.0, NIGHT)
    with Ledger(Home.live(night.home).ledger) as ledger:
        ledger.set_meta(splits_looked_up=str(SESSION))
    night.account.activities = [row for row in night.account.activities if row.kind == "FILL"]
    monkeypatch.setenv("POLYGON_API_KEY", "k")
    with PolygonServer({}, []) as server:
        server.always = says(403, {"status": "NOT_AUTHORIZED", "message": "not in this plan"})
        night.world.sections |= {
            "market": {"source": "polygon", "watchlist": tickers},
            "polygon": {"base_url": server.url, "calls_per_minute": 100},
        }
        night.world.clock = clock = SimulatedClock(MORNING + 10 * MINUTE)
        done = flatten(settings_of(night.home, **night.world.sections), clock=clock, reason="a test")
        assert len(server.hits) == 2, "that the second says the same shows that it is no fault of one ticker"
    assert "Splits are not known: " in done.note


def test_that_the_source_tells_no_splits_is_told_once(night: Overnight) -> None:
    night.hold(AAPL=100.0, AMD=100.0)
    night.list_splits("AAPL", 1.0, 4.0)
    night.account.split("AAPL", 4.0, NIGHT)
    night.account.split("AMD", 4.0, NIGHT)
    night.account.activities = [row for row in night.account.activities if row.kind == "FILL"]
    night.world.clock = clock = SimulatedClock(MORNING + 10 * MINUTE)
    (night.home / "splits.json").write_text("no splits")
    done = flatten(settings_of(night.home, **night.world.sections), clock=clock, reason="a test")
    assert done.note.count("are not known") == 1
    assert done.orders == 2


def test_a_split_that_the_broker_has_still_to_do_leaves_the_kill_switch_what_it_holds(night: Overnight) -> None:
    night.hold(AAPL=100.0)
    night.list_splits("AAPL", 1.0, 4.0)
    night.world.clock = clock = SimulatedClock(MORNING + 10 * MINUTE)
    done = flatten(settings_of(night.home, **night.world.sections), clock=clock, reason="a test")
    assert [(order.symbol, order.quantity) for order in night.account.open_orders()] == [("AAPL", -100.0)]
    assert (done.orders, done.positions) == (1, {"AAPL": 100.0})


def test_a_split_of_which_the_source_knows_nothing_makes_no_loss_of_the_day(night: Overnight) -> None:
    night.hold(AAPL=100.0)
    with Ledger(Home.live(night.home).ledger) as ledger:
        ledger.note_closes([CloseRow(session=SESSION, ticker="AAPL", ts=at(389), open=100.0, close=100.0)])
    night.account.split("AAPL", 3.0, NIGHT)
    night.wake()
    _, at_open = night.read_open()
    assert at_open == pytest.approx(50_000.0, abs=200.0)


def test_the_kill_switch_measures_the_day_from_the_close_before(night: Overnight) -> None:
    """Else a start later in the day, after it was cleared, knows nothing of what was lost overnight."""
    night.hold(AAPL=100.0)
    night.account.split("AAPL", 4.0, NIGHT)
    with Ledger(Home.live(night.home).ledger) as ledger:
        ledger.note_closes([CloseRow(session=SESSION, ticker="AAPL", ts=at(389), open=100.0, close=120.0)])
    night.world.clock = clock = SimulatedClock(MORNING + 10 * MINUTE)
    flatten(settings_of(night.home, **night.world.sections), clock=clock, reason="a test")
    day, at_open = night.read_open()
    assert day == str(NEXT_DAY)
    assert at_open == pytest.approx(52_000.0, abs=1.0)


@pytest.mark.parametrize("how", ["flatten", "stand by"])
def test_a_close_of_before_the_session_before_measures_no_day(night: Overnight, how: str) -> None:
    """A bot that was killed left none of yesterday; the one before may be of before a split with nothing held."""
    night.hold(AAPL=100.0)
    with Ledger(Home.live(night.home).ledger) as ledger:
        old = SESSION - timedelta(days=3)
        ledger.note_closes([CloseRow(session=old, ticker="AAPL", ts=at(389), open=400.0, close=400.0)])
    night.world.clock = clock = SimulatedClock(MORNING + 10 * MINUTE)
    if how == "flatten":
        flatten(settings_of(night.home, **night.world.sections), clock=clock, reason="a test")
    else:
        night.world.faults = 1
        night.wake(minutes=20)
    day, at_open = night.read_open()
    assert day == str(NEXT_DAY)
    assert at_open == pytest.approx(50_000.0, abs=1.0)


@pytest.mark.parametrize(
    "act",
    [
        lambda account: account.split("AAPL", 3.0, NIGHT),
        lambda account: account.exchange_shares("AAPL", "BUYR", NIGHT, ratio=0.5),
        lambda account: None,
    ],
    ids=["split", "merger", "nothing"],
)
def test_what_a_corporate_action_made_of_shares_is_no_turnover_in_the_report(
    night: Overnight, act: Callable[[StrictAccount], None]
) -> None:
    night.hold(AAPL=100.0)
    act(night.account)
    check_whole(night, night.wake(0))
    total = measure_performance(settings_of(night.home, **night.world.sections)).total
    assert (total.fills, total.trades <= 1) == (1, True)
    assert total.turnover == pytest.approx(100 * 100.0 / 50_000.0, rel=0.01)
    with Ledger(Home.live(night.home).ledger) as ledger:
        assert (ledger.count_fills("production", at(0)), ledger.read_fills_by_order().height) == (1, 1)


def test_an_action_whose_cash_cannot_be_had_at_once_is_told_all_the_same(night: Overnight) -> None:
    night.hold(AAPL=100.0)
    night.account.split("AAPL", 3.0, NIGHT)
    night.account.pay("DIV", 12.0, NIGHT, "AAPL")
    night.server.silent_activities = range(1, 2)
    check_whole(night, night.wake())
    (text,) = night.told
    assert "AAPL was split: 100 shares became 300." in text


def test_an_action_that_was_booked_before_a_kill_is_told_by_the_next_start(night: Overnight) -> None:
    night.hold(AAPL=100.0)
    night.account.split("AAPL", 3.0, NIGHT)
    settings = settings_of(night.home, **night.world.sections)
    with Ledger(Home.live(night.home).ledger) as ledger:
        broker = find_broker("alpaca")(settings, folder=night.home)
        reconcile(ledger, broker, NIGHT, settle=lambda held: bool(book_actions(broker, ledger, held, (), NIGHT)))
        assert ledger.read_positions() == {"AAPL": 300.0}
        broker.close()
    check_whole(night, night.wake())
    assert night.told == ["AAPL was split: 100 shares became 300."]


def test_activities_that_cannot_be_had_explain_nothing_after_some_tries(night: Overnight) -> None:
    night.hold(AAPL=100.0)
    night.account.split("AAPL", 3.0, NIGHT)
    night.server.silent_activities = range(1000)
    report = night.wake(2)
    assert report.halted is not None
    assert "AAPL: 300 shares at the broker, 100 in the ledger" in report.halted
    assert "corporate actions are not known" in [alert.subject for alert in night.world.alerts]


@pytest.mark.parametrize("missing", ["id", "date", "activity_type"])
def test_an_activity_that_cannot_be_read_is_told_and_keeps_nothing_from_being_booked(
    night: Overnight, missing: str
) -> None:
    night.hold(AAPL=100.0)
    night.account.split("AAPL", 3.0, NIGHT)
    row = {"id": "20250603::x", "activity_type": "JNLC", "date": str(NEXT_DAY), "symbol": "", "net_amount": "0"}
    night.server.odd_rows = [{name: said for name, said in row.items() if name != missing}]
    check_whole(night, night.wake())
    assert len(night.told) == 1
    assert any("cash that cannot be true" in alert.text for alert in night.world.alerts)


def test_what_is_told_later_is_booked_once_a_person_clears_the_latch(night: Overnight) -> None:
    night.hold(AAPL=100.0)
    night.account.split("AAPL", 3.0, NIGHT)
    rows = list(night.account.activities)
    night.tell_half()
    assert night.wake(0).halted is not None
    night.account.activities = rows
    now = night.world.clock.now()
    clear(settings_of(night.home, **night.world.sections), by="a person", now=now)
    again = World(night.home, now, night.world.bars, night.world.sections)
    again.script = {now.replace(second=0) + 3 * MINUTE: again.stop}
    check_whole(night, again.run(real_money=True))
    assert ["AAPL was split: 100 shares became 300." in alert.text for alert in again.alerts].count(True) == 1
    assert night.read(lambda ledger: ledger.read_account().realised) == pytest.approx(0.0, abs=1.0)


def test_a_broker_that_rounds_up_is_not_said_to_be_wrong(night: Overnight) -> None:
    night.hold(AAPL=33.0)
    night.list_splits("AAPL", 20.0, 1.0)
    act = {"kind": "SPLIT", "old": "AAPL", "new": "AAPL", "ratio": 2 / 33, "cash": 0.0, "at": NIGHT.isoformat()}
    night.account.do(what="action", **act)
    check_whole(night, night.wake(0))
    (text,) = night.told
    assert text == "AAPL was split: 33 shares became 2."


def test_the_day_after_one_without_a_bot_begins_at_the_last_close_and_not_at_what_the_shares_cost(
    night: Overnight,
) -> None:
    """Else what was lost before it would count as lost today."""
    night.hold(AAPL=100.0)  # at 100 USD
    with Ledger(Home.live(night.home).ledger) as ledger:
        ledger.note_closes([CloseRow(session=SESSION, ticker="AAPL", ts=at(389), open=81.0, close=80.0)])
    day_after = MORNING + timedelta(days=1)
    night.world.clock = SimulatedClock(day_after + 10 * MINUTE)
    night.world.faults = 1  # no bars can be had at first
    night.world.script = {day_after + 20 * MINUTE: night.world.stop}
    night.world.run(real_money=True)
    _, equity = night.read_open()
    assert equity == pytest.approx(50_000.0 - 100.0 * 20.0, abs=5.0)
