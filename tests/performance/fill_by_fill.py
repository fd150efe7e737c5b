"""A second implementation of `hftcl.performance.attribution`: fill by fill through dicts, slow, and easy to believe."""

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Final, NamedTuple

OVERNIGHT: Final = -1  # below every hour of a session, which count from 0, so it sorts first
_FLAT: Final = 1e-9  # shares: what sums of fractional quantities leave where the position is none
_USD_DECIMALS: Final = 6  # of a trade's net: one that comes out even is neither won nor lost, whatever its sum leaves


class Execution(NamedTuple):
    """One fill. hour: place of the hour of its session, from 0; quantity: signed shares; money in USD."""

    session: date
    hour: int
    ts: datetime
    ticker: str
    model_id: str
    quantity: float
    price: float
    commission: float
    reference_price: float
    open: float | None = None
    """Of its bar; None where it is not known."""
    ordered: bool = True
    """Whether an order traded it."""


class Key(NamedTuple):
    """What an amount is booked on; hour OVERNIGHT for what a position made that was held from the session before."""

    session: date
    model_id: str
    ticker: str
    hour: int


@dataclass(slots=True)
class Amounts:
    """Sums in USD. slippage: what the fills paid above the reference price of their decision; traded: |money moved|."""

    moved: float = 0.0
    """P&L of the prices at which it was filled, before commission."""
    commission: float = 0.0
    slippage: float = 0.0
    traded: float = 0.0
    fills: int = 0
    opens: int = 0
    fill_cost: float = 0.0
    """The part of the slippage that was paid beyond the opens of the bars, where these are known."""
    timing: float = 0.0
    """The part of it that lies between the decision's reference price and these opens."""
    charges: float = 0.0
    """Fees, borrow, dividends, interest: + into the account."""

    @property
    def net(self) -> float:
        """P&L after every cost."""
        return self.moved - self.commission + self.charges

    @property
    def gross(self) -> float:
        """P&L had every fill been at its decision's reference price, without commission."""
        return self.moved + self.slippage

    def add(self, other: "Amounts") -> None:
        """Add `other` to this sum."""
        self.moved += other.moved
        self.commission += other.commission
        self.slippage += other.slippage
        self.traded += other.traded
        self.fills += other.fills
        self.opens += other.opens
        self.fill_cost += other.fill_cost
        self.timing += other.timing
        self.charges += other.charges


@dataclass(frozen=True, slots=True, kw_only=True)
class Trade:
    """One held interval of a ticker: from flat, or from the other side, until flat or the other side.

    model_id, hour: of the fill that opened it. session: in which it ended. opened, closed: ts of the bars of its first
    and last fill, UTC. quantity: the largest it held, in shares, negative for a short. entry, exit: mean prices.
    net: USD after commission; over all trades and what is still open they add up to the P&L of the fills.
    """

    ticker: str
    model_id: str
    session: date
    hour: int
    opened: datetime
    closed: datetime
    quantity: float
    entry: float
    exit: float
    net: float
    fills: int


@dataclass(frozen=True, slots=True)
class Attribution:
    """P&L by key, the trades that ended in the order of their end, and what is still held."""

    booked: dict[Key, Amounts]
    trades: tuple[Trade, ...]
    held: dict[str, float]


def attribute(
    executions: Iterable[Execution], closes: Mapping[tuple[date, str], float], sessions: Sequence[date]
) -> Attribution:
    """Book every fill and every interval of a position on the model that decided it.

    executions: oldest first, in the order in which they filled. sessions: sorted, all of the executions' among them.
    closes: the last price of a ticker in a session, in the shares of that session.
    First in, first out: a fill that reduces a position closes the oldest shares held, and what these made is booked on
    the model, and on the hour, of the fill that opened them, whatever closed them, and when; so what a model
    left to its successor at a swap remains its own. Commission, slippage and turnover are booked on the fill's own
    model and hour. What is held at the end of a session is settled at its close, as futures are: that day's P&L ends
    there, and the next begins from that price, in the hour OVERNIGHT. Without a close it is settled later.
    What no order traded is neither a fill nor turnover. Of a split, whose old shares go and new ones come at the same
    moment, the lots and the trade under way go on in new shares.
    """
    fills = list(executions)
    followers = _find_followers(fills)
    coming = iter(enumerate(fills))
    following = next(coming, None)
    done = set[int]()
    books: dict[str, _LotBook] = defaultdict(_LotBook)
    booked: dict[Key, Amounts] = defaultdict(Amounts)
    trades: list[Trade] = []
    for session in sessions:
        while following is not None and following[1].session <= session:
            place, fill = following
            follower, book = followers.get(place), books[fill.ticker]
            if follower is not None and book.is_split(fill, fills[follower]):
                book.split(fills[follower])
                done.add(follower)
            elif place not in done:
                trades += book.book_fill(fill, booked)
            following = next(coming, None)
        for ticker, book in books.items():
            if (close := closes.get((session, ticker))) is not None:
                book.book_close(session, ticker, close, booked)
    held = {ticker: book.position for ticker, book in books.items() if abs(book.position) > _FLAT}
    return Attribution(dict(booked), tuple(trades), held)


def _find_followers(fills: Sequence[Execution]) -> dict[int, int]:
    """Return the place of each fill's next one of the same ticker."""
    newest: dict[str, int] = {}
    followers: dict[int, int] = {}
    for place, fill in enumerate(fills):
        if fill.ticker in newest:
            followers[newest[fill.ticker]] = place
        newest[fill.ticker] = place
    return followers


