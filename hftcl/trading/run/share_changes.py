"""What became of the shares that are held while no bot ran: splits and other corporate actions, booked before the
kill switch closes them. It asks the source of the bars and the broker.
"""

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from hftcl.errors import ConfigError, SourceError, WaitEndedError
from hftcl.ledger.account import SAME
from hftcl.ledger.writer import Ledger
from hftcl.market.hours import Hours
from hftcl.market.pairs import spell
from hftcl.market.sources import Split, open_source
from hftcl.settings import Settings
from hftcl.trading.brokers import Broker, SplitsShares
from hftcl.trading.execute.corporate import book_actions, describe_actions, list_untold, note_told
from hftcl.trading.execute.patience import wait_for
from hftcl.trading.execute.split_book import SplitBook
from hftcl.trading.run.splits import SplitWatch

_MOST_S: Final = 10.0
"""Most time for the source to tell its splits, of a second or less each: what is held is closed all the same."""


@dataclass(slots=True, kw_only=True)
class ShareChanges:
    """hours: of the session that is open or comes next, None where the calendar does not reach it."""

    settings: Settings
    ledger: Ledger
    broker: Broker
    hours: Hours | None
    now: datetime
    _splits: SplitBook = field(init=False)
    _texts: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._splits = SplitBook(
            book="production",
            broker=self.broker,
            ledger=self.ledger,
            tell=lambda _, subject, text, at: self._texts.append(f"{text[:1].upper()}{text[1:]}"),
        )

    def split_simulated(self) -> None:
        """Let a simulated broker, which hears of splits from the bot alone, do those that came since it ran."""
        if isinstance(self.broker, SplitsShares) and self.hours is not None and self.hours.begins <= self.now:
            self._take_splits(self.hours, self.ledger.positions())

    def settle(self, at_broker: Mapping[str, float]) -> bool:
        """Book splits that the broker has done, and other actions of its own word; return whether it was any."""
        is_done = False
        if self.hours is not None and not isinstance(self.broker, SplitsShares):
            held, foreign = self.ledger.positions(), self.ledger.positions("foreign")
            apart = {
                ticker: at_broker.get(ticker, 0.0) - foreign.get(ticker, 0.0) - shares
                for ticker, shares in held.items()
            }
            self._take_splits(self.hours, [ticker for ticker, shares in apart.items() if abs(shares) > SAME])
            is_done = self._splits.book_done(at_broker, self.hours.session, self.hours.begins)
            self._tell_splits(held)
        begins = self.hours.begins if self.hours is not None else None
        hands_off = spell(self.settings.trade.hands_off)
        return bool(book_actions(self.broker, self.ledger, at_broker, hands_off, self.now, begins=begins)) or is_done

    def tell(self) -> str:
        """Say, once, what was booked, and why splits could not be looked up; "" for nothing."""
        texts, actions = self._texts, list_untold(self.ledger)
        if actions:
            note_told(self.ledger)
            texts = [*texts, describe_actions(actions, self._splits.awaited)]
        self._texts = []
        return " ".join(texts)

    def _take_splits(self, hours: Hours, tickers: Collection[str]) -> None:
        """Take the splits of `tickers` that the ledger has not met."""
        held = self.ledger.positions()
        try:
            ratios = self._find_splits(hours, tickers)
        except (ConfigError, SourceError, WaitEndedError) as error:  # what is held is closed all the same
            self._texts.append(f"Splits are not known: {error} One since the last session would look like a loss.")
            return
        closes = self.ledger.read_last_closes(hours.session, ratios)
        self._splits.take(ratios, closes, hours.session, hours.begins)
        self._tell_splits(held)

    def _find_splits(self, hours: Hours, tickers: Collection[str]) -> Mapping[str, float]:
        if not tickers:
            return {}
        source, until = open_source(self.settings), time.monotonic() + _MOST_S

        def fetch(ticker: str) -> tuple[Split, ...]:
            if ticker not in tickers:
                return ()
            return wait_for(lambda: source.splits(ticker), lambda: time.monotonic() > until)

        # not noted as looked up: the next bot has to find those of the other book
        return SplitWatch(self.ledger, fetch).find(hours.session).get("production", {})

    def _tell_splits(self, before: Mapping[str, float]) -> None:
        """Note what became of what was held."""
        after = self.ledger.positions()
        self._texts += [
            f"{ticker} was split: {held:g} shares became {after[ticker]:g}."
            for ticker, held in before.items()
            if ticker in after and after[ticker] != held
        ]
