"""One book's trading: fills in, desired positions to orders, risk, broker, ledger.

Production and shadow are two desks over one ledger. A minute is: `book_minute` what filled at the opens of its bars,
then `trade` towards what was decided on them. What the broker says of an order itself counts before its fills are told.
"""

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta

import polars as pl

from hftcl.alerts import Kind
from hftcl.errors import BrokerError
from hftcl.ledger.rows import BARRED, BookName, Decision, EquityRow, LedgerEvent, OrderRecord
from hftcl.ledger.writer import Ledger
from hftcl.strategy.risk import Limits, Order, RiskBook, Ruling, review
from hftcl.trading.brokers import Account, Broker, KnowsIds, TellsCash, read_traits
from hftcl.trading.brokers.refusals import BY_CODE
from hftcl.trading.execute import last_resort
from hftcl.trading.execute.cash import book_cash, compare_cash
from hftcl.trading.execute.comparison import Comparison
from hftcl.trading.execute.dispatch import count_minutes_to_send
from hftcl.trading.execute.faults import BrokerFaults, Tell
from hftcl.trading.execute.handover import Handover, build_intended
from hftcl.trading.execute.minute import DesiredPosition, MinuteContext
from hftcl.trading.execute.news import OrderNews
from hftcl.trading.execute.patience import PatientBroker
from hftcl.trading.execute.peak import find_peak
from hftcl.trading.execute.planning import Planning
from hftcl.trading.execute.sizing import Sizing
from hftcl.trading.execute.split_book import SplitBook
from hftcl.trading.execute.trouble import explain_bar
from hftcl.trading.execute.unwritten import Unwritten
from hftcl.trading.execute.valuation import value_account
from hftcl.trading.execute.working import WorkingOrders


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
    flags_told: set[str] = field(default_factory=set)
    _session: date | None = None
    _account: Account | None = None
    _working: WorkingOrders = field(default_factory=WorkingOrders)
    _comparison: Comparison = field(default_factory=Comparison)
    _unwritten: Unwritten = field(default_factory=Unwritten)
    _faults: BrokerFaults = field(init=False)
    _news: OrderNews = field(init=False)
    _handover: Handover = field(init=False)
    _sizing: Sizing = field(init=False)
    _planning: Planning = field(init=False)
    splits: SplitBook = field(init=False)

    def __post_init__(self) -> None:
        book, broker, ledger, tell, working = self.book, self.broker, self.ledger, self.tell, self._working
        self._faults = faults = BrokerFaults(name=broker.name, ledger=ledger, on_fault=self.on_fault, tell=tell)
        self._news = OrderNews(
            book=book, broker=broker, ledger=ledger, tell=tell, faults=faults, working=working, hands_off=self.hands_off
        )
        self._handover = Handover(
            book=book, broker=broker, ledger=ledger, tell=tell, faults=faults, working=working, bar=self.bar_openings
        )
        self.splits = SplitBook(book=book, broker=broker, ledger=ledger, tell=tell)
        self._sizing = Sizing(
            capital=self.capital,
            fractional=self.fractional,
            fractional_shorts=read_traits(broker).fractional_shorts,
            turns=broker.turns,
            unshortable=self._handover.refusals.unshortable,
        )
        self._planning = Planning(
            news=self._news, sizing=self._sizing, handover=self._handover, unwritten=self._unwritten
        )

    # --- the session ------------------------------------------------------------------------------------------------

    def open(
        self, session: date, begins: datetime, prices: Mapping[str, float], before: Mapping[str, float] | None = None
    ) -> None:
        """Take up a session: what is working, which ids were used, and the equity at the close before it.

        before: closes of the session before, USD, in today's shares, by which the day's loss is measured; `prices`
        where they are not known.
        """
        meta = self.ledger.open_meta()
        self._news.take_up(begins)
        self._handover.take_up(begins)
        if isinstance(self.broker, KnowsIds):
            self.broker.learn(self.ledger.read_broker_ids(begins - timedelta(days=8)))
        if session != self._session:
            self._faults.begin_session()
            self._handover.refusals.begin_session()
            self._comparison.begin_session()
            self._sizing.small.clear()
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
        """Take the splits of what was held before `session`, once: new shares for an old one by ticker.

        prices: of the close before, USD, in new shares. A real broker does it by itself, and is waited for.
        """
        self.splits.take(splits, prices, session, at)

    def find_peak(self, session: date) -> None:
        """Find the best close of the newest sessions, of those since a person cleared a drawdown."""
        self.peak = find_peak(self.ledger, self.book, session, self.equity_at_open)

    def _take_up_bar(self, session: date, text: str) -> None:
        day, _, reason = text.partition(" ")
        self.barred = reason if self.book == "production" and day == session.isoformat() else ""

    def bar_openings(self, reason: str, now: datetime) -> None:
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
            self._faults.note(error, context.now)
        self._news.close_session(context.now)
        text = self._handover.refusals.note_acceptance()
        if text:
            self.ledger.write_event(LedgerEvent(at=context.now, kind="broker", text=text))

    def settle(self, context: MinuteContext) -> None:
        """Book the account as the session left it: what was told after its last minute counts in that minute too."""
        self.ledger.correct_equity(self.value_book(context.session, context.minute, context.prices))

    @property
    def positions(self) -> Mapping[str, float]:
        """Shares held, - for short: the sum of the fills."""
        return self.ledger.read_account(self.book).positions

    @property
    def holdings(self) -> Mapping[str, float]:
        """Shares held with those of which only the order says that they have filled."""
        return self._working.add_untold(self.positions)

    @property
    def unclosed(self) -> dict[str, str]:
        """By ticker why the broker refused to close it in this session."""
        return self._handover.refusals.unclosed

    @property
    def small(self) -> set[str]:
        """Tickers whose target is less than one share."""
        return self._sizing.small

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
        return self.hands_off | self.disputed.keys() | self._news.foreign.keys() | self.splits.awaited.keys()

    def count_minutes_to_flatten(self) -> int:
        """Return how many minutes more than one it takes to send what closes everything."""
        return max(0, count_minutes_to_send(len(self.list_touched()), self.broker) - 1)

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
            self._faults.note(error, context.now)
        opens = self._news.opens.note(bars)
        updates = self._news.collect(context.now)
        row = self.value_book(context.session, context.minute, context.prices)
        self._unwritten.add(updates=updates, equity=[row], opens=opens, meta=meta)
        if not trades:
            self._unwritten.write(self.ledger)
        self._look_at_account(context.now)
        return row

    def take_opens(self, so_far: pl.DataFrame) -> None:
        """Write down the opens of fills whose bars came before a start within a session; keep those of fills to come.

        so_far: the bars of the session up to now.
        """
        if opens := self._news.opens.begin(so_far):
            self.ledger.write_outcomes(opens=opens)

    def collect(self, context: MinuteContext) -> None:
        """Book what has filled or ended, without bars."""
        self.ledger.write_outcomes(updates=self._news.collect(context.now))

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
            self._faults.note(error, now)

    def value_book(self, session: date, minute: datetime, prices: Mapping[str, float]) -> EquityRow:
        """Return the book's account, its shares valued at `prices`."""
        account = self.ledger.read_account(self.book)
        charges = self.ledger.sum_charges() if self.book == "production" else 0.0
        in_new = self.splits.restate(account.positions)
        return value_account(
            account, in_new, prices, self.capital, charges, book=self.book, session=session, minute=minute
        )

    # --- what the broker holds ---------------------------------------------------------------------------------------

    def _look_at_account(self, now: datetime) -> None:
        """Ask the broker once what it holds, which is compared, and what may be spent, which the orders need."""
        try:
            self._account = self.broker.account()
        except BrokerError as error:
            self._account = None
            self._faults.note(error, now)
            return
        if self.book == "production":
            if self.splits.awaited and self._session is not None:
                self.splits.book_done(self._account.positions, self._session, now.replace(second=0, microsecond=0))
            self._compare(self._account, now)
            self.read_flags(self._account, now)

    def read_flags(self, account: Account, now: datetime) -> None:
        """Open nothing where the broker says that the account may not trade, and sell nothing short where it may not.

        What has changed since the start, in the middle of a session too, is told once.
        """
        news = [note for note in account.flags.notes if note not in self.flags_told]
        if news:
            self.flags_told.update(news)
            text = f"The broker says of the account: {'; '.join(news)}."
            self.tell(Kind.ERROR, f"the account at {self.broker.name} is restricted", text, now)
        if not account.flags.shorting and self.limits.shorting:
            self.limits = replace(self.limits, shorting=False)
        if account.flags.blocks:
            self.bar_openings(explain_bar(BY_CODE["account_blocked"], "; ".join(account.flags.blocks)), now)

    def _compare(self, account: Account, now: datetime) -> None:
        """Compare what the broker holds with the ledger, and tell what is new once."""
        finding = self._comparison.compare(
            account.positions,
            self._news.foreign,
            self.positions,
            self.holdings,
            self._working.sum_open_quantities(),
            self.hands_off,
        )
        if finding.gone:
            text = f"agrees again on {', '.join(finding.gone)}"
            self.ledger.write_event(LedgerEvent(at=now, kind="broker", text=text))
        if finding.text:
            self.tell(Kind.HALTED, "ledger and broker do not agree", finding.text, now)

    def adopt_foreign(self, now: datetime) -> None:
        """Take what others traded into the book, as a person said."""
        self._news.adopt_foreign(now)

    # --- what is wanted ---------------------------------------------------------------------------------------------

    def trade(
        self,
        decisions: Sequence[Decision],
        desired_positions: Mapping[str, DesiredPosition],
        context: MinuteContext,
        equity: EquityRow,
        *,
        urgent: bool = False,
    ) -> tuple[OrderRecord, ...]:
        """Send the orders that lead to `desired_positions` and that risk allows, and write the minute's decisions down.

        Where orders go, all that was decided is in the ledger before the first of them leaves. urgent: of what waits to
        be written only what is about orders is tried, which fits where the disk has no room for more.
        Returns the orders, refused ones too, as they were decided.
        """
        alone = self.list_left_alone()
        wanted = self._planning.plan(
            {ticker: desired_position for ticker, desired_position in desired_positions.items() if ticker not in alone},
            lambda: self.holdings,
            context,
            self.limits.stale_bars,
        )
        rulings = self._review_orders(wanted, context, equity)
        wanted = [
            order if ruling.quantity is None else replace(order, quantity=ruling.quantity)
            for order, ruling in zip(wanted, rulings, strict=True)
        ]
        records = [
            build_intended(order, ruling, self.book, self.model_id, context.now)
            for order, ruling in zip(wanted, rulings, strict=True)
        ]
        going = {
            record.client_order_id: (order, record)
            for order, record in zip(wanted, records, strict=True)
            if record.state == "intended"
        }
        # All in one transaction, on tickers without an order too: with these orders the minute counts as decided, and
        # what a kill while they leave took away would not be decided again.
        if going:
            self.ledger.write_decisions(decisions, records)
        else:
            self._unwritten.add(decisions=decisions, orders=records)
        sent = self._handover.send(going, self.holdings, context.now)
        self.handed_at = self.stopwatch()
        answers = [self._handover.read_answer(one, context.now) for one in sent]
        outcomes = [update for update in answers if update is not None]
        self._unwritten.add(updates=outcomes)
        self._working.forget(outcomes)
        self._unwritten.write(self.ledger, orders_only=urgent)
        return tuple(records)

    def close_without_ledger(self, session: date, tickers: Collection[str], now: datetime) -> None:
        """Close what the broker holds of the book's tickers, without a word in the ledger. Raises BrokerError."""
        own_tickers = (self.holdings.keys() | set(tickers)) - self.list_left_alone()
        last_resort.close_without_ledger(self.broker, self.book, own_tickers, session, now)

    def _review_orders(self, orders: Sequence[Order], context: MinuteContext, equity: EquityRow) -> tuple[Ruling, ...]:
        if not orders:
            return ()
        # what is not known is not spent; what reduces a position passes
        power = self._account.buying_power if self._account is not None else 0.0
        differs = f"ledger and broker differ on {', '.join(sorted(self.disputed))}" if self.disputed else ""
        book = RiskBook(
            positions=self.splits.restate(self.holdings),
            prices=context.prices,
            open_quantities=self._working.sum_open_quantities(),
            ages=context.ages,
            equity=equity.equity,
            equity_at_open=self.equity_at_open,
            buying_power=power,
            recent_orders=self._handover.count_recent(context.now),
            known_ids=self._handover.ids,
            latches=frozenset(latch.name for latch in self.ledger.read_latches()),
            barred=self.barred or differs or context.barred,
            market_open=context.market_open,
            minutes_to_close=context.minutes_to_close,
        )
        flat_minutes = self.limits.flat_minutes + self.count_minutes_to_flatten()
        return review(orders, book, replace(self.limits, flat_minutes=flat_minutes))
