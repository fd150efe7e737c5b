"""What a broker says of itself: that each of it is so, found by asking and by trading."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from hftcl.contracts.findings import Findings
from hftcl.errors import OrderRefusedError
from hftcl.trading.brokers import Broker, CashMove, KnowsIds, Order, Paced, TellsCash, Traits

SHARES: Final = 1e-6  # brokers count in multiples of 1e-9 shares; a thousand of them is rounding, and buys nothing


def check_traits(promises: Findings, broker: Broker, order: Order, trade: Callable[[], None]) -> None:
    """Ask what else than the Protocol it offers, and sell short and turn where it says that it may be done.

    The account has no position in the order's ticker, before and after.
    """
    traits = getattr(broker, "traits", Traits())
    if promises.check(isinstance(traits, Traits), "traits, where it has any, are hftcl.trading.brokers.Traits"):
        limits = traits.parallel, traits.calls_per_minute if traits.calls_per_minute is not None else 1
        promises.check(min(limits) >= 1, "traits allow at least one call, from at least one thread")
        promises.check(not (traits.replays and broker.live_money), "traits let no replay trade with real money")
    if isinstance(broker, Paced):
        room = broker.room()
        promises.check(type(room) is int and room >= 0, "room() is a number of calls")
    if isinstance(broker, KnowsIds):
        broker.learn({"no such order": f"{order.client_order_id}-of-another-day"})
    if isinstance(broker, TellsCash):
        moves = broker.cash_moves(order.session)
        promises.check(
            moves is None or (isinstance(moves, tuple) and all(isinstance(move, CashMove) for move in moves)),
            "cash_moves() is a tuple of CashMove, or None",
        )
    shares = math.floor(order.quantity)  # whole ones, which every broker takes
    is_clear = abs(broker.account().positions.get(order.ticker, 0.0)) <= SHARES  # else that was told already
    if broker.shorting and shares and is_clear:
        _check_short(promises, broker, order, trade, float(shares))


def _check_short(promises: Findings, broker: Broker, order: Order, trade: Callable[[], None], shares: float) -> None:
    """Sell what is not held, turn that into as much bought where one order may, and leave nothing.

    After a step that fails the next one is not asked: it would fail as its echo.
    """

    def trade_to(name: str, left: float, promise: str) -> bool:
        quantity = left - broker.account().positions.get(order.ticker, 0.0)
        try:
            broker.submit(replace(order, client_order_id=f"{order.client_order_id}-{name}", quantity=quantity))
        except OrderRefusedError as error:
            return promises.check(False, f"{promise}: {error}")
        trade()
        held = broker.account().positions.get(order.ticker, 0.0)
        return promises.check(abs(held - left) <= SHARES, promise)

    is_short = trade_to("h", -shares, "with shorting, what is not held may be sold")
    if is_short and broker.turns:
        trade_to("w", shares, "with turns, one order leads from short to long")
    if abs(broker.account().positions.get(order.ticker, 0.0)) > SHARES:
        trade_to("l", 0.0, "a position that was sold short or turned can be closed")
