"""What a corporate action made of what one book holds, by a broker's activities. Pure.

What may be two actions, half of one, or partly somebody else's shares is not planned: it is for a person.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from hftcl.ledger.account import DECIMALS, SAME
from hftcl.ledger.rows import ACTION
from hftcl.trading.brokers import CashMove

_OTHER_NAME: Final = frozenset({"NC", "SC"})
SPLITS: Final = frozenset({"SPLIT", "SSP"})
_MERGER, _REORGANISATION = "MA", "REORG"
"""Codes of activities, https://docs.alpaca.markets/docs/activity-sse"""
_CASH_MERGER: Final = "CMA"
_STOCK_AND_CASH: Final = "SCMA"
_WORTHLESS: Final = "WRM"
"""Their subtypes. Alpaca names the field, a text without a closed list, and no page that lists all of its values:
https://docs.alpaca.markets/changelog/introduce-activity_sub_type-in-get-activities
A merger or an end that says anything else is for a person."""
_PAID_OUT: Final = 0.5
"""Least share of what shares had cost that is paid where all of them are: else it is for the part of one alone, and the
row of the new shares is still to come."""


@dataclass(frozen=True, slots=True)
class Change:
    """What the newest activities made of one ticker: `shares` more than before, by `moves`. held: what the book had."""

    ticker: str
    held: float
    shares: float
    moves: tuple[CashMove, ...]

    @property
    def after(self) -> float:
        """Shares that are held now."""
        return round(self.held + self.shares, DECIMALS)

    @property
    def kinds(self) -> frozenset[str]:
        """Codes of the activities."""
        return frozenset(move.kind for move in self.moves)

    @property
    def subtypes(self) -> frozenset[str]:
        """Subtypes of the activities, without those that have none."""
        return frozenset(move.subtype for move in self.moves if move.subtype)

    @property
    def is_split(self) -> bool:
        """Whether old shares went and new ones of the same ticker came."""
        goes = any(move.shares * self.held < 0 for move in self.moves)
        return goes and self.after * self.held > 0 and self.kinds <= SPLITS | _OTHER_NAME

    @property
    def goes(self) -> bool:
        """Whether the book holds less than before, and did not turn."""
        return self.shares * self.held < 0 and self.after * self.held >= 0


@dataclass(frozen=True, slots=True)
class Leg:
    """Shares that are booked, at `price` USD."""

    fill_id: str
    ticker: str
    quantity: float
    price: float


@dataclass(frozen=True, slots=True)
class CorporateStep:
    """One action: the changes that it made, what is booked of them, and what is said, `remedy` to a person alone.

    split: the ticker, "" where it was none. worth: by ticker what a new share was worth at the old one's last close.
    """

    changes: tuple[Change, ...]
    legs: tuple[Leg, ...]
    text: str
    remedy: str = ""
    split: str = ""
    worth: Mapping[str, float] | None = None


def explain(ticker: str, shares: float, moves: Sequence[CashMove]) -> tuple[CashMove, ...]:
    """Return the newest activities of a ticker, whole days of them, that come to `shares`; none where none do."""
    own = [move for move in moves if move.ticker == ticker and move.shares and math.isfinite(move.shares)]
    for first in sorted({move.day for move in own}, reverse=True):
        newest = tuple(move for move in own if move.day >= first)
        if abs(math.fsum(move.shares for move in newest) - shares) <= SAME:
            return newest
    return ()


def plan(
    changes: Sequence[Change], moves: Sequence[CashMove], cost: Mapping[str, float], closes: Mapping[str, float]
) -> list[CorporateStep]:
    """Return what is to be booked.

    moves: all that are told and not booked yet, of tickers that are not the bot's to book too. cost, closes: USD a
    share by ticker, of what is held and at the last close.
    """
    steps = [_plan_split(change, cost[change.ticker]) for change in changes if change.is_split]
    rest = {change.ticker: change for change in changes if not change.is_split}
    for out in (change for change in rest.values() if change.goes and len(change.kinds) == 1):
        around = _find_around(out, moves)
        if any(math.isnan(move.shares) for move in around):
            continue
        came = {move.ticker for move in around if move.shares * out.shares < 0}
        went = {move.ticker for move in around if move.shares * out.shares > 0}
        if not came:
            if _is_end(out, moves, cost[out.ticker]):
                steps.append(_plan_end(out, moves))
        elif len(came) == len(went) == 1:
            come = rest.get(next(iter(came)))
            if come is not None and _is_exchange(out, come, around, moves):
                steps.append(_plan_exchange(out, come, moves, cost[out.ticker], closes.get(out.ticker)))
    return steps


def _belong_together(one: CashMove, other: CashMove) -> bool:
    """Whether two activities may be of one event: where both name it, of the same; else of one kind and day."""
    if one.group and other.group:
        return one.group == other.group
    return one.kind == other.kind and (one.day == other.day or date.max in (one.day, other.day))


