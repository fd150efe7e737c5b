"""Who earned it: the P&L of fills, to the cent, booked on session, model, ticker and hour. Pure; fills and closes in.

Derived from fills and the sessions' closes only, so that a restart changes no figure. A year of 500 tickers is a
million fills: they stay columns, and only what one fill leaves to the next, the lots held, goes through Python. Every
sum is taken row by row in the order in which the fills came: numpy's and polars' own add in pairs, to other last bits.
"""

from array import array
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

OVERNIGHT: Final = -1  # below every hour of a session, which count from 0, so it sorts first
_FLAT: Final = 1e-9  # shares: what sums of fractional quantities leave where the position is none
_USD_DECIMALS: Final = 6  # of a trade's net: one that comes out even is neither won nor lost, whatever its sum leaves
_PARTS: Final = (
    3  # what can be booked between a fill and the next: itself, what it closed, what a session's end settled
)

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

FILLS: Final = pl.Schema(
    {
        "session": pl.Date(),
        "hour": pl.Int64(),
        "ts": pl.Datetime("us", "UTC"),
        "ticker": pl.String(),
        "model_id": pl.String(),
        "quantity": pl.Float64(),
        "price": pl.Float64(),
        "commission": pl.Float64(),
        "reference_price": pl.Float64(),
        "open": pl.Float64(),
        "ordered": pl.Boolean(),
    }
)
"""What `attribute` reads of fills. hour: place of the hour of its session, from 0; quantity: signed shares; money in
USD; open: of its bar, null where it is not known; ordered: whether an order traded them."""

AMOUNTS: Final = ("moved", "commission", "slippage", "traded", "fills", "opens", "fill_cost", "timing", "charges")
"""The columns of what is booked, float64, USD but the counts `fills` and `opens`; the fields of `Amounts` tell them."""


class BookingKey(NamedTuple):
    """What an amount is booked on; hour OVERNIGHT for what a position made that was held from the session before."""

    session: date
    model_id: str
    ticker: str
    hour: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """Sums in USD. slippage: what the fills paid above the reference price of their decision; traded: |money moved|."""

    moved: float = 0.0
    """P&L of the prices at which it was filled, before commission."""
    commission: float = 0.0
    slippage: float = 0.0
    traded: float = 0.0
    fills: float = 0.0
    """How many, a whole number."""
    opens: float = 0.0
    """Of how many of them the open of the bar is known."""
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


NET: Final = pl.col("moved") - pl.col("commission") + pl.col("charges")
"""`Amounts.net` of a row of what is booked."""


@dataclass(frozen=True, slots=True)
class Attribution:
    """P&L by key, the trades that ended in the order of their end, and what is still held.

    booked: a row each `BookingKey`, in the order in which they were first booked on; its columns and AMOUNTS.
    trades: a row each held interval of a ticker, from flat, or from the other side, until flat or the other side.
    model_id, hour: of the fill that opened it. session: in which it ended. opened, closed: ts of the bars of its first
    and last fill, UTC. quantity: the largest it held, in shares, negative for a short. entry, exit: mean prices. net:
    USD after commission; over all trades and what is still open they add up to the P&L of the fills. fills: how many.
    held: shares by ticker, - for short, in the order of the tickers' first fills.
    """

    booked: pl.DataFrame
    trades: pl.DataFrame
    held: dict[str, float]


def attribute(
    fills: pl.DataFrame,
    closes: pl.DataFrame,
    sessions: Sequence[date],
    charges: Mapping[BookingKey, float] | None = None,
) -> Attribution:
    """Book every fill and every interval of a position on the model that decided it.

    fills: with the columns of FILLS, oldest first, in the order in which they filled; later ones than the last of
    `sessions` are left out. sessions: sorted, all of the fills' among them. closes: session, ticker, close: the last
    price of a ticker in a session, in the shares of that session. charges: what no fill made, booked as it is given.
    First in, first out: a fill that reduces a position closes the oldest shares held, and what these made is booked on
    the model, and on the hour, of the fill that opened them, whatever closed them, and when; so what a model
    left to its successor at a swap remains its own. Commission, slippage and turnover are booked on the fill's own
    model and hour. What is held at the end of a session is settled at its close, as futures are: that day's P&L ends
    there, and the next begins from that price, in the hour OVERNIGHT. Without a close it is settled later.
    What no order traded is neither a fill nor turnover. Of a split, whose old shares go and new ones come at the same
    moment, the lots and the trade under way go on in new shares.
    """
    fills = fills.filter(pl.col("session") <= sessions[-1]) if sessions else fills.clear()
    days = _find_places(fills["session"], sessions)
    moves, trades, held = _match_fills(fills, days, _split_closes(closes, sessions), len(sessions))
    return Attribution(_book_all(fills, days, sessions, moves, charges or {}), _build_trades(fills, trades), held)


