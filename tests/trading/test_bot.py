"""The bot decides once a minute, as the exam would, and follows its decisions with orders that risk allows."""

from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from hftcl.archive.artifact import Model, load
from hftcl.archive.registry import Registry
from hftcl.errors import OrderRefusedError
from hftcl.market.bars import BAR_SCHEMA
from hftcl.market.hours import Hours
from hftcl.model.features import FEATURE_NAMES, features
from hftcl.strategy.positions import compute_target_positions
from hftcl.strategy.risk import Code, Order
from hftcl.trading.brokers import OrderState
from hftcl.trading.brokers.paper import PaperBroker
from hftcl.trading.execute.orders import compute_desired_quantity
from hftcl.trading.execute.reconciliation import LATCH as UNEXPLAINED
from hftcl.trading.execute.reconciliation import reconcile
from hftcl.trading.feeds import Delivery, Morning
from hftcl.trading.feeds.replay import StoredFeed
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


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a home with a model that serves."""
    folder = tmp_path_factory.mktemp("trained")
    archived(folder)
    return folder


@pytest.fixture
def home(trained: Path, tmp_path: Path) -> Path:
    """Return a home of its own with the same model."""
    for path in ("trained_stock_model.onnx", "models"):
        (tmp_path / path).symlink_to(trained / path)
    return tmp_path


@pytest.fixture(scope="module")
def half_day(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Stand:
    """Return a bot that has traded a whole half day."""
    folder = tmp_path_factory.mktemp("half_day")
    for path in ("trained_stock_model.onnx", "models"):
        (folder / path).symlink_to(trained / path)
    bot = stand(folder, day=HALF_DAY)
    bot.run(HALF_DAY)
    return bot


def model_of(home: Path) -> Model:
    return load(Registry(home).production)


def as_examined(bars: pl.DataFrame, day: date, model: Model) -> pl.DataFrame:
    """Return prediction and target of each bar of `day`, computed over the whole session at once, as an exam does."""
    rows = pl.concat([bars, features(bars)], how="horizontal").filter(pl.col("session") == day)
    X = np.ascontiguousarray(rows.select(FEATURE_NAMES).to_numpy(), dtype=np.float32)
    known = np.isfinite(X).all(axis=1)
    found = np.full(len(X), np.nan, dtype=np.float32)
    found[known] = model.predict(X[known])
    rows = rows.with_columns(prediction=pl.Series(found, nan_to_null=True))
    targets = compute_target_positions(
        rows,
        threshold=model.meta.threshold,
        horizon_minutes=model.meta.horizon_minutes,
        weight=1 / 3,
        flat_minutes_before_close=model.meta.flat_minutes_before_close,
    )
    return rows.select("ticker", "ts", pl.col("prediction").cast(pl.Float64), target=targets["position"])


def decided(bot: Stand) -> pl.DataFrame:
    """Return what the ledger says of each bar there was."""
    return bot.ledger.read_decisions().drop_nulls("target").select("ticker", "ts", "prediction", "target")


def test_every_minute_s_decision_is_the_exam_s_to_the_bit(half_day: Stand) -> None:
    expected = as_examined(bars_of(HALF_DAY), HALF_DAY, model_of(half_day.home))
    assert_frame_equal(decided(half_day).sort("ticker", "ts"), expected.sort("ticker", "ts"), check_exact=True)
    assert (expected["target"] != 0).sum() > 100


def test_a_half_day_ends_flat_before_its_early_close(half_day: Stand) -> None:
    assert half_day.ledger.read_positions() == {}
    last = half_day.ledger.read_fills()["ts"].max()
    assert isinstance(last, datetime)
    assert last <= session_minutes(HALF_DAY)[-2], "flat two minutes before the close"
    assert half_day.alerts == []


def test_each_fill_is_at_the_open_of_a_later_bar_and_the_account_adds_up(half_day: Stand) -> None:
    fills = half_day.ledger.read_fills()
    assert fills.height > 20
    orders = half_day.ledger.read_orders().select("client_order_id", decided_on="ts")
    joined = fills.join(orders, on="client_order_id").join(bars_of(HALF_DAY), on=["ticker", "ts"])
    assert (joined["ts"] > joined["decided_on"]).all()
    paid = joined["open"] * (1 + joined["quantity"].sign() * 1e-4)  # half spread and slippage, half a basis point each
    assert np.allclose(joined["price"], paid, rtol=1e-12)
    left = 100_000 - float((fills["quantity"] * fills["price"]).sum())
    assert half_day.ledger.read_last_equity()["equity"][0] == pytest.approx(left, abs=1e-6)
    assert half_day.ledger.read_cash() == pytest.approx(left, abs=1e-6)


def test_the_ledger_says_which_model_decided_and_why(half_day: Stand) -> None:
    rows = half_day.ledger.read_decisions()
    model = model_of(half_day.home)
    assert rows["model_id"].unique().to_list() == [model.meta.model_id]
    assert rows["features_hash"].unique().to_list() == [model.meta.features_hash]
    assert rows.height == 3 * 210, "every ticker, every minute"
    assert set(rows["code"]) == {"trade", "hold_warmup", "hold_no_bar"}
    assert rows.filter(pl.col("code") == "hold_no_bar")["target"].is_null().all()
    assert rows.filter(pl.col("code") == "hold_warmup")["prediction"].is_null().all()
    assert (rows["decided_at"] >= rows["ts"] + timedelta(seconds=60)).all()
    closes = half_day.ledger.read_closes()
    assert closes["ticker"].to_list() == ["AAPL", "AMD", "TSLA"]


def test_a_bot_that_comes_late_holds_what_one_that_was_there_all_day_would(half_day: Stand, home: Path) -> None:
    late = stand(home, first=100, day=HALF_DAY)
    late.run(HALF_DAY, some_minutes(100, 12, HALF_DAY))
    span = some_minutes(100, 12, HALF_DAY)
    there = decided(half_day).filter(pl.col("ts").is_between(span[0], span[-1]))
    assert_frame_equal(decided(late), there, check_exact=True)


def test_nothing_is_traded_on_a_target_that_stays_as_prices_drift(half_day: Stand) -> None:
    """An exam holds a fraction of capital; the bot holds shares, and does not pay to true them up each minute."""
    targets = half_day.ledger.read_decisions().drop_nulls("target").sort("ticker", "ts")
    changed = targets.with_columns(moved=pl.col("target") != pl.col("target").shift(1).over("ticker"))
    orders = half_day.ledger.read_orders().join(changed, on=["ticker", "ts"])
    assert orders.filter(pl.col("moved")).height / orders.height > 0.97


class Wire(StoredFeed):
    """Stored bars, of which some minutes are delivered otherwise."""

    def __init__(self, bars: pl.DataFrame) -> None:
        super().__init__(bars, ("AAPL", "AMD", "TSLA"))
        self.changes: dict[datetime, Delivery] = {}

    def begin(self, hours: Hours, now: datetime) -> Morning:
        self.morning = super().begin(hours, now)
        return self.morning

    def minute(self, minute: datetime, now: datetime) -> Delivery:
        """Deliver the stored minute, or what stands in for it."""
        stored = super().minute(minute, now)
        return self.changes.get(minute, stored)


def at(bot: Stand, minute: datetime) -> dict[str, str]:
    rows = bot.ledger.read_decisions(first=minute, last=minute)
    return dict(zip(rows["ticker"], rows["code"], strict=True))


@pytest.mark.parametrize(("factor", "code"), [(1.01, "trade"), (1.3, "hold_revised")], ids=["near", "far"])
def test_a_correction_is_used_from_the_next_minute_on_and_holds_its_ticker_where_the_price_was_far_off(
    home: Path, factor: float, code: str
) -> None:
    minutes = some_minutes(60, 8)
    bars = bars_of(DAY)
    wrong = bars.filter((pl.col("ts") == minutes[2]) & (pl.col("ticker") == "AMD"))
    right = wrong.with_columns(close=pl.col("close") * factor, high=pl.col("high") * factor * 1.01)
    feed = Wire(bars)
    current = bars.filter(pl.col("ts") == minutes[4])
    feed.changes[minutes[4]] = Delivery(minute=minutes[4], bars=current, corrected=right)
    bot = stand(home, first=60, feed=feed)
    bot.run(DAY, minutes)
    assert at(bot, minutes[4]) == {"AAPL": "trade", "AMD": code, "TSLA": "trade"}
    assert at(bot, minutes[5])["AMD"] == "trade"
    if code == "hold_revised":
        assert bot.ledger.read_orders(first=minutes[4], last=minutes[4]).filter(pl.col("ticker") == "AMD").is_empty()
    corrected = pl.concat([bars.join(right, on=["ticker", "ts"], how="anti"), right])
    expected = as_examined(corrected, DAY, model_of(home)).filter(pl.col("ts") == minutes[5]).sort("ticker")
    assert_frame_equal(decided(bot).filter(pl.col("ts") == minutes[5]).sort("ticker"), expected, check_exact=True)


class MinuteLate(StoredFeed):
    """Brings each bar a minute late, as a correction."""

    late: pl.DataFrame | None = None

    def minute(self, minute: datetime, now: datetime) -> Delivery:
        """Deliver the bars of the minute before."""
        found = super().minute(minute, now).bars
        late, self.late = self.late, found
        return Delivery(minute=minute, bars=found.clear(), corrected=late)


def test_bars_that_come_late_are_prices_all_the_same(home: Path) -> None:
    """Else the account would stand still, and the daily loss limit with it."""
    bot = stand(home, first=110)
    bot.run(DAY, some_minutes(110, 10))
    assert bot.ledger.read_positions() != {}
    bot.close()
    later = stand(home, first=120, feed=MinuteLate(bars_of(DAY), ("AAPL", "AMD", "TSLA")))
    later.run(DAY, some_minutes(120, 6))
    closes = bars_of(DAY).filter(pl.col("ts") == some_minutes(124, 1)[0]).select("ticker", "close").rows()
    account, row = later.ledger.read_account(), later.ledger.read_last_equity()
    worth = sum(account.positions.get(ticker, 0.0) * close for ticker, close in closes)
    assert row["equity"][0] == pytest.approx(row["cash"][0] + worth, abs=1e-6)
    later.controls.halt = True
    later.run(DAY, some_minutes(126, 6))
    assert later.ledger.read_positions() == {}, "paper fills in bars that come late, as a market would have"


def test_a_price_ten_times_off_is_held_back_and_never_becomes_the_price_to_compare_with(home: Path) -> None:
    minutes = some_minutes(60, 6)
    bars = bars_of(DAY)
    figures = [pl.col(name) * 10 for name in ("open", "high", "low", "close")]
    off = bars.with_columns(
        pl.when((pl.col("ts") == minutes[2]) & (pl.col("ticker") == "TSLA")).then(figure).otherwise(figure / 10)
        for figure in figures
    ).select(BAR_SCHEMA.names())
    bot = stand(home, first=60, bars=off)
    bot.run(DAY, minutes)
    assert at(bot, minutes[2])["TSLA"] == "hold_bad_price"
    assert [at(bot, minute)["TSLA"] for minute in minutes[3:]] == ["trade"] * 3
    equity = bot.ledger.read_equity().filter(pl.col("ts") == minutes[2])["equity"][0]
    assert abs(equity / 100_000 - 1) < 0.01, "nothing is valued at the wrong price"


def test_a_jump_that_the_next_bar_confirms_costs_one_minute(home: Path) -> None:
    minutes = some_minutes(60, 5)
    factor = pl.when((pl.col("ts") >= minutes[2]) & (pl.col("ticker") == "TSLA")).then(1.3).otherwise(1.0)
    jumped = bars_of(DAY).with_columns(pl.col("open", "high", "low", "close") * factor)
    bot = stand(home, first=60, bars=jumped)
    bot.run(DAY, minutes)
    assert [at(bot, minute)["TSLA"] for minute in minutes] == ["trade", "trade", "hold_bad_price", "trade", "trade"]


def test_two_missing_tickers_are_held_and_the_third_is_traded(home: Path) -> None:
    minutes = some_minutes(60, 6)
    gone = bars_of(DAY).filter((pl.col("ts") < minutes[1]) | (pl.col("ticker") == "AAPL"))
    bot = stand(home, first=60, bars=gone)
    bot.run(DAY, minutes)
    assert [at(bot, minute)["AMD"] for minute in minutes] == [
        "trade",
        "hold_no_bar",
        "hold_no_bar",
        "hold_stale",
        "hold_stale",
        "hold_stale",
    ]
    assert {at(bot, minute)["AAPL"] for minute in minutes} == {"trade"}
    late = bot.ledger.read_orders(first=minutes[1]).filter(pl.col("state") != "refused")
    assert set(late["ticker"]) <= {"AAPL"}


@pytest.mark.parametrize("code", [Code.HOLD_DELAYED, Code.HOLD_BAD_PRICE, Code.HOLD_NO_BAR])
def test_where_the_data_are_not_to_be_trusted_a_changed_target_sends_no_order(home: Path, code: Code) -> None:
    minutes = some_minutes(112, 8)
    feed = Wire(bars_of(DAY))
    for minute in minutes[2:5]:
        bars = bars_of(DAY).filter(pl.col("ts") == minute)
        feed.changes[minute] = Delivery(minute=minute, bars=bars, codes=dict.fromkeys(("AAPL", "AMD", "TSLA"), code))
    bot = stand(home, first=112, feed=feed)
    bot.run(DAY, minutes)
    moved = decided(bot).sort("ts").group_by("ticker").agg(pl.col("target").diff().abs().sum())
    assert (moved["target"] > 0).any()
    assert bot.ledger.read_orders(first=minutes[2], last=minutes[4]).is_empty()
    assert bot.ledger.read_orders(first=minutes[5]).height > 0
    assert set(bot.ledger.read_decisions(first=minutes[2], last=minutes[4])["code"]) == {str(code)}


def test_what_a_paper_broker_owed_while_nobody_was_there_fills_at_the_bar_it_was_due(home: Path) -> None:
    minutes = some_minutes(112, 8)
    bot = stand(home, first=112)
    bot.run(DAY, minutes[:2])
    waiting = bot.ledger.read_working_orders()
    assert waiting
    bot.close()
    later = stand(home, first=117)
    later.run(DAY, minutes[5:6])
    fills = later.ledger.read_fills().filter(
        pl.col("client_order_id").is_in([order.client_order_id for order in waiting])
    )
    assert minutes[2] in set(fills["ts"]), "the bar after the last that was decided on"


def test_what_a_stop_noted_as_the_close_is_none_while_the_session_goes_on(home: Path) -> None:
    """Else a power cut later in the day would leave what was bought after the stop settled at the stop's price."""
    first = stand(home, first=110)
    first.run(DAY, some_minutes(110, 8))
    noted = first.ledger.read_closes()
    assert noted.height == 3, "a stop says what its session was worth"
    first.close()
    second = stand(home, first=120)
    seen: list[int] = []
    second.loop.on_minute = lambda _: seen.append(second.ledger.read_closes().height)
    second.run(DAY, some_minutes(120, 8))
    assert seen == [0] * 8
    after = second.ledger.read_closes()
    assert after["open"].equals(noted["open"]), "the first opens of the day, as before"
    assert (after["ts"] > noted["ts"]).all()


