"""Hazards 49 to 58: what will go wrong while the bot trades, and what must happen then."""

import os
import random
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from hftcl.alerts import Kind
from hftcl.archive.registry import Registry
from hftcl.errors import BrokerTimeoutError
from hftcl.market.bars import MINUTE
from hftcl.strategy.risk import Order
from hftcl.trading.brokers import Account, OrderState
from hftcl.trading.brokers.paper import PaperBroker
from hftcl.trading.feeds import Delivery
from hftcl.trading.feeds.replay import StoredFeed
from tests.hazards.bot_crashes import lives, strict, uninterrupted
from tests.installed import PATIENCE_S
from tests.trading.bot_stand import (
    DAY,
    HALF_DAY,
    Stand,
    archived,
    bars_of,
    session_minutes,
    settings_of,
    some_minutes,
    stand,
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    archived(tmp_path)
    return tmp_path


def sent(bot: Stand, first: datetime, last: datetime | None = None) -> pl.DataFrame:
    """Return the orders of bars from `first` on that reached the broker."""
    return bot.ledger.read_orders(first=first, last=last).filter(pl.col("state") != "refused")


# ---- 49 stale bars ---------------------------------------------------------------------------------------------------


class Late(StoredFeed):
    """Delivers so late that the clock has moved on: a machine that slept, a feed that hung."""

    def __init__(self, bars: pl.DataFrame, bot: list[Stand], when: datetime, seconds: float) -> None:
        super().__init__(bars, ("AAPL", "AMD", "TSLA"))
        self._bot, self._when, self._seconds = bot, when, seconds

    def minute(self, minute: datetime, now: datetime) -> Delivery:
        """Deliver; at one minute after a long while."""
        if minute == self._when:
            self._bot[0].clock.advance(self._seconds)
        return super().minute(minute, now)


@pytest.mark.hazard(49)
@pytest.mark.parametrize(("late_s", "code"), [(60, "trade"), (119, "trade"), (125, "hold_stale"), (3600, "hold_stale")])
def test_no_order_is_sent_on_data_older_than_two_bars_and_the_grace(home: Path, late_s: float, code: str) -> None:
    minutes = some_minutes(112, 4)
    made: list[Stand] = []
    bot = stand(home, first=112, feed=Late(bars_of(DAY), made, minutes[2], late_s))
    made.append(bot)
    bot.run(DAY, minutes)
    rows = bot.ledger.read_decisions(first=minutes[2], last=minutes[2])
    assert set(rows["code"]) == {code}
    if code == "hold_stale":
        assert sent(bot, minutes[2], minutes[2]).is_empty()
        assert rows["prediction"].is_not_null().all(), "it is known what would have been decided"


@pytest.mark.hazard(49)
def test_a_feed_that_repeats_yesterday_is_silence(home: Path) -> None:
    minutes = some_minutes(90, 6)
    quiet = bars_of(DAY).filter(pl.col("ts") < minutes[2])
    bot = stand(home, first=90, bars=quiet)
    bot.run(DAY, minutes)
    codes = bot.ledger.read_decisions(first=minutes[2])["code"].to_list()
    assert codes == ["hold_no_bar"] * 6 + ["hold_stale"] * 6
    assert sent(bot, minutes[2]).is_empty()


@pytest.mark.hazard(49)
def test_a_feed_that_finds_nothing_and_no_fault_is_told_once(home: Path) -> None:
    minutes = some_minutes(90, 20)
    hole = pl.col("ts").is_between(minutes[2], minutes[12], closed="left")
    bot = stand(home, first=90, bars=bars_of(DAY).filter(~hole))
    bot.run(DAY, minutes)
    assert [(alert.kind, alert.at - minutes[7]) for alert in bot.alerts] == [(Kind.DATA_HOLE, timedelta(seconds=3))]
    assert "No ticker has had a bar for 5 minutes" in bot.alerts[0].text
    assert [event.kind for event in bot.ledger.read_events()].count("data") == 1


@pytest.mark.hazard(53)
def test_a_ticker_that_is_held_and_halted_is_told_once_and_again_after_it_has_traded(home: Path) -> None:
    minutes = some_minutes(110, 60)
    first = stand(home, first=110)
    first.run(DAY, minutes[:10])
    held = next(iter(first.ledger.read_positions()))
    first.close()
    halted = pl.col("ts").is_between(minutes[10], minutes[30], closed="left")
    again = pl.col("ts") > minutes[30]
    bars = bars_of(DAY).filter((pl.col("ticker") != held) | ~(halted | again))
    bot = stand(home, first=120, bars=bars)
    bot.run(DAY, minutes[10:])
    told = [(alert.subject, round((alert.at - minutes[9]) / MINUTE) - 1) for alert in bot.alerts]
    expected = f"no bars of {held}, which is held"
    assert told == [(expected, 15), (expected, 36)]
    holds = bot.ledger.read_decisions(first=minutes[13], last=minutes[29]).filter(pl.col("ticker") == held)
    assert set(holds["code"]) == {"hold_stale"}


# ---- 50 restarts, 52 fills -------------------------------------------------------------------------------------------


@pytest.mark.hazard(50)
@pytest.mark.hazard(52)
def test_a_bot_that_dies_anywhere_sends_nothing_twice_and_loses_no_fill(home: Path, tmp_path: Path) -> None:
    found = lives(home, seed=1, first=110, last=115, mean_calls=14)
    assert found.deaths >= 5
    assert (found.unlike, found.beyond) == ([], [])
    assert found.most_orders_of_a_minute == 1
    alone = tmp_path / "alone"
    alone.mkdir()
    archived(alone)
    expected = uninterrupted(alone, 110, 115)
    with_deaths = stand(home, first=116).ledger.read_positions()
    assert with_deaths.keys() == expected.keys()
    for ticker, shares in expected.items():
        assert abs(with_deaths[ticker] - shares) <= max(2.0, 0.05 * abs(shares)), (with_deaths, expected)


@pytest.mark.hazard(50)
@pytest.mark.hazard(52)
def test_a_bot_that_dies_at_a_broker_in_a_storm_sends_nothing_twice_and_loses_no_fill(home: Path) -> None:
    found = lives(home, seed=6, first=110, last=115, mean_calls=20, broker_of=strict)
    assert found.deaths >= 5
    assert (found.unlike, found.beyond, found.most_orders_of_a_minute) == ([], [], 1)


@pytest.mark.slow
@pytest.mark.hazard(50)
@pytest.mark.hazard(52)
def test_two_hundred_deaths_at_a_broker_in_a_storm(tmp_path: Path) -> None:
    deaths, seed = 0, 0
    while deaths < 200:
        home, seed = tmp_path / str(seed), seed + 1
        home.mkdir()
        archived(home)
        found = lives(home, seed=seed, first=60, last=389, mean_calls=60, broker_of=strict)
        assert (found.unlike, found.beyond, found.most_orders_of_a_minute) == ([], [], 1), seed
        deaths += found.deaths


@pytest.mark.slow
@pytest.mark.hazard(50)
@pytest.mark.parametrize("part", range(10))
def test_ten_thousand_deaths_send_nothing_twice_and_break_no_limit(tmp_path: Path, part: int) -> None:
    deaths, calls = 0, set[str]()
    for seed in range(1000 * part, 1000 * part + 1000):
        home = tmp_path / str(seed)
        home.mkdir()
        archived(home)
        found = lives(home, seed=seed, first=40, last=386, mean_calls=12)
        assert (found.unlike, found.beyond) == ([], []), seed
        assert found.most_orders_of_a_minute == 1, seed
        deaths += found.deaths
        calls |= set(found.calls)
        if deaths >= 1000:
            break
    assert deaths >= 1000
    assert {"before submit", "after submit", "before decide", "after decide", "before settle", "after settle"} <= calls


@pytest.mark.hazard(56)
def test_orders_of_before_a_restart_count_within_their_minute(home: Path) -> None:
    rules: dict[str, Any] = {"risk": {"max_orders_per_minute": 1}}
    minutes = some_minutes(112, 2)
    made: list[Stand] = []
    bot = stand(home, first=112, feed=Late(bars_of(DAY), made, minutes[0], 40), sections=rules)
    made.append(bot)
    bot.run(DAY, minutes[:1])
    assert sent(bot, minutes[0]).height == 1
    bot.close()
    again = stand(home, first=113, sections=rules)  # its minute ends 20 seconds after that order
    again.run(DAY, minutes[1:])
    assert sent(again, minutes[1]).is_empty()
    assert "rate" in set(again.ledger.read_orders(first=minutes[1])["code"])


def killed_at(home: Path, places: Sequence[int], last: int) -> int:
    """Run the bot as a process over the minutes from 60 to `last`, and kill it in the midst of each of `places`."""
    command = [sys.executable, "-m", "tests.hazards.bot_crashes", str(home), "60", str(last)]
    deaths = 0
    for place in [*places, None]:
        target = None if place is None else session_minutes()[place].isoformat()
        bot = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env={**os.environ})
        assert bot.stdout is not None
        for line in bot.stdout:
            assert "unexplained" not in line
            if target is not None and line.strip() >= target and line[:2] == "20":
                bot.kill()
                deaths += 1
                break
        bot.stdout.close()
        assert bot.wait(timeout=PATIENCE_S) == (0 if place is None else -9)
    return deaths


