"""Which orders a broker with a real one's rules takes: each rule names the page that it comes from. Pure."""

import math
from datetime import datetime

from hftcl.strategy.risk import is_price
from hftcl.trading.brokers.refusals import BY_CODE
from hftcl.trading.brokers.strict_rules import (
    LEAST_NOTIONAL,
    MARGIN_EQUITY,
    PDT_EQUITY,
    PDT_TRADES,
    SHORT_MARKUP,
    RefusedError,
)
from hftcl.trading.brokers.strict_state import AccountState, Day


def judge(account: AccountState, symbol: str, quantity: float, price: float, now: datetime) -> None:
    """Raise RefusedError where an order is not taken."""
    if account.suspended or account.blocked:  # https://docs.alpaca.markets/docs/account-plans
        raise RefusedError(BY_CODE["account_blocked"])
    if not (math.isfinite(quantity) and quantity) or not is_price(price):
        raise RefusedError(BY_CODE["not_tradable"], symbol=symbol)
    if symbol in account.gone:  # an asset that is not active, https://docs.alpaca.markets/docs/working-with-assets
        raise RefusedError(BY_CODE["not_tradable"], symbol=symbol)
    held = account.positions.get(symbol, 0.0)
    open_here = [order for order in account.working.values() if order.symbol == symbol]
    if any(order.quantity * quantity < 0 for order in open_here):
        raise RefusedError(BY_CODE["wash_trade"])  # https://docs.alpaca.markets/docs/user-protection
    whole = float(quantity).is_integer()
    if not whole and symbol in account.rules.not_fractionable:
        raise RefusedError(BY_CODE["not_fractionable"], symbol=symbol)
    if held * quantity < 0:
        available = max(0.0, abs(held) - abs(math.fsum(order.left for order in open_here)))
        if abs(quantity) > available + 1e-9:  # https://github.com/alpacahq/Alpaca-API/issues/90
            raise RefusedError(BY_CODE["no_turn"], requested=f"{abs(quantity):g}", available=f"{available:g}")
        _judge_day_trade(account, symbol, now, closes=True)
    else:
        _judge_opening(account, symbol, quantity, price, now, whole=whole)


def _judge_opening(
    account: AccountState, symbol: str, quantity: float, price: float, now: datetime, *, whole: bool
) -> None:
    if quantity < 0:
        _judge_short(account, symbol, whole=whole)
    if abs(quantity) * price < LEAST_NOTIONAL:
        raise RefusedError(BY_CODE["too_small"])
    _judge_day_trade(account, symbol, now, closes=False)
    if abs(quantity) * price * (SHORT_MARKUP if quantity < 0 else 1.0) > account.buying_power:
        raise RefusedError(BY_CODE["no_buying_power"])  # https://docs.alpaca.markets/docs/orders-at-alpaca


def _judge_short(account: AccountState, symbol: str, *, whole: bool) -> None:
    """Refuse a short sale that the account or the share does not allow.

    https://docs.alpaca.markets/docs/margin-and-short-selling
    """
    if not account.shorting or account.last_equity < MARGIN_EQUITY:
        raise RefusedError(BY_CODE["shorting_disabled"])
    if not whole:  # https://docs.alpaca.markets/docs/fractional-trading
        raise RefusedError(BY_CODE["fractional_short"])
    if symbol in account.rules.hard_to_borrow:
        raise RefusedError(BY_CODE["not_shortable"], symbol=symbol)


def _judge_day_trade(account: AccountState, symbol: str, now: datetime, *, closes: bool) -> None:
    """Refuse what could become the fourth day trade in five sessions, where yesterday closed below 25,000 USD.

    On the way in as on the way out, which is Alpaca's pdt_check = "both": positions of today that are still open
    count, for they may be closed today. https://docs.alpaca.markets/docs/user-protection
    """
    if not account.rules.pdt_check or account.last_equity >= PDT_EQUITY:
        return
    today = account.days.get(now.date(), Day())
    made = account.count_day_trades(now.date())
    if closes:
        if today.opened.get(symbol) and made >= PDT_TRADES:
            raise RefusedError(BY_CODE["pattern_day_trading"])
        return
    at_risk = {name for name, shares in today.opened.items() if shares}
    at_risk |= {order.symbol for order in account.working.values()}
    if symbol not in at_risk and made + len(at_risk) >= PDT_TRADES:
        raise RefusedError(BY_CODE["pattern_day_trading"])
