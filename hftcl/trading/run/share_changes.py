"""What became of the shares that are held while no bot ran: splits and other corporate actions, booked before the
kill switch closes them. It asks the source of the bars and the broker.
"""

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from hftcl.errors import ConfigError, PlugInError, SourceError, WaitEndedError
from hftcl.events import Event, Level, OnEvent
from hftcl.ledger.account import SAME
from hftcl.ledger.writer import Ledger
from hftcl.market.hours import Hours
from hftcl.market.pairs import spell
from hftcl.market.sources import Foresight, Split, open_source
from hftcl.plug_ins import name_plug_ins
from hftcl.settings import Settings
from hftcl.trading.brokers import Broker, SplitsShares
from hftcl.trading.execute.closes import read_closes_before
from hftcl.trading.execute.corporate import book_actions, describe_actions, list_untold, note_told
from hftcl.trading.execute.patience import wait_for
from hftcl.trading.execute.split_book import SplitBook
from hftcl.trading.run import STAGE
from hftcl.trading.run.splits import SplitWatch, find_last

_MOST_S: Final = 10.0
"""Most time for the source to tell its splits, in one call or a second each: what is held is closed all the same."""
_MOST_SIMULATED_S: Final = 120.0
"""The same for a simulated account, where nothing else knows of them: a page a minute of a small plan, and one more."""
_YEAR: Final = timedelta(days=365)  # of a ledger that does not say when splits were looked up


@dataclass(slots=True, kw_only=True)
class ShareChanges:
    """hours: of the session that is open or comes next, None where the calendar does not reach it."""

    settings: Settings
    ledger: Ledger
    broker: Broker
    hours: Hours | None
    now: datetime
    on_event: OnEvent
    _splits: SplitBook = field(init=False)
    texts: list[str] = field(default_factory=list, init=False)
    """What has still to be told, beside what the ledger notes."""
    _found: dict[str, tuple[Split, ...]] | None = field(default=None, init=False)
    """By ticker, of all that is held; None before they were looked up, which is done once."""

    def __post_init__(self) -> None:
        self._splits = SplitBook(
            book="production",
            broker=self.broker,
            ledger=self.ledger,
            tell=lambda _, subject, text, at: self.texts.append(f"{text[:1].upper()}{text[1:]}"),
        )

    def split_simulated(self) -> None:
        """Let a simulated broker, which hears of splits from the bot alone, do those that came since it ran."""
        if isinstance(self.broker, SplitsShares) and self.hours is not None and self.hours.begins <= self.now:
            self._take_splits(self.hours, self.ledger.read_positions())

    def settle(self, at_broker: Mapping[str, float]) -> bool:
        """Book splits that the broker has done, and other actions of its own word; return whether it was any."""
        is_done = False
        if self.hours is not None and not isinstance(self.broker, SplitsShares):
            held, foreign = self.ledger.read_positions(), self.ledger.read_positions("foreign")
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
        texts, actions = self.texts, list_untold(self.ledger)
        if actions:
            note_told(self.ledger)
            texts = [*texts, describe_actions(actions, self._splits.awaited)]
        self.texts = []
        return " ".join(texts)

    def _take_splits(self, hours: Hours, tickers: Collection[str]) -> None:
        """Take the splits of `tickers` that the ledger has not met."""
        held = self.ledger.read_positions()
        if not tickers:
            return
        found = self._found = self._look_up(hours) if self._found is None else self._found
        # not noted as looked up: the next bot has to find those of the other book
        watch = SplitWatch(self.ledger, lambda ticker: found.get(ticker, ()) if ticker in tickers else ())
        ratios = watch.find(hours.session).get("production", {})
        closes = read_closes_before(self.ledger, hours, ratios)
        self._splits.take(ratios, closes, hours.session, hours.begins)
        self._tell_splits(held)

    def _look_up(self, hours: Hours) -> dict[str, tuple[Split, ...]]:
        """Return the splits of what is held, as far as the source tells them in time, and note why others are missing.

        A real broker's shares are closed all the same. A simulated account waits longer: of the shares that are held
        there nothing but the source knows.
        """
        held = sorted(self.ledger.read_positions())
        most_s = _MOST_SIMULATED_S if isinstance(self.broker, SplitsShares) else _MOST_S
        found: dict[str, tuple[Split, ...]] = {}
        faults: dict[str, str] = {}
        asks = f"asks {self.settings.market.source} whether what is held was split, for at most {most_s:g} s"
        self.on_event(Event(STAGE, text=asks, level=Level.NOTE))
        try:
            with name_plug_ins():
                source, until = open_source(self.settings), time.monotonic() + most_s
                if isinstance(source, Foresight):  # one call for all: a small plan has five a minute
                    source.expect(tuple(held), max(find_last(self.ledger), hours.before - _YEAR), (), kept=True)
                for n, ticker in enumerate(held):
                    if time.monotonic() > until:
                        faults[ticker] = f"The source did not answer within {most_s:g} s."
                        continue
                    try:
                        found[ticker] = wait_for(partial(source.splits, ticker), lambda: time.monotonic() > until)
                    except (SourceError, WaitEndedError) as error:
                        if str(error) in faults.values():  # the one call for all, and not that of this ticker
                            faults |= dict.fromkeys(held[n:], str(error))
                            break
                        faults[ticker] = str(error)
        except (ConfigError, PlugInError) as error:
            faults |= dict.fromkeys([ticker for ticker in held if ticker not in found], str(error))
        if faults:
            whose = "" if len(faults) == len(held) else f" of {', '.join(faults)}"
            why = " ".join(dict.fromkeys(faults.values()))
            self.texts.append(f"Splits{whose} are not known: {why} One since the last session would look like a loss.")
        return found

    def _tell_splits(self, before: Mapping[str, float]) -> None:
        """Note what became of what was held."""
        after = self.ledger.read_positions()
        self.texts += [
            f"{ticker} was split: {held:g} shares became {after[ticker]:g}."
            for ticker, held in before.items()
            if ticker in after and after[ticker] != held
        ]