@pytest.mark.hazard(50)
def test_kill_9_leaves_a_ledger_that_agrees_with_the_broker(home: Path) -> None:
    assert killed_at(home, [75], 84) == 1
    found = lives(home, seed=0, first=85, last=85, mean_calls=10_000)
    assert (found.unlike, found.beyond, found.most_orders_of_a_minute) == ([], [], 1)


@pytest.mark.slow
@pytest.mark.hazard(50)
def test_kill_9_a_dozen_times_in_a_session(home: Path) -> None:
    places = sorted(random.Random(7).sample(range(62, 380), 12))  # noqa: S311 - reproducible, not secret
    assert killed_at(home, places, 386) == 12
    found = lives(home, seed=0, first=387, last=389, mean_calls=10_000)
    assert (found.unlike, found.beyond, found.most_orders_of_a_minute) == ([], [], 1)
    assert stand(home, first=389).ledger.read_positions() == {}


# ---- 51 time-outs ----------------------------------------------------------------------------------------------------


class Forgetful(PaperBroker):
    """A broker whose answers get lost: before the order arrives, or after."""

    def __init__(self, home: Path, *, arrives: bool, answers: int) -> None:
        super().__init__(settings_of(home), folder=home, durable=False)
        self.arrives, self.answers = arrives, answers
        self.heard: list[str] = []

    def submit(self, order: Order) -> OrderState:
        """Take it or not, and do not answer the first time."""
        self.heard.append(order.client_order_id)
        if self.heard.count(order.client_order_id) > self.answers:
            return super().submit(order)
        if self.arrives:
            super().submit(order)
        raise BrokerTimeoutError(f"No answer to {order.client_order_id}.")


