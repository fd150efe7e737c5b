"""The promises of what a bot trades with: `check_feed` and `check_broker`."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import polars as pl

from hftcl.contracts.broker_traits import SHARES, check_traits
from hftcl.contracts.findings import Findings
from hftcl.errors import OrderRefusedError
from hftcl.market.bars import BAR_SCHEMA, MINUTE
from hftcl.market.columns import extend_schema
from hftcl.market.hours import Hours
from hftcl.strategy.risk import Code
from hftcl.trading.brokers import OFFERED as BROKER_OFFERED
from hftcl.trading.brokers import Account, Broker, Fill, Order, OrderState, TakesTogether
from hftcl.trading.feeds import Delivery, Feed, Morning, VendorClock


def check_feed(
    feed: Feed, hours: Hours, minutes: Sequence[datetime], at: Callable[[datetime], datetime]
) -> tuple[str, ...]:
    """Return the promises that `feed` breaks in the session `hours`, which it should have bars of.

    minutes: some that follow each other in regular hours, each with bars of at least one ticker. at: lets time pass
    until the bars of a minute have been sent, and returns the time that it is then, UTC.

    >>> from datetime import date
    >>> from hftcl.market.bars import label
    >>> from hftcl.market.hours import find_hours
    >>> from hftcl.market.sessions import Calendar
    >>> from hftcl.market.sources.synthetic import SyntheticSource
    >>> from hftcl.settings import Settings
    >>> from hftcl.trading.feeds.replay import StoredFeed
    >>> calendar, day = Calendar("XNYS"), date(2025, 6, 4)
    >>> bars = label(SyntheticSource(Settings()).minutes("AAPL", day, day), calendar.list_sessions(day, day))
    >>> hours = find_hours(calendar, day, extended_hours=False)
    >>> feed = StoredFeed(bars.filter(pl.col("regular")), ("AAPL",))
    >>> check_feed(feed, hours, hours.list_minutes(hours.opens)[:3], lambda minute: minute + MINUTE)
    ()
    """
    promises = Findings()
    if promises.check_calls(feed, Feed, (VendorClock,)):
        with promises.hear(feed):
            _check_feed(promises, feed, hours, minutes, at)
    return tuple(promises.broken)


def _check_feed(
    promises: Findings, feed: Feed, hours: Hours, minutes: Sequence[datetime], at: Callable[[datetime], datetime]
) -> None:
    promises.check(bool(feed.name), "it has a name")
    promises.check_section(feed)
    began = minutes[0]
    morning = feed.begin(hours, began)
    schema = extend_schema(BAR_SCHEMA, getattr(feed, "columns", ()))
    _knows_the_morning(promises, morning, hours, began, schema)
    seen: set[tuple[str, datetime]] = set()
    for minute in minutes:
        now = at(minute)
        for again in (False, True):
            delivery = feed.minute(minute, now)
            _delivers(promises, delivery, morning, hours, now)
            promises.check(
                delivery.bars.schema == schema, "minute() gives bars as BAR_SCHEMA, then the feed's `columns`"
            )
            promises.check(delivery.minute == minute, "minute() tells of the minute that it was asked for")
            found = set(delivery.bars.select("ticker", "ts").iter_rows())
            promises.check(not (found & seen), "minute() hands a bar of its minute over once")
            promises.check(again or bool(found), "minute() has bars once they were sent")
            seen |= found
    problem = feed.problem()
    promises.check(isinstance(problem, str) and "\n" not in problem, "problem() is one line, empty where all is well")
    if isinstance(feed, VendorClock):
        ahead_s = feed.clock_ahead_s()
        promises.check(ahead_s is None or math.isfinite(ahead_s), "clock_ahead_s() is a number of seconds, or None")
    feed.close()
    feed.close()  # a bot that ends in the middle of its end


def _knows_the_morning(promises: Findings, morning: Morning, hours: Hours, now: datetime, schema: pl.Schema) -> None:
    for name, bars in (("earlier", morning.earlier), ("so_far", morning.so_far)):
        promises.check(bars.schema == schema, f"begin() gives {name} as BAR_SCHEMA, then the feed's `columns`")
    promises.check(
        bool((morning.earlier["session"] < hours.session).all()), "begin() gives earlier sessions as earlier"
    )
    promises.check(
        bool(((morning.so_far["session"] == hours.session) & (morning.so_far["ts"] + MINUTE <= now)).all()),
        "begin() gives of the session what has ended, and nothing that is to come",
    )
    tickers = morning.tickers
    promises.check(
        bool(tickers) and len(set(tickers)) == len(tickers) and not set(tickers) & set(morning.left_out),
        "begin() names tickers, each once, and none that is left out",
    )


def _delivers(promises: Findings, delivery: Delivery, morning: Morning, hours: Hours, now: datetime) -> None:
    bars, corrected = delivery.bars, delivery.corrected
    promises.check(
        bool((bars["ts"] == delivery.minute).all()) and not bars["ticker"].is_duplicated().any(),
        "minute() gives bars of that minute, of each ticker at most one",
    )
    told = pl.concat([bars, corrected]) if corrected is not None else bars
    promises.check(set(told["ticker"]) <= set(morning.tickers), "minute() gives only tickers that begin() named")
    promises.check(
        bool(((told["ts"] + MINUTE <= now) & (told["ts"] >= hours.begins)).all()),
        "minute() gives no minute that has not ended, and none before the session",
    )
    promises.check(
        corrected is None or bool((corrected["ts"] < delivery.minute).all()), "minute() corrects earlier minutes only"
    )
    promises.check(
        all(isinstance(code, Code) for code in delivery.codes.values()), "minute() gives codes of hftcl.strategy.risk"
    )


def check_broker(broker: Broker, order: Order, trade: Callable[[], None]) -> tuple[str, ...]:
    """Return the promises that `broker` breaks; it trades, so let it be a simulated account.

    order: one to buy, that the account can pay for, in a ticker without a position or open order; its id and ids that
        begin with it must be new; where the broker has `shorting`, as many whole shares are sold short too. trade: lets
        time pass until whatever is open has filled.

    >>> from datetime import date
    >>> from pathlib import Path
    >>> from hftcl.market.bars import label
    >>> from hftcl.market.sessions import Calendar
    >>> from hftcl.market.sources.synthetic import SyntheticSource
    >>> from hftcl.settings import Settings
    >>> from hftcl.trading.brokers.paper import PaperBroker
    >>> day = date(2025, 6, 4)
    >>> bars = label(SyntheticSource(Settings()).minutes("AAPL", day, day), Calendar("XNYS").list_sessions(day, day))
    >>> first, *later = bars.filter(pl.col("regular")).partition_by("ts")
    >>> order = Order(client_order_id="trial", ticker="AAPL", quantity=10.0, ts=first["ts"][0],
    ...               reference_price=first["close"][0], session=day)
    >>> broker, minutes = PaperBroker(Settings(), folder=Path(), durable=False), iter(later)
    >>> check_broker(broker, order, lambda: broker.on_bars(next(minutes), order.ts))
    ()
    >>> broker.close()
    """
    promises = Findings()
    if promises.check_calls(broker, Broker, BROKER_OFFERED):
        with promises.hear(broker):
            _check_broker(promises, broker, order, trade)
    return tuple(promises.broken)


def _check_broker(promises: Findings, broker: Broker, order: Order, trade: Callable[[], None]) -> None:
    before = _check_account(promises, broker)
    _, cursor = broker.fills(None)
    promises.check(broker.find(order.client_order_id) is None, "find() of an id that was never sent is None")
    _check_submit(promises, broker, order)
    trade()
    _check_fills(promises, broker, order, cursor)
    after = _count_shares(broker, order.ticker) - before.positions.get(order.ticker, 0.0)
    promises.check(abs(after - order.quantity) <= SHARES, "account() holds what filled")
    _check_cancel(promises, broker, replace(order, client_order_id=f"{order.client_order_id}-c"), trade)
    _check_together(promises, broker, order, trade)
    _check_refusals(promises, broker, order)
    broker.submit(replace(order, client_order_id=f"{order.client_order_id}-s", quantity=-order.quantity))
    trade()
    promises.check(
        abs(_count_shares(broker, order.ticker) - before.positions.get(order.ticker, 0.0)) <= SHARES,
        "selling what was bought leaves the position as it was",
    )
    check_traits(promises, broker, order, trade)
    broker.end_of_session(order.session)


def _check_account(promises: Findings, broker: Broker) -> Account:
    """Check what the broker says of itself and of its account; return the account."""
    promises.check(
        bool(broker.name) and isinstance(broker.live_money, bool), "it has a name, and says if it is for real"
    )
    promises.check(
        all(isinstance(said, bool) for said in (broker.shorting, broker.turns, broker.extended_hours)),
        "it says whether what is not held may be sold, an order may turn a position, and extended hours are filled",
    )
    promises.check_section(broker)
    account = broker.account()
    promises.check(
        all(math.isfinite(value) for value in (account.cash, account.equity, account.buying_power)),
        "account() is in finite numbers",
    )
    return account


def _check_refusals(promises: Findings, broker: Broker, order: Order) -> None:
    for n, quantity in enumerate((math.nan, math.inf, 0.0)):
        nonsense = replace(order, client_order_id=f"{order.client_order_id}-n{n}", quantity=quantity)
        promises.check_refusal(
            lambda nonsense=nonsense: broker.submit(nonsense),  # type: ignore[misc]
            OrderRefusedError,
            f"submit() refuses {quantity} shares with OrderRefusedError",
        )


def _check_submit(promises: Findings, broker: Broker, order: Order) -> None:
    name = order.client_order_id
    state = broker.submit(order)
    promises.check(state.client_order_id == name, "submit() answers with the id of the order")
    promises.check(_is_same(broker.find(name), state), "find() tells of the order that was submitted")
    promises.check(
        _is_same(broker.submit(order), state), "submit() of an id that is known answers with the known order"
    )
    ids = [other.client_order_id for other in broker.open_orders()]
    promises.check(not state.working or ids.count(name) == 1, "open_orders() has an order that may still fill, once")


def _check_fills(promises: Findings, broker: Broker, order: Order, cursor: str) -> None:
    name = order.client_order_id
    state = broker.find(name)
    promises.check(state is not None and state.status == "filled", "an order that traded is filled")
    news, newer = broker.fills(cursor)
    fills = {fill.fill_id: fill for fill in news if fill.client_order_id == name}
    promises.check(all(_is_sound(fill, order) for fill in fills.values()), "fills() have the order's ticker and side")
    filled = math.fsum(fill.quantity for fill in fills.values())
    promises.check(abs(filled - order.quantity) <= SHARES, "the fills of an order add up to its quantity")
    promises.check(
        state is not None and abs(state.filled - filled) <= SHARES, "the fills of an order add up to what find() tells"
    )
    again, _ = broker.fills(newer)
    promises.check(
        {fill.fill_id for fill in again} <= {fill.fill_id for fill in news}, "no fill comes again by another id"
    )
    promises.check(
        broker.submit(order).status == "filled" and len(broker.fills(cursor)[0]) == len(news),
        "submit() of an order that has filled does not trade again",
    )


def _is_sound(fill: Fill, order: Order) -> bool:
    return (
        fill.ticker == order.ticker
        and fill.quantity * order.quantity > 0
        and math.isfinite(fill.price)
        and fill.price > 0
        and fill.commission >= 0
        and fill.ts.utcoffset() == fill.at.utcoffset() == timedelta(0)
    )


def _check_cancel(promises: Findings, broker: Broker, order: Order, trade: Callable[[], None]) -> None:
    broker.submit(order)
    broker.cancel(order.client_order_id)
    broker.cancel(order.client_order_id)
    broker.cancel(f"{order.client_order_id}-never-sent")
    trade()
    state = broker.find(order.client_order_id)
    promises.check(state is not None and not state.working, "an order that was canceled is done")
    _sell_what_filled(broker, order, trade)


class _Leave(Exception):  # noqa: N818 - no error: what leaves a block in the middle
    pass


def _check_together(promises: Findings, broker: Broker, order: Order, trade: Callable[[], None]) -> None:
    """Check a broker with `together`: two orders submitted in a block that fails and in one that does not, and canceled
    in one of each.
    """
    if not isinstance(broker, TakesTogether):
        return
    half = math.floor(order.quantity / 2)  # whole shares, which every broker takes, and no more money than for `order`
    quantities = [float(quantity) for quantity in (half, order.quantity - half) if quantity]
    name = order.client_order_id
    orders = [replace(order, client_order_id=f"{name}-t{n}", quantity=shares) for n, shares in enumerate(quantities)]
    undone = [replace(one, client_order_id=f"{one.client_order_id}-u") for one in orders]
    held = _count_shares(broker, order.ticker)
    _leave_together(promises, broker, lambda: _submit_each(promises, broker, undone))
    kept = [one for one in undone if broker.find(one.client_order_id) is not None]
    is_undone = not kept and abs(_count_shares(broker, order.ticker) - held) <= SHARES
    promises.check(is_undone, "together() keeps nothing of what is submitted in a block that an exception leaves")
    for one in kept:  # or the money would not be enough for what follows
        broker.cancel(one.client_order_id)
    with broker.together():
        _submit_each(promises, broker, orders)
    states = [broker.find(one.client_order_id) for one in orders]
    promises.check(None not in states, "together() takes what is submitted within it")
    taken = [one for one, state in zip(orders, states, strict=True) if state is not None]
    open_before = [state.client_order_id for state in states if state is not None and state.working]
    _leave_together(promises, broker, lambda: _cancel_each(promises, broker, orders))
    left = [state.client_order_id for state in map(broker.find, open_before) if state is not None and state.working]
    promises.check(
        left == open_before, "together() keeps nothing of what is canceled in a block that an exception leaves"
    )
    with broker.together():
        _cancel_each(promises, broker, orders)
    states = [broker.find(one.client_order_id) for one in taken]
    done = all(state is not None and not state.working for state in states)
    promises.check(done, "an order that was canceled in together() is done at its end")
    trade()
    _sell_what_is_left(broker, order, held, trade)


def _leave_together(promises: Findings, broker: TakesTogether, act: Callable[[], None]) -> None:
    """Do `act` in a block, which an exception of ours leaves then."""
    is_left = False

    def leave() -> None:
        nonlocal is_left
        is_left = True
        raise _Leave

    try:
        with broker.together():
            act()
            leave()
    except _Leave:
        return
    except Exception:
        if not is_left:
            raise
    promises.check(False, "together() lets an exception through, as it is")


def _submit_each(promises: Findings, broker: Broker, orders: Sequence[Order]) -> None:
    """Submit orders within a block, where each is known as soon as it is submitted."""
    for one in orders:
        state: OrderState | None = broker.submit(one)  # a broker may answer anything
        same = state is not None and _is_same(broker.find(one.client_order_id), state)
        same = same and state is not None and _is_same(broker.submit(one), state)
        promises.check(same, "find() and submit() know within together() what was submitted in it")


def _cancel_each(promises: Findings, broker: Broker, orders: Sequence[Order]) -> None:
    """Cancel orders within a block, where each is done as soon as it is canceled."""
    for one in orders:
        broker.cancel(one.client_order_id)
        state = broker.find(one.client_order_id)
        promises.check(state is None or not state.working, "find() knows within together() what was canceled in it")


def _count_shares(broker: Broker, ticker: str) -> float:
    return broker.account().positions.get(ticker, 0.0)


def _sell_what_filled(broker: Broker, canceled: Order, trade: Callable[[], None]) -> None:
    """Sell what of an order filled before the broker heard of its cancellation."""
    state = broker.find(canceled.client_order_id)
    if state is not None and state.filled:
        broker.submit(replace(canceled, client_order_id=f"{canceled.client_order_id}-b", quantity=-state.filled))
        trade()


def _sell_what_is_left(broker: Broker, order: Order, held: float, trade: Callable[[], None]) -> None:
    """Sell what came into the account in blocks, whatever the broker says of its orders, or it would be told twice."""
    left = _count_shares(broker, order.ticker) - held
    if abs(left) > SHARES:
        broker.submit(replace(order, client_order_id=f"{order.client_order_id}-b", quantity=-left))
        trade()


def _is_same(one: OrderState | None, other: OrderState) -> bool:
    """Whether two states are of one order at the broker; it may have filled in between."""
    return one is not None and (one.client_order_id, one.broker_order_id) == (
        other.client_order_id,
        other.broker_order_id,
    )