def _find_places(days: pl.Series, sessions: Sequence[date]) -> IntArray:
    """Return the place of each of `days` among `sessions`."""
    known = pl.Series(sessions, dtype=pl.Date).to_physical().to_numpy()
    return np.searchsorted(known, days.to_physical().to_numpy()).astype(np.int64)


def _split_closes(closes: pl.DataFrame, sessions: Sequence[date]) -> dict[str, dict[int, float]]:
    """Return each ticker's closes by the place of their session."""
    span = closes.filter(pl.col("session").is_in(list(sessions)))
    placed = span.select("ticker", "close", place=pl.Series(_find_places(span["session"], sessions)))
    parts = placed.partition_by("ticker", as_dict=True, include_key=False)
    return {
        str(ticker): dict(zip(part["place"].to_list(), part["close"].to_list(), strict=True))
        for (ticker,), part in parts.items()
    }


@dataclass(slots=True)
class _Moves:
    """What prices made of the shares held, a row a lot: when, in which session, of which fill's lot, USD."""

    order: "array[int]" = field(default_factory=lambda: array("q"))
    day: "array[int]" = field(default_factory=lambda: array("q"))
    opener: "array[int]" = field(default_factory=lambda: array("q"))
    moved: "array[float]" = field(default_factory=lambda: array("d"))

    def add(self, order: int, day: int, opener: int, moved: float) -> None:
        self.order.append(order)
        self.day.append(day)
        self.opener.append(opener)
        self.moved.append(moved)


_TradeRow = tuple[int, int, float, float, float, float, int]
"""Places of the first and the last fill, quantity, entry, exit, net, fills."""


def _match_fills(
    fills: pl.DataFrame, days: IntArray, closes: Mapping[str, Mapping[int, float]], sessions: int
) -> tuple[_Moves, list[_TradeRow], dict[str, float]]:
    """Match the fills of each ticker, first in, first out."""
    moves, trades, held = _Moves(), list[_TradeRow](), dict[str, float]()
    # how many fills there had been when a session ended: what is settled then comes after the last of these
    ends = np.searchsorted(days, np.arange(sessions), side="right").tolist()
    columns = fills.select("ticker", "ts", "quantity", "price", "commission", "ordered", place=pl.int_range(pl.len()))
    parts = columns.with_columns(day=pl.Series(days)).partition_by("ticker", as_dict=True, maintain_order=True)
    for (ticker,), part in parts.items():
        book = _LotBook(closes.get(str(ticker), {}), ends, moves, trades)
        columns_of = (part[name].to_list() for name in ("place", "day", "quantity", "price", "commission", "ordered"))
        made = _find_splits(part)
        coming = enumerate(zip(*columns_of, strict=True))
        for row, fill in coming:
            if row in made and book.position and abs(book.position + fill[2]) <= _FLAT:
                book.split(fill[1], made[row])
                next(coming)
            else:
                book.book_fill(*fill)
        book.settle_until(sessions)
        if abs(book.position) > _FLAT:
            held[str(ticker)] = book.position
    trades.sort(key=lambda trade: trade[1])  # a fill ends one trade at most
    return moves, trades, held


def _find_splits(part: pl.DataFrame) -> dict[int, float]:
    """Return by the row of old shares that go, of one ticker, the new shares that come for them in the same moment."""
    if part["ordered"].all():
        return {}
    quantity, ts, unordered = pl.col("quantity"), pl.col("ts"), ~pl.col("ordered")
    is_pair = unordered & unordered.shift(-1) & (ts == ts.shift(-1)) & (quantity * quantity.shift(-1) < 0)
    rows = part.select(row=pl.int_range(pl.len()), made=quantity.shift(-1), is_pair=is_pair).filter("is_pair")
    return dict(rows.select("row", "made").iter_rows())


@dataclass(slots=True)
class _Lot:
    """Shares bought (sold where negative) at one price and still held; `price` becomes the close when settled."""

    quantity: float
    price: float
    opener: int


@dataclass(slots=True)
class _Open:
    """The trade under way in one ticker; paid, received: signed quantity times price, of entering and of leaving."""

    first: int
    entered: float = 0.0
    paid: float = 0.0
    left: float = 0.0
    received: float = 0.0
    commission: float = 0.0
    largest: float = 0.0
    fills: int = 0

    def close(self, last: int, price: float) -> _TradeRow:
        return (
            self.first,
            last,
            self.largest,
            self.paid / self.entered,
            self.received / self.left if self.left else price,
            round(-self.paid - self.received - self.commission, _USD_DECIMALS),
            self.fills,
        )


