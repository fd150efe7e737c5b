"""From desired positions to orders, for one book: what is on its way and must not fill is taken back first."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

from hftcl.errors import BrokerError
from hftcl.ledger.rows import OrderUpdate
from hftcl.strategy.risk import Order
from hftcl.trading.execute.handover import Handover
from hftcl.trading.execute.last_resort import find_most_cancellations
from hftcl.trading.execute.minute import DesiredPosition, MinuteContext
from hftcl.trading.execute.news import OrderNews
from hftcl.trading.execute.orders import build_client_order_id
from hftcl.trading.execute.sizing import Sizing
from hftcl.trading.execute.together import act_together
from hftcl.trading.execute.unwritten import Unwritten

_CALLS_TO_TAKE_BACK: Final = 3
"""At Alpaca the order is asked for by our id, canceled by theirs, and asked for again: whether it has ended."""


@dataclass(slots=True, kw_only=True)
class Planning:
    """handover: knows which ids were used. unwritten: takes what became of orders that were taken back."""

    news: OrderNews
    sizing: Sizing
    handover: Handover
    unwritten: Unwritten

    def plan(
        self,
        desired_positions: Mapping[str, DesiredPosition],
        holdings: Callable[[], Mapping[str, float]],
        context: MinuteContext,
        stale_bars: float,
    ) -> list[Order]:
        """Return the orders that lead from `holdings` (shares by ticker, as they are then) to `desired_positions`.

        stale_bars: minutes without a bar after which what would open in a ticker is taken back: it may be halted, and a
        market order fills at its reopening, whatever the price is then.
        """
        self._take_back_stale(holdings(), context, stale_bars)
        missing = self.sizing.compute_missing(desired_positions, holdings(), self.news.working.group_by_ticker())
        against = self._find_against(missing)
        if against:
            self.unwritten.add(updates=self._take_back(against, context))
            still = {
                work.record.ticker for work in self.news.working if work.record.client_order_id in against and work.left
            }
            again = self.sizing.compute_missing(desired_positions, holdings(), self.news.working.group_by_ticker())
            missing = {ticker: quantity for ticker, quantity in again.items() if ticker not in still}
        orders = []
        for ticker, quantity in missing.items():
            name = build_client_order_id(self.news.book, context.minute, ticker, desired_positions[ticker].purpose)
            if name not in self.handover.ids:  # else it was decided in this minute before a restart, and is done with
                orders.append(
                    Order(
                        client_order_id=name,
                        ticker=ticker,
                        quantity=quantity,
                        ts=context.minute,
                        reference_price=desired_positions[ticker].price,
                        session=context.session,
                    )
                )
        return orders

    def _find_against(self, missing: Mapping[str, float]) -> set[str]:
        """Return the orders that are on their way in the other direction than what is `missing`."""
        working = self.news.working.group_by_ticker()
        return {
            work.record.client_order_id
            for ticker, quantity in missing.items()
            for work in working.get(ticker, ())
            if work.left * quantity < 0
        }

    def _take_back_stale(self, holdings: Mapping[str, float], context: MinuteContext, stale_bars: float) -> None:
        """Take back what opens in tickers that are silent; what closes waits for them to trade again."""
        stale = [
            work.record.client_order_id
            for work in self.news.working
            if work.left
            and _may_open(work.left, holdings.get(work.record.ticker, 0.0))
            and not context.ages.get(work.record.ticker, 0.0) <= stale_bars
        ]
        if stale:  # what is beyond the most waits for the next minute: a halt lasts five or more
            most = find_most_cancellations(self.news.broker, len(stale), _CALLS_TO_TAKE_BACK)
            names = sorted(stale)[:most]
            self.news.stale.update(names)
            self.unwritten.add(updates=self._take_back(names, context))

    def _take_back(self, names: Collection[str], context: MinuteContext) -> list[OrderUpdate]:
        """Cancel these; return what became of them by the broker's word, whatever it said of the cancellations."""
        broker, faults = self.news.broker, self.news.faults

        def cancel_each() -> None:
            for name in sorted(names):
                try:
                    broker.cancel(name)
                except BrokerError as error:
                    faults.note(error, context.now)

        broken = act_together(broker, cancel_each)
        if broken is not None:
            faults.note(broken, context.now)
        return self.news.collect(context.now, asked=frozenset(names))


def _may_open(left: float, held: float) -> bool:
    """Whether what may still fill of an order opens something: all of it, or by turning a position what is beyond."""
    return held * left >= 0 or abs(left) > abs(held)
