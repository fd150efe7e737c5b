"""Splits of what one book holds: booked at once where the broker is simulated, else once the broker has done them."""

import math
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Final

import polars as pl

from hftcl.alerts import Kind
from hftcl.errors import BrokerError
from hftcl.ledger.account import DECIMALS, SAME
from hftcl.ledger.rows import ACTION, ADOPTED, SPLIT, BookName, FillRecord, LedgerEvent
from hftcl.ledger.writer import Ledger
from hftcl.trading.brokers import Broker, SplitsShares, TellsCash
from hftcl.trading.execute.corporate_plan import SPLITS
from hftcl.trading.execute.faults import Tell

_LOOK_BACK: Final = timedelta(days=4)  # a broker does a split on the evening before, with a weekend between
_SIDES: Final = ("out", "in")  # how the ids of a split's two fills end, here and of an action
_DAY: Final = timedelta(days=1)  # splits are booked at the beginning of a session, or within it


@dataclass(slots=True, kw_only=True)
class SplitBook:
    """The splits of one book. awaited: by ticker new shares for an old one, of those that the broker has still to do:
    the ledger keeps the old shares until then, as the broker does.
    """

    book: BookName
    broker: Broker
    ledger: Ledger
    tell: Tell
    awaited: dict[str, float] = field(default_factory=dict)
    _since: dict[str, date] = field(default_factory=dict)

    def take(self, splits: Mapping[str, float], prices: Mapping[str, float], session: date, at: datetime) -> None:
        """Take the splits of what was held before `session`: book them, or wait for the broker to do them.

        prices: of the close before, USD, in new shares. What is booked already is not booked again.
        """
        held = self.ledger.read_positions(self.book)
        if not isinstance(self.broker, SplitsShares):
            for ticker in splits.keys() - self.awaited.keys():
                self._since[ticker] = session
            self.awaited |= splits
            self._forget_settled(held)
            return
        booked = self._list_booked(session)
        new = {ticker: ratio for ticker, ratio in splits.items() if ticker not in booked}
        for ticker, ratio in new.items():
            self.broker.split(ticker, ratio, at)
        self._write({ticker: (ratio, ratio) for ticker, ratio in new.items()}, prices, session, at)

    def book_done(self, at_broker: Mapping[str, float], session: date, at: datetime) -> bool:
        """Book what the broker has done of those that are awaited, and say whether it was any.

        The shares that it holds tell it, without those that others traded in the account. Parts of a share it pays out
        in cash: what is booked is what it holds.
        """
        held = self.ledger.read_positions(self.book)
        self._forget_settled(held)
        foreign = self.ledger.read_positions("foreign") if self.awaited and self.book == "production" else {}
        ours = {ticker: at_broker.get(ticker, 0.0) - foreign.get(ticker, 0.0) for ticker in self.awaited}
        done = {
            ticker: (ratio, ours[ticker] / held[ticker])
            for ticker, ratio in self.awaited.items()
            if _is_done(held[ticker], ratio, ours[ticker])
            and not (abs(ours[ticker]) <= SAME and self._went_elsewhere(ticker, session))
        }
        self._write(done, {}, session, at)
        for ticker in [ticker for ticker in done if abs(ours[ticker]) <= SAME]:
            text = (
                f"{held[ticker]:g} shares of {ticker} became less than one by a split of {done[ticker][0]:g} for 1, "
                f"and the broker {self.broker.name} holds none: they are paid out in cash, which is booked once told."
            )
            self.tell(Kind.ERROR, f"a split left no share of {ticker}", text, at)
        self.awaited = {ticker: ratio for ticker, ratio in self.awaited.items() if ticker not in done}
        return bool(done)

    def _went_elsewhere(self, ticker: str, session: date) -> bool:
        """Whether shares of which none is left went by something else than a split, or it is not known by what."""
        if not isinstance(self.broker, TellsCash):
            return False
        try:
            moves = self.broker.cash_moves(session - _LOOK_BACK)
        except BrokerError:  # looked at again with the next minute
            return True
        rows = [move for move in moves or () if move.ticker == ticker and move.shares]
        return any(move.kind not in SPLITS for move in rows)

    def end_wait(self, tickers: Container[str]) -> None:
        """Wait no longer for the splits of `tickers`: what the broker made of their shares is booked."""
        self.awaited = {ticker: ratio for ticker, ratio in self.awaited.items() if ticker not in tickers}
        self._since = {ticker: day for ticker, day in self._since.items() if ticker in self.awaited}

    def _forget_settled(self, held: Mapping[str, float]) -> None:
        """Wait no longer where nothing is held, or where a person has taken the broker's shares for true since."""
        if self.awaited:
            first = datetime.combine(min(self._since[ticker] for ticker in self.awaited), datetime.min.time(), UTC)
            rows = self.ledger.read_fills(self.book, first).filter(client_order_id=ADOPTED)
            adopted = {(row["ticker"], row["ts"].date()) for row in rows.iter_rows(named=True)}
            self.awaited = {
                ticker: ratio
                for ticker, ratio in self.awaited.items()
                if ticker in held and not any(name == ticker and day >= self._since[ticker] for name, day in adopted)
            }
        self._since = {ticker: day for ticker, day in self._since.items() if ticker in self.awaited}

    def tell_awaited(self, now: datetime) -> None:
        """Tell which splits the broker has not done yet."""
        if not self.awaited:
            return
        names = ", ".join(f"{ticker} ({ratio:g} for 1)" for ticker, ratio in sorted(self.awaited.items()))
        text = (
            f"Shares were split, and the broker {self.broker.name} has not done it yet: {names}. These tickers are "
            "left alone until it has; the others are traded."
        )
        self.tell(Kind.ERROR, "a split that the broker has not done yet", text, now)

    def restate(self, positions: Mapping[str, float]) -> Mapping[str, float]:
        """Return `positions` in the shares of today, in which prices are: what is awaited counts as done."""
        if self.awaited:
            self._forget_settled(self.ledger.read_positions(self.book))
        return {ticker: held * self.awaited.get(ticker, 1.0) for ticker, held in positions.items()}

    def list_ratios(self, session: date) -> dict[str, float]:
        """Return by ticker new shares for an old one, of the splits of `session`, done or awaited."""
        return self._list_booked(session) | self.awaited

    def list_by_broker(self, session: date) -> dict[str, float]:
        """Return by ticker what splits made of an old share that are booked in `session` by the broker's word alone:
        the source of the bars knows none of them, or another ratio.
        """
        begins = datetime.combine(session, datetime.min.time(), UTC)
        rows = self.ledger.read_fills(self.book, begins, begins + _DAY).filter(client_order_id=ACTION)
        return _find_ratios(rows)

    def _list_booked(self, session: date) -> dict[str, float]:
        """Return by ticker what the splits that are booked in `session` made of an old share."""
        begins = datetime.combine(session, datetime.min.time(), UTC)
        rows = self.ledger.read_fills(self.book, begins - _DAY, begins + 2 * _DAY).filter(client_order_id=SPLIT)
        own = rows.filter(pl.col("fill_id").str.contains(f"-{session:%Y%m%d}-{self.book}-", literal=True))
        return self.list_by_broker(session) | _find_ratios(own)

    def _write(
        self, done: Mapping[str, tuple[float, float]], prices: Mapping[str, float], session: date, at: datetime
    ) -> None:
        """Book splits of (ratio, what it made of the shares that are held) in one go."""
        if not done:
            return
        account = self.ledger.read_account(self.book)
        fills: list[FillRecord] = []
        for ticker, (ratio, made) in done.items():
            held = account.positions.get(ticker, 0.0)
            if held:
                price = prices.get(ticker, account.average_price[ticker] / ratio) * ratio
                fills += split_fills(ticker, held, made, price, session, at, self.book)
                text = f"{self.book}: {ticker} was split: {held:g} shares became {held * made:g}"
                self.ledger.write_event(LedgerEvent(at=at, kind="split", text=text))
        self.ledger.write_outcomes(fills=fills)


