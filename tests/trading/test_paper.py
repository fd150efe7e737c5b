"""The paper broker: when and at what price an order fills, what it refuses, and that its state outlives it."""

import contextlib
import math
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from hftcl.errors import IntegrityError, OrderRefusedError, StorageError
from hftcl.exam.simulation import simulate
from hftcl.settings import Settings
from hftcl.strategy.positions import compute_target_positions
from hftcl.trading.brokers import find_broker
from hftcl.trading.brokers.paper import PaperBroker
from hftcl.trading.execute.orders import compute_desired_quantity, compute_order_quantity
from tests.trading.trading_cases import NOW, SESSION, an_order, at, bars, with_paper

FREE: dict[str, Any] = {"half_spread_bps": 0.0, "slippage_bps": 0.0}


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[PaperBroker]:
    opened = PaperBroker(Settings(), folder=tmp_path)
    yield opened
    opened.close()


def opened(folder: Path, **rules: Any) -> PaperBroker:
    return PaperBroker(with_paper(**rules), folder=folder, durable=False)


def test_it_is_found_by_its_name(tmp_path: Path) -> None:
    broker = find_broker("paper")(Settings(), folder=tmp_path)
    assert (broker.name, broker.live_money) == ("paper", False)
    broker.close()


def test_an_order_fills_at_the_next_bars_open_and_pays_half_the_spread_and_slippage(broker: PaperBroker) -> None:
    broker.submit(an_order(0, "AAPL", 10.0))
    broker.submit(an_order(0, "AMD", -10.0))
    broker.on_bars(bars((0, "AAPL", 99.0), (0, "AMD", 199.0)), NOW)
    assert broker.fills(None) == ((), "0")  # the bar that was decided on is over
    broker.on_bars(bars((1, "AAPL", 100.0), (1, "AMD", 200.0)), NOW)
    (bought, sold), _ = broker.fills(None)
    assert (bought.quantity, bought.price, bought.ts) == (10.0, 100.0 * 1.0001, at(1))
    assert (sold.quantity, sold.price) == (-10.0, 200.0 * 0.9999)
    account = broker.account()
    assert account.positions == {"AAPL": 10.0, "AMD": -10.0}
    assert account.cash == pytest.approx(100_000 - 10 * 100.01 + 10 * 199.98)
    assert account.equity == pytest.approx(account.cash + 10 * 100 - 10 * 200)  # marked at the closes
    state = broker.find(an_order(0).client_order_id)
    assert state is not None
    assert (state.status, state.filled) == ("filled", 10.0)


def test_commission_is_taken_by_the_share_and_by_value(tmp_path: Path) -> None:
    broker = opened(tmp_path, commission_per_share=0.01, commission_bps=10.0, **FREE)
    broker.submit(an_order(0, quantity=-10.0))
    broker.on_bars(bars((1, "AAPL", 100.0)), NOW)
    assert broker.fills(None)[0][0].commission == pytest.approx(10 * 0.01 + 1000 * 0.001)
    assert broker.account().cash == pytest.approx(100_000 + 1000 - 1.1)
    broker.close()


@pytest.mark.hazard(52)
def test_a_large_order_fills_by_its_share_of_each_bars_volume(tmp_path: Path) -> None:
    broker = opened(tmp_path, max_volume_share=0.1, **FREE)
    broker.submit(an_order(0, quantity=10.0))
    broker.on_bars(bars((1, "AAPL", 100.0), volume=45.0), NOW)
    state = broker.find(an_order(0).client_order_id)
    assert state is not None
    assert (state.status, state.filled) == ("partially_filled", 4.0)  # whole shares of an order of whole shares
    broker.on_bars(bars((1, "AAPL", 100.0), volume=45.0), NOW)  # told twice: the bar's volume is used up
    broker.on_bars(bars((2, "AAPL", 101.0), volume=9.0), NOW)  # its share is not even one
    broker.on_bars(bars((3, "AAPL", 102.0), volume=1000.0), NOW)
    fills, cursor = broker.fills(None)
    assert [(fill.quantity, fill.ts) for fill in fills] == [(4.0, at(1)), (6.0, at(3))]
    assert len({fill.fill_id for fill in fills}) == 2
    assert broker.fills(cursor) == ((), cursor)
    assert broker.fills("1")[0] == fills[1:]
    broker.close()