@dataclass(slots=True)
class _LotBook:
    """One ticker: its lots, oldest first, and the trade under way. closes, ends: by the place of the session."""

    closes: Mapping[int, float]
    ends: Sequence[int]
    moves: _Moves
    trades: list[_TradeRow]
    day: int = 0
    lots: deque[_Lot] = field(default_factory=deque)
    position: float = 0.0
    open: _Open | None = None

    def book_fill(
        self, place: int, day: int, quantity: float, price: float, commission: float, is_ordered: bool
    ) -> None:
        """Take a fill: book what it closes, and the trade that it ends."""
        if day != self.day:
            self.settle_until(day)
        self._match(place, quantity, price)
        self._follow(place, quantity, price, commission, is_ordered)
        if not self.position:
            self.lots.clear()  # of a flat book, crumbs of rounding, which would be booked on days to come

    def split(self, day: int, made: float) -> None:
        """Go on with `made` shares for those that are held, for the same money."""
        if day != self.day:
            self.settle_until(day)
        ratio, self.position = made / self.position, made
        for lot in self.lots:
            lot.quantity, lot.price = lot.quantity * ratio, lot.price / ratio
        if (trade := self.open) is not None:
            trade.entered, trade.left, trade.largest = trade.entered * ratio, trade.left * ratio, trade.largest * ratio

    def settle_until(self, day: int) -> None:
        """Book what every lot has made by the closes of the sessions before `day`, and let it go on from there."""
        for ended in range(self.day, day) if self.lots else ():
            if (close := self.closes.get(ended)) is not None:
                for lot in self.lots:
                    self.moves.add(_PARTS * self.ends[ended] - 1, ended, lot.opener, lot.quantity * (close - lot.price))
                    lot.price = close
        self.day = day

    def _match(self, place: int, quantity: float, price: float) -> None:
        left, lots = quantity, self.lots
        while abs(left) > _FLAT and lots and (lots[0].quantity > 0) != (left > 0):
            lot = lots[0]
            closed = lot.quantity if abs(lot.quantity) <= abs(left) + _FLAT else -left
            self.moves.add(_PARTS * place + 1, self.day, lot.opener, closed * (price - lot.price))
            left += closed
            lot.quantity -= closed
            if not lot.quantity:
                lots.popleft()
        if abs(left) > _FLAT:
            lots.append(_Lot(left, price, place))

    def _follow(self, place: int, quantity: float, price: float, commission: float, is_ordered: bool) -> None:
        """Split the fill where it turns the position: its first part ends the old trade, the rest begins a new one."""
        before, after = self.position, self.position + quantity
        self.position = 0.0 if abs(after) <= _FLAT else after
        rest = quantity
        if self.open is not None and before and (before > 0) != (rest > 0):
            closing = -before if abs(rest) >= abs(before) - _FLAT else rest
            trade = self.open
            trade.left += closing
            trade.received += closing * price
            trade.commission += commission * min(abs(closing / quantity), 1.0)
            trade.fills += is_ordered  # what no order traded is none of its fills
            if not self.position or (self.position > 0) != (before > 0):
                self.trades.append(trade.close(place, price))
                self.open = None
            rest = self.position if self.open is None else 0.0
        if rest and self.position:
            if self.open is None:
                self.open = _Open(place)
            trade = self.open
            trade.entered += rest
            trade.paid += rest * price
            trade.commission += commission * min(abs(rest / quantity), 1.0)
            trade.largest = max(trade.largest, self.position, key=abs)
            trade.fills += is_ordered