class OneSided(PaperBroker):
    """A broker that, as Alpaca, sells no more than is held, and buys back no more than is short."""

    turns = False

    def submit(self, order: Order) -> OrderState:
        """Take what stays on its side."""
        held = self.account().positions.get(order.ticker, 0.0)
        if held * order.quantity < 0 and abs(order.quantity) > abs(held):
            raise OrderRefusedError(order.client_order_id, "insufficient qty available for order")
        return super().submit(order)


def test_a_broker_that_turns_no_position_is_asked_to_close_it_first(home: Path) -> None:
    broker = OneSided(settings_of(home), folder=home, durable=False)
    bot = stand(home, broker=broker)
    bot.run(DAY)
    assert set(bot.ledger.read_orders()["state"]) <= {"filled", "canceled"}, "none was rejected"
    held = bot.ledger.read_fills().with_columns(pl.col("quantity").cum_sum().over("ticker").alias("held"))
    assert held.filter(pl.col("held") > 0).height > 20
    assert held.filter(pl.col("held") < 0).height > 20, "it was on both sides"


def test_what_is_on_its_way_is_taken_back_before_anything_goes_the_other_way(home: Path) -> None:
    """A thin market fills little: the rest of an opening order is canceled when everything is to be closed."""
    rules: dict[str, dict[str, object]] = {"paper": {"max_volume_share": 0.01}}
    bot = stand(home, first=112, sections=rules)
    bot.run(DAY, some_minutes(112, 3))
    opening = bot.ledger.read_working_orders()
    assert any(order.state == "partially_filled" for order in opening)
    bot.controls.halt = True
    bot.run(DAY, some_minutes(115, 1))
    states = [bot.ledger.order(order.client_order_id).state for order in opening]  # type: ignore[union-attr]
    assert set(states) == {"canceled"}
    sides: dict[str, set[bool]] = {}
    for order in bot.ledger.read_working_orders():
        sides.setdefault(order.ticker, set()).add(order.quantity > 0)
    assert sides
    assert all(len(each) == 1 for each in sides.values())