def test_the_fills_of_the_last_bars_are_told_as_the_file_has_them(tmp_path: Path) -> None:
    """They are told from memory: to read back what was just written costs a minute of 500 orders 2 ms."""
    broker, cursor = opened(tmp_path, max_volume_share=0.1), "0"
    for minute in range(4):
        broker.submit(an_order(minute, quantity=-10.0 * (-1) ** minute))
        broker.submit(an_order(minute, "AMD"))
        broker.on_bars(bars((minute + 1, "AAPL", 100.0), (minute + 1, "AMD", 50.0 + minute), volume=85.0), NOW)
        if minute == 2:
            broker.split("AMD", 2.0, at(3))
        fills, after = broker.fills(cursor)
        with contextlib.closing(opened(tmp_path, max_volume_share=0.1)) as other:
            assert (fills, after) == other.fills(cursor)
            assert broker.fills(None) == other.fills(None)
        assert len(fills) > 1
        cursor = after
    broker.on_bars(bars((9, "TSLA", 100.0)), NOW)
    assert broker.fills(cursor) == ((), cursor)
    broker.close()


def test_an_order_of_an_earlier_bar_is_still_known_when_later_ones_came(tmp_path: Path) -> None:
    broker = opened(tmp_path)
    for minute in (0, 2, 1):
        assert broker.submit(an_order(minute)).status == "open"
    broker.close()
    again = opened(tmp_path)
    again.on_bars(bars((3, "AAPL", 100.0)), NOW)
    for minute in (0, 1, 2):
        assert again.submit(an_order(minute)).status == "filled"
    assert len(again.fills(None)[0]) == 3
    again.close()


def test_an_id_that_is_known_of_an_earlier_bar_is_the_order_that_it_was(tmp_path: Path) -> None:
    """The bot's ids belong to one bar each; another program's may not."""
    with contextlib.closing(opened(tmp_path)) as broker:
        broker.submit(an_order(0))
        broker.on_bars(bars((1, "AAPL", 100.0)), NOW)
        broker.submit(an_order(2, "AMD"))
        with pytest.raises(OrderRefusedError) as refused:
            broker.submit(an_order(2, "TSLA", 1e9))
        for name, status in (("AAPL", "filled"), ("AMD", "open")):
            known = an_order(0 if name == "AAPL" else 2, name).client_order_id
            assert broker.submit(an_order(5, name, client_order_id=known)).status == status
        with pytest.raises(OrderRefusedError) as again:
            broker.submit(an_order(5, "TSLA", client_order_id=an_order(2, "TSLA").client_order_id))
        assert str(again.value) == str(refused.value)
        with broker.together():
            broker.submit(an_order(6, client_order_id=an_order(0).client_order_id))
            broker.submit(an_order(6, "AMD"))
        with contextlib.closing(opened(tmp_path)) as other:
            assert broker.open_orders() == other.open_orders()
            assert [one.ticker for one in other.open_orders()] == ["AMD", "AMD"]
        broker.on_bars(bars((7, "AAPL", 100.0), (7, "AMD", 100.0)), NOW)
        assert broker.account().positions == {"AAPL": 10.0, "AMD": 20.0}


def test_two_orders_share_the_volume_of_a_bar_the_older_one_first(tmp_path: Path) -> None:
    broker = opened(tmp_path, max_volume_share=0.5, **FREE)
    broker.submit(an_order(0, quantity=0.75))
    broker.submit(an_order(0, quantity=0.75, client_order_id="second"))
    broker.on_bars(bars((1, "AAPL", 100.0), volume=2.0), NOW)
    assert [fill.quantity for fill in broker.fills(None)[0]] == [0.75, 0.25]
    broker.close()


