"""One book's trading: fills in, wishes to orders, risk, broker, ledger.

Production and shadow are two desks over one ledger. A minute is: `book_minute` what filled at the opens of its bars,
then `trade` towards what was decided on them. What the broker says of an order itself counts before its fills are told.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Collection, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Final

import polars as pl

from hftcl.alerts import Kind
from hftcl.errors import BrokerError, WaitEndedError
from hftcl.ledger.rows import (
    BARRED,
    BookName,
    Decision,
    EquityRow,
    FillRecord,
    LedgerEvent,
    OrderRecord,
    OrderUpdate,
)
from hftcl.ledger.writer import Ledger
from hftcl.strategy.risk import Limits, Order, RiskBook, Ruling, review
from hftcl.trading.brokers import (
    Account,
    Broker,
    Fill,
    KnowsIds,
    OrderState,
    SplitsShares,
    TellsCash,
    describe_implausible,
    is_plausible,
    traits_of,
)
from hftcl.trading.brokers.refusals import BY_CODE, OTHER
from hftcl.trading.execute.cash import book_cash, compare_cash
from hftcl.trading.execute.comparison import Comparison
from hftcl.trading.execute.dispatch import Sent, minutes_to_send, send
from hftcl.trading.execute.fill_opens import FillOpens
from hftcl.trading.execute.minute import FLATTEN, DesiredPosition, MinuteContext
from hftcl.trading.execute.orders import client_order_id, compute_desired_quantity, compute_order_quantity, cut_to_side
from hftcl.trading.execute.patience import PatientBroker
from hftcl.trading.execute.reconciliation import (
    build_stated_fill,
    fill_record,
    fills_cursor,
    order_update,
    split_fills,
)
from hftcl.trading.execute.trouble import LASTS_MINUTES, Outages, Refusals, explain_bar
from hftcl.trading.execute.unwritten import Unwritten
from hftcl.trading.execute.working import WorkingOrder, WorkingOrders

# The setting is called max_orders_per_minute; any 60 s, not minutes of the clock.
_RATE_WINDOW: Final = timedelta(seconds=60)
_LINGERS_S: Final = 90.0
"""An order that has not filled by then is asked for by its id: it may have ended, or never arrived."""
_UNHEARD_S: Final = 45.0
"""The same where the broker never answered to it: a request ends within [alpaca] timeout_s, so by then it has arrived
or never will."""
_PEAK_SESSIONS: Final = 20  # a month of trading: what [risk] max_drawdown says
_KEPT_FILLS: Final = 50_000  # ids of fills that were told again and again, so that each is looked up once
DRAWDOWN_FROM: Final = "drawdown_from"  # in the ledger's meta: the session in which a person cleared a drawdown

Tell = Callable[[Kind, str, str, datetime], None]
"""(kind, subject, text, now): tell a person, and note it."""


@dataclass(slots=True, kw_only=True)
class Desk:
    """A book and its broker. capital: USD that targets are fractions of. model_id: whose orders the next ones are.

    handed_at: `stopwatch` when the last minute's orders had been handed to the broker, before their fate was written.
    hands_off: tickers of the account that are a person's.
    """

    book: BookName
    broker: Broker
    ledger: Ledger
    capital: float
    fractional: bool
    limits: Limits
    on_fault: Callable[[str, datetime], None]
    tell: Tell = lambda *_: None
    hands_off: frozenset[str] = frozenset()
    stopwatch: Callable[[], float] = time.perf_counter
    model_id: str | None = None
    equity_at_open: float = 0.0
    peak: float = -math.inf
    handed_at: float = 0.0
    barred: str = ""
    small: set[str] = field(default_factory=set)
    """Tickers whose target is less than one share."""
    _session: date | None = None
    _account: Account | None = None
    _cursor: str | None = None
    _working: WorkingOrders = field(default_factory=WorkingOrders)
    _ids: set[str] = field(default_factory=set)
    _recent: deque[datetime] = field(default_factory=deque)
    _seen: dict[str, None] = field(default_factory=dict)
    _stated: set[str] = field(default_factory=set)
    _outages: Outages = field(default_factory=Outages)
    _refusals: Refusals = field(default_factory=Refusals)
    _comparison: Comparison = field(default_factory=Comparison)
    _opens: FillOpens = field(default_factory=FillOpens)
    _unwritten: Unwritten = field(default_factory=Unwritten)

    # --- the session ------------------------------------------------------------------------------------------------

    def open(
        self,
        session: date,
        begins: datetime,
        prices: Mapping[str, float],
        before: Mapping[str, float] | None = None,
    ) -> None:
        """Take up a session: what is working, which ids were used, and the equity at the close before it.

        before: closes of the session before, USD, in today's shares, by which the day's loss is measured; `prices`
        where they are not known.
        """
        meta = self.ledger.meta()
        self._cursor = meta.get(fills_cursor(self.book))
        self._working.replace(
            WorkingOrder(record, self.ledger.sum_filled(record.client_order_id), heard=record.state != "intended")
            for record in self.ledger.working_orders(self.book)
        )
        self._ids = set(self.ledger.list_known_ids(begins - timedelta(days=1)))
        self._stated = set(self.ledger.list_substituted(begins - timedelta(days=5)))
        self._recent = deque(self.ledger.list_sent_since(self.book, begins))
        self._comparison.foreign = dict(self.ledger.positions("foreign")) if self.book == "production" else {}
        if isinstance(self.broker, KnowsIds):
            self.broker.learn(self.ledger.broker_ids(begins - timedelta(days=8)))
        if session != self._session:
            self._refusals.begin_session()
            self._comparison.begin_session()
            self.small = set()
        self._session = session
        self._take_up_bar(session, meta.get(BARRED, ""))
        day, at_open = meta.read_open(self.book)
        if day == session.isoformat() and at_open is not None:
            self.equity_at_open = at_open  # started again: the session's loss is counted on
        else:
            self.equity_at_open = self.value_book(session, begins, before or prices).equity
            self.ledger.set_meta(**{f"equity_at_open_{self.book}": f"{session.isoformat()} {self.equity_at_open!r}"})
        self.find_peak(session)

    def split(self, splits: Mapping[str, float], prices: Mapping[str, float], session: date, at: datetime) -> None:
        """Book the splits of what was held before `session`, once: new shares for an old one by ticker.

        prices: of the close before, USD, in new shares. A real broker has done it by itself.
        """
        key, day = f"splits_{self.book}", session.isoformat()
        if not splits or self.ledger.meta().get(key) == day:
            return
        fills: list[FillRecord] = []
        for ticker, ratio in splits.items():
            if isinstance(self.broker, SplitsShares):
                self.broker.split(ticker, ratio, at)
            held = self.positions.get(ticker, 0.0)
            if held:
                price = prices.get(ticker, self.ledger.read_account(self.book).average_price[ticker] / ratio) * ratio
                fills += split_fills(ticker, held, ratio, price, at, self.book)
                text = f"{self.book}: {ticker} was split: {held:g} shares became {held * ratio:g}"
                self.ledger.write_event(LedgerEvent(at=at, kind="split", text=text))
        self.ledger.write_outcomes(fills=fills, meta={key: day})

    def find_peak(self, session: date) -> None:
        """Find the best close of the newest sessions, of those since a person cleared a drawdown."""
        cleared = self.ledger.meta().get(DRAWDOWN_FROM, "")
        closes = [
            equity
            for day, equity in self.ledger.last_equities(self.book, _PEAK_SESSIONS + 1)
            if day < session and day.isoformat() >= cleared
        ]
        # cleared within this session: the loss up to then is what the person has accepted
        began = [] if cleared == session.isoformat() else [self.equity_at_open]
        self.peak = max([*closes[:_PEAK_SESSIONS], *began], default=-math.inf)

    def _take_up_bar(self, session: date, text: str) -> None:
        day, _, reason = text.partition(" ")
        self.barred = reason if self.book == "production" and day == session.isoformat() else ""

    def bar(self, reason: str, now: datetime) -> None:
        """Open nothing for the rest of the session, and tell it once."""
        if self.barred or self._session is None:
            return
        self.barred = reason
        if self.book == "production":
            self.ledger.set_meta(**{BARRED: f"{self._session.isoformat()} {reason}"})
            self.tell(Kind.HALTED, "the broker refuses the account: nothing is opened", reason, now)

    def close_session(self, context: MinuteContext) -> None:
        """Cancel what is still open, for every order is for the day, and book how it ended.

        What the broker says has filled, and of which it never told a fill, is booked by its word on the order.
        """
        try:
            self.broker.end_of_session(context.session)
        except BrokerError as error:
            self._fault(error, context.now)
        self.ledger.write_outcomes(updates=self._collect(context, asked=frozenset(self._working.names)))
        untold = self._working.list_untold()
        if untold:
            self._book_as_stated(untold, context.now)
        text = self._refusals.note_acceptance()
        if text:
            self.ledger.write_event(LedgerEvent(at=context.now, kind="broker", text=text))

    def _book_as_stated(self, untold: Sequence[WorkingOrder], now: datetime) -> None:
        fills = [build_stated_fill(work.record, work.untold, work.price, now) for work in untold]
        updates = [work.ended for work in untold if work.ended is not None]
        self.ledger.write_outcomes(fills=fills, updates=updates)
        for work in untold:
            self._stated.add(work.record.client_order_id)
            work.take_as_stated()
        self._working.forget(updates)
        names = ", ".join(f"{fill.quantity:g} {fill.ticker} at {fill.price:g}" for fill in fills)
        text = (
            f"The broker says that orders have filled, and never told the fills: {names}. They are booked at the price "
            "that it says of each order. Compare with the account's trades."
        )
        self.tell(Kind.ERROR, "fills that the broker never told", text, now)

    @property
    def positions(self) -> Mapping[str, float]:
        """Shares held, - for short: the sum of the fills."""
        return self.ledger.read_account(self.book).positions

    @property
    def holdings(self) -> Mapping[str, float]:
        """Shares held with those of which only the order says that they have filled."""
        return self._working.add_untold(self.positions)

    @property
    def disputed(self) -> dict[str, float]:
        """Shares by ticker that broker and ledger differ by."""
        return self._comparison.disputed

    @property
    def disputed_minutes(self) -> int:
        """For how many minutes in a row they have differed."""
        return self._comparison.minutes

    def list_touched(self) -> list[str]:
        """Return the tickers that are held, or may be before long."""
        return sorted(self.holdings.keys() | {work.record.ticker for work in self._working})

    @property
    def compared(self) -> bool:
        """Whether the broker has said in this minute what it holds."""
        return self._account is not None

    def list_left_alone(self) -> frozenset[str]:
        """Return the tickers that are not traded: a person's, or of an unknown owner."""
        return self.hands_off | self.disputed.keys() | self._comparison.foreign.keys()

    def minutes_to_flatten(self) -> int:
        """Return how many minutes more than one it takes to send what closes everything."""
        return max(0, minutes_to_send(len(self.list_touched()), self.broker) - 1)

    # --- what filled ------------------------------------------------------------------------------------------------

    def book_minute(
        self,
        bars: pl.DataFrame,
        context: MinuteContext,
        meta: Mapping[str, str] | None = None,
        *,
        trades: bool = False,
    ) -> EquityRow:
        """Let the broker see the minute's bars; book what filled or ended, and the account after it, which it returns.

        meta: facts to keep in the ledger with it. trades: `trade` follows; then only fills are written at once, and the
        rest when the orders are with the broker.
        """
        if isinstance(self.broker, PatientBroker):
            self.broker.begin_minute()
        try:
            self.broker.on_bars(bars, context.now)
        except BrokerError as error:
            self._fault(error, context.now)
        opens = self._opens.note(bars, context.now)
        updates = self._collect(context)
        row = self.value_book(context.session, context.minute, context.prices)
        self._unwritten.add(updates=updates, equity=[row], opens=opens, meta=meta)
        if not trades:
            self._unwritten.write(self.ledger)
        self._look_at_account(context.now)
        return row

    def collect(self, context: MinuteContext) -> None:
        """Book what has filled or ended, without bars."""
        self.ledger.write_outcomes(updates=self._collect(context))

    def _collect(self, context: MinuteContext, *, asked: Container[str] = frozenset()) -> list[OrderUpdate]:
        """Book the fills that are new; return what became of the orders that they, or the broker, ended.

        asked: orders of which the broker is asked at once, for they were canceled.
        """
        updates: list[OrderUpdate] = []
        try:
            fills, cursor = self.broker.fills(self._cursor)
            self._book(fills, cursor, context.now)
        except BrokerError as error:
            self._fault(error, context.now)
        else:
            over = self._outages.end(context.now)
            if over:
                self.ledger.write_event(LedgerEvent(at=context.now, kind="broker", text=f"{self.broker.name}: {over}"))
        told: dict[str, OrderState] = {}
        in_doubt = [work for work in self._working if self._is_in_doubt(work, context.now, asked)]
        try:
            if len(in_doubt) > 1:  # one call for all: what is not in it has ended, and is asked for alone
                told = {state.client_order_id: state for state in self.broker.open_orders()}
        except BrokerError as error:  # then each is asked for by its id
            self._fault(error, context.now)
        names = {work.record.client_order_id for work in in_doubt}
        for work in list(self._working):
            try:
                update = self._fetch_news(work, context.now, told, is_asked=work.record.client_order_id in names)
            except BrokerError as error:
                self._fault(error, context.now)
                continue
            if update is not None:
                updates.append(update)
        self._working.forget(updates)
        return updates

    def _is_in_doubt(self, work: WorkingOrder, now: datetime, asked: Container[str]) -> bool:
        """Whether the broker is to be asked of an order: one that lingers, of unknown fate, or that is `asked`."""
        if work.filled == work.record.quantity or work.ended is not None:
            return False
        return work.record.client_order_id in asked or work.lingers(now) >= self._get_patience_s(work)

    def _get_patience_s(self, work: WorkingOrder) -> float:
        return _LINGERS_S if work.heard else _UNHEARD_S

    def _book(self, fills: Sequence[Fill], cursor: str, now: datetime) -> None:
        """Book each fill that is told and new, whatever its time, before or after the cursor."""
        new = [fill for fill in fills if fill.fill_id not in self._seen]
        if not new and cursor == self._cursor:
            return
        records: list[FillRecord] = []
        for fill in new:
            if fill.client_order_id in self._stated:
                continue  # booked before, by what the broker said of the order
            if not is_plausible(fill):
                self._tell_implausible(fill, now)
                continue
            work = self._working.get(fill.client_order_id)
            order = work.record if work else self.ledger.order(fill.client_order_id)
            records.append(fill_record(fill, order, self.book))
        booked = self.ledger.write_outcomes(
            fills=records, opens=self._opens.find(records), meta={fills_cursor(self.book): cursor}
        )
        for record in booked:
            if work := self._working.get(record.client_order_id):
                work.add_fill(record.quantity)
        self._cursor = cursor
        self._seen |= dict.fromkeys(fill.fill_id for fill in new)
        if len(self._seen) > 2 * _KEPT_FILLS:  # at once: to find the first one of a dict takes ever longer
            self._seen = dict.fromkeys(list(self._seen)[-_KEPT_FILLS:])
        self._tell_foreign([record for record in booked if record.book == "foreign"], now)

    def _tell_implausible(self, fill: Fill, now: datetime) -> None:
        """Tell, once, of a fill that is not booked; the shares, if there are any, show where positions are compared."""
        what = f"{self.broker.name}: {describe_implausible(fill)}"
        self.ledger.write_event(LedgerEvent(at=now, kind="error", text=what))
        text = (
            f"The broker tells {what}. Compare its positions with `hftcl trade --status`: a difference stops what "
            "opens, and `hftcl trade --clear` takes the broker's side."
        )
        self.tell(Kind.HALTED, "the broker tells a fill that cannot be true", text, now)

    def _tell_foreign(self, records: Sequence[FillRecord], now: datetime) -> None:
        if not records:
            return
        self._comparison.foreign = dict(self.ledger.positions("foreign"))
        names = ", ".join(f"{record.quantity:g} {record.ticker} at {record.price:g}" for record in records)
        text = (
            f"Somebody else traded in the account: {names}. The bot leaves these tickers alone, and does not count "
            "what it did not trade, until a person says whose they are: `hftcl trade --clear` hands them to the bot, "
            "[trade] hands_off keeps a ticker out of its hands."
        )
        self.tell(Kind.HALTED, "somebody else traded in the account", text, now)

    def _fetch_news(
        self, work: WorkingOrder, now: datetime, told: Mapping[str, OrderState], *, is_asked: bool
    ) -> OrderUpdate | None:
        """Return what is new about an order; where it is asked for, of `told`, or else by its id.

        It ends here only once its fills are booked.
        """
        name = work.record.client_order_id
        if work.filled == work.record.quantity:
            return OrderUpdate(client_order_id=name, state="filled", at=now)
        if work.ended is not None:
            return None if work.untold else work.ended
        if not is_asked:
            return OrderUpdate(client_order_id=name, state="partially_filled", at=now) if work.filled else None
        state = told.get(name) or self.broker.find(name)
        if state is None and work.lingers(now) < self._get_patience_s(work):
            return None  # it may still be on its way
        update = order_update(state, name, now)
        if state is None:
            return update
        work.take(state, update)
        return None if state.working or work.untold else update

    def book_cash(self, now: datetime) -> None:
        """Book what moved the account's cash beside fills, and compare the cash; a new difference is told."""
        if self.book != "production" or not isinstance(self.broker, TellsCash):
            return
        try:
            if book_cash(self.broker, self.ledger, now) and not self._working and not self.disputed:
                text = compare_cash(self.broker.account().cash, self.capital, self.ledger)
                if text:
                    self.tell(Kind.ERROR, "the broker's cash is not the ledger's", text, now)
        except BrokerError as error:
            self._fault(error, now)

    def value_book(self, session: date, minute: datetime, prices: Mapping[str, float]) -> EquityRow:
        """Return the book's account, its shares valued at `prices`."""
        account = self.ledger.read_account(self.book)
        values = [
            held * prices.get(ticker, account.average_price[ticker]) for ticker, held in account.positions.items()
        ]
        charges = self.ledger.sum_charges() if self.book == "production" else 0.0
        cash, net = self.capital - account.paid + charges, math.fsum(values)
        return EquityRow(
            book=self.book,
            ts=minute,
            session=session,
            equity=cash + net,
            cash=cash,
            gross=math.fsum(map(abs, values)),
            net=net,
            realised=account.realised,
        )

    # --- what the broker holds ---------------------------------------------------------------------------------------

    def _look_at_account(self, now: datetime) -> None:
        """Ask the broker once what it holds, which is compared, and what may be spent, which the orders need."""
        try:
            self._account = self.broker.account()
        except BrokerError as error:
            self._account = None
            self._fault(error, now)
            return
        if self.book == "production":
            self._compare(self._account, now)
            self.read_flags(self._account, now)

    def read_flags(self, account: Account, now: datetime) -> None:
        """Open nothing where the broker says that the account may not trade."""
        if account.flags.blocks:
            self.bar(explain_bar(BY_CODE["account_blocked"], "; ".join(account.flags.blocks)), now)

    def _compare(self, account: Account, now: datetime) -> None:
        """Compare what the broker holds with the ledger, and tell what is new once."""
        finding = self._comparison.compare(
            account.positions, self.positions, self.holdings, self._working.sum_open_quantities(), self.hands_off
        )
        if finding.gone:
            text = f"agrees again on {', '.join(finding.gone)}"
            self.ledger.write_event(LedgerEvent(at=now, kind="broker", text=text))
        if finding.text:
            self.tell(Kind.HALTED, "ledger and broker do not agree", finding.text, now)

    def adopt_foreign(self, now: datetime) -> None:
        """Take what others traded into the book, as a person said."""
        tickers = sorted(self._comparison.foreign)
        self._comparison.foreign = {}
        if self.ledger.adopt_foreign(tickers):
            self.ledger.write_event(
                LedgerEvent(at=now, kind="reconciled", text=f"handed to the bot: {', '.join(tickers)}")
            )

    # --- what is wanted ---------------------------------------------------------------------------------------------

    def trade(
        self,
        decisions: Sequence[Decision],
        wishes: Mapping[str, DesiredPosition],
        context: MinuteContext,
        equity: EquityRow,
        *,
        urgent: bool = False,
    ) -> tuple[OrderRecord, ...]:
        """Send the orders that lead to `wishes` and that risk allows, and write the minute's decisions down.

        An order is in the ledger before it leaves, with what was decided. urgent: of what waits to be written only what
        is about orders is tried, which fits where the disk has no room for more.
        Returns the orders, refused ones too, as they were decided.
        """
        alone = self.list_left_alone()
        wanted = self._plan_orders({ticker: wish for ticker, wish in wishes.items() if ticker not in alone}, context)
        rulings = self._review_orders(wanted, context, equity)
        wanted = [
            order if ruling.quantity is None else replace(order, quantity=ruling.quantity)
            for order, ruling in zip(wanted, rulings, strict=True)
        ]
        records = [
            self._build_intended(order, ruling, context.now) for order, ruling in zip(wanted, rulings, strict=True)
        ]
        going = {
            record.client_order_id: (order, record)
            for order, record in zip(wanted, records, strict=True)
            if record.state == "intended"
        }
        if going:  # in one transaction: no order ever stands there without the decision that it came from
            self.ledger.write_decisions(decisions, records)
        else:
            self._unwritten.add(decisions=decisions, orders=records)
        sent = self._send(going, context.now)
        self.handed_at = self.stopwatch()
        outcomes = [update for one in sent if (update := self._read_answer(one, context.now)) is not None]
        self._unwritten.add(updates=outcomes)
        self._working.forget(outcomes)
        self._unwritten.write(self.ledger, orders_only=urgent)
        return tuple(records)

    def _plan_orders(self, wishes: Mapping[str, DesiredPosition], context: MinuteContext) -> list[Order]:
        """Return the orders that lead to `wishes`; what is on its way the other way is taken back first."""
        missing = self._compute_missing(wishes)
        working = self._working.group_by_ticker()
        against = {
            work.record.client_order_id
            for ticker, quantity in missing.items()
            for work in working.get(ticker, ())
            if work.left * quantity < 0
        }
        if against:
            for name in sorted(against):
                self._cancel(name, context.now)
            self._unwritten.add(updates=self._collect(context, asked=against))
            still = {
                work.record.ticker for work in self._working if work.record.client_order_id in against and work.left
            }
            missing = {
                ticker: quantity for ticker, quantity in self._compute_missing(wishes).items() if ticker not in still
            }
        orders = []
        for ticker, quantity in missing.items():
            name = client_order_id(self.book, context.minute, ticker, wishes[ticker].purpose)
            if name not in self._ids:  # else it was decided in this minute before a restart, and is done with
                orders.append(
                    Order(
                        client_order_id=name,
                        ticker=ticker,
                        quantity=quantity,
                        ts=context.minute,
                        reference_price=wishes[ticker].price,
                        session=context.session,
                    )
                )
        return orders

    def _compute_missing(self, wishes: Mapping[str, DesiredPosition]) -> dict[str, float]:
        """Return the shares by which position and open orders fall short of each wish, without those of none."""
        positions, working = self.holdings, self._working.group_by_ticker()
        quantities = {}
        for ticker, wish in wishes.items():
            held, under_way = positions.get(ticker, 0.0), math.fsum(work.left for work in working.get(ticker, ()))
            desired = self._compute_desired(ticker, wish)
            quantity = compute_order_quantity(
                desired,
                position=held,
                working=under_way,
                price=wish.price,
                fractional=self.fractional and not (desired < 0 and self._whole_shorts),
                unchanged=wish.unchanged,
            )
            if not self.broker.turns:
                quantity = cut_to_side(quantity, held=held, working=under_way)
            if quantity:
                quantities[ticker] = quantity
        return quantities

    @property
    def _whole_shorts(self) -> bool:
        return not traits_of(self.broker).fractional_shorts

    def _compute_desired(self, ticker: str, wish: DesiredPosition) -> float:
        """Return the shares of a wish: whole ones where the broker sells no parts short, none where it sells none."""
        fractional = self.fractional and not (wish.target < 0 and self._whole_shorts)
        shares = compute_desired_quantity(wish.target, capital=self.capital, price=wish.price, fractional=fractional)
        if wish.target and shares == 0:
            self.small.add(ticker)
        elif shares:
            self.small.discard(ticker)
        return 0.0 if shares < 0 and ticker in self._refusals.unshortable else shares

    def close_without_ledger(self, session: date, tickers: Collection[str], now: datetime) -> None:
        """Send the orders that close what the broker holds of the book's tickers, without a word in the ledger.

        Ids follow from minute and ticker: once the ledger can be written, the fills are taken over by them. What is
        open is canceled first. Raises BrokerError.
        """
        if isinstance(self.broker, PatientBroker):
            self.broker.begin_minute()
        for state in self.broker.open_orders():
            self.broker.cancel(state.client_order_id)
        account = self.broker.account()
        own_tickers = (self.holdings.keys() | set(tickers)) - self.list_left_alone()
        minute = now.replace(second=0, microsecond=0)
        orders = [
            Order(
                client_order_id=client_order_id(self.book, minute, ticker, FLATTEN),
                ticker=ticker,
                quantity=-shares,
                ts=minute,
                reference_price=account.marks.get(ticker) or 1.0,
                session=session,
            )
            for ticker, shares in sorted(account.positions.items())
            if ticker in own_tickers
        ]
        for sent in send(self.broker, orders, frozenset(order.client_order_id for order in orders)):
            if sent.fault is not None:
                raise sent.fault

    def _cancel(self, name: str, now: datetime) -> None:
        try:
            self.broker.cancel(name)
        except BrokerError as error:
            self._fault(error, now)

    def _review_orders(self, orders: Sequence[Order], context: MinuteContext, equity: EquityRow) -> tuple[Ruling, ...]:
        if not orders:
            return ()
        # what is not known is not spent; what reduces a position passes
        power = self._account.buying_power if self._account is not None else 0.0
        while self._recent and context.now - self._recent[0] >= _RATE_WINDOW:
            self._recent.popleft()
        differs = f"ledger and broker differ on {', '.join(sorted(self.disputed))}" if self.disputed else ""
        book = RiskBook(
            positions=self.holdings,
            prices=context.prices,
            open_quantities=self._working.sum_open_quantities(),
            ages=context.ages,
            equity=equity.equity,
            equity_at_open=self.equity_at_open,
            buying_power=power,
            recent_orders=len(self._recent),
            known_ids=self._ids,
            latches=frozenset(latch.name for latch in self.ledger.latches()),
            barred=self.barred or differs or context.barred,
            market_open=context.market_open,
            minutes_to_close=context.minutes_to_close,
        )
        return review(orders, book, replace(self.limits, flat_minutes=self._flat_minutes()))

    def _flat_minutes(self) -> int:
        return self.limits.flat_minutes + self.minutes_to_flatten()

    def _build_intended(self, order: Order, ruling: Ruling, now: datetime) -> OrderRecord:
        return OrderRecord(
            client_order_id=order.client_order_id,
            book=self.book,
            ts=order.ts,
            session=order.session,
            ticker=order.ticker,
            model_id=self.model_id,
            quantity=order.quantity,
            reference_price=order.reference_price,
            state="intended" if ruling.allowed else "refused",
            code=ruling.code or "",
            reason=ruling.text,
            created_at=now,
            updated_at=now,
        )

    def _send(self, going: Mapping[str, tuple[Order, OrderRecord]], now: datetime) -> list[Sent]:
        """Hand the orders over; the ledger knows of each before it leaves."""
        if not going:
            return []
        held = self.holdings
        closes = {name for name, (order, _) in going.items() if held.get(order.ticker, 0.0) * order.quantity < 0}
        for name, (_, record) in going.items():
            self._ids.add(name)
            self._working.add(WorkingOrder(record, 0.0))
            self._recent.append(now)
        return send(self.broker, [order for order, _ in going.values()], closes)

    def _read_answer(self, sent: Sent, now: datetime) -> OrderUpdate | None:
        """Return what the broker says of an order; None where it is not known, until it is asked for again."""
        name = sent.order.client_order_id
        if sent.fault is not None:
            self._fault(sent.fault, now)
        if sent.unsent:
            reason = f"not sent: {BY_CODE[sent.code].meaning}; the next minute makes up for it"
            return OrderUpdate(client_order_id=name, state="canceled", at=now, code=sent.code, reason=reason)
        if sent.refused is not None:
            return self._record_refusal(sent, sent.refused.code, sent.refused.reason, now)
        return None if sent.state is None else self._record_acceptance(sent.state, name, now)

    def _record_acceptance(self, state: OrderState, name: str, now: datetime) -> OrderUpdate | None:
        over = self._refusals.note_acceptance()
        if over:
            self.ledger.write_event(LedgerEvent(at=now, kind="broker", text=over))
        update = order_update(state, name, now)
        work = self._working.get(name)
        if work is None:
            return update
        work.heard = True
        if state.working:
            return update
        work.take(state, update)  # its fills are still to be booked
        return None if work.untold else update

    def _record_refusal(self, sent: Sent, code: str, reason: str, now: datetime) -> OrderUpdate:
        refusal = BY_CODE.get(code, OTHER)
        if refusal.kind == "account":
            self.bar(explain_bar(refusal, reason), now)
        many = self._refusals.note(code, sent.order.ticker)
        if many and self.book == "production":
            self.tell(Kind.ERROR, "the broker refuses order after order", many, now)
        return OrderUpdate(
            client_order_id=sent.order.client_order_id, state="rejected", at=now, code=code, reason=reason
        )

    def _fault(self, error: BrokerError, now: datetime) -> None:
        """Tell of an outage once, and note what else fails in it."""
        if isinstance(error, WaitEndedError):
            return
        if self._outages.begin(now):
            text = (
                f"{error} Calls have failed for {LASTS_MINUTES} minutes in a row. The bot asks again each minute, "
                "opens nothing in a minute without an answer, and asks for orders of unknown fate by their ids. Look "
                "at the network and at the broker's status page."
            )
            self.on_fault(text, now)
        elif self._outages.count == 1:
            self.ledger.write_event(LedgerEvent(at=now, kind="broker", text=str(error)))

    def untold_orders(self) -> Collection[str]:
        """Return the orders whose fills are still to be told."""
        return [work.record.client_order_id for work in self._working.list_untold()]
