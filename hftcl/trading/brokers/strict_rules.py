"""An account with a broker's real rules, as Alpaca documents them: orders in, refusals and fills out. Pure.

No clock, no file: every call is told the time. What happened is a list of `Happening`s, from which the same account can
be made again. Each rule names the page that it comes from; the refusals are those of `refusals`.
"""

import hashlib
import math
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Final

from hftcl.ledger.account import DECIMALS
from hftcl.strategy.risk import is_price
from hftcl.trading.brokers.refusals import BY_CODE, Refusal

MINUTE: Final = timedelta(minutes=1)  # a bar, and the span in which calls are counted
CALLS_PER_MINUTE: Final = 200
"""A minute and account. https://alpaca.markets/support/usage-limit-api-calls"""
SHORT_MARKUP: Final = 1.03
"""A short sale takes buying power for 3 % above the price. https://docs.alpaca.markets/docs/orders-at-alpaca"""
PDT_EQUITY: Final = 25_000.0  # USD, FINRA rule 4210(f)(8)(B)
PDT_TRADES: Final = 3
"""Day trades in five sessions that an account below PDT_EQUITY may have made; the next one would mark it.
https://docs.alpaca.markets/docs/user-protection"""
PDT_SESSIONS: Final = 5  # sessions in which day trades are counted, the same rule
MARGIN_EQUITY: Final = 2_000.0
"""Below it no margin and no short sale. https://docs.alpaca.markets/docs/account-plans"""
LEAST_NOTIONAL: Final = 1.0
"""USD. https://docs.alpaca.markets/docs/fractional-trading"""
_DAY: Final = timedelta(days=1)  # an order for the day ends with it