def test_a_ticker_without_bars_keeps_its_order_open_until_the_session_ends(broker: PaperBroker) -> None:
    broker.submit(an_order(0))
    broker.submit(an_order(0, "AMD"))
    broker.on_bars(bars((1, "AMD", 100.0)), NOW)
    assert [state.client_order_id for state in broker.open_orders()] == [an_order(0).client_order_id]
    broker.end_of_session(SESSION)
    assert broker.open_orders() == ()
    state = broker.find(an_order(0).client_order_id)
    assert state is not None
    assert (state.status, state.reason) == ("canceled", "the session ended")
    broker.on_bars(bars((2, "AAPL", 100.0)), NOW)
    assert len(broker.fills(None)[0]) == 1


def test_an_order_of_yesterday_does_not_fill_today(broker: PaperBroker) -> None:
    broker.submit(an_order(389))
    broker.on_bars(bars((0, "AMD", 100.0), days=1), NOW)  # the bot was down at the close: nobody said that it ended
    broker.on_bars(bars((1, "AAPL", 100.0), days=1), NOW)
    state = broker.find(an_order(389).client_order_id)
    assert state is not None
    assert state.status == "canceled"
    assert broker.fills(None)[0] == ()


def test_bars_of_many_minutes_at_once_fill_as_they_would_have_one_by_one(broker: PaperBroker) -> None:
    broker.submit(an_order(0))
    broker.on_bars(bars((3, "AAPL", 103.0), (1, "AAPL", 101.0), (2, "AAPL", 102.0)), NOW)
    assert [fill.ts for fill in broker.fills(None)[0]] == [at(1)]
    assert broker.account().equity == pytest.approx(100_000 + 10 * (103.0 - 101.0 * 1.0001))


@pytest.mark.hazard(50)
def test_an_order_handed_over_twice_is_one_order(broker: PaperBroker) -> None:
    first = broker.submit(an_order(0))
    assert broker.submit(an_order(0, quantity=500.0)) == first
    broker.on_bars(bars((1, "AAPL", 100.0)), NOW)
    again = broker.submit(an_order(0))
    assert (again.status, again.filled) == ("filled", 10.0)
    broker.on_bars(bars((2, "AAPL", 100.0)), NOW)
    assert broker.account().positions == {"AAPL": 10.0}


@pytest.mark.hazard(56)
@pytest.mark.parametrize("quantity", [math.nan, math.inf, -math.inf, 0.0])
def test_what_is_no_quantity_is_refused(broker: PaperBroker, quantity: float) -> None:
    with pytest.raises(OrderRefusedError, match="no order"):
        broker.submit(an_order(0, quantity=quantity))
    with pytest.raises(OrderRefusedError, match="no order"):
        broker.submit(an_order(0, reference_price=math.nan))
    assert broker.open_orders() == ()


def test_what_is_not_held_is_not_sold_where_shorting_is_off(tmp_path: Path) -> None:
    broker = opened(tmp_path, shorting=False)
    assert not broker.shorting
    with pytest.raises(OrderRefusedError, match="shorting is off"):
        broker.submit(an_order(0, quantity=-1.0))
    broker.submit(an_order(1, quantity=10.0))
    broker.on_bars(bars((2, "AAPL", 100.0)), NOW)
    broker.submit(an_order(3, quantity=-10.0))
    with pytest.raises(OrderRefusedError, match="shorting is off"):
        broker.submit(an_order(4, quantity=-1.0))  # the ten are on their way out
    state = broker.find(an_order(4).client_order_id)
    assert state is not None
    assert state.status == "rejected"
    with pytest.raises(OrderRefusedError, match="shorting is off"):
        broker.submit(an_order(4, quantity=-1.0))
    broker.close()