def _find_ratios(fills: pl.DataFrame) -> dict[str, float]:
    """Return by ticker new shares for an old one, of the shares that went and those of the same ticker that came."""
    out: dict[str, float] = {}
    ratios: dict[str, float] = {}
    for row in fills.iter_rows(named=True):
        ticker, shares = row["ticker"], row["quantity"]
        if row["fill_id"].endswith(f"-{_SIDES[0]}"):
            out[ticker] = -shares
        elif ticker in out:
            ratios[ticker] = ratios.get(ticker, 1.0) * shares / out[ticker]
    return ratios


def name_fill(ticker: str, session: date, book: BookName, side: str) -> str:
    """Return the id of one of the two fills of a split: the same whenever it is booked in this session."""
    return f"{SPLIT}-{ticker}-{session:%Y%m%d}-{book}-{side}"


def split_fills(
    ticker: str, held: float, ratio: float, price: float, session: date, at: datetime, book: BookName
) -> tuple[FillRecord, ...]:
    """Return a split of a position as the ledger keeps it: the old shares out, the new ones in, for the same money.

    price: USD a share before it. held: shares before it. Ids follow from ticker and session: it is booked once. Where
    no share is left, the old ones are out for nothing: what is paid for them is told as cash.
    """
    after = round(held * ratio, DECIMALS)
    sides = [("out", -held, price), ("in", after, price * held / after)] if after else [("out", -held, 0.0)]
    return tuple(
        FillRecord(
            fill_id=name_fill(ticker, session, book, side),
            client_order_id=SPLIT,
            book=book,
            ts=at,
            ticker=ticker,
            model_id=None,
            quantity=quantity,
            price=value,
            commission=0.0,
            reference_price=value,
            filled_at=at,
        )
        for side, quantity, value in sides
    )


def _is_done(held: float, ratio: float, now_held: float) -> bool:
    expected = abs(held * ratio)
    is_within = math.floor(expected + SAME) - SAME <= abs(now_held) <= expected + SAME
    is_of_the_side = held * now_held > 0 or expected < 1.0  # of less than one share nothing but cash may be left
    return is_within and is_of_the_side and abs(now_held - held) > SAME