def test_while_ledger_and_broker_disagree_nothing_is_opened_and_what_differs_is_left_alone(home: Path) -> None:
    """What is held of it is not known: a closing order might open the other side. What agrees can be closed."""
    bot = stand(home, first=112)
    bot.run(DAY, some_minutes(112, 3))
    assert bot.ledger.read_positions() != {}
    differs, *agrees = sorted(bot.ledger.read_positions())
    assert agrees
    assert isinstance(bot.broker, PaperBroker)
    bot.broker._account.add(differs, 5.0, 100.0, 0.0)  # shares that came into the account without a trade
    bot.loop.bot.agreed = False
    bot.ledger.latch(UNEXPLAINED, f"5 shares of {differs} too many at the broker", bot.clock.now())
    bot.run(DAY, some_minutes(115, 4))
    codes = bot.ledger.read_decisions(first=some_minutes(115, 1)[0])["code"]
    assert set(codes) == {"hold_halted"}
    orders = bot.ledger.read_orders(first=some_minutes(115, 1)[0])
    assert set(orders["ticker"]) == set(agrees), "nothing of what differs is sent, not even to close it"
    assert list(bot.ledger.read_positions()) == [differs]


def test_what_became_of_orders_while_ledger_and_broker_disagreed_is_known_to_the_next_minute(home: Path) -> None:
    """Else an order that ended meanwhile would count as on its way, and what is missing would never be sent."""
    rules: dict[str, dict[str, object]] = {"paper": {"max_volume_share": 0.01}}
    bot = stand(home, first=112, sections=rules)
    bot.run(DAY, some_minutes(112, 3))
    last = some_minutes(114, 1)[0]  # older ones are asked for by their ids, whatever happened
    waiting = [order for order in bot.ledger.read_working_orders() if order.ts == last]
    assert waiting
    broker = bot.broker
    assert broker is not None
    for order in waiting:
        broker.cancel(order.client_order_id)
    bot.loop.bot.agreed = False
    bot.loop.reconcile = lambda: reconcile(bot.ledger, broker, bot.clock.now()).agrees
    bot.run(DAY, some_minutes(115, 1))
    targets = dict(decided(bot).filter(pl.col("ts") == bot.minutes[-1].minute).select("ticker", "target").iter_rows())
    working = bot.ledger.read_working_orders()
    for order in waiting:
        sent = [each for each in working if each.ticker == order.ticker]
        wanted = compute_desired_quantity(
            targets[order.ticker],
            capital=bot.loop.bot.production.desk.capital,
            price=sent[-1].reference_price,
            fractional=False,
        )
        left = sum(each.quantity - bot.ledger.sum_filled(each.client_order_id) for each in sent)
        assert bot.ledger.read_positions()[order.ticker] + left == wanted