def test_buying_power_counts_positions_open_orders_and_gains(tmp_path: Path) -> None:
    broker = opened(tmp_path, cash=10_000.0, leverage=2.0, **FREE)
    assert broker.account().buying_power == 20_000.0
    broker.submit(an_order(0, quantity=150.0))
    assert broker.account().buying_power == 5_000.0
    with pytest.raises(OrderRefusedError, match=r"6,000\.00 USD of buying power, and 5,000\.00"):
        broker.submit(an_order(0, "AMD", -60.0))
    broker.on_bars(bars((1, "AAPL", 100.0), close=110.0), NOW)
    assert broker.account().buying_power == pytest.approx(2 * 11_500 - 150 * 110)
    broker.submit(an_order(2, quantity=-150.0))  # closing takes no buying power
    broker.on_bars(bars((3, "AAPL", 110.0)), NOW)
    assert broker.account().buying_power == pytest.approx(2 * 11_500)
    broker.close()


def test_what_is_canceled_fills_no_more(broker: PaperBroker) -> None:
    broker.submit(an_order(0))
    broker.cancel(an_order(0).client_order_id)
    broker.cancel(an_order(0).client_order_id)
    broker.cancel("never sent")
    broker.on_bars(bars((1, "AAPL", 100.0)), NOW)
    assert broker.fills(None)[0] == ()
    assert broker.account().buying_power == 200_000.0


def test_its_state_is_in_its_file(tmp_path: Path) -> None:
    first = opened(tmp_path, max_volume_share=0.1, cash=50_000.0)
    first.submit(an_order(0, quantity=10.0))
    first.submit(an_order(0, "AMD", -5.0))
    first.on_bars(bars((1, "AAPL", 100.0), volume=40.0), NOW)
    told = (first.account(), first.open_orders(), first.fills(None))
    second = opened(tmp_path, max_volume_share=0.1, cash=99.0)  # never closed: as after a kill. Its cash is spent
    assert (second.account(), second.open_orders(), second.fills(None)) == told
    second.on_bars(bars((1, "AAPL", 100.0), volume=40.0), NOW)
    second.on_bars(bars((2, "AAPL", 100.0), (2, "AMD", 100.0), volume=1e6), NOW)
    assert [fill.quantity for fill in second.fills(None)[0]] == [4.0, 6.0, -5.0]
    assert second.open_orders() == ()
    first.close()
    second.close()


def test_where_the_disk_is_full_the_account_stays_what_the_file_is(tmp_path: Path) -> None:
    broker = opened(tmp_path)
    for minute in range(60):
        broker.submit(an_order(minute, quantity=1.0))
    before = (broker.account(), broker.open_orders())
    pages = broker._db.execute("PRAGMA page_count").fetchone()[0]
    broker._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageError, match="space"):
        broker.on_bars(bars((100, "AAPL", 100.0)), NOW)
    assert (broker.account(), broker.open_orders()) == before
    broker._db.execute("PRAGMA max_page_count = 100000")
    broker.on_bars(bars((100, "AAPL", 100.0)), NOW)
    assert broker.account().positions == {"AAPL": 60.0}
    broker.close()


def test_orders_that_are_handed_over_together_are_in_the_file_together_or_not_at_all(tmp_path: Path) -> None:
    broker = opened(tmp_path, cash=1500.0, leverage=1.0)
    small, large = an_order(0, quantity=10.0), an_order(0, "AMD", 1000.0)
    for ends_well in (False, True):
        with pytest.raises(KeyboardInterrupt) if not ends_well else contextlib.nullcontext(), broker.together():
            assert broker.submit(small).status == "open"
            with pytest.raises(OrderRefusedError, match="buying power"):
                broker.submit(large)
            assert [broker.find(order.client_order_id).status for order in (small, large)] == ["open", "rejected"]  # type: ignore[union-attr]
            with pytest.raises(OrderRefusedError, match="buying power"):
                broker.submit(large)
            with contextlib.closing(opened(tmp_path)) as other:
                assert other.find(small.client_order_id) is None, "nothing is written before the end"
            if not ends_well:
                raise KeyboardInterrupt
        with contextlib.closing(opened(tmp_path)) as other:
            for seen in (broker, other):
                found = [seen.find(order.client_order_id) for order in (small, large)]
                assert [state and state.status for state in found] == (
                    ["open", "rejected"] if ends_well else [None, None]
                )
    broker.on_bars(bars((1, "AAPL", 100.0)), NOW)
    assert broker.account().positions == {"AAPL": 10.0}
    broker.close()


