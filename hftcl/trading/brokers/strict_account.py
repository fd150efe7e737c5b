"""An account with a broker's real rules, as Alpaca documents them: orders in, refusals and fills out. Pure.

No clock, no file: every call is told the time.
"""

import math
import random
from collections.abc import Iterable
from datetime import date, datetime

from hftcl.ledger.account import DECIMALS
from hftcl.strategy.risk import is_price
from hftcl.trading.brokers.portion import compute_portion
from hftcl.trading.brokers.refusals import BY_CODE
from hftcl.trading.brokers.strict_judge import judge
from hftcl.trading.brokers.strict_rules import MINUTE, AccountRules, RefusedError
from hftcl.trading.brokers.strict_state import SPLIT_VERSION, AccountState, Happening, StrictOrder, make_uuid


class StrictAccount(AccountState):
    """One account, to trade with."""

    def __init__(self, rules: AccountRules, happened: Iterable[Happening] = ()) -> None:
        """Begin an account, or make again the one to which `happened` has happened."""
        super().__init__(rules, happened)
        self._calls: tuple[int, int] = (0, 0)

    def call(self, now: datetime) -> tuple[int, int]:
        """Count a call; return how many are left until when (Unix seconds). Raises RefusedError beyond the limit.

        https://alpaca.markets/support/usage-limit-api-calls
        """
        window = int(now.timestamp()) // 60
        used = self._calls[1] + 1 if self._calls[0] == window else 1
        self._calls = (window, used)
        if used > self.rules.calls_per_minute:
            raise RefusedError(BY_CODE["rate_limited"])
        return self.rules.calls_per_minute - used, (window + 1) * 60

    # --- what is done -----------------------------------------------------------------------------------------------

    def submit(self, client_order_id: str, symbol: str, quantity: float, price: float, now: datetime) -> StrictOrder:
        """Take a market order for the day. price: of a share, where no bar has said one yet.

        Raises RefusedError. An id that is known is the caller's to look up first.
        """
        mark = self.marks.get(symbol) or price
        judge(self, symbol, quantity, mark, now)
        number = len(self.orders) + 1
        draw = self._draw(client_order_id)
        self.do(
            what="order",
            number=number,
            order_id=make_uuid(f"{self.rules.seed}-order-{client_order_id}"),
            client_order_id=client_order_id,
            symbol=symbol,
            quantity=quantity,
            price=mark,
            at=now.isoformat(),
            halves=draw.random() < self.rules.partial,
        )
        return self.orders[client_order_id]

    def cancel(self, client_order_id: str) -> bool:
        """Cancel what is left of an order; return whether anything was."""
        order = self.orders.get(client_order_id)
        if order is None or not order.working:
            return False
        self.do(what="end", client_order_id=client_order_id, status="canceled")
        return True

    def on_bars(self, rows: Iterable[tuple[datetime, str, float, float, float]], now: datetime) -> None:
        """Let the minutes' bars (ts, ticker, open, close, volume) trade: a market order fills at the open of the first
        minute that ends after it arrived, within its share of the volume; the rest in later ones.
        """
        for ts, symbol, price, close, volume in sorted(rows):
            if is_price(price):
                self._trade(ts, symbol, price, volume, now)
            if is_price(close):
                self.do(what="mark", symbol=symbol, price=close)

    def end_session(self, session: date, now: datetime) -> None:
        """Let the orders that arrived before the close expire, and take the equity of the close."""
        for order in list(self.working.values()):
            if order.at < now:
                self.do(what="end", client_order_id=order.client_order_id, status="expired")
        self.do(what="close", session=session.isoformat(), equity=self.equity)

    def split(self, symbol: str, ratio: float, at: datetime) -> None:
        """Make each share `ratio` shares, at a price that many times lower.

        https://docs.alpaca.markets/us/docs/mandatory-corporate-actions
        """
        self.do(what="split", version=SPLIT_VERSION, symbol=symbol, ratio=ratio, at=at.isoformat())

    def exchange_shares(self, old: str, new: str, at: datetime, *, ratio: float = 1.0, cash: float = 0.0) -> None:
        """Make of each share of `old` `ratio` of `new`, and pay `cash` USD for it: another name, or a merger.

        The same page; NC and MA of https://docs.alpaca.markets/docs/activity-sse .
        """
        kind = "NC" if (ratio, cash) == (1.0, 0.0) else "MA"
        self.do(what="action", kind=kind, old=old, new=new, ratio=ratio, cash=cash, at=at.isoformat())

    def remove(self, symbol: str, at: datetime, *, cash: float = 0.0) -> None:
        """Take each share away for `cash` USD: a cash merger, or without any a worthless removal.

        MA (CMA) of the same page, REORG (WRM) of
        https://docs.alpaca.markets/us/changelog/2026-08-27-reorg-3841c3e .
        """
        kind = "MA" if cash else "REORG"
        self.do(what="action", kind=kind, old=symbol, new="", ratio=1.0, cash=cash, at=at.isoformat())

    def pay(self, kind: str, amount: float, at: datetime, symbol: str = "") -> None:
        """Book a dividend, a fee, interest or a borrow charge: + into the account."""
        self.do(what="pay", kind=kind, symbol=symbol, amount=amount, at=at.isoformat())

    def trade_by_hand(self, symbol: str, quantity: float, price: float, now: datetime) -> None:
        """Trade as a person does in the dashboard: filled at once, by an order with an id of its own."""
        name = make_uuid(f"{self.rules.seed}-hand-{len(self.orders)}")
        self.do(
            what="order",
            number=len(self.orders) + 1,
            order_id=make_uuid(f"{self.rules.seed}-order-{name}"),
            client_order_id=name,
            symbol=symbol,
            quantity=quantity,
            price=price,
            at=now.isoformat(),
            halves=False,
        )
        self._fill(self.orders[name], quantity, price, now, told_at=now)

    def flag(self, *, suspended: bool | None = None, blocked: bool | None = None, shorting: bool | None = None) -> None:
        """Change what the account may do."""
        self.do(what="flag", suspended=suspended, blocked=blocked, shorting=shorting)

    # --- trading ----------------------------------------------------------------------------------------------------

    def _trade(self, ts: datetime, symbol: str, price: float, volume: float, now: datetime) -> None:
        available = self.rules.max_volume_share * volume if math.isfinite(volume) else 0.0
        for order in [order for order in self.working.values() if order.symbol == symbol]:
            if order.at >= ts + MINUTE or not order.left:
                continue
            side = 1.0 if order.left > 0 else -1.0
            shares = compute_portion(abs(order.left), available)
            if not shares:
                continue
            available -= shares
            paid = price * (1.0 + side * (self.rules.half_spread_bps + self.rules.slippage_bps) / 1e4)
            at = max(ts, order.at)  # what arrived within the minute traded within it
            parts = [shares]
            if order.halves and shares >= 2:
                parts = [float(math.ceil(shares / 2)), shares - math.ceil(shares / 2)]
            for number, part in enumerate(parts):  # of one trade time, and the one told later than the other
                draw = self._draw(f"{order.client_order_id}-{order.filled}-{number}")
                late = draw.randint(1, 4) if draw.random() < self.rules.late else 0
                self._fill(order, side * part, paid, at, told_at=now + late * MINUTE)

    def _fill(self, order: StrictOrder, quantity: float, price: float, at: datetime, *, told_at: datetime) -> None:
        name = make_uuid(f"{self.rules.seed}-fill-{order.client_order_id}-{order.filled}")
        self.do(
            what="fill",
            client_order_id=order.client_order_id,
            activity_id=f"{at:%Y%m%d%H%M%S}{at.microsecond // 1000:03d}::{name}",
            quantity=round(quantity, DECIMALS),
            price=price,
            at=at.isoformat(),
            told_at=told_at.isoformat(),
        )

    def _draw(self, what: str) -> random.Random:
        return random.Random(f"{self.rules.seed}-{what}")  # noqa: S311 - reproducible, not secret