@pytest.mark.hazard(51)
@pytest.mark.parametrize("arrives", [True, False])
@pytest.mark.parametrize("answers", [1, 2])
def test_an_order_without_an_answer_is_asked_for_by_its_id_and_never_sent_under_another(
    home: Path, arrives: bool, answers: int
) -> None:
    broker = Forgetful(home, arrives=arrives, answers=answers)
    bot = stand(home, first=110, broker=broker)
    bot.run(DAY, some_minutes(110, 8))
    orders = bot.ledger.read_orders().filter(pl.col("state") != "refused")
    ids = orders.filter(pl.col("code") != "no_answer")["client_order_id"]
    assert set(broker.heard) == set(ids), "after an order without an answer no other is opened in its minute"
    assert all(broker.heard.count(name) == 2 for name in ids)
    assert bot.ledger.read_positions() == broker.account().positions
    states = set(bot.ledger.read_orders()["state"])
    assert states <= {"filled", "submitted", "intended", "canceled"}
    if arrives:
        assert "filled" in states
    elif answers == 2:
        assert bot.ledger.read_orders()["reason"].str.contains("does not know it").any()
    noted = [event.text for event in bot.ledger.read_events() if "No answer to" in event.text]
    assert bool(noted) == (answers == 2), "one lost answer is mended, two are noted"
    assert len(bot.alerts) <= 1, "and told once, where it goes on for minutes"


