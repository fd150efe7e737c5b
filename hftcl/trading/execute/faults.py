"""What fails at a broker, told to a person once: an outage when it lasts, and at once what cannot be true."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from hftcl.alerts import Kind
from hftcl.errors import BrokerAnswerError, BrokerError, WaitEndedError
from hftcl.ledger.rows import LedgerEvent
from hftcl.ledger.writer import Ledger
from hftcl.trading.execute.trouble import LASTS_MINUTES, Outages

Tell = Callable[[Kind, str, str, datetime], None]
"""(kind, subject, text, now): tell a person, and note it."""


@dataclass(slots=True, kw_only=True)
class BrokerFaults:
    """The faults of one broker. on_fault: hears of an outage that has lasted for minutes."""

    name: str
    ledger: Ledger
    on_fault: Callable[[str, datetime], None]
    tell: Tell
    _outages: Outages = field(default_factory=Outages)
    _strange: set[str] = field(default_factory=set)

    def begin_session(self) -> None:
        """Tell again of what is still strange."""
        self._strange.clear()

    def note(self, error: BrokerError, now: datetime) -> None:
        """Tell of an outage once, and note what else fails in it."""
        if isinstance(error, WaitEndedError):
            return
        if isinstance(error, BrokerAnswerError):
            self.tell_strange(error.about, str(error), now)
        elif self._outages.begin(now):
            text = (
                f"{error} Calls have failed for {LASTS_MINUTES} minutes in a row. The bot asks again each minute, "
                "opens nothing in a minute without an answer, and asks for orders of unknown fate by their ids. Look "
                "at the network and at the broker's status page."
            )
            self.on_fault(text, now)
        elif self._outages.count == 1:
            self.ledger.write_event(LedgerEvent(at=now, kind="broker", text=str(error)))

    def tell_strange(self, about: str, what: str, now: datetime) -> None:
        """Tell of an answer that cannot be true, once a session for each thing that it is about."""
        if about in self._strange:
            return
        self._strange.add(about)
        text = (
            f"{what} It is taken for no answer: without a true account nothing is opened, and an order's fate stays "
            "open. Look at the account in the broker's dashboard."
        )
        self.tell(Kind.HALTED, "the broker says what cannot be true", text, now)

    def end(self, now: datetime) -> None:
        """Note that a call was answered, which may be the end of an outage."""
        over = self._outages.end(now)
        if over:
            self.ledger.write_event(LedgerEvent(at=now, kind="broker", text=f"{self.name}: {over}"))