def _book_all(
    fills: pl.DataFrame, days: IntArray, sessions: Sequence[date], moves: _Moves, charges: Mapping[BookingKey, float]
) -> pl.DataFrame:
    """Return what is booked on each key: a row each, in the order in which they were first booked on."""
    ordered = np.flatnonzero(fills["ordered"].to_numpy())
    count = ordered.size
    names = [
        pl.concat([fills[name], pl.Series([getattr(key, name) for key in charges], dtype=pl.String)]).unique().sort()
        for name in ("model_id", "ticker")
    ]
    models, tickers = (
        _find_codes(fills[name], values) for name, values in zip(("model_id", "ticker"), names, strict=True)
    )
    hours = fills["hour"].to_numpy()
    opener, moved_on = np.asarray(moves.opener, np.int64), np.asarray(moves.day, np.int64)
    charged = (
        _find_places(pl.Series([key.session for key in charges], dtype=pl.Date), sessions),
        _find_codes(pl.Series([key.model_id for key in charges], dtype=pl.String), names[0]),
        _find_codes(pl.Series([key.ticker for key in charges], dtype=pl.String), names[1]),
        np.array([key.hour for key in charges], np.int64),
    )
    parts = zip(
        (days[ordered], models[ordered], tickers[ordered], hours[ordered]),
        (moved_on, models[opener], tickers[opener], np.where(days[opener] == moved_on, hours[opener], OVERNIGHT)),
        charged,
        strict=True,
    )
    columns = [np.concatenate(part) for part in parts]
    order = np.concatenate([_PARTS * ordered, np.asarray(moves.order, np.int64), [1 << 62] * len(charges)])
    came = np.lexsort((columns[0], order))  # stable: what came at the same moment stays as it was written
    places, firsts = _number_keys(columns, came)
    back = np.empty_like(places)
    back[came] = places
    of_fill, of_move, of_charge = np.split(back, [count, count + opener.size])
    in_turn = np.argsort(order[count : count + opener.size], kind="stable")
    size = firsts.size
    sums = _sum_fills(fills.filter("ordered"), of_fill, size)
    sums["moved"] = _sum_by(of_move[in_turn], np.asarray(moves.moved)[in_turn], size)
    sums["charges"] = _sum_by(of_charge, np.fromiter(charges.values(), np.float64, len(charges)), size)
    day, model, ticker, hour = (column[came[firsts]] for column in columns)
    return pl.DataFrame(
        {
            "session": pl.Series(sessions, dtype=pl.Date).gather(day),
            "model_id": names[0].gather(model),
            "ticker": names[1].gather(ticker),
            "hour": hour,
            **{name: sums[name] for name in AMOUNTS},
        }
    )


def _sum_fills(fills: pl.DataFrame, places: IntArray, size: int) -> dict[str, FloatArray]:
    """Return what the fills cost by key; `places`: the key of each."""
    quantity, price = pl.col("quantity"), pl.col("price")
    terms = fills.select(
        "commission",
        slippage=quantity * (price - pl.col("reference_price")),
        traded=quantity.abs() * price,
        fills=pl.lit(1.0),
        opens=pl.col("open").is_not_null().cast(pl.Float64),
        fill_cost=(quantity * (price - pl.col("open"))).fill_null(0.0),
        timing=(quantity * (pl.col("open") - pl.col("reference_price"))).fill_null(0.0),
    )
    return {name: _sum_by(places, terms[name].to_numpy(), size) for name in terms.columns}


def _find_codes(values: pl.Series, names: pl.Series) -> IntArray:
    """Return the place of each of `values` among `names`, which are all of them."""
    return values.cast(pl.Enum(names)).to_physical().cast(pl.Int64).to_numpy()


def _number_keys(columns: Sequence[IntArray], came: IntArray) -> tuple[IntArray, IntArray]:
    """Return the number of each row's key, counted as they first come, and the row in which each came first.

    came: the rows of `columns` in the order in which they came, which is that of what is returned.
    """
    one = np.zeros(columns[0].size, np.int64)
    for column in columns:
        low = int(column.min(initial=0))
        one *= int(column.max(initial=0)) - low + 1
        one += column
        one -= low
    _, firsts, inverse = np.unique(one[came], return_index=True, return_inverse=True)
    turn = np.argsort(firsts)
    number = np.empty_like(turn)
    number[turn] = np.arange(turn.size)
    return number[inverse], firsts[turn]


def _sum_by(places: IntArray, values: FloatArray, size: int) -> FloatArray:
    """Return the sum of the values of each place, float64, shape (size,), added one by one as they come."""
    return np.bincount(places, weights=values, minlength=size).astype(np.float64, copy=False)


def _build_trades(fills: pl.DataFrame, trades: Sequence[_TradeRow]) -> pl.DataFrame:
    names = ("first", "last", "quantity", "entry", "exit", "net", "fills")
    types = (pl.Int64, pl.Int64, pl.Float64, pl.Float64, pl.Float64, pl.Float64, pl.Int64)
    rows = pl.DataFrame(trades, schema=dict(zip(names, types, strict=True)), orient="row")
    first = fills.select("model_id", "hour", opened="ts")[rows["first"]]
    last = fills.select("ticker", "session", closed="ts")[rows["last"]]
    return pl.concat([first, last, rows.drop("first", "last")], how="horizontal")