# ---- 53 the hours ----------------------------------------------------------------------------------------------------


@pytest.mark.hazard(53)
def test_a_half_day_is_flat_before_its_close_and_sends_nothing_after_it(home: Path) -> None:
    bot = stand(home, first=180, day=HALF_DAY)
    bot.run(HALF_DAY, session_minutes(HALF_DAY)[180:])
    assert bot.ledger.read_fills().height > 0
    assert bot.ledger.read_positions() == {}
    assert bot.ledger.read_orders()["ts"].max() <= session_minutes(HALF_DAY)[-2]  # type: ignore[operator]


class Slow(StoredFeed):
    """Takes a minute and a half for each minute from some moment on."""

    def __init__(self, bars: pl.DataFrame, bot: list[Stand], since: datetime) -> None:
        super().__init__(bars, ("AAPL", "AMD", "TSLA"))
        self._bot, self._since = bot, since

    def minute(self, minute: datetime, now: datetime) -> Delivery:
        """Deliver at length."""
        if minute >= self._since:
            self._bot[0].clock.advance(90)
        return super().minute(minute, now)


@pytest.mark.hazard(53)
def test_a_bot_that_lags_behind_is_flat_before_the_close_all_the_same(home: Path) -> None:
    minutes, made = session_minutes(HALF_DAY), list[Stand]()
    bot = stand(home, first=150, day=HALF_DAY, feed=Slow(bars_of(HALF_DAY), made, minutes[180]))
    made.append(bot)
    bot.run(HALF_DAY, minutes[150:])
    assert bot.ledger.read_fills(last=minutes[180])["quantity"].sum() != 0, "there was something to close"
    assert bot.ledger.read_positions() == {}


@pytest.mark.hazard(53)
def test_a_market_that_falls_silent_is_left_with_a_closing_order_and_an_alert(home: Path) -> None:
    minutes = session_minutes(HALF_DAY)
    silent = bars_of(HALF_DAY).filter(pl.col("ts") < minutes[130])
    bot = stand(home, first=120, day=HALF_DAY, bars=silent)
    bot.run(HALF_DAY, minutes[120:])
    assert bot.ledger.read_positions() != {}, "nothing traded, so nothing could be closed"
    closing = sent(bot, minutes[207])
    assert set(closing["ticker"]) == set(bot.ledger.read_positions())
    assert set(closing["state"]) == {"canceled"}, "the order was for the day"
    assert [alert.subject for alert in bot.alerts] == ["no bars of any ticker", "positions are held overnight"]


# ---- 55 warm-up ------------------------------------------------------------------------------------------------------


@pytest.mark.hazard(55)
def test_features_that_are_not_known_hold_with_a_code_and_no_prediction(home: Path) -> None:
    bot = stand(home, first=0)
    bot.run(DAY, some_minutes(0, 32))
    rows = bot.ledger.read_decisions()
    assert set(rows.filter(pl.col("ts") < session_minutes()[29])["code"]) <= {"hold_warmup", "hold_no_bar"}
    warming = rows.filter(pl.col("code") == "hold_warmup")
    assert warming["prediction"].is_null().all()
    assert (warming["target"] == 0).all()
    assert sent(bot, session_minutes()[0], session_minutes()[29]).is_empty()


# ---- 57 latches ------------------------------------------------------------------------------------------------------


@pytest.mark.hazard(57)
def test_the_daily_loss_limit_closes_everything_and_stays_latched_until_a_person_clears_it(home: Path) -> None:
    jump = pl.when(pl.col("ts") >= session_minutes()[125]).then(1.07).otherwise(1.0)
    rising = bars_of(DAY).with_columns(pl.col("open", "high", "low", "close") * jump)  # the book is short by then
    rules: dict[str, Any] = {"risk": {"max_daily_loss": 0.005}}
    bot = stand(home, first=115, bars=rising, sections=rules)
    bot.run(DAY, some_minutes(115, 14))
    assert [latch.name for latch in bot.ledger.read_latches()] == ["daily_loss"]
    assert bot.ledger.read_positions() == {}
    assert [alert.kind for alert in bot.alerts] == [Kind.HALTED]
    closing = sent(bot, some_minutes(125, 1)[0])
    assert closing["client_order_id"].str.ends_with("-f").all()
    bot.close()
    again = stand(home, first=129, bars=rising, sections=rules)
    again.run(DAY, some_minutes(129, 3))
    assert set(again.ledger.read_decisions(first=some_minutes(129, 1)[0])["code"]) == {"hold_halted"}
    assert sent(again, some_minutes(129, 1)[0]).is_empty()
    assert again.ledger.clear("daily_loss", "a person", again.clock.now())
    again.run(DAY, some_minutes(132, 1))
    assert [latch.name for latch in again.ledger.read_latches()] == ["daily_loss"], (
        "the session's loss is still beyond it"
    )


