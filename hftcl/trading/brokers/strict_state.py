"""What an account at a broker has come to by all that happened to it: orders, fills, positions, cash. Pure.

What happened is a list of `Happening`s, from which the same account can be made again.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Final

from hftcl.ledger.account import DECIMALS
from hftcl.trading.brokers.strict_rules import MARGIN_EQUITY, PDT_EQUITY, PDT_SESSIONS, SHORT_MARKUP, AccountRules


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

    kind: FILL, SPLIT, NC (another name), MA (merger), REORG (worthless), DIV, FEE or INT; subtype: of a merger CMA (for
    cash), SMA (for stock), SCMA (for both), of an end WRM: see `execute.corporate_plan` for how sure that is.
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
    subtype: str = ""


SPLIT_VERSION: Final = 2
"""Of the `split` that is kept now; one without a version is of a file from before, and is taken as it was then."""
Happening = dict[str, Any]
"""What changed an account, as JSON has it: `what` and its fields."""


@dataclass(slots=True)
class Day:
    """Trades of one session by ticker: whether a position of today was opened, and day trades made."""

    opened: dict[str, float] = field(default_factory=dict)
    trades: int = 0


class AccountState:
    """What an account has come to. happened: what has changed it since that was last emptied, for who keeps it."""

    def __init__(self, rules: AccountRules, happened: Iterable[Happening] = ()) -> None:
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
        self.days: dict[date, Day] = {}
        self.working: dict[str, StrictOrder] = {}
        self.gone: set[str] = set()
        """Tickers that have another name, or are not listed any more."""
        for one in happened:
            self._take(one)

    @property
    def equity(self) -> float:
        """Cash and what the positions are worth at the last prices, USD."""
        return self.cash + math.fsum(held * self.mark(symbol) for symbol, held in self.positions.items())

    @property
    def multiplier(self) -> int:
        """What a dollar of equity carries within a day: four from MARGIN_EQUITY on, where day trades are not counted.

        https://docs.alpaca.markets/us/docs/understanding-finras-new-intraday-margin-rule-and-the-end-of-pdt ; before
        June 2026 it was two below PDT_EQUITY, https://docs.alpaca.markets/docs/margin-and-short-selling .
        """
        if self.last_equity < MARGIN_EQUITY:
            return 1
        return 2 if self.rules.pdt_check and self.last_equity < PDT_EQUITY else 4

    @property
    def buying_power(self) -> float:
        """What may still be opened, USD: open orders that open count as filled."""
        held = math.fsum(abs(shares) * self.mark(symbol) for symbol, shares in self.positions.items())
        return (
            self.multiplier * self.equity - held - math.fsum(self.value_order(order) for order in self.working.values())
        )

    def count_day_trades(self, today: date) -> int:
        """Return the round trips of the newest five sessions up to `today`."""
        days = sorted(day for day in self.days if day <= today)[-PDT_SESSIONS:]
        return sum(self.days[day].trades for day in days)

    def mark(self, symbol: str) -> float:
        """Return the last price of a ticker; before the first bar, what its shares cost."""
        return self.marks.get(symbol) or self.cost.get(symbol) or 0.0

    def open_orders(self) -> Iterator[StrictOrder]:
        """Return what may still fill, oldest first."""
        return iter(self.working.values())

    def list_activities(self, now: datetime) -> list[Activity]:
        """Return what can be asked for at `now`, by id, which is by time but for what happened in one millisecond.

        https://github.com/alpacahq/Alpaca-API/issues/170
        """
        return sorted((row for row in self.activities if row.told_at <= now), key=lambda row: row.activity_id)

    def value_order(self, order: StrictOrder) -> float:
        """Return by how much an open order may enlarge what is held, USD."""
        if self.positions.get(order.symbol, 0.0) * order.quantity < 0:
            return 0.0
        return abs(order.left) * order.price * (SHORT_MARKUP if order.quantity < 0 else 1.0)

    def do(self, **one: Any) -> None:
        """Let something happen, and keep it."""
        self._take(one)
        self.happened.append(one)

    def _take(self, one: Happening) -> None:
        getattr(self, f"_take_{one['what']}")({name: value for name, value in one.items() if name != "what"})

    def _take_order(self, one: Happening) -> None:
        order = StrictOrder(**one | {"at": datetime.fromisoformat(one["at"])})
        self.orders[order.client_order_id] = self.by_id[order.order_id] = order
        self.working[order.client_order_id] = order

    def _take_end(self, one: Happening) -> None:
        self.orders[one["client_order_id"]].status = one["status"]
        self.working.pop(one["client_order_id"], None)

    def _take_fill(self, one: Happening) -> None:
        order = self.orders[one["client_order_id"]]
        at, quantity, price = datetime.fromisoformat(one["at"]), one["quantity"], one["price"]
        order.filled = round(order.filled + quantity, DECIMALS)
        order.paid += quantity * price
        order.status = "filled" if order.filled == order.quantity else "partially_filled"
        if not order.working:
            self.working.pop(order.client_order_id, None)
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
        day = self.days.setdefault(at.date(), Day())
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
        symbol = one["symbol"]
        if one.get("version", 1) < SPLIT_VERSION:
            self._take_old_split(symbol, one["ratio"], datetime.fromisoformat(one["at"]))
            return
        self._take_action({"kind": "SPLIT", "old": symbol, "new": symbol, "cash": 0.0} | one)

    def _take_old_split(self, symbol: str, ratio: float, at: datetime) -> None:
        """Split as it was kept before `SPLIT_VERSION`: whole shares, the rest in cash, told in one row."""
        if any(row.kind == "SPLIT" and row.symbol == symbol and row.at == at for row in self.activities):
            return
        held = self.positions.get(symbol, 0.0)
        after = held * ratio
        kept = float(math.trunc(after)) if float(held).is_integer() else round(after, DECIMALS)
        if symbol in self.marks:
            self.marks[symbol] /= ratio
        if not held:
            self._note_activity("SPLIT", symbol, 0.0, 0.0, at)
            return
        self.cost[symbol] = self.cost.get(symbol, 0.0) / ratio
        in_cash = (after - kept) * self.mark(symbol)
        self.cash += in_cash
        self.positions[symbol] = kept
        if not kept:
            self.positions.pop(symbol)
        self._note_activity("SPLIT", symbol, kept - held, in_cash, at)

    def _take_action(self, one: Happening) -> None:
        """Make of each share of `old` so many of `new`, "" for none, and some cash; once for each `at`.

        Told as the old shares that go, the new ones that come, and cash by itself, a row each:
        https://docs.alpaca.markets/docs/activity-sse
        """
        kind, old, new, at = one["kind"], one["old"], one["new"], datetime.fromisoformat(one["at"])
        subtype = _name_subtype(kind, new, one["cash"])
        if any(row.kind == kind and row.symbol == old and row.at == at for row in self.activities):
            return
        held, cost, mark = self.positions.pop(old, 0.0), self.cost.pop(old, 0.0), self.marks.pop(old, 0.0)
        if new != old:
            self.gone.add(old)
        self._note_activity(kind, old, -held, 0.0, at, subtype)
        if new and mark:
            self.marks[new] = mark / one["ratio"]
        if not held:
            return
        after = round(held * one["ratio"], DECIMALS) if new else 0.0
        is_cut = self.rules.cash_in_lieu and float(held).is_integer()
        kept = float(math.trunc(after)) if is_cut else after
        if kept:
            self.positions[new] = kept
            self.cost[new] = cost / one["ratio"]
            self._note_activity(kind, new, kept, 0.0, at, subtype)
        in_cash = held * one["cash"] + (after - kept) * (mark or cost) / one["ratio"]
        if in_cash:
            self.cash += in_cash
            self._note_activity(kind, new or old, 0.0, in_cash, at, subtype)

    def _take_pay(self, one: Happening) -> None:
        self.cash += one["amount"]
        self._note_activity(one["kind"], one["symbol"], 0.0, one["amount"], datetime.fromisoformat(one["at"]))

    def _take_flag(self, one: Happening) -> None:
        for name, value in one.items():
            if value is not None:
                setattr(self, name, value)

    def _note_activity(
        self, kind: str, symbol: str, quantity: float, cash: float, at: datetime, subtype: str = ""
    ) -> None:
        name = make_uuid(f"{self.rules.seed}-{kind}-{symbol}-{at}-{len(self.activities)}")
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
                subtype=subtype,
            )
        )


def _name_subtype(kind: str, new: str, cash: float) -> str:
    if kind == "MA":
        return "CMA" if not new else "SCMA" if cash else "SMA"
    return "WRM" if kind == "REORG" else ""


def make_uuid(text: str) -> str:
    """Return an id as the broker writes them, always the same of the same text."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-4{digest[13:16]}-8{digest[17:20]}-{digest[20:32]}"