@dataclass(slots=True)
class _Lot:
    """Shares bought (sold where negative) at one price and still held; `price` becomes the close when settled."""

    quantity: float
    price: float
    model_id: str
    session: date
    hour: int


@dataclass(slots=True)
class _Open:
    """The trade under way in one ticker; paid, received: signed quantity times price, of entering and of leaving."""

    first: Execution
    entered: float = 0.0
    paid: float = 0.0
    left: float = 0.0
    received: float = 0.0
    commission: float = 0.0
    largest: float = 0.0
    fills: int = 0

    def close(self, last: Execution) -> Trade:
        return Trade(
            ticker=last.ticker,
            model_id=self.first.model_id,
            session=last.session,
            hour=self.first.hour,
            opened=self.first.ts,
            closed=last.ts,
            quantity=self.largest,
            entry=self.paid / self.entered,
            exit=self.received / self.left if self.left else last.price,
            net=round(-self.paid - self.received - self.commission, _USD_DECIMALS),
            fills=self.fills,
        )


@dataclass(slots=True)
class _LotBook:
    """One ticker: its lots, oldest first, and the trade under way."""

    lots: deque[_Lot] = field(default_factory=deque)
    position: float = 0.0
    open: _Open | None = None

    def book_fill(self, execution: Execution, booked: dict[Key, Amounts]) -> list[Trade]:
        """Take a fill: book what it closes and what it cost; return the trade that it ended, if one."""
        if execution.ordered:
            own = booked[Key(execution.session, execution.model_id, execution.ticker, execution.hour)]
            own.commission += execution.commission
            own.slippage += execution.quantity * (execution.price - execution.reference_price)
            if execution.open is not None:
                own.opens += 1
                own.fill_cost += execution.quantity * (execution.price - execution.open)
                own.timing += execution.quantity * (execution.open - execution.reference_price)
            own.traded += abs(execution.quantity) * execution.price
            own.fills += 1
        self._match(execution, booked)
        ended = self._follow(execution)
        if not self.position:
            self.lots.clear()  # of a flat book, crumbs of rounding, which would be booked on days to come
        return ended

    def is_split(self, old: Execution, new: Execution) -> bool:
        """Whether all that is held goes, and other shares of the same side come for it at the same moment."""
        together = old.ts == new.ts and not old.ordered and not new.ordered
        return (
            together
            and bool(self.position)
            and abs(self.position + old.quantity) <= _FLAT
            and (self.position * new.quantity > 0)
        )

    def split(self, new: Execution) -> None:
        """Go on with the new shares, for the same money."""
        ratio, self.position = new.quantity / self.position, new.quantity
        for lot in self.lots:
            lot.quantity, lot.price = lot.quantity * ratio, lot.price / ratio
        if self.open is not None:
            self.open.entered, self.open.left = self.open.entered * ratio, self.open.left * ratio
            self.open.largest *= ratio

    def _match(self, execution: Execution, booked: dict[Key, Amounts]) -> None:
        left = execution.quantity
        while abs(left) > _FLAT and self.lots and (self.lots[0].quantity > 0) != (left > 0):
            lot = self.lots[0]
            closed = lot.quantity if abs(lot.quantity) <= abs(left) + _FLAT else -left
            key = _build_key(lot, execution.session, execution.ticker)
            booked[key].moved += closed * (execution.price - lot.price)
            left += closed
            lot.quantity -= closed
            if not lot.quantity:
                self.lots.popleft()
        if abs(left) > _FLAT:
            self.lots.append(_Lot(left, execution.price, execution.model_id, execution.session, execution.hour))

    def _follow(self, execution: Execution) -> list[Trade]:
        """Split the fill where it turns the position: its first part ends the old trade, the rest begins a new one."""
        before, after = self.position, self.position + execution.quantity
        self.position = 0.0 if abs(after) <= _FLAT else after
        ended: list[Trade] = []
        rest = execution.quantity
        if self.open is not None and before and (before > 0) != (rest > 0):
            closing = -before if abs(rest) >= abs(before) - _FLAT else rest
            self._leave(self.open, execution, closing)
            if not self.position or (self.position > 0) != (before > 0):
                ended.append(self.open.close(execution))
                self.open = None
            rest = self.position if self.open is None else 0.0
        if rest and self.position:
            self._enter(execution, rest)
        return ended

    def _leave(self, trade: _Open, execution: Execution, quantity: float) -> None:
        trade.left += quantity
        trade.received += quantity * execution.price
        trade.commission += execution.commission * min(abs(quantity / execution.quantity), 1.0)
        trade.fills += execution.ordered

    def _enter(self, execution: Execution, quantity: float) -> None:
        if self.open is None:
            self.open = _Open(execution)
        trade = self.open
        trade.entered += quantity
        trade.paid += quantity * execution.price
        trade.commission += execution.commission * min(abs(quantity / execution.quantity), 1.0)
        trade.largest = max(trade.largest, self.position, key=abs)
        trade.fills += execution.ordered

    def book_close(self, session: date, ticker: str, close: float, booked: dict[Key, Amounts]) -> None:
        """Book what every lot has made by the close, and let it go on from there."""
        for lot in self.lots:
            booked[_build_key(lot, session, ticker)].moved += lot.quantity * (close - lot.price)
            lot.price = close


def _build_key(lot: _Lot, session: date, ticker: str) -> Key:
    return Key(session, lot.model_id, ticker, lot.hour if lot.session == session else OVERNIGHT)
