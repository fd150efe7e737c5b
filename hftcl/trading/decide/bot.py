"""The bot: one decision a minute, the same live and in a replay.

Here the minute's order of things is kept: what filled, what is known, what the model makes of it, what may be traded.
It is handed `now` and bars, and reads no clock.
"""

import json
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import polars as pl

from hftcl.alerts import Alert, Kind
from hftcl.ledger.rows import BookName, Decision, EquityRow, LedgerEvent
from hftcl.ledger.writer import Ledger
from hftcl.market.bars import MINUTE
from hftcl.market.hours import Hours
from hftcl.strategy.risk import Code, RiskBook, find_breach
from hftcl.strategy.weights import weigh
from hftcl.trading.decide.codes import find_codes
from hftcl.trading.decide.corrections import Corrections
from hftcl.trading.decide.held_back import HeldBack
from hftcl.trading.decide.last_prices import LastPrices
from hftcl.trading.decide.live_features import LiveFeatures
from hftcl.trading.decide.model_in_use import ModelInUse
from hftcl.trading.decide.rules import Rules
from hftcl.trading.decide.side import Side
from hftcl.trading.execute.closes import read_closes_before
from hftcl.trading.execute.corporate import read_exchanged_closes
from hftcl.trading.execute.desk import Desk
from hftcl.trading.execute.minute import FLATTEN, DesiredPosition, MinuteContext
from hftcl.trading.feeds import Delivery, Morning

OnAlert = Callable[[Alert], None]

CLEAR: Final = "`hftcl trade --clear` lets it trade again."
KILL_SWITCH: Final = "kill_switch"  # the name of its latch in the ledger, shown by `trade --status`


@dataclass(frozen=True, slots=True, kw_only=True)
class Minute:
    """What a minute came to. latency_s: from the bars' arrival until the last order was with the broker."""

    minute: datetime
    decided: int
    ordered: int
    latency_s: float