class RefusedError(Exception):
    """An order, or a call, that the broker does not take. `text` is how it words it."""

    def __init__(self, refusal: Refusal, **facts: object) -> None:
        self.refusal = refusal
        self.text = refusal.says.format(**facts) if facts else refusal.says
        super().__init__(self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What an account is, and what its days are like. seed: of all that is drawn.

    late: share of fills that are told one to four minutes late. partial: share of orders that fill in two halves at
    the same trade time. hard_to_borrow: tickers that are not sold short.
    """

    cash: float = 100_000.0
    half_spread_bps: float = 0.5
    slippage_bps: float = 0.5
    max_volume_share: float = 0.1
    hard_to_borrow: frozenset[str] = frozenset()
    not_fractionable: frozenset[str] = frozenset()
    shorting: bool = True
    pdt_check: bool = True
    late: float = 0.0
    partial: float = 0.0
    seed: int = 0
    calls_per_minute: int = CALLS_PER_MINUTE


@dataclass(slots=True, kw_only=True)
class StrictOrder:
    """An order as the broker has it; quantity signed. at: when it arrived."""

    number: int
    order_id: str
    client_order_id: str
    symbol: str
    quantity: float
    price: float
    """USD a share when it arrived, from which its value was judged."""
    at: datetime
    status: str = "new"
    filled: float = 0.0
    paid: float = 0.0
    halves: bool = False

    @property
    def working(self) -> bool:
        """Whether it may still fill."""
        return self.status in ("new", "partially_filled")

    @property
    def left(self) -> float:
        """Shares still to fill, signed."""
        return round(self.quantity - self.filled, DECIMALS) if self.working else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """A row of the account's activities: a fill, or what else moved shares or cash. told_at: when it can be asked for.

    kind: FILL, SPLIT, DIV, FEE or INT, as in https://docs.alpaca.markets/reference/getaccountactivities-2
    """

    activity_id: str
    kind: str
    symbol: str
    quantity: float
    price: float
    cash: float
    order_id: str
    at: datetime
    told_at: datetime


Happening = dict[str, Any]
"""What changed an account, as JSON has it: `what` and its fields."""


@dataclass(slots=True)
class _Day:
    """Trades of one session by ticker: whether a position of today was opened, and day trades made."""

    opened: dict[str, float] = field(default_factory=dict)
    trades: int = 0


class StrictAccount:
    """One account. happened: what has changed it since it was last emptied, for the one who keeps it."""

    def __init__(self, rules: Rules, happened: Iterable[Happening] = ()) -> None:
        """Begin an account, or make again the one to which `happened` has happened."""
        self.rules = rules
        self.happened: list[Happening] = []
        self.orders: dict[str, StrictOrder] = {}
        self.by_id: dict[str, StrictOrder] = {}
        self.activities: list[Activity] = []
        self.positions: dict[str, float] = {}
        self.cost: dict[str, float] = {}
        self.marks: dict[str, float] = {}
        self.cash = rules.cash
        self.last_equity = rules.cash
        self.suspended = False
        self.blocked = False
        self.shorting = rules.shorting
        self._days: dict[date, _Day] = {}
        self._calls: tuple[int, int] = (0, 0)
        self._working: dict[str, StrictOrder] = {}
        for one in happened:
            self._take(one)

    # --- what is asked ----------------------------------------------------------------------------------------------

    @property
    def equity(self) -> float:
        """Cash and what the positions are worth at the last prices, USD."""
        return self.cash + math.fsum(held * self.mark(symbol) for symbol, held in self.positions.items())

    @property
    def multiplier(self) -> int:
        """What a dollar of equity carries.

        https://docs.alpaca.markets/docs/margin-and-short-selling
        """
        return 1 if self.last_equity < MARGIN_EQUITY else 2 if self.last_equity < PDT_EQUITY else 4

    @property
    def buying_power(self) -> float:
        """What may still be opened, USD: open orders that open count as filled."""
        held = math.fsum(abs(shares) * self.mark(symbol) for symbol, shares in self.positions.items())
        return self.multiplier * self.equity - held - math.fsum(self._value(order) for order in self._working.values())

    def day_trades(self, today: date) -> int:
        """Return the round trips of the newest five sessions up to `today`."""
        days = sorted(day for day in self._days if day <= today)[-PDT_SESSIONS:]
        return sum(self._days[day].trades for day in days)

    def mark(self, symbol: str) -> float:
        """Return the last price of a ticker; before the first bar, what its shares cost."""
        return self.marks.get(symbol) or self.cost.get(symbol) or 0.0

    def open_orders(self) -> Iterator[StrictOrder]:
        """Return what may still fill, oldest first."""
        return iter(self._working.values())

    def list_activities(self, now: datetime) -> list[Activity]:
        """Return what can be asked for at `now`, by id, which is by time but for what happened in one millisecond.

        https://github.com/alpacahq/Alpaca-API/issues/170
        """
        return sorted((row for row in self.activities if row.told_at <= now), key=lambda row: row.activity_id)

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
        self._judge(symbol, quantity, mark, now)
        number = len(self.orders) + 1
        draw = self._draw(client_order_id)
        self._do(
            what="order",
            number=number,
            order_id=_uuid(f"{self.rules.seed}-order-{client_order_id}"),
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
        self._do(what="end", client_order_id=client_order_id, status="canceled")
        return True

    def on_bars(self, rows: Iterable[tuple[datetime, str, float, float, float]], now: datetime) -> None:
        """Let the minutes' bars (ts, ticker, open, close, volume) trade: a market order fills at the open of the first
        minute that ends after it arrived, within its share of the volume; the rest in later ones.
        """
        for ts, symbol, price, close, volume in sorted(rows):
            if is_price(price):
                self._trade(ts, symbol, price, volume, now)
            if is_price(close):
                self._do(what="mark", symbol=symbol, price=close)

    def end_session(self, session: date, now: datetime) -> None:
        """Let the orders that arrived before the close expire, and take the equity of the close."""
        for order in list(self._working.values()):
            if order.at < now:
                self._do(what="end", client_order_id=order.client_order_id, status="expired")
        self._do(what="close", session=session.isoformat(), equity=self.equity)

    def split(self, symbol: str, ratio: float, at: datetime) -> None:
        """Make each share `ratio` shares, at a price that many times lower; parts of a share are paid out in cash.

        https://docs.alpaca.markets/us/docs/mandatory-corporate-actions
        """
        self._do(what="split", symbol=symbol, ratio=ratio, at=at.isoformat())

    def pay(self, kind: str, amount: float, at: datetime, symbol: str = "") -> None:
        """Book a dividend, a fee, interest or a borrow charge: + into the account."""
        self._do(what="pay", kind=kind, symbol=symbol, amount=amount, at=at.isoformat())

    def by_hand(self, symbol: str, quantity: float, price: float, now: datetime) -> None:
        """Trade as a person does in the dashboard: filled at once, by an order with an id of its own."""
        name = _uuid(f"{self.rules.seed}-hand-{len(self.orders)}")
        self._do(
            what="order",
            number=len(self.orders) + 1,
            order_id=_uuid(f"{self.rules.seed}-order-{name}"),
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
        self._do(what="flag", suspended=suspended, blocked=blocked, shorting=shorting)

    # --- the rules --------------------------------------------------------------------------------------------------

    def _judge(self, symbol: str, quantity: float, price: float, now: datetime) -> None:
        """Raise RefusedError where an order is not taken."""
        if self.suspended or self.blocked:  # https://docs.alpaca.markets/docs/account-plans
            raise RefusedError(BY_CODE["account_blocked"])
        if not (math.isfinite(quantity) and quantity) or not is_price(price):
            raise RefusedError(BY_CODE["not_tradable"], symbol=symbol)
        held = self.positions.get(symbol, 0.0)
        open_here = [order for order in self._working.values() if order.symbol == symbol]
        if any(order.quantity * quantity < 0 for order in open_here):
            raise RefusedError(BY_CODE["wash_trade"])  # https://docs.alpaca.markets/docs/user-protection
        whole = float(quantity).is_integer()
        if not whole and symbol in self.rules.not_fractionable:
            raise RefusedError(BY_CODE["not_fractionable"], symbol=symbol)
        if held * quantity < 0:
            available = max(0.0, abs(held) - abs(math.fsum(order.left for order in open_here)))
            if abs(quantity) > available + 1e-9:  # https://github.com/alpacahq/Alpaca-API/issues/90
                raise RefusedError(BY_CODE["no_turn"], requested=f"{abs(quantity):g}", available=f"{available:g}")
            self._judge_day_trade(symbol, now, closes=True)
        else:
            self._judge_opening(symbol, quantity, price, now, whole=whole)

    def _judge_opening(self, symbol: str, quantity: float, price: float, now: datetime, *, whole: bool) -> None:
        if quantity < 0:
            self._judge_short(symbol, whole=whole)
        if abs(quantity) * price < LEAST_NOTIONAL:
            raise RefusedError(BY_CODE["too_small"])
        self._judge_day_trade(symbol, now, closes=False)
        if abs(quantity) * price * (SHORT_MARKUP if quantity < 0 else 1.0) > self.buying_power:
            raise RefusedError(BY_CODE["no_buying_power"])  # https://docs.alpaca.markets/docs/orders-at-alpaca

    def _judge_short(self, symbol: str, *, whole: bool) -> None:
        """Refuse a short sale that the account or the share does not allow.

        https://docs.alpaca.markets/docs/margin-and-short-selling
        """
        if not self.shorting or self.last_equity < MARGIN_EQUITY:
            raise RefusedError(BY_CODE["shorting_disabled"])
        if not whole:  # https://docs.alpaca.markets/docs/fractional-trading
            raise RefusedError(BY_CODE["fractional_short"])
        if symbol in self.rules.hard_to_borrow:
            raise RefusedError(BY_CODE["not_shortable"], symbol=symbol)

    def _judge_day_trade(self, symbol: str, now: datetime, *, closes: bool) -> None:
        """Refuse what could become the fourth day trade in five sessions, where yesterday closed below 25,000 USD.

        On the way in as on the way out, which is Alpaca's pdt_check = "both": positions of today that are still open
        count, for they may be closed today. https://docs.alpaca.markets/docs/user-protection
        """
        if not self.rules.pdt_check or self.last_equity >= PDT_EQUITY:
            return
        today = self._days.get(now.date(), _Day())
        made = self.day_trades(now.date())
        if closes:
            if today.opened.get(symbol) and made >= PDT_TRADES:
                raise RefusedError(BY_CODE["pattern_day_trading"])
            return
        at_risk = {name for name, shares in today.opened.items() if shares}
        at_risk |= {order.symbol for order in self._working.values()}
        if symbol not in at_risk and made + len(at_risk) >= PDT_TRADES:
            raise RefusedError(BY_CODE["pattern_day_trading"])

    def _value(self, order: StrictOrder) -> float:
        """Return by how much an open order may enlarge what is held, USD."""
        if self.positions.get(order.symbol, 0.0) * order.quantity < 0:
            return 0.0
        return abs(order.left) * order.price * (SHORT_MARKUP if order.quantity < 0 else 1.0)

    # --- trading ----------------------------------------------------------------------------------------------------

    def _trade(self, ts: datetime, symbol: str, price: float, volume: float, now: datetime) -> None:
        available = self.rules.max_volume_share * volume if math.isfinite(volume) else 0.0
        for order in [order for order in self._working.values() if order.symbol == symbol]:
            if order.at >= ts + MINUTE or not order.left:
                continue
            side = 1.0 if order.left > 0 else -1.0
            shares = _portion(abs(order.left), available)
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
        name = _uuid(f"{self.rules.seed}-fill-{order.client_order_id}-{order.filled}")
        self._do(
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

    # --- what happened ----------------------------------------------------------------------------------------------

    def _do(self, **one: Any) -> None:
        self._take(one)
        self.happened.append(one)

    def _take(self, one: Happening) -> None:
        getattr(self, f"_take_{one['what']}")({name: value for name, value in one.items() if name != "what"})

    def _take_order(self, one: Happening) -> None:
        order = StrictOrder(**one | {"at": datetime.fromisoformat(one["at"])})
        self.orders[order.client_order_id] = self.by_id[order.order_id] = order
        self._working[order.client_order_id] = order

    def _take_end(self, one: Happening) -> None:
        self.orders[one["client_order_id"]].status = one["status"]
        self._working.pop(one["client_order_id"], None)

    def _take_fill(self, one: Happening) -> None:
        order = self.orders[one["client_order_id"]]
        at, quantity, price = datetime.fromisoformat(one["at"]), one["quantity"], one["price"]
        order.filled = round(order.filled + quantity, DECIMALS)
        order.paid += quantity * price
        order.status = "filled" if order.filled == order.quantity else "partially_filled"
        if not order.working:
            self._working.pop(order.client_order_id, None)
        self._note_day_trade(order.symbol, quantity, at)
        self._hold(order.symbol, quantity, price)
        self.activities.append(
            Activity(
                activity_id=one["activity_id"],
                kind="FILL",
                symbol=order.symbol,
                quantity=quantity,
                price=price,
                cash=-quantity * price,
                order_id=order.order_id,
                at=at,
                told_at=datetime.fromisoformat(one["told_at"]),
            )
        )

    def _note_day_trade(self, symbol: str, quantity: float, at: datetime) -> None:
        """Count a round trip where what was opened today is closed today, once until it is opened again."""
        day = self._days.setdefault(at.date(), _Day())
        held = self.positions.get(symbol, 0.0)
        if held * quantity >= 0:
            day.opened[symbol] = day.opened.get(symbol, 0.0) + abs(quantity)
        elif day.opened.get(symbol):
            left = max(0.0, day.opened[symbol] - abs(quantity))
            day.trades += left == 0.0
            day.opened[symbol] = left

    def _hold(self, symbol: str, quantity: float, price: float) -> None:
        held = self.positions.get(symbol, 0.0)
        after = round(held + quantity, DECIMALS)
        if held * quantity >= 0 and after:
            self.cost[symbol] = (abs(held) * self.cost.get(symbol, 0.0) + abs(quantity) * price) / abs(after)
        self.cash -= quantity * price
        self.marks.setdefault(symbol, price)
        if after:
            self.positions[symbol] = after
        else:
            self.positions.pop(symbol, None)
            self.cost.pop(symbol, None)

    def _take_mark(self, one: Happening) -> None:
        self.marks[one["symbol"]] = one["price"]

    def _take_close(self, one: Happening) -> None:
        self.last_equity = one["equity"]

    def _take_split(self, one: Happening) -> None:
        symbol, ratio, at = one["symbol"], one["ratio"], datetime.fromisoformat(one["at"])
        if any(row.kind == "SPLIT" and row.symbol == symbol and row.at == at for row in self.activities):
            return
        held = self.positions.get(symbol, 0.0)
        after = held * ratio
        kept = float(math.trunc(after)) if float(held).is_integer() else round(after, DECIMALS)
        if symbol in self.marks:
            self.marks[symbol] /= ratio
        if held:
            self.cost[symbol] = self.cost.get(symbol, 0.0) / ratio
            in_cash = (after - kept) * self.mark(symbol)
            self.cash += in_cash
            self.positions[symbol] = kept
            if not kept:
                self.positions.pop(symbol)
            self._activity("SPLIT", symbol, kept - held, in_cash, at)
        else:
            self._activity("SPLIT", symbol, 0.0, 0.0, at)

    def _take_pay(self, one: Happening) -> None:
        self.cash += one["amount"]
        self._activity(one["kind"], one["symbol"], 0.0, one["amount"], datetime.fromisoformat(one["at"]))

    def _take_flag(self, one: Happening) -> None:
        for name, value in one.items():
            if value is not None:
                setattr(self, name, value)

    def _activity(self, kind: str, symbol: str, quantity: float, cash: float, at: datetime) -> None:
        name = _uuid(f"{self.rules.seed}-{kind}-{symbol}-{at}-{len(self.activities)}")
        self.activities.append(
            Activity(
                activity_id=f"{at:%Y%m%d}000000000::{name}",
                kind=kind,
                symbol=symbol,
                quantity=quantity,
                price=0.0,
                cash=cash,
                order_id="",
                at=at,
                told_at=at,
            )
        )


def row_of(order: StrictOrder) -> Mapping[str, Any]:
    """Return an order as the documentation shows it.

    https://docs.alpaca.markets/reference/postorder
    """
    price = order.paid / order.filled if order.filled else None
    return {
        "id": order.order_id,
        "client_order_id": order.client_order_id,
        "symbol": order.symbol,
        "side": "buy" if order.quantity > 0 else "sell",
        "type": "market",
        "time_in_force": "day",
        "qty": f"{abs(order.quantity):g}" if float(order.quantity).is_integer() else repr(abs(order.quantity)),
        "filled_qty": repr(abs(order.filled)),
        "filled_avg_price": None if price is None else repr(price),
        "status": order.status,
        "submitted_at": order.at.isoformat(),
    }


def activity_row(activity: Activity, account: StrictAccount) -> Mapping[str, Any]:
    """Return an activity as the documentation shows it.

    https://docs.alpaca.markets/reference/getaccountactivitiesbyactivitytype-1
    """
    if activity.kind != "FILL":
        row = {"id": activity.activity_id, "activity_type": activity.kind, "date": activity.at.date().isoformat()}
        return row | {"symbol": activity.symbol, "qty": repr(activity.quantity), "net_amount": repr(activity.cash)}
    order = account.by_id[activity.order_id]
    return {
        "id": activity.activity_id,
        "activity_type": "FILL",
        "transaction_time": f"{activity.at:%Y-%m-%dT%H:%M:%S.%f}Z",
        "type": "partial_fill" if order.left else "fill",
        "price": repr(activity.price),
        "qty": repr(abs(activity.quantity)),
        "side": "buy" if activity.quantity > 0 else "sell",
        "symbol": activity.symbol,
        "order_id": activity.order_id,
        "order_status": order.status,
    }


def facts_of(account: StrictAccount) -> Mapping[str, Any]:
    """Return everything of an account that could differ from the one that is made again; for tests and for looking."""
    return {
        "orders": [asdict(order) for order in account.orders.values()],
        "positions": dict(sorted(account.positions.items())),
        "cash": account.cash,
        "activities": [asdict(row) for row in account.activities],
    }


def _portion(wanted: float, available: float) -> float:
    """Return how much of `wanted` shares fills: what is available, whole shares for an order of whole shares."""
    if wanted <= available:
        return wanted
    scale = 1.0 if wanted.is_integer() else 10.0**DECIMALS
    return max(0.0, math.floor(available * scale) / scale)


def _uuid(text: str) -> str:
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-4{digest[13:16]}-8{digest[17:20]}-{digest[20:32]}"