def _find_around(out: Change, moves: Sequence[CashMove]) -> list[CashMove]:
    """Return the moves of shares that may be of the event by which those of `out` went, these too.

    Of another name they are one for one. A split of another ticker, its old and new shares told, is whole in itself.
    """
    around = [move for move in moves if move.shares and any(_belong_together(move, own) for own in out.moves)]
    if out.kinds <= _OTHER_NAME:
        return [move for move in around if not abs(abs(move.shares) - abs(out.shares)) > SAME]  # NaN stays
    if out.kinds <= SPLITS:
        signs: dict[str, set[bool]] = {}
        for move in around:
            signs.setdefault(move.ticker, set()).add(move.shares > 0)
        return [move for move in around if math.isnan(move.shares) or len(signs[move.ticker]) == 1]
    return around


def _is_exchange(out: Change, come: Change, around: Sequence[CashMove], moves: Sequence[CashMove]) -> bool:
    """Whether `come` is, to the share, what came for `out`, and all that is paid with it is told."""
    is_whole = set(come.moves) | set(out.moves) == set(around) and come.held * come.shares >= 0
    paid = _sum_paid(out, moves, {out.ticker, come.ticker})
    is_stock_and_cash = _STOCK_AND_CASH in out.subtypes | come.subtypes
    return is_whole and come.kinds == out.kinds and math.isfinite(paid) and bool(paid or not is_stock_and_cash)


def _is_end(out: Change, moves: Sequence[CashMove], cost: float) -> bool:
    """Whether shares that went were paid for, or are worth nothing; else what came for them may still be told."""
    paid = _sum_paid(out, moves, {out.ticker})
    is_paid = paid * out.held > 0
    if out.kinds <= SPLITS:  # less than one share was left, and is paid out
        return out.after == 0.0 and is_paid and abs(paid) >= _PAID_OUT * abs(out.held) * cost
    if out.kinds == {_REORGANISATION}:
        return out.subtypes == {_WORTHLESS}
    return out.kinds == {_MERGER} and out.subtypes == {_CASH_MERGER} and is_paid


def _sum_paid(out: Change, moves: Sequence[CashMove], tickers: set[str]) -> float:
    """Return the cash that came for shares that went, USD."""
    rows = (move for move in moves if move.ticker in tickers and any(_belong_together(move, own) for own in out.moves))
    return math.fsum(move.amount for move in rows)


def _name_leg(change: Change, side: str) -> str:
    return f"{ACTION}-{min(move.activity_id for move in change.moves)}-{side}"


def _plan_split(change: Change, cost: float) -> CorporateStep:
    held, after = change.held, change.after
    legs = (
        Leg(_name_leg(change, "out"), change.ticker, -held, cost),
        Leg(_name_leg(change, "in"), change.ticker, after, cost * held / after),
    )
    text = f"{change.ticker} was split: {held:g} shares became {after:g}."
    return CorporateStep((change,), legs, text, split=change.ticker)


def _plan_exchange(
    out: Change, come: Change, moves: Sequence[CashMove], cost: float, close: float | None
) -> CorporateStep:
    """Take the new shares for what the old ones cost, less what was paid: an exchange earns nothing by itself."""
    paid = _sum_paid(out, moves, {out.ticker, come.ticker})
    a_share, ratio = -paid / out.shares, abs(out.shares / come.shares)
    left = max(0.0, cost - a_share)
    legs = (
        Leg(_name_leg(out, "out"), out.ticker, out.shares, left),
        Leg(_name_leg(come, "in"), come.ticker, come.shares, left * ratio),
    )
    why = "it has another name" if out.kinds & _OTHER_NAME else "units were split" if out.kinds & SPLITS else "a merger"
    with_cash = f" and {paid:,.2f} USD" if paid else ""
    text = f"{-out.shares:g} {out.ticker} became {come.shares:g} {come.ticker}{with_cash}: {why}."
    remedy = (
        f"Put {come.ticker} in the place of {out.ticker} in [market] watchlist and start the bot again. Until then "
        f"{come.ticker} has no bars: it is held, and closed before the bell."
    )
    worth = {come.ticker: (close - a_share) * ratio} if close is not None and close > a_share else None
    return CorporateStep((out, come), legs, text, remedy, worth=worth)


def _plan_end(out: Change, moves: Sequence[CashMove]) -> CorporateStep:
    """Shares that are gone, for nothing: what is paid for them is booked as cash."""
    legs = (Leg(_name_leg(out, "out"), out.ticker, out.shares, 0.0),)
    paid, is_split = _sum_paid(out, moves, {out.ticker}), out.kinds <= SPLITS
    how = f"for {paid:,.2f} USD" if paid else "without payment so far"
    text = f"{-out.shares:g} {out.ticker} are gone ({', '.join(sorted(out.kinds))}), {how}."
    remedy = (
        "Less than one share was left by a reverse split."
        if is_split
        else f"Leave {out.ticker} out of [market] watchlist where it is no longer listed."
    )
    return CorporateStep((out,), legs, text, remedy, split=out.ticker if is_split else "")