def test_orders_that_are_canceled_together_are_canceled_in_the_file_together_or_not_at_all(tmp_path: Path) -> None:
    broker = opened(tmp_path, max_volume_share=1.0)
    names = [order.client_order_id for order in (an_order(0, quantity=10.0), an_order(0, "AMD", 10.0))]
    broker.submit(an_order(0, quantity=10.0))
    broker.submit(an_order(0, "AMD", 10.0))
    broker.on_bars(bars((1, "AAPL", 100.0), volume=4.0), NOW)

    def tell(seen: PaperBroker) -> list[tuple[str, float, str]]:
        return [(state.status, state.filled, state.reason) for name in names if (state := seen.find(name))]

    works, why = [("partially_filled", 4.0, ""), ("open", 0.0, "")], "canceled on request"
    canceled = [("canceled", 4.0, why), ("canceled", 0.0, why)]
    for ends_well in (False, True):
        with pytest.raises(KeyboardInterrupt) if not ends_well else contextlib.nullcontext(), broker.together():
            for name in names:
                broker.cancel(name)
            assert (tell(broker), broker.open_orders()) == (canceled, ())
            with contextlib.closing(opened(tmp_path)) as other:
                assert tell(other) == works, "nothing is written before the end"
            assert broker.submit(an_order(0, quantity=10.0)).status == "canceled", "it is known, and ended"
            if not ends_well:
                raise KeyboardInterrupt
        with contextlib.closing(opened(tmp_path)) as other:
            assert tell(broker) == tell(other) == (canceled if ends_well else works)
    broker.close()


def test_what_a_block_that_failed_would_have_canceled_no_later_block_cancels(tmp_path: Path) -> None:
    with contextlib.closing(opened(tmp_path)) as broker:
        broker.submit(an_order(0))

        def fail() -> None:
            with broker.together():
                broker.cancel(an_order(0).client_order_id)
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fail()
        with broker.together():
            pass
        with broker.together():
            broker.submit(an_order(1, "AMD"))
        with contextlib.closing(opened(tmp_path)) as other:
            assert broker.open_orders() == other.open_orders()
            assert [state.ticker for state in other.open_orders()] == ["AAPL", "AMD"]


def test_where_the_orders_of_a_block_find_no_room_its_cancellations_are_not_written_either(tmp_path: Path) -> None:
    with contextlib.closing(opened(tmp_path, leverage=1000.0)) as broker:
        broker.submit(an_order(0))
        pages = broker._db.execute("PRAGMA page_count").fetchone()[0]
        broker._db.execute(f"PRAGMA max_page_count = {pages}")

        def fill() -> None:
            with broker.together():
                broker.cancel(an_order(0).client_order_id)
                for minute in range(1, 200):
                    broker.submit(an_order(minute, quantity=1.0))

        with pytest.raises(StorageError, match="space"):
            fill()
        with contextlib.closing(opened(tmp_path)) as other:
            for seen in (broker, other):
                assert [(state.client_order_id, state.status) for state in seen.open_orders()] == [
                    (an_order(0).client_order_id, "open")
                ]


