"""The hand: which orders may reach the broker, and why the others may not. Pure."""

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from enum import StrEnum
from typing import Final

from hftcl.formats import count
from hftcl.settings import Risk

# A minute: a small watchlist may still close, turn and true up after a fault; a loop gone wild is stopped.
_LEAST_ORDERS: Final = 10


class Code(StrEnum):
    """Why a decision was taken or withheld, and why an order was refused; each one is in the ledger by this name."""

    # hold_: no order is made. The next group refuses an order that was made; daily_loss halts the bot.
    TRADE = "trade"
    HOLD_WARMUP = "hold_warmup"
    HOLD_NOVEL = "hold_novel"
    HOLD_NO_BAR = "hold_no_bar"
    HOLD_STALE = "hold_stale"
    HOLD_BAD_PRICE = "hold_bad_price"
    HOLD_REVISED = "hold_revised"
    HOLD_MODEL_OLD = "hold_model_old"
    HOLD_NO_MODEL = "hold_no_model"
    HOLD_CLOSED = "hold_closed"
    HOLD_CALENDAR = "hold_calendar"
    HOLD_STAND_ASIDE = "hold_stand_aside"
    HOLD_HALTED = "hold_halted"
    HOLD_DELAYED = "hold_delayed"
    HOLD_DISPUTED = "hold_disputed"
    HOLD_CONTEXT = "hold_context"

    NOT_FINITE = "not_finite"
    DUPLICATE = "duplicate"
    CLOSED = "closed"
    NO_PRICE = "no_price"
    LATCHED = "latched"
    BARRED = "barred"
    NEAR_CLOSE = "near_close"
    STALE = "stale"
    COLLAR = "collar"
    NO_SHORT = "no_short"
    MAX_NOTIONAL = "max_notional"
    MAX_POSITION = "max_position"
    MAX_GROSS = "max_gross"
    MAX_NET = "max_net"
    BUYING_POWER = "buying_power"
    RATE = "rate"

    DAILY_LOSS = "daily_loss"
    DRAWDOWN = "drawdown"

    BROKER = "broker"
    """The broker refused the order for a reason that its table of refusals does not know; it stands beside the code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A market order for the day: `quantity` shares, + to buy and - to sell, decided on the bar that starts at `ts`."""

    client_order_id: str
    ticker: str
    quantity: float
    ts: datetime
    """Start of the bar it was decided on, UTC."""
    reference_price: float
    """USD a share: the close of that bar, at which it was sized."""
    session: date


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What no order may lead beyond, in USD where nothing else is said."""

    position: float
    """Greatest |position| of one ticker."""
    order: float
    """Greatest value of one order."""
    gross: float
    net: float
    orders_per_minute: int
    collar: float
    """Greatest distance of an order's reference price from the last good close, as a fraction of that close."""
    stale_bars: float
    daily_loss: float
    drawdown: float = math.inf
    flat_minutes: int = 0
    """Minutes before the close from which on only orders that reduce a position pass."""
    shorting: bool = True

    @classmethod
    def from_settings(
        cls, settings: Risk, *, capital: float, tickers: int, flat_minutes: int = 0, shorting: bool = True
    ) -> "Limits":
        """Return the limits for `capital` USD traded in `tickers` tickers of equal weight.

        "auto" is for a position twice its equal weight (at most the gross limit), for an order twice the position
        limit, which is a turn from one side to the other, and for orders in a minute two for each ticker.

        >>> Limits.from_settings(Risk(), capital=100_000.0, tickers=4).position
        50000.0
        """
        share = settings.max_position_share
        weight = min(2.0 / tickers, settings.max_gross) if share == "auto" else share
        position = capital * weight
        notional, rate = settings.max_order_notional, settings.max_orders_per_minute
        return cls(
            position=position,
            order=2.0 * position if notional == "auto" else notional,
            gross=capital * settings.max_gross,
            net=capital * settings.max_net,
            orders_per_minute=max(_LEAST_ORDERS, 2 * tickers) if rate == "auto" else rate,
            collar=settings.price_collar,
            stale_bars=settings.stale_bars,
            daily_loss=capital * settings.max_daily_loss,
            drawdown=capital * settings.max_drawdown,
            flat_minutes=flat_minutes,
            shorting=shorting,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskBook:
    """The account as an order meets it."""

    positions: Mapping[str, float] = field(default_factory=dict)
    """Shares by ticker, - for short."""
    prices: Mapping[str, float] = field(default_factory=dict)
    """The last good close of each ticker, USD."""
    open_quantities: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """What open orders may still (buy, sell) in each ticker: shares >= 0, shares <= 0."""
    ages: Mapping[str, float] = field(default_factory=dict)
    """Bars since the ticker's newest one: 0 where it is the bar that has just ended. A ticker not in it is stale."""
    equity: float
    equity_at_open: float
    """Equity (USD) at the close of the session before."""
    peak: float = -math.inf
    """Highest equity (USD) at the closes of the newest sessions."""
    buying_power: float | None = None
    """USD by which the gross exposure may still grow; None where the broker does not say."""
    recent_orders: int = 0
    """Orders sent in the last 60 seconds."""
    known_ids: Container[str] = frozenset()
    """Client order ids that were used before."""
    latches: frozenset[str] = frozenset()
    barred: str = ""
    """Why nothing may be opened although nothing is latched, "" where it may; a sentence."""
    market_open: bool = True
    minutes_to_close: float = math.inf
    """From the end of the newest bar, when the order would fill, to the session's close."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """Whether an order may go, and if not, or not all of it, the code for the ledger and a sentence for a person."""

    allowed: bool
    code: Code | None = None
    text: str = ""
    quantity: float | None = None
    """How many shares may go instead: those that close the position, of an order that would turn it. None: all."""


ALLOWED: Final = Ruling(allowed=True)  # made once: nothing stands in a ruling that lets an order pass


def allow(order: Order, book: RiskBook, limits: Limits) -> Ruling:
    """Judge one order; see `review`."""
    return _Standing(book, limits).judge(order)


def review(orders: Sequence[Order], book: RiskBook, limits: Limits) -> tuple[Ruling, ...]:
    """Judge each order as it comes, those before it that were allowed being open at the broker.

    Limits hold whichever part of the open orders fills. An order that reduces a position, and cannot turn it even if
    all that is open fills too, passes where the market is open, the id is new, and the ticker has a price: no limit
    may keep a position from being closed; and of an order that would turn one and is refused, the part that closes it
    may go. So a reduction may leave the net exposure above its limit, where the other
    side stays; from there on only orders that bring it back pass.
    """
    standing = _Standing(book, limits)
    return tuple(standing.judge(order) for order in orders)


def find_breach(book: RiskBook, limits: Limits) -> Code | None:
    """Return DAILY_LOSS where the day has lost the limit or more, or where its equity cannot be told; DRAWDOWN where
    that is so since the best of the newest closes.
    """
    loss = book.equity_at_open - book.equity
    if not loss < limits.daily_loss:  # NaN is not below anything
        return Code.DAILY_LOSS
    return Code.DRAWDOWN if book.peak - book.equity >= limits.drawdown else None


def is_price(value: float | None) -> bool:
    """Whether `value` can be the price of a share.

    >>> is_price(float("nan"))
    False
    """
    return value is not None and math.isfinite(value) and value > 0


@dataclass(slots=True)
class _Exposure:
    """One ticker: shares if only the open sells fill, and if only the open buys do; low <= position <= high."""

    low: float
    high: float
    price: float

    @property
    def worst(self) -> float:
        return max(abs(self.low), abs(self.high))

    def add(self, quantity: float) -> "_Exposure":
        return _Exposure(self.low + min(quantity, 0.0), self.high + max(quantity, 0.0), self.price)


@dataclass(slots=True)
class _Standing:
    """The book while a minute's orders pass, with its sums kept up to date: 500 orders cost 500 steps, not 250,000."""

    book: RiskBook
    limits: Limits
    exposures: dict[str, _Exposure] = field(default_factory=dict)
    ids: set[str] = field(default_factory=set)
    gross: float = 0.0
    net_low: float = 0.0
    net_high: float = 0.0
    sent: int = 0
    used: float = 0.0

    def __post_init__(self) -> None:
        for ticker in self.book.positions.keys() | self.book.open_quantities.keys():
            exposure = self._compute_exposure(ticker)
            if exposure.low == exposure.high == 0:
                continue
            # What has no price could be worth anything: nothing may be added to such a book.
            price = exposure.price if is_price(exposure.price) else math.inf
            self.gross += exposure.worst * price
            self.net_low += exposure.low * price if exposure.low else 0.0
            self.net_high += exposure.high * price if exposure.high else 0.0

    def judge(self, order: Order) -> Ruling:
        malformed = self._find_malformation(order)
        if malformed is not None:
            return Ruling(allowed=False, code=malformed[0], text=malformed[1])
        before = self._compute_exposure(order.ticker)
        after = before.add(order.quantity)
        closes = max(0.0, -before.high) if order.quantity > 0 else min(0.0, -before.low)
        refused = None
        if abs(order.quantity) > abs(closes):
            refused = self._find_prohibition(order) or self._find_excess(order, before, after)
        if refused is None:
            self._take(order, before, after)
            return ALLOWED
        code, text = refused
        if not closes:
            return Ruling(allowed=False, code=code, text=text)
        self._take(replace(order, quantity=closes), before, before.add(closes))
        return Ruling(allowed=True, code=code, text=f"{text}; only what closes the position goes", quantity=closes)

    def _compute_exposure(self, ticker: str) -> _Exposure:
        if ticker not in self.exposures:
            held = self.book.positions.get(ticker, 0.0)
            bought, sold = self.book.open_quantities.get(ticker, (0.0, 0.0))
            self.exposures[ticker] = _Exposure(held + sold, held + bought, self.book.prices.get(ticker, math.nan))
        return self.exposures[ticker]

    def _find_malformation(self, order: Order) -> tuple[Code, str] | None:
        """Return why no broker could carry this order out, even to close a position."""
        exposure = self._compute_exposure(order.ticker)
        if not (math.isfinite(order.quantity) and order.quantity and math.isfinite(exposure.worst)):
            return Code.NOT_FINITE, f"{order.quantity} shares are not a quantity"
        if order.client_order_id in self.ids or order.client_order_id in self.book.known_ids:
            return Code.DUPLICATE, f"the order {order.client_order_id} was sent before"
        if not self.book.market_open:
            return Code.CLOSED, "the market is closed"
        if not is_price(exposure.price) or not is_price(order.reference_price):
            return Code.NO_PRICE, f"{order.ticker} has no price"
        return None

    def _find_prohibition(self, order: Order) -> tuple[Code, str] | None:
        """Return why no position may be opened or enlarged now, however small."""
        book, limits = self.book, self.limits
        if book.latches:
            return Code.LATCHED, f"latched: {', '.join(sorted(book.latches))}"
        if book.barred:
            return Code.BARRED, book.barred
        if book.minutes_to_close <= limits.flat_minutes:
            return Code.NEAR_CLOSE, f"{book.minutes_to_close:g} minutes are left, flat from {limits.flat_minutes} on"
        age = book.ages.get(order.ticker, math.inf)
        if not age <= limits.stale_bars:
            return Code.STALE, f"the newest bar is {age:g} bars old, at most {limits.stale_bars:g} are allowed"
        price = self._compute_exposure(order.ticker).price
        away = abs(order.reference_price / price - 1.0)
        if not away <= limits.collar:
            return Code.COLLAR, f"priced at {order.reference_price:g}, {away:.0%} away from the last close of {price:g}"
        if book.recent_orders + self.sent >= limits.orders_per_minute:
            return (
                Code.RATE,
                f"{count(book.recent_orders + self.sent, 'order')} in a minute, at most {limits.orders_per_minute}",
            )
        return None

    def _find_excess(self, order: Order, before: _Exposure, after: _Exposure) -> tuple[Code, str] | None:
        """Return which limit would be passed if this order and whatever is open filled."""
        limits = self.limits
        price = max(order.reference_price, before.price)
        growth = (after.worst - before.worst) * price
        turns = before.high < 0 if order.quantity > 0 else before.low > 0
        side = after.high if order.quantity > 0 else -after.low  # not the worst: that may be the side which it leaves
        high, low = self.net_high + max(order.quantity, 0.0) * price, self.net_low + min(order.quantity, 0.0) * price
        net = high if order.quantity > 0 else -low
        power = self.book.buying_power
        if not limits.shorting and order.quantity < 0 and after.low < 0:
            return Code.NO_SHORT, f"{-after.low:g} shares would be sold short"
        for code, value, most, applies in (
            (Code.MAX_NOTIONAL, abs(order.quantity) * price, limits.order, True),
            (Code.MAX_POSITION, side * price, limits.position, True),
            (Code.MAX_GROSS, self.gross + growth, limits.gross, growth > 0 or turns),
            (Code.MAX_NET, net, limits.net, True),
            (Code.BUYING_POWER, self.used + growth, math.inf if power is None else power, growth > 0),
        ):
            if applies and not value <= most:
                return code, f"{value:,.2f} USD, at most {most:,.2f}"
        return None

    def _take(self, order: Order, before: _Exposure, after: _Exposure) -> None:
        price = max(order.reference_price, before.price)
        growth = max(0.0, after.worst - before.worst) * price
        self.exposures[order.ticker] = after
        self.ids.add(order.client_order_id)
        self.gross += growth
        self.used += growth
        self.net_high += max(order.quantity, 0.0) * price
        self.net_low += min(order.quantity, 0.0) * price
        self.sent += 1
