"""What a loss is measured from, splits, wrong prints, clocks, late bars: where money was lost without a word."""

import contextlib
import re
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from hftcl.alerts import Kind
from hftcl.errors import BrokerError, ConfigError, SourceError, StorageError
from hftcl.home import Home
from hftcl.ledger.meta import Fact
from hftcl.ledger.rows import CloseRow, EquityRow
from hftcl.ledger.writer import Ledger
from hftcl.market.bars import MINUTE
from hftcl.market.sources import Split
from hftcl.model.novelty import Novelty
from hftcl.settings import Settings
from hftcl.strategy.risk import Code
from hftcl.trading.brokers import Fill
from hftcl.trading.brokers.paper import PaperBroker
from hftcl.trading.brokers.strict import StrictPaper
from hftcl.trading.decide.held_back import MOST, HeldBack
from hftcl.trading.execute.reconciliation import reconcile
from hftcl.trading.execute.trouble import CALM, LASTS_MINUTES, Outages
from hftcl.trading.feeds import Delivery, Morning
from hftcl.trading.feeds.replay import StoredFeed
from hftcl.trading.run.clock import SimulatedClock, SystemClock
from hftcl.trading.run.clock_watch import ClockWatch
from hftcl.trading.run.kill_switch import flatten
from hftcl.trading.run.late_bars import LONGEST, LateBars
from hftcl.trading.run.reserve import Reserve
from hftcl.trading.run.session_loop import Loop
from hftcl.trading.run.silence import Silence
from hftcl.trading.run.splits import SplitWatch, find_due_splits
from hftcl.trading.run.wiring import hold_lock, read_capital
from tests.trading.bot_stand import (
    DAY,
    PutBack,
    Stand,
    archived,
    bars_of,
    session_minutes,
    settings_of,
    some_minutes,
    stand,
)
from tests.trading.strict_stand import CAPITAL, Bench, bench, strict_settings
from tests.trading.trading_cases import OPEN, SESSION, an_order, at, bars, with_paper

HOUR = timedelta(hours=1)


def equity_row(days_ago: int, equity: float) -> EquityRow:
    day = SESSION - timedelta(days=days_ago)
    ts = at(389) - timedelta(days=days_ago)
    return EquityRow(
        book="production", ts=ts, session=day, equity=equity, cash=equity, gross=0.0, net=0.0, realised=0.0
    )


# ---- losses ----------------------------------------------------------------------------------------------------------