class Bot:
    """Decides on each minute of one session after the other."""

    def __init__(
        self, ledger: Ledger, production: Desk, rules: Rules, *, on_alert: OnAlert, shadow: Desk | None = None
    ) -> None:
        self._ledger = ledger
        self._rules = rules
        self._alert = on_alert
        self.production = Side(desk=production)
        self.shadow = Side(desk=shadow) if shadow else None
        self.agreed = True
        """Whether the ledger holds what the broker holds. Else nothing is sent: a closing order might open."""
        self.grace = rules.grace
        self.clock_off = ""
        """Why the time is not to be trusted, "" where it is; then nothing is opened."""
        self._hours: Hours | None = None
        self._tickers: tuple[str, ...] = ()
        self._held_back = HeldBack()
        self._corrections = Corrections()

    @property
    def active(self) -> tuple[Side, ...]:
        """Production, and the shadow where a candidate trades or has left something behind."""
        shadow = self.shadow
        if shadow is None or (shadow.in_use is None and not shadow.desk.list_touched()):
            return (self.production,)
        return self.production, shadow

    # --- a session --------------------------------------------------------------------------------------------------

    def begin(
        self,
        hours: Hours,
        morning: Morning,
        now: datetime,
        splits: Mapping[BookName, Mapping[str, float]] | None = None,
    ) -> None:
        """Take up a session, at its beginning or within it; see `ModelDecisions` for the positions.

        splits: by book and ticker new shares for an old one, of those that what is held has not met yet.
        """
        self._hours, self._tickers = hours, morning.tickers
        self._held_back, self._corrections = HeldBack(), Corrections()
        self._features = LiveFeatures(
            hours.session,
            morning.earlier,
            morning.so_far,
            table=self._rules.features,
            reads={name for side in self.active for name in side.reads} or None,  # no model yet: any may come
        )
        self._last_prices = LastPrices(self._rules.limits(len(self._tickers), 0).collar)
        self._last_prices.start(morning.earlier)
        before = read_exchanged_closes(self._ledger) | self._last_prices.prices | self._read_split_closes(hours)
        for minute in morning.so_far.partition_by("ts", maintain_order=True):
            self._last_prices.take(minute)
        self._ledger.forget_closes(hours.session)
        self._ledger.set_meta(session_opened=hours.begins.isoformat())
        for side in self.active:
            self._equip(side)
            side.desk.split((splits or {}).get(side.desk.book, {}), before, hours.session, hours.begins)
        self._price_what_is_held()
        for side in self.active:
            side.desk.open(hours.session, hours.begins, self._last_prices.prices, before)
            side.desk.take_opens(morning.so_far)
        self._tell_too_dear(now)
        self.production.desk.splits.tell_awaited(now)
        self.production.desk.book_cash(now)
        settled = self._ledger.read_last_equity()["ts"].max()
        missed = morning.so_far if settled is None else morning.so_far.filter(pl.col("ts") > settled)
        if missed.height:  # fills that a paper broker owes for minutes in which nobody was there
            context = self._build_context(missed["ts"].max(), now)  # type: ignore[arg-type]
            for side in self.active:
                side.desk.book_minute(missed, context)

    def _read_split_closes(self, hours: Hours) -> dict[str, float]:
        """Return the closes before of what the broker alone says was split, in today's shares."""
        ratios = self.production.desk.splits.list_by_broker(hours.session)
        closes = read_closes_before(self._ledger, hours, ratios) if ratios else {}
        return {ticker: close for ticker, close in closes.items() if ticker in ratios}

    def resume(self) -> None:
        """Read again what production holds and what is working, after ledger and broker were made to agree."""
        if self._hours is not None:
            self._price_what_is_held()
            self.production.desk.open(self._hours.session, self._hours.begins, self._last_prices.prices)

    def stand_by(self, hours: Hours) -> None:
        """Take up a session whose bars cannot be had: what is held can be closed, and nothing else is done."""
        if self._hours is None or self._hours.session != hours.session:
            self._hours, self._tickers = hours, ()
            self._last_prices = LastPrices(self._rules.limits(1, 0).collar)
            ratios = self.production.desk.splits.list_ratios(hours.session)
            self._last_prices.prices = read_closes_before(self._ledger, hours, ratios)
            self._ledger.set_meta(session_opened=hours.begins.isoformat())
        self._price_what_is_held()
        for side in self.active:
            side.desk.open(hours.session, hours.begins, self._last_prices.prices)

    def _tell_too_dear(self, now: datetime) -> None:
        """Tell of tickers of which the capital buys no single share: they are decided on and never traded."""
        desk = self.production.desk
        in_use = self.production.in_use
        weight = weigh(self._rules.watchlist, in_use.model.meta.volatility if in_use else None)
        shares = {
            ticker: desk.capital * (weight.get(ticker, 0.0) if isinstance(weight, Mapping) else weight)
            for ticker in self._tickers
        }
        dear = [ticker for ticker in self._tickers if self._last_prices.prices.get(ticker, 0.0) > shares[ticker]]
        if dear and not desk.fractional:
            text = (
                f"A ticker's share of the capital is {_describe_shares(shares[ticker] for ticker in dear)} USD, and "
                "one share costs more of "
                f"{', '.join(dear)}: no order comes of what is decided on them. More capital, fewer tickers or "
                "[trade] fractional = true would change that."
            )
            self._tell(Kind.ERROR, "targets of less than one share", text, now)

    def _price_what_is_held(self) -> None:
        """Let what is held and not on the watchlist have the price of the shares that it came for at their last close,
        or else the one that it cost: it is closed all the same.
        """
        awaited = self.production.desk.splits.awaited
        prices = self._ledger.read_account().average_price | read_exchanged_closes(self._ledger)
        for ticker, price in prices.items():
            self._last_prices.prices.setdefault(ticker, price / awaited.get(ticker, 1.0))

    def close_if_late(self, now: datetime) -> None:
        """While standing by: close what is held when the close is near."""
        closing = self.production.find_closing_minutes(self._rules.flat_minutes)
        if self._hours is not None and self._hours.count_minutes_to_close(now) <= closing:
            self.flatten(now)

    def use(self, in_use: ModelInUse | None, side: Side | None = None) -> None:
        """Let `in_use` decide from the next minute on, in place of what decided before."""
        side = side or self.production
        side.in_use = in_use
        if self._hours is not None and self._tickers:  # else it has no bars, and gets its model when it begins
            self._equip(side)

    def _equip(self, side: Side) -> None:
        """Give a side the model that it uses, as of now, and the limits that go with it."""
        self._features.widen(side.reads)
        side.begin(self._features.seen, self._rules.watchlist)
        flat_minutes = side.find_flat_minutes(self._rules.flat_minutes)
        side.desk.limits = limits = self._rules.limits(len(self._tickers), flat_minutes)
        if side is self.production:
            self._ledger.set_meta(
                limit_gross=repr(limits.gross), limit_net=repr(limits.net), limit_daily_loss=repr(limits.daily_loss)
            )

    def leave(self) -> None:
        """Write down what a stop within the session would lose: its first opens and newest closes."""
        if self._hours is not None:
            self._ledger.note_closes(self._last_prices.list_closes(self._hours.session))

    def end(self, now: datetime) -> None:
        """End the session: what is open is canceled, and what is held, because nothing traded any more, is told."""
        if self._hours is None:
            return
        self.leave()
        context = self._build_context(self._hours.ends - MINUTE, now)
        for side in self.active:
            side.desk.close_session(context)
        self.production.desk.book_cash(now)
        for side in self.active:
            side.desk.settle(context)
        held = dict(self.production.desk.positions)
        if held:
            shares = ", ".join(f"{quantity:g} {ticker}" for ticker, quantity in sorted(held.items()))
            refused = self.production.desk.unclosed
            why = "".join(f" The broker did not close {t}: {refused[t]}" for t in sorted(held.keys() & refused.keys()))
            text = f"After the close the book holds {shares}.{why} The next session closes what it can."
            self._tell(Kind.ERROR, "positions are held overnight", text, now)
        self._hours = None

    # --- a minute ---------------------------------------------------------------------------------------------------

    def decide_minute(self, delivery: Delivery, now: datetime) -> Minute:
        """Decide on the bars of one minute, all that is known of it being in `delivery`; orders go out, or a code says
        why not. Every decision, order and fill is in the ledger when it returns.
        """
        stopwatch = self.production.desk.stopwatch
        began = stopwatch()
        revised: frozenset[str] = frozenset()
        settled = delivery.bars
        if delivery.corrected is not None and delivery.corrected.height:
            old_bars = self._features.list_bars_since(delivery.corrected["ts"].min())  # type: ignore[arg-type]
            revised = self._corrections.add(
                delivery.corrected,
                old_bars,
                self.production.desk.limits.collar,
                at_once=delivery.late_context is not None,
            )
            news = self._last_prices.catch_up(delivery.corrected)
            settled = pl.concat([news, delivery.bars]) if news.height else delivery.bars
        suspect = self._last_prices.take(delivery.bars)
        context = self._build_context(delivery.minute, now)
        seen = self._features.push(delivery.bars)
        decided = ordered = 0
        handed_at = began
        codes: dict[str, Code] = {}
        decided_codes: dict[str, Code] = {}
        for side in self.active:
            equity = side.desk.book_minute(settled, context, self._build_heartbeat(delivery, now), trades=True)
            self._watch_loss(side, equity, now)
            codes = codes or self._find_codes(delivery, context.ages, revised, suspect)
            decisions, desired_positions = self._decide(side, seen, codes, context)
            records = side.desk.trade(decisions, desired_positions, context, equity)
            if side is self.production:
                decided, ordered = len(decisions), sum(record.state != "refused" for record in records)
                handed_at = side.desk.handed_at
                decided_codes = {decision.ticker: Code(decision.code) for decision in decisions}
        self._features.mark()
        # what the data say, and where these are good, what the decision found beside them
        self._tell_held_back({t: decided_codes[t] if code is Code.TRADE else code for t, code in codes.items()}, now)
        return Minute(minute=delivery.minute, decided=decided, ordered=ordered, latency_s=handed_at - began)

    def _find_codes(
        self, delivery: Delivery, ages: Mapping[str, float], revised: Container[str], suspect: Container[str]
    ) -> dict[str, Code]:
        desk = self.production.desk
        alone, stale_bars = desk.list_left_alone(), desk.limits.stale_bars
        return find_codes(self._tickers, delivery, ages, stale_bars, alone=alone, revised=revised, suspect=suspect)

    def _tell_held_back(self, codes: Mapping[str, Code], now: datetime) -> None:
        text = self._held_back.note(codes, self.production.desk.positions)
        if text:
            self._tell(Kind.DATA_HOLE, "tickers are held back", text, now)

    def is_correction_due(self) -> bool:
        """Whether features are to be computed again now, the orders of the minute being out."""
        return self._corrections.is_due()

    def correct(self) -> None:
        """Compute features and targets again from the corrected minute on; takes a second for hundreds of tickers.

        Touches neither ledger nor broker, so that it may run in another thread while the bot looks around.
        """
        after = self._features.correct(self._corrections.take())
        for side in self.active:
            side.correct(self._features.seen, after, self._rules.watchlist)

    def _build_heartbeat(self, delivery: Delivery, now: datetime) -> dict[str, str]:
        newest, awaited = self._last_prices.newest, self.production.desk.splits.awaited
        return {
            "heartbeat": now.isoformat(),
            "minute": delivery.minute.isoformat(),
            "last_bar": newest.isoformat() if newest else "",
            "disputed": json.dumps(self.production.desk.disputed) if self.production.desk.disputed else "",
            "awaited_splits": json.dumps(awaited) if awaited else "",
            "flatten_minutes": repr(1.0 + self.production.desk.count_minutes_to_flatten()),
        }

    def _build_context(self, minute: datetime, now: datetime) -> MinuteContext:
        assert self._hours is not None  # noqa: S101 - begin comes first
        known_until = now - MINUTE - self.grace
        fills_at = max(minute + MINUTE, now.replace(second=0, microsecond=0))  # a bot that lags trades at the present
        return MinuteContext(
            session=self._hours.session,
            minute=minute,
            now=now,
            prices=self._last_prices.prices,
            ages={ticker: max(0.0, (known_until - ts) / MINUTE) for ticker, ts in self._last_prices.last.items()},
            minutes_to_close=self._hours.count_minutes_to_close(fills_at),
            market_open=self._hours.begins <= now < self._hours.ends,
            barred=self.clock_off,
        )

    def _decide(
        self, side: Side, seen: pl.DataFrame, codes: Mapping[str, Code], context: MinuteContext
    ) -> tuple[list[Decision], dict[str, DesiredPosition]]:
        """Return the minute's decisions of one side, and what its positions shall be."""
        hold = self._find_hold(side, context)
        decisions, desired_positions = side.decide(seen, self._tickers, codes, hold, context, self._rules.features)
        if not self.agreed and not side.desk.compared:
            return decisions, {}
        if hold:
            return decisions, side.build_flat_positions(context, FLATTEN)
        if context.minutes_to_close <= side.find_closing_minutes(self._rules.flat_minutes):
            return decisions, side.build_flat_positions(context)
        return decisions, desired_positions

    def _find_hold(self, side: Side, context: MinuteContext) -> Code | None:
        """Return why this side may open nothing at all, whatever the data say; then what it holds is closed."""
        if self._ledger.read_latches() or not self.agreed:  # cleared, and not compared yet
            return Code.HOLD_HALTED
        return self._rules.find_hold(side.in_use, context.now)

    def count_minutes_without_bars(self, minute: datetime) -> dict[str, int]:
        """Return for each ticker that production holds how many regular minutes up to `minute` have brought no bar."""
        if self._hours is None:
            return {}
        before = self._hours.opens - MINUTE
        newest = {
            ticker: max(before, self._last_prices.last.get(ticker, before)) for ticker in self.production.desk.positions
        }
        return {ticker: (minute - ts) // MINUTE for ticker, ts in newest.items()}

    def explain_hold(self, now: datetime) -> str:
        """Say why production would trade nothing at `now`, "" where nothing keeps it from trading."""
        return self._rules.explain_hold(self.production.in_use, now)

    # --- stops ------------------------------------------------------------------------------------------------------

    def _watch_loss(self, side: Side, equity: EquityRow, now: datetime) -> None:
        """Latch the daily loss limit of production; a shadow moves no money."""
        if side is not self.production:
            return
        desk = side.desk
        code = find_breach(
            RiskBook(equity=equity.equity, equity_at_open=desk.equity_at_open, peak=desk.peak), desk.limits
        )
        if code is Code.DAILY_LOSS:
            lost = desk.equity_at_open - equity.equity
            self.latch(code, f"the session has lost {lost:,.2f} USD of {desk.limits.daily_loss:,.2f} allowed", now)
        elif code is not None and not self._ledger.is_latched(code):
            if self._hours is not None:
                desk.find_peak(self._hours.session)  # a person may have cleared it since
            lost = desk.peak - equity.equity
            if lost >= desk.limits.drawdown:
                most = f"{desk.limits.drawdown:,.2f} allowed"
                text = f"{lost:,.2f} USD are lost since the best close of the last sessions, of {most}"
                self.latch(code, text, now)

    def latch(self, name: str, reason: str, now: datetime, *, is_told: bool = False) -> bool:
        """Latch: what is held is closed, and nothing is opened until a person clears it. False if it is latched.

        is_told: whether a person was told of this very cause before it could be latched.
        """
        if not self._ledger.latch(name, reason, now):
            return False
        if not is_told:
            self._tell(Kind.HALTED, f"trading is halted: {name}", f"{reason}. {CLEAR}", now)
        return True

    def flatten(self, now: datetime) -> None:
        """Send the orders that close every position now, within a minute; the next minutes follow what is left."""
        if self._hours is None:
            return
        minute = now.replace(second=0, microsecond=0)
        context = self._build_context(minute, now)
        for side in self.active:
            if not self.agreed and not side.desk.compared:
                continue
            side.desk.collect(context)
            equity = side.desk.value_book(context.session, context.minute, context.prices)
            side.desk.trade([], side.build_flat_positions(context, FLATTEN), context, equity, urgent=True)

    def close_without_ledger(self, now: datetime) -> None:
        """Close what the broker holds of this book, where nothing can be written. Raises BrokerError."""
        if self._hours is not None:
            self.production.desk.close_without_ledger(self._hours.session, self._tickers, now)

    def _tell(self, kind: Kind, subject: str, text: str, now: datetime) -> None:
        model_id = self.production.in_use.model_id if self.production.in_use else None
        if kind is not Kind.HALTED:  # a latch notes itself
            self._ledger.write_event(LedgerEvent(at=now, kind="error", text=text, model_id=model_id))
        self._alert(Alert(kind, subject, text, now, model_id))


def _describe_shares(dollars: Iterable[float]) -> str:
    amounts = sorted(set(dollars))
    return f"{amounts[0]:,.2f}" if len(amounts) == 1 else f"{amounts[0]:,.2f} to {amounts[-1]:,.2f}"