@pytest.mark.hazard(57)
def test_a_cleared_kill_switch_lets_the_bot_trade_again(home: Path) -> None:
    bot = stand(home, first=115)
    bot.run(DAY, some_minutes(115, 3))
    bot.controls.halt = True
    bot.run(DAY, some_minutes(118, 6))
    assert bot.ledger.read_positions() == {}
    assert bot.ledger.clear("kill_switch", "a person", bot.clock.now())
    bot.run(DAY, some_minutes(124, 3))
    assert "trade" in set(bot.ledger.read_decisions(first=some_minutes(124, 1)[0])["code"])
    assert bot.ledger.read_positions() != {}


# ---- 58 the model ----------------------------------------------------------------------------------------------------


@pytest.mark.hazard(58)
def test_without_a_model_every_decision_is_a_hold_and_a_person_is_told(home: Path) -> None:
    Registry(home).production.unlink()
    bot = stand(home, first=60)
    bot.run(DAY, some_minutes(60, 2))
    rows = bot.ledger.read_decisions()
    assert set(rows["code"]) == {"hold_no_model"}
    assert rows["model_id"].is_null().all()
    assert rows["target"].is_null().all()
    assert Kind.RELOAD_REFUSED in [alert.kind for alert in bot.alerts]
    assert Kind.HALTED in [alert.kind for alert in bot.alerts]


@pytest.mark.hazard(58)
def test_a_model_that_disappears_while_it_serves_goes_on_serving(home: Path) -> None:
    bot = stand(home, first=60)
    bot.run(DAY, some_minutes(60, 2))
    Registry(home).production.unlink()
    bot.controls.look = True
    bot.run(DAY, some_minutes(62, 2))
    assert "hold_no_model" not in set(bot.ledger.read_decisions()["code"])
    assert Kind.RELOAD_REFUSED in [alert.kind for alert in bot.alerts]


# ---- a broker that is down -------------------------------------------------------------------------------------------


class Down(PaperBroker):
    """A broker that does not answer what its account holds."""

    def account(self) -> Account:
        """Fail, once the bot has begun."""
        if self.fills(None)[0]:
            raise BrokerTimeoutError("The broker does not answer.")
        return super().account()


@pytest.mark.hazard(56)
def test_what_the_account_can_carry_is_not_guessed(home: Path) -> None:
    """Where the buying power is not known, only orders that reduce a position pass."""
    broker = Down(settings_of(home), folder=home, durable=False)
    bot = stand(home, first=112, broker=broker)
    bot.run(DAY, some_minutes(112, 12))
    refused = bot.ledger.read_orders().filter(pl.col("state") == "refused")
    assert refused.height > 0
    assert set(refused["code"]) == {"buying_power"}
    assert bot.alerts[0].kind is Kind.ERROR
    first = bot.ledger.read_fills()["ts"].min()
    assert isinstance(first, datetime)
    before = bot.ledger.read_orders(last=first).filter(pl.col("ts") < first)["client_order_id"].implode()
    later = bot.ledger.read_fills().filter(~pl.col("client_order_id").is_in(before))
    held = dict(
        bot.ledger.read_fills()
        .filter(pl.col("client_order_id").is_in(before))
        .group_by("ticker")
        .agg("quantity")
        .iter_rows()
    )
    for ticker, quantity in later.select("ticker", "quantity").iter_rows():
        assert quantity * sum(held[ticker]) < 0, "what was held has only become less"