def test_the_day_s_loss_counts_from_the_close_before_also_for_a_bot_that_starts_at_noon(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        made.minute(0, {"AAPL": 100.0})
        made.minute(1)
        tomorrow, begins = SESSION + timedelta(days=1), OPEN + timedelta(days=1)
        made.desk.open(tomorrow, begins, made.prices | {"AAPL": 20.0}, before={"AAPL": 100.0})
        now = made.desk.value_book(tomorrow, begins, {"AAPL": 20.0}).equity
        assert made.desk.equity_at_open - now == pytest.approx(8_000.0)
        again = made.desk.ledger.open_meta().read_open("production")
        assert again == (tomorrow.isoformat(), made.desk.equity_at_open)


def test_the_best_close_of_twenty_sessions_is_what_a_drawdown_counts_from_until_a_person_clears_it(
    tmp_path: Path,
) -> None:
    with bench(tmp_path) as made:
        closes = [equity_row(30, 150_000.0), *(equity_row(n, 100_000.0 + 100 * n) for n in range(1, 21))]
        made.ledger.write_outcomes(equity=closes)
        made.desk.find_peak(SESSION)
        assert made.desk.peak == 102_000.0, "the one of thirty days ago is not of the newest twenty"
        made.ledger.set_meta(**{Fact.DRAWDOWN_FROM: (SESSION - timedelta(days=5)).isoformat()})
        made.desk.find_peak(SESSION)
        assert made.desk.peak == 100_500.0
        made.ledger.set_meta(**{Fact.DRAWDOWN_FROM: SESSION.isoformat()})
        made.desk.find_peak(SESSION)
        assert made.desk.peak < 0, "what is lost by today is what a person has accepted"


@pytest.mark.hazard(73)
def test_a_loss_over_several_sessions_latches_and_closes(tmp_path: Path) -> None:
    archived(tmp_path)
    bot = stand(tmp_path, first=110)
    bot.ledger.write_outcomes(equity=[equity_row(n, 115_000.0) for n in range(3, 6)])
    bot.run(DAY, some_minutes(110, 6))
    assert [latch.name for latch in bot.ledger.read_latches()] == [str(Code.DRAWDOWN)]
    assert bot.ledger.read_positions() == {}
    assert [alert.subject for alert in bot.alerts] == ["trading is halted: drawdown"]
    bot.close()


class LateTeller(PaperBroker):
    """Tells what fills in the last minutes only when the session has ended."""

    is_mute = False

    def on_bars(self, bars: pl.DataFrame, now: datetime) -> None:
        self.is_mute = now >= session_minutes(DAY)[-3]
        super().on_bars(bars, now)

    def end_of_session(self, session: date) -> None:
        self.is_mute = False
        super().end_of_session(session)

    def fills(self, since: str | None) -> tuple[tuple[Fill, ...], str]:
        return ((), since or "0") if self.is_mute else super().fills(since)


def test_what_is_told_after_the_last_minute_is_in_the_equity_of_the_close(tmp_path: Path) -> None:
    """Else `--status` shows limits in use of a book that is flat, and the next day's loss counts from a wrong close."""
    archived(tmp_path)
    bot = stand(tmp_path, first=360, broker=LateTeller(settings_of(tmp_path), folder=tmp_path, durable=False))
    bot.run(DAY, some_minutes(360, 30))
    row = bot.ledger.read_newest_equity()
    assert row is not None
    assert bot.ledger.read_fills().height > 0
    assert (bot.ledger.read_positions(), row.ts, row.gross) == ({}, session_minutes(DAY)[-1], 0.0)
    assert row.equity == row.cash == pytest.approx(bot.ledger.read_cash())
    bot.close()


# ---- paper -----------------------------------------------------------------------------------------------------------


def test_paper_fills_nothing_in_a_wrong_print_and_is_not_valued_by_it(tmp_path: Path) -> None:
    paper = PaperBroker(with_paper(), folder=tmp_path, durable=False)
    paper.on_bars(bars((0, "AAPL", 100.0)), at(1))
    paper.submit(an_order(0, quantity=10.0))
    paper.on_bars(bars((1, "AAPL", 130.0)), at(2))
    assert (paper.account().positions, paper.account().equity) == ({}, 100_000.0)
    paper.on_bars(bars((2, "AAPL", 100.0)), at(3))
    assert paper.account().positions == {"AAPL": 10.0}
    assert paper.account().marks == {"AAPL": 100.0}
    paper.submit(an_order(3, quantity=-10.0))
    paper.on_bars(bars((4, "AAPL", 130.0)), at(5))
    paper.on_bars(bars((5, "AAPL", 131.0)), at(6))
    assert paper.account().marks == {"AAPL": 131.0}, "a jump that the next bar confirms is a price"
    paper.on_bars(bars((6, "AAPL", 131.0)), at(7))
    assert paper.account().positions == {}
    paper.close()


@pytest.mark.parametrize("ratio", [4.0, 0.25], ids=["forward", "reverse"])
@pytest.mark.hazard(67)
def test_a_split_overnight_changes_shares_and_no_money_in_ledger_and_paper(tmp_path: Path, ratio: float) -> None:
    settings = with_paper(half_spread_bps=0.0, slippage_bps=0.0)
    paper = PaperBroker(settings, folder=tmp_path, durable=False)
    with Ledger(tmp_path / "ledger.sqlite", durable=False) as ledger:
        ledger.set_meta(capital="100000.0")
        made = Bench(ledger, paper, tickers=("AAPL",))
        made.minute(0, {"AAPL": 40.0})
        made.minute(1)
        assert made.desk.positions == {"AAPL": 40.0}
        tomorrow, begins = SESSION + timedelta(days=1), OPEN + timedelta(days=1)
        for _ in range(2):  # a restart splits nothing again
            made.desk.split({"AAPL": ratio}, {"AAPL": 100.0 / ratio}, tomorrow, begins)
        assert dict(made.desk.positions) == paper.account().positions == {"AAPL": 40.0 * ratio}
        row = made.desk.value_book(tomorrow, begins, {"AAPL": 100.0 / ratio})
        assert row.equity == pytest.approx(100_000.0)
        assert row.realised == pytest.approx(0.0)
        assert paper.account().equity == pytest.approx(100_000.0)
        assert ledger.read_account().average_price["AAPL"] == pytest.approx(100.0 / ratio)
        made.prices["AAPL"] = 100.0 / ratio
        made.desk.open(tomorrow, begins, made.prices)
        made.minute(2, {"AAPL": 0.0})
        made.minute(3)
        assert made.told == [], "a split is no difference, and nobody else traded"
        assert [event.kind for event in ledger.read_events()].count("split") == 1
    paper.close()


@pytest.mark.hazard(67)
def test_a_split_of_a_day_on_which_the_bot_stood_still_is_met_when_it_starts_again_and_once(tmp_path: Path) -> None:
    def fetch(ticker: str) -> tuple[Split, ...]:
        days = (SESSION, SESSION + timedelta(days=1), SESSION + timedelta(days=2), SESSION + timedelta(days=9))
        return tuple(Split(ticker, day, 1, factor) for day, factor in zip(days, (7, 2, 3, 5), strict=True))

    with bench(tmp_path) as made:
        assert find_due_splits(made.ledger, fetch, SESSION) == {}, "nothing is held"
        made.minute(0, {"AAPL": 40.0})
        made.minute(1)
        made.minute(2)
        assert made.desk.positions == {"AAPL": 40.0}
        assert find_due_splits(made.ledger, fetch, SESSION) == {}, "it was bought after that split"
        later, begins = SESSION + timedelta(days=3), OPEN + timedelta(days=3)
        due = find_due_splits(made.ledger, fetch, later)
        assert due == {"production": {"AAPL": 6.0}}
        made.desk.split(due["production"], {"AAPL": 100.0 / 6.0}, later, begins)
        assert made.desk.positions == {"AAPL": 240.0}
        assert find_due_splits(made.ledger, fetch, later) == {}
        assert find_due_splits(made.ledger, fetch, later + timedelta(days=1)) == {}


def test_a_split_whose_look_up_failed_is_met_with_the_next_one_and_shares_bought_since_are_new_ones(
    tmp_path: Path,
) -> None:
    day, fails = SESSION + timedelta(days=1), [True]

    def fetch(ticker: str) -> tuple[Split, ...]:
        if fails:
            raise SourceError("the vendor is not there")
        return (Split(ticker, day, 1, 4),)

    with bench(tmp_path) as made:
        made.minute(0, {"AAPL": 40.0})
        made.minute(1)
        watch = SplitWatch(made.ledger, fetch)
        with pytest.raises(SourceError):
            watch.find(day)
        watch.note(())  # as the loop does, which goes on trading
        made.ledger.write_outcomes(equity=[equity_row(-1, 1e5)])
        fails.clear()
        due = {"production": {"AAPL": 4.0}}
        assert watch.find(day) == due, "a restart on the same day"
        assert SplitWatch(made.ledger, fetch).find(day) == due, "it ended before they were booked"
        made.desk.split({"AAPL": 4.0}, {}, day, OPEN + timedelta(days=1))
        watch.note(())
        assert SplitWatch(made.ledger, fetch).find(day + timedelta(days=1)) == {}
    with bench(tmp_path / "other") as made:
        made.minute(0, {"AAPL": 40.0})
        made.minute(1)
        made.ledger.set_meta(**{Fact.SPLITS_LOOKED_UP: (SESSION - timedelta(days=1)).isoformat()})
        assert find_due_splits(made.ledger, lambda _: [Split("AAPL", SESSION, 1, 4)], SESSION) == {}, "begun after it"


@pytest.mark.hazard(67)
def test_of_two_splits_of_one_night_the_one_that_the_broker_has_still_to_do_is_waited_for(tmp_path: Path) -> None:
    day, begins = SESSION + timedelta(days=1), OPEN + timedelta(days=1)
    splits = {"AAPL": [Split("AAPL", day, 1, 4)], "AMD": [Split("AMD", day, 2, 1)]}

    class Real(StrictPaper):
        split = None  # type: ignore[assignment]  # it does splits by itself, and hears of none

    broker = Real(strict_settings(), folder=tmp_path, durable=False)
    broker.now = OPEN
    with contextlib.closing(broker), Ledger(tmp_path / "ledger.sqlite", durable=False) as ledger:
        ledger.set_meta(fills_cursor_production=OPEN.isoformat())
        made = Bench(ledger, broker, tickers=("AAPL", "AMD", "TSLA"))
        made.minute(0, {"AAPL": 40.0, "AMD": 20.0})
        made.minute(1)
        watch = SplitWatch(ledger, lambda ticker: splits.get(ticker, []))
        made.account.split("AAPL", 4.0, begins)
        made.desk.split(watch.find(day)["production"], {}, day, begins)
        assert made.desk.splits.book_done(made.account.positions, day, begins)
        assert made.desk.positions == {"AAPL": 160.0, "AMD": 20.0}
        watch.note(made.desk.splits.awaited)
        made.prices |= {"AAPL": 25.0, "AMD": 200.0}
        equity = made.desk.value_book(day, begins, made.prices).equity
        assert equity == pytest.approx(CAPITAL, abs=10.0), "what is awaited is worth what it was"
        assert made.desk.value_book(day, begins, {"AAPL": 25.0}).equity == pytest.approx(CAPITAL, abs=10.0)
        assert made.desk.splits.list_ratios(day) == {"AAPL": 4.0, "AMD": 0.5}
        made.desk.splits.tell_awaited(begins)
        made.desk.open(day, begins, made.prices)
        made.desk.split({}, {}, day, begins)  # as where the look-up fails: what is awaited stays so
        assert made.desk.list_left_alone() == {"AMD"}
        made.minute(2, {"AAPL": 100.0, "AMD": 0.0, "TSLA": 5.0})
        made.minute(3)
        assert made.account.positions == {"AAPL": 100.0, "AMD": 20.0, "TSLA": 5.0}, "that ticker alone stands aside"
        assert made.subjects == ["a split that the broker has not done yet"]
        assert "AMD (0.5 for 1)" in made.told[0][2]
        assert SplitWatch(ledger, watch.fetch).find(day) == {"production": {"AMD": 0.5}}, "a restart waits on"
        made.account.split("AMD", 0.5, begins)
        made.minute(4, {"AMD": 0.0})
        made.minute(5)
        assert made.desk.positions == made.account.positions == {"AAPL": 100.0, "TSLA": 5.0}
        assert len(made.told) == 1
        assert ledger.read_account().realised == pytest.approx(0.0, abs=10.0)
        assert SplitWatch(ledger, watch.fetch).find(day + timedelta(days=1)) == {}


def test_closes_of_before_a_split_are_told_in_the_shares_of_its_session(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        made.ledger.note_closes(
            [CloseRow(session=SESSION, ticker=t, ts=OPEN, open=1.0, close=100.0) for t in ("AAPL", "AMD")]
        )
        tomorrow = SESSION + timedelta(days=1)
        ratios = {"AAPL": 4.0}
        assert made.ledger.read_last_closes(tomorrow, ratios) == {"AAPL": 25.0, "AMD": 100.0}
        assert made.ledger.read_last_closes(SESSION, ratios) == {"AAPL": 100.0, "AMD": 100.0}, "it is of that session"


def test_a_capital_that_the_paper_account_does_not_hold_is_refused(tmp_path: Path) -> None:
    paper = PaperBroker(Settings(), folder=tmp_path, durable=False)
    with Ledger(tmp_path / "ledger.sqlite", durable=False) as ledger:
        with pytest.raises(ConfigError, match=r"capital is 250,000.00 USD.* holds 100,000.00"):
            read_capital(ledger, settings_of(tmp_path, trade={"capital": 250_000.0}), paper)
        assert read_capital(ledger, settings_of(tmp_path, trade={"capital": 50_000.0}), paper) == 50_000.0
    paper.close()


# ---- bars and clocks -------------------------------------------------------------------------------------------------


class ReSending:
    """Bars of which each comes again in the next minutes, with other volumes."""

    def __init__(self, inner: object, rate: int) -> None:
        self.inner, self.rate, self.n = inner, rate, 0
        self.name = "re-sending"

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    def minute(self, minute, now):  # type: ignore[no-untyped-def]
        found = self.inner.minute(minute, now)  # type: ignore[attr-defined]
        self.n += 1
        again = bars_of(DAY).filter(pl.col("ts").is_between(minute - self.rate * MINUTE, minute - MINUTE))
        again = again.with_columns(volume=pl.col("volume") + 100.0 * self.n)
        return Delivery(minute=minute, bars=found.bars, corrected=again)


def test_bars_that_come_again_with_other_volumes_hold_no_ticker(tmp_path: Path) -> None:
    from hftcl.trading.feeds.replay import StoredFeed

    archived(tmp_path)
    feed = ReSending(StoredFeed(bars_of(DAY), ("AAPL", "AMD", "TSLA")), 2)
    bot = stand(tmp_path, first=110, feed=feed)
    bot.run(DAY, some_minutes(110, 20))
    assert "hold_revised" not in set(bot.ledger.read_decisions()["code"])
    assert bot.ledger.read_orders().height > 0
    bot.close()


def test_the_grace_grows_where_bars_keep_coming_late_and_shrinks_again() -> None:
    late, grace = LateBars(), timedelta(seconds=3)
    none = bars().clear()
    for n in range(200):
        came = bars((n - 1, "AAPL", 100.0), (n - 1, "AMD", 100.0))
        grace = late.note(Delivery(minute=at(n), bars=none, corrected=came), grace)
    assert grace == LONGEST
    for n in range(200, 2000):
        grace = late.note(Delivery(minute=at(n), bars=bars((n, "AAPL", 100.0))), grace)
    assert grace == timedelta(seconds=3)
    still, replayed = LateBars(), timedelta(0)
    assert still.note(Delivery(minute=at(1), bars=none, corrected=bars((0, "AAPL", 1.0))), replayed) == replayed


def test_a_ticker_that_is_held_back_ten_minutes_of_fifteen_is_told_once_with_its_codes() -> None:
    held = HeldBack()
    told = [held.note({"AAPL": Code.HOLD_NO_BAR if n % 3 else Code.TRADE, "AMD": Code.TRADE}) for n in range(4 * MOST)]
    texts = [text for text in told if text]
    assert len(texts) == 1
    assert "AAPL (10 x hold_no_bar)" in texts[0]
    assert "AMD" not in texts[0]


def test_a_ticker_for_which_the_decision_itself_finds_no_signal_is_told_too(tmp_path: Path) -> None:
    """Its bars are all there: what holds it back is found by the model, after the data were judged."""
    nothing_is_near = Novelty(quantile=0.5, limit=-1.0, mean=(0.0,) * 31, deviation=(1.0,) * 31)
    archived(tmp_path, novelty=nothing_is_near)
    bot = stand(tmp_path, 60)
    bot.run(minutes=some_minutes(60, MOST + 4))
    texts = [alert.text for alert in bot.alerts if alert.subject == "tickers are held back"]
    assert len(texts) == 1
    assert re.findall(r"(\w+) \(\d+ x hold_novel", texts[0]) == ["AAPL", "AMD", "TSLA"]
    bot.close()


def test_an_outage_is_told_once_when_it_has_lasted_for_minutes() -> None:
    outages = Outages()
    assert [outages.begin(at(n)) for n in range(10)] == [n == LASTS_MINUTES - 1 for n in range(10)]
    assert outages.end(at(11)) == ""
    assert "10 calls failed" in outages.end(at(10) + CALM)
    assert [outages.begin(at(n)) for n in (100, 105, 110, 115)] == [False] * 4, "one lost answer now and then"


def with_clock(bot: Stand, seconds: float) -> Loop:
    bot.loop.their_time = lambda: bot.clock.now() + timedelta(seconds=seconds)
    return bot.loop


@pytest.mark.parametrize(("off", "told", "opens"), [(1.0, 0, True), (20.0, 1, True), (-3600.0, 1, False)])
def test_a_clock_that_differs_from_the_broker_s_is_told_and_by_a_minute_opens_nothing(
    tmp_path: Path, off: float, told: int, opens: bool
) -> None:
    archived(tmp_path)
    bot = stand(tmp_path, first=110)
    with_clock(bot, off)
    bot.run(DAY, some_minutes(110, 8))
    assert [alert.subject for alert in bot.alerts] == ["the clock is wrong"] * told
    assert (bot.ledger.read_positions() != {}) is opens
    assert opens or set(bot.ledger.read_orders()["code"]) == {"barred"}
    bot.close()


@pytest.mark.hazard(69)
@pytest.mark.parametrize("by", [-HOUR, 0.5 * HOUR], ids=["an hour back", "half an hour ahead"])
def test_a_clock_that_is_put_within_a_session_is_told_at_once_and_not_with_the_next_hour(
    tmp_path: Path, by: timedelta
) -> None:
    """Put back, it would let an hour pass in which nothing is decided, and the close with it."""
    archived(tmp_path)
    bot = stand(tmp_path, first=110)
    minutes = some_minutes(110, 20)
    bot.loop.clock = clock = PutBack(bot.clock.now(), minutes[5], by)
    bot.loop.their_time = lambda: clock.now() - (by if clock.put else timedelta())
    bot.run(DAY, minutes)
    (alert,) = [alert for alert in bot.alerts if alert.subject == "the clock is wrong"]
    assert alert.at == minutes[5] + by
    assert f"{abs(by.total_seconds()):.0f} s {'ahead of' if by > timedelta() else 'behind'} the broker's" in alert.text
    assert [made.minute for made in bot.minutes] == minutes[:4], "session and minute have to be found anew"
    bot.run(DAY, minutes[4:6])
    codes = set(bot.ledger.read_orders().filter(pl.col("ts") >= minutes[4])["code"])
    wanted = {"barred"} if by < timedelta() else set()  # ahead, the bars are too old for any order
    assert codes - {""} == wanted, "nothing is opened after it"
    bot.close()


def test_a_clock_that_is_put_by_less_than_a_minute_ends_no_session(tmp_path: Path) -> None:
    archived(tmp_path)
    bot = stand(tmp_path, first=110)
    minutes = some_minutes(110, 8)
    bot.loop.clock = PutBack(bot.clock.now(), minutes[5], timedelta(seconds=-20))
    bot.run(DAY, minutes)
    assert [made.minute for made in bot.minutes] == minutes
    bot.close()


@pytest.mark.hazard(69)
def test_a_clock_that_is_put_while_the_broker_does_not_answer_is_told_with_its_first_answer(tmp_path: Path) -> None:
    """An outage and a clock that is put come together, as where a virtual machine goes on."""
    archived(tmp_path)
    bot = stand(tmp_path, first=110)
    minutes = some_minutes(110, 12)
    bot.loop.clock = clock = PutBack(bot.clock.now(), minutes[2], timedelta(seconds=-600))
    answers = iter([True, False, False])

    def their_time() -> datetime:
        if not next(answers, True):
            raise BrokerError("Connection reset.")
        return clock.now() + (timedelta(seconds=600) if clock.put else timedelta())

    bot.loop.their_time = their_time
    bot.run(DAY, minutes)
    assert bot.alerts == []
    bot.run(DAY, minutes[1:])
    assert [alert.subject for alert in bot.alerts] == ["the clock is wrong"]
    codes = set(bot.ledger.read_orders().filter(pl.col("ts") > minutes[2])["code"])
    assert codes == {"barred"}
    bot.close()


@pytest.mark.hazard(69)
def test_a_comparison_that_no_service_answers_leaves_a_wrong_clock_barred_and_is_made_again() -> None:
    watch, clock = ClockWatch(), SimulatedClock(datetime(2025, 6, 2, 14, tzinfo=UTC))
    assert watch.is_due(clock)
    assert watch.judge({"broker": -3600.0})
    clock.advance(3600)
    for _ in range(3):
        assert watch.is_due(clock)
        assert watch.judge({}) == ""
        assert watch.stops
        assert not watch.is_due(clock), "a plan has few calls"
        clock.advance(10)
    assert watch.is_due(clock)
    assert watch.judge({"broker": 0.0}) == ""
    assert not watch.stops
    clock.advance(3599)
    assert not watch.is_due(clock)


@pytest.mark.hazard(69)
def test_a_clock_that_stops_the_bot_is_compared_each_minute_until_it_is_right() -> None:
    """Slewed by NTP it is right some minutes later; of a guest that was paused an answer may have been misjudged."""
    watch, clock = ClockWatch(), SimulatedClock(datetime(2025, 6, 2, 14, tzinfo=UTC))
    assert watch.is_due(clock)
    assert watch.judge({"vendor": 61.0})
    clock.advance(59)
    assert not watch.is_due(clock)
    clock.advance(1)
    assert watch.is_due(clock)
    assert watch.judge({"vendor": 59.0}) == ""
    assert not watch.stops
    clock.advance(60)
    assert not watch.is_due(clock)


@pytest.mark.hazard(69)
def test_a_service_that_is_asked_in_the_background_is_looked_at_once_more_beside_one_that_answers() -> None:
    watch, clock = ClockWatch(), SimulatedClock(datetime(2025, 6, 2, 14, tzinfo=UTC))
    assert watch.is_due(clock)
    assert watch.judge({"broker": 0.0, "vendor": None}) == ""
    clock.advance(10)
    assert watch.is_due(clock), "its answer is there by now"
    assert "the vendor's" in watch.judge({"broker": 0.0, "vendor": 3600.0})
    clock.advance(60)
    for _ in range(2):
        assert watch.is_due(clock)
        assert watch.judge({"broker": 0.0, "vendor": None}) == ""
        assert watch.stops, "what it said last holds"
        clock.advance(10)
    assert not watch.is_due(clock), "one that stays silent is not asked without end"
    clock.advance(60)
    assert watch.is_due(clock)
    assert watch.judge({"broker": 0.0, "vendor": 1.0}) == ""
    assert not watch.stops


class InSteps(SimulatedClock):
    """Waits a second at most, as the machine's does."""

    def wait_until(self, moment: datetime) -> bool:
        super().wait_until(min(moment, self.now() + timedelta(seconds=1)))
        return self.now() >= moment


class TellsWhen(StoredFeed):
    """Notes when each minute's bars were asked for."""

    def minute(self, minute: datetime, now: datetime) -> Delivery:
        self.asked_at = [*getattr(self, "asked_at", []), now]
        return super().minute(minute, now)


@pytest.mark.hazard(69)
@pytest.mark.parametrize("waits", [SimulatedClock, InSteps])
def test_a_broker_that_hangs_when_it_is_asked_the_time_delays_no_minute(
    tmp_path: Path, waits: type[SimulatedClock]
) -> None:
    archived(tmp_path)
    feed = TellsWhen(bars_of(DAY), ("AAPL", "AMD", "TSLA"))
    bot = stand(tmp_path, first=110, feed=feed)
    bot.loop.clock = clock = waits(bot.clock.now())
    asked: list[datetime] = []

    def their_time() -> datetime:
        asked.append(clock.now())
        clock.advance(11)
        raise BrokerError("It did not answer within 11 s.")

    bot.loop.their_time = their_time
    minutes = some_minutes(110, 6)
    bot.run(DAY, minutes)
    assert feed.asked_at == [minute + MINUTE + bot.loop.grace for minute in minutes]
    assert len(asked) >= len(minutes)
    bot.close()


def test_the_clock_of_the_machine_knows_that_it_was_put(monkeypatch: pytest.MonkeyPatch) -> None:
    with contextlib.closing(SystemClock()) as clock:
        assert not clock.was_set()
        ours, by = time.time, [2.0]
        monkeypatch.setattr(time, "time", lambda: ours() + by[0])
        assert not clock.was_set(), "NTP may slew by as much"
        for by[0] in (4.0, -3600.0):
            assert clock.was_set()
            assert not clock.was_set()


class VendorsClock:
    """A feed whose service says that our clock is ahead."""

    def __init__(self, inner: object, ahead_s: float | None) -> None:
        self.inner, self.ahead_s, self.asked = inner, ahead_s, 0

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    def clock_ahead_s(self) -> float | None:
        self.asked += 1
        return self.ahead_s


@pytest.mark.parametrize(
    ("ahead", "told", "opens"), [(None, 0, True), (1.0, 0, True), (-20.0, 1, True), (3600.0, 1, False)]
)
def test_a_clock_that_differs_from_the_vendor_s_is_told_and_by_a_minute_opens_nothing(
    tmp_path: Path, ahead: float | None, told: int, opens: bool
) -> None:
    archived(tmp_path)
    bot = stand(tmp_path, first=110)
    feed = VendorsClock(bot.loop.feed, ahead)
    bot.loop.feed = feed  # type: ignore[assignment]
    bot.run(DAY, some_minutes(110, 65))
    each_minute = ahead is None or not opens  # until it answers, and while it stops the bot
    assert feed.asked == (1 + 65 if each_minute else 2), "at the start, and an hour later"
    assert [alert.subject for alert in bot.alerts] == ["the clock is wrong"] * told
    assert not told or "the vendor's" in bot.alerts[0].text
    assert (bot.ledger.read_fills().height > 0) is opens
    bot.close()


def test_a_share_dearer_than_a_ticker_s_part_of_the_capital_is_told_before_the_first_minute(tmp_path: Path) -> None:
    archived(tmp_path)
    bot = stand(tmp_path, first=110, sections={"trade": {"capital": 60.0}})
    bot.run(DAY, some_minutes(110, 3))
    (alert,) = [alert for alert in bot.alerts if alert.subject == "targets of less than one share"]
    assert "A ticker's share of the capital is 20.00 USD" in alert.text
    bot.close()


def test_a_ticker_that_is_left_out_is_named_and_the_others_keep_their_weight(tmp_path: Path) -> None:
    archived(tmp_path, threshold=0.0)
    others = bars_of(DAY).filter(pl.col("ticker") != "TSLA")
    feed = StoredFeed(others, ("AAPL", "AMD"), {"TSLA": "no bars since 2025-05-20"})
    bot = stand(tmp_path, first=110, feed=feed)
    bot.run(DAY, some_minutes(110, 8))
    bot.run(DAY, some_minutes(118, 8))  # again in the same session, as after a fault: it is told once
    (alert,) = [alert for alert in bot.alerts if "left out" in f"{alert.subject} {alert.text}"]
    assert "TSLA: no bars since 2025-05-20" in alert.text
    assert "1/3 of the capital" in alert.text
    in_use = bot.loop.bot.production.in_use
    assert in_use is not None
    targets = np.abs(bot.ledger.read_decisions()["target"].drop_nulls().to_numpy())
    assert 0.0 < targets.max() <= 1 / 3 + 1e-12
    signals = targets * 3 * in_use.model.meta.horizon_minutes  # how many of the horizon's minutes: a third over it each
    assert np.abs(signals - signals.round()).max() < 1e-9
    assert (signals.round() % 3 != 0).any(), "of halves of the capital there would be other numbers"
    bot.close()


def test_four_hundred_tickers_that_are_left_out_are_told_by_reason_with_the_first_few() -> None:
    told: list[tuple[str, str]] = []
    left_out = {"TSLA": "halted", **{f"T{number:03}": "no bars" for number in range(400)}}
    bars = bars_of(DAY)
    silence = Silence(tell=lambda subject, text: told.append((subject, text)), count_held=lambda minute: {})
    silence.note_left_out(Morning(earlier=bars, so_far=bars, tickers=("AAPL",), left_out=left_out))
    ((subject, text),) = told
    assert subject == "left out: T000, T001, T002, T003, T004 and 396 more"
    assert "T000, T001, T002, T003, T004 and 395 more: no bars; TSLA: halted. Each of the other 1 keeps" in text


def test_a_disk_on_which_the_reserve_has_no_room_is_told_before_the_first_order(tmp_path: Path) -> None:
    archived(tmp_path)
    (tmp_path / ".reserve" / "in the way").mkdir(parents=True)
    bot = stand(tmp_path, first=110)
    bot.loop.reserve = Reserve(tmp_path)
    bot.run(DAY, some_minutes(110, 1))
    assert ["free in" in alert.text for alert in bot.alerts] == [True]
    assert bot.alerts[0].at < bot.ledger.read_decisions()["decided_at"][0]
    bot.close()


def test_a_lock_that_cannot_be_had_is_one_sentence_with_the_folder(tmp_path: Path) -> None:
    places = Home.live(tmp_path)
    places.lock.mkdir()
    with (
        pytest.raises(StorageError, match=r"is a folder.*Move it away") as caught,
        hold_lock(places, "bot"),
    ):
        pass
    assert str(tmp_path) in str(caught.value)


# ---- a full disk -----------------------------------------------------------------------------------------------------


def full(ledger: Ledger, pages: int = 0) -> None:
    """Let the ledger's file not grow any more, as on a full disk; SQLite says the same then."""
    used = ledger._db.execute("PRAGMA page_count").fetchone()[0]
    ledger._db.execute(f"PRAGMA max_page_count = {used + pages}")


def stand_with_reserve(home: Path) -> tuple[Stand, StrictPaper]:
    """Return a bot, from minute 110 on, whose broker does not lie in the ledger, and that has a reserve on the disk."""
    archived(home)
    broker = StrictPaper(settings_of(home, strict_paper={"weather": "fair"}), folder=home, durable=False)
    bot = stand(home, first=110, broker=broker)
    bot.loop.reserve = Reserve(home)
    bot.loop.reconcile = lambda: reconcile(bot.ledger, broker, bot.clock.now()).agrees
    reconcile(bot.ledger, broker, bot.clock.now())
    return bot, broker


@pytest.mark.hazard(72)
def test_on_a_full_disk_everything_is_closed_by_the_broker_s_word_and_taken_over_when_there_is_room(
    tmp_path: Path,
) -> None:
    bot, broker = stand_with_reserve(tmp_path)
    bot.run(DAY, some_minutes(110, 8))
    assert (tmp_path / ".reserve").stat().st_size > 1e6
    assert broker.account_now.positions
    full(bot.ledger)
    bot.run(DAY, some_minutes(118, 90))
    assert broker.account_now.positions == {}
    assert not (tmp_path / ".reserve").exists(), "it was given up"
    assert [alert.subject for alert in bot.alerts] == ["trading is halted: disk_full"], "told once"
    bot.ledger._db.execute("PRAGMA max_page_count = 1000000000")
    bot.run(DAY, some_minutes(208, 4))
    assert [latch.name for latch in bot.ledger.read_latches()] == ["disk_full"]
    assert bot.ledger.read_positions() == {}
    assert bot.ledger.read_positions("foreign") == {}
    bot.close()


@pytest.mark.hazard(72)
def test_where_the_ledger_takes_nothing_the_bot_lives_and_closes_by_the_broker_s_word(
    tmp_path: Path,
) -> None:
    """As on a file system that was mounted read-only: a question of the minute that writes would end the bot here."""
    bot, broker = stand_with_reserve(tmp_path)
    feed, refused = bot.loop.feed.minute, {118: "ON", 138: "OFF"}
    closing: list[set[str]] = []

    def refuse(at: datetime, now: datetime) -> Delivery:
        if (minute := session_minutes().index(at)) in refused:
            closing.append({order.ticker for order in broker.open_orders() if order.client_order_id.endswith("-f")})
            bot.ledger._db.execute(f"PRAGMA query_only = {refused[minute]}")
        return feed(at, now)

    bot.loop.feed.minute = refuse  # type: ignore[method-assign,assignment]
    bot.run(DAY, some_minutes(110, 32))
    assert closing == [set(), {"AAPL", "AMD", "TSLA"}], "asked for; this broker fills as it is told bars"
    (halt,) = [alert for alert in bot.alerts if alert.kind is Kind.HALTED]
    assert halt.subject == "nothing can be written: everything is closed", "told once, and not again as it is latched"
    assert halt.text.endswith("Free some space; then `hftcl trade --clear` lets it trade again.")
    assert broker.account_now.positions == {}
    assert "disk_full" in {latch.name for latch in bot.ledger.read_latches()}
    bot.close()


def test_the_kill_switch_works_where_not_even_its_file_can_be_written(tmp_path: Path) -> None:
    archived(tmp_path)
    bot = stand(tmp_path, first=110)
    bot.run(DAY, some_minutes(110, 8))
    assert bot.broker is not None
    held = bot.broker.account().positions
    bot.close()
    (tmp_path / "trade.halt").mkdir()
    (tmp_path / "trade.halt" / "kept").touch()
    found = flatten(bot.settings, clock=bot.clock, reason="a test")
    assert (found.halted, found.orders) == (True, len(held))