def test_an_order_of_an_older_bar_makes_no_later_one_forgotten(tmp_path: Path) -> None:
    with contextlib.closing(opened(tmp_path)) as broker:
        broker.submit(an_order(2))
        broker.on_bars(bars((3, "AAPL", 100.0)), NOW)
        broker.submit(an_order(1, "AMD"))
        with broker.together():
            assert broker.submit(an_order(2)).status == "filled"
            assert broker.submit(an_order(1, "AMD")).status == "open"
        assert len(broker.open_orders()) == 1


def test_a_file_that_is_not_its_own_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "paper.sqlite").write_bytes(b"something else entirely, of some length" * 100)
    with pytest.raises(IntegrityError, match=r"paper\.sqlite"):
        opened(tmp_path)


def a_market(minutes: int = 120) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the bars of two tickers, whose prices wander, and predictions that come and go."""
    chance = np.random.default_rng(11)
    frames = []
    for ticker in ("AAPL", "AMD"):
        opens = 100.0 * np.exp(np.cumsum(chance.normal(0, 5e-4, minutes)))
        closes = opens * np.exp(chance.normal(0, 4e-4, minutes))
        rows = bars(*((minute, ticker, float(price)) for minute, price in enumerate(opens)))
        frames.append(rows.with_columns(close=pl.Series(closes), session_minutes=pl.lit(minutes, pl.Int32)))
    market = pl.concat(frames)
    predictions = market.select("ticker", "ts", "session", "minute", "session_minutes").with_columns(
        prediction=pl.Series(chance.normal(0, 1, market.height))
    )
    return market, predictions


def test_with_parts_of_shares_it_earns_what_the_exam_says_that_these_holdings_earn(tmp_path: Path) -> None:
    market, predictions = a_market()
    targets = compute_target_positions(
        predictions, threshold=1.0, horizon_minutes=30, weight=0.5, flat_minutes_before_close=2
    )
    capital, held = 100_000.0, []
    broker = opened(tmp_path, half_spread_bps=0.6, slippage_bps=0.4, max_volume_share=1.0)
    decided: dict[str, float] = {}
    for (_,), minute in market.sort("ts").group_by("ts", maintain_order=True):
        broker.on_bars(minute, NOW)
        positions = broker.account().positions
        for ticker, ts, price, close in minute.select("ticker", "ts", "open", "close").rows():
            held.append((ticker, ts - timedelta(minutes=1), positions.get(ticker, 0.0) * price / capital))
            (target,) = targets.filter(ticker=ticker, ts=ts)["position"]
            quantity = compute_order_quantity(
                compute_desired_quantity(target, capital=capital, price=close, fractional=True),
                position=positions.get(ticker, 0.0),
                working=0.0,
                price=close,
                fractional=True,
                unchanged=decided.get(ticker) == target,
            )
            decided[ticker] = target
            if quantity:
                broker.submit(
                    an_order(0, ticker, quantity, ts=ts, client_order_id=f"{ticker} {ts}", reference_price=close)
                )
    assert broker.account().positions == {}
    earned = broker.account().equity - capital
    fills = broker.fills(None)[0]
    cost = math.fsum(
        abs(fill.quantity) * fill.price / (1 + math.copysign(1e-4, fill.quantity)) * 1e-4 for fill in fills
    )
    held_on = pl.DataFrame(held, schema=targets.schema, orient="row")
    last = market.group_by("ticker").agg(pl.col("ts").max()).with_columns(position=pl.lit(0.0))
    really = simulate(market, pl.concat([held_on, last.select(targets.columns)]), cost_bps=0.0)
    assert earned + cost == pytest.approx(capital * really.gross[0], abs=1e-9 * capital)

    # The exam itself sizes at the price of the fill and holds that value, not those shares: close, never equal.
    exam = simulate(market, targets, cost_bps=1.0)
    assert exam.turnover[0] > 2
    assert earned / capital == pytest.approx(exam.net[0], abs=1e-6)
    assert cost / capital == pytest.approx(exam.cost[0], rel=0.02)
    broker.close()
