"""The bot: one decision a minute, the same live and in a replay.

Here the minute's order of things is kept: what filled, what is known, what the model makes of it, what may be traded.
It is handed `now` and bars, and reads no clock.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import polars as pl

from hftcl.alerts import Alert, Kind
from hftcl.ledger.rows import Decision, EquityRow, LedgerEvent
from hftcl.ledger.writer import Ledger
from hftcl.market.bars import MINUTE
from hftcl.market.hours import Hours
from hftcl.model.features import FEATURES, Feature
from hftcl.strategy.risk import Code, Limits, RiskBook, find_breach
from hftcl.trading.decide.held_back import HeldBack
from hftcl.trading.decide.last_prices import LastPrices
from hftcl.trading.decide.live_features import LiveFeatures
from hftcl.trading.decide.model_decisions import ModelDecisions
from hftcl.trading.decide.model_in_use import ModelInUse
from hftcl.trading.execute.desk import Desk
from hftcl.trading.execute.minute import FLATTEN, REBALANCE, DesiredPosition, MinuteContext
from hftcl.trading.feeds import Delivery, Morning

_PRICES: Final = ("open", "high", "low", "close")
OnAlert = Callable[[Alert], None]

_SILENT: Final = frozenset(
    {
        Code.HOLD_STALE,
        Code.HOLD_BAD_PRICE,
        Code.HOLD_REVISED,
        Code.HOLD_NO_BAR,
        Code.HOLD_DELAYED,
        Code.HOLD_DISPUTED,
    }
)
"""Where a ticker has one of these, no order is sent for it this minute, at any target."""
CLEAR: Final = "`hftcl trade --clear` lets it trade again."
KILL_SWITCH: Final = "kill_switch"  # the name of its latch in the ledger, shown by `trade --status`
_VOLUMES_WAIT: Final = 5
"""Minutes that corrections of volumes alone may wait: vendors send a minute again for each late trade, and to compute
again takes a second for fifty tickers. A corrected price, or a bar that was missing, waits for the orders only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How the bot is to trade, from the settings and the edge.

    max_model_age_days: None in a replay, where the bars are older than the model. may_trade: whether the model may
    move this broker's money; it may always in a paper account.
    """

    limits: Callable[[int, int], Limits]
    """(tickers, flat_minutes_before_close) -> what no order may lead beyond."""
    watchlist_size: int
    """N: each ticker has 1/N of the capital, whether or not all have bars, as in exam and record."""
    flat_minutes: int
    """Before the close, where there is no model to say."""
    grace: timedelta
    max_model_age_days: float | None
    may_trade: Callable[[ModelInUse], bool]
    features: tuple[Feature, ...] = FEATURES
    """What is computed for each bar."""


@dataclass(slots=True, kw_only=True)
class Side:
    """A desk and the model that it trades for. targets: of the minute before, by ticker."""

    desk: Desk
    in_use: ModelInUse | None = None
    decisions: ModelDecisions | None = None
    targets: dict[str, float] = field(default_factory=dict)


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
        self._corrections: list[pl.DataFrame] = []
        self._waited = 0

    @property
    def active(self) -> tuple[Side, ...]:
        """Production, and the shadow where a candidate trades or has left something behind."""
        shadow = self.shadow
        if shadow is None or (shadow.in_use is None and not shadow.desk.list_touched()):
            return (self.production,)
        return self.production, shadow

    # --- a session --------------------------------------------------------------------------------------------------

    def begin(self, hours: Hours, morning: Morning, now: datetime, splits: Mapping[str, float] | None = None) -> None:
        """Take up a session, at its beginning or within it; see `ModelDecisions` for the positions.

        splits: new shares for an old one by ticker, of those that take effect in this session.
        """
        self._hours, self._tickers = hours, morning.tickers
        self._held_back, self._corrections, self._waited = HeldBack(), [], 0
        self._features = LiveFeatures(hours.session, morning.earlier, morning.so_far, table=self._rules.features)
        self._last_prices = LastPrices(self._rules.limits(len(self._tickers), 0).collar)
        self._last_prices.start(morning.earlier)
        before = dict(self._last_prices.prices)
        for minute in morning.so_far.partition_by("ts", maintain_order=True):
            self._last_prices.take(minute)
        self._price_what_is_held()
        self._ledger.forget_closes(hours.session)
        self._ledger.set_meta(session_opened=hours.begins.isoformat())
        for side in self.active:
            self._equip(side)
            side.desk.split(splits or {}, before, hours.session, hours.begins)
            side.desk.open(hours.session, hours.begins, self._last_prices.prices, before)
        self._tell_too_dear(now)
        self.production.desk.book_cash(now)
        settled = self._ledger.last_equity()["ts"].max()
        missed = morning.so_far if settled is None else morning.so_far.filter(pl.col("ts") > settled)
        if missed.height:  # fills that a paper broker owes for minutes in which nobody was there
            context = self._build_context(missed["ts"].max(), now)  # type: ignore[arg-type]
            for side in self.active:
                side.desk.book_minute(missed, context)

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
            self._last_prices.prices = self._ledger.read_last_closes()
            self._ledger.set_meta(session_opened=hours.begins.isoformat())
        self._price_what_is_held()
        for side in self.active:
            side.desk.open(hours.session, hours.begins, self._last_prices.prices)

    def _tell_too_dear(self, now: datetime) -> None:
        """Tell of tickers of which the capital buys no single share: they are decided on and never traded."""
        desk = self.production.desk
        weight = desk.capital / max(self._rules.watchlist_size, 1)
        dear = [ticker for ticker in self._tickers if self._last_prices.prices.get(ticker, 0.0) > weight]
        if dear and not desk.fractional:
            text = (
                f"A ticker's share of the capital is {weight:,.2f} USD, and one share costs more of "
                f"{', '.join(dear)}: no order comes of what is decided on them. More capital, fewer tickers or "
                "[trade] fractional = true would change that."
            )
            self._tell(Kind.ERROR, "targets of less than one share", text, now)

    def _price_what_is_held(self) -> None:
        """Let what is held and not on the watchlist have the price that it cost: it is closed all the same."""
        for ticker, price in self._ledger.read_account().average_price.items():
            self._last_prices.prices.setdefault(ticker, price)

    def close_if_late(self, now: datetime) -> None:
        """While standing by: close what is held when the close is near."""
        if self._hours is not None and self._hours.minutes_to_close(now) <= self._closes_from(self.production):
            self.flatten(now)

    def use(self, in_use: ModelInUse | None, side: Side | None = None) -> None:
        """Let `in_use` decide from the next minute on, in place of what decided before."""
        side = side or self.production
        side.in_use = in_use
        if self._hours is not None and self._tickers:  # else it has no bars, and gets its model when it begins
            self._equip(side)

    def _equip(self, side: Side) -> None:
        """Give a side the model that it uses, as of now, and the limits that go with it."""
        self._renew(side)
        side.desk.limits = limits = self._rules.limits(len(self._tickers), self._find_flat_minutes(side))
        if side is self.production:
            self._ledger.set_meta(
                limit_gross=repr(limits.gross), limit_net=repr(limits.net), limit_daily_loss=repr(limits.daily_loss)
            )

    def _renew(self, side: Side) -> None:
        """Give a side the targets of its model as of now."""
        side.decisions, side.targets = None, {}
        if side.in_use is not None:
            model = side.in_use.model
            side.decisions = ModelDecisions(model, 1.0 / max(self._rules.watchlist_size, 1), self._features.seen)
            side.targets = dict(side.decisions.last_targets)
            side.desk.model_id = side.in_use.model_id

    def _find_flat_minutes(self, side: Side) -> int:
        model = side.in_use.model if side.in_use else None
        return model.meta.flat_minutes_before_close if model else self._rules.flat_minutes

    def _closes_from(self, side: Side) -> int:
        """Return how many minutes before the close everything is closed: earlier where the broker takes its time."""
        return max(self._find_flat_minutes(side), 1) + side.desk.minutes_to_flatten()

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
        held = dict(self.production.desk.positions)
        if held:
            text = ", ".join(f"{quantity:g} {ticker}" for ticker, quantity in sorted(held.items()))
            self._tell(Kind.ERROR, "positions are held overnight", f"After the close the book holds {text}.", now)
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
            revised = self._take_corrections(delivery.corrected)
            news = self._last_prices.catch_up(delivery.corrected)
            settled = pl.concat([news, delivery.bars]) if news.height else delivery.bars
        suspect = self._last_prices.take(delivery.bars)
        context = self._build_context(delivery.minute, now)
        seen = self._features.push(delivery.bars)
        decided = ordered = 0
        handed_at = began
        codes: dict[str, Code] = {}
        for side in self.active:
            equity = side.desk.book_minute(settled, context, self._build_heartbeat(delivery, now), trades=True)
            self._watch_loss(side, equity, now)
            codes = codes or self._find_codes(delivery, context, revised, suspect)
            decisions, wishes = self._decide(side, seen, codes, context)
            records = side.desk.trade(decisions, wishes, context, equity)
            if side is self.production:
                decided, ordered = len(decisions), sum(record.state != "refused" for record in records)
                handed_at = side.desk.handed_at
        self._tell_held_back(codes, now)
        return Minute(minute=delivery.minute, decided=decided, ordered=ordered, latency_s=handed_at - began)

    def _tell_held_back(self, codes: Mapping[str, Code], now: datetime) -> None:
        text = self._held_back.note(codes, self.production.desk.positions)
        if text:
            self._tell(Kind.DATA_HOLE, "tickers are held back", text, now)

    def _take_corrections(self, corrected: pl.DataFrame) -> frozenset[str]:
        """Keep bars of earlier minutes for after the orders; return the tickers whose price moved beyond the collar.

        The decision of this minute is that of the bars as they were: what came late is in the next one's features.
        """
        collar = self.production.desk.limits.collar
        first: datetime = corrected["ts"].min()  # type: ignore[assignment]
        names = [*_PRICES, *(f"{name}_old" for name in _PRICES)]
        old_bars = self._features.list_bars_since(first)
        both = corrected.join(old_bars, on=["ticker", "ts"], how="left", suffix="_old").select("ticker", *names)
        far, has_moved = set(), False
        for ticker, *prices in both.iter_rows():  # a few: to build expressions for them takes longer
            new, old = prices[: len(_PRICES)], prices[len(_PRICES) :]
            has_moved = has_moved or new != old
            if any(was is not None and abs(now / was - 1.0) > collar for now, was in zip(new, old, strict=True)):
                far.add(ticker)
        self._corrections.append(corrected)
        if has_moved:
            self._waited = _VOLUMES_WAIT
        return frozenset(far)

    def correction_due(self) -> bool:
        """Whether features are to be computed again now, the orders of the minute being out."""
        self._waited += bool(self._corrections)
        return bool(self._corrections) and self._waited >= _VOLUMES_WAIT

    def correct(self) -> None:
        """Compute features and targets again from the corrected minute on; takes a second for hundreds of tickers.

        Touches neither ledger nor broker, so that it may run in another thread while the bot looks around.
        """
        corrections, self._corrections, self._waited = self._corrections, [], 0
        newest = pl.concat(corrections).unique(["ticker", "ts"], keep="last", maintain_order=True)
        after = self._features.correct(newest)
        for side in self.active:
            if after is None or side.decisions is None:
                self._renew(side)
            else:
                side.decisions.correct(self._features.seen, after)
                side.targets = dict(side.decisions.last_targets)

    def _build_heartbeat(self, delivery: Delivery, now: datetime) -> dict[str, str]:
        newest = self._last_prices.newest
        return {
            "heartbeat": now.isoformat(),
            "minute": delivery.minute.isoformat(),
            "last_bar": newest.isoformat() if newest else "",
            "disputed": json.dumps(self.production.desk.disputed) if self.production.desk.disputed else "",
            "flatten_minutes": repr(1.0 + self.production.desk.minutes_to_flatten()),
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
            minutes_to_close=self._hours.minutes_to_close(fills_at),
            market_open=self._hours.begins <= now < self._hours.ends,
            barred=self.clock_off,
        )

    def _find_codes(
        self, delivery: Delivery, context: MinuteContext, revised: frozenset[str], suspect: frozenset[str]
    ) -> dict[str, Code]:
        """Say of each ticker what its data allow this minute; TRADE where nothing is wrong with them."""
        delivered_tickers, alone = set(delivery.bars["ticker"]), self.production.desk.list_left_alone()
        stale_bars = self.production.desk.limits.stale_bars
        codes: dict[str, Code] = {}
        for ticker in self._tickers:
            code = delivery.codes.get(ticker)
            if ticker in alone:
                codes[ticker] = Code.HOLD_DISPUTED
            elif code is not None:
                codes[ticker] = code
            elif not context.ages.get(ticker, stale_bars + 1) <= stale_bars:
                codes[ticker] = Code.HOLD_STALE
            elif ticker not in delivered_tickers:
                codes[ticker] = Code.HOLD_NO_BAR
            elif ticker in revised:
                codes[ticker] = Code.HOLD_REVISED
            elif ticker in suspect:
                codes[ticker] = Code.HOLD_BAD_PRICE
            else:
                codes[ticker] = Code.TRADE
        return codes

    def _decide(
        self, side: Side, seen: pl.DataFrame, codes: Mapping[str, Code], context: MinuteContext
    ) -> tuple[list[Decision], dict[str, DesiredPosition]]:
        """Return the minute's decisions of one side, and what its positions shall be."""
        hold = self._find_hold(side, context)
        rows: dict[str, tuple[float | None, float | None]] = {}
        if side.decisions is not None:
            decided = side.decisions.decide(seen)
            rows = {ticker: (prediction, target) for ticker, _, prediction, target in decided.iter_rows()}
        in_use = side.in_use
        decisions, wishes = [], {}
        for ticker in self._tickers:
            prediction, target = rows.get(ticker, (None, None))
            code = hold or codes[ticker]
            if code is Code.TRADE and prediction is None:
                code = Code.HOLD_WARMUP
            decisions.append(
                Decision(
                    book=side.desk.book,
                    ts=context.minute,
                    ticker=ticker,
                    model_id=in_use.model_id if in_use else None,
                    features_hash=in_use.model.meta.features_hash if in_use else None,
                    prediction=prediction,
                    target=target,
                    code=code,
                    decided_at=context.now,
                )
            )
            if target is not None and code not in _SILENT:
                price = context.prices[ticker]
                wishes[ticker] = DesiredPosition(
                    target=target, price=price, unchanged=side.targets.get(ticker) == target
                )
        side.targets |= {ticker: target for ticker, (_, target) in rows.items() if target is not None}
        if not self.agreed and not side.desk.compared:
            return decisions, {}
        if hold:
            return decisions, self._build_flat_positions(side, context, FLATTEN)
        if context.minutes_to_close <= self._closes_from(side):
            return decisions, self._build_flat_positions(side, context)
        return decisions, wishes

    def _build_flat_positions(
        self, side: Side, context: MinuteContext, purpose: str = REBALANCE
    ) -> dict[str, DesiredPosition]:
        """Return the wishes that close every position, priced at the last good close."""
        return {
            ticker: DesiredPosition(target=0.0, price=context.prices.get(ticker, float("nan")), purpose=purpose)
            for ticker in side.desk.list_touched()
        }

    def _find_hold(self, side: Side, context: MinuteContext) -> Code | None:
        """Return why this side may open nothing at all, whatever the data say; then what it holds is closed."""
        if self._ledger.latches() or not self.agreed:  # cleared, and not compared yet
            return Code.HOLD_HALTED
        if side.in_use is None:
            return Code.HOLD_NO_MODEL
        most = self._rules.max_model_age_days
        if most is not None and side.in_use.age_days(context.now) > most:
            return Code.HOLD_MODEL_OLD
        if not self._rules.may_trade(side.in_use):
            return Code.HOLD_STAND_ASIDE
        return None

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
        in_use, most = self.production.in_use, self._rules.max_model_age_days
        if in_use is None:
            return "There is no model to trade with. `hftcl retrain` trains one."
        if most is not None and in_use.age_days(now) > most:
            return (
                f"Model {in_use.model_id} was trained {in_use.age_days(now):.0f} days ago, and [trade] "
                f"max_model_age_days is {most:g}. `hftcl retrain` trains a newer one."
            )
        if not self._rules.may_trade(in_use):
            return f'The edge of model {in_use.model_id} is "stand aside": it trades no real money.'
        return ""

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

    def latch(self, name: str, reason: str, now: datetime) -> bool:
        """Latch: what is held is closed, and nothing is opened until a person clears it. False if it is latched."""
        if not self._ledger.latch(name, reason, now):
            return False
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
            side.desk.trade([], self._build_flat_positions(side, context, FLATTEN), context, equity, urgent=True)

    def close_without_ledger(self, now: datetime) -> None:
        """Close what the broker holds of this book, where nothing can be written. Raises BrokerError."""
        if self._hours is not None:
            self.production.desk.close_without_ledger(self._hours.session, self._tickers, now)

    def _tell(self, kind: Kind, subject: str, text: str, now: datetime) -> None:
        model_id = self.production.in_use.model_id if self.production.in_use else None
        if kind is not Kind.HALTED:  # a latch notes itself
            self._ledger.write_event(LedgerEvent(at=now, kind="error", text=text, model_id=model_id))
        self._alert(Alert(kind, subject, text, now, model_id))
